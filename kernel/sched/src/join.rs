//! A goroutine and the handle that joins it: who takes the value, who frees the slot, and who is woken.
//!
//! When a goroutine ends, its value lies at the top of its own stack, and its slot cannot be used again before two things
//! have happened: the goroutine has left the stack, and its handle has claimed the value or was dropped. They happen in
//! either order, on any two CPUs. One word decides; each bit is set once in a life, and never cleared:
//!
//! | bit | set by | says |
//! |---|---|---|
//! | `CLAIMED` | the handle | it has taken the value, or it was dropped: it looks at nothing any more |
//! | `AWAITED` | the handle | a goroutine is parked until the end, and `joiner` names it |
//! | `ENDED` | the goroutine, on its own stack | the value is there, or (`EMPTY`) there is none |
//! | `LEFT` | the side that goes on in its place | nobody stands on the stack any more |
//!
//! # The value has one taker
//!
//! A drop of the handle before the end changes 0 to `CLAIMED` by compare-and-swap; the goroutine's [`end`](JoinWord::end) is a
//! read-modify-write of the same word, so one of the two is first. If the drop is, `end` finds `CLAIMED` and the
//! goroutine drops its value itself, on its own stack. If `end` is, the drop fails and finds `ENDED`: then the value is the handle's,
//! and `CLAIMED` is set by [`claim`](JoinWord::claim) only once it has been taken or dropped. `end` releases and the handle
//! acquires, so the value is seen whole.
//!
//! # No joiner sleeps for ever
//!
//! The joiner writes its name, then changes 0 to `AWAITED` by compare-and-swap. If `end` was first, that fails and the joiner does not
//! park. If not, `end` finds `AWAITED`, acquires the name, and says that it must be readied; that may happen while the joiner still
//! parks, which its own status settles ([`crate::status`]). A joiner has nothing else to wait for, so this ready is the only one.
//!
//! # The slot is freed once
//!
//! `claim` (or the early drop) and [`leave`](JoinWord::leave) are read-modify-writes of the same word: the second finds the other's bit, and
//! frees the slot. Both acquire and release, so whoever frees it has seen the last use of the stack and of the value.

use crate::id::{GoIndex, GoRef};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

const CLAIMED: u32 = 1 << 0;
const AWAITED: u32 = 1 << 1;
const ENDED: u32 = 1 << 2;
const EMPTY: u32 = 1 << 3;
const LEFT: u32 = 1 << 4;

/// What a goroutine has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its value, at the top of its stack.
    Value,
    /// Nothing: it ended without returning.
    Nothing,
}

/// What a goroutine that ends must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ended {
    /// Nothing: the value is the handle's.
    Kept,
    /// Ready this goroutine, which waits for the value.
    Wake(GoRef),
    /// Drop the value: there is no handle.
    Detached,
}

/// What the drop of a handle finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Detach {
    /// The goroutine runs on, and drops its value itself.
    Detached,
    /// It has ended: take or drop what it has left, then [`claim`](JoinWord::claim).
    Ended(Outcome),
}

/// Who frees the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Slot {
    /// The caller: the other side is done.
    Free,
    /// The other side, later.
    Kept,
}

/// The word between a goroutine and its handle.
#[derive(Debug)]
pub struct JoinWord {
    bits: AtomicU32,
    /// Slot and generation of the goroutine that waits. Written before `AWAITED` is set.
    joiner: AtomicU64,
}

impl Default for JoinWord {
    fn default() -> Self {
        Self::new()
    }
}

impl JoinWord {
    /// The word of a slot without a goroutine.
    pub fn new() -> Self {
        Self { bits: AtomicU32::new(CLAIMED | ENDED | LEFT), joiner: AtomicU64::new(0) }
    }

    /// Makes a free slot's word of zeros. For who owns the slot.
    pub fn revive(&self) {
        // Relaxed: as in `begin`.
        self.bits.store(CLAIMED | ENDED | LEFT, Ordering::Relaxed);
    }

    /// A goroutine begins, and a handle with it. For who prepares a dead slot.
    pub fn begin(&self) {
        // Relaxed: the run queue hands it to the goroutine, and whatever passes the handle on to its next owner.
        self.bits.store(0, Ordering::Relaxed);
    }

    /// Whether the slot belongs to neither a goroutine nor a handle.
    pub fn is_free(&self) -> bool {
        // Acquire: pairs with the Release of whoever was second.
        self.bits.load(Ordering::Acquire) & (CLAIMED | LEFT) == CLAIMED | LEFT
    }

    /// For the handle: what the goroutine has left, if it has ended.
    pub fn outcome(&self) -> Option<Outcome> {
        // Acquire pairs with the Release in `end`: the value is whole.
        outcome(self.bits.load(Ordering::Acquire))
    }

    /// For the handle: `joiner` parks until the end. `false`: it must not, the goroutine has ended.
    #[must_use = "nobody readies a joiner that comes too late"]
    pub fn wait(&self, joiner: GoRef) -> bool {
        // Relaxed: the exchange releases it.
        self.joiner.store(pack(joiner), Ordering::Relaxed);
        // Release pairs with the Acquire in `end`, for the name; Acquire with its Release, for the value.
        self.bits.compare_exchange(0, AWAITED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// For the handle that is dropped.
    #[inline]
    pub fn detach(&self) -> Detach {
        // Acquire pairs with the Release in `end`. Release pairs with the Acquire in `leave`.
        match self.bits.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Detach::Detached,
            Err(bits) => Detach::Ended(outcome(bits).unwrap_or(Outcome::Nothing)),
        }
    }

    /// For the handle, when it has found an outcome and taken what there was: it is gone.
    pub fn claim(&self) -> Slot {
        // An addition sets a bit that was not set, in one instruction. AcqRel pairs with `leave`, either way round.
        match self.bits.fetch_add(CLAIMED, Ordering::AcqRel) & LEFT {
            0 => Slot::Kept,
            _ => Slot::Free,
        }
    }

    /// For the goroutine, on its own stack: it has ended, and its value (if any) is in its place.
    pub fn end(&self, outcome: Outcome) -> Ended {
        let bits = match outcome {
            Outcome::Value => ENDED,
            Outcome::Nothing => ENDED | EMPTY,
        };
        // Release: the value. Acquire: the joiner's name.
        let found = self.bits.fetch_add(bits, Ordering::AcqRel);
        if found & AWAITED != 0 {
            return self.joiner().map_or(Ended::Kept, Ended::Wake);
        }
        if found & CLAIMED != 0 { Ended::Detached } else { Ended::Kept }
    }

    /// For the side that goes on in the goroutine's place: nobody stands on its stack any more.
    pub fn leave(&self) -> Slot {
        // AcqRel pairs with `claim` and `detach`, either way round.
        match self.bits.fetch_add(LEFT, Ordering::AcqRel) & CLAIMED {
            0 => Slot::Kept,
            _ => Slot::Free,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    fn joiner(&self) -> Option<GoRef> {
        // Relaxed: `end` has acquired it.
        let word = self.joiner.load(Ordering::Relaxed);
        Some(GoRef { index: GoIndex::new((word >> 32) as u32)?, generation: word as u32 })
    }
}

fn pack(g: GoRef) -> u64 {
    u64::from(g.index.get()) << 32 | u64::from(g.generation)
}

fn outcome(bits: u32) -> Option<Outcome> {
    match bits & (ENDED | EMPTY) {
        0 => None,
        ENDED => Some(Outcome::Value),
        _ => Some(Outcome::Nothing),
    }
}

#[cfg(test)]
#[path = "tests/join.rs"]
mod tests;
