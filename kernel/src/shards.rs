//! A list that all CPUs share, cut into shards, so that no lock and no line of it belongs to all of them.
//!
//! Each CPU has a home among the shards. What it has goes there, and it looks there first, then at the others, beginning with its
//! neighbour. It does not wait for a shard where another CPU is, as long as there is another shard that will do: the CPUs of a
//! virtual machine may stand still with a lock in their hands.

use alloc::boxed::Box;

use machine::lock::{Guard, Kind, Lock};
use sched::list::SharedLen;
use sched::sync::Padded;

/// Shards of one list at most: each is looked at by who finds nothing at home.
const MOST: usize = 64;

/// One shard: a list behind a lock, and its length, to be read without that.
#[derive(Debug)]
struct Shard<T> {
    list: Padded<Lock<T>>,
    len: SharedLen,
}

/// The shards of a list.
#[derive(Debug)]
pub(crate) struct Shards<T>(Box<[Shard<T>]>);

impl<T> Shards<T> {
    /// A shard for each CPU, or for some together if there are many.
    pub(crate) fn new(cpus: usize, kind: Kind, make: impl Fn() -> (T, SharedLen)) -> Self {
        let shard = |_| {
            let (list, len) = make();
            Shard { list: Padded(Lock::of_kind(kind, list)), len }
        };
        Self((0..cpus.clamp(1, MOST)).map(shard).collect())
    }

    /// Whether all shards look empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|shard| shard.len.is_empty())
    }

    /// Elements of all shards, at about this moment.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|shard| u64::from(shard.len.get())).sum()
    }

    /// A shard for what the CPU with this number has.
    pub(crate) fn open(&self, cpu: usize) -> Guard<'_, T> {
        self.at(cpu).list.check_order();
        self.from(cpu).find_map(|shard| shard.list.try_lock()).unwrap_or_else(|| self.at(cpu).list.lock())
    }

    /// What `take` finds in one of the shards, for the CPU with this number.
    pub(crate) fn take<R>(&self, cpu: usize, take: impl Fn(&mut T) -> Option<R>) -> Option<R> {
        self.at(cpu).list.check_order();
        let filled = || self.from(cpu).filter(|shard| !shard.len.is_empty());
        let free = filled().find_map(|shard| take(&mut *shard.list.try_lock()?));
        free.or_else(|| filled().find_map(|shard| take(&mut shard.list.lock())))
    }

    /// Calls `change` with each shard, that of CPU 0 first, one after the other.
    pub(crate) fn each(&self, mut change: impl FnMut(&mut T)) {
        self.from(0).for_each(|shard| change(&mut shard.list.lock()));
    }

    /// All shards, those close to the CPU first.
    fn from(&self, cpu: usize) -> impl Iterator<Item = &Shard<T>> {
        (cpu..cpu + self.0.len()).map(|n| self.at(n))
    }

    fn at(&self, cpu: usize) -> &Shard<T> {
        &self.0[cpu % self.0.len()]
    }
}
