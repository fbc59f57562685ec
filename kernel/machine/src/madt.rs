//! The table that names the CPUs and the I/O APICs: Multiple APIC Description Table, signature `APIC`.
//!
//! A walk over plain bytes, which the caller has checked for length and sum. Entries are believed only as far
//! as the table reaches. ACPI specification, "Multiple APIC Description Table (MADT)".

use alloc::vec::Vec;
use core::fmt;

/// Offsets of fixed fields and of the first entry.
const LOCAL_APIC_ADDRESS: usize = 36;
const ENTRIES: usize = 44;

/// Types of entries, and the least length that each must have.
const LOCAL_APIC: (u8, usize) = (0, 8);
const IO_APIC: (u8, usize) = (1, 12);
const INTERRUPT_SOURCE_OVERRIDE: (u8, usize) = (2, 10);
const LOCAL_APIC_ADDRESS_OVERRIDE: (u8, usize) = (5, 12);
const LOCAL_X2APIC: (u8, usize) = (9, 16);

/// All of them that are understood.
const KNOWN: [(u8, usize); 5] =
    [LOCAL_APIC, IO_APIC, INTERRUPT_SOURCE_OVERRIDE, LOCAL_APIC_ADDRESS_OVERRIDE, LOCAL_X2APIC];

/// The bus of the only overrides that there are.
const ISA: u8 = 0;

/// In an entry's flags: the CPU is ready for use. Bit 1 (it could be plugged in later) does not count.
const ENABLED: u32 = 1 << 0;

/// Most CPUs that are taken; further ones are counted and left out.
pub const MAX_CPUS: usize = 1024;

/// The id of a local APIC: how interrupts address a CPU. Ids are sparse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApicId(pub u32);

impl fmt::Display for ApicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many CPUs the table names, and why it names more than [`Madt::cpus`] holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries of CPUs, of whatever kind.
    pub named: usize,
    /// Those that the firmware calls enabled, including dead, repeated and surplus ones.
    pub enabled: usize,
    /// Enabled entries with the broadcast id, which no CPU can have.
    pub dead: usize,
    /// Enabled entries whose id came before.
    pub repeated: usize,
    /// Enabled entries beyond [`MAX_CPUS`].
    pub surplus: usize,
}

/// An I/O APIC: it turns the signals of devices into interrupts of CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// The global system interrupt of its first input.
    pub gsi_base: u32,
}

/// Which level of a line says that there is something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polarity {
    /// The upper one.
    ActiveHigh,
    /// The lower one.
    ActiveLow,
}

/// What of a line makes an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// That it becomes active.
    Edge,
    /// That it is active.
    Level,
}

/// How a device's signal reaches the I/O APICs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Global system interrupt: an input of one of the I/O APICs.
    pub gsi: u32,
    /// When it is active.
    pub polarity: Polarity,
    /// How it is sensed.
    pub trigger: Trigger,
}

impl Line {
    /// That of an ISA interrupt of which nothing is said.
    pub const fn isa(irq: u8) -> Self {
        Self { gsi: irq as u32, polarity: Polarity::ActiveHigh, trigger: Trigger::Edge }
    }
}

/// What the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Madt {
    /// Usable CPUs in the order of the table, without repetition. The boot CPU should be among them.
    pub cpus: Vec<ApicId>,
    /// What was found and what was left out.
    pub counts: Counts,
    /// Ids that came more than once, each time they did.
    pub repeated: Vec<ApicId>,
    /// Physical address of the local APIC's registers.
    pub local_apic_address: u64,
    /// The I/O APICs in the order of the table.
    pub io_apics: Vec<IoApic>,
    /// ISA interrupts that do not arrive as their number says.
    overrides: Vec<(u8, Line)>,
}

