//! A select whose number of arms is known when it runs.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::arm::{RecvArm, SendArm, Sink, Source};
use super::run::{Case, Chosen, Limit, select};
use crate::chan::{RecvError, SendError};

/// A [`select!`](crate::select!) whose arms are added while it runs. Go's `reflect.Select`.
///
/// Each arm has a closure, which gets what the pattern of an arm would; what the chosen one returns is the value of the
/// whole. Each arm takes memory when it is added, and all together do for the time of the wait. Adding one does not wait, and may
/// be done on any stack but in a handler of an interrupt.
///
/// ```
/// use alloc::vec::Vec;
/// use gzero::{chan, select::Select};
///
/// let channels: Vec<_> = (0..200).map(|_| chan(1)).collect();
/// channels[77].0.send("here").unwrap();
/// let mut select = Select::new();
/// for (n, (_, rx)) in channels.iter().enumerate() {
///     select = select.recv(rx, move |word| (n, word));
/// }
/// assert_eq!(select.wait(), (77, Ok("here")));
/// ```
#[must_use = "a select does nothing before it is told to wait"]
pub struct Select<'a, R> {
    arms: Vec<Box<dyn Arm<R> + 'a>>,
}

/// An arm and what is to be done if it is chosen.
trait Arm<R> {
    fn case(&mut self) -> Case<'_>;

    /// Whether it was chosen.
    fn is_chosen(&self) -> bool;

    fn carry_out(self: Box<Self>) -> Option<R>;
}

struct Recv<'a, T, F> {
    arm: RecvArm<'a, T>,
    then: F,
}

impl<T, R, F: FnOnce(Result<T, RecvError>) -> R> Arm<R> for Recv<'_, T, F> {
    fn case(&mut self) -> Case<'_> {
        self.arm.case()
    }

    fn is_chosen(&self) -> bool {
        self.arm.is_chosen()
    }

    fn carry_out(self: Box<Self>) -> Option<R> {
        let Self { arm, then } = *self;
        arm.finish(Chosen::Case).map(then)
    }
}

struct Send<'a, T, F> {
    arm: SendArm<'a, T>,
    then: F,
}

impl<T, R, F: FnOnce(Result<(), SendError<T>>) -> R> Arm<R> for Send<'_, T, F> {
    fn case(&mut self) -> Case<'_> {
        self.arm.case()
    }

    fn is_chosen(&self) -> bool {
        self.arm.is_chosen()
    }

    fn carry_out(self: Box<Self>) -> Option<R> {
        let Self { arm, then } = *self;
        arm.finish(Chosen::Case).map(then)
    }
}

impl<R> fmt::Debug for Select<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("arms", &self.arms.len()).finish_non_exhaustive()
    }
}

impl<R> Default for Select<'_, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, R> Select<'a, R> {
    /// A select without arms.
    ///
    /// ```
    /// let select = gzero::select::Select::<()>::new();
    /// assert!(select.try_wait().is_none());
    /// ```
    pub const fn new() -> Self {
        Self { arms: Vec::new() }
    }

    /// Adds an arm that receives; from nothing ([`Source`]) it never does.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan(1);
    /// tx.send(1).unwrap();
    /// assert_eq!(gzero::select::Select::new().recv(&rx, |n| n.unwrap() + 1).wait(), 2);
    /// ```
    pub fn recv<S: Source<Value: 'a> + ?Sized>(
        mut self,
        from: &'a S,
        then: impl FnOnce(Result<S::Value, RecvError>) -> R + 'a,
    ) -> Self {
        self.arms.push(Box::new(Recv { arm: RecvArm::new(from), then }));
        self
    }

    /// Adds an arm that sends; to nothing ([`Sink`]) it never does. The value moves if the arm is chosen; else it is dropped
    /// with the select.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan(1);
    /// assert!(gzero::select::Select::new().send(&tx, 5, |sent| sent.is_ok()).wait());
    /// assert_eq!(rx.recv(), Ok(5));
    /// ```
    pub fn send<S: Sink<Value: 'a> + ?Sized>(
        mut self,
        to: &'a S,
        value: S::Value,
        then: impl FnOnce(Result<(), SendError<S::Value>>) -> R + 'a,
    ) -> Self {
        self.arms.push(Box::new(Send { arm: SendArm::new(to, value), then }));
        self
    }

    /// Waits until an arm is ready, and does what it says. Without arms, or with none that has a channel, it waits for ever.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if an arm is ready.
    ///
    /// ```
    /// let (tx, rx) = gzero::chan::<u8>(0);
    /// drop(tx);
    /// assert!(gzero::select::Select::new().recv(&rx, |v| v.is_err()).wait());
    /// ```
    #[track_caller]
    pub fn wait(self) -> R {
        match self.run(Limit::Endless) {
            Some(value) => value,
            None => super::for_ever(),
        }
    }

    /// Does what an arm says that is ready at this moment, or returns `None`: the `default` of a `select!`. Does not wait.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, although it does not wait.
    ///
    /// ```
    /// let (_tx, rx) = gzero::chan::<u8>(0);
    /// assert!(gzero::select::Select::new().recv(&rx, |_| ()).try_wait().is_none());
    /// ```
    #[track_caller]
    pub fn try_wait(self) -> Option<R> {
        self.run(Limit::Default)
    }

    /// `None`: it has no arms to wait for, or none is ready in time.
    #[track_caller]
    pub(crate) fn run(mut self, limit: Limit) -> Option<R> {
        let endless = self.arms.is_empty() && limit == Limit::Endless;
        let limit = if endless { Limit::Default } else { limit };
        let mut locks = vec![None; self.arms.len()];
        let mut cases: Vec<Case<'_>> = self.arms.iter_mut().map(|arm| arm.case()).collect();
        let chosen = select(&mut cases, &mut locks, limit);
        drop((cases, locks));
        match chosen {
            Chosen::Default | Chosen::TimedOut => None,
            Chosen::Case => {
                let place = self.arms.iter().position(|arm| arm.is_chosen())?;
                let arm = self.arms.swap_remove(place);
                // The values of the others go before the closure runs, as in the macro.
                drop(self);
                arm.carry_out()
            }
        }
    }
}
