//! A semaphore of which one may take several units at once. First come, first served: a large request is not passed by
//! small ones, which else could keep it waiting for ever.
//!
//! A plain structure, which a lock of the kernel guards together with the sudogs in it. A sudog's number is what it asks
//! for; whoever is taken out to be readied has its units.
//!
//! A waiter may give up: then several may end its wait, and it has the ticket of a [claim](crate::claim) with it. Whoever
//! would serve it claims it first. If somebody else was faster it gets nothing, and takes itself out, if it is still in.

use crate::claim::{Claimed, Ticket};
use crate::id::{GoRef, SudogIndex};
use crate::list::Chain;
use crate::sudog::Sudogs;
use crate::waiters::Waiters;

/// The semaphore.
#[derive(Debug)]
pub struct Weighted {
    capacity: u32,
    free: u32,
    waiters: Waiters,
}

impl Weighted {
    /// A semaphore of so many units, all of them free.
    pub const fn new(capacity: u32) -> Self {
        Self { capacity, free: capacity, waiters: Waiters::new() }
    }

    /// All units, free or not.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The units that nobody has.
    pub const fn free(&self) -> u32 {
        self.free
    }

    /// Takes `units` if they are free and nobody waits.
    #[must_use = "units that were taken have to be given back some time"]
    pub const fn try_acquire(&mut self, units: u32) -> bool {
        let ok = self.waiters.is_empty() && units <= self.free;
        if ok {
            self.free -= units;
        }
        ok
    }

    /// Queues a sudog that asks for `units`; with a ticket, if others may end the wait as well.
    pub fn wait(&mut self, sudogs: &Sudogs, s: SudogIndex, units: u32, ticket: Option<Ticket>) {
        sudogs.get(s).set_element(ticket.map_or(0, |ticket| ticket.get().into()));
        self.waiters.push(sudogs, s, units);
    }

    /// Gives units back. Returns those who have theirs now. `claim` claims a waiter that others may have claimed.
    ///
    /// # Errors
    ///
    /// The units that are not free, when there are fewer.
    pub fn release(
        &mut self,
        sudogs: &Sudogs,
        units: u32,
        claim: impl FnMut(GoRef, Ticket) -> Claimed,
    ) -> Result<Option<Chain<SudogIndex>>, u32> {
        let taken = self.capacity - self.free;
        if units > taken {
            return Err(taken);
        }
        self.free += units;
        Ok(self.grant(sudogs, claim))
    }

    /// Takes a sudog out, if it is still in, whose waiter has given up. Returns those who were behind it, and have theirs now.
    pub fn leave(
        &mut self,
        sudogs: &Sudogs,
        s: SudogIndex,
        claim: impl FnMut(GoRef, Ticket) -> Claimed,
    ) -> Option<Chain<SudogIndex>> {
        self.waiters.remove(sudogs, |at, _| at == s)?;
        sudogs.get(s).set_element(0);
        self.grant(sudogs, claim)
    }

    /// Serves those at the head as far as the free units go.
    fn grant(
        &mut self,
        sudogs: &Sudogs,
        mut claim: impl FnMut(GoRef, Ticket) -> Claimed,
    ) -> Option<Chain<SudogIndex>> {
        let mut granted = Waiters::new();
        while let Some(units) = self.waiters.first_number(sudogs).filter(|units| *units <= self.free) {
            let s = self.waiters.pop(sudogs)?;
            let sudog = sudogs.get(s);
            let ticket = u32::try_from(sudog.element()).ok().and_then(Ticket::new);
            sudog.set_element(0);
            let gives_up = sudog.g().zip(ticket).is_some_and(|(g, ticket)| claim(g, ticket) == Claimed::No);
            if !gives_up {
                self.free -= units;
                granted.push(sudogs, s, units);
            }
        }
        granted.into_chain()
    }
}

#[cfg(test)]
#[path = "tests/weighted.rs"]
mod tests;
