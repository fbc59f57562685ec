//! Goroutines that may borrow from the stack of the one that starts them: [`scope()`].
//!
//! # Why a borrow does not outlive what it borrows
//!
//! The types are those of `std::thread::scope`. `'env` is what lives longer than the call of [`scope()`]; `'scope` is the time from its start until all
//! its goroutines have ended, inside of `'env`. Closures and values of goroutines live for `'scope`. The caller's function must work for any `'scope`,
//! so nothing that has it in its type (a [`Scope`], a [`ScopedJoinHandle`], a value) can be stored in `'env` or returned.
//!
//! 1. `scope` does not return before every goroutine has ended: the latch counts them, [`sched::latch`] argues the rest. A goroutine that ends by
//!    `goexit` is counted too, as the count is taken off by the end itself and not by the closure.
//! 2. A goroutine is counted as ended when its closure and all that the closure has captured are gone, and its value is dropped, or a handle's.
//! 3. A handle with an unclaimed value lies in the caller's function or in a goroutine of the scope, in its closure, its value, or something that
//!    these own; so it is gone when they are, and the value with it, or it is leaked, and nobody looks at the value any more.
//! 4. Nobody leaves the function in another way: a panic ends the machine, and `goexit` is unsafe for this reason. Nobody but the last `end` readies
//!    the owner, as `goready` is unsafe, too; the look after the wake-up is for callers who are wrong about that.
//!
//! # Why all of what is borrowed is mapped
//!
//! Stacks are mapped when their own goroutine touches them; a touch by another would be an error. A function touches each page of its frame when it is
//! entered (the compiler's stack probes), and the last one at the latest when it calls the next function. So all frames above the call of `scope` are mapped.

use core::fmt;
use core::marker::PhantomData;

use machine::clock;
use sched::latch::Latch;
use sched::{GoRef, Goid};

use crate::builder::{Builder, GoError};
use crate::go::spawn;
use crate::join::{EndedByGoexit, Inner, started};
use crate::park::{Wait, WaitReason, current, gopark_on, readied_by_something_else};
use crate::stacks::check_g_stack;

/// Where goroutines are started that may borrow what lives longer than [`scope()`].
///
/// # Examples
/// ```
/// let mut numbers = [1, 2, 3, 4];
/// let (left, right) = numbers.split_at_mut(2);
/// gzero::scope(|s| {
///     s.go(|| left[0] = 10);
///     s.go(|| right[0] = 30);
/// });
/// assert_eq!(numbers, [10, 2, 30, 4]);
/// ```
pub struct Scope<'scope, 'env: 'scope> {
    latch: Latch,
    /// Neither lifetime may be made shorter or longer.
    during: PhantomData<&'scope mut &'scope ()>,
    within: PhantomData<&'env mut &'env ()>,
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// Calls `f`, which may start goroutines that borrow from the caller's stack, and returns when all of them have ended.
///
/// The counterpart of `std::thread::scope`. Goroutines that `f` has not joined are waited for, those too whose handles were dropped, and those that
/// goroutines of the scope have started. All that they did comes before the return, and values that nobody has claimed are dropped before it.
/// Scopes can be nested.
///
/// Blocks, on the goroutine's own stack; in reports the caller waits for `scope`, on the address of the [`Scope`].
///
/// # Throws
/// When not called on a goroutine's own stack.
///
/// # Examples
/// ```
/// #![no_std]
/// #![no_main]
///
/// use gzero::prelude::*;
///
/// gzero::entry!(main);
///
/// fn main() {
///     let words = vec!["borrowed", "from", "main"];
///     let longest = scope(|s| {
///         let lengths: Vec<_> = words.iter().map(|word| s.go(|| word.len())).collect();
///         lengths.into_iter().map(ScopedJoinHandle::join).max()
///     });
///     println!("the longest of {words:?} has {longest:?} letters");
///     assert_eq!(longest, Some(8));
/// }
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let own = check_g_stack("scope");
    let scope = Scope { latch: Latch::new(current()), during: PhantomData, within: PhantomData };
    let result = f(&scope);
    if !scope.latch.is_done() {
        let on = core::ptr::from_ref(&scope).addr() as u64;
        gopark_on(own, Wait { reason: WaitReason::Scope, on, since: clock::rdtsc_unordered() }, |_| {
            scope.latch.wait()
        });
        if !scope.latch.is_done() {
            readied_by_something_else(WaitReason::Scope);
        }
    }
    result
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a goroutine of the scope. As [`go()`](crate::go()), but that it may borrow.
    ///
    /// Its closure may start more of them. Does not block.
    ///
    /// # Panics
    /// When there is no memory for it; [`go_with`](Self::go_with) returns the error instead.
    ///
    /// # Examples
    /// ```
    /// let text = "borrowed";
    /// assert_eq!(gzero::scope(|s| s.go(|| text.len()).join()), 8);
    /// ```
    pub fn go<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        started(self.go_with(Builder::new(), f))
    }

    /// [`go`](Self::go) with a name or a limit for the stack, or that says why the goroutine cannot be started. As
    /// [`go_with`](crate::go_with()).
    ///
    /// # Errors
    /// [`GoError`]; the closure is then dropped.
    ///
    /// # Examples
    /// ```
    /// let text = "borrowed";
    /// let length = gzero::scope(|s| -> Result<usize, gzero::GoError> {
    ///     Ok(s.go_with(gzero::Builder::new().name("counts"), || text.len())?.join())
    /// })?;
    /// assert_eq!(length, 8);
    /// # Ok::<(), gzero::GoError>(())
    /// ```
    pub fn go_with<F, T>(&'scope self, builder: Builder, f: F) -> Result<ScopedJoinHandle<'scope, T>, GoError>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.latch.begin();
        // SAFETY:
        // 1. The head of this file.
        // 2. Counted above; the scope waits for the end.
        // 3. This is the one handle.
        match unsafe { spawn(&builder, Some(&self.latch), f) } {
            Ok(g) => Ok(ScopedJoinHandle { inner: Inner::new(g), scope: PhantomData }),
            Err(error) => {
                // The caller is counted, or is the owner, which does not wait: nobody is to be readied.
                let nobody = self.latch.end();
                debug_assert_eq!(nobody, None);
                Err(error)
            }
        }
    }
}

