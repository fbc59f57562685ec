//! x2APIC: registers are model-specific registers, ids have 32 bits, and a command is one write.
//!
//! Intel SDM vol. 3A, "x2APIC Register Address Space".

use core::arch::asm;

use x86_64::registers::model_specific::Msr;

use super::icr::{self, Target};

const FIRST: u32 = 0x800;
const ICR: u32 = 0x830;

const fn msr(offset: u32) -> Msr {
    Msr::new(FIRST + offset / 16)
}

#[expect(clippy::cast_possible_truncation, reason = "the upper half of these registers is reserved")]
pub(super) fn read(offset: u32) -> u32 {
    // SAFETY: the mode is x2APIC and the caller's enum names existing registers.
    unsafe { msr(offset).read() as u32 }
}

pub(super) fn write(offset: u32, value: u32) {
    // SAFETY: as in `read`; the values are those that the manual allows.
    unsafe { msr(offset).write(u64::from(value)) };
}

pub(super) fn send(command: u32, target: Target) {
    // A write to a model-specific register of the x2APIC is not serialising and no memory access either: what the
    // receiver is to find in memory must be visible first (mfence), and the write must wait for that (lfence).
    // SDM, "MSR Access in x2APIC Mode".
    // SAFETY: fences change nothing. Without `nomem`: the compiler must not move stores behind them.
    unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
    let value = u64::from(icr::destination(target)) << 32 | u64::from(command);
    // SAFETY: a command that `icr` built.
    unsafe { Msr::new(ICR).write(value) };
}
