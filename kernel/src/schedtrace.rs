//! The scheduler's trace: one line of numbers at intervals, in the words of Go's `GODEBUG=schedtrace`.
//!
//! The boot argument `schedtrace=MS` turns it on. The boot CPU's timer is kept armed for it, so such a machine is never
//! without interrupts.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::clock::{self, Nanos};
use sched::timers::NEVER;

use crate::locks;
use crate::m::M;
use crate::runtime::Runtime;

/// Time between two lines, in milliseconds.
static MILLIS: AtomicU32 = AtomicU32::new(0);
/// When the next line is due.
static NEXT: AtomicU64 = AtomicU64::new(NEVER);

/// Turns the trace on, before the scheduler starts; 0 leaves it off.
pub(crate) fn set(millis: u32) {
    if millis > 0 {
        // Relaxed, both: no other CPU looks yet.
        MILLIS.store(millis, Ordering::Relaxed);
        NEXT.store(clock::now().0, Ordering::Relaxed);
    }
}

/// When this CPU has to print the next line: the boot CPU only.
pub(crate) fn next(m: &M) -> u64 {
    // Relaxed, here and below: only the boot CPU reads or writes it.
    if m.index == 0 { NEXT.load(Ordering::Relaxed) } else { NEVER }
}

/// Whether this CPU has to print a line now. Then the next one is due an interval later.
pub(crate) fn is_due(m: &M, now: Nanos) -> bool {
    let due = next(m) <= now.0;
    if due {
        let period = Nanos::from_millis(MILLIS.load(Ordering::Relaxed).into());
        NEXT.store((now + period).0, Ordering::Relaxed);
    }
    due
}

/// Prints one line. Not for handlers: a line takes its time.
pub(crate) fn print(rt: &Runtime) {
    /// The lengths of all local run queues.
    struct Queues<'r>(&'r Runtime);

    impl fmt::Display for Queues<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (i, proc) in self.0.procs().iter().enumerate() {
                let space = if i == 0 { "" } else { " " };
                write!(f, "{space}{}", proc.queue().len())?;
            }
            Ok(())
        }
    }
    /// The locks that CPUs have found busy since boot: how often they waited and how often they went elsewhere, and how often the
    /// locks were taken.
    struct Contended;

    impl fmt::Display for Contended {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (i, locks) in locks::locks().filter(|locks| locks.contended + locks.passed > 0).enumerate() {
                let space = if i == 0 { "" } else { " " };
                write!(f, "{space}{}:{}+{}/{}", locks.kind, locks.contended, locks.passed, locks.taken)?;
            }
            Ok(())
        }
    }
    let asleep = rt.ms.iter().filter(|m| !rt.world.is_running(m.index)).count();
    crate::println!(
        "SCHED {}ms: gomaxprocs={} idleprocs={} threads={} spinningthreads={} needspinning=0 idlethreads={asleep} \
         runqueue={} [{}] contended=[{}]",
        clock::now().0 / 1_000_000,
        rt.gomaxprocs(),
        rt.idle.idle_count() + rt.gomaxprocs().saturating_sub(u32::try_from(rt.procs().len()).unwrap_or(0)),
        rt.ms.len(),
        rt.idle.spinning_count(),
        rt.sources().global.len(),
        Queues(rt),
        Contended
    );
}
