//! Bytes that a device brings, between its interrupt handler and whoever reads them.
//!
//! A ring with one producer, the handler, which always runs on the same CPU, and one consumer at a time. Neither waits for the
//! other. A byte is stored before `tail` says so, and read before `head` says that its place is free.
//!
//! # When the ring is full
//!
//! The rest stays in the device, which must not interrupt for it over and over, and must interrupt again once there is room.
//! So there is a word that says who owes that:
//!
//! 1. The handler finds no room. It turns the device's interrupts off,
//! 2. sets `stalled`, and after a fence
//! 3. looks for room again. If there is some, it takes `stalled` back and turns them on; if the consumer has taken it, that
//!    one does.
//!
//! a. The consumer makes room, and after a fence
//! b. takes `stalled`, if it is set, and turns the interrupts on.
//!
//! Of the two fences one is the later. If it is the handler's, 3 sees the room; if it is the consumer's, b sees the word. The word
//! goes to one of them only, and comes after the interrupts went off (2), so whoever turns them on does so afterwards. A device
//! whose interrupts come on with bytes in it interrupts, at once or when it has waited for more. So bytes wait in the device only
//! while the ring is full, or an interrupt is on its way.
//!
//! # Who waits is woken
//!
//! The reader waits for a unit, of which there is one at most; who has answered the handler releases one if there is none
//! ([`Input::owes_unit`]), and the reader looks again when it has taken it.
//!
//! 1. A byte is put into the ring. Then, after a fence, whoever answers looks at the unit.
//! 2. The reader takes the unit. Then, after a fence, it looks at the ring.
//!
//! If 1 finds a unit that 2 takes, its fence is the earlier one, and the reader sees the byte. If it finds none it releases one.

use alloc::boxed::Box;

use crate::sync::{AtomicU32, Ordering, fence};

/// What brings the bytes. Its calls do not wait.
pub trait Device {
    /// Takes a byte out. For the handler.
    fn receive(&self) -> Option<u8>;

    /// Turns its interrupts on: also for what is there already.
    fn enable_interrupts(&self);

    /// Turns them off.
    fn disable_interrupts(&self);
}

/// Bytes that the handler takes at a time: interrupts of other kinds have their turn then.
const PORTION: u32 = 64;

/// The ring.
#[derive(Debug)]
pub struct Input {
    /// Each holds a byte. A power of two of them.
    places: Box<[AtomicU32]>,
    /// Bytes that were taken, and that came; both wrap.
    head: AtomicU32,
    tail: AtomicU32,
    /// The handler has turned the device's interrupts off, and whoever takes this turns them on.
    stalled: AtomicU32,
}

impl Input {
    /// An empty ring for so many bytes.
    ///
    /// # Panics
    /// When it is no power of two.
    pub fn new(capacity: u32) -> Self {
        assert!(capacity.is_power_of_two(), "indices wrap");
        let places = (0..capacity).map(|_| AtomicU32::new(0)).collect();
        Self { places, head: AtomicU32::new(0), tail: AtomicU32::new(0), stalled: AtomicU32::new(0) }
    }

    /// Bytes in the ring, at some instant since the call.
    pub fn len(&self) -> u32 {
        // Acquire: pairs with the Release of `put`, for a consumer; with that of `take`, for the handler.
        let head = self.head.load(Ordering::Acquire);
        // The other's index may have moved on meanwhile, which is what the caller shall know.
        self.tail.load(Ordering::Acquire).wrapping_sub(head).min(self.capacity())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that there is room for.
    #[expect(clippy::cast_possible_truncation, reason = "`new` has made that many")]
    pub fn capacity(&self) -> u32 {
        self.places.len() as u32
    }

    fn place(&self, index: u32) -> &AtomicU32 {
        &self.places[(index & (self.capacity() - 1)) as usize]
    }

    /// Whether the reader is owed a unit, of whose semaphore this is the word. For whoever answers the handler.
    pub fn owes_unit(&self, units: &AtomicU32) -> bool {
        // Pairs with the first fence of `take`.
        fence(Ordering::SeqCst);
        !self.is_empty() && units.load(Ordering::Relaxed) == 0
    }

    /// Takes all that the device has, or all that there is room for, or a portion, after which it interrupts anew. For the
    /// handler.
    pub fn fill(&self, device: &impl Device) {
        let mut taken = 0;
        loop {
            while self.len() < self.capacity() {
                if taken == PORTION {
                    device.disable_interrupts();
                    device.enable_interrupts();
                    return;
                }
                match device.receive() {
                    Some(byte) => self.put(byte),
                    None => return,
                }
                taken += 1;
            }
            device.disable_interrupts();
            // Release: pairs with the Acquire of the consumer's swap, whose interrupts on come after the off.
            self.stalled.store(1, Ordering::Release);
            // Pairs with the fence in `take`.
            fence(Ordering::SeqCst);
            if self.len() == self.capacity() || !self.take_stalled() {
                return;
            }
            device.enable_interrupts();
        }
    }

    fn put(&self, byte: u8) {
        // Relaxed: the handler's own.
        let tail = self.tail.load(Ordering::Relaxed);
        // Relaxed, here and in `take`: the indices order it.
        self.place(tail).store(byte.into(), Ordering::Relaxed);
        self.tail.store(tail.wrapping_add(1), Ordering::Release);
    }

    /// Whether it is for the caller to turn the interrupts on.
    fn take_stalled(&self) -> bool {
        // Acquire: pairs with the Release in `fill`.
        self.stalled.swap(0, Ordering::AcqRel) != 0
    }

    /// Takes what is there, as much as fits, and says how much. For the consumer.
    #[expect(clippy::cast_possible_truncation, reason = "each place holds a byte")]
    pub fn take(&self, device: &impl Device, into: &mut [u8]) -> usize {
        // Pairs with the fence in `owes_unit`.
        fence(Ordering::SeqCst);
        // Relaxed: the consumer's own; the consumers before it are ordered by what makes them take turns.
        let head = self.head.load(Ordering::Relaxed);
        let mut at = head;
        for (byte, _) in into.iter_mut().zip(0..self.len()) {
            *byte = self.place(at).load(Ordering::Relaxed) as u8;
            at = at.wrapping_add(1);
        }
        // Release: pairs with the Acquire in `len`; the places are read before they are used again.
        self.head.store(at, Ordering::Release);
        // Pairs with the fence in `fill`.
        fence(Ordering::SeqCst);
        if self.stalled.load(Ordering::Relaxed) != 0 && self.take_stalled() {
            device.enable_interrupts();
        }
        at.wrapping_sub(head) as usize
    }
}

#[cfg(test)]
#[path = "tests/input.rs"]
mod tests;
