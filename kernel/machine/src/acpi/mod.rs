//! The firmware's static tables: CPUs and clocks.
//!
//! Every table is checked here before any of it is used: it lies in the physical window, its length is
//! possible, its bytes sum to zero. The `acpi` crate then names the fields of the large FADT; its own search
//! would read whatever the firmware points to. A bad table costs what it describes and nothing else.
//! ACPI specification, "ACPI Software Programming Model".

use alloc::vec::Vec;
use core::fmt;

use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;

use crate::madt::{Madt, MadtError};
use crate::window::PhysWindow;

/// Bytes of the header that all tables but the RSDP begin with. ACPI, "System Description Table Header".
const HEADER: usize = 36;
/// Longer tables than this are not read: a MADT with 4096 CPUs has 64 KiB.
const LONGEST: u64 = 1 << 20;

/// A device register: behind an I/O port or in physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// The number of an I/O port.
    Port(u16),
    /// A physical address.
    Memory(u64),
}

/// The ACPI power management timer, which counts at 3.579545 MHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PmTimer {
    /// The 32-bit register that holds the count.
    pub register: Register,
    /// Valid bits of the count: 24 or 32.
    pub bits: u8,
}

/// What is wrong with the firmware's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcpiError {
    /// The boot loader found no RSDP, the entry point to all tables.
    NoRsdp,
    /// No valid table of this name.
    Missing(&'static str),
    /// The table, or what should be one, lies outside the mapped physical memory.
    Outside {
        /// Its name.
        table: &'static str,
        /// Its physical address.
        address: u64,
    },
    /// The table does not begin with its name.
    Signature(&'static str),
    /// The table's length is impossible.
    Length {
        /// Its name.
        table: &'static str,
        /// What it claims, in bytes.
        length: u64,
    },
    /// The table's bytes do not sum to zero.
    Checksum(&'static str),
    /// An entry of the MADT is malformed.
    Madt(MadtError),
    /// A register is described in a way that cannot be used.
    Register(&'static str),
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ACPI: ")?;
        match self {
            Self::NoRsdp => write!(f, "the firmware gave no tables (no RSDP)"),
            Self::Missing(table) => write!(f, "no usable {table}"),
            Self::Outside { table, address } => {
                write!(f, "{table} at {address:#x} lies outside the mapped physical memory")
            }
            Self::Signature(table) => write!(f, "{table} does not begin with its signature"),
            Self::Length { table, length } => write!(f, "{table} has an impossible length of {length} bytes"),
            Self::Checksum(table) => write!(f, "{table} has a wrong checksum"),
            Self::Madt(error) => write!(f, "MADT: {error}"),
            Self::Register(what) => write!(f, "{what} is of an unknown kind or at an impossible address"),
        }
    }
}

/// Who made the tables, from the RSDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OemId(pub [u8; 6]);

impl fmt::Display for OemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |byte: u8| if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '?' };
        let text = self.0.trim_ascii_end();
        text.iter().try_for_each(|&byte| fmt::Write::write_char(f, shown(byte)))
    }
}

/// What the tables say. What is bad or absent is `None`, and [`Tables::problems`] says why.
#[derive(Debug, Default)]
pub struct Tables {
    /// Who made them.
    pub oem: Option<OemId>,
    /// The CPUs. `None`: only the boot CPU is known.
    pub madt: Option<Madt>,
    /// Physical address of the first event timer block.
    pub hpet: Option<u64>,
    /// The power management timer.
    pub pm_timer: Option<PmTimer>,
    /// All that is wrong, to be told to the user line by line.
    pub problems: Vec<AcpiError>,
}

impl Tables {
    /// Reads the tables. Never fails: where nothing can be read, the result says so and is otherwise empty.
    ///
    /// `rsdp` is the physical address that the boot loader found. The tables' memory must not change meanwhile.
    pub fn read(rsdp: Option<u64>, window: PhysWindow) -> Self {
        let mut tables = Self::default();
        if let Err(error) = tables.read_all(rsdp, window) {
            tables.problems.push(error);
        }
        if tables.madt.is_none() && tables.oem.is_some() {
            tables.problems.push(AcpiError::Missing("MADT"));
        }
        tables
    }

