//! gzero: Go's scheduler on bare metal.
//!
//! A program is a function that runs as the main goroutine ([`entry!`]); it starts others with [`go()`]. All CPUs of
//! the machine run them.
//!
//! ```
//! #![no_std]
//! #![no_main]
//!
//! gzero::entry!(main);
//!
//! use gzero::prelude::*;
//!
//! fn main() {
//!     let worker = go(|| {
//!         println!("hello from a goroutine");
//!         6 * 7
//!     });
//!     println!("it says {}", worker.join());
//! }
//! ```
//!
//! # What waits, and on which stack
//!
//! A function that may make its goroutine wait says so by `# Throws`: it is called on a goroutine's own stack, which is what
//! programs have everywhere but inside of [`on_m`], [`mcall`] and the closure of [`gopark`], and it ends the machine elsewhere, also
//! when there was nothing to wait for. All other functions return without waiting and may be called on any stack, unless
//! they say otherwise.
#![no_std]
#![deny(unsafe_code)]

// This crate joins `sched`, which decides, and `machine`, which acts: interrupt or park, then `sched` decides, then
// `perform` carries it out. Each file uses only files above it in the list below, but for `panic`, which all use.

/// Rust's own `alloc`: collections, strings, boxes; so that a program need not say `extern crate alloc`.
pub extern crate alloc;

pub mod args;
mod console;

pub mod bring_up;
#[expect(unsafe_code, reason = "the global allocator hands out raw memory")]
pub mod heap;

mod event;
#[expect(unsafe_code, reason = "a goroutine's saved context has one owner by its status, not by its type")]
mod goroutine;
mod mark;
mod stops;

#[expect(unsafe_code, reason = "sudogs lie in pages of their own")]
mod sudog_memory;

#[expect(unsafe_code, reason = "finds a CPU's M through the word in its per-CPU block")]
mod m;
mod runtime;
pub mod trace;

mod panic;

mod high_water;
mod idle_stacks;
#[expect(unsafe_code, reason = "calls functions on another stack")]
mod stacks;
mod tlb;

mod hold;
mod locks;
mod schedtrace;

mod tick;

#[expect(unsafe_code, reason = "makes the slots of the goroutine table in pages of their own")]
mod slots;

mod bury;
mod wake;

#[expect(unsafe_code, reason = "switches contexts")]
mod perform;

mod builder;
mod park;
#[expect(unsafe_code, reason = "declares what only the maker of a wait can answer for")]
mod ready;

#[expect(unsafe_code, reason = "a goroutine's local values are found by a list of untyped nodes")]
mod local;
#[expect(unsafe_code, reason = "finds closures and values at the tops of stacks")]
mod shelf;

mod give_way;
#[expect(unsafe_code, reason = "lays out the first frame of a goroutine on its stack")]
mod go;
#[expect(unsafe_code, reason = "takes a goroutine's value from its stack")]
mod join;
#[expect(unsafe_code, reason = "starts goroutines that borrow from a stack")]
mod scope;
mod timers;

#[expect(unsafe_code, reason = "reads the heads of locks that others wait for")]
mod waits;

mod deadlock;
mod mailbox;
mod sudog;

mod sema;

#[expect(unsafe_code, reason = "values go from one stack to another, by address")]
pub mod chan;
#[expect(unsafe_code, reason = "as above")]
pub mod select;

pub mod time;

mod sysmon;

mod input;

#[expect(unsafe_code, reason = "makes an interrupted goroutine call a function")]
mod preempt;

mod idle;
mod resize;

pub mod world;

mod dump;
#[expect(unsafe_code, reason = "frees page frames that were unmapped")]
mod os_memory;
mod procs;
pub mod stats;

pub mod fd;
mod mem_stats;

mod stdin;

mod heap_dump;

mod deadlocks;
pub mod sync;

mod roll_call;
#[doc(hidden)]
pub mod testing;

mod program;

pub mod prelude;

#[expect(unsafe_code, reason = "reads what the boot loader left in memory")]
mod boot;

#[doc(hidden)]
pub use bootloader_api;
pub use machine::clock::Nanos;
#[doc(hidden)]
pub use machine::console::write_fmt as console_write;

pub use builder::{Builder, GoError};
pub use chan::{Receiver, Sender, chan, try_chan};
pub use deadlocks::{Deadlock, DeadlockMember, deadlocks};
pub use dump::dump;
pub use give_way::gosched;
pub use go::goexit;
pub use heap_dump::{DumpError, write_heap_dump};
pub use join::{EndedByGoexit, JoinHandle, go, go_named, go_with, try_go};
pub use local::LocalKey;
pub use mailbox::Mailbox;
pub use mem_stats::{BySize, MemStats, free_os_memory, read_mem_stats, size_class};
pub use panic::{fatal, throw};
pub use park::{WaitReason, current, goid, gopark, mcall, park, park_for_devices, unpark};
pub use procs::{gomaxprocs, lock_os_thread, unlock_os_thread};
#[doc(hidden)]
pub use program::{BOOT_CONFIG, start};
pub use program::{Program, Termination};
pub use ready::goready;
pub use roll_call::roll_call;
pub use sched::sema::{Handoff, Order};
pub use sched::{GoRef, Goid};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use sema::{semacquire, semacquire1, semrelease, semrelease1, try_semacquire};
pub use stacks::{StackKind, on_m, stack_kind};
pub use stats::{num_cpu, num_goroutine};
pub use stdin::{Lines, Stdin, stdin};
pub use time::{now, sleep};
pub use world::{StopReason, StoppedWorld, start_the_world, stop_the_world};

use args::Args;

/// The boot arguments. A program that reads keys of its own names them in [`entry!`], or they are warned of.
///
/// ```
/// // `cargo run -- --args "rounds=5"`
/// let rounds = gzero::boot_args().number("rounds", 3, 1..=1000);
/// assert!(rounds >= 1);
/// ```
pub fn boot_args() -> &'static Args {
    &bring_up::get().args
}

/// Executes a breakpoint trap. Go's `runtime.Breakpoint`.
///
/// Nobody has registered for the trap, so it is a throw with the registers, as it ends a Go program that no debugger
/// runs. With `cargo run -- --gdb` set a breakpoint on this function's instruction instead.
///
/// ```no_run
/// gzero::breakpoint();
/// ```
pub fn breakpoint() {
    machine::exception::breakpoint();
}

/// Ends the machine with an exit code, at once and on all CPUs. A line that another CPU is printing comes out whole first, unless that
/// takes seconds.
///
/// Under QEMU codes up to 110 reach the host; larger ones arrive as 110. On a board the machine halts.
///
/// ```no_run
/// gzero::exit(3);
/// ```
pub fn exit(code: u8) -> ! {
    panic::exit(code)
}
