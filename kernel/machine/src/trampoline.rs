//! From real mode to the kernel: the page on which application processors start.
//!
//! ```text
//!   0x000   16-bit code, then 64-bit code (copied from `code` below)
//!   0xf00   Parameters, filled in by the boot CPU
//! ```
//!
//! A startup interrupt begins at offset 0 with CS = page number * 256, so data is addressed from the segment's
//! start and the code does not care where its page lies. It goes from real mode to long mode in one step: paging
//! and protection are switched on by the same write (Intel SDM vol. 3A, "Initializing IA-32e Mode").
//!
//! The tables that are loaded here are a copy of the kernel's level-4 table, below 4 GiB because real mode can
//! load no more of CR3, with the page itself mapped at its physical address. The first instructions in the
//! kernel proper ([`arrive`]) load the kernel's own tables, in which low memory is not mapped.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::AtomicU32;

use bootloader_api::info::MemoryRegion;

use crate::address::{at, size};
use crate::control;
use crate::frames::{FRAME_SIZE, LOW_MEMORY_END};
use crate::memory_map;
use crate::paging::{self, Entry};

/// Offset of the parameters in the page.
const PARAMETERS: usize = 0xf00;
/// Offset of the words in the code that say where its long-mode part begins, and where it ends.
const LONG_MODE_WORD: usize = 4;
const END_WORD: usize = 6;
/// EFER. Intel SDM vol. 4, "`IA32_EFER`".
const EFER: u32 = 0xc000_0080;
/// Selectors of the table in [`Parameters`].
const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
/// Flat 64-bit code and writable data. Intel SDM vol. 3A, "Segment Descriptors".
const CODE_DESCRIPTOR: u64 = 0x00af_9b00_0000_ffff;
const DATA_DESCRIPTOR: u64 = 0x00cf_9300_0000_ffff;

/// What the start-up code reads. All values of registers are those of the boot CPU.
#[repr(C)]
#[derive(Debug)]
struct Parameters {
    cr0: u32,
    cr3: u32,
    cr4: u32,
    efer: u32,
    gdt_limit: u16,
    gdt_base: [u16; 2],
    far_offset: [u16; 2],
    far_selector: u16,
    padding: u32,
    gdt: [u64; 3],
    /// Address of `arrive`.
    entry: u64,
    /// The kernel's own level-4 table.
    root: u64,
    /// Tops of the stacks, one for each ticket.
    stacks: u64,
    /// Stacks there are.
    count: u32,
    /// Next ticket.
    ticket: AtomicU32,
    /// Rust function that runs on the new stack, with the ticket.
    main: u64,
}

/// Pages below 1 MiB: the start-up page, then four page tables.
const PAGES: usize = 5;

/// Why the start-up page cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrampolineError {
    /// The memory map has fewer than five free pages below 640 KiB.
    NoLowMemory,
}

/// What an application processor runs first: the function gets the number of the stack it stands on.
pub type Main = extern "C" fn(ticket: u32) -> !;

/// Lays out the page and returns its number. `stacks` holds the tops of the stacks to be taken.
///
/// # Errors
/// [`TrampolineError`].
#[expect(clippy::cast_possible_truncation, reason = "the page and what lies in it are below 1 MiB")]
pub fn install(map: &[MemoryRegion], stacks: &'static [u64], main: Main) -> Result<u8, TrampolineError> {
    let pages = low_pages(map).ok_or(TrampolineError::NoLowMemory)?;
    let page = pages[0];
    write_tables(pages);
    let code: *const u8 = (code as *const ()).cast();
    // SAFETY: `code` carries these two words.
    let word = |offset: usize| unsafe { code.wrapping_add(offset).cast::<u16>().read_unaligned() };
    let length = usize::from(word(END_WORD));
    assert!(length <= PARAMETERS, "the start-up code runs into its parameters");
    // SAFETY: the page is unused memory in the window, and the code is so long.
    unsafe { ptr::copy_nonoverlapping(code, low(page), length) };
    let gdt = page as u32 + (PARAMETERS + offset_of!(Parameters, gdt)) as u32;
    let long_mode = page as u32 + u32::from(word(LONG_MODE_WORD));
    let state = control::REGISTERS;
    let parameters = Parameters {
        cr0: state.cr0,
        cr3: pages[1] as u32,
        cr4: state.cr4,
        efer: state.efer,
        gdt_limit: 3 * 8 - 1,
        gdt_base: halves(gdt),
        far_offset: halves(long_mode),
        far_selector: CODE,
        padding: 0,
        gdt: [0, CODE_DESCRIPTOR, DATA_DESCRIPTOR],
        entry: arrive as *const () as u64,
        root: paging::root(),
        stacks: stacks.as_ptr().expose_provenance() as u64,
        count: stacks.len() as u32,
        ticket: AtomicU32::new(0),
        main: main as *const () as u64,
    };
    // SAFETY: as above; the offset is a multiple of 16 and the structure fits behind it.
    unsafe { low::<Parameters>(page + PARAMETERS as u64).write(parameters) };
    Ok((page / FRAME_SIZE) as u8)
}

#[expect(clippy::cast_possible_truncation, reason = "that is what halves are")]
const fn halves(value: u32) -> [u16; 2] {
    [value as u16, (value >> 16) as u16]
}

/// A low physical address in the window.
fn low<T>(physical: u64) -> *mut T {
    at(paging::window().base + physical)
}

