//! The word of a wait group: what is still to be done, and how many wait for that.
//!
//! Who waits is counted under a lock of the kernel, and queued before that lock goes. Whoever brings the count of tasks to 0
//! takes the count of waiters to 0 in the same exchange, learns how many that were, and takes as many out of the queue,
//! under the lock.
//!
//! *Why they are the right ones.* The waiters of one round were counted, and so queued, before its end, and those of a
//! later round after it: the exchange that ends the round lies between. The queue is first in, first out. So if the enders
//! of two rounds come to the lock in the wrong order, they wake the same goroutines between them, and both rounds are over by
//! then. That is why a wait group may be used again while those of the round before are still waking up (Go's may not).

use crate::sync::{AtomicU64, Ordering, const_unless_modelled};

/// One task, in the upper half; the lower half counts who waits.
const TASK: u64 = 1 << 32;

/// The word.
#[derive(Debug, Default)]
pub struct WaitGroupWord(AtomicU64);

/// Why tasks cannot be added or taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// More would be done than there is to do.
    Negative,
    /// There are more than 2^31 - 1.
    TooMany,
}

/// Tasks of a word.
const fn tasks(word: u64) -> i64 {
    (word >> 32).cast_signed()
}

impl WaitGroupWord {
    const_unless_modelled! {
        /// Nothing to be done.
        pub fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Changes the number of tasks. Returns how many waiters are to be woken.
    ///
    /// # Errors
    ///
    /// [`Misuse`]; the number is as it was.
    pub fn add(&self, change: i32) -> Result<u32, Misuse> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let tasks = tasks(word) + i64::from(change);
            let tasks = u64::try_from(tasks).map_err(|_| Misuse::Negative)?;
            if tasks > i32::MAX.cast_unsigned().into() {
                return Err(Misuse::TooMany);
            }
            let waiters = word % TASK;
            let new = if tasks == 0 { 0 } else { tasks * TASK + waiters };
            // Release: what the task did. Acquire: what the other tasks did, for whom this one wakes.
            match self.0.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if tasks == 0 => return Ok(u32::try_from(waiters).unwrap_or(u32::MAX)),
                Ok(_) => return Ok(0),
                Err(found) => word = found,
            }
        }
    }

    /// Whether nothing is to be done: who asks need not wait.
    #[inline]
    pub fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `add`.
        tasks(self.0.load(Ordering::Acquire)) == 0
    }

    /// Counts one more who waits, under the lock. `false`: there is nothing to wait for.
    pub fn count_waiter(&self) -> bool {
        let mut word = self.0.load(Ordering::Acquire);
        while tasks(word) != 0 {
            // Acquire: as in `is_done`, when it fails.
            match self.0.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(found) => word = found,
            }
        }
        false
    }

    /// Tasks and waiters, at about this moment.
    pub fn counts(&self) -> (u32, u32) {
        let word = self.0.load(Ordering::Relaxed);
        let half = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        (half(word / TASK), half(word % TASK))
    }
}

#[cfg(test)]
#[path = "tests/waitgroup.rs"]
mod tests;
