//! Contexts and the switch between them.
//!
//! A context that does not run is one address: its stack pointer. On its stack lie, from there upwards, the
//! address to go on at, and the two registers that the compiler does not give away:
//!
//! ```text
//!            suspended                    new (made by `prepare`)
//!   high     what the caller has spilled  entry's stack grows from here; a multiple of 16
//!                                         its second argument
//!            rbx                          the entry function
//!            rbp                          0: ends a walk along the frame pointers
//!   low      address to go on at ◄── rsp  address of `start`
//! ```
//!
//! All other registers are declared as changed by the switch, so the compiler has saved what it still needs, and
//! nothing else. No flag and no vector register is saved: the target is soft-float, and every switch is made with
//! interrupts on and the direction flag clear on both sides.
//!
//! The word that the switching side passes comes out in the context that goes on: as the result of its own
//! [`switch`], or as the first argument of its entry function.

use core::arch::{asm, naked_asm};

use crate::address::at;

/// A suspended context: the value of its stack pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Context(u64);

impl Context {
    /// No context.
    pub const NONE: Self = Self(0);

    /// The stack pointer.
    pub const fn rsp(self) -> u64 {
        self.0
    }
}

/// The first function of a new context: gets the word of the switch that started it, and the argument given to
/// [`prepare`]. It must not return.
pub type Entry = extern "C" fn(word: u64, argument: u64) -> !;

/// Words that `prepare` puts on the stack: an address to go on at, two registers and an argument.
const PREPARED_WORDS: usize = 4;
/// Words that a suspended context has there.
const SAVED_WORDS: u64 = 3;

/// Lays out a new context on a stack.
///
/// # Safety
/// 1. `top` is a multiple of 16, and the [`PREPARED_WORDS`] words below are mapped, writable and unused.
/// 2. The stack stays valid as long as the context is used.
pub unsafe fn prepare(top: u64, entry: Entry, argument: u64) -> Context {
    debug_assert!(top.is_multiple_of(16));
    let rsp = top - size_of::<[u64; PREPARED_WORDS]>() as u64;
    let words = [start as *const () as u64, 0, entry as *const () as u64, argument];
    let place: *mut [u64; PREPARED_WORDS] = at(rsp);
    // SAFETY: condition 1.
    unsafe { place.write(words) };
    Context(rsp)
}

/// What a walk along the stack of a suspended context needs of its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) rsp: u64,
    pub(crate) rbp: u64,
    pub(crate) rbx: u64,
    pub(crate) rip: u64,
}

/// The registers of a suspended context, as `read` finds them on its stack; the drawing above has their places.
///
/// A context that goes on meanwhile gives nonsense or `None`.
pub(crate) fn registers(context: Context, read: impl Fn(u64) -> Option<u64>) -> Option<Registers> {
    const WORD: u64 = size_of::<u64>() as u64;
    let Context(rsp) = context;
    let word = |n| read(rsp.checked_add(n * WORD)?);
    Some(Registers { rsp: rsp.checked_add(SAVED_WORDS * WORD)?, rip: word(0)?, rbp: word(1)?, rbx: word(2)? })
}

/// Where a context that has never run goes on: its first function is in rbx.
pub(crate) fn start_address() -> u64 {
    start as *const () as u64
}

/// Where a new context begins: `rdx` holds the word, the stack the rest.
#[unsafe(naked)]
extern "C" fn start() -> ! {
    naked_asm!(
        "pop rbp",
        "pop rbx",
        "pop rsi",
        "mov rdi, rdx",
        // rsp is a multiple of 16 here, as it must be before a call.
        "call rbx",
        "ud2",
    )
}

/// Saves the running context in `save`, goes on with `next`, and passes `word` to it. Returns when somebody
/// switches back, with the word passed then.
///
/// # Safety
/// 1. `next` was made by [`prepare`] or saved by `switch`, was not continued since, and its stack is valid.
/// 2. `save` is valid for a write, and nobody continues what is saved before this call has left the stack: the
///    context that goes on publishes it, not the caller.
/// 3. Interrupts are on, and no lock is held but the one pin that the other side takes over.
#[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
#[inline(always)]
pub unsafe fn switch(save: *mut Context, next: Context, word: u64) -> u64 {
    let mut word = word;
    // SAFETY: the caller's contract. What goes on pops what was pushed here or by `prepare`; every register but rsp,
    // rbp and rbx is declared as changed.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "lea rax, [rip + 2f]",
            "push rax",
            "mov [rdi], rsp",
            // From here on the old stack is not touched any more.
            "mov rsp, rsi",
            // No `ret`, which would find no call to match in the processor's own stack of them.
            "pop rax",
            "jmp rax",
            "2:",
            "pop rbp",
            "pop rbx",
            inout("rdx") word,
            inout("rdi") save => _,
            inout("rsi") next.0 => _,
            out("rax") _,
            out("rcx") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
        );
    }
    word
}

/// Goes on with `next` for good, and passes `word` to it: what runs here is over, and nothing of it is saved.
///
/// # Safety
/// The first and the third condition of [`switch`]; and nobody continues what runs here.
#[inline]
pub unsafe fn switch_for_good(next: Context, word: u64) -> ! {
    // SAFETY: the caller's contract; as in `switch`.
    unsafe {
        asm!("mov rsp, rsi", "pop rax", "jmp rax", in("rsi") next.0, in("rdx") word, options(noreturn));
    }
}

/// Calls `function` with `argument` on another stack, from `top` (a multiple of 16) downwards, and comes back.
///
/// # Safety
/// 1. The memory below `top` is a stack: mapped, writable, unused, with room for what the function needs.
/// 2. Nobody else uses that stack meanwhile, and the caller is not moved to another CPU if the stack belongs to one.
#[unsafe(naked)]
pub unsafe extern "C" fn call_on(top: u64, function: extern "C" fn(*mut ()), argument: *mut ()) {
    naked_asm!(
        // rdi = top, rsi = function, rdx = argument. rbp keeps the old stack, and the frames linked.
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
    )
}
