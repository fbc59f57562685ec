//! Interrupt entry: 256 stubs, one common path, and the frame that they leave.
//!
//! A stub makes the frame equal for all vectors (it pushes a zero where the CPU pushes no error code), adds the
//! vector and goes on to `common`, which saves all general registers. Each stub is 16 bytes long.
//!
//! ```text
//!   high   ss        pushed by the CPU
//!          rsp
//!          rflags
//!          cs
//!          rip
//!          error     by the CPU, or 0 by the stub
//!          vector    by the stub
//!          rax … r15 by `common`
//!   low    ◄── rsp = &Frame, a multiple of 16
//! ```
//!
//! With an IST slot the CPU aligns rsp to 16 before it pushes its five words; seven words more than a multiple
//! of 16 plus fifteen registers is a multiple of 16 again, which is what a call from `common` needs.

use core::arch::naked_asm;

use crate::idt::dispatch;
use crate::vector::HAS_ERROR_CODE;

/// Bytes from one stub to the next.
pub(crate) const STUB_SIZE: u64 = 16;

/// What an interrupt left on its stack. A handler may change it: the return loads what it finds here.
#[repr(C)]
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the registers' names say it")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Address of the first stub.
pub(crate) fn stubs_start() -> u64 {
    stubs as *const () as u64
}

/// The stubs. Not a function to call: the interrupt table points into it at multiples of [`STUB_SIZE`].
#[unsafe(naked)]
extern "C" fn stubs() -> ! {
    naked_asm!(
        ".balign 16",
        ".set .Lstub_vector, 0",
        ".rept 256",
        ".balign 16",
        // An error code is there already for the exceptions in the mask.
        ".if (.Lstub_vector >= 32) || ((({with_error} >> (.Lstub_vector & 31)) & 1) == 0)",
        "push 0",
        ".endif",
        // push imm32, written out: the assembler would take the symbol for an address.
        ".byte 0x68",
        ".long .Lstub_vector",
        "jmp {common}",
        ".set .Lstub_vector, .Lstub_vector + 1",
        ".endr",
        with_error = const HAS_ERROR_CODE,
        common = sym common,
    )
}

/// How an interrupt is left: by which frame, and what is called with that frame before, on the stack that it lies on.
#[repr(C)]
pub(crate) struct Exit {
    pub(crate) frame: *mut Frame,
    pub(crate) call: Option<extern "C" fn(&mut Frame)>,
}

/// Saves the registers, calls `dispatch` with the frame, goes on as the [`Exit`] says that comes back in rax and rdx,
/// restores and returns from the interrupt.
#[unsafe(naked)]
extern "C" fn common() -> ! {
    naked_asm!(
        // The interrupted code may run with the direction flag set; compiled code needs it clear.
        "cld",
        "push rax",
        "push rcx",
        "push rdx",
        "push rbx",
        "push rbp",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rdi, rsp",
        "call {dispatch}",
        // The frame to return by: this one, or its copy on another stack.
        "mov rsp, rax",
        "test rdx, rdx",
        "jz 2f",
        "mov rdi, rsp",
        "call rdx",
        "2:",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rbp",
        "pop rbx",
        "pop rdx",
        "pop rcx",
        "pop rax",
        // Vector and error code.
        "add rsp, 16",
        "iretq",
        dispatch = sym dispatch,
    )
}
