//! Maps that many goroutines use at once: they do what an ordinary map does, without a lock that all share.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::sync::{LazyLock, Map, Mutex, RwMutex, WaitGroup};
use gzero::{MemStats, go, gosched, on_m, read_mem_stats, stats};
use tests::{Random, Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        it_does_what_a_map_behind_a_lock_does,
        it_does_what_a_map_that_is_copied_does,
        a_walk_beside_writers_sees_each_key_once,
        what_is_removed_is_dropped,
        what_is_dropped_may_use_the_map,
        a_walk_may_use_the_map,
        a_walk_ends_early,
        a_key_that_is_not_there_equals_nothing,
        a_walk_over_nothing_allocates_nothing,
        clears_and_writers_do_not_disturb_each_other,
        a_clear_of_nothing_allocates_nothing,
        one_of_many_inserts_first,
        exchanges_lose_nothing,
        who_uses_another_table_does_not_wait,
        two_maps_hash_in_two_ways,
        it_is_made_of_a_list,
    ],
    dies: [
        ("throw", "Map::get not on the G stack\ttests/maps.rs:", a_look_on_the_kernel_stack),
        ("throw", "Map::insert not on the G stack\ttests/maps.rs:", an_insertion_on_the_kernel_stack),
    ],
}

/// What is done with a map of words.
#[derive(Debug, Clone)]
enum Call {
    Get(String),
    Insert(String, u64),
    GetOrInsert(String, u64),
    Remove(String),
    Exchange(String, u64, u64),
    CompareRemove(String, u64),
    Clear,
}

impl Call {
    fn random(random: &mut Random) -> Self {
        let length = random.below(4);
        let key = (0..length).map(|_| if random.below(2) == 0 { 'a' } else { 'b' }).collect();
        let (value, other) = (random.below(3), random.below(3));
        match random.below(20) {
            0..3 => Self::Get(key),
            3..8 => Self::Insert(key, value),
            8..11 => Self::GetOrInsert(key, value),
            11..13 => Self::Remove(key),
            13..17 => Self::Exchange(key, value, other),
            17..19 => Self::CompareRemove(key, value),
            _ => Self::Clear,
        }
    }
}

/// A value, as success or failure.
type Answer = Result<Option<u64>, Option<u64>>;

/// Something that works like a map of words.
trait Words {
    fn call(&self, call: Call) -> Answer;
    fn entries(&self) -> BTreeMap<String, u64>;
}

impl Words for Map<String, u64> {
    fn call(&self, call: Call) -> Answer {
        match call {
            Call::Get(key) => Ok(self.get(&key)),
            Call::Insert(key, value) => Ok(self.insert(key, value)),
            Call::GetOrInsert(key, value) => match self.get_or_insert_with(key, || value) {
                (value, true) => Ok(Some(value)),
                (value, false) => Err(Some(value)),
            },
            Call::Remove(key) => Ok(self.remove(&key)),
            Call::Exchange(key, old, new) => self.compare_exchange(&key, &old, new).map(Some),
            Call::CompareRemove(key, old) => self.compare_remove(&key, &old).map(Some),
            Call::Clear => {
                self.clear();
                Ok(None)
            }
        }
    }

    fn entries(&self) -> BTreeMap<String, u64> {
        let mut entries = BTreeMap::new();
        self.for_each(|key, value| assert_eq!(entries.insert(key, value), None, "a key came twice"));
        entries
    }
}

/// The same with an ordinary map.
fn call_ordinary(map: &mut BTreeMap<String, u64>, call: Call) -> Answer {
    match call {
        Call::Get(key) => Ok(map.get(&key).copied()),
        Call::Insert(key, value) => Ok(map.insert(key, value)),
        Call::GetOrInsert(key, value) => {
            if let Some(there) = map.get(&key) {
                return Ok(Some(*there));
            }
            map.insert(key, value);
            Err(Some(value))
        }
        Call::Remove(key) => Ok(map.remove(&key)),
        Call::Exchange(key, old, new) => match map.get_mut(&key) {
            Some(value) if *value == old => Ok(Some(core::mem::replace(value, new))),
            value => Err(value.copied()),
        },
        Call::CompareRemove(key, old) => match map.get(&key).copied() {
            Some(value) if value == old => Ok(map.remove(&key)),
            value => Err(value),
        },
        Call::Clear => {
            map.clear();
            Ok(None)
        }
    }
}

/// An ordinary map behind a lock.
#[derive(Default)]
struct Locked(RwMutex<BTreeMap<String, u64>>);

impl Words for Locked {
    fn call(&self, call: Call) -> Answer {
        call_ordinary(&mut self.0.write(), call)
    }

