//! Parking in a queue that a lock guards.

use machine::clock;
use machine::lock::Lock;
use sched::SudogIndex;
use sched::list::Chain;
use sched::sudog::Sudogs;

use crate::m;
use crate::park::{Wait, WaitReason, current, gopark_on, goready, readied_by_something_else};
use crate::sudog::{acquire_sudog, release_sudog};

/// Parks the goroutine that calls, on its own stack, until it is taken out of the queue and readied. `enter` queues its
/// sudog under the lock; or it returns `false`, and the goroutine stays.
///
/// The sudog has an address until it is taken out: so a wake-up that is not for it shows, before the sudog goes.
///
/// The goroutine is `Parking` before `enter` is called, so that whoever takes the lock next may ready it at once.
pub(crate) fn park_in<Q>(
    queue: &Lock<Q>,
    reason: WaitReason,
    on: u64,
    enter: impl FnOnce(&mut Q, &Sudogs, SudogIndex) -> bool,
) {
    let rt = m::runtime();
    let since = clock::now();
    let s = acquire_sudog(rt);
    let sudog = rt.sudogs.get(s);
    sudog.prepare(current(), since.0);
    gopark_on(Wait { reason, on, since }, |_| {
        let mut queue = queue.lock();
        let waits = enter(&mut queue, &rt.sudogs, s);
        if waits {
            sudog.set_address(on);
        }
        drop(queue);
        waits
    });
    if sudog.address() != 0 {
        readied_by_something_else(reason);
    }
    release_sudog(rt, s);
}

/// Readies a goroutine that was taken out of a queue, with no lock held.
pub(crate) fn ready(s: SudogIndex) {
    let sudog = m::runtime().sudogs.get(s);
    // Both before the ready: afterwards the sudog is the goroutine's.
    let g = sudog.g();
    sudog.set_address(0);
    goready(g.expect("a queued sudog has a goroutine"));
}

/// The same for several, in their order.
pub(crate) fn ready_all(chain: Option<Chain<SudogIndex>>) {
    let mut rest = chain;
    while let Some(chain) = rest {
        let (s, tail) = chain.split_first(&m::runtime().sudogs);
        rest = tail;
        ready(s);
    }
}
