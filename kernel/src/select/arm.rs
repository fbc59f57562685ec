//! What an arm of a `select!` is made of: the channel that it names, and the place of its value.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::time::Duration;

use machine::clock::{self, Nanos};
use sched::chan::Side;

use super::run::{Case, Chosen, Limit};
use crate::chan::core::Outcome;
use crate::chan::{Receiver, RecvError, SendError, Sender};

/// What a `recv` arm may name: a [`Receiver`], a reference to one, or an `Option`, which is never chosen when it is
/// `None`.
///
/// ```
/// use gzero::{chan, select, select::Source};
///
/// let (tx, rx) = chan(1);
/// tx.send(1).unwrap();
/// let mut input = Some(rx);
/// assert!(input.source().is_some());
/// let first = select! { recv(input) -> v => v.unwrap() };
/// input = None;
/// let second = select! { recv(input) -> _v => 3, default => 2 };
/// assert_eq!((first, second), (1, 2));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no receiver",
    note = "a `recv` arm names a `Receiver`, a reference to one, or an `Option` of either"
)]
pub trait Source {
    /// The type of its values.
    type Value;

    /// What the arm receives from, if there is something.
    fn source(&self) -> Option<Input<'_, Self::Value>>;
}

/// What a `recv` arm receives from: a [`Receiver`] that whoever has it this way can neither close nor clone. A type of
/// one's own that is a [`Source`] hands on what it has from one of its parts.
///
/// ```
/// use gzero::select::{Input, Source};
/// use gzero::{Receiver, chan, select};
///
/// struct Orders(Receiver<u8>);
///
/// impl Source for Orders {
///     type Value = u8;
///
///     fn source(&self) -> Option<Input<'_, u8>> {
///         self.0.source()
///     }
/// }
///
/// let (tx, rx) = chan(1);
/// let orders = Orders(rx);
/// tx.send(7).unwrap();
/// assert_eq!(select! { recv(orders) -> order => order }, Ok(7));
/// ```
#[derive(Debug)]
pub struct Input<'a, T>(&'a Receiver<T>);

impl<'a, T> Input<'a, T> {
    pub(crate) const fn new(receiver: &'a Receiver<T>) -> Self {
        Self(receiver)
    }
}

/// What a `send` arm may name: a [`Sender`], a reference to one, or an `Option`, which is never chosen when it is `None`.
///
/// ```
/// use gzero::{Sender, select, select::Sink};
///
/// let nowhere: Option<Sender<u8>> = None;
/// assert!(nowhere.sink().is_none());
/// select! { send(nowhere, 1) -> _r => unreachable!(), default => {} }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no sender",
    note = "a `send` arm names a `Sender`, a reference to one, or an `Option` of either"
)]
pub trait Sink {
    /// The type of its values.
    type Value;

    /// The sender, if there is one.
    fn sink(&self) -> Option<&Sender<Self::Value>>;
}

impl<T> Source for Receiver<T> {
    type Value = T;

    fn source(&self) -> Option<Input<'_, T>> {
        Some(Input::new(self))
    }
}

impl<T> Sink for Sender<T> {
    type Value = T;

    fn sink(&self) -> Option<&Self> {
        Some(self)
    }
}

impl<S: Source> Source for Option<S> {
    type Value = S::Value;

    fn source(&self) -> Option<Input<'_, S::Value>> {
        self.as_ref()?.source()
    }
}

impl<S: Sink> Sink for Option<S> {
    type Value = S::Value;

    fn sink(&self) -> Option<&Sender<S::Value>> {
        self.as_ref()?.sink()
    }
}

/// What leads to a channel names it.
macro_rules! through {
    ($($pointer:ty),*) => {
        $(
            impl<S: Source + ?Sized> Source for $pointer {
                type Value = S::Value;

                fn source(&self) -> Option<Input<'_, S::Value>> {
                    (**self).source()
                }
            }

            impl<S: Sink + ?Sized> Sink for $pointer {
                type Value = S::Value;

                fn sink(&self) -> Option<&Sender<S::Value>> {
                    (**self).sink()
                }
            }
        )*
    };
}

through!(&S, &mut S, Box<S>, Arc<S>);

/// An arm that receives.
#[doc(hidden)]
pub struct RecvArm<'a, T> {
    from: Option<Input<'a, T>>,
    slot: MaybeUninit<T>,
    outcome: Option<Outcome>,
}

impl<T> fmt::Debug for RecvArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvArm").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

impl<'a, T> RecvArm<'a, T> {
    pub fn new<S: Source<Value = T> + ?Sized>(source: &'a S) -> Self {
        Self { from: source.source(), slot: MaybeUninit::uninit(), outcome: None }
    }

