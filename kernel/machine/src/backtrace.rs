//! Walks along frame pointers: which calls have led to a place.
//!
//! All code is compiled with frame pointers. A function begins with `push rbp; mov rbp, rsp`, so `rbp` leads from
//! frame to frame:
//!
//! ```text
//!   high   ┊ caller's frame              ┊
//!          │ return address              │   the caller's pc
//!          │ caller's rbp                │ ◄── rbp
//!          │ saved registers and locals  │
//!   low    └─────────────────────────────┘ ◄── rsp, or the end of the frame that it has called
//! ```
//!
//! A walk never faults, whatever it finds: each word is read through the window on physical memory, if its page is
//! mapped at all, and each step must lead upwards within the stack's bounds. So it ends after as many frames as fit
//! on the stack, and it may even follow a stack that somebody else runs on: what comes out may then be wrong, and
//! that is all. It takes no lock and allocates nothing.
//!
//! Where a function was interrupted before it has pushed `rbp`, and in assembly, which has no frames, the caller is
//! left out of the walk; but not the one that called an address where no function is.

use core::arch::asm;
use core::fmt;
use core::ops::Range;

use crate::context::{self, Context};
use crate::entry;
use crate::paging;
use crate::symbol::{self, Symbol};

/// Bytes of the two words that a frame ends with: the caller's frame pointer and the return address.
const LINK: u64 = 2 * WORD;
const WORD: u64 = size_of::<u64>() as u64;

/// What the address of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pc {
    /// The instruction to execute next.
    Next(u64),
    /// The one behind a call.
    Return(u64),
}

impl Pc {
    /// The address.
    pub const fn address(self) -> u64 {
        match self {
            Self::Next(address) | Self::Return(address) => address,
        }
    }

    /// The function that it lies in.
    pub fn symbol(self) -> Option<Symbol> {
        match self {
            Self::Next(address) => symbol::lookup(address),
            Self::Return(address) => symbol::lookup_call(address),
        }
    }
}

impl fmt::Display for Pc {
    /// `path::function+0x1f`, or the address where there is no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.symbol() {
            Some(symbol) => write!(f, "{symbol}"),
            None => write!(f, "{:#018x}", self.address()),
        }
    }
}

/// A function that has not returned yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Where it goes on.
    pub pc: Pc,
    /// Its part of the stack: from the end of the frame that it has called to its own end, return address included.
    pub low: u64,
    /// See `low`.
    pub high: u64,
    /// Frames below it: 0 for the one that was called last.
    pub depth: u32,
}

/// Where a walk begins: the registers of whoever stands on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pc: Pc,
    rsp: u64,
    rbp: u64,
}

impl Start {
    /// The caller of the function that calls this.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it reads the frame pointer of the function that it is part of")]
    pub fn caller() -> Self {
        let rbp: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
        Self::above(rbp)
    }

    /// The function that calls this. Reads no memory.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it reads the registers of the function that it is part of")]
    pub fn here() -> Self {
        let (pc, rsp, rbp): (u64, u64, u64);
        // SAFETY: reads registers.
        unsafe {
            asm!(
                "lea {}, [rip]", "mov {}, rsp", "mov {}, rbp",
                out(reg) pc, out(reg) rsp, out(reg) rbp, options(nomem, nostack, preserves_flags)
            );
        }
        Self { pc: Pc::Next(pc), rsp, rbp }
    }

    /// The function that called the one with frame pointer `rbp`.
    fn above(rbp: u64) -> Self {
        let word = |address| paging::peek(address).unwrap_or(0);
        Self { pc: Pc::Return(word(rbp + WORD)), rsp: rbp + LINK, rbp: word(rbp) }
    }

    /// What an interrupt or exception has interrupted.
    pub const fn interrupted(frame: &entry::Frame) -> Self {
        Self { pc: Pc::Next(frame.rip), rsp: frame.rsp, rbp: frame.rbp }
    }

