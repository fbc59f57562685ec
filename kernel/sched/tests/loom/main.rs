//! Every interleaving, and every stale value that the memory model allows, of the structures that CPUs race
//! for.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p sched --release --test loom --target host-tuple`
//!
//! The checker (0.7) does not try a thread's store before another's load of the same word when the thread itself has loaded
//! that word in between. A scene in which such an order matters lets the threads meet at a read-modify-write first.
//!
//! Run queues hold 4 goroutines here. Preemptions are bounded, as the number of runs grows with each; every
//! race that is argued in the sources needs fewer than the bound.
#![cfg(loom)]

mod blocked;
mod chan;
mod deadlock;
mod free_list;
mod idle;
mod input;
mod join;
mod keep;
mod meet;
mod mutex;
mod park;
mod queue;
mod rwmutex;
mod sema;
mod timer;
mod units;
mod world;

/// Runs `f` under the model checker. A thread that could go on is left for another one `preemptions` times
/// at most.
fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// The goroutine in slot `n`.
fn g(n: u32) -> sched::GoIndex {
    sched::GoIndex::new(n).expect("a test's index")
}
