//! Interrupts to other CPUs, and the end of their sleep. Who is to be woken, `sched` decides.

use machine::apic;
use machine::apic::icr::{Ipi, Target};
use machine::smp;
use machine::vector::Vector;
use sched::idle::FAN_OUT;
use sched::note::WakeAction;
use sched::{Owner, ProcId};

use crate::m::{self, M};
use crate::runtime::Runtime;

/// Sends a CPU an interrupt.
pub(crate) fn send(m: &M, vector: Vector) {
    apic::send(Ipi::Fixed(vector), Target::One(m.block.apic_id()));
}

/// Sends an interrupt to those of the other CPUs that are wanted, `count` of them: at once if it is all there are, else one
/// by one. The caller stays on its CPU.
pub(crate) fn send_to_others(rt: &Runtime, me: &M, vector: Vector, count: u32, wanted: impl Fn(&M) -> bool) {
    if count as usize + 1 == rt.ms.len() && smp::broadcast(Ipi::Fixed(vector)) {
        return;
    }
    rt.ms.iter().filter(|m| m.index != me.index && wanted(m)).for_each(|m| send(m, vector));
}

/// The producer's second half: wakes an idle CPU if nobody looks for work already.
#[inline]
pub(crate) fn wake_one(rt: &'static Runtime, owner: Owner<'_>) {
    if let Some(proc) = rt.idle.wake_one() {
        wake_and_count(rt, owner, proc);
    }
}

#[inline(never)]
fn wake_and_count(rt: &'static Runtime, owner: Owner<'_>, proc: ProcId) {
    owner.counters().wakes.add(1);
    wake(rt, proc);
}

/// Wakes idle CPUs for what this one has got and cannot run now, although others look for work, if these are few.
pub(crate) fn wake_more(rt: &'static Runtime, owner: Owner<'_>) {
    for proc in (0..FAN_OUT).map_while(|_| rt.idle.wake_more()) {
        owner.counters().wakes.add(1);
        wake(rt, proc);
    }
}

/// The same for a handler, which counts nothing: it may have interrupted who counts. Whether anybody was woken.
pub(crate) fn wake_helper(rt: &'static Runtime) -> bool {
    let proc = rt.idle.wake_one();
    if let Some(proc) = proc {
        wake(rt, proc);
    }
    proc.is_some()
}

/// Ends the sleep of a P's CPU. An interrupt is sent only if the CPU has halted or is about to.
fn wake(rt: &'static Runtime, proc: ProcId) {
    wake_cpu(m::of_proc(rt, proc));
}

/// Ends the sleep of a CPU.
pub(crate) fn wake_cpu(m: &M) {
    match m.note.wake() {
        WakeAction::SendIpi => send(m, Vector::WAKE),
        WakeAction::Nothing => {}
    }
}
