//! The window through which all physical memory is seen.

/// A linear mapping of physical memory: physical address `p` is found at `base + p`, for `p < size`.
///
/// Addresses at or above `size` are not mapped and must not be touched; [`PhysWindow::virt`] refuses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhysWindow {
    /// Virtual address of physical address 0.
    pub base: u64,
    /// Bytes of physical memory that are mapped.
    pub size: u64,
}

impl PhysWindow {
    /// The virtual address of `len` bytes of physical memory, or `None` if any of them lies outside.
    ///
    /// Says nothing about what is there: the caller knows whether it is memory, a device or a hole.
    pub fn virt(&self, phys: u64, len: u64) -> Option<*mut u8> {
        let end = phys.checked_add(len)?;
        if end > self.size {
            return None;
        }
        let address = usize::try_from(self.base.checked_add(phys)?).ok()?;
        Some(core::ptr::with_exposed_provenance_mut(address))
    }
}

#[cfg(test)]
mod tests {
    use super::PhysWindow;

    #[test]
    fn refuses_what_is_not_mapped() {
        let window = PhysWindow { base: 0x1000, size: 0x100 };
        assert_eq!(window.virt(0x10, 0xf0).map(<*mut u8>::addr), Some(0x1010));
        assert_eq!(window.virt(0x10, 0xf1), None);
        assert_eq!(window.virt(0x101, 0), None);
        assert_eq!(window.virt(u64::MAX, 2), None);
    }
}
