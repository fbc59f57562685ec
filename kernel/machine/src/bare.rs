//! What the bare machine needs for what is built on it: to be measured beside that, and for nothing else.

use alloc::boxed::Box;
use alloc::vec;
use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;

use crate::address::at;
use crate::context::{self, Context};
use crate::frames::FRAME_SIZE;
use crate::lock::{Lock, Rank};
use crate::paging::MapError;
use crate::percpu::Pinned;
use crate::stack::{self, WholeStack};

/// Two contexts that switch to each other.
struct Pair {
    here: Cell<Context>,
    there: Cell<Context>,
}

/// Switches to another context and back, so many times: two switches each.
///
/// # Errors
/// [`MapError`]: there is no memory for the other context's stack.
pub fn switch_there_and_back(times: u64) -> Result<(), MapError> {
    /// A stack that a call before has left.
    static SPARE: Lock<Option<WholeStack>> = Lock::new(Rank::Leaf, None);
    let spare = SPARE.lock().take();
    let stack = spare.map_or_else(|| stack::allocate_whole(2 * FRAME_SIZE), Ok)?;
    let pair = Pair { here: Cell::new(Context::NONE), there: Cell::new(Context::NONE) };
    let argument = ptr::from_ref(&pair).expose_provenance() as u64;
    let pinned = Pinned::new();
    // SAFETY: 1. the stack ends at a page, is mapped, and is this call's alone; 2. it is never freed.
    pair.there.set(unsafe { context::prepare(stack.top, go_back, argument) });
    for _ in 0..times {
        // SAFETY: 1. `there` is what was prepared, or what its own switch has saved just now; 2. `here` is a place of
        // this frame, and only `go_back` continues it; 3. no lock is held, and the pin keeps both sides on this CPU.
        unsafe { context::switch(pair.here.as_ptr(), pair.there.get(), 0) };
    }
    drop(pinned);
    *SPARE.lock() = Some(stack);
    Ok(())
}

/// The other side. It stays in its switch when nobody comes any more.
extern "C" fn go_back(_: u64, pair: u64) -> ! {
    let pair: *const Pair = at(pair);
    // SAFETY: it lives in the frame that switches here, which waits for the switch back.
    let pair = unsafe { &*pair };
    loop {
        // SAFETY: 1. `here` was saved by the switch that has led here; 2. `there` is the other side's, which alone
        // continues it; 3. as there.
        unsafe { context::switch(pair.there.as_ptr(), pair.here.get(), 0) };
    }
}

/// `linked_list_allocator` behind one lock.
pub struct BareHeap(Lock<Heap>);

/// A block of a [`BareHeap`].
pub struct BareBlock {
    place: NonNull<u8>,
    layout: Layout,
    heap: &'static BareHeap,
}

// SAFETY: it owns its bytes, and the heap that it goes back to is locked.
unsafe impl Send for BareBlock {}

impl BareHeap {
    /// A heap of so many bytes, which stays.
    pub fn leaked(bytes: usize) -> &'static Self {
        let memory = Box::leak(vec![MaybeUninit::uninit(); bytes].into_boxed_slice());
        Box::leak(Box::new(Self(Lock::new(Rank::Leaf, Heap::from_slice(memory)))))
    }

    /// A block, if there is room.
    pub fn allocate(&'static self, layout: Layout) -> Option<BareBlock> {
        let place = self.0.lock().allocate_first_fit(layout).ok()?;
        Some(BareBlock { place, layout, heap: self })
    }

    /// Bytes that are in use.
    pub fn used(&self) -> usize {
        self.0.lock().used()
    }
}

impl Drop for BareBlock {
    fn drop(&mut self) {
        let mut heap = self.heap.0.lock();
        // SAFETY: the block comes from this heap, with this layout, and is given back once.
        unsafe { heap.deallocate(self.place, self.layout) };
    }
}

impl fmt::Debug for BareHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BareHeap").finish_non_exhaustive()
    }
}

impl fmt::Debug for BareBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BareBlock").field("layout", &self.layout).finish_non_exhaustive()
    }
}
