//! Puts a program and its boot arguments into a bootable disk image.

use std::fs;
use std::path::Path;

use bootloader::DiskImageBuilder;

use crate::elf::Program;
use crate::error::Error;
use crate::machine::Firmware;

/// How much the boot loader says on the first serial port and the screen before the program starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Errors only.
    Quiet,
    /// Also where it loads the program, which a debugger needs.
    Chatty,
}

impl Talk {
    const fn config(self) -> &'static [u8] {
        match self {
            Self::Quiet => br#"{"log_level":"Error"}"#,
            Self::Chatty => br#"{"log_level":"Info"}"#,
        }
    }
}

/// Joins boot arguments to the line that the guest finds in its ramdisk.
pub fn ramdisk(arguments: &str, added: &str) -> String {
    let mut line = [arguments.trim(), added.trim()].join(" ").trim().to_owned();
    line.push('\n');
    line
}

/// Writes a disk image to `image`, using `folder` for the parts.
///
/// # Errors
///
/// [`Error::Elf`] if the program cannot be booted, [`Error::Io`] and [`Error::Image`] if writing fails.
pub fn write(
    program: &Program,
    ramdisk: &str,
    firmware: Firmware,
    talk: Talk,
    (folder, image): (&Path, &Path),
) -> Result<(), Error> {
    let kernel = folder.join("kernel");
    fs::write(&kernel, program.bootable()?).map_err(Error::io("write", &kernel))?;
    let arguments = folder.join("ramdisk");
    fs::write(&arguments, ramdisk).map_err(Error::io("write", &arguments))?;
    let mut builder = DiskImageBuilder::new(kernel);
    builder.set_ramdisk(arguments).set_file_contents("boot.json".to_owned(), talk.config().to_vec());
    let made = match firmware {
        Firmware::Bios => builder.create_bios_image(image),
        Firmware::Uefi => builder.create_uefi_image(image),
    };
    made.map_err(|error| Error::Image(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_arguments_are_one_line() {
        assert_eq!(ramdisk("", ""), "\n");
        assert_eq!(ramdisk(" log=debug ", ""), "log=debug\n");
        assert_eq!(ramdisk("", "cases=a,b"), "cases=a,b\n");
        assert_eq!(ramdisk("gomaxprocs=2 log=debug", "cases=a"), "gomaxprocs=2 log=debug cases=a\n");
    }
}
