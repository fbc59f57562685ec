//! Changing the number of Ps, in a stopped world.
//!
//! P i belongs to CPU i; the first GOMAXPROCS of them are active. Ps beyond the CPUs are counted and nothing else, so
//! they never hold work that nobody runs.
//!
//! # A P that goes away
//!
//! It happens while the world is stopped. The queue of the P moves to the global one; its timers stay, because they are
//! the CPU's ([`crate::timers`]). If its CPU was asleep, its bit leaves the idle mask, and the CPU is told by
//! [`M::retired`] that it is counted nowhere. If it runs a goroutine, that gives way when the CPU goes on, and is
//! queued for the others ([`crate::perform::give_away`]). From then on the CPU runs nothing but goroutines that are
//! locked to it: an M cannot be made here, as Go would do, nor its place be changed. So while more CPUs have such
//! goroutines than there are Ps, more than GOMAXPROCS goroutines can run.

use core::sync::atomic::Ordering;

use sched::MAX_PROCS;

use crate::m::M;
use crate::runtime::Runtime;

/// Gives so many CPUs the right to run goroutines. In a stopped world, on the kernel stack; Go's `procresize`.
pub(crate) fn resize(rt: &'static Runtime, procs: u32) {
    // The idle mask is read with its old size until all that go away have left it.
    let all = rt.all_procs().len();
    let used = all.min(procs as usize);
    for m in rt.ms.iter().take(all) {
        match (m.is_active(), m.index < used) {
            (true, false) => take_away(rt, m),
            (false, true) => {
                m.activate(rt.preemption);
                m.uncount_extra(rt);
            }
            (true, true) | (false, false) => {}
        }
    }
    rt.idle.resize(u32::try_from(used).unwrap_or(MAX_PROCS));
    rt.set_gomaxprocs(procs);
}

/// The P of this CPU goes away.
fn take_away(rt: &'static Runtime, m: &M) {
    let proc = m.proc();
    m.deactivate();
    if rt.idle.retire(proc.id()) {
        // Relaxed: the end of the stop orders it.
        m.retired.store(true, Ordering::Relaxed);
    } else {
        // It is awake, or on its way: what it has in hand is in no queue, and the idle mask does not know it any more.
        m.count_extra(rt);
    }
    sched::pick::drain(proc.owner(), &rt.sources());
}
