//! Devices as file descriptors, for data that is no text: dumps, and what programs receive.
//!
//! 0 is the console's input, 1 and 2 are its output, as everywhere; the others are opened by name. Bytes go out as they are, by
//! polling and without a lock, in whatever state the machine is. They come in by interrupts, and goroutines wait for
//! them ([`read`]); lines of text are read by [`stdin`](crate::stdin()).
//!
//! ```
//! use gzero::fd::{self, FdError};
//!
//! let null = fd::open("null")?;
//! let before = fd::swallowed();
//! fd::write(null, b"twelve bytes")?;
//! assert!(fd::swallowed() >= before + 12);
//! assert_eq!(fd::open("floppy"), Err(FdError::NoSuchDevice("floppy")));
//! Ok::<(), FdError>(())
//! ```

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use machine::debugcon;
pub use machine::ioapic::RouteError;
use machine::serial::{self, Port};

use crate::input::{self, Source};
use crate::stacks::check_g_stack;

/// A device that takes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Console,
    Null,
    Serial2,
    DebugConsole,
}

/// Devices that can be opened: name, and what it is. The descriptor is the place in the list plus [`FIRST`].
const DEVICES: [(&str, Device); 3] =
    [("null", Device::Null), ("serial2", Device::Serial2), ("debugcon", Device::DebugConsole)];
/// Bytes that [`Device::Null`] has swallowed.
static SWALLOWED: AtomicU64 = AtomicU64::new(0);
/// The first descriptor after standard input, output and error.
const FIRST: usize = 3;

/// Why a device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdError {
    /// No descriptor has this number.
    BadFd(u32),
    /// Nothing has this name.
    NoSuchDevice(&'static str),
    /// The machine does not have it.
    NotPresent(&'static str),
    /// The device has not taken all bytes: it was not ready for too long.
    Stuck(u32),
    /// Nothing is read from this descriptor.
    NotReadable(u32),
    /// Nothing is written to this descriptor.
    NotWritable(u32),
    /// The device cannot interrupt when it has something to read.
    NoInterrupt(u32, RouteError),
}

impl fmt::Display for FdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadFd(fd) => write!(f, "bad file descriptor {fd}"),
            Self::NoSuchDevice(name) => {
                let [one, two, three] = DEVICES.map(|(name, _)| name);
                write!(f, "no device is called `{name}`; there are {one}, {two} and {three}")
            }
            Self::NotPresent(name) => write!(f, "this machine has no {name}"),
            Self::Stuck(fd) => write!(f, "the device of file descriptor {fd} takes no more bytes"),
            Self::NotWritable(fd) => write!(f, "file descriptor {fd} is not one to write to"),
            Self::NotReadable(fd) => write!(f, "file descriptor {fd} is not one to read from"),
            Self::NoInterrupt(fd, why) => write!(f, "file descriptor {fd} cannot be read: {why}"),
        }
    }
}

impl core::error::Error for FdError {}

/// The descriptor of a device: `null`, which counts bytes and forgets them, `serial2`, the second serial port, or
/// `debugcon`, QEMU's debug console.
///
/// # Errors
/// [`FdError::NoSuchDevice`], [`FdError::NotPresent`].
pub fn open(name: &'static str) -> Result<u32, FdError> {
    let place = DEVICES.iter().position(|(known, _)| *known == name).ok_or(FdError::NoSuchDevice(name))?;
    let present = match DEVICES[place].1 {
        Device::Console | Device::Null => true,
        Device::Serial2 => serial::is_present(Port::Com2),
        Device::DebugConsole => debugcon::is_present(),
    };
    if !present {
        return Err(FdError::NotPresent(name));
    }
    u32::try_from(place + FIRST).map_err(|_| FdError::NoSuchDevice(name))
}

fn device(fd: u32) -> Result<Device, FdError> {
    let place = (fd as usize).checked_sub(FIRST);
    match (fd, place.and_then(|place| DEVICES.get(place))) {
        (0, _) => Err(FdError::NotWritable(fd)),
        (1 | 2, _) => Ok(Device::Console),
        (_, Some((_, device))) => Ok(*device),
        (_, None) => Err(FdError::BadFd(fd)),
    }
}

/// Whether there is such a descriptor.
///
/// # Errors
/// [`FdError::BadFd`].
pub(crate) fn check(fd: u32) -> Result<(), FdError> {
    device(fd).map(drop)
}

