//! The skynet tree: every inner goroutine starts ten more and adds up what they find; leaf i finds i.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use gzero::{GoRef, current, go, gosched, park, unpark};

/// Children of an inner goroutine.
const FAN_OUT: u64 = 10;

/// Where children leave their sums for the goroutine that waits for them.
struct Node {
    sum: AtomicU64,
    missing: AtomicU32,
    parent: GoRef,
}

/// The sum that [`run`] must find.
pub(crate) fn expected(leaves: u64) -> u64 {
    leaves * (leaves - 1) / 2
}

/// Builds a tree with this many leaves and returns the sum of their numbers.
pub(crate) fn run(leaves: u64) -> u64 {
    subtree(0, leaves)
}

/// Waits until the last goroutine has left its CPU: a child reports before it ends.
pub(crate) fn wait_until_alone() {
    while gzero::num_goroutine() > 1 {
        gosched();
    }
}

/// The sum of the leaves `first .. first + count`.
fn subtree(first: u64, count: u64) -> u64 {
    if count == 1 {
        return first;
    }
    let children = count.min(FAN_OUT);
    let node = Arc::new(Node {
        sum: AtomicU64::new(0),
        missing: AtomicU32::new(u32::try_from(children).unwrap_or(u32::MAX)),
        parent: current(),
    });
    for child in 0..children {
        let node = Arc::clone(&node);
        let (from, to) = (count * child / children, count * (child + 1) / children);
        go(move || {
            node.sum.fetch_add(subtree(first + from, to - from), Ordering::Relaxed);
            // Release: pairs with the Acquire below; the sums are visible to the one who sees 0.
            let last = node.missing.fetch_sub(1, Ordering::Release) == 1;
            let parent = node.parent;
            drop(node);
            if last {
                unpark(parent);
            }
        });
    }
    while node.missing.load(Ordering::Acquire) > 0 {
        park();
    }
    node.sum.load(Ordering::Relaxed)
}
