//! Goes through the steps: one line each while it works, the output of those that fail, a count at the end.
//!
//! Boots of test images spend much of their time where one CPU works: in the firmware and the boot loader. So they share the
//! host; what is measured, or needs the host for itself, runs alone.

use core::num::NonZero;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::cases;
use crate::cpu_time::seconds;
use crate::elf::Program;
use crate::signals;
use crate::suite::images::{BUILDS, Image, Images, MESSAGES};
use crate::suite::step::{Action, Run, Step, What};

/// How often a command is asked whether it has ended.
const TICK: Duration = Duration::from_millis(20);

/// Steps that share the host at most: each guest takes some of its memory.
const AT_ONCE: usize = 4;

/// Lines of a failed step's log that are said again at the end: a report of which only the end is kept shows them.
const SAID_AGAIN: usize = 40;

/// Counts of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All was as wanted.
    pub passed: usize,
    /// Something was not: the steps' names, why, and the ends of their logs.
    pub failed: Vec<String>,
    /// Could not be done on this host.
    pub skipped: usize,
}

/// How a step has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    Passed,
    Failed(String),
    Skipped,
}

impl Count {
    fn add(&mut self, done: Done) {
        match done {
            Done::Passed => self.passed += 1,
            Done::Failed(why) => self.failed.push(why),
            Done::Skipped => self.skipped += 1,
        }
    }
}

/// Runs steps in the checkout at `root`; logs go to `logs`.
#[derive(Debug)]
pub struct Runner {
    root: PathBuf,
    logs: PathBuf,
    images: Images,
}

