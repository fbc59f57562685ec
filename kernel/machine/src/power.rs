//! Resetting the machine.

use core::arch::asm;

use x86_64::instructions::port::{Port, PortWriteOnly};

use crate::acpi::{Register, ResetRegister};
use crate::irq;
use crate::window::PhysWindow;

/// Status (read) and command (write) port of the keyboard controller.
const KEYBOARD_COMMAND: u16 = 0x64;
/// Status bit: the controller has not taken the last command yet.
const INPUT_FULL: u8 = 1 << 1;
/// Command: pulse the line that resets the CPU.
const PULSE_RESET: u8 = 0xfe;
/// Reads of a port that together last some milliseconds: the time a reset takes to strike.
const PATIENCE: u32 = 100_000;

/// Resets the machine: by the ACPI reset register if there is one, else through the keyboard controller.
///
/// Halts for good where neither works. Other CPUs run on until the reset strikes.
pub fn reset(register: Option<ResetRegister>, window: PhysWindow) -> ! {
    let off = irq::IrqGuard::new();
    if let Some(register) = register {
        acpi_reset(register, window);
    }
    keyboard_reset();
    drop(off);
    irq::halt_forever()
}

/// ACPI specification, "Reset Register": writing the value resets the machine, perhaps a little later.
fn acpi_reset(reset: ResetRegister, window: PhysWindow) {
    match reset.register {
        Register::Port(port) => {
            // SAFETY: the firmware names this port and value for a reset.
            unsafe { PortWriteOnly::<u8>::new(port).write(reset.value) };
        }
        Register::Memory(address) => {
            let Some(byte) = window.virt(address, 1) else { return };
            // SAFETY: mapped, and the firmware names this byte and value for a reset.
            unsafe { byte.write_volatile(reset.value) };
        }
    }
    wait_for_keyboard(|_| false);
}

fn keyboard_reset() {
    wait_for_keyboard(|status| status & INPUT_FULL == 0);
    // SAFETY: the command resets the machine; where there is no controller, nobody hears it.
    unsafe { PortWriteOnly::<u8>::new(KEYBOARD_COMMAND).write(PULSE_RESET) };
    wait_for_keyboard(|_| false);
}

/// Reads the controller's status until `done`, but not for ever: without a controller it is all ones.
fn wait_for_keyboard(done: impl Fn(u8) -> bool) {
    let mut status = Port::<u8>::new(KEYBOARD_COMMAND);
    for _ in 0..PATIENCE {
        // SAFETY: reading the status has no effect.
        if done(unsafe { status.read() }) {
            return;
        }
    }
}

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
