//! Dead goroutines, or unused sudogs, that belong to no P: stacks that nobody locks, one for each CPU or for some together.
//!
//! A lock would be held for a walk along a batch, and a virtual machine's CPU may stand still with it in its hands for
//! milliseconds, while the others have nothing to take elsewhere. Here a CPU that stands still is in nobody's way.
//!
//! # Why nothing is lost or doubled
//!
//! The head is one word: the first element, and a count of the changes. [`put`](FreeList::put) links a batch to the first element and
//! puts itself before it; [`try_take`](FreeList::try_take) looks along the links of a batch and puts what follows in its place. Each
//! does so by one compare-and-exchange, which fails if the head has changed meanwhile, though the same element be first again: the count
//! tells. (It would have to come round, 4,294,967,296 changes, within one look.)
//!
//! 1. *Who has taken a batch owns it.* Of those that have read one head only one succeeds.
//! 2. *A look that succeeds has read true links.* Every put publishes its links by a release, and every change is a read-modify-write,
//!    so the load of a head acquires the links of all that is below it. Nobody writes them before the head has changed again.
//! 3. *A look that fails may have read anything that a link ever was*: an index of the same store ([`Linked::next`]). It reads along at
//!    most a batch of them, uses none, and the caller must see to it that the memory stays: the kernel takes it away in a stopped world
//!    only, and who looks is pinned. The store must know the element, or it would refuse the index: it is made before its index is in any
//!    link, and x86 shows stores in their order and loads in theirs.

use alloc::boxed::Box;
use core::iter;
use core::marker::PhantomData;

use crate::free::FREE_BATCH;
use crate::id::GoIndex;
use crate::link::{Index, Linked};
use crate::list::Chain;
use crate::sync::{AtomicU32, AtomicU64, Ordering, Padded};

/// Lists at most: each is looked at by who finds nothing at home.
const MOST: usize = 64;

/// Another CPU has changed the list during the look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Changed;

/// The first element, in the upper half, and the changes before it.
#[derive(Clone, Copy)]
struct Head(u64);

impl Head {
    fn first<I: Index>(self) -> Option<I> {
        I::in_word((self.0 >> 32) as u32)
    }

    /// The head after a change, by which this one is first.
    fn then<I: Index>(self, first: Option<I>) -> Self {
        let changes = self.0.wrapping_add(1) & u64::from(u32::MAX);
        Self(u64::from(first.map_or(0, I::word)) << 32 | changes)
    }
}

/// One list: last in, first out.
#[derive(Debug)]
struct FreeList<I> {
    head: AtomicU64,
    /// Elements: those of a batch are counted before it is there, and until after it is gone.
    len: AtomicU32,
    of: PhantomData<I>,
}

impl<I: Index> FreeList<I> {
    fn new() -> Self {
        Self { head: AtomicU64::new(0), len: AtomicU32::new(0), of: PhantomData }
    }

