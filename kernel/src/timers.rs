//! The CPUs' timers: what is to happen at a time.
//!
//! An event is in the heap of the CPU that it was added on, and that CPU's timer is set to the earliest of them. The
//! handler only asks; the heap is emptied of what is due by the code that the CPU runs: the interrupted goroutine, or
//! the scheduler loop ([`run_due`]).
//!
//! # Where an event stays
//!
//! In the heap that it was added to, until it is due or taken out: so a [`TimerKey`] names a heap and a place in it,
//! and no look-up has to follow an event. A P may go away ([`crate::resize`]); its heap does not, because it belongs to
//! the CPU. A CPU whose P is not active takes timer interrupts all the same: its scheduler loop runs what is due, and
//! readies goroutines into the global queue ([`crate::perform::enqueue`]). What comes again, the event of a ticker, is
//! put back where it was ([`put_back`]), whoever has run it: that needs no memory, which that CPU's heap may not have.
//!
//! # When the CPU does not answer
//!
//! Its goroutine may be pinned, or have no stack left to be interrupted on, or the CPU may have interrupts off. Others
//! then run what is late ([`run_late`]):
//!
//! * a CPU that has looked for work everywhere and found none, before it goes idle: nobody scans the heaps while there
//!   is work, and at most half of the busy CPUs look at a time;
//! * the timer's handler wakes such a CPU when the time it had asked for has come and gone without an answer
//!   ([`crate::sysmon`]);
//! * if none is idle, the handler asks busy ones, one after the other, from when the timer is late by two slices;
//! * a CPU whose own timer fires, at most once in 10 ms for all of them.
//!
//! A CPU that has interrupts off can ask nobody. Then it is up to the last of these, and to CPUs that go idle.
//!
//! # In which order, and how much at a time
//!
//! One CPU at a time runs what is due in a heap (`M::timers_run`), so events happen in the order of their times, and
//! those of equal times in the order in which they were added: not only leave the heap so. Who comes while another is
//! at it does not wait, and looks again later.
//!
//! Whoever runs what is due is pinned, and a stop of the world waits for it. So it is done in portions of [`PORTION`];
//! what is left is asked for again.
//!
//! # Deadlocks
//!
//! An event in a heap is what [`sched::deadlock`] takes for an entry in a queue. So an event is in its heap before the
//! goroutine that it is for has parked, and what it wakes is queued by the CPU that has taken it out.

use core::sync::atomic::Ordering;

use machine::clock::{self, Nanos};
use machine::percpu::Pinned;
use machine::vector::Vector;
use sched::GoRef;
use sched::claim::{Claimed, Ticket};
use sched::timers::NEVER;

use crate::event::{Event, Expired, TimerKey};
use crate::m::{self, M};
use crate::panic::fatal;
use crate::park::goready;
use crate::runtime::Runtime;
use crate::tick;
use crate::wake;

/// Events that are run before others have their turn.
const PORTION: u32 = 256;

/// Adds an event to this CPU's heap. For the last of all times, and beyond, it is dropped: that time does not come.
///
/// Whoever finds it due may run it at once. Takes locks from [`Rank::Timers`](machine::lock::Rank) on.
///
/// Ends the machine when there is no memory for it.
pub(crate) fn add(when: Nanos, event: Event) -> Option<TimerKey> {
    if when.0 == NEVER {
        return None;
    }
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    let mut timers = m.timers.lock();
    let before = m.earliest.get();
    let added = timers.add(when.0, event);
    drop(timers);
    let key = match added {
        Ok(key) => TimerKey { cpu: m.index, key },
        Err(error) => fatal(format_args!("a timer cannot be set: {error}")),
    };
    if when.0 < before {
        tick::rearm(m);
    }
    Some(key)
}

