//! Who waits for whom: chains of goroutines each of which waits for a lock that the next one holds, and rings of them.
//!
//! A goroutine that has to wait for a lock publishes that in its own [`Blocked`] (the lock's address under a number that rises),
//! and a lock names its holder in a word of its own. From the two a chain can be followed, one [`hop`] at a time: from a
//! goroutine to its lock, to the holder of that, and whether the holder waits as well. No lock is taken, and nobody is
//! stopped.
//!
//! # Rules
//!
//! 1. From [`Blocked::begin`] to [`Blocked::end`] a goroutine does nothing but to wait for that lock: it gives back
//!    nothing that it holds. The wait ends only when it has got the lock.
//! 2. A holder's name is stored after the lock was got, and taken back before it is given away, by the holder itself.
//!
//! 3. Of a lock for readers and a writer the holder is the writer, from before it announces itself. While it waits for readers
//!    to leave, whom nobody knows, it does not publish that. So a writer that is published as waiting for something else has
//!    got the lock, and no reader has.
//!
//! # A hop, from goroutine G in its wait number n
//!
//! a. read the lock's address, b. read the holder H from the lock, c. read H's number m: odd, or H does not wait; d. read the
//! holder again: still H; e. read G's number again: still n.
//!
//! By e the address belongs to wait n, and the lock was alive at b and d: it is borrowed as long as anybody waits for it. (So
//! whoever reads the lock's word has to bear any address, and trusts nothing before e.) By d, which comes after
//! c, H holds the lock throughout its wait m: had it given the lock away before, the word would not show H to whoever has
//! seen m.
//!
//! # Why a ring is one
//!
//! The walk begins at the goroutine that walks, G1, after its own `begin`, and hops come back to it: G1 → G2 → … → Gk → G1,
//! where Gi waits for lock Li, held by the next. *Claim:* all of them wait at this moment, and for ever. Go backwards. G1
//! holds Lk, for it is G1 that says so. Gk's wait can only end by getting Lk: after G1 has given it back, which is not
//! so; or before G1 got it, but then G1 would have seen another number in step e. So Gk waits, and holds L(k-1) while it does.
//! G(k-1)'s wait can only end by getting L(k-1): not after Gk gave it back, and not before Gk got it, because then the end
//! would have come before Gk's wait began, and step e, which comes after the look at Gk's number in step c, would have seen
//! it. (Had it got the lock as a reader, it would have left, too, before the writer Gk got it.) So G(k-1) waits, and so on
//! down to G2. Nobody of them goes on before another does: for ever.
//!
//! One walk is enough, then, and it needs no instant at which all was looked at.
//!
//! # Why a ring is found
//!
//! Between `begin` and the first hop there is a `SeqCst` fence. Of the goroutines of a ring, the one whose fence is the last
//! sees what all others had stored before theirs: their waits, and, because each took what it holds before that, their
//! names in the locks. That one finds the ring; others may as well. Who holds a lock and has not blocked yet will come
//! later, and will be the last.

use alloc::vec;
use alloc::vec::Vec;

use crate::id::{GoIndex, GoRef};
use crate::sync::{AtomicU64, Ordering, fence};

/// What a goroutine waits for, if it waits for a lock.
#[derive(Debug)]
pub struct Blocked {
    /// Odd while it waits.
    number: AtomicU64,
    /// The lock's address.
    on: AtomicU64,
}

/// The number of one wait.
pub type Number = u64;

impl Default for Blocked {
    fn default() -> Self {
        Self::new()
    }
}

impl Blocked {
    /// It does not wait.
    pub fn new() -> Self {
        Self { number: AtomicU64::new(0), on: AtomicU64::new(0) }
    }

    /// The goroutine itself begins to wait for the lock at this address. From here on it may walk.
    pub fn begin(&self, on: u64) -> Number {
        // Release: who reads the new address has to see that the wait before is over.
        self.on.store(on, Ordering::Release);
        // Relaxed: only the goroutine itself writes it.
        let number = self.number.load(Ordering::Relaxed) + 1;
        // Release: what the goroutine holds, and has put its name to, is visible to who sees the number.
        self.number.store(number, Ordering::Release);
        // The fence of "why a ring is found".
        fence(Ordering::SeqCst);
        number
    }

    /// It has got the lock.
    pub fn end(&self) {
        let number = self.number.load(Ordering::Relaxed) + 1;
        // Release: as in `begin`.
        self.number.store(number, Ordering::Release);
    }