/// Sends all bytes, as they are. Waits for the device, which is bounded if that is stuck.
///
/// # Errors
/// [`FdError::BadFd`], [`FdError::NotWritable`], [`FdError::NotPresent`] where the console is a screen alone, [`FdError::Stuck`].
pub fn write(fd: u32, bytes: &[u8]) -> Result<(), FdError> {
    let taken = match device(fd)? {
        Device::Console if !serial::is_present(Port::Com1) => return Err(FdError::NotPresent("console")),
        Device::Console => serial::write_bytes(Port::Com1, bytes),
        Device::Null => {
            // Relaxed: a count.
            SWALLOWED.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            true
        }
        Device::Serial2 => serial::write_bytes(Port::Com2, bytes),
        Device::DebugConsole => {
            debugcon::write(bytes);
            true
        }
    };
    if taken { Ok(()) } else { Err(FdError::Stuck(fd)) }
}

/// The port that a descriptor reads from.
pub(crate) fn source(fd: u32) -> Result<&'static Source, FdError> {
    let (port, name) = match fd {
        0 => (Port::Com1, "console"),
        _ => match device(fd)? {
            Device::Serial2 => (Port::Com2, "serial2"),
            Device::Console | Device::Null | Device::DebugConsole => return Err(FdError::NotReadable(fd)),
        },
    };
    if serial::is_present(port) { Ok(input::of(port)) } else { Err(FdError::NotPresent(name)) }
}

/// Waits until bytes have come in and takes them out, as many as fit. Returns how many: none only if none fit.
///
/// Goroutines that read the same device take turns, in the order in which they came. A goroutine that waits here is no deadlock.
///
/// The first read of a port begins to receive: what came before goes, and XON (ASCII 11 hexadecimal) asks the other side to
/// begin. When the port has 3072 bytes that nobody has read it sends XOFF (13), when it has 1024 it sends XON. From 4096 on, the
/// UART keeps 16 more; what comes after that is lost, if the other side does not listen ([`overruns`]).
///
/// ```
/// use gzero::fd::{self, FdError};
///
/// gzero::go(|| {
///     let mut bytes = [0; 64];
///     while let Ok(count) = fd::read(0, &mut bytes) {
///         gzero::println!("{:?} came in", &bytes[..count]);
///     }
/// });
/// assert_eq!(fd::read(1, &mut [0; 64]), Err(FdError::NotReadable(1)));
/// ```
///
/// # Errors
/// [`FdError::BadFd`], [`FdError::NotReadable`], [`FdError::NotPresent`], and [`FdError::NoInterrupt`] where no I/O APIC leads
/// from the device to the boot CPU.
///
/// # Throws
/// When not called on a goroutine's own stack, even if something has come in.
#[track_caller]
pub fn read(fd: u32, bytes: &mut [u8]) -> Result<usize, FdError> {
    let own = check_g_stack("fd::read");
    let turn = source(fd)?.take_turn(own).map_err(|why| FdError::NoInterrupt(fd, why))?;
    Ok(turn.read_bytes(own, bytes))
}

/// [`read`] without waiting for it: takes what has come in, which may be nothing. Nothing, too, while another goroutine reads the
/// same device, or waits for that.
///
/// On any stack but that of an interrupt handler. When it has made room it sends XON, and waits until the port takes that.
///
/// ```
/// use gzero::fd;
///
/// // Nobody types while the examples run.
/// assert_eq!(fd::try_read(0, &mut [0; 64]), Ok(0));
/// ```
///
/// # Errors
/// As [`read`].
pub fn try_read(fd: u32, bytes: &mut [u8]) -> Result<usize, FdError> {
    let turn = source(fd)?.try_take_turn().map_err(|why| FdError::NoInterrupt(fd, why))?;
    Ok(turn.map_or(0, |turn| turn.try_read_bytes(bytes)))
}

/// How often bytes have come in at a device that was full, and were lost, since it was opened. On any stack.
///
/// ```
/// assert_eq!(gzero::fd::overruns(0), Ok(0));
/// ```
///
/// # Errors
/// As [`read`], but for [`FdError::NoInterrupt`].
pub fn overruns(fd: u32) -> Result<u32, FdError> {
    Ok(source(fd)?.overruns())
}

/// Bytes that were written to `null` since boot.
pub fn swallowed() -> u64 {
    SWALLOWED.load(Ordering::Relaxed)
}
