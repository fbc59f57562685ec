//! The end of several tasks. [`sched::waitgroup`] has the argument why the right ones are woken.

use alloc::sync::Arc;
use core::fmt;

use machine::lock::{Kind, Lock};
use machine::percpu::Pinned;
use sched::waiters::Waiters;
use sched::waitgroup::{Misuse, WaitGroupWord};

use crate::join::go;
use crate::m;
use crate::park::WaitReason;
use crate::stacks::check_g_stack;

use super::list::{park_in, ready_all};

/// Counts tasks, and lets goroutines wait until all are done. Go's `sync.WaitGroup`.
///
/// It may be used again as soon as the count has come to 0, even while those of the round before are still waking up. What a
/// task has done before its [`done`](Self::done) is visible after the [`wait`](Self::wait) that it ends.
///
/// ```
/// use alloc::sync::Arc;
/// use gzero::println;
/// use gzero::sync::WaitGroup;
///
/// let tasks = Arc::new(WaitGroup::new());
/// for n in 0..3 {
///     tasks.go(move || println!("task {n}"));
/// }
/// tasks.wait();
/// ```
pub struct WaitGroup {
    word: WaitGroupWord,
    waiters: Lock<Waiters>,
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tasks, waiters) = self.word.counts();
        f.debug_struct("WaitGroup").field("tasks", &tasks).field("waiters", &waiters).finish()
    }
}

impl WaitGroup {
    /// A group without tasks.
    ///
    /// ```
    /// static TASKS: gzero::sync::WaitGroup = gzero::sync::WaitGroup::new();
    ///
    /// TASKS.wait(); // there are none
    /// ```
    pub const fn new() -> Self {
        Self { word: WaitGroupWord::new(), waiters: Lock::of_kind(Kind::Waiters, Waiters::new()) }
    }

    /// Adds tasks, or takes them off by a negative number. Go's `WaitGroup.Add`. Does not wait; on any stack.
    ///
    /// Tasks are added before they are started, and by somebody who knows that the count is not waited for yet or cannot come
    /// to 0 meanwhile: else a waiter may go on before the task has begun.
    ///
    /// ```
    /// let tasks = gzero::sync::WaitGroup::new();
    /// tasks.add(2);
    /// tasks.done();
    /// tasks.add(-1);
    /// tasks.wait();
    /// ```
    ///
    /// # Panics
    /// When the number of tasks would be negative, or more than 2^31 - 1.
    #[track_caller]
    pub fn add(&self, tasks: i32) {
        // From the step on that finds the last task done, the waiters wait for the caller alone.
        let pinned = Pinned::new();
        match self.word.add(tasks) {
            Ok(0) => drop(pinned),
            Ok(waiters) => self.wake(waiters, pinned),
            Err(Misuse::Negative) => panic!("WaitGroup: more tasks are done than there are"),
            Err(Misuse::TooMany) => panic!("WaitGroup: too many tasks"),
        }
    }

    /// One task is done. Go's `WaitGroup.Done`. Does not wait; on any stack.
    ///
    /// ```
    /// let tasks = gzero::sync::WaitGroup::new();
    /// tasks.add(1);
    /// tasks.done();
    /// ```
    ///
    /// # Panics
    /// When there is no task.
    #[track_caller]
    pub fn done(&self) {
        self.add(-1);
    }

    /// Waits until there are no tasks. Go's `WaitGroup.Wait`.
    ///
    /// ```
    /// gzero::sync::WaitGroup::new().wait(); // nothing to be done
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if there are no tasks.
    #[track_caller]
    pub fn wait(&self) {
        let own = check_g_stack("WaitGroup::wait");
        if self.word.is_done() {
            return;
        }
        let on = core::ptr::from_ref(self).addr() as u64;
        park_in(own, &self.waiters, WaitReason::WaitGroup, on, |waiters, sudogs, s| {
            let counted = self.word.count_waiter();
            if counted {
                waiters.push(sudogs, s, 0);
            }
            counted
        });
    }

    /// Starts a goroutine as a task of the group. Go's `WaitGroup.Go`. Does not wait.
    ///
    /// The task is done when the function returns: not when it ends by [`goexit`](crate::goexit). The goroutine shares the group;
    /// one that is a `static` need not be shared: [`go_static`](Self::go_static).
    ///
    /// ```
    /// let tasks = alloc::sync::Arc::new(gzero::sync::WaitGroup::new());
    /// tasks.go(|| gzero::println!("done"));
    /// tasks.wait();
    /// ```
    ///
    /// # Panics
    /// As [`go`], and as [`add`](Self::add).
    #[track_caller]
    pub fn go(self: &Arc<Self>, task: impl FnOnce() + Send + 'static) {
        self.add(1);
        let group = Arc::clone(self);
        go(move || {
            task();
            group.done();
        });
    }

    /// The same for a group that is a `static`. Does not wait.
    ///
    /// ```
    /// use gzero::sync::WaitGroup;
    ///
    /// static TASKS: WaitGroup = WaitGroup::new();
    ///
    /// TASKS.go_static(|| gzero::println!("done"));
    /// TASKS.wait();
    /// ```
    ///
    /// # Panics
    /// As [`go`], and as [`add`](Self::add).
    #[track_caller]
    pub fn go_static(&'static self, task: impl FnOnce() + Send + 'static) {
        self.add(1);
        go(move || {
            task();
            self.done();
        });
    }

    #[cold]
    fn wake(&self, count: u32, pinned: Pinned) {
        let mut waiters = self.waiters.lock();
        // The lock has its own, which goes from portion to portion.
        drop(pinned);
        let chain = waiters.pop_many(&m::runtime().sudogs, count);
        ready_all(chain, waiters.unlock());
    }
}
