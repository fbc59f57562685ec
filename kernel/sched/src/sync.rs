//! The seam to the model checker: shared words, real or modelled, and words that only one CPU writes.
//!
//! Everything that two CPUs may race for is an [`AtomicU32`] or [`AtomicU64`] of this module. Built with
//! `--cfg loom` they are loom's, which tries every order of accesses and every stale value that the
//! memory model allows. No other module of the crate knows about the model checker.
//!
//! A field that belongs to the CPU holding a P, or that a lock of the kernel guards, is a [`Plain32`] or
//! [`Plain64`]: an atomic accessed `Relaxed`, which compiles to a plain move. It needs no `unsafe` for a
//! structure that many CPUs hold a reference to, and the model checker does not waste its time on it.

use core::sync::atomic::{AtomicU32 as Unmodelled32, AtomicU64 as Unmodelled64};

pub use core::sync::atomic::Ordering;

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU32, AtomicU64, fence};

/// Slots of a local run queue. A power of two.
#[cfg(not(loom))]
pub const QUEUE_CAPACITY: u32 = 256;

/// Slots of a local run queue: small, so that the model checker reaches a full ring.
#[cfg(loom)]
pub const QUEUE_CAPACITY: u32 = 4;

/// Goroutine slots that the table grows by. A power of two.
#[cfg(not(loom))]
pub const CHUNK_SLOTS: u32 = 256;

/// Goroutine slots that the table grows by: the model checker pays for every atomic that exists.
#[cfg(loom)]
pub const CHUNK_SLOTS: u32 = 4;

/// Dead goroutines (or unused sudogs) that move between a P and the shared lists at a time.
#[cfg(not(loom))]
pub const FREE_BATCH: u32 = 32;

/// Dead goroutines that move at a time: two, so that the model checker has several batches of few.
#[cfg(loom)]
pub const FREE_BATCH: u32 = 2;

/// Roots of the semaphore table: 256, one for each value of a byte of the hash.
#[cfg(not(loom))]
pub const SEMA_ROOTS: usize = 256;

/// Roots of the semaphore table: one, so that the model checker always has all waiters in the same.
#[cfg(loom)]
pub const SEMA_ROOTS: usize = 1;

/// Words of the idle mask, and Ps that have one in common: fewer Ps than there are bits, so that CPUs that go to sleep and wake up
/// seldom write the same line, and not one, so that a look at all is short.
#[cfg(not(loom))]
pub const IDLE_WORDS: u32 = 16;

/// Words of the idle mask: two, so that the model checker has Ps in either.
#[cfg(loom)]
pub const IDLE_WORDS: u32 = 2;

/// Ps that have a word of the idle mask in common.
#[cfg(not(loom))]
pub const PROCS_PER_WORD: u32 = 16;

/// Ps that have a word of the idle mask in common.
#[cfg(loom)]
pub const PROCS_PER_WORD: u32 = 2;

/// Makes a function `const`, which the model checker's words do not allow.
#[cfg(not(loom))]
macro_rules! const_unless_modelled {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => { $(#[$meta])* $vis const fn $($rest)* };
}

/// Makes a function `const`, which the model checker's words do not allow.
#[cfg(loom)]
macro_rules! const_unless_modelled {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => { $(#[$meta])* $vis fn $($rest)* };
}

pub(crate) use const_unless_modelled;

/// Stands between two `SeqCst` accesses whose order an argument needs.
///
/// The memory model orders them without it. The model checker takes `SeqCst` accesses for weaker ones, and only
/// fences for what they are.
#[cfg(not(loom))]
pub const fn between_seq_cst() {}

/// Stands between two `SeqCst` accesses whose order an argument needs.
///
/// The memory model orders them without it. The model checker takes `SeqCst` accesses for weaker ones, and only
/// fences for what they are.
#[cfg(loom)]
pub fn between_seq_cst() {
    fence(Ordering::SeqCst);
}

/// A 32-bit word with one writer at a time, who needs no ordering from it. Others may read an older value.
#[derive(Debug, Default)]
pub struct Plain32(Unmodelled32);

impl Plain32 {
    /// A word holding `value`.
    pub const fn new(value: u32) -> Self {
        Self(Unmodelled32::new(value))
    }

    /// The value last stored, or an older one for a CPU that is not the writer.
    pub fn get(&self) -> u32 {
        // Pairs with nothing: whatever hands the word to its next writer (a lock, a queue) orders it.
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value. Only for the word's owner.
    pub fn set(&self, value: u32) {
        // Pairs with nothing, as in `get`.
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A 64-bit word with one writer at a time, who needs no ordering from it. Others may read an older value.
#[derive(Debug, Default)]
pub struct Plain64(Unmodelled64);

impl Plain64 {
    /// A word holding `value`.
    pub const fn new(value: u64) -> Self {
        Self(Unmodelled64::new(value))
    }

    /// The value last stored, or an older one for a CPU that is not the writer.
    pub fn get(&self) -> u64 {
        // Pairs with nothing: whatever hands the word to its next writer (a lock, a queue) orders it.
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value. Only for the word's owner.
    pub fn set(&self, value: u64) {
        // Pairs with nothing, as in `get`.
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `amount`, wrapping. Only for the word's owner: an addition of another CPU could be lost.
    pub fn add(&self, amount: u64) {
        self.set(self.get().wrapping_add(amount));
    }
}

/// Gives a value cache lines of its own: two, because x86 fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

impl<T> core::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
