//! What is known of the stops of the world: a record of each, and histograms by reason.

use alloc::vec::Vec;
use core::fmt;

use machine::clock::Nanos;
use sched::histogram::Histogram;

use crate::mark::CpuStop;

/// Why the world is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StopReason {
    /// [`crate::gomaxprocs()`].
    GoMaxProcs,
    /// [`crate::read_mem_stats()`].
    ReadMemStats,
    /// [`crate::write_heap_dump()`].
    WriteHeapDump,
    /// [`crate::free_os_memory()`].
    FreeOsMemory,
    /// A trace of all goroutines.
    StackTrace,
    /// [`crate::deadlocks()`].
    Deadlocks,
    /// The program's own.
    Program,
}

impl StopReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::GoMaxProcs,
        Self::ReadMemStats,
        Self::WriteHeapDump,
        Self::FreeOsMemory,
        Self::StackTrace,
        Self::Deadlocks,
        Self::Program,
    ];
}

/// Go's words, where it has them.
impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::GoMaxProcs => "GOMAXPROCS",
            Self::ReadMemStats => "read mem stats",
            Self::WriteHeapDump => "write heap dump",
            Self::FreeOsMemory => "free OS memory",
            Self::StackTrace => "all goroutines stack trace",
            Self::Deadlocks => "deadlocks",
            Self::Program => "program",
        })
    }
}

/// One stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopRecord {
    /// Stops since boot, this one included.
    pub number: u64,
    /// Why.
    pub reason: StopReason,
    /// When it began, since the start of the clock.
    pub began: Nanos,
    /// From there until every CPU had been asked that had to be: the stopper's own work.
    pub asking: Nanos,
    /// From the beginning until all CPUs had stopped.
    pub stopping: Nanos,
    /// From there until they could go on.
    pub stopped: Nanos,
    /// CPUs that had to be asked; the others slept.
    pub interrupted: u32,
    /// The CPU that stopped last; `None` when nobody else ran.
    pub last: Option<CpuStop>,
}

/// What is known of many lengths of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// The median, rounded up by a sixteenth at most; as all of these.
    pub p50: Nanos,
    /// Of a hundred, one was longer.
    pub p99: Nanos,
    /// The longest, exactly.
    pub max: Nanos,
    /// All of them together.
    pub sum: Nanos,
}

impl From<&Histogram> for Times {
    fn from(histogram: &Histogram) -> Self {
        Self {
            p50: Nanos(histogram.quantile(500)),
            p99: Nanos(histogram.quantile(990)),
            max: Nanos(histogram.max()),
            sum: Nanos(histogram.sum()),
        }
    }
}

/// The stops for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReasonStats {
    /// The reason.
    pub reason: StopReason,
    /// How many there were.
    pub count: u64,
    /// Times until all CPUs had stopped.
    pub stopping: Times,
    /// Times until they could go on.
    pub stopped: Times,
    /// The one that took longest to stop.
    pub worst: Option<StopRecord>,
}

/// All stops since boot.
#[derive(Debug, Clone)]
pub struct WorldStats {
    /// How many there were.
    pub count: u64,
    /// Each reason, in the order of [`StopReason::ALL`].
    pub reasons: Vec<ReasonStats>,
    /// The last one.
    pub last: Option<StopRecord>,
}

/// The stops for one reason, as they are kept.
#[derive(Debug, Clone)]
struct Kept {
    stopping: Histogram,
    stopped: Histogram,
    worst: Option<StopRecord>,
}

/// Pauses that are kept one by one, as in Go's `MemStats`.
pub(crate) const PAUSES: usize = 256;

/// All stops, as they are kept.
#[derive(Debug)]
pub(crate) struct Stops {
    count: u64,
    total_pause: Nanos,
    /// Length and end of the last pauses: number n is at `(n - 1) % PAUSES`.
    pauses: Vec<(Nanos, Nanos)>,
    reasons: Vec<Kept>,
    last: Option<StopRecord>,
}

impl Stops {
    pub(crate) fn new() -> Self {
        let none = Kept { stopping: Histogram::new(), stopped: Histogram::new(), worst: None };
        Self {
            count: 0,
            total_pause: Nanos(0),
            pauses: alloc::vec![(Nanos(0), Nanos(0)); PAUSES],
            reasons: alloc::vec![none; StopReason::ALL.len()],
            last: None,
        }
    }

    /// Keeps a stop, and numbers it.
    pub(crate) fn add(&mut self, mut record: StopRecord) {
        let end = record.began + record.stopping + record.stopped;
        let place = usize::try_from(self.count % PAUSES as u64).unwrap_or(0);
        self.pauses[place] = (record.stopped, end);
        self.total_pause = self.total_pause + record.stopped;
        self.count += 1;
        record.number = self.count;
        let kept = &mut self.reasons[record.reason as usize];
        kept.stopping.add(record.stopping.0);
        kept.stopped.add(record.stopped.0);
        if kept.worst.is_none_or(|worst| worst.stopping < record.stopping) {
            kept.worst = Some(record);
        }
        self.last = Some(record);
    }

    /// Of one reason.
    pub(crate) fn reason(&self, reason: StopReason) -> ReasonStats {
        let kept = &self.reasons[reason as usize];
        ReasonStats {
            reason,
            count: kept.stopping.count(),
            stopping: Times::from(&kept.stopping),
            stopped: Times::from(&kept.stopped),
            worst: kept.worst,
        }
    }

    /// Nanoseconds of all pauses.
    pub(crate) fn total_pause(&self) -> u64 {
        self.total_pause.0
    }

    /// Lengths of the last pauses, in nanoseconds.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = u64> + '_ {
        self.pauses.iter().map(|(length, _)| length.0)
    }

    /// Writes lengths and ends of the last pauses, as far as there is room, but for those up to number `known`.
    pub(crate) fn pauses_since(&self, known: u64, lengths: &mut [u64], ends: &mut [u64]) {
        // After a number that is none yet, all are written.
        let known = if known > self.count { 0 } else { known };
        for number in known.max(self.count.saturating_sub(PAUSES as u64))..self.count {
            let place = usize::try_from(number % PAUSES as u64).unwrap_or(0);
            let (length, end) = self.pauses[place];
            if let (Some(to_length), Some(to_end)) = (lengths.get_mut(place), ends.get_mut(place)) {
                (*to_length, *to_end) = (length.0, end.0);
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn last(&self) -> Option<StopRecord> {
        self.last
    }
}
