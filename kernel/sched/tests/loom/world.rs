//! Stopping the world: while it stands nobody but the stopper touches anything, everybody goes on afterwards, and nothing
//! that happens meanwhile (a park, a ready, a timer, falling asleep) is lost.
//!
//! What goroutines may touch is one cell whose accesses the model checker watches for races. The interrupt of a stop is a
//! flag that a CPU looks at between its steps. Who waits for the end yields.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use sched::idle::{Idle, Left as LeftIdle, Spin};
use sched::note::WakeAction;
use sched::runq::{RunQueue, StealNext};
use sched::status::{Parked, Ready, StatusWord};
use sched::world::{Entered, Left, Taken, World};
use sched::{ProcId, note::Note};

use crate::{g, model};

/// CPU 0 stops the world, the others run in it.
struct Machine {
    world: World,
    interrupts: Vec<AtomicBool>,
    /// Touched by CPUs that are in and by the stopper.
    cell: UnsafeCell<u32>,
    idle: Idle,
    queue: RunQueue,
    note: Note,
    woken: AtomicBool,
}

// The cell is what the test is about: the model checker reports a race for it.
#[expect(unsafe_code, reason = "the accesses are watched by the model checker")]
// SAFETY: see above.
unsafe impl Sync for Machine {}

impl Machine {
    fn new(cpus: u32) -> Arc<Self> {
        let world = World::new(cpus);
        (0..cpus as usize).for_each(|cpu| assert_eq!(world.enter(cpu), Entered::In));
        Arc::new(Self {
            world,
            interrupts: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
            cell: UnsafeCell::new(0),
            idle: Idle::new(cpus),
            queue: RunQueue::new(),
            note: Note::new(),
            woken: AtomicBool::new(false),
        })
    }

    #[expect(unsafe_code, reason = "the accesses are watched by the model checker")]
    fn touch(&self) {
        // SAFETY: only while this CPU is in, or has the world stopped; the model checker says if not.
        self.cell.with_mut(|cell| unsafe { *cell += 1 });
    }

    /// A CPU's step between two others: it stops if it has got the interrupt.
    fn obey(&self, cpu: usize) {
        if self.interrupts[cpu].load(Ordering::Relaxed) && self.world.must_stop(cpu).is_some() {
            self.hold(cpu);
        }
    }

    fn hold(&self, cpu: usize) {
        while let Some(must) = self.world.must_stop(cpu) {
            must.stop();
            self.wait(cpu);
        }
    }

    fn wait(&self, cpu: usize) {
        while self.world.is_held(cpu) {
            thread::yield_now();
        }
    }

    fn enter(&self, cpu: usize) {
        while self.world.enter(cpu) == Entered::Wait {
            self.wait(cpu);
        }
    }

    /// Leaves for good, however often a stop comes in between.
    fn leave(&self, cpu: usize) {
        while self.world.leave(cpu) == Left::Back {
            self.hold(cpu);
        }
    }

    /// CPU 0 stops the world, does something to it, and starts it.
    fn stop_and_start(&self, meanwhile: impl FnOnce()) {
        self.world.begin(0);
        for cpu in 1..self.interrupts.len() {
            match self.world.take(cpu) {
                Taken::Idle => {}
                Taken::MustInterrupt => self.interrupts[cpu].store(true, Ordering::Relaxed),
            }
        }
        let mut next = 0;
        while !self.world.is_stopped(&mut next) {
            thread::yield_now();
        }
        self.touch();
        meanwhile();
        self.world.end(|_| {});
    }

    /// The producer's steps, for work that CPU 0 queues.
    fn produce(&self) {
        assert!(self.queue.local().push_back(g(0)).is_none());
        if self.idle.wake_one().is_some() && self.note.wake() == WakeAction::SendIpi {
            self.woken.store(true, Ordering::Relaxed);
        }
    }
}

fn p1() -> ProcId {
    ProcId::new(1).expect("a test's P")
}

/// A CPU that runs against a stop: never at the same time.
#[test]
fn a_runner_against_a_stop() {
    model(4, || {
        let machine = Machine::new(2);
        let runner = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.obey(1);
                machine.touch();
                machine.obey(1);
                machine.leave(1);
            })
        };
        machine.stop_and_start(|| {});
        runner.join().expect("the runner ends");
    });
}

/// The interrupt of a stop comes late, or again, when the CPU has stopped, and goes on at that moment: it is told of no stop
/// that is over.
#[test]
fn a_late_interrupt_against_the_end() {
    model(3, || {
        let machine = Machine::new(2);
        machine.world.begin(0);
        machine.world.must_stop(1).expect("a stop is on").stop();
        let handler = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.world.must_stop(1).is_some())
        };
        machine.world.end(|_| {});
        assert!(!handler.join().expect("the handler ends"), "it is told of a stop that is over");
    });
}

