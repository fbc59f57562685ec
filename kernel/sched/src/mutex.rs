//! A mutex: a word that says who may go on, and a semaphore for those who may not.
//!
//! # The two modes
//!
//! *Normal:* an unlock wakes one waiter, which then competes with whoever comes by. Those who run win more often, which is
//! what makes a mutex fast. *Starvation:* a waiter that has lost for longer than [`PATIENCE`] sets a bit; from then on the
//! mutex is handed from the unlocker to the first waiter, and nobody else takes it, though it looks free. The waiter that
//! gets it and is the last one, or has not waited for long, sets the mode back. Go's mutex, in steps, with one thing more: who waits
//! awake may make room for the holder ([`Contender::may_make_room`]), and its patience counts from then on.
//!
//! | lock | unlock |
//! |---|---|
//! | [`MutexWord::try_lock`]: the easy case | [`MutexWord::unlock`], and release the semaphore if it says so |
//! | [`MutexWord::step`], until it says [`Step::Locked`] | |
//! | after [`Step::Sleep`], acquire the semaphore in that order, then [`MutexWord::woken`] | |
//!
//! # Why no wake-up is lost
//!
//! Lost would be: the mutex is free, somebody waits, and nobody is on the way to wake it. Whoever waits was counted in the
//! word by the same exchange that found the mutex taken, in either mode. So the unlock that ends that holding, an addition
//! to the same word, comes later and finds it counted. It then wakes a waiter, unless
//!
//! 1. [`LOCKED`] is set again: the new holder's unlock will look;
//! 2. [`WOKEN`] is set: somebody is on the way to take the mutex. Its exchange clears the bit, and either it has the mutex,
//!    see 1, or found it taken, and then that holder's unlock will look. It sets the bit itself while it spins only if it
//!    goes on to that exchange;
//! 3. [`STARVING`] is set: see below.
//!
//! The semaphore keeps a unit for a waiter that is counted and has not come to it yet.
//!
//! # Why nobody comes between in starvation mode
//!
//! While [`STARVING`] is set nobody sets [`LOCKED`] but the waiter that was handed the mutex ([`MutexWord::woken`]):
//! [`MutexWord::step`] and [`MutexWord::try_lock`] refuse. The bit is set only together with `LOCKED` held by somebody else and
//! with the setter counted, so the unlock that follows finds a waiter; the bit goes only by the waiter that takes over.
//! Between an unlock and that moment the semaphore holds the one unit for one waiter: nobody else releases it, because
//! nobody else unlocks; and no unit is left from before, because the bit is set only while nobody else is on the way ([`WOKEN`]): who was
//! released a unit is, until it has taken it.
//!
//! # Order of memory
//!
//! What was written under the lock is visible to the next holder: each taking is an `Acquire` exchange, each unlock a
//! `Release` addition, and all changes in between are read-modify-writes of the same word, which carry the release on.

use core::mem;

use crate::sema::{Handoff, Order};
use crate::sync::{AtomicU32, Ordering, const_unless_modelled};

/// Somebody holds the mutex.
const LOCKED: u32 = 1 << 0;
/// Somebody is awake and on the way to it: unlockers need not wake another.
const WOKEN: u32 = 1 << 1;
/// It is handed from holder to waiter.
const STARVING: u32 = 1 << 2;
/// One waiter; their number is in the bits from here on.
const WAITER: u32 = 1 << 3;

/// How long a waiter loses before the mutex is handed over, in nanoseconds; as Go's.
pub const PATIENCE: u64 = 1_000_000;

/// The word of a mutex, with the word of its semaphore.
#[derive(Debug, Default)]
pub struct MutexWord {
    state: AtomicU32,
    sema: AtomicU32,
}

/// A goroutine that wants the mutex.
#[derive(Debug, Default)]
pub struct Contender {
    /// When it began to wait, or to make room for the holder; none while it has not.
    since: Option<u64>,
    /// Where it goes in the queue: to the front if it was there before.
    order: Order,
    mood: Mood,
    /// [`WOKEN`] is set for it.
    awoke: bool,
}

/// Whether a contender has lost for too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Patient,
    Starving,
}

/// What a contender does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the mutex is taken only by `Locked`"]
pub enum Step {
    /// It has the mutex.
    Locked,
    /// It waits for some dozens of instructions, or makes room for the holder, and asks again.
    Spin,
    /// It acquires a unit of the semaphore, at this place in the queue, and says [`MutexWord::woken`].
    Sleep(Order),
}

/// What a contender finds that had to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who has not got the mutex goes on with its steps"]
pub enum Awake {
    /// It was handed the mutex.
    Locked,
    /// It competes again.
    Again,
}

impl Contender {
    /// When it began to wait, or to make room, by the kernel's counter; 0 if it has not.
    pub fn since(&self) -> u64 {
        self.since.unwrap_or(0)
    }

    /// Whether it may make room for a holder that goes on then; asked each time. Once its patience is up it may not, and is starving.
    ///
    /// `waited` is as for [`MutexWord::woken`].
    pub fn may_make_room(&mut self, now: u64, waited: impl FnOnce(u64) -> u64) -> bool {
        self.look_at_patience(waited);
        self.since.get_or_insert(now);
        self.mood == Mood::Patient
    }

    fn look_at_patience(&mut self, waited: impl FnOnce(u64) -> u64) {
        if self.mood == Mood::Patient && self.since.is_some_and(|since| waited(since) > PATIENCE) {
            self.mood = Mood::Starving;
        }
    }
}