    fn entries(&self) -> BTreeMap<String, u64> {
        self.0.read().clone()
    }
}

/// An ordinary map that nobody changes: each call leaves another one in its place.
#[derive(Default)]
struct Copied(Mutex<Arc<BTreeMap<String, u64>>>);

impl Words for Copied {
    fn call(&self, call: Call) -> Answer {
        let mut map = self.0.lock();
        let mut copy = BTreeMap::clone(&map);
        let answer = call_ordinary(&mut copy, call);
        *map = Arc::new(copy);
        answer
    }

    fn entries(&self) -> BTreeMap<String, u64> {
        BTreeMap::clone(&self.0.lock())
    }
}

/// The same calls to a map and to something else have the same answers, and leave the same behind.
fn agrees<O: Words + Default>() -> Verdict {
    let mut random = Random::new(1);
    for round in 0..100 {
        let (map, other) = (Map::new(), O::default());
        for n in 0..random.below(100) {
            let call = Call::random(&mut random);
            let what = alloc::format!("round {round}, call {n}: {call:?}");
            equal(&what, &map.call(call.clone()), &other.call(call))?;
        }
        equal("what is left", &map.entries(), &other.entries())?;
        equal("its length", &map.len(), &other.entries().len())?;
        equal("whether it is empty", &map.is_empty(), &other.entries().is_empty())?;
    }
    Ok(())
}

/// Go's `TestMapMatchesRWMutex`.
fn it_does_what_a_map_behind_a_lock_does() -> Verdict {
    agrees::<Locked>()
}

/// Go's `TestMapMatchesDeepCopy`.
fn it_does_what_a_map_that_is_copied_does() -> Verdict {
    agrees::<Copied>()
}

/// Go's `TestConcurrentRange`.
fn a_walk_beside_writers_sees_each_key_once() -> Verdict {
    const KEYS: u64 = 1024;
    let map: Arc<Map<_, _>> = Arc::new((1..=KEYS).map(|n| (n, n)).collect());
    let stop = Arc::new(AtomicBool::new(false));
    for writer in 1..=stats::gomaxprocs() as u64 {
        let (map, stop) = (Arc::clone(&map), Arc::clone(&stop));
        go(move || {
            let mut random = Random::new(writer);
            for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                let key = random.below(KEYS) + 1;
                if random.below(16) == 0 {
                    map.insert(key, key * n * writer);
                } else {
                    assert!(map.get(&key).is_some(), "nobody removes keys");
                }
            }
        });
    }
    let walk = || {
        let mut seen = BTreeMap::new();
        map.for_each(|key, value| {
            assert_eq!(value % key, 0, "{value} was never the value of {key}");
            assert_eq!(seen.insert(key, value), None, "{key} came twice");
        });
        equal("keys that came", &(seen.len() as u64), &KEYS)
    };
    let verdict = (0..16).try_for_each(|_| walk());
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    verdict
}

/// Go's `TestIssue40999`: without a collector the references are counted.
fn what_is_removed_is_dropped() -> Verdict {
    let (key, value) = (Arc::new(1), Arc::new(()));
    let counts = || (Arc::strong_count(&key) - 1, Arc::strong_count(&value) - 1);
    let map = Map::new();
    map.insert(Arc::new(0), Arc::new(()));
    let insert = || map.insert(Arc::clone(&key), Arc::clone(&value));
    for _ in 0..100 {
        drop(insert());
        equal("one in the map", &counts(), &(1, 1))?;
        drop(map.remove(&1));
        equal("removed", &counts(), &(0, 0))?;
    }
    drop((insert(), insert()));
    equal("the first key stays, the value does not", &counts(), &(1, 1))?;
    drop(map.get_or_insert_with(Arc::clone(&key), || Arc::clone(&value)));
    equal("it was there", &counts(), &(1, 1))?;
    equal("exchanged", &map.compare_exchange(&1, &value, Arc::new(())).is_ok(), &true)?;
    equal("the key alone", &counts(), &(1, 0))?;
    equal("equal to another one", &map.compare_remove(&1, &Arc::new(())).is_ok(), &true)?;
    equal("removed", &counts(), &(0, 0))?;
    drop(insert());
    map.clear();
    equal("cleared", &counts(), &(0, 0))?;
    drop(insert());
    drop(map);
    equal("with the map", &counts(), &(0, 0))
}

/// Counts the map's entries when it is dropped: under a table's lock it would wait for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Looks(u32);

static LOOKED_AT: LazyLock<Map<Looks, Looks>> = LazyLock::new(Map::new);
static LOOKS: AtomicU32 = AtomicU32::new(0);

