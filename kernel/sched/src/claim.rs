//! The claim word: of all that may end a goroutine's wait, exactly one does.
//!
//! A goroutine may wait for several things at once: for any of several channels, or for one of them and a time. Each
//! of them has the goroutine in a queue of its own, under a lock of its own, so two may come at once. Go's word
//! is `g.selectDone`.
//!
//! The word belongs to a goroutine's slot, and is odd while the goroutine can be claimed. Each wait has a number of its
//! own, the [`Ticket`], which lies in the queues beside the goroutine:
//!
//! ```text
//!            begin: the goroutine itself              claim: who is first
//!   2n ─────────────────────────────────► 2n + 1 ─────────────────────────► 2n + 2
//! ```
//!
//! # Why one waker wins, and a late one nothing
//!
//! 1. The step from 2n + 1 to 2n + 2 is a compare-and-swap, and no other step leaves 2n + 1: one caller makes it.
//! 2. The word only grows. Who holds the ticket of an older wait, because it was taken out of a queue (say, as a
//!    time-out that is due) and then held up, compares with a number that does not come back.
//! 3. The goroutine's own step from 2n to 2n + 1 needs no swap: at an even number no claim succeeds, so nobody else
//!    writes.
//!
//! Numbers come back after 2^31 waits of one slot. A waker that was held up between its queue and its claim would have to
//! stand still while others run through all of them. Most wakers are pinned to a CPU meanwhile. One is not: the end of
//! a context claims on the stack of whoever ends it, who may be preempted there; but then it is in a queue, and has its turn
//! after those before it, not after 2^31 waits.
//!
//! Who has claimed owes the goroutine exactly one ready; who has not must not touch it.

use core::num::NonZeroU32;

use crate::sync::{AtomicU32, Ordering};

/// The number of one wait, by which it is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(NonZeroU32);

impl Ticket {
    /// The number itself: odd.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The ticket with this number, or `None` if it is even: no wait has that.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(odd) if number % 2 == 1 => Some(Self(odd)),
            Some(_) | None => None,
        }
    }
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who has claimed a goroutine must ready it, who has not must leave it alone"]
pub enum Claimed {
    /// The wait is over by this call: its goroutine is to be readied.
    Yes,
    /// Somebody else has ended it, now or long ago.
    No,
}

/// A goroutine's claim word.
#[derive(Debug)]
pub struct Claim(AtomicU32);

impl Default for Claim {
    fn default() -> Self {
        Self::new()
    }
}

impl Claim {
    /// A word of a goroutine that does not wait.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Goes on counting at a number that the word, or another one, has [reached](Self::number) before.
    pub fn revive(&self, number: u32) {
        // Relaxed: as in `number`.
        self.0.store(number, Ordering::Relaxed);
    }

    /// The number of the last wait, which is over.
    pub fn number(&self) -> u32 {
        // Relaxed: for who owns a slot that nobody uses.
        self.0.load(Ordering::Relaxed)
    }

    /// Begins a wait that several may end. Only for the goroutine itself, before it tells anybody.
    ///
    /// # Panics
    ///
    /// The last wait was not claimed: whoever it was published to could claim it still.
    pub fn begin(&self) -> Ticket {
        // Relaxed: the last claimer's store came before the ready that let the goroutine go on.
        let word = self.0.load(Ordering::Relaxed);
        let ticket =
            Ticket::new(word.wrapping_add(1)).expect("a wait that was begun is claimed before the next");
        // Relaxed: whoever gets the ticket gets it by the lock of a queue.
        self.0.store(ticket.get(), Ordering::Relaxed);
        ticket
    }

    /// Tries to end the wait of this ticket. The goroutine may do so itself, when it does not park after all.
    pub fn claim(&self, ticket: Ticket) -> Claimed {
        let over = ticket.get().wrapping_add(1);
        // Relaxed: as below. Who is late, perhaps by a life, does not write: the memory of a slot that nobody uses may be gone.
        if self.0.load(Ordering::Relaxed) != ticket.get() {
            return Claimed::No;
        }
        // Relaxed: that exactly one succeeds needs no order. What the winner does for the goroutine is handed over by
        // the ready, and what the goroutine did before the wait by the lock of the queue.
        match self.0.compare_exchange(ticket.get(), over, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Claimed::Yes,
            Err(_) => Claimed::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Claimed, Ticket};

    #[test]
    fn the_first_claim_wins() {
        let claim = Claim::new();
        let ticket = claim.begin();
        assert_eq!([claim.claim(ticket), claim.claim(ticket)], [Claimed::Yes, Claimed::No]);
    }

    #[test]
    fn an_older_ticket_claims_nothing() {
        let claim = Claim::new();
        let old = claim.begin();
        assert_eq!(claim.claim(old), Claimed::Yes);
        let new = claim.begin();
        assert_ne!(old, new);
        assert_eq!(claim.claim(old), Claimed::No);
        assert_eq!(claim.claim(new), Claimed::Yes);
    }

    #[test]
    fn a_word_goes_on_where_another_has_ended() {
        let (old, new) = (Claim::new(), Claim::new());
        let ticket = old.begin();
        assert_eq!(old.claim(ticket), Claimed::Yes);
        new.revive(old.number());
        assert_ne!(new.begin(), ticket);
    }

    #[test]
    fn tickets_are_odd_to_the_last_and_begin_anew() {
        let claim = Claim(crate::sync::AtomicU32::new(u32::MAX - 1));
        let last = claim.begin();
        assert_eq!(last.get(), u32::MAX);
        assert_eq!(claim.claim(last), Claimed::Yes);
        assert_eq!(claim.begin().get(), 1);
        assert_eq!(Ticket::new(0), None);
        assert_eq!(Ticket::new(2), None);
    }

    #[test]
    #[should_panic(expected = "a wait that was begun is claimed before the next")]
    fn a_wait_that_nobody_claimed_is_noticed() {
        let claim = Claim::new();
        claim.begin();
        claim.begin();
    }
}
