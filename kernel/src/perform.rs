//! Carries out what `sched` decided: the only caller of the context switch.
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

use machine::address::at;
use machine::clock;
use machine::context;
use machine::irq;
use machine::percpu::{self, Pinned};
use machine::vector::Vector;
use sched::note::WakeAction;
use sched::pick::{Picked, Place, Source, Turn};
use sched::table;
use sched::{GoIndex, Owner, Parked, Processor};

use crate::bury::bury;
use crate::goroutine::{Body, Goroutines};
use crate::m::{self, Here, M, Preemption, ask};
use crate::panic::{check, throw};
use crate::runtime::Runtime;
use crate::tick;
use crate::wake::{send, wake_one};

/// Why a goroutine left its CPU, and so what is to be done for it once it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum After {
    /// It goes to the end of the local queue.
    Yielded = 1,
    /// It waits, unless somebody has woken it already.
    Parked = 2,
    /// It has ended. Its slot and stack are free once its handle is gone too.
    Exited = 3,
    /// It goes to the global queue: its slice is over, or its P has gone.
    Preempted = 4,
    /// It waits, and the function in `M::mcall` is called on the kernel stack.
    Mcall = 5,
}

/// The word that the scheduler loop passes: nothing is to be done for it.
const SCHEDULER: u64 = 0;
/// The bits of a word that say why; the others are the address of the slot.
const WHY: u64 = 7;

const _: () =
    assert!(align_of::<table::Slot<Body>>() as u64 > WHY, "a slot's address leaves room for the reason");

impl After {
    /// As the word that a switch passes on.
    #[inline]
    fn encode(self, slot: &'static table::Slot<Body>) -> u64 {
        core::ptr::from_ref(slot).expose_provenance() as u64 | self as u64
    }
}

/// The slot in a word with this reason, which is known to the compiler: so it costs nothing to take it off.
///
/// # Safety
/// The word was made by [`After::encode`].
#[inline]
unsafe fn slot_in(word: u64, why: u64) -> &'static table::Slot<Body> {
    // SAFETY: the caller's contract; a slot never moves or goes.
    unsafe { &*at::<table::Slot<Body>>(word - why) }
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
/// another CPU, whose pin the caller then holds. [`check_may_leave`] comes before.
#[inline]
pub(crate) fn leave(
    pinned: &Pinned,
    m: &'static M,
    me: &'static table::Slot<Body>,
    after: After,
    next: Option<Picked>,
) {
    if let Some(picked) = next {
        begin_slice_for(m, &picked);
        arm_if_off(m);
        leave_for(pinned, me, after, (m.proc(), picked.g));
    } else {
        m::set_none_running(pinned);
        // SAFETY: the loop is suspended: it left for the goroutine that runs here now.
        let target = unsafe { m.g0().read() };
        // SAFETY: as in `leave_for`.
        let word = unsafe { context::switch(me.body().context(), target, after.encode(me)) };
        arrive(word, pinned);
    }
}

