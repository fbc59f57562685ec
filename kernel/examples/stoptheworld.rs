//! Stops the world ten thousand times (on many CPUs fewer) while goroutines spin, yield, allocate and sleep, and tells how
//! long it took, why, and which CPU was last. A bare broadcast that every CPU acknowledges is measured beside it.
//!
//! Times are microseconds. *Asking* is the stopper's own work until all interrupts are sent, *stopping* lasts from the same
//! beginning until all CPUs have stopped, *stopped* from there until they may go on.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};

use gzero::testing::broadcast_and_acknowledge;
use gzero::{
    MemStats, Nanos, StopReason, go, gomaxprocs, gosched, now, num_cpu, num_goroutine, println,
    read_mem_stats, sleep, world,
};

gzero::entry!(main, parameters = ["stops"]);

/// What the other goroutines do.
const LOADS: [(&str, fn()); 4] = [
    ("spinning", || {}),
    ("yielding", gosched),
    ("allocating", || drop(black_box(Box::new([1_u8; 256])))),
    ("sleeping", || sleep(Nanos::from_micros(200))),
];

/// Reasons whose stops are made in turns.
const REASONS: [StopReason; 3] = [StopReason::GoMaxProcs, StopReason::ReadMemStats, StopReason::Program];

fn main() {
    // Beyond the emulating host's own cores a stop takes as long as the host needs to run them all in turn, and they are
    // slower by as much.
    let usual =
        if num_cpu() <= 2 { 10_000 } else { (80_000 / num_cpu().pow(2)).max(12_000 / num_cpu()).max(24) };
    let stops = gzero::boot_args().number("stops", usual, 8..=10_000_000);
    let each = stops / LOADS.len();
    println!("{stops} stops of {} CPUs", num_cpu());
    println!(
        "{:<10} {:<14} {:>5} {:>4} {:>8}  {:^32}  {:^32}",
        "load", "reason", "stops", "cpus", "asking", "stopping: p50, p99, max", "stopped: p50, p99, max"
    );
    for (name, turn) in LOADS {
        under_load(name, turn, each);
    }
    by_cpu_count();
    beside_halted_cpus();
}

/// Stops the world under one kind of load and prints a line for each reason.
fn under_load(name: &str, turn: fn(), stops: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..2 * num_cpu() {
        let stop = Arc::clone(&stop);
        go(move || {
            while !stop.load(Ordering::Relaxed) {
                turn();
            }
        });
    }
    gosched();
    let mut kept = REASONS.map(|reason| (reason, Vec::with_capacity(stops)));
    let mut bare = Vec::with_capacity(stops);
    let mut stats = MemStats::default();
    for _ in 0..stops / REASONS.len() {
        for (reason, records) in &mut kept {
            records.extend(stop_once(*reason, &mut stats));
            bare.push(broadcast_and_acknowledge());
        }
    }
    stop.store(true, Ordering::Relaxed);
    while num_goroutine() > 1 {
        gosched();
    }
    let mut all = Vec::with_capacity(stops);
    for (reason, records) in &kept {
        print_line(name, *reason, records);
        all.extend(records.iter().map(|record| record.stopping));
    }
    let (stopping, bare) = (Quantiles::of(all), Quantiles::of(bare));
    println!("{name:<10} {:<14} {:>5} {:>4} {:>8}  {bare}", "bare broadcast", bare.count, num_cpu() - 1, "");
    if bare.p50 > Nanos(0) {
        let tenths = stopping.p50.0 * 10 / bare.p50.0;
        println!("{name:<10} median stop / median bare broadcast = {}.{}", tenths / 10, tenths % 10);
    }
}

/// One stop for this reason, and its record.
fn stop_once(reason: StopReason, stats: &mut MemStats) -> Option<world::StopRecord> {
    if reason == StopReason::GoMaxProcs {
        // One more than there are CPUs, and back: every call stops the world, and nobody loses a P.
        let procs = i32::try_from(num_cpu()).unwrap_or(i32::MAX - 1);
        let now = i32::try_from(gomaxprocs(0)).unwrap_or(procs);
        gomaxprocs(if now == procs { procs + 1 } else { procs });
    } else if reason == StopReason::ReadMemStats {
        read_mem_stats(stats);
    } else {
        drop(gzero::stop_the_world(reason));
    }
    world::stats().last
}

