//! Control registers: one set of values for every CPU.
//!
//! Firmware leaves them different (BIOS without machine checks, UEFI with SSE on), so nothing is inherited.

use core::arch::asm;

use x86_64::registers::model_specific::Msr;

/// Values for CR0, CR4 and EFER.
#[derive(Debug, Clone, Copy)]
pub struct ControlRegisters {
    /// CR0.
    pub cr0: u32,
    /// CR4.
    pub cr4: u32,
    /// EFER, without the bit that the CPU sets itself (LMA).
    pub efer: u32,
}

/// Protected mode, monitor coprocessor, extension type, native FPU errors, write protection also in the
/// kernel, paging. Intel SDM vol. 3A, "Control Registers".
const CR0: u32 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// Physical address extension, machine checks, global pages.
const CR4: u32 = 1 << 5 | 1 << 6 | 1 << 7;
/// Long mode, no-execute pages.
const EFER: u32 = 1 << 8 | 1 << 11;
const EFER_MSR: u32 = 0xc000_0080;
/// Long mode active: read-only, and kept when the register is written.
const EFER_ACTIVE: u64 = 1 << 10;

/// The values that all CPUs run with.
pub const REGISTERS: ControlRegisters = ControlRegisters { cr0: CR0, cr4: CR4, efer: EFER };

/// Loads the values on the boot CPU. Application processors load them on their way into long mode.
///
/// Call after the interrupt table is loaded: a pending machine check is delivered from here on.
pub fn install() {
    // SAFETY: keeps paging and long mode as they are; no-execute is on already, or the boot loader's tables
    // would not have worked.
    unsafe { Msr::new(EFER_MSR).write(u64::from(EFER) | EFER_ACTIVE) };
    // SAFETY: paging stays on; write protection is what the rest of the kernel assumes.
    unsafe { asm!("mov cr0, {}", in(reg) u64::from(CR0), options(nostack, preserves_flags)) };
    // SAFETY: PAE stays on; turns off what nobody uses.
    unsafe { asm!("mov cr4, {}", in(reg) u64::from(CR4), options(nostack, preserves_flags)) };
}
