//! All goroutines asleep: nobody is left who could wake anybody. [`sched::deadlock`] argues when that is so.

use sched::timers::NEVER;

use crate::panic::{Named, fatal};
use crate::runtime::Runtime;

/// Ends the machine if it is deadlocked. For a CPU that is about to sleep and is counted nowhere any more.
pub(crate) fn check(rt: &'static Runtime) {
    let wired = || rt.ms.iter().any(|m| !m.wired_len.is_empty());
    let timers = || rt.ms.iter().any(|m| m.earliest.get() != NEVER);
    if !rt.awake.nobody_is_left(&rt.idle, || sched::pick::recheck(&rt.sources()) || wired() || timers()) {
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
