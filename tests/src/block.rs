//! Blocks of memory with layouts beyond those of Rust's own types.

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::hint::black_box;

use crate::Random;

/// A block of bytes with a layout of its own choice.
#[derive(Debug)]
pub struct Block {
    start: *mut u8,
    /// As it was asked for.
    pub layout: Layout,
    mark: u8,
}

#[expect(unsafe_code, reason = "layouts beyond those of Rust's own types are what the cases are about")]
// SAFETY: the block is memory that belongs to this value alone.
unsafe impl Send for Block {}

#[expect(unsafe_code, reason = "layouts beyond those of Rust's own types are what the cases are about")]
impl Block {
    /// Takes a block and fills it.
    ///
    /// # Panics
    /// When memory is used up, or the block has no bytes.
    pub fn new(layout: Layout, mark: u8) -> Self {
        assert!(layout.size() > 0, "the allocator's contract");
        // Opaque: the compiler may leave out a block that nobody looks at.
        // SAFETY: the size is not 0.
        let start = black_box(unsafe { alloc(layout) });
        assert!(!start.is_null(), "there is memory");
        // SAFETY: the block is as long as its layout says.
        unsafe { start.write_bytes(mark, layout.size()) };
        Self { start, layout, mark }
    }

    /// Whether it lies where it should and holds what was written.
    pub fn is_whole(&self) -> bool {
        // SAFETY: `new` filled it, and nobody else has it.
        let bytes = unsafe { core::slice::from_raw_parts(self.start, self.layout.size()) };
        self.start.addr().is_multiple_of(self.layout.align()) && bytes.iter().all(|byte| *byte == self.mark)
    }

    /// Address of its first byte.
    pub fn address(&self) -> u64 {
        self.start.addr() as u64
    }
}

#[expect(unsafe_code, reason = "as above")]
impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` took it with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}

/// A size that is small most of the time, and an alignment.
///
/// # Panics
/// Never: such layouts exist.
pub fn layout(random: &mut Random) -> Layout {
    let size = match random.below(20) {
        0 => random.index(200_000),
        1..4 => random.index(33_000),
        _ => random.index(600),
    };
    let align = 1 << if random.below(4) == 0 { random.below(14) } else { random.below(5) };
    Layout::from_size_align(size + 1, align).expect("small")
}
