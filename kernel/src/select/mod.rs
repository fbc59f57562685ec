//! Waiting for any of several channels: [`select!`](crate::select!), and [`Select`] for a number of arms that is known when
//! the program runs.

mod arm;
mod builder;
mod macros;
mod run;

#[doc(hidden)]
pub use arm::{AfterArm, DefaultArm, RecvArm, SendArm};
pub use arm::{Deadline, Input, Sink, Source};
pub use builder::Select;
#[doc(hidden)]
pub use run::{Case, Chosen, Limit, run};

use crate::park::{WaitReason, gopark};

/// What `select! {}` does: waits, and is never readied. Go's empty `select`.
///
/// # Throws
/// When not called on a goroutine's own stack.
#[doc(hidden)]
#[track_caller]
pub fn for_ever() -> ! {
    loop {
        gopark(WaitReason::SelectNoCases, |_| true);
    }
}
