//! QEMU's debug console: a port that takes bytes (`-debugcon`).

use x86_64::instructions::port::Port;

const PORT: u16 = 0xe9;

/// Whether there is one: the port then reads as its own number, and elsewhere as ones.
pub fn is_present() -> bool {
    // SAFETY: reading has no effect, whatever is there.
    u16::from(unsafe { Port::<u8>::new(PORT).read() }) == PORT
}

/// Sends bytes as they are. Without a debug console they are lost.
pub fn write(bytes: &[u8]) {
    let mut port = Port::<u8>::new(PORT);
    for byte in bytes {
        // SAFETY: the console takes any byte; where there is none, nothing listens at this port.
        unsafe { port.write(*byte) };
    }
}
