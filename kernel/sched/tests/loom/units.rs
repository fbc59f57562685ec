//! A semaphore of the simplest kind, for scenes that are about what is built on one.

use loom::sync::{Condvar, Mutex};

/// Units, and those who wait for one. A waiter that gets none waits for ever, and the model checker reports a deadlock.
#[derive(Default)]
pub(crate) struct Units {
    count: Mutex<u32>,
    more: Condvar,
}

impl Units {
    pub(crate) fn acquire(&self) {
        let mut count = self.count.lock().expect("nobody panics");
        while *count == 0 {
            count = self.more.wait(count).expect("nobody panics");
        }
        *count -= 1;
    }

    pub(crate) fn release(&self) {
        *self.count.lock().expect("nobody panics") += 1;
        self.more.notify_one();
    }
}
