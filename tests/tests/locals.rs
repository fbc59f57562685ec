//! Values of which each goroutine has its own.
#![no_std]
#![no_main]

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use gzero::goexit;
use gzero::prelude::*;
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        locals_are_their_goroutines_own,
        locals_are_dropped_before_the_join,
        locals_are_made_anew_by_destructors,
        locals_of_a_goexit_are_dropped,
        a_local_that_comes_back_for_ever_is_leaked,
    ],
}

static DROPS: AtomicU32 = AtomicU32::new(0);

fn drops() -> u32 {
    DROPS.swap(0, Ordering::Relaxed)
}

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        gosched();
    }
}

goroutine_local! {
    static COUNT: Cell<u32> = Cell::new(0);
    static NAMES: RefCell<Vec<String>> = RefCell::new(vec![String::from("new")]);
    static DROPPED: Logs = Logs("first");
    static DROPPED_TOO: Logs = Logs("second");
    static AGAIN: Again = Again;
    static FOR_EVER: ForEver = ForEver;
}

fn locals_are_their_goroutines_own() -> Verdict {
    COUNT.with(|count| count.set(1));
    let wrong = Arc::new(AtomicU64::new(0));
    let handles: Vec<_> = (0..50)
        .map(|n| {
            let wrong = Arc::clone(&wrong);
            go(move || {
                let new = COUNT.with(Cell::get) == 0 && NAMES.with(|names| names.borrow().len()) == 1;
                wrong.fetch_add(u64::from(!new), Ordering::Relaxed);
                for round in 1..=20 {
                    COUNT.with(|count| count.set(n * 100 + round));
                    NAMES.with(|names| names.borrow_mut().push(format!("{n}")));
                    gosched();
                    let kept = COUNT.with(Cell::get) == n * 100 + round;
                    wrong.fetch_add(u64::from(!kept), Ordering::Relaxed);
                }
                NAMES.with(|names| names.borrow().iter().skip(1).all(|name| *name == format!("{n}")))
            })
        })
        .collect();
    equal("names are its own", &handles.into_iter().all(JoinHandle::join), &true)?;
    equal("values of others", &wrong.load(Ordering::Relaxed), &0)?;
    equal("the caller's", &COUNT.with(Cell::get), &1)
}

static ORDER: AtomicU32 = AtomicU32::new(0);

/// Notes at its drop which one it was, as a decimal digit.
struct Logs(&'static str);

impl Drop for Logs {
    fn drop(&mut self) {
        // A destructor may wait.
        gosched();
        let digit = if self.0 == "first" { 1 } else { 2 };
        let order = ORDER.load(Ordering::Relaxed);
        ORDER.store(order * 10 + digit, Ordering::Relaxed);
    }
}

fn locals_are_dropped_before_the_join() -> Verdict {
    for detached in [false, true] {
        ORDER.store(0, Ordering::Relaxed);
        let handle = go(|| {
            DROPPED.with(|_| {});
            DROPPED_TOO.with(|_| {});
            DROPPED.with(|_| {});
        });
        if detached {
            drop(handle);
            wait_until_alone();
        } else {
            handle.join();
        }
        equal("the youngest first", &ORDER.load(Ordering::Relaxed), &21)?;
    }
    Ok(())
}

/// Asks at its drop for others: for an older one, and for one that is gone by then.
struct Again;

impl Drop for Again {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::Relaxed);
        COUNT.with(|count| count.set(count.get() + 1));
        DROPPED.with(|_| {});
    }
}

/// A value whose destructor uses local values.
struct UsesLocals;

impl Drop for UsesLocals {
    fn drop(&mut self) {
        AGAIN.with(|_| {});
    }
}

fn locals_are_made_anew_by_destructors() -> Verdict {
    drops();
    ORDER.store(0, Ordering::Relaxed);
    go(|| {
        COUNT.with(|_| {});
        AGAIN.with(|_| {});
        DROPPED.with(|_| {});
    })
    .join();
    equal("destructors of the one that asks", &drops(), &1)?;
    equal("destructors of the one that is made anew", &ORDER.load(Ordering::Relaxed), &11)?;
    // A detached value is dropped after the local values, and the ones that this makes are dropped too.
    ORDER.store(0, Ordering::Relaxed);
    let detached = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&detached);
    drop(go(move || {
        wait_for(&flag);
        UsesLocals
    }));
    detached.store(true, Ordering::Release);
    wait_until_alone();
    equal("destructors after a value's", &(drops(), ORDER.load(Ordering::Relaxed)), &(1, 1))
}

fn locals_of_a_goexit_are_dropped() -> Verdict {
    ORDER.store(0, Ordering::Relaxed);
    let handle = go(|| {
        DROPPED.with(|_| {});
        // SAFETY: nothing relies on what lies on this stack.
        unsafe { goexit() }
    });
    equal("a value", &handle.join_result().is_ok(), &false)?;
    equal("dropped", &ORDER.load(Ordering::Relaxed), &1)
}

struct ForEver;

impl Drop for ForEver {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::Relaxed);
        FOR_EVER.with(|_| {});
    }
}

fn a_local_that_comes_back_for_ever_is_leaked() -> Verdict {
    drops();
    go(|| FOR_EVER.with(|_| {})).join();
    equal("destructors", &drops(), &1001)
}
