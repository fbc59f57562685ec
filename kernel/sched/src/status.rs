//! The state machine of a goroutine. A state says who owns the goroutine's stack.
//!
//! ```text
//!  ┌──────┐ 1 spawn  ┌──────────┐   2 run    ┌─────────┐
//!  │ Dead │ ───────► │ Runnable │ ─────────► │ Running │ ◄────────────────┐
//!  └──────┘          └──────────┘ ◄───────── └─────────┘                  │
//!     ▲                ▲      ▲    3 yielded   │     │                    │
//!     └────────────────┼──────┼─── 8 exit ─────┘     │ 4 begin_park       │
//!                      │      │                      ▼                    │
//!                      │      │                 ┌─────────┐ 5 cancel_park │
//!                      │      │                 │ Parking │ ──────────────┤
//!                      │      │                 └─────────┘               │
//!                      │      │       7b ready   │       │                │
//!                      │      │          ┌───────┘       │ 6a finish_park │
//!                      │      │          ▼               ▼                │
//!                      │      │      ┌───────┐      ┌─────────┐           │
//!                      │      └───── │ Woken │      │ Waiting │           │
//!                      │   6b finish └───────┘      └─────────┘           │
//!                      │      _park      │ 5 cancel_park │                │
//!                      │                 └───────────────┼────────────────┘
//!                      └─────────────────────────────────┘
//!                                 7a ready
//! ```
//!
//! | state    | run queue   | stack owned by                    | who may leave the state                 |
//! |----------|-------------|-----------------------------------|-----------------------------------------|
//! | Dead     | none        | the free list; nothing runs on it | who took it from the free list (1)      |
//! | Runnable | exactly one | the queue; nothing runs on it     | the CPU that took it from the queue (2) |
//! | Running  | none        | the goroutine, on one CPU         | that CPU (3, 4, 8)                      |
//! | Parking  | none        | the goroutine, until it is saved  | its CPU (5, 6a) and its waker (7b) race |
//! | Woken    | none        | as in Parking; its wake has come  | its CPU (5, 6b)                         |
//! | Waiting  | none        | whoever will wake it              | its waker (7a)                          |
//!
//! # Why parking has two phases
//!
//! A goroutine that blocks (4) must tell its waker where to find it before it leaves the CPU: afterwards it
//! runs no code. So the wake can come while its registers are still in use. A waker that enqueued it there
//! and then would let a second CPU run on a stack that the first has not left. Therefore the waker only
//! leaves a mark (7b), and the CPU that left the stack, once the context is saved, finds the mark and
//! enqueues the goroutine itself (6b). Exactly one of the two enqueues it, whichever way the race goes.
//!
//! # Orderings
//!
//! Arrows 1, 2, 3, 4 and 8 have one possible actor, so they load, check and store. Arrows 5, 6 and 7 race
//! and compare-and-swap. Every arrow stores with `Release` and loads with `Acquire`: the saved context and
//! everything that the waker did are visible to the CPU that runs the goroutine next.

use crate::sync::{AtomicU64, Ordering};
use crate::transition::generation_of;

pub use crate::transition::{Arrow, BadTransition, Status};

/// What the CPU that left a parked goroutine's stack must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Parked {
    /// Nothing: its waker enqueues it.
    Waiting,
    /// Put it into a run queue: its waker came before the context was saved and left that to this CPU.
    MustEnqueue,
}

/// What the waker of a goroutine must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ready {
    /// Put it into a run queue.
    Enqueue,
    /// Nothing: it has not left its CPU yet, and that CPU enqueues it.
    AlreadyUp,
}

/// What a goroutine learns that decides not to park after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cancelled {
    /// Nobody has woken it.
    Unwoken,
    /// A waker was here: the wake is used up.
    Woken,
}

/// A goroutine's state and the generation of its slot, in one word.
#[derive(Debug)]
pub struct StatusWord(AtomicU64);

impl Default for StatusWord {
    fn default() -> Self {
        Self::new()
    }
}

/// Packs a state and a generation.
fn pack(status: Status, generation: u32) -> u64 {
    (u64::from(generation) << 32) | u64::from(status as u8)
}

