//! A semaphore of which one may take several units at once. [`sched::weighted`] decides who gets them.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, Ordering};

use machine::clock;
use machine::lock::{Kind, Lock};
use machine::percpu::Pinned;
use sched::claim::{Claimed, Ticket};
use sched::weighted::Weighted;
use sched::{GoRef, SudogIndex};

use crate::m;
use crate::park::{Wait, WaitReason, current, gopark_on, goready, readied_by_something_else};
use crate::stacks::{OwnStack, check_g_stack};
use crate::sudog::own_sudog;

use super::context::{Context, ContextError};
use super::list::{park_in, ready_all};

/// Claims a waiter that others may have claimed.
fn claim(g: GoRef, ticket: Ticket) -> Claimed {
    m::runtime().slot(g.index).body().claim.claim(ticket)
}

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
        Self { state: Lock::of_kind(Kind::Waiters, Weighted::new(units)) }
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
        let own = check_g_stack("Semaphore::acquire");
        let mut state = self.state.lock();
        let (all, taken) = (state.capacity(), state.try_acquire(units));
        drop(state);
        assert!(units <= all, "Semaphore: {units} units of {all}");
        if !taken {
            let on = core::ptr::from_ref(self).addr() as u64;
            park_in(own, &self.state, WaitReason::Semacquire, on, |state, sudogs, s| {
                let must_wait = !state.try_acquire(units);
                if must_wait {
                    state.wait(sudogs, s, units, None);
                }
                must_wait
            });
        }
        Permit { semaphore: self, units }
    }

    /// [`acquire`](Self::acquire) that gives up when a context ends.
    ///
    /// Of more units than there are it waits for the end of the context.
    ///
    /// ```
    /// use gzero::sync::{Context, ContextError, Semaphore};
    /// use gzero::time::Duration;
    ///
    /// let slots = Semaphore::new(1);
    /// let one = slots.acquire_with(&Context::background(), 1);
    /// assert!(one.is_ok());
    /// let (context, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// assert_eq!(slots.acquire_with(&context, 1).err(), Some(ContextError::DeadlineExceeded));
    /// ```
    ///
    /// # Errors
    /// Why the context has ended, before the units were there or before the call.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if the units are free.
    #[track_caller]
    pub fn acquire_with(&self, context: &Context, units: u32) -> Result<Permit<'_>, ContextError> {
        let own = check_g_stack("Semaphore::acquire_with");
        if let Some(error) = context.err() {
            return Err(error);
        }
        let mut state = self.state.lock();
        let (all, taken) = (state.capacity(), state.try_acquire(units));
        drop(state);
        if units > all {
            return Err(context.wait());
        }
        if !taken {
            self.wait_with(own, context, units)?;
        }
        Ok(Permit { semaphore: self, units })
    }

    /// Waits for units, or for the end of the context: whoever claims the goroutine first.
    ///
    /// It is queued first and watches the context second, both while it is `Parking`, so that either may ready it at any
    /// time. If the context has ended by then, nobody has told it, and it claims itself.
    fn wait_with(&self, own: OwnStack, context: &Context, units: u32) -> Result<(), ContextError> {
        let rt = m::runtime();
        let g = current();
        let gives_up = Arc::new(AtomicBool::new(false));
        let ticket = rt.slot(g.index).body().claim.begin();
        let ended = {
            let gives_up = Arc::clone(&gives_up);
            move || {
                // From the claim on nobody else can ready it.
                let pinned = Pinned::new();
                if claim(g, ticket) == Claimed::Yes {
                    // Release: pairs with the Acquire below.
                    gives_up.store(true, Ordering::Release);
                    goready(g);
                }
                drop(pinned);
            }
        };
        let mut call: Option<Box<dyn FnOnce() + Send>> = Some(Box::new(ended));
        let mut watch = None;
        let (s, sudog) = own_sudog(own.here(&Pinned::new()));
        let since = clock::rdtsc_unordered();
        sudog.prepare(g, since.0);
        let on = core::ptr::from_ref(self).addr() as u64;
        gopark_on(own, Wait { reason: WaitReason::Semacquire, on, since }, |_| {
            let mut state = self.state.lock();
            if state.try_acquire(units) {
                drop(state);
                // Nobody else has the ticket.
                return claim(g, ticket) == Claimed::No;
            }
            state.wait(&rt.sudogs, s, units, Some(ticket));
            sudog.set_address(on);
            drop(state);
            watch = call.take().and_then(|call| context.watch(call));
            let over = watch.is_none() && context.is_done() && claim(g, ticket) == Claimed::Yes;
            if over {
                gives_up.store(true, Ordering::Release);
            }
            !over
        });
        let gives_up = gives_up.load(Ordering::Acquire);
        // Who has served it has cleared the address.
        if !gives_up && sudog.address() != 0 {
            readied_by_something_else(WaitReason::Semacquire);
        }
        // Out of the queue first: the sudog is the goroutine's own.
        let result = if gives_up { Err(self.leave(context, s)) } else { Ok(()) };
        if let Some(number) = watch {
            context.unwatch(number);
        }
        result
    }

    /// The goroutine has given up.
    #[cold]
    fn leave(&self, context: &Context, s: SudogIndex) -> ContextError {
        let mut state = self.state.lock();
        let sudogs = &m::runtime().sudogs;
        let served = state.leave(sudogs, s, claim);
        // Whoever took it out before, and found that it gives up, has left it as it was.
        sudogs.get(s).set_address(0);
        ready_all(served, state.unlock());
        context.err().unwrap_or(ContextError::Canceled)
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
        let mut state = self.state.lock();
        let released = state.release(&m::runtime().sudogs, units, claim);
        let pinned = state.unlock();
        match released {
            Ok(granted) => ready_all(granted, pinned),
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
