//! Those who wait for one thing, first come, first served: a plain queue of sudogs, which a lock of the kernel guards.

use crate::id::SudogIndex;
use crate::list::Chain;
use crate::sudog::Sudogs;

/// The queue.
#[derive(Debug, Default)]
pub struct Waiters {
    all: Option<Chain<SudogIndex>>,
}

impl Waiters {
    /// Nobody.
    pub const fn new() -> Self {
        Self { all: None }
    }

    /// Whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.all.is_none()
    }

    /// Puts a sudog that was prepared at the end, with a number for who looks for it: a ticket, or what it asks for.
    pub fn push(&mut self, sudogs: &Sudogs, s: SudogIndex, number: u32) {
        let sudog = sudogs.get(s);
        sudog.set_ticket(number);
        sudog.next.set(None);
        self.all = Some(Chain::from_parts(s, s, 1).after(sudogs, self.all.take()));
    }

    /// The number of the first one.
    pub fn first_number(&self, sudogs: &Sudogs) -> Option<u32> {
        self.all.as_ref().map(|all| sudogs.get(all.first()).ticket())
    }

    /// Takes the first one out.
    pub fn pop(&mut self, sudogs: &Sudogs) -> Option<SudogIndex> {
        let (s, rest) = self.all.take()?.split_first(sudogs);
        self.all = rest;
        Some(s)
    }

    /// Takes out as many as there are, but no more than `count`, in their order. All of them take no longer than one.
    pub fn pop_many(&mut self, sudogs: &Sudogs, count: u32) -> Option<Chain<SudogIndex>> {
        let (taken, rest) = self.all.take()?.split(sudogs, count);
        self.all = rest;
        taken
    }

    /// Takes out the first one of whom `wanted` is true. Looks at all that are before it.
    pub fn remove(
        &mut self,
        sudogs: &Sudogs,
        wanted: impl Fn(SudogIndex, u32) -> bool,
    ) -> Option<SudogIndex> {
        let (found, rest) = self.all.take()?.remove(sudogs, |s| wanted(s, sudogs.get(s).ticket()));
        self.all = rest;
        found
    }

    /// All of them, to be readied one by one. In a constant number of steps.
    pub fn into_chain(self) -> Option<Chain<SudogIndex>> {
        self.all
    }
}

#[cfg(test)]
#[path = "tests/waiters.rs"]
pub(crate) mod tests;
