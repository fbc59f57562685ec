//! What can end, and who is told.
//!
//! # Who cancels whom
//!
//! A context that can end has an [`End`] of its own, which knows those below it and calls to make. To end is one step under
//! its lock: the reason is stored, and those to be told are taken out. Whoever comes to be put below either is there
//! before, and is taken out, or finds the reason, and ends at once: nobody is missed. What was taken out is dealt with after
//! the lock is gone, one by one and without recursion: first all that is below, then the calls.
//!
//! # Who keeps whom
//!
//! - A context, and a [`Done`](super::Done), keeps its node; a node keeps the one above it and its end. So while anybody
//!   can ask a context or waits for it, all ends above it are there, and the way down to it is whole.
//! - A canceller keeps its end.
//! - Ends know each other weakly, upwards to take themselves out and downwards to tell. Who needs another for a moment
//!   holds it for that moment.
//! - A timer knows its end weakly.
//! - A call outlives the context that it was asked of: whatever may end that context makes it come. So it is kept by the
//!   context's end and by *each* end above, and whoever takes its function first, to call or to prevent it, takes it
//!   out everywhere. An end between, which nobody has any more, may go: those above it have the call themselves.
//! - One thing can end a context that nobody has any more: its timer. So an end with a timer and calls keeps itself
//!   (`State::me`): until the timer comes, which it does, or the last call is gone, or something else ends it.
//!
//! What is held strongly leads from contexts upwards, from nodes to ends and from ends to calls, and not back; `me` is the one
//! ring, and its own time ends it. What a call's function has captured is the program's: if that is a context which
//! only the function has, and nobody cancels what it hangs from, both stay. So the function is told why, and need not ask.
//!
//! When the last of a long way goes, those above go one after another, not one within another: nodes as [`Node`](super::node::Node)
//! says, ends in [`End::take_out`], where an end may be the last to hold the one above, which has just lost all else.
//!
//! # Locks
//!
//! The locks of two ends, or of an end and a call, are never held together: all have the last rank. The program's code, which is what
//! a call does, and its drop, and that of a cause, runs without any.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use machine::lock::{Lock, Rank};

use crate::chan::{Receiver, Sender, chan};
use crate::time::FuncTimer;

use super::call::Call;

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
    Call(Arc<Call>),
    /// For the runtime: whoever is to be told has the context.
    Wake(Box<dyn FnOnce() + Send>),
}

/// Those who are still to be told.
#[derive(Default)]
struct Rest {
    below: Vec<Weak<End>>,
    calls: Vec<Arc<Call>>,
    wakes: Vec<Box<dyn FnOnce() + Send>>,
}

impl Rest {
    fn add(&mut self, watcher: Watcher) {
        match watcher {
            Watcher::Below(end) => self.below.push(end),
            Watcher::Call(call) => self.calls.push(call),
            Watcher::Wake(wake) => self.wakes.push(wake),
        }
    }
}

/// What can end.
pub(super) struct End {
    state: Lock<State>,
    /// Closed when it has ended. Whoever waits has the context, so nobody sees that the drop closes it, too.
    tx: Sender<()>,
    pub(super) rx: Receiver<()>,
}

#[derive(Default)]
struct State {
    ended: Option<Ended>,
    watchers: BTreeMap<u64, Watcher>,
    /// How many of them are calls.
    calls: usize,
    next: u64,
    /// The end above, and the number of this one there.
    above: Option<(Weak<End>, u64)>,
    timer: Option<FuncTimer>,
    /// Itself, while it has a timer and calls.
    me: Option<Arc<End>>,
}

impl End {
    fn new() -> Arc<Self> {
        let (tx, rx) = chan(0);
        Arc::new(Self { state: Lock::new(Rank::Leaf, State::default()), tx, rx })
    }

    /// A new one that ends when this one does.
    pub(super) fn below(above: Option<&Arc<Self>>) -> Arc<Self> {
        let new = Self::new();
        let Some(above) = above else { return new };
        match above.watch(Watcher::Below(Arc::downgrade(&new))) {
            // Nobody else knows the new one, but who ends the one above: then this is no use any more.
            Ok(number) => new.state.lock().above = Some((Arc::downgrade(above), number)),
            Err(ended) => {
                new.end(&ended);
            }
        }
        new
    }

    /// The one above, if this one has not ended.
    pub(super) fn above(&self) -> Option<Arc<Self>> {
        let state = self.state.lock();
        state.above.as_ref().and_then(|(above, _)| above.upgrade())
    }

    /// Adds somebody to be told. If it has ended already, says so.
    pub(super) fn watch(self: &Arc<Self>, watcher: Watcher) -> Result<u64, Ended> {
        let mut state = self.state.lock();
        if let Some(ended) = state.ended.clone() {
            drop(state);
            return Err(ended);
        }
        let number = state.next;
        state.next += 1;
        if matches!(watcher, Watcher::Call(_)) {
            state.calls += 1;
            if state.timer.is_some() && state.me.is_none() {
                state.me = Some(Arc::clone(self));
            }
        }
        state.watchers.insert(number, watcher);
        Ok(number)
    }

    /// Takes a watcher out again, if it was not told.
    pub(super) fn unwatch(&self, number: u64) {
        let mut state = self.state.lock();
        let watcher = state.watchers.remove(&number);
        let mut me = None;
        if matches!(watcher, Some(Watcher::Call(_))) {
            state.calls -= 1;
            if state.calls == 0 {
                me = state.me.take();
            }
        }
        drop(state);
        // The caller has the end as well.
        drop((watcher, me));
    }

    /// Has it ended by a timer, which is stopped if that is too late.
    pub(super) fn set_timer(&self, timer: FuncTimer) {
        let mut state = self.state.lock();
        let late = if state.ended.is_none() { state.timer.replace(timer) } else { Some(timer) };
        drop(state);
        if let Some(late) = late {
            late.stop();
        }
    }

    /// Ends it and all below. `false`: it had ended.
    pub(super) fn end(&self, ended: &Ended) -> bool {
        let mut rest = Rest::default();
        let new = self.end_one(ended, &mut rest);
        loop {
            if let Some(wake) = rest.wakes.pop() {
                wake();
            } else if let Some(below) = rest.below.pop() {
                if let Some(below) = below.upgrade() {
                    below.end_one(ended, &mut rest);
                }
            } else if let Some(call) = rest.calls.pop() {
                // Somebody else may be on the way to the call's own context, which has ended when the call comes.
                if let Some(own) = call.own.upgrade() {
                    own.end_one(ended, &mut rest);
                }
                call.come(ended.error);
            } else {
                return new;
            }
        }
    }

    /// Ends it alone; those to be told next are added to `rest`.
    fn end_one(&self, ended: &Ended, rest: &mut Rest) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.ended = Some(ended.clone());
        state.calls = 0;
        let watchers = core::mem::take(&mut state.watchers);
        let (timer, above, me) = (state.timer.take(), state.above.take(), state.me.take());
        drop(state);
        self.tx.close();
        if let Some(timer) = timer {
            timer.stop();
        }
        Self::take_out(above);
        for watcher in watchers.into_values() {
            rest.add(watcher);
        }
        // The caller has the end as well.
        drop(me);
        true
    }

    /// Takes an end out of the one above it, which may go by that, and then the one above that.
    fn take_out(mut place: Option<(Weak<Self>, u64)>) {
        while let Some((above, number)) = place {
            let Some(above) = above.upgrade() else { return };
            above.unwatch(number);
            place = Arc::into_inner(above).and_then(|end| end.state.lock().above.take());
        }
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
        Self::take_out(above);
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").finish_non_exhaustive()
    }
}