/// [`leave`], for a goroutine, with this CPU's P.
///
/// The timer is set to the slice's end if anybody else waits: whoever put him on the P's queue has seen to it ([`enqueue`]; [`leave`], behind
/// what comes from elsewhere; [`run`], for what came while no goroutine ran), and it stays so while he waits and a goroutine runs.
#[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
#[inline(always)]
pub(crate) fn leave_for(
    pinned: &Pinned,
    me: &'static table::Slot<Body>,
    after: After,
    (proc, next): (&'static Processor, GoIndex),
) {
    let target = start_running(pinned, proc, next);
    // SAFETY:
    // 1. The target is the suspended scheduler loop or a goroutine that was just moved to `Running`, which only
    //    its one owner can do.
    // 2. The place belongs to `me`, which nobody continues before `arrive` on the other side.
    // 3. `check_may_leave`: interrupts are on, and no lock is held.
    let word = unsafe { context::switch(me.body().context(), target, after.encode(me)) };
    arrive(word, pinned);
}

/// Runs a goroutine from the scheduler loop until one leaves this CPU for the loop.
pub(crate) fn run(pinned: &Pinned, m: &'static M, picked: &Picked) {
    // Nobody ran here: there is no slice to inherit.
    let fresh = Picked { inherit_time: false, ..*picked };
    begin_slice_for(m, &fresh);
    let target = start_running(pinned, m.proc(), fresh.g);
    arm_if_off(m);
    // SAFETY: as in `leave`; the loop's own context is saved in this CPU's M, where only this CPU looks.
    let word = unsafe { context::switch(m.g0(), target, SCHEDULER) };
    arrive(word, pinned);
}

/// Begins a time slice, unless the picked goroutine goes on with the one that runs.
fn begin_slice_for(m: &M, picked: &Picked) {
    if !picked.inherit_time {
        m.begin_slice(clock::rdtsc_unordered());
    }
}

/// Sees to it that the slice that runs ends, if anybody waits.
#[inline]
fn arm_if_off(m: &'static M) {
    if !tick::is_armed(m) {
        tick::arm_if_somebody_waits(m::runtime_of(m), m);
    }
}

/// Makes a picked goroutine, whose slice has begun, the running one and returns its context.
#[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
#[inline(always)]
fn start_running(pinned: &Pinned, proc: &'static Processor, g: GoIndex) -> context::Context {
    // SAFETY: it comes out of a queue, where `enqueue` has put the index of a slot.
    let slot = unsafe { Goroutines::slot_of(g) };
    check(slot.status().run());
    m::set_running(pinned, slot, g);
    proc.owner().counters().run.add(1);
    // SAFETY: the status says that it is ours, and acquired what the last CPU saved.
    unsafe { slot.body().context().read() }
}

/// Step 3, on the side that goes on, for the one that left.
#[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
#[inline(always)]
pub(crate) fn arrive(word: u64, pinned: &Pinned) {
    let why = word & WHY;
    if why == After::Parked as u64 {
        // SAFETY: `leave` made the word.
        let slot = unsafe { slot_in(word, After::Parked as u64) };
        match check(slot.status().finish_park()) {
            Parked::Waiting => {}
            Parked::MustEnqueue => enqueue(m::current(pinned), slot, Place::Next),
        }
    } else if why == After::Yielded as u64 {
        // SAFETY: `leave` made the word.
        let slot = unsafe { slot_in(word, After::Yielded as u64) };
        check(slot.status().yielded());
        // SAFETY: somebody yielded, and here the switch has led.
        enqueue(unsafe { m::after_switch(pinned) }, slot, Place::Back);
    } else if why == After::Exited as u64 {
        // SAFETY: `leave` made the word.
        let slot = unsafe { slot_in(word, After::Exited as u64) };
        // SAFETY: somebody ended, and here the switch has led.
        bury(unsafe { m::after_switch(pinned) }, slot);
    } else if word != SCHEDULER {
        arrive_for_others(word, pinned);
    }
}

/// The rest of [`arrive`].
#[inline(never)]
fn arrive_for_others(word: u64, pinned: &Pinned) {
    let m = m::current(pinned);
    let why = word & WHY;
    // SAFETY: `leave` made the word; the reason is the one in it.
    let slot = unsafe { slot_in(word, why) };
    if why == After::Preempted as u64 {
        check(slot.status().yielded());
        enqueue(m, slot, Place::Global);
    } else if why == After::Mcall as u64 {
        match check(slot.status().finish_park()) {
            Parked::Waiting => {}
            Parked::MustEnqueue => {
                throw(format_args!("mcall: somebody readied a goroutine that told nobody"))
            }
        }
        if let Some(function) = m.take_mcall() {
            function(slot.handle());
        }
    } else {
        throw(format_args!("a switch passed the reason {why}"));
    }
}

/// The slice of the goroutine that calls is over: others have their turn, if there are any. It may come back on
/// another CPU.
pub(crate) fn preempt(pinned: &Pinned) {
    let (rt, m) = (m::runtime(), m::current(pinned));
    let Some(me) = m.running() else { return };
    let Some(end) = tick::slice(m).end() else { return };
    let next = next_after_slice(rt, m, end.turn);
    // Somebody may wait in a queue where another CPU is: then the slice stays over.
    if next.is_none() && tick::waits(rt, m) {
        return tick::set_for_slice(m);
    }
    // Who was due may have been stolen: then whoever comes has come by its turn.
    let is_lent = end.turn == Turn::Due && next.is_some_and(|next| next.source == Source::Next);
    let now = clock::rdtsc_unordered();
    if is_lent {
        tick::lend_slice(m, now);
    } else {
        // If nobody else is there, it goes on in a new one.
        m.begin_slice(now);
    }
    tick::set_for_slice(m);
    let Some(mut next) = next else { return };
    // The slice that began above.
    next.inherit_time = true;
    m.proc().owner().counters().preempted.add(1);
    check_may_leave(m);
    let after = if end.place == Place::Global { After::Preempted } else { After::Yielded };
    leave(pinned, m, me, after, Some(next));
}

/// The P of the goroutine that calls has gone away: it goes on elsewhere. `false`: it is locked to this CPU, and stays.
pub(crate) fn give_away(pinned: &Pinned) -> bool {
    let m = m::current(pinned);
    let free = m.running().filter(|me| me.body().wired_to().is_none());
    if let Some(me) = free {
        check_may_leave(m);
        leave(pinned, m, me, After::Preempted, None);
    }
    free.is_some()
}

/// The goroutine that comes after the one that calls, which is about to leave, and this CPU's P.
///
/// It is what [`check_may_leave`] and [`next_local`] give in almost all cases. Its slice has begun. The caller holds one pin.
#[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
#[inline(always)]
pub(crate) fn usual_successor(pinned: &Pinned, m: &'static M) -> Option<(&'static Processor, GoIndex)> {
    let proc = m.usual()?;
    if !percpu::is_alone_and_unasked(pinned) || !irq::enabled() {
        return None;
    }
    let owner = proc.owner();
    if let Some(heir) = sched::pick::inherit(owner) {
        return Some((proc, heir.g));
    }
    let next = sched::pick::next_in_ring(owner)?;
    m.begin_slice(clock::rdtsc_unordered());
    Some((proc, next))
}

/// The same when nothing was found that way.
#[inline(never)]
pub(crate) fn unusual_successor(m: &'static M) -> Option<Picked> {
    check_may_leave(m);
    next_local(m::runtime_of(m), m)
}

/// Leaves the goroutine `me`, which parks, for whatever comes next, or for the scheduler loop. The caller holds one
/// pin.
#[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
#[inline(always)]
pub(crate) fn leave_parking(pinned: &Pinned, m: &'static M, me: &'static table::Slot<Body>) {
    match usual_successor(pinned, m) {
        Some(next) => {
            next.0.owner().counters().parks.add(1);
            leave_for(pinned, me, After::Parked, next);
        }
        None => leave_parking_unusually(pinned, m, me),
    }
}

#[inline(never)]
fn leave_parking_unusually(pinned: &Pinned, m: &'static M, me: &'static table::Slot<Body>) {
    let next = unusual_successor(m);
    m.proc().owner().counters().parks.add(1);
    leave(pinned, m, me, After::Parked, next);
}

/// Leaves the goroutine that calls, which has ended, for whatever comes next, or for the scheduler loop. The caller holds one pin.
#[expect(clippy::inline_always, reason = "a call costs a fifth of the whole")]
#[inline(always)]
pub(crate) fn leave_for_good(pinned: &Pinned, Here { m, slot: me }: Here) -> ! {
    let Some((proc, next)) = usual_successor(pinned, m) else { leave_for_good_unusually(pinned, m, me) };
    let target = start_running(pinned, proc, next);
    // SAFETY: as in `leave_for`; nobody continues a dead goroutine before `launch` has given it a new context.
    unsafe { context::switch_for_good(target, After::Exited.encode(me)) }
}

#[inline(never)]
fn leave_for_good_unusually(pinned: &Pinned, m: &'static M, me: &'static table::Slot<Body>) -> ! {
    let next = unusual_successor(m);
    leave(pinned, m, me, After::Exited, next);
    throw(format_args!("a goroutine that has ended was continued"))
}

/// The goroutine that this CPU runs next, if there is one close by.
///
/// Those that are locked to it come first in every second pick, however many they are, and the P's own order in the others.
/// A CPU whose P is not active runs the former only.
pub(crate) fn next_local(rt: &'static Runtime, m: &'static M) -> Option<Picked> {
    if m.block.requests() & ask::PREEMPT != 0 {
        // Asked of one that could not answer, for want of stack: two of that kind would hand the slice on for ever.
        return next_after_slice(rt, m, Turn::Alternate);
    }
    next_by(rt, m, |owner| {
        let heir = if rt.preemption == Preemption::On { sched::pick::inherit(owner) } else { None };
        heir.or_else(|| sched::pick::next_local(owner, &rt.sources()))
    })
}

/// The same at the end of a time slice, which nobody inherits.
fn next_after_slice(rt: &'static Runtime, m: &'static M, turn: Turn) -> Option<Picked> {
    next_by(rt, m, |owner| sched::pick::next_after_slice(owner, &rt.sources(), turn))
}

/// `own` is the P's own order.
fn next_by(
    rt: &'static Runtime,
    m: &'static M,
    own: impl FnOnce(Owner<'_>) -> Option<Picked>,
) -> Option<Picked> {
    if !m.is_active() {
        return next_wired(rt, m);
    }
    let first = if m.take_wired_turn() { next_wired(rt, m) } else { None };
    first.or_else(|| own(m.proc().owner())).or_else(|| next_wired(rt, m))
}

fn next_wired(rt: &'static Runtime, m: &'static M) -> Option<Picked> {
    if m.wired_len.is_empty() {
        return None;
    }
    let mut wired = m.wired.lock();
    let chain = wired.grab(&rt.table, 1, 1)?;
    m.note_wired(&wired);
    drop(wired);
    let (g, _) = chain.split_first(&rt.table);
    Some(Picked { g, inherit_time: false, source: Source::Wired })
}

/// Puts a goroutine that was just made runnable on this CPU's queue, or on that of the CPU that it is locked to, and
/// wakes a CPU if one sleeps.
#[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
#[inline(always)]
pub(crate) fn enqueue(m: &'static M, slot: &'static table::Slot<Body>, place: Place) {
    if place != Place::Global
        && let Some(proc) = m.usual()
        && let Some(g) = slot.body().index_if_free()
    {
        let owner = proc.owner();
        let sources = || m::runtime_of(m).sources();
        if place == Place::Next {
            sched::pick::enqueue_next(owner, sources, g);
        } else {
            sched::pick::enqueue_back(owner, sources, g);
        }
        wake_one(m::runtime_of(m), owner);
        // Only now: before, the timer's handler may have found nobody and turned the timer off.
        if !tick::is_armed(m) {
            arm_for_those_who_wait(m);
        }
        return;
    }
    enqueue_unusually(m, slot, place);
}

/// Somebody was queued on this CPU, whose timer is off.
#[inline(never)]
fn arm_for_those_who_wait(m: &'static M) {
    if m.running().is_some() {
        tick::somebody_waits(m::runtime_of(m), m);
    }
}

/// The rest of [`enqueue`].
#[inline(never)]
fn enqueue_unusually(m: &'static M, slot: &'static table::Slot<Body>, place: Place) {
    let rt = m::runtime_of(m);
    if let Some(home) = slot.body().wired_to() {
        return enqueue_wired(rt, m, &rt.ms[home], slot.index());
    }
    let owner = m.proc().owner();
    // What lies on the queue of a P that is not active is found by nobody.
    let place = if m.is_active() { place } else { Place::Global };
    sched::pick::enqueue(owner, &rt.sources(), slot.index(), place);
    wake_one(rt, owner);
    if m.current().is_some() || !m.is_active() {
        somebody_waits(rt, m);
    }
}

/// Somebody waits whom this CPU can reach: its slice shall end. A CPU whose P is not active has none; then it is the boot
/// CPU's, which always has a P, and whose timer reminds the others.
pub(crate) fn somebody_waits(rt: &'static Runtime, m: &M) {
    if m.is_active() {
        tick::somebody_waits(rt, m);
    } else if !tick::is_armed_for_others(&rt.ms[0]) {
        send(&rt.ms[0], Vector::RESCHEDULE);
    }
}

/// Only its own CPU can run it: that one is woken, or told that somebody waits for it.
fn enqueue_wired(rt: &'static Runtime, m: &M, home: &'static M, g: GoIndex) {
    let first = {
        let mut wired = home.wired.lock();
        wired.push(&rt.table, g);
        home.note_wired(&wired);
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
