//! Names of the program's functions.
//!
//! The boot loader leaves the file that it has loaded the program from in memory, in frames that are never handed
//! out, and the runner has put a symbol table into it: functions only, under the names that people write, sorted by
//! address. [`lookup`] reads it where it lies. It takes no lock, allocates nothing and cannot fault, so that it
//! serves handlers of interrupts and the report of a dying machine.
//!
//! The parts of the file that are read (headers, symbols, names) are mapped nowhere as part of the program: nobody
//! changes them. They are read with mistrust all the same; a file of somebody else's making gives no names, or
//! mangled ones, and no faults.

use core::fmt;
use core::ops::Range;

use object::LittleEndian as Le;
use object::elf::{FileHeader64, PF_W, PT_LOAD, ProgramHeader64, SHT_SYMTAB, STT_FUNC, Sym64};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _};
use object::read::{ReadRef, SectionIndex};
use spin::Once;

use crate::window::PhysWindow;

static TABLE: Once<Table> = Once::new();

/// A place in a function of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// The function.
    pub name: &'static str,
    /// Bytes from its first instruction.
    pub offset: u64,
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.name, self.offset)
    }
}

/// Why no function has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSymbols {
    /// The boot loader names memory that is not mapped.
    OutOfMemory,
    /// The file is no ELF file, or a broken one.
    Broken,
    /// The file has no symbols of functions.
    Stripped,
}

impl fmt::Display for NoSymbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => "the program's file lies outside of memory",
            Self::Broken => "the program's file is not a whole ELF file",
            Self::Stripped => "the program's file has no symbols",
        })
    }
}

/// Finds the symbols in the program's file, at these physical addresses; `offset` is what the boot loader has added
/// to the addresses in the file. Call once, before other CPUs run.
///
/// # Errors
/// [`NoSymbols`]: [`lookup`] finds nothing then.
pub fn init(window: PhysWindow, file: Range<u64>, offset: u64) -> Result<(), NoSymbols> {
    let length = file.end.saturating_sub(file.start);
    let file = File { window, start: file.start, length };
    file.read_bytes_at(0, length.min(1)).map_err(|()| NoSymbols::OutOfMemory)?;
    let table = Table::read(file, offset)?;
    TABLE.call_once(|| table);
    Ok(())
}

/// The program's writable segments: data that the file has, and data that begin as zeros. Empty where the file does not
/// say.
pub fn writable() -> [Range<u64>; 2] {
    TABLE.get().map_or([0..0, 0..0], |table| table.writable.clone())
}

/// The function that an instruction lies in.
pub fn lookup(address: u64) -> Option<Symbol> {
    TABLE.get()?.lookup(address)
}

/// The function that a call lies in, by the address that the call returns to. That may lie in the next function
/// already, if the called one never returns.
pub fn lookup_call(return_address: u64) -> Option<Symbol> {
    let symbol = lookup(return_address.checked_sub(1)?)?;
    Some(Symbol { offset: symbol.offset + 1, ..symbol })
}

/// The program's file in physical memory. Only what is asked for is ever referred to: pages of data, which the
/// program changes, lie in it too.
#[derive(Clone, Copy)]
struct File {
    window: PhysWindow,
    start: u64,
    length: u64,
}

impl ReadRef<'static> for File {
    fn len(self) -> Result<u64, ()> {
        Ok(self.length)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'static [u8], ()> {
        if size > self.length || offset > self.length - size {
            return Err(());
        }
        let start = self.window.virt(self.start.checked_add(offset).ok_or(())?, size).ok_or(())?;
        // SAFETY: the range lies in the file, which lies in memory that is mapped for ever and never handed out. It is
        // part of a header, the symbols or their names, which nobody writes to.
        Ok(unsafe { core::slice::from_raw_parts(start, crate::address::size(size)) })
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'static [u8], ()> {
        let bytes = self.read_bytes_at(range.start, range.end.checked_sub(range.start).ok_or(())?)?;
        let end = bytes.iter().position(|byte| *byte == delimiter).ok_or(())?;
        Ok(&bytes[..end])
    }
}

/// The symbols of a file.
#[derive(Debug)]
struct Table {
    symbols: &'static [Sym64<Le>],
    names: &'static [u8],
    offset: u64,
    /// Initialised and zeroed data.
    writable: [Range<u64>; 2],
}

impl Table {
    fn read(file: impl ReadRef<'static>, offset: u64) -> Result<Self, NoSymbols> {
        let (symbols, names) = Self::sections(file).map_err(|_| NoSymbols::Broken)?;
        if !symbols.iter().any(|symbol| symbol.st_type() == STT_FUNC) {
            return Err(NoSymbols::Stripped);
        }
        let writable = Self::segments(file, offset).unwrap_or([0..0, 0..0]);
        Ok(Self { symbols, names, offset, writable })
    }

    /// The symbol table and its names, both empty if there is none.
    fn sections(
        file: impl ReadRef<'static>,
    ) -> Result<(&'static [Sym64<Le>], &'static [u8]), object::read::Error> {
        let sections = FileHeader64::<Le>::parse(file)?.sections(Le, file)?;
        let Some(table) = sections.iter().find(|section| section.sh_type(Le) == SHT_SYMTAB) else {
            return Ok((&[], &[]));
        };
        let names = sections.section(SectionIndex(table.sh_link(Le) as usize))?;
        Ok((table.data_as_array(Le, file)?, names.data(Le, file)?))
    }

    /// What the last writable segment has from the file, and what it has beyond.
    fn segments(file: impl ReadRef<'static>, offset: u64) -> Option<[Range<u64>; 2]> {
        let header = FileHeader64::<Le>::parse(file).ok()?;
        let segments = header.program_headers(Le, file).ok()?;
        let writable = |segment: &&ProgramHeader64<Le>| {
            segment.p_type(Le) == PT_LOAD && segment.p_flags(Le).0 & PF_W.0 != 0
        };
        let segment = segments.iter().rfind(writable)?;
        let start = offset.checked_add(segment.p_vaddr(Le))?;
        let data = start.checked_add(segment.p_filesz(Le))?;
        let end = start.checked_add(segment.p_memsz(Le))?;
        // Whole words: the format has no others.
        let cut = data.next_multiple_of(8);
        Some([start.next_multiple_of(8)..cut, cut..end.max(cut)])
    }

    fn lookup(&self, address: u64) -> Option<Symbol> {
        let place = address.checked_sub(self.offset)?;
        let here = |symbol: &&Sym64<Le>| {
            let offset = place.checked_sub(symbol.st_value(Le));
            symbol.st_type() == STT_FUNC && offset.is_some_and(|offset| offset < symbol.st_size(Le))
        };
        let symbol = self.symbols.iter().find(here)?;
        let name = self.names.get(symbol.st_name(Le) as usize..)?.split(|byte| *byte == 0).next()?;
        // What is not text was cut in the wrong place; the rest is as good as a name.
        let name = name.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        Some(Symbol { name, offset: place - symbol.st_value(Le) })
    }
}

#[cfg(test)]
#[path = "tests/symbol.rs"]
mod tests;