    /// The number of its wait, if it waits.
    pub fn number(&self) -> Option<Number> {
        // Acquire: pairs with the Release in `begin`.
        Some(self.number.load(Ordering::Acquire)).filter(|number| number % 2 == 1)
    }

    /// The address of the lock of its wait, which is that of this number if [`is_at`](Self::is_at) says so afterwards.
    pub fn on(&self) -> u64 {
        // Acquire: pairs with the Release in `begin`.
        self.on.load(Ordering::Acquire)
    }

    /// Whether it is in the same wait still.
    pub fn is_at(&self, number: Number) -> bool {
        self.number.load(Ordering::Acquire) == number
    }
}

/// Where hops lead: goroutines, and the words of locks.
pub trait Waits {
    /// What a goroutine waits for; `None` if it has ended.
    fn blocked(&self, g: GoRef) -> Option<&Blocked>;

    /// The holder's word of the lock at this address, by an `Acquire` load or stronger; anything if there is no lock any
    /// more.
    fn holder(&self, lock: u64) -> Option<u64>;
}

/// A goroutine in one of its waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The goroutine.
    pub g: GoRef,
    /// The wait.
    pub number: Number,
}

/// From a goroutine that waits to the one that holds what it waits for, if that waits as well.
pub fn hop(waits: &impl Waits, from: Waiter) -> Option<Waiter> {
    let blocked = waits.blocked(from.g)?;
    let lock = blocked.on();
    let word = waits.holder(lock)?;
    let g = unpack(word)?;
    let number = waits.blocked(g)?.number()?;
    // Numbers begin anew in a slot whose memory was away; then the handle is of an earlier life.
    let same = waits.holder(lock)? == word && blocked.is_at(from.number) && waits.blocked(from.g).is_some();
    same.then_some(Waiter { g, number })
}

/// Whether a chain that begins at `start` comes back to it, within `most` hops. How many goroutines then are in the ring.
pub fn ring(waits: &impl Waits, start: Waiter, most: u32) -> Option<u32> {
    let mut at = start;
    // A chain may lead into a ring that it did not begin in: a goroutine that is kept, anew after 1, 2, 4, … hops, comes
    // by again.
    let (mut kept, mut renew) = (start, 1);
    for hops in 1..=most {
        at = hop(waits, at)?;
        if at.g == start.g {
            return Some(hops);
        }
        if at == kept {
            return None;
        }
        if hops == renew {
            (kept, renew) = (at, renew * 2);
        }
    }
    None
}

/// All rings among these waiters, each once: its member in the lowest slot, and its length. In the order of these members.
///
/// For a world in which nobody goes on. No hop is made more than twice, however long chains and rings are.
pub fn rings(waits: &impl Waits, waiters: &[Waiter]) -> Vec<(Waiter, u32)> {
    let slot = |waiter: &Waiter| waiter.g.index.get() as usize;
    // Which walk has come by, by slots; 0 is none.
    let mut came = vec![0_usize; waiters.iter().map(slot).max().map_or(0, |last| last + 1)];
    let mut found = Vec::new();
    for (walk, start) in waiters.iter().enumerate() {
        let mut next = Some(*start);
        while let Some(here) = next
            && let Some(mark) = came.get_mut(slot(&here))
        {
            match core::mem::replace(mark, walk + 1) {
                0 => next = hop(waits, here),
                // Back where this walk has been; else where another one was, whose mark is of no use any more.
                before => {
                    found.extend((before == walk + 1).then(|| around(waits, here)));
                    break;
                }
            }
        }
    }
    found.sort_by_key(|(first, _)| slot(first));
    found
}

/// The member of a ring in the lowest slot, and how many there are.
fn around(waits: &impl Waits, from: Waiter) -> (Waiter, u32) {
    let (mut lowest, mut length) = (from, 1);
    let mut next = hop(waits, from);
    while let Some(here) = next
        && here != from
    {
        if here.g.index.get() < lowest.g.index.get() {
            lowest = here;
        }
        length += 1;
        next = hop(waits, here);
    }
    (lowest, length)
}

/// A goroutine as a lock names its holder; nobody is 0.
pub const fn pack(g: GoRef) -> u64 {
    ((g.index.get() as u64 + 1) << 32) | g.generation as u64
}

/// The goroutine that a lock names.
pub fn unpack(word: u64) -> Option<GoRef> {
    let half = |number: u64| u32::try_from(number & 0xffff_ffff).unwrap_or(0);
    let index = GoIndex::new(half(word >> 32).checked_sub(1)?)?;
    Some(GoRef { index, generation: half(word) })
}

#[cfg(test)]
#[path = "tests/blocked.rs"]
mod tests;
