//! The scheduler loop of a CPU, on its kernel stack: find a goroutine, run it, and sleep when there is none.
//!
//! `sched::idle` has the argument why no wake-up is lost; this file does the steps in that order. The last window,
//! between the last look and the halt, is closed by `sched::Note` together with `sti; hlt`: the CPU announces with
//! interrupts off that it halts, so a waker either sees the announcement and sends an interrupt, which then ends
//! the halt, or was there before and the announcement fails.
//!
//! A CPU that sleeps is outside of the world that can be stopped ([`sched::world`]): it passes its gate outwards after the
//! last look and inwards before anything else.
//!
//! A CPU whose P is not active ([`crate::procs`]) runs the same loop for goroutines that are locked to it, and for
//! nothing else. It is in no idle mask: whoever has something for it wakes its note. It polls that for a moment before it halts.

use core::hint;
use core::sync::atomic::Ordering;

use machine::clock::{self, Nanos};
use machine::irq;
use machine::percpu::Pinned;
use sched::idle::{Left, Spin, Spinner};
use sched::pick::Picked;

use crate::deadlock;
use crate::hold;
use crate::m::{self, M};
use crate::perform;
use crate::preempt;
use crate::runtime::Runtime;
use crate::timers;
use crate::wake;

/// A timer of another CPU that is late by this much is run by one that has nothing else to do. The CPU itself usually
/// comes earlier.
const LATE: Nanos = Nanos(50_000);

/// Runs goroutines for ever.
///
/// On the kernel stack, with interrupts on, on a CPU whose M is installed.
pub(crate) fn scheduler(m: &'static M) -> ! {
    if m.proc.is_none() {
        // Beyond the CPUs that can have a P: nobody wakes this one.
        loop {
            irq::disable();
            irq::enable_and_halt();
        }
    }
    let rt = m::runtime();
    hold::enter(rt, m);
    loop {
        if m.is_active() {
            if let Some(picked) = find(rt, m) {
                perform::run(&Pinned::new(), m, &picked);
            }
        } else if let Some(picked) = find_wired(rt, m) {
            perform::run(&Pinned::new(), m, &picked);
        }
    }
}

/// The next goroutine for this CPU, however long it takes. `None` when its P has gone away.
fn find(rt: &'static Runtime, m: &'static M) -> Option<Picked> {
    let mut spin = Spin::No;
    loop {
        preempt::in_loop(rt, m);
        if !m.is_active() {
            stop_spinning(rt, m, spin);
            return None;
        }
        if let Some(picked) = perform::next_local(rt, m) {
            stop_spinning(rt, m, spin);
            return Some(picked);
        }
        if spin == Spin::No {
            spin = rt.idle.try_spin();
        }
        if spin == Spin::Yes
            && let Some(picked) = sched::pick::find_work(m.proc().owner(), &rt.sources())
        {
            stop_spinning(rt, m, spin);
            if !m.proc().queue().is_empty() {
                // It has got more than it runs now: others may look for that meanwhile.
                wake::wake_more(rt, m.proc().owner());
            }
            return Some(picked);
        }
        if spin == Spin::Yes && timers::run_late(rt, m, LATE) {
            continue;
        }
        if spin == Spin::Yes && !rt.global.is_empty() {
            // Another CPU is at what there is. From going idle this one would come back for it.
            hint::spin_loop();
            continue;
        }
        spin = sleep(rt, m, spin);
    }
}

/// Work was found. The last spinner wakes the next one: there may be more work than it took.
fn stop_spinning(rt: &'static Runtime, m: &'static M, spin: Spin) {
    if spin == Spin::Yes && rt.idle.stop_spinning() == Spinner::Last {
        wake::wake_one(rt, m.proc().owner());
    }
}

/// Goes idle and comes back when there may be work. Who leaves the idle state is counted as spinning, by itself or by
/// its waker, unless its P has gone away meanwhile.
fn sleep(rt: &'static Runtime, m: &'static M, spin: Spin) -> Spin {
    let proc = m.proc();
    let owner = proc.owner();
    let since = clock::now();
    rt.idle.go_idle(proc.id(), spin);
    if !sched::pick::recheck(&rt.sources()) && m.wired_len.is_empty() && !m.block.is_asked() {
        owner.counters().idle_periods.add(1);
        deadlock::check(rt);
        if hold::leave(rt, m) {
            halt_until_woken(m);
            hold::enter(rt, m);
        }
        owner.counters().idle_nanos.add(clock::now().0.saturating_sub(since.0));
    }
    // Relaxed: written while the world was stopped, which this CPU has noticed since.
    let spin = if m.retired.swap(false, Ordering::Relaxed) {
        // A P that is active again counts as busy since then.
        if !m.is_active() {
            m.count_extra(rt);
        }
        Spin::No
    } else {
        // Taken back or claimed, the P is counted as spinning. A claim whose note comes later costs one more look.
        match rt.idle.leave_idle(proc.id()) {
            Left::TookBack | Left::Claimed => Spin::Yes,
        }
    };
    rt.awake.woke(m.index);
    m.note.clear();
    spin
}

/// The next goroutine that is locked to this CPU. `None` when its P has become active.
fn find_wired(rt: &'static Runtime, m: &'static M) -> Option<Picked> {
    // Counted already, unless this is its first step.
    m.count_extra(rt);
    // A P that has just gone often comes back at once: by a stop that has begun, and whose interrupt is on its way.
    hold::hold(rt, m);
    loop {
        preempt::in_loop(rt, m);
        if m.is_active() {
            m.uncount_extra(rt);
            return None;
        }
        if let Some(picked) = perform::next_local(rt, m) {
            return Some(picked);
        }
        m.uncount_extra(rt);
        deadlock::check(rt);
        if hold::leave(rt, m) {
            // Whoever queues something, or changes the right to run, wakes the note afterwards. A P that has just gone often
            // comes back soon, and a halt is dear.
            if !clock::spin_at_most(hold::SPIN, || m.note.is_set()) {
                halt_until_woken(m);
            }
            hold::enter(rt, m);
        }
        m.count_extra(rt);
        rt.awake.woke(m.index);
        m.note.clear();
    }
}

/// Halts until somebody has notified this CPU. Interrupts that mean nothing here only end one halt.
fn halt_until_woken(m: &M) {
    loop {
        irq::disable();
        if !m.note.prepare() {
            irq::enable();
            return;
        }
        irq::enable_and_halt();
    }
}