/// Whether a word's state is `status`.
const fn is(word: u64, status: Status) -> bool {
    word & 0xff == status as u64
}

/// A word whose state is `from`, with `to` in its place.
const fn moved(word: u64, from: Status, to: Status) -> u64 {
    word ^ (from as u64 ^ to as u64)
}

impl StatusWord {
    /// A dead slot at generation 0.
    pub fn new() -> Self {
        Self(AtomicU64::new(pack(Status::Dead, 0)))
    }

    /// The generation goes on at another number. Only for who owns a dead slot whose memory was away.
    pub(crate) fn revive(&self, generation: u32) {
        // Relaxed: whatever hands the slot on orders it, and handles of earlier lives find a dead one before and after.
        self.0.store(pack(Status::Dead, generation), Ordering::Relaxed);
    }

    /// State and generation at this moment. Another CPU may change them in the next.
    pub fn get(&self) -> (Status, u32) {
        // Acquire pairs with the Release of every arrow: what led to the state is visible.
        let word = self.0.load(Ordering::Acquire);
        (Status::of(word), generation_of(word))
    }

    /// The generation alone.
    #[inline]
    pub fn generation(&self) -> u32 {
        // Acquire: as in `get`.
        generation_of(self.0.load(Ordering::Acquire))
    }

    /// Arrow 1, Dead → Runnable: the slot is prepared and its first context written. Returns the generation
    /// of the new goroutine. Only for who took the slot from a free list; the caller then enqueues it.
    ///
    /// # Errors
    ///
    /// The slot holds a goroutine.
    #[inline]
    pub fn spawn(&self) -> Result<u32, BadTransition> {
        self.step(Arrow::Spawn, Status::Dead, Status::Runnable)
    }

    /// Arrow 2, Runnable → Running: the CPU that took it from a run queue is about to switch to it.
    ///
    /// # Errors
    ///
    /// It is not runnable, so it was in a queue where it must not have been.
    #[inline]
    pub fn run(&self) -> Result<(), BadTransition> {
        self.step(Arrow::Run, Status::Runnable, Status::Running).map(drop)
    }

    /// Arrow 3, Running → Runnable: its context is saved and its CPU has left the stack. The caller then
    /// enqueues it.
    ///
    /// # Errors
    ///
    /// It is not running.
    #[inline]
    pub fn yielded(&self) -> Result<(), BadTransition> {
        self.step(Arrow::Yielded, Status::Running, Status::Runnable).map(drop)
    }

    /// Arrow 4, Running → Parking: the running goroutine says that it will leave its CPU. From here on it
    /// may be woken; it publishes itself to its waker after this call, not before. Returns its generation.
    ///
    /// # Errors
    ///
    /// It is not running.
    #[inline]
    pub fn begin_park(&self) -> Result<u32, BadTransition> {
        self.step(Arrow::BeginPark, Status::Running, Status::Parking)
    }

    /// Arrow 5, Parking or Woken → Running: the goroutine stays after all. It has taken itself back from its
    /// waker, or knows that the waker was here.
    ///
    /// # Errors
    ///
    /// It has not begun to park.
    pub fn cancel_park(&self) -> Result<Cancelled, BadTransition> {
        self.leave_parking(
            Arrow::CancelPark,
            (Status::Running, Cancelled::Unwoken),
            (Status::Running, Cancelled::Woken),
        )
    }

    /// Arrow 6, Parking → Waiting or Woken → Runnable: its context is saved and its CPU has left the stack.
    /// Called by whatever runs next on that CPU.
    ///
    /// # Errors
    ///
    /// It has not begun to park.
    #[inline]
    pub fn finish_park(&self) -> Result<Parked, BadTransition> {
        self.leave_parking(
            Arrow::FinishPark,
            (Status::Waiting, Parked::Waiting),
            (Status::Runnable, Parked::MustEnqueue),
        )
    }

