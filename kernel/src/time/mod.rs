//! Times, and waiting for them: what Go's package `time` has, without dates.
//!
//! An [`Instant`] is a time since the machine's start, and a [`Duration`] a length of time. [`sleep()`] and
//! [`sleep_until`] wait. A [`Timer`] delivers one instant on a channel, a [`Ticker`] one after another, and
//! [`after_func`] starts a goroutine; all of them can be stopped and set anew.
//!
//! ```
//! use gzero::time::{Duration, Instant, after, sleep};
//!
//! let start = Instant::now();
//! sleep(Duration::from_millis(2));
//! let then = after(Duration::from_millis(1)).recv();
//! assert!(then >= start + Duration::from_millis(3));
//! ```
//!
//! # The end of time
//!
//! No sum of times overflows: it stops at the end of time, [`Instant::NEVER`], 584 years after the start. What is set
//! to that never happens, and counts for nothing: goroutines that wait for it alone are deadlocked.
//!
//! # Who runs what is due
//!
//! The CPU on which a timer was set, as soon as it may be interrupted; else another that has nothing to do. Nothing
//! happens before its time, and how long after it depends on the machine.

mod channel;
mod func;
mod instant;
mod set;
mod sleep;
mod ticker;
mod timer;

pub use core::time::Duration;

pub use func::{FuncTimer, after_func};
pub use instant::Instant;
pub(crate) use set::{Does, Inner};
pub use sleep::{now, sleep, sleep_until};
pub use ticker::{Ticker, tick};
pub use timer::{Timer, after};
