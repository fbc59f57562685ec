//! Size classes: small blocks are rounded up to one of [`CLASSES`] sizes.
//!
//! Up to 128 bytes the sizes are the multiples of 16; above, each power of two is cut into eight equal steps. So a block
//! is at most an eighth larger than what was asked for, or 15 bytes.

use core::alloc::Layout;

use crate::frames::FRAME_SIZE;

/// Size classes that there are.
pub const CLASSES: usize = FINE + (LARGEST.ilog2() - FINE_END.ilog2()) as usize * STEPS;
/// Blocks larger than this have a span of their own.
pub const LARGEST: usize = 64 * 1024;
/// Blocks in a span at most: one bit for each in the span's bitmap.
pub const MOST_BLOCKS: usize = 512;

/// Multiples of 16 up to here.
const FINE_END: usize = 128;
const FINE: usize = FINE_END / 16;
/// Steps in a power of two.
const STEPS: usize = 8;
/// A span has room for at least so many blocks, …
const FEWEST_BLOCKS: usize = 4;
/// … and at least so many bytes.
const SMALLEST_SPAN: usize = 8 * 1024;

/// Sizes up to here are looked up in steps of [`NEAR_STEP`], larger ones in steps of [`FAR_STEP`]: the smallest
/// differences between classes on either side.
const NEAR_END: usize = 1024;
const NEAR_STEP: usize = 16;
const FAR_STEP: usize = 128;

/// The class of each multiple of a step.
static NEAR: [Class; NEAR_END / NEAR_STEP + 1] = lookup(0, NEAR_STEP);
static FAR: [Class; (LARGEST - NEAR_END) / FAR_STEP + 1] = lookup(NEAR_END, FAR_STEP);

/// Bytes in a block, pages and blocks in a span, of each class.
static SHAPES: [Shape; CLASSES] = shapes();

/// Bytes in a block of each class.
pub static SIZES: [u64; CLASSES] = sizes();

const fn sizes() -> [u64; CLASSES] {
    let mut sizes = [0; CLASSES];
    let mut number = 0;
    while number < CLASSES {
        sizes[number] = size_of_class(number) as u64;
        number += 1;
    }
    sizes
}

#[derive(Clone, Copy)]
struct Shape {
    /// In steps of [`NEAR_STEP`].
    size: u16,
    pages: u16,
    blocks: u16,
}

/// A size class: its number is below [`CLASSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class(u8);

impl Class {
    /// All classes, the smallest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES).filter_map(Self::new)
    }

    /// The class with this number.
    pub fn new(number: usize) -> Option<Self> {
        u8::try_from(number).ok().filter(|_| number < CLASSES).map(Self)
    }

    /// The smallest class whose blocks hold this and are aligned for it; `None` for large blocks.
    ///
    /// The smallest class for a multiple of the alignment is one itself: up to the alignment sizes of classes lie no
    /// further apart than that, or are all the multiples that there are.
    pub fn of(layout: Layout) -> Option<Self> {
        let align = layout.align();
        let size = layout.size().checked_next_multiple_of(align)?;
        if size > LARGEST || align > frame_size() {
            None
        } else if size <= NEAR_END {
            Some(NEAR[size.div_ceil(NEAR_STEP)])
        } else {
            Some(FAR[(size - NEAR_END).div_ceil(FAR_STEP)])
        }
    }

    /// Its number.
    #[inline]
    pub fn number(self) -> usize {
        usize::from(self.0)
    }

    fn shape(self) -> Shape {
        SHAPES[self.number()]
    }

    /// Bytes in a block.
    pub fn size(self) -> usize {
        usize::from(self.shape().size) * NEAR_STEP
    }

    /// Pages in a span: as few as waste an eighth at most.
    pub fn pages(self) -> usize {
        usize::from(self.shape().pages)
    }

    /// Blocks in a span.
    pub fn blocks(self) -> usize {
        usize::from(self.shape().blocks)
    }
}