    fn read_all(&mut self, rsdp: Option<u64>, window: PhysWindow) -> Result<(), AcpiError> {
        let root = read_rsdp(rsdp.ok_or(AcpiError::NoRsdp)?, window)?;
        self.oem = Some(root.oem);
        let (entries, width) = self.root_table(&root, window)?;
        for entry in entries.chunks_exact(width) {
            let mut address = [0; 8];
            address.iter_mut().zip(entry).for_each(|(to, &from)| *to = from);
            if let Err(error) = self.take_table(u64::from_le_bytes(address), window) {
                self.problems.push(error);
            }
        }
        Ok(())
    }

    /// The pointers of the 64-bit root table, or of the 32-bit one, and how many bytes each has.
    fn root_table(&mut self, root: &Root, window: PhysWindow) -> Result<(&'static [u8], usize), AcpiError> {
        let pointers = |table: &'static [u8]| table.get(HEADER..).unwrap_or_default();
        if root.xsdt != 0 {
            match checked_table(window, root.xsdt, "XSDT", *b"XSDT") {
                Ok(table) => return Ok((pointers(table), 8)),
                Err(error) => self.problems.push(error),
            }
        }
        checked_table(window, root.rsdt, "RSDT", *b"RSDT").map(|table| (pointers(table), 4))
    }

