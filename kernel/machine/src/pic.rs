//! The legacy interrupt controllers: masked, so that only local APICs interrupt.

use x86_64::instructions::port::Port;

/// Interrupt mask registers of the two 8259A, "Operation Command Word 1".
const MASKS: [u16; 2] = [0x21, 0xa1];

/// Masks all sixteen lines. Harmless on a machine without the controllers.
pub fn disable() {
    for port in MASKS {
        let mut mask: Port<u8> = Port::new(port);
        // SAFETY: the port belongs to the controller or to nothing; a masked line interrupts nobody.
        unsafe { mask.write(0xff) };
    }
}