/// Bytes in a block of the class with a number.
pub(super) const fn size_of_class(number: usize) -> usize {
    if number < FINE {
        return (number + 1) * 16;
    }
    let (power, steps) = ((number - FINE) / STEPS, (number - FINE) % STEPS + 1);
    (FINE_END << power) + steps * ((FINE_END << power) / STEPS)
}

/// The smallest class for `start`, and for each step above it.
const fn lookup<const N: usize>(start: usize, step: usize) -> [Class; N] {
    let mut table = [Class(0); N];
    let (mut at, mut class) = (0, 0);
    while at < N {
        while size_of_class(class) < start + at * step {
            class += 1;
        }
        table[at] = Class(narrow(class).to_le_bytes()[0]);
        at += 1;
    }
    table
}

const fn shapes() -> [Shape; CLASSES] {
    let mut shapes = [Shape { size: 0, pages: 0, blocks: 0 }; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let size = size_of_class(class);
        let pages = pages_for(size);
        let blocks = blocks_in(pages, size);
        shapes[class] =
            Shape { size: narrow(size / NEAR_STEP), pages: narrow(pages), blocks: narrow(blocks) };
        class += 1;
    }
    shapes
}

/// A number of a table, which is small.
const fn narrow(number: usize) -> u16 {
    assert!(number <= u16::MAX as usize, "it is small");
    let bytes = number.to_le_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

const fn pages_for(size: usize) -> usize {
    let bytes = if FEWEST_BLOCKS * size > SMALLEST_SPAN { FEWEST_BLOCKS * size } else { SMALLEST_SPAN };
    let fewest = bytes.div_ceil(frame_size());
    let mut pages = fewest;
    while pages < 2 * fewest {
        let waste = pages * frame_size() - blocks_in(pages, size) * size;
        if waste * 8 <= pages * frame_size() {
            return pages;
        }
        pages += 1;
    }
    fewest
}

const fn blocks_in(pages: usize, size: usize) -> usize {
    let blocks = pages * frame_size() / size;
    if blocks < MOST_BLOCKS { blocks } else { MOST_BLOCKS }
}

/// Bytes in a page, as the size of a block.
pub(crate) const fn frame_size() -> usize {
    crate::address::size(FRAME_SIZE)
}

#[cfg(test)]
mod tests {
    use core::alloc::Layout;

    use super::{CLASSES, Class, LARGEST, frame_size};

    fn class(size: usize, align: usize) -> Option<Class> {
        Class::of(Layout::from_size_align(size, align).expect("a layout"))
    }

    #[test]
    fn sizes_rise_and_end_at_the_largest() {
        let sizes: alloc::vec::Vec<usize> = Class::all().map(Class::size).collect();
        assert_eq!(sizes.len(), CLASSES);
        assert!(sizes.is_sorted_by(|one, next| one < next));
        assert_eq!((sizes[0], sizes[CLASSES - 1]), (16, LARGEST));
    }

    #[test]
    #[cfg_attr(miri, ignore = "it takes hours there, and there is no memory in it")]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for size in 1..=LARGEST {
            let found = class(size, 1).expect("small");
            let best = Class::all().find(|class| class.size() >= size).expect("the largest holds it");
            assert_eq!(found, best, "{size} bytes");
            assert!(found.size() - size <= (size / 8).max(15), "{size} bytes in a block of {}", found.size());
        }
        assert_eq!(class(LARGEST + 1, 1), None);
    }

    #[test]
    fn blocks_are_aligned_as_asked() {
        for align in (0..=12).map(|power| 1 << power) {
            for size in [1, 24, 100, 129, 1_000, 4_096, 5_000, LARGEST] {
                let class = class(size, align).expect("small");
                assert!(class.size() >= size && class.size().is_multiple_of(align), "{size} at {align}");
            }
        }
        assert_eq!(class(8, 8_192), None, "more than a page");
    }

    #[test]
    fn spans_waste_little() {
        for class in Class::all() {
            let (bytes, used) = (class.pages() * frame_size(), class.blocks() * class.size());
            assert!(class.blocks() >= 4 && used <= bytes, "{} bytes", class.size());
            assert!((bytes - used) * 8 <= bytes, "{} of {bytes} bytes for blocks of {}", used, class.size());
        }
    }
}
