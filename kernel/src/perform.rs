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
use machine::clock;
use machine::context;
use machine::irq;
use machine::percpu::Pinned;
use machine::smp;
use machine::vector::Vector;
use sched::join::Slot;
use sched::list::Chain;
use sched::note::WakeAction;
use sched::pick::{Picked, Place, Source};
use sched::{GoIndex, Owner, Parked, ProcId};

use crate::m::{self, M, ask};
use crate::panic::{check, throw};
use crate::runtime::Runtime;
use crate::tick;

/// Why a goroutine left its CPU, and so what is to be done for it once it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing: the scheduler loop left, not a goroutine.
    Scheduler,
    /// It goes to the end of the local queue.
    Yielded(GoIndex),
    /// It goes to the global queue: its slice is over, or its P has gone.
    Preempted(GoIndex),
    /// It waits, unless somebody has woken it already.
    Parked(GoIndex),
    /// It has ended. Its slot and stack are free once its handle is gone too.
    Exited(GoIndex),
    /// It waits, and the function in `M::mcall` is called on the kernel stack.
    Mcall(GoIndex),
}

impl After {
    /// As the word that a switch passes on: the kind above, the slot below.
    fn encode(self) -> u64 {
        let (kind, g) = match self {
            Self::Scheduler => return 0,
            Self::Yielded(g) => (1, g),
            Self::Parked(g) => (2, g),
            Self::Exited(g) => (3, g),
            Self::Preempted(g) => (4, g),
            Self::Mcall(g) => (5, g),
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
            (4, Some(g)) => Self::Preempted(g),
            (5, Some(g)) => Self::Mcall(g),
            _ => throw(format_args!("a switch passed the word {word:#x}")),
        }
    }
}

/// Throws when the goroutine that runs here may not leave the CPU. The caller holds one pin.
pub(crate) fn check_may_leave(m: &M) {
    if m.block.locks() != 1 {
        throw(format_args!("schedule: holding locks"));
    }
    if !irq::enabled() {
        throw(format_args!("schedule: interrupts are off"));
    }
}

/// Leaves the goroutine `me` for `next`, or for the scheduler loop, and returns when it goes on: perhaps on
/// another CPU, whose pin the caller then holds.
pub(crate) fn leave(pinned: &Pinned, m: &'static M, me: GoIndex, after: After, next: Option<Picked>) {
    check_may_leave(m);
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
    // 3. The check above: interrupts are on, and no lock is held.
    let word = unsafe { context::switch(save, target, after.encode()) };
    arrive(word, pinned);
}

/// Runs a goroutine from the scheduler loop until one leaves this CPU for the loop.
pub(crate) fn run(pinned: &Pinned, m: &'static M, picked: &Picked) {
    // Nobody ran here: there is no slice to inherit.
    let fresh = Picked { inherit_time: false, ..*picked };
    let target = start_running(m::runtime(), m, &fresh);
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
    if !picked.inherit_time {
        m.begin_slice(clock::rdtsc_unordered());
    }
    if tick::waits(rt, m) {
        tick::somebody_waits(rt, m);
    }
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
        After::Preempted(g) => {
            check(rt.slot(g).status().yielded());
            enqueue(rt, m::current(pinned), g, Place::Global);
        }
        After::Parked(g) => match check(rt.slot(g).status().finish_park()) {
            Parked::Waiting => {}
            Parked::MustEnqueue => enqueue(rt, m::current(pinned), g, Place::Next),
        },
        After::Mcall(g) => {
            match check(rt.slot(g).status().finish_park()) {
                Parked::Waiting => {}
                Parked::MustEnqueue => {
                    throw(format_args!("mcall: somebody readied a goroutine that told nobody"))
                }
            }
            if let Some(function) = m::current(pinned).take_mcall() {
                function(rt.table.handle(g));
            }
        }
        After::Exited(g) => {
            let owner = m::current(pinned).proc().owner();
            let slot = rt.slot(g);
            slot.body().unwire();
            check(slot.status().exit());
            owner.counters().exited.add(1);
            settle(rt, &owner, g, slot.body().join.leave());
        }
    }
}

/// The slice of the goroutine that calls is over: others have their turn, if there are any. It may come back on
/// another CPU.
pub(crate) fn preempt(pinned: &Pinned) {
    let (rt, m) = (m::runtime(), m::current(pinned));
    let Some(me) = m.current() else { return };
    // If nobody else is there, it goes on in a new one.
    m.begin_slice(clock::rdtsc_unordered());
    if let Some(next) = next_after_slice(rt, m) {
        m.proc().owner().counters().preempted.add(1);
        leave(pinned, m, me, After::Preempted(me), Some(next));
    }
}

