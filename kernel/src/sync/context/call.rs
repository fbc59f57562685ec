//! A call that comes with the end of a context. `end.rs` says why it comes once, and what keeps it.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use machine::lock::{Lock, Rank};

use super::end::{ContextError, End, Watcher};

type Function = Box<dyn FnOnce(ContextError) + Send>;

/// A call that is still to come, or is over.
pub(super) struct Call {
    /// The end of the context that it belongs to.
    pub(super) own: Weak<End>,
    state: Lock<State>,
}

struct State {
    /// Who takes it decides whether the call comes.
    function: Option<Function>,
    /// Where it is kept.
    places: Vec<(Weak<End>, u64)>,
}

impl Call {
    /// A call that comes when `own` ends: at once, if it has. Without it, never.
    pub(super) fn add(own: Option<&Arc<End>>, function: Function) -> Arc<Self> {
        let state = State { function: Some(function), places: Vec::new() };
        let weak = own.map_or_else(Weak::new, Arc::downgrade);
        let call = Arc::new(Self { own: weak, state: Lock::new(Rank::Leaf, state) });
        let Some(own) = own else { return call };
        let mut places = Vec::new();
        let mut next = Some(Arc::clone(own));
        while let Some(end) = next {
            match end.watch(Watcher::Call(Arc::clone(&call))) {
                Ok(number) => places.push((Arc::downgrade(&end), number)),
                Err(ended) => {
                    // Whoever ends that one is on the way to the context's own.
                    own.end(&ended);
                    call.come(ended.error);
                    break;
                }
            }
            next = end.above();
        }
        call.stays_at(places);
        call
    }

    /// Says where it is kept; if it is over already, it is taken out.
    fn stays_at(&self, places: Vec<(Weak<End>, u64)>) {
        let mut state = self.state.lock();
        let over = if state.function.is_some() {
            state.places = places;
            None
        } else {
            Some(places)
        };
        drop(state);
        over.into_iter().for_each(leave);
    }

    /// Calls, if it is not over. `error` is for the case that its own context has gone.
    pub(super) fn come(&self, error: ContextError) {
        if let Some(function) = self.take() {
            let own = self.own.upgrade().and_then(|own| own.ended());
            function(own.map_or(error, |own| own.error));
        }
    }

    /// The function, for who is the first to take it. Nothing keeps the call any more then.
    fn take(&self) -> Option<Function> {
        let mut state = self.state.lock();
        let function = state.function.take();
        let places = core::mem::take(&mut state.places);
        drop(state);
        leave(places);
        function
    }
}

fn leave(places: Vec<(Weak<End>, u64)>) {
    for (end, number) in places {
        if let Some(end) = end.upgrade() {
            end.unwatch(number);
        }
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
pub struct AfterFunc(pub(super) Arc<Call>);

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterFunc").finish_non_exhaustive()
    }
}

impl AfterFunc {
    /// Prevents the call. `true`: it does not come. `false`: it has begun, or was prevented before. Does not wait.
    ///
    /// ```
    /// let call = gzero::sync::Context::background().after_func(|_| unreachable!());
    /// assert!(call.stop());
    /// assert!(!call.stop());
    /// ```
    pub fn stop(&self) -> bool {
        self.0.take().is_some()
    }
}
