//! Mechanisms of an x86-64 machine: processors, interrupts, memory, stacks, clocks, consoles.
//!
//! This crate acts and does not decide. It knows CPUs and stacks, but not what runs on them. Calls upwards go
//! through functions that the kernel registers ([`idt::register`], [`exception::on_fatal`]).
//!
//! One register group or device a file. In the order in which boot uses them:
//!
//! | file | subject |
//! |---|---|
//! | [`percpu`], [`lock`], [`irq`] | the block of each CPU, ranked locks, the interrupt flag |
//! | [`console`], [`serial`], [`screen`] | output |
//! | [`control`], [`cpu`] | control registers, CPUID |
//! | [`window`], [`frames`], [`paging`], [`stack`] | memory |
//! | [`gdt`], [`idt`], [`entry`], [`vector`], [`exception`] | descriptor tables and interrupt entry |
//! | [`acpi`], [`madt`], [`clock`], [`apic`] | tables, time, local APIC |
//! | [`smp`], [`trampoline`] | the other CPUs |
//! | [`context`] | the switch |
//! | [`qemu`], [`power`] | the end |
//!
//! Nearly every file here needs `unsafe`: a register, a page table, a stack. Each block says why it may.
#![no_std]

extern crate alloc;

pub mod acpi;
pub mod address;
pub mod apic;
mod calibrate;
pub mod clock;
pub mod console;
pub mod context;
pub mod control;
pub mod cpu;
pub mod entry;
pub mod exception;
pub mod frames;
pub mod gdt;
pub mod idt;
pub mod irq;
pub mod lock;
pub mod madt;
mod memory_map;
pub mod paging;
pub mod percpu;
pub mod pic;
pub mod power;
pub mod qemu;
pub mod screen;
pub mod serial;
pub mod smp;
pub mod stack;
pub mod trampoline;
pub mod vector;
pub mod window;
