//! What is to happen at a time: one heap for each CPU.
//!
//! A plain structure, a heap with four children to a node; the kernel holds a lock around it. The earliest time is
//! readable without the lock ([`Earliest`]): a CPU looks at it to set its timer.
//!
//! # Keys
//!
//! Who adds an event gets a [`Key`], by which it can be taken out again before its time. The key names a place in a
//! slab, which knows where in the heap the event is, and a number that no other event of this heap ever gets. So a key
//! whose event is gone finds nothing: its place is free, or has an event with another number.
//!
//! No event is moved when there are more: heap and slab grow by chunks, and give them back.
//!
//! # Events that come again
//!
//! The room of an event that was due, its place and its node, is kept until the next one is asked for. Until then it can
//! be [put back](Timers::put_back) for a later time, which needs no memory: who makes a ticker tick may be a CPU that finds
//! none. It has its key again. That is what makes it the same event: a timer that still knows the key still means it.

use alloc::sync::Arc;

use crate::chunks::NoRoom;
use crate::slab::{Rows, Slab};
use crate::sync::{AtomicU64, Ordering, Padded};

/// Children of a node.
const BRANCHES: usize = 4;

/// The time that stands for "never".
pub const NEVER: u64 = u64::MAX;

/// An event in a heap, or one that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its place in the slab.
    place: u32,
    /// Its number in the order in which events were added.
    number: u64,
}

/// A node of the heap.
#[derive(Clone, Copy, Debug)]
struct Node {
    when: u64,
    key: Key,
}

impl Node {
    /// What the heap is ordered by: of equal times who came first is first.
    const fn order(&self) -> (u64, u64) {
        (self.when, self.key.number)
    }
}

/// What the slab keeps.
#[derive(Debug)]
struct Held<E> {
    /// The place of its node in the heap.
    position: usize,
    /// `None` while its room is kept.
    event: Option<E>,
}

/// An event whose time has come.
#[derive(Debug)]
#[must_use = "an event that was taken out must happen"]
pub struct Due<E> {
    /// When it was due.
    pub when: u64,
    /// The key that it had.
    pub key: Key,
    /// What is to happen.
    pub event: E,
}

/// The earliest time of a heap, readable without the heap's lock; [`NEVER`] when it is empty.
#[derive(Clone, Debug)]
pub struct Earliest(Arc<Padded<AtomicU64>>);

impl Earliest {
    /// That time, at this moment or a little earlier.
    pub fn get(&self) -> u64 {
        // Relaxed: who acts on it takes the lock and looks again; the owner sees its own stores. The look for a
        // deadlock takes it for the length of a queue, and argues with fences of its own.
        self.0.load(Ordering::Relaxed)
    }
}

/// The events of one CPU.
#[derive(Debug)]
pub struct Timers<E> {
    heap: Rows<Node>,
    slab: Slab<Held<E>>,
    /// Events ever added.
    count: u64,
    /// The last event that was due, while its room is kept.
    kept: Option<Key>,
    earliest: Earliest,
}

impl<E> Timers<E> {
    /// No events, and the handle to the earliest time.
    pub fn new() -> (Self, Earliest) {
        let earliest = Earliest(Arc::new(Padded(AtomicU64::new(NEVER))));
        (
            Self { heap: Rows::new(), slab: Slab::new(), count: 0, kept: None, earliest: earliest.clone() },
            earliest,
        )
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an event. Now and then it allocates.
    ///
    /// # Errors
    ///
    /// [`NoRoom::NoMemory`]. The heap is as it was, and the event is dropped.
    ///
    /// # Panics
    ///
    /// `when` is [`NEVER`]: a heap that had nothing else would seem to be empty.
    pub fn add(&mut self, when: u64, event: E) -> Result<Key, NoRoom> {
        assert!(when != NEVER, "what never happens is in no heap");
        self.heap.reserve(1 + usize::from(self.kept.is_some()))?;
        self.slab.reserve()?;
        self.count += 1;
        let place = self.slab.insert(Held { position: self.heap.len(), event: Some(event) });
        let key = Key { place, number: self.count };
        self.push(Node { when, key });
        Ok(key)
    }

    /// Puts the event that was due last into the heap again, under its key. Does not allocate.
    ///
    /// # Panics
    ///
    /// It is another one, or it has been put back: only who runs it may do so, before anybody asks for the next. `when` is
    /// [`NEVER`]: what does not come again is just not put back.
    pub fn put_back(&mut self, key: Key, when: u64, event: E) {
        assert!(when != NEVER, "what never happens is in no heap");
        assert!(self.kept.take() == Some(key), "the room of an event is kept until the next one is due");
        let held = self.slab.get_mut(key.place).expect("its place is kept");
        *held = Held { position: self.heap.len(), event: Some(event) };
        self.push(Node { when, key });
    }

    fn push(&mut self, node: Node) {
        let position = self.heap.len();
        self.heap.push(node);
        self.rise(position, node);
        self.publish();
    }

    /// Takes out an event before its time. `None`: it has been taken out.
    pub fn remove(&mut self, key: Key) -> Option<E> {
        let position = self.slab.get(key.place)?.position;
        if self.heap.get(position)?.key != key {
            return None;
        }
        self.take(position);
        self.slab.remove(key.place)?.event
    }

    /// Takes out the earliest event if its time has come. The room of the one before it is given up, and that of this one
    /// is kept.
    pub fn take_due(&mut self, now: u64) -> Option<Due<E>> {
        if let Some(Key { place, .. }) = self.kept.take() {
            self.slab.remove(place);
        }
        let Node { when, key } = self.heap.get(0).filter(|node| node.when <= now)?;
        self.take(0);
        self.kept = Some(key);
        let event = self.slab.get_mut(key.place)?.event.take()?;
        Some(Due { when, key, event })
    }

    /// Takes out the node at `i`.
    fn take(&mut self, i: usize) {
        let last = self.heap.pop().expect("there is the node at `i`");
        if i < self.heap.len() {
            self.rise(i, last);
            self.sink(self.slab.get(last.key.place).expect("its node is in the heap").position, last);
        }
        self.publish();
    }

    fn publish(&self) {
        let earliest = self.heap.get(0).map_or(NEVER, |node| node.when);
        // Relaxed, both: as in `Earliest::get`. It is written when it changes, as other CPUs read it.
        if self.earliest.get() != earliest {
            self.earliest.0.store(earliest, Ordering::Relaxed);
        }
    }

    /// Puts a node at `i`.
    fn place(&mut self, i: usize, node: Node) {
        self.heap.set(i, node);
        self.slab.get_mut(node.key.place).expect("an event for each node").position = i;
    }

    /// Puts a node at `i` or above, where it belongs.
    fn rise(&mut self, mut i: usize, node: Node) {
        while i > 0 {
            let parent = (i - 1) / BRANCHES;
            let above = self.heap.at(parent);
            if above.order() <= node.order() {
                break;
            }
            self.place(i, above);
            i = parent;
        }
        self.place(i, node);
    }

    /// Puts a node at `i` or below, where it belongs.
    fn sink(&mut self, mut i: usize, node: Node) {
        loop {
            let children = i * BRANCHES + 1..(i * BRANCHES + 1 + BRANCHES).min(self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.heap.at(child).order()) else { break };
            let below = self.heap.at(least);
            if node.order() <= below.order() {
                break;
            }
            self.place(i, below);
            i = least;
        }
        self.place(i, node);
    }
}

#[cfg(test)]
#[path = "tests/timers.rs"]
mod tests;
