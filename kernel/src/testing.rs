//! What tests need to look at or to break, and programs do not.

pub use machine::clock::now;
pub use machine::exception::invalid_opcode;
pub use machine::paging::{Audit, audit, translate};
pub use machine::power::triple_fault;

use core::sync::atomic::{AtomicU32, Ordering};

use machine::apic;
use machine::apic::icr::{Ipi, Target};
use machine::clock::{self, Nanos};
use machine::idt;
use machine::irq;
use machine::percpu::{self, CpuId, Pinned};
use machine::vector::Vector;

use crate::m;

/// The CPU that the caller was on a moment ago.
pub fn cpu() -> CpuId {
    m::current(&Pinned::new()).block.id()
}

/// Keeps this CPU with interrupts off for ever.
pub fn hang() -> ! {
    irq::disable();
    loop {
        core::hint::spin_loop();
    }
}

/// Halts this CPU with an interrupt pending, and returns how many times: the interrupt has to end each halt.
pub fn halt_with_interrupt_pending(rounds: u32) -> u32 {
    let _pinned = Pinned::new();
    for _ in 0..rounds {
        irq::disable();
        apic::send(Ipi::Fixed(Vector::WAKE), Target::Myself);
        irq::enable_and_halt();
    }
    rounds
}

/// Vector that the last interrupt of [`interrupt_self`] came in with, and how many came.
static SEEN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

/// Sends this CPU an interrupt and returns how many of that vector arrived within a second: 1.
///
/// Replaces the vector's handler while it waits; afterwards interrupts of that vector are ignored.
pub fn interrupt_self(vector: u8) -> u32 {
    let pinned = Pinned::new();
    SEEN[0].store(u32::from(vector), Ordering::Relaxed);
    SEEN[1].store(0, Ordering::Relaxed);
    idt::register(Vector(vector), |frame| {
        if frame.vector == u64::from(SEEN[0].load(Ordering::Relaxed)) {
            SEEN[1].fetch_add(1, Ordering::Release);
        }
    });
    let before = percpu::current(&pinned).interrupts();
    apic::send(Ipi::Fixed(Vector(vector)), Target::Myself);
    let deadline = Nanos(now().0 + 1_000_000_000);
    clock::spin_until(deadline, || SEEN[1].load(Ordering::Acquire) > 0);
    let handled = percpu::current(&pinned).interrupts() > before;
    idt::register(Vector(vector), |_| {});
    if handled { SEEN[1].load(Ordering::Acquire) } else { 0 }
}
