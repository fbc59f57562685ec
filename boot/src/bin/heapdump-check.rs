//! Checks a heap dump that a kernel has written, and tells what is in it.

extern crate alloc;

use alloc::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use boot::heap_dump::{self, Dump};
use clap::Parser;

/// Reads a "go1.4 heap dump", checks that it makes sense, and counts what is in it.
#[derive(Debug, Parser)]
#[command(name = "heapdump-check")]
struct Options {
    /// The dump.
    file: PathBuf,
    /// Goroutines that have to be in it.
    #[arg(long, value_name = "N")]
    goroutines: Option<usize>,
    /// Functions that have to be in a frame; may be given several times.
    #[arg(long, value_name = "NAME")]
    function: Vec<String>,
    /// Wait reasons that a goroutine has to have; may be given several times.
    #[arg(long, value_name = "TEXT")]
    reason: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let checked = fs::read(&options.file)
        .map_err(|error| format!("cannot read {}: {error}", options.file.display()))
        .and_then(|bytes| heap_dump::read(&bytes).map_err(|error| error.to_string()))
        .and_then(|dump| {
            tell(&dump);
            lacking(&options, &dump)
        });
    match checked {
        Ok(()) => {
            println!("heapdump-check: ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("heapdump-check: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tell(dump: &Dump) {
    let bytes: u64 = dump.objects.values().map(|object| object.size).sum();
    let pointers: usize = dump.objects.values().map(|object| object.pointers).sum();
    println!("{} objects of {bytes} bytes with {pointers} pointers", dump.objects.len());
    let frames: usize = dump.goroutines.iter().map(|g| g.frames.len()).sum();
    println!("{} goroutines with {frames} frames, {} OS threads", dump.goroutines.len(), dump.threads);
    let mut reasons: BTreeMap<(u64, &str), usize> = BTreeMap::new();
    for g in &dump.goroutines {
        *reasons.entry((g.status, &g.wait_reason)).or_default() += 1;
    }
    for ((status, reason), count) in reasons {
        let status = if status == 4 { "waiting" } else { "runnable" };
        println!("  {count} {status} {reason}");
    }
}

/// What the dump has to hold and does not.
fn lacking(options: &Options, dump: &Dump) -> Result<(), String> {
    if let Some(wanted) = options.goroutines.filter(|wanted| *wanted != dump.goroutines.len()) {
        return Err(format!("{} goroutines, expected {wanted}", dump.goroutines.len()));
    }
    let named =
        |name: &str| dump.goroutines.iter().any(|g| g.frames.iter().any(|frame| frame.contains(name)));
    if let Some(name) = options.function.iter().find(|name| !named(name)) {
        return Err(format!("no frame of `{name}`"));
    }
    let waits = |text: &str| dump.goroutines.iter().any(|g| g.wait_reason == text);
    if let Some(text) = options.reason.iter().find(|text| !waits(text)) {
        return Err(format!("no goroutine waits for `{text}`"));
    }
    Ok(())
}
