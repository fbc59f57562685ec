//! What the goroutines of a random program do.

use alloc::vec::Vec;

/// Numbers that repeat with their seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`, which is not 0.
    ///
    /// # Panics
    /// Never: what is below a `usize` is one.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % limit as u64).expect("below a usize")
    }

    /// One time in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// One thing that a select may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// Send into a channel; `None` is the channel that is never ready.
    Send(Option<usize>),
    /// Receive from one.
    Recv(Option<usize>),
}

/// One step of a goroutine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Send, waiting for room.
    Send(usize),
    /// Receive, waiting for a value.
    Recv(usize),
    /// Send without waiting.
    TrySend(usize),
    /// Receive without waiting.
    TryRecv(usize),
    /// Close.
    Close(usize),
    /// One of several.
    Select {
        /// What it may do.
        arms: Vec<Arm>,
        /// Nothing, if none is ready.
        default: bool,
        /// The driver may end its wait.
        timeout: bool,
    },
}

/// Whether the selects of a program may time out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeouts {
    /// None may.
    Never,
    /// Some may.
    Sometimes,
}

/// A program.
#[derive(Debug, Clone)]
pub struct Program {
    /// The capacity of each channel.
    pub channels: Vec<usize>,
    /// What each goroutine does.
    pub goroutines: Vec<Vec<Op>>,
}

/// The value that an arm of a goroutine's step sends: no other sends the same.
pub const fn value(goroutine: usize, step: usize, arm: usize) -> u64 {
    ((goroutine as u64) << 32) | ((step as u64) << 8) | arm as u64
}

impl Program {
    /// The program of a seed.
    pub fn new(seed: u64, timeouts: Timeouts) -> Self {
        let mut random = Random(seed.wrapping_mul(0x0fed_cba9_8765_4321));
        let channels: Vec<usize> =
            (0..=random.below(4)).map(|_| if random.one_in(2) { 0 } else { 1 + random.below(3) }).collect();
        let goroutines = 2 + random.below(5);
        let goroutines = (0..goroutines)
            .map(|_| (0..=random.below(12)).map(|_| op(&mut random, channels.len(), timeouts)).collect())
            .collect();
        Self { channels, goroutines }
    }
}

fn op(random: &mut Random, channels: usize, timeouts: Timeouts) -> Op {
    let channel = random.below(channels);
    match random.below(20) {
        0..4 => Op::Send(channel),
        4..8 => Op::Recv(channel),
        8 => Op::TrySend(channel),
        9 => Op::TryRecv(channel),
        10 if random.one_in(4) => Op::Close(channel),
        _ => Op::Select {
            arms: (0..=random.below(5)).map(|_| arm(random, channels)).collect(),
            default: random.one_in(4),
            timeout: timeouts == Timeouts::Sometimes && random.one_in(3),
        },
    }
}

fn arm(random: &mut Random, channels: usize) -> Arm {
    let channel = if random.one_in(10) { None } else { Some(random.below(channels)) };
    if random.one_in(2) { Arm::Send(channel) } else { Arm::Recv(channel) }
}
