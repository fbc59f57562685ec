//! The file system that Linux boots with: the program as its first process, and what that needs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use cpio::newc::{Builder, ModeFileType, trailer};

use crate::error::Error;

/// Folders: for mounts of the program, and for devices.
const FOLDERS: [&str; 2] = ["dev", "proc"];
/// Devices that a first process needs, with their numbers.
const DEVICES: [(&str, u32, u32); 2] = [("dev/console", 5, 1), ("dev/null", 1, 3)];

/// Writes the archive.
///
/// # Errors
///
/// [`Error::Io`] for whatever file cannot be read or written.
pub fn write(program: &Path, archive: &Path) -> Result<(), Error> {
    let content = fs::read(program).map_err(Error::io("read", program))?;
    let file = File::create(archive).map_err(Error::io("write", archive))?;
    let written = pack(&content, BufWriter::new(file)).and_then(|mut file| file.flush());
    written.map_err(Error::io("write", archive))
}

fn pack<W: Write>(program: &[u8], mut out: W) -> io::Result<W> {
    let mut numbers = 1..;
    let mut entry = |name: &str| Builder::new(name).ino(numbers.next().unwrap_or_default());
    for name in FOLDERS {
        let folder = entry(name).mode(0o755).nlink(2).set_mode_file_type(ModeFileType::Directory);
        out = folder.write(out, 0).finish()?;
    }
    for (name, major, minor) in DEVICES {
        let device = entry(name).mode(0o600).set_mode_file_type(ModeFileType::Char);
        out = device.rdev_major(major).rdev_minor(minor).write(out, 0).finish()?;
    }
    let size = u32::try_from(program.len()).map_err(io::Error::other)?;
    let init = entry("init").mode(0o755).set_mode_file_type(ModeFileType::Regular);
    let mut init = init.write(out, size);
    init.write_all(program)?;
    trailer(init.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::NewcReader;

    #[test]
    fn the_archive_holds_the_program_and_its_devices() {
        let archive = pack(b"program", Vec::new()).expect("memory takes all");
        assert_eq!(archive.len() % 4, 0);
        let mut rest = &archive[..];
        let mut found = Vec::new();
        loop {
            let mut reader = NewcReader::new(rest).expect("an entry");
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                break;
            }
            let mut content = String::new();
            io::Read::read_to_string(&mut reader, &mut content).expect("text");
            let device = (entry.rdev_major(), entry.rdev_minor());
            found.push((entry.name().to_owned(), entry.mode(), device, content));
            rest = reader.finish().expect("the next entry");
        }
        let wanted = [
            ("dev", 0o040_755, (0, 0), ""),
            ("proc", 0o040_755, (0, 0), ""),
            ("dev/console", 0o020_600, (5, 1), ""),
            ("dev/null", 0o020_600, (1, 3), ""),
            ("init", 0o100_755, (0, 0), "program"),
        ];
        assert_eq!(found, wanted.map(|(name, mode, device, text)| (name.into(), mode, device, text.into())));
    }
}
