//! The model: what a step of a program does, by looking through everything.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use crate::program::{Arm, Op, Program, value};

/// What a step has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The value was sent.
    Sent,
    /// A value was received.
    Received(u64),
    /// The channel was closed: the value has come back, or none will come.
    ChannelClosed,
    /// It would have had to wait.
    WouldWait,
    /// The step was to close, and it was the first to do so, or not.
    Close(bool),
    /// The driver has ended the wait.
    TimedOut,
}

/// A step that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Whose.
    pub goroutine: usize,
    /// The arm, if it was a select that has chosen one.
    pub arm: Option<usize>,
    /// What came of it.
    pub outcome: Outcome,
}

#[derive(Debug)]
struct Channel {
    capacity: usize,
    values: VecDeque<u64>,
    closed: bool,
}

/// A goroutine that waits. Those who came first stand first.
#[derive(Debug)]
struct Waiting {
    goroutine: usize,
    step: usize,
    arms: Vec<Arm>,
    is_select: bool,
}

impl Waiting {
    fn completion(&self, arm: usize, outcome: Outcome) -> Completion {
        Completion { goroutine: self.goroutine, arm: self.is_select.then_some(arm), outcome }
    }
}

/// The state of a program.
#[derive(Debug)]
pub struct Model {
    channels: Vec<Channel>,
    waiting: Vec<Waiting>,
    /// Steps that each goroutine has begun.
    begun: Vec<usize>,
    program: Program,
}

impl Model {
    /// A program that has not begun.
    pub fn new(program: &Program) -> Self {
        let new = |capacity: &usize| Channel { capacity: *capacity, values: VecDeque::new(), closed: false };
        Self {
            channels: program.channels.iter().map(new).collect(),
            waiting: Vec::new(),
            begun: vec![0; program.goroutines.len()],
            program: program.clone(),
        }
    }

    /// Whether a goroutine waits.
    pub fn waits(&self, goroutine: usize) -> bool {
        self.waiting.iter().any(|waiting| waiting.goroutine == goroutine)
    }

    /// Values in a channel, and whether it is closed.
    pub fn channel(&self, channel: usize) -> (usize, bool) {
        (self.channels[channel].values.len(), self.channels[channel].closed)
    }

    /// The values in a channel.
    pub fn values(&self, channel: usize) -> impl Iterator<Item = u64> {
        self.channels[channel].values.iter().copied()
    }

    /// The next step of a goroutine, and its number, if it does not wait and has one.
    pub fn next(&self, goroutine: usize) -> Option<(usize, &Op)> {
        let step = self.begun[goroutine];
        let op = self.program.goroutines[goroutine].get(step)?;
        if self.waits(goroutine) { None } else { Some((step, op)) }
    }

    /// Makes the next step of a goroutine. `chosen` is the arm that was chosen if it is a select that chose one at
    /// once. All steps that are over by it are returned, that of the goroutine itself first.
    ///
    /// # Panics
    /// The arm was not ready, or one was and none was chosen; or the goroutine has no step to make.
    pub fn step(&mut self, goroutine: usize, chosen: Option<usize>) -> Vec<Completion> {
        let (step, op) = self.next(goroutine).expect("a goroutine that can make a step");
        let op = op.clone();
        self.begun[goroutine] += 1;
        let (arms, may_wait, is_select) = match op {
            Op::Close(channel) => return self.close(goroutine, channel),
            Op::Send(channel) => (vec![Arm::Send(Some(channel))], true, false),
            Op::TrySend(channel) => (vec![Arm::Send(Some(channel))], false, false),
            Op::Recv(channel) => (vec![Arm::Recv(Some(channel))], true, false),
            Op::TryRecv(channel) => (vec![Arm::Recv(Some(channel))], false, false),
            Op::Select { arms, default, timeout: _ } => (arms, !default, true),
        };
        let ready: Vec<usize> = (0..arms.len()).filter(|arm| self.is_ready(arms[*arm])).collect();
        let arm = if is_select { chosen } else { ready.first().copied() };
        let waiting = Waiting { goroutine, step, arms, is_select };
        if let Some(arm) = arm {
            assert!(ready.contains(&arm), "arm {arm} was chosen, ready are {ready:?}");
            return self.carry_out(&waiting, arm);
        }
        assert!(ready.is_empty(), "no arm was chosen, ready are {ready:?}");
        if may_wait {
            self.waiting.push(waiting);
            return Vec::new();
        }
        vec![Completion { goroutine, arm: None, outcome: Outcome::WouldWait }]
    }

    /// Ends the wait of a goroutine.
    pub fn time_out(&mut self, goroutine: usize) {
        self.waiting.retain(|waiting| waiting.goroutine != goroutine);
    }

    /// The first who waits with such an arm.
    fn first(&self, arm: Arm) -> Option<(usize, usize)> {
        self.waiting
            .iter()
            .enumerate()
            .find_map(|(place, waiting)| Some((place, waiting.arms.iter().position(|other| *other == arm)?)))
    }

    fn is_ready(&self, arm: Arm) -> bool {
        match arm {
            Arm::Send(None) | Arm::Recv(None) => false,
            Arm::Send(Some(c)) => {
                let channel = &self.channels[c];
                channel.closed
                    || channel.values.len() < channel.capacity
                    || self.first(Arm::Recv(Some(c))).is_some()
            }
            Arm::Recv(Some(c)) => {
                let channel = &self.channels[c];
                channel.closed || !channel.values.is_empty() || self.first(Arm::Send(Some(c))).is_some()
            }
        }
    }

    /// Carries out an arm that is ready.
    fn carry_out(&mut self, by: &Waiting, arm: usize) -> Vec<Completion> {
        match by.arms[arm] {
            Arm::Send(None) | Arm::Recv(None) => Vec::new(),
            Arm::Send(Some(c)) => {
                if self.channels[c].closed {
                    return vec![by.completion(arm, Outcome::ChannelClosed)];
                }
                let value = value(by.goroutine, by.step, arm);
                let mut over = vec![by.completion(arm, Outcome::Sent)];
                if let Some((place, other)) = self.first(Arm::Recv(Some(c))) {
                    let receiver = self.waiting.remove(place);
                    over.push(receiver.completion(other, Outcome::Received(value)));
                } else {
                    self.channels[c].values.push_back(value);
                }
                over
            }
            Arm::Recv(Some(c)) => {
                // As if the first sender had found room: its value goes behind all others.
                let sender = self.first(Arm::Send(Some(c)));
                let sender = sender.map(|(place, other)| (self.waiting.remove(place), other));
                if let Some((sender, other)) = &sender {
                    self.channels[c].values.push_back(value(sender.goroutine, sender.step, *other));
                }
                match self.channels[c].values.pop_front() {
                    None => vec![by.completion(arm, Outcome::ChannelClosed)],
                    Some(value) => {
                        let mut over = vec![by.completion(arm, Outcome::Received(value))];
                        over.extend(sender.map(|(sender, other)| sender.completion(other, Outcome::Sent)));
                        over
                    }
                }
            }
        }
    }

    fn close(&mut self, goroutine: usize, channel: usize) -> Vec<Completion> {
        let first = !self.channels[channel].closed;
        self.channels[channel].closed = true;
        let mut over = vec![Completion { goroutine, arm: None, outcome: Outcome::Close(first) }];
        let arms = [Arm::Recv(Some(channel)), Arm::Send(Some(channel))];
        for side in arms {
            while let Some((place, arm)) = self.first(side) {
                over.push(self.waiting.remove(place).completion(arm, Outcome::ChannelClosed));
            }
        }
        over
    }
}
