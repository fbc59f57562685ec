//! No wake-up is lost: queues, idle mask, spinners and notes together.
//!
//! A halted CPU is modelled by what it leaves behind: it halted, and either an interrupt was sent to it or
//! not. At the end of a run, work in a queue with every P asleep for ever is a lost wake-up.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use sched::ProcId;
use sched::idle::{Idle, Left, Spin, Spinner};
use sched::note::{Note, WakeAction};
use sched::runq::{RunQueue, StealNext};

use crate::{g, model};

/// The P with index `n`.
fn p(n: u32) -> ProcId {
    ProcId::new(n).expect("a test's P")
}

/// A machine; the index of a queue and a note is that of its P.
struct Machine {
    idle: Idle,
    queues: Vec<RunQueue>,
    notes: Vec<Note>,
    interrupts: Vec<AtomicBool>,
}

/// How an idler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It holds a goroutine.
    Working,
    /// It found nothing, and executes `hlt`.
    Halted,
}

impl Machine {
    fn new(procs: u32) -> Arc<Self> {
        Arc::new(Self {
            idle: Idle::new(procs),
            queues: (0..procs).map(|_| RunQueue::new()).collect(),
            notes: (0..procs).map(|_| Note::new()).collect(),
            interrupts: (0..procs).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// The producer's three steps on the P `from`.
    fn produce(&self, from: u32, goroutine: u32) {
        assert!(self.queues[from as usize].local().push_back(g(goroutine)).is_none());
        self.wake();
    }

    /// Steps 2 and 3 of a producer, or the duty of a last spinner.
    fn wake(&self) {
        if let Some(claimed) = self.idle.wake_one()
            && self.notes[claimed.index()].wake() == WakeAction::SendIpi
        {
            self.interrupts[claimed.index()].store(true, Ordering::Relaxed);
        }
    }

    /// A spinning P looks at all queues once.
    fn steal(&self, me: u32) -> bool {
        let thief = self.queues[me as usize].local();
        self.queues
            .iter()
            .enumerate()
            .any(|(i, queue)| i != me as usize && queue.steal_into(&thief, StealNext::Yes).is_some())
    }

    /// Whether any queue holds work: the idler's third step.
    fn recheck(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
    }

    /// Steals if counted as spinning; a last spinner passes its duty on.
    fn search(&self, me: u32, spin: Spin) -> bool {
        let found = spin == Spin::Yes && self.steal(me);
        if found && self.idle.stop_spinning() == Spinner::Last {
            self.wake();
        }
        found
    }

    /// A P without work, from its first step on. It does not sleep in the model: it says that it would.
    fn idle(&self, me: u32, mut spin: Spin) -> Ended {
        // Once more than there are goroutines to be found by others before it comes to them.
        for _ in 0..3 {
            if self.search(me, spin) {
                return Ended::Working;
            }
            self.idle.go_idle(p(me), spin);
            if !self.recheck() && self.notes[me as usize].prepare() {
                return Ended::Halted;
            }
            self.notes[me as usize].clear();
            let (Left::TookBack | Left::Claimed) = self.idle.leave_idle(p(me));
            spin = Spin::Yes;
        }
        // It looks again and again: awake, so nothing is lost.
        Ended::Working
    }

    /// An idle P that runs again for an interrupt that is none of ours, finds nothing, and goes back to sleep
    /// unless its third step shows work.
    fn idle_again(&self, me: u32) -> Ended {
        let (Left::TookBack | Left::Claimed) = self.idle.leave_idle(p(me));
        self.notes[me as usize].clear();
        self.idle.go_idle(p(me), Spin::Yes);
        let halted = !self.recheck() && self.notes[me as usize].prepare();
        if halted { Ended::Halted } else { Ended::Working }
    }

    /// Asserts that nobody sleeps for ever beside work. `ended` is how each idler ended, in the order of
    /// `ids`.
    fn assert_not_lost(&self, idlers: &[(u32, Ended)]) {
        let work = self.recheck();
        let asleep = idlers.iter().all(|&(id, ended)| {
            ended == Ended::Halted && !self.interrupts[id as usize].load(Ordering::Relaxed)
        });
        assert!(!(work && asleep), "lost wake-up: work is queued and {idlers:?} sleep");
    }
}

/// A P that runs dry against a producer.
#[test]
fn idler_against_producer() {
    model(5, || {
        let machine = Machine::new(2);
        let idler = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.idle(1, Spin::No))
        };
        machine.produce(0, 0);
        let ended = idler.join().expect("the idler ends");
        machine.assert_not_lost(&[(1, ended)]);
        assert!(ended == Ended::Working || machine.interrupts[1].load(Ordering::Relaxed));
    });
}

/// The producer trusts a spinner that is about to give up.
#[test]
fn spinner_that_gives_up_against_producer() {
    model(5, || {
        let machine = Machine::new(2);
        let spin = machine.idle.try_spin();
        assert_eq!(spin, Spin::Yes);
        let idler = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.idle(1, Spin::Yes))
        };
        machine.produce(0, 0);
        let ended = idler.join().expect("the idler ends");
        machine.assert_not_lost(&[(1, ended)]);
    });
}

