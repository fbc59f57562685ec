//! The local run queue of a P: a ring with one owner and many stealers, and the run-next slot.
//!
//! # Invariants
//!
//! 1. `head` and `tail` only grow (modulo 2^32), and `head <= tail <= head + QUEUE_CAPACITY`. The
//!    goroutines of the ring are the slots `head..tail`, modulo the capacity.
//! 2. Only the owner moves `tail` and writes slots, and only slots outside of `head..tail`.
//! 3. Owner and stealers remove goroutines by moving `head` with a compare-and-swap, after they have read the
//!    slots. Who loses the swap forgets what it read.
//! 4. Only the owner fills `next`. The owner empties it with a swap, stealers with a compare-and-swap.
//!
//! # Orderings
//!
//! * `tail`: stored with `Release` after the slots are written, loaded by stealers with `Acquire` before they
//!   read them.
//! * `head`: swapped with `Release` after slots are read, loaded by the owner with `Acquire` before it
//!   overwrites them (2), and by stealers with `Acquire`, so that the `tail` they load next is not older than
//!   the `head`.
//! * `next`: swapped in with `Release`, out by a stealer with `Acquire`; out by the owner with `Release`
//!   for [`RunQueue::is_empty`].
//!
//! Slots themselves are `Relaxed`: the words above order them.
//!
//! # Who may push
//!
//! [`Local`] is the owner's face of a queue, and cannot leave its CPU; a [`RunQueue`] alone can be
//! looked at and stolen from.

use core::fmt;
use core::marker::PhantomData;

use crate::id::GoIndex;
use crate::link::Linked;
use crate::list::Chain;
use crate::sync::{AtomicU32, Ordering, Padded, QUEUE_CAPACITY};

/// Goroutines of the ring that go to the global queue when it is full.
const OVERFLOW_RING: u32 = QUEUE_CAPACITY / 2;

/// What a word of a queue holds when it names no goroutine.
const NOBODY: u32 = 0;

/// The run queue of one P.
pub struct RunQueue {
    /// What consumers race for.
    head: Padded<AtomicU32>,
    /// What the owner writes.
    tail: Padded<Tail>,
    slots: Padded<[AtomicU32; QUEUE_CAPACITY as usize]>,
}

/// The owner's end of the queue.
struct Tail {
    tail: AtomicU32,
    /// The goroutine to run next, before those of the ring; [`NOBODY`] if there is none.
    next: AtomicU32,
}

impl fmt::Debug for RunQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunQueue").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Default for RunQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// A goroutine that its owner took from its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Popped {
    /// It is in no queue now.
    pub g: GoIndex,
    /// It was in the run-next slot: it goes on with the time slice of the goroutine before it, so that
    /// two goroutines that ready each other share one slice and cannot keep the others from running.
    pub inherit_time: bool,
}

/// Whether there was room in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was not pushed is in no queue"]
pub enum Pushed {
    /// The goroutine is in the ring.
    Yes,
    /// It is in no queue.
    Full,
}

/// What a stealer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Stolen {
    /// To be run at once: it is in no queue now.
    pub g: GoIndex,
    /// How many moved, `g` included; the others are in the stealer's ring.
    pub count: u32,
}

/// Whether a stealer may take the run-next slot when the ring is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StealNext {
    /// It may not: the owner is likely to run it in a moment, with its data in the cache.
    No,
    /// It may, because nothing else was found.
    Yes,
}

/// Half of a full ring and the goroutine that did not fit, oldest first, to go to the global queue.
#[must_use = "the goroutines are in no queue until they are put on the global one"]
pub struct Overflow {
    goroutines: [u32; OVERFLOW_RING as usize + 1],
}

impl Overflow {
    /// Links the goroutines for the global queue.
    ///
    /// # Panics
    ///
    /// The goroutines are not of this table.
    pub fn into_chain<L: Linked<Index = GoIndex>>(self, table: &L) -> Chain {
        let goroutines = self.goroutines.iter().map(|&raw| named(raw));
        Chain::link(table, goroutines).expect("an overflow is never empty")
    }
}

impl fmt::Debug for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overflow").field("len", &self.goroutines.len()).finish_non_exhaustive()
    }
}

/// The goroutine that a slot inside of the ring names.
///
/// # Panics
///
/// It names none: the ring is corrupt.
fn named(raw: u32) -> GoIndex {
    GoIndex::in_word(raw).expect("run queue: a slot inside of the ring names a goroutine")
}

