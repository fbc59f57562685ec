//! All goroutines asleep: nobody is left who could wake anybody.
//!
//! Called by a P that has just gone idle and found all queues empty. The look is conclusive only if no P left the
//! idle state meanwhile, so it is framed by two readings of a counter that every P raises when it leaves:
//!
//! 1. read the counter;
//! 2. all Ps are idle, and all queues are empty;
//! 3. all Ps are still idle, and the counter has not moved: nobody ran anything between 1 and 3, so what was seen
//!    in 2 is how things stand, and only an interrupt could change it.
//!
//! A P raises the counter before it looks for work, and going idle again releases it to the Acquire in `all_idle`.

use core::sync::atomic::Ordering;

use crate::panic::{Named, fatal};
use crate::runtime::Runtime;

/// Ends the machine if it is deadlocked.
///
/// A goroutine that waits for a device can still be woken from outside, one that sleeps by its timer, and any by a
/// goroutine that is locked to a CPU without an active P, which the idle mask does not know.
pub(crate) fn check(rt: &'static Runtime) {
    let before = rt.wakeups.load(Ordering::Acquire);
    let wired = || rt.ms.iter().any(|m| !m.wired_len.is_empty());
    if !rt.idle.all_idle() || sched::pick::recheck(&rt.sources()) || wired() {
        return;
    }
    if !rt.idle.all_idle() || rt.wakeups.load(Ordering::Acquire) != before {
        return;
    }
    let outside = [&rt.device_waiters, &rt.sleepers, &rt.extra_running];
    if outside.iter().any(|count| count.load(Ordering::Acquire) > 0) {
        return;
    }
    let mut waiting = rt.table.iter().filter(|(_, slot)| slot.status().get().0 == sched::Status::Waiting);
    match waiting.next() {
        Some((g, slot)) => fatal(format_args!(
            "all goroutines are asleep - deadlock!\n  {} waits: {}, and {} more",
            Named(g.get()),
            slot.body().wait_reason(),
            waiting.count()
        )),
        None => fatal(format_args!("all goroutines are asleep - deadlock!")),
    }
}
