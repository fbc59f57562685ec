//! I/O APICs: which CPU a device interrupts, and with which vector.
//!
//! Only inputs that somebody routes are touched; the others stay as the firmware has left them. Interrupts go to one CPU, by its
//! local APIC's id, which has eight bits here. Intel 82093AA I/O Advanced Programmable Interrupt Controller datasheet,
//! "Register Description".

use core::fmt;

use spin::Once;

use crate::address::at;
use crate::lock::{Lock, Rank};
use crate::madt::{IoApic, Line, Madt, Polarity, Trigger};
use crate::paging::{self, MapError};
use crate::serial::Port;
use crate::vector::Vector;

/// Where the number of the register is written that the window then shows.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;

/// Numbers of registers. An entry of the redirection table has two: the first and the next.
const VERSION: u32 = 0x01;
const REDIRECTION_TABLE: u32 = 0x10;

/// In the lower word of an entry, whose other zeroes mean: fixed delivery, to a physical id.
const ACTIVE_LOW: u32 = 1 << 13;
const BY_LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

/// The highest id of a local APIC that an entry can name; one above stands for all.
const HIGHEST_ID: u32 = 0xfe;

/// Why a device cannot interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteError {
    /// No I/O APIC has this input.
    NoIoApic {
        /// Its global system interrupt.
        gsi: u32,
    },
    /// The registers cannot be mapped.
    Map(MapError),
    /// The CPU's local APIC has an id that does not fit.
    Unreachable {
        /// The id.
        apic_id: u32,
    },
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIoApic { gsi } => {
                write!(f, "no I/O APIC has the input of global system interrupt {gsi}")
            }
            Self::Map(error) => write!(f, "the I/O APIC's registers cannot be mapped: {error:?}"),
            Self::Unreachable { apic_id } => {
                write!(
                    f,
                    "the I/O APIC cannot name a CPU with APIC id {apic_id}: {HIGHEST_ID} is the highest"
                )
            }
        }
    }
}

impl core::error::Error for RouteError {}

/// What the firmware says; nothing if it says nothing.
static TABLE: Once<Madt> = Once::new();
/// Two accesses make one.
static REGISTERS: Lock<()> = Lock::new(Rank::Leaf, ());

/// Remembers where the I/O APICs are. Touches none of them.
pub fn init(madt: &Madt) {
    TABLE.call_once(|| madt.clone());
}

/// Lets a serial port interrupt the CPU with this APIC id.
///
/// The vector has its handler. Takes a lock of [`Rank::Leaf`] and those of [`paging::map_device`]. May be done again.
///
/// # Errors
/// [`RouteError`]; then no input has changed.
pub fn route_serial(port: Port, vector: Vector, apic_id: u32) -> Result<(), RouteError> {
    let line = TABLE.get().map_or(Line::isa(port.irq()), |madt| madt.isa_line(port.irq()));
    if apic_id > HIGHEST_ID {
        return Err(RouteError::Unreachable { apic_id });
    }
    let (registers, input) = find(line.gsi)?;
    let [high, low] = entry(line, vector, apic_id);
    let number = REDIRECTION_TABLE + 2 * input;
    let guard = REGISTERS.lock();
    // Masked while half of it is old.
    write(registers, number, MASKED);
    write(registers, number + 1, high);
    write(registers, number, low);
    drop(guard);
    Ok(())
}

/// The two words of an entry: the upper first.
const fn entry(line: Line, vector: Vector, apic_id: u32) -> [u32; 2] {
    let polarity = match line.polarity {
        Polarity::ActiveHigh => 0,
        Polarity::ActiveLow => ACTIVE_LOW,
    };
    let trigger = match line.trigger {
        Trigger::Edge => 0,
        Trigger::Level => BY_LEVEL,
    };
    [apic_id << 24, polarity | trigger | vector.0 as u32]
}

/// The registers of the I/O APIC that has this input, and which of its inputs it is.
fn find(gsi: u32) -> Result<(u64, u32), RouteError> {
    let missing = RouteError::NoIoApic { gsi };
    let io_apics = TABLE.get().map_or(&[][..], |madt| &madt.io_apics);
    let (io_apic, input) = candidate(io_apics, gsi).ok_or(missing)?;
    let registers = paging::map_device(io_apic.address).map_err(RouteError::Map)?;
    let guard = REGISTERS.lock();
    // "Maximum redirection entry": one less than there are.
    let last = read(registers, VERSION) >> 16 & 0xff;
    drop(guard);
    if input > last { Err(missing) } else { Ok((registers, input)) }
}

/// The I/O APIC that has the input if any has: the last that begins before it.
fn candidate(io_apics: &[IoApic], gsi: u32) -> Option<(IoApic, u32)> {
    let before = io_apics.iter().filter(|io_apic| io_apic.gsi_base <= gsi);
    before.max_by_key(|io_apic| io_apic.gsi_base).map(|io_apic| (*io_apic, gsi - io_apic.gsi_base))
}

fn read(registers: u64, number: u32) -> u32 {
    select(registers, number);
    // SAFETY: an I/O APIC's registers, mapped uncached; the caller holds the lock.
    unsafe { at::<u32>(registers + WINDOW).read_volatile() }
}

fn write(registers: u64, number: u32, value: u32) {
    select(registers, number);
    // SAFETY: as in `read`.
    unsafe { at::<u32>(registers + WINDOW).write_volatile(value) };
}

fn select(registers: u64, number: u32) {
    // SAFETY: as in `read`.
    unsafe { at::<u32>(registers + SELECT).write_volatile(number) };
}

#[cfg(test)]
mod tests {
    use super::{IoApic, Line, Polarity, Trigger, candidate, entry};
    use crate::vector::Vector;

    #[test]
    fn the_input_belongs_to_the_last_that_begins_before_it() {
        let [first, second] =
            [(0xfec0_1000, 24), (0xfec0_0000, 0)].map(|(address, gsi_base)| IoApic { address, gsi_base });
        assert_eq!(candidate(&[first, second], 23), Some((second, 23)));
        assert_eq!(candidate(&[first, second], 24), Some((first, 0)));
        assert_eq!(candidate(&[first], 4), None);
    }

    #[test]
    fn an_entry_says_how_the_line_is_sensed() {
        let low = |trigger| Line { gsi: 4, polarity: Polarity::ActiveLow, trigger };
        assert_eq!(entry(Line::isa(4), Vector(0x34), 3), [0x0300_0000, 0x34]);
        assert_eq!(entry(low(Trigger::Level), Vector(0x34), 0), [0, 0xa034]);
        assert_eq!(entry(low(Trigger::Edge), Vector(0x34), 0xfe), [0xfe00_0000, 0x2034]);
    }
}
