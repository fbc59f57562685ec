//! Checks a program file and cuts it down to what the boot loader needs.
//!
//! The boot loader reads the ELF header, the program headers, whatever lies in segments, and one section by name:
//! its own configuration. The kernel finds the file in memory and reads the names of its functions. All else (debug
//! data above all) would only be read from an emulated disk.

use std::fs;
use std::path::{Path, PathBuf};

use bootloader_api::BootloaderConfig;
use bootloader_api::config::Mapping;
use object::elf::{
    EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PT_LOAD, SHT_NULL, SHT_STRTAB, SHT_SYMTAB, SectionFlags,
    SectionHeader64, SectionType, Sym64,
};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{LittleEndian as Le, U32, U64, pod};

use crate::error::Error;
use crate::symbols::Symbols;

/// The section in which the boot loader looks for the program's wishes.
const CONFIG: &str = ".bootloader-config";
/// Section names of the file we write, and where each begins.
const NAMES: &[u8] = b"\0.bootloader-config\0.symtab\0.strtab\0.shstrtab\0";
const CONFIG_NAME: u32 = 1;
const SYMBOLS_NAME: u32 = 20;
const STRINGS_NAME: u32 = 28;
const NAMES_NAME: u32 = 36;
/// Where the ELF header keeps the section table's offset, and its entry size, count and index of names.
const SHOFF_AT: usize = 0x28;
const SHENTSIZE_AT: usize = 0x3a;
/// Where the boot loader puts a program that leaves the choice to it: the second 512 GiB.
const FIRST_OFFSET: u64 = 1 << 39;
/// Null, configuration, symbols, their names, names of sections.
const SECTIONS: u16 = 5;
/// Place of the symbols' names among them.
const STRINGS: u32 = 3;
const SECTION_SIZE: u16 = 64;
/// The boot loader maps the file's pages as they are: nothing else may lie in those of a segment.
const PAGE: usize = 4096;

type Header = FileHeader64<Le>;
type Section = SectionHeader64<Le>;