/// The P of the goroutine that calls has gone away: it goes on elsewhere. `false`: it is locked to this CPU, and stays.
pub(crate) fn give_away(pinned: &Pinned) -> bool {
    let m = m::current(pinned);
    let free = m.current().filter(|me| m::runtime().slot(*me).body().wired_to().is_none());
    if let Some(me) = free {
        leave(pinned, m, me, After::Preempted(me), None);
    }
    free.is_some()
}

/// The goroutine that this CPU runs next, if there is one close by.
///
/// Those that are locked to it come first in every second pick, however many they are, and the P's own order in the others.
/// A CPU whose P is not active runs the former only.
pub(crate) fn next_local(rt: &'static Runtime, m: &'static M) -> Option<Picked> {
    if m.block.requests() & ask::PREEMPT != 0 {
        // Asked of one that could not answer, for want of stack: two of that kind would hand the slice on for ever.
        return next_after_slice(rt, m);
    }
    next_by(rt, m, |owner| {
        let heir = if rt.preemption { sched::pick::inherit(owner) } else { None };
        heir.or_else(|| sched::pick::next_local(owner, &rt.sources()))
    })
}

/// The same at the end of a time slice, which nobody inherits.
fn next_after_slice(rt: &'static Runtime, m: &'static M) -> Option<Picked> {
    next_by(rt, m, |owner| sched::pick::next_after_slice(owner, &rt.sources()))
}

/// `own` is the P's own order.
fn next_by(
    rt: &'static Runtime,
    m: &'static M,
    own: impl FnOnce(&Owner<'_>) -> Option<Picked>,
) -> Option<Picked> {
    if !m.is_active() {
        return next_wired(rt, m);
    }
    let first = if m.take_wired_turn() { next_wired(rt, m) } else { None };
    first.or_else(|| own(&m.proc().owner())).or_else(|| next_wired(rt, m))
}

fn next_wired(rt: &'static Runtime, m: &'static M) -> Option<Picked> {
    if m.wired_len.is_empty() {
        return None;
    }
    let chain = m.wired.lock().grab(&rt.table, 1, 1)?;
    let (g, _) = chain.split_first(&rt.table);
    Some(Picked { g, inherit_time: false, source: Source::Wired })
}

/// Puts a goroutine that was just made runnable on this CPU's queue, or on that of the CPU that it is locked to, and
/// wakes a CPU if one sleeps.
pub(crate) fn enqueue(rt: &'static Runtime, m: &'static M, g: GoIndex, place: Place) {
    if let Some(home) = rt.slot(g).body().wired_to() {
        return enqueue_wired(rt, m, &rt.ms[home], g);
    }
    let owner = m.proc().owner();
    // What lies on the queue of a P that is not active is found by nobody.
    let place = if m.is_active() { place } else { Place::Global };
    sched::pick::enqueue(&owner, &rt.sources(), g, place);
    wake_one(rt, &owner);
    if m.current().is_some() || !m.is_active() {
        somebody_waits(rt, m);
    }
}

/// Somebody waits whom this CPU can reach: its slice shall end. A CPU whose P is not active has none; then it is the boot
/// CPU's, which always has a P, and whose timer reminds the others.
pub(crate) fn somebody_waits(rt: &'static Runtime, m: &M) {
    if m.is_active() {
        tick::somebody_waits(rt, m);
    } else {
        send(&rt.ms[0], Vector::RESCHEDULE);
    }
}

/// Only its own CPU can run it: that one is woken, or told that somebody waits for it.
fn enqueue_wired(rt: &'static Runtime, m: &M, home: &'static M, g: GoIndex) {
    let first = {
        let mut wired = home.wired.lock();
        wired.push(&rt.table, g);
        wired.len() == 1
    };
    if m.index == home.index {
        if m.current().is_some() {
            tick::somebody_waits(rt, m);
        }
        return;
    }
    match home.note.wake() {
        WakeAction::SendIpi => send(home, Vector::WAKE),
        WakeAction::Nothing if first => send(home, Vector::RESCHEDULE),
        WakeAction::Nothing => {}
    }
}

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

/// Frees the slot of a dead goroutine, if that falls to the caller.
pub(crate) fn settle(rt: &'static Runtime, owner: &Owner<'_>, g: GoIndex, whose: Slot) {
    match whose {
        Slot::Free => keep_dead(rt, owner.put_free(&rt.table, g)),
        Slot::Kept => {}
    }
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
