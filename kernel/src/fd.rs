//! Devices as file descriptors, for data that is no text: dumps.
//!
//! 1 and 2 are the console, as everywhere; the others are opened by name. Bytes go out as they are, by polling and without a
//! lock, in whatever state the machine is.
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
use machine::serial::{self, Port};

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
/// [`FdError::BadFd`], [`FdError::NotPresent`] where the console is a screen alone, [`FdError::Stuck`].
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

/// Bytes that were written to `null` since boot.
pub fn swallowed() -> u64 {
    SWALLOWED.load(Ordering::Relaxed)
}
