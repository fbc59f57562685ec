//! The top of a goroutine's stack, where its closure lies before it runs and its value after it has.
//!
//! A shelf holds one thing at a time, so both have the same place: a spawn and a join allocate nothing. Whatever is larger than half of the
//! one page that is sure to be mapped lies on the heap, in a vector with room for one, and the vector on the shelf; the room
//! is made when the goroutine is started, so that there is no want of memory when it ends.

use alloc::vec::Vec;

use machine::address::at;
use machine::stack::StackId;

/// Largest thing that is put on the shelf itself.
const MAX: usize = 2048;

/// Whether a value of this type lies on the shelf itself.
pub(crate) const fn fits<T>() -> bool {
    size_of::<T>() <= MAX && align_of::<T>() <= MAX
}

/// A stack's shelf: the address one past the stack's highest byte, a multiple of all alignments that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shelf(u64);

/// Bytes from the top down to where something that fits begins: a multiple of its alignment, as sizes are.
const fn depth<T>() -> u64 {
    size_of::<T>() as u64
}

impl Shelf {
    #[inline]
    pub(crate) const fn of(stack: StackId) -> Self {
        Self(stack.top())
    }

    /// As a word that goes with a new context.
    #[inline]
    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    /// What [`word`](Self::word) has made.
    #[inline]
    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Where something that fits lies.
    #[inline]
    pub(crate) fn place<T>(self) -> *mut T {
        debug_assert!(fits::<T>());
        at(self.0.wrapping_sub(depth::<T>()))
    }

    /// Where the stack begins below a shelf for two kinds of things: a multiple of 16.
    #[inline]
    pub(crate) fn below<A, B>(self) -> u64 {
        self.0.wrapping_sub(depth::<A>().max(depth::<B>()).next_multiple_of(16))
    }

    /// Takes a goroutine's value from here, or from the heap.
    ///
    /// # Safety
    /// The stack's goroutine has ended and has left a value of this type, which the caller is the first to take.
    pub(crate) unsafe fn take<T>(self) -> T {
        if const { fits::<T>() } {
            // SAFETY: the caller's contract; the page is mapped as long as the slot is in use.
            return unsafe { self.place::<T>().read() };
        }
        // SAFETY: as above: a value that does not fit is left in a vector.
        let mut boxed = unsafe { self.place::<Vec<T>>().read() };
        boxed.pop().expect("a value that does not fit lies in a vector of one")
    }

    /// Drops a goroutine's value where it is.
    ///
    /// # Safety
    /// As [`take`](Self::take).
    pub(crate) unsafe fn discard<T>(self) {
        if const { fits::<T>() } {
            // SAFETY: the caller's contract.
            unsafe { self.place::<T>().drop_in_place() };
        } else {
            // SAFETY: as above: a value that does not fit is left in a vector.
            unsafe { self.place::<Vec<T>>().drop_in_place() };
        }
    }
}
