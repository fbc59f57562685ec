//! The command line of the benchmarks: what follows `cargo bench --`.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::{Options, one_line};
use crate::bench::peer::PeerOptions;
use crate::bench::report::ReportOptions;
use crate::error::Error;
use crate::machine::Memory;

/// What Cargo adds to the command line of a benchmark.
const CARGOS_WORD: &str = "--bench";

/// Limit of one boot unless `--timeout` says otherwise.
const LIMIT: u64 = 1_800;

/// How figures are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In instructions, on one CPU of an emulator that counts them: the same in every run.
    Icount,
    /// In time, on this many CPUs.
    Smp(u32),
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icount => f.write_str("icount"),
            Self::Smp(cpus) => write!(f, "smp {cpus}"),
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let cpus = |text: &str| text.parse().ok().filter(|cpus| (1..=255).contains(cpus));
        match &words[..] {
            ["icount"] => Ok(Self::Icount),
            ["smp"] => Err("--mode smp needs a number of CPUs, as in --mode smp 2".to_owned()),
            ["smp", text] => cpus(text)
                .map(Self::Smp)
                .ok_or_else(|| format!("`{text}` is no number of CPUs from 1 to 255")),
            _ => Err(format!("unknown mode `{text}`; write --mode icount or --mode smp N")),
        }
    }
}

/// What one boot of the image measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but the other part.
    Most,
    /// The memory of goroutines that wait, which needs a machine that has done nothing else.
    Parked,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Most, Self::Parked];
    /// How the figures of the second begin.
    const PARKED: &str = "parked_memory";

    /// Whether one of the wanted beginnings of names is of this part.
    fn is_wanted(self, only: &[String]) -> bool {
        let parked =
            |start: &String| start.starts_with(Self::PARKED) || Self::PARKED.starts_with(start.as_str());
        only.is_empty()
            || match self {
                Self::Most => !only.iter().all(parked),
                Self::Parked => only.iter().any(parked),
            }
    }

    /// How the image is told.
    const fn word(self) -> &'static str {
        match self {
            Self::Most => "most",
            Self::Parked => "parked",
        }
    }
}

/// Boots the benchmark image and shows what the operations cost.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --", override_usage = "cargo bench -- [OPTIONS]")]
struct Line {
    /// The benchmark image.
    #[arg(hide = true)]
    elf: PathBuf,
    /// `icount`: instructions for each operation, on one CPU. `smp N`: times, on N CPUs.
    #[arg(long, value_name = "MODE", num_args = 1..=2, default_value = "icount")]
    mode: Vec<String>,
    /// CPUs, if `--mode smp` does not say.
    #[arg(long, value_name = "N")]
    smp: Option<String>,
    #[command(flatten)]
    rest: BenchOptions,
    /// What Cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the benchmarks are asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchOptions {
    /// The benchmark image.
    #[arg(skip)]
    pub elf: PathBuf,
    /// How figures are measured.
    #[arg(skip = Mode::Icount)]
    pub mode: Mode,
    /// Measure only what begins with this name; may be given more than once, or as a list with commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Write the figures to FILE, one JSON object a line. FILE is relative to the root of the checkout.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Compare with the figures in FILE; end with 1 if an operation takes over 5 % more instructions than there.
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// With whom gzero is compared.
    #[command(flatten)]
    pub peer: PeerOptions,
    /// What is shown besides.
    #[command(flatten)]
    pub report: ReportOptions,
    /// Repetitions of each figure [default: 5, for icount 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub reps: Option<u32>,
    /// Divide the numbers of operations by N.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub div: u32,
    /// Memory of the machine.
    #[arg(long, value_name = "SIZE", default_value = "5G")]
    pub memory: Memory,
    /// CPU model of QEMU [default: max, for icount qemu64].
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// QEMU to use.
    #[arg(
        long,
        value_name = "PATH",
        env = "GZERO_QEMU",
        hide_env_values = true,
        default_value = "qemu-system-x86_64"
    )]
    pub qemu: PathBuf,
    /// End a boot after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

