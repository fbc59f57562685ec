//! Instants on a channel, at intervals.

use core::time::Duration;

use machine::clock::Nanos;

use super::Instant;
use super::set::time_after;
use super::timer::Delivers;
use crate::chan::Receiver;
use crate::select::{Input, Source};
use crate::stacks::check_g_stack;

/// Delivers instants on a channel at intervals; Go's `time.Ticker`, with the guarantees of Go 1.23.
///
/// The channel holds one tick: for a receiver that is slower than that, ticks are left out. Those that come keep step
/// with the first: there is no drift.
///
/// After [`stop`](Self::stop) or [`reset`](Self::reset) has returned no tick of before is received. A ticker that is
/// dropped is stopped, and takes no memory any more; clones of its [`receiver`](Self::receiver) then find the channel
/// closed.
///
/// While a ticker runs something is always still to happen. So as long as there is one that is not stopped, goroutines
/// that wait for each other for ever are not reported as `all goroutines are asleep`, even if nobody receives its ticks.
/// Cycles of locks are found all the same.
///
/// ```
/// use gzero::time::{Duration, Instant, Ticker};
///
/// let start = Instant::now();
/// let ticker = Ticker::new(Duration::from_millis(1));
/// for n in 1..=3 {
///     assert!(ticker.recv() >= start + n * Duration::from_millis(1));
/// }
/// ticker.stop();
/// ```
#[derive(Debug)]
pub struct Ticker {
    delivers: Delivers,
}

impl Ticker {
    /// A ticker whose first tick comes after one interval.
    ///
    /// Does not block; may be called on any stack but in interrupt handlers. Ends the machine when there is no memory
    /// for it.
    ///
    /// # Panics
    /// When the interval is 0.
    ///
    /// ```
    /// use gzero::time::{Duration, Ticker};
    ///
    /// let ticker = Ticker::new(Duration::from_millis(1));
    /// ticker.recv();
    /// ```
    #[track_caller]
    pub fn new(interval: Duration) -> Self {
        Self { delivers: Delivers::at(time_after(interval), period(interval)) }
    }

    /// Waits for the next tick. Waits for ever when the ticker is stopped.
    ///
    /// Blocks; to be called on a goroutine's own stack.
    ///
    /// ```
    /// use gzero::time::{Duration, Ticker};
    ///
    /// let ticker = Ticker::new(Duration::from_millis(1));
    /// assert!(ticker.recv() < ticker.recv());
    /// ```
    ///
    /// # Panics
    /// When somebody has closed its channel, by [`close`](Receiver::close) on the [`receiver`](Self::receiver) or a clone of it.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn recv(&self) -> Instant {
        check_g_stack("Ticker::recv");
        self.delivers.recv()
    }

    /// Its channel, for a select; Go's field `C`. It stays open when the ticker is stopped. Who closes it has no use for
    /// the ticker any more: nothing is delivered, and [`recv`](Self::recv) panics.
    ///
    /// It seems to have no room, and to be empty ([`len`](Receiver::len)): a tick may be taken back until it is received. Does
    /// not block; may be called on any stack.
    ///
    /// ```
    /// use gzero::time::{Duration, Ticker};
    ///
    /// let ticker = Ticker::new(Duration::from_millis(1));
    /// assert_eq!(ticker.receiver().iter().take(3).count(), 3);
    /// ```
    pub fn receiver(&self) -> &Receiver<Instant> {
        self.delivers.receiver()
    }

    /// Stops it: no tick is received any more.
    ///
    /// Does not block; may be called on any stack but in interrupt handlers.
    ///
    /// ```
    /// use gzero::time::{Duration, Ticker, sleep};
    ///
    /// let ticker = Ticker::new(Duration::from_millis(1));
    /// sleep(Duration::from_millis(2));
    /// ticker.stop();
    /// assert!(ticker.receiver().try_recv().is_err());
    /// ```
    pub fn stop(&self) {
        self.delivers.inner.stop();
    }

    /// Goes on with another interval, whose first tick comes after one of them from now. It may have been stopped.
    ///
    /// Does not block; may be called on any stack but in interrupt handlers. Ends the machine when there is no memory
    /// for it.
    ///
    /// # Panics
    /// When the interval is 0.
    ///
    /// ```
    /// use gzero::time::{Duration, Ticker};
    ///
    /// let ticker = Ticker::new(Duration::from_hours(1));
    /// ticker.reset(Duration::from_millis(1));
    /// ticker.recv();
    /// ```
    #[track_caller]
    pub fn reset(&self, interval: Duration) {
        self.delivers.inner.set(time_after(interval), period(interval));
    }
}

impl Source for Ticker {
    type Value = Instant;

    /// A `recv` arm of a [`select!`](crate::select!) may name the ticker itself.
    fn source(&self) -> Option<Input<'_, Instant>> {
        Some(Input::new(self.receiver()))
    }
}

/// A ticker, for a loop that never stops it: [`Ticker::new`]. Go's `time.Tick`. It is stopped when it is dropped.
///
/// Does not block; may be called on any stack but in interrupt handlers. Ends the machine when there is no memory for it.
///
/// # Panics
/// When the interval is 0.
///
/// ```
/// use gzero::time::{Duration, Instant, tick};
///
/// let mut last = Instant::BOOT;
/// for now in tick(Duration::from_millis(1)).receiver().iter().take(3) {
///     assert!(now > last);
///     last = now;
/// }
/// ```
#[track_caller]
pub fn tick(interval: Duration) -> Ticker {
    Ticker::new(interval)
}

/// The interval, which is not 0.
#[track_caller]
fn period(interval: Duration) -> Nanos {
    assert!(interval != Duration::ZERO, "the interval of a ticker must not be zero");
    interval.into()
}
