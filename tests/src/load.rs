//! Goroutines that keep the machine busy while something else is looked at.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gzero::{chan, go, gosched, num_goroutine, stats};

/// Goroutines that do something over and over, each of which counts its turns, until they are dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    turns: Arc<Vec<AtomicU64>>,
}

impl Load {
    /// Starts `count` goroutines. `turn` is one turn of each.
    pub fn start(count: usize, turn: impl Fn(usize) + Send + Sync + 'static) -> Self {
        let load = Self {
            stop: Arc::new(AtomicBool::new(false)),
            turns: Arc::new((0..count).map(|_| AtomicU64::new(0)).collect()),
        };
        let turn = Arc::new(turn);
        for n in 0..count {
            let (stop, turns, turn) = (Arc::clone(&load.stop), Arc::clone(&load.turns), Arc::clone(&turn));
            go(move || {
                while !stop.load(Ordering::Relaxed) {
                    turn(n);
                    turns[n].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// The turns that each has made.
    pub fn turns(&self) -> Vec<u64> {
        self.turns.iter().map(|turns| turns.load(Ordering::Relaxed)).collect()
    }

    /// The turns that all of them have made.
    pub fn sum(&self) -> u64 {
        self.turns.iter().map(|turns| turns.load(Ordering::Relaxed)).sum()
    }

    /// Waits until everybody has made a turn from now on.
    pub fn wait_for_all(&self) {
        for (turns, before) in self.turns.iter().zip(self.turns()) {
            while turns.load(Ordering::Relaxed) == before {
                gosched();
            }
        }
    }

    /// Tells them to end with the turn that they are at.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Load {
    /// Waits until they have ended: nobody else may run but the caller.
    fn drop(&mut self) {
        self.stop();
        wait_until_alone();
    }
}

/// Starts goroutines that spin until the flag is set, as many as there are Ps.
pub fn hogs(stop: &Arc<AtomicBool>) {
    for _ in 0..stats::gomaxprocs() {
        let stop = Arc::clone(stop);
        go(move || while !stop.load(Ordering::Relaxed) {});
    }
}

/// Waits until all goroutines but the caller have ended.
pub fn wait_until_alone() {
    while num_goroutine() > 1 {
        gosched();
    }
}

/// Runs a function in so many goroutines, and waits for all of them.
///
/// # Panics
/// One of them has ended otherwise than by returning.
pub fn together(count: usize, function: impl Fn(usize) + Send + Sync + 'static) {
    let function = Arc::new(function);
    let (done, all) = chan(count);
    for n in 0..count {
        let (function, done) = (Arc::clone(&function), done.clone());
        go(move || {
            function(n);
            done.send(()).expect("somebody waits");
        });
    }
    drop(done);
    assert_eq!(all.iter().count(), count);
}
