//! The functions of a program as an ELF symbol table: what the kernel needs to name the places in a trace.
//!
//! A linker's table is mostly labels of data and mangled names. Here only functions are kept, sorted by address,
//! under the names that people write. So the boot loader reads little, and the kernel, which prints traces on an
//! interrupt stack of some KiB while the machine dies, has nothing to decode.

use object::elf::{FileHeader64, SHN_ABS, SHT_SYMTAB, STB_LOCAL, STT_FUNC, Sym64, SymbolInfo, SymbolOther};
use object::read::elf::{FileHeader as _, Sym as _};
use object::{LittleEndian as Le, U16, U32, U64, pod};

/// Longest name that is kept: types of closures in closures grow without end.
const LONGEST: usize = 240;
/// What a longer one ends in.
const CUT: &str = "...";

/// A symbol table and its names.
#[derive(Debug)]
pub struct Symbols {
    /// The symbols, the null symbol first.
    pub table: Vec<u8>,
    /// Their names, each ended by a zero.
    pub names: Vec<u8>,
}

/// One function.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    address: u64,
    size: u64,
    name: String,
}

impl Symbols {
    /// The functions of a program; none if its symbols were stripped.
    ///
    /// # Errors
    ///
    /// The tables of the file are broken.
    pub fn of(header: &FileHeader64<Le>, file: &[u8]) -> Result<Self, object::read::Error> {
        let sections = header.sections(Le, file)?;
        let symbols = sections.symbols(Le, file, SHT_SYMTAB)?;
        let mut functions = Vec::new();
        for symbol in symbols.iter().filter(|symbol| symbol.st_type() == STT_FUNC) {
            let (address, size) = (symbol.st_value(Le), symbol.st_size(Le));
            if size > 0 {
                let name = readable(&String::from_utf8_lossy(symbol.name(Le, symbols.strings())?));
                functions.push(Function { address, size, name });
            }
        }
        functions.sort();
        functions.dedup_by_key(|function| (function.address, function.size));
        Ok(Self::write(&functions))
    }

    /// Symbols in the table, the null symbol included.
    pub const fn count(&self) -> usize {
        self.table.len() / size_of::<Sym64<Le>>()
    }

    fn write(functions: &[Function]) -> Self {
        let null = Sym64::<Le>::default();
        let mut symbols = Self { table: pod::bytes_of(&null).to_vec(), names: vec![0] };
        for function in functions {
            let name = u32::try_from(symbols.names.len()).unwrap_or(0);
            let entry = Sym64 {
                st_name: U32::new(Le, name),
                st_info: SymbolInfo::new(STB_LOCAL, STT_FUNC),
                st_other: SymbolOther(0),
                st_shndx: U16::new(Le, SHN_ABS),
                st_value: U64::new(Le, function.address),
                st_size: U64::new(Le, function.size),
            };
            symbols.table.extend_from_slice(pod::bytes_of(&entry));
            symbols.names.extend_from_slice(function.name.as_bytes());
            symbols.names.push(0);
        }
        symbols
    }
}

/// A mangled name as people write it, without its hash; any other name as it is.
fn readable(name: &str) -> String {
    let mut text = format!("{:#}", rustc_demangle::demangle(name));
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - CUT.len()));
        text.push_str(CUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_readable() {
        assert_eq!(readable("_RNvCs3YDGKdzWz1p_5gzero6leaves"), "gzero::leaves");
        assert_eq!(readable("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(readable("memcpy"), "memcpy");
    }

    #[test]
    fn a_long_name_is_cut_once() {
        let once = readable(&"a".repeat(1000));
        assert_eq!((once.len(), &once[LONGEST - 4..]), (LONGEST, "a..."));
        assert_eq!(readable(&once), once);
        // a cut does not go through a character
        assert!(readable(&"\u{3b1}".repeat(1000)).ends_with("\u{3b1}..."));
    }
}
