//! Shows that every CPU with a P runs goroutines, all at the same time.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use machine::apic::icr::Ipi;
use machine::irq;
use machine::percpu::Pinned;
use machine::smp;
use machine::vector::Vector;

use crate::join::go_named;
use crate::m;
use crate::park::{current, park, unpark};
use crate::stats;

/// Starts one goroutine for each P, each of which keeps its CPU until all of them are there. Returns how many came.
///
/// So it returns only if the wake-ups reach every CPU: a goroutine that waits in a queue for a CPU that sleeps would
/// keep all others waiting. A CPU that waits halts, so that many CPUs can do it on a host with few.
///
/// No other goroutine may be runnable meanwhile: it could wait for a CPU that is kept.
///
/// ```
/// assert_eq!(gzero::roll_call() as usize, gzero::stats::gomaxprocs());
/// ```
pub fn roll_call() -> u32 {
    let procs = u32::try_from(stats::gomaxprocs()).unwrap_or(u32::MAX);
    let present = Arc::new(AtomicU32::new(0));
    let gone = Arc::new(AtomicU32::new(0));
    let caller = current();
    for _ in 0..procs {
        let (present, gone) = (Arc::clone(&present), Arc::clone(&gone));
        go_named("roll call", move || {
            // Release: pairs with the Acquire in `hold_cpu`.
            if present.fetch_add(1, Ordering::AcqRel) + 1 == procs {
                smp::send_to_others(Ipi::Fixed(Vector::WAKE));
            }
            hold_cpu(|| present.load(Ordering::Acquire) == procs);
            if gone.fetch_add(1, Ordering::AcqRel) + 1 == procs {
                unpark(caller);
            }
        });
    }
    while gone.load(Ordering::Acquire) < procs {
        park();
    }
    present.load(Ordering::Relaxed)
}

/// Halts this CPU, without giving it to another goroutine, until the condition holds. Whoever makes it true sends an
/// interrupt afterwards.
fn hold_cpu(mut condition: impl FnMut() -> bool) {
    let pinned = Pinned::new();
    debug_assert!(m::current(&pinned).current().is_some());
    irq::disable();
    while !condition() {
        irq::enable_and_halt();
        irq::disable();
    }
    irq::enable();
}
