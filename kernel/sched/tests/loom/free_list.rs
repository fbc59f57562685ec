//! The shared lists of dead goroutines: nothing is lost or doubled, also when a list comes back to the element that it had. A batch is one
//! goroutine here.

use std::vec::Vec;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use sched::GoIndex;
use sched::free_list::FreeLists;
use sched::list::Chain;
use sched::table::Table;

use crate::{g, model};

struct Scene {
    /// Each with what its last owner has written to it, which the next one must see.
    table: Table<AtomicBool>,
    lists: FreeLists,
}

impl Scene {
    /// So many goroutines in the lists of so many CPUs, the first one on top.
    fn new(cpus: usize, goroutines: u32) -> Arc<Self> {
        let table = Table::new(4).expect("memory");
        table.grow(|_| AtomicBool::new(false)).expect("room");
        let scene = Self { table, lists: FreeLists::new(cpus) };
        (0..goroutines).rev().for_each(|n| scene.put(0, g(n)));
        Arc::new(scene)
    }

    fn put(&self, cpu: usize, g: GoIndex) {
        // Relaxed: the lists order it.
        self.table.slot(g).body().store(true, Ordering::Relaxed);
        self.lists.put(cpu, &self.table, Chain::one(&self.table, g));
    }

    fn take(&self, cpu: usize) -> Option<GoIndex> {
        let (g, rest) = self.lists.take(cpu, &self.table)?.split_first(&self.table);
        assert_eq!(rest, None);
        assert!(self.table.slot(g).body().load(Ordering::Relaxed), "its last owner wrote that");
        Some(g)
    }

    /// Ends the scene: these have been taken, the rest is in the lists.
    fn check(&self, taken: impl IntoIterator<Item = GoIndex>, goroutines: u32) {
        let rest = core::iter::from_fn(|| self.take(0)).take(10);
        let mut all: Vec<u32> = taken.into_iter().chain(rest).map(GoIndex::get).collect();
        all.sort_unstable();
        assert_eq!(all, (0..goroutines).collect::<Vec<_>>(), "one is lost or doubled");
        assert_eq!(self.lists.len(), 0);
    }
}

/// One looks at the first and its follower, while another takes both and puts the first back.
#[test]
fn the_same_first_one_is_not_the_same_list() {
    model(3, || {
        let scene = Scene::new(1, 3);
        let other = {
            let scene = scene.clone();
            loom::thread::spawn(move || {
                let (first, second) = (scene.take(0), scene.take(0));
                first.into_iter().for_each(|first| scene.put(0, first));
                second
            })
        };
        let mine = scene.take(0);
        let second = other.join().expect("no panic");
        scene.check(mine.into_iter().chain(second), 3);
    });
}

/// Two put and take at two homes.
#[test]
fn what_is_put_is_found_once() {
    model(2, || {
        let scene = Scene::new(2, 2);
        let other = {
            let scene = scene.clone();
            loom::thread::spawn(move || {
                scene.put(1, g(2));
                scene.take(0)
            })
        };
        scene.put(1, g(3));
        let mine = scene.take(1);
        assert!(mine.is_some(), "there are more than takers");
        let theirs = other.join().expect("no panic");
        assert!(theirs.is_some(), "there are more than takers");
        scene.check(mine.into_iter().chain(theirs), 4);
    });
}
