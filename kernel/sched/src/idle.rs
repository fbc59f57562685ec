//! Which Ps are idle, how many look for work, and why no work is ever left behind by a machine that sleeps.
//!
//! A P is **busy** (it runs a goroutine, or is about to), **spinning** (it has run dry and looks into the
//! others' queues) or **idle** (its bit is set here and its CPU sleeps or is about to). A producer wakes an
//! idle P only if nobody spins: a spinner will find the work, and a machine where every new goroutine
//! wakes a CPU spends its time on waking.
//!
//! # Why no wake-up is lost
//!
//! Lost would be: work is in a queue, and every P that is not busy sleeps with no wake on its way.
//!
//! The producer
//!
//! 1. puts the goroutine into a queue ([`Local::push_back`](crate::runq::Local::push_back),
//!    [`put_next`](crate::runq::Local::put_next), or the global queue);
//! 2. fences ([`Idle::wake_one`] does, fence A);
//! 3. looks whether anybody is idle (by the count, which is never below the number of bits), then for a spinner, then for an
//!    idle P. If there is no spinner and an idle P, it counts a spinner on that P's account, takes the P's bit, and wakes
//!    its CPU through the [`Note`](crate::note::Note).
//!
//! The idler
//!
//! 1. sets its bit, then, if it was spinning, stops to be counted ([`Idle::go_idle`]);
//! 2. fences (`go_idle` does, fence B);
//! 3. looks into all queues once more ([`recheck`](crate::pick::recheck)). Only if they are empty, its CPU
//!    sleeps.
//!
//! *Why one of them sees the other.* Fences with `SeqCst` have one order. If A is before B, the idler's third
//! step sees the producer's first: it finds the work. If B is before A, the producer's third step sees the
//! idler's first: there is the bit, and the count without the idler. So it either wakes the idler, or sees
//! that another waker took the bit (then a wake is on its way), or sees another spinner.
//!
//! *Why a spinner may be trusted.* A producer that saw a count above 0 did so before that count was lowered.
//! Each of those who are counted lowers it in one of three ways, and the last of them acts on it:
//!
//! * It goes idle: fence B comes after the lowering, so it comes after the producer's A, and its
//!   third step sees the work.
//! * It found other work ([`Idle::stop_spinning`]). The one that was [`Spinner::Last`] then calls `wake_one`
//!   in the producer's place, because the work that the producer trusted it with may still be there.
//! * It is a waker that counted one spinner too many, because the last bit was taken under its hands. It
//!   starts again with fence A (in the loop behind [`Idle::wake_one`]), now in the place of those who trusted its count.
//!
//! A waker that fans out ([`Idle::wake_more`]) raises the count for the P that it claims, before it claims it, as the producer does:
//! those who trust that count trust a P that is woken, or, if none was left, the waker, which is of the third kind then.
//!
//! One that was not the last leaves the duty to those still counted: the count only passes 0 by the hand of
//! one who knows. A thief's loot changes queues meanwhile; between the two it is in no queue, but the
//! thief is a counted spinner then, so the same rule covers it.
//!
//! *Why the last step is safe too.* Between the idler's look and its sleep, a waker may take the bit. Its
//! wake then meets the note: [`note`](crate::note) says why the CPU cannot miss it.
//!
//! A P that runs dry but may not spin ([`Idle::try_spin`]) goes idle in the same three steps.

use alloc::boxed::Box;
use core::fmt;

use crate::id::{MAX_PROCS, ProcId};
use crate::sync::{AtomicU32, Ordering, Padded, Plain32, fence};
use crate::sync::{IDLE_WORDS, PROCS_PER_WORD};

/// Ps that a thief wakes that has got more than it runs.
pub const FAN_OUT: u32 = 2;

/// Ps that may spin at a time, however many there are: each looks at all others.
const MOST_SPINNING: u32 = 16;

#[cfg(not(loom))]
const _: () = assert!(IDLE_WORDS * PROCS_PER_WORD == MAX_PROCS, "each P has a bit");

/// Whether a P is counted as spinning. It is passed along by the loop that looks for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who is counted as spinning must stop, by stop_spinning or go_idle"]
pub enum Spin {
    /// It is counted.
    Yes,
    /// It is not.
    No,
}

/// What a spinner that found work must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the last spinner must call wake_one"]
pub enum Spinner {
    /// Call [`Idle::wake_one`]: producers may have trusted it with more work than it found.
    Last,
    /// Nothing: somebody else still looks.
    NotLast,
}

/// How a P stopped being idle. Either way it is counted as spinning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Left {
    /// It took its own bit back: nobody wakes it.
    TookBack,
    /// A waker had taken the bit: its wake has come, or is on its way and will find nobody asleep.
    Claimed,
}

/// The idle Ps and the number of spinning ones.
pub struct Idle {
    /// Ps that there are; changed only while the world is stopped.
    procs: Plain32,
    /// Each P has a bit, which is set while it is idle.
    mask: Box<[Padded<AtomicU32>]>,
    /// On one line: who readies looks at both, and who goes idle or wakes up writes both.
    counts: Padded<Counts>,
}

