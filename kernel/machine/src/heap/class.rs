//! Size classes: small blocks are rounded up to one of [`CLASSES`] sizes.
//!
//! Up to 128 bytes the sizes are the multiples of 16; above, each power of two is cut into eight equal steps. So a block
//! is at most an eighth larger than what was asked for, or 15 bytes.

use core::alloc::Layout;

use crate::frames::FRAME_SIZE;

/// Size classes that there are.
pub const CLASSES: usize = FINE + (LARGEST.ilog2() - FINE_END.ilog2()) as usize * STEPS;
/// Blocks larger than this have a span of their own.
pub const LARGEST: usize = 32 * 1024;
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

/// A size class.
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
    pub fn of(layout: Layout) -> Option<Self> {
        let (size, align) = (layout.size().max(1), layout.align());
        if size > LARGEST || align > frame_size() {
            return None;
        }
        let first = usize::from(Self::holding(size.max(align)).0);
        // Blocks lie at multiples of their size from the beginning of a page.
        (first..CLASSES).filter_map(Self::new).find(|class| class.size().is_multiple_of(align))
    }

    /// The smallest class with blocks of at least this size, which is 1 to [`LARGEST`].
    fn holding(size: usize) -> Self {
        let number = if size <= FINE_END {
            size.div_ceil(16) - 1
        } else {
            // The power of two below, and the steps above it.
            let power = (size - 1).ilog2();
            let step = 1 << (power - STEPS.ilog2());
            let steps = (size - (1 << power)).div_ceil(step);
            FINE + (power - FINE_END.ilog2()) as usize * STEPS + steps - 1
        };
        Self::new(number).unwrap_or(Self(0))
    }

    /// Its number.
    pub fn number(self) -> usize {
        usize::from(self.0)
    }

    /// Bytes in a block.
    pub fn size(self) -> usize {
        let number = self.number();
        if number < FINE {
            return (number + 1) * 16;
        }
        let (power, steps) = ((number - FINE) / STEPS, (number - FINE) % STEPS + 1);
        (FINE_END << power) + steps * ((FINE_END << power) / STEPS)
    }

    /// Pages in a span: as few as waste an eighth at most.
    pub fn pages(self) -> usize {
        let fewest = (FEWEST_BLOCKS * self.size()).max(SMALLEST_SPAN).div_ceil(frame_size());
        let waste = |pages: usize| pages * frame_size() - self.blocks_in(pages) * self.size();
        (fewest..2 * fewest).find(|&pages| waste(pages) * 8 <= pages * frame_size()).unwrap_or(fewest)
    }

    /// Blocks in a span.
    pub fn blocks(self) -> usize {
        self.blocks_in(self.pages())
    }

    fn blocks_in(self, pages: usize) -> usize {
        (pages * frame_size() / self.size()).min(MOST_BLOCKS)
    }
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
