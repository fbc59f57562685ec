//! The interrupt command register: what can be sent, and to whom.
//!
//! Intel SDM vol. 3A, "Issuing Interprocessor Interrupts".

use crate::vector::Vector;

/// An inter-processor interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipi {
    /// Puts a CPU into wait-for-SIPI state.
    Init,
    /// Starts a CPU that waits, in real mode at physical address `page * 4096`.
    Startup {
        /// Number of the page below 1 MiB.
        page: u8,
    },
    /// An ordinary interrupt.
    Fixed(Vector),
    /// A non-maskable interrupt.
    Nmi,
}

/// Who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The CPU with this APIC id.
    One(u32),
    /// The sender.
    Myself,
    /// Every CPU of the machine but the sender, also those that are not ours: see [`crate::smp::broadcast`].
    AllOthers,
}

const MODE_NMI: u32 = 0b100 << 8;
const MODE_INIT: u32 = 0b101 << 8;
const MODE_STARTUP: u32 = 0b110 << 8;
/// "Level: assert", required for all but INIT de-assert.
const ASSERT: u32 = 1 << 14;
const TO_SELF: u32 = 0b01 << 18;
const TO_ALL_OTHERS: u32 = 0b11 << 18;
/// "Delivery Status: send pending", xAPIC only.
pub(super) const SEND_PENDING: u32 = 1 << 12;

/// The low half of the command.
pub(super) fn command(ipi: Ipi, target: Target) -> u32 {
    let what = match ipi {
        Ipi::Init => MODE_INIT,
        Ipi::Startup { page } => MODE_STARTUP | u32::from(page),
        Ipi::Fixed(vector) => u32::from(vector.0),
        Ipi::Nmi => MODE_NMI,
    };
    let shorthand = match target {
        Target::One(_) => 0,
        Target::Myself => TO_SELF,
        Target::AllOthers => TO_ALL_OTHERS,
    };
    what | ASSERT | shorthand
}

/// The target's id, or 0 where the shorthand says it all.
pub(super) const fn destination(target: Target) -> u32 {
    match target {
        Target::One(id) => id,
        Target::Myself | Target::AllOthers => 0,
    }
}
