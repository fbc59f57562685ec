//! Locks for readers and a writer: who may be inside with whom, and that nobody is kept out for ever.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::sync::{Barrier, RwMutex, WaitGroup};
use gzero::{WaitReason, go, gosched, stats};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        readers_are_inside_together,
        a_writer_is_inside_alone,
        try_forms_tell_who_is_inside,
        a_waiting_writer_keeps_readers_out,
        readers_that_were_kept_out_go_before_the_next_writer,
        a_writer_is_not_starved_by_readers,
        readers_are_not_starved_by_writers,
        a_writer_goes_on_as_a_reader,
        a_value_comes_back,
    ],
}

/// Waits until as many goroutines wait for this.
fn wait_for(reason: WaitReason, count: usize) {
    while stats::waiting().filter(|wait| wait.reason == reason).count() != count {
        gosched();
    }
}

/// Go's `TestParallelReaders` and `TestParallelRWMutexReaders`: all of them have the lock at the same time.
fn readers_are_inside_together() -> Verdict {
    for count in [1, 3, 4] {
        let lock = Arc::new(RwMutex::new(0_u32));
        let inside = Arc::new(Barrier::new(count + 1));
        for _ in 0..count {
            let (lock, inside) = (Arc::clone(&lock), Arc::clone(&inside));
            go(move || {
                let guard = lock.read();
                inside.wait();
                drop(guard);
            });
        }
        inside.wait();
        wait_until_alone();
        equal("nobody is inside", &lock.try_write().is_some(), &true)?;
    }
    Ok(())
}

/// Readers count 1, writers 10,000.
fn enter(activity: &AtomicU32, amount: u32, allowed: impl Fn(u32) -> bool) {
    let now = activity.fetch_add(amount, Ordering::Relaxed) + amount;
    assert!(allowed(now), "inside with others: {now}");
    for _ in 0..100 {
        core::hint::black_box(now);
    }
    activity.fetch_sub(amount, Ordering::Relaxed);
}

fn write(lock: &RwMutex<u32>, activity: &AtomicU32) {
    let mut value = lock.write();
    enter(activity, 10_000, |now| now == 10_000);
    *value += 1;
}

fn read(lock: &RwMutex<u32>, activity: &AtomicU32) {
    let value = lock.read();
    enter(activity, 1, |now| (1..10_000).contains(&now));
    drop(value);
}

/// Go's `TestRWMutex`, of `runtime` and of `sync`.
fn a_writer_is_inside_alone() -> Verdict {
    const ROUNDS: u32 = 300;
    for readers in [1, 3, 10] {
        let lock = Arc::new(RwMutex::new(0_u32));
        let activity = Arc::new(AtomicU32::new(0));
        let all = Arc::new(WaitGroup::new());
        for n in 0..readers + 2 {
            let (lock, activity) = (Arc::clone(&lock), Arc::clone(&activity));
            let writes = n % (readers + 1) == 0;
            all.go(move || {
                (0..ROUNDS)
                    .for_each(|_| if writes { write(&lock, &activity) } else { read(&lock, &activity) });
            });
        }
        all.wait();
        equal("writes", &*lock.read(), &(2 * ROUNDS))?;
    }
    Ok(())
}

/// The first part of `sync`'s `TestRWMutex`.
fn try_forms_tell_who_is_inside() -> Verdict {
    let lock = RwMutex::new(0);
    let writer = lock.write();
    equal("beside a writer", &(lock.try_write().is_some(), lock.try_read().is_some()), &(false, false))?;
    drop(writer);
    let writer = lock.try_write();
    equal("nobody was inside", &writer.is_some(), &true)?;
    drop(writer);
    let (one, two) = (lock.try_read(), lock.try_read());
    equal("beside no writer", &(one.is_some(), two.is_some()), &(true, true))?;
    equal("a writer beside readers", &lock.try_write().is_some(), &false)?;
    drop(one);
    equal("a writer beside one reader", &lock.try_write().is_some(), &false)?;
    drop(two);
    equal("a writer beside nobody", &lock.try_write().is_some(), &true)
}