impl RunQueue {
    /// An empty queue.
    pub fn new() -> Self {
        let none = || AtomicU32::new(NOBODY);
        Self {
            head: Padded(AtomicU32::new(0)),
            tail: Padded(Tail { tail: AtomicU32::new(0), next: none() }),
            slots: Padded(core::array::from_fn(|_| none())),
        }
    }

    /// The owner's face of the queue. Only for the CPU that holds the queue's P: two owners at once would
    /// lose goroutines.
    pub fn local(&self) -> Local<'_> {
        Local { queue: self, not_send: PhantomData }
    }

    /// Goroutines in the queue, at about this moment.
    pub fn len(&self) -> u32 {
        let head = self.head.load(Ordering::Acquire);
        let tail = self.tail.tail.load(Ordering::Acquire);
        let next = self.tail.next.load(Ordering::Acquire) != NOBODY;
        // `head` may have moved on since it was read.
        tail.wrapping_sub(head).min(QUEUE_CAPACITY) + u32::from(next)
    }

    /// Whether the queue holds nothing, the run-next slot included.
    ///
    /// A goroutine that the owner kicks from the run-next slot into the ring is not missed when the owner
    /// has finished [`Local::put_next`]. While the owner is inside of that call, the goroutine is in its
    /// hands and in no queue; that is why `put_next` is always followed by
    /// [`Idle::wake_one`](crate::idle::Idle::wake_one).
    pub fn is_empty(&self) -> bool {
        loop {
            // Acquire pairs with the consumers' Release: the tail below is not older than this head.
            let head = self.head.load(Ordering::Acquire);
            let tail = self.tail.tail.load(Ordering::Acquire);
            // Acquire pairs with the Release of the owner's `pop`: if the slot is empty because a kicked
            // goroutine's successor was popped, the kicked one shows in the second look at the tail.
            let next = self.tail.next.load(Ordering::Acquire);
            if tail == self.tail.tail.load(Ordering::Acquire) {
                return head == tail && next == NOBODY;
            }
        }
    }

    /// Whether only the run-next slot holds a goroutine: a stealer may want to give the owner a moment.
    pub fn has_only_next(&self) -> bool {
        self.len() == 1 && self.tail.next.load(Ordering::Relaxed) != NOBODY
    }

    /// Takes half of the ring (rounded up) for `thief`: the oldest. All but one go into the thief's ring,
    /// that one is returned to be run at once. With [`StealNext::Yes`] and an empty ring, takes the
    /// run-next slot. `None` when there was nothing to take, or the thief's ring is full. A thief does not
    /// steal from itself.
    pub fn steal_into(&self, thief: &Local<'_>, next: StealNext) -> Option<Stolen> {
        debug_assert!(!core::ptr::eq(self, thief.queue), "a P steals from itself");
        let at = thief.queue.tail.tail.load(Ordering::Relaxed);
        let count = self.grab(thief, at, next)?;
        // The last one is run and not queued.
        let end = at.wrapping_add(count - 1);
        let g = named(thief.queue.slot(end).load(Ordering::Relaxed));
        if count > 1 {
            // Release pairs with the Acquire of those who steal from the thief.
            thief.queue.tail.tail.store(end, Ordering::Release);
        }
        Some(Stolen { g, count })
    }

    /// Moves goroutines to the thief's slots from `at` on, without showing them, and says how many.
    fn grab(&self, thief: &Local<'_>, at: u32, next: StealNext) -> Option<u32> {
        // The one that is run passes through a slot too.
        let room = thief.room();
        if room == 0 {
            return None;
        }
        loop {
            // Acquire pairs with the Release of other consumers, so that the tail is not older than the head.
            let head = self.head.load(Ordering::Acquire);
            // Acquire pairs with the owner's Release: the slots below the tail are written.
            let tail = self.tail.tail.load(Ordering::Acquire);
            let ready = tail.wrapping_sub(head);
            if ready > QUEUE_CAPACITY {
                // The head moved between the two loads.
                continue;
            }
            if ready == 0 {
                return self.grab_next(thief, at, next);
            }
            let count = (ready - ready / 2).min(room);
            for i in 0..count {
                let raw = self.slot(head.wrapping_add(i)).load(Ordering::Relaxed);
                // Outside of the thief's ring: nobody reads it yet.
                thief.queue.slot(at.wrapping_add(i)).store(raw, Ordering::Relaxed);
            }
            // Release pairs with the owner's Acquire before it overwrites the slots that were read.
            let moved = head.wrapping_add(count);
            if self.head.compare_exchange(head, moved, Ordering::Release, Ordering::Relaxed).is_ok() {
                return Some(count);
            }
        }
    }

    /// Moves the goroutine of the run-next slot to the thief's slot `at`, if the thief may.
    fn grab_next(&self, thief: &Local<'_>, at: u32, next: StealNext) -> Option<u32> {
        let raw = self.tail.next.load(Ordering::Relaxed);
        if next == StealNext::No || raw == NOBODY {
            return None;
        }
        // Acquire pairs with the Release of `put_next`: the goroutine's state is visible. Failure means that
        // the owner or another thief has it, or that the owner put another there; either is at work.
        self.tail.next.compare_exchange(raw, NOBODY, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        thief.queue.slot(at).store(raw, Ordering::Relaxed);
        Some(1)
    }

    /// The slot of a position in the ring.
    fn slot(&self, position: u32) -> &AtomicU32 {
        &self.slots[(position % QUEUE_CAPACITY) as usize]
    }
}

