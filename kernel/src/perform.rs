//! Carries out what `sched` decided: the only caller of the context switch and the only sender of wake-ups.
//!
//! # A switch, step by step
//!
//! 1. The side that leaves is pinned and holds no lock. It has said why it leaves ([`After`]), and the next
//!    context is chosen: a goroutine, now `Running`, or the scheduler loop on the kernel stack.
//! 2. `switch` saves the one and continues the other. The leaver's stack is free of its CPU from here on.
//! 3. The side that goes on gets the leaver's reason and finishes for it ([`arrive`]): only now may others see the
//!    leaver as runnable, waiting or dead. If the leaver did this itself, another CPU could continue it while
//!    it still stood on its stack.
//!
//! The pin passes from one side to the other, so the CPU's count is even again when the arriving side drops it.

use machine::apic;
use machine::apic::icr::{Ipi, Target};
use machine::context;
use machine::percpu::Pinned;
use machine::vector::Vector;
use sched::list::Chain;
use sched::note::WakeAction;
use sched::pick::{Picked, Place};
use sched::{GoIndex, Owner, Parked, ProcId};

use crate::m::{self, M};
use crate::panic::{check, throw};
use crate::runtime::Runtime;

/// Why a goroutine left its CPU, and so what is to be done for it once it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing: the scheduler loop left, not a goroutine.
    Scheduler,
    /// It goes to the end of the local queue.
    Yielded(GoIndex),
    /// It waits, unless somebody has woken it already.
    Parked(GoIndex),
    /// Its slot and stack are free.
    Exited(GoIndex),
}

impl After {
    /// As the word that a switch passes on: the kind above, the slot below.
    fn encode(self) -> u64 {
        let (kind, g) = match self {
            Self::Scheduler => return 0,
            Self::Yielded(g) => (1, g),
            Self::Parked(g) => (2, g),
            Self::Exited(g) => (3, g),
        };
        kind << 32 | u64::from(g.get())
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the slot")]
    fn decode(word: u64) -> Self {
        match (word >> 32, GoIndex::new(word as u32)) {
            (0, _) => Self::Scheduler,
            (1, Some(g)) => Self::Yielded(g),
            (2, Some(g)) => Self::Parked(g),
            (3, Some(g)) => Self::Exited(g),
            _ => throw(format_args!("a switch passed the word {word:#x}")),
        }
    }
}

/// Leaves the goroutine `me` for `next`, or for the scheduler loop, and returns when it goes on: perhaps on
/// another CPU, whose pin the caller then holds.
pub(crate) fn leave(pinned: &Pinned, m: &'static M, me: GoIndex, after: After, next: Option<Picked>) {
    debug_assert_eq!(m.block.locks(), 1, "only the pin is held at a switch");
    let rt = m::runtime();
    let save = rt.slot(me).body().context();
    let target = if let Some(picked) = next {
        start_running(rt, m, &picked)
    } else {
        m.set_current(None);
        // SAFETY: the loop is suspended: it left for the goroutine that runs here now.
        unsafe { m.g0().read() }
    };
    // SAFETY:
    // 1. The target is the suspended scheduler loop or a goroutine that was just moved to `Running`, which only
    //    its one owner can do.
    // 2. `save` belongs to `me`, which nobody continues before `arrive` on the other side.
    // 3. Goroutines run with interrupts on, and the assertion above covers locks.
    let word = unsafe { context::switch(save, target, after.encode()) };
    arrive(word, pinned);
}

/// Runs a goroutine from the scheduler loop until one leaves this CPU for the loop.
pub(crate) fn run(pinned: &Pinned, m: &'static M, picked: &Picked) {
    let target = start_running(m::runtime(), m, picked);
    // SAFETY: as in `leave`; the loop's own context is saved in this CPU's M, where only this CPU looks.
    let word = unsafe { context::switch(m.g0(), target, After::Scheduler.encode()) };
    arrive(word, pinned);
}

/// Makes a picked goroutine the running one and returns its context.
fn start_running(rt: &'static Runtime, m: &'static M, picked: &Picked) -> context::Context {
    let slot = rt.slot(picked.g);
    check(slot.status().run());
    m.set_current(Some(picked.g));
    m.proc().owner().counters().run.add(1);
    // SAFETY: the status says that it is ours, and acquired what the last CPU saved.
    unsafe { slot.body().context().read() }
}

/// Step 3, on the side that goes on, for the one that left.
pub(crate) fn arrive(word: u64, pinned: &Pinned) {
    let rt = m::runtime();
    match After::decode(word) {
        After::Scheduler => {}
        After::Yielded(g) => {
            check(rt.slot(g).status().yielded());
            enqueue(rt, m::current(pinned), g, Place::Back);
        }
        After::Parked(g) => match check(rt.slot(g).status().finish_park()) {
            Parked::Waiting => {}
            Parked::MustEnqueue => enqueue(rt, m::current(pinned), g, Place::Next),
        },
        After::Exited(g) => {
            let owner = m::current(pinned).proc().owner();
            check(rt.slot(g).status().exit());
            owner.counters().exited.add(1);
            keep_dead(rt, owner.put_free(&rt.table, g));
        }
    }
}

/// Puts a goroutine that was just made runnable on this CPU's queue, and wakes a CPU if one sleeps.
pub(crate) fn enqueue(rt: &'static Runtime, m: &'static M, g: GoIndex, place: Place) {
    let owner = m.proc().owner();
    sched::pick::enqueue(&owner, &rt.sources(), g, place);
    wake_one(rt, &owner);
}

/// Puts spilled dead goroutines on the shared list.
pub(crate) fn keep_dead(rt: &'static Runtime, spill: Option<Chain>) {
    if let Some(batch) = spill {
        rt.free.lock().put(&rt.table, batch);
    }
}

/// The producer's second half: wakes an idle CPU if nobody looks for work already.
pub(crate) fn wake_one(rt: &'static Runtime, owner: &Owner<'_>) {
    if let Some(proc) = rt.idle.wake_one() {
        owner.counters().wakes.add(1);
        wake(rt, proc);
    }
}

/// Ends the sleep of a P's CPU. An interrupt is sent only if the CPU has halted or is about to.
fn wake(rt: &'static Runtime, proc: ProcId) {
    let m = m::of_proc(rt, proc);
    match m.note.wake() {
        WakeAction::SendIpi => apic::send(Ipi::Fixed(Vector::WAKE), Target::One(m.block.apic_id())),
        WakeAction::Nothing => {}
    }
}
