//! Waiting for a time.
//!
//! A sleeper is in the heap of the P that it went to sleep on, and its CPU's timer is set to the earliest of them. The
//! handler only asks; the heap is emptied of what is due by the code that the CPU runs: the interrupted goroutine, or
//! the scheduler loop ([`run_due`]). When a CPU does not answer, others run its overdue timers ([`crate::sysmon`]).

use machine::clock::{self, Nanos};
use machine::percpu::Pinned;
use sched::GoRef;

use crate::m::{self, M};
use crate::park::{WaitReason, gopark, goready};
use crate::runtime::Runtime;
use crate::stacks::check_g_stack;
use crate::tick;

/// The time since the start of the clock, at boot. It never runs backwards on one CPU, nor for one goroutine as far as the
/// CPUs' time stamp counters agree.
pub fn now() -> Nanos {
    clock::now()
}

/// Waits for at least this long, while other goroutines run. A length of 0 returns at once. Go's `time.Sleep`.
///
/// # Throws
/// When not called on a goroutine's own stack.
#[track_caller]
pub fn sleep(length: Nanos) {
    check_g_stack("sleep");
    if length == Nanos(0) {
        return;
    }
    let when = clock::now() + length;
    let rt = m::runtime();
    rt.awake.begin_sleep();
    gopark(WaitReason::Sleep, |me| {
        add(when, me);
        true
    });
}

/// Puts a goroutine into this CPU's heap. It is in state `Parking`: whoever finds it due may ready it at once.
fn add(when: Nanos, g: GoRef) {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    m.timers.lock().add(when.0, g);
    tick::sleepers_changed(&pinned);
}

/// Readies the sleepers of a CPU whose time has come. On a goroutine's stack or the kernel stack, with interrupts on.
pub(crate) fn run_due(rt: &Runtime, of: &M) {
    if of.earliest.get() > clock::now().0 {
        return;
    }
    loop {
        let due = of.timers.lock().take_due(clock::now().0);
        let Some(g) = due else { return };
        goready(g);
        // After the ready: `sched::deadlock` relies on it.
        rt.awake.end_sleep();
    }
}
