//! A lock for one writer or many readers. [`sched::rwmutex`] decides and has the argument.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

use machine::clock;
use machine::percpu::Pinned;
use sched::mutex::MutexWord;
use sched::rwmutex::{Entry, RwWord};
use sched::sema::{Handoff, Order};

use crate::park::{Wait, WaitReason, current_slot};
use crate::sema;
use crate::stacks::{OwnStack, check_g_stack};
use crate::waits::{LockHead, LockKind, while_blocked};

use super::list::Portion;
use super::mutex::{lock_word, unlock_word};

/// A value that many goroutines may read, or one may write. Go's `sync.RWMutex`, around what it guards.
///
/// A writer that waits keeps new readers out, and so is not starved by them; the readers that it kept out go before the next
/// writer. So whoever reads must not read again under the same lock: a writer in between waits for the first, and the second
/// waits for the writer. Reports know the writer, not the readers. There is no poisoning; see [the module](crate::sync).
///
/// ```
/// use gzero::sync::RwMutex;
///
/// let table = RwMutex::new(alloc::vec![1, 2, 3]);
/// assert_eq!(table.read().len(), 3);
/// table.write().push(4);
/// ```
#[repr(C)]
pub struct RwMutex<T: ?Sized> {
    /// Must stay the first field.
    head: LockHead,
    word: RwWord,
    /// Taken by writers.
    writers: MutexWord,
    value: UnsafeCell<T>,
}

// SAFETY: readers share the value, a writer has it alone.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwMutex<T> {}
// SAFETY: a lock that is sent takes its value along; nobody has it.
unsafe impl<T: ?Sized + Send> Send for RwMutex<T> {}

impl<T> RwMutex<T> {
    /// A lock that nobody has.
    ///
    /// ```
    /// assert_eq!(*gzero::sync::RwMutex::new(5).read(), 5);
    /// ```
    pub const fn new(value: T) -> Self {
        Self::named("", value)
    }

    /// The same with a name for reports.
    ///
    /// ```
    /// static ROUTES: gzero::sync::RwMutex<[u32; 16]> = gzero::sync::RwMutex::named("routes", [0; 16]);
    ///
    /// assert_eq!(ROUTES.read()[0], 0);
    /// ```
    pub const fn named(name: &'static str, value: T) -> Self {
        Self {
            head: LockHead::new(LockKind::RwMutex, name),
            word: RwWord::new(),
            writers: MutexWord::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, when nobody else has the lock any more. Does not wait.
    ///
    /// ```
    /// assert_eq!(gzero::sync::RwMutex::new(7).into_inner(), 7);
    /// ```
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwMutex<T> {
    /// Waits until no writer has the lock or waits for it, and shares it with other readers. Go's `RWMutex.RLock`.
    ///
    /// ```
    /// let lock = gzero::sync::RwMutex::new(1);
    /// let (one, other) = (lock.read(), lock.read());
    /// assert_eq!(*one, *other);
    /// ```
    ///
    /// # Panics
    /// When 2^30 others read: their guards were leaked.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if there is no writer.
    #[track_caller]
    pub fn read(&self) -> RwMutexReadGuard<'_, T> {
        self.share(check_g_stack("RwMutex::read"))
    }

    /// [`read`](Self::read) for a caller that has checked the stack.
    pub(super) fn share(&self, me: OwnStack) -> RwMutexReadGuard<'_, T> {
        match self.word.read() {
            Entry::Now => {}
            Entry::Wait => while_blocked((&self.head, me), || {
                sema::acquire(me, self.word.readers_sema(), Order::Fifo, self.wait(WaitReason::RwMutexRead));
            }),
        }
        RwMutexReadGuard { lock: self, not_send: PhantomData }
    }

    /// Shares the lock if no writer has it or waits for it, without waiting. Go's `RWMutex.TryRLock`. On any
    /// stack but in a handler of an interrupt: the drop of the guard may wake a writer.
    ///
    /// ```
    /// let lock = gzero::sync::RwMutex::new(1);
    /// assert!(lock.try_read().is_some());
    /// ```
    ///
    /// # Panics
    /// As [`read`](Self::read).
    pub fn try_read(&self) -> Option<RwMutexReadGuard<'_, T>> {
        self.word.try_read().then(|| RwMutexReadGuard { lock: self, not_send: PhantomData })
    }

