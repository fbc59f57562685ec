//! Giving way: a goroutine lets others run, and stays runnable.
//!
//! Nearly all who give way find the next one in their P's ring, and switch to it directly. What is looked for beyond that is
//! a function of its own.

use machine::percpu::Pinned;
use sched::table::Slot;

use crate::goroutine::Body;
use crate::m::{self, Here, M};
use crate::perform::{self, After};
use crate::stacks::check_g_stack;

/// Lets others run: the goroutine goes to the end of this P's queue. Go's `Gosched`.
///
/// Returns at once when nothing else is runnable here.
///
/// # Throws
/// When not called on a goroutine's own stack.
///
/// # Examples
/// ```
/// let handle = gzero::go(|| 1);
/// while !handle.is_finished() {
///     gzero::gosched();
/// }
/// ```
#[track_caller]
pub fn gosched() {
    let pinned = Pinned::new();
    let own = check_g_stack("gosched");
    match perform::usual_successor(&pinned, own.here(&pinned).m) {
        Some(next) => perform::leave_for(&pinned, own.slot(), After::Yielded, next),
        None => gosched_unusually(pinned),
    }
}

/// Most who come here are alone, in a loop that waits for something: they are not pinned while they look, so that a stop of the
/// world need not wait for that.
#[inline(never)]
fn gosched_unusually(pinned: Pinned) {
    let m = m::current(&pinned);
    perform::check_may_leave(m);
    if m.block.is_asked() {
        // Perhaps to give way: the drop of the pin would do that, and then it would be done twice.
        return give_way_unusually(&pinned, m, m::current_slot(&pinned));
    }
    drop(pinned);
    if !looks_alone() {
        goyield();
    }
}

/// Whether nobody waits for the caller's CPU, or for any, at about this moment: it may be on another CPU since.
fn looks_alone() -> bool {
    m::of_this_cpu().is_some_and(|m| {
        m.usual().is_some_and(|proc| proc.queue().is_empty()) && m::runtime_of(m).global.is_empty()
    })
}

/// Lets the goroutine that was readied last run, in the same time slice: the caller, a goroutine on its own stack, goes
/// to the end of this P's queue, never to the global one. Go's `goyield`.
pub(crate) fn goyield() {
    let pinned = Pinned::new();
    give_way(&pinned, Here { m: m::current(&pinned), slot: m::current_slot(&pinned) });
}

/// The goroutine that calls, on its own stack, goes to the end of this P's queue, if anything else is runnable here.
#[inline]
pub(crate) fn give_way(pinned: &Pinned, Here { m, slot: me }: Here) {
    match perform::usual_successor(pinned, m) {
        Some(next) => perform::leave_for(pinned, me, After::Yielded, next),
        None => give_way_unusually(pinned, m, me),
    }
}

#[inline(never)]
fn give_way_unusually(pinned: &Pinned, m: &'static M, me: &'static Slot<Body>) {
    if let Some(next) = perform::unusual_successor(m) {
        perform::leave(pinned, m, me, After::Yielded, Some(next));
    }
}
