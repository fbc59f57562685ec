//! Sudogs for goroutines that are about to wait; Go's `acquireSudog` and `releaseSudog`.
//!
//! A P keeps some of its own. Only when it has none left or too many, a batch comes from the shared list or goes
//! there, or the store grows. Neither is called with a lock held, because the store grows by the heap.

use machine::percpu::Pinned;
use sched::SudogIndex;
use sched::list::Chain;

use crate::m;
use crate::panic::fatal;
use crate::runtime::Runtime;

/// A sudog that nobody uses. It is given back by [`release_sudog`] once its wait is over.
pub(crate) fn acquire_sudog(rt: &'static Runtime) -> SudogIndex {
    let pinned = Pinned::new();
    let owner = m::current(&pinned).proc().owner();
    loop {
        if let Some(s) = owner.take_sudog(&rt.sudogs) {
            return s;
        }
        let batch = if rt.sudog_free_len.is_empty() { None } else { rt.sudog_free.lock().take(&rt.sudogs) };
        match batch {
            Some(batch) => keep(rt, owner.refill_sudogs(&rt.sudogs, batch)),
            None => grow(rt),
        }
    }
}

/// A sudog that nobody uses, if this P keeps one: also for who holds a lock.
pub(crate) fn take_sudog(rt: &'static Runtime, pinned: &Pinned) -> Option<SudogIndex> {
    m::current(pinned).proc().owner().take_sudog(&rt.sudogs)
}

/// Gives a sudog back. It is in no queue any more.
pub(crate) fn release_sudog(rt: &'static Runtime, s: SudogIndex) {
    let pinned = Pinned::new();
    keep(rt, m::current(&pinned).proc().owner().put_sudog(&rt.sudogs, s));
}

/// Puts spilled sudogs on the shared list.
fn keep(rt: &'static Runtime, spill: Option<Chain<SudogIndex>>) {
    if let Some(batch) = spill {
        rt.sudog_free.lock().put(&rt.sudogs, batch);
    }
}

/// Adds a chunk of sudogs to the shared list.
fn grow(rt: &'static Runtime) {
    let growing = rt.sudog_grow.lock();
    if !rt.sudog_free_len.is_empty() {
        // Somebody else has grown the store, or has spilled, while this CPU waited for the lock.
        return;
    }
    match rt.sudogs.grow() {
        Ok(new) => keep(rt, Some(new)),
        Err(error) => fatal(format_args!("a goroutine cannot wait, no sudog is left: {error}")),
    }
    drop(growing);
}
