//! What can end, and who is told.
//!
//! # Who cancels whom
//!
//! A context that can end has an [`End`] of its own, which knows those below it, weakly: their ends, and calls to make. To end
//! is one step under its lock: the reason is stored, and those below are taken out. Whoever comes to be put below either
//! is there before, and is taken out, or finds the reason, and ends at once: nobody is missed. What was taken out is
//! dealt with after the lock is gone, one by one and without recursion, so that the locks of two ends are never held
//! together. An end that is dropped, or has ended by itself, takes itself out of the one above.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use machine::lock::{Lock, Rank};

use crate::chan::{Receiver, Sender, chan};
use crate::time::FuncTimer;

/// Why a task shall end, in the words of whoever has cancelled it.
///
/// ```
/// use gzero::sync::{Cause, Context};
///
/// let (context, cancel) = Context::background().with_cancel();
/// cancel.cancel_with(core::fmt::Error);
/// let cause: Cause = context.cause().expect("it has ended");
/// assert!(cause.is::<core::fmt::Error>());
/// ```
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why a context has ended.
///
/// ```
/// use gzero::sync::{Context, ContextError};
///
/// let (context, cancel) = Context::background().with_cancel();
/// cancel.cancel();
/// assert_eq!(context.err(), Some(ContextError::Canceled));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextError {
    /// Somebody has cancelled it, or one above it.
    Canceled,
    /// Its deadline has come, or that of one above it.
    DeadlineExceeded,
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Canceled => "context canceled",
            Self::DeadlineExceeded => "context deadline exceeded",
        })
    }
}

impl Error for ContextError {}

/// What a context has ended by.
#[derive(Clone)]
pub(super) struct Ended {
    pub(super) error: ContextError,
    pub(super) cause: Cause,
}

impl Ended {
    pub(super) fn new(error: ContextError, cause: Option<Cause>) -> Self {
        Self { error, cause: cause.unwrap_or_else(|| Arc::new(error)) }
    }
}

/// Somebody who is told of an end.
pub(super) enum Watcher {
    Below(Weak<End>),
    Call(Box<dyn FnOnce() + Send>),
}

/// What can end.
pub(super) struct End {
    pub(super) state: Lock<State>,
    /// Closed when it has ended.
    tx: Sender<()>,
    pub(super) rx: Receiver<()>,
}

pub(super) struct State {
    pub(super) ended: Option<Ended>,
    watchers: BTreeMap<u64, Watcher>,
    next: u64,
    /// The end above, and the number of this one there.
    above: Option<(Arc<End>, u64)>,
    pub(super) timer: Option<FuncTimer>,
}

impl End {
    fn new() -> Arc<Self> {
        let (tx, rx) = chan(0);
        let state = State { ended: None, watchers: BTreeMap::new(), next: 0, above: None, timer: None };
        Arc::new(Self { state: Lock::new(Rank::Leaf, state), tx, rx })
    }

    /// A new one that ends when this one does.
    pub(super) fn below(above: Option<&Arc<Self>>) -> Arc<Self> {
        let new = Self::new();
        let Some(above) = above else { return new };
        match above.watch(Watcher::Below(Arc::downgrade(&new))) {
            // Nobody else knows the new one, but who ends the one above: then this is no use any more.
            Ok(number) => new.state.lock().above = Some((Arc::clone(above), number)),
            Err((ended, _)) => {
                new.end(&ended);
            }
        }
        new
    }

    /// Adds somebody to be told. If it has ended already, says so.
    pub(super) fn watch(&self, watcher: Watcher) -> Result<u64, (Ended, Watcher)> {
        let mut state = self.state.lock();
        if let Some(ended) = state.ended.clone() {
            return Err((ended, watcher));
        }
        let number = state.next;
        state.next += 1;
        state.watchers.insert(number, watcher);
        Ok(number)
    }

    /// Takes a watcher out again, if it was not told.
    pub(super) fn unwatch(&self, number: u64) -> Option<Watcher> {
        self.state.lock().watchers.remove(&number)
    }

    /// Ends it and all below. `false`: it had ended.
    pub(super) fn end(self: &Arc<Self>, ended: &Ended) -> bool {
        let mut rest = Vec::new();
        let new = self.end_one(ended, &mut rest);
        while let Some(watcher) = rest.pop() {
            match watcher {
                Watcher::Below(end) => {
                    if let Some(end) = end.upgrade() {
                        end.end_one(ended, &mut rest);
                    }
                }
                Watcher::Call(call) => call(),
            }
        }
        new
    }

    /// Ends it alone; those to be told next are added to `rest`.
    fn end_one(&self, ended: &Ended, rest: &mut Vec<Watcher>) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.ended = Some(ended.clone());
        let watchers = core::mem::take(&mut state.watchers);
        let (timer, above) = (state.timer.take(), state.above.take());
        drop(state);
        self.tx.close();
        if let Some(timer) = timer {
            timer.stop();
        }
        if let Some((above, number)) = above {
            drop(above.unwatch(number));
        }
        rest.extend(watchers.into_values());
        true
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.state.lock().ended.clone()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let (timer, above) = (state.timer.take(), state.above.take());
        drop(state);
        if let Some(timer) = timer {
            timer.stop();
        }
        if let Some((above, number)) = above {
            drop(above.unwatch(number));
        }
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").finish_non_exhaustive()
    }
}
