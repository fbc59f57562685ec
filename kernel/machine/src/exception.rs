//! What happens at a CPU exception that nobody has registered for.
//!
//! Page faults on stacks that are mapped on first touch are served here. Everything else is the end: the report
//! goes to the function that the kernel registered with [`on_fatal`].

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use bitflags::bitflags;
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr2, Cr3};

use crate::entry::Frame;
use crate::irq;
use crate::stack::{self, Fault, StackId};
use crate::vector::Vector;

bitflags! {
    /// The error code of a page fault. Intel SDM vol. 3A, "Page-Fault Exception (#PF)".
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PageFaultCode: u64 {
        /// The page is mapped, but not for this kind of access.
        const PROTECTION = 1 << 0;
        /// A write.
        const WRITE = 1 << 1;
        /// From user mode.
        const USER = 1 << 2;
        /// A reserved bit is set in a page-table entry.
        const RESERVED_BIT = 1 << 3;
        /// An instruction fetch.
        const FETCH = 1 << 4;
    }
}

/// An exception that ends the machine.
#[derive(Debug)]
pub enum Fatal<'f> {
    /// A stack that is mapped on first touch ran into its guard page.
    StackOverflow {
        /// Which one.
        stack: StackId,
        /// The registers.
        frame: &'f Frame,
    },
    /// A kernel stack ran into its guard page.
    KernelStackOverflow {
        /// The registers.
        frame: &'f Frame,
        /// The address that was touched.
        address: u64,
    },
    /// No frame was left for a stack's next page.
    OutOfStackMemory {
        /// Which one.
        stack: StackId,
        /// The registers.
        frame: &'f Frame,
    },
    /// Any other exception.
    Exception(&'f Frame),
}

/// The kernel's last word.
pub type FatalHandler = fn(&Fatal<'_>) -> !;

static ON_FATAL: AtomicUsize = AtomicUsize::new(0);

/// Sets what is called, on the exception's IST stack with interrupts off, when an exception ends the machine.
pub fn on_fatal(handler: FatalHandler) {
    // Release: pairs with the Acquire in `die`.
    ON_FATAL.store(handler as usize, Ordering::Release);
}

fn die(fatal: &Fatal<'_>) -> ! {
    let handler = ON_FATAL.load(Ordering::Acquire);
    // SAFETY: 0 is `None`; anything else was stored by `on_fatal`.
    if let Some(handler) = unsafe { core::mem::transmute::<usize, Option<FatalHandler>>(handler) } {
        handler(fatal)
    }
    irq::halt_forever()
}

pub(crate) fn handle(frame: &Frame) {
    if frame.vector != u64::from(Vector::PAGE_FAULT.0) {
        die(&Fatal::Exception(frame));
    }
    // The fault's address, or 0 if the CPU left something that is no address.
    let address = Cr2::read().map_or(0, VirtAddr::as_u64);
    let absent = !PageFaultCode::from_bits_retain(frame.error).contains(PageFaultCode::PROTECTION);
    if !absent {
        die(&Fatal::Exception(frame));
    }
    match stack::handle_fault(address, frame.rsp) {
        Fault::Mapped => {}
        Fault::Overflow(stack) => die(&Fatal::StackOverflow { stack, frame }),
        Fault::KernelOverflow => die(&Fatal::KernelStackOverflow { frame, address }),
        Fault::NoMemory(stack) => die(&Fatal::OutOfStackMemory { stack, frame }),
        Fault::NotAStack => die(&Fatal::Exception(frame)),
    }
}

/// Raises a breakpoint exception (INT3).
pub fn breakpoint() {
    // SAFETY: the instruction raises an exception and changes nothing.
    unsafe { asm!("int3", options(nostack, preserves_flags)) };
}

/// Raises an invalid-opcode exception.
pub fn invalid_opcode() -> ! {
    // SAFETY: the instruction is defined to raise the exception, from which nothing returns.
    unsafe { asm!("ud2", options(noreturn)) }
}

/// The kind of a page fault in words.
fn kind(error: u64) -> &'static str {
    let code = PageFaultCode::from_bits_retain(error);
    if code.contains(PageFaultCode::RESERVED_BIT) {
        return "reserved bit set in a page table";
    }
    match (
        code.contains(PageFaultCode::PROTECTION),
        code.contains(PageFaultCode::WRITE),
        code.contains(PageFaultCode::FETCH),
    ) {
        (true, true, _) => "write to a page that is read-only",
        (true, _, true) => "execution of a page that is not executable",
        (true, false, false) => "forbidden read",
        (false, true, _) => "write to a page that is not mapped",
        (false, _, true) => "execution of a page that is not mapped",
        (false, false, false) => "read of a page that is not mapped",
    }
}

/// The exception and the registers, over several lines.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vector = Vector(u8::try_from(self.vector).unwrap_or(u8::MAX));
        write!(f, "{} (vector {}", vector.name(), vector.0)?;
        if vector.has_error_code() {
            write!(f, ", error code {:#x}", self.error)?;
        }
        writeln!(f, ")")?;
        if vector == Vector::PAGE_FAULT {
            let address = Cr2::read().map_or(0, VirtAddr::as_u64);
            writeln!(f, "  {} at {address:#018x}", kind(self.error))?;
        }
        writeln!(f, "  rip {:#018x}  rsp {:#018x}  rflags {:#x}", self.rip, self.rsp, self.rflags)?;
        writeln!(f, "  rax {:#018x}  rbx {:#018x}  rcx {:#018x}", self.rax, self.rbx, self.rcx)?;
        writeln!(f, "  rdx {:#018x}  rsi {:#018x}  rdi {:#018x}", self.rdx, self.rsi, self.rdi)?;
        writeln!(f, "  rbp {:#018x}  r8  {:#018x}  r9  {:#018x}", self.rbp, self.r8, self.r9)?;
        writeln!(f, "  r10 {:#018x}  r11 {:#018x}  r12 {:#018x}", self.r10, self.r11, self.r12)?;
        writeln!(f, "  r13 {:#018x}  r14 {:#018x}  r15 {:#018x}", self.r13, self.r14, self.r15)?;
        let cr3 = Cr3::read().0.start_address().as_u64();
        write!(f, "  cs {:#x}  ss {:#x}  cr3 {cr3:#x}", self.cs, self.ss)
    }
}
