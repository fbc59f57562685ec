//! Random programs of channels and selects, step by step against a naive model.
//!
//! The driver plays the kernel: it has the values, readies goroutines, and lets one make a step at a time. Two things it
//! delays at will: a woken goroutine takes its other sudogs out of their queues only when it is let go on, so that others find
//! them there; and a time-out may come for a wait that is long over.

use core::mem::replace;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use chanmodel::{Arm, Completion, Model, Op, Outcome, Program, Random, Timeouts, value};
use sched::chan::{Glance, Locked, Queue, RecvStep, SendStep, Side, Wait, Waiter, Waiters, Woken, woken};
use sched::claim::{Claim, Claimed, Ticket};
use sched::sudog::Sudogs;
use sched::{GoIndex, GoRef, SudogIndex};

const PROGRAMS: u64 = 10_000;

/// Sudogs that each goroutine has.
const SUDOGS: usize = 6;

struct World {
    sudogs: Sudogs,
    claims: Vec<Claim>,
}

impl Waiters for World {
    fn sudogs(&self) -> &Sudogs {
        &self.sudogs
    }

    fn claim(&self, g: GoIndex) -> &Claim {
        &self.claims[g.get() as usize]
    }
}

struct Channel {
    capacity: usize,
    queue: Queue,
    glance: Glance,
    ring: Vec<Option<u64>>,
}

/// A goroutine that waits or is not yet let go on.
struct Waiting {
    arms: Vec<Arm>,
    kind: Kind,
    ticket: Ticket,
    state: State,
}

/// What a goroutine waits in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    OneChannel,
    Select,
    SelectUntil,
}

impl Kind {
    /// The arm, where a completion names it.
    fn arm(self, arm: usize) -> Option<usize> {
        (self != Self::OneChannel).then_some(arm)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Readied,
    TimedOut,
}

/// What the kernel and its memory are.
struct Machine {
    world: World,
    channels: Vec<Channel>,
    /// The slots of goroutine g's arm a are number g * SUDOGS + a, as are its sudogs.
    slots: Vec<Option<u64>>,
    waiting: Vec<Option<Waiting>>,
    /// Tickets of waits that are over.
    old: Vec<(usize, Ticket)>,
}

fn s(n: usize) -> SudogIndex {
    SudogIndex::new(u32::try_from(n).expect("small")).expect("small")
}

fn g(n: usize) -> GoRef {
    let index = GoIndex::new(u32::try_from(n).expect("small")).expect("small");
    GoRef { index, generation: 0 }
}

impl Machine {
    fn new(program: &Program) -> Self {
        let goroutines = program.goroutines.len();
        let sudogs = Sudogs::leaked(256);
        let mut rest = sudogs.grow(|_| Ok(())).ok();
        while let Some(chain) = rest {
            rest = chain.split_first(&sudogs).1;
        }
        let channel = |capacity: &usize| Channel {
            capacity: *capacity,
            queue: Queue::new(*capacity),
            glance: Glance::new(),
            ring: vec![None; *capacity],
        };
        Self {
            world: World { sudogs, claims: (0..goroutines).map(|_| Claim::new()).collect() },
            channels: program.channels.iter().map(channel).collect(),
            slots: vec![None; goroutines * SUDOGS],
            waiting: (0..goroutines).map(|_| None).collect(),
            old: Vec::new(),
        }
    }

    fn locked(&mut self, channel: usize) -> Locked<'_, World> {
        let channel = &mut self.channels[channel];
        Locked::new(&mut channel.queue, &channel.glance, &self.world)
    }

    fn ready(&mut self, waiter: Waiter) {
        let waiting = self.waiting[waiter.g.index.get() as usize].as_mut().expect("it waits");
        assert!(waiting.state == State::Waits, "a goroutine is readied twice");
        waiting.state = State::Readied;
    }