/// The owner's face of a [`RunQueue`]. It stays on its CPU: neither `Send` nor `Sync`.
#[derive(Debug)]
pub struct Local<'q> {
    queue: &'q RunQueue,
    not_send: PhantomData<*const ()>,
}

impl Local<'_> {
    /// Appends `g` to the ring. If that is full, half of it comes back with `g`, for the global queue.
    #[must_use = "an overflow belongs on the global queue"]
    pub fn push_back(&self, g: GoIndex) -> Option<Overflow> {
        match self.try_push_back(g) {
            Pushed::Yes => None,
            Pushed::Full => self.overflow(g),
        }
    }

    /// Appends `g` to the ring, if that is not full.
    #[inline]
    pub fn try_push_back(&self, g: GoIndex) -> Pushed {
        // Acquire pairs with the consumers' Release: they have read the slots that are reused here.
        let head = self.queue.head.load(Ordering::Acquire);
        let tail = self.queue.tail.tail.load(Ordering::Relaxed);
        if tail.wrapping_sub(head) >= QUEUE_CAPACITY {
            return Pushed::Full;
        }
        self.queue.slot(tail).store(g.word(), Ordering::Relaxed);
        // Release pairs with the stealers' Acquire: slot before tail.
        self.queue.tail.tail.store(tail.wrapping_add(1), Ordering::Release);
        Pushed::Yes
    }

    /// [`push_back`](Self::push_back), after the ring was full.
    #[cold]
    #[inline(never)]
    fn overflow(&self, g: GoIndex) -> Option<Overflow> {
        loop {
            let head = self.queue.head.load(Ordering::Acquire);
            if let Some(overflow) = self.take_half(head, g) {
                return Some(overflow);
            }
            // A stealer has made room.
            match self.try_push_back(g) {
                Pushed::Yes => return None,
                Pushed::Full => {}
            }
        }
    }

    /// Takes the older half of a full ring, together with `g`; `None` if a stealer moved `head`, or the ring is not full.
    fn take_half(&self, head: u32, g: GoIndex) -> Option<Overflow> {
        if self.queue.tail.tail.load(Ordering::Relaxed).wrapping_sub(head) < QUEUE_CAPACITY {
            return None;
        }
        let mut goroutines = [g.word(); OVERFLOW_RING as usize + 1];
        for (raw, i) in goroutines.iter_mut().zip(0..OVERFLOW_RING) {
            *raw = self.queue.slot(head.wrapping_add(i)).load(Ordering::Relaxed);
        }
        // Release pairs with the stealers' Acquire load of the head.
        let moved = head.wrapping_add(OVERFLOW_RING);
        self.queue.head.compare_exchange(head, moved, Ordering::Release, Ordering::Relaxed).ok()?;
        Some(Overflow { goroutines })
    }

    /// Puts `g` into the run-next slot; the goroutine that was there goes to the back of the ring.
    #[must_use = "an overflow belongs on the global queue"]
    pub fn put_next(&self, g: GoIndex) -> Option<Overflow> {
        self.swap_next(g).and_then(|kicked| self.push_back(kicked))
    }

    /// Puts `g` into the run-next slot. The goroutine that was there comes back, and belongs at the back of the ring.
    #[inline]
    #[must_use = "the goroutine that was there is in no queue"]
    pub fn swap_next(&self, g: GoIndex) -> Option<GoIndex> {
        // Release pairs with a stealer's Acquire: the goroutine's state is visible to it.
        GoIndex::in_word(self.queue.tail.next.swap(g.word(), Ordering::Release))
    }

    /// Takes the goroutine to run: the run-next slot, else the front of the ring.
    #[must_use]
    pub fn pop(&self) -> Option<Popped> {
        let next = self.pop_next().map(|g| Popped { g, inherit_time: true });
        next.or_else(|| self.pop_ring().map(|g| Popped { g, inherit_time: false }))
    }

    /// Takes the goroutine in the run-next slot.
    #[inline]
    #[must_use]
    pub fn pop_next(&self) -> Option<GoIndex> {
        let next = &self.queue.tail.next;
        // Relaxed: only the owner fills it, so it finds what it put there, or that a stealer has that.
        if next.load(Ordering::Relaxed) == NOBODY {
            return None;
        }
        // Release pairs with the Acquire in `is_empty`. Nobody: a stealer has it now.
        GoIndex::in_word(next.swap(NOBODY, Ordering::Release))
    }

    /// Takes the front of the ring, past the run-next slot.
    #[inline]
    #[must_use]
    pub fn pop_ring(&self) -> Option<GoIndex> {
        let tail = self.queue.tail.tail.load(Ordering::Relaxed);
        // Relaxed, here and on failure: the owner wrote the slots itself.
        let mut head = self.queue.head.load(Ordering::Relaxed);
        while head != tail {
            let raw = self.queue.slot(head).load(Ordering::Relaxed);
            // Release pairs with the stealers' Acquire load of the head.
            let moved = head.wrapping_add(1);
            match self.queue.head.compare_exchange(head, moved, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Some(named(raw)),
                Err(now) => head = now,
            }
        }
        None
    }

    /// Whether `g` is all that the queue holds, at about this moment. If so, it usually runs when the owner's goroutine gives way: unless it is
    /// stolen, or it is the turn of a goroutine elsewhere.
    #[must_use]
    pub fn holds_only(&self, g: GoIndex) -> bool {
        let RunQueue { head, tail, .. } = self.queue;
        // Relaxed: only the owner adds anything; what stealers have taken meanwhile makes this a hint.
        let (next, end) = (tail.next.load(Ordering::Relaxed), tail.tail.load(Ordering::Relaxed));
        let begin = head.load(Ordering::Relaxed);
        match end.wrapping_sub(begin) {
            0 => next == g.word(),
            1 => next == NOBODY && self.queue.slot(begin).load(Ordering::Relaxed) == g.word(),
            _ => false,
        }
    }

    /// Appends a chain that fits into [`room`](Self::room).
    ///
    /// # Panics
    ///
    /// It does not fit.
    pub fn push_chain<L: Linked<Index = GoIndex>>(&self, table: &L, chain: Chain) {
        assert!(chain.len() <= self.room(), "run queue: a chain of {} does not fit", chain.len());
        // The room only grows meanwhile: stealers take, and nobody else pushes.
        let mut tail = self.queue.tail.tail.load(Ordering::Relaxed);
        let (first, _, mut left) = chain.into_parts();
        let mut at = Some(first);
        while let Some(g) = at.filter(|_| left > 0) {
            at = table.take_next(g);
            self.queue.slot(tail).store(g.word(), Ordering::Relaxed);
            (tail, left) = (tail.wrapping_add(1), left - 1);
        }
        debug_assert!(left == 0, "a chain has as many as it counts");
        // Release: as in `try_push_back`, for all of them.
        self.queue.tail.tail.store(tail, Ordering::Release);
    }

    /// Goroutines that the ring has room for. Stealers may make more.
    pub fn room(&self) -> u32 {
        // Acquire pairs with the consumers' Release: they have read the slots that are free.
        let head = self.queue.head.load(Ordering::Acquire);
        QUEUE_CAPACITY - self.queue.tail.tail.load(Ordering::Relaxed).wrapping_sub(head)
    }
}

#[cfg(test)]
#[path = "tests/runq.rs"]
mod tests;
