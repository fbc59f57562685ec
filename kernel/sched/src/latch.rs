//! Waiting until a number of goroutines have ended: the decisions behind a scope.
//!
//! The word counts the goroutines in its upper bits; the lowest says that the owner is parked. The latch lies on the owner's stack, and is gone
//! when the owner goes on, so the question is not only who wakes the owner, but also who may still look at it:
//!
//! 1. Whoever ends takes one off by a read-modify-write ([`Latch::end`]), and has read the owner's name before.
//! 2. The owner sets the lowest bit by a read-modify-write ([`Latch::wait`]). If it finds no count, it does not park.
//! 3. If the last `end` comes before 2, it does not find the bit, touches the latch no more, and wakes nobody: the owner finds no count.
//!    If it comes after, it finds the bit and a count of one: it readies the owner, which is parked until then and keeps the latch alive.
//!
//! So the owner is readied exactly once, or does not park, and nobody looks at the latch after the owner may have gone on.
//! Each `end` releases what its goroutine did; all of them are links of one release sequence, which the owner (2) or the last `end`, and
//! by its ready the owner, acquires.
//!
//! A count comes only from the owner before 2, or from a goroutine that is counted itself: it never rises again from 0.

use crate::id::GoRef;
use crate::sync::{AtomicU32, Ordering};

const WAITS: u32 = 1;
const ONE: u32 = 2;

/// Goroutines that have not ended, and the one that waits for all of them.
#[derive(Debug)]
pub struct Latch {
    word: AtomicU32,
    owner: GoRef,
}

impl Latch {
    /// A latch that nobody is counted in. `owner` is who will wait.
    pub fn new(owner: GoRef) -> Self {
        Self { word: AtomicU32::new(0), owner }
    }

    /// Counts one more. For the owner before it waits, and for goroutines that are counted.
    pub fn begin(&self) {
        // Relaxed: the start of the goroutine orders it before that one's `end`.
        self.word.fetch_add(ONE, Ordering::Relaxed);
    }

    /// One has ended. `Some`: ready the owner. The latch may be gone when this returns.
    #[must_use = "the owner waits for this ready"]
    pub fn end(&self) -> Option<GoRef> {
        let owner = self.owner;
        // Release: what the goroutine did. Acquire: what the others did, for the owner that is readied.
        (self.word.fetch_sub(ONE, Ordering::AcqRel) == ONE | WAITS).then_some(owner)
    }

    /// Whether all have ended.
    pub fn is_done(&self) -> bool {
        // Acquire pairs with the Release of every `end`.
        self.word.load(Ordering::Acquire) < ONE
    }

    /// For the owner, once: it parks until somebody readies it. `false`: it must not, all have ended.
    #[must_use = "nobody readies an owner that comes too late"]
    pub fn wait(&self) -> bool {
        // Acquire pairs with the Release of every `end`; Release with the Acquire of the last, for the owner's state.
        self.word.fetch_add(WAITS, Ordering::AcqRel) >= ONE
    }
}

#[cfg(test)]
#[path = "tests/latch.rs"]
mod tests;
