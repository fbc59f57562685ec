//! Channels: no wake-up is lost, one waker wins, and a value is handed over before it is looked at.
//!
//! A goroutine is a thread here. It parks on a flag and a condition; a wake-up that is lost leaves it there for
//! ever, and the model checker reports a deadlock. A second ready of the same wait is noticed by the flag. Values lie in
//! words that are accessed in no order of their own: who looks too early may see an old one.

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use sched::chan::{Glance, Locked, Queue, RecvStep, SendStep, Side, Wait, Waiters, Woken, woken};
use sched::claim::{Claim, Claimed, Ticket};
use sched::sudog::Sudogs;
use sched::{GoIndex, GoRef, SudogIndex};

use crate::{g, model};

const GOROUTINES: usize = 3;

/// Where a goroutine waits until it is readied.
#[derive(Default)]
struct Bed {
    readied: Mutex<bool>,
    condition: Condvar,
}

#[derive(Default)]
struct Shared {
    sudogs: Option<Sudogs>,
    claims: [Claim; GOROUTINES],
    beds: [Bed; GOROUTINES],
    /// Goroutine g's slot for channel c is number 2 * g + c, as is its sudog.
    slots: [AtomicU32; 2 * GOROUTINES],
}

impl Waiters for Shared {
    fn sudogs(&self) -> &Sudogs {
        self.sudogs.as_ref().expect("set when it is made")
    }

    fn claim(&self, g: GoIndex) -> &Claim {
        &self.claims[g.get() as usize]
    }
}

/// Two channels without capacity.
struct Machine {
    shared: Shared,
    glances: [Glance; 2],
    queues: [Mutex<Queue>; 2],
    /// What the timer has of goroutine 0's wait.
    timer: Mutex<Option<Ticket>>,
}

/// What a select has come to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Value(usize, u32),
    Closed(usize),
    TimedOut,
}

impl Machine {
    fn new() -> Arc<Self> {
        let sudogs = Sudogs::new(8).expect("memory");
        while let Ok(chain) = sudogs.grow() {
            let mut rest = Some(chain);
            while let Some(chain) = rest {
                rest = chain.split_first(&sudogs).1;
            }
        }
        let shared = Shared { sudogs: Some(sudogs), ..Shared::default() };
        let queues = [Mutex::new(Queue::new(0)), Mutex::new(Queue::new(0))];
        Arc::new(Self { shared, glances: Default::default(), queues, timer: Mutex::new(None) })
    }

    fn with<R>(&self, c: usize, f: impl FnOnce(&mut Locked<'_, Shared>) -> R) -> R {
        let mut queue = self.queues[c].lock().expect("nobody panics");
        f(&mut Locked::new(&mut queue, &self.glances[c], &self.shared))
    }

    fn ready(&self, who: GoRef) {
        let bed = &self.shared.beds[who.index.get() as usize];
        let mut readied = bed.readied.lock().expect("nobody panics");
        assert!(!*readied, "readied twice");
        *readied = true;
        bed.condition.notify_one();
    }

    fn sleep(&self, me: usize) {
        let bed = &self.shared.beds[me];
        let mut readied = bed.readied.lock().expect("nobody panics");
        while !*readied {
            readied = bed.condition.wait(readied).expect("nobody panics");
        }
        *readied = false;
    }

    fn wait(me: usize, c: usize, ticket: Option<Ticket>) -> Wait {
        let g = GoRef { index: g(u32::try_from(me).expect("small")), generation: 0 };
        Wait { g, element: (2 * me + c) as u64, ticket, channel: c as u64 + 1 }
    }

    fn slot(&self, number: u64) -> &AtomicU32 {
        &self.shared.slots[usize::try_from(number).expect("small")]
    }

    /// Sends; `false` if the channel is closed.
    fn send(&self, me: usize, c: usize, value: u32) -> bool {
        let mine = (2 * me + c) as u64;
        self.slot(mine).store(value, Ordering::Relaxed);
        let step = self.with(c, |channel| {
            let step = channel.send();
            match step {
                SendStep::Hand(to) => self.slot(to.element).store(value, Ordering::Relaxed),
                SendStep::Wait => channel.enqueue(Side::Send, s(mine), &Self::wait(me, c, None)),
                SendStep::Store(_) | SendStep::Closed => {}
            }
            step
        });
        match step {
            SendStep::Hand(to) => self.ready(to.g),
            SendStep::Wait => {
                self.sleep(me);
                return woken(self.shared.sudogs(), s(mine)) == Woken::Passed;
            }
            SendStep::Store(_) => panic!("the channel has no places"),
            SendStep::Closed => return false,
        }
        true
    }

    /// Sends if somebody waits.
    fn try_send(&self, c: usize, value: u32) -> bool {
        if self.glances[c].try_send(0).is_some() {
            return false;
        }
        let step = self.with(c, |channel| {
            let step = channel.send();
            if let SendStep::Hand(to) = step {
                self.slot(to.element).store(value, Ordering::Relaxed);
            }
            step
        });
        if let SendStep::Hand(to) = step {
            self.ready(to.g);
        }
        matches!(step, SendStep::Hand(_))
    }

    /// Receives from the first of these channels that has a value.
    fn select(&self, me: usize, channels: &[usize], timeout: bool) -> Found {
        let mut queues: Vec<_> =
            channels.iter().map(|c| self.queues[*c].lock().expect("nobody panics")).collect();
        for (queue, &c) in queues.iter_mut().zip(channels) {
            let step = Locked::new(queue, &self.glances[c], &self.shared).recv();
            match step {
                RecvStep::Closed => return Found::Closed(c),
                RecvStep::Wait => {}
                RecvStep::Hand(from) => {
                    let value = self.slot(from.element).load(Ordering::Relaxed);
                    drop(queues);
                    self.ready(from.g);
                    return Found::Value(c, value);
                }
                RecvStep::Take(_) | RecvStep::Rotate(_, _) => panic!("the channel has no places"),
            }
        }
        let ticket = self.shared.claims[me].begin();
        for (queue, &c) in queues.iter_mut().zip(channels) {
            let number = (2 * me + c) as u64;
            Locked::new(queue, &self.glances[c], &self.shared).enqueue(
                Side::Recv,
                s(number),
                &Self::wait(me, c, Some(ticket)),
            );
        }
        drop(queues);
        if timeout {
            *self.timer.lock().expect("nobody panics") = Some(ticket);
        }
        self.sleep(me);
        let mut found = Found::TimedOut;
        for &c in channels {
            let number = (2 * me + c) as u64;
            match woken(self.shared.sudogs(), s(number)) {
                Woken::Passed => {
                    found = Found::Value(c, self.slot(number).load(Ordering::Relaxed));
                }
                Woken::Closed => found = Found::Closed(c),
                Woken::Otherwise => self.with(c, |channel| channel.dequeue(Side::Recv, s(number))),
            }
        }
        found
    }

    fn close(&self, c: usize) {
        self.with(c, |channel| channel.close());
        while let Some(waiter) = self.with(c, |channel| channel.wake_one()) {
            self.ready(waiter.g);
        }
    }

    /// The time of goroutine 0's first wait with a time-out has come, if it has begun one.
    fn time_out(&self) {
        let ticket = self.timer.lock().expect("nobody panics").take();
        if let Some(ticket) = ticket
            && self.shared.claims[0].claim(ticket) == Claimed::Yes
        {
            self.ready(Self::wait(0, 0, None).g);
        }
    }
}

fn s(n: u64) -> SudogIndex {
    SudogIndex::new(u32::try_from(n).expect("small")).expect("a test's index")
}

/// Runs `f` in another thread.
fn spawn<T: 'static>(
    machine: &Arc<Machine>,
    f: impl FnOnce(&Machine) -> T + 'static,
) -> thread::JoinHandle<T> {
    let machine = Arc::clone(machine);
    thread::spawn(move || f(&machine))
}

