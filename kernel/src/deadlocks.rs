//! Rings of goroutines that wait for each other's locks, on request.

use alloc::vec::Vec;
use core::fmt;

use sched::Goid;
use sched::blocked::Waiter;

use crate::m;
use crate::stacks::{check_g_stack, on_m};
use crate::waits::{Ring, lock_of};
use crate::world::{StopReason, stop_the_world};

/// Goroutines that wait for each other for ever: each for a lock that the next one holds, the last for one of the first.
///
/// ```
/// for deadlock in gzero::deadlocks() {
///     gzero::println!("{deadlock}");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlock {
    /// Who they are.
    pub members: Vec<DeadlockMember>,
}

/// A goroutine that waits for a lock.
///
/// ```
/// for member in gzero::deadlocks().iter().flat_map(|deadlock| &deadlock.members) {
///     gzero::println!("{} waits for {}", member.goid, member.lock_name);
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlockMember {
    /// Its number.
    pub goid: Goid,
    /// Its name; empty if it has none.
    pub name: &'static str,
    /// What kind of lock it waits for: `mutex`, `rwmutex` or `once`.
    pub lock_kind: &'static str,
    /// The lock's name; empty if it has none.
    pub lock_name: &'static str,
    /// The lock's address.
    pub lock_address: u64,
}

impl DeadlockMember {
    fn of(waiter: Waiter) -> Option<Self> {
        let slot = m::runtime().slot(waiter.g.index);
        let lock = lock_of(waiter)?;
        Some(Self {
            goid: slot.goid()?,
            name: slot.body().name(),
            lock_kind: lock.kind().name(),
            lock_name: lock.name(),
            lock_address: lock.address(),
        })
    }
}

impl fmt::Display for Deadlock {
    /// One line for all, then one for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} goroutines wait for each other", self.members.len())?;
        self.members.iter().try_for_each(|member| write!(f, "\n  {member}"))
    }
}

impl fmt::Display for DeadlockMember {
    /// `goroutine 7 [plato] waits for mutex "fork 1" at 0x…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {}", self.goid)?;
        if !self.name.is_empty() {
            write!(f, " [{}]", self.name)?;
        }
        write!(f, " waits for {}", self.lock_kind)?;
        if !self.lock_name.is_empty() {
            write!(f, " \"{}\"", self.lock_name)?;
        }
        write!(f, " at {:#x}", self.lock_address)
    }
}

/// All rings of goroutines that wait for each other's locks at this moment. The world is stopped meanwhile.
///
/// Knows [`sync::Mutex`](crate::sync::Mutex), the writers of [`sync::RwMutex`](crate::sync::RwMutex), and
/// [`sync::Once`](crate::sync::Once). A ring that is found will never dissolve; the boot argument `deadlock` says whether it is
/// also reported when it forms, if it has no more than 64 members. Here it may have any number of them.
///
/// ```
/// assert!(gzero::deadlocks().is_empty());
/// ```
///
/// # Throws
/// When not called on a goroutine's own stack; what [`stop_the_world`] throws.
#[track_caller]
pub fn deadlocks() -> Vec<Deadlock> {
    check_g_stack("deadlocks");
    let world = stop_the_world(StopReason::Deadlocks);
    let rings = on_m(find);
    drop(world);
    rings
}

/// In a stopped world, on the kernel stack.
fn find() -> Vec<Deadlock> {
    Ring::all()
        .map(|ring| Deadlock { members: ring.members().filter_map(DeadlockMember::of).collect() })
        .collect()
}
