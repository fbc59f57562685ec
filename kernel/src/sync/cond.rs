//! Condition variables. [`sched::notify`] has the argument why no notification is lost.

use core::fmt;

use machine::lock::{Kind, Lock};
use sched::notify::{Came, Ticket, Tickets};
use sched::waiters::Waiters;

use crate::m;
use crate::park::WaitReason;
use crate::stacks::{OwnStack, check_g_stack};

use super::list::{park_in, ready, ready_all};
use super::mutex::MutexGuard;

/// A place to wait until somebody says that a condition may hold now. Go's `sync.Cond`.
///
/// The condition is about the value of a [`Mutex`](super::Mutex). Who waits is woken by a notification only, first come, first
/// served, and only by one that came after it had begun to wait; but somebody else may take the lock in between and make the
/// condition false again, so it is looked at in a loop ([`wait_while`](Self::wait_while) is one).
///
/// ```
/// use alloc::vec::Vec;
/// use gzero::sync::{Cond, Mutex};
///
/// static QUEUE: Mutex<Vec<u32>> = Mutex::new(Vec::new());
/// static FILLED: Cond = Cond::new();
///
/// gzero::go(|| {
///     QUEUE.lock().push(1);
///     FILLED.signal();
/// });
/// let mut queue = FILLED.wait_while(QUEUE.lock(), |queue| queue.is_empty());
/// assert_eq!(queue.pop(), Some(1));
/// ```
pub struct Cond {
    tickets: Tickets,
    waiters: Lock<Waiters>,
}

impl Default for Cond {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cond").field("tickets", &self.tickets).finish_non_exhaustive()
    }
}

impl Cond {
    /// A condition that nobody waits for.
    ///
    /// ```
    /// gzero::sync::Cond::new().broadcast(); // nobody waits
    /// ```
    pub const fn new() -> Self {
        Self { tickets: Tickets::new(), waiters: Lock::of_kind(Kind::Waiters, Waiters::new()) }
    }

    /// Unlocks the mutex, waits for a notification, and locks the mutex again. Go's `Cond.Wait`.
    ///
    /// A notification that comes after the unlock is not missed.
    ///
    /// ```
    /// use gzero::sync::{Cond, Mutex};
    ///
    /// static READY: Mutex<bool> = Mutex::new(false);
    /// static CHANGED: Cond = Cond::new();
    ///
    /// gzero::go(|| {
    ///     *READY.lock() = true;
    ///     CHANGED.signal();
    /// });
    /// let mut ready = READY.lock();
    /// while !*ready {
    ///     ready = CHANGED.wait(ready);
    /// }
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn wait<'m, T: ?Sized>(&self, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
        let me = check_g_stack("Cond::wait");
        self.wait_by(me, guard)
    }

    /// Waits as long as `condition` is true of the value, which it may change.
    ///
    /// ```
    /// use gzero::sync::{Cond, Mutex};
    ///
    /// let (count, changed) = (Mutex::new(0), Cond::new());
    /// // It is 0 already, so nobody waits.
    /// let count = changed.wait_while(count.lock(), |count| *count > 0);
    /// assert_eq!(*count, 0);
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if the condition is false.
    #[track_caller]
    pub fn wait_while<'m, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'m, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'m, T> {
        let me = check_g_stack("Cond::wait_while");
        while condition(&mut guard) {
            guard = self.wait_by(me, guard);
        }
        guard
    }

    fn wait_by<'m, T: ?Sized>(&self, me: OwnStack, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
        let mutex = guard.mutex();
        let ticket = self.tickets.draw();
        drop(guard);
        self.come(me, ticket);
        mutex.lock_by(me)
    }

    /// Waits for a ticket's notification.
    fn come(&self, own: OwnStack, ticket: Ticket) {
        let on = core::ptr::from_ref(self).addr() as u64;
        park_in(own, &self.waiters, WaitReason::Cond, on, |waiters, sudogs, s| {
            match self.tickets.come(waiters, sudogs, s, ticket) {
                Came::InTime => true,
                Came::Notified => false,
            }
        });
    }

    /// Wakes the goroutine that has waited longest, if any waits. Go's `Cond.Signal`. Does not wait; on any stack.
    ///
    /// The mutex may be held or not.
    ///
    /// ```
    /// gzero::sync::Cond::new().signal(); // nobody waits
    /// ```
    pub fn signal(&self) {
        if self.tickets.all_notified() {
            return;
        }
        let mut waiters = self.waiters.lock();
        let m = m::current(waiters.pinned());
        let first = self.tickets.notify_one(&mut waiters, &m::runtime_of(m).sudogs);
        ready(m, first, waiters.unlock());
    }

    /// Wakes all goroutines that wait. Go's `Cond.Broadcast`. Does not wait; on any stack.
    ///
    /// ```
    /// gzero::sync::Cond::new().broadcast(); // nobody waits
    /// ```
    pub fn broadcast(&self) {
        if self.tickets.all_notified() {
            return;
        }
        let mut waiters = self.waiters.lock();
        let all = self.tickets.notify_all(&mut waiters);
        ready_all(all, waiters.unlock());
    }
}