/// The spinner finds another producer's work; one more P is asleep already and must be woken for the rest.
#[test]
fn last_spinner_passes_its_duty_on() {
    model(6, || {
        let machine = Machine::new(3);
        let local = machine.queues[0].local();
        assert!(local.push_back(g(0)).is_none());
        machine.idle.go_idle(p(2), Spin::No);
        assert!(machine.notes[2].prepare());
        // P1 spins; P0 pushes a second goroutine and trusts it.
        assert_eq!(machine.idle.try_spin(), Spin::Yes);
        let idler = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.idle(1, Spin::Yes))
        };
        machine.produce(0, 1);
        let ended = idler.join().expect("the idler ends");
        machine.assert_not_lost(&[(1, ended), (2, Ended::Halted)]);
        let left = machine.recheck();
        let woken = machine.interrupts[2].load(Ordering::Relaxed);
        assert!(!left || woken, "work is left, P1 is busy with its own, and P2 sleeps");
    });
}

/// A spinner that is not the last leaves the rest of its loot to the last one, which must see it.
#[test]
fn the_last_spinner_sees_the_loot_of_the_others() {
    model(3, || {
        let machine = Machine::new(3);
        for n in 0..3 {
            assert!(machine.queues[0].local().push_back(g(n)).is_none());
        }
        assert_eq!([machine.idle.try_spin(), machine.idle.try_spin()], [Spin::Yes; 2]);
        let thief = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.search(1, Spin::Yes))
        };
        let idler = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                machine.idle.go_idle(p(2), Spin::Yes);
                !machine.recheck() && machine.notes[2].prepare()
            })
        };
        // P0 runs what the thief leaves.
        while machine.queues[0].local().pop().is_some() {}
        thief.join().expect("the thief ends");
        let halted = idler.join().expect("the idler ends") && !machine.interrupts[2].load(Ordering::Relaxed);
        assert!(!(halted && machine.recheck()), "loot is left in P1's ring and P2 sleeps");
    });
}

/// Two producers, one idler: who loses the race for its bit must not be trusted as a spinner.
#[test]
fn a_waker_without_a_bit_looks_again() {
    model(4, || {
        let machine = Machine::new(3);
        // P2 has gone to sleep, and now runs again for a timer that is none of ours.
        machine.idle.go_idle(p(2), Spin::No);
        let sleeper = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.idle_again(2))
        };
        // A last spinner on P1 that wakes in the producers' place.
        let other = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.wake())
        };
        machine.produce(0, 0);
        let ended = sleeper.join().expect("the sleeper ends");
        other.join().expect("the waker ends");
        machine.assert_not_lost(&[(2, ended)]);
    });
}

/// Two wakers for one sleeper: one of them claims it, and one interrupt is sent.
#[test]
fn one_sleeper_is_claimed_once() {
    model(4, || {
        let machine = Machine::new(3);
        machine.idle.go_idle(p(2), Spin::No);
        assert!(machine.notes[2].prepare());
        let other = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.idle.wake_one())
        };
        let mine = machine.idle.wake_one();
        let theirs = other.join().expect("the waker ends");
        let claimed: Vec<_> = [mine, theirs].into_iter().flatten().collect();
        assert_eq!(claimed, [p(2)]);
        assert_eq!(machine.idle.spinning_count(), 1);
        assert_eq!(machine.idle.idle_count(), 0);
        assert_eq!(machine.idle.leave_idle(p(2)), Left::Claimed);
    });
}

/// A waker takes one bit while another P sets its own in the same word.
#[test]
fn a_claim_leaves_the_other_bits_alone() {
    model(6, || {
        let machine = Machine::new(3);
        machine.idle.go_idle(p(2), Spin::No);
        let waker = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.idle.wake_one())
        };
        machine.idle.go_idle(p(1), Spin::No);
        let claimed = waker.join().expect("the waker ends").expect("one is idle all the time");
        for id in [p(1), p(2)] {
            assert_eq!(machine.idle.is_idle(id), id != claimed);
        }
        assert_eq!(machine.idle.idle_count(), 1);
    });
}

/// A P runs again for a reason of its own while a waker wants it: one of them takes the bit.
#[test]
fn a_bit_is_claimed_or_taken_back() {
    model(6, || {
        let machine = Machine::new(2);
        machine.idle.go_idle(p(1), Spin::No);
        let waker = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.idle.wake_one())
        };
        let left = machine.idle.leave_idle(p(1));
        let claimed = waker.join().expect("the waker ends");
        assert_eq!(left == Left::Claimed, claimed == Some(p(1)));
        assert_eq!(machine.idle.spinning_count(), 1, "the P spins, on whose account ever");
        assert_eq!(machine.idle.idle_count(), 0);
    });
}

/// A thief with more than it can run wakes one more, while the producer trusts the spinner that this counts, and an idle P, which
/// either may claim, runs by itself and goes back to sleep.
#[test]
fn a_waker_that_fans_out_may_be_trusted() {
    model(3, || {
        let machine = Machine::new(3);
        machine.idle.go_idle(p(2), Spin::No);
        assert!(machine.notes[2].prepare());
        let idler = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.idle_again(2))
        };
        let thief = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                if let Some(claimed) = machine.idle.wake_more()
                    && machine.notes[claimed.index()].wake() == WakeAction::SendIpi
                {
                    machine.interrupts[claimed.index()].store(true, Ordering::Relaxed);
                }
            })
        };
        machine.produce(0, 0);
        thief.join().expect("the thief ends");
        let ended = idler.join().expect("the idler ends");
        machine.assert_not_lost(&[(2, ended)]);
    });
}
