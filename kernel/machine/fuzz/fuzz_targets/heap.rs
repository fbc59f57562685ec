//! Any bytes are a program for the model of the heap: blocks taken, moved and given back on four CPUs, busy lists, memory returned.
//!
//! `cargo fuzz-heap -- -max_total_time=600`; see CONTRIBUTING.md.
#![no_main]

libfuzzer_sys::fuzz_target!(|program: &[u8]| machine::heap::model::run(program));
