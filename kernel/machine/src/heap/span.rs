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
//!
//! # Who comes late moves nothing
//!
//! A description is used again: a listed span without blocks gives its pages and its number to the arena, and the
//! number may serve another class at once. Each use is a [`Life`], with a number of its own in the state's word. Whoever
//! stands between its two steps may stand there for any time: interrupts come, and an emulator's CPU is descheduled.
//!
//! 1. A life of blocks ends in one way only: from Listed, out of a list, by the holder of the list's lock, who has seen
//!    every bit clear. None is set meanwhile, because only an owner sets bits.
//! 2. So a life lasts while one of its blocks is handed out. Who gives a block back reads all that it needs (where the
//!    blocks are, the number of the life) before it clears the bit; the clearing is a Release, the look of 1 an Acquire,
//!    and the next life begins after that look: nothing of it can have been read.
//! 3. From the clearing on the life may be over. The giver writes to the state's word alone, and only from Full in the
//!    life that it knows. Of a later life the number is another, for good: 61 bits do not come round. It loses nothing by
//!    that: what ends is not Full.
//! 4. If the exchange succeeds, the span is Full and in the giver's own life: in no list, and nobody's. Nobody else moves
//!    it before the giver has put it into the list of its class, which is the class of the giver's block. The span may
//!    have been listed, owned and full once more between look and exchange: then a span without free blocks is listed,
//!    and who takes it from there gives it up again.
//! 5. The owner of a span keeps its life going by 1. From its store of Full on it is as late as any giver: it knows the
//!    life from before, looks at bits that may be another life's, and takes the span only from Full in its own life. A
//!    wrong look costs nothing: if another life began, the span was listed meanwhile and is not the owner's any more.
//! 6. Nothing here needs interrupts to be off, or a pin, but for one thing: an owner is one CPU (`mod.rs` pins it).
//!
//! A large block's life ends by its giver alone, and nobody else moves its state.

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

/// Bits of the state in its word.
const STATE: u64 = 7;

/// One use of a description, as the upper bits of the state's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life(u64);

impl Life {
    const fn next(self) -> Self {
        Self(self.0.wrapping_add(STATE + 1))
    }

    /// The word for a state in this life.
    const fn in_state(self, state: State) -> u64 {
        self.0 | state as u64
    }
}

/// The description of one span.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Span {
    /// Address of the first byte.
    start: AtomicU64,
    /// Bytes in a block; for a large one what was asked for, rounded up to pages.
    size: AtomicU64,
    /// A [`Life`] and a [`State`].
    state: AtomicU64,
    pages: AtomicU32,
    class: AtomicU32,
    /// The next span of its list, by number. Belongs to who holds the list's lock.
    pub(super) next: AtomicU32,
    /// The one before, in the list of released runs.
    pub(super) previous: AtomicU32,
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

/// Bits of a word of the bitmap for blocks that do not exist: they are set, so that none is ever free.
fn missing(blocks: usize, word: usize) -> u64 {
    let blocks = blocks.saturating_sub(word * BITS);
    if blocks >= BITS { 0 } else { u64::MAX << blocks }
}

impl Span {
    /// Prepares a span that nobody knows yet, in state [`State::Owned`].
    pub(super) fn prepare(&self, start: u64, class: Class) {
        self.set(start, class.size() as u64, class.pages(), State::Owned);
        self.class.store(u32::try_from(class.number()).unwrap_or(NO_CLASS), Ordering::Relaxed);
        for (word, bits) in self.bits.iter().enumerate() {
            bits.store(missing(class.blocks(), word), Ordering::Relaxed);
        }
    }

    /// Prepares a span that is one block, or that holds nothing.
    pub(super) fn prepare_whole(&self, start: u64, pages: usize, state: State) {
        self.set(start, pages as u64 * crate::frames::FRAME_SIZE, pages, state);
        self.class.store(NO_CLASS, Ordering::Relaxed);
    }

