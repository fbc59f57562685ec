//! A ring of goroutines that pass a token on by park and unpark.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use gzero::{GoRef, current, go_named, park, unpark};

/// Sends a token round a ring of `members` goroutines `laps` times. Returns how often it was passed on, which is
/// `members * laps` if nobody spoke out of turn.
pub(crate) fn run(members: u64, laps: u64) -> u64 {
    // The number of passes made: it is member m's turn when it leaves m in the division by `members`.
    let passes = Arc::new(AtomicU64::new(0));
    // The caller is member 0, and the last member's neighbour.
    let mut next = current();
    for member in (1..members).rev() {
        let passes = Arc::clone(&passes);
        let neighbour = next;
        next = go_named("ring", move || take_part(&passes, member, members, laps, neighbour)).id();
    }
    take_part(&passes, 0, members, laps, next);
    wait_for(&passes, members * laps);
    passes.load(Ordering::Acquire)
}

fn take_part(passes: &AtomicU64, member: u64, members: u64, laps: u64, neighbour: GoRef) {
    for lap in 0..laps {
        wait_for(passes, lap * members + member);
        // Release: pairs with the Acquire in `wait_for`.
        passes.fetch_add(1, Ordering::Release);
        unpark(neighbour);
    }
}

fn wait_for(passes: &AtomicU64, turn: u64) {
    while passes.load(Ordering::Acquire) < turn {
        park();
    }
}
