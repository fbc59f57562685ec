//! The duties of Go's sysmon, without a CPU of its own: they are done by whichever CPU's timer fires.
//!
//! | Go's sysmon | here |
//! |---|---|
//! | ends time slices | each CPU's own timer ([`crate::tick`]); here only for a CPU that does not know that somebody waits: the global queue is everybody's |
//! | retakes the P of an M that does not come back | a CPU that does not take interrupts cannot give its P; thieves take what is queued on it, and others run its timers ([`crate::timers`]). If it takes interrupts and cannot answer, it asks them to |
//! | polls the network when nobody did | devices interrupt ([`crate::input`]) |
//! | forces a collection | there is no collector |
//! | prints `schedtrace` | [`crate::schedtrace`], on the boot CPU |
//!
//! The handlers take no lock and ready nobody; they leave requests ([`ask`]).

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use machine::clock::{self, Nanos};
use machine::entry::Frame;
use machine::idt;
use machine::percpu;
use machine::vector::Vector;
use sched::note::WakeAction;
use sched::sync::Padded;

use crate::m::{self, M, Preemption, ask};
use crate::runtime::{self, Runtime};
use crate::schedtrace;
use crate::tick::{self, SLICE};
use crate::timers;
use crate::wake;

/// The duties are done once in this time at most.
const PERIOD: Nanos = SLICE;
/// A timer that is late by this much has been forgotten by its CPU, which does not take interrupts.
pub(crate) const OVERDUE: Nanos = Nanos(2 * SLICE.0);

/// When the duties were last done.
static LAST: Padded<AtomicU64> = Padded(AtomicU64::new(0));
/// Counts those who were asked for help, so that each has its turn.
static TURN: Padded<AtomicUsize> = Padded(AtomicUsize::new(0));

/// Registers the interrupts that make a CPU look at what it runs.
pub(crate) fn init() {
    idt::register(Vector::TIMER, timer);
    idt::register(Vector::RESCHEDULE, reschedule);
}

/// The timer has fired.
fn timer(_: &mut Frame) {
    let Some((rt, m)) = runtime::try_get().zip(m::of_this_cpu()) else { return };
    let now = clock::now();
    if m.earliest.get() <= now.0 {
        if m.block.requests() & ask::TIMERS != 0 {
            // It was asked for when the timer fired last, and not answered: somebody else shall do it.
            if !wake::wake_helper(rt) && timers::is_late(m, now, OVERDUE) {
                ask_busy(rt, m);
            }
        }
        ask_even_asleep(m, ask::TIMERS);
    }
    if schedtrace::is_due(m, now) {
        ask_even_asleep(m, ask::TRACE);
    }
    tick::end_slice(rt, m);
    do_duties(rt, m, now);
    tick::set(m, now);
}

/// Nobody is idle: asks one of the busy CPUs to run this one's timers. It may be one that cannot answer either, so the next
/// time, when this CPU's timer fires again, it is another one.
fn ask_busy(rt: &Runtime, m: &M) {
    // Relaxed: any number will do.
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % rt.ms.len();
    let (before, after) = rt.ms.split_at(turn);
    let helper = after.iter().chain(before).find(|other| other.index != m.index && other.is_active());
    if let Some(helper) = helper {
        wake::send(helper, Vector::RESCHEDULE);
    }
}

/// Leaves a request that this CPU has to see even if it sleeps. It is this CPU that was woken, so no interrupt is needed.
pub(crate) fn ask_even_asleep(m: &M, request: u32) {
    percpu::request(request);
    let (WakeAction::SendIpi | WakeAction::Nothing) = m.note.wake();
}

/// Somebody wants this CPU to look again at what it runs, at its own timers, or at those of others.
fn reschedule(_: &mut Frame) {
    let Some((rt, m)) = runtime::try_get().zip(m::of_this_cpu()) else { return };
    let now = clock::now();
    if rt.preemption == Preemption::On && m.current().is_some() {
        // Relaxed: this CPU's own.
        m.slice_armed.store(true, Ordering::Relaxed);
        tick::end_slice(rt, m);
    }
    help(rt, m, now);
    tick::set(m, now);
}

/// If timers of others are late, this CPU shall run them.
fn help(rt: &Runtime, m: &M, now: Nanos) {
    if rt.ms.iter().any(|other| other.index != m.index && timers::is_late(other, now, OVERDUE)) {
        ask_even_asleep(m, ask::TIMERS);
    }
}

/// Does the duties if nobody has done so of late.
fn do_duties(rt: &Runtime, m: &M, now: Nanos) {
    let last = LAST.load(Ordering::Relaxed);
    let due = now.0 >= last + PERIOD.0;
    // Relaxed: it only keeps two CPUs from doing the same.
    if due && LAST.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        remind(rt, m);
        help(rt, m, now);
    }
}

/// Tells CPUs whose slice is over that somebody waits. For what is in their own queues they know it; for the global queue
/// only who has put something there does.
fn remind(rt: &Runtime, m: &M) {
    if rt.preemption == Preemption::Off {
        return;
    }
    for other in rt.ms.iter().filter(|other| other.index != m.index && other.is_active()) {
        let runs = other.current().is_some();
        if runs && tick::waits(rt, other) && tick::left_of_slice(other) == Nanos(0) {
            wake::send(other, Vector::RESCHEDULE);
        }
    }
}
