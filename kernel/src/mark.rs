//! What one CPU leaves behind in a stop of the world: when it was asked, when it answered, and what it was doing.
//!
//! The fields are written by the CPU itself, in the stop's interrupt and where it stops, but for what asks it by NMI. The stopper reads
//! them when it sees that the gate has changed, which orders them; a look at one that is late is a hint. All interrupts of a stop are sent at
//! about one time, which the stopper keeps.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::backtrace::Pc;
use machine::clock::Nanos;
use machine::irq::IrqGuard;

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

/// The next NMI on the CPU shall leave a trace.
const PROBED: u32 = 1;
/// It has. Until a CPU is asked again, and at first (0), nothing is wanted.
const FOUND: u32 = 2;

/// The words behind a [`CpuStop`]. They are those of one stop, whose number they carry: so a stop begins without a write to
/// every CPU's mark.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Mark {
    /// The last stop that this CPU has followed, or has begun to.
    stop: AtomicU64,
    doing: AtomicU32,
    probe: AtomicU32,
    received: AtomicU64,
    acknowledged: AtomicU64,
    rip: AtomicU64,
    /// The stop in which it was asked by NMI, and what that found: the instruction, and what the CPU was doing.
    probe_stop: AtomicU64,
    probe_rip: AtomicU64,
    probe_doing: AtomicU32,
}

// Relaxed everywhere but for `probe`: the head of this file says what orders the rest.
impl Mark {
    /// The interrupt of the stop with this number has come. What the first one finds is kept; each sets the time at which the
    /// CPU has stopped, for the case that it does at the end of the handler.
    pub(crate) fn received(&self, stop: u64, now: Nanos, rip: u64, doing: impl FnOnce() -> Doing) {
        if self.stop.load(Ordering::Relaxed) != stop {
            self.begin(stop, now, rip, doing());
        }
        self.acknowledged.store(now.0, Ordering::Relaxed);
    }

    fn begin(&self, stop: u64, received: Nanos, rip: u64, doing: Doing) {
        self.doing.store(doing as u32, Ordering::Relaxed);
        self.received.store(received.0, Ordering::Relaxed);
        self.rip.store(rip, Ordering::Relaxed);
        self.stop.store(stop, Ordering::Relaxed);
    }

    /// The CPU stops, not at the end of the stop's handler, and asked by it or not. The interrupt may come meanwhile.
    pub(crate) fn acknowledged(&self, stop: u64, now: Nanos, doing: Doing) {
        if self.stop.load(Ordering::Relaxed) != stop {
            self.begin_unasked(stop, doing);
        }
        self.acknowledged.store(now.0, Ordering::Relaxed);
    }

    #[cold]
    fn begin_unasked(&self, stop: u64, doing: Doing) {
        // Else the interrupt's words would be mixed with these.
        let _off = IrqGuard::new();
        if self.stop.load(Ordering::Relaxed) != stop {
            self.begin(stop, Nanos(0), 0, doing);
        }
    }

    /// When the CPU stopped in the last stop that it has followed.
    fn stopped(&self) -> Nanos {
        // The interrupt may have come after the look at the clock and before the time was stored.
        let times = [&self.acknowledged, &self.received].map(|word| word.load(Ordering::Relaxed));
        Nanos(times[0].max(times[1]))
    }

    /// When the CPU stopped in a stop; 0: it did not.
    pub(crate) fn time_of(&self, stop: u64) -> Nanos {
        let is_of_it = self.stop.load(Ordering::Relaxed) == stop;
        if is_of_it { self.stopped() } else { Nanos(0) }
    }

    /// The part in a stop of the CPU with this number, which was asked then, if it was asked.
    pub(crate) fn read(&self, stop: u64, cpu: u32, sent: Nanos) -> Option<CpuStop> {
        (self.stop.load(Ordering::Relaxed) == stop).then(|| CpuStop {
            cpu,
            doing: Doing::from_number(self.doing.load(Ordering::Relaxed)),
            sent,
            received: Nanos(self.received.load(Ordering::Relaxed)),
            acknowledged: self.stopped(),
            rip: self.rip.load(Ordering::Relaxed),
        })
    }

    /// Wants to know by an NMI where the CPU is, in the stop with this number.
    pub(crate) fn probe(&self, stop: u64) {
        self.probe_stop.store(stop, Ordering::Relaxed);
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

    /// What the NMI of the stop with this number has found, once it has: the instruction, and what the CPU was doing.
    pub(crate) fn probed(&self, stop: u64) -> Option<(u64, Doing)> {
        if self.probe_stop.load(Ordering::Relaxed) != stop || self.probe.load(Ordering::Acquire) != FOUND {
            return None;
        }
        let doing = Doing::from_number(self.probe_doing.load(Ordering::Relaxed));
        Some((self.probe_rip.load(Ordering::Relaxed), doing))
    }
}
