//! One instant on a channel.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use machine::clock::{self, Nanos};
use sched::timer::Expiry;

use super::Instant;
use super::set::{Does, Inner, time_after};
use crate::chan::{Receiver, Sender, TrySendError, timer_chan};
use crate::event::{Expire, Expired};
use crate::select::{Input, Source};
use crate::stacks::check_g_stack;

/// Delivers one instant on a channel when its time has come; Go's `time.Timer`, with the guarantees of Go 1.23.
///
/// After [`stop`](Self::stop) or [`reset`](Self::reset) has returned nothing is received that belongs to the time
/// before: there is no need to empty the channel.
///
/// A timer that is dropped is stopped, and takes no memory any more. Clones of its [`receiver`](Self::receiver) then
/// find the channel closed.
///
/// ```
/// use gzero::time::{Duration, Instant, Timer};
///
/// let start = Instant::now();
/// let timer = Timer::new(Duration::from_millis(2));
/// let fired = timer.recv();
/// assert!(fired >= start + Duration::from_millis(2));
///
/// assert!(!timer.reset(Duration::from_hours(1)), "it had fired, and that was received");
/// assert!(timer.stop(), "it would have fired in an hour");
/// ```
#[derive(Debug)]
pub struct Timer {
    delivers: Delivers,
}

impl Timer {
    /// A timer that fires after this time. With 0 it fires at once, and with more than there is until the end of time,
    /// never.
    ///
    /// Does not block; may be called on any stack but in interrupt handlers. Ends the machine when there is no memory
    /// for it.
    ///
    /// ```
    /// use gzero::time::{Duration, Timer};
    ///
    /// Timer::new(Duration::ZERO).recv();
    /// ```
    pub fn new(length: Duration) -> Self {
        Self { delivers: Delivers::at(time_after(length), Nanos(0)) }
    }

    /// A timer that fires at this time, or at once if that has passed.
    ///
    /// Does not block; may be called on any stack but in interrupt handlers. Ends the machine when there is no memory
    /// for it.
    ///
    /// ```
    /// use gzero::time::{Instant, Timer};
    ///
    /// assert!(Timer::at(Instant::NEVER).stop());
    /// ```
    pub fn at(when: Instant) -> Self {
        Self { delivers: Delivers::at(when.into(), Nanos(0)) }
    }

    /// Waits until it fires, and takes the instant at which it did. Waits for ever if it was stopped, or if somebody
    /// else has received it.
    ///
    /// Blocks; to be called on a goroutine's own stack.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant, Timer};
    ///
    /// let timer = Timer::new(Duration::from_millis(1));
    /// assert!(timer.recv() <= Instant::now());
    /// ```
    ///
    /// # Panics
    /// When somebody has closed its channel, by [`close`](Receiver::close) on the [`receiver`](Self::receiver) or a clone of it.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn recv(&self) -> Instant {
        check_g_stack("Timer::recv");
        self.delivers.recv()
    }

    /// Its channel, for a select; Go's field `C`. Who closes it has no use for the timer any more: nothing is delivered, and
    /// [`recv`](Self::recv) panics.
    ///
    /// It seems to have no room, and to be empty ([`len`](Receiver::len)): what the timer has delivered may be taken back until
    /// it is received. [`try_recv`](Receiver::try_recv) says whether it has fired. Does not block; may be called on any stack.
    ///
    /// ```
    /// use gzero::time::{Duration, Timer};
    ///
    /// let timer = Timer::new(Duration::from_hours(1));
    /// assert!(timer.receiver().try_recv().is_err());
    /// ```
    pub fn receiver(&self) -> &Receiver<Instant> {
        self.delivers.receiver()
    }

    /// Stops it. `true`: it was still to fire, or what it had delivered is taken back; nothing is received from it any
    /// more. `false`: its instant has been received, or it was stopped before.
    ///
    /// Does not block; may be called on any stack but in interrupt handlers.
    ///
    /// ```
    /// use gzero::time::{Duration, Timer, sleep};
    ///
    /// let timer = Timer::new(Duration::from_millis(1));
    /// sleep(Duration::from_millis(2));
    /// assert!(timer.stop(), "nobody has received what it delivered");
    /// assert!(timer.receiver().try_recv().is_err());
    /// assert!(!timer.stop());
    /// ```
    pub fn stop(&self) -> bool {
        self.delivers.inner.stop()
    }

    /// Sets it to fire after this time, counted from now, whatever it was set to. Returns what [`stop`](Self::stop)
    /// would have.
    ///
    /// Does not block; may be called on any stack but in interrupt handlers. Ends the machine when there is no memory
    /// for it.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant, Timer};
    ///
    /// let start = Instant::now();
    /// let timer = Timer::new(Duration::ZERO);
    /// assert!(timer.reset(Duration::from_millis(1)));
    /// assert!(timer.recv() >= start + Duration::from_millis(1), "the first one is not received");
    /// ```
    pub fn reset(&self, length: Duration) -> bool {
        self.delivers.inner.set(time_after(length), Nanos(0))
    }
}

