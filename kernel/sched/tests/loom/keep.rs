//! Things that keep what hangs from them: each of a way is kept if it has calls, and none goes while somebody asks.

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread::{self, JoinHandle};

use sched::keep::{Calls, Change, Kept};

use crate::model;

const LEVELS: usize = 3;

/// A way: the first hangs from the second, and so on.
#[derive(Default)]
struct Way {
    levels: [Level; LEVELS],
    /// Those who ask for a call and are not done, who hold all of the way.
    asking: AtomicU32,
}

#[derive(Default)]
struct Level {
    calls: Calls,
    /// Whether the level keeps the one below.
    below: Mutex<Kept>,
}

impl Way {
    /// Changes the calls of the lowest.
    fn change(&self, change: impl FnOnce(&Calls) -> Option<Change>) -> Option<Change> {
        let [lowest, ..] = &self.levels;
        let _guard = lowest.below.lock().expect("no thread panics with the lock held");
        change(&lowest.calls)
    }

    /// Goes upwards as long as something changes.
    fn settle(&self, mut change: Option<Change>) {
        for pair in self.levels.windows(2) {
            let [level, above] = pair else { unreachable!("windows of two") };
            let Some(made) = change else { return };
            let mut below = above.below.lock().expect("no thread panics with the lock held");
            let Some(kept) = made.look(&level.calls, *below) else { return };
            *below = kept;
            change = match kept {
                Kept::Yes => above.calls.add(),
                Kept::No => above.calls.take(),
            };
        }
    }

    /// One who asks is done. What nobody holds any more must be kept.
    fn done(&self) {
        if self.asking.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_are(Kept::Yes);
        }
    }

    /// All but the highest.
    fn all_are(&self, kept: Kept) {
        for above in &self.levels[1..] {
            assert_eq!(
                *above.below.lock().expect("no thread panics with the lock held"),
                kept,
                "the one below is kept"
            );
        }
    }
}

/// A goroutine of its own.
fn start(way: &Arc<Way>, act: impl FnOnce(&Way) + Send + 'static) -> JoinHandle<()> {
    let way = Arc::clone(way);
    thread::spawn(move || act(&way))
}

/// Two ask for a call, and the call of the first, which is still on its way, is taken away.
#[test]
fn one_who_takes_a_call_away_does_not_keep_for_those_who_ask() {
    model(4, || {
        let way = Arc::new(Way { asking: AtomicU32::new(2), ..Way::default() });
        let first = way.change(Calls::add);
        let taker = start(&way, |way| way.settle(way.change(Calls::take)));
        let asker = start(&way, |way| {
            way.settle(way.change(Calls::add));
            way.done();
        });
        way.settle(first);
        way.done();
        asker.join().expect("asked");
        taker.join().expect("taken");
        way.all_are(Kept::Yes);
    });
}

/// One asks, and somebody takes that call away, who may be faster; another does both.
#[test]
fn what_has_lost_its_calls_is_not_kept() {
    model(4, || {
        let way = Arc::new(Way::default());
        let first = way.change(Calls::add);
        let taker = start(&way, |way| way.settle(way.change(Calls::take)));
        let other = start(&way, |way| {
            way.settle(way.change(Calls::add));
            way.settle(way.change(Calls::take));
        });
        way.settle(first);
        taker.join().expect("taken");
        other.join().expect("asked and taken");
        way.all_are(Kept::No);
    });
}
