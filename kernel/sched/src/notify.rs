//! Notifications by ticket, for condition variables: who has drawn a ticket before a notification gets it, in the order of
//! the tickets, even if it has not come to wait yet. Go's `notifyList`.
//!
//! A goroutine draws its ticket while it still holds the lock of its condition, drops that lock, and comes to wait. A
//! notification in between raises [`Tickets::notified`] past the ticket; the goroutine then sees that its turn has been, and
//! does not wait. Both the raise and that look are under the lock of the waiters, so there is no gap. Tickets wrap around:
//! of two, the earlier is the one from which it is less than 2^31 to the other.

use crate::id::SudogIndex;
use crate::list::Chain;
use crate::sudog::Sudogs;
use crate::sync::{AtomicU32, Ordering, const_unless_modelled};
use crate::waiters::Waiters;

/// The two counters.
#[derive(Debug, Default)]
pub struct Tickets {
    /// The next ticket to be drawn.
    drawn: AtomicU32,
    /// The next ticket to be notified. Written under the lock of the waiters.
    notified: AtomicU32,
}

/// A place in the order of notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "whoever has drawn a ticket waits by it"]
pub struct Ticket(u32);

/// Whether a goroutine that came to wait has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a queued goroutine must park, one that is not must not"]
pub enum Came {
    /// It is queued.
    InTime,
    /// Its ticket was notified already.
    Notified,
}

impl Tickets {
    const_unless_modelled! {
        /// No ticket was drawn.
        pub fn new() -> Self {
            Self { drawn: AtomicU32::new(0), notified: AtomicU32::new(0) }
        }
    }

    /// Draws a ticket.
    pub fn draw(&self) -> Ticket {
        // AcqRel: who changes the condition under its lock afterwards sees the ticket by that lock; others by nothing.
        Ticket(self.drawn.fetch_add(1, Ordering::AcqRel))
    }

    /// Whether all tickets are notified: then a notification is for nobody, and needs no lock.
    pub fn all_notified(&self) -> bool {
        // Acquire pairs with the AcqRel in `draw`.
        self.drawn.load(Ordering::Acquire) == self.notified.load(Ordering::Relaxed)
    }

    /// Queues `s`, unless the ticket was notified. Under the lock.
    pub fn come(&self, waiters: &mut Waiters, sudogs: &Sudogs, s: SudogIndex, ticket: Ticket) -> Came {
        // Relaxed: written under the lock.
        let notified = self.notified.load(Ordering::Relaxed);
        if is_before(ticket.0, notified) {
            return Came::Notified;
        }
        waiters.push(sudogs, s, ticket.0);
        Came::InTime
    }

    /// Notifies the earliest ticket that was not. Returns its goroutine, if that has come already. Under the lock.
    pub fn notify_one(&self, waiters: &mut Waiters, sudogs: &Sudogs) -> Option<SudogIndex> {
        let ticket = self.notified.load(Ordering::Relaxed);
        if ticket == self.drawn.load(Ordering::Acquire) {
            return None;
        }
        self.notified.store(ticket.wrapping_add(1), Ordering::Relaxed);
        // Goroutines may come in another order than they drew, but not by much: the search is short.
        waiters.remove(sudogs, |_, number| number == ticket)
    }

    /// Notifies all tickets. Returns the goroutines that have come. Under the lock, in a constant number of steps.
    pub fn notify_all(&self, waiters: &mut Waiters) -> Option<Chain<SudogIndex>> {
        self.notified.store(self.drawn.load(Ordering::Acquire), Ordering::Relaxed);
        core::mem::take(waiters).into_chain()
    }
}

/// Whether one ticket is earlier than another.
const fn is_before(ticket: u32, other: u32) -> bool {
    ticket.wrapping_sub(other) >= 1 << 31
}

#[cfg(test)]
#[path = "tests/notify.rs"]
mod tests;
