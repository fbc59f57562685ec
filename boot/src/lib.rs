//! Builds bootable images of bare-metal programs, runs them in QEMU and judges how they ended.
//!
//! The way of one run: [`args`] → [`elf`] → [`image`] → [`qemu`] (a command line) → [`process`] (its life) →
//! [`verdict`] (what the end means). [`session`] joins these steps into one boot.
//!
//! A test image lists its cases in a section of its own ([`cases`]); [`harness`] boots it as often as the cases
//! need, reads the guest's lines ([`protocol`]), judges each case ([`judge`]) and prints as libtest does
//! ([`report`]). [`suite`] is the whole check of the project, one command for all of it.
//!
//! A benchmark image is booted by [`mod@bench`], which reads the rows that it prints.
//!
//! Nothing here knows the kernel's crates: the interface is a file, boot arguments, the serial port and an exit
//! code.
#![expect(clippy::std_instead_of_alloc, reason = "a host program, which has std anyway")]
#![expect(clippy::large_stack_frames, reason = "a host's stack has megabytes")]

pub mod args;
pub mod bench;
pub mod cases;
pub mod console;
pub mod cpu_time;
pub mod elf;
pub mod error;
pub mod harness;
pub mod heap_dump;
pub mod image;
pub mod input;
pub mod judge;
pub mod machine;
pub mod ovmf;
pub mod process;
pub mod protocol;
pub mod qemu;
pub mod report;
pub mod session;
pub mod signals;
pub mod suite;
pub mod symbols;
pub mod verdict;
