//! Semaphores: a word that counts units, and goroutines that wait for it to be more than 0.
//!
//! As Go's, they are a way to pair each sleep with one wake-up, even if the wake-up comes first. Any word can be
//! one: waiters are found by its address, in one of [`SEMA_ROOTS`] roots. A root is a tree of waiters, which a
//! lock of the kernel guards, and `nwait`, their number, which is read without the lock.
//!
//! The parts here are steps; the kernel parks and readies between them:
//!
//! | acquire | release |
//! |---|---|
//! | [`try_acquire`]: the easy case | [`Semaphore::release`]: all of it |
//! | [`Semaphore::enqueue`], in the middle of parking | |
//! | [`Semaphore::finish`], after the wake-up | ready [`Wake::g`], and yield to it if it has the unit |
//!
//! # Why no wake-up is lost
//!
//! Lost would be: the word is above 0, a goroutine waits for it, and nobody is on the way to wake it.
//!
//! The acquirer, when the easy case has failed, takes the root's lock and
//!
//! 1. adds itself to `nwait`;
//! 2. tries the word again; with a unit it takes itself off `nwait` and does not wait;
//! 3. queues itself and drops the lock. It is `Parking` since before it took the lock, so that whoever finds it
//!    in the queue may ready it at once.
//!
//! The releaser
//!
//! 1. adds the unit to the word;
//! 2. looks at `nwait`: if it is 0, it is done, and that is the easy case;
//! 3. takes the lock, looks again, and takes out a waiter for this word.
//!
//! *Why one of them sees the other.* All four accesses, the acquirer's 1 and 2 and the releaser's 1 and 2, are
//! `SeqCst` and so have one order. If the acquirer's 1 is before the releaser's 2, the releaser sees it and goes
//! on to 3. Else the releaser's 2, and thus its 1, is before the acquirer's 1, and thus before its 2: the
//! acquirer sees the unit, or somebody else has taken it. Either look in the other order, or `nwait` raised
//! after the second try, would let both look before both write.
//!
//! *Why the lock closes the rest.* A releaser that goes on takes the lock before the acquirer's section or
//! after it. If after, it finds the acquirer queued (or gone with a unit). If before, what it did lies before
//! the section, the unit with it, and step 2 of the acquirer sees it. `nwait` is lowered under the lock
//! only, once for each that was counted: by itself in step 2, or by who takes it out of the queue.
//!
//! *Why one waiter for each unit is enough.* The waiter was taken out for a unit that was there. When it finds
//! none after its wake-up, another goroutine has it, and its release looks for waiters again. The woken one
//! counts itself anew, by the same three steps.
//!
//! # Hand-off
//!
//! Without it, a goroutine that comes by between the release and the waiter's turn may be faster; the waiter
//! then goes to the end of the queue, and it may do so for ever. With it the unit goes to the waiter by ticket 1, and
//! the word never shows it, so nobody can take it: a releaser that sees somebody counted in `nwait` takes the lock
//! before it adds anything. It takes out a waiter for this word and gives it the ticket; if there is none, it adds the
//! unit with the lock held, where the acquirer's section, before it or after it, meets it as above. (Go's releaser
//! adds the unit first, and tries to take it back; docs/adr/0012-hand-off-under-the-lock.md.)
//!
//! One that has seen nobody counted releases as without hand-off. Who waits then has begun to after that look, and the
//! unit is still taken back for it if nobody was faster.
//!
//! The ticket is the one that was the priority in the tree. The sudog leaves the tree with ticket 0, and
//! belongs to the releaser until the goroutine is readied: the ready's `Release` and the run's `Acquire` hand
//! the ticket over.

use alloc::boxed::Box;
use core::fmt;
use core::ptr;

use crate::id::{GoRef, SudogIndex};
use crate::sudog::{Sudog, Sudogs};
use crate::sync::{AtomicU32, Ordering, Padded, SEMA_ROOTS, between_seq_cst};
use crate::treap::{FIRST, Treap};

pub use crate::treap::Order;

/// Whether a release takes its unit back for the waiter that it wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handoff {
    /// It leaves the unit to whoever is first.
    No,
    /// It does, and the waiter runs next.
    Yes,
}

/// What came of the attempt to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a queued goroutine must park, one that is not must not"]
pub enum Wait {
    /// It is in the queue: it leaves its CPU and is readied by a release.
    Queued,
    /// It has a unit, and nobody will ready it.
    Acquired,
}

/// What a goroutine finds when it was readied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who has no unit waits again"]
pub enum Woken {
    /// It has a unit.
    Acquired,
    /// Somebody else was faster.
    Again,
}

/// What a release still has to do when its unit is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a waiter may have to be woken"]
enum Added {
    /// Nothing: nobody waits.
    Done,
    /// Look for a waiter: [`Semaphore::dequeue`].
    LookForWaiter,
}

