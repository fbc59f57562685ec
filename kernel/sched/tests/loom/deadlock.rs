//! A machine is called deadlocked only if it is, and then somebody says so.
//!
//! CPU 0 has the one P and falls asleep. The other CPUs have none: they come out of sleep with something, or hand over what
//! they had, while CPU 0 takes its look.

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use sched::ProcId;
use sched::deadlock::Awake;
use sched::idle::{Idle, Left, Spin};
use sched::runq::{RunQueue, StealNext};
use sched::timers::{Earliest, NEVER, Timers};

use crate::{g, model};

/// The P with index `n`.
fn p(n: u32) -> ProcId {
    ProcId::new(n).expect("a test's P")
}

struct Machine {
    awake: Awake,
    idle: Idle,
    /// Where goroutines go that CPU 0 may run.
    shared: RunQueue,
    /// How many are queued that are locked to CPU 1 and to CPU 2: without an order of their own, as
    /// [`SharedLen`](sched::list::SharedLen) shows it.
    wired: [AtomicU32; 2],
    /// CPU 2 has got its own.
    taken: AtomicBool,
    /// A heap of timers, and its earliest time; and that of another heap.
    timers: Mutex<Timers<()>>,
    earliest: [Earliest; 2],
    others: Mutex<Timers<()>>,
}

impl Machine {
    fn new() -> Arc<Self> {
        Self::with_procs(1)
    }

    fn with_procs(procs: u32) -> Arc<Self> {
        let ((timers, first), (others, second)) = (Timers::new(), Timers::new());
        Arc::new(Self {
            timers: Mutex::new(timers),
            others: Mutex::new(others),
            earliest: [second, first],
            awake: Awake::new(3),
            idle: Idle::new(procs),
            shared: RunQueue::new(),
            wired: [AtomicU32::new(0), AtomicU32::new(0)],
            taken: AtomicBool::new(false),
        })
    }

    fn go_idle(&self) {
        self.idle.go_idle(p(0), Spin::No);
    }

    fn look(&self) -> bool {
        let wired = || self.wired.iter().any(|len| len.load(Ordering::Relaxed) > 0);
        let timers = || self.earliest.iter().any(|earliest| earliest.get() != NEVER);
        self.awake.nobody_is_left(&self.idle, || !self.shared.is_empty() || wired() || timers())
    }

    fn set_timer(&self, when: u64) {
        self.timers.lock().expect("nobody panics").add(when, ()).expect("memory");
    }

    fn set_other_timer(&self) {
        self.others.lock().expect("nobody panics").add(7, ()).expect("memory");
    }

    fn take_due(&self, now: u64) {
        let due = self.timers.lock().expect("nobody panics").take_due(now);
        assert!(due.is_some(), "nobody else takes it");
    }

    /// Queues a goroutine for CPU 0, and wakes it if it is asleep.
    fn hand_over(&self) {
        assert!(self.shared.local().push_back(g(0)).is_none());
        let _claimed = self.idle.wake_one();
    }

    /// CPU 2 takes what is locked to it.
    fn take_wired(&self) -> bool {
        self.wired[1].compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A CPU that has lost its P gives its goroutine away and goes to sleep.
#[test]
fn a_hand_over_is_no_deadlock() {
    model(4, || {
        let machine = Machine::new();
        machine.awake.begin_extra();
        let other = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.hand_over();
                machine.awake.end_extra();
                assert!(!machine.look(), "the goroutine is in the queue");
            })
        };
        machine.go_idle();
        assert!(!machine.look(), "the goroutine is in a hand or in the queue");
        other.join().expect("it ends");
    });
}

/// A timer wakes a CPU without a P, which carries out what that was for, and sleeps on: all of it may be between two steps of
/// CPU 0's look.
fn a_timer_is_no_deadlock(carry_out: fn(&Machine)) {
    model(4, move || {
        let machine = Machine::new();
        machine.set_timer(5);
        let other = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.awake.begin_extra();
                machine.awake.woke(1);
                machine.take_due(5);
                carry_out(&machine);
                machine.awake.end_extra();
            })
        };
        machine.go_idle();
        assert!(!machine.look(), "there is the timer, or what it was for");
        other.join().expect("it ends");
    });
}

/// It readies a sleeper.
#[test]
fn a_sleeper_is_no_deadlock() {
    a_timer_is_no_deadlock(Machine::hand_over);
}

/// It sets another timer.
#[test]
fn a_timer_that_sets_another_is_no_deadlock() {
    a_timer_is_no_deadlock(Machine::set_other_timer);
}

/// One CPU without a P readies a goroutine that is locked to another, which is just awake.
#[test]
fn a_locked_goroutine_is_no_deadlock() {
    model(3, || {
        let machine = Machine::new();
        machine.awake.begin_extra();
        let one = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.wired[1].store(1, Ordering::Relaxed);
                machine.awake.end_extra();
            })
        };
        let other = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.awake.begin_extra();
                machine.awake.woke(1);
                // It runs what it takes, and so does not come to its end.
                let taken = machine.take_wired();
                machine.taken.store(taken, Ordering::Relaxed);
                if !taken {
                    machine.awake.end_extra();
                }
            })
        };
        machine.go_idle();
        assert!(!machine.look(), "the goroutine is in a hand or in the queue");
        one.join().expect("it ends");
        other.join().expect("it ends");
        let somewhere = machine.taken.load(Ordering::Relaxed) || machine.wired[1].load(Ordering::Relaxed) > 0;
        assert!(somewhere, "the goroutine is in one place");
    });
}

/// CPU 2 runs a goroutine that is locked to it, which readies one that is locked to CPU 1, and sleeps again: all of it
/// between two steps of a look.
#[test]
fn what_passes_behind_the_look_is_no_deadlock() {
    model(4, || {
        let machine = Machine::new();
        machine.wired[1].store(1, Ordering::Relaxed);
        let other = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.awake.begin_extra();
                machine.awake.woke(1);
                assert!(machine.take_wired());
                machine.wired[0].store(1, Ordering::Relaxed);
                machine.awake.end_extra();
            })
        };
        machine.go_idle();
        assert!(!machine.look(), "a goroutine is in a hand or in a queue");
        other.join().expect("it ends");
    });
}

/// A P wakes up while one that runs on is claiming it. It takes the goroutine, if that is there, which ends at once, and
/// goes idle again: all of it before the waker has come to the end of its claim.
#[test]
fn a_claim_is_no_deadlock() {
    model(4, || {
        let machine = Machine::with_procs(2);
        machine.idle.go_idle(p(1), Spin::No);
        let waker = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.hand_over())
        };
        let (Left::TookBack | Left::Claimed) = machine.idle.leave_idle(p(1));
        machine.awake.woke(1);
        let _taken = machine.shared.steal_into(&RunQueue::new().local(), StealNext::Yes);
        machine.idle.go_idle(p(1), Spin::Yes);
        assert!(!machine.look(), "the waker runs");
        waker.join().expect("it ends");
    });
}

/// Two CPUs go to sleep at the same time, and nothing is left: at least one of them sees it.
#[test]
fn the_last_one_sees_the_deadlock() {
    model(5, || {
        let machine = Machine::new();
        machine.awake.begin_extra();
        let other = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.awake.end_extra();
                machine.look()
            })
        };
        machine.go_idle();
        let seen = machine.look();
        assert!(other.join().expect("it ends") || seen, "nobody has seen that nobody is left");
    });
}