impl BenchOptions {
    /// Whether a command line of the runner is one of the benchmarks.
    pub fn are_asked_for(line: &[OsString]) -> bool {
        line.iter().take_while(|word| *word != "--").any(|word| word == CARGOS_WORD)
    }

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
        let line = Line::try_parse_from(line).map_err(|error| {
            if error.kind() == ErrorKind::DisplayHelp {
                error.exit();
            }
            Error::Usage(one_line(&error.to_string()))
        })?;
        let words = line.mode.into_iter().chain(line.smp).collect::<Vec<_>>().join(" ");
        let mode = words.parse().map_err(Error::Usage)?;
        let mut options = line.rest;
        let shown = [&mut options.report.plot, &mut options.report.report];
        for file in [&mut options.json, &mut options.compare].into_iter().chain(shown).flatten() {
            *file = root().join(&*file);
        }
        options.mode = mode;
        options.elf = line.elf;
        Ok(options)
    }

    /// The boots that are needed for what is wanted.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(|part| part.is_wanted(&self.only))
    }

    /// The runner's options for one boot.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when QEMU would not take them.
    pub fn machine(&self, part: Part) -> Result<Options, Error> {
        let usual = match self.mode {
            Mode::Icount => "qemu64",
            Mode::Smp(_) => "max",
        };
        let cpus = match self.mode {
            Mode::Icount => 1,
            Mode::Smp(cpus) => cpus,
        };
        let (smp, memory, timeout) = (cpus.to_string(), self.memory.to_string(), self.timeout.to_string());
        let arguments = self.boot_arguments(part);
        let cpu = self.cpu.as_deref().unwrap_or(usual);
        let mut line: Vec<OsString> = vec!["boot".into(), self.elf.clone().into()];
        let pairs = [
            ("--smp", &smp[..]),
            ("--memory", &memory),
            ("--timeout", &timeout),
            ("--cpu", cpu),
            ("--args", &arguments),
        ];
        line.extend(pairs.iter().flat_map(|(option, value)| [option.into(), value.into()]));
        line.extend(["--qemu".into(), self.qemu.clone().into(), "--".into()]);
        if self.mode == Mode::Icount {
            line.extend(["-icount", "shift=0,sleep=off"].map(OsString::from));
        }
        Options::parse_line(line)
    }

    /// How often each figure is measured.
    pub fn repetitions(&self) -> u32 {
        let usual = match self.mode {
            Mode::Icount => 3,
            Mode::Smp(_) => 5,
        };
        self.reps.unwrap_or(usual)
    }

    /// Limit of one boot.
    pub const fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// What the image is told.
    fn boot_arguments(&self, part: Part) -> String {
        let mode = match self.mode {
            Mode::Icount => "icount",
            Mode::Smp(_) => "smp",
        };
        let only =
            if self.only.is_empty() { String::new() } else { format!(" only={}", self.only.join(",")) };
        format!("part={} mode={mode} reps={} div={}{only}", part.word(), self.repetitions(), self.div)
    }
}

/// The root of the checkout: Cargo starts a benchmark in the folder of its package.
pub(crate) fn root() -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    here.ancestors()
        .find(|folder| folder.join("Cargo.lock").exists())
        .map_or_else(|| here.clone(), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<BenchOptions, Error> {
        BenchOptions::parse_line([&["boot", "image"], words, &["--bench"]].concat())
    }

    #[test]
    fn a_mode_is_one_word_or_two_or_comes_with_smp() {
        for (words, mode) in [
            (&[][..], Mode::Icount),
            (&["--mode", "icount"], Mode::Icount),
            (&["--mode", "smp", "2"], Mode::Smp(2)),
            (&["--mode", "smp 2"], Mode::Smp(2)),
            (&["--mode=smp", "--smp", "4"], Mode::Smp(4)),
            (&["--mode", "smp", "--smp", "4", "--only", "yield"], Mode::Smp(4)),
        ] {
            assert_eq!(parse(words).expect("a good line").mode, mode, "{words:?}");
        }
    }

    #[test]
    fn a_bad_mode_is_named() {
        for (words, text) in [
            (&["--mode", "smp"][..], "--mode smp 2"),
            (&["--mode", "smp", "many"], "`many`"),
            (&["--mode", "smp", "0"], "`0`"),
            (&["--mode", "icount", "2"], "`icount 2`"),
            (&["--mode", "fast"], "`fast`"),
        ] {
            let error = parse(words).expect_err("a bad mode").to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn the_machine_counts_instructions_on_one_old_cpu() {
        let options = parse(&["--only", "yield,skynet", "--reps", "4"]).expect("a good line");
        let machine = options.machine(Part::Most).expect("a machine");
        assert_eq!(machine.raw, ["-icount", "shift=0,sleep=off"]);
        assert_eq!((machine.machine.smp.to_string().as_str(), machine.machine.cpu.as_str()), ("1", "qemu64"));
        assert_eq!(machine.args, "part=most mode=icount reps=4 div=1 only=yield,skynet");
        let machine = parse(&["--mode", "smp", "2"])
            .and_then(|options| options.machine(Part::Parked))
            .expect("a machine");
        assert_eq!((machine.machine.smp.to_string().as_str(), machine.machine.cpu.as_str()), ("2", "max"));
        assert_eq!((machine.raw.len(), machine.args.as_str()), (0, "part=parked mode=smp reps=5 div=1"));
    }

    #[test]
    fn only_the_parts_that_are_wanted_are_booted() {
        let both = [Part::Most, Part::Parked];
        for (only, parts) in [
            (&[][..], &both[..]),
            (&["yield"], &both[..1]),
            (&["parked"], &both[1..]),
            (&["parked_memory.bytes"], &both[1..]),
            (&["yield,parked_memory"], &both),
        ] {
            let words: Vec<&str> = only.iter().flat_map(|only| ["--only", only]).collect();
            let options = parse(&words).expect("a good line");
            assert_eq!(options.parts().collect::<Vec<_>>(), parts, "{only:?}");
        }
    }

    #[test]
    fn cargos_word_makes_it_a_benchmark() {
        let line = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(BenchOptions::are_asked_for(&line(&["boot", "image", "--mode", "icount", "--bench"])));
        assert!(!BenchOptions::are_asked_for(&line(&["boot", "image", "--", "--bench"])));
    }

    #[test]
    fn files_lie_in_the_checkout() {
        let options = parse(&["--json", "a.json", "--compare", "/b.json"]).expect("a good line");
        assert_eq!(options.compare, Some("/b.json".into()));
        let folder = options.json.expect("a file").parent().map(Path::to_path_buf).expect("a folder");
        assert!(folder.join("Cargo.lock").exists(), "{}", folder.display());
    }
}
