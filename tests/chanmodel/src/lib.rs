//! Random programs of channels and selects, and a naive model of what they do.
//!
//! A [`Program`] is made from a seed: some channels, some goroutines, and what each does. Two tests run the same programs: one
//! on the host against the state machine in `sched`, one in an image against real channels and goroutines.
//!
//! In lock-step a driver lets one goroutine make one step at a time and tells the [`Model`] the same; after each, both must
//! agree on who waits, on all results, and on the lengths. The model knows nothing of queues and wake-ups: it has a list
//! of those who wait, in the order in which they came, and looks through all of it. What is free to be chosen at random, the arm of a
//! select, it is told, and says whether that was ready.
//!
//! Running freely there is no one right result; [`History`] says what must hold all the same.
#![no_std]

extern crate alloc;

mod history;
mod model;
mod program;

pub use history::History;
pub use model::{Completion, Model, Outcome};
pub use program::{Arm, Op, Program, Random, Timeouts, value};
