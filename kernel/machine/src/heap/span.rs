//! A span: a run of pages cut into blocks of one size, with a bit for each block that is handed out.
//!
//! Blocks are taken by the CPU that owns the span, and given back by any. Both change the bitmap by one atomic
//! instruction, so it is exact at every instant: who looks while nobody allocates finds every block once.
//!
//! # A full span is not lost
//!
//! ```text
//!             1 the owner finds no block            2 a block comes back
//!   ┌───────┐ ──────────────────────────► ┌──────┐ ──────────────────────► ┌────────┐
//!   │ Owned │                             │ Full │                         │ Listed │ in its class's list
//!   └───────┘ ◄────────────────────────── └──────┘                         └────────┘
//!       ▲       3 the owner looks again                                        │
//!       └──────────────────────────────────────────────────────────────────────┘
//!                              4 a CPU takes it from the list
//! ```
//!
//! The owner stores Full, fences, and looks at the bitmap once more; if a block has come back meanwhile, it tries to
//! take the span back (3). Who gives a block back clears its bit, fences, and looks at the state; if it is Full, it
//! tries to move the span to the list (2). Fences have one order: one of the two sees what the other did, and the
//! compare-exchange gives the span to one of them.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::class::{Class, MOST_BLOCKS};

/// Bits in a word of the bitmap.
const BITS: usize = u64::BITS as usize;
const WORDS: usize = MOST_BLOCKS / BITS;

/// What a span is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// Nothing: the number is free.
    Unused = 0,
    /// A CPU takes blocks from it.
    Owned = 1,
    /// All blocks were handed out when its owner gave it up.
    Full = 2,
    /// It is in the list of its class.
    Listed = 3,
    /// It is one large block.
    Large = 4,
    /// Its pages are not mapped.
    Released = 5,
}

/// The description of one span.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Span {
    /// Address of the first byte.
    start: AtomicU64,
    /// Bytes in a block; for a large one what was asked for, rounded up to pages.
    size: AtomicU64,
    pages: AtomicU32,
    class: AtomicU32,
    state: AtomicU32,
    /// The next span of its list, by number. Belongs to who holds the list's lock.
    pub(super) next: AtomicU32,
    /// Word of the bitmap where the owner looks first.
    hint: AtomicU32,
    bits: [AtomicU64; WORDS],
}

/// The class of a span that is none of a class.
const NO_CLASS: u32 = u32::MAX;

/// What a block that came back makes necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Returned {
    /// Nothing.
    Done,
    /// The span has just become Listed: put it into its class's list.
    MustList,
    /// The block was not handed out.
    NotAllocated,
}

impl Span {
    /// Prepares a span that nobody knows yet, in state [`State::Owned`].
    pub(super) fn prepare(&self, start: u64, class: Class) {
        self.set(start, class.size() as u64, class.pages(), State::Owned);
        self.class.store(u32::try_from(class.number()).unwrap_or(NO_CLASS), Ordering::Relaxed);
        for (word, bits) in self.bits.iter().enumerate() {
            // Blocks that do not exist are never free.
            let blocks = class.blocks().saturating_sub(word * BITS);
            let missing = if blocks >= BITS { 0 } else { u64::MAX << blocks };
            bits.store(missing, Ordering::Relaxed);
        }
    }

    /// Prepares a span that is one block, or that holds nothing.
    pub(super) fn prepare_whole(&self, start: u64, pages: usize, state: State) {
        self.set(start, pages as u64 * crate::frames::FRAME_SIZE, pages, state);
        self.class.store(NO_CLASS, Ordering::Relaxed);
    }

