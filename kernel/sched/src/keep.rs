//! Who keeps what hangs from it, along a way upwards of which nobody holds all.
//!
//! Things hang from each other. Each has a number of calls, changed under its lock; one with calls is to be kept by the one
//! above, whose lock guards whether it is, and for which that counts as a call: so it goes on upwards. The locks of two are
//! never held together. Whoever gives one its first call, or takes its last one, has a [`Change`], and looks under the lock of
//! the one above whether that still holds ([`Change::look`]). If it does, and makes a change there, that one is looked at next.
//!
//! Each does only what its own change asks for: who has a [`Change::First`] has it kept if it still has calls, and never lets it
//! go; who has a [`Change::Last`] lets it go if it still has none, and never has it kept.
//!
//! 1. At rest a thing is kept if, and only if, it has calls. Whoever was the last to change whether it has some looks after
//!    that, sees what it has made, and does what that asks for. Who looks later sees it, too, by the lock, and does nothing:
//!    either the change asks for what is done already, or for what is not so any more.
//! 2. So while a thing has calls and is not kept, whoever has given it the first of them has not looked yet. That is one who
//!    asks for a call, here or below, as nobody else gives first calls. If those who ask hold all that is above until they
//!    are done at the top, nothing between goes. Whoever asked for another call meanwhile may be done sooner.
//! 3. One who takes calls away holds but the thing that it is at. It must not have it kept in the place of one who asks, who
//!    could then be done, and hold nothing any more, before what is above is kept.

use crate::sync::{AtomicU64, Ordering, const_unless_modelled};

/// The number of a thing's calls, those of the things that it keeps included.
///
/// Relaxed, always: whoever changes it has the thing's lock, and what is done about it is decided under the lock of the one
/// above, which orders those who look.
#[derive(Debug, Default)]
pub struct Calls(AtomicU64);

/// What somebody has done to the number of a thing's calls, who must look at it now.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Added the first.
    First,
    /// Taken the last away.
    Last,
}

/// Whether a thing is kept by the one above.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// It goes with the last who holds it.
    #[default]
    No,
    /// It stays.
    Yes,
}

impl Calls {
    const_unless_modelled! {
        /// None.
        pub fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Adds one, under the thing's lock.
    pub fn add(&self) -> Option<Change> {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before + 1, Ordering::Relaxed);
        (before == 0).then_some(Change::First)
    }

    /// Takes one away, under the thing's lock.
    pub fn take(&self) -> Option<Change> {
        let now = self.0.load(Ordering::Relaxed) - 1;
        self.0.store(now, Ordering::Relaxed);
        (now == 0).then_some(Change::Last)
    }

    /// Takes all away, under the thing's lock, from one that is then taken out of the one above: nobody need look at it.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Change {
    /// What becomes of the thing with these calls, if that is still to be done. Under the lock of the one above, which then has
    /// a call more or less.
    pub fn look(self, calls: &Calls, kept: Kept) -> Option<Kept> {
        let has_calls = calls.0.load(Ordering::Relaxed) > 0;
        match (self, kept) {
            (Self::First, Kept::No) => has_calls.then_some(Kept::Yes),
            (Self::Last, Kept::Yes) => (!has_calls).then_some(Kept::No),
            (Self::First, Kept::Yes) | (Self::Last, Kept::No) => None,
        }
    }
}
