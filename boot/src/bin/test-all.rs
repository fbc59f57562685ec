//! Checks all of the project: host tests, loom, and every image on many machines. `cargo test-all` runs it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use boot::suite::plan::{self, Host};
use boot::suite::run::Runner;
use boot::{qemu, signals};
use clap::Parser;

/// Checks all of the project, step by step; logs are kept in target/test-all.
#[derive(Debug, Parser)]
#[command(name = "test-all")]
struct Options {
    /// List the steps and stop.
    #[arg(long)]
    list: bool,
    /// Run only steps whose name contains TEXT; may be given several times.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    signals::catch();
    let host = host();
    let mut steps = plan::steps(&host);
    steps.retain(|step| options.only.is_empty() || options.only.iter().any(|text| step.name.contains(text)));
    if options.list {
        for step in &steps {
            println!("{}", step.name);
        }
        return ExitCode::SUCCESS;
    }
    if steps.is_empty() {
        eprintln!("test-all: no step has `{}` in its name; see --list", options.only.join("` or `"));
        return ExitCode::FAILURE;
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| host.root.join("target"), PathBuf::from);
    let logs = target.join("test-all");
    let mut runner = match Runner::new(host.root, logs.clone()) {
        Ok(runner) => runner,
        Err(error) => {
            eprintln!("test-all: cannot make {}: {error}", logs.display());
            return ExitCode::FAILURE;
        }
    };
    let count = runner.run(&steps);
    let skipped = if count.skipped > 0 { format!(", {} skipped", count.skipped) } else { String::new() };
    if !count.failed.is_empty() {
        println!("\nfailures:\n{}", count.failed.concat());
    }
    println!("{} passed, {} failed{skipped}", count.passed, count.failed.len());
    if signals::interrupted() {
        eprintln!("test-all: interrupted");
        return ExitCode::FAILURE;
    }
    if count.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn host() -> Host {
    // cargo says where this package lies, in the checkout that it runs in
    let package =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = package.parent().map_or_else(|| ".".into(), Path::to_path_buf);
    let name = env::var_os("GZERO_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
    let version = qemu::version(Path::new(&name)).ok();
    let measurable = Path::new("/proc/self/stat").exists();
    Host {
        root,
        qemu: version.and_then(|version| qemu::major(&version)),
        old_qemu: env::var_os("GZERO_QEMU_OLD").map(PathBuf::from),
        no_cpu_time: (!measurable).then(|| "this host has no /proc to measure CPU time".to_owned()),
    }
}
