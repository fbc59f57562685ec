//! gzero: Go's scheduler on bare metal.
//!
//! A program is a function that runs as the main goroutine ([`entry!`]); it starts others with [`go()`]. All CPUs of
//! the machine run them.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! gzero::entry!(main);
//!
//! fn main() {
//!     let me = gzero::current();
//!     gzero::go(move || {
//!         gzero::println!("hello from a goroutine");
//!         gzero::unpark(me);
//!     });
//!     gzero::park();
//! }
//! ```
//!
//! This crate joins `sched`, which decides, and `machine`, which acts: interrupt or park, then `sched` decides, then
//! `perform` carries it out. Each file uses only files above it in the list below, but for `panic`, which all use.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

pub mod args;
mod console;

pub mod bring_up;
#[expect(unsafe_code, reason = "the global allocator hands out raw memory")]
pub mod heap;

#[expect(unsafe_code, reason = "a goroutine's saved context has one owner by its status, not by its type")]
mod goroutine;
#[expect(unsafe_code, reason = "finds a CPU's M through the word in its per-CPU block")]
mod m;
mod runtime;

mod panic;

#[expect(unsafe_code, reason = "switches contexts")]
mod perform;

#[expect(unsafe_code, reason = "lays out the first frame of a goroutine on its stack")]
mod go;
mod park;

mod deadlock;
mod idle;
mod mailbox;
pub mod stats;

mod roll_call;
#[doc(hidden)]
pub mod testing;

mod program;

#[expect(unsafe_code, reason = "reads what the boot loader left in memory")]
mod boot;

#[doc(hidden)]
pub use bootloader_api;
#[doc(hidden)]
pub use machine::console::write_fmt as console_write;

pub use go::{GoError, go, go_named, goexit, gosched, try_go};
pub use mailbox::Mailbox;
pub use panic::{fatal, throw};
pub use park::{WaitReason, current, goid, gopark, goready, park, park_for_devices, unpark};
#[doc(hidden)]
pub use program::{BOOT_CONFIG, start};
pub use program::{Program, Termination};
pub use roll_call::roll_call;
pub use sched::{GoRef, Goid};
pub use stats::{num_cpu, num_goroutine};

use args::Args;

/// The boot arguments.
pub fn boot_args() -> &'static Args {
    &bring_up::get().args
}

/// Ends the machine with an exit code, at once and on all CPUs.
///
/// Under QEMU codes up to 110 reach the host; larger ones arrive as 110. On a board the machine halts.
pub fn exit(code: u8) -> ! {
    panic::exit(code)
}
