//! The receiving side.

use core::fmt;
use core::iter::FusedIterator;

use machine::clock::Nanos;
use sched::chan::RecvStep;

use super::channel::{Handle, Kind};
use super::core::{Core, Outcome, Patience};
use super::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::stacks::{OwnStack, check_g_stack};

/// The side of a [`chan`](super::chan()) that values come out by. Clones receive from the same channel; each value goes to
/// one of them.
///
/// When the last one is dropped the channel is closed, and the values in it are dropped: nobody can receive them. The drop
/// blocks only if that of a value does, and may happen on any stack but in a handler of an interrupt.
///
/// ```
/// use gzero::{chan, go};
///
/// let (tx, rx) = chan(0);
/// go(move || {
///     for n in 1..=3 {
///         tx.send(n).unwrap();
///     }
/// });
/// let mut sum = 0;
/// for n in &rx {
///     sum += n;
/// }
/// assert_eq!(sum, 6);
/// ```
pub struct Receiver<T>(Handle<T>);

impl<T> Receiver<T> {
    pub(super) fn new(handle: Handle<T>) -> Self {
        Self(handle)
    }

    pub(crate) fn core(&self) -> &Core {
        self.0.core()
    }

    /// Receives a value. Go's `v, ok := <-ch`.
    ///
    /// Waits while there is none. Those who wait are served in the order in which they came.
    ///
    /// # Errors
    /// When the channel is closed and what it held has been received.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if there is a value.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan(1);
    /// tx.send(7).unwrap();
    /// drop(tx);
    /// assert_eq!(rx.recv(), Ok(7));
    /// assert_eq!(rx.recv(), Err(gzero::chan::RecvError));
    /// ```
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        let own = check_g_stack("Receiver::recv");
        if self.core().glance().try_recv() == Some(RecvStep::Closed) {
            return Err(RecvError);
        }
        self.0.channel().recv(Patience::Endless(own)).map_err(|_| RecvError)
    }

    /// [`recv`](Self::recv) that waits until a time.
    #[track_caller]
    pub(crate) fn recv_until(&self, own: OwnStack, until: Nanos) -> Result<T, RecvTimeoutError> {
        self.0.channel().recv(Patience::Until(own, until)).map_err(|why| match why {
            Outcome::Closed => RecvTimeoutError::Closed,
            Outcome::TimedOut | Outcome::WouldWait | Outcome::Passed => RecvTimeoutError::Timeout,
        })
    }

    /// Receives a value if there is one at this moment, in the channel or with somebody who waits to send it. Go's `select`
    /// with a `default`.
    ///
    /// It may be called on any stack, but not in a handler of an interrupt.
    ///
    /// # Errors
    /// When there is none, or there will be none.
    ///
    /// ```
    /// use gzero::chan::TryRecvError;
    ///
    /// let (tx, rx) = gzero::chan(1);
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// tx.send(1).unwrap();
    /// assert_eq!(rx.try_recv(), Ok(1));
    /// drop(tx);
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.core().glance().try_recv() {
            Some(RecvStep::Closed) => return Err(TryRecvError::Closed),
            Some(RecvStep::Wait) => return Err(TryRecvError::Empty),
            Some(RecvStep::Hand(_) | RecvStep::Take(_) | RecvStep::Rotate(_, _)) | None => {}
        }
        self.0.channel().recv(Patience::None).map_err(|why| match why {
            Outcome::Closed => TryRecvError::Closed,
            Outcome::WouldWait | Outcome::TimedOut | Outcome::Passed => TryRecvError::Empty,
        })
    }

    /// The values, as they come; it ends when the channel is closed and empty. Go's `for v := range ch`. Each
    /// step waits as [`recv`](Self::recv), on the goroutine's own stack, and throws elsewhere; so does that of `for v in &rx` and of
    /// `for v in rx`.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan(3);
    /// (1..=3).for_each(|n| tx.send(n).unwrap());
    /// tx.close();
    /// assert!(rx.iter().eq([1, 2, 3]));
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// The values that are there without waiting: it ends when [`try_recv`](Self::try_recv) finds none. On any stack but in a
    /// handler of an interrupt.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan(3);
    /// (1..=2).for_each(|n| tx.send(n).unwrap());
    /// assert_eq!(rx.try_iter().count(), 2);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(self)
    }

    /// Closes the channel, for all its senders and receivers: as [`Sender::close`](super::Sender::close). What the channel
    /// holds can still be received.
    ///
    /// Does not block, and may be called on any stack, but not in a handler of an interrupt.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan(1);
    /// assert!(rx.close());
    /// assert!(tx.send(1).is_err());
    /// ```
    #[expect(clippy::must_use_candidate, reason = "most callers do not care who was first")]
    pub fn close(&self) -> bool {
        self.core().close()
    }

    /// Whether the channel is closed: for good. It may still hold values. May be called anywhere.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan::<u8>(0);
    /// drop(tx);
    /// assert!(rx.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.core().glance().is_closed()
    }

    /// Values in the channel at about this moment, at most its capacity; always 0 for that of a [`Timer`](crate::time::Timer) or a
    /// [`Ticker`](crate::time::Ticker). Go's `len(ch)`. May be called anywhere.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan(2);
    /// tx.send('a').unwrap();
    /// assert_eq!(rx.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.core().told_len()
    }

    /// Whether [`len`](Self::len) is 0. May be called anywhere.
    ///
    /// ```
    /// let (_tx, rx) = gzero::chan::<u8>(2);
    /// assert!(rx.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.core().told_len() == 0
    }

    /// How many values the channel has room for; 0 for that of a [`Timer`](crate::time::Timer) or a
    /// [`Ticker`](crate::time::Ticker). Go's `cap(ch)`. May be called anywhere.
    ///
    /// ```
    /// let (_tx, rx) = gzero::chan::<u8>(2);
    /// assert_eq!(rx.capacity(), 2);
    /// ```
    pub fn capacity(&self) -> usize {
        self.core().told_capacity()
    }

    /// Whether both receive from the same channel. May be called anywhere.
    ///
    /// ```
    /// let (_tx, rx) = gzero::chan::<u8>(0);
    /// assert!(rx.same_channel(&rx.clone()));
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self(self.0.another(Kind::Receiver))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // SAFETY: it is dropped.
        unsafe {
            self.0.give_up(Kind::Receiver, |channel| {
                channel.core.close();
                channel.drain();
            });
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, capacity, closed) = (self.len(), self.capacity(), self.is_closed());
        write!(f, "Receiver {{ len: {len}, capacity: {capacity}, closed: {closed}, .. }}")
    }
}