/// A program file in memory, known to be an ELF file for `x86_64` with something to load.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Program {
    /// Reads a program file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read, [`Error::Elf`] if it is not a program that the boot loader can start.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(Error::io("read the program", path))?;
        let program = Self { path: path.to_owned(), bytes };
        program.check()?;
        Ok(program)
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address that the boot loader adds to those in the file, unless it finds that one taken.
    ///
    /// # Errors
    ///
    /// [`Error::Elf`] if the program was not built for this boot loader.
    pub fn load_offset(&self) -> Result<u64, Error> {
        if self.header()?.e_type(Le) == ET_EXEC {
            return Ok(0);
        }
        let config = BootloaderConfig::deserialize(self.config()?.1).map_err(|reason| {
            self.problem(&format!("is for another version of the boot loader ({reason}); build it again"))
        })?;
        Ok(match config.mappings.kernel_base {
            Mapping::FixedAddress(address) => address,
            Mapping::Dynamic => config.mappings.dynamic_range_start.unwrap_or(FIRST_OFFSET),
        })
    }

    /// Content of a section, `None` if there is none of that name.
    ///
    /// # Errors
    ///
    /// [`Error::Elf`] if the section table is broken.
    pub fn section(&self, name: &str) -> Result<Option<&[u8]>, Error> {
        match self.find(name)? {
            None => Ok(None),
            Some(section) => section.data(Le, self.data()).map(Some).map_err(|error| self.broken(&error)),
        }
    }

    /// The file as the boot loader and the kernel need it: everything that is loaded, then the loader's section, the
    /// functions' names and addresses, and a table of these sections.
    ///
    /// # Errors
    ///
    /// [`Error::Elf`] if the program was not built for this boot loader.
    pub fn bootable(&self) -> Result<Vec<u8>, Error> {
        let end = self.loadable_end()?;
        let (config, content) = self.config()?;
        let symbols = Symbols::of(self.header()?, self.data()).map_err(|error| self.broken(&error))?;
        let mut file = self.bytes[..end].to_vec();
        file.resize(end.next_multiple_of(PAGE), 0);
        let mut config = *config;
        config.sh_name = U32::new(Le, CONFIG_NAME);
        config.sh_offset = U64::new(Le, append(&mut file, content) as u64);
        let symbols_at = append(&mut file, &symbols.table);
        let mut table = section(SYMBOLS_NAME, SHT_SYMTAB, symbols_at, symbols.table.len());
        table.sh_link = U32::new(Le, STRINGS);
        table.sh_entsize = U64::new(Le, size_of::<Sym64<Le>>() as u64);
        // All of them are local: the first that is not is the one after the last.
        table.sh_info = U32::new(Le, u32::try_from(symbols.count()).unwrap_or(u32::MAX));
        let strings_at = append(&mut file, &symbols.names);
        let strings = section(STRINGS_NAME, SHT_STRTAB, strings_at, symbols.names.len());
        let names_at = append(&mut file, NAMES);
        let names = section(NAMES_NAME, SHT_STRTAB, names_at, NAMES.len());
        let sections = [section(0, SHT_NULL, 0, 0), config, table, strings, names];
        let table_at = append(&mut file, pod::bytes_of_slice(&sections));
        file[SHOFF_AT..SHOFF_AT + 8].copy_from_slice(&(table_at as u64).to_le_bytes());
        for (index, value) in [SECTION_SIZE, SECTIONS, SECTIONS - 1].into_iter().enumerate() {
            let at = SHENTSIZE_AT + 2 * index;
            file[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        Ok(file)
    }

    /// First byte after all that a program header or the headers themselves name.
    fn loadable_end(&self) -> Result<usize, Error> {
        let header = self.header()?;
        let segments = header.program_headers(Le, self.data()).map_err(|error| self.broken(&error))?;
        let table = header.e_phoff(Le) + u64::from(header.e_phentsize(Le)) * u64::from(header.e_phnum(Le));
        let ends = segments.iter().map(|segment| segment.p_offset(Le).saturating_add(segment.p_filesz(Le)));
        let end = ends.fold(table.max(u64::from(header.e_ehsize(Le))), u64::max);
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        if end > self.bytes.len() {
            return Err(self.problem("is cut short: a segment ends after the file; build it again"));
        }
        Ok(end)
    }

    fn check(&self) -> Result<(), Error> {
        let header = self.header()?;
        if header.e_machine(Le) != EM_X86_64 {
            return Err(self.problem("is not for x86_64; build it with --target x86_64-unknown-none"));
        }
        if header.e_type(Le) != ET_DYN && header.e_type(Le) != ET_EXEC {
            return Err(self.problem("is an object file or a core; link it to a program first"));
        }
        let segments = header.program_headers(Le, self.data()).map_err(|error| self.broken(&error))?;
        if !segments.iter().any(|segment| segment.p_type(Le) == PT_LOAD) {
            return Err(self.problem("has nothing to load; build it again"));
        }
        self.loadable_end().map(drop)
    }

    fn header(&self) -> Result<&Header, Error> {
        let no = || self.problem("is not a 64-bit ELF file; give the program that cargo build made");
        let header = Header::parse(self.data()).map_err(|_| no())?;
        if header.is_little_endian() { Ok(header) } else { Err(no()) }
    }

    fn config(&self) -> Result<(&Section, &[u8]), Error> {
        let section = self
            .find(CONFIG)?
            .ok_or_else(|| self.problem("names no main function; add `gzero::entry!(main);`"))?;
        let content = section.data(Le, self.data()).map_err(|error| self.broken(&error))?;
        Ok((section, content))
    }

    fn find(&self, name: &str) -> Result<Option<&Section>, Error> {
        let sections = self.header()?.sections(Le, self.data()).map_err(|error| self.broken(&error))?;
        Ok(sections.section_by_name(Le, name.as_bytes()).map(|(_, section)| section))
    }

    const fn data(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    fn broken(&self, error: &object::read::Error) -> Error {
        self.problem(&format!("is a broken ELF file ({error}); build it again"))
    }

    fn problem(&self, reason: &str) -> Error {
        Error::Elf { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// Appends bytes where words may lie, and says where that is.
fn append(file: &mut Vec<u8>, bytes: &[u8]) -> usize {
    file.resize(file.len().next_multiple_of(size_of::<u64>()), 0);
    let at = file.len();
    file.extend_from_slice(bytes);
    at
}

fn section(name: u32, kind: SectionType, offset: usize, size: usize) -> Section {
    SectionHeader64 {
        sh_name: U32::new(Le, name),
        sh_type: U32::new(Le, kind),
        sh_flags: U64::new(Le, SectionFlags(0)),
        sh_addr: U64::new(Le, 0),
        sh_offset: U64::new(Le, offset as u64),
        sh_size: U64::new(Le, size as u64),
        sh_link: U32::new(Le, 0),
        sh_info: U32::new(Le, 0),
        sh_addralign: U64::new(Le, 1),
        sh_entsize: U64::new(Le, 0),
    }
}