/// A waiter that was taken out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the goroutine is in no queue: ready it, or it is lost"]
pub struct Wake {
    /// The goroutine to be readied.
    pub g: GoRef,
    /// It has the unit already. Who readies it yields, so that it runs at once and in the same time slice.
    pub handed_off: bool,
}

/// What the lock of a root guards.
#[derive(Debug, Default)]
pub struct SemaRoot(Treap);

/// How the kernel lends a root, which it guards with a lock.
pub trait RootLock {
    /// What keeps the caller on its CPU: it comes with the lock, and may outlive it.
    type Pin;

    /// Calls `f` with the root, locked. `f` is short, allocates nothing, and takes no lock.
    fn with<R>(&self, f: impl FnOnce(&mut SemaRoot) -> R) -> (R, Self::Pin);
}

/// A root: its waiters and their number.
#[derive(Debug)]
struct Root<L> {
    /// Waiters, and those who are about to wait. Raised and lowered under the lock, read without it.
    nwait: AtomicU32,
    locked: L,
}

/// All semaphores' waiters.
pub struct SemaTable<L>(Box<[Padded<Root<L>>; SEMA_ROOTS]>);

impl<L> fmt::Debug for SemaTable<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: for reports.
        let waiters: u32 = self.0.iter().map(|root| root.nwait.load(Ordering::Relaxed)).sum();
        f.debug_struct("SemaTable").field("waiters", &waiters).finish_non_exhaustive()
    }
}

impl<L: RootLock> SemaTable<L> {
    /// A table without waiters, whose roots `lock` puts behind locks.
    pub fn new(lock: impl Fn(SemaRoot) -> L) -> Self {
        let root = |_| Padded(Root { nwait: AtomicU32::new(0), locked: lock(SemaRoot::default()) });
        let roots: Box<[_]> = (0..SEMA_ROOTS).map(root).collect();
        Self(roots.try_into().unwrap_or_else(|_| unreachable!("as many as were made")))
    }

    /// The semaphore whose count is in `word`.
    pub fn semaphore<'t>(&'t self, sudogs: &'t Sudogs, word: &'t AtomicU32) -> Semaphore<'t, L> {
        let address = ptr::from_ref(word).addr() as u64;
        Semaphore { word, address, root: &self.0[root_of(address)], sudogs }
    }
}

