//! Resetting the machine.

use core::arch::asm;

/// An interrupt table without entries.
#[repr(C, packed)]
struct NoTable {
    limit: u16,
    base: u64,
}

/// Resets the machine the hard way: an exception that cannot be delivered, nor the double fault after it.
///
/// Intel SDM vol. 3A, "Interrupt 8 — Double Fault Exception (#DF)": the CPU shuts down, and boards reset then.
pub fn triple_fault() -> ! {
    let table = NoTable { limit: 0, base: 0 };
    // SAFETY: nothing runs after this, so nothing misses the interrupt table.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const table, options(noreturn)) }
}
