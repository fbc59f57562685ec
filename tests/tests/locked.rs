//! Goroutines that are locked to a CPU take turns with each other and with those that are not.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::{
    Nanos, WaitReason, go, gomaxprocs, gopark, goready, gosched, lock_os_thread, num_cpu, println, sleep,
    testing, unlock_os_thread,
};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        two_that_yield_starve_nobody,
        two_that_spin_starve_nobody,
        two_without_a_p_take_turns,
    ],
    dies: [
        ("throw", "schedule: interrupts are off", a_wait_with_interrupts_off),
        ("throw", "schedule: interrupts are off", a_wait_with_interrupts_off_that_is_over_at_once),
        ("throw", "schedule: interrupts are off", a_wait_with_interrupts_off_beside_others),
    ],
}

fn set_procs(procs: usize) {
    gomaxprocs(i32::try_from(procs).expect("a number of CPUs"));
}

/// With one P: two goroutines are locked to its CPU and go on until a third, which is not, says stop.
fn beside_two_locked(turn: fn()) {
    set_procs(1);
    let stop = Arc::new(AtomicBool::new(false));
    let locked = Arc::new(AtomicU32::new(0));
    for _ in 0..2 {
        let (stop, locked) = (Arc::clone(&stop), Arc::clone(&locked));
        go(move || {
            lock_os_thread();
            locked.fetch_add(1, Ordering::Release);
            while !stop.load(Ordering::Acquire) {
                turn();
            }
        });
    }
    while locked.load(Ordering::Acquire) < 2 {
        gosched();
    }
    go(move || {
        sleep(Nanos::from_micros(50));
        stop.store(true, Ordering::Release);
    });
    wait_until_alone();
    set_procs(num_cpu());
}

fn two_that_yield_starve_nobody() {
    beside_two_locked(gosched);
}

fn two_that_spin_starve_nobody() {
    beside_two_locked(spin_loop);
}

/// Locks the goroutine that calls to the second CPU.
fn lock_to_the_second() {
    loop {
        lock_os_thread();
        if testing::cpu().0 == 1 {
            return;
        }
        unlock_os_thread();
        gosched();
    }
}

/// What two goroutines share that are locked to one CPU.
#[derive(Default)]
struct Pair {
    locked: AtomicU32,
    turn: AtomicU32,
    moved: AtomicU32,
}

/// Turns of the two together.
const TURNS: u32 = 20;

impl Pair {
    /// Takes every second turn, and waits for the others in a loop without a call.
    fn take_turns(&self, mine: u32) {
        lock_to_the_second();
        self.locked.fetch_add(1, Ordering::Release);
        while self.locked.load(Ordering::Acquire) < 3 {
            // The CPU is free for the other one.
            sleep(Nanos::from_micros(200));
        }
        let home = testing::cpu();
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            if turn >= TURNS {
                break;
            } else if turn % 2 == mine {
                self.turn.store(turn + 1, Ordering::Release);
            }
        }
        self.moved.fetch_add(u32::from(testing::cpu() != home), Ordering::Relaxed);
    }
}

/// Two goroutines are locked to a CPU that loses its P.
fn two_without_a_p_take_turns() -> Verdict {
    if num_cpu() == 1 {
        return Ok(());
    }
    // The first CPU is kept busy by this goroutine, so the others come to the second one.
    set_procs(1);
    lock_os_thread();
    set_procs(2);
    let pair = Arc::new(Pair::default());
    for mine in 0..2 {
        let theirs = Arc::clone(&pair);
        go(move || theirs.take_turns(mine));
        while pair.locked.load(Ordering::Acquire) <= mine {
            spin_loop();
        }
    }
    set_procs(1);
    pair.locked.fetch_add(1, Ordering::Release);
    wait_until_alone();
    unlock_os_thread();
    set_procs(num_cpu());
    equal("locked goroutines that have moved", &pair.moved.load(Ordering::Relaxed), &0)
}

/// Does something while it is printed, which is with interrupts off.
struct Inside(fn());

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)();
        f.write_str("waited")
    }
}

fn a_wait_with_interrupts_off() {
    println!("{}", Inside(|| sleep(Nanos::from_millis(1))));
}

/// There is somebody to switch to.
fn a_wait_with_interrupts_off_beside_others() {
    set_procs(1);
    for _ in 0..3 {
        go(|| {});
    }
    println!("{}", Inside(|| sleep(Nanos::from_millis(1))));
}

/// The wake comes before the goroutine has left: there is nothing to wait for.
fn a_wait_with_interrupts_off_that_is_over_at_once() {
    println!("{}", Inside(ready_oneself));
}

fn ready_oneself() {
    gopark(WaitReason::Park, |me| {
        #[expect(unsafe_code, reason = "the case ends a wait of its own")]
        // SAFETY: the handle is that of this wait, and nobody else has it.
        unsafe {
            goready(me);
        }
        true
    });
}
