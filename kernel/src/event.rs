//! What can happen at a time: an entry in a CPU's heap of timers.

use alloc::sync::Arc;
use core::fmt;

use machine::clock::Nanos;
use sched::GoRef;
use sched::claim::Ticket;
use sched::timers::Key;

/// What happens when its time has come.
pub(crate) enum Event {
    /// A goroutine sleeps no more.
    Sleeper(GoRef),
    /// The deadline of a wait that others may end, too.
    Timeout(GoRef, Ticket),
    /// Whatever a timer of the program does.
    Timer(Arc<dyn Expire>),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sleeper(g) => f.debug_tuple("Sleeper").field(g).finish(),
            Self::Timeout(g, ticket) => f.debug_tuple("Timeout").field(g).field(ticket).finish(),
            Self::Timer(_) => f.write_str("Timer"),
        }
    }
}

/// An event in a heap, by which it can be taken out before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerKey {
    /// The CPU whose heap it is in: an index into `Runtime::ms`.
    pub(crate) cpu: usize,
    pub(crate) key: Key,
}

/// A time that has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expired {
    /// The key that the event had.
    pub(crate) key: TimerKey,
    /// The time that it was set to.
    pub(crate) when: Nanos,
}

/// A timer of the program.
pub(crate) trait Expire: Send + Sync {
    /// Its time has come; or it was stopped or set anew since, which shows by the key.
    ///
    /// Called on the kernel stack with interrupts on and no lock held, by a CPU that stays pinned: it must not block, and
    /// not run code of the program, as the drop of the last reference to a closure would. It may
    /// [put the event back](crate::timers::put_back).
    fn expire(self: Arc<Self>, expired: Expired);
}
