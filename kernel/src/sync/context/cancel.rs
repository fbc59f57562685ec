//! Who ends a context.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::error::Error;
use core::fmt;

use super::end::{Cause, ContextError, End, Ended};

/// Ends a [`Context`](super::Context). Dropping it changes nothing; [`on_drop`](Self::on_drop) makes a value that does.
///
/// ```
/// let (context, cancel) = gzero::sync::Context::background().with_cancel();
/// cancel.cancel();
/// cancel.cancel(); // nothing more
/// assert!(context.is_done());
/// ```
#[derive(Clone)]
pub struct Canceller(Arc<End>);

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").field("ended", &self.0.ended().is_some()).finish()
    }
}

impl Canceller {
    pub(super) const fn new(end: Arc<End>) -> Self {
        Self(end)
    }

    /// Ends the context and all below it, if it has not ended. Does not wait; on any stack of a goroutine.
    ///
    /// When it returns, all of them have ended, unless another goroutine is just about it.
    ///
    /// ```
    /// let (context, cancel) = gzero::sync::Context::background().with_cancel();
    /// let (below, _) = context.with_cancel();
    /// cancel.cancel();
    /// assert!(below.is_done());
    /// ```
    pub fn cancel(&self) {
        self.0.end(&Ended::new(ContextError::Canceled, None));
    }

    /// The same with a cause: an error, or a text. Does not wait.
    ///
    /// ```
    /// use alloc::string::ToString;
    /// use gzero::sync::Context;
    ///
    /// let (context, cancel) = Context::background().with_cancel();
    /// cancel.cancel_with("enough words");
    /// assert_eq!(context.cause().map(|cause| cause.to_string()).as_deref(), Some("enough words"));
    /// ```
    pub fn cancel_with(&self, cause: impl Into<Box<dyn Error + Send + Sync>>) {
        self.cancel_for(Cause::from(cause.into()));
    }

    /// The same with a cause that others may have, too.
    pub(crate) fn cancel_for(&self, cause: Cause) {
        self.0.end(&Ended::new(ContextError::Canceled, Some(cause)));
    }

    /// A value whose drop ends the context: on every path out of a function, as Go's `defer cancel()`. Does not wait.
    ///
    /// ```
    /// let (context, cancel) = gzero::sync::Context::background().with_cancel();
    /// let guard = cancel.on_drop();
    /// drop(guard);
    /// assert!(context.is_done());
    /// ```
    pub const fn on_drop(self) -> CancelOnDrop {
        CancelOnDrop(self)
    }
}

/// Ends a [`Context`](super::Context) when it is dropped; from [`Canceller::on_drop`].
///
/// ```
/// use gzero::sync::{CancelOnDrop, Context};
///
/// let (context, cancel) = Context::background().with_cancel();
/// let guard: CancelOnDrop = cancel.on_drop();
/// assert!(!context.is_done());
/// drop(guard);
/// assert!(context.is_done());
/// ```
#[must_use = "the context ends when this value is dropped"]
#[derive(Debug)]
pub struct CancelOnDrop(Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
