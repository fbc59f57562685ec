//! Names of things: processors, goroutine slots, goroutines, sudogs.
//!
//! The core passes indices, never pointers: an index can be checked, and a queue of them needs no `unsafe`.

use core::fmt;
use core::num::{NonZeroU32, NonZeroU64};

use crate::sync::{AtomicU64, Ordering, Padded};

/// The most Ps that a machine may have; Go's `MaxGomaxprocs`.
pub const MAX_PROCS: u32 = 256;

/// Goroutine ids that a P takes from the [`GoidGenerator`] for its first goroutines. It takes twice as many each time …
pub const GOID_BATCH: u64 = 16;

/// … up to this number: whoever starts many goroutines seldom writes a word that belongs to all.
pub const GOID_BATCH_MAX: u64 = 4096;

/// Index of a P: less than [`MAX_PROCS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcId(u32);

impl ProcId {
    /// The P with this index, or `None` from [`MAX_PROCS`] on.
    pub const fn new(index: u32) -> Option<Self> {
        if index < MAX_PROCS { Some(Self(index)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as a slice index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}", self.0)
    }
}

/// Index of a slot in the goroutine table. Says where a goroutine is, not that it still lives; see [`GoRef`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoIndex(NonZeroU32);

impl GoIndex {
    /// The slot with this number, or `None` for `u32::MAX`, which names none.
    pub const fn new(index: u32) -> Option<Self> {
        // One more: then "no goroutine" is 0, and an optional index is one word.
        match NonZeroU32::new(index.wrapping_add(1)) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0.get() - 1
    }
}

/// Index of a sudog in the store of sudogs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SudogIndex(NonZeroU32);

impl SudogIndex {
    /// The sudog with this number, or `None` for `u32::MAX`, which names none.
    pub const fn new(index: u32) -> Option<Self> {
        // One more, as for a `GoIndex`.
        match NonZeroU32::new(index.wrapping_add(1)) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0.get() - 1
    }
}

/// What both kinds have.
macro_rules! by_number {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.get()).finish()
            }
        }

        impl $name {
            /// As a word of a link or a queue, where 0 names nothing: the number plus one.
            #[inline]
            pub const fn word(self) -> u32 {
                self.0.get()
            }

            /// What a word of a link or a queue names.
            #[inline]
            pub const fn in_word(word: u32) -> Option<Self> {
                match NonZeroU32::new(word) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }
        }
    )*};
}

by_number! { GoIndex SudogIndex }

/// A goroutine in its slot, at one life of that slot: a handle that is recognised when it is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GoRef {
    /// The slot.
    pub index: GoIndex,
    /// Which of the goroutines that lived in the slot. Wraps after 2^32 of them.
    pub generation: u32,
}

/// The number people see: unique, never reused, counted from 1. Go's `goid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Goid(NonZeroU64);

impl Goid {
    /// The id with this number, or `None` for 0.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Goid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where goroutine ids come from; Go's `sched.goidgen`.
///
/// Ps take [`GOID_BATCH`] or more at a time, so that a spawn seldom touches this word.
#[derive(Debug)]
pub struct GoidGenerator(Padded<AtomicU64>);

impl Default for GoidGenerator {
    fn default() -> Self {
        Self::new()
    }
}

impl GoidGenerator {
    /// A generator whose first id is 1.
    pub fn new() -> Self {
        Self(Padded(AtomicU64::new(1)))
    }

    /// Reserves that many ids for the caller and returns the first.
    pub(crate) fn reserve(&self, count: u64) -> u64 {
        // Relaxed: only the number matters, and an addition is never lost.
        self.0.fetch_add(count, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::{GoIndex, Goid, MAX_PROCS, ProcId, SudogIndex};

    #[test]
    fn ids_refuse_the_numbers_that_name_nothing() {
        assert_eq!(ProcId::new(MAX_PROCS), None);
        assert_eq!(ProcId::new(MAX_PROCS - 1).map(ProcId::get), Some(MAX_PROCS - 1));
        assert_eq!(GoIndex::new(u32::MAX), None);
        assert_eq!(SudogIndex::new(u32::MAX), None);
        assert_eq!(Goid::new(0), None);
    }

    #[test]
    fn a_goid_prints_its_number() {
        assert_eq!(Goid::new(42).map(|id| id.to_string()), Some("42".to_string()));
    }
}