    fn slot(&mut self, waiter: Waiter) -> &mut Option<u64> {
        &mut self.slots[usize::try_from(waiter.element).expect("small")]
    }

    /// Tries an arm. `None`: it would have to wait.
    fn try_arm(&mut self, arm: Arm, value: u64) -> Option<Outcome> {
        match arm {
            Arm::Send(None) | Arm::Recv(None) => None,
            Arm::Send(Some(c)) => match self.locked(c).send() {
                SendStep::Wait => None,
                SendStep::Closed => Some(Outcome::ChannelClosed),
                SendStep::Store(place) => {
                    assert_eq!(self.channels[c].ring[place].replace(value), None, "the place is free");
                    Some(Outcome::Sent)
                }
                SendStep::Hand(waiter) => {
                    *self.slot(waiter) = Some(value);
                    self.ready(waiter);
                    Some(Outcome::Sent)
                }
            },
            Arm::Recv(Some(c)) => {
                let step = self.locked(c).recv();
                match step {
                    RecvStep::Wait => None,
                    RecvStep::Closed => Some(Outcome::ChannelClosed),
                    RecvStep::Take(place) => self.channels[c].ring[place].take().map(Outcome::Received),
                    RecvStep::Rotate(place, waiter) => {
                        let new = self.slot(waiter).take();
                        self.ready(waiter);
                        replace(&mut self.channels[c].ring[place], new).map(Outcome::Received)
                    }
                    RecvStep::Hand(waiter) => {
                        let value = self.slot(waiter).take();
                        self.ready(waiter);
                        value.map(Outcome::Received)
                    }
                }
            }
        }
    }

    /// One step of goroutine `me`: over, or it waits.
    fn step(&mut self, me: usize, number: usize, op: &Op, random: &mut Random) -> Option<Completion> {
        let over = |arm, outcome| Some(Completion { goroutine: me, arm, outcome });
        let (arms, may_wait, kind) = match op {
            Op::Close(c) => {
                let first = self.locked(*c).close();
                while let Some(waiter) = self.locked(*c).wake_one() {
                    self.ready(waiter);
                }
                return over(None, Outcome::Close(first));
            }
            Op::Send(c) => (vec![Arm::Send(Some(*c))], true, Kind::OneChannel),
            Op::TrySend(c) => (vec![Arm::Send(Some(*c))], false, Kind::OneChannel),
            Op::Recv(c) => (vec![Arm::Recv(Some(*c))], true, Kind::OneChannel),
            Op::TryRecv(c) => (vec![Arm::Recv(Some(*c))], false, Kind::OneChannel),
            Op::Select { arms, default, timeout } => {
                (arms.clone(), !default, if *timeout { Kind::SelectUntil } else { Kind::Select })
            }
        };
        let first = random.below(arms.len());
        for turn in 0..arms.len() {
            let arm = (first + turn) % arms.len();
            if let Some(outcome) = self.try_arm(arms[arm], value(me, number, arm)) {
                return over(kind.arm(arm), outcome);
            }
        }
        if !may_wait {
            return over(None, Outcome::WouldWait);
        }
        let ticket = self.world.claims[me].begin();
        self.wait(me, number, Waiting { arms, kind, ticket, state: State::Waits });
        None
    }

    fn wait(&mut self, me: usize, number: usize, waiting: Waiting) {
        for (a, arm) in waiting.arms.iter().enumerate() {
            let (side, channel, slot) = match arm {
                Arm::Send(Some(c)) => (Side::Send, *c, Some(value(me, number, a))),
                Arm::Recv(Some(c)) => (Side::Recv, *c, None),
                Arm::Send(None) | Arm::Recv(None) => continue,
            };
            let element = me * SUDOGS + a;
            self.slots[element] = slot;
            // One that waits for nothing else needs no claim.
            let alone = waiting.kind == Kind::OneChannel;
            let ticket = (!alone).then_some(waiting.ticket);
            let wait = Wait { g: g(me), element: element as u64, ticket, channel: channel as u64 + 1 };
            let waiter = (s(element), self.world.sudogs.get(s(element)));
            let channel = &mut self.channels[channel];
            Locked::new(&mut channel.queue, &channel.glance, &self.world).enqueue(side, waiter, &wait);
        }
        self.waiting[me] = Some(waiting);
    }

