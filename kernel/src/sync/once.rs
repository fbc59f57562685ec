//! What is done once, by whoever comes first; the others wait for it. [`sched::once`] has the words.

use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::mem::MaybeUninit;
use core::ops::Deref;

use sched::once::OnceWord;

use crate::park::WaitReason;
use crate::stacks::{OwnStack, check_g_stack};
use crate::waits::{LockHead, LockKind};

use super::mutex::{lock_word, unlock_word};

/// Runs a function once. Go's `sync.Once`.
///
/// ```
/// use gzero::sync::Once;
///
/// static START: Once = Once::new();
///
/// START.call_once(|| gzero::println!("the first time"));
/// START.call_once(|| gzero::println!("never"));
/// ```
#[repr(C)]
pub struct Once {
    /// Must stay the first field.
    head: LockHead,
    word: OnceWord,
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("done", &self.is_completed()).finish()
    }
}

impl Once {
    /// Nothing was called yet.
    ///
    /// ```
    /// assert!(!gzero::sync::Once::new().is_completed());
    /// ```
    pub const fn new() -> Self {
        Self { head: LockHead::new(LockKind::Once, ""), word: OnceWord::new() }
    }

    /// Calls the function if no call has returned yet; waits while another goroutine is at it. Go's `Once.Do`.
    ///
    /// When it returns, some function has run to its end, and what it did is visible. One that ends its goroutine by
    /// [`goexit`](crate::goexit) keeps all others waiting.
    ///
    /// ```
    /// let once = gzero::sync::Once::new();
    /// once.call_once(|| gzero::println!("once"));
    /// assert!(once.is_completed());
    /// ```
    ///
    /// # Panics
    /// When the function calls this of the same `Once`: it would wait for itself.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if it has been called before.
    #[track_caller]
    pub fn call_once(&self, function: impl FnOnce()) {
        let me = check_g_stack("Once::call_once");
        if !self.word.is_done() {
            self.call(me, function);
        }
    }

    #[cold]
    #[track_caller]
    fn call(&self, me: OwnStack, function: impl FnOnce()) {
        assert!(!self.head.is_mine(), "Once: called again by the function that it calls");
        lock_word(self.word.mutex(), (&self.head, me), WaitReason::Once);
        self.head.hold(me.slot());
        if !self.word.is_done() {
            function();
            self.word.set_done();
        }
        self.head.release();
        unlock_word(self.word.mutex());
    }

    /// Whether a call has returned. Does not wait; on any stack.
    ///
    /// ```
    /// assert!(!gzero::sync::Once::new().is_completed());
    /// ```
    pub fn is_completed(&self) -> bool {
        self.word.is_done()
    }
}

/// A value that is written once. As `std::sync::OnceLock`.
///
/// ```
/// use alloc::string::String;
/// use gzero::sync::OnceLock;
///
/// static CONFIG: OnceLock<String> = OnceLock::new();
///
/// let config = CONFIG.get_or_init(|| String::from("read once"));
/// assert_eq!(CONFIG.get(), Some(config));
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// Written by the function that `once` calls, and only read afterwards.
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is made by one goroutine, shared by all that look at it, and dropped by whoever drops the lock.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}
// SAFETY: it takes its value along.
unsafe impl<T: Send> Send for OnceLock<T> {}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceLock").field(&self.get()).finish()
    }
}

impl<T> OnceLock<T> {
    /// No value yet.
    ///
    /// ```
    /// assert_eq!(gzero::sync::OnceLock::<u32>::new().get(), None);
    /// ```
    pub const fn new() -> Self {
        Self { once: Once::new(), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The value, if there is one. Does not wait; on any stack.
    ///
    /// ```
    /// let cell = gzero::sync::OnceLock::<u32>::new();
    /// assert_eq!(cell.get(), None);
    /// ```
    pub fn get(&self) -> Option<&T> {
        if !self.once.is_completed() {
            return None;
        }
        // SAFETY: the value is written, and nobody writes it again while the lock is borrowed.
        let value = unsafe { &*self.value.get() };
        // SAFETY: as above.
        Some(unsafe { value.assume_init_ref() })
    }

    /// The value; if there is none, what `make` returns becomes it. Waits while another goroutine is at it. Go's
    /// `sync.OnceValue`.
    ///
    /// ```
    /// let cell = gzero::sync::OnceLock::new();
    /// assert_eq!(*cell.get_or_init(|| 3), 3);
    /// assert_eq!(*cell.get_or_init(|| 4), 3);
    /// ```
    ///
    /// # Panics
    /// When `make` asks for the value itself.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if there is a value.
    #[track_caller]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.once.call_once(|| {
            let value = make();
            // SAFETY: `call_once` calls one function, before anybody reads.
            unsafe { (*self.value.get()).write(value) };
        });
        self.get().expect("a call has returned")
    }

    /// Makes this the value, if there is none; waits while another goroutine is at it.
    ///
    /// ```
    /// let cell = gzero::sync::OnceLock::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// ```
    ///
    /// # Errors
    /// The value given, when there is one already.
    ///
    /// # Throws
    /// As [`get_or_init`](Self::get_or_init).
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.once.call_once(|| {
            if let Some(value) = value.take() {
                // SAFETY: as in `get_or_init`.
                unsafe { (*self.value.get()).write(value) };
            }
        });
        value.map_or(Ok(()), Err)
    }

    /// The value, when nobody else has the lock any more. Does not wait.
    ///
    /// ```
    /// assert_eq!(gzero::sync::OnceLock::<u32>::new().into_inner(), None);
    /// ```
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }

    fn take(&mut self) -> Option<T> {
        if !core::mem::take(&mut self.once).is_completed() {
            return None;
        }
        // SAFETY: the value was written, and is taken once: the new `Once` says that there is none.
        Some(unsafe { self.value.get_mut().assume_init_read() })
    }
}

impl<T> Drop for OnceLock<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// A value that is made when somebody first looks at it. As `std::sync::LazyLock`; Go's `sync.OnceValue`.
///
/// A look waits while another goroutine makes the value, and throws when it is not on a goroutine's own stack.
///
/// ```
/// use alloc::vec::Vec;
/// use gzero::sync::LazyLock;
///
/// static TABLE: LazyLock<Vec<u32>> = LazyLock::new(|| (0..100).collect());
///
/// assert_eq!(TABLE.len(), 100);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    cell: OnceLock<T>,
    /// Taken by the function that `cell` calls.
    make: Cell<Option<F>>,
}

// SAFETY: `make` is touched by the one function that `cell` calls; the rest is as for `OnceLock`.
unsafe impl<T: Send + Sync, F: Send> Sync for LazyLock<T, F> {}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LazyLock").field(&self.cell.get()).finish()
    }
}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that is not made yet.
    ///
    /// ```
    /// let lazy = gzero::sync::LazyLock::new(|| 6 * 7);
    /// assert_eq!(*lazy, 42);
    /// ```
    pub const fn new(make: F) -> Self {
        Self { cell: OnceLock::new(), make: Cell::new(Some(make)) }
    }

    /// The value, which is made if it was not; waits while another goroutine makes it.
    ///
    /// ```
    /// let lazy = gzero::sync::LazyLock::new(|| 6 * 7);
    /// assert_eq!(*lazy.force(), 42);
    /// ```
    ///
    /// # Panics
    /// When the function asks for the value itself.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn force(&self) -> &T {
        self.cell.get_or_init(|| {
            let make = self.make.take().expect("it is called once");
            make()
        })
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[track_caller]
    fn deref(&self) -> &T {
        self.force()
    }
}
