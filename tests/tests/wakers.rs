//! Who wakes somebody, and has to give way just then: whom it has taken out of a queue can run by that time.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::sync::{Barrier, Cond, Mutex, Once, RwMutex, Semaphore, WaitGroup};
use gzero::{
    GoRef, Mailbox, Nanos, WaitReason, chan, go, gomaxprocs, gosched, num_goroutine, park, semacquire,
    semrelease, testing, unpark,
};
use tests::{Verdict, equal, start, start_waiting, wait_until_alone};

tests::image! {
    pass: [
        who_is_woken_can_run_when_the_waker_gives_way,
        whoever_an_empty_barrier_has_let_go_can_run,
    ]
}

/// What the waker calls when these wait: after it, its slice is over, and the next pin that goes makes it give way.
type Outstay<'o> = &'o dyn Fn(Vec<GoRef>);

/// Lets somebody wait, outstays its slice, and wakes them.
type Way = fn(Outstay<'_>);

/// Attempts for each way to wake: an interrupt may make the waker give way before it has begun.
const ATTEMPTS: usize = 6;

/// Runs a function with one P and short slices.
fn on_one_cpu<T>(function: impl FnOnce() -> T) -> T {
    let before = gomaxprocs(1);
    testing::set_slice(Nanos::from_millis(1));
    let result = function();
    testing::set_slice(Nanos::from_millis(10));
    gomaxprocs(i32::try_from(before).unwrap_or(1));
    result
}

/// The checks of the stack would make the last one give way before it has come. So its slice ends anywhere, and often: each
/// time when the caller runs.
fn whoever_an_empty_barrier_has_let_go_can_run() -> Verdict {
    const SLICES: usize = 500;
    static BARRIER: Barrier = Barrier::new(2);
    static STOP: AtomicBool = AtomicBool::new(false);
    let late = on_one_cpu(|| {
        testing::set_slice(Nanos(100_000));
        let both = [(); 2].map(|()| {
            start(|| {
                while !STOP.load(Ordering::Relaxed) {
                    BARRIER.wait();
                }
            })
        });
        let is_late = || {
            let waits = both.iter().any(|g| testing::waits_for(*g) == Some(WaitReason::Barrier));
            waits && format!("{BARRIER:?}").contains("arrived: 0")
        };
        let mut late = 0;
        for _ in 0..SLICES {
            gosched();
            late += usize::from(testing::while_pinned(is_late));
        }
        STOP.store(true, Ordering::Relaxed);
        // One of them may have come for a round that the other does not.
        while num_goroutine() > 1 {
            go(|| BARRIER.wait());
            gosched();
        }
        late
    });
    equal("times when a barrier was empty and somebody waited at it", &late, &0)
}

fn who_is_woken_can_run_when_the_waker_gives_way() -> Verdict {
    let ways: [(&str, Way); 12] = [
        ("semrelease", by_semrelease),
        ("a mutex's unlock", by_unlock),
        ("the last reader", by_the_last_reader),
        ("a writer", by_a_writer),
        ("once", by_once),
        ("signal", by_signal),
        ("broadcast", by_broadcast),
        ("the last task", by_the_last_task),
        ("units", by_units),
        ("put", by_put),
        ("take", by_take),
        ("unpark", by_unpark),
    ];
    let late: Vec<&str> = on_one_cpu(|| {
        let late = ways.iter().filter(|(_, wake)| (0..ATTEMPTS).all(|_| somebody_is_late(*wake)));
        late.map(|(way, _)| *way).collect()
    });
    equal("what has woken somebody that could not run", &late, &Vec::new())
}

/// Whether the waker has given way, and somebody still waits. (There is one CPU: the caller runs when it has.)
fn somebody_is_late(wake: Way) -> bool {
    let begun = Arc::new(AtomicBool::new(false));
    let (tell, told) = chan(1);
    let begin = Arc::clone(&begun);
    go(move || {
        wake(&|waiters| {
            tell.send(waiters).expect("there is room");
            testing::outstay_slice(&begin);
        });
    });
    let waiters: Vec<GoRef> = told.recv().expect("the waker has begun");
    while !begun.load(Ordering::Relaxed) {
        gosched();
    }
    let late = waiters.iter().any(|waiter| testing::waits_for(*waiter).is_some());
    wait_until_alone();
    late
}

/// Starts so many goroutines, each of which waits for this.
fn waiting(count: usize, reason: WaitReason, wait: impl Fn() + Clone + Send + Sync + 'static) -> Vec<GoRef> {
    (0..count).map(|_| start_waiting(reason, wait.clone())).collect()
}

fn by_semrelease(outstay: Outstay<'_>) {
    static UNITS: AtomicU32 = AtomicU32::new(0);
    outstay(waiting(1, WaitReason::Semacquire, || semacquire(&UNITS)));
    semrelease(&UNITS);
}

fn by_unlock(outstay: Outstay<'_>) {
    static MUTEX: Mutex<()> = Mutex::new(());
    let guard = MUTEX.lock();
    outstay(waiting(1, WaitReason::Mutex, || drop(MUTEX.lock())));
    drop(guard);
}

fn by_the_last_reader(outstay: Outstay<'_>) {
    static LOCK: RwMutex<()> = RwMutex::new(());
    let guard = LOCK.read();
    outstay(waiting(1, WaitReason::RwMutexWrite, || drop(LOCK.write())));
    drop(guard);
}

fn by_a_writer(outstay: Outstay<'_>) {
    static LOCK: RwMutex<()> = RwMutex::new(());
    let guard = LOCK.write();
    outstay(waiting(3, WaitReason::RwMutexRead, || drop(LOCK.read())));
    drop(guard);
}

fn by_once(outstay: Outstay<'_>) {
    let once = Arc::new(Once::new());
    let other = Arc::clone(&once);
    once.call_once(|| outstay(waiting(1, WaitReason::Once, move || other.call_once(|| {}))));
}

fn by_signal(outstay: Outstay<'_>) {
    static MUTEX: Mutex<()> = Mutex::new(());
    static COND: Cond = Cond::new();
    outstay(waiting(1, WaitReason::Cond, || drop(COND.wait(MUTEX.lock()))));
    COND.signal();
}

fn by_broadcast(outstay: Outstay<'_>) {
    static MUTEX: Mutex<()> = Mutex::new(());
    static COND: Cond = Cond::new();
    outstay(waiting(3, WaitReason::Cond, || drop(COND.wait(MUTEX.lock()))));
    COND.broadcast();
}

fn by_the_last_task(outstay: Outstay<'_>) {
    static TASKS: WaitGroup = WaitGroup::new();
    TASKS.add(1);
    outstay(waiting(3, WaitReason::WaitGroup, || TASKS.wait()));
    TASKS.done();
}

fn by_units(outstay: Outstay<'_>) {
    static UNITS: Semaphore = Semaphore::new(3);
    UNITS.acquire(3).forget();
    outstay(waiting(3, WaitReason::Semacquire, || drop(UNITS.acquire(1))));
    UNITS.release(3);
}

fn by_put(outstay: Outstay<'_>) {
    static MAILBOX: Mailbox<()> = Mailbox::new();
    outstay(waiting(1, WaitReason::Mailbox, || MAILBOX.take()));
    MAILBOX.try_put(()).expect("it is empty");
}

fn by_take(outstay: Outstay<'_>) {
    static MAILBOX: Mailbox<()> = Mailbox::new();
    MAILBOX.put(());
    outstay(waiting(1, WaitReason::Mailbox, || {
        MAILBOX.put(());
        MAILBOX.try_take().expect("it was put there");
    }));
    MAILBOX.try_take().expect("it is full");
}

fn by_unpark(outstay: Outstay<'_>) {
    let waiters = waiting(1, WaitReason::Park, park);
    let waiter = waiters[0];
    outstay(waiters);
    unpark(waiter);
}
