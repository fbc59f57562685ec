//! Counts the words of a text, in parallel: a pool of goroutines takes chunks from one channel and sends what they
//! counted into another. The count ends early when its time is up or enough words have been seen.
//!
//! Either way the sum is checked against a sequential count of the same chunks.
//!
//! ```text
//! cargo run --example wordcount -- --args "workers=8 kib=1024"
//! cargo run --example wordcount -- --args "timeout=20"
//! cargo run --example wordcount -- --args "limit=10000"
//! ```

#![no_std]
#![no_main]

use gzero::alloc::collections::{BTreeMap, BTreeSet};
use gzero::prelude::*;
use gzero::sync::Context;

gzero::entry!(main, parameters = ["workers", "kib", "timeout", "limit"]);

/// How often each word occurs. The words are parts of the text; no letter is copied.
type Counts<'text> = BTreeMap<&'text str, usize>;

/// The words that the text is made of, as frequent in it as they are here.
const GETTYSBURG: &str = "Four score and seven years ago our fathers brought forth on this continent, a new nation, \
    conceived in Liberty, and dedicated to the proposition that all men are created equal. Now we are engaged in a \
    great civil war, testing whether that nation, or any nation so conceived and so dedicated, can long endure. We \
    are met on a great battle-field of that war. We have come to dedicate a portion of that field, as a final resting \
    place for those who here gave their lives that that nation might live. It is altogether fitting and proper that \
    we should do this. But, in a larger sense, we can not dedicate, we can not consecrate, we can not hallow this \
    ground. The brave men, living and dead, who struggled here, have consecrated it, far above our poor power to add \
    or detract.";

/// Small enough that each worker gets many, and that a count that shall end need not wait long.
const CHUNK_BYTES: usize = 8 * 1024;

fn main() -> Result<(), String> {
    let args = gzero::boot_args();
    let workers = args.number("workers", 2 * gzero::num_cpu(), 1..=1000);
    let kib = args.number("kib", 512, 1..=64 * 1024);
    let timeout = Duration::from_millis(args.number("timeout", 60_000, 0..=3_600_000));
    let limit = args.number("limit", usize::MAX, 1..=usize::MAX);

    let text = write_text(kib * 1024);
    let chunks = split(&text);

    let start = Instant::now();
    let (counts, done, stopped) = count_in_parallel(&chunks, workers, start + timeout, limit);
    let parallel = start.elapsed();
    if let Some(why) = stopped {
        println!("stopped: {why}");
    }

    // If it was not stopped, the text is counted in one piece, so that its division into chunks is checked as well.
    let start = Instant::now();
    let mut expected = Counts::new();
    match stopped {
        None => count(&text, &mut expected),
        Some(_) => done.iter().for_each(|&n| count(chunks[n], &mut expected)),
    }
    let sequential = start.elapsed();

    let total: usize = counts.values().sum();
    println!("{total} words in {} of {} chunks, {} different ones", done.len(), chunks.len(), counts.len());
    println!("{} ms by {workers} workers, {} ms by one", parallel.as_millis(), sequential.as_millis());

    let mut ranking: Vec<_> = counts.iter().collect();
    ranking.sort_by_key(|&(word, count)| (usize::MAX - count, word));
    for (word, count) in ranking.into_iter().take(10) {
        println!("{count:8} {word}");
    }

    if counts == expected {
        Ok(())
    } else {
        Err(format!("a sequential count finds {} words", expected.values().sum::<usize>()))
    }
}

/// Returns the counts, the numbers of the chunks that are in them, and why it stopped if it did not get through.
fn count_in_parallel<'text>(
    chunks: &[&'text str],
    workers: usize,
    deadline: Instant,
    limit: usize,
) -> (Counts<'text>, BTreeSet<usize>, Option<&'static str>) {
    let (context, cancel) = Context::background().with_cancel();
    let (jobs_in, jobs) = chan(workers);
    let (results_in, results) = chan(workers);

    let mut total = Counts::new();
    let mut done = BTreeSet::new();
    let mut words = 0;

    let stopped = scope(|s| {
        // The feeder. It owns the only sender: when it ends the channel is closed, and the workers end too.
        let feeder = context.clone();
        s.go(move || {
            for job in chunks.iter().copied().enumerate() {
                select! {
                    send(jobs_in, job) -> sent => if sent.is_err() { break },
                    recv(feeder.done()) => break,
                }
            }
        });
        for _ in 0..workers {
            let (context, jobs, results_in) = (context.clone(), jobs.clone(), results_in.clone());
            s.go(move || work(&context, jobs, &results_in));
        }
        // Only the workers hold these ends now: the results end with the last worker.
        drop((jobs, results_in));

        let mut add = |(n, counts): (usize, Counts<'text>)| {
            done.insert(n);
            for (word, count) in counts {
                words += count;
                *total.entry(word).or_default() += count;
            }
            words
        };
        let stopped = loop {
            select! {
                recv(results) -> result => match result {
                    Ok(part) => if add(part) >= limit { break Some("enough words") },
                    Err(_) => break None,
                },
                after(deadline) => break Some("time is up"),
            }
        };
        // From here on nobody begins a chunk. What has been begun is finished, and counts.
        cancel.cancel();
        for part in results {
            add(part);
        }
        stopped
    });
    (total, done, stopped)
}

/// Counts chunks until there are no more, or the context ends: what waits in the channel then is passed over.
fn work<'text>(
    context: &Context,
    jobs: Receiver<(usize, &'text str)>,
    results: &Sender<(usize, Counts<'text>)>,
) {
    for (n, chunk) in jobs {
        if context.is_done() {
            break;
        }
        let mut counts = Counts::new();
        count(chunk, &mut counts);
        results.send((n, counts)).expect("results are received until the last worker has ended");
    }
}

fn count<'text>(text: &'text str, counts: &mut Counts<'text>) {
    for word in text.split_ascii_whitespace() {
        *counts.entry(word).or_default() += 1;
    }
}

/// Divides a text between words.
fn split(text: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.get(CHUNK_BYTES..).and_then(|tail| tail.find(' ')) {
        let (chunk, tail) = rest.split_at(CHUNK_BYTES + end);
        chunks.push(chunk);
        rest = tail;
    }
    chunks.push(rest);
    chunks
}

/// Draws words at random, the same ones in each run.
fn write_text(bytes: usize) -> String {
    let lower = GETTYSBURG.to_lowercase();
    let words: Vec<_> = lower.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect();
    let mut text = String::with_capacity(bytes);
    let mut random = 1_usize;
    loop {
        // Knuth's generator for MMIX; its upper bits are the good ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = words[(random >> 33) % words.len()];
        if text.len() + word.len() >= bytes {
            return text;
        }
        text.push_str(word);
        text.push(' ');
    }
}
