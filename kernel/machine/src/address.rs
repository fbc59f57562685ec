//! From addresses as numbers to pointers and sizes: the only place that narrows them.

use core::ptr;

const _: () = assert!(usize::BITS == u64::BITS, "addresses have 64 bits");

/// The place at a virtual address. Its provenance is whatever was exposed there: memory that no Rust object owns.
pub const fn at<T>(address: u64) -> *mut T {
    ptr::with_exposed_provenance_mut(size(address))
}

/// A number of bytes as Rust's sizes are.
#[expect(clippy::cast_possible_truncation, reason = "both have 64 bits, as asserted above")]
pub const fn size(bytes: u64) -> usize {
    bytes as usize
}
