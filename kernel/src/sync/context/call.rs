//! A call that comes with the end of a context. `end.rs` says why it comes once, and what keeps it.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::fmt;

use machine::lock::{Kind, Lock};

use super::end::{ContextError, End, Watcher};

type Function = Box<dyn FnOnce(ContextError) + Send>;

/// A call that is still to come, or is over: whoever takes the function decides whether the call comes.
pub(super) struct Call(Lock<Option<Function>>);

impl Call {
    /// Calls, if it is not over.
    pub(super) fn come(&self, error: ContextError) {
        if let Some(function) = self.take() {
            function(error);
        }
    }

    /// The function, for who is the first to take it.
    fn take(&self) -> Option<Function> {
        self.0.lock().take()
    }
}

/// A call that comes when a context ends; from [`Context::after_func`](super::Context::after_func). Dropping it changes nothing.
///
/// ```
/// let (context, cancel) = gzero::sync::Context::background().with_cancel();
/// let call = context.after_func(|_| unreachable!());
/// assert!(call.stop());
/// cancel.cancel();
/// ```
pub struct AfterFunc {
    call: Arc<Call>,
    /// The end that keeps it, and its number there.
    place: Option<(Weak<End>, u64)>,
}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterFunc").finish_non_exhaustive()
    }
}

impl AfterFunc {
    /// A call that comes when `own` ends: at once, if it has. Without it, never.
    pub(super) fn new(own: Option<&Arc<End>>, function: Function) -> Self {
        let call = Arc::new(Call(Lock::of_kind(Kind::Context, Some(function))));
        let place = own.and_then(|own| match own.watch(Watcher::Call(Arc::clone(&call))) {
            Ok(number) => Some((Arc::downgrade(own), number)),
            Err(ended) => {
                call.come(ended.error);
                None
            }
        });
        Self { call, place }
    }

    /// Prevents the call. `true`: it does not come. `false`: it has begun, or was prevented before. Does not wait; on any
    /// stack of a goroutine.
    ///
    /// The function is dropped, by whoever prevents the call.
    ///
    /// ```
    /// let call = gzero::sync::Context::background().after_func(|_| unreachable!());
    /// assert!(call.stop());
    /// assert!(!call.stop());
    /// ```
    pub fn stop(&self) -> bool {
        let Some(function) = self.call.take() else { return false };
        if let Some((end, number)) = &self.place
            && let Some(end) = end.upgrade()
        {
            end.unwatch(*number);
        }
        // The program's code, when all is done.
        drop(function);
        true
    }
}
