//! Operations on channels that wait until a time.

use core::time::Duration;

use machine::clock::Nanos;

use super::Instant;
use crate::chan::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use crate::select::{Deadline, Limit, Select};
use crate::stacks::check_g_stack;

impl<T> Sender<T> {
    /// [`send`](Self::send) that waits at most so long. Blocks; to be called on a goroutine's own stack.
    /// Ends the machine when there is no memory for the timer.
    ///
    /// # Errors
    /// The value, when there was no room in time, or the channel is closed.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    ///
    /// ```
    /// use gzero::{chan, time::Duration};
    ///
    /// let (tx, _rx) = chan(1);
    /// tx.send_timeout(1, Duration::from_millis(1)).unwrap();
    /// assert!(tx.send_timeout(2, Duration::from_millis(1)).unwrap_err().is_timeout());
    /// ```
    #[track_caller]
    pub fn send_timeout(&self, value: T, most: Duration) -> Result<(), SendTimeoutError<T>> {
        let own = check_g_stack("Sender::send_timeout");
        self.send_until(own, value, most.deadline())
    }

    /// [`send`](Self::send) that waits until this time. If it has passed, it sends only if that needs no waiting. Blocks; to
    /// be called on a goroutine's own stack. Ends the machine when there is no memory for the timer.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    ///
    /// ```
    /// use gzero::{chan, time::Instant};
    ///
    /// let (tx, _rx) = chan(1);
    /// tx.send_deadline(1, Instant::BOOT).unwrap();
    /// assert_eq!(tx.send_deadline(2, Instant::BOOT).unwrap_err().into_inner(), 2);
    /// ```
    #[track_caller]
    pub fn send_deadline(&self, value: T, when: Instant) -> Result<(), SendTimeoutError<T>> {
        let own = check_g_stack("Sender::send_deadline");
        self.send_until(own, value, when.into())
    }
}

impl<T> Receiver<T> {
    /// [`recv`](Self::recv) that waits at most so long. Blocks; to be called on a goroutine's own stack.
    /// Ends the machine when there is no memory for the timer.
    ///
    /// # Errors
    /// When no value came in time, or none will come.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    ///
    /// ```
    /// use gzero::chan::{RecvTimeoutError, chan};
    /// use gzero::time::Duration;
    ///
    /// let (tx, rx) = chan(1);
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// tx.send(1).unwrap();
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Ok(1));
    /// ```
    #[track_caller]
    pub fn recv_timeout(&self, most: Duration) -> Result<T, RecvTimeoutError> {
        let own = check_g_stack("Receiver::recv_timeout");
        self.recv_until(own, most.deadline())
    }

    /// [`recv`](Self::recv) that waits until this time. If it has passed, it receives only what is there. Blocks; to be called
    /// on a goroutine's own stack. Ends the machine when there is no memory for the timer.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    ///
    /// ```
    /// use gzero::chan::{RecvTimeoutError, chan};
    /// use gzero::time::{Duration, Instant};
    ///
    /// let (_tx, rx) = chan::<u8>(0);
    /// let when = Instant::now() + Duration::from_millis(1);
    /// assert_eq!(rx.recv_deadline(when), Err(RecvTimeoutError::Timeout));
    /// assert!(Instant::now() >= when);
    /// ```
    #[track_caller]
    pub fn recv_deadline(&self, when: Instant) -> Result<T, RecvTimeoutError> {
        let own = check_g_stack("Receiver::recv_deadline");
        self.recv_until(own, when.into())
    }
}

impl Deadline for Instant {
    fn deadline(self) -> Nanos {
        self.into()
    }
}

impl<R> Select<'_, R> {
    /// [`wait`](Self::wait) that waits until then: a length of time, or an [`Instant`]. `None`: no arm was ready. Blocks; to be
    /// called on a goroutine's own stack. Ends the machine when there is no memory for the timer.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    ///
    /// ```
    /// use gzero::{chan, select::Select, time::Duration};
    ///
    /// let (_tx, rx) = chan::<u8>(0);
    /// assert!(Select::new().recv(&rx, |_| ()).wait_until(Duration::from_millis(1)).is_none());
    /// ```
    #[track_caller]
    pub fn wait_until(self, when: impl Deadline) -> Option<R> {
        self.run(Limit::Until(when.deadline()))
    }
}