    /// Takes what the table at `address` says, if it is one of ours and the first of its kind.
    fn take_table(&mut self, address: u64, window: PhysWindow) -> Result<(), AcpiError> {
        if address == 0 {
            return Ok(());
        }
        let outside = AcpiError::Outside { table: "a table", address };
        let signature = window_bytes(window, address, 4).ok_or(outside)?;
        match signature {
            b"APIC" if self.madt.is_none() => {
                let table = checked_table(window, address, "MADT", *b"APIC")?;
                self.madt = Some(Madt::parse(table).map_err(AcpiError::Madt)?);
            }
            b"HPET" if self.hpet.is_none() => {
                let table = checked_table(window, address, "HPET", *b"HPET")?;
                self.hpet = Some(hpet_address(table)?);
            }
            b"FACP" if self.pm_timer.is_none() => {
                self.take_fadt(checked_table(window, address, "FADT", *b"FACP")?);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_fadt(&mut self, table: &[u8]) {
        let fadt = fadt(table);
        let bits = if { fadt.flags }.pm_timer_is_32_bit() { 32 } else { 24 };
        match fadt.pm_timer_block().map(|block| block.map(|block| register(&block))) {
            Ok(None) => {}
            Ok(Some(Some(register))) => self.pm_timer = Some(PmTimer { register, bits }),
            Ok(Some(None)) | Err(_) => {
                self.problems.push(AcpiError::Register("the FADT's power management timer"));
            }
        }
    }
}

/// What the RSDP points to.
struct Root {
    oem: OemId,
    rsdt: u64,
    /// 0 where there is none.
    xsdt: u64,
}

/// ACPI specification, "Root System Description Pointer (RSDP) Structure".
fn read_rsdp(address: u64, window: PhysWindow) -> Result<Root, AcpiError> {
    const NAME: &str = "RSDP";
    let outside = AcpiError::Outside { table: NAME, address };
    let first = window_bytes(window, address, 20).ok_or(outside)?;
    if !first.starts_with(b"RSD PTR ") {
        return Err(AcpiError::Signature(NAME));
    }
    check_sum(NAME, first)?;
    let oem = OemId(field(first, 9, NAME)?);
    let rsdt = u64::from(u32::from_le_bytes(field(first, 16, NAME)?));
    let [revision] = field(first, 15, NAME)?;
    if revision < 2 {
        return Ok(Root { oem, rsdt, xsdt: 0 });
    }
    let length = u32::from_le_bytes(field(window_bytes(window, address, 24).ok_or(outside)?, 20, NAME)?);
    if !(36..=4096).contains(&length) {
        return Err(AcpiError::Length { table: NAME, length: length.into() });
    }
    let whole = window_bytes(window, address, length.into()).ok_or(outside)?;
    check_sum(NAME, whole)?;
    Ok(Root { oem, rsdt, xsdt: u64::from_le_bytes(field(whole, 24, NAME)?) })
}

/// The whole table at `address`, after all checks that need no knowledge of its contents.
fn checked_table(
    window: PhysWindow,
    address: u64,
    table: &'static str,
    signature: [u8; 4],
) -> Result<&'static [u8], AcpiError> {
    let outside = AcpiError::Outside { table, address };
    let header = window_bytes(window, address, HEADER as u64).ok_or(outside)?;
    if !header.starts_with(&signature) {
        return Err(AcpiError::Signature(table));
    }
    let length = u64::from(u32::from_le_bytes(field(header, 4, table)?));
    if !(HEADER as u64..=LONGEST).contains(&length) {
        return Err(AcpiError::Length { table, length });
    }
    let bytes = window_bytes(window, address, length).ok_or(outside)?;
    check_sum(table, bytes)?;
    Ok(bytes)
}

fn check_sum(table: &'static str, bytes: &[u8]) -> Result<(), AcpiError> {
    let sum = bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
    if sum == 0 { Ok(()) } else { Err(AcpiError::Checksum(table)) }
}

/// Physical memory as bytes, if it is mapped.
fn window_bytes(window: PhysWindow, address: u64, length: u64) -> Option<&'static [u8]> {
    let start = window.virt(address, length)?;
    // SAFETY: mapped by the window for good. The firmware's tables lie in memory that nobody writes: the memory
    // map does not offer it, and the firmware left the CPU when the kernel started.
    Some(unsafe { core::slice::from_raw_parts(start, usize::try_from(length).ok()?) })
}

fn field<const N: usize>(bytes: &[u8], at: usize, table: &'static str) -> Result<[u8; N], AcpiError> {
    let short = AcpiError::Length { table, length: bytes.len() as u64 };
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(short)
}

/// The FADT, filled up with zeroes where an older and shorter one ends: a zero means "not there" in all fields.
fn fadt(table: &[u8]) -> Fadt {
    let mut bytes = [0; size_of::<Fadt>()];
    bytes.iter_mut().zip(table).for_each(|(to, &from)| *to = from);
    // SAFETY: as many bytes as the type has; it is packed and consists of integers, which take any bytes.
    unsafe { bytes.as_ptr().cast::<Fadt>().read_unaligned() }
}

/// The register, if it is of a kind that can be reached from here. Address 0 means that there is none.
fn register(address: &GenericAddress) -> Option<Register> {
    if address.address == 0 {
        return None;
    }
    match address.address_space {
        AddressSpace::SystemIo => u16::try_from(address.address).ok().map(Register::Port),
        AddressSpace::SystemMemory => Some(Register::Memory(address.address)),
        AddressSpace::PciConfigSpace
        | AddressSpace::EmbeddedController
        | AddressSpace::SMBus
        | AddressSpace::SystemCmos
        | AddressSpace::PciBarTarget
        | AddressSpace::Ipmi
        | AddressSpace::GeneralIo
        | AddressSpace::GenericSerialBus
        | AddressSpace::PlatformCommunicationsChannel
        | AddressSpace::FunctionalFixedHardware
        | AddressSpace::OemDefined(_) => None,
    }
}

/// The register block's address. IA-PC HPET specification, "The HPET Description Table".
fn hpet_address(table: &[u8]) -> Result<u64, AcpiError> {
    const NAME: &str = "HPET";
    let [space] = field(table, 40, NAME)?;
    let address = u64::from_le_bytes(field(table, 44, NAME)?);
    if space != 0 || !address.is_multiple_of(8) {
        return Err(AcpiError::Register("the HPET's register block"));
    }
    Ok(address)
}

#[cfg(test)]
mod tests;