    /// Registers that somebody has kept.
    pub const fn at(pc: u64, rsp: u64, rbp: u64) -> Self {
        Self { pc: Pc::Next(pc), rsp, rbp }
    }

    /// Program counter, stack pointer and frame pointer, to keep them.
    pub const fn registers(&self) -> [u64; 3] {
        [self.pc.address(), self.rsp, self.rbp]
    }

    /// A context that does not run; one that has never run is at the start of its first function. `None` when there
    /// is none, or its stack is not mapped.
    pub fn suspended(context: Context) -> Option<Self> {
        context::registers(context, paging::peek).map(|saved| match saved.rip {
            rip if rip == context::start_address() => Self { pc: Pc::Next(saved.rbx), ..Self::of(&saved) },
            _ => Self::of(&saved),
        })
    }

    const fn of(saved: &context::Registers) -> Self {
        Self { pc: Pc::Return(saved.rip), rsp: saved.rsp, rbp: saved.rbp }
    }

    /// The stack pointer.
    pub const fn rsp(&self) -> u64 {
        self.rsp
    }

    /// The frames from here on upwards, on a stack with these bounds.
    pub fn walk(self, stack: Range<u64>) -> Walk<fn(u64) -> Option<u64>> {
        Walk::new(self, stack, paging::peek)
    }
}

/// The frames of a stack, from the last call to the first.
#[derive(Debug, Clone)]
pub struct Walk<R> {
    next: Option<Start>,
    stack: Range<u64>,
    depth: u32,
    broken: Option<u64>,
    read: R,
}

impl<R: Fn(u64) -> Option<u64>> Walk<R> {
    /// A walk over the words that `read` finds. Nothing comes out when the start is not on the stack.
    fn new(start: Start, stack: Range<u64>, read: R) -> Self {
        // With an empty stack rsp is the top.
        let is_on_it = (stack.start..=stack.end).contains(&start.rsp) && start.pc != Pc::Return(0);
        let next = is_on_it.then_some(start);
        Self { next, stack, depth: 0, broken: None, read }
    }

    /// The frame pointer on this stack at which a walk that is over could not go on. `None` when it has come to its
    /// end: to a frame pointer of 0, or one that leads away from the stack.
    pub const fn broken(&self) -> Option<u64> {
        self.broken
    }

    /// Whoever called an address where no function is: it is still the frame pointer's owner.
    fn wild_caller(&self, Start { pc, rsp, rbp }: Start) -> Option<Start> {
        let (Pc::Next(_), None) = (pc, pc.symbol()) else { return None };
        let pc = Pc::Return((self.read)(rsp)?);
        pc.symbol().map(|_| Start { pc, rsp: rsp + WORD, rbp })
    }

    /// Where the caller of a frame goes on, if the frame pointer can be followed.
    fn caller(&mut self, Start { rsp, rbp, .. }: Start) -> Option<Start> {
        if rbp == 0 || !self.stack.contains(&rbp) {
            return None;
        }
        let leads_up = rbp.is_multiple_of(WORD) && rbp >= rsp && rbp + LINK <= self.stack.end;
        let link = leads_up.then(|| Some(((self.read)(rbp)?, (self.read)(rbp + WORD)?))).flatten();
        let Some((next, pc)) = link else {
            self.broken = Some(rbp);
            return None;
        };
        Some(Start { pc: Pc::Return(pc), rsp: rbp + LINK, rbp: next })
    }
}

impl<R: Fn(u64) -> Option<u64>> Iterator for Walk<R> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let here = self.next.take()?;
        let above = self.wild_caller(here).or_else(|| self.caller(here));
        let high = above.map_or(self.stack.end, |above| above.rsp);
        let frame = Frame { pc: here.pc, low: here.rsp, high, depth: self.depth };
        self.depth += 1;
        self.next = above.filter(|above| above.pc.address() != 0);
        Some(frame)
    }
}

#[cfg(test)]
#[path = "tests/backtrace.rs"]
mod tests;
