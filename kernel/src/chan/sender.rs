//! The sending side.

use core::fmt;
use core::mem::MaybeUninit;

use machine::clock::Nanos;
use sched::chan::SendStep;

use super::channel::{Handle, Kind};
use super::core::{Core, Outcome, Patience};
use super::error::{SendError, SendTimeoutError, TrySendError};
use crate::stacks::{OwnStack, check_g_stack};

/// The side of a [`chan`](super::chan()) that values go in by. Clones send into the same channel.
///
/// When the last one is dropped the channel is closed. That does not block, and may happen on any stack but in a handler of
/// an interrupt.
///
/// ```
/// let (tx, rx) = gzero::chan(1);
/// let other = tx.clone();
/// drop(tx);
/// other.send("still open").unwrap();
/// drop(other);
/// assert_eq!(rx.recv(), Ok("still open"));
/// assert!(rx.recv().is_err());
/// ```
pub struct Sender<T>(Handle<T>);

impl<T> Sender<T> {
    pub(super) fn new(handle: Handle<T>) -> Self {
        Self(handle)
    }

    pub(crate) fn core(&self) -> &Core {
        self.0.core()
    }

    /// Sends a value. Go's `ch <- v`.
    ///
    /// Waits while there is no room: in a channel without capacity until somebody receives the value. Those who wait
    /// are served in the order in which they came.
    ///
    /// # Errors
    /// The value, when the channel is closed, be it while the call waits. (In Go that is a panic.)
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if there is room.
    ///
    /// ```
    /// use gzero::{chan, go};
    ///
    /// let (tx, rx) = chan(0);
    /// go(move || tx.send(42).unwrap());
    /// assert_eq!(rx.recv(), Ok(42));
    /// ```
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let own = check_g_stack("Sender::send");
        let (outcome, value) = self.0.channel().send(value, Patience::Endless(own));
        match outcome {
            Outcome::Passed => Ok(()),
            Outcome::Closed | Outcome::WouldWait | Outcome::TimedOut => {
                // SAFETY: it was not passed.
                Err(SendError(unsafe { value.assume_init() }))
            }
        }
    }

    /// [`send`](Self::send) that waits until a time.
    #[track_caller]
    pub(crate) fn send_until(
        &self,
        own: OwnStack,
        value: T,
        until: Nanos,
    ) -> Result<(), SendTimeoutError<T>> {
        let (outcome, value) = self.0.channel().send(value, Patience::Until(own, until));
        // SAFETY: called where it was not passed.
        let back = |value: MaybeUninit<T>| unsafe { value.assume_init() };
        match outcome {
            Outcome::Passed => Ok(()),
            Outcome::Closed => Err(SendTimeoutError::Closed(back(value))),
            Outcome::WouldWait | Outcome::TimedOut => Err(SendTimeoutError::Timeout(back(value))),
        }
    }

    /// Sends a value if that needs no waiting: if there is room, or somebody waits for a value. Go's `select` with a
    /// `default`.
    ///
    /// It may be called on any stack, but not in a handler of an interrupt.
    ///
    /// # Errors
    /// The value, when it would have to wait, or the channel is closed.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan(1);
    /// tx.try_send(1).unwrap();
    /// assert!(tx.try_send(2).unwrap_err().is_full());
    /// rx.close();
    /// assert!(tx.try_send(3).unwrap_err().is_closed());
    /// ```
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let core = self.core();
        match core.glance().try_send(core.capacity()) {
            Some(SendStep::Closed) => return Err(TrySendError::Closed(value)),
            Some(SendStep::Wait) => return Err(TrySendError::Full(value)),
            Some(SendStep::Hand(_) | SendStep::Store(_)) | None => {}
        }
        let (outcome, value) = self.0.channel().send(value, Patience::None);
        // SAFETY: called where it was not passed.
        let back = |value: MaybeUninit<T>| unsafe { value.assume_init() };
        match outcome {
            Outcome::Passed => Ok(()),
            Outcome::Closed => Err(TrySendError::Closed(back(value))),
            Outcome::WouldWait | Outcome::TimedOut => Err(TrySendError::Full(back(value))),
        }
    }

    /// Closes the channel, for all its senders and receivers. Go's `close(ch)`.
    ///
    /// Who waits to send gets its value back; who waits to receive gets an error, and so do later receivers once they
    /// have taken out what the channel still holds. Returns `false`, and does nothing, if it was closed already. (In Go
    /// that is a panic.)
    ///
    /// Does not block, and may be called on any stack, but not in a handler of an interrupt.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan(1);
    /// tx.send(1).unwrap();
    /// assert!(tx.close());
    /// assert!(!tx.close());
    /// assert_eq!(tx.send(2).unwrap_err().into_inner(), 2);
    /// assert_eq!(rx.recv(), Ok(1));
    /// assert!(rx.recv().is_err());
    /// ```
    #[expect(clippy::must_use_candidate, reason = "most callers do not care who was first")]
    pub fn close(&self) -> bool {
        self.core().close()
    }

    /// Whether the channel is closed: for good. May be called anywhere.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan::<u8>(0);
    /// assert!(!tx.is_closed());
    /// drop(rx);
    /// assert!(tx.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.core().glance().is_closed()
    }

    /// Values in the channel at about this moment, at most its capacity. Go's `len(ch)`. May be called anywhere.
    ///
    /// ```
    /// let (tx, _rx) = gzero::chan(2);
    /// tx.send('a').unwrap();
    /// assert_eq!(tx.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.core().told_len()
    }

    /// Whether the channel holds no value at about this moment. May be called anywhere.
    ///
    /// ```
    /// let (tx, _rx) = gzero::chan::<u8>(2);
    /// assert!(tx.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.core().told_len() == 0
    }

    /// How many values the channel has room for. Go's `cap(ch)`. May be called anywhere.
    ///
    /// ```
    /// let (tx, _rx) = gzero::chan::<u8>(2);
    /// assert_eq!(tx.capacity(), 2);
    /// ```
    pub fn capacity(&self) -> usize {
        self.core().told_capacity()
    }

    /// Whether both send into the same channel. May be called anywhere.
    ///
    /// ```
    /// let (tx, _rx) = gzero::chan::<u8>(0);
    /// let (other, _) = gzero::chan::<u8>(0);
    /// assert!(tx.same_channel(&tx.clone()));
    /// assert!(!tx.same_channel(&other));
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.another(Kind::Sender))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // SAFETY: it is dropped.
        unsafe {
            self.0.give_up(Kind::Sender, |channel| {
                channel.core.close();
            });
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, capacity, closed) = (self.len(), self.capacity(), self.is_closed());
        write!(f, "Sender {{ len: {len}, capacity: {capacity}, closed: {closed}, .. }}")
    }
}