impl Drop for Looks {
    fn drop(&mut self) {
        assert!(LOOKED_AT.len() <= 1, "there is one key");
        LOOKS.fetch_add(1, Ordering::Relaxed);
    }
}

fn what_is_dropped_may_use_the_map() -> Verdict {
    let map = &*LOOKED_AT;
    let key = || Looks(0);
    for _ in 0..3 {
        drop(map.insert(key(), Looks(1)));
        drop(map.insert(key(), Looks(1)));
        drop(map.get_or_insert_with(key(), || Looks(2)));
        drop(map.compare_exchange(&key(), &Looks(7), Looks(2)));
        drop(map.compare_exchange(&key(), &Looks(1), Looks(2)));
        drop(map.compare_remove(&key(), &Looks(1)));
        drop(map.compare_remove(&key(), &Looks(2)));
        drop(map.get_or_insert_with(key(), || {
            // Somebody else is faster.
            drop(map.insert(key(), Looks(3)));
            Looks(4)
        }));
        map.for_each(|key, value| drop((key, value)));
        drop(map.remove(&key()));
        drop(map.insert(key(), Looks(1)));
        map.clear();
    }
    equal("it is empty", &map.is_empty(), &true)?;
    equal("drops have happened", &(LOOKS.load(Ordering::Relaxed) > 60), &true)
}

/// Go's `TestMapRangeNestedCall`.
fn a_walk_may_use_the_map() -> Verdict {
    let map: Map<u32, &str> = [(0, "hello"), (1, "world"), (2, "Go")].into_iter().collect();
    let (mut outer, mut inner) = (0, 0);
    map.for_each(|removed, _| {
        map.for_each(|key, value| {
            assert_eq!(map.get(&key), Some(value), "nobody else removes keys");
            assert_eq!(map.get_or_insert_with(42, || "dummy"), ("dummy", false));
            assert_eq!(map.insert(42, "map"), Some("dummy"));
            assert_eq!(map.remove(&42), Some("map"));
            inner += 1;
        });
        assert!(map.remove(&removed).is_some());
        outer += 1;
    });
    equal("calls", &(outer, inner), &(3, 3 + 2 + 1))?;
    equal("nothing is left", &walked(&map), &0)
}

/// How many entries a walk comes to.
fn walked<K: Clone, V: Clone>(map: &Map<K, V>) -> usize {
    let mut count = 0;
    map.for_each(|_, _| count += 1);
    count
}

fn a_walk_ends_early() -> Verdict {
    let map: Map<u32, u32> = (0..100).map(|n| (n, n)).collect();
    let mut calls = 0;
    let end = map.try_for_each(|key, _| {
        calls += 1;
        if calls == 10 { ControlFlow::Break(key) } else { ControlFlow::Continue(()) }
    });
    equal("it broke at a key", &end.is_break(), &true)?;
    equal("calls", &calls, &10)
}

/// Go's `TestCompareAndSwap_NonExistingKey`.
fn a_key_that_is_not_there_equals_nothing() -> Verdict {
    let map: Map<u32, Option<u32>> = Map::new();
    equal("exchanged", &map.compare_exchange(&1, &None, Some(42)), &Err(None))?;
    equal("removed", &map.compare_remove(&1, &None), &Err(None))?;
    equal("nothing is there", &map.get(&1), &None)
}

/// Blocks of the heap that ten calls have allocated, beyond what counting does.
fn allocations(call: impl Fn()) -> u64 {
    let mut stats = alloc::boxed::Box::<MemStats>::default();
    let mut during = |rounds| {
        read_mem_stats(&mut stats);
        let before = stats.mallocs;
        (0..rounds).for_each(|_| call());
        read_mem_stats(&mut stats);
        stats.mallocs - before
    };
    let none = during(0);
    during(10) - none
}

/// Go's `TestMapRangeNoAllocations`, which has an empty map.
fn a_walk_over_nothing_allocates_nothing() -> Verdict {
    let map: Map<u32, u32> = Map::new();
    equal("allocations", &allocations(|| map.for_each(|_, _| {})), &0)
}

/// Go's `TestMapClearNoAllocations`.
fn a_clear_of_nothing_allocates_nothing() -> Verdict {
    let map: Map<u32, u32> = Map::new();
    equal("allocations", &allocations(|| map.clear()), &0)?;
    map.insert(1, 1);
    equal("allocations of a clear of something", &allocations(|| map.clear()), &0)
}

