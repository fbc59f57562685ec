//! One boot: image, QEMU, verdict, in a folder of its own that vanishes afterwards.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use core::time::Duration;

use crate::args::Options;
use crate::console::Console;
use crate::elf::Program;
use crate::error::Error;
use crate::image::{self, Talk};
use crate::input::{Gate, Input};
use crate::machine::Firmware;
use crate::ovmf::{self, Ovmf};
use crate::process::{self, Watcher};
use crate::qemu::{self, Files};
use crate::verdict::{End, Outcome, Stage};

/// Writes the disk image that [`boot`] would run.
///
/// # Errors
///
/// As [`image::write`].
pub fn write_image(options: &Options, program: &Program, file: &Path) -> Result<(), Error> {
    let folder = folder()?;
    let ramdisk = image::ramdisk(&options.args, "");
    let places = (folder.path(), file);
    image::write(program, &ramdisk, options.machine.firmware, Talk::Quiet, places)
}

/// Boots a program with `--args` and further boot arguments, and follows it to its end.
///
/// # Errors
///
/// Whatever keeps the machine from starting; how it ends is in the [`Outcome`].
pub fn boot(
    options: &Options,
    program: &Program,
    added: &str,
    limit: Option<Duration>,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, Error> {
    let machine = &options.machine;
    qemu::check(machine)?;
    let folder = folder()?;
    let files = files(folder.path(), machine.firmware)?;
    let talk = if options.gdb { Talk::Chatty } else { Talk::Quiet };
    let ramdisk = image::ramdisk(&options.args, added);
    image::write(program, &ramdisk, machine.firmware, talk, (folder.path(), &files.image))?;
    let port = if options.gdb { Some(free_port()?) } else { None };
    if let Some(port) = port {
        eprintln!("{}", how_to_debug(program, port)?);
    }
    let mut command = Command::new(&machine.qemu);
    command.args(qemu::arguments(machine, &files, port, &options.raw));
    let gate = Gate::default();
    let input = options.input.as_deref().map(Input::open).transpose()?;
    let typed = input.map(|input| (input, gate.clone()));
    let mut listener = Listener { console: Console::new(machine.firmware), gate, watcher };
    let life = process::run(command, limit, typed, &mut listener)?;
    let end = End::of(life.status, &text_of(&files.reset_log));
    let stage = Stage::of_log(&text_of(&files.firmware_log)).max(listener.console.stage());
    Ok(Outcome { end, stage, last_line: listener.console.last_line(), life })
}

/// Takes the firmware's part out of the serial output before the watcher gets it, and what is for the input's gate.
struct Listener<'a> {
    console: Console,
    gate: Gate,
    watcher: &'a mut dyn Watcher,
}

impl Watcher for Listener<'_> {
    fn serial(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut said = bytes.to_vec();
        self.gate.follow(&mut said);
        self.watcher.serial(&self.console.take(&said))
    }

    fn deadline(&self) -> Option<Instant> {
        self.watcher.deadline()
    }
}

fn folder() -> Result<tempfile::TempDir, Error> {
    let made = tempfile::Builder::new().prefix("gzero-").tempdir();
    made.map_err(Error::io("make a folder in", std::env::temp_dir()))
}

fn files(folder: &Path, firmware: Firmware) -> Result<Files, Error> {
    let ovmf = match firmware {
        Firmware::Bios => None,
        Firmware::Uefi => Some(private_ovmf(folder)?),
    };
    Ok(Files {
        image: folder.join("disk.img"),
        ovmf,
        reset_log: folder.join("reset.log"),
        firmware_log: folder.join("firmware.log"),
    })
}

/// The firmware writes its variables: two runs must not share them.
fn private_ovmf(folder: &Path) -> Result<Ovmf, Error> {
    let wish = std::env::var_os("GZERO_OVMF").map(PathBuf::from);
    let found = ovmf::find(wish.as_deref())?;
    let vars = folder.join("vars.fd");
    let content = fs::read(&found.vars).map_err(Error::io("read", &found.vars))?;
    // written, not copied: the original is read-only in places
    fs::write(&vars, content).map_err(Error::io("write", &vars))?;
    Ok(Ovmf { code: found.code, vars })
}

fn free_port() -> Result<u16, Error> {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr());
    port.map(|address| address.port()).map_err(Error::io("find a TCP port on", "127.0.0.1"))
}

/// The commands to type. The boot loader's own words are the last resort: it says where it put the program.
fn how_to_debug(program: &Program, port: u16) -> Result<String, Error> {
    let path = program.path().display();
    let offset = program.load_offset()?;
    Ok(format!(
        "boot: the machine waits for a debugger; type\n  \
         gdb -ex 'symbol-file -o {offset:#x} {path}' -ex 'target remote 127.0.0.1:{port}'\n\
         boot: set breakpoints by hbreak; should the line virtual_address_offset: below name another address than \
         {offset:#x}, type\n  symbol-file -o ADDRESS {path}"
    ))
}

/// A log that may not be there.
fn text_of(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
