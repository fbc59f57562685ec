//! Ending the emulator with an exit code.

use x86_64::instructions::port::PortWriteOnly;

use crate::irq;
use crate::serial::{self, Port};

/// The port of QEMU's `isa-debug-exit` device, as the runner sets it up.
const EXIT_PORT: u16 = 0xf4;
/// Added to every code: 0 and small values are what QEMU itself exits with.
const BASE: u8 = 0x10;
/// The largest code that survives: QEMU exits with `2 * value + 1`, of which the host keeps 8 bits.
const LARGEST: u8 = 110;

/// Waits until the UARTs are empty, then ends the emulator with `code`, at most 110. On a board nothing listens there: this CPU then
/// halts for good.
pub fn exit(code: u8) -> ! {
    // What is still in them would be lost with the emulator.
    serial::drain(Port::Com1);
    serial::drain(Port::Com2);
    // SAFETY: ends the emulator. On boards 0xf0 to 0xff belong to the coprocessor of the 80386; 0xf4 is unused.
    unsafe { PortWriteOnly::<u32>::new(EXIT_PORT).write(u32::from(BASE + code.min(LARGEST))) };
    irq::halt_forever()
}
