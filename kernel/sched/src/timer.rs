//! What a timer is set to: of its stop and its expiry exactly one wins.
//!
//! A timer has an event in a heap of [`timers`](crate::timers), and a [`Setting`] under a lock of its own. The event
//! says that a time has come; the setting says whether that time still means anything.
//!
//! # The rules
//!
//! Who sets or stops a timer holds its lock, and
//!
//! 1. forgets the key of the old event ([`Setting::disarm`]);
//! 2. takes that event out of its heap, if it is still there;
//! 3. takes away what the timer has delivered and nobody has received yet;
//! 4. if it sets the timer anew: adds an event and keeps its key ([`Setting::arm`]).
//!
//! Who finds an event due has taken it out of its heap, holds no lock of a heap any more, takes the timer's lock, and
//!
//! a. asks whether the key is the one of the setting ([`Setting::expire`]), and if it is not, does nothing;
//! b. delivers, still with the lock held; if it is a ticker, puts the event back for the next tick, under the same key
//!    ([`Expiry::Again`]).
//!
//! What has been put off, because it could not be done at its time, goes back to the heap without a: the setting has not
//! learned that it was due.
//!
//! # Why exactly one wins
//!
//! The lock orders the two. If 1 is before a, then a finds another key or none, because no event of a heap ever gets
//! the key of another one, and a setting that has forgotten a key does not get it again: nothing is delivered, and the
//! stop says that it has prevented that. If a is before 1, then the setting is idle at 1, unless it is that of a ticker,
//! and the stop says so. A ticker's event is back in its heap at 2, by b, or was not due.
//!
//! # Why nothing stale is received after a stop
//!
//! What was delivered before 1 was delivered by b, so before the stopper had the lock, and is taken away by 3, unless
//! somebody has received it before 3: then the stop has prevented nothing. What comes after 1 is not delivered by a. So
//! with 3, "it was armed" or "3 has found something" means that the stop has won.
//!
//! An event that was added by 4 may be due before its key is kept: its expiry then waits at a for the lock.

/// What a timer is set to. `K` is the key of its event.
#[derive(Debug)]
pub struct Setting<K> {
    armed: Option<Armed<K>>,
}

#[derive(Debug)]
struct Armed<K> {
    /// `None`: it is set to a time that does not come.
    key: Option<K>,
    /// Time between two expiries; 0: there is one only.
    period: u64,
}

/// What a timer was set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the event of a timer that is not armed any more must leave its heap"]
pub enum Disarmed<K> {
    /// Nothing.
    Idle,
    /// A time, with this event if the time was to come.
    Was(Option<K>),
}

/// What a due event means to its timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a timer that has expired must deliver"]
pub enum Expiry {
    /// Nothing: it was stopped or set anew since.
    Stale,
    /// It has expired and is idle now.
    Once,
    /// It has expired, and does so again at this time, for which its event must be put back under its key; but for
    /// [`NEVER`](crate::timers::NEVER), which its key then stands for: it stays armed, and a stop finds no event.
    Again(u64),
}

impl<K> Default for Setting<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Setting<K> {
    /// Nothing.
    pub const fn new() -> Self {
        Self { armed: None }
    }

    /// Whether it is set to a time.
    pub const fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Sets it to the time of an event, or to one that does not come. With a period it goes on from there.
    ///
    /// # Panics
    ///
    /// It is armed: whoever sets it disarms it first.
    pub fn arm(&mut self, key: Option<K>, period: u64) {
        let before = self.armed.replace(Armed { key, period });
        assert!(before.is_none(), "a timer that is set has been disarmed");
    }

    /// Sets it to nothing.
    pub fn disarm(&mut self) -> Disarmed<K> {
        match self.armed.take() {
            None => Disarmed::Idle,
            Some(armed) => Disarmed::Was(armed.key),
        }
    }
}

impl<K: PartialEq> Setting<K> {
    /// An event of this timer that was set to `when` has been found due at `now`.
    pub fn expire(&mut self, key: &K, when: u64, now: u64) -> Expiry {
        let Some(armed) = self.armed.as_ref().filter(|armed| armed.key.as_ref() == Some(key)) else {
            return Expiry::Stale;
        };
        if armed.period == 0 {
            self.armed = None;
            return Expiry::Once;
        }
        Expiry::Again(next_tick(when, armed.period, now))
    }
}

/// The first tick after `now` of those that follow `when` in steps of `period`, which is not 0: what was missed is left
/// out, and the rest keeps step.
fn next_tick(when: u64, period: u64, now: u64) -> u64 {
    let missed = now.saturating_sub(when) / period;
    when.saturating_add(period.saturating_mul(missed.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::{Disarmed, Expiry, Setting, next_tick};

    #[test]
    fn a_timer_expires_once() {
        let mut setting = Setting::new();
        setting.arm(Some(1), 0);
        assert!(setting.is_armed());
        assert_eq!(setting.expire(&2, 5, 5), Expiry::Stale);
        assert_eq!(setting.expire(&1, 5, 5), Expiry::Once);
        assert_eq!(setting.expire(&1, 5, 5), Expiry::Stale);
        assert_eq!(setting.disarm(), Disarmed::Idle);
    }

    #[test]
    fn a_timer_that_was_stopped_or_set_anew_does_not_expire_by_an_old_event() {
        let mut setting = Setting::new();
        setting.arm(Some(1), 0);
        assert_eq!(setting.disarm(), Disarmed::Was(Some(1)));
        assert_eq!(setting.expire(&1, 5, 5), Expiry::Stale);
        setting.arm(Some(2), 0);
        assert_eq!(setting.expire(&1, 5, 5), Expiry::Stale);
        assert_eq!(setting.expire(&2, 5, 5), Expiry::Once);
        setting.arm(None, 0);
        assert_eq!(setting.disarm(), Disarmed::Was(None));
    }

    #[test]
    fn a_ticker_goes_on_until_it_is_stopped() {
        let mut setting = Setting::new();
        setting.arm(Some(1), 10);
        assert_eq!(setting.expire(&1, 100, 103), Expiry::Again(110));
        assert_eq!(setting.expire(&1, 110, 110), Expiry::Again(120));
        assert_eq!(setting.expire(&2, 120, 120), Expiry::Stale);
        assert_eq!(setting.disarm(), Disarmed::Was(Some(1)));
        assert_eq!(setting.expire(&1, 120, 120), Expiry::Stale);
    }

    #[test]
    fn ticks_keep_step_and_those_that_were_missed_are_left_out() {
        assert_eq!(next_tick(100, 10, 100), 110);
        assert_eq!(next_tick(100, 10, 109), 110);
        assert_eq!(next_tick(100, 10, 110), 120);
        assert_eq!(next_tick(100, 10, 1_234), 1_240);
        assert_eq!(next_tick(100, u64::MAX, 200), u64::MAX);
        assert_eq!(next_tick(u64::MAX - 5, 10, u64::MAX), u64::MAX);
    }

    #[test]
    #[should_panic(expected = "has been disarmed")]
    fn a_timer_is_not_set_twice() {
        let mut setting = Setting::new();
        setting.arm(Some(1), 0);
        setting.arm(Some(2), 0);
    }
}
