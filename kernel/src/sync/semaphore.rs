//! A semaphore of which one may take several units at once. [`sched::weighted`] decides who gets them.

use core::fmt;
use core::mem::ManuallyDrop;

use machine::lock::{Lock, Rank};
use sched::weighted::Weighted;

use crate::m;
use crate::park::WaitReason;
use crate::stacks::check_g_stack;

use super::list::{park_in, ready_all};

/// A number of units, of which each goroutine takes as many as it needs. As Go's `golang.org/x/sync/semaphore`.
///
/// First come, first served: while somebody waits for many units, nobody who comes later is served before, though fewer
/// would do.
///
/// ```
/// use gzero::sync::Semaphore;
///
/// static MEGABYTES: Semaphore = Semaphore::new(64);
///
/// let permit = MEGABYTES.acquire(16);
/// // … at most 64 are in use at any time …
/// drop(permit);
/// ```
pub struct Semaphore {
    state: Lock<Weighted>,
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("free", &self.free()).finish_non_exhaustive()
    }
}

impl Semaphore {
    /// A semaphore of so many units, all of them free.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Semaphore::new(4).free(), 4);
    /// ```
    pub const fn new(units: u32) -> Self {
        Self { state: Lock::new(Rank::Leaf, Weighted::new(units)) }
    }

    /// Waits until `units` are free and nobody who came before waits, and takes them.
    ///
    /// ```
    /// let slots = gzero::sync::Semaphore::new(4);
    /// let two = slots.acquire(2);
    /// assert_eq!((two.units(), slots.free()), (2, 2));
    /// ```
    ///
    /// # Panics
    /// When there are fewer units in all: it would wait for ever.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if the units are free.
    #[track_caller]
    pub fn acquire(&self, units: u32) -> Permit<'_> {
        check_g_stack("Semaphore::acquire");
        let mut state = self.state.lock();
        let (all, taken) = (state.capacity(), state.try_acquire(units));
        drop(state);
        assert!(units <= all, "Semaphore: {units} units of {all}");
        if !taken {
            let on = core::ptr::from_ref(self).addr() as u64;
            park_in(&self.state, WaitReason::Semacquire, on, |state, sudogs, s| {
                let must_wait = !state.try_acquire(units);
                if must_wait {
                    state.wait(sudogs, s, units);
                }
                must_wait
            });
        }
        Permit { semaphore: self, units }
    }

    /// Takes the units if they are free and nobody waits, without waiting. On any stack.
    ///
    /// ```
    /// let slots = gzero::sync::Semaphore::new(1);
    /// let one = slots.try_acquire(1);
    /// assert!(one.is_some() && slots.try_acquire(1).is_none());
    /// ```
    pub fn try_acquire(&self, units: u32) -> Option<Permit<'_>> {
        self.state.lock().try_acquire(units).then(|| Permit { semaphore: self, units })
    }

    /// Gives units back of which the permit was [forgotten](Permit::forget), and wakes those for whom they suffice. Does not
    /// wait; on any stack.
    ///
    /// ```
    /// let slots = gzero::sync::Semaphore::new(1);
    /// slots.acquire(1).forget();
    /// slots.release(1);
    /// ```
    ///
    /// # Panics
    /// When more are given back than were taken.
    #[track_caller]
    pub fn release(&self, units: u32) {
        let released = self.state.lock().release(&m::runtime().sudogs, units);
        match released {
            Ok(granted) => ready_all(granted),
            Err(taken) => panic!("Semaphore: {units} units are given back, and {taken} were taken"),
        }
    }

    /// The units that nobody has, at about this moment. On any stack.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Semaphore::new(3).free(), 3);
    /// ```
    pub fn free(&self) -> u32 {
        self.state.lock().free()
    }
}

/// Units of a [`Semaphore`]; the drop gives them back, and does not wait.
///
/// ```
/// let slots = gzero::sync::Semaphore::new(4);
/// let permit = slots.acquire(3);
/// assert_eq!(permit.units(), 3);
/// ```
#[must_use = "the units are given back when the permit is dropped"]
#[derive(Debug)]
pub struct Permit<'s> {
    semaphore: &'s Semaphore,
    units: u32,
}

impl Permit<'_> {
    /// How many.
    ///
    /// ```
    /// let slots = gzero::sync::Semaphore::new(4);
    /// assert_eq!(slots.acquire(2).units(), 2);
    /// ```
    pub const fn units(&self) -> u32 {
        self.units
    }

    /// Keeps the units when the permit goes; somebody gives them back by [`Semaphore::release`].
    ///
    /// ```
    /// let slots = gzero::sync::Semaphore::new(4);
    /// slots.acquire(2).forget();
    /// assert_eq!(slots.free(), 2);
    /// ```
    pub fn forget(self) {
        let _kept = ManuallyDrop::new(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.release(self.units);
    }
}
