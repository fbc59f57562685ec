//! Goroutines that wait for each other: they are found, also while others run, and nobody else is.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::sync::{Barrier, Mutex, Once, RwMutex, WaitGroup};
use gzero::testing::on_deadlock;
use gzero::{
    Nanos, StopReason, WaitReason, deadlocks, exit, go, go_named, goexit, gosched, lock_os_thread, park,
    sleep, stats, world,
};
use tests::{Random, Verdict, equal, hogs, wait_until_alone};

tests::image! {
    pass: [
        nested_locks_in_order_are_no_deadlock,
        readers_that_are_let_go_are_no_deadlock,
        a_lock_that_is_gone_is_no_deadlock,
        who_sleeps_with_a_lock_is_no_deadlock,
    ],
    dies: [
        (
            "fatal",
            "deadlock: 2 goroutines wait for each other in a ring\tholds mutex \"\twaits for mutex \"\theld by goroutine \tholds mutex \"\twaits for mutex \"",
            two_that_cross_are_named_while_others_run
        ),
        (
            "fatal",
            "deadlock: 3 goroutines\t [A] holds mutex \"a\" at 0x\twaits for mutex \"b\"\t [B] holds mutex \"b\"\twaits for mutex \"c\"\t [C] holds mutex \"c\"\twaits for mutex \"a\"\t [A]",
            three_in_a_ring_are_named_in_their_order
        ),
        (
            "fatal",
            "deadlock: a goroutine waits for itself\tholds mutex \"mine\"\twaits for mutex \"mine\"",
            a_second_lock_of_ones_own_mutex_is_named
        ),
        (
            "fatal",
            "deadlock: 2 goroutines\trwmutex \"table\"",
            writers_that_cross_are_named
        ),
        (
            "fatal",
            "deadlock: 2 goroutines\t [reader] holds mutex \"m\"\twaits for rwmutex \"table\"\theld by goroutine \t [writer]",
            a_reader_and_a_writer_that_cross_are_named
        ),
        (
            "fatal",
            "deadlock: 2 goroutines\tholds once at 0x",
            onces_that_cross_are_named
        ),
        (
            "fatal",
            "all goroutines are asleep - deadlock!\t [waiter] waits: mutex \"kept\" at 0x\theld by goroutine \t [holder], which has ended",
            a_holder_that_has_ended_is_named
        ),
        (
            "fatal",
            "all goroutines are asleep - deadlock!\t [late] waits: mutex \"other\" at 0x\theld by goroutine \t [holder]",
            all_that_sleep_are_named_with_what_they_wait_for
        ),
        (
            "fatal",
            "all goroutines are asleep - deadlock!\t [holder] waits: park; holds mutex \"other\" at 0x",
            all_that_sleep_are_named_with_what_they_hold
        ),
        (
            "fatal",
            "all goroutines are asleep - deadlock!\tgoroutine 1 [main] waits: wait group at 0x",
            what_is_no_lock_is_named_by_its_address
        ),
        (
            "fatal",
            "asleep - deadlock!\twaits: rwmutex write at 0x\t!deadlock:",
            a_reader_that_nobody_lets_in_is_no_ring
        ),
        ("fatal", "all goroutines are asleep - deadlock!\t!main has ended", main_that_is_locked_to_its_cpu_waits),
        (
            "fatal",
            "all goroutines are asleep - deadlock!\t[locked] waits: park\t!main has ended",
            one_that_is_locked_to_its_cpu_waits
        ),
        ("fatal", "no goroutines are left - deadlock! (main has ended by goexit)\t!waits:", main_and_all_others_have_ended),
        (
            "fatal",
            "all goroutines are asleep - deadlock! (main has ended by goexit)\t[waiter] waits: park",
            main_has_ended_and_another_waits
        ),
        ("exit:0", "deadlock: 2 goroutines wait for each other\t!deadlock:", a_ring_is_reported_once_and_others_run_on),
        ("exit:0", "!deadlock:", two_that_cross_are_found_on_request),
        ("exit:0", "!deadlock:", a_long_ring_is_found_on_request_only),
    ],
}

