//! How many pages the stacks of goroutines have, in use and not, without a walk through all of them.
//!
//! The pages of all stacks are counted by the CPUs that map and unmap them. Those that no goroutine uses belong to slots that are on
//! lists, whose lengths are known, and nearly every one has one page. Only for the others something is done when they
//! are put on a list or taken off: the CPU that does it counts by how much they differ from one page.
//!
//! Exact in a stopped world, where every unused slot is on a list: who takes one, or gives one back, is pinned.

use core::sync::atomic::Ordering;

use machine::frames::FRAME_SIZE;
use sched::{GoIndex, Processor};

use crate::goroutine::Body;
use crate::m::M;
use crate::runtime::Runtime;

/// Pages of a slot's stacks, less one, modulo 2^64.
fn odd(body: &Body, g: GoIndex) -> u64 {
    body.stack_pages(g).wrapping_sub(1)
}

/// Adds to the CPU's count. The caller is pinned to it.
fn add(m: &M, pages: u64) {
    // Relaxed, as all accesses: a stop of the world orders what others read.
    m.odd_pages.store(m.odd_pages.load(Ordering::Relaxed).wrapping_add(pages), Ordering::Relaxed);
}

/// A dead goroutine is put on a list here. Need not be called for one that [has one page](Body::has_one_page).
#[cold]
#[inline(never)]
pub(crate) fn put(m: &M, body: &Body, g: GoIndex) {
    add(m, odd(body, g));
}

/// A dead goroutine was taken off a list here. As for [`put`].
#[cold]
#[inline(never)]
pub(crate) fn take(m: &M, body: &Body, g: GoIndex) {
    add(m, odd(body, g).wrapping_neg());
}

/// So many slots whose stacks have no pages are put on a list here.
pub(crate) fn add_bare(m: &M, slots: u32) {
    add(m, u64::from(slots).wrapping_neg());
}

/// The stacks of all unused slots have lost their pages, in a stopped world.
pub(crate) fn forget(rt: &Runtime, m: &M) {
    rt.ms.iter().for_each(|m| m.odd_pages.store(0, Ordering::Relaxed));
    add(m, on_lists(rt).wrapping_neg());
}

/// Unused slots that are on lists.
fn on_lists(rt: &Runtime) -> u64 {
    let kept: u64 = rt.all_procs().iter().map(Processor::free_len).map(u64::from).sum();
    kept + rt.free.len()
}

/// Bytes of the stacks in use, and of all.
pub(crate) fn bytes(rt: &Runtime) -> (u64, u64) {
    let (mut all, mut unused) = (0_u64, on_lists(rt));
    for m in &rt.ms {
        all = all.wrapping_add(m.block.stack_pages());
        unused = unused.wrapping_add(m.odd_pages.load(Ordering::Relaxed));
    }
    (all.saturating_sub(unused) * FRAME_SIZE, all * FRAME_SIZE)
}