/// What is wrong with the table's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadtError {
    /// Too short for its fixed fields.
    Truncated {
        /// Bytes that there are.
        length: usize,
    },
    /// An entry is shorter than its kind demands.
    EntryTooShort {
        /// Where in the table.
        offset: usize,
        /// Type of the entry.
        kind: u8,
        /// The length that it claims.
        length: usize,
    },
    /// An entry reaches beyond the table.
    EntryBeyondEnd {
        /// Where in the table.
        offset: usize,
    },
}

impl fmt::Display for MadtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { length } => write!(f, "{length} bytes do not hold its fixed fields"),
            Self::EntryTooShort { offset, kind, length } => {
                write!(f, "the entry at byte {offset} (type {kind}) is only {length} bytes long")
            }
            Self::EntryBeyondEnd { offset } => write!(f, "the entry at byte {offset} ends beyond the table"),
        }
    }
}

impl Counts {
    /// CPUs that there may be: each entry that stands for one of its own, usable or not.
    pub const fn distinct(&self) -> usize {
        self.named - self.dead - self.repeated
    }
}

impl Madt {
    /// Reads the whole table, header included.
    pub fn parse(table: &[u8]) -> Result<Self, MadtError> {
        let truncated = MadtError::Truncated { length: table.len() };
        let address = read_u32(table, LOCAL_APIC_ADDRESS).ok_or(truncated)?;
        // The flags that follow say whether there are 8259 controllers. They are masked in any case.
        table.get(..ENTRIES).ok_or(truncated)?;
        let mut madt = Self {
            cpus: Vec::new(),
            counts: Counts::default(),
            repeated: Vec::new(),
            local_apic_address: u64::from(address),
            io_apics: Vec::new(),
            overrides: Vec::new(),
        };
        let mut offset = ENTRIES;
        while offset < table.len() {
            let (kind, entry) = entry_at(table, offset)?;
            let too_short = MadtError::EntryTooShort { offset, kind, length: entry.len() };
            madt.take_entry(kind, entry).ok_or(too_short)?;
            offset += entry.len();
        }
        Ok(madt)
    }

    /// `None` when the entry is too short for its kind.
    fn take_entry(&mut self, kind: u8, entry: &[u8]) -> Option<()> {
        let is = |(known, least)| kind == known && entry.len() >= least;
        if is(LOCAL_APIC) {
            let id = u32::from(*entry.get(3)?);
            self.take_cpu(id, read_u32(entry, 4)?, u32::from(u8::MAX));
        } else if is(LOCAL_X2APIC) {
            self.take_cpu(read_u32(entry, 4)?, read_u32(entry, 8)?, u32::MAX);
        } else if is(LOCAL_APIC_ADDRESS_OVERRIDE) {
            self.local_apic_address = u64::from(read_u32(entry, 4)?) | u64::from(read_u32(entry, 8)?) << 32;
        } else if is(IO_APIC) {
            let address = u64::from(read_u32(entry, 4)?);
            self.io_apics.push(IoApic { address, gsi_base: read_u32(entry, 8)? });
        } else if is(INTERRUPT_SOURCE_OVERRIDE) {
            self.take_override(entry)?;
        } else if KNOWN.iter().any(|known| known.0 == kind) {
            return None;
        }
        Some(())
    }

    fn take_override(&mut self, entry: &[u8]) -> Option<()> {
        let &[bus, source, ..] = entry.get(2..)? else { return None };
        let flags = *entry.get(8)?;
        if bus == ISA {
            // 0 is "as the bus has it", which on ISA is active high and by edge; 1 says just that.
            let polarity = if flags & 3 == 3 { Polarity::ActiveLow } else { Polarity::ActiveHigh };
            let trigger = if flags >> 2 & 3 == 3 { Trigger::Level } else { Trigger::Edge };
            let line = Line { gsi: read_u32(entry, 4)?, polarity, trigger };
            self.overrides.push((source, line));
        }
        Some(())
    }

    /// Where an ISA interrupt arrives: at the input of its own number, unless the table says otherwise.
    pub fn isa_line(&self, irq: u8) -> Line {
        let said = self.overrides.iter().find(|(source, _)| *source == irq);
        said.map_or(Line::isa(irq), |(_, line)| *line)
    }

