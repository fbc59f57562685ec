//! The examples in the kernel crate's documentation, each of them a case; `build.rs` collects them.
#![no_std]
#![no_main]

extern crate alloc;

include!(concat!(env!("OUT_DIR"), "/doc_examples.rs"));
