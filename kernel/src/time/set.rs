//! What all timers of programs have in common: they are set and stopped. [`sched::timer`] has the rules, and why they
//! suffice.

use alloc::sync::Arc;
use core::time::Duration;

use machine::clock::{self, Nanos};
use machine::lock::{Guard, Lock, Rank};
use sched::timer::{Disarmed, Setting};

use crate::event::{Event, Expire, Expired, TimerKey};
use crate::timers;

/// A timer: what it is set to, and what it does.
#[derive(Debug)]
pub(crate) struct Inner<D> {
    setting: Lock<Setting<TimerKey>>,
    pub(crate) does: D,
}

/// What a timer does with what it has delivered, when it is stopped.
pub(crate) trait Does: Send + Sync + Sized {
    /// Takes away what was delivered and not received. Whether there was anything. Under the timer's lock.
    fn drain(&self) -> bool {
        false
    }
}

impl<D: Does + 'static> Inner<D>
where
    Self: Expire,
{
    /// A timer that is not set.
    pub(crate) fn new(does: D) -> Arc<Self> {
        Arc::new(Self { setting: Lock::new(Rank::Timer, Setting::new()), does })
    }

    /// What it is set to.
    pub(crate) fn lock(&self) -> Guard<'_, Setting<TimerKey>> {
        self.setting.lock()
    }

    /// Stops it. Whether that has kept it from expiring, or what it had delivered from being received.
    pub(crate) fn stop(&self) -> bool {
        let mut setting = self.lock();
        // Dropped after the lock: it holds on to the timer.
        let (stopped, event) = self.disarm(&mut setting);
        drop(setting);
        drop(event);
        stopped
    }

    /// Stops it and sets it to another time, and to more of them if a period is not 0. Returns what
    /// [`stop`](Self::stop) would have.
    pub(crate) fn set(self: &Arc<Self>, when: Nanos, period: Nanos) -> bool {
        let mut setting = self.lock();
        let (stopped, event) = self.disarm(&mut setting);
        setting.arm(self.add(when), period.0);
        drop(setting);
        drop(event);
        stopped
    }

    /// Adds an event of this timer to a heap.
    fn add(self: &Arc<Self>, when: Nanos) -> Option<TimerKey> {
        // Two steps: the first keeps the type, the second forgets it.
        let this = Arc::clone(self);
        timers::add(when, Event::Timer(this))
    }

    /// Puts the event that has expired back, for another time. Under the timer's lock, so that a stop finds it.
    pub(crate) fn put_back(self: &Arc<Self>, expired: &Expired, when: Nanos) {
        let this = Arc::clone(self);
        timers::put_back(expired, when, Event::Timer(this));
    }

    fn disarm(&self, setting: &mut Setting<TimerKey>) -> (bool, Option<Event>) {
        let (was_armed, event) = match setting.disarm() {
            Disarmed::Idle => (false, None),
            Disarmed::Was(key) => (true, key.and_then(timers::remove)),
        };
        let drained = self.does.drain();
        (was_armed || drained, event)
    }
}

/// The time after so long.
pub(crate) fn time_after(length: Duration) -> Nanos {
    clock::now() + length.into()
}
