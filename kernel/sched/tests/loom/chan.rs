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
    /// A goroutine's slot for one side of a channel has the number of its sudog.
    slots: [AtomicU32; 4 * GOROUTINES],
}

impl Waiters for Shared {
    fn sudogs(&self) -> &Sudogs {
        self.sudogs.as_ref().expect("set when it is made")
    }

    fn claim(&self, g: GoIndex) -> &Claim {
        &self.claims[g.get() as usize]
    }
}

/// Two channels of equal capacity, 0 or 1.
struct Machine {
    shared: Shared,
    glances: [Glance; 2],
    queues: [Mutex<Queue>; 2],
    capacity: usize,
    /// The place of each channel's ring.
    rings: [AtomicU32; 2],
    /// What the timer has of goroutine 0's wait.
    timer: Mutex<Option<Ticket>>,
}

/// What a select may do with a channel.
#[derive(Clone, Copy)]
enum Case {
    Recv(usize),
    Send(usize, u32),
}

impl Case {
    fn channel(self) -> usize {
        match self {
            Self::Recv(c) | Self::Send(c, _) => c,
        }
    }

    fn side(self) -> Side {
        match self {
            Self::Recv(_) => Side::Recv,
            Self::Send(_, _) => Side::Send,
        }
    }

    /// Of the slot and the sudog of goroutine `me`.
    fn number(self, me: usize) -> u64 {
        (4 * me + 2 * self.channel() + usize::from(self.side() == Side::Send)) as u64
    }
}

/// What a select has come to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Value(usize, u32),
    Sent(usize),
    Closed(usize),
    TimedOut,
}

impl Machine {
    fn new() -> Arc<Self> {
        Self::with_capacity(0)
    }