/// A goroutine of a scope, and its value. [`Scope::go`] makes it; as [`JoinHandle`](crate::JoinHandle).
///
/// Dropped, it detaches the goroutine, for which the scope waits all the same.
///
/// # Examples
/// ```
/// let text = "borrowed";
/// gzero::scope(|s| {
///     let handle = s.go(|| text.len());
///     assert_eq!(handle.join(), 8);
/// });
/// ```
pub struct ScopedJoinHandle<'scope, T> {
    inner: Inner<T>,
    scope: PhantomData<&'scope ()>,
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedJoinHandle").field(&self.id()).finish()
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits until the goroutine has ended, and returns its value. As [`JoinHandle::join`](crate::JoinHandle::join), blocking included.
    ///
    /// # Panics
    /// When the goroutine ended by [`goexit`](crate::goexit()), or joins itself.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if the goroutine has ended.
    ///
    /// # Examples
    /// ```
    /// let seven = 7;
    /// assert_eq!(gzero::scope(|s| s.go(|| seven * 6).join()), 42);
    /// ```
    #[track_caller]
    pub fn join(self) -> T {
        let own = check_g_stack("ScopedJoinHandle::join");
        self.inner.join(own)
    }

    /// [`join`](Self::join) that also serves for goroutines that end by [`goexit`](crate::goexit()). Blocks like it, on the goroutine's own stack.
    ///
    /// # Errors
    /// [`EndedByGoexit`].
    ///
    /// # Panics
    /// When a goroutine joins itself.
    ///
    /// # Throws
    /// As [`join`](Self::join).
    ///
    /// # Examples
    /// ```
    /// gzero::scope(|s| assert!(s.go(|| ()).join_result().is_ok()));
    /// ```
    #[track_caller]
    pub fn join_result(self) -> Result<T, EndedByGoexit> {
        let own = check_g_stack("ScopedJoinHandle::join_result");
        self.inner.join_result(own)
    }

    /// The value, if the goroutine has ended; else the handle back. Does not block.
    ///
    /// # Errors
    /// The handle, when the goroutine runs on.
    ///
    /// # Panics
    /// When the goroutine ended by [`goexit`](crate::goexit()).
    ///
    /// # Examples
    /// ```
    /// gzero::scope(|s| match s.go(|| 7).try_join() {
    ///     Ok(value) => gzero::println!("{value}"),
    ///     Err(handle) => gzero::println!("not yet, but now: {}", handle.join()),
    /// });
    /// ```
    #[track_caller]
    pub fn try_join(self) -> Result<T, Self> {
        self.inner.try_join().map_err(|inner| Self { inner, scope: PhantomData })
    }

    /// Whether the goroutine has ended, so that [`join`](Self::join) would not wait. Does not block.
    ///
    /// # Examples
    /// ```
    /// gzero::scope(|s| {
    ///     let handle = s.go(|| ());
    ///     while !handle.is_finished() {
    ///         gzero::gosched();
    ///     }
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }

    /// The goroutine, for [`unpark`](crate::unpark()).
    ///
    /// # Examples
    /// ```
    /// gzero::scope(|s| {
    ///     let sleeper = s.go(gzero::park);
    ///     gzero::unpark(sleeper.id());
    /// });
    /// ```
    pub fn id(&self) -> GoRef {
        self.inner.id()
    }

    /// The goroutine's number in reports, also after it has ended.
    ///
    /// # Examples
    /// ```
    /// gzero::scope(|s| gzero::println!("{}", s.go(|| ()).goid()));
    /// ```
    pub fn goid(&self) -> Goid {
        self.inner.goid()
    }
}