/// Free pages below 640 KiB. Page 0 holds firmware data and stays alone; the rest of the first 64 KiB is taken
/// last, because firmware is known to write there after it has called it free.
fn low_pages(map: &[MemoryRegion]) -> Option<[u64; PAGES]> {
    const CONVENTIONAL_END: u64 = 0xa_0000;
    const SCRATCH_END: u64 = 0x1_0000;
    const { assert!(CONVENTIONAL_END <= LOW_MEMORY_END) };
    let mut found = [0; PAGES];
    let mut pages = [SCRATCH_END..CONVENTIONAL_END, FRAME_SIZE..SCRATCH_END]
        .into_iter()
        .flat_map(|zone| memory_map::usable(map, zone))
        .flat_map(|piece| piece.step_by(size(FRAME_SIZE)));
    for slot in &mut found {
        *slot = pages.next()?;
    }
    Some(found)
}

/// A level-4 table with the kernel's upper half and one page of the lower: the start-up page, executable.
fn write_tables([page, root, level3, level2, level1]: [u64; PAGES]) {
    let table = low::<u64>;
    for target in [root, level3, level2, level1] {
        // SAFETY: unused memory in the window.
        unsafe { table(target).write_bytes(0, 512) };
    }
    // SAFETY: both are whole tables; the kernel's upper half stays as it is from here on.
    unsafe {
        ptr::copy_nonoverlapping(table(paging::root()).wrapping_add(256), table(root).wrapping_add(256), 256);
    };
    let link = (Entry::PRESENT | Entry::WRITABLE).bits();
    // SAFETY: the first entry of each table leads to the low 2 MiB.
    unsafe { table(root).write(level3 | link) };
    // SAFETY: as above.
    unsafe { table(level3).write(level2 | link) };
    // SAFETY: as above.
    unsafe { table(level2).write(level1 | link) };
    // SAFETY: the page lies below 640 KiB, so its number is an index into the table.
    unsafe { table(level1).wrapping_add(size(page / FRAME_SIZE)).write(page | link) };
}

/// The code that is copied. Runs in real mode, then in long mode, at the page's physical address.
#[unsafe(naked)]
extern "C" fn code() -> ! {
    naked_asm!(
        ".code16",
        ".Ltrampoline:",
        "jmp .Ltrampoline_begin",
        ".org .Ltrampoline + {long_mode_word}",
        ".word .Ltrampoline_long - .Ltrampoline",
        ".word .Ltrampoline_end - .Ltrampoline",
        ".Ltrampoline_begin:",
        "cli",
        "cld",
        // DS = CS: the page's segment. EBX = the page's address.
        "mov ax, cs",
        "mov ds, ax",
        "movzx ebx, ax",
        "shl ebx, 4",
        "mov eax, dword ptr ds:[{cr4}]",
        "mov cr4, eax",
        "mov eax, dword ptr ds:[{cr3}]",
        "mov cr3, eax",
        // NXE must be on before paging is: pages of the kernel carry the bit.
        "mov ecx, {efer_msr}",
        "mov eax, dword ptr ds:[{efer}]",
        "xor edx, edx",
        "wrmsr",
        // lgdt with a 32-bit base: prefix, opcode, a 16-bit address.
        ".byte 0x66, 0x0f, 0x01, 0x16",
        ".word {gdt}",
        "mov eax, dword ptr ds:[{cr0}]",
        "mov cr0, eax",
        // Far jump through memory with a 32-bit offset.
        ".byte 0x66, 0xff, 0x2e",
        ".word {far}",
        ".code64",
        ".Ltrampoline_long:",
        // The upper half of rbx is undefined after the change of mode.
        "mov ebx, ebx",
        "mov ax, {data}",
        "mov ds, ax",
        "mov es, ax",
        "mov ss, ax",
        "xor eax, eax",
        "mov fs, ax",
        "mov gs, ax",
        "jmp qword ptr [rbx + {entry}]",
        ".Ltrampoline_end:",
        long_mode_word = const LONG_MODE_WORD,
        cr0 = const PARAMETERS + offset_of!(Parameters, cr0),
        cr3 = const PARAMETERS + offset_of!(Parameters, cr3),
        cr4 = const PARAMETERS + offset_of!(Parameters, cr4),
        efer = const PARAMETERS + offset_of!(Parameters, efer),
        efer_msr = const EFER,
        gdt = const PARAMETERS + offset_of!(Parameters, gdt_limit),
        far = const PARAMETERS + offset_of!(Parameters, far_offset),
        data = const DATA,
        entry = const PARAMETERS + offset_of!(Parameters, entry),
    )
}

/// First instructions at the kernel's own address, with rbx = the start-up page: takes a ticket and its stack,
/// loads the kernel's tables and goes on in Rust. A CPU without a ticket halts.
#[unsafe(naked)]
extern "C" fn arrive() -> ! {
    naked_asm!(
        "mov edi, 1",
        "lock xadd dword ptr [rbx + {ticket}], edi",
        "cmp edi, dword ptr [rbx + {count}]",
        "jae 2f",
        "mov rax, [rbx + {stacks}]",
        "mov rsp, [rax + rdi * 8]",
        "mov rax, [rbx + {main}]",
        "mov rcx, [rbx + {root}]",
        // The start-up page is gone from here on.
        "mov cr3, rcx",
        // A frame pointer of 0 ends a walk; rsp is a multiple of 16 before the call.
        "xor ebp, ebp",
        "call rax",
        "2:",
        "cli",
        "hlt",
        "jmp 2b",
        ticket = const PARAMETERS + offset_of!(Parameters, ticket),
        count = const PARAMETERS + offset_of!(Parameters, count),
        stacks = const PARAMETERS + offset_of!(Parameters, stacks),
        main = const PARAMETERS + offset_of!(Parameters, main),
        root = const PARAMETERS + offset_of!(Parameters, root),
    )
}
