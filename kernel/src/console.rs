//! `print!`, `println!`, and the logger behind the `log` crate's macros.

use log::{LevelFilter, Log, Metadata, Record};
use machine::console;

/// Prints to the serial port and the screen. One call comes out in one piece.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console_write(::core::format_args!($($arg)*)) };
}

/// Prints to the serial port and the screen, with a line end.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::print!("{}\n", ::core::format_args!($($arg)*)) };
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            console::write_fmt(format_args!("{:>5}: {}\n", record.level().as_str(), record.args()));
        }
    }

    fn flush(&self) {}
}

/// Sends log records to the console, from warnings on until `set_level` says otherwise.
pub(crate) fn init() {
    log::set_max_level(LevelFilter::Warn);
    log::set_logger(&Logger).expect("boot runs once");
}
