//! The end of a context as something to wait for.

use alloc::sync::Arc;
use core::fmt;

use super::end::{ContextError, Ended};
use super::node::Node;
use crate::select::{Input, Source, for_ever};
use crate::stacks::check_g_stack;

/// The end of a [`Context`](super::Context), for who waits for it and needs nothing else of the context; from
/// [`Context::done`](super::Context::done).
///
/// It is an arm of a [`select!`](crate::select!), which is chosen from the end on: `recv(context.done())`. That of a
/// context that never ends is never chosen. Nothing is ever received. Clones are the same; each keeps what
/// may end the context, though the context itself be dropped.
///
/// ```
/// use gzero::sync::{Context, Done};
/// use gzero::{chan, go, select};
///
/// fn sum(numbers: &gzero::Receiver<u32>, done: &Done) -> u32 {
///     let mut sum = 0;
///     loop {
///         select! {
///             recv(numbers) -> n => sum += n.unwrap(),
///             recv(done) => return sum,
///         }
///     }
/// }
///
/// let (context, cancel) = Context::background().with_cancel();
/// let (tx, rx) = chan(0);
/// let done = context.done().clone();
/// let handle = go(move || sum(&rx, &done));
/// (1..=3).for_each(|n| tx.send(n).unwrap());
/// cancel.cancel();
/// assert_eq!(handle.join(), 6);
/// ```
#[derive(Clone)]
pub struct Done(pub(super) Arc<Node>);

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Done").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}

impl Done {
    /// Waits until the context ends, and says why; for ever if it never does. Go's `<-ctx.Done()`.
    ///
    /// ```
    /// use gzero::sync::{Context, ContextError};
    ///
    /// let (context, cancel) = Context::background().with_cancel();
    /// gzero::go(move || cancel.cancel());
    /// assert_eq!(context.done().wait(), ContextError::Canceled);
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if it has ended.
    #[track_caller]
    pub fn wait(&self) -> ContextError {
        check_g_stack("Done::wait");
        self.wait_for_it()
    }

    /// [`wait`](Self::wait) of one who has checked its stack.
    #[track_caller]
    pub(super) fn wait_for_it(&self) -> ContextError {
        let Some(end) = &self.0.end else { for_ever() };
        loop {
            if let Some(ended) = end.ended() {
                return ended.error;
            }
            // Closed by who has ended it, after that can be seen: there is no third round.
            assert!(end.rx.recv().is_err(), "nothing is sent");
        }
    }

    /// Whether the context has ended. Does not wait.
    ///
    /// ```
    /// let (context, cancel) = gzero::sync::Context::background().with_cancel();
    /// let done = context.done().clone();
    /// assert!(!done.is_done());
    /// cancel.cancel();
    /// assert!(done.is_done());
    /// ```
    pub fn is_done(&self) -> bool {
        self.ended().is_some()
    }

    /// Whether the context can end at all: [`Context::background`](super::Context::background) cannot. In Go its channel is nil. Does
    /// not wait.
    ///
    /// ```
    /// let background = gzero::sync::Context::background();
    /// assert!(!background.done().can_be());
    /// assert!(background.with_cancel().0.done().can_be());
    /// ```
    pub fn can_be(&self) -> bool {
        self.0.end.is_some()
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.0.end.as_ref()?.ended()
    }
}

impl Source for Done {
    type Value = ();

    fn source(&self) -> Option<Input<'_, ()>> {
        self.0.end.as_ref().map(|end| Input::new(&end.rx))
    }
}
