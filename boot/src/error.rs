//! What keeps a run from starting. Each message is one line: the thing that is wrong, and the mend.

use core::fmt;
use std::io;
use std::path::PathBuf;

/// A run that could not start.
#[derive(Debug)]
pub enum Error {
    /// The command line holds something it should not; the text is complete.
    Usage(String),
    /// The program file is not one that can be booted.
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the mend.
        reason: String,
    },
    /// A file operation failed.
    Io {
        /// What was tried, as in "cannot DOING".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// QEMU is not there.
    NoQemu(PathBuf),
    /// QEMU is there but cannot give so many CPUs.
    OldQemu {
        /// CPUs asked for.
        cpus: u32,
        /// What QEMU calls itself.
        version: String,
    },
    /// No UEFI firmware was found.
    NoOvmf,
    /// The peer of the benchmarks cannot be built or booted; the text says what is missing.
    Peer(String),
    /// A plot could not be drawn.
    Plot(String),
    /// The disk image could not be made.
    Image(String),
}

impl Error {
    /// Makes an [`Error::Io`] of a system error, for `map_err`.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Elf { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::NoQemu(path) => write!(
                f,
                "QEMU not found: {}; run ./setup.sh, or name it by --qemu PATH or GZERO_QEMU",
                path.display()
            ),
            Self::OldQemu { cpus, version } => {
                write!(f, "{cpus} CPUs need QEMU 9 or newer, this is {version}; use --smp 255 or another --qemu")
            }
            Self::NoOvmf => f.write_str(
                "no UEFI firmware (OVMF) found; run ./setup.sh, or set GZERO_OVMF to the folder or OVMF_CODE file",
            ),
            Self::Peer(text) => write!(f, "the peer: {text}"),
            Self::Plot(text) => write!(f, "cannot draw {text}"),
            Self::Image(text) => write!(f, "cannot build the disk image: {text}"),
        }
    }
}

impl core::error::Error for Error {}
