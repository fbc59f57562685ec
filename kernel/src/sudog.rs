//! Sudogs for goroutines that are about to wait; Go's `acquireSudog` and `releaseSudog`.
//!
//! A goroutine keeps one, once it has waited, because most waits are for one thing; and a P keeps some. Only when it has none left or too many, a batch comes from the shared list or goes
//! there, or the store grows. Neither is called with a lock held, because the store grows by the heap.

use machine::percpu::Pinned;
use sched::SudogIndex;
use sched::list::Chain;
use sched::sudog::Sudog;

use crate::m::{self, M};
use crate::panic::fatal;
use crate::runtime::Runtime;

/// A sudog that nobody uses, for the goroutine that calls. It is given back by [`release_sudog`] once its wait is over.
#[inline]
pub(crate) fn acquire_sudog(rt: &'static Runtime) -> SudogIndex {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    match m::current_slot(m).body().take_sudog() {
        Some(s) => s,
        None => acquire_another(rt, m),
    }
}

/// The rest of [`acquire_sudog`], pinned.
#[inline(never)]
fn acquire_another(rt: &'static Runtime, m: &'static M) -> SudogIndex {
    let owner = m.proc().owner();
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

/// A sudog that nobody uses, if the goroutine that calls or this P keeps one: also for who holds a lock.
#[inline]
pub(crate) fn take_sudog(rt: &'static Runtime, pinned: &Pinned) -> Option<SudogIndex> {
    let m = m::current(pinned);
    m::current_slot(m).body().take_sudog().or_else(|| take_another(rt, m))
}

#[inline(never)]
fn take_another(rt: &'static Runtime, m: &'static M) -> Option<SudogIndex> {
    m.proc().owner().take_sudog(&rt.sudogs)
}

/// Gives a sudog back, which the goroutine that calls has taken. It is in no queue any more.
#[inline]
pub(crate) fn release_sudog(rt: &'static Runtime, (s, sudog): (SudogIndex, &Sudog)) {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    sudog.rest(s);
    if !m::current_slot(m).body().keep_sudog(s) {
        release_to_proc(rt, m, s);
    }
}

#[inline(never)]
fn release_to_proc(rt: &'static Runtime, m: &'static M, s: SudogIndex) {
    keep(rt, m.proc().owner().put_sudog(&rt.sudogs, s));
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
