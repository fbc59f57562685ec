//! What must hold of a program that has run freely.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::model::{Completion, Outcome};
use crate::program::{Arm, Op, Program, value};

/// What each goroutine has seen, in its order: one completion for each step that it has made.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// By goroutine.
    pub steps: Vec<Vec<Completion>>,
    /// What was left in each channel at the end, first to last.
    pub left: Vec<Vec<u64>>,
}

/// A send or a receive that has taken place.
struct Passed {
    channel: usize,
    value: u64,
}

impl History {
    /// Checks all of it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, program: &Program) -> Result<(), String> {
        let mut sent: Vec<Vec<Passed>> = Vec::new();
        let mut received: Vec<Vec<Passed>> = Vec::new();
        for (goroutine, steps) in self.steps.iter().enumerate() {
            let (mut sends, mut recvs) = (Vec::new(), Vec::new());
            for (step, (over, op)) in steps.iter().zip(&program.goroutines[goroutine]).enumerate() {
                let arm = over.arm.unwrap_or(0);
                match (over.outcome, channel_of(op, arm)) {
                    (Outcome::Sent, Some(channel)) => {
                        sends.push(Passed { channel, value: value(goroutine, step, arm) });
                    }
                    (Outcome::Received(value), Some(channel)) => recvs.push(Passed { channel, value }),
                    (Outcome::Sent | Outcome::Received(_), None) => {
                        return Err(format!("goroutine {goroutine}, step {step}: {over:?} of {op:?}"));
                    }
                    _ => {}
                }
            }
            sent.push(sends);
            received.push(recvs);
        }
        self.each_once(&sent, &received)?;
        self.in_order(&sent, &received)
    }

    /// What was sent has come out once, where it went in, or was left.
    fn each_once(&self, sent: &[Vec<Passed>], received: &[Vec<Passed>]) -> Result<(), String> {
        let sent: BTreeSet<_> = sent.iter().flatten().map(|passed| (passed.channel, passed.value)).collect();
        let mut out = BTreeSet::new();
        let left = self.left.iter().enumerate().flat_map(|(c, left)| left.iter().map(move |v| (c, *v)));
        for passed in received.iter().flatten().map(|passed| (passed.channel, passed.value)).chain(left) {
            if !sent.contains(&passed) {
                return Err(format!("{passed:?} (channel, value) has come out and was not sent"));
            }
            if !out.insert(passed) {
                return Err(format!("{passed:?} (channel, value) has come out twice"));
            }
        }
        match sent.difference(&out).next() {
            Some(lost) => Err(format!("{lost:?} (channel, value) was sent and is lost")),
            None => Ok(()),
        }
    }

    /// Of one channel, what one goroutine has sent and one has received is in the same order for both.
    fn in_order(&self, sent: &[Vec<Passed>], received: &[Vec<Passed>]) -> Result<(), String> {
        // The place of each value among those of its sender.
        let mut places = BTreeMap::new();
        for (sender, values) in sent.iter().enumerate() {
            for (place, passed) in values.iter().enumerate() {
                places.insert((passed.channel, passed.value), (sender, place));
            }
        }
        let left = self.left.iter().enumerate().map(|(channel, values)| {
            values.iter().map(|value| Passed { channel, value: *value }).collect::<Vec<_>>()
        });
        let left: Vec<Vec<Passed>> = left.collect();
        for values in received.iter().chain(&left) {
            let mut last = BTreeMap::new();
            for passed in values {
                let Some((sender, place)) = places.get(&(passed.channel, passed.value)) else { continue };
                if let Some(before) = last.insert((passed.channel, *sender), *place)
                    && before > *place
                {
                    return Err(format!(
                        "channel {}: goroutine {sender} has sent {} earlier than what came before it",
                        passed.channel, passed.value
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The channel that a step, or an arm of it, is about.
fn channel_of(op: &Op, arm: usize) -> Option<usize> {
    match op {
        Op::Send(c) | Op::Recv(c) | Op::TrySend(c) | Op::TryRecv(c) | Op::Close(c) => Some(*c),
        Op::Select { arms, .. } => match arms.get(arm)? {
            Arm::Send(channel) | Arm::Recv(channel) => *channel,
        },
    }
}
