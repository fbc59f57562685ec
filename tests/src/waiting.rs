//! Goroutines that wait, and values whose drops are counted.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use gzero::{GoRef, WaitReason, chan, current, go, gosched, testing};

/// Makes the caller's next `park` return without cause, as it may.
pub fn unpark_for_no_reason() {
    gzero::unpark(current());
}

/// Starts a goroutine and says which one it is.
///
/// # Panics
/// Never: it says so first.
pub fn start(f: impl FnOnce() + Send + 'static) -> GoRef {
    let (tx, rx) = chan(1);
    go(move || {
        tx.send(current()).expect("the starter waits");
        drop(tx);
        f();
    });
    rx.recv().expect("the goroutine has begun")
}

/// Starts a goroutine and returns once it waits for this.
pub fn start_waiting(reason: WaitReason, f: impl FnOnce() + Send + 'static) -> GoRef {
    let g = start(f);
    wait_until_waiting(g, reason);
    g
}

/// Yields until a goroutine waits for this.
pub fn wait_until_waiting(g: GoRef, reason: WaitReason) {
    while testing::waits_for(g) != Some(reason) {
        gosched();
    }
}

/// How often each of some values was dropped.
#[derive(Debug, Clone)]
pub struct Drops(Arc<Vec<AtomicU32>>);

/// One of them.
#[derive(Debug)]
pub struct Counted {
    /// Its number.
    pub number: usize,
    drops: Drops,
}

impl Drops {
    /// For values 0 to `count` - 1.
    pub fn new(count: usize) -> Self {
        Self(Arc::new((0..count).map(|_| AtomicU32::new(0)).collect()))
    }

    /// A value. Made once for each number.
    pub fn value(&self, number: usize) -> Counted {
        Counted { number, drops: self.clone() }
    }

    /// How often each was dropped so far.
    pub fn counts(&self) -> Vec<u32> {
        self.0.iter().map(|count| count.load(Ordering::Acquire)).collect()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.0[self.number].fetch_add(1, Ordering::AcqRel);
    }
}
