//! A program: its main function, what it returns, and the macro that makes an image of it.

use bootloader_api::config::Mapping;
use bootloader_api::{BootInfo, BootloaderConfig};
use machine::paging::{DYNAMIC_END, DYNAMIC_START};

use crate::boot;

/// A program as the kernel sees it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The main goroutine. What it returns is the exit code.
    pub main: fn() -> u8,
    /// Boot arguments of the program's own, so that they are not warned of as unknown.
    pub parameters: &'static [&'static str],
}

/// What a main function may return.
///
/// ```
/// use gzero::Termination;
///
/// assert_eq!(().code(), 0);
/// assert_eq!(7_u8.code(), 7);
/// assert_eq!(Err::<(), _>("out of paper").code(), 1);
/// ```
pub trait Termination {
    /// The exit code: 0 says that all went well, the largest one that reaches the host is 110.
    fn code(self) -> u8;
}

impl Termination for () {
    fn code(self) -> u8 {
        0
    }
}

impl Termination for u8 {
    fn code(self) -> u8 {
        self
    }
}

impl<E: core::fmt::Display> Termination for Result<(), E> {
    /// 0, or 1 after the error has been printed.
    fn code(self) -> u8 {
        match self {
            Ok(()) => 0,
            Err(error) => {
                crate::println!("error: {error}");
                1
            }
        }
    }
}

/// Bytes of the boot CPU's kernel stack.
const BOOT_STACK_SIZE: u64 = 128 * 1024;

/// What the boot loader is asked for: everything in the upper half, all physical memory in a window.
#[doc(hidden)]
pub const BOOT_CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.kernel_stack_size = BOOT_STACK_SIZE;
    config.mappings.physical_memory = Some(Mapping::Dynamic);
    config.mappings.dynamic_range_start = Some(DYNAMIC_START);
    config.mappings.dynamic_range_end = Some(DYNAMIC_END);
    config
};

/// Boots the machine and runs a program as its main goroutine.
#[doc(hidden)]
pub fn start(info: &'static mut BootInfo, program: Program) -> ! {
    boot::boot(info, program)
}

/// Makes a bootable program of a function.
///
/// The function runs as the main goroutine, on any CPU. It returns [`Termination`]: nothing, an exit code, or a
/// `Result`. When it returns, the machine ends, whatever other goroutines do.
///
/// ```
/// #![no_std]
/// #![no_main]
///
/// gzero::entry!(main);
///
/// fn main() {
///     gzero::println!("hello");
/// }
/// ```
///
/// Boot arguments that the program reads itself are named, so that a misspelt one is told apart:
/// `gzero::entry!(main, parameters = ["leaves"]);`
#[macro_export]
macro_rules! entry {
    ($main:path) => { $crate::entry!($main, parameters = []); };
    ($main:path, parameters = [$($parameter:literal),* $(,)?]) => {
        const _: () = {
            fn gzero_main() -> u8 {
                $crate::Termination::code($main())
            }

            fn gzero_start(info: &'static mut $crate::bootloader_api::BootInfo) -> ! {
                let program = $crate::Program { main: gzero_main, parameters: &[$($parameter),*] };
                $crate::start(info, program)
            }

            $crate::bootloader_api::entry_point!(gzero_start, config = &$crate::BOOT_CONFIG);
        };
    };
}
