//! What a P has done since boot, for the table at the end and for the scheduler's trace.

use crate::sync::Plain64;

/// A number that only the CPU holding the P raises, and that anyone may read.
#[derive(Debug, Default)]
pub struct Tally(Plain64);

impl Tally {
    /// Raises the number by `amount`.
    pub fn add(&self, amount: u64) {
        self.0.add(amount);
    }

    /// The number, at about this moment.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// The counters of one P; reached for writing through [`Owner::counters`](crate::processor::Owner::counters).
#[derive(Debug, Default)]
pub struct Counters {
    /// Times that a goroutine was switched to.
    pub run: Tally,
    /// Goroutines started here.
    pub spawned: Tally,
    /// Goroutines that ended here.
    pub exited: Tally,
    /// Successful steals by this P.
    pub steals: Tally,
    /// Goroutines that these steals moved here.
    pub stolen: Tally,
    /// Idle Ps that this one woke.
    pub wakes: Tally,
    /// Times that a goroutine parked here.
    pub parks: Tally,
    /// Times that a goroutine was made to give way at the end of its slice.
    pub preempted: Tally,
    /// Waits for a semaphore that ended here.
    pub sema_waits: Tally,
    /// How long these took until they were readied, by the clock of the kernel: ticks of the TSC.
    pub sema_wait_ticks: Tally,
    /// Time without work, in nanoseconds.
    pub idle_nanos: Tally,
    /// Times that the P went idle.
    pub idle_periods: Tally,
}

/// The numbers of [`Counters`] at about one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Times that a goroutine was switched to.
    pub run: u64,
    /// Goroutines started here.
    pub spawned: u64,
    /// Goroutines that ended here.
    pub exited: u64,
    /// Successful steals by this P.
    pub steals: u64,
    /// Goroutines that these steals moved here.
    pub stolen: u64,
    /// Idle Ps that this one woke.
    pub wakes: u64,
    /// Times that a goroutine parked here.
    pub parks: u64,
    /// Times that a goroutine was made to give way at the end of its slice.
    pub preempted: u64,
    /// Waits for a semaphore that ended here.
    pub sema_waits: u64,
    /// How long these took until they were readied, in nanoseconds.
    pub sema_wait_nanos: u64,
    /// Time without work, in nanoseconds.
    pub idle_nanos: u64,
    /// Times that the P went idle.
    pub idle_periods: u64,
}

impl Counters {
    /// Reads all counters, one after the other. `nanos` says how many nanoseconds so many ticks are.
    pub fn snapshot(&self, nanos: impl FnOnce(u64) -> u64) -> Snapshot {
        Snapshot {
            run: self.run.get(),
            spawned: self.spawned.get(),
            exited: self.exited.get(),
            steals: self.steals.get(),
            stolen: self.stolen.get(),
            wakes: self.wakes.get(),
            parks: self.parks.get(),
            preempted: self.preempted.get(),
            sema_waits: self.sema_waits.get(),
            sema_wait_nanos: nanos(self.sema_wait_ticks.get()),
            idle_nanos: self.idle_nanos.get(),
            idle_periods: self.idle_periods.get(),
        }
    }
}