/// Of [`Receiver::iter`]. Each step waits, on the goroutine's own stack.
///
/// ```
/// use gzero::chan::{Iter, chan};
///
/// let (tx, rx) = chan(1);
/// tx.send(1).unwrap();
/// let mut values: Iter<'_, u8> = rx.iter();
/// assert_eq!(values.next(), Some(1));
/// ```
#[derive(Debug)]
#[must_use = "an iterator receives only when it is asked"]
pub struct Iter<'r, T>(&'r Receiver<T>);

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

/// Of [`Receiver::try_iter`]. Does not wait.
///
/// ```
/// use gzero::chan::{TryIter, chan};
///
/// let (_tx, rx) = chan::<u8>(1);
/// let mut values: TryIter<'_, u8> = rx.try_iter();
/// assert_eq!(values.next(), None);
/// ```
#[derive(Debug)]
#[must_use = "an iterator receives only when it is asked"]
pub struct TryIter<'r, T>(&'r Receiver<T>);

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

/// Of a [`Receiver`] that a loop has taken over: `for v in rx`. Each step waits, on the goroutine's own stack.
///
/// ```
/// use gzero::chan::{IntoIter, chan};
///
/// let (tx, rx) = chan(1);
/// tx.send(1).unwrap();
/// let mut values: IntoIter<u8> = rx.into_iter();
/// assert_eq!(values.next(), Some(1));
/// ```
#[derive(Debug)]
#[must_use = "an iterator receives only when it is asked"]
pub struct IntoIter<T>(Receiver<T>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<T> FusedIterator for IntoIter<T> {}

impl<'r, T> IntoIterator for &'r Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'r, T>;

    fn into_iter(self) -> Iter<'r, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}