/// A CPU that goes to sleep and comes back, against two stops.
#[test]
fn a_sleeper_against_two_stops() {
    model(3, || {
        let machine = Machine::new(2);
        let sleeper = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.leave(1);
                machine.enter(1);
                machine.obey(1);
                machine.touch();
                machine.leave(1);
            })
        };
        machine.stop_and_start(|| {});
        machine.stop_and_start(|| {});
        sleeper.join().expect("the sleeper ends");
    });
}

/// Two CPUs that fall asleep: the stop waits for both, and neither is missed. Those that stop are not followed
/// further: two that wait would yield to each other for ever.
#[test]
fn two_others_against_a_stop() {
    model(2, || {
        let machine = Machine::new(3);
        let others: Vec<_> = [1, 2]
            .into_iter()
            .map(|cpu| {
                let machine = Arc::clone(&machine);
                thread::spawn(move || {
                    if machine.world.leave(cpu) == Left::Back
                        && let Some(must) = machine.world.must_stop(cpu)
                    {
                        must.stop();
                    }
                })
            })
            .collect();
        machine.stop_and_start(|| {});
        others.into_iter().for_each(|other| other.join().expect("it ends"));
    });
}

/// A CPU falls asleep while another stops the world, starts it, and has work: the work is not lost.
#[test]
fn an_idler_against_a_stop_and_work() {
    model(3, || {
        let machine = Machine::new(2);
        let idler = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.idle.go_idle(p1(), Spin::No);
                if machine.queue.is_empty() {
                    machine.leave(1);
                    let halted = machine.note.prepare();
                    if halted {
                        return true;
                    }
                    machine.enter(1);
                }
                let (LeftIdle::TookBack | LeftIdle::Claimed) = machine.idle.leave_idle(p1());
                machine.leave(1);
                false
            })
        };
        machine.stop_and_start(|| {});
        machine.produce();
        let halted = idler.join().expect("the idler ends");
        let lost = halted && !machine.woken.load(Ordering::Relaxed) && !machine.queue.is_empty();
        assert!(!lost, "work is queued, and the idler sleeps for ever");
    });
}

/// A timer's interrupt wakes a CPU that was taken: it waits for the end before it touches anything.
#[test]
fn a_timer_of_a_taken_cpu() {
    model(3, || {
        let machine = Machine::new(2);
        machine.leave(1);
        assert!(machine.note.prepare());
        let cpu = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                // The handler, on this very CPU.
                let (WakeAction::SendIpi | WakeAction::Nothing) = machine.note.wake();
                machine.note.clear();
                machine.enter(1);
                machine.obey(1);
                machine.touch();
                machine.leave(1);
            })
        };
        machine.stop_and_start(|| {});
        cpu.join().expect("the CPU ends");
    });
}

/// A goroutine parks on one CPU while another has the world stopped, and is readied when that is over: it ends in a queue
/// exactly once.
#[test]
fn a_park_across_a_stop() {
    model(3, || {
        let machine = Machine::new(2);
        let status = Arc::new(StatusWord::new());
        let generation = status.spawn().expect("dead");
        status.run().expect("runnable");
        let parker = {
            let (machine, status) = (Arc::clone(&machine), Arc::clone(&status));
            thread::spawn(move || {
                status.begin_park().expect("running");
                // Pinned here: a stop is left pending until the goroutine has left its stack.
                let enqueue = status.finish_park().expect("parking") == Parked::MustEnqueue;
                machine.obey(1);
                machine.leave(1);
                enqueue
            })
        };
        machine.stop_and_start(|| {});
        let mut readied = None;
        while readied.is_none() {
            // It may not have begun to park.
            readied = status.ready(generation).ok();
            thread::yield_now();
        }
        let by_parker = parker.join().expect("the parker ends");
        assert_eq!(by_parker, readied == Some(Ready::AlreadyUp), "one of the two enqueues it");
    });
}

/// A thief steals, is stopped in between, and goes on: the goroutine is in one place.
#[test]
fn a_thief_across_a_stop() {
    model(3, || {
        let machine = Machine::new(2);
        assert!(machine.queue.local().push_back(g(0)).is_none());
        let thief = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                let own = RunQueue::new();
                machine.obey(1);
                let stolen = machine.queue.steal_into(&own.local(), StealNext::Yes).is_some();
                machine.obey(1);
                machine.leave(1);
                stolen
            })
        };
        let mut drained = false;
        machine.stop_and_start(|| drained = machine.queue.local().pop().is_some());
        let stolen = thief.join().expect("the thief ends");
        assert!(stolen != drained, "it is taken once");
    });
}
