//! Waiting for a time.

use machine::clock::{self, Nanos};

use super::Instant;
use crate::event::Event;
use crate::park::{WaitReason, gopark, readied_by_something_else};
use crate::stacks::check_g_stack;
use crate::timers;

/// The time since the start of the clock, at boot; [`Instant::now`] as a number of nanoseconds.
///
/// It never runs backwards on one CPU, nor for one goroutine as far as the CPUs' time stamp counters agree. May be
/// called anywhere.
///
/// ```
/// let then = gzero::now();
/// assert!(gzero::now() >= then);
/// ```
pub fn now() -> Nanos {
    clock::now()
}

/// Waits for at least this long, while other goroutines run. A length of 0 returns at once. Go's `time.Sleep`.
///
/// Takes a [`Duration`](super::Duration) or a number of [`Nanos`]. A length beyond the end of time never ends. Blocks;
/// to be called on a goroutine's own stack. Ends the machine when there is no memory for the timer.
///
/// ```
/// use gzero::time::{Duration, Instant, sleep};
///
/// let start = Instant::now();
/// sleep(Duration::from_millis(2));
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// ```
///
/// # Throws
/// When not called on a goroutine's own stack.
#[track_caller]
pub fn sleep(length: impl Into<Nanos>) {
    check_g_stack("sleep");
    let length = length.into();
    if length != Nanos(0) {
        wait(clock::now() + length);
    }
}

/// Waits until this time, while other goroutines run. Returns at once if it has passed; never, if it is
/// [`Instant::NEVER`].
///
/// Blocks; to be called on a goroutine's own stack. Ends the machine when there is no memory for the timer.
///
/// ```
/// use gzero::time::{Duration, Instant, sleep_until};
///
/// let mut next = Instant::now();
/// for _ in 0..3 {
///     next += Duration::from_millis(1);
///     sleep_until(next);
///     assert!(Instant::now() >= next);
/// }
/// ```
///
/// # Throws
/// When not called on a goroutine's own stack.
#[track_caller]
pub fn sleep_until(when: Instant) {
    check_g_stack("sleep_until");
    if when > Instant::now() {
        wait(when.into());
    }
}

#[track_caller]
fn wait(when: Nanos) {
    let mut timer = None;
    gopark(WaitReason::Sleep, |me| {
        timer = timers::add(when, Event::Sleeper(me));
        true
    });
    // Clocks of two CPUs may differ a little: it is early only if nobody has found it due.
    if clock::now() < when && timer.is_none_or(|timer| timers::remove(timer).is_some()) {
        readied_by_something_else(WaitReason::Sleep);
    }
}
