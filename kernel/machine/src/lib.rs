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
//! | [`console`], [`serial`], [`debugcon`], [`screen`] | output |
//! | [`control`], [`cpu`] | control registers, CPUID |
//! | [`window`], [`frames`], [`paging`], [`stack`], [`heap`] | memory |
//! | [`gdt`], [`idt`], [`entry`], [`vector`], [`exception`] | descriptor tables and interrupt entry |
//! | [`acpi`], [`madt`], [`clock`], [`apic`], [`ioapic`] | tables, time, local APIC and its timer, interrupts of devices |
//! | [`smp`], [`trampoline`] | the other CPUs |
//! | [`context`], [`intrude`] | the switch, and the call that an interrupt forces |
//! | [`patterns`] | a self-test of interrupts |
//! | [`bare`] | what the bare machine needs, to be measured |
//! | [`backtrace`], [`symbol`] | which calls have led to a place, and their names |
//! | [`qemu`], [`power`] | the end |
//!
//! Nearly every file here needs `unsafe`: a register, a page table, a stack. Each block says why it may.
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "model"))]
extern crate std;

pub mod acpi;
pub mod address;
pub mod apic;
pub mod audit;
pub mod backtrace;
pub mod bare;
mod calibrate;
pub mod clock;
pub mod console;
pub mod context;
pub mod control;
pub mod cpu;
pub mod debugcon;
pub mod entry;
pub mod exception;
pub mod frames;
pub mod gdt;
pub mod heap;
mod huge;
pub mod idt;
pub mod intrude;
pub mod ioapic;
pub mod irq;
pub mod lock;
pub mod madt;
mod memory_map;
pub mod paging;
pub mod patterns;
pub mod percpu;
pub mod pic;
pub mod power;
pub mod qemu;
pub mod screen;
pub mod serial;
pub mod smp;
pub mod stack;
pub mod symbol;
pub mod trampoline;
pub mod vector;
pub mod window;
