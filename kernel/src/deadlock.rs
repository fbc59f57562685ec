//! All goroutines asleep: nobody is left who could wake anybody. [`sched::deadlock`] argues when that is so.
//!
//! The report names each goroutine with what it waits for, who holds that, and what the goroutine holds itself, as far as
//! others wait for it; and the rings of goroutines that wait for each other. When main returns the machine ends, so a main
//! that is not among them has called `goexit`, which the report says.

use core::fmt;

use machine::address::size;
use sched::table::Slot;
use sched::timers::NEVER;
use sched::{GoIndex, GoRef, Status};

use crate::goroutine::Body;
use crate::panic::{Named, fatal};
use crate::park::WaitReason;
use crate::runtime::Runtime;
use crate::waits::{HeldBy, LockHead, MOST_ASLEEP, Ring, lock_of, wait_of};

/// Goroutines that are listed, …
const MOST_LISTED: usize = 100;
/// … locks that are listed with each, …
const MOST_HELD: usize = 8;
/// … and goroutines that are looked at to find these locks.
const MOST_LOOKED_AT: usize = 10_000;

/// Ends the machine if it is deadlocked. For a CPU that is about to sleep and is counted nowhere any more.
pub(crate) fn check(rt: &'static Runtime) {
    let wired = || rt.ms.iter().any(|m| !m.wired_len.is_empty());
    let timers = || rt.ms.iter().any(|m| m.earliest.get() != NEVER);
    if rt.awake.nobody_is_left(&rt.idle, || sched::pick::recheck(&rt.sources()) || wired() || timers()) {
        fatal(format_args!("{}", Asleep(rt)));
    }
}

/// The goroutines that wait.
fn waiting(rt: &'static Runtime) -> impl Iterator<Item = (GoIndex, &'static Slot<Body>)> {
    rt.table.iter().filter(|(_, slot)| slot.status().get().0 == Status::Waiting)
}

/// The locks that goroutines wait for.
fn locks(rt: &'static Runtime) -> impl Iterator<Item = &'static LockHead> {
    waiting(rt).take(MOST_LOOKED_AT).filter_map(|(g, _)| lock_of(wait_of(rt, g)?))
}

/// A world in which nobody runs.
struct Asleep(&'static Runtime);

impl fmt::Display for Asleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rt = self.0;
        let main = waiting(rt).any(|(g, _)| rt.goid(g).is_some_and(|goid| goid.get() == 1));
        match waiting(rt).next() {
            None => f.write_str("no goroutines are left - deadlock!")?,
            Some(_) => f.write_str("all goroutines are asleep - deadlock!")?,
        }
        if !main {
            f.write_str(" (main has ended by goexit)")?;
        }
        for (g, _) in waiting(rt).take(MOST_LISTED) {
            write!(f, "\n  {} waits: {}", Named(g.get()), WaitsFor::in_still_world(rt, g))?;
            write!(f, "{}", Holds(rt, rt.table.handle(g)))?;
        }
        if let Some(more @ 1..) = waiting(rt).count().checked_sub(MOST_LISTED) {
            write!(f, "\n  and {more} more")?;
        }
        let rings = waiting(rt).filter_map(|(g, _)| Ring::at(wait_of(rt, g)?, MOST_ASLEEP));
        let rings = rings.filter(Ring::begins_lowest);
        rings.take(MOST_LISTED).try_for_each(|ring| write!(f, "\ndeadlock: {ring}"))
    }
}

/// What a goroutine waits for, as reports name it: a lock and who holds it, or why it waits and on what.
pub(crate) struct WaitsFor {
    rt: &'static Runtime,
    g: GoIndex,
    lock: Option<&'static LockHead>,
}

impl WaitsFor {
    /// In a world that stands still: a lock that is waited for does not go.
    pub(crate) fn in_still_world(rt: &'static Runtime, g: GoIndex) -> Self {
        Self { rt, g, lock: wait_of(rt, g).and_then(lock_of) }
    }

    /// While others run: a lock is what has an address.
    pub(crate) const fn at_a_glance(rt: &'static Runtime, g: GoIndex) -> Self {
        Self { rt, g, lock: None }
    }

    /// Whether there is an object that it waits on, or nothing but a reason.
    pub(crate) fn is_object(&self) -> bool {
        self.lock.is_some() || self.rt.slot(self.g).body().waits_on() != 0
    }
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(lock) = self.lock {
            return write!(f, "{lock}, {}", HeldBy(lock));
        }
        let body = self.rt.slot(self.g).body();
        f.write_str(body.wait_reason().name())?;
        match body.waits_on() {
            0 => Ok(()),
            on if body.wait_reason() == WaitReason::Join
                && let Some(g) = self.rt.table.at(size(on)) =>
            {
                write!(f, " of {}", Named(g.get()))
            }
            on => write!(f, " at {on:#x}"),
        }
    }
}

/// The locks that a goroutine holds and others wait for.
struct Holds(&'static Runtime, GoRef);

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut told, mut count) = ([0; MOST_HELD], 0);
        for lock in locks(self.0).filter(|lock| HeldBy(lock).holder() == Some(self.1)) {
            if told.iter().take(count).any(|address| *address == lock.address()) {
                continue;
            }
            let Some(place) = told.get_mut(count) else { return f.write_str("; and more") };
            *place = lock.address();
            count += 1;
            write!(f, "; holds {lock}")?;
        }
        Ok(())
    }
}
