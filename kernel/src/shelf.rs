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

/// Where something that fits lies on the shelf of a stack.
pub(crate) fn place<T>(stack: StackId) -> *mut T {
    debug_assert!(fits::<T>());
    at(address::<T>(stack))
}

fn address<T>(stack: StackId) -> u64 {
    let align = align_of::<T>() as u64;
    (stack.top() - size_of::<T>() as u64) & !(align - 1)
}

/// Where the stack begins below a shelf for two kinds of things: a multiple of 16.
pub(crate) fn below<A, B>(stack: StackId) -> u64 {
    address::<A>(stack).min(address::<B>(stack)) & !15
}

/// Takes a goroutine's value from its shelf, or from the heap.
///
/// # Safety
/// The stack's goroutine has ended and has left a value of this type, which the caller is the first to take.
pub(crate) unsafe fn take<T>(stack: StackId) -> T {
    if fits::<T>() {
        // SAFETY: the caller's contract; the page is mapped as long as the slot is in use.
        return unsafe { place::<T>(stack).read() };
    }
    // SAFETY: as above: a value that does not fit is left in a vector.
    let mut boxed = unsafe { place::<Vec<T>>(stack).read() };
    boxed.pop().expect("a value that does not fit lies in a vector of one")
}

/// Drops a goroutine's value where it is.
///
/// # Safety
/// As [`take`].
pub(crate) unsafe fn discard<T>(stack: StackId) {
    if fits::<T>() {
        // SAFETY: the caller's contract.
        unsafe { place::<T>(stack).drop_in_place() };
    } else {
        // SAFETY: as above: a value that does not fit is left in a vector.
        unsafe { place::<Vec<T>>(stack).drop_in_place() };
    }
}
