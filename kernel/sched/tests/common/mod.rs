//! What the random tests share: numbers from a seed, and the kernel's lock around the global queue.

use std::sync::Mutex;

use sched::global::GlobalQueue;
use sched::list::SharedLen;
use sched::pick::Global;

/// Numbers that repeat with their seed (splitmix64).
#[derive(Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let upper = ((x ^ (x >> 31)) >> 32) as u32;
        upper % limit
    }
}

/// The global queue behind a lock.
#[derive(Debug)]
pub(crate) struct Locked {
    queue: Mutex<GlobalQueue>,
    length: SharedLen,
}

impl Locked {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        let (queue, length) = GlobalQueue::new();
        Self { queue: Mutex::new(queue), length }
    }
}

impl Global for Locked {
    fn with<R>(&self, _at: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> R {
        f(&mut self.queue.lock().expect("no test panics with the lock held"))
    }

    fn try_with<R>(&self, _at: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> Option<R> {
        Some(f(&mut *self.queue.try_lock().ok()?))
    }

    fn length(&self, _at: usize) -> &SharedLen {
        &self.length
    }
}