/// Go's `TestConcurrentClear`.
fn clears_and_writers_do_not_disturb_each_other() -> Verdict {
    let (map, all) = (Arc::new(Map::new()), Arc::new(WaitGroup::new()));
    for _ in 0..20 {
        for key in 0..10_u32 {
            let writes = Arc::clone(&map);
            all.go(move || {
                writes.insert(key, key * 10);
            });
            let reads = Arc::clone(&map);
            all.go(move || {
                let value = reads.get(&key);
                assert!(value.is_none_or(|value| value == key * 10), "what was written");
            });
            let clears = Arc::clone(&map);
            all.go(move || clears.clear());
        }
        all.wait();
        map.clear();
        equal("what is left", &(map.len(), walked(&map)), &(0, 0))?;
    }
    Ok(())
}

fn one_of_many_inserts_first() -> Verdict {
    let map = Arc::new(Map::new());
    for round in 0..50 {
        let (firsts, all) = (Arc::new(AtomicU32::new(0)), Arc::new(WaitGroup::new()));
        let values = Arc::new(Mutex::new(Vec::new()));
        for n in 0..8_u32 {
            let (map, firsts, values) = (Arc::clone(&map), Arc::clone(&firsts), Arc::clone(&values));
            all.go(move || {
                let (value, was_there) = map.get_or_insert_with(round, || {
                    gosched();
                    n
                });
                firsts.fetch_add(u32::from(!was_there), Ordering::Relaxed);
                values.lock().push(value);
            });
        }
        all.wait();
        let value = map.get(&round).expect("all have inserted it");
        equal("those who were first", &firsts.load(Ordering::Relaxed), &1)?;
        equal("all have the same value", &*values.lock(), &alloc::vec![value; 8])?;
    }
    Ok(())
}

fn exchanges_lose_nothing() -> Verdict {
    const EACH: u32 = 300;
    const KEYS: u32 = 3;
    let map: Arc<Map<_, _>> = Arc::new((0..KEYS).map(|key| (key, 0_u32)).collect());
    let all = Arc::new(WaitGroup::new());
    for _ in 0..8 {
        let map = Arc::clone(&map);
        all.go(move || {
            for n in 0..EACH {
                let key = n % KEYS;
                let mut value = map.get(&key).expect("nobody removes it");
                while let Err(other) = map.compare_exchange(&key, &value, value + 1) {
                    value = other.expect("nobody removes it");
                }
            }
        });
    }
    all.wait();
    let sum: Option<u32> = (0..KEYS).map(|key| map.get(&key)).sum();
    equal("additions", &sum, &Some(8 * EACH))
}

/// While one table is locked by a reader, others read there, and write elsewhere.
fn who_uses_another_table_does_not_wait() -> Verdict {
    let (map, written) = (Arc::new(Map::new()), Arc::new(AtomicU32::new(0)));
    map.insert(0_u32, 0_u32);
    let read = map.with(&0, |value| {
        let reader = Arc::clone(&map);
        let reads = go(move || reader.get(&0)).join();
        for key in 1..=64 {
            let (map, written) = (Arc::clone(&map), Arc::clone(&written));
            go(move || {
                map.insert(key, key);
                written.fetch_add(1, Ordering::Relaxed);
            });
        }
        while written.load(Ordering::Relaxed) == 0 {
            gosched();
        }
        (*value, reads)
    });
    wait_until_alone();
    equal("read", &read, &Some((0, Some(0))))?;
    equal("written", &map.len(), &65)
}

fn two_maps_hash_in_two_ways() -> Verdict {
    let order = || {
        let map: Map<u32, ()> = (0..200).map(|n| (n, ())).collect();
        let mut keys = Vec::new();
        map.for_each(|key, ()| keys.push(key));
        keys
    };
    let (one, other) = (order(), order());
    equal("keys", &(one.len(), other.len()), &(200, 200))?;
    equal("in the same order", &(one == other), &false)
}

fn it_is_made_of_a_list() -> Verdict {
    let mut map: Map<u32, char> = [(1, 'a'), (2, 'b'), (1, 'c')].into_iter().collect();
    map.extend([(3, 'd')]);
    equal("values", &[1, 2, 3, 4].map(|key| map.get(&key)), &[Some('c'), Some('b'), Some('d'), None])?;
    let shown = alloc::format!("{map:?}");
    equal("shown", &(shown.starts_with("Map { tables: "), shown.contains("len: Some(3)")), &(true, true))?;
    equal("the default is empty", &Map::<u32, u32>::default().len(), &0)
}

fn a_look_on_the_kernel_stack() {
    let map = Map::new();
    map.insert(1, 1);
    on_m(|| map.get(&1));
}

fn an_insertion_on_the_kernel_stack() {
    let map = Map::new();
    on_m(|| map.insert(1, 1));
}
