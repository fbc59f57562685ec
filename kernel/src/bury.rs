//! The end of a goroutine: what becomes of its slot and its stack.

use core::sync::atomic::{Ordering, fence};

use sched::Owner;
use sched::join::Slot;
use sched::table;

use crate::goroutine::Body;
use crate::idle_stacks;
use crate::m::{self, M};
use crate::panic::check;
use crate::slots;

/// The end of a goroutine whose stack nobody stands on any more.
#[inline(never)]
pub(crate) fn bury(m: &'static M, slot: &'static table::Slot<Body>) {
    let owner = m.proc().owner();
    if slot.body().is_wired() {
        slot.body().unwire(slot.index());
    }
    check(slot.status().exit());
    if slot.body().join.leave() == Slot::Free && !try_keep(owner, slot) {
        bury_otherwise(m, slot);
    } else {
        count_end(owner);
    }
}

/// The rest of [`bury`].
#[cold]
#[inline(never)]
fn bury_otherwise(m: &'static M, slot: &'static table::Slot<Body>) {
    free_slot_otherwise(m, slot);
    count_end(m.proc().owner());
}

/// Comes last: whoever finds by this count that it is alone must also find the slot and the stack where those of the dead are.
fn count_end(owner: Owner<'_>) {
    // Release pairs with the Acquire in `num_goroutine`.
    fence(Ordering::Release);
    owner.counters().exited.add(1);
}

/// Frees the slot of a dead goroutine, which falls to the caller.
#[expect(clippy::inline_always, reason = "a call costs a third of the whole")]
#[inline(always)]
pub(crate) fn free_slot(m: &'static M, owner: Owner<'_>, slot: &table::Slot<Body>) {
    if !try_keep(owner, slot) {
        free_slot_otherwise(m, slot);
    }
}

/// Puts a dead slot among those that the P keeps, if it has room for it there, and says whether it has.
fn try_keep(owner: Owner<'_>, slot: &table::Slot<Body>) -> bool {
    slot.body().has_one_page() && owner.try_put_free(slot)
}

/// The rest of [`free_slot`].
#[cold]
#[inline(never)]
fn free_slot_otherwise(m: &'static M, slot: &table::Slot<Body>) {
    if !slot.body().has_one_page() {
        idle_stacks::put(m, slot.body(), slot.index());
    }
    let rt = m::runtime_of(m);
    slots::keep(rt, m, m.proc().owner().put_free(&rt.table, slot.index()));
}
