//! The interrupt flag: a guard that clears it, and the one way to halt until an interrupt.

use core::arch::asm;
use core::marker::PhantomData;

/// The interrupt flag (IF) in RFLAGS. Intel SDM vol. 1, "EFLAGS Register".
const IF: u64 = 1 << 9;

/// Whether this CPU takes maskable interrupts.
pub fn enabled() -> bool {
    let flags: u64;
    // SAFETY: reads RFLAGS through the stack and changes nothing.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(nomem, preserves_flags)) };
    flags & IF != 0
}

/// Keeps maskable interrupts off on this CPU; the drop puts the flag back as it was.
///
/// Neither `Send` nor `Sync`: the flag belongs to the CPU that cleared it.
#[must_use = "interrupts come back on when the guard is dropped"]
#[derive(Debug)]
pub struct IrqGuard {
    was_enabled: bool,
    not_send: PhantomData<*mut ()>,
}

impl IrqGuard {
    /// Turns maskable interrupts off, if they are on.
    pub fn new() -> Self {
        let was_enabled = enabled();
        disable();
        Self { was_enabled, not_send: PhantomData }
    }
}

impl Default for IrqGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for IrqGuard {
    fn drop(&mut self) {
        if self.was_enabled {
            enable();
        }
    }
}

/// Turns maskable interrupts on.
///
/// The caller has loaded this CPU's interrupt table and per-CPU block.
pub fn enable() {
    // SAFETY: every vector has a handler once the table is loaded (the caller's contract). Without `nomem`:
    // what is written before must be visible to a handler, as at the release of a lock.
    unsafe { asm!("sti", options(nostack, preserves_flags)) };
}

/// Turns maskable interrupts off.
pub fn disable() {
    // SAFETY: delays interrupts, touches no memory that Rust knows. Without `nomem`: nothing that comes
    // after may be read before.
    unsafe { asm!("cli", options(nostack, preserves_flags)) };
}

/// Turns interrupts on and halts until one has been handled.
///
/// Call with interrupts off, after the last check that there is nothing to do. `sti` takes effect only
/// after the next instruction (Intel SDM vol. 2B, "STI"), so an interrupt that came between the check and
/// the `hlt` ends the `hlt` at once: there is no window in which it is handled first and the CPU then
/// sleeps through it. Returns with interrupts on.
///
/// # Panics
/// In debug builds, when interrupts are on: then the last check proves nothing.
pub fn enable_and_halt() {
    debug_assert!(!enabled(), "halting with interrupts on loses a wake-up that came since the last check");
    // SAFETY: both instructions in one block, so that nothing comes between them.
    unsafe { asm!("sti", "hlt", options(nostack, preserves_flags)) };
}

/// Stops this CPU for good. Only NMI, SMI, INIT or reset can still reach it, and each returns to the halt.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: turns interrupts off and waits; nothing follows.
        unsafe { asm!("cli", "hlt", options(nomem, nostack, preserves_flags)) };
    }
}
