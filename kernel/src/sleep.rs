//! Waiting for a time.

use machine::clock::{self, Nanos};

use crate::event::Event;
use crate::park::{WaitReason, gopark};
use crate::stacks::check_g_stack;
use crate::timers;

/// The time since the start of the clock, at boot. It never runs backwards on one CPU, nor for one goroutine as far as the
/// CPUs' time stamp counters agree.
pub fn now() -> Nanos {
    clock::now()
}

/// Waits for at least this long, while other goroutines run. A length of 0 returns at once. Go's `time.Sleep`.
///
/// # Throws
/// When not called on a goroutine's own stack.
#[track_caller]
pub fn sleep(length: Nanos) {
    check_g_stack("sleep");
    if length == Nanos(0) {
        return;
    }
    let when = clock::now() + length;
    gopark(WaitReason::Sleep, |me| {
        timers::add(when, Event::Sleeper(me));
        true
    });
}