    /// Lets a goroutine go on that was readied.
    fn go_on(&mut self, me: usize) -> Completion {
        let waiting = self.waiting[me].take().expect("it was readied");
        let mut over = None;
        for (a, arm) in waiting.arms.iter().enumerate() {
            let (side, channel) = match arm {
                Arm::Send(Some(c)) => (Side::Send, *c),
                Arm::Recv(Some(c)) => (Side::Recv, *c),
                Arm::Send(None) | Arm::Recv(None) => continue,
            };
            let element = me * SUDOGS + a;
            let outcome = match (woken(self.world.sudogs.get(s(element))), side) {
                (Woken::Otherwise, _) => {
                    let sudog = self.world.sudogs.get(s(element));
                    self.locked(channel).dequeue(side, sudog);
                    continue;
                }
                (Woken::Closed, _) => Outcome::ChannelClosed,
                (Woken::Passed, Side::Send) => {
                    assert_eq!(self.slots[element], None, "the value was taken");
                    Outcome::Sent
                }
                (Woken::Passed, Side::Recv) => {
                    Outcome::Received(self.slots[element].take().expect("a value was put there"))
                }
            };
            assert!(over.is_none(), "two arms were chosen");
            over = Some(Completion { goroutine: me, arm: waiting.kind.arm(a), outcome });
        }
        if waiting.kind == Kind::OneChannel {
            // Nobody claims who waits for one thing; the next wait has another number all the same.
            assert_eq!(self.world.claims[me].claim(waiting.ticket), Claimed::Yes);
        }
        self.old.push((me, waiting.ticket));
        if waiting.state == State::TimedOut {
            assert!(over.is_none(), "an arm was chosen although the time-out was first");
            return Completion { goroutine: me, arm: None, outcome: Outcome::TimedOut };
        }
        over.expect("it was readied by one of its arms")
    }

    /// The time of a wait has come. Whether that ends it.
    fn time_out(&mut self, me: usize) -> bool {
        let waiting = self.waiting[me].as_mut().expect("it waits");
        match self.world.claims[me].claim(waiting.ticket) {
            Claimed::No => false,
            Claimed::Yes => {
                assert!(waiting.state == State::Waits, "a readied goroutine can still be claimed");
                waiting.state = State::TimedOut;
                true
            }
        }
    }
}

