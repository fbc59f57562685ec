//! A pipeline with bounded parallelism that can be cancelled: numbers go to workers, which look for primes, and what they
//! find is collected until there is enough. Then all stages end, whatever they were about to send.
//!
//! `cargo run --example pipeline -- --args "workers=8 primes=1000"`
#![no_std]
#![no_main]

use gzero::prelude::*;

gzero::entry!(main, parameters = ["workers", "primes"]);

/// Everybody who holds a clone of it notices when it is closed.
type Cancel = Receiver<()>;

fn main() -> Result<(), &'static str> {
    let args = gzero::boot_args();
    let workers = args.number("workers", 4, 1..=10_000);
    let wanted = args.number("primes", 300, 1..=100_000);
    let (stop, cancel) = chan(0);
    let (found, results) = chan(0);
    let candidates = count_from(2, &cancel);
    let handles: Vec<_> = (0..workers)
        .map(|_| {
            let (candidates, found, cancel) = (candidates.clone(), found.clone(), cancel.clone());
            go_named("worker", move || work(&candidates, &found, &cancel))
        })
        .collect();
    // The workers' clones alone keep it open.
    drop(found);
    let mut primes: Vec<u64> = results.iter().take(wanted).collect();
    drop::<Sender<()>>(stop);
    let examined: u64 = handles.into_iter().map(JoinHandle::join).sum();
    primes.sort_unstable();
    println!("{workers} workers examined {examined} numbers");
    println!("{} primes, the largest {}", primes.len(), primes[primes.len() - 1]);
    // Some number beyond may have been found before one of the first.
    let all_prime = primes.iter().all(|&n| is_prime(n)) && primes.is_sorted_by(|a, b| a < b);
    if all_prime && primes.len() == wanted { Ok(()) } else { Err("what was found is wrong") }
}

/// The first stage: sends numbers until it is told to stop.
fn count_from(first: u64, cancel: &Cancel) -> Receiver<u64> {
    let (out, numbers) = chan(0);
    let cancel = cancel.clone();
    go_named("numbers", move || {
        for n in first.. {
            select! {
                send(out, n) -> sent => if sent.is_err() { return },
                recv(cancel) => return,
            }
        }
    });
    numbers
}

/// The second stage: passes the primes on. Returns how many numbers it has examined.
fn work(candidates: &Receiver<u64>, found: &Sender<u64>, cancel: &Cancel) -> u64 {
    let mut examined = 0;
    for n in candidates {
        examined += 1;
        if is_prime(n) {
            select! {
                send(found, n) -> sent => if sent.is_err() { break },
                recv(cancel) => break,
            }
        }
    }
    examined
}

fn is_prime(n: u64) -> bool {
    n >= 2 && (2..=n.isqrt()).all(|d| !n.is_multiple_of(d))
}