    /// Begins a life.
    // Relaxed, here and above: the span is nobody else's; the page map, or a list's lock, publishes it.
    fn set(&self, start: u64, size: u64, pages: usize, state: State) {
        self.start.store(start, Ordering::Relaxed);
        self.size.store(size, Ordering::Relaxed);
        self.pages.store(u32::try_from(pages).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.hint.store(0, Ordering::Relaxed);
        self.state.store(self.life().next().in_state(state), Ordering::Relaxed);
    }

    /// Changes the state, where only one CPU can.
    pub(super) fn set_state(&self, state: State) {
        // Relaxed: the lock under which it happens orders it.
        self.state.store(self.life().in_state(state), Ordering::Relaxed);
    }

    pub(super) fn is(&self, state: State) -> bool {
        self.state.load(Ordering::Relaxed) & STATE == state as u64
    }

    /// The life of now.
    fn life(&self) -> Life {
        // Relaxed: who asks keeps the life going, or begins it.
        Life(self.state.load(Ordering::Relaxed) & !STATE)
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
        let life = self.leave();
        self.take_back(life)
    }

    /// The owner's first step.
    fn leave(&self) -> Life {
        let life = self.life();
        // Release pairs with the Acquire of the exchanges from Full.
        self.state.store(life.in_state(State::Full), Ordering::Release);
        // Pairs with the fence in `clear`.
        fence(Ordering::SeqCst);
        life
    }

    /// The owner's second step. `true`: the span is its own again.
    fn take_back(&self, life: Life) -> bool {
        // Relaxed: the fence orders it after the store of Full.
        let full = self.bits.iter().all(|bits| bits.load(Ordering::Relaxed) == u64::MAX);
        !full && self.exchange_full(life, State::Owned)
    }

    /// Gives the block at `address` back; arrow 2 if that falls to the caller.
    pub(super) fn give_back(&self, address: u64) -> Returned {
        match self.clear(address) {
            None => Returned::NotAllocated,
            Some(life) if self.list(life) => Returned::MustList,
            Some(_) => Returned::Done,
        }
    }

    /// The giver's first step; `None` if the block was not handed out.
    fn clear(&self, address: u64) -> Option<Life> {
        let (word, bit) = self.place(address)?;
        // Before the bit is cleared: the block keeps this life going no longer.
        let life = self.life();
        // Release pairs with the Acquire in `take` and in `is_empty`.
        if self.bits[word].fetch_and(!bit, Ordering::Release) & bit == 0 {
            return None;
        }
        // Pairs with the fence in `leave`.
        fence(Ordering::SeqCst);
        Some(life)
    }

    /// The giver's second step. `true`: the span is now Listed.
    fn list(&self, life: Life) -> bool {
        // Relaxed: the fence orders it after the clearing. The look spares most givers the exchange.
        self.state.load(Ordering::Relaxed) == life.in_state(State::Full)
            && self.exchange_full(life, State::Listed)
    }

    fn exchange_full(&self, life: Life, to: State) -> bool {
        let (from, to) = (life.in_state(State::Full), life.in_state(to));
        // AcqRel: who gets the span sees what its owner before did.
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
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

    /// Whether no block is handed out, and nobody uses one any more.
    pub(super) fn is_empty(&self) -> bool {
        let blocks = self.class().map_or(0, Class::blocks);
        self.bits.iter().enumerate().all(|(word, bits)| {
            // Acquire pairs with the Release in `clear`: the last use of each block comes before what is done to the
            // pages next.
            bits.load(Ordering::Acquire) == missing(blocks, word)
        })
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

    /// Another life of a description: all blocks are handed out, and its owner has given it up.
    fn fill_again(span: &Span) {
        assert!(span.is_empty(), "only then does a life end");
        span.set_state(State::Unused);
        span.prepare(0x9_0000, Class::new(40).expect("a class"));
        while span.take().is_some() {}
        assert!(!span.give_up());
    }

    /// Whoever clears the last bit of a listed span may stand still before it looks at the state.
    #[test]
    fn a_late_look_lists_no_span_of_another_life() {
        let span = span(Class::new(20).expect("a class"));
        let mut blocks: Vec<u64> = core::iter::from_fn(|| span.take()).collect();
        assert!(!span.give_up());
        let last = blocks.pop().expect("it has blocks");
        let listed = blocks.iter().filter(|block| span.give_back(**block) == Returned::MustList).count();
        assert_eq!(listed, 1);
        let life = span.clear(last).expect("it was handed out");
        fill_again(&span);
        assert!(!span.list(life), "it is full, but of another class");
        assert!(span.is(State::Full));
    }

    /// So may an owner between its two steps.
    #[test]
    fn a_late_owner_takes_no_span_of_another_life() {
        let span = span(Class::new(20).expect("a class"));
        let blocks: Vec<u64> = core::iter::from_fn(|| span.take()).collect();
        let life = span.leave();
        let listed = blocks.iter().filter(|block| span.give_back(**block) == Returned::MustList).count();
        assert_eq!(listed, 1);
        fill_again(&span);
        let back = span.take_back(life);
        assert!(!back && span.is(State::Full), "it is another's");
        // The same with a block that came back.
        let block = span.start();
        assert_eq!(span.give_back(block), Returned::MustList);
        span.set_state(State::Full);
        assert!(!span.take_back(life), "it has a free block, but it is another's");
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
