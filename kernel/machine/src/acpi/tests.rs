//! Tests of the table reader, over memory that plays the physical one.

use super::{AcpiError, PmTimer, Register, Tables};
use crate::madt::{ApicId, MadtError};
use crate::window::PhysWindow;
use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

const RSDP: usize = 0x100;
const ROOT: usize = 0x200;
const MADT: usize = 0x400;
const FADT: usize = 0x600;
const HPET: usize = 0x800;
const SIZE: usize = 0x1000;

/// Makes the bytes sum to zero by the one at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    let sum = bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
    bytes[at] = sum.wrapping_neg();
}

fn put(memory: &mut [u8], at: usize, bytes: &[u8]) {
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_table(memory: &mut [u8], at: usize, signature: [u8; 4], body: &[u8]) {
    let length = 36 + body.len();
    put(memory, at, &signature);
    put(memory, at + 4, &u32::try_from(length).expect("short").to_le_bytes());
    put(memory, at + 8, &[3]);
    put(memory, at + 36, body);
    seal(&mut memory[at..at + length], 9);
}

/// ACPI 2 memory with an XSDT that names a MADT, a FADT and an HPET.
fn good() -> Vec<u8> {
    let mut memory = vec![0; SIZE];
    put(&mut memory, RSDP, b"RSD PTR \0GZERO \x02");
    put(&mut memory, RSDP + 20, &36_u32.to_le_bytes());
    put(&mut memory, RSDP + 24, &(ROOT as u64).to_le_bytes());
    seal(&mut memory[RSDP..RSDP + 20], 8);
    seal(&mut memory[RSDP..RSDP + 36], 32);
    let pointers: Vec<u8> = [MADT, FADT, 0, HPET].iter().flat_map(|&at| (at as u64).to_le_bytes()).collect();
    put_table(&mut memory, ROOT, *b"XSDT", &pointers);
    let madt = [0, 0, 0xe0, 0xfe, 1, 0, 0, 0, 0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 2, 1, 0, 0, 0];
    put_table(&mut memory, MADT, *b"APIC", &madt);
    put_table(&mut memory, FADT, *b"FACP", &fadt_body());
    let hpet = [1, 0xa2, 0x86, 0x80, 0, 64, 0, 0, 0, 0, 0xd0, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0];
    put_table(&mut memory, HPET, *b"HPET", &hpet);
    memory
}

/// PM timer at port 0x608 with 32 bits.
fn fadt_body() -> [u8; 208] {
    let mut body = [0; 208];
    put(&mut body, 76 - 36, &0x608_u32.to_le_bytes());
    put(&mut body, 91 - 36, &[4]);
    put(&mut body, 112 - 36, &(1_u32 << 8).to_le_bytes());
    body
}

/// Reads `memory` as if it were all that is mapped.
fn read_at(rsdp: Option<u64>, memory: Vec<u8>) -> Tables {
    let memory = memory.leak();
    let window = PhysWindow { base: memory.as_ptr().expose_provenance() as u64, size: memory.len() as u64 };
    Tables::read(rsdp, window)
}

fn read(memory: Vec<u8>) -> Tables {
    read_at(Some(RSDP as u64), memory)
}

#[test]
fn everything_is_found() {
    let tables = read(good());
    assert_eq!(tables.problems, []);
    assert_eq!(tables.oem.map(|oem| oem.to_string()).as_deref(), Some("GZERO"));
    assert_eq!(tables.madt.as_ref().map(|madt| madt.cpus.clone()), Some(vec![ApicId(0), ApicId(2)]));
    assert_eq!(tables.madt.map(|madt| madt.local_apic_address), Some(0xfee0_0000));
    assert_eq!(tables.hpet, Some(0xfed0_0000));
    assert_eq!(tables.pm_timer, Some(PmTimer { register: Register::Port(0x608), bits: 32 }));
}

#[test]
fn no_rsdp_is_a_problem_and_no_more() {
    let tables = read_at(None, good());
    assert_eq!(tables.problems, [AcpiError::NoRsdp]);
    assert!(tables.madt.is_none());
}

#[test]
fn a_bad_rsdp_is_named() {
    let mut memory = good();
    memory[RSDP] = b'X';
    assert_eq!(read(memory).problems, [AcpiError::Signature("RSDP")]);
    for bad in [RSDP + 16, RSDP + 33] {
        let mut memory = good();
        memory[bad] ^= 1;
        assert_eq!(read(memory).problems, [AcpiError::Checksum("RSDP")], "byte {bad:#x}");
    }
    let mut memory = good();
    put(&mut memory, RSDP + 20, &35_u32.to_le_bytes());
    assert_eq!(read(memory).problems, [AcpiError::Length { table: "RSDP", length: 35 }]);
    let far = SIZE as u64 - 10;
    assert_eq!(read_at(Some(far), good()).problems, [AcpiError::Outside { table: "RSDP", address: far }]);
}

#[test]
fn a_bad_table_costs_only_what_it_describes() {
    let mut memory = good();
    memory[MADT + 40] ^= 1;
    let tables = read(memory);
    assert_eq!(tables.problems, [AcpiError::Checksum("MADT"), AcpiError::Missing("MADT")]);
    assert!(tables.madt.is_none() && tables.hpet.is_some() && tables.pm_timer.is_some());
}

#[test]
fn a_bad_xsdt_falls_back_to_the_rsdt() {
    let mut memory = good();
    memory[ROOT + 10] ^= 1;
    put(&mut memory, RSDP + 16, &0xc00_u32.to_le_bytes());
    seal(&mut memory[RSDP..RSDP + 20], 8);
    seal(&mut memory[RSDP..RSDP + 36], 32);
    let pointers: Vec<u8> =
        [MADT, HPET].iter().flat_map(|&at| u32::try_from(at).expect("low").to_le_bytes()).collect();
    put_table(&mut memory, 0xc00, *b"RSDT", &pointers);
    let tables = read(memory);
    assert_eq!(tables.problems, [AcpiError::Checksum("XSDT")]);
    assert!(tables.madt.is_some() && tables.hpet.is_some());
}

#[test]
fn impossible_lengths_are_not_read() {
    for length in [0, 35, (1 << 20) + 1] {
        let mut memory = good();
        put(&mut memory, MADT + 4, &u32::to_le_bytes(length));
        let expected = AcpiError::Length { table: "MADT", length: length.into() };
        assert_eq!(read(memory).problems, [expected, AcpiError::Missing("MADT")]);
    }
    let mut memory = good();
    put(&mut memory, MADT + 4, &0xc01_u32.to_le_bytes());
    let expected = AcpiError::Outside { table: "MADT", address: MADT as u64 };
    assert_eq!(read(memory).problems, [expected, AcpiError::Missing("MADT")]);
}

#[test]
fn a_pointer_to_nowhere_is_skipped() {
    let mut memory = good();
    put(&mut memory, ROOT + 36 + 8, &u64::MAX.to_le_bytes());
    seal(&mut memory[ROOT..ROOT + 36 + 32], 9);
    let tables = read(memory);
    assert_eq!(tables.problems, [AcpiError::Outside { table: "a table", address: u64::MAX }]);
    assert!(tables.madt.is_some() && tables.hpet.is_some() && tables.pm_timer.is_none());
}

#[test]
fn a_malformed_entry_of_the_madt_is_a_problem() {
    let mut memory = good();
    put_table(&mut memory, MADT, *b"APIC", &[0, 0, 0xe0, 0xfe, 1, 0, 0, 0, 0, 0]);
    let expected = MadtError::EntryTooShort { offset: 44, kind: 0, length: 0 };
    assert_eq!(read(memory).problems, [AcpiError::Madt(expected), AcpiError::Missing("MADT")]);
}

#[test]
fn a_short_old_fadt_has_a_timer() {
    let mut memory = good();
    put(&mut memory, FADT, &[0; 0x100]);
    put_table(&mut memory, FADT, *b"FACP", &fadt_body()[..76]);
    let tables = read(memory);
    assert_eq!(
        tables.pm_timer,
        Some(PmTimer { register: Register::Port(0x608), bits: 24 }),
        "the flags lie beyond the end"
    );
    assert_eq!(tables.problems, []);
}

#[test]
fn an_hpet_at_an_odd_address_is_refused() {
    let mut memory = good();
    put(&mut memory, HPET + 44, &0xfed0_0004_u64.to_le_bytes());
    seal(&mut memory[HPET..HPET + 56], 9);
    let tables = read(memory);
    assert_eq!(tables.problems, [AcpiError::Register("the HPET's register block")]);
    assert!(tables.hpet.is_none() && tables.madt.is_some() && tables.pm_timer.is_some());
}