/// Go's `TestRLocker`: two readers have to leave before the writer enters, and no reader enters while it is there.
fn a_waiting_writer_keeps_readers_out() -> Verdict {
    let lock = Arc::new(RwMutex::new(0_u32));
    for round in 1..=10 {
        let (one, two) = (lock.read(), lock.read());
        let writer = Arc::clone(&lock);
        go(move || *writer.write() += 1);
        wait_for(WaitReason::RwMutexWrite, 1);
        equal("a reader beside a waiting writer", &lock.try_read().is_some(), &false)?;
        drop(one);
        equal("the writer waits for the other", &*two, &(round - 1))?;
        drop(two);
        equal("the writer was next", &*lock.read(), &round)?;
        wait_until_alone();
    }
    Ok(())
}

fn readers_that_were_kept_out_go_before_the_next_writer() -> Verdict {
    let lock = Arc::new(RwMutex::new(0_u32));
    let seen = Arc::new(AtomicU32::new(0));
    let first = lock.write();
    let reader = (Arc::clone(&lock), Arc::clone(&seen));
    go(move || {
        reader.1.store(*reader.0.read() + 1, Ordering::Release);
    });
    wait_for(WaitReason::RwMutexRead, 1);
    let second = Arc::clone(&lock);
    go(move || *second.write() = 100);
    wait_for(WaitReason::RwMutexWrite, 1);
    drop(first);
    wait_until_alone();
    equal("what the reader saw", &seen.load(Ordering::Acquire), &1)?;
    equal("what the second writer wrote", &*lock.read(), &100)
}

/// Readers that overlap all the time do not keep a writer out.
fn a_writer_is_not_starved_by_readers() -> Verdict {
    let lock = Arc::new(RwMutex::new(0_u32));
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..4 {
        let (lock, stop) = (Arc::clone(&lock), Arc::clone(&stop));
        go(move || {
            while !stop.load(Ordering::Relaxed) {
                let guard = lock.read();
                gosched();
                drop(guard);
            }
        });
    }
    for _ in 0..20 {
        *lock.write() += 1;
        gosched();
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    equal("writes", &*lock.read(), &20)
}

fn readers_are_not_starved_by_writers() -> Verdict {
    let lock = Arc::new(RwMutex::new(0_u32));
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..3 {
        let (lock, stop) = (Arc::clone(&lock), Arc::clone(&stop));
        go(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut value = lock.write();
                gosched();
                *value = value.wrapping_add(1);
            }
        });
    }
    for _ in 0..20 {
        drop(lock.read());
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    equal("nobody is inside", &lock.try_write().is_some(), &true)
}

fn a_writer_goes_on_as_a_reader() -> Verdict {
    let lock = Arc::new(RwMutex::new(0_u32));
    let mut writer = lock.write();
    *writer = 1;
    let other = Arc::clone(&lock);
    go(move || *other.write() = 2);
    wait_for(WaitReason::RwMutexWrite, 1);
    let seen = Arc::new(AtomicU32::new(0));
    let reader = (Arc::clone(&lock), Arc::clone(&seen));
    go(move || reader.1.store(*reader.0.read(), Ordering::Release));
    wait_for(WaitReason::RwMutexRead, 1);
    let guard = writer.downgrade();
    equal("no writer came in between", &*guard, &1)?;
    while seen.load(Ordering::Acquire) == 0 {
        gosched();
    }
    equal("the reader came in beside it", &seen.load(Ordering::Acquire), &1)?;
    drop(guard);
    wait_until_alone();
    equal("then the writer", &*lock.read(), &2)
}

fn a_value_comes_back() -> Verdict {
    let mut lock = RwMutex::from(1);
    *lock.get_mut() += 1;
    equal("the value", &lock.into_inner(), &2)
}
