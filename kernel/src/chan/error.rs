//! Why an operation on a channel came to nothing.

use core::error::Error;
use core::fmt;

/// Why a channel could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChanError {
    /// No memory can be as large as its buffer.
    TooLarge {
        /// The capacity that was asked for.
        capacity: usize,
        /// Bytes of a value.
        element: usize,
    },
    /// The heap has no room for its buffer.
    NoMemory {
        /// The capacity that was asked for.
        capacity: usize,
        /// Bytes that were asked for.
        bytes: usize,
    },
}

impl fmt::Display for ChanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { capacity, element } => {
                write!(
                    f,
                    "cannot make a channel of capacity {capacity}: no memory is as large, at {element} bytes a value"
                )
            }
            Self::NoMemory { capacity, bytes } => {
                write!(f, "cannot make a channel of capacity {capacity}: no memory for {bytes} bytes")
            }
        }
    }
}

impl Error for ChanError {}

/// The channel is closed; the value comes back. Of [`Sender::send`](super::Sender::send).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

impl<T> SendError<T> {
    /// The value that was not sent.
    ///
    /// ```
    /// assert_eq!(gzero::chan::SendError(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("send on a closed channel")
    }
}

impl<T> Error for SendError<T> {}

/// The channel is closed and empty: no value will come. Of [`Receiver::recv`](super::Receiver::recv).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvError;

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("receive from a closed and empty channel")
    }
}

impl Error for RecvError {}

/// Why [`Sender::try_send`](super::Sender::try_send) did not send; the value comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room, and nobody waits for a value.
    Full(T),
    /// The channel is closed.
    Closed(T),
}

impl<T> TrySendError<T> {
    /// The value that was not sent.
    ///
    /// ```
    /// assert_eq!(gzero::chan::TrySendError::Full(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) => value,
        }
    }

    /// Whether it was for want of room.
    ///
    /// ```
    /// assert!(gzero::chan::TrySendError::Full(1).is_full());
    /// ```
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the channel is closed.
    ///
    /// ```
    /// assert!(gzero::chan::TrySendError::Closed(1).is_closed());
    /// ```
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "send on a full channel",
            Self::Closed(_) => "send on a closed channel",
        })
    }
}

impl<T> Error for TrySendError<T> {}

/// Why [`Receiver::try_recv`](super::Receiver::try_recv) has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is none at this moment.
    Empty,
    /// The channel is closed and empty: none will come.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "receive from an empty channel",
            Self::Closed => "receive from a closed and empty channel",
        })
    }
}

impl Error for TryRecvError {}

/// Why [`Sender::send_timeout`](super::Sender::send_timeout) or [`send_deadline`](super::Sender::send_deadline) did not send; the
/// value comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// There was no room in time.
    Timeout(T),
    /// The channel is closed.
    Closed(T),
}

impl<T> SendTimeoutError<T> {
    /// The value that was not sent.
    ///
    /// ```
    /// use gzero::{chan, time::Duration};
    ///
    /// let (tx, _rx) = chan(0);
    /// assert_eq!(tx.send_timeout(1, Duration::from_micros(1)).unwrap_err().into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(value) | Self::Closed(value) => value,
        }
    }

    /// Whether it was for want of time.
    ///
    /// ```
    /// assert!(gzero::chan::SendTimeoutError::Timeout(1).is_timeout());
    /// ```
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Whether the channel is closed.
    ///
    /// ```
    /// assert!(gzero::chan::SendTimeoutError::Closed(1).is_closed());
    /// ```
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "Timeout(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "send on a channel that had no room in time",
            Self::Closed(_) => "send on a closed channel",
        })
    }
}

impl<T> Error for SendTimeoutError<T> {}

/// Why [`Receiver::recv_timeout`](super::Receiver::recv_timeout) or [`recv_deadline`](super::Receiver::recv_deadline) has no
/// value.
///
/// ```
/// use gzero::{chan, chan::RecvTimeoutError, time::Duration};
///
/// let (tx, rx) = chan::<u8>(0);
/// assert_eq!(rx.recv_timeout(Duration::from_micros(1)), Err(RecvTimeoutError::Timeout));
/// tx.close();
/// assert_eq!(rx.recv_timeout(Duration::from_micros(1)), Err(RecvTimeoutError::Closed));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// None came in time.
    Timeout,
    /// The channel is closed and empty: none will come.
    Closed,
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "receive from a channel that got no value in time",
            Self::Closed => "receive from a closed and empty channel",
        })
    }
}

impl Error for RecvTimeoutError {}
