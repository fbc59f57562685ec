//! The runner's command line.

use core::time::Duration;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser};

use crate::error::Error;
use crate::machine::{Board, Cpus, Firmware, Memory};

/// Limit of a program's run unless `--timeout` says otherwise.
const RUN_LIMIT: Duration = Duration::from_mins(5);
/// Limit of each boot of a test image unless `--timeout` says otherwise.
const TEST_LIMIT: Duration = Duration::from_mins(2);

/// What follows the list of options in `--help`.
const AFTER_HELP: &str = "\
Exit status: the guest's own exit code (0 ok, 1 failed tests in the guest, 2 panic or fatal error, 3 throw);
101 a test failed; 124 time-out; 125 triple fault; 126 the run could not start or QEMU failed; 130 interrupted.

Environment: GZERO_QEMU names QEMU, GZERO_OVMF the folder or OVMF_CODE file of the UEFI firmware.";

/// Boots a bare-metal program in QEMU (emulation, no virtualisation) and ends with the program's exit code.
#[derive(Clone, Debug, Parser)]
#[command(name = "boot", after_help = AFTER_HELP, override_usage = "boot <ELF> [FILTER...] [OPTIONS] [-- QEMU ARGUMENTS]")]
pub struct Options {
    /// Program to boot: an ELF file for `x86_64`, as cargo builds it.
    pub elf: PathBuf,
    /// The machine to emulate.
    #[command(flatten)]
    pub machine: MachineOptions,
    /// Boot arguments for the guest, `key=value` separated by spaces.
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    pub args: String,
    /// End after so many seconds [default: 300, for each boot of a test image 120].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,
    /// Wait for a debugger, print the command to type, set no time limit.
    #[arg(long)]
    pub gdb: bool,
    /// Type FILE at the guest's first serial port once it reads there; `-` is standard input [default: the
    /// terminal, for programs].
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Write the disk image to FILE and stop.
    #[arg(long, value_name = "FILE")]
    pub image_only: Option<PathBuf>,
    /// Which tests to run; test images only.
    #[command(flatten)]
    pub tests: TestOptions,
    /// Raw arguments for QEMU.
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    pub raw: Vec<OsString>,
}

/// Options that describe the emulated machine.
#[derive(Clone, Debug, Args)]
pub struct MachineOptions {
    /// CPUs: a number, or a topology as in 6,sockets=3,cores=2,maxcpus=12.
    #[arg(long, value_name = "N", default_value = "4")]
    pub smp: Cpus,
    /// Memory, as in 96M or 2G.
    #[arg(long, value_name = "SIZE", default_value = "2G")]
    pub memory: Memory,
    /// Firmware that starts the boot loader.
    #[arg(long, value_enum, default_value = "bios")]
    pub firmware: Firmware,
    /// CPU model of QEMU: max has x2APIC from QEMU 9 on, qemu64 has xAPIC.
    #[arg(long, value_name = "MODEL", default_value = "max")]
    pub cpu: String,
    /// Board.
    #[arg(long, value_enum, default_value = "q35")]
    pub machine: Board,
    /// QEMU to use.
    #[arg(
        long,
        value_name = "PATH",
        env = "GZERO_QEMU",
        hide_env_values = true,
        default_value = "qemu-system-x86_64"
    )]
    pub qemu: PathBuf,
    /// Write what the guest sends to its second serial port to FILE.
    #[arg(long, value_name = "FILE")]
    pub serial2: Option<PathBuf>,
}

/// Options that choose tests and how they are shown, as libtest has them.
#[derive(Clone, Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct TestOptions {
    /// Run only tests whose name contains FILTER.
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// A FILTER is a whole name.
    #[arg(long)]
    pub exact: bool,
    /// Leave out tests whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    pub skip: Vec<String>,
    /// List the tests and stop.
    #[arg(long)]
    pub list: bool,
    /// Show the guest's output as it comes.
    #[arg(long)]
    pub nocapture: bool,
    /// Expect every test to pass, whatever it declares.
    #[arg(long)]
    pub plain: bool,
}

