//! The shared lists of dead goroutines: nothing is lost or doubled, also when a list comes back to the element that it had, and the links
//! that a look has read are true if it succeeds. A batch is two goroutines here. The links are words of the model checker: their
//! order is that of the lists.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use sched::GoIndex;
use sched::free_list::FreeLists;
use sched::link::{Index, Linked};
use sched::list::Chain;

use crate::{g, model};

/// Goroutines that are nothing but their links.
struct Links(Vec<AtomicU32>);

impl Linked for Links {
    type Index = GoIndex;

    fn next(&self, index: GoIndex) -> Option<GoIndex> {
        GoIndex::in_word(self.0[index.get() as usize].load(Ordering::Relaxed))
    }

    fn set_next(&self, index: GoIndex, next: Option<GoIndex>) {
        self.0[index.get() as usize].store(next.map_or(0, Index::word), Ordering::Relaxed);
    }
}

struct Scene {
    links: Links,
    lists: FreeLists,
}

impl Scene {
    /// Goroutines in the list of CPU 0 of so many, 0 on top.
    fn new(cpus: usize, goroutines: u32) -> Arc<Self> {
        let links = Links((0..6).map(|_| AtomicU32::new(0)).collect());
        let scene = Self { links, lists: FreeLists::new(cpus) };
        (0..goroutines).rev().for_each(|n| scene.put(0, &[g(n)]));
        Arc::new(scene)
    }

    fn put(&self, cpu: usize, goroutines: &[GoIndex]) {
        if let Some(chain) = Chain::link(&self.links, goroutines.iter().copied()) {
            self.lists.put(cpu, &self.links, chain);
        }
    }

    fn take(&self, cpu: usize) -> Vec<GoIndex> {
        let mut rest = self.lists.take(cpu, &self.links);
        core::iter::from_fn(|| {
            let (g, tail) = rest.take()?.split_first(&self.links);
            rest = tail;
            Some(g)
        })
        .collect()
    }

    /// Ends the scene: these have been taken, the rest is in the lists.
    fn check(&self, taken: [Vec<GoIndex>; 2], goroutines: u32) {
        let mut all: Vec<u32> = taken.concat().into_iter().map(GoIndex::get).collect();
        // More batches than there can be: a list that has become a ring ends.
        (0..6).for_each(|_| all.extend(self.take(0).into_iter().map(GoIndex::get)));
        all.sort_unstable();
        assert_eq!(all, (0..goroutines).collect::<Vec<_>>(), "one is lost or doubled");
        assert_eq!(self.lists.len(), 0);
    }
}

/// Runs two threads on a scene, each of which returns what it has taken and keeps.
fn race(
    (cpus, before, all): (usize, u32, u32),
    first: impl Fn(&Scene) -> Vec<GoIndex> + Send + Sync + Copy + 'static,
    second: impl Fn(&Scene) -> Vec<GoIndex> + Send + Sync + 'static,
) {
    model(3, move || {
        let scene = Scene::new(cpus, before);
        let other = {
            let scene = scene.clone();
            loom::thread::spawn(move || first(&scene))
        };
        let mine = second(&scene);
        let theirs = other.join().expect("no panic");
        scene.check([mine, theirs], all);
    });
}

/// One looks at a batch and its follower, while another takes both and puts the first one back.
#[test]
fn the_same_first_one_is_not_the_same_list() {
    let there_and_back = |scene: &Scene| {
        let (mut first, second) = (scene.take(0), scene.take(0));
        let kept = first.split_off(1.min(first.len()));
        scene.put(0, &first);
        [kept, second].concat()
    };
    race((1, 5, 5), there_and_back, |scene| scene.take(0));
}

/// What is put is linked for who takes it.
#[test]
fn a_batch_that_was_put_just_now_is_whole() {
    let put_and_take = |scene: &Scene| {
        scene.put(0, &[g(0), g(1)]);
        scene.take(0)
    };
    race((1, 0, 3), put_and_take, |scene| {
        let mut mine = scene.take(0);
        scene.put(0, &[g(2)]);
        if mine.len() == 2 {
            scene.put(0, &mine.split_off(1));
        }
        mine
    });
}

/// A look goes on from a batch that was put just now into what was there before.
#[test]
fn a_look_reads_along_what_several_have_put() {
    let put_and_take = |scene: &Scene| {
        scene.put(0, &[g(3)]);
        scene.take(0)
    };
    race((1, 3, 5), put_and_take, |scene| {
        scene.put(0, &[g(4)]);
        scene.take(0)
    });
}

/// Two put and take at two homes.
#[test]
fn what_is_put_is_found_once() {
    let put_and_take = |scene: &Scene| {
        scene.put(1, &[g(2)]);
        let mine = scene.take(0);
        assert!(!mine.is_empty(), "there are more than takers");
        mine
    };
    race((2, 2, 4), put_and_take, |scene| {
        scene.put(1, &[g(3)]);
        let mine = scene.take(1);
        assert!(!mine.is_empty(), "there are more than takers");
        mine
    });
}
