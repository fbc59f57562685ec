//! What may be known of a channel without its lock: one word, which whoever holds the lock keeps true.

use crate::sync::{AtomicU64, Ordering};

/// The part that may be read without the lock.
#[derive(Debug)]
pub struct Glance(AtomicU64);

/// Bits of a glance; the length is above them.
pub(crate) const IS_CLOSED: u64 = 1;
pub(crate) const RECEIVERS: u64 = 2;
pub(crate) const SENDERS: u64 = 4;
pub(crate) const LENGTH_SHIFT: u32 = 3;
pub(crate) const LENGTH_ONE: u64 = 1 << LENGTH_SHIFT;

impl Default for Glance {
    fn default() -> Self {
        Self::new()
    }
}

impl Glance {
    /// That of a new channel.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn get(&self) -> u64 {
        // Acquire: pairs with the Release in `publish`. What came before a close is visible to who learns of it
        // here.
        self.0.load(Ordering::Acquire)
    }

    /// Shows another word, with the channel's lock held.
    #[inline]
    pub(crate) fn publish(&self, word: u64) {
        // Release pairs with the Acquire in `get`.
        self.0.store(word, Ordering::Release);
    }

    /// Sets a bit, with the channel's lock held.
    #[inline]
    pub(crate) fn set(&self, bit: u64) {
        self.publish(self.own() | bit);
    }

    /// Clears a bit, with the channel's lock held.
    #[inline]
    pub(crate) fn clear(&self, bit: u64) {
        self.publish(self.own() & !bit);
    }

    /// Changes the word by a difference, with the channel's lock held.
    #[inline]
    pub(crate) fn add(&self, difference: u64) {
        self.publish(self.own().wrapping_add(difference));
    }

    /// The word, for who holds the channel's lock.
    #[inline]
    fn own(&self) -> u64 {
        // Relaxed: nobody else writes.
        self.0.load(Ordering::Relaxed)
    }

    /// Values in the ring.
    pub fn len(&self) -> usize {
        usize::try_from(self.get() >> LENGTH_SHIFT).unwrap_or(usize::MAX)
    }

    /// Whether the ring holds no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the channel is closed: for good.
    pub fn is_closed(&self) -> bool {
        self.get() & IS_CLOSED != 0
    }
}
