//! A self-test of whatever interrupts code: registers, flags and stack must come back as they were.
//!
//! [`run`] fills all registers but the stack pointer, and the flags that arithmetic sets, with given values, and goes
//! round a loop that leaves them alone. The loop has jumps, pushes and pops, so that an interrupt finds the stack
//! pointer at several places, and emulators, which take interrupts at jumps only, have many to take them at.

use core::arch::naked_asm;
use core::sync::atomic::AtomicU32;

/// Registers that hold a pattern: all but rsp, and but rcx, which counts the turns.
pub const REGISTERS: usize = 14;

/// Flags that hold a pattern: CF, PF, AF, ZF, SF, DF and OF. Intel SDM vol. 1, "EFLAGS Register".
pub const FLAGS: u64 = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 11;

/// Values of all registers with a pattern, and of the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Patterns {
    /// rax, rdx, rbx, rbp, rsi, rdi, r8 … r15.
    pub registers: [u64; REGISTERS],
    /// RFLAGS; others than [`FLAGS`] are as they happen to be.
    pub flags: u64,
}

/// Goes `turns` times round the loop with the given patterns and returns what is left of them; `turns` is not 0.
///
/// Interrupts are on.
pub fn run(given: &Patterns, turns: u64) -> Patterns {
    let mut found = Patterns { registers: [0; REGISTERS], flags: given.flags & FLAGS };
    found.registers = given.registers;
    // SAFETY: the registers that the function may not change it restores, and `found` is read and written as a whole.
    unsafe { turn(&raw mut found, turns.max(1)) };
    found.flags &= FLAGS;
    found
}

/// Loads the patterns, loops, and stores them back.
///
/// # Safety
/// `patterns` is valid for reads and writes.
#[unsafe(naked)]
unsafe extern "C" fn turn(patterns: *mut Patterns, turns: u64) {
    naked_asm!(
        "push rbp; push rbx; push r12; push r13; push r14; push r15; push rdi",
        "mov rcx, rsi",
        // Flags: the interrupt flag stays on.
        "pushfq",
        "mov rax, [rdi + 112]",
        "and qword ptr [rsp], {others}",
        "or [rsp], rax",
        "mov rdx, [rdi + 8]; mov rbx, [rdi + 16]; mov rbp, [rdi + 24]; mov rsi, [rdi + 32]",
        "mov r8,  [rdi + 48]; mov r9,  [rdi + 56]; mov r10, [rdi + 64]; mov r11, [rdi + 72]",
        "mov r12, [rdi + 80]; mov r13, [rdi + 88]; mov r14, [rdi + 96]; mov r15, [rdi + 104]",
        "mov rax, [rdi]",
        "mov rdi, [rdi + 40]",
        "popfq",
        // Nothing from here to the stores changes a flag.
        "2:",
        "push rax",
        "jmp 3f",
        "3:",
        "push rbp",
        "jmp 4f",
        "4:",
        "lea rsp, [rsp - 3]",
        "jmp 5f",
        "5:",
        "lea rsp, [rsp + 3]",
        "pop rbp",
        "jmp 6f",
        "6:",
        "pop rax",
        "loop 2b",
        "pushfq",
        // The place of the patterns, and rdi itself.
        "xchg rdi, [rsp + 8]",
        "mov [rdi], rax; mov [rdi + 8], rdx; mov [rdi + 16], rbx; mov [rdi + 24], rbp",
        "mov [rdi + 32], rsi; mov rax, [rsp + 8]",
        "mov [rdi + 40], rax; mov [rdi + 48], r8; mov [rdi + 56], r9; mov [rdi + 64], r10",
        "mov [rdi + 72], r11; mov [rdi + 80], r12; mov [rdi + 88], r13; mov [rdi + 96], r14",
        "mov [rdi + 104], r15",
        "pop qword ptr [rdi + 112]",
        "pop rdi",
        // Compiled code needs the direction flag clear.
        "cld",
        "pop r15; pop r14; pop r13; pop r12; pop rbx; pop rbp",
        "ret",
        others = const !FLAGS.cast_signed(),
    )
}

/// Waits with the stack pointer at the beginning of a page, until `flag` is not 0.
///
/// Whatever others put on this stack then lies on the page below, which is not mapped yet if it has not been used.
///
/// On a stack that is mapped on first touch, with more than a page left, with interrupts on.
pub fn wait_at_the_edge_of_a_page(flag: &AtomicU32) {
    // SAFETY: the function changes no register that it may not, and puts the stack pointer back.
    unsafe { wait_at_edge(flag.as_ptr()) };
}

/// # Safety
/// `flag` is valid for reads.
#[unsafe(naked)]
unsafe extern "C" fn wait_at_edge(flag: *const u32) {
    naked_asm!(
        "mov rax, rsp",
        "and rsp, -4096",
        "2:",
        "cmp dword ptr [rdi], 0",
        "je 2b",
        "mov rsp, rax",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::{FLAGS, Patterns, run};

    #[test]
    fn undisturbed_patterns_come_back() {
        for flags in [0, FLAGS, 0b1000_0001, 1 << 10 | 1 << 6] {
            let given = Patterns { registers: core::array::from_fn(|n| 0x0123_4567_89ab_cdef << n), flags };
            assert_eq!(run(&given, 10), given);
        }
    }
}
