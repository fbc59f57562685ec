//! When a goroutine has to give its CPU away while others wait, where it goes, and who comes next.
//!
//! # The policy
//!
//! A **slice** has a length (10 ms), a **part** of it is a twentieth (0.5 ms). Somebody is **due** on a CPU when a timer that
//! went off there has readied it; it lies in the run-next slot then.
//!
//! 1. Who runs while others wait gives way when its slice is over.
//! 2. Who runs while somebody is due gives way when it has had its part: it is *cut*, goes to the back of the P's ring, and
//!    who is due comes next.
//! 3. Who comes next so is *lent* a slice of one part. That one is not cut. When it is over, those in the ring and in the global
//!    queue come before whoever has become due meanwhile, and with a slice of their own.
//! 4. Who has used up a whole slice goes to the global queue; who has used less, to the back of the ring.
//!
//! # Why who is due waits for one part, or for two
//!
//! The timer's handler runs at its time. If a slice of somebody's own runs then, what is left of its part is all that is waited
//! for, and nothing if it has had that. If a lent slice runs, the rest of that (a part at most) is waited for, and one
//! part of who comes after it. With parts of 0.5 ms that is 1 ms. That holds for one who is due, while who runs readies nobody: whom it readies takes the run-next
//! slot, and who is due goes to the back of the ring. So do all but the last of those who become due at the same instant. They wait
//! for those who are before them there, a part for each.
//!
//! # Why nobody starves
//!
//! * *Who is cut* has had a part, and nobody who becomes due later comes before it twice: they come to run by a cut only, a cut
//!   needs a slice of somebody's own that has lasted for a part, and whose that is, rule 3 takes from the front of the
//!   ring. So between two cuts the front of the ring has a part, and who was cut moves up by one place. Timers
//!   that never cease take half of a CPU at most; the ring has the other half, turn by turn.
//! * *Who is in the global queue* comes first in every [`GLOBAL_TICK`](crate::pick::GLOBAL_TICK)th pick, unless that is a cut, and
//!   no two picks in a row are cuts; and comes when the ring is empty.
//! * *Who is due* does not starve in the run-next slot: rule 2 ends each slice of others after a part, and rule 3 each lent
//!   one.
//!
//! A goroutine that inherits a slice from the run-next slot inherits what is left of it, lent or not.

use crate::pick::{Place, Turn};

/// A part is a slice divided by this.
pub const PARTS: u64 = 20;

/// Whose the running slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Whoever runs has come by its turn.
    Own,
    /// It was due, and somebody was cut for it.
    Lent,
}

/// Who waits for the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Nobody who is due.
    Others,
    /// Somebody is due, or may be.
    Due,
}

/// The end of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who runs has to give way"]
pub struct End {
    /// Where the one goes that ran.
    pub place: Place,
    /// Who comes next.
    pub turn: Turn,
}

/// The running slice, in any unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Time since it began.
    pub age: u64,
    /// How long a whole one is.
    pub length: u64,
    /// Whose it is.
    pub share: Share,
    /// Who waits.
    pub waits: Waits,
}

impl Slice {
    /// What is left of it; 0 when it is over.
    pub const fn left(self) -> u64 {
        let limit = match (self.share, self.waits) {
            (Share::Own, Waits::Others) => self.length,
            (Share::Own, Waits::Due) | (Share::Lent, _) => self.length / PARTS,
        };
        limit.saturating_sub(self.age)
    }

    /// What its end means, if it is over.
    pub fn end(self) -> Option<End> {
        if self.left() > 0 {
            return None;
        }
        let place = if self.age < self.length { Place::Back } else { Place::Global };
        let turn = match (self.share, self.waits) {
            (Share::Own, Waits::Others) => Turn::Alternate,
            (Share::Own, Waits::Due) => Turn::Due,
            (Share::Lent, _) => Turn::Others,
        };
        Some(End { place, turn })
    }
}

/// For how long slices are to be short when somebody becomes due in a queue of `queued`: others may be due there, too, and a lent slice may
/// come before.
pub const fn hurry(length: u64, queued: u32) -> u64 {
    if queued == 0 { 0 } else { (length / PARTS).saturating_mul(queued as u64 + 2) }
}

#[cfg(test)]
#[path = "tests/slice.rs"]
mod tests;
