//! Parking in a queue that a lock guards.

use machine::clock;
use machine::lock::Lock;
use sched::SudogIndex;
use sched::list::Chain;
use sched::sudog::Sudogs;

use crate::m;
use crate::park::{Wait, WaitReason, current, gopark_on, goready};
use crate::sudog::{acquire_sudog, release_sudog};

/// Parks the goroutine that calls, on its own stack, until it is taken out of the queue and readied. `enter` queues its
/// sudog under the lock; or it returns `false`, and the goroutine stays.
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
    rt.sudogs.get(s).prepare(current(), since.0);
    gopark_on(Wait { reason, on, since }, |_| {
        let mut queue = queue.lock();
        let stays = enter(&mut queue, &rt.sudogs, s);
        drop(queue);
        stays
    });
    release_sudog(rt, s);
}

/// Readies a goroutine that was taken out of a queue, with no lock held.
pub(crate) fn ready(s: SudogIndex) {
    // Read before: afterwards the sudog is the goroutine's.
    let g = m::runtime().sudogs.get(s).g();
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
