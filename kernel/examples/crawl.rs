//! A crawl with a pool of workers: pages name further pages, each is fetched once, and nobody knows at the start how many
//! there are. The web is made up: page n leads to a handful of others.
//!
//! `cargo run --example crawl -- --args "workers=16 pages=20000"`
#![no_std]
#![no_main]

use gzero::alloc::collections::{BTreeSet, VecDeque};
use gzero::prelude::*;

gzero::entry!(main, parameters = ["workers", "pages"]);

/// What a worker has found on a page.
struct Page {
    number: u64,
    links: Vec<u64>,
}

fn main() -> Result<(), &'static str> {
    let args = gzero::boot_args();
    let workers = args.number("workers", 8, 1..=10_000);
    let pages = args.number("pages", 2_000_u64, 1..=1_000_000);
    let (ask, asked) = chan::<u64>(0);
    let (answer, fetched) = chan(workers);
    let handles: Vec<_> = (0..workers)
        .map(|_| {
            let (asked, answer) = (asked.clone(), answer.clone());
            go_named("fetcher", move || {
                asked.iter().take_while(|&n| answer.send(fetch(n, pages)).is_ok()).count()
            })
        })
        .collect();
    let seen = crawl(&ask, &fetched)?;
    // Nothing is left to ask for: the workers' loops end.
    drop(ask);
    let counts: Vec<usize> = handles.into_iter().map(JoinHandle::join).collect();
    let busy = counts.iter().filter(|&&count| count > 0).count();
    println!("{} pages by {busy} of {workers} workers", seen.len());
    let expected = reachable(pages);
    if seen == expected && counts.iter().sum::<usize>() == expected.len() {
        Ok(())
    } else {
        Err("a page was missed, or fetched twice")
    }
}

/// Asks for page 0 and for all that it leads to; returns those that were fetched.
fn crawl(ask: &Sender<u64>, fetched: &Receiver<Page>) -> Result<BTreeSet<u64>, &'static str> {
    let mut known = BTreeSet::from([0]);
    let mut waiting = VecDeque::from([0]);
    let mut seen = BTreeSet::new();
    let mut asked = 0;
    while asked > 0 || !waiting.is_empty() {
        // With nothing to ask for, the arm's channel is none and the arm is never chosen.
        let next = waiting.front().copied();
        let to = next.map(|_| ask);
        select! {
            send(to, next.unwrap_or_default()) -> sent => {
                sent.map_err(|_| "no worker is left")?;
                waiting.pop_front();
                asked += 1;
            }
            recv(fetched) -> page => {
                let page: Page = page.map_err(|_| "no worker is left")?;
                asked -= 1;
                seen.insert(page.number);
                waiting.extend(page.links.into_iter().filter(|&link| known.insert(link)));
            }
        }
    }
    Ok(seen)
}

/// Fetches a page, which takes a moment.
fn fetch(number: u64, pages: u64) -> Page {
    sleep(Duration::from_micros(number % 7 * 20));
    Page { number, links: links(number, pages).collect() }
}

/// The pages that a page leads to.
fn links(number: u64, pages: u64) -> impl Iterator<Item = u64> {
    (1..5).map(move |k| (number * 3 + k * k) % pages)
}

/// The same by one goroutine, to check the result.
fn reachable(pages: u64) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    let mut waiting = Vec::from([0]);
    while let Some(number) = waiting.pop() {
        if seen.insert(number) {
            waiting.extend(links(number, pages));
        }
    }
    seen
}
