//! Programs are checked and cut down to what the boot loader reads.

mod support;

use std::fs;

use boot::elf::Program;
use boot::error::Error;
use bootloader_api::BootloaderConfig;
use bootloader_api::config::Mapping;
use support::{elf, elf_with};

fn read(bytes: &[u8]) -> Result<Program, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("program");
    fs::write(&file, bytes).expect("written");
    Program::read(&file)
}

#[test]
fn what_is_loaded_and_the_loaders_section_are_kept() {
    let whole = elf(b"a\tpass\t\n");
    let program = read(&whole).expect("a program");
    let small = program.bootable().expect("bootable");
    assert!(small.len() < 0x3000, "{} bytes", small.len());
    // all that is loaded is as it was, save for the place of the section table in the ELF header
    assert_eq!(small[64..0x1040], whole[64..0x1040]);
    assert_eq!(small[..0x28], whole[..0x28]);
    let again = read(&small).expect("still a program");
    assert_eq!(again.section(".bootloader-config").expect("a table"), Some(&[0x55; 64][..]));
    assert_eq!(again.section(".gzero.cases").expect("a table"), None);
    assert_eq!(again.section(".debug_info").expect("a table"), None);
}

#[test]
fn a_cut_program_can_be_cut_again() {
    let once = read(&elf(b"")).expect("a program").bootable().expect("bootable");
    let twice = read(&once).expect("a program").bootable().expect("bootable");
    assert_eq!(once, twice);
}

#[test]
fn sections_are_found_by_name() {
    let program = read(&elf(b"a\tpass\t\n")).expect("a program");
    assert_eq!(program.section(".gzero.cases").expect("a table"), Some(&b"a\tpass\t\n"[..]));
    assert_eq!(program.section(".none").expect("a table"), None);
}

#[test]
fn what_cannot_be_booted_is_refused_with_the_mend() {
    let good = elf(b"");
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    for (bytes, word) in [
        (b"#!/bin/sh\n".to_vec(), "not a 64-bit ELF file"),
        (Vec::new(), "not a 64-bit ELF file"),
        (with(4, 1), "not a 64-bit ELF file"),
        (with(5, 2), "not a 64-bit ELF file"),
        (with(18, 0xb7), "not for x86_64"),
        (with(16, 1), "link it"),
        (with(56, 0), "nothing to load"),
        (good[..0x1000].to_vec(), "cut short"),
        (good[..100].to_vec(), "broken"),
    ] {
        let error = read(&bytes).expect_err(word).to_string();
        assert!(error.contains(word) && error.lines().count() == 1, "{word}: {error}");
    }
}

#[test]
fn a_program_for_another_boot_loader_is_refused() {
    let mut file = elf(b"");
    let name = file.windows(19).rposition(|window| window == b".bootloader-config\0").expect("its name");
    file[name + 1] = b'x';
    let error = read(&file).expect("a program").bootable().expect_err("no section").to_string();
    assert!(error.contains("gzero::entry!(main);"), "{error}");
}

#[test]
fn the_load_offset_is_in_the_loaders_section() {
    let with = |start: Option<u64>, base: Mapping| {
        let mut config = BootloaderConfig::new_default();
        config.mappings.dynamic_range_start = start;
        config.mappings.kernel_base = base;
        read(&elf_with(&config.serialize(), b"")).expect("a program").load_offset().expect("an offset")
    };
    assert_eq!(with(None, Mapping::Dynamic), 0x80_0000_0000);
    assert_eq!(with(Some(0xffff_8000_0000_0000), Mapping::Dynamic), 0xffff_8000_0000_0000);
    assert_eq!(with(Some(0x1000), Mapping::FixedAddress(0x20_0000)), 0x20_0000);
    let error = read(&elf(b"")).expect("a program").load_offset().expect_err("not the loader's").to_string();
    assert!(error.contains("another version"), "{error}");
}