struct Counts {
    /// Ps that are idle, or whose bit a waker has taken without having counted that yet.
    idle: AtomicU32,
    spinning: AtomicU32,
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle")
            .field("procs", &self.procs.get())
            .field("idle", &self.idle_count())
            .field("spinning", &self.spinning_count())
            .finish_non_exhaustive()
    }
}

impl Idle {
    /// No P of `procs` is idle and none spins.
    pub fn new(procs: u32) -> Self {
        Self {
            procs: Plain32::new(procs.min(MAX_PROCS)),
            mask: (0..IDLE_WORDS).map(|_| Padded(AtomicU32::new(0))).collect(),
            counts: Padded(Counts { idle: AtomicU32::new(0), spinning: AtomicU32::new(0) }),
        }
    }

    /// The producer's steps 2 and 3, after it has put work into a queue; also the duty of a last spinner. The
    /// P that comes back starts as spinning; the caller must wake its CPU through its note.
    #[must_use = "the CPU of this P must be woken: no other producer will do it"]
    #[inline]
    pub fn wake_one(&self) -> Option<ProcId> {
        // Fence A pairs with fence B in `go_idle`: the work is visible, or the idler is.
        fence(Ordering::SeqCst);
        // Relaxed, here and below: the fence orders them. The count is raised before a bit is set and lowered after it is
        // taken: without a count there is no bit.
        if self.counts.idle.load(Ordering::Relaxed) == 0 || self.counts.spinning.load(Ordering::Relaxed) != 0
        {
            return None;
        }
        self.claim_one(0)
    }

    /// A P more, for a thief that has got more than it can run: called [`FAN_OUT`] times, so that wakes fan out as long as there
    /// is enough to do. No duty: who has one calls [`wake_one`](Self::wake_one) as well.
    ///
    /// As that, but that it does not leave the work to those who spin already, while they are few.
    #[must_use = "the CPU of this P must be woken: it counts as spinning"]
    pub fn wake_more(&self) -> Option<ProcId> {
        // Relaxed: who is not seen is not woken, and no work is left behind for that.
        let spinning = self.counts.spinning.load(Ordering::Relaxed);
        if spinning >= self.most_spinning() {
            return None;
        }
        self.claim_one(spinning)
    }

    /// The rest of [`wake_one`](Self::wake_one), after its fence, when somebody seems to be idle and nobody spins, and of
    /// [`wake_more`](Self::wake_more) when so many do: counts one more, unless their number has changed, and claims an idle P.
    fn claim_one(&self, mut spinning: u32) -> Option<ProcId> {
        loop {
            if self.nobody_idle() {
                return None;
            }
            // Relaxed: what is read from the count orders nothing, fences and the mask do. On failure somebody else has begun to
            // spin; or has stopped to, and had the duty, not who called for more.
            let counted = &self.counts.spinning;
            counted.compare_exchange(spinning, spinning + 1, Ordering::Relaxed, Ordering::Relaxed).ok()?;
            if let Some(p) = self.claim() {
                return Some(p);
            }
            // The idle P that was seen is gone. Others may have trusted the count: look again for them.
            // Release and Acquire chain those who lower the count, so that the last sees what the others did.
            if counted.fetch_sub(1, Ordering::AcqRel) != 1 {
                return None;
            }
            spinning = 0;
            // Fence A once more, in their place.
            fence(Ordering::SeqCst);
        }
    }

    /// Counts the caller, which is busy and has run dry, as spinning, unless as many as may already
    /// spin.
    pub fn try_spin(&self) -> Spin {
        // Relaxed: a limit that is missed by one does no harm.
        if self.counts.spinning.load(Ordering::Relaxed) >= self.most_spinning() {
            return Spin::No;
        }
        self.counts.spinning.fetch_add(1, Ordering::Relaxed);
        Spin::Yes
    }

    /// How many may spin: half of those who are busy, and not more than some.
    fn most_spinning(&self) -> u32 {
        let busy = self.procs.get().saturating_sub(self.counts.idle.load(Ordering::Relaxed));
        busy.div_ceil(2).min(MOST_SPINNING)
    }

    /// Ends spinning because work was found.
    ///
    /// # Panics
    ///
    /// Nobody was counted as spinning.
    pub fn stop_spinning(&self) -> Spinner {
        if self.lower_spinning() == 1 { Spinner::Last } else { Spinner::NotLast }
    }

    /// The idler's steps 1 and 2. The caller then makes its step 3, [`recheck`](crate::pick::recheck).
    ///
    /// # Panics
    ///
    /// `p` is idle already, or it claims to be spinning and nobody is counted.
    pub fn go_idle(&self, p: ProcId, spin: Spin) {
        // The count goes first and comes down last, so that it is never below the number of bits.
        self.counts.idle.fetch_add(1, Ordering::Relaxed);
        // Release pairs with the Acquire of the waker that takes the bit, and with that in `all_idle`.
        let before = self.word(p).fetch_or(bit(p), Ordering::Release);
        assert!(before & bit(p) == 0, "{p} goes idle and is idle already");
        if spin == Spin::Yes {
            self.lower_spinning();
        }
        // Fence B pairs with fence A in `wake_one`.
        fence(Ordering::SeqCst);
    }