impl MutexWord {
    const_unless_modelled! {
        /// A free mutex.
        pub fn new() -> Self {
            Self { state: AtomicU32::new(0), sema: AtomicU32::new(0) }
        }
    }

    /// The semaphore's word.
    pub fn sema(&self) -> &AtomicU32 {
        &self.sema
    }

    /// Takes the mutex if it is free and nobody waits: the easy case.
    #[inline]
    pub fn lock_free(&self) -> bool {
        // Acquire: what was written under the lock before.
        self.state.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the mutex if nobody holds it and it is not handed over, though others may wait.
    pub fn try_lock(&self) -> bool {
        let mut old = self.state.load(Ordering::Relaxed);
        while old & (LOCKED | STARVING) == 0 {
            // Acquire: as in `lock_free`.
            match self.state.compare_exchange(old, old | LOCKED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(found) => old = found,
            }
        }
        false
    }

    /// One step towards the mutex. `spin` says whether it pays to wait awake, and is asked only where that is possible, last of all
    /// before [`Step::Spin`]; `now` is asked for the time before the first sleep.
    pub fn step(
        &self,
        me: &mut Contender,
        mut spin: impl FnMut(&mut Contender) -> bool,
        mut now: impl FnMut() -> u64,
    ) -> Step {
        let mut old = self.state.load(Ordering::Relaxed);
        loop {
            if old & (LOCKED | STARVING) == LOCKED && spin(me) {
                self.announce(me, old);
                return Step::Spin;
            }
            let free = old & (LOCKED | STARVING) == 0;
            // In starvation mode nobody takes it who has just come.
            let mut new = if old & STARVING == 0 { old | LOCKED } else { old };
            if !free {
                new += WAITER;
            }
            // Not of a free mutex: an unlocker expects waiters in that mode. Not while another is on the way: a unit may be, too.
            let only_me = me.awoke || old & WOKEN == 0;
            if me.mood == Mood::Starving && old & LOCKED != 0 && only_me {
                new |= STARVING;
            }
            if me.awoke {
                assert!(new & WOKEN != 0, "mutex {new:#x}: a woken waiter is not noted");
                new &= !WOKEN;
            }
            // Acquire: as in `lock_free`.
            match self.state.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if free => return Step::Locked,
                Ok(_) => {
                    me.awoke = false;
                    me.since.get_or_insert_with(&mut now);
                    return Step::Sleep(mem::replace(&mut me.order, Order::Lifo));
                }
                Err(found) => old = found,
            }
        }
    }

    /// Tells unlockers that somebody is awake, so that they wake nobody else who would lose.
    fn announce(&self, me: &mut Contender, old: u32) {
        if me.awoke || old & WOKEN != 0 || old < WAITER {
            return;
        }
        // Relaxed: a hint; the exchange that follows in `step` orders.
        me.awoke =
            self.state.compare_exchange(old, old | WOKEN, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    }

    /// After the semaphore was acquired.
    ///
    /// `waited` says how many nanoseconds ago that was when the kernel's counter was at a number.
    pub fn woken(&self, me: &mut Contender, waited: impl FnOnce(u64) -> u64) -> Awake {
        me.look_at_patience(waited);
        // Acquire: as in `lock_free`, for the mutex that was handed over.
        let old = self.state.load(Ordering::Acquire);
        if old & STARVING == 0 {
            me.awoke = true;
            return Awake::Again;
        }
        assert!(old & (LOCKED | WOKEN) == 0 && old >= WAITER, "mutex {old:#x}: handed over to nobody");
        // It was free for the waiter, who is still counted.
        let mut change = LOCKED.wrapping_sub(WAITER);
        if me.mood == Mood::Patient || old < 2 * WAITER {
            // Two goroutines in turn would keep the mode up for ever.
            change = change.wrapping_sub(STARVING);
        }
        self.state.fetch_add(change, Ordering::Acquire);
        Awake::Locked
    }

    /// Gives the mutex up. `Some`: release the semaphore so, once.
    #[must_use = "a waiter may have to be woken"]
    #[inline]
    pub fn unlock(&self) -> Option<Handoff> {
        // Release: what was written under the lock.
        let new = self.state.fetch_sub(LOCKED, Ordering::Release).wrapping_sub(LOCKED);
        if new == 0 { None } else { self.unlock_contended(new) }
    }

    #[cold]
    fn unlock_contended(&self, mut old: u32) -> Option<Handoff> {
        assert!(old & LOCKED == 0, "unlock of a mutex that is not locked");
        if old & STARVING != 0 {
            return Some(Handoff::Yes);
        }
        while old >= WAITER && old & (LOCKED | WOKEN | STARVING) == 0 {
            let new = (old - WAITER) | WOKEN;
            // Relaxed: the semaphore orders what the waiter needs; the addition above has released the rest.
            match self.state.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(Handoff::No),
                Err(found) => old = found,
            }
        }
        None
    }

    /// Whether somebody holds it, at about this moment.
    pub fn is_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) & LOCKED != 0
    }

    /// Whether it is in starvation mode, at about this moment.
    pub fn is_starving(&self) -> bool {
        self.state.load(Ordering::Relaxed) & STARVING != 0
    }

    /// Those who wait, at about this moment.
    pub fn waiters(&self) -> u32 {
        self.state.load(Ordering::Relaxed) / WAITER
    }
}

#[cfg(test)]
#[path = "tests/mutex.rs"]
mod tests;
