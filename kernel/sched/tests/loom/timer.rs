//! A timer that is stopped or set anew while its time comes: exactly one wins, and nothing stale is received.

use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

use sched::timer::{Disarmed, Expiry, Setting};
use sched::timers::{Due, Key, NEVER, Timers};

use crate::model;

/// A timer whose channel holds one value.
struct Timer {
    /// Who runs what is due.
    runs: Mutex<()>,
    heap: Mutex<Timers<()>>,
    setting: Mutex<Setting<Key>>,
    channel: Mutex<Option<u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics")
}

impl Timer {
    fn set_to(when: u64, period: u64) -> Arc<Self> {
        let timer = Self {
            runs: Mutex::new(()),
            heap: Mutex::new(Timers::new().0),
            setting: Mutex::new(Setting::new()),
            channel: Mutex::new(None),
        };
        let key = timer.add(when);
        lock(&timer.setting).arm(key, period);
        Arc::new(timer)
    }

    fn add(&self, when: u64) -> Option<Key> {
        Some(lock(&self.heap).add(when, ()).expect("memory"))
    }

    /// Rules 1 to 3. Whether it has prevented an expiry.
    fn stop(&self, setting: &mut Setting<Key>) -> bool {
        let was_armed = match setting.disarm() {
            Disarmed::Idle => false,
            Disarmed::Was(key) => {
                lock(&self.heap).remove(key.expect("a time that comes"));
                true
            }
        };
        let drained = self.receive().is_some();
        was_armed || drained
    }

    /// A CPU that looks at the heap. Whether it has delivered.
    fn look(&self, now: u64) -> bool {
        let _one_at_a_time = lock(&self.runs);
        let due = lock(&self.heap).take_due(now);
        let Some(Due { when, key, event: () }) = due else { return false };
        let mut setting = lock(&self.setting);
        match setting.expire(&key, when, now) {
            Expiry::Stale => return false,
            Expiry::Once => {}
            Expiry::Again(next) => lock(&self.heap).put_back(key, next, ()),
        }
        lock(&self.channel).get_or_insert(when);
        true
    }

    fn receive(&self) -> Option<u64> {
        lock(&self.channel).take()
    }

    fn len(&self) -> usize {
        lock(&self.heap).len()
    }
}

#[test]
fn a_stop_or_the_receiver_gets_the_expiry() {
    model(3, || {
        let timer = Timer::set_to(5, 0);
        let expirer = {
            let timer = Arc::clone(&timer);
            thread::spawn(move || timer.look(5))
        };
        let receiver = {
            let timer = Arc::clone(&timer);
            thread::spawn(move || timer.receive())
        };
        let stopped = timer.stop(&mut lock(&timer.setting));
        expirer.join().expect("it ends");
        let received = receiver.join().expect("it ends");
        assert_ne!(stopped, received.is_some(), "one of them has it");
        assert_eq!((timer.receive(), timer.len()), (None, 0), "nothing is left after a stop");
    });
}

#[test]
fn a_reset_leaves_no_value_of_the_old_time() {
    model(3, || {
        let timer = Timer::set_to(5, 0);
        let expirer = {
            let timer = Arc::clone(&timer);
            thread::spawn(move || timer.look(5))
        };
        let mut setting = lock(&timer.setting);
        assert!(timer.stop(&mut setting), "nobody has received");
        let key = timer.add(9);
        setting.arm(key, 0);
        drop(setting);
        expirer.join().expect("it ends");
        assert_eq!((timer.receive(), timer.len()), (None, 1));
        assert!(timer.look(9), "the new time comes");
        assert_eq!((timer.receive(), timer.len()), (Some(9), 0));
    });
}

#[test]
fn a_ticker_that_was_stopped_is_in_no_heap() {
    model(3, || {
        let timer = Timer::set_to(5, 2);
        let expirers = [5, 7].map(|now| {
            let timer = Arc::clone(&timer);
            thread::spawn(move || timer.look(now))
        });
        assert!(timer.stop(&mut lock(&timer.setting)));
        for expirer in expirers {
            expirer.join().expect("it ends");
        }
        assert_eq!((timer.receive(), timer.len()), (None, 0));
        assert!(!timer.look(NEVER - 1));
    });
}
