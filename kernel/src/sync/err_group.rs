//! Several tasks for one purpose: the first error ends all.

use alloc::sync::Arc;
use core::error::Error;
use core::fmt;

use machine::lock::{Lock, Rank};

use crate::join::go;
use crate::stacks::check_g_stack;

use super::context::{Canceller, Cause, Context};
use super::semaphore::Semaphore;
use super::wait_group::WaitGroup;

/// Tasks that may fail, and are waited for together. As Go's `golang.org/x/sync/errgroup`.
///
/// The first error is the group's. With [`with_context`](Self::with_context) it also ends a context, by which the other
/// tasks learn that they need not go on. Clones are the same group.
///
/// ```
/// use gzero::sync::ErrGroup;
///
/// let group = ErrGroup::new();
/// for n in 0..3 {
///     group.go(move || if n == 1 { Err("one") } else { Ok(()) });
/// }
/// assert_eq!(group.wait(), Err("one"));
/// ```
pub struct ErrGroup<E>(Arc<Inner<E>>);

struct Inner<E> {
    tasks: WaitGroup,
    /// The first error since somebody has taken one.
    error: Lock<Option<E>>,
    cancel: Option<Canceller>,
    /// What an error is to those who ask why the context has ended.
    cause: fn(&E) -> Option<Cause>,
    limit: Option<Semaphore>,
}

impl<E> Clone for ErrGroup<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> fmt::Debug for ErrGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrGroup").field("tasks", &self.0.tasks).finish_non_exhaustive()
    }
}

impl<E: Send + 'static> Default for ErrGroup<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Send + 'static> ErrGroup<E> {
    /// A group without tasks.
    ///
    /// ```
    /// assert_eq!(gzero::sync::ErrGroup::<()>::new().wait(), Ok(()));
    /// ```
    pub fn new() -> Self {
        Self::of(None, |_| None, None)
    }

    /// A group that runs no more than so many tasks at a time.
    ///
    /// ```
    /// let group = gzero::sync::ErrGroup::<()>::with_limit(2);
    /// for _ in 0..10 {
    ///     group.go(|| Ok(())); // at most two of them at a time
    /// }
    /// assert_eq!(group.wait(), Ok(()));
    /// ```
    ///
    /// # Panics
    /// When it is 0: no task could ever run.
    pub fn with_limit(most: u32) -> Self {
        assert!(most > 0, "ErrGroup: a limit of no tasks");
        Self::of(None, |_| None, Some(Semaphore::new(most)))
    }

    fn of(cancel: Option<Canceller>, cause: fn(&E) -> Option<Cause>, limit: Option<Semaphore>) -> Self {
        let error = Lock::new(Rank::Leaf, None);
        Self(Arc::new(Inner { tasks: WaitGroup::new(), error, cancel, cause, limit }))
    }

    /// Starts a task; waits first, while as many run as the limit says.
    ///
    /// The task is over when the function returns: not when it ends by [`goexit`](crate::goexit), which drops nothing and returns
    /// nothing. The group then waits for it for ever, and its place under the limit stays taken.
    ///
    /// ```
    /// let group = gzero::sync::ErrGroup::new();
    /// group.go(|| Err("failed"));
    /// assert_eq!(group.wait(), Err("failed"));
    /// ```
    ///
    /// # Panics
    /// As [`go()`].
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if it would not wait.
    #[track_caller]
    pub fn go(&self, task: impl FnOnce() -> Result<(), E> + Send + 'static) {
        check_g_stack("ErrGroup::go");
        if let Some(limit) = &self.0.limit {
            limit.acquire(1).forget();
        }
        self.start(task);
    }

    /// Starts a task, as [`go`](Self::go), if fewer run than the limit says; says whether it did. Does not wait.
    ///
    /// ```
    /// let group = gzero::sync::ErrGroup::<()>::with_limit(1);
    /// let (tx, rx) = gzero::chan::<()>(0);
    /// assert!(group.try_go(move || rx.recv().or(Ok(()))));
    /// assert!(!group.try_go(|| Ok(())));
    /// drop(tx);
    /// assert_eq!(group.wait(), Ok(()));
    /// ```
    ///
    /// # Panics
    /// As [`go()`].
    pub fn try_go(&self, task: impl FnOnce() -> Result<(), E> + Send + 'static) -> bool {
        let may = self
            .0
            .limit
            .as_ref()
            .is_none_or(|limit| limit.try_acquire(1).map(super::Permit::forget).is_some());
        if may {
            self.start(task);
        }
        may
    }

    fn start(&self, task: impl FnOnce() -> Result<(), E> + Send + 'static) {
        self.0.tasks.add(1);
        let group = Arc::clone(&self.0);
        go(move || {
            if let Err(error) = task() {
                group.fail(error);
            }
            if let Some(limit) = &group.limit {
                limit.release(1);
            }
            group.tasks.done();
        });
    }

    /// Waits until all tasks have returned. The context of the group ends then, if it has one.
    ///
    /// ```
    /// let group = gzero::sync::ErrGroup::<()>::new();
    /// group.go(|| Ok(()));
    /// assert_eq!(group.wait(), Ok(()));
    /// ```
    ///
    /// # Errors
    /// The first one of a task since the last wait that has returned one: it is given away. The group may go on to be used, and
    /// what fails then is for the next wait; only the context has ended for good.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if there are no tasks.
    #[track_caller]
    pub fn wait(&self) -> Result<(), E> {
        check_g_stack("ErrGroup::wait");
        self.0.tasks.wait();
        if let Some(cancel) = &self.0.cancel {
            cancel.cancel();
        }
        let first = self.0.error.lock().take();
        first.map_or(Ok(()), Err)
    }
}

impl<E: Error + Clone + Send + Sync + 'static> ErrGroup<E> {
    /// A group, and a context that ends with the first error, which is its cause, or when all have been waited for.
    ///
    /// ```
    /// use gzero::sync::{Context, ErrGroup};
    ///
    /// let (group, context) = ErrGroup::with_context(&Context::background());
    /// group.go(|| Err(core::fmt::Error));
    /// group.go(move || {
    ///     context.wait();
    ///     Ok(())
    /// });
    /// assert_eq!(group.wait(), Err(core::fmt::Error));
    /// ```
    pub fn with_context(context: &Context) -> (Self, Context) {
        let (context, cancel) = context.with_cancel();
        (Self::of(Some(cancel), |error| Some(Arc::new(error.clone())), None), context)
    }
}

impl<E> Inner<E> {
    /// Keeps the first error, and ends the context.
    fn fail(&self, error: E) {
        let cause = (self.cause)(&error);
        let mut first = self.error.lock();
        let late = if first.is_some() { Some(error) } else { first.replace(error) };
        drop(first);
        match (late, &self.cancel, cause) {
            (None, Some(cancel), Some(cause)) => cancel.cancel_for(cause),
            // Without the lock: the drop of a late one is the program's code.
            (late, _, _) => drop(late),
        }
    }
}