    /// Waits until nobody else has the lock, and takes it. Go's `RWMutex.Lock`.
    ///
    /// ```
    /// let lock = gzero::sync::RwMutex::new(1);
    /// *lock.write() += 1;
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if the lock is free.
    #[track_caller]
    pub fn write(&self) -> RwMutexWriteGuard<'_, T> {
        self.take(check_g_stack("RwMutex::write"))
    }

    /// [`write`](Self::write) for a caller that has checked the stack.
    pub(super) fn take(&self, me: OwnStack) -> RwMutexWriteGuard<'_, T> {
        lock_word(&self.writers, (&self.head, me), WaitReason::RwMutexWrite);
        // Before it announces itself: who then waits for it finds the name.
        self.head.hold(me.slot());
        match self.word.write() {
            Entry::Now => {}
            // Not as one that is blocked: nobody knows the readers.
            Entry::Wait => {
                sema::acquire(me, self.word.writer_sema(), Order::Fifo, self.wait(WaitReason::RwMutexWrite));
            }
        }
        RwMutexWriteGuard { lock: self, not_send: PhantomData }
    }

    /// Takes the lock if nobody has it, without waiting. Go's `RWMutex.TryLock`.
    ///
    /// ```
    /// let lock = gzero::sync::RwMutex::new(1);
    /// let reader = lock.read();
    /// assert!(lock.try_write().is_none());
    /// drop(reader);
    /// assert!(lock.try_write().is_some());
    /// ```
    ///
    /// # Throws
    /// When no goroutine calls. May be called on the kernel stack in a goroutine's name ([`crate::on_m`]).
    pub fn try_write(&self) -> Option<RwMutexWriteGuard<'_, T>> {
        if !self.writers.try_lock() {
            return None;
        }
        self.head.hold(current_slot());
        if self.word.try_write() {
            return Some(RwMutexWriteGuard { lock: self, not_send: PhantomData });
        }
        self.head.release();
        unlock_word(&self.writers);
        None
    }

    /// The value, for whoever has the lock to himself. Does not wait.
    ///
    /// ```
    /// let mut lock = gzero::sync::RwMutex::new(1);
    /// *lock.get_mut() = 2;
    /// assert_eq!(lock.into_inner(), 2);
    /// ```
    pub const fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn wait(&self, reason: WaitReason) -> Wait {
        Wait { reason, on: self.head.address(), since: clock::rdtsc_unordered() }
    }

    /// Lets the readers go that a writer has kept out, and then the next writer. `pinned` is held since before the readers wait
    /// for the caller alone: see [`super::list`].
    fn end_write(&self, readers: u32, pinned: Pinned) {
        let mut portion = Portion::new(pinned);
        for _ in 0..readers {
            sema::semrelease1(self.word.readers_sema(), Handoff::No);
            portion = portion.one_less();
        }
        drop(portion);
        unlock_word(&self.writers);
    }
}

impl<T: Default> Default for RwMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwMutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized> fmt::Debug for RwMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwMutex")
            .field("name", &self.head.name())
            .field("readers", &self.word.readers())
            .field("has_writer", &self.word.has_writer())
            .finish_non_exhaustive()
    }
}

/// Shared access to the value of a [`RwMutex`]; the drop gives it back, may wake a writer, and does not wait.
///
/// ```
/// let lock = gzero::sync::RwMutex::new(5);
/// let guard = lock.read();
/// assert_eq!(*guard, 5);
/// ```
#[must_use = "the lock is given back when the guard is dropped"]
pub struct RwMutexReadGuard<'m, T: ?Sized> {
    lock: &'m RwMutex<T>,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives shared access to the value, and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwMutexReadGuard<'_, T> {}

impl<T: ?Sized> Deref for RwMutexReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: no writer has the lock while a reader does.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwMutexReadGuard<'_, T> {
    fn drop(&mut self) {
        // The last one has a writer wait for it alone.
        let pinned = Pinned::new();
        if self.lock.word.unread() {
            sema::semrelease1(self.lock.word.writer_sema(), Handoff::No);
        }
        drop(pinned);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwMutexReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Exclusive access to the value of a [`RwMutex`]; the drop gives it back, may wake others, and does not wait.
///
/// ```
/// let lock = gzero::sync::RwMutex::new(5);
/// let mut guard = lock.write();
/// *guard += 1;
/// ```
#[must_use = "the lock is given back when the guard is dropped"]
pub struct RwMutexWriteGuard<'m, T: ?Sized> {
    lock: &'m RwMutex<T>,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives shared access to the value, and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwMutexWriteGuard<'_, T> {}

impl<'m, T: ?Sized> RwMutexWriteGuard<'m, T> {
    /// Goes on as a reader, with no writer in between. Does not wait.
    ///
    /// ```
    /// let lock = gzero::sync::RwMutex::new(0);
    /// let mut guard = lock.write();
    /// *guard = 1;
    /// let guard = guard.downgrade();
    /// assert_eq!((*guard, lock.try_read().is_some()), (1, true));
    /// ```
    ///
    /// # Panics
    /// As [`RwMutex::read`].
    pub fn downgrade(self) -> RwMutexReadGuard<'m, T> {
        let lock = ManuallyDrop::new(self).lock;
        lock.head.release();
        let pinned = Pinned::new();
        lock.end_write(lock.word.downgrade(), pinned);
        RwMutexReadGuard { lock, not_send: PhantomData }
    }
}

impl<T: ?Sized> Deref for RwMutexWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: nobody else has the lock while a writer does.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwMutexWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is lent to one.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwMutexWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.head.release();
        let pinned = Pinned::new();
        self.lock.end_write(self.lock.word.unwrite(), pinned);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwMutexWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