impl Source for Timer {
    type Value = Instant;

    /// A `recv` arm of a [`select!`](crate::select!) may name the timer itself.
    ///
    /// ```
    /// use gzero::select;
    /// use gzero::time::{Duration, after};
    ///
    /// let (_tx, rx) = gzero::chan::<u8>(0);
    /// let came = select! {
    ///     recv(rx) -> v => v.ok(),
    ///     recv(after(Duration::from_millis(1))) => None,
    /// };
    /// assert_eq!(came, None);
    /// ```
    fn source(&self) -> Option<Input<'_, Instant>> {
        Some(Input::new(self.receiver()))
    }
}

/// A timer that fires after this time: [`Timer::new`], for one use. Go's `time.After`.
///
/// ```
/// use gzero::time::{Duration, Instant, after};
///
/// let start = Instant::now();
/// assert!(after(Duration::from_millis(1)).recv() >= start + Duration::from_millis(1));
/// ```
///
/// Does not block; may be called on any stack but in interrupt handlers. Ends the machine when there is no memory for it.
pub fn after(length: Duration) -> Timer {
    Timer::new(length)
}

/// A timer with a channel. It is stopped when this is dropped: so its event holds on to nothing that nobody uses.
pub(super) struct Delivers {
    pub(super) inner: Arc<Inner<Channel>>,
}

/// Where instants go, and where those are taken back that nobody has received.
pub(super) struct Channel {
    sender: Sender<Instant>,
    receiver: Receiver<Instant>,
}

impl Delivers {
    /// A timer that is set to this time, and to more of them if a period is not 0.
    pub(super) fn at(when: Nanos, period: Nanos) -> Self {
        // Room for one: who fires does not wait, and what comes while it is full is left out.
        let (sender, receiver) = timer_chan();
        let inner = Inner::new(Channel { sender, receiver });
        inner.set(when, period);
        Self { inner }
    }

    pub(super) fn receiver(&self) -> &Receiver<Instant> {
        &self.inner.does.receiver
    }

    /// The next instant.
    #[track_caller]
    pub(super) fn recv(&self) -> Instant {
        self.receiver().recv().expect("somebody has closed the channel of a timer")
    }
}

impl fmt::Debug for Delivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_armed = self.inner.lock().is_armed();
        f.debug_struct("Delivers").field("is_armed", &is_armed).finish_non_exhaustive()
    }
}

impl Drop for Delivers {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

impl Does for Channel {
    fn drain(&self) -> bool {
        self.receiver.try_recv().is_ok()
    }
}

impl Expire for Inner<Channel> {
    fn expire(self: Arc<Self>, expired: Expired) {
        let mut setting = self.lock();
        let now = clock::now();
        match setting.expire(&expired.key, expired.when.0, now.0) {
            Expiry::Stale => return,
            Expiry::Once => {}
            Expiry::Again(next) => self.put_back(&expired, Nanos(next)),
        }
        // Under the lock: a stop that comes next finds it.
        match self.does.sender.try_send(now.into()) {
            // Without room the receiver is slow. The channel is not closed by us, and may be by a receiver.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {}
        }
    }
}
