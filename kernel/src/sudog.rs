//! Sudogs for goroutines that are about to wait; Go's `acquireSudog` and `releaseSudog`.
//!
//! A goroutine has one of its own from its first wait on, because most waits are for one thing, and it waits for one at a time; the slot
//! keeps it for the next goroutine. Who waits for several things gets the others from its P, which keeps some. Only when that has none
//! left or too many, a batch comes from the shared list or goes there, or the store grows. Neither is called with a lock held, because
//! the store grows by pages of its own.

use machine::frames;
use sched::SudogIndex;
use sched::chunks::NoRoom;
use sched::list::Chain;

use crate::goroutine::Named;
use crate::m::{Here, M};
use crate::panic::fatal;
use crate::runtime::Runtime;
use crate::sudog_memory;

/// The goroutine's own sudog, for its next wait. The caller is pinned, and holds no lock.
///
/// Between the queueing of it and the taking out a goroutine runs nothing that may wait.
///
/// # Panics
/// When it is in a queue still.
#[inline]
pub(crate) fn own_sudog(here: Here) -> Named {
    checked(here.slot.body().sudog().unwrap_or_else(|| first_sudog(here)))
}

#[inline]
fn checked((s, sudog): Named) -> Named {
    sudog.check_idle(s);
    (s, sudog)
}

#[cold]
#[inline(never)]
fn first_sudog(here: Here) -> Named {
    let named = name(here.runtime(), acquire(here.runtime(), here.m));
    here.slot.body().set_sudog(Some(named));
    named
}

/// The same for who holds a lock, if the goroutine has one or this P keeps one.
#[inline]
pub(crate) fn try_own_sudog(here: Here) -> Option<Named> {
    here.slot.body().sudog().or_else(|| try_first_sudog(here)).map(checked)
}

#[cold]
#[inline(never)]
fn try_first_sudog(here: Here) -> Option<Named> {
    let named = name(here.runtime(), try_acquire(here.runtime(), here.m)?);
    here.slot.body().set_sudog(Some(named));
    Some(named)
}

fn name(rt: &'static Runtime, s: SudogIndex) -> Named {
    (s, rt.sudogs.get(s))
}

/// A sudog that nobody uses, for who is pinned to this CPU. It is given back by [`release_sudog`] once the wait is over. With no lock held.
pub(crate) fn acquire_sudog(rt: &'static Runtime, m: &'static M) -> Named {
    name(rt, acquire(rt, m))
}

/// A sudog that nobody uses, if this P keeps one: also for who holds a lock. The caller is pinned to this CPU.
pub(crate) fn take_sudog(rt: &'static Runtime, m: &'static M) -> Option<Named> {
    Some(name(rt, try_acquire(rt, m)?))
}

fn try_acquire(rt: &'static Runtime, m: &'static M) -> Option<SudogIndex> {
    m.proc().owner().take_sudog(&rt.sudogs)
}

fn acquire(rt: &'static Runtime, m: &'static M) -> SudogIndex {
    loop {
        if let Some(s) = try_acquire(rt, m) {
            return s;
        }
        // Who finds it taken comes back until there is something.
        rt.sudog_grow.check_order();
        match rt.sudog_free.take(m.index, &rt.sudogs) {
            Some(batch) => {
                keep(rt, m, m.proc().owner().refill_sudogs(batch));
                grow_ahead(rt, m);
            }
            None => grow(rt, m),
        }
    }
}

/// Gives a sudog back that is in no queue and that no goroutine has, by the P of this CPU, to which the caller is pinned.
#[inline]
pub(crate) fn release_sudog(rt: &'static Runtime, m: &'static M, named: Named) {
    if !m.proc().owner().try_put_sudog(named) {
        spill(rt, m, named.0);
    }
}

/// The rest of [`release_sudog`].
#[cold]
#[inline(never)]
fn spill(rt: &'static Runtime, m: &'static M, s: SudogIndex) {
    keep(rt, m, m.proc().owner().put_sudog(&rt.sudogs, s));
}

/// Puts spilled sudogs on the shared list, where this CPU is at home.
fn keep(rt: &'static Runtime, m: &M, spill: Option<Chain<SudogIndex>>) {
    if let Some(batch) = spill {
        rt.sudog_free.put(m.index, &rt.sudogs, batch);
    }
}

/// Adds a chunk to the store, if all that are left are those that a P has just got.
fn grow_ahead(rt: &'static Runtime, m: &M) {
    if rt.sudog_free.is_empty() && !frames::is_short() {
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
    let Some(growing) = rt.sudog_grow.try_lock() else {
        core::hint::spin_loop();
        return Ok(());
    };
    if rt.sudog_free.is_empty() {
        rt.sudog_free.spread(m.index, &rt.sudogs, rt.sudogs.grow(sudog_memory::make_room)?);
    }
    drop(growing);
    Ok(())
}