    // Relaxed, here and above: the span is nobody else's; the page map, or a list's lock, publishes it.
    fn set(&self, start: u64, size: u64, pages: usize, state: State) {
        self.start.store(start, Ordering::Relaxed);
        self.size.store(size, Ordering::Relaxed);
        self.pages.store(u32::try_from(pages).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.hint.store(0, Ordering::Relaxed);
        self.set_state(state);
    }

    /// Changes the state, where only one CPU can.
    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u32, Ordering::Relaxed);
    }

    pub(super) fn is(&self, state: State) -> bool {
        self.state.load(Ordering::Relaxed) == state as u32
    }

    pub(super) fn start(&self) -> u64 {
        self.start.load(Ordering::Relaxed)
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    pub(super) fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed) as usize
    }

    /// The class, unless it is a large block.
    pub(super) fn class(&self) -> Option<Class> {
        Class::new(self.class.load(Ordering::Relaxed) as usize)
    }

    /// Takes a block: its address. Only for the owner.
    pub(super) fn take(&self) -> Option<u64> {
        let first = self.hint.load(Ordering::Relaxed) as usize;
        for word in (first..WORDS).chain(0..first) {
            let bits = &self.bits[word];
            let free = !bits.load(Ordering::Relaxed);
            if free == 0 {
                continue;
            }
            let bit = free.trailing_zeros();
            // Acquire pairs with the Release in `give_back`: what was written to the block before is over. Only the
            // owner sets bits, so this one is still clear.
            bits.fetch_or(1 << bit, Ordering::Acquire);
            self.hint.store(u32::try_from(word).unwrap_or(0), Ordering::Relaxed);
            let index = word as u64 * BITS as u64 + u64::from(bit);
            return Some(self.start() + index * self.size());
        }
        None
    }

    /// Arrow 1, for the owner, who has found no block. `true`: it goes on owning the span (arrow 3), which has blocks
    /// again.
    pub(super) fn give_up(&self) -> bool {
        // Release pairs with the Acquire of the exchange in `give_back`.
        self.state.store(State::Full as u32, Ordering::Release);
        // Pairs with the fence in `give_back`.
        fence(Ordering::SeqCst);
        let full = self.bits.iter().all(|bits| bits.load(Ordering::Relaxed) == u64::MAX);
        !full && self.exchange(State::Full, State::Owned)
    }

    /// Gives the block at `address` back; arrow 2 if that falls to the caller.
    pub(super) fn give_back(&self, address: u64) -> Returned {
        let Some((word, bit)) = self.place(address) else { return Returned::NotAllocated };
        // Release pairs with the Acquire in `take`.
        if self.bits[word].fetch_and(!bit, Ordering::Release) & bit == 0 {
            return Returned::NotAllocated;
        }
        // Pairs with the fence in `give_up`.
        fence(Ordering::SeqCst);
        if self.is(State::Full) && self.exchange(State::Full, State::Listed) {
            return Returned::MustList;
        }
        Returned::Done
    }

    fn exchange(&self, from: State, to: State) -> bool {
        // AcqRel: who gets the span sees what its owner before did.
        self.state.compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Word and bit of a block that begins at this address.
    fn place(&self, address: u64) -> Option<(usize, u64)> {
        let offset = address.checked_sub(self.start())?;
        let index = offset.is_multiple_of(self.size()).then(|| offset / self.size())?;
        self.bit_of(index)
    }

    fn bit_of(&self, index: u64) -> Option<(usize, u64)> {
        let index =
            usize::try_from(index).ok().filter(|index| *index < self.class().map_or(0, Class::blocks))?;
        Some((index / BITS, 1 << (index % BITS)))
    }

    /// Whether no block is handed out.
    pub(super) fn is_empty(&self) -> bool {
        self.live().next().is_none()
    }

    /// Addresses of the blocks that are handed out.
    pub(super) fn live(&self) -> impl Iterator<Item = u64> {
        let blocks = self.class().map_or(0, Class::blocks);
        let taken =
            |index: &usize| self.bits[index / BITS].load(Ordering::Relaxed) >> (index % BITS) & 1 == 1;
        (0..blocks).filter(taken).map(|index| self.start() + index as u64 * self.size())
    }

    /// Start of the block that holds the address, if it is handed out.
    pub(super) fn block_at(&self, address: u64) -> Option<u64> {
        let index = address.checked_sub(self.start())? / self.size();
        let (word, bit) = self.bit_of(index)?;
        (self.bits[word].load(Ordering::Relaxed) & bit != 0).then(|| self.start() + index * self.size())
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use std::sync::mpsc;

    use super::{Class, Returned, Span, State};

    fn span(class: Class) -> Span {
        let span = Span::default();
        span.prepare(0x1_0000, class);
        span
    }

    #[test]
    fn each_block_is_handed_out_once_and_lies_in_the_span() {
        for class in Class::all() {
            let span = span(class);
            let blocks: BTreeSet<u64> = core::iter::from_fn(|| span.take()).collect();
            assert_eq!(blocks.len(), class.blocks());
            let end = span.start() + class.pages() as u64 * 4096;
            assert!(blocks.iter().all(|block| *block >= span.start() && block + class.size() as u64 <= end));
            assert_eq!(span.live().collect::<BTreeSet<_>>(), blocks);
            assert!(!span.give_up(), "it is full");
        }
    }

    #[test]
    fn a_block_that_comes_back_to_a_full_span_lists_it_once() {
        let span = span(Class::new(20).expect("a class"));
        let blocks: Vec<u64> = core::iter::from_fn(|| span.take()).collect();
        assert!(!span.give_up());
        assert_eq!(span.give_back(blocks[3]), Returned::MustList);
        assert_eq!(span.give_back(blocks[5]), Returned::Done);
        assert_eq!(span.give_back(blocks[3]), Returned::NotAllocated, "twice");
        assert_eq!(span.give_back(blocks[1] + 1), Returned::NotAllocated, "inside of a block");
        assert_eq!(span.give_back(span.start() + 0x10_0000), Returned::NotAllocated, "beyond the span");
        assert!(span.is(State::Listed) && !span.is_empty());
        assert_eq!((span.block_at(blocks[2] + 9), span.block_at(blocks[3])), (Some(blocks[2]), None));
    }

    /// Gives blocks back as they come, and returns how many times the span became listed.
    fn give_back_all(span: &Span, blocks: mpsc::Receiver<u64>) -> u32 {
        blocks.into_iter().map(|block| span.give_back(block)).fold(0, |listed, returned| match returned {
            Returned::Done => listed,
            Returned::MustList => listed + 1,
            Returned::NotAllocated => panic!("it was handed out"),
        })
    }

    /// Takes blocks until the span is given up, or often enough.
    fn take_all(span: &Span, to: &mpsc::Sender<u64>) {
        for _ in 0..6 {
            core::iter::from_fn(|| span.take()).for_each(|block| to.send(block).expect("somebody listens"));
            if !span.give_up() {
                return;
            }
        }
    }

    /// One owner takes, another gives back: at the end every block is free, and the span is somebody's.
    #[test]
    fn a_span_is_not_lost_between_its_owner_and_those_who_give_back() {
        for _ in 0..200 {
            let span = span(Class::new(71).expect("the largest"));
            let (to, from) = mpsc::channel();
            let listed = std::thread::scope(|scope| {
                let giver = scope.spawn(|| give_back_all(&span, from));
                take_all(&span, &to);
                drop(to);
                giver.join().expect("it ends")
            });
            assert_eq!(listed, u32::from(!span.is(State::Owned)), "listed unless owned");
            assert!(span.is_empty());
        }
    }
}
