//! Random programs of channels and selects on real channels and goroutines: in lock-step with the model, and freely.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use chanmodel::{Arm, Completion, History, Model, Op, Outcome, Program, Random, Timeouts, value};
use gzero::chan::{TryRecvError, TrySendError};
use gzero::select::Select;
use gzero::{GoRef, Mailbox, Receiver, Sender, WaitReason, chan, gosched, testing};
use tests::{Verdict, start, wait_until_alone};

tests::image! {
    pass: [
        two_hundred_programs_do_as_the_model,
        two_hundred_programs_run_freely,
    ],
}

const PROGRAMS: u64 = 200;

/// Room for the numbers of a program's values.
const VALUES: usize = 1 << 10;

/// How many of each value exist: none before it is made, and none after its drop.
#[derive(Clone)]
struct Ledger(Arc<Vec<[AtomicU32; 2]>>);

/// A value, by its number in the program.
struct Token {
    number: u64,
    ledger: Ledger,
}

impl Ledger {
    fn new() -> Self {
        Self(Arc::new((0..VALUES).map(|_| Default::default()).collect()))
    }

    /// The count of makes or drops of a value.
    fn count(&self, number: u64, which: usize) -> &AtomicU32 {
        let (goroutine, step, arm) = (number >> 32, number >> 8 & 0xff, number & 0xff);
        let place = usize::try_from((goroutine << 4 | step) << 3 | arm).expect("small");
        &self.0[place][which]
    }

    fn make(&self, number: u64) -> Token {
        self.count(number, 0).fetch_add(1, Ordering::AcqRel);
        Token { number, ledger: self.clone() }
    }

    /// Whether each value that was made was dropped once.
    fn check(&self) -> Result<(), String> {
        for (place, counts) in self.0.iter().enumerate() {
            let [made, dropped] = [0, 1].map(|which: usize| counts[which].load(Ordering::Acquire));
            if made != dropped || made > 1 {
                return Err(format!("value {place:#x} was made {made} times and dropped {dropped} times"));
            }
        }
        Ok(())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.ledger.count(self.number, 1).fetch_add(1, Ordering::AcqRel);
    }
}

/// The channels of a program, as each of its goroutines has them.
#[derive(Clone)]
struct World {
    channels: Vec<(Sender<Token>, Receiver<Token>)>,
    ledger: Ledger,
}

impl World {
    fn new(program: &Program) -> Self {
        Self { channels: program.channels.iter().map(|c| chan(*c)).collect(), ledger: Ledger::new() }
    }

    /// Carries out a step of a goroutine.
    fn step(&self, goroutine: usize, step: usize, op: &Op) -> Completion {
        let make = |arm| self.ledger.make(value(goroutine, step, arm));
        let received = |token: Token| Outcome::Received(token.number);
        let outcome = match op {
            Op::Send(c) => sent(self.channels[*c].0.send(make(0))),
            Op::Recv(c) => self.channels[*c].1.recv().map_or(Outcome::ChannelClosed, received),
            Op::TrySend(c) => match self.channels[*c].0.try_send(make(0)) {
                Ok(()) => Outcome::Sent,
                Err(TrySendError::Full(_)) => Outcome::WouldWait,
                Err(TrySendError::Closed(_)) => Outcome::ChannelClosed,
            },
            Op::TryRecv(c) => match self.channels[*c].1.try_recv() {
                Ok(token) => received(token),
                Err(TryRecvError::Empty) => Outcome::WouldWait,
                Err(TryRecvError::Closed) => Outcome::ChannelClosed,
            },
            Op::Close(c) => Outcome::Close(self.channels[*c].0.close()),
            Op::Select { arms, default, timeout: _ } => {
                let mut select = Select::new();
                for (a, arm) in arms.iter().enumerate() {
                    select = match arm {
                        Arm::Send(Some(c)) => {
                            select.send(&self.channels[*c].0, make(a), move |result| (Some(a), sent(result)))
                        }
                        Arm::Recv(Some(c)) => select.recv(&self.channels[*c].1, move |result| {
                            (Some(a), result.map_or(Outcome::ChannelClosed, received))
                        }),
                        Arm::Send(None) | Arm::Recv(None) => select,
                    };
                }
                let found = if *default { select.try_wait() } else { Some(select.wait()) };
                let (arm, outcome) = found.unwrap_or((None, Outcome::WouldWait));
                return Completion { goroutine, arm, outcome };
            }
        };
        Completion { goroutine, arm: None, outcome }
    }

    fn close(&self) {
        for (tx, _) in &self.channels {
            tx.close();
        }
    }
}

fn sent<E>(result: Result<(), E>) -> Outcome {
    result.map_or(Outcome::ChannelClosed, |()| Outcome::Sent)
}

/// Whether a goroutine waits in a channel.
fn waits(g: GoRef) -> bool {
    // Of a select whose channels are all absent nothing but the reason is left.
    let reasons = [
        WaitReason::ChanReceive,
        WaitReason::ChanSend,
        WaitReason::Select,
        WaitReason::SelectNoCases,
        WaitReason::NilChan,
    ];
    testing::waits_for(g).is_some_and(|reason| reasons.contains(&reason))
}

/// A goroutine that makes a step when it is told to, and tells what came of it.
struct Worker {
    g: GoRef,
    /// Whether to make another step.
    command: Arc<Mailbox<bool>>,
    report: Arc<Mailbox<Completion>>,
}

