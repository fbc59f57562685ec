//! A semaphore of which one may take several units at once. First come, first served: a large request is not passed by
//! small ones, which else could keep it waiting for ever.
//!
//! A plain structure, which a lock of the kernel guards together with the sudogs in it. A sudog's number is what it asks
//! for; whoever is taken out has its units.

use crate::id::SudogIndex;
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

    /// Queues a sudog that asks for `units`.
    pub fn wait(&mut self, sudogs: &Sudogs, s: SudogIndex, units: u32) {
        self.waiters.push(sudogs, s, units);
    }

    /// Gives units back. Returns those who have theirs now; `Err`: so many were not taken.
    ///
    /// # Errors
    ///
    /// The units that are not free.
    pub fn release(&mut self, sudogs: &Sudogs, units: u32) -> Result<Option<Chain<SudogIndex>>, u32> {
        let taken = self.capacity - self.free;
        if units > taken {
            return Err(taken);
        }
        self.free += units;
        Ok(self.grant(sudogs))
    }

    /// Takes a sudog out that does not want to wait any more. `None`: it has its units, or will be told so. Else those
    /// who were behind it, and have theirs now.
    pub fn cancel(&mut self, sudogs: &Sudogs, s: SudogIndex) -> Option<Option<Chain<SudogIndex>>> {
        self.waiters.remove(sudogs, |at, _| at == s)?;
        Some(self.grant(sudogs))
    }

    /// Serves those at the head as far as the free units go.
    fn grant(&mut self, sudogs: &Sudogs) -> Option<Chain<SudogIndex>> {
        let mut granted = Waiters::new();
        while let Some(units) = self.waiters.first_number(sudogs).filter(|units| *units <= self.free) {
            let s = self.waiters.pop(sudogs)?;
            self.free -= units;
            granted.push(sudogs, s, units);
        }
        granted.into_chain(sudogs)
    }
}

#[cfg(test)]
#[path = "tests/weighted.rs"]
mod tests;
