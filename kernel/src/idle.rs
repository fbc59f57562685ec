//! The scheduler loop of a CPU, on its kernel stack: find a goroutine, run it, and sleep when there is none.
//!
//! `sched::idle` has the argument why no wake-up is lost; this file does the steps in that order. The last window,
//! between the last look and the halt, is closed by `sched::Note` together with `sti; hlt`: the CPU announces with
//! interrupts off that it halts, so a waker either sees the announcement and sends an interrupt, which then ends
//! the halt, or was there before and the announcement fails.

use core::sync::atomic::Ordering;

use machine::clock;
use machine::irq;
use machine::percpu::Pinned;
use sched::idle::{Left, Spin, Spinner};
use sched::pick::Picked;

use crate::deadlock;
use crate::m::{self, M};
use crate::perform;
use crate::runtime::Runtime;

/// Runs goroutines for ever.
///
/// On the kernel stack, with interrupts on, on a CPU whose M is installed.
pub(crate) fn scheduler(m: &'static M) -> ! {
    if m.proc.is_none() {
        // More CPUs than GOMAXPROCS: nobody wakes this one.
        loop {
            irq::disable();
            irq::enable_and_halt();
        }
    }
    let rt = m::runtime();
    loop {
        let picked = find(rt, m);
        perform::run(&Pinned::new(), m, &picked);
    }
}

/// The next goroutine for this CPU, however long it takes.
fn find(rt: &'static Runtime, m: &'static M) -> Picked {
    let mut spin = Spin::No;
    loop {
        if let Some(picked) = sched::pick::next_local(&m.proc().owner(), &rt.sources()) {
            stop_spinning(rt, m, spin);
            return picked;
        }
        if spin == Spin::No {
            spin = rt.idle.try_spin();
        }
        if spin == Spin::Yes
            && let Some(picked) = sched::pick::find_work(&m.proc().owner(), &rt.sources())
        {
            stop_spinning(rt, m, spin);
            return picked;
        }
        sleep(rt, m, spin);
        // Who leaves the idle state is counted as spinning, by itself or by its waker.
        spin = Spin::Yes;
    }
}

/// Work was found. The last spinner wakes the next one: there may be more work than it took.
fn stop_spinning(rt: &'static Runtime, m: &'static M, spin: Spin) {
    if spin == Spin::Yes && rt.idle.stop_spinning() == Spinner::Last {
        perform::wake_one(rt, &m.proc().owner());
    }
}

/// Goes idle and comes back when there may be work.
fn sleep(rt: &'static Runtime, m: &'static M, spin: Spin) {
    let proc = m.proc();
    let owner = proc.owner();
    let since = clock::now();
    rt.idle.go_idle(proc.id(), spin);
    if !sched::pick::recheck(&rt.sources()) {
        owner.counters().idle_periods.add(1);
        deadlock::check(rt);
        halt_until_woken(m);
        owner.counters().idle_nanos.add(clock::now().0.saturating_sub(since.0));
    }
    // Taken back or claimed, the P is counted as spinning. A claim whose note comes later costs one more look.
    match rt.idle.leave_idle(proc.id()) {
        Left::TookBack | Left::Claimed => {}
    }
    // Relaxed: `go_idle` of this P releases it to `deadlock::check`.
    rt.wakeups.fetch_add(1, Ordering::Relaxed);
    m.note.clear();
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
