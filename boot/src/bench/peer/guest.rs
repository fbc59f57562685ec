//! Linux with Go's side in QEMU.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::stderr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Options;
use crate::bench::args::{BenchOptions, Mode, Part};
use crate::bench::figures::Figures;
use crate::bench::peer::{initramfs, program};
use crate::bench::run::Measured;
use crate::error::Error;
use crate::process;
use crate::verdict::{End, Outcome, Stage};

/// What Linux is told, in favour of the peer: clocks are read without a system call although the emulator's are not
/// synchronised, and system calls are as cheap as they get.
const LINUX: &str = "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off";
/// Under icount also no address, and below no time and no random number, that differs from boot to boot.
const FIXED_LINUX: &str = "nokaslr norandmaps";
const FIXED_QEMU: [&str; 4] = ["-seed", "1", "-rtc", "base=2024-01-01T00:00:00,clock=vm"];

/// What is needed to boot the peer.
#[derive(Debug)]
pub struct Guest {
    /// The kernel.
    pub kernel: PathBuf,
    /// The archive with the program.
    pub initramfs: PathBuf,
}

impl Guest {
    /// Finds the kernel, builds the program and packs it.
    ///
    /// # Errors
    ///
    /// [`Error::Peer`] for what is missing.
    pub fn prepare(folder: &Path) -> Result<Self, Error> {
        let kernel = kernel(folder)?;
        let program = program::build(folder)?;
        let initramfs = folder.join("initramfs.cpio");
        initramfs::write(&program, &initramfs)?;
        Ok(Self { kernel, initramfs })
    }

    /// Boots it once and collects its figures.
    ///
    /// # Errors
    ///
    /// Whatever keeps the machine from starting.
    pub fn measure(&self, options: &BenchOptions) -> Result<Measured, Error> {
        let machine = options.machine(Part::Most)?;
        let mut command = Command::new(&machine.machine.qemu);
        command.args(self.arguments(options, &machine));
        let mut figures = Figures::new(stderr());
        let life = process::run(command, Some(options.limit()), None, &mut figures)?;
        let end = End::of(life.status, "");
        // Linux can only turn the machine off
        let complete = figures.ended && end == End::Reset;
        let outcome = Outcome { end, stage: Stage::Program, last_line: None, life };
        Ok(Measured { rows: figures.rows(options.mode), outcome, complete })
    }

    /// QEMU's arguments for it: those of gzero, but for what is booted.
    pub fn arguments(&self, options: &BenchOptions, machine: &Options) -> Vec<OsString> {
        let board = &machine.machine;
        let mut line: Vec<OsString> = Vec::new();
        let pairs = [
            ("-machine", board.machine.to_string()),
            ("-accel", "tcg".to_owned()),
            ("-cpu", board.cpu.clone()),
            ("-smp", board.smp.to_string()),
            ("-m", board.memory.to_string()),
            ("-append", kernel_arguments(options)),
            ("-display", "none".to_owned()),
            ("-monitor", "none".to_owned()),
            ("-nic", "none".to_owned()),
            ("-serial", "stdio".to_owned()),
        ];
        line.extend(pairs.into_iter().flat_map(|(option, value)| [option.into(), value.into()]));
        line.extend(["-kernel".into(), self.kernel.clone().into()]);
        line.extend(["-initrd".into(), self.initramfs.clone().into()]);
        line.push("-no-reboot".into());
        if options.mode == Mode::Icount {
            line.extend(FIXED_QEMU.map(OsString::from));
        }
        line.extend_from_slice(&machine.raw);
        line
    }
}

/// The kernel hands what it does not know over to its first process, as variables of the environment.
fn kernel_arguments(options: &BenchOptions) -> String {
    let (fixed, mode) = match options.mode {
        Mode::Icount => (FIXED_LINUX, "icount"),
        Mode::Smp(_) => ("", "smp"),
    };
    let mut words: Vec<String> =
        LINUX.split(' ').chain(fixed.split_whitespace()).map(str::to_owned).collect();
    words.push(format!("GZERO_MODE={mode}"));
    words.push(format!("GZERO_REPS={}", options.repetitions()));
    words.push(format!("GZERO_DIV={}", options.div));
    if !options.only.is_empty() {
        words.push(format!("GZERO_ONLY={}", options.only.join(",")));
    }
    words.join(" ")
}

/// The kernel that the user names, or the newest of those that set-up has unpacked.
fn kernel(folder: &Path) -> Result<PathBuf, Error> {
    if let Some(named) = env::var_os("GZERO_LINUX").map(PathBuf::from) {
        return Ok(named);
    }
    let unpacked = folder.join("linux/boot");
    let files = fs::read_dir(&unpacked).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    files.filter(is_kernel).max().ok_or_else(|| {
        let unpacked = unpacked.display();
        Error::Peer(format!(
            "no Linux kernel in {unpacked}; run ./setup.sh --peer, or name one by GZERO_LINUX"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> String {
        let options = [&["boot", "image", "--bench"], words].concat();
        let options = BenchOptions::parse_line(options).expect("a good line");
        let guest = Guest { kernel: "/k".into(), initramfs: "/i".into() };
        let all = guest.arguments(&options, &options.machine(Part::Most).expect("a machine"));
        all.iter().map(|word| word.to_str().expect("text")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_machine_is_the_one_that_gzero_gets() {
        let smp = line(&["--mode", "smp", "2", "--only", "yield,skynet", "--reps", "3"]);
        for part in [
            "-machine q35 -accel tcg -cpu max -smp 2 -m 5G -append ",
            " GZERO_MODE=smp GZERO_REPS=3 GZERO_DIV=1 GZERO_ONLY=yield,skynet -display none ",
            "-kernel /k -initrd /i -no-reboot",
        ] {
            assert!(smp.contains(part), "{part} in {smp}");
        }
        assert!(!smp.contains("icount") && !smp.contains("-seed"), "{smp}");
    }

    #[test]
    fn nothing_differs_from_boot_to_boot_when_instructions_are_counted() {
        let icount = line(&["--mode", "icount"]);
        for part in [
            "-cpu qemu64 -smp 1 ",
            " nokaslr norandmaps GZERO_MODE=icount ",
            "-seed 1 -rtc base=2024-01-01T00:00:00,clock=vm -icount shift=0,sleep=off",
        ] {
            assert!(icount.contains(part), "{part} in {icount}");
        }
    }

    #[test]
    fn a_missing_kernel_is_said_with_its_mend() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = kernel(folder.path()).expect_err("no kernel").to_string();
        assert!(error.contains("./setup.sh --peer"), "{error}");
        let boot = folder.path().join("linux/boot");
        fs::create_dir_all(&boot).expect("a folder");
        for name in ["config-6.1", "vmlinuz-6.1.0-55", "vmlinuz-6.1.0-56"] {
            fs::write(boot.join(name), "").expect("a file");
        }
        assert_eq!(kernel(folder.path()).expect("a kernel"), boot.join("vmlinuz-6.1.0-56"));
    }
}
