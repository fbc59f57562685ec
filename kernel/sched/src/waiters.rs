//! Those who wait for one thing, first come, first served: a plain queue of sudogs, which a lock of the kernel guards.

use crate::id::SudogIndex;
use crate::list::Chain;
use crate::sudog::Sudogs;

/// The queue.
#[derive(Debug, Default)]
pub struct Waiters {
    first: Option<SudogIndex>,
    last: Option<SudogIndex>,
}

impl Waiters {
    /// Nobody.
    pub const fn new() -> Self {
        Self { first: None, last: None }
    }

    /// Whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Puts a sudog that was prepared at the end, with a number for who looks for it: a ticket, or what it asks for.
    pub fn push(&mut self, sudogs: &Sudogs, s: SudogIndex, number: u32) {
        let sudog = sudogs.get(s);
        sudog.set_ticket(number);
        sudog.next.set(None);
        match self.last {
            Some(last) => sudogs.get(last).next.set(Some(s)),
            None => self.first = Some(s),
        }
        self.last = Some(s);
    }

    /// The number of the first one.
    pub fn first_number(&self, sudogs: &Sudogs) -> Option<u32> {
        self.first.map(|s| sudogs.get(s).ticket())
    }

    /// Takes the first one out.
    pub fn pop(&mut self, sudogs: &Sudogs) -> Option<SudogIndex> {
        let s = self.first?;
        self.first = sudogs.get(s).next.get();
        if self.first.is_none() {
            self.last = None;
        }
        sudogs.get(s).next.set(None);
        Some(s)
    }

    /// Takes out as many as there are, but no more than `count`, in their order.
    pub fn pop_many(&mut self, sudogs: &Sudogs, count: u32) -> Option<Chain<SudogIndex>> {
        let mut out = Self::new();
        for _ in 0..count {
            let Some(s) = self.pop(sudogs) else { break };
            let number = sudogs.get(s).ticket();
            out.push(sudogs, s, number);
        }
        out.into_chain(sudogs)
    }

    /// Takes out the first one of whom `wanted` is true. Looks at all that are before it.
    pub fn remove(
        &mut self,
        sudogs: &Sudogs,
        wanted: impl Fn(SudogIndex, u32) -> bool,
    ) -> Option<SudogIndex> {
        let mut before: Option<SudogIndex> = None;
        let mut at = self.first;
        while let Some(s) = at {
            let next = sudogs.get(s).next.get();
            if wanted(s, sudogs.get(s).ticket()) {
                match before {
                    Some(before) => sudogs.get(before).next.set(next),
                    None => self.first = next,
                }
                if next.is_none() {
                    self.last = before;
                }
                sudogs.get(s).next.set(None);
                return Some(s);
            }
            before = at;
            at = next;
        }
        None
    }

    /// All of them, to be readied one by one.
    pub fn into_chain(self, sudogs: &Sudogs) -> Option<Chain<SudogIndex>> {
        let mut next = self.first;
        let each = core::iter::from_fn(|| {
            let s = next?;
            next = sudogs.get(s).next.get();
            Some(s)
        });
        Chain::link(sudogs, each)
    }
}

#[cfg(test)]
#[path = "tests/waiters.rs"]
pub(crate) mod tests;
