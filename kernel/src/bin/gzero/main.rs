//! The main program: says what bring-up found, runs a workload that checks its own answers, and shows what each
//! CPU did.
//!
//! Boot argument `run`: `workload` (the default); `idle`, which only sleeps; `skynet`, which repeats the tree
//! (`rounds=N`, `leaves=N`) and checks that each round leaves as much memory as it found, and, with `contended=N`, that of no
//! kind of lock more than N percent were waited for.
#![no_std]
#![no_main]

extern crate alloc;

mod report;
mod ring;
mod sieve;
mod skynet;

use gzero::{boot_args, println, stats};

gzero::entry!(main, parameters = ["leaves", "primes", "rounds", "members", "contended"]);

/// Leaves of the skynet tree on a machine with memory enough.
const LEAVES: u64 = 100_000;
/// Primes that the sieve finds.
const PRIMES: u64 = 200;
/// Goroutines in the ring.
const MEMBERS: u64 = 1_000;
/// Times that the token goes round.
const LAPS: u64 = 10;
/// Free memory for each goroutine that may live at once: its stack in a build without optimisation.
const BYTES_PER_GOROUTINE: u64 = 12 * 1024;

#[derive(Clone, Copy)]
enum Run {
    Workload,
    Idle,
    Skynet,
}

fn main() -> u8 {
    report::bring_up();
    let choices = [("workload", Run::Workload), ("idle", Run::Idle), ("skynet", Run::Skynet)];
    let ok = match boot_args().choice("run", Run::Workload, &choices) {
        Run::Workload => workload(),
        Run::Idle => {
            println!("idle: all CPUs sleep until somebody ends the machine");
            gzero::park_for_devices()
        }
        Run::Skynet => rounds(),
    };
    report::cpus();
    let ok = report::locks(boot_args().number("contended", 100u64, 0..=100)) && ok;
    println!("{}", if ok { "gzero: ok" } else { "gzero: FAILED" });
    u8::from(!ok)
}

/// All CPUs at once, the tree, the sieve and the ring, each with its answer checked.
fn workload() -> bool {
    let leaves = leaves();
    let primes = boot_args().number("primes", PRIMES.min(leaves), 1..=100_000);
    let members = boot_args().number("members", MEMBERS.min(leaves), 2..=1_000_000);
    let procs = stats::gomaxprocs() as u64;
    let all = check("all cpus", procs, u64::from(gzero::roll_call()), procs);
    let tree = check("skynet", leaves, skynet::run(leaves), skynet::expected(leaves));
    let sieve = check("sieve", primes, sieve::run(primes), sieve::expected(primes));
    let ring = check("ring", members, ring::run(members, LAPS), members * LAPS);
    all && tree && sieve && ring
}

/// How many leaves fit: every goroutine of the tree may be alive at once.
fn leaves() -> u64 {
    let fit = (stats::memory().free / BYTES_PER_GOROUTINE).max(10);
    let wanted = boot_args().number("leaves", LEAVES.min(fit), 1..=10_000_000);
    if wanted < LEAVES && fit < LEAVES {
        println!("workload: memory for {fit} goroutines, so {wanted} leaves instead of {LEAVES}");
    }
    wanted
}

fn check(what: &str, size: u64, found: u64, expected: u64) -> bool {
    let verdict = if found == expected { "ok" } else { "WRONG" };
    println!("{what:<8} size {size:>7}: {found} {verdict}");
    if found != expected {
        println!("{what}: expected {expected}");
    }
    found == expected
}

/// The tree over and over: the same sum each time, and nothing left behind.
fn rounds() -> bool {
    let rounds = boot_args().number("rounds", 200u64, 1..=1_000_000);
    let leaves = leaves();
    let mut first = None;
    for round in 1..=rounds {
        let sum = skynet::run(leaves);
        skynet::wait_until_alone();
        let available = stats::memory().available();
        let at_first = *first.get_or_insert(available);
        if sum != skynet::expected(leaves) || available != at_first {
            println!("round {round}: sum {sum}, {available} bytes available, {at_first} after the first");
            return false;
        }
        if round % 20 == 0 || round == rounds {
            println!("round {round} of {rounds}: sum {sum}, {available} bytes available");
        }
    }
    true
}
