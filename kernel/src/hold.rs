//! A CPU's side of a stop of the world: it is asked, it stops at the first instant at which it may, and it waits.
//!
//! The stop's interrupt comes at any instruction. If the interrupted code is a goroutine's and holds nothing, the CPU
//! stops right there: the goroutine stays in place with its registers in the handler's frame, nothing is rescheduled, and
//! stop and start both cost one cache line for each CPU. The handler cannot wait on its own stack, because a held CPU still takes
//! interrupts (wake, shootdown, NMI) and an interrupt stack is entered from its top each time: so the frame moves to the
//! kernel stack, which is free while a goroutine runs ([`machine::idt::Return`]). Else the request stays pending
//! and is taken when the last lock goes, on the goroutine's own stack, or at the next step of the scheduler loop
//! ([`crate::preempt`]).
//!
//! A CPU that waits spins for a moment, because stops are short, and then halts: one that spins takes the host's cores,
//! or a sibling's execution units, from those that still have to stop.

use machine::apic;
use machine::apic::icr::{Ipi, Target};
use machine::clock::{self, Nanos};
use machine::entry::Frame;
use machine::idt;
use machine::irq;
use machine::percpu;
use machine::vector::Vector;
use sched::world::{Entered, Left, MustStop};

use crate::m::{self, M, ask};
use crate::mark::{Doing, Mark};
use crate::runtime::Runtime;
use crate::tlb;

/// How long a stopped CPU spins before it halts, and one whose P has gone.
pub(crate) const SPIN: Nanos = Nanos(50_000);

pub(crate) fn init() {
    idt::register(Vector::STOP, interrupt);
}

/// The stop's interrupt: leaves a request, unless the stop is over already or this CPU has stopped.
fn interrupt(frame: &mut Frame) {
    let Some(m) = m::of_this_cpu() else { return };
    if let Some(must) = m::runtime_of(m).world.must_stop(m.index) {
        must.left().received(must.number(), clock::now(), frame.rip, || m.doing());
        percpu::request(ask::STOP);
    }
}

/// Stops this CPU if a stop is on, and comes back when it is over. On the kernel stack, with interrupts on.
pub(crate) fn hold(rt: &Runtime, m: &M) {
    while let Some(must) = rt.world.must_stop(m.index) {
        stop(must, Doing::Scheduling);
        wait(rt, m);
    }
    tlb::catch_up(rt, m);
}

/// Stops this CPU. It must wait for the end from here on. `doing`: what it was at, if the interrupt has not come yet.
#[inline]
pub(crate) fn stop(must: MustStop<'_, Mark>, doing: Doing) {
    must.left().acknowledged(must.number(), clock::now(), doing);
    must.stop();
}

/// Stops this CPU at the end of the handler of this vector. It must wait for the end from here on.
#[inline]
pub(crate) fn stop_in_handler(must: MustStop<'_, Mark>, vector: u64) {
    // The stop's handler has looked at the clock, unless it came for one that was over by then.
    if vector == u64::from(Vector::STOP.0) && must.left().time_of(must.number()) > Nanos(0) {
        must.stop();
    } else {
        stop(must, Doing::Running);
    }
}

/// Waits for the end of a stop. On the kernel stack, with interrupts on.
pub(crate) fn wait(rt: &Runtime, m: &M) {
    if clock::spin_at_most(SPIN, || !rt.world.is_held(m.index)) {
        return;
    }
    let note = rt.world.note(m.index);
    while rt.world.is_held(m.index) {
        irq::disable();
        if note.prepare() {
            irq::enable_and_halt();
        } else {
            irq::enable();
        }
        note.clear();
    }
}

/// Passes this CPU's gate inwards: from here on it may run goroutines, and stops are announced to it by interrupt. Waits
/// for the end of a stop that is on. On the kernel stack, with interrupts on.
pub(crate) fn enter(rt: &Runtime, m: &M) {
    while rt.world.enter(m.index) == Entered::Wait {
        wait(rt, m);
    }
    tlb::catch_up(rt, m);
}

/// Passes the gate outwards. `false`: a stop has begun meanwhile, which this CPU has followed; it must look for work
/// again before it sleeps. On the kernel stack, with interrupts on.
pub(crate) fn leave(rt: &Runtime, m: &M) -> bool {
    match rt.world.leave(m.index) {
        Left::Out => true,
        Left::Back => {
            hold(rt, m);
            false
        }
    }
}

/// Ends the stop: all CPUs go on.
pub(crate) fn release(rt: &Runtime) {
    rt.world.end(|cpu| {
        let id = rt.ms[cpu].block.apic_id();
        apic::send(Ipi::Fixed(Vector::WAKE), Target::One(id));
    });
}