#[test]
fn a_sender_meets_a_receiver() {
    model(5, || {
        let machine = Machine::new();
        let sender = spawn(&machine, |machine| machine.send(1, 0, 7));
        assert_eq!(machine.select(0, &[0], false), Found::Value(0, 7));
        assert!(sender.join().expect("it ends"));
    });
}

#[test]
fn a_select_meets_a_close_and_a_sender() {
    model(3, || {
        let machine = Machine::new();
        let closer = spawn(&machine, |machine| machine.close(0));
        let sender = spawn(&machine, |machine| machine.send(2, 1, 9));
        let first = machine.select(0, &[0, 1], false);
        if first == Found::Closed(0) {
            assert_eq!(machine.select(0, &[1], false), Found::Value(1, 9));
        } else {
            assert_eq!(first, Found::Value(1, 9));
        }
        assert_eq!(machine.select(0, &[0], false), Found::Closed(0));
        closer.join().expect("it ends");
        assert!(sender.join().expect("it ends"));
    });
}

#[test]
fn two_senders_meet_one_select() {
    model(3, || {
        let machine = Machine::new();
        let senders = [0_u32, 1]
            .map(|c| spawn(&machine, move |machine| machine.send(1 + c as usize, c as usize, 10 + c)));
        let mut found = [machine.select(0, &[0, 1], false), machine.select(0, &[0, 1], false)];
        found.sort_by_key(|found| matches!(found, Found::Value(1, _)));
        assert_eq!(found, [Found::Value(0, 10), Found::Value(1, 11)]);
        for sender in senders {
            assert!(sender.join().expect("it ends"));
        }
    });
}

#[test]
fn a_time_out_meets_a_sender() {
    model(3, || {
        let machine = Machine::new();
        let timer = spawn(&machine, Machine::time_out);
        let sender = spawn(&machine, |machine| machine.send(1, 0, 5));
        let found = machine.select(0, &[0], true);
        if found == Found::TimedOut {
            assert_eq!(machine.select(0, &[0], false), Found::Value(0, 5));
        } else {
            assert_eq!(found, Found::Value(0, 5));
        }
        timer.join().expect("it ends");
        assert!(sender.join().expect("it ends"));
    });
}

#[test]
fn a_late_time_out_does_not_end_the_next_wait() {
    model(3, || {
        let machine = Machine::new();
        let sender = spawn(&machine, |machine| machine.send(1, 0, 5) && machine.send(1, 1, 6));
        let first = machine.select(0, &[0], true);
        assert_eq!(first, Found::Value(0, 5));
        let timer = spawn(&machine, Machine::time_out);
        assert_eq!(machine.select(0, &[1], false), Found::Value(1, 6));
        timer.join().expect("it ends");
        assert!(sender.join().expect("it ends"));
    });
}

#[test]
fn a_try_send_meets_a_receiver_or_leaves_it_alone() {
    model(3, || {
        let machine = Machine::new();
        let sender = spawn(&machine, |machine| {
            let first = machine.try_send(0, 1);
            if !first {
                machine.close(0);
            }
            first
        });
        let found = machine.select(0, &[0], false);
        let sent = sender.join().expect("it ends");
        assert_eq!(found, if sent { Found::Value(0, 1) } else { Found::Closed(0) });
    });
}