/// A program on its way, on the machine and in the model.
struct Run {
    machine: Machine,
    model: Model,
    random: Random,
    /// What the model says a woken goroutine will find.
    expected: Vec<Option<Completion>>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let program = Program::new(seed, Timeouts::Sometimes);
        Self {
            machine: Machine::new(&program),
            model: Model::new(&program),
            random: Random(seed),
            expected: vec![None; program.goroutines.len()],
        }
    }

    /// Somebody can make a step, go on, or time out.
    fn any(&mut self) -> Option<usize> {
        let can = |me: &usize| match &self.machine.waiting[*me] {
            Some(waiting) => waiting.state != State::Waits || waiting.kind == Kind::SelectUntil,
            None => self.model.next(*me).is_some(),
        };
        let all: Vec<usize> = (0..self.expected.len()).filter(can).collect();
        if all.is_empty() { None } else { Some(all[self.random.below(all.len())]) }
    }

    /// A time-out comes for a wait that is over.
    fn late_time_out(&mut self) {
        if let Some((me, ticket)) = self.machine.old.pop() {
            assert_eq!(self.machine.world.claims[me].claim(ticket), Claimed::No, "the wait is over");
            if self.random.one_in(2) {
                self.machine.old.insert(0, (me, ticket));
            }
        }
    }

    fn step(&mut self, me: usize) {
        let Some(waiting) = &self.machine.waiting[me] else { return self.begin(me) };
        if waiting.state == State::Waits {
            assert!(self.machine.time_out(me), "nobody has ended the wait before");
            self.model.time_out(me);
            self.expected[me] = Some(Completion { goroutine: me, arm: None, outcome: Outcome::TimedOut });
        } else {
            let found = self.machine.go_on(me);
            assert_eq!(Some(found), self.expected[me].take(), "what goroutine {me} finds");
        }
    }

    /// A goroutine that does not wait makes its next step.
    fn begin(&mut self, me: usize) {
        let (number, op) = self.model.next(me).expect("it can make a step");
        let op = op.clone();
        let found = self.machine.step(me, number, &op, &mut self.random);
        let mut over = self.model.step(me, found.and_then(|found| found.arm));
        let own = (!over.is_empty()).then(|| over.remove(0));
        assert_eq!(found, own, "step {number} of goroutine {me}: {op:?}");
        for woken in over {
            assert_eq!(self.expected[woken.goroutine].replace(woken), None, "woken twice");
        }
    }

    /// What is left in the channels at the end.
    fn compare_what_is_left(&mut self) {
        for (c, channel) in self.machine.channels.iter_mut().enumerate() {
            let mut left = Vec::new();
            let mut locked = Locked::new(&mut channel.queue, &channel.glance, &self.machine.world);
            while left.len() < self.model.channel(c).0 {
                match locked.recv() {
                    RecvStep::Take(place) | RecvStep::Rotate(place, _) => {
                        left.extend(channel.ring[place].take());
                    }
                    RecvStep::Hand(_) | RecvStep::Wait | RecvStep::Closed => break,
                }
            }
            assert!(self.model.values(c).eq(left), "what is left in channel {c}");
        }
    }
}

/// Runs a program to its end.
fn run(seed: u64) {
    let mut run = Run::new(seed);
    while let Some(me) = run.any() {
        run.late_time_out();
        run.step(me);
        compare(&run.machine, &run.model, &run.expected);
    }
    run.compare_what_is_left();
}

/// What can be seen from outside.
fn compare(machine: &Machine, model: &Model, expected: &[Option<Completion>]) {
    for (c, channel) in machine.channels.iter().enumerate() {
        let (len, closed) = model.channel(c);
        assert_eq!((channel.glance.len(), channel.glance.is_closed()), (len, closed), "channel {c}");
        // Without the lock a step may fail only if it would with it.
        match channel.glance.try_send(channel.capacity) {
            Some(SendStep::Closed) => assert!(closed),
            Some(SendStep::Wait) => assert!(!closed && len == channel.capacity),
            Some(SendStep::Hand(_) | SendStep::Store(_)) => panic!("a glance moves nothing"),
            None => assert!(!closed),
        }
        match channel.glance.try_recv() {
            Some(RecvStep::Closed) => assert!(closed && len == 0),
            Some(RecvStep::Wait) => assert!(!closed && len == 0),
            Some(_) => panic!("a glance moves nothing"),
            None => {}
        }
    }
    for (me, waiting) in machine.waiting.iter().enumerate() {
        let waits = waiting.as_ref().is_some_and(|waiting| waiting.state == State::Waits);
        assert_eq!(waits, model.waits(me), "whether goroutine {me} waits");
        let readied = waiting.as_ref().is_some_and(|waiting| waiting.state != State::Waits);
        assert_eq!(readied, expected[me].is_some(), "whether goroutine {me} is woken");
    }
}

#[test]
fn random_programs_do_as_the_model() {
    for seed in 1..=PROGRAMS {
        if let Err(error) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("seed {seed}: {:#?}", Program::new(seed, Timeouts::Sometimes));
            std::panic::resume_unwind(error);
        }
    }
}
