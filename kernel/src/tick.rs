//! What each CPU's timer is set to, and what is done when it fires.
//!
//! A CPU takes timer interrupts only for a reason: the end of a time slice, while somebody waits for this P; the earliest
//! of its timers; the next line of `schedtrace`; a request that could not be answered yet and is looked at
//! again. An idle machine takes none.
//!
//! The slice's end is not set anew at every switch: that would cost a write to the timer each time. A switch only notes
//! when it was. The timer is set when somebody begins to wait ([`somebody_waits`]); when it fires and the slice that runs
//! then is younger, it is set again for the rest of it.
//!
//! When a slice is over, and who comes next then, `sched::slice` decides; it has the policy for who is due by a timer, and why
//! nobody starves.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use machine::apic::timer;
use machine::clock::{self, Nanos, Ticks};
use machine::irq::IrqGuard;
use machine::percpu;
use sched::slice::{self, Share, Slice, Waits};
use sched::timers::NEVER;

use crate::m::{M, Preemption, ask};
use crate::runtime::Runtime;
use crate::schedtrace;

/// The timer is not set to the end of a slice that is closer than this: handlers alone would run.
const LEAST: Nanos = Nanos(20_000);
/// The length of a time slice; Go's `forcePreemptNS`.
pub(crate) const SLICE: Nanos = Nanos(10_000_000);
/// The same, as tests may change it.
static LENGTH: AtomicU64 = AtomicU64::new(SLICE.0);

/// Asks the goroutine to give way if its slice is over and somebody waits.
pub(crate) fn end_slice(rt: &Runtime, m: &M) {
    if !m.slice_armed.load(Ordering::Relaxed) {
        return;
    }
    if m.current().is_none() || !waits(rt, m) {
        m.slice_armed.store(false, Ordering::Relaxed);
        // Pairs with the fence in `is_armed_for_others`: that finds the timer off, or what was queued is found here, or later.
        fence(Ordering::SeqCst);
        if m.current().is_some() && waits(rt, m) {
            m.slice_armed.store(true, Ordering::Relaxed);
        }
    } else if left_of_slice(m) == Nanos(0) {
        percpu::request(ask::PREEMPT);
    }
}

/// What is left of the running slice; 0 when it is over.
pub(crate) fn left_of_slice(m: &M) -> Nanos {
    Nanos(slice(m).left())
}

/// The running slice; its unit is the nanosecond.
pub(crate) fn slice(m: &M) -> Slice {
    // Relaxed, here and below: numbers, and what a CPU says of itself.
    let start = m.slice_start.load(Ordering::Relaxed);
    let age = Ticks(clock::rdtsc().0.saturating_sub(start));
    Slice {
        age: clock::clock().map_or(0, |clock| clock.to_nanos(age).0),
        length: LENGTH.load(Ordering::Relaxed),
        share: if m.slice_lent.load(Ordering::Relaxed) == start { Share::Lent } else { Share::Own },
        waits: if start < m.hurry_until.load(Ordering::Relaxed) { Waits::Due } else { Waits::Others },
    }
}

/// A timer has readied somebody on this CPU: the slice that runs may end earlier. The caller, pinned, sets the timer.
pub(crate) fn somebody_is_due(rt: &Runtime, m: &M) {
    if rt.preemption == Preemption::On {
        let queued = m.proc.map_or(0, |proc| proc.queue().len());
        let hurry = Nanos(slice::hurry(LENGTH.load(Ordering::Relaxed), queued));
        let hurry = clock::clock().map_or(Ticks(0), |clock| clock.to_ticks(hurry));
        m.hurry_until.store(clock::rdtsc().0.saturating_add(hurry.0), Ordering::Relaxed);
    }
}

/// Begins a slice that is lent to who is due.
pub(crate) fn lend_slice(m: &M, now: Ticks) {
    m.begin_slice(now);
    m.slice_lent.store(now.0, Ordering::Relaxed);
}

