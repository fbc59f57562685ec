//! The interrupt descriptor table, shared by all CPUs, and the way from a vector to its handler.
//!
//! Handlers are registered from above: this crate defines the interface and calls whatever is there. A handler
//! runs on its vector's IST stack with maskable interrupts off, so it must not block, must not take a lock that
//! code with interrupts on may hold, and must be short.

use core::arch::asm;
use core::mem::transmute;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::apic;
use crate::entry::{self, Frame};
use crate::exception;
use crate::gdt::Ist;
use crate::percpu;
use crate::vector::Vector;

/// A handler of one vector.
pub type Handler = fn(&mut Frame);

/// A 64-bit interrupt gate. Intel SDM vol. 3A, "64-Bit Mode IDT".
#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    /// Present, privilege 0, interrupt gate: the flag IF is cleared on entry.
    attributes: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

const INTERRUPT_GATE: u8 = 0x8e;
/// The code segment is the first entry after the null descriptor in every CPU's table.
const CODE_SELECTOR: u16 = 0x08;

impl Gate {
    #[expect(clippy::cast_possible_truncation, reason = "the fields hold parts of the address")]
    const fn new(address: u64, ist: Ist) -> Self {
        Self {
            offset_low: address as u16,
            selector: CODE_SELECTOR,
            ist: ist as u8,
            attributes: INTERRUPT_GATE,
            offset_middle: (address >> 16) as u16,
            offset_high: (address >> 32) as u32,
            reserved: 0,
        }
    }
}

#[repr(C, align(16))]
struct Table([Gate; 256]);

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Offset of the table's last byte.
const LIMIT: u16 = 256 * 16 - 1;
const _: () = assert!(size_of::<Table>() == LIMIT as usize + 1);

static TABLE: spin::Once<Table> = spin::Once::new();
static HANDLERS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];

/// Loads the table on this CPU. The first call builds it.
///
/// The CPU's segments ([`crate::gdt::load`]) and per-CPU block are in place.
pub fn load() {
    let table = TABLE.call_once(build);
    let pointer = Pointer { limit: LIMIT, base: core::ptr::from_ref(table).addr() as u64 };
    // SAFETY: the table lives for ever, all its gates lead to stubs, and the slots they name have stacks.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}

#[expect(clippy::large_stack_frames, reason = "runs once, on the boot CPU's stack of 128 KiB")]
fn build() -> Table {
    let mut gates = [Gate::new(0, Ist::Exception); 256];
    for (vector, gate) in (0u8..=255).zip(&mut gates) {
        let stub = entry::stubs_start() + u64::from(vector) * entry::STUB_SIZE;
        *gate = Gate::new(stub, Ist::of(Vector(vector)));
    }
    Table(gates)
}

/// Sets the handler of a vector. Maskable vectors are acknowledged before the handler runs.
pub fn register(vector: Vector, handler: Handler) {
    // Release: pairs with the Acquire in `dispatch`; what the handler relies on is set up before.
    HANDLERS[usize::from(vector.0)].store(handler as usize, Ordering::Release);
}

fn registered(vector: Vector) -> Option<Handler> {
    let handler = HANDLERS[usize::from(vector.0)].load(Ordering::Acquire);
    // SAFETY: the table holds 0 or what `register` stored, and 0 is `None` of the option.
    unsafe { transmute::<usize, Option<Handler>>(handler) }
}

/// The Rust side of every interrupt.
#[expect(clippy::cast_possible_truncation, reason = "the stubs push vectors of one byte")]
pub(crate) extern "C" fn dispatch(frame: &mut Frame) {
    let vector = Vector(frame.vector as u8);
    let cpu = percpu::of_this_cpu();
    // Relaxed: read by this CPU, and by others for reports only.
    let depth = cpu.interrupt_depth.load(Ordering::Relaxed);
    cpu.interrupt_depth.store(depth + 1, Ordering::Relaxed);
    cpu.count_interrupt();
    // A spurious interrupt is not in service. A genuine one of the same vector is, and blocks all others until
    // it is acknowledged.
    if !vector.is_exception() && (vector != Vector::SPURIOUS || apic::spurious_in_service()) {
        apic::end_of_interrupt();
    }
    match registered(vector) {
        Some(handler) => handler(frame),
        None if vector.is_exception() => exception::handle(frame),
        None => log::warn!("interrupt {:#04x} has no handler on cpu {}", vector.0, cpu.id().0),
    }
    cpu.interrupt_depth.store(depth, Ordering::Relaxed);
}
