//! The interrupt descriptor table, shared by all CPUs, and the way from a vector to its handler.
//!
//! Handlers are registered from above: this crate defines the interface and calls whatever is there. A handler
//! runs on its vector's IST stack with maskable interrupts off, so it must not block, must not take a lock that
//! code with interrupts on may hold, and must be short.

use core::arch::asm;
use core::mem::transmute;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::address::at;
use crate::apic;
use crate::entry::{self, Exit, Frame};
use crate::exception;
use crate::gdt::Ist;
use crate::percpu::{self, PerCpu};
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

/// The handler of a vector.
pub fn registered(vector: Vector) -> Option<Handler> {
    let handler = HANDLERS[usize::from(vector.0)].load(Ordering::Acquire);
    // SAFETY: the table holds 0 or what `register` stored, and 0 is `None` of the option.
    unsafe { transmute::<usize, Option<Handler>>(handler) }
}

/// How the outermost handler of a maskable interrupt returns.
#[derive(Debug, Clone, Copy)]
pub enum Return {
    /// To where the frame says.
    Resume,
    /// After a call on the kernel stack, from this address downwards.
    ///
    /// An interrupt stack is entered from its top each time, so nobody may open interrupts on one and come back to what
    /// lies there. The frame is copied to the kernel stack, which the function then runs on, with interrupts off and
    /// outside of any handler. It may open interrupts, and must have them off again when it returns, by the copy.
    OnKernelStack(u64, extern "C" fn(&mut Frame)),
}

/// Decides how to return to code that is not pinned, when something is asked of this CPU ([`percpu::request`]).
/// Runs on the interrupt stack with interrupts off, and may change the frame.
pub type OnReturn = fn(&mut Frame) -> Return;

static ON_RETURN: AtomicUsize = AtomicUsize::new(0);

/// Sets what is called before the outermost handler of a maskable interrupt returns to code that is not pinned, when
/// something is asked of this CPU.
pub fn on_return(decide: OnReturn) {
    // Release: pairs with the Acquire in `leave`.
    ON_RETURN.store(decide as usize, Ordering::Release);
}

/// The Rust side of every interrupt.
#[expect(clippy::cast_possible_truncation, reason = "the stubs push vectors of one byte")]
pub(crate) extern "C" fn dispatch(frame: &mut Frame) -> Exit {
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
    if depth == 0 && !vector.is_exception() && cpu.is_asked() && cpu.locks() == 0 {
        return leave(cpu, frame);
    }
    Exit { frame, call: None }
}

/// The way out when something is asked.
#[cold]
fn leave(cpu: &PerCpu, frame: &mut Frame) -> Exit {
    let decide = ON_RETURN.load(Ordering::Acquire);
    // SAFETY: 0 is `None`; anything else was stored by `on_return`.
    let Some(decide) = (unsafe { transmute::<usize, Option<OnReturn>>(decide) }) else {
        return Exit { frame, call: None };
    };
    match decide(frame) {
        Return::Resume => Exit { frame, call: None },
        Return::OnKernelStack(top, call) => {
            debug_assert!((cpu.kernel_stack().0..=cpu.kernel_stack().1).contains(&top));
            let copy: *mut Frame = at((top - size_of::<Frame>() as u64) & !15);
            // SAFETY: the kernel stack is free below `top` (contract of `Return`), mapped whole, and the place is
            // aligned.
            unsafe { copy.write(frame.clone()) };
            Exit { frame: copy, call: Some(call) }
        }
    }
}
