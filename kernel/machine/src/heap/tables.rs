//! Where the descriptions of spans and the map of pages are: what the decisions of this folder look things up in, on the
//! machine and on the host.

use core::sync::atomic::{AtomicU32, Ordering};

use super::span::Span;
use crate::frames::FRAME_SIZE;

/// Number of a span: 0 is none.
pub(super) type Number = u32;

/// Descriptions, and for each page of the arena the number of the span that it belongs to.
pub(super) trait Tables {
    fn span(&self, number: Number) -> &Span;

    /// The entry of the page that an address lies in, if the arena reaches so far.
    fn entry(&self, address: u64) -> Option<&AtomicU32>;

    /// The span that an address lies in.
    fn number_at(&self, address: u64) -> Option<Number> {
        // Acquire pairs with the Release in `mark`: whoever finds the number finds the description filled in.
        Some(self.entry(address)?.load(Ordering::Acquire)).filter(|number| *number != 0)
    }

    /// Writes a number to the entry of a page.
    fn mark(&self, address: u64, number: Number) {
        if let Some(entry) = self.entry(address) {
            // Release pairs with the Acquire of the look-ups.
            entry.store(number, Ordering::Release);
        }
    }

    /// Writes a number to the entry of each page of a range.
    fn mark_all(&self, start: u64, pages: usize, number: Number) {
        (0..pages as u64).for_each(|page| self.mark(start + page * FRAME_SIZE, number));
    }
}

#[cfg(any(test, feature = "model"))]
pub(super) mod host {
    use alloc::vec::Vec;

    use super::{AtomicU32, FRAME_SIZE, Number, Span, Tables};

    /// Descriptions and a map for a part of the addresses, in ordinary memory.
    pub(in super::super) struct Host {
        start: u64,
        pub(in super::super) spans: Vec<Span>,
        pub(in super::super) map: Vec<AtomicU32>,
    }

    impl Host {
        /// For so many pages from `start`, with numbers from 0 to `last`.
        pub(in super::super) fn new(start: u64, pages: usize, last: Number) -> Self {
            Self {
                start,
                spans: (0..=last).map(|_| Span::default()).collect(),
                map: (0..pages).map(|_| AtomicU32::new(0)).collect(),
            }
        }
    }

    impl Tables for Host {
        fn span(&self, number: Number) -> &Span {
            &self.spans[number as usize]
        }

        fn entry(&self, address: u64) -> Option<&AtomicU32> {
            let page = address.checked_sub(self.start)? / FRAME_SIZE;
            self.map.get(usize::try_from(page).expect("64 bits"))
        }
    }
}