static A: Mutex<u32> = Mutex::named("a", 0);
static B: Mutex<u32> = Mutex::named("b", 0);
static C: Mutex<u32> = Mutex::named("c", 0);

/// Starts two goroutines each of which holds one of the mutexes and wants the other.
fn cross() {
    static BOTH: Barrier = Barrier::new(2);
    for (name, first, second) in [("one", &A, &B), ("other", &B, &A)] {
        go_named(name, move || {
            let first = first.lock();
            BOTH.wait();
            drop((first, second.lock()));
        });
    }
}

fn two_that_cross_are_named_while_others_run() {
    on_deadlock("fatal");
    hogs(&Arc::new(AtomicBool::new(false)));
    cross();
    park();
}

fn three_in_a_ring_are_named_in_their_order() {
    static ALL: Barrier = Barrier::new(3);
    on_deadlock("fatal");
    for (name, first, second) in [("A", &A, &B), ("B", &B, &C), ("C", &C, &A)] {
        go_named(name, move || {
            let first = first.lock();
            ALL.wait();
            if name == "A" {
                // The last one closes the ring, and the report begins with it.
                while stats::waiting().filter(|wait| wait.reason == WaitReason::Mutex).count() < 2 {
                    gosched();
                }
            }
            drop((first, second.lock()));
        });
    }
    park();
}

fn a_second_lock_of_ones_own_mutex_is_named() {
    static MINE: Mutex<()> = Mutex::named("mine", ());
    on_deadlock("fatal");
    let once = MINE.lock();
    let twice = MINE.lock();
    drop((once, twice));
}

static TABLE: RwMutex<u32> = RwMutex::named("table", 0);
static M: Mutex<()> = Mutex::named("m", ());

fn writers_that_cross_are_named() {
    static BOTH: Barrier = Barrier::new(2);
    on_deadlock("fatal");
    go(|| {
        let table = TABLE.write();
        BOTH.wait();
        drop((M.lock(), table));
    });
    let m = M.lock();
    BOTH.wait();
    drop((TABLE.write(), m));
}

fn a_reader_and_a_writer_that_cross_are_named() {
    static BOTH: Barrier = Barrier::new(2);
    on_deadlock("fatal");
    go_named("writer", || {
        let table = TABLE.write();
        BOTH.wait();
        drop((M.lock(), table));
    });
    go_named("reader", || {
        let m = M.lock();
        BOTH.wait();
        drop((TABLE.read(), m));
    });
    park();
}

fn onces_that_cross_are_named() {
    static ONE: Once = Once::new();
    static OTHER: Once = Once::new();
    static BOTH: Barrier = Barrier::new(2);
    on_deadlock("fatal");
    let meet = |once: &'static Once| {
        BOTH.wait();
        once.call_once(|| {});
    };
    go(move || ONE.call_once(|| meet(&OTHER)));
    OTHER.call_once(|| meet(&ONE));
}

#[expect(unsafe_code, reason = "what ends so is what the case is about")]
fn a_holder_that_has_ended_is_named() {
    static KEPT: Mutex<()> = Mutex::named("kept", ());
    go_named("holder", || {
        let _kept = KEPT.lock();
        // It ends last, so that nobody is born in its place.
        go_named("waiter", || drop(KEPT.lock()));
        while stats::waiting().all(|wait| wait.reason != WaitReason::Mutex) {
            gosched();
        }
        // SAFETY: nothing but the guard is on the stack, and nobody else borrows from it.
        unsafe { goexit() };
    });
    park();
}

fn all_that_sleep_are_named_with_what_they_wait_for() {
    all_sleep();
}

fn all_that_sleep_are_named_with_what_they_hold() {
    all_sleep();
}

fn what_is_no_lock_is_named_by_its_address() {
    all_sleep();
}