    fn with_capacity(capacity: usize) -> Arc<Self> {
        let sudogs = Sudogs::leaked(12);
        while let Ok(chain) = sudogs.grow(|_| Ok(())) {
            let mut rest = Some(chain);
            while let Some(chain) = rest {
                rest = chain.split_first(&sudogs).1;
            }
        }
        let shared = Shared { sudogs: Some(sudogs), ..Shared::default() };
        let queues = [0, 1].map(|_| Mutex::new(Queue::new(capacity)));
        let (glances, rings, timer) = Default::default();
        Arc::new(Self { shared, glances, queues, capacity, rings, timer })
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

    fn goroutine(me: usize) -> GoRef {
        GoRef { index: g(u32::try_from(me).expect("small")), generation: 0 }
    }

    fn slot(&self, number: u64) -> &AtomicU32 {
        &self.shared.slots[usize::try_from(number).expect("small")]
    }

    /// A case's step under the lock, what comes of it, and who is to be readied.
    fn step(&self, channel: &mut Locked<'_, Shared>, case: Case) -> Option<(Found, Option<GoRef>)> {
        match case {
            Case::Send(c, value) => match channel.send() {
                SendStep::Wait => None,
                SendStep::Closed => Some((Found::Closed(c), None)),
                SendStep::Hand(to) => {
                    self.slot(to.element).store(value, Ordering::Relaxed);
                    Some((Found::Sent(c), Some(to.g)))
                }
                SendStep::Store(place) => {
                    assert_eq!(place, 0);
                    self.rings[c].store(value, Ordering::Relaxed);
                    Some((Found::Sent(c), None))
                }
            },
            Case::Recv(c) => {
                let (value, wake) = match channel.recv() {
                    RecvStep::Wait => return None,
                    RecvStep::Closed => return Some((Found::Closed(c), None)),
                    RecvStep::Hand(from) => (self.slot(from.element).load(Ordering::Relaxed), Some(from.g)),
                    RecvStep::Take(_) => (self.rings[c].load(Ordering::Relaxed), None),
                    RecvStep::Rotate(_, from) => {
                        let value = self.rings[c].load(Ordering::Relaxed);
                        let next = self.slot(from.element).load(Ordering::Relaxed);
                        self.rings[c].store(next, Ordering::Relaxed);
                        (value, Some(from.g))
                    }
                };
                Some((Found::Value(c, value), wake))
            }
        }
    }

    /// Sends; `false` if the channel is closed.
    fn send(&self, me: usize, c: usize, value: u32) -> bool {
        self.wait_for(me, &[Case::Send(c, value)], false, false) == Found::Sent(c)
    }

    /// Sends if somebody waits.
    fn try_send(&self, c: usize, value: u32) -> bool {
        if self.glances[c].try_send(self.capacity).is_some() {
            return false;
        }
        let step = self.with(c, |channel| self.step(channel, Case::Send(c, value)));
        if let Some((_, Some(wake))) = step {
            self.ready(wake);
        }
        matches!(step, Some((Found::Sent(_), _)))
    }

    /// Receives from the first of these channels that has a value.
    fn select(&self, me: usize, channels: &[usize], timeout: bool) -> Found {
        let cases: Vec<_> = channels.iter().map(|c| Case::Recv(*c)).collect();
        self.wait_for(me, &cases, true, timeout)
    }

    /// Carries out the first case that is ready. Only who waits for several things needs to be claimed.
    fn wait_for(&self, me: usize, cases: &[Case], claimed: bool, timeout: bool) -> Found {
        for case in cases {
            if let Case::Send(_, value) = case {
                self.slot(case.number(me)).store(*value, Ordering::Relaxed);
            }
        }
        let mut queues = [0, 1].map(|c| {
            let used = cases.iter().any(|case| case.channel() == c);
            used.then(|| self.queues[c].lock().expect("nobody panics"))
        });
        let mut with = |c: usize, f: &mut dyn FnMut(&mut Locked<'_, Shared>)| {
            let queue = queues[c].as_mut().expect("it is locked");
            f(&mut Locked::new(queue, &self.glances[c], &self.shared));
        };
        let mut done = None;
        for &case in cases.iter() {
            if done.is_none() {
                with(case.channel(), &mut |channel| done = self.step(channel, case));
            }
        }
        if let Some((found, wake)) = done {
            drop(queues);
            wake.into_iter().for_each(|g| self.ready(g));
            return found;
        }
        let ticket = claimed.then(|| self.shared.claims[me].begin());
        for case in cases {
            let number = case.number(me);
            let channel = case.channel() as u64 + 1;
            let wait = Wait { g: Self::goroutine(me), element: number, ticket, channel };
            let waiter = (s(number), self.shared.sudogs().get(s(number)));
            with(case.channel(), &mut |channel| channel.enqueue(case.side(), waiter, &wait));
        }
        drop(queues);
        if timeout {
            *self.timer.lock().expect("nobody panics") = ticket;
        }
        self.sleep(me);
        self.leave(me, cases)
    }

    /// After the wait: out of all queues. At most one case has been carried out.
    fn leave(&self, me: usize, cases: &[Case]) -> Found {
        let mut found = Found::TimedOut;
        for case in cases {
            let (c, number) = (case.channel(), case.number(me));
            let passed = match (woken(self.shared.sudogs().get(s(number))), case) {
                (Woken::Passed, Case::Recv(_)) => Found::Value(c, self.slot(number).load(Ordering::Relaxed)),
                (Woken::Passed, Case::Send(_, _)) => Found::Sent(c),
                (Woken::Closed, _) => Found::Closed(c),
                (Woken::Otherwise, _) => {
                    self.with(c, |channel| channel.dequeue(case.side(), self.shared.sudogs().get(s(number))));
                    continue;
                }
            };
            assert_eq!(found, Found::TimedOut, "one case is carried out");
            found = passed;
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
            self.ready(Self::goroutine(0));
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

/// One value in the ring, and one that waits for its place.
#[test]
fn a_ring_keeps_the_order() {
    model(4, || {
        let machine = Machine::with_capacity(1);
        let sender = spawn(&machine, |machine| (1..=3).all(|value| machine.send(1, 0, value)));
        let found = [0; 3].map(|c| machine.select(0, &[c], false));
        assert_eq!(found, [1, 2, 3].map(|value| Found::Value(0, value)));
        assert!(sender.join().expect("it ends"));
    });
}

/// A close in the middle: what was sent is received, and who waits to send learns that its value was not.
#[test]
fn a_full_ring_meets_a_close() {
    model(3, || {
        let machine = Machine::with_capacity(1);
        let sender = spawn(&machine, |machine| {
            let first = machine.send(1, 0, 1);
            (first, first && machine.send(1, 0, 2))
        });
        let closer = spawn(&machine, |machine| machine.close(0));
        let mut received = 0;
        while let Found::Value(0, value) = machine.select(0, &[0], false) {
            received += 1;
            assert_eq!(value, received);
        }
        let (first, second) = sender.join().expect("it ends");
        assert_eq!(u32::from(first) + u32::from(second), received);
        closer.join().expect("it ends");
    });
}

#[test]
fn a_select_that_sends_meets_a_close_and_a_receiver() {
    model(3, || {
        let machine = Machine::new();
        let receiver = spawn(&machine, |machine| machine.select(1, &[0], false));
        let closer = spawn(&machine, |machine| machine.close(1));
        let found = machine.wait_for(0, &[Case::Send(0, 7), Case::Recv(1)], true, false);
        if found == Found::Closed(1) {
            assert!(machine.send(0, 0, 7));
        } else {
            assert_eq!(found, Found::Sent(0));
        }
        assert_eq!(receiver.join().expect("it ends"), Found::Value(0, 7));
        closer.join().expect("it ends");
    });
}

/// Each offers a value and takes one, of the same channel; nobody takes its own.
#[test]
fn two_selects_meet_on_both_sides_of_a_channel() {
    model(4, || {
        let machine = Machine::new();
        let both = |me, value| {
            move |machine: &Machine| machine.wait_for(me, &[Case::Recv(0), Case::Send(0, value)], true, false)
        };
        let other = spawn(&machine, both(1, 11));
        let mine = both(0, 10)(&machine);
        let theirs = other.join().expect("it ends");
        assert!(
            (&mine, &theirs) == (&Found::Value(0, 11), &Found::Sent(0))
                || (&mine, &theirs) == (&Found::Sent(0), &Found::Value(0, 10)),
            "{mine:?} and {theirs:?}"
        );
        // Nor is anybody left in a queue.
        assert_eq!(machine.glances[0].try_send(0), Some(SendStep::Wait));
        assert_eq!(machine.glances[0].try_recv(), Some(RecvStep::Wait));
    });
}
