//! What one CPU leaves behind in a stop of the world: when it was asked, when it answered, and what it was doing.
//!
//! The fields are written by the stopper (`sent`) and by the CPU itself, in the stop's interrupt and where it stops. The
//! stopper reads them when the CPU is counted as stopped, which orders them; a look at one that is late is a hint.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::backtrace::Pc;
use machine::clock::Nanos;

/// What a CPU was doing when the stop reached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Doing {
    /// It slept, and was not woken.
    #[default]
    Idle = 0,
    /// It ran code that could be held where it was.
    Running = 1,
    /// It held a lock of the runtime, or was pinned to its CPU.
    HoldingLocks = 2,
    /// It looked for something to run.
    Scheduling = 3,
    /// It had interrupts off.
    InterruptsOff = 4,
}

impl Doing {
    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Running,
            2 => Self::HoldingLocks,
            3 => Self::Scheduling,
            4 => Self::InterruptsOff,
            _ => Self::Idle,
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::HoldingLocks => "holding locks",
            Self::Scheduling => "scheduling",
            Self::InterruptsOff => "interrupts off",
        })
    }
}

/// One CPU's part in one stop. Times are those of the clock; 0 where there was nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuStop {
    /// The CPU's number.
    pub cpu: u32,
    /// What it was doing.
    pub doing: Doing,
    /// When the first interrupt was sent to it.
    pub sent: Nanos,
    /// When that reached it.
    pub received: Nanos,
    /// When it stopped.
    pub acknowledged: Nanos,
    /// The instruction that the interrupt came at.
    pub rip: u64,
}

impl fmt::Display for CpuStop {
    /// `cpu 1, running at path::function+0x1f`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu {}, {}", self.cpu, self.doing)?;
        if self.rip == 0 { Ok(()) } else { write!(f, " at {}", Pc::Next(self.rip)) }
    }
}

/// Nobody wants to know where the CPU is.
const QUIET: u32 = 0;
/// The next NMI on it shall leave a trace.
const PROBED: u32 = 1;
/// It has.
const FOUND: u32 = 2;

/// The words behind a [`CpuStop`].
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Mark {
    doing: AtomicU32,
    sent: AtomicU64,
    received: AtomicU64,
    acknowledged: AtomicU64,
    rip: AtomicU64,
    probe: AtomicU32,
    /// What the NMI found: the instruction, and whether interrupts were on.
    probe_rip: AtomicU64,
    probe_doing: AtomicU32,
}

// Relaxed everywhere but for `probe`: the head of this file says what orders the rest.
impl Mark {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Forgets the last stop. A probe whose NMI has not come yet stays: else it would be one of an unknown source.
    pub(crate) fn reset(&self) {
        if self.probe.load(Ordering::Relaxed) == FOUND {
            self.probe.store(QUIET, Ordering::Relaxed);
        }
        self.doing.store(Doing::Idle as u32, Ordering::Relaxed);
        for word in [&self.sent, &self.received, &self.acknowledged, &self.rip] {
            word.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn sent(&self, now: Nanos) {
        self.sent.store(now.0, Ordering::Relaxed);
    }

    /// The interrupt has come, the first one of this stop.
    pub(crate) fn received(&self, now: Nanos, rip: u64, doing: Doing) {
        if self.received.load(Ordering::Relaxed) == 0 {
            self.received.store(now.0, Ordering::Relaxed);
            self.rip.store(rip, Ordering::Relaxed);
            self.doing.store(doing as u32, Ordering::Relaxed);
        }
    }

    pub(crate) fn acknowledged(&self, now: Nanos) {
        if self.received.load(Ordering::Relaxed) == 0 {
            self.doing.store(Doing::Scheduling as u32, Ordering::Relaxed);
        }
        self.acknowledged.store(now.0, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, cpu: u32) -> CpuStop {
        let time = |word: &AtomicU64| Nanos(word.load(Ordering::Relaxed));
        CpuStop {
            cpu,
            doing: Doing::from_number(self.doing.load(Ordering::Relaxed)),
            sent: time(&self.sent),
            received: time(&self.received),
            acknowledged: time(&self.acknowledged),
            rip: self.rip.load(Ordering::Relaxed),
        }
    }

    /// Wants to know by an NMI where the CPU is.
    pub(crate) fn probe(&self) {
        // Release pairs with the Acquire in `answer_probe`.
        self.probe.store(PROBED, Ordering::Release);
    }

    /// In the NMI: leaves a trace if one is wanted, and says whether it was.
    pub(crate) fn answer_probe(&self, rip: u64, doing: Doing) -> bool {
        if self.probe.load(Ordering::Acquire) != PROBED {
            return false;
        }
        self.probe_rip.store(rip, Ordering::Relaxed);
        self.probe_doing.store(doing as u32, Ordering::Relaxed);
        // Release pairs with the Acquire in `probed`.
        self.probe.store(FOUND, Ordering::Release);
        true
    }

    /// What the NMI found, once it has: the instruction, and what the CPU was doing.
    pub(crate) fn probed(&self) -> Option<(u64, Doing)> {
        if self.probe.load(Ordering::Acquire) != FOUND {
            return None;
        }
        let doing = Doing::from_number(self.probe_doing.load(Ordering::Relaxed));
        Some((self.probe_rip.load(Ordering::Relaxed), doing))
    }
}