impl TestOptions {
    /// The first option given that only a test image understands, as it is written.
    pub fn given(&self) -> Option<String> {
        let flags = [(self.exact, "--exact"), (self.list, "--list"), (self.nocapture, "--nocapture")];
        let flag = flags.iter().find(|(set, _)| *set).map(|(_, name)| (*name).to_owned());
        let skip = self.skip.first().map(|text| format!("--skip {text}"));
        let plain = self.plain.then(|| "--plain".to_owned());
        self.filters.first().cloned().or(flag).or(skip).or(plain)
    }
}

impl Options {
    /// Reads a command line, the program's own name first.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with one line for anything but a request for help.
    pub fn parse_line<I, T>(line: I) -> Result<Self, Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        Self::try_parse_from(line).map_err(|error| {
            if error.kind() == ErrorKind::DisplayHelp {
                error.exit();
            }
            Error::Usage(one_line(&error.to_string()))
        })
    }

    /// Limit of a program's run; none while a debugger may hold it.
    pub fn run_limit(&self) -> Option<Duration> {
        self.limit(RUN_LIMIT)
    }

    /// Limit of one boot of a test image; none while a debugger may hold it.
    pub fn test_limit(&self) -> Option<Duration> {
        self.limit(TEST_LIMIT)
    }

    fn limit(&self, usual: Duration) -> Option<Duration> {
        (!self.gdb).then(|| self.timeout.map_or(usual, Duration::from_secs))
    }
}

/// Joins clap's message and its tip, without the usage text.
pub(crate) fn one_line(message: &str) -> String {
    let parts = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let words: Vec<&str> = parts.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let text = words.join(" ");
    format!("{}; see --help", text.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, Error> {
        Options::parse_line([&["boot"], words].concat())
    }

    fn message(words: &[&str]) -> String {
        parse(words).expect_err("a bad line").to_string()
    }

    #[test]
    fn a_bare_program_gets_the_defaults() {
        let options = parse(&["kernel"]).expect("a good line");
        assert_eq!(options.machine.smp.to_string(), "4");
        assert_eq!(options.machine.memory.to_string(), "2G");
        assert_eq!(options.machine.firmware, Firmware::Bios);
        assert_eq!((options.machine.cpu.as_str(), options.machine.machine), ("max", Board::Q35));
        assert_eq!(options.run_limit(), Some(Duration::from_mins(5)));
        assert_eq!(options.test_limit(), Some(Duration::from_mins(2)));
    }

    #[test]
    fn options_filters_and_raw_arguments_are_told_apart() {
        let line =
            ["k", "steal", "--smp", "6,sockets=3,cores=2", "--args", "log=debug run=idle", "--exact", "--"];
        let options = parse(&[&line[..], &["-icount", "shift=0"]].concat()).expect("a good line");
        assert_eq!(options.tests.filters, ["steal"]);
        assert!(options.tests.exact);
        assert_eq!(options.args, "log=debug run=idle");
        assert_eq!(options.raw, ["-icount", "shift=0"]);
    }

    #[test]
    fn a_debugger_lifts_the_time_limit() {
        let options = parse(&["k", "--gdb", "--timeout", "5"]).expect("a good line");
        assert_eq!((options.run_limit(), options.test_limit()), (None, None));
    }

    #[test]
    fn bad_lines_give_one_line_that_names_the_word() {
        for (line, word) in [
            (&["k", "--smp", "0"][..], "--smp"),
            (&["k", "--memory", "lots"], "96M or 2G"),
            (&["k", "--firmware", "coreboot"], "bios, uefi"),
            (&["k", "--timeout", "0"], "--timeout"),
            (&["k", "--smpp", "2"], "--smpp"),
            (&[], "<ELF>"),
        ] {
            let text = message(line);
            assert!(text.contains(word), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn options_for_tests_are_recognised_as_such() {
        assert_eq!(parse(&["k"]).expect("a good line").tests.given(), None);
        for (line, word) in
            [(&["k", "abc"][..], "abc"), (&["k", "--list"], "--list"), (&["k", "--skip", "x"], "--skip x")]
        {
            assert_eq!(parse(line).expect("a good line").tests.given().as_deref(), Some(word));
        }
    }
}
