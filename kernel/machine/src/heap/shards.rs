//! The lists of spans, in shards: each CPU has a home among them, or shares it if there are many CPUs.
//!
//! A span belongs to one shard as long as it is a span, and its blocks go back there, whoever gives them back. A CPU fetches blocks from
//! its home first, then from the others, beginning with its neighbour: what one CPU has no use for serves another before the heap
//! grows. A shard where another CPU is at work is passed: the CPUs of a virtual machine may stand still with a lock in
//! their hands. It is waited for only when there is no other way.

use alloc::boxed::Box;
use core::array;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::class::{CLASSES, Class};
use super::list::{ClassList, Home, Lists};
use crate::lock::{Guard, Lock, Rank};
use crate::percpu::{self, PerCpu, Pinned};

/// Shards at most: each is looked at before the heap grows.
const MOST: usize = 64;

/// One shard: a list for each class. It has cache lines of its own, in pairs as x86 fetches them.
#[repr(align(128))]
struct Shard([ListLock; CLASSES]);

/// A class's list, and whether there is something in it, to be known without the lock.
struct ListLock {
    list: Lock<ClassList>,
    has_free: AtomicBool,
}

/// The boot CPU's shard, which is there from the beginning.
static FIRST: Shard = Shard([const { ListLock::new(Home::FIRST) }; CLASSES]);
/// Those of the others. Null: there is no such CPU.
static OTHERS: [AtomicPtr<Shard>; MOST] = [const { AtomicPtr::new(ptr::null_mut()) }; MOST];
/// One more than the highest number of a shard.
static END: AtomicUsize = AtomicUsize::new(1);

impl ListLock {
    const fn new(home: Home) -> Self {
        Self { list: Lock::new(Rank::HeapClass, ClassList::new(home)), has_free: AtomicBool::new(false) }
    }
}

/// A list that this CPU is at work on.
pub(super) struct Open<'l> {
    list: Guard<'l, ClassList>,
    has_free: &'l AtomicBool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Relaxed, as everywhere: a hint. Who is misled by it finds an empty list, or makes a new span.
        self.has_free.store(self.list.has_free(), Ordering::Relaxed);
    }
}

impl Deref for Open<'_> {
    type Target = ClassList;
    fn deref(&self) -> &ClassList {
        &self.list
    }
}

impl DerefMut for Open<'_> {
    fn deref_mut(&mut self) -> &mut ClassList {
        &mut self.list
    }
}

/// The home of the CPU that a caller is pinned to.
pub(super) fn home(pinned: &Pinned) -> Home {
    let home = Home::of(percpu::current(pinned).id().0 as usize % MOST);
    if shard(home).is_some() { home } else { Home::FIRST }
}

/// Gives a CPU its shard, before it runs.
pub(super) fn add_cpu(block: &PerCpu) {
    let number = block.id().0 as usize;
    let Some(place) = OTHERS.get(number) else { return };
    let shard = Box::new(Shard(array::from_fn(|_| ListLock::new(Home::of(number)))));
    // Release pairs with the Acquire in `shard`.
    place.store(Box::leak(shard), Ordering::Release);
    // Relaxed: who sees it and not the shard leaves that out.
    END.fetch_max(number + 1, Ordering::Relaxed);
}

/// The lists of a shard, if it is there.
fn shard(home: Home) -> Option<&'static [ListLock; CLASSES]> {
    if home == Home::FIRST {
        return Some(&FIRST.0);
    }
    // Acquire pairs with the Release in `add_cpu`.
    let shard = OTHERS.get(home.number())?.load(Ordering::Acquire);
    // SAFETY: it is null, or was leaked by `add_cpu`.
    unsafe { shard.as_ref() }.map(|shard| &shard.0)
}

/// The lists of all shards.
pub(super) struct All;

impl Lists for All {
    type Open<'l> = Open<'l>;

    fn count(&self) -> usize {
        END.load(Ordering::Relaxed)
    }

    fn has_free(&self, home: Home, class: Class) -> bool {
        shard(home).is_some_and(|shard| shard[class.number()].has_free.load(Ordering::Relaxed))
    }

    fn try_open(&self, home: Home, class: Class) -> Option<Open<'_>> {
        let ListLock { list, has_free } = &shard(home)?[class.number()];
        Some(Open { list: list.try_lock()?, has_free })
    }

    fn open(&self, home: Home, class: Class) -> Open<'_> {
        let ListLock { list, has_free } = &shard(home).unwrap_or(&FIRST.0)[class.number()];
        Open { list: list.lock(), has_free }
    }
}
