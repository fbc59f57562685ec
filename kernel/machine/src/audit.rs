//! The rights of all that is mapped.
//!
//! No page may be writable and executable at once. The one such page is in no tree that a CPU keeps: the start-up page, in tables of its own,
//! which each CPU leaves with its first instructions ([`crate::trampoline`]).

use core::sync::atomic::Ordering;

use crate::paging::{ADDRESS_MASK, ENTRIES, Entry, entry, root};
use crate::percpu::Pinned;

/// What [`audit`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audit {
    /// Mappings that allow execution.
    pub executable: u64,
    /// Mappings that allow writing.
    pub writable: u64,
    /// First mapping that allows both.
    pub both: Option<u64>,
}

/// Walks every mapping. The rights of a page are those that all levels above it allow.
pub fn audit() -> Audit {
    let _pinned = Pinned::new();
    let mut found = Audit::default();
    walk(root(), 4, 0, Entry::WRITABLE, &mut found);
    found
}

fn walk(table: u64, level: u32, base: u64, allowed: Entry, found: &mut Audit) {
    for i in 0..ENTRIES {
        let value = entry(table, i).load(Ordering::Acquire);
        let flags = Entry::from_bits_retain(value);
        if !flags.contains(Entry::PRESENT) {
            continue;
        }
        let rights = (allowed & flags & Entry::WRITABLE) | ((allowed | flags) & Entry::NO_EXECUTE);
        let address = base | i << (12 + 9 * (level - 1));
        if level > 1 && !(level < 4 && flags.contains(Entry::HUGE)) {
            walk(value & ADDRESS_MASK, level - 1, address, rights, found);
            continue;
        }
        let writable = rights.contains(Entry::WRITABLE);
        let executable = !rights.contains(Entry::NO_EXECUTE);
        found.writable += u64::from(writable);
        found.executable += u64::from(executable);
        if writable && executable && found.both.is_none() {
            found.both = Some(if address & 1 << 47 == 0 { address } else { address | 0xffff << 48 });
        }
    }
}