    fn take_cpu(&mut self, id: u32, flags: u32, broadcast: u32) {
        self.counts.named += 1;
        if flags & ENABLED == 0 {
            return;
        }
        self.counts.enabled += 1;
        let apic_id = ApicId(id);
        if id == broadcast {
            self.counts.dead += 1;
        } else if self.cpus.contains(&apic_id) {
            self.counts.repeated += 1;
            self.repeated.push(apic_id);
        } else if self.cpus.len() == MAX_CPUS {
            self.counts.surplus += 1;
        } else {
            self.cpus.push(apic_id);
        }
    }
}

/// The type and all bytes of the entry at `offset`. Its length is at least 2, so a walk always moves on.
fn entry_at(table: &[u8], offset: usize) -> Result<(u8, &[u8]), MadtError> {
    let beyond = MadtError::EntryBeyondEnd { offset };
    let rest = table.get(offset..).ok_or(beyond)?;
    let &[kind, length, ..] = rest else { return Err(beyond) };
    let length = usize::from(length);
    if length < 2 {
        return Err(MadtError::EntryTooShort { offset, kind, length });
    }
    Ok((kind, rest.get(..length).ok_or(beyond)?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::{ApicId, Counts, IoApic, Line, Madt, MadtError, Polarity, Trigger};
    use alloc::vec;
    use alloc::vec::Vec;

    /// A table with these entries; the header is not looked at.
    fn table(entries: &[&[u8]]) -> Vec<u8> {
        let mut table = vec![0; 36];
        table.extend(0xfee0_0000_u32.to_le_bytes());
        table.extend(1_u32.to_le_bytes());
        for entry in entries {
            table.extend(*entry);
        }
        table
    }

    fn xapic(id: u8, flags: u8) -> Vec<u8> {
        vec![0, 8, 77, id, flags, 0, 0, 0]
    }

    fn x2apic(id: u32, flags: u8) -> Vec<u8> {
        let mut entry = vec![9, 16, 0, 0];
        entry.extend(id.to_le_bytes());
        entry.extend([flags, 0, 0, 0, 1, 2, 3, 4]);
        entry
    }

    fn ids(madt: &Madt) -> Vec<u32> {
        madt.cpus.iter().map(|id| id.0).collect()
    }

    #[test]
    fn both_kinds_of_entries_name_cpus() {
        let bytes = table(&[
            &xapic(0, 1),
            &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &xapic(6, 1),
            &x2apic(0x1_0000, 1),
        ]);
        let madt = Madt::parse(&bytes).expect("a good table");
        assert_eq!(ids(&madt), [0, 6, 0x1_0000]);
        assert_eq!(madt.counts, Counts { named: 3, enabled: 3, ..Counts::default() });
        assert_eq!(madt.local_apic_address, 0xfee0_0000);
    }

    #[test]
    fn only_enabled_cpus_count() {
        let madt =
            Madt::parse(&table(&[&xapic(0, 0), &xapic(1, 2), &xapic(2, 3), &x2apic(300, 2)])).expect("good");
        assert_eq!(ids(&madt), [2], "online capable alone is not enabled");
        assert_eq!(madt.counts, Counts { named: 4, enabled: 1, ..Counts::default() });
    }

    #[test]
    fn dead_and_repeated_entries_are_left_out_and_counted() {
        let bytes = table(&[
            &xapic(3, 1),
            &xapic(0xff, 1),
            &xapic(0xff, 0),
            &x2apic(0xff, 1),
            &x2apic(u32::MAX, 1),
            &x2apic(3, 1),
            &xapic(3, 1),
        ]);
        let madt = Madt::parse(&bytes).expect("good");
        assert_eq!(ids(&madt), [3, 0xff], "0xff is an ordinary id in the wide entry");
        assert_eq!(madt.repeated, [ApicId(3), ApicId(3)]);
        assert_eq!(madt.counts, Counts { named: 7, enabled: 6, dead: 2, repeated: 2, surplus: 0 });
        assert_eq!(madt.counts.distinct(), 3, "the disabled one may be there");
    }

    #[test]
    fn more_cpus_than_fit_are_counted() {
        let entries: Vec<Vec<u8>> = (0..1030).map(|id| x2apic(id * 2, 1)).collect();
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let madt = Madt::parse(&table(&entries)).expect("good");
        assert_eq!((madt.cpus.len(), madt.counts.surplus, madt.counts.enabled), (1024, 6, 1030));
    }

    #[test]
    fn the_address_override_is_64_bits_wide() {
        let entry = [5, 12, 0, 0, 0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
        let madt = Madt::parse(&table(&[&entry])).expect("good");
        assert_eq!(madt.local_apic_address, 0x1_fee0_0000);
    }

    #[test]
    fn isa_interrupts_arrive_where_the_table_says() {
        let bytes = table(&[
            &[1, 12, 9, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
            &[1, 12, 8, 0, 0, 0x10, 0xc0, 0xfe, 24, 0, 0, 0],
            &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
            &[2, 10, 0, 9, 20, 0, 0, 0, 0b1111, 0],
            &[2, 10, 0, 4, 36, 0, 0, 0, 0b0101, 0],
            &[2, 10, 5, 3, 40, 0, 0, 0, 0, 0],
        ]);
        let madt = Madt::parse(&bytes).expect("good");
        let io_apic = |address, gsi_base| IoApic { address, gsi_base };
        assert_eq!(madt.io_apics, [io_apic(0xfec0_0000, 0), io_apic(0xfec0_1000, 24)]);
        let edge = |gsi| Line { gsi, polarity: Polarity::ActiveHigh, trigger: Trigger::Edge };
        assert_eq!(madt.isa_line(0), edge(2));
        assert_eq!(
            madt.isa_line(9),
            Line { gsi: 20, polarity: Polarity::ActiveLow, trigger: Trigger::Level }
        );
        assert_eq!(madt.isa_line(4), edge(36));
        assert_eq!(madt.isa_line(3), edge(3), "an override of another bus says nothing about ISA");
    }

    #[test]
    fn an_entry_of_length_zero_ends_the_walk() {
        for length in [0, 1] {
            let error = Madt::parse(&table(&[&xapic(0, 1), &[0x55, length, 0, 0]]));
            assert_eq!(
                error,
                Err(MadtError::EntryTooShort { offset: 52, kind: 0x55, length: length.into() })
            );
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        let whole = table(&[&xapic(0, 1), &x2apic(1, 1)]);
        assert_eq!(Madt::parse(&whole[..51]), Err(MadtError::EntryBeyondEnd { offset: 44 }));
        assert_eq!(Madt::parse(&whole[..53]), Err(MadtError::EntryBeyondEnd { offset: 52 }), "half a header");
        assert_eq!(Madt::parse(&whole[..43]), Err(MadtError::Truncated { length: 43 }));
        let short = table(&[&[9, 8, 0, 0, 1, 0, 0, 0]]);
        assert_eq!(Madt::parse(&short), Err(MadtError::EntryTooShort { offset: 44, kind: 9, length: 8 }));
    }

    #[test]
    fn no_cut_or_flip_makes_it_panic() {
        let good = table(&[
            &xapic(0, 1),
            &x2apic(1, 1),
            &[5, 12, 0, 0, 0, 0, 0xe0, 0xfe, 1, 0, 0, 0],
            &[1, 12, 9, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
            &[2, 10, 0, 9, 20, 0, 0, 0, 0b1111, 0],
            &xapic(9, 1),
        ]);
        for at in 0..good.len() {
            let _cut = Madt::parse(&good[..at]);
            for value in 0..=u8::MAX {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _flipped = Madt::parse(&bytes);
            }
        }
    }
}
