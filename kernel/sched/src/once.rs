//! What happens once: a mutex for those who come first, and a word for all who come later.
//!
//! Who finds the word set sees all of what was done: it is set with `Release` and read with `Acquire`. Who does not takes
//! the mutex and looks again.

use crate::mutex::MutexWord;
use crate::sync::{AtomicU32, Ordering, const_unless_modelled};

/// The words.
#[derive(Debug, Default)]
pub struct OnceWord {
    done: AtomicU32,
    mutex: MutexWord,
}

impl OnceWord {
    const_unless_modelled! {
        /// Nothing has happened.
        pub fn new() -> Self {
            Self { done: AtomicU32::new(0), mutex: MutexWord::new() }
        }
    }

    /// Whether it has happened.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) != 0
    }

    /// It has happened. By the holder of the mutex.
    pub fn set_done(&self) {
        self.done.store(1, Ordering::Release);
    }

    /// The mutex of those who want to do it.
    pub fn mutex(&self) -> &MutexWord {
        &self.mutex
    }
}