    fn put(&self, store: &impl Linked<Index = I>, batch: Chain<I>) {
        let (first, last, len) = batch.into_parts();
        // Relaxed, as all accesses of the length: a count, which is right when nobody is at it.
        self.len.fetch_add(len, Ordering::Relaxed);
        // Relaxed: what is below is only linked to.
        let mut head = Head(self.head.load(Ordering::Relaxed));
        loop {
            store.set_next(last, head.first());
            // Release: the links of the batch, for the load in `try_take`.
            match self.exchange(head, head.then(Some(first)), Ordering::Release) {
                Ok(()) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Removes up to [`FREE_BATCH`], if there are some.
    fn try_take(&self, store: &impl Linked<Index = I>) -> Result<Option<Chain<I>>, Changed> {
        // Acquire: the links below, from the release in `put` that this load reads, or that one behind it in the row of exchanges does.
        let head = Head(self.head.load(Ordering::Acquire));
        let Some(first) = head.first() else { return Ok(None) };
        let (mut last, mut len, mut rest) = (first, 1, store.next(first));
        while let Some(next) = rest.filter(|_| len < FREE_BATCH) {
            (last, len, rest) = (next, len + 1, store.next(next));
        }
        // Acquire: nothing that the owner does then comes before it. (The load has acquired all that it needs.)
        self.exchange(head, head.then(rest), Ordering::Acquire).map_err(|_| Changed)?;
        store.set_next(last, None);
        self.len.fetch_sub(len, Ordering::Relaxed);
        Ok(Some(Chain::from_parts(first, last, len)))
    }

    fn exchange(&self, from: Head, to: Head, order: Ordering) -> Result<(), Head> {
        // Relaxed: a failure is followed by another look, or by nothing that uses what it read.
        self.head.compare_exchange(from.0, to.0, order, Ordering::Relaxed).map(drop).map_err(Head)
    }

    fn is_empty(&self) -> bool {
        // Relaxed: a hint. Who acts on it looks again.
        Head(self.head.load(Ordering::Relaxed)).first::<I>().is_none()
    }
}

/// The lists of all CPUs. Each CPU has a home among them: what it has goes there, and it looks there first, then at the others,
/// beginning with its neighbour.
#[derive(Debug)]
pub struct FreeLists<I = GoIndex>(Box<[Padded<FreeList<I>>]>);

impl<I: Index> FreeLists<I> {
    /// A list for each CPU, or for some together if there are many.
    pub fn new(cpus: usize) -> Self {
        Self((0..cpus.clamp(1, MOST)).map(|_| Padded(FreeList::new())).collect())
    }

    /// Whether all lists look empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|list| list.is_empty())
    }

    /// Elements of all lists: what is being put or taken at this moment may be counted or not.
    pub fn len(&self) -> u64 {
        // Relaxed: see `put`.
        self.0.iter().map(|list| u64::from(list.len.load(Ordering::Relaxed))).sum()
    }

    /// Adds what nobody uses for the CPU with this number: a P's spill.
    pub fn put(&self, cpu: usize, store: &impl Linked<Index = I>, batch: Chain<I>) {
        self.at(cpu).put(store, batch);
    }

    /// Adds what a store has grown by: a batch for this CPU, one for its neighbour, and so on, as all of them may come at once.
    pub fn spread(&self, first: usize, store: &impl Linked<Index = I>, chain: Chain<I>) {
        let mut rest = Some(chain);
        let batches = iter::from_fn(|| {
            let (batch, more) = rest.take()?.split(store, FREE_BATCH);
            rest = more;
            batch
        });
        batches.zip(first..).for_each(|(batch, cpu)| self.put(cpu, store, batch));
    }

    /// Removes up to [`FREE_BATCH`], for a P's refill.
    ///
    /// It waits for nobody: it looks again only if another CPU has put or taken something meanwhile.
    pub fn take(&self, cpu: usize, store: &impl Linked<Index = I>) -> Option<Chain<I>> {
        loop {
            let mut changed = false;
            for list in (cpu..cpu + self.0.len()).map(|n| self.at(n)) {
                match list.try_take(store) {
                    Ok(Some(batch)) => return Some(batch),
                    Ok(None) => {}
                    Err(Changed) => changed = true,
                }
            }
            if !changed {
                return None;
            }
        }
    }

    /// Forgets what is in the lists, and has this instead. Nobody else is at them.
    pub fn replace(&self, store: &impl Linked<Index = I>, chain: Option<Chain<I>>) {
        for list in &self.0 {
            // Relaxed: for who comes later, what has kept them away orders it.
            let head = Head(list.head.load(Ordering::Relaxed));
            list.head.store(head.then::<I>(None).0, Ordering::Relaxed);
            list.len.store(0, Ordering::Relaxed);
        }
        if let Some(chain) = chain {
            self.put(0, store, chain);
        }
    }

    fn at(&self, cpu: usize) -> &FreeList<I> {
        &self.0[cpu % self.0.len()]
    }
}

#[cfg(test)]
#[path = "tests/free_list.rs"]
mod tests;