impl Worker {
    fn new(world: &World, goroutine: usize, script: Vec<Op>) -> Self {
        let (command, report) = (Arc::new(Mailbox::<bool>::new()), Arc::new(Mailbox::new()));
        let (told, tell, world) = (Arc::clone(&command), Arc::clone(&report), world.clone());
        let g = start(move || {
            for (step, op) in script.iter().enumerate() {
                if !told.take() {
                    return;
                }
                tell.put(world.step(goroutine, step, op));
            }
        });
        Self { g, command, report }
    }
}

/// Selects that would wait for ever, for nothing, are left out: nothing ends them.
fn program(seed: u64) -> Program {
    let mut program = Program::new(seed, Timeouts::Never);
    for op in program.goroutines.iter_mut().flatten() {
        if let Op::Select { arms, default, .. } = op {
            let mut seen = Vec::new();
            // Which of two equal arms is the first in the queue is not known here.
            arms.retain(|arm| {
                let first = !seen.contains(arm);
                seen.push(*arm);
                first
            });
            *default |= arms.iter().all(|arm| matches!(arm, Arm::Send(None) | Arm::Recv(None)));
        }
    }
    program
}

fn lock_step(seed: u64) -> Result<(), String> {
    let program = program(seed);
    let (world, mut model, mut random) = (World::new(&program), Model::new(&program), Random(seed));
    let workers: Vec<Worker> = (0..)
        .zip(&program.goroutines)
        .map(|(goroutine, script)| Worker::new(&world, goroutine, script.clone()))
        .collect();
    loop {
        let can: Vec<usize> = (0..workers.len()).filter(|me| model.next(*me).is_some()).collect();
        if can.is_empty() {
            break;
        }
        let me = can[random.below(can.len())];
        make_step(&workers, &mut model, me)?;
        for (c, (tx, _)) in world.channels.iter().enumerate() {
            let found = (tx.len(), tx.is_closed());
            if found != model.channel(c) {
                return Err(format!("channel {c} is {found:?}, the model's is {:?}", model.channel(c)));
            }
        }
        for (other, worker) in workers.iter().enumerate() {
            if waits(worker.g) != model.waits(other) {
                return Err(format!("goroutine {other} waits: {}", waits(worker.g)));
            }
        }
    }
    world.close();
    for (other, worker) in workers.iter().enumerate() {
        if model.waits(other) {
            worker.report.take();
        }
    }
    for (c, (_, rx)) in world.channels.iter().enumerate() {
        let left = rx.try_iter().map(|token| token.number);
        if !left.eq(model.values(c)) {
            return Err(format!("channel {c} holds other values than the model's"));
        }
    }
    for worker in &workers {
        worker.command.put(false);
    }
    wait_until_alone();
    world.ledger.check()
}

/// One goroutine makes a step; all that it wakes come to rest.
fn make_step(workers: &[Worker], model: &mut Model, me: usize) -> Result<(), String> {
    let step = model.next(me).map(|(number, op)| (number, op.clone()));
    workers[me].command.put(true);
    let found = loop {
        if let Some(found) = workers[me].report.try_take() {
            break Some(found);
        }
        if waits(workers[me].g) {
            break None;
        }
        gosched();
    };
    let mut over = model.step(me, found.and_then(|found| found.arm));
    let own = if over.is_empty() { None } else { Some(over.remove(0)) };
    if found != own {
        return Err(format!("goroutine {me}, {step:?}: found {found:?}, the model {own:?}"));
    }
    for woken in over {
        let worker = &workers[woken.goroutine];
        let found = loop {
            // Its wake came before the step that woke it was over.
            if waits(worker.g) {
                return Err(format!("goroutine {} still waits, after {step:?}", woken.goroutine));
            }
            if let Some(found) = worker.report.try_take() {
                break found;
            }
            gosched();
        };
        if found != woken {
            return Err(format!("after {step:?}: found {found:?}, the model {woken:?}"));
        }
    }
    Ok(())
}

fn two_hundred_programs_do_as_the_model() -> Verdict {
    for seed in 1..=PROGRAMS {
        lock_step(seed).map_err(|error| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}

fn run_freely(seed: u64) -> Result<(), String> {
    let program = program(seed);
    let world = World::new(&program);
    let results = Arc::new(Mailbox::new());
    let all: Vec<GoRef> = (0..)
        .zip(program.goroutines.clone())
        .map(|(goroutine, script)| {
            let (world, results) = (world.clone(), Arc::clone(&results));
            start(move || {
                let steps = script.iter().enumerate().map(|(step, op)| world.step(goroutine, step, op));
                let steps: Vec<Completion> = steps.collect();
                results.put((goroutine, steps));
            })
        })
        .collect();
    let mut history = History::default();
    history.steps.resize_with(all.len(), Vec::new);
    let mut missing: Vec<bool> = all.iter().map(|_| true).collect();
    while missing.contains(&true) {
        if let Some((goroutine, steps)) = results.try_take() {
            history.steps[goroutine] = steps;
            missing[goroutine] = false;
        } else if all.iter().zip(&missing).all(|(g, missing)| !missing || waits(*g)) {
            world.close();
        }
        gosched();
    }
    let left = |rx: &Receiver<Token>| rx.try_iter().map(|token| token.number).collect();
    history.left = world.channels.iter().map(|(_, rx)| left(rx)).collect();
    wait_until_alone();
    history.check(&program)?;
    world.ledger.check()
}

fn two_hundred_programs_run_freely() -> Verdict {
    for seed in 1..=PROGRAMS {
        run_freely(seed).map_err(|error| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}
