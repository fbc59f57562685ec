//! How long single calls take: stops of the world, sleeps, and the way to the CPU past somebody who keeps it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gzero::{MemStats, Nanos, go, gomaxprocs, gosched, now, num_cpu, read_mem_stats, sleep};
use tests::wait_until_alone;

use crate::measure::{self, Bench, Mode, is_wanted, powers, set_procs};

/// Calls of each repetition, and those past somebody who keeps the CPU.
const CALLS: usize = 500;
const PREEMPTIONS: usize = 100;

/// How long the world gets to run again between two stops.
const AGAIN: Nanos = Nanos::from_millis(4);
/// And at the beginning.
const FIRST: Nanos = Nanos::from_millis(2_000);

/// What the other goroutines do.
#[derive(Clone, Copy)]
pub enum Load {
    /// A loop without calls.
    Tight,
    /// A loop that yields.
    Gosched,
}

/// What stops the world.
#[derive(Clone, Copy)]
enum Stop {
    /// One P fewer, one P more, in turns.
    Gomaxprocs,
    ReadMemStats,
}

pub fn measure(bench: &Bench) {
    if bench.mode == Mode::Icount {
        return;
    }
    for (name, stop, load) in [
        ("stw_gomaxprocs_tight", Stop::Gomaxprocs, Load::Tight),
        ("stw_gomaxprocs_gosched", Stop::Gomaxprocs, Load::Gosched),
        ("stw_readmemstats_tight", Stop::ReadMemStats, Load::Tight),
        ("stw_readmemstats_gosched", Stop::ReadMemStats, Load::Gosched),
    ] {
        for procs in powers(2, num_cpu()).filter(|_| num_cpu() > 1 && is_wanted(name)) {
            beside_load(bench, procs, load, |world| tell(name, procs, stops(stop, procs, world)));
        }
    }
    for procs in powers(1, num_cpu()) {
        repeat(bench, "sleep_1ms", procs, sleeps);
    }
    repeat(bench, "preempt_latency", 1, preemptions);
}

fn repeat(bench: &Bench, name: &str, procs: usize, calls: fn() -> Vec<Nanos>) {
    if is_wanted(name) {
        set_procs(procs);
        (0..bench.reps).for_each(|_| tell(name, procs, calls()));
    }
}

/// Prints the median, the 99th hundredth and the longest of some times.
pub fn tell(name: &str, procs: usize, mut times: Vec<Nanos>) {
    times.sort_unstable();
    let at = |hundredth: usize| times[(times.len() * hundredth / 100).min(times.len() - 1)].0;
    for (part, hundredth) in [("p50", 50), ("p99", 99), ("max", 100)] {
        measure::tell(&alloc::format!("{name}.{part}"), procs, "ns", at(hundredth), 1);
    }
}

/// A number on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Turns(AtomicU64);

/// Goroutines that keep all CPUs but the caller's busy, and count their turns.
pub struct World(Arc<Vec<Turns>>);

impl World {
    /// Waits until so many of the others have made a turn, but not for ever.
    pub fn wait_until_it_runs(&self, others: usize) {
        self.wait(others, AGAIN);
    }

    fn wait(&self, others: usize, most: Nanos) {
        let turns = |turns: &Turns| turns.0.load(Ordering::Relaxed);
        let before: Vec<u64> = self.0.iter().map(turns).collect();
        let end = now() + most;
        while self.0.iter().zip(&before).filter(|(now, before)| turns(now) != **before).count() < others {
            if now() > end {
                return;
            }
        }
    }
}

/// Does something, over and over, while one goroutine fewer than Ps make a load.
pub fn beside_load(bench: &Bench, procs: usize, load: Load, mut function: impl FnMut(&World)) {
    for _ in 0..bench.reps {
        set_procs(procs);
        let stop = Arc::new(AtomicBool::new(false));
        let world = World(Arc::new((1..procs).map(|_| Turns::default()).collect()));
        for number in 0..procs - 1 {
            let (stop, turns) = (Arc::clone(&stop), Arc::clone(&world.0));
            go(move || run(load, &stop, &turns[number]));
        }
        world.wait(procs - 1, FIRST);
        function(&world);
        stop.store(true, Ordering::Relaxed);
        wait_until_alone();
    }
}

fn run(load: Load, stop: &AtomicBool, turns: &Turns) {
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        made += 1;
        turns.0.store(made, Ordering::Relaxed);
        match load {
            Load::Tight => {}
            Load::Gosched => gosched(),
        }
    }
}

fn stops(stop: Stop, procs: usize, world: &World) -> Vec<Nanos> {
    let mut stats = MemStats::default();
    let mut now_procs = procs;
    let call = |_| {
        let began = match stop {
            Stop::Gomaxprocs => {
                now_procs = 2 * procs - 1 - now_procs;
                let wanted = i32::try_from(now_procs).expect("256 at most");
                let began = now();
                gomaxprocs(wanted);
                began
            }
            Stop::ReadMemStats => {
                let began = now();
                read_mem_stats(&mut stats);
                began
            }
        };
        let took = now() - began;
        world.wait_until_it_runs(now_procs - 1);
        took
    };
    (0..CALLS).map(call).collect()
}

fn sleeps() -> Vec<Nanos> {
    let call = |_| {
        let began = now();
        sleep(Nanos::from_millis(1));
        now() - began
    };
    // The emulator translates what runs for the first time: one call is not counted.
    sleep(Nanos::from_millis(1));
    (0..CALLS).map(call).collect()
}

/// One P, a loop without calls, and a sleeper that is due each 20 ms.
fn preemptions() -> Vec<Nanos> {
    const PERIOD: Nanos = Nanos::from_millis(20);
    let stop = Arc::new(AtomicBool::new(false));
    let hog_stops = Arc::clone(&stop);
    go(move || while !hog_stops.load(Ordering::Relaxed) {});
    let mut due = now();
    let call = |_| {
        while due <= now() {
            due = due + PERIOD;
        }
        sleep(due - now());
        now() - due
    };
    let times = (0..PREEMPTIONS).map(call).collect();
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    times
}
