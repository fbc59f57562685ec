//! Locks and meeting places for goroutines: Go's package `sync`, with Rust's ownership.
//!
//! What waits here parks its goroutine, so that its CPU runs another one. That is done on the goroutine's own stack only, and
//! each function that may wait throws when it is called elsewhere (on the kernel stack, in a handler of an interrupt), even if
//! it would not have waited.
//!
//! | for | there is |
//! |---|---|
//! | one at a time | [`Mutex`] |
//! | one writer or many readers | [`RwMutex`] |
//! | the end of several tasks | [`WaitGroup`] |
//! | something that is done once | [`Once`], [`OnceLock`], [`LazyLock`] |
//! | a condition that others make true | [`Cond`] |
//! | a point that all have to reach | [`Barrier`] |
//! | units, several at a time | [`Semaphore`] |
//! | values to use again | [`Pool`] |
//! | values by keys, for many at once | [`Map`] |
//! | the end of a task, and its values | [`Context`] |
//! | tasks that may fail, together | [`ErrGroup`] |
//!
//! # No poisoning
//!
//! A guard is released on every path: by its drop, early return and `?` included. A panic ends the machine, so nobody ever
//! sees what a panicking goroutine has left half done, and there is nothing that could be poisoned. There is one way to keep a
//! lock for ever: to end by [`goexit`](crate::goexit), which drops nothing, or to `mem::forget` the guard. Reports then say
//! that the lock is held by a goroutine that has ended.
//!
//! # Deadlocks
//!
//! [`Mutex`], [`RwMutex`] (its writer) and [`Once`] know their holder. A goroutine that has to wait for one looks whether
//! that closes a ring of goroutines that wait for each other, and prints the ring; with the boot argument `deadlock=fatal` it
//! ends the machine, with `deadlock=off` it does not look. [`crate::deadlocks()`] tells of all rings at any time. Give locks
//! names ([`Mutex::named`]) to read of them by name.

mod barrier;
mod cond;
mod context;
mod err_group;
mod list;
mod map;
#[expect(unsafe_code, reason = "hands out the value that the lock guards")]
mod mutex;
#[expect(unsafe_code, reason = "reads a cell that is not written any more")]
mod once;
mod pool;
#[expect(unsafe_code, reason = "hands out the value that the lock guards")]
mod rwmutex;
mod semaphore;
mod wait_group;

pub use barrier::{Barrier, BarrierWaitResult};
pub use cond::Cond;
pub use context::{AfterFunc, CancelOnDrop, Canceller, Cause, Context, ContextError, Done};
pub use err_group::ErrGroup;
pub use map::Map;
pub use mutex::{Mutex, MutexGuard};
pub use once::{LazyLock, Once, OnceLock};
pub use pool::Pool;
pub use rwmutex::{RwMutex, RwMutexReadGuard, RwMutexWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use wait_group::WaitGroup;
