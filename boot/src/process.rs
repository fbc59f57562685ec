//! The life of one QEMU process: start, output as it comes, time limits, and an end in every case.

use core::time::Duration;
use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::cpu_time::{Meter, Usage};
use crate::error::Error;
use crate::input::{Gate, Input};
use crate::signals;

/// How often limits, signals and the end of the process are looked at while it is silent.
const TICK: Duration = Duration::from_millis(20);
/// How long QEMU may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long output may still come once the process has ended.
const DRAIN: Duration = Duration::from_millis(500);
/// Bytes that are kept of what the process says about its own errors.
const ERRORS: u64 = 16 * 1024;

/// Follows what a guest says.
pub trait Watcher {
    /// Takes bytes of the guest's first serial port as they come.
    ///
    /// # Errors
    ///
    /// Ends the run; for a place of output that is gone.
    fn serial(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// A limit that follows from what the guest said, besides that of the whole run.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// How the process came to its end.
#[derive(Clone, Copy, Debug)]
pub enum Status {
    /// By itself.
    Ended(ExitStatus),
    /// Because its time was over.
    TimedOut,
    /// Because the user wanted so.
    Interrupted,
}

/// A life that is over.
#[derive(Debug)]
pub struct Life {
    /// How it ended.
    pub status: Status,
    /// How long it lasted.
    pub elapsed: Duration,
    /// CPU time used, known if the process was ended from outside.
    pub usage: Option<Usage>,
    /// What it said about errors of its own.
    pub errors: String,
}

/// Runs a process until it ends, `limit` is over, or the user interrupts. It does not outlive this call. What is typed for the
/// guest is held back while the gate is shut.
///
/// # Errors
///
/// [`Error::NoQemu`] if it cannot be started, [`Error::Io`] if the watcher cannot go on.
pub fn run(
    mut command: Command,
    limit: Option<Duration>,
    typed: Option<(Input, Gate)>,
    watcher: &mut dyn Watcher,
) -> Result<Life, Error> {
    command
        // ^C at the terminal goes to us alone: we end the process, and know why
        .process_group(0)
        .stdin(if typed.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| not_started(&command, error))?;
    let start = Instant::now();
    let mut guarded = Guard(child);
    let child = &mut guarded.0;
    let gate = typed.as_ref().map(|(_, gate)| gate.clone());
    if let Some((mut to, (input, gate))) = child.stdin.take().zip(typed) {
        // ends with this program: nobody waits for a terminal
        thread::spawn(move || input.pass_on(&mut to, &gate));
    }
    let output = child.stdout.take().map(read_in_background);
    let errors = child.stderr.take().map(collect_in_background);
    let mut meter = Meter::new(child.id());
    let limit = limit.map(|limit| start + limit);
    let status = follow(child, output.as_ref(), limit, (&mut meter, watcher))
        .map_err(Error::io("go on with", "the guest's output"))?;
    let elapsed = start.elapsed();
    if let Some(gate) = gate {
        gate.close();
    }
    let usage = meter.read();
    drop(guarded);
    let errors = errors.and_then(|errors| errors.recv_timeout(DRAIN).ok()).unwrap_or_default();
    Ok(Life { status, elapsed, usage, errors })
}

fn not_started(command: &Command, error: io::Error) -> Error {
    let path = command.get_program();
    if error.kind() == io::ErrorKind::NotFound {
        return Error::NoQemu(path.into());
    }
    Error::io("start", path)(error)
}

fn follow(
    child: &mut Child,
    output: Option<&Receiver<Vec<u8>>>,
    limit: Option<Instant>,
    (meter, watcher): (&mut Meter, &mut dyn Watcher),
) -> io::Result<Status> {
    loop {
        match output.map(|output| output.recv_timeout(TICK)) {
            Some(Ok(bytes)) => watcher.serial(&bytes)?,
            Some(Err(RecvTimeoutError::Timeout)) => {}
            Some(Err(RecvTimeoutError::Disconnected)) | None => thread::sleep(TICK),
        }
        meter.tick();
        if signals::interrupted() {
            return Ok(Status::Interrupted);
        }
        if let Some(status) = child.try_wait()? {
            drain(output, watcher)?;
            return Ok(Status::Ended(status));
        }
        let over = |deadline: Instant| Instant::now() >= deadline;
        if limit.is_some_and(over) || watcher.deadline().is_some_and(over) {
            return Ok(Status::TimedOut);
        }
    }
}

fn drain(output: Option<&Receiver<Vec<u8>>>, watcher: &mut dyn Watcher) -> io::Result<()> {
    while let Some(Ok(bytes)) = output.map(|output| output.recv_timeout(DRAIN)) {
        watcher.serial(&bytes)?;
    }
    Ok(())
}

/// Reads bytes as they come; a slow watcher slows the guest down instead of filling memory.
fn read_in_background(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver): (SyncSender<Vec<u8>>, _) = sync_channel(16);
    thread::spawn(move || {
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Keeps the beginning of what comes and lets the rest go, so that the writer is never blocked.
fn collect_in_background(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let mut kept = Vec::new();
        if from.by_ref().take(ERRORS).read_to_end(&mut kept).is_ok() {
            let rest = io::copy(&mut from, &mut io::sink());
            let whole = rest.and_then(|_| io::sink().flush());
            drop(whole);
        }
        // the receiver may have given up waiting
        drop(sender.send(String::from_utf8_lossy(&kept).into_owned()));
    });
    receiver
}

/// Ends the process and its children when dropped, so that no way out leaves one behind.
struct Guard(Child);

impl Guard {
    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Ok(id) = i32::try_from(self.0.id()) else { return };
        let group = Pid::from_raw(id);
        let until = Instant::now() + GRACE;
        if !self.has_ended() {
            send(group, Signal::SIGTERM);
        }
        while !self.has_ended() && Instant::now() < until {
            thread::sleep(TICK);
        }
        if !self.has_ended() {
            send(group, Signal::SIGKILL);
            drop(self.0.wait());
        }
    }
}

fn send(group: Pid, signal: Signal) {
    if let Err(error) = killpg(group, signal) {
        eprintln!("boot: cannot send {signal} to QEMU, process {group} ({error})");
    }
}