fn all_sleep() {
    static OTHER: Mutex<()> = Mutex::named("other", ());
    go_named("holder", || {
        let _other = OTHER.lock();
        park();
    });
    while !OTHER.is_locked() {
        gosched();
    }
    go_named("late", || drop(OTHER.lock()));
    let never = WaitGroup::new();
    never.add(1);
    never.wait();
}

/// A reader that waits for a writer, which waits for another reader, whom nobody knows.
fn a_reader_that_nobody_lets_in_is_no_ring() {
    on_deadlock("fatal");
    go(|| {
        let _reads = TABLE.read();
        park();
    });
    while TABLE.try_write().is_some() {
        gosched();
    }
    go(|| drop(TABLE.write()));
    while TABLE.try_read().is_some() {
        gosched();
    }
    drop(TABLE.read());
}

/// Go's `TestLockedDeadlock`.
fn main_that_is_locked_to_its_cpu_waits() {
    lock_os_thread();
    park();
}

/// Go's `TestLockedDeadlock2`.
fn one_that_is_locked_to_its_cpu_waits() {
    go_named("locked", || {
        lock_os_thread();
        park();
    });
    sleep(Nanos::from_millis(1));
    park();
}

/// Go's `TestGoexitDeadlock`.
#[expect(unsafe_code, reason = "what ends so is what the case is about")]
fn main_and_all_others_have_ended() {
    for _ in 0..2 {
        go(|| (0..10).for_each(|_| gosched()));
    }
    // SAFETY: nobody borrows from this stack.
    unsafe { goexit() }
}

#[expect(unsafe_code, reason = "as above")]
fn main_has_ended_and_another_waits() {
    go_named("waiter", park);
    // SAFETY: nobody borrows from this stack.
    unsafe { goexit() }
}

fn a_ring_is_reported_once_and_others_run_on() {
    static TURNS: AtomicU32 = AtomicU32::new(0);
    go(|| {
        loop {
            TURNS.fetch_add(1, Ordering::Relaxed);
            gosched();
        }
    });
    cross();
    while deadlocks().is_empty() {
        gosched();
    }
    let before = TURNS.load(Ordering::Relaxed);
    while TURNS.load(Ordering::Relaxed) == before {
        gosched();
    }
    // Somebody outside of the ring waits for it, and walks into it.
    go(|| drop(A.lock()));
    let waits = || stats::waiting().filter(|wait| wait.reason == WaitReason::Mutex).count();
    while waits() < 3 {
        gosched();
    }
    assert_eq!(deadlocks().len(), 1);
    exit(0);
}

fn two_that_cross_are_found_on_request() {
    on_deadlock("off");
    assert_eq!(deadlocks(), []);
    cross();
    let mut found = deadlocks();
    while found.is_empty() {
        gosched();
        found = deadlocks();
    }
    assert_eq!(found.len(), 1);
    let mut members: Vec<_> = found[0].members.iter().map(|m| (m.name, m.lock_kind, m.lock_name)).collect();
    members.sort_unstable();
    assert_eq!(members, [("one", "mutex", "b"), ("other", "mutex", "a")]);
    assert!(world::stats().reasons[StopReason::Deadlocks as usize].count >= 2);
    exit(0);
}

/// Who has to wait does not follow so long a chain.
fn a_long_ring_is_found_on_request_only() {
    const MEMBERS: usize = 100;
    static ALL: Barrier = Barrier::new(100);
    let locks: Arc<Vec<Mutex<()>>> = Arc::new((0..MEMBERS).map(|_| Mutex::new(())).collect());
    for n in 0..MEMBERS {
        let locks = Arc::clone(&locks);
        go(move || {
            let first = locks[n].lock();
            ALL.wait();
            drop((first, locks[(n + 1) % MEMBERS].lock()));
        });
    }
    while stats::waiting().filter(|wait| wait.reason == WaitReason::Mutex).count() < MEMBERS {
        gosched();
    }
    let found = deadlocks();
    assert_eq!(found.iter().map(|deadlock| deadlock.members.len()).collect::<Vec<_>>(), [MEMBERS]);
    exit(0);
}

