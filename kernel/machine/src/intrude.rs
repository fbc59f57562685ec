//! A call that interrupted code makes without having asked for it.
//!
//! An interrupt handler rewrites its frame so that the return from the interrupt enters [`landing`] instead of the
//! interrupted instruction. There all registers are saved on the interrupted code's own stack, a function of the
//! crate above is called, and when that returns, the interrupted code goes on as if nothing had been. The function
//! may leave the stack and come back to it later, on any CPU.
//!
//! ```text
//!   interrupted rsp ──►  …              the code's own data
//!                   -8   rip            where it was interrupted: the return address of a frame …
//!                  -16   rbp            … that links to the interrupted one
//!                  -24   rflags
//!                        rax … r15      by `landing`
//! ```
//!
//! The target has no red zone, so nothing lives below the interrupted rsp. There is no vector state to save: the
//! target is soft-float. Interrupts are off from the handler's return until the function opens them: a second request
//! cannot come in between and make the stack grow.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::address::at;
use crate::entry::Frame;
use crate::stack;

/// Bytes below the interrupted stack pointer that [`intrude`] and the landing use themselves.
pub const STACK_USED: u64 = 256;

/// RFLAGS that the landing starts without: interrupt (IF), direction (DF), alignment check (AC) and trap (TF).
/// Intel SDM vol. 1, "EFLAGS Register".
const CLEARED: u64 = 1 << 9 | 1 << 10 | 1 << 18 | 1 << 8;

/// What the landing calls, on the interrupted code's stack with interrupts off. It may open them.
pub type Intrusion = extern "C" fn();

static INTRUSION: AtomicUsize = AtomicUsize::new(0);

/// Sets what the landing calls.
pub fn on_landing(function: Intrusion) {
    // Release: pairs with the load in `landing`, which x86 makes an Acquire.
    INTRUSION.store(function as usize, Ordering::Release);
}

/// Makes the interrupted code call the landing's function before it goes on. `false`, and nothing has changed, when no
/// memory is left for `room` bytes of its stack, in which all of this has to fit.
///
/// # Safety
/// 1. The frame is that of the handler that calls, which runs on another stack than the interrupted code.
/// 2. The interrupted code was entered with interrupts on, holds no lock, and stands on a stack that is mapped on first
///    touch, with `room` bytes below its stack pointer: [`STACK_USED`] and what the function needs.
/// 3. A function is set.
pub unsafe fn intrude(frame: &mut Frame, room: u64) -> bool {
    let words = [frame.rflags, frame.rbp, frame.rip];
    let link = frame.rsp - 16;
    // A fault in the handler would not be served: its own stack is another one. One in the call would be the end of code
    // that has not asked for it.
    if !stack::map_below(frame.rsp - room, frame.rsp) {
        return false;
    }
    let place: *mut [u64; 3] = at(link - 8);
    // SAFETY: condition 2; the words are aligned because a stack pointer is.
    unsafe { place.write(words) };
    frame.rsp = link - 8;
    frame.rbp = link;
    frame.rip = landing as *const () as u64;
    frame.rflags &= !CLEARED;
    true
}

/// Where intruded code lands. Not a function to call.
#[unsafe(naked)]
extern "C" fn landing() -> ! {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rbx",
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
        // The interrupted rsp can be anything; a call needs a multiple of 16.
        "mov rbx, rsp",
        "and rsp, -16",
        "call [rip + {intrusion}]",
        "mov rsp, rbx",
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
        "pop rbx",
        "pop rdx",
        "pop rcx",
        "pop rax",
        // Interrupts come back on here, if not before. One that strikes now lies below what is still needed.
        "popfq",
        "pop rbp",
        "ret",
        intrusion = sym INTRUSION,
    )
}
