//! The examples in the kernel crate's documentation, each of them a case; `build.rs` collects them.
#![no_std]
#![no_main]
#![expect(
    clippy::unwrap_used,
    clippy::unit_arg,
    clippy::redundant_closure_for_method_calls,
    clippy::duration_suboptimal_units,
    clippy::unnecessary_safety_comment,
    clippy::large_stack_frames,
    clippy::useless_vec,
    dropping_copy_types,
    reason = "examples are short, and show one thing each"
)]

extern crate alloc;

include!(concat!(env!("OUT_DIR"), "/doc_examples.rs"));
