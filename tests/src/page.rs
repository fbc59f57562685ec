//! A page whose translation changes.

use core::sync::atomic::AtomicU64;

/// The first word of a page of [`gzero::testing::spare_page`].
#[expect(unsafe_code, reason = "the page is what the cases are about")]
pub fn word(page: u64) -> &'static AtomicU64 {
    let address = usize::try_from(page).expect("a 64-bit machine");
    // SAFETY: the page is always mapped, aligned, and used for this alone.
    unsafe { AtomicU64::from_ptr(core::ptr::with_exposed_provenance_mut(address)) }
}