/// Spreads numbers that lie close together, by the golden ratio (Knuth, The Art of Computer Programming, vol. 3, 6.4): its upper bits
/// depend on all bits of the number.
const fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The priority of a waiter in the tree that a seed leads to.
#[inline]
const fn priority(seed: u64) -> u32 {
    let first = spread(seed);
    // A second round: seeds that rise in equal steps would else lead to priorities that do.
    ((first ^ first >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}

/// The number of the root where those wait who wait for the word at this address.
#[inline]
pub const fn root_of(address: u64) -> usize {
    (spread(address) >> 56) as usize % SEMA_ROOTS
}

/// A word with its waiters.
#[derive(Debug)]
pub struct Semaphore<'t, L> {
    word: &'t AtomicU32,
    address: u64,
    root: &'t Root<L>,
    sudogs: &'t Sudogs,
}

/// Takes a unit if there is one. Go's `cansemacquire`.
#[must_use = "a unit that was taken has to be given back some time"]
pub fn try_acquire(word: &AtomicU32) -> bool {
    // SeqCst, here and below when the swap fails: the acquirer's step 2, as argued above. It also acquires what
    // the `add` of the unit released.
    let mut units = word.load(Ordering::SeqCst);
    while units != 0 {
        match word.compare_exchange_weak(units, units - 1, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return true,
            Err(found) => units = found,
        }
    }
    false
}

impl<L: RootLock> Semaphore<'_, L> {
    /// The acquirer's harder case: takes a unit, or queues `s`, which [names](Sudog::name) the goroutine that calls and says when its wait
    /// [began](Sudog::begin).
    /// `seed` is a number that is not the same for those who wait, as the time is: it makes the priority in the tree, if others wait.
    ///
    /// The goroutine must have announced that it parks: once this returns, or even before, it may be readied.
    #[inline]
    pub fn enqueue(&self, (s, sudog): (SudogIndex, &Sudog), order: Order, seed: u64) -> Wait {
        let (wait, _pin) = self.root.locked.with(|SemaRoot(waiters)| {
            // SeqCst: the acquirer's step 1; pairs with the load in `add`.
            self.root.nwait.fetch_add(1, Ordering::SeqCst);
            between_seq_cst();
            if try_acquire(self.word) {
                self.uncount();
                return Wait::Acquired;
            }
            sudog.set_address(self.address);
            // The lowest bit tells the ticket of a waiter from none; that costs no quality worth noting.
            sudog.set_ticket(if waiters.is_empty() { FIRST } else { priority(seed) | 1 });
            waiters.insert(self.sudogs, (s, sudog), order);
            Wait::Queued
        });
        wait
    }

    /// What a goroutine does first when it was readied: it has a unit by its ticket, or tries to take one.
    pub fn finish(&self, sudog: &Sudog) -> Woken {
        if sudog.ticket() != 0 || try_acquire(self.word) { Woken::Acquired } else { Woken::Again }
    }

    /// Adds a unit, or gives it to a waiter. Returns who is to be woken; `now` is asked for the time then.
    ///
    /// With it comes the pin of the lock, which the caller keeps until the waiter is readied: nobody else can do that, so if
    /// the caller lost its CPU before, the waiter would be late by its turn.
    ///
    /// # Panics
    ///
    /// The word holds 2^32 - 1 units. The queue is corrupt: the waiter has no goroutine.
    #[inline]
    pub fn release(&self, handoff: Handoff, now: impl FnOnce() -> u64) -> Option<(Wake, L::Pin)> {
        // Relaxed: without a waiter in sight the release decides by its own look.
        if handoff == Handoff::Yes && self.root.nwait.load(Ordering::Relaxed) != 0 {
            return self.hand_off(now);
        }
        match self.add() {
            Added::Done => None,
            Added::LookForWaiter => self.dequeue(handoff, now),
        }
    }

    /// The releaser's steps 1 and 2.
    fn add(&self) -> Added {
        // SeqCst: step 1; pairs with the load in `try_acquire`, which sees what came before the release.
        check_units(self.address, self.word.fetch_add(1, Ordering::SeqCst));
        between_seq_cst();
        // SeqCst: step 2; pairs with the addition in `enqueue`.
        if self.root.nwait.load(Ordering::SeqCst) == 0 { Added::Done } else { Added::LookForWaiter }
    }

    /// The releaser's step 3.
    #[inline]
    fn dequeue(&self, handoff: Handoff, now: impl FnOnce() -> u64) -> Option<(Wake, L::Pin)> {
        let (taken, pin) = self.root.locked.with(|SemaRoot(waiters)| self.take_waiter(waiters));
        let sudog = taken?;
        let has = if handoff == Handoff::Yes && try_acquire(self.word) { Handoff::Yes } else { Handoff::No };
        Some((wake(sudog, has, now), pin))
    }

    /// Gives the unit to a waiter without adding it to the word, or adds it if nobody waits.
    fn hand_off(&self, now: impl FnOnce() -> u64) -> Option<(Wake, L::Pin)> {
        let (taken, pin) = self.root.locked.with(|SemaRoot(waiters)| {
            // SeqCst: as in `add`.
            self.take_waiter(waiters).ok_or_else(|| self.word.fetch_add(1, Ordering::SeqCst))
        });
        match taken {
            Ok(sudog) => Some((wake(sudog, Handoff::Yes, now), pin)),
            Err(units) => {
                check_units(self.address, units);
                None
            }
        }
    }

    /// Takes out a waiter for this word, with the lock held.
    #[inline]
    fn take_waiter(&self, waiters: &mut Treap) -> Option<&'static Sudog> {
        // Relaxed: it is changed under the lock only, and whoever is counted then is in the tree. At 0 others have taken the unit, and
        // nobody waits.
        let (_, sudog) = match self.root.nwait.load(Ordering::Relaxed) {
            0 => return None,
            1 => waiters.remove_only(self.sudogs, self.address)?,
            _ => waiters.remove(self.sudogs, self.address)?,
        };
        self.uncount();
        Some(sudog)
    }

    /// Waiters in the semaphore's root, at about this moment; those of other words may be among them.
    pub fn nwait(&self) -> u32 {
        self.root.nwait.load(Ordering::Relaxed)
    }

    /// Takes one off `nwait`, with the lock held.
    fn uncount(&self) {
        // Relaxed, both: whoever changes the number holds the lock, and a releaser that reads the lower one misses only one who has
        // a unit or is being woken.
        let nwait = self.root.nwait.load(Ordering::Relaxed);
        self.root.nwait.store(nwait - 1, Ordering::Relaxed);
    }
}

/// By value: so that a semaphore need not lie in memory.
#[inline]
fn check_units(address: u64, before: u32) {
    if before == u32::MAX {
        too_many_units(address);
    }
}

#[cold]
#[inline(never)]
fn too_many_units(address: u64) -> ! {
    panic!("semaphore at {address:#x}: more than 2^32 - 1 units")
}

/// Tells a waiter that was taken out whether it has the unit.
fn wake(sudog: &Sudog, has: Handoff, now: impl FnOnce() -> u64) -> Wake {
    let handed_off = has == Handoff::Yes;
    sudog.set_ticket(u32::from(handed_off));
    sudog.set_release_time(now());
    Wake { g: sudog.g().expect("a queued sudog has a goroutine"), handed_off }
}

#[cfg(test)]
#[path = "tests/sema.rs"]
mod tests;
