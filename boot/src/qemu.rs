//! QEMU's command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::MachineOptions;
use crate::error::Error;
use crate::machine::{Board, XAPIC_CPUS};
use crate::ovmf::Ovmf;

/// The first QEMU whose boards hold more than 255 CPUs under emulation.
const MANY_CPUS_SINCE: u32 = 9;

/// Files of one run.
#[derive(Debug)]
pub struct Files {
    /// The disk image.
    pub image: PathBuf,
    /// UEFI firmware with a private copy of its variables, or none for BIOS.
    pub ovmf: Option<Ovmf>,
    /// Where QEMU logs CPU resets, among them triple faults.
    pub reset_log: PathBuf,
    /// Where the firmware's debug console goes.
    pub firmware_log: PathBuf,
}

/// QEMU's arguments for a machine. A debugger is awaited at `gdb`, a TCP port of this host.
pub fn arguments(
    machine: &MachineOptions,
    files: &Files,
    gdb: Option<u16>,
    raw: &[OsString],
) -> Vec<OsString> {
    let mut line = Line::default();
    line.add("-machine", machine.machine.to_string());
    line.add("-accel", "tcg");
    line.add("-cpu", &machine.cpu);
    line.add("-smp", machine.smp.to_string());
    line.add("-m", machine.memory.to_string());
    if let Some(ovmf) = &files.ovmf {
        line.add("-drive", with_file("if=pflash,unit=0,format=raw,readonly=on,file=", &ovmf.code));
        line.add("-drive", with_file("if=pflash,unit=1,format=raw,file=", &ovmf.vars));
    }
    line.add("-drive", with_file("format=raw,snapshot=on,file=", &files.image));
    if machine.smp.most() > XAPIC_CPUS {
        line.add("-device", "intel-iommu,intremap=on,eim=on");
    }
    line.add("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04");
    line.add("-chardev", with_file("file,id=firmware,path=", &files.firmware_log));
    line.add("-device", "isa-debugcon,iobase=0x402,chardev=firmware");
    line.add("-display", "none");
    line.add("-monitor", "none");
    line.add("-nic", "none");
    line.flag("-no-reboot");
    line.add("-d", "cpu_reset");
    line.add("-D", files.reset_log.as_os_str());
    line.add("-serial", "stdio");
    if let Some(file) = &machine.serial2 {
        line.add("-serial", with_file("file:", file));
    }
    if let Some(port) = gdb {
        line.add("-gdb", format!("tcp:127.0.0.1:{port}"));
        line.flag("-S");
    }
    line.0.extend_from_slice(raw);
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn add(&mut self, name: &str, value: impl Into<OsString>) {
        self.flag(name);
        self.0.push(value.into());
    }
}

/// An option of QEMU's that ends with a file name, in which QEMU wants commas doubled.
fn with_file(option: &str, file: &Path) -> OsString {
    let mut text = OsString::from(option);
    match file.to_str() {
        Some(name) if !option.starts_with("file:") => text.push(name.replace(',', ",,")),
        _ => text.push(file),
    }
    text
}

/// Refuses a machine that QEMU would refuse with words harder to understand.
///
/// # Errors
///
/// [`Error::Usage`] for too many CPUs on the old board, [`Error::OldQemu`] for too many on an old QEMU,
/// [`Error::NoQemu`] if it is not there.
pub fn check(machine: &MachineOptions) -> Result<(), Error> {
    let cpus = machine.smp.most();
    if cpus <= XAPIC_CPUS {
        return Ok(());
    }
    if machine.machine == Board::Pc {
        return Err(Error::Usage(format!(
            "{cpus} CPUs need interrupt remapping, which --machine pc lacks; use q35"
        )));
    }
    let version = version(&machine.qemu)?;
    match major(&version) {
        Some(number) if number < MANY_CPUS_SINCE => Err(Error::OldQemu { cpus, version }),
        _ => Ok(()),
    }
}

/// What QEMU calls itself, as in `QEMU emulator version 10.0.2`.
///
/// # Errors
///
/// [`Error::NoQemu`] if it cannot be started.
pub fn version(qemu: &Path) -> Result<String, Error> {
    let output = Command::new(qemu).arg("--version").output().map_err(|_| Error::NoQemu(qemu.to_owned()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The major number in what [`version`] gives.
pub fn major(version: &str) -> Option<u32> {
    let number = version.split_once("version ")?.1;
    number.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Options;

    fn line(words: &[&str]) -> String {
        let options = Options::parse_line([&["boot", "kernel"], words].concat()).expect("a good line");
        let ovmf = (options.machine.firmware == crate::machine::Firmware::Uefi)
            .then(|| Ovmf { code: "/fw/CODE.fd".into(), vars: "/t/vars".into() });
        let files = Files {
            image: "/t/a,b.img".into(),
            ovmf,
            reset_log: "/t/reset.log".into(),
            firmware_log: "/t/firmware.log".into(),
        };
        let gdb = options.gdb.then_some(4242);
        let all = arguments(&options.machine, &files, gdb, &options.raw);
        all.iter().map(|word| word.to_str().expect("text")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_default_machine_is_emulated_without_window_or_reboot() {
        let line = line(&[]);
        for part in [
            "-machine q35 -accel tcg -cpu max -smp 4 -m 2G ",
            "-drive format=raw,snapshot=on,file=/t/a,,b.img ",
            "-device isa-debug-exit,iobase=0xf4,iosize=0x04 ",
            "-display none ",
            "-no-reboot ",
            "-d cpu_reset -D /t/reset.log ",
            "-serial stdio",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        for part in ["kvm", "pflash", "iommu", "-gdb", "-serial file"] {
            assert!(!line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn options_reach_the_line() {
        let line = line(&[
            "--smp",
            "6,sockets=3,cores=2",
            "--memory",
            "96M",
            "--cpu",
            "qemu64",
            "--machine",
            "pc",
            "--firmware",
            "uefi",
            "--serial2",
            "dump",
            "--gdb",
            "--",
            "-icount",
            "shift=0",
        ]);
        for part in [
            "-machine pc -accel tcg -cpu qemu64 -smp 6,sockets=3,cores=2 -m 96M ",
            "if=pflash,unit=0,format=raw,readonly=on,file=/fw/CODE.fd ",
            "if=pflash,unit=1,format=raw,file=/t/vars ",
            "-serial stdio -serial file:dump ",
            "-gdb tcp:127.0.0.1:4242 -S ",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(line.ends_with(" -icount shift=0"), "{line}");
    }

    #[test]
    fn interrupt_remapping_comes_with_more_than_255_cpus() {
        let device = "-device intel-iommu,intremap=on,eim=on";
        assert!(!line(&["--smp", "255"]).contains(device));
        assert!(line(&["--smp", "256"]).contains(device));
        assert!(line(&["--smp", "4,maxcpus=300"]).contains(device));
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(major("QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7+deb12u16)"), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.2"), Some(10));
        assert_eq!(major("something else"), None);
    }
}