fn print_line(load: &str, reason: StopReason, records: &[world::StopRecord]) {
    let stopping = Quantiles::of(records.iter().map(|record| record.stopping).collect());
    let stopped = Quantiles::of(records.iter().map(|record| record.stopped).collect());
    let asking = Micros(Quantiles::of(records.iter().map(|record| record.asking).collect()).p50);
    let cpus = records.iter().map(|record| record.interrupted).max().unwrap_or(0);
    println!("{load:<10} {reason:<14} {:>5} {cpus:>4} {asking}  {stopping}  {stopped}", records.len());
    let worst = records.iter().max_by_key(|record| record.stopping);
    if let Some((record, last)) = worst.and_then(|record| Some((record, record.last?))) {
        println!("{:<10} worst: {} until {last}", "", record.stopping);
    }
}

/// How long stops take by the number of CPUs that may run, and who was last how often.
fn by_cpu_count() {
    println!("\nstops by number of CPUs, others spinning; who was last");
    let mut procs = 1;
    let mut stats = MemStats::default();
    while procs <= num_cpu() {
        gomaxprocs(i32::try_from(procs).unwrap_or(i32::MAX));
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..2 * procs {
            let stop = Arc::clone(&stop);
            go(move || while !stop.load(Ordering::Relaxed) {});
        }
        gosched();
        let records: Vec<_> =
            (0..(400 / procs).max(8)).filter_map(|_| stop_once(StopReason::Program, &mut stats)).collect();
        stop.store(true, Ordering::Relaxed);
        while num_goroutine() > 1 {
            gosched();
        }
        let stopping = Quantiles::of(records.iter().map(|record| record.stopping).collect());
        println!("{procs:>4} CPUs: {stopping}   last: {}", Last(&records));
        procs = if procs == num_cpu() { procs + 1 } else { (2 * procs).min(num_cpu()) };
    }
}

/// Stops that find all other CPUs halted: none of them is woken, so all of the time is the stopper's own work.
///
/// A CPU that was woken just before, for another reason, may come in meanwhile: then that series does not count.
fn beside_halted_cpus() {
    const SERIES: u32 = 20;
    let stop = || {
        let began = now();
        let world = gzero::stop_the_world(StopReason::Program);
        let interrupted = world.record().interrupted;
        drop(world);
        (now() - began, interrupted)
    };
    let periods = || gzero::stats::per_cpu().map(|(_, counters)| counters.idle_periods).sum::<u64>();
    for series in 1..=SERIES {
        // Awake: whoever comes out of a sleep looks for work, and lets another CPU look, too.
        let until = now() + Nanos::from_millis(20);
        while now() < until {}
        let before = periods();
        let (times, interrupted): (Vec<_>, Vec<u32>) = (0..1_000).map(|_| stop()).unzip();
        let (asked, woken) = (interrupted.iter().sum::<u32>(), periods() - before);
        if (asked > 0 || woken > 0) && series < SERIES {
            continue;
        }
        let (count, whole) = (times.len(), Quantiles::of(times).p50);
        println!("\n{count} stops beside {} halted CPUs: {asked} were asked, {woken} woke up", num_cpu() - 1);
        println!(
            "median of stop and start together:{}, {} ns for each CPU",
            Micros(whole),
            whole.0 / num_cpu() as u64
        );
        return;
    }
}

/// How often each CPU was the last one; the eight that were it most often.
struct Last<'r>(&'r [world::StopRecord]);

impl fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times: Vec<(usize, u32)> = Vec::new();
        for cpu in self.0.iter().filter_map(|record| Some(record.last?.cpu)) {
            match times.iter_mut().find(|(_, known)| *known == cpu) {
                Some((count, _)) => *count += 1,
                None => times.push((1, cpu)),
            }
        }
        times.sort_unstable_by(|one, other| other.cmp(one));
        if times.is_empty() {
            return f.write_str("nobody else");
        }
        for (at, (count, cpu)) in times.iter().take(8).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}cpu {cpu} {count} times")?;
        }
        Ok(())
    }
}

/// Median, 99th hundredth and longest of some times.
struct Quantiles {
    count: usize,
    p50: Nanos,
    p99: Nanos,
    max: Nanos,
}

impl Quantiles {
    fn of(mut times: Vec<Nanos>) -> Self {
        times.sort_unstable();
        let at = |hundredth: usize| times.get(times.len() * hundredth / 100).copied().unwrap_or_default();
        let max = times.last().copied().unwrap_or_default();
        Self { count: times.len(), p50: at(50), p99: at(99), max }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, time) in [self.p50, self.p99, self.max].into_iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{:>6}", Micros(time))?;
        }
        Ok(())
    }
}

/// A time in microseconds, with its thousandths.
struct Micros(Nanos);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = f.width().unwrap_or(4);
        write!(f, "{:>width$}.{:03}", self.0.0 / 1_000, self.0.0 % 1_000)
    }
}
