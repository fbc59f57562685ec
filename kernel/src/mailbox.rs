//! A place for one value between goroutines.

use alloc::collections::VecDeque;
use core::fmt;

use machine::lock::{Guard, Kind, Lock};
use machine::percpu::Pinned;
use sched::GoRef;

use crate::park::{WaitReason, gopark, goready};
use crate::stacks::check_g_stack;

/// Holds at most one value: [`put`](Mailbox::put) waits while there is one, [`take`](Mailbox::take) while there is
/// none. Any number of goroutines may do either; share it by `Arc` or as a `static`.
///
/// Waiters are woken in the order in which they came. One that comes between a wake and the woken goroutine's turn
/// may be faster; the woken one then waits again.
///
/// ```
/// use alloc::sync::Arc;
/// use gzero::Mailbox;
///
/// let mailbox = Arc::new(Mailbox::new());
/// let other = Arc::clone(&mailbox);
/// gzero::go(move || other.put(7));
/// assert_eq!(mailbox.take(), 7);
/// assert!(mailbox.is_empty());
/// assert_eq!(mailbox.try_put(8), Ok(()));
/// assert_eq!(mailbox.try_put(9), Err(9));
/// assert_eq!(mailbox.try_take(), Some(8));
/// ```
pub struct Mailbox<T> {
    inner: Lock<Inner<T>>,
}

struct Inner<T> {
    value: Option<T>,
    takers: VecDeque<GoRef>,
    putters: VecDeque<GoRef>,
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Mailbox<T> {
    /// An empty mailbox.
    pub const fn new() -> Self {
        let inner = Inner { value: None, takers: VecDeque::new(), putters: VecDeque::new() };
        Self { inner: Lock::of_kind(Kind::Mailbox, inner) }
    }

    /// Whether there is no value at this moment.
    pub fn is_empty(&self) -> bool {
        self.inner.lock().value.is_none()
    }

    /// Waits until the mailbox is empty and puts the value in.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn put(&self, mut value: T) {
        check_g_stack("Mailbox::put");
        loop {
            match self.try_put(value) {
                Ok(()) => return,
                Err(back) => value = back,
            }
            let inner = self.inner.lock();
            if inner.value.is_some() {
                wait(inner, |inner| &mut inner.putters);
            }
        }
    }

    /// Puts the value in if the mailbox is empty, without waiting; else gives it back.
    ///
    /// # Errors
    /// The value, when there is one already.
    pub fn try_put(&self, value: T) -> Result<(), T> {
        let mut inner = self.inner.lock();
        if inner.value.is_some() {
            return Err(value);
        }
        inner.value = Some(value);
        let taker = inner.takers.pop_front();
        wake(taker, inner.unlock());
        Ok(())
    }

    /// Takes the value out if there is one, without waiting.
    pub fn try_take(&self) -> Option<T> {
        let mut inner = self.inner.lock();
        let value = inner.value.take()?;
        let putter = inner.putters.pop_front();
        wake(putter, inner.unlock());
        Some(value)
    }

    /// Waits for a value and takes it out.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn take(&self) -> T {
        check_g_stack("Mailbox::take");
        loop {
            if let Some(value) = self.try_take() {
                return value;
            }
            let inner = self.inner.lock();
            if inner.value.is_none() {
                wait(inner, |inner| &mut inner.takers);
            }
        }
    }
}

/// Parks on one of the two lists. The lock goes only after the goroutine is on it and in state `Parking`: whoever
/// takes the lock next may ready it at once.
fn wait<T>(mut inner: Guard<'_, Inner<T>>, list: impl FnOnce(&mut Inner<T>) -> &mut VecDeque<GoRef>) {
    gopark(WaitReason::Mailbox, |me| {
        list(&mut inner).push_back(me);
        drop(inner);
        true
    });
}

/// Readies who was taken off a list; the pin of the lock outlives it until then, as in `kernel/src/chan/core.rs`.
fn wake(waiter: Option<GoRef>, pinned: Pinned) {
    if let Some(waiter) = waiter {
        goready(waiter);
    }
    drop(pinned);
}