    /// Never chosen again once the arm was: the slot is taken.
    #[doc(hidden)]
    pub fn case(&mut self) -> Case<'_> {
        let core = self.from.as_ref().filter(|_| self.outcome.is_none()).map(|from| from.0.core());
        // SAFETY: the slot is the arm's, which the case borrows; `finish` goes by the outcome.
        unsafe { Case::new(core, Side::Recv, self.slot.as_mut_ptr().cast(), &mut self.outcome) }
    }

    pub(super) fn is_chosen(&self) -> bool {
        self.outcome.is_some()
    }

    /// What it has received, if it was chosen.
    #[doc(hidden)]
    pub fn finish(self, _: Chosen) -> Option<Result<T, RecvError>> {
        match self.outcome? {
            // SAFETY: a value was passed into the slot.
            Outcome::Passed => Some(Ok(unsafe { self.slot.assume_init() })),
            Outcome::Closed | Outcome::WouldWait | Outcome::TimedOut => Some(Err(RecvError)),
        }
    }
}

/// An arm that sends.
#[doc(hidden)]
pub struct SendArm<'a, T> {
    to: Option<&'a Sender<T>>,
    /// Gone if the outcome is `Passed`.
    value: ManuallyDrop<T>,
    outcome: Option<Outcome>,
}

impl<T> fmt::Debug for SendArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendArm").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

impl<'a, T> SendArm<'a, T> {
    pub fn new<S: Sink<Value = T> + ?Sized>(sink: &'a S, value: T) -> Self {
        Self { to: sink.sink(), value: ManuallyDrop::new(value), outcome: None }
    }

    /// Never chosen again once the arm was: the value may have gone.
    #[doc(hidden)]
    pub fn case(&mut self) -> Case<'_> {
        let core = self.to.filter(|_| self.outcome.is_none()).map(Sender::core);
        let value: *mut T = &raw mut *self.value;
        // SAFETY: the value is the arm's, which the case borrows; `finish` and the drop go by the outcome.
        unsafe { Case::new(core, Side::Send, value.cast(), &mut self.outcome) }
    }

    pub(super) fn is_chosen(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether it has sent, if it was chosen.
    #[doc(hidden)]
    pub fn finish(mut self, _: Chosen) -> Option<Result<(), SendError<T>>> {
        match self.outcome? {
            Outcome::Passed => Some(Ok(())),
            Outcome::Closed | Outcome::WouldWait | Outcome::TimedOut => {
                // The drop leaves it alone from here on.
                self.outcome = Some(Outcome::Passed);
                // SAFETY: it was not passed, and is taken once.
                Some(Err(SendError(unsafe { ManuallyDrop::take(&mut self.value) })))
            }
        }
    }
}

impl<T> Drop for SendArm<'_, T> {
    fn drop(&mut self) {
        if self.outcome != Some(Outcome::Passed) {
            // SAFETY: it was not passed, and `finish` has not taken it.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// What an `after` arm may name: a length of time, [`Duration`] or [`Nanos`], or an [`Instant`](crate::time::Instant).
///
/// [`Select::wait_until`](super::Select::wait_until) takes the same. A wait until then needs a timer, and ends the machine when there
/// is no memory for it.
///
/// ```
/// use gzero::select::Deadline;
/// use gzero::time::{Duration, Instant};
///
/// let at = Instant::now() + Duration::from_secs(1);
/// assert_eq!(Instant::from(at.deadline()), at);
/// assert!(Instant::from(Duration::from_secs(2).deadline()) > at);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no time",
    note = "an `after` arm names a `Duration` or an `Instant`"
)]
pub trait Deadline {
    /// The time since the start of the clock at which it has come.
    fn deadline(self) -> Nanos;
}

impl Deadline for Nanos {
    fn deadline(self) -> Nanos {
        clock::now() + self
    }
}

impl Deadline for Duration {
    fn deadline(self) -> Nanos {
        clock::now() + self.into()
    }
}

/// The arm for the case that no other is ready in time.
#[doc(hidden)]
#[derive(Debug)]
pub struct AfterArm {
    outcome: Option<Outcome>,
}

impl AfterArm {
    pub fn new(limit: &mut Limit, when: impl Deadline) -> Self {
        *limit = Limit::Until(when.deadline());
        Self { outcome: None }
    }

    pub fn case(&mut self) -> Case<'_> {
        // SAFETY: without a channel nobody uses the pointer.
        unsafe { Case::new(None, Side::Recv, core::ptr::null_mut(), &mut self.outcome) }
    }

    pub fn finish(self, chosen: Chosen) -> Option<()> {
        (chosen == Chosen::TimedOut).then_some(())
    }
}

/// The arm for the case that no other is ready.
#[doc(hidden)]
#[derive(Debug)]
pub struct DefaultArm {
    outcome: Option<Outcome>,
}

impl DefaultArm {
    pub fn new(limit: &mut Limit) -> Self {
        *limit = Limit::Default;
        Self { outcome: None }
    }

    pub fn case(&mut self) -> Case<'_> {
        // SAFETY: without a channel nobody uses the pointer.
        unsafe { Case::new(None, Side::Recv, core::ptr::null_mut(), &mut self.outcome) }
    }

    pub fn finish(self, chosen: Chosen) -> Option<()> {
        (chosen == Chosen::Default).then_some(())
    }
}
