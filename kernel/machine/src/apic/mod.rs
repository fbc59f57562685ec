//! The local APIC: enabling it, acknowledging interrupts, sending them.
//!
//! Two register transports exist: [`x2apic`] (model-specific registers) and [`xapic`] (a page of memory). The
//! boot CPU chooses once, all others follow; after that a flag in memory decides, never CPUID, which would
//! leave the guest under a hypervisor on every interrupt sent.

pub mod icr;
pub mod timer;
mod x2apic;
mod xapic;

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use x86_64::registers::model_specific::Msr;

use crate::cpu::{Cpu, Features};
use crate::irq::IrqGuard;
use crate::paging::MapError;
use crate::vector::Vector;
use icr::{Ipi, Target};

/// `IA32_APIC_BASE`. Intel SDM vol. 3A, "Local APIC Status and Location" and "Extended XAPIC (x2APIC)".
const APIC_BASE: u32 = 0x1b;
const BASE_BOOT_CPU: u64 = 1 << 8;
const BASE_X2APIC_ENABLE: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Register offsets in the xAPIC page; the x2APIC's model-specific register is `0x800 + offset / 16`.
/// Intel SDM vol. 3A, "The Local APIC Block Diagram".
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
enum Register {
    Id = 0x20,
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    Spurious = 0xf0,
    /// In-service bits of the vectors 224 to 255.
    InServiceLast = 0x170,
    ErrorStatus = 0x280,
    LvtTimer = 0x320,
    LvtLint0 = 0x350,
    LvtLint1 = 0x360,
    LvtError = 0x370,
    InitialCount = 0x380,
    CurrentCount = 0x390,
    DivideConfiguration = 0x3e0,
}

/// "APIC Software Enable" in the spurious-interrupt vector register.
const SOFTWARE_ENABLE: u32 = 1 << 8;
/// Mask bit of a local vector table entry.
const LVT_MASKED: u32 = 1 << 16;
/// Delivery mode NMI of a local vector table entry.
const LVT_NMI: u32 = 0b100 << 8;

/// The register transport in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Registers in memory, ids of eight bits.
    Xapic = 1,
    /// Model-specific registers, ids of 32 bits.
    X2apic = 2,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xapic => "xAPIC",
            Self::X2apic => "x2APIC",
        })
    }
}

static MODE: AtomicU8 = AtomicU8::new(0);

/// The transport that the boot CPU chose.
#[inline]
pub fn mode() -> Mode {
    // Relaxed: written before other CPUs start, and constant from then on.
    if MODE.load(Ordering::Relaxed) == Mode::X2apic as u8 { Mode::X2apic } else { Mode::Xapic }
}

/// `IA32_APIC_BASE` of this CPU.
fn base_register() -> u64 {
    // SAFETY: the register exists on every CPU with a local APIC, which x86-64 implies.
    unsafe { Msr::new(APIC_BASE).read() }
}

/// Where the CPU that asks has its register page, as a physical address; for xAPIC mode.
pub fn physical_base() -> u64 {
    base_register() & BASE_ADDRESS
}

/// Chooses the transport, on the boot CPU: x2APIC when the CPU has it or the firmware left it on, else xAPIC
/// with its registers mapped from where this CPU has them.
///
/// # Errors
/// [`MapError`] when the register page cannot be mapped.
pub fn choose() -> Result<Mode, MapError> {
    let base = base_register();
    let mode = if Cpu::identify().features.contains(Features::X2APIC) || base & BASE_X2APIC_ENABLE != 0 {
        Mode::X2apic
    } else {
        Mode::Xapic
    };
    if mode == Mode::Xapic {
        xapic::map(physical_base())?;
    }
    MODE.store(mode as u8, Ordering::Relaxed);
    Ok(mode)
}

/// Puts this CPU's local APIC into the chosen mode and returns its id. It delivers nothing new yet.
pub fn enter_mode() -> u32 {
    let mut msr = Msr::new(APIC_BASE);
    let base = base_register();
    if base & BASE_ENABLE == 0 {
        // SAFETY: from disabled to xAPIC mode is a legal step.
        unsafe { msr.write(base | BASE_ENABLE) };
    }
    if mode() == Mode::X2apic && base & BASE_X2APIC_ENABLE == 0 {
        // SAFETY: from xAPIC to x2APIC mode is a legal step; the CPU has the mode (`choose`).
        unsafe { msr.write(base | BASE_ENABLE | BASE_X2APIC_ENABLE) };
    }
    id()
}

/// Lets this CPU's local APIC deliver interrupts, with its timer masked.
///
/// It is in the chosen mode ([`enter_mode`]). Interrupts are off, and this CPU's block and interrupt table are
/// loaded: an NMI may come at once.
pub fn enable() {
    // First: while the APIC is disabled by software it keeps every entry masked, whatever is written. Intel SDM
    // vol. 3A, "Local APIC State After It Has Been Software Disabled".
    write(Register::Spurious, SOFTWARE_ENABLE | u32::from(Vector::SPURIOUS.0));
    write(Register::TaskPriority, 0);
    write(Register::LvtTimer, LVT_MASKED);
    // Virtual wire: LINT0 of the boot CPU carries the legacy controller, which is masked, and LINT1 the board's NMI.
    // On boards that lead it to every CPU, one is enough to report it.
    write(Register::LvtLint0, LVT_MASKED);
    let first = base_register() & BASE_BOOT_CPU != 0;
    write(Register::LvtLint1, if first { LVT_NMI } else { LVT_MASKED });
    write(Register::ErrorStatus, 0);
    write(Register::LvtError, u32::from(Vector::APIC_ERROR.0));
}

/// This CPU's APIC id.
pub fn id() -> u32 {
    match mode() {
        Mode::Xapic => read(Register::Id) >> 24,
        Mode::X2apic => read(Register::Id),
    }
}

/// Acknowledges the interrupt in service.
#[inline]
pub(crate) fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

/// Whether a genuine interrupt with the spurious vector is in service on this CPU.
pub(crate) fn spurious_in_service() -> bool {
    read(Register::InServiceLast) & 1 << (Vector::SPURIOUS.0 % 32) != 0
}

/// The errors since the last call, as the bits of the error status register.
pub fn take_errors() -> u32 {
    write(Register::ErrorStatus, 0);
    read(Register::ErrorStatus)
}

/// Sends an inter-processor interrupt.
///
/// May be called with interrupts on or off, from any stack.
pub fn send(ipi: Ipi, target: Target) {
    match mode() {
        Mode::X2apic => x2apic::send(icr::command(ipi, target), target),
        Mode::Xapic => {
            // Two registers: an interrupt handler that sends in between would change the target.
            let _guard = IrqGuard::new();
            xapic::send(icr::command(ipi, target), target);
        }
    }
}

fn read(register: Register) -> u32 {
    match mode() {
        Mode::Xapic => xapic::read(register as u32),
        Mode::X2apic => x2apic::read(register as u32),
    }
}

fn write(register: Register, value: u32) {
    match mode() {
        Mode::Xapic => xapic::write(register as u32, value),
        Mode::X2apic => x2apic::write(register as u32, value),
    }
}
