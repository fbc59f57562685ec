//! A global queue that is several: none is forgotten, and nobody waits for a lock as long as there is something else.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::{Global, Place, Source, Sources, Turn, enqueue, find_work, next_after_slice};
use crate::global::GlobalQueue;
use crate::id::{GoIndex, ProcId};
use crate::list::SharedLen;
use crate::processor::Processor;
use crate::table::Table;

/// Queues of which the first are homes. At one of them another CPU is.
struct Several {
    queues: Vec<(RefCell<GlobalQueue>, SharedLen)>,
    homes: usize,
    home: usize,
    busy: Cell<Option<usize>>,
    waited: Cell<u32>,
    /// The other CPU leaves when it has been in the way so often.
    patience: Cell<u32>,
}

impl Global for Several {
    fn queues(&self) -> usize {
        self.queues.len()
    }

    fn home(&self) -> usize {
        self.home
    }

    fn homes(&self) -> usize {
        self.homes
    }

    fn with<R>(&self, at: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> R {
        self.waited.set(self.waited.get() + u32::from(self.busy.get() == Some(at)));
        f(&mut self.queues[at].0.borrow_mut())
    }

    fn try_with<R>(&self, at: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> Option<R> {
        if self.busy.get() == Some(at) {
            self.patience.set(self.patience.get() - 1);
            if self.patience.get() == 0 {
                self.busy.set(None);
            }
            return None;
        }
        Some(f(&mut self.queues[at].0.borrow_mut()))
    }

    fn length(&self, at: usize) -> &SharedLen {
        &self.queues[at].1
    }
}

struct Bench {
    table: Table<()>,
    processors: [Processor; 1],
    global: Several,
}

impl Bench {
    fn new(queues: usize, busy: Option<usize>) -> Self {
        let table = Table::new(256).expect("memory");
        table.grow(|_| ()).expect("memory");
        let queue = |_| {
            let (queue, length) = GlobalQueue::new();
            (RefCell::new(queue), length)
        };
        let queues = (0..queues).map(queue).collect();
        let (busy, waited, patience) = (Cell::new(busy), Cell::new(0), Cell::new(100));
        let global = Several { queues, homes: 1, home: 0, busy, waited, patience };
        let first = ProcId::new(0).expect("below the limit");
        Self { table, processors: [Processor::new(first, 3)], global }
    }

    fn sources(&self) -> Sources<'_, Table<()>, Several> {
        Sources { table: &self.table, processors: &self.processors, global: &self.global }
    }

    fn put(&self, at: usize, n: u32) {
        self.global.queues[at].0.borrow_mut().push(&self.table, g(n));
    }

    /// Who comes at the end of a slice.
    fn next(&self, turn: Turn) -> Option<(u32, Source)> {
        let next = next_after_slice(self.processors[0].owner(), &self.sources(), turn)?;
        Some((next.g.get(), next.source))
    }

    fn enqueue(&self, n: u32, place: Place) {
        enqueue(self.processors[0].owner(), &self.sources(), g(n), place);
    }
}

fn g(n: u32) -> GoIndex {
    GoIndex::new(n).expect("a test's index")
}

#[test]
fn a_queue_that_is_nobodys_home_has_its_turn_while_the_home_is_never_empty() {
    const QUEUES: usize = 4;
    let bench = Bench::new(QUEUES, None);
    for at in 1..QUEUES {
        bench.put(at, 100 + u32::try_from(at).expect("small"));
    }
    bench.enqueue(0, Place::Global);
    bench.enqueue(1, Place::Global);
    let mut strangers = 0;
    // One that computes comes and goes back, as at the end of a slice.
    for _ in 0..4 * QUEUES {
        let (n, _) = bench.next(Turn::Others).expect("the home is never empty");
        if n < 100 {
            bench.enqueue(n, Place::Global);
        } else {
            strangers += 1;
        }
    }
    assert_eq!(strangers, QUEUES - 1);
}

#[test]
fn a_busy_queue_is_passed_over_and_looked_at_again_when_there_is_nothing_else() {
    let bench = Bench::new(3, Some(1));
    bench.put(1, 7);
    bench.put(2, 8);
    let owner = bench.processors[0].owner();
    let found = || find_work(owner, &bench.sources()).map(|picked| picked.g.get());
    bench.global.patience.set(3);
    assert_eq!((found(), bench.global.patience.get()), (Some(8), 2));
    assert_eq!([found(), found()], [None, None]);
    assert_eq!((found(), bench.global.busy.get()), (Some(7), None), "the other CPU has left");
    assert_eq!((found(), bench.global.waited.get()), (None, 0));
}

#[test]
fn at_a_busy_home_nobody_waits_who_has_another_way() {
    let mut bench = Bench::new(3, Some(0));
    bench.put(0, 1);
    bench.put(2, 2);
    assert_eq!(bench.next(Turn::Others), Some((2, Source::Global)), "its own home is passed over, too");
    assert_eq!(bench.next(Turn::Others), None);
    let lens = |bench: &Bench| [0, 1, 2].map(|at| bench.global.length(at).get());
    bench.global.homes = 2;
    bench.enqueue(3, Place::Global);
    assert_eq!((lens(&bench), bench.global.waited.get()), ([1, 1, 0], 0), "the other home takes it");
    bench.global.homes = 1;
    bench.enqueue(4, Place::Global);
    assert_eq!((lens(&bench), bench.global.waited.get()), ([2, 1, 0], 1), "a queue that is no home does not");
    (bench.global.homes, bench.global.home) = (2, 1);
    bench.global.busy.set(Some(1));
    bench.enqueue(5, Place::Global);
    assert_eq!(
        (lens(&bench), bench.global.waited.get()),
        ([3, 1, 0], 1),
        "behind the last home comes the first"
    );
}

#[test]
fn who_is_due_comes_first_and_after_a_lent_slice_last() {
    let bench = Bench::new(1, None);
    let fill = || {
        bench.enqueue(1, Place::Back);
        bench.enqueue(2, Place::Global);
        bench.enqueue(3, Place::Next);
    };
    fill();
    assert_eq!(bench.next(Turn::Due), Some((3, Source::Next)));
    assert_eq!(bench.next(Turn::Due), Some((1, Source::Local)), "nobody is due");
    assert_eq!(bench.next(Turn::Due), Some((2, Source::Global)));
    fill();
    assert_eq!(bench.next(Turn::Others), Some((1, Source::Local)));
    assert_eq!(bench.next(Turn::Others), Some((2, Source::Global)));
    assert_eq!(bench.next(Turn::Others), Some((3, Source::Next)));
    assert_eq!(bench.next(Turn::Others), None);
}