impl Runner {
    /// A runner that has built nothing yet.
    ///
    /// # Errors
    ///
    /// If the folder of logs cannot be made.
    pub fn new(root: PathBuf, logs: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&logs)?;
        Ok(Self { root, logs, images: Images::default() })
    }

    /// Runs all steps and counts, stops only when interrupted. Those next to each other that may share the host do, one
    /// for each of its CPUs.
    pub fn run(&mut self, steps: &[Step]) -> Count {
        let mut count = Count::default();
        let numbered: Vec<(usize, &Step)> = (1..).zip(steps).collect();
        for group in numbered.chunk_by(|(_, before), (_, after)| before.shares && after.shares) {
            let results = match group {
                [one] => vec![self.alone(*one, steps.len())],
                several => self.together(several, steps.len()),
            };
            for done in results {
                count.add(done);
            }
            if signals::interrupted() {
                break;
            }
        }
        count
    }

    /// Runs a step, and shows its command while it works.
    fn alone(&mut self, (number, step): (usize, &Step), of: usize) -> Done {
        say(&title(number, of, step));
        if let Some(reason) = &step.skip {
            say(&format!("skipped, {reason}\n"));
            return Done::Skipped;
        }
        let start = Instant::now();
        let needs_images =
            !matches!(&step.action, Action::Build | Action::One(Run { what: What::Cargo(_), .. }));
        let built = if needs_images { self.built() } else { Ok(()) };
        let verdict = match &step.action {
            Action::Build => self.build_step(&step.name),
            Action::One(_) | Action::InTurn(_) | Action::AtOnce(_) | Action::Controls(_) => {
                built.and_then(|()| self.step(step))
            }
        };
        self.tell(step, verdict, start.elapsed(), "")
    }

    /// Runs steps side by side. Each is shown when it has ended.
    fn together(&mut self, steps: &[(usize, &Step)], of: usize) -> Vec<Done> {
        let built = self.built();
        let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            // Relaxed: each number is drawn once; the steps were there before the threads.
            while let Some((number, step)) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
                let title = title(*number, of, step);
                let done = if let Some(reason) = &step.skip {
                    say(&format!("{title}skipped, {reason}\n"));
                    Done::Skipped
                } else {
                    let start = Instant::now();
                    let verdict = built.clone().and_then(|()| self.step(step));
                    self.tell(step, verdict, start.elapsed(), &title)
                };
                results.lock().unwrap_or_else(PoisonError::into_inner).push(done);
                if signals::interrupted() {
                    break;
                }
            }
        };
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 0..cpus.min(AT_ONCE).min(steps.len()) {
                scope.spawn(work);
            }
        });
        results.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows how a step has ended, behind `title`.
    fn tell(&self, step: &Step, verdict: Result<(), String>, time: Duration, title: &str) -> Done {
        match verdict {
            Ok(()) => {
                say(&format!("{title}ok, {}\n", seconds(time)));
                Done::Passed
            }
            Err(reason) => {
                let log = self.log(&step.name);
                let why = format!("{}: {reason}; log: {}\n", step.name, log.display());
                let shown = shown(&log);
                say(&format!("{title}FAILED, {}\n{}{why}", seconds(time), shown.concat()));
                let end = shown.len().saturating_sub(SAID_AGAIN);
                Done::Failed(shown.get(end..).unwrap_or_default().concat() + &why)
            }
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    fn step(&self, step: &Step) -> Result<(), String> {
        let log = self.new_log(&step.name)?;
        match &step.action {
            Action::Build => Ok(()),
            Action::One(run) => self.at_once(core::slice::from_ref(run), &log),
            Action::InTurn(runs) => {
                runs.iter().try_for_each(|run| self.at_once(core::slice::from_ref(run), &log))
            }
            Action::AtOnce(runs) => self.at_once(runs, &log),
            Action::Controls(name) => self.controls(name, &log),
        }
    }

    fn new_log(&self, name: &str) -> Result<File, String> {
        let path = self.log(name);
        File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    fn build_step(&mut self, name: &str) -> Result<(), String> {
        let log = self.new_log(name)?;
        self.build(&log)
    }

    /// Builds all images; what Cargo says of programs is read, what the compiler says is logged.
    fn build(&mut self, log: &File) -> Result<(), String> {
        for arguments in BUILDS {
            let mut command = Command::new(cargo());
            command.args(arguments).arg(MESSAGES).current_dir(&self.root).stdin(Stdio::null());
            let errors = log.try_clone().map_err(|error| error.to_string())?;
            let output =
                command.stderr(errors).output().map_err(|error| format!("cannot start cargo: {error}"))?;
            if !output.status.success() {
                return Err(format!("cargo {} failed", arguments.join(" ")));
            }
            self.images.read(&String::from_utf8_lossy(&output.stdout));
        }
        Ok(())
    }

    fn controls(&self, name: &str, log: &File) -> Result<(), String> {
        let image = Image::Test(name.to_owned());
        let path = self.images.path(&image).ok_or_else(|| format!("there is no image `{name}`"))?;
        let cases = Program::read(path).and_then(|program| cases::read(&program));
        let cases = cases.map_err(|error| error.to_string())?;
        if cases.is_empty() {
            return Err(format!("the image `{name}` declares no cases"));
        }
        for case in &cases {
            self.at_once(&[Run::control(name, case)], log)
                .map_err(|reason| format!("{}: {reason}", case.name))?;
        }
        Ok(())
    }

    /// Builds the images for a run of single steps that left the build out.
    fn built(&mut self) -> Result<(), String> {
        if self.images.boot.is_some() {
            return Ok(());
        }
        let log = self.new_log("build")?;
        self.build(&log).map_err(|reason| format!("{reason}; log: {}", self.log("build").display()))
    }

    fn at_once(&self, runs: &[Run], log: &File) -> Result<(), String> {
        let mut started = Vec::new();
        for run in runs {
            let mut output = tempfile::tempfile().map_err(|error| error.to_string())?;
            writeln!(output, "$ {run}").map_err(|error| error.to_string())?;
            started.push((run, self.start(run, &output)?, output));
        }
        let mut verdict = Ok(());
        for (run, child, mut output) in started {
            let code = wait(child)?;
            let text = text(&mut output).map_err(|error| error.to_string())?;
            let mut log = log;
            log.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
            verdict = verdict.and(run.wanted.judge(code, &text));
        }
        if signals::interrupted() { Err("interrupted".to_owned()) } else { verdict }
    }

    fn start(&self, run: &Run, output: &File) -> Result<Child, String> {
        let mut command = match &run.what {
            What::Cargo(flags) => {
                let mut command = Command::new(cargo());
                command.envs(flags.map(|flags| ("RUSTFLAGS", flags)));
                command
            }
            What::Boot(image) => {
                let boot = self.images.boot.as_ref().ok_or("cargo built no runner")?;
                let path = self.images.path(image).ok_or_else(|| format!("cargo built no `{image}`"))?;
                let mut command = Command::new(boot);
                command.arg(path);
                if matches!(image, Image::Bench(_)) {
                    // As Cargo does.
                    command.arg("--bench");
                }
                command
            }
        };
        let clone = || output.try_clone().map_err(|error| error.to_string());
        // in a group of its own: an interrupt ends the command and all that it started
        command.process_group(0).args(&run.args).current_dir(&self.root);
        command.stdin(Stdio::null()).stdout(clone()?).stderr(clone()?);
        command.spawn().map_err(|error| format!("cannot start {run}: {error}"))
    }
}

/// The cargo that runs this program, so that toolchains are not mixed.
fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The beginning of a step's line.
fn title(number: usize, of: usize, step: &Step) -> String {
    format!("[{number:>3}/{of}] {}: {} ... ", step.name, command(&step.action))
}

fn command(action: &Action) -> String {
    match action {
        Action::Build => "cargo build, cargo test --no-run".to_owned(),
        Action::One(run) => run.to_string(),
        Action::InTurn(runs) => runs.iter().map(Run::to_string).collect::<Vec<_>>().join(" && "),
        Action::AtOnce(runs) => runs.iter().map(Run::to_string).collect::<Vec<_>>().join(" & "),
        Action::Controls(name) => format!("cargo test --test {name} -- --plain --exact CASE"),
    }
}

fn wait(mut child: Child) -> Result<Option<i32>, String> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status.code());
        }
        if signals::interrupted() && !told {
            told = true;
            let group = i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| error.to_string())?;
            killpg(group, Signal::SIGTERM).map_err(|error| error.to_string())?;
        }
        thread::sleep(TICK);
    }
}

fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines of a log as they are shown, each marked.
fn shown(log: &Path) -> Vec<String> {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    text.lines().map(|line| format!("  | {line}\n")).collect()
}

/// Writes at once: a step's line is seen while it works.
fn say(text: &str) {
    let mut out = io::stdout();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        // nobody listens any more: the exit code tells
        thread::yield_now();
    }
}
