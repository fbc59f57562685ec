//! xAPIC: registers are words in a page of memory, ids have eight bits, and a command is two writes.
//!
//! Intel SDM vol. 3A, "Local APIC" (register address map).

use core::hint;
use core::sync::atomic::{AtomicU64, Ordering};

use super::icr::{self, SEND_PENDING, Target};
use crate::address::at;
use crate::paging::{self, MapError};

const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;

/// Turns of the wait for an earlier command. Hardware needs microseconds; a dead APIC must not hang the sender.
const MAX_WAIT: u32 = 1_000_000;

/// Virtual address of the register page.
static BASE: AtomicU64 = AtomicU64::new(0);

pub(super) fn map(physical: u64) -> Result<(), MapError> {
    // Relaxed: other CPUs start later.
    BASE.store(paging::map_device(physical)?, Ordering::Relaxed);
    Ok(())
}

fn register(offset: u32) -> *mut u32 {
    at(BASE.load(Ordering::Relaxed) + u64::from(offset))
}

pub(super) fn read(offset: u32) -> u32 {
    // SAFETY: the page is mapped uncached and the offset is a register's.
    unsafe { register(offset).read_volatile() }
}

pub(super) fn write(offset: u32, value: u32) {
    // SAFETY: as in `read`.
    unsafe { register(offset).write_volatile(value) };
}

/// Interrupts are off: the two writes belong together.
pub(super) fn send(command: u32, target: Target) {
    for _ in 0..MAX_WAIT {
        if read(ICR_LOW) & SEND_PENDING == 0 {
            break;
        }
        hint::spin_loop();
    }
    write(ICR_HIGH, icr::destination(target) << 24);
    // The write to the low half sends. It cannot pass the one before: stores to uncached memory stay in order.
    write(ICR_LOW, command);
}
