//! What the main program prints about the machine.

use gzero::{bring_up, println, stats};

/// The machine as bring-up found it.
pub(crate) fn bring_up() {
    let facts = bring_up::get();
    println!("gzero {} on {} firmware", env!("CARGO_PKG_VERSION"), facts.firmware);
    println!("memory: {} MiB, {} MiB free", facts.memory >> 20, stats::memory().free >> 20);
    println!("cpu: {} ({})", facts.cpu.brand, facts.cpu.features);
    println!("apic: {}", facts.apic);
    println!("clock: TSC at {} MHz, measured against {}", facts.clock.hz / 1_000_000, facts.clock.source);
    for cpu in &facts.cpus {
        println!("{cpu}");
    }
    let online = facts.cpus.iter().filter(|cpu| cpu.is_online()).count();
    println!("cpus: {online} online of {}", facts.cpus.len());
    println!("gomaxprocs: {}, ready after {} ms", facts.gomaxprocs, facts.ready_at.0 / 1_000_000);
}

/// Waits for a kind of lock that say nothing of how often that is.
const FEW: u64 = 4;

/// The locks that CPUs have waited for, or found busy and passed. Whether that was in at most so many percent of the times that they were taken.
pub(crate) fn locks(most: u64) -> bool {
    let mut ok = true;
    println!("lock             taken  contended              passed");
    for locks in stats::locks().filter(|locks| locks.contended + locks.passed > 0) {
        let percent = locks.contended_per_10_000();
        let (whole, rest) = (percent / 100, percent % 100);
        println!(
            "{:<10} {:>11} {:>10} {whole:>3}.{rest:02} % {:>10}",
            locks.kind, locks.taken, locks.contended, locks.passed
        );
        if locks.contended > FEW && percent > most * 100 {
            println!("{}: more than {most} % were waited for", locks.kind);
            ok = false;
        }
    }
    ok
}

/// What each CPU did.
pub(crate) fn cpus() {
    println!("  cpu        run    spawned     steals     stolen      wakes  idle ms");
    for (id, c) in stats::per_cpu() {
        println!(
            "{:>5} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}",
            id.0,
            c.run,
            c.spawned,
            c.steals,
            c.stolen,
            c.wakes,
            c.idle_nanos / 1_000_000
        );
    }
}