/// Whether anybody waits that this CPU could run.
pub(crate) fn waits(rt: &Runtime, m: &M) -> bool {
    let own = m.proc.is_some_and(|proc| !proc.queue().is_empty());
    own || !m.wired_len.is_empty() || (m.is_active() && !rt.sources().global.is_empty())
}

/// Whether the timer is set to the end of the slice.
#[inline]
pub(crate) fn is_armed(m: &M) -> bool {
    m.slice_armed.load(Ordering::Relaxed)
}

/// Whether another CPU's timer is set to the end of its slice, so that it finds at that time whom the caller has put on the
/// global queue.
pub(crate) fn is_armed_for_others(m: &M) -> bool {
    // Pairs with the fence in `end_slice`.
    fence(Ordering::SeqCst);
    // Relaxed: the fence orders it.
    m.slice_armed.load(Ordering::Relaxed)
}

/// Sets the timer to the end of the slice, if anybody waits.
#[inline(never)]
pub(crate) fn arm_if_somebody_waits(rt: &Runtime, m: &M) {
    if waits(rt, m) {
        somebody_waits(rt, m);
    }
}

/// Somebody waits for this CPU: its slice shall end. The caller is pinned, or in a handler.
pub(crate) fn somebody_waits(rt: &Runtime, m: &M) {
    if rt.preemption == Preemption::On && !m.slice_armed.load(Ordering::Relaxed) {
        m.slice_armed.store(true, Ordering::Relaxed);
        rearm(m);
    }
}

/// Sets the timer anew, because what it is set to has changed. The caller is pinned, or in a handler.
pub(crate) fn rearm(m: &M) {
    // A handler in between would set it by itself, and be undone by what was read here before.
    let _off = IrqGuard::new();
    set(m, clock::now());
}

/// The same for a slice that has just begun, or that stays over, which is looked at once more a little later. So is what is due already,
/// as by [`look_again`]. The caller is pinned.
pub(crate) fn set_for_slice(m: &M) {
    if m.earliest.get() <= clock::now().0 {
        look_again(m);
    } else {
        rearm(m);
    }
}

/// The same, but what is due already is looked at a little later. The caller is pinned.
pub(crate) fn look_again(m: &M) {
    let _off = IrqGuard::new();
    let now = clock::now();
    set_from(m, now, now + retry());
}

/// Sets the timer to the earliest reason. Interrupts are off.
pub(crate) fn set(m: &M, now: Nanos) {
    set_from(m, now, Nanos(0));
}

/// Sets it to the earliest reason, for timers not before `from`.
fn set_from(m: &M, now: Nanos, from: Nanos) {
    let mut next = m.earliest.get().min(schedtrace::next(m)).max(from.0);
    if m.block.requests() & (ask::TIMERS | ask::PREEMPT) != 0 {
        // It is asked for already, and not taken yet: it stands in locks, or has no stack left. Look again.
        next = next.max(now.0 + retry().0);
    }
    if m.slice_armed.load(Ordering::Relaxed) {
        // Over already: it is asked for, or will be by who looks at this.
        let left = Some(left_of_slice(m)).filter(|left| left.0 > 0).unwrap_or_else(retry);
        next = next.min(now.0 + left.0.max(LEAST.0));
    }
    if m.block.requests() & (ask::VACATE | ask::INPUT) != 0 {
        // The same, and nothing else need come for it.
        next = next.min(now.0 + retry().0);
    }
    if next == NEVER {
        timer::disarm();
    } else {
        timer::arm(Nanos(next));
    }
}

/// After this time the handler looks again at a request that could not be taken.
fn retry() -> Nanos {
    Nanos(LENGTH.load(Ordering::Relaxed) / 10)
}

/// Changes the length of all time slices. For tests: short ones cost much.
pub(crate) fn set_slice(length: Nanos) {
    LENGTH.store(length.0, Ordering::Relaxed);
}
