//! The main program.
#![no_std]
#![no_main]
use gzero as _;
#[panic_handler]
fn panic(_:&core::panic::PanicInfo<'_>)->!{loop{}}