    /// Arrow 7, Waiting → Runnable or Parking → Woken: the waker's side of a park, from any CPU.
    ///
    /// # Errors
    ///
    /// It does not wait: it is runnable, running, dead, or woken already; or `generation` is not that of the
    /// goroutine in the slot.
    #[inline]
    pub fn ready(&self, generation: u32) -> Result<Ready, BadTransition> {
        // Acquire, here and below, pairs with the Release of `finish_park`: whoever enqueues the goroutine
        // has its saved context.
        // The usual state is tried first, and costs no look then.
        let waiting = pack(Status::Waiting, generation);
        let runnable = moved(waiting, Status::Waiting, Status::Runnable);
        // Release, here and below, pairs with the Acquire of `finish_park`, `cancel_park` and `run`: the goroutine sees
        // what its waker did before waking it.
        let tried = self.0.compare_exchange(waiting, runnable, Ordering::AcqRel, Ordering::Acquire);
        let Err(mut word) = tried else { return Ok(Ready::Enqueue) };
        loop {
            let stale = generation_of(word) != generation;
            let (next, action) = match Status::of(word) {
                Status::Waiting if !stale => (Status::Runnable, Ready::Enqueue),
                Status::Parking if !stale => (Status::Woken, Ready::AlreadyUp),
                Status::Dead
                | Status::Runnable
                | Status::Running
                | Status::Parking
                | Status::Woken
                | Status::Waiting => {
                    return Err(BadTransition::with_handle(Arrow::Ready, word, generation));
                }
            };
            let new = pack(next, generation);
            match self.0.compare_exchange(word, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(action),
                Err(now) => word = now,
            }
        }
    }

    /// Arrow 8, Running → Dead, and a new generation: every handle to the goroutine is stale from now on.
    /// Called when its CPU has left the stack; the caller then gives the slot to a free list.
    ///
    /// # Errors
    ///
    /// It is not running.
    #[inline]
    pub fn exit(&self) -> Result<(), BadTransition> {
        let word = self.0.load(Ordering::Acquire);
        if !is(word, Status::Running) {
            return Err(BadTransition::new(Arrow::Exit, word));
        }
        // Release pairs with the Acquire in `get`: who sees the slot dead sees its goroutine's last write.
        self.0.store(
            moved(word, Status::Running, Status::Dead).wrapping_add(pack(Status::Dead, 1)),
            Ordering::Release,
        );
        Ok(())
    }

    /// An arrow that only one CPU can take, so that nothing can come between the check and the store.
    #[inline]
    fn step(&self, arrow: Arrow, from: Status, to: Status) -> Result<u32, BadTransition> {
        // Acquire pairs with the Release of the arrow that led to `from`.
        let word = self.0.load(Ordering::Acquire);
        if !is(word, from) {
            return Err(BadTransition::new(arrow, word));
        }
        // Release pairs with the Acquire of the arrow that leaves `to`.
        self.0.store(moved(word, from, to), Ordering::Release);
        Ok(generation_of(word))
    }

    /// The parking goroutine's side of the race with [`ready`](Self::ready): `unwoken` or `woken` says where
    /// the arrow leads and what it returns. Compare-and-swap runs twice at most.
    #[expect(clippy::inline_always, reason = "its results would go through memory")]
    #[inline(always)]
    fn leave_parking<T>(
        &self,
        arrow: Arrow,
        unwoken: (Status, T),
        woken: (Status, T),
    ) -> Result<T, BadTransition> {
        // Acquire, here and on failure below, pairs with the Release of `ready`.
        let mut word = self.0.load(Ordering::Acquire);
        if is(word, Status::Parking) {
            let new = moved(word, Status::Parking, unwoken.0);
            // Release pairs with the Acquire of `ready`: the waker sees the saved context.
            match self.0.compare_exchange(word, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(unwoken.1),
                Err(now) => word = now,
            }
        }
        if !is(word, Status::Woken) {
            return Err(BadTransition::new(arrow, word));
        }
        // A second `ready` is refused, so nobody races for a woken goroutine. Release pairs with `run`.
        self.0.store(moved(word, Status::Woken, woken.0), Ordering::Release);
        Ok(woken.1)
    }
}

#[cfg(test)]
#[path = "tests/status.rs"]
mod tests;
