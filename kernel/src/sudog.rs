//! Sudogs for goroutines that are about to wait; Go's `acquireSudog` and `releaseSudog`.
//!
//! A goroutine keeps one, once it has waited, because most waits are for one thing; and a P keeps some. Only when it has none left or too many, a batch comes from the shared list or goes
//! there, or the store grows. Neither is called with a lock held, because the store grows by the heap.

use machine::percpu::Pinned;
use sched::SudogIndex;
use sched::chunks::NoRoom;
use sched::list::Chain;
use sched::sudog::Sudog;

use crate::m::{self, M};
use crate::panic::fatal;
use crate::runtime::Runtime;

/// A sudog that nobody uses, for the goroutine that calls. It is given back by [`release_sudog`] once its wait is over.
#[inline]
pub(crate) fn acquire_sudog(rt: &'static Runtime, pinned: &Pinned) -> SudogIndex {
    let m = m::current(pinned);
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
        match rt.sudog_free.take(m.index, |list| list.take(&rt.sudogs)) {
            Some(batch) => {
                keep(rt, m, owner.refill_sudogs(batch));
                grow_ahead(rt, m);
            }
            None => grow(rt, m),
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
pub(crate) fn release_sudog(rt: &'static Runtime, pinned: &Pinned, (s, sudog): (SudogIndex, &Sudog)) {
    let m = m::current(pinned);
    sudog.rest(s);
    if !m::current_slot(m).body().keep_sudog(s) {
        release_to_proc(rt, m, s);
    }
}

/// Gives a sudog back that is in no queue, and that no goroutine keeps, by the P of this CPU.
#[inline(never)]
pub(crate) fn release_to_proc(rt: &'static Runtime, m: &'static M, s: SudogIndex) {
    keep(rt, m, m.proc().owner().put_sudog(&rt.sudogs, s));
}

/// Puts spilled sudogs on the shared list, where this CPU is at home.
fn keep(rt: &'static Runtime, m: &M, spill: Option<Chain<SudogIndex>>) {
    if let Some(batch) = spill {
        rt.sudog_free.open(m.index).put(&rt.sudogs, batch);
    }
}

/// Adds a chunk to the store, if all that are left are those that a P has just got.
fn grow_ahead(rt: &'static Runtime, m: &M) {
    if rt.sudog_free.is_empty() {
        // Without room for more the P goes on with what it has.
        let _full = try_grow(rt, m);
    }
}

/// Adds a chunk to the store, for who has no sudog left.
fn grow(rt: &'static Runtime, m: &M) {
    if let Err(error) = try_grow(rt, m) {
        fatal(format_args!("a goroutine cannot wait, no sudog is left: {error}"));
    }
}

/// Adds a chunk, unless there are sudogs, or another CPU is at it.
///
/// Then who has none looks again, for what that one adds, or for what is given back meanwhile.
fn try_grow(rt: &'static Runtime, m: &M) -> Result<(), NoRoom> {
    // Who finds it taken comes back until there is something.
    rt.sudog_grow.check_order();
    let Some(growing) = rt.sudog_grow.try_lock() else {
        core::hint::spin_loop();
        return Ok(());
    };
    if rt.sudog_free.is_empty() {
        keep(rt, m, Some(rt.sudogs.grow()?));
    }
    drop(growing);
    Ok(())
}
