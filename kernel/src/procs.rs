//! How many Ps there are, and goroutines that stay on one CPU: the calls of programs. [`crate::resize`] does the work.
//!
//! ```
//! use gzero::{gomaxprocs, lock_os_thread, unlock_os_thread};
//!
//! let before = gomaxprocs(1);
//! // One goroutine runs at a time.
//! assert_eq!(gomaxprocs(0), 1);
//! gomaxprocs(i32::try_from(before).expect("256 at most"));
//!
//! lock_os_thread();
//! // Whatever comes, it runs on this CPU.
//! gzero::gosched();
//! unlock_os_thread();
//! ```

use machine::percpu::Pinned;
use sched::MAX_PROCS;

use crate::m;
use crate::stacks::check_g_stack;
use crate::world::{StopReason, around_stop};

/// Changes the number of Ps, which is how many goroutines run at the same time, and returns what it was. Go's
/// `GOMAXPROCS`.
///
/// More than 256 are 256; 0 or less changes nothing, and neither does the present number: then the world is not
/// stopped.
///
/// # Throws
/// When not called on a goroutine's own stack; what [`stop_the_world`](crate::stop_the_world) throws.
#[track_caller]
pub fn gomaxprocs(n: i32) -> u32 {
    check_g_stack("gomaxprocs");
    let rt = m::runtime();
    let old = rt.gomaxprocs();
    let wanted = u32::try_from(n).unwrap_or(0).min(MAX_PROCS);
    if wanted == 0 || wanted == old {
        return old;
    }
    // Another may have changed it while this one waited.
    around_stop(StopReason::GoMaxProcs, |_| (), |rt, ()| (rt.gomaxprocs(), Some(wanted)))
}

/// Keeps the goroutine that calls on the CPU that it is on. Go's `LockOSThread`.
///
/// Calls nest: the goroutine may move again after as many calls of [`unlock_os_thread`]. A goroutine that ends is
/// unlocked. Unlike a thread of an operating system, a CPU cannot be had in any number: other goroutines run on it while
/// this one waits, or gives way.
///
/// # Panics
/// After 2^32 − 1 calls that were not undone.
///
/// # Throws
/// When not called on a goroutine's own stack.
#[track_caller]
pub fn lock_os_thread() {
    check_g_stack("lock_os_thread");
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    let room = m::runtime().slot(m::current_g(m)).body().wire(m.index);
    drop(pinned);
    assert!(room, "lock_os_thread nesting overflow");
}

/// Undoes one call of [`lock_os_thread`]. Does nothing if there is none to undo. Go's `UnlockOSThread`.
///
/// # Throws
/// When not called on a goroutine's own stack.
#[track_caller]
pub fn unlock_os_thread() {
    check_g_stack("unlock_os_thread");
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    let g = m::current_g(m);
    m::runtime().slot(g).body().unwire_once(g);
    m::vacate_if_inactive(&pinned);
}