    /// Ends being idle, because work was found in step 3 or because the CPU woke up. Whether by the caller or
    /// by a waker, `p` is counted as spinning afterwards.
    pub fn leave_idle(&self, p: ProcId) -> Left {
        // Acquire pairs with the Release of the waker that took the bit.
        if self.word(p).fetch_and(!bit(p), Ordering::AcqRel) & bit(p) == 0 {
            return Left::Claimed;
        }
        self.counts.idle.fetch_sub(1, Ordering::Relaxed);
        self.counts.spinning.fetch_add(1, Ordering::Relaxed);
        Left::TookBack
    }

    /// Changes the number of Ps, while the world is stopped. The idle ones from `procs` on have been
    /// [retired](Self::retire).
    pub fn resize(&self, procs: u32) {
        self.procs.set(procs.min(MAX_PROCS));
    }

    /// Takes a P out of the idle ones because it goes away, while the world is stopped. Says whether it was idle: then it
    /// is counted nowhere from now on, and its CPU must not call [`leave_idle`](Self::leave_idle) for this sleep. Else it
    /// is busy, or a waker has claimed it and it is counted as spinning; it will settle that itself.
    #[must_use = "the CPU of a retired P must be told"]
    pub fn retire(&self, p: ProcId) -> bool {
        // Relaxed: the stop orders it.
        if self.word(p).fetch_and(!bit(p), Ordering::Relaxed) & bit(p) == 0 {
            return false;
        }
        self.counts.idle.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// Whether the bits of all Ps are set: nobody is busy, spins, or has been claimed. [`deadlock`](crate::deadlock)
    /// argues from it.
    ///
    /// It does not ask the count: who claims a P takes the bit first and counts that later, and the P may have run and
    /// gone idle again in between.
    pub fn all_idle(&self) -> bool {
        // Acquire pairs with the Release in `go_idle`: what the others queued before is visible.
        let mut left = self.procs.get();
        self.words().iter().all(|word| {
            let procs = left.min(PROCS_PER_WORD);
            left -= procs;
            word.load(Ordering::Acquire).count_ones() == procs
        })
    }

    /// Idle Ps, at about this moment.
    pub fn idle_count(&self) -> u32 {
        self.counts.idle.load(Ordering::Relaxed)
    }

    /// Spinning Ps, at about this moment.
    pub fn spinning_count(&self) -> u32 {
        self.counts.spinning.load(Ordering::Relaxed)
    }

    /// Whether `p` is idle, at about this moment.
    pub fn is_idle(&self, p: ProcId) -> bool {
        self.word(p).load(Ordering::Relaxed) & bit(p) != 0
    }

    /// Lowers the count and returns what it was.
    ///
    /// # Panics
    ///
    /// It was 0.
    fn lower_spinning(&self) -> u32 {
        // Release and Acquire chain those who lower the count: the last one sees what the others queued.
        let before = self.counts.spinning.fetch_sub(1, Ordering::AcqRel);
        assert!(before != 0, "a P stops spinning and none is counted");
        before
    }

    /// Takes the bit of the lowest idle P: low CPUs stay warm and high ones asleep.
    fn claim(&self) -> Option<ProcId> {
        let bases = (0..).step_by(PROCS_PER_WORD as usize);
        let (base, n) =
            self.words().iter().zip(bases).find_map(|(word, base)| Some((base, claim_in(word)?)))?;
        self.counts.idle.fetch_sub(1, Ordering::Relaxed);
        ProcId::new(base + n)
    }

    /// Whether no bit is set.
    fn nobody_idle(&self) -> bool {
        // Relaxed: the fence in `wake_one` orders it.
        self.words().iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }

    /// The words that hold bits of Ps.
    fn words(&self) -> &[Padded<AtomicU32>] {
        &self.mask[..self.procs.get().div_ceil(PROCS_PER_WORD) as usize]
    }

    /// The word that holds the bit of `p`.
    fn word(&self, p: ProcId) -> &AtomicU32 {
        &self.mask[(p.get() / PROCS_PER_WORD) as usize]
    }
}

/// Takes the lowest bit of a word of the mask, and says which that was.
fn claim_in(word: &AtomicU32) -> Option<u32> {
    let mut idle = word.load(Ordering::Relaxed);
    while idle != 0 {
        let n = idle.trailing_zeros();
        // Acquire pairs with the Release in `go_idle`, Release with the Acquire in `leave_idle`.
        let before = word.fetch_and(!(1 << n), Ordering::AcqRel);
        if before & (1 << n) != 0 {
            return Some(n);
        }
        // Another waker took this one.
        idle = before;
    }
    None
}

/// The bit of `p` in its word.
fn bit(p: ProcId) -> u32 {
    1 << (p.get() % PROCS_PER_WORD)
}

#[cfg(test)]
#[path = "tests/idle.rs"]
mod tests;