/// What a case does while a ring would be a fatal error.
fn under_watch(case: impl FnOnce() -> Verdict) -> Verdict {
    on_deadlock("fatal");
    let verdict = case();
    on_deadlock("report");
    verdict
}

/// Takes some of the locks, in their order, and may give way with them.
fn take_some(locks: &[Mutex<u64>], random: &mut Random) {
    let held: Vec<_> = locks.iter().filter(|_| random.below(2) == 0).map(Mutex::lock).collect();
    if random.below(3) == 0 {
        gosched();
    }
    drop(held);
}

/// Goroutines that take several locks of many, in the order of their numbers: chains form and dissolve all the time.
fn nested_locks_in_order_are_no_deadlock() -> Verdict {
    const LOCKS: u64 = 6;
    under_watch(|| {
        let locks: Arc<Vec<Mutex<u64>>> = Arc::new((0..LOCKS).map(Mutex::new).collect());
        let all = Arc::new(WaitGroup::new());
        for seed in 0..16 {
            let locks = Arc::clone(&locks);
            all.go(move || {
                let mut random = Random::new(seed);
                (0..300).for_each(|_| take_some(&locks, &mut random));
            });
        }
        all.wait();
        equal("rings", &deadlocks().len(), &0)
    })
}

/// A reader that a writer has let go may not have noticed it when the next writer comes, who then waits for a mutex of the
/// reader's: in this order the two meet, but never in a ring.
fn readers_that_are_let_go_are_no_deadlock() -> Verdict {
    const ROUNDS: u32 = 300;
    under_watch(|| {
        for _ in 0..ROUNDS {
            let (table, own) = (Arc::new(RwMutex::new(0_u32)), Arc::new(Mutex::new(0_u32)));
            let reader = (Arc::clone(&table), Arc::clone(&own));
            let writing = table.write();
            go(move || {
                let mut own = reader.1.lock();
                *own += 1;
                drop(reader.0.read());
                gosched();
                *own += 1;
            });
            while !own.is_locked() {
                gosched();
            }
            drop(writing);
            let again = table.write();
            // The reader has the mutex, and waits for nobody, unless it comes to the table only now.
            match own.try_lock() {
                Some(own) => drop((own, again)),
                None => drop(again),
            }
            wait_until_alone();
            equal("the reader's work", &*own.lock(), &2)?;
        }
        Ok(())
    })
}

/// Makes a lock, and three tasks that want it, and the outer one after it.
fn use_a_new_lock(outer: &Arc<Mutex<u32>>, tasks: &Arc<WaitGroup>) {
    let inner = Arc::new(Mutex::new(0_u32));
    for _ in 0..3 {
        let (inner, outer) = (Arc::clone(&inner), Arc::clone(outer));
        tasks.go(move || {
            let mut inner = inner.lock();
            *inner += 1;
            *outer.lock() += 1;
        });
    }
    gosched();
}

/// Locks are made, waited for and dropped, and their memory is used for others.
fn a_lock_that_is_gone_is_no_deadlock() -> Verdict {
    under_watch(|| {
        let outer = Arc::new(Mutex::new(0_u32));
        let all = Arc::new(WaitGroup::new());
        for _ in 0..4 {
            let outer = Arc::clone(&outer);
            let tasks = Arc::clone(&all);
            all.go(move || (0..50).for_each(|_| use_a_new_lock(&outer, &tasks)));
        }
        all.wait();
        equal("additions", &*outer.lock(), &600)
    })
}

fn who_sleeps_with_a_lock_is_no_deadlock() -> Verdict {
    under_watch(|| {
        let lock = Arc::new(Mutex::new(0_u32));
        let all = Arc::new(WaitGroup::new());
        for _ in 0..5 {
            let lock = Arc::clone(&lock);
            all.go(move || {
                let mut value = lock.lock();
                sleep(Nanos(2_000_000));
                *value += 1;
            });
        }
        all.wait();
        equal("additions", &*lock.lock(), &5)
    })
}