/// Puts the event that has expired back for a later time, under its key. For the last of all times, and beyond, it is
/// dropped.
///
/// Only for whoever runs it, and once. Takes a lock of [`Rank::Timers`](machine::lock::Rank). Does not allocate.
pub(crate) fn put_back(expired: &Expired, when: Nanos, event: Event) {
    if when.0 == NEVER {
        return;
    }
    let pinned = Pinned::new();
    let m = &m::runtime().ms[expired.key.cpu];
    let mut timers = m.timers.lock();
    let before = m.earliest.get();
    timers.put_back(expired.key.key, when.0, event);
    drop(timers);
    if when.0 >= before {
        return;
    }
    if m.index == m::current(&pinned).index {
        tick::rearm(m);
    } else {
        // Its timer may be set to `before` already. The handler sets it anew.
        wake::send(m, Vector::RESCHEDULE);
    }
}

/// Takes out an event before its time. `None`: it is due, and somebody has taken it out to run it, or has run it.
///
/// The CPU's timer stays set: it costs at most one interrupt for nothing. Takes a lock of
/// [`Rank::Timers`](machine::lock::Rank).
pub(crate) fn remove(key: TimerKey) -> Option<Event> {
    m::runtime().ms[key.cpu].timers.lock().remove(key.key)
}

/// Sets a deadline for a wait that was begun with [`Claim::begin`](sched::claim::Claim::begin), for whoever prepares to
/// park.
///
/// When the time comes, and nobody has claimed the goroutine before, it is readied. `None`: that time does not come.
pub(crate) fn add_timeout(when: Nanos, g: GoRef, ticket: Ticket) -> Option<TimerKey> {
    add(when, Event::Timeout(g, ticket))
}

/// Takes a deadline back, when the wait is over. `false`: it has come, and whoever runs it claims in vain.
pub(crate) fn remove_timeout(key: TimerKey) -> bool {
    remove(key).is_some()
}

/// Runs what is due in the heap of a CPU, but not more than a portion. Whether something is left.
///
/// On the kernel stack, with interrupts on.
pub(crate) fn run_due(rt: &Runtime, of: &M) -> bool {
    if of.earliest.get() > clock::now().0 {
        return false;
    }
    // Acquire: pairs with the Release below; what the last one has run happened before.
    if of.timers_run.swap(true, Ordering::Acquire) {
        return true;
    }
    let more = run_portion(rt, of);
    of.timers_run.store(false, Ordering::Release);
    more
}

fn run_portion(rt: &Runtime, of: &M) -> bool {
    for _ in 0..PORTION {
        let now = clock::now().0;
        if of.earliest.get() > now {
            return false;
        }
        let due = of.timers.lock().take_due(now);
        let Some(due) = due else { return false };
        let expired = Expired { key: TimerKey { cpu: of.index, key: due.key }, when: Nanos(due.when) };
        run(rt, due.event, expired);
    }
    of.earliest.get() <= clock::now().0
}

fn run(rt: &Runtime, event: Event, expired: Expired) {
    match event {
        Event::Sleeper(g) => goready(g),
        Event::Timeout(g, ticket) => match rt.slot(g.index).body().claim.claim(ticket) {
            Claimed::Yes => goready(g),
            Claimed::No => return,
        },
        Event::Timer(timer) => timer.expire(expired),
    }
    let pinned = Pinned::new();
    tick::somebody_is_due(rt, m::current(&pinned));
}

/// Runs what is late by more than this in the heaps of other CPUs. Whether there was any.
pub(crate) fn run_late(rt: &Runtime, me: &M, by: Nanos) -> bool {
    let now = clock::now();
    let mut any = false;
    for m in rt.ms.iter().filter(|m| m.index != me.index && is_late(m, now, by)) {
        // Relaxed: a glance, so that nobody stays awake for what another does.
        if !m.timers_run.load(Ordering::Relaxed) {
            any = true;
            run_due(rt, m);
        }
    }
    any
}

/// Whether a CPU has something to run for longer than this.
pub(crate) fn is_late(m: &M, now: Nanos, by: Nanos) -> bool {
    m.earliest.get().saturating_add(by.0) <= now.0
}
