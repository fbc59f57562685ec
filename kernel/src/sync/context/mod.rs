//! Contexts: the end of a task, as those who work for it come to know of it. `end.rs` argues that nobody is missed.

mod call;
mod cancel;
mod done;
mod end;
mod node;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::error::Error;
use core::fmt;
use core::time::Duration;

use crate::join::go;
use crate::stacks::check_g_stack;
use crate::time::{Instant, after_func};

pub use call::AfterFunc;
pub use cancel::{CancelOnDrop, Canceller};
pub use done::Done;
pub use end::{Cause, ContextError};
use end::{End, Ended, Watcher};
use node::{Kind, Node};

/// What a task hands to all that work for it: when they shall stop, and values that belong to the task. Go's
/// `context.Context`.
///
/// Contexts form trees: each is made from one above it, and ends with it. Clones are the same context. Whoever waits within a
/// task waits for [`done`](Self::done) too, or looks at [`err`](Self::err) now and then.
///
/// But for [`wait`](Self::wait), no function of it waits, and all may be called on any stack but in a handler of an interrupt.
///
/// ```
/// use gzero::sync::Context;
/// use gzero::{go, select, time::Duration};
///
/// let (context, cancel) = Context::background().with_timeout(Duration::from_secs(3_600));
/// let worker = context.clone();
/// let handle = go(move || {
///     let (_tx, rx) = gzero::chan::<u32>(0);
///     select! {
///         recv(rx) -> _value => unreachable!(),
///         recv(worker.done()) -> _closed => worker.err(),
///     }
/// });
/// cancel.cancel();
/// assert_eq!(handle.join(), context.err());
/// ```
#[derive(Clone)]
pub struct Context(Done);

impl Default for Context {
    fn default() -> Self {
        Self::background()
    }
}

impl fmt::Display for Context {
    /// The way from the background: `background.with_cancel.with_value`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut way: Vec<&Node> = self.ways_up().collect();
        way.reverse();
        for node in way {
            match &node.kind {
                Kind::Background => f.write_str("background")?,
                Kind::Cancel => f.write_str(".with_cancel")?,
                Kind::Deadline => match node.deadline {
                    Some(deadline) => write!(f, ".with_deadline({deadline:?})")?,
                    None => f.write_str(".with_deadline")?,
                },
                Kind::Value(_) => f.write_str(".with_value")?,
                Kind::WithoutCancel => f.write_str(".without_cancel")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({self}, {:?})", self.err())
    }
}

impl Context {
    /// The context of the program: it never ends, and has no value. Go's `context.Background`. Does not wait.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Context::background().err(), None);
    /// ```
    pub fn background() -> Self {
        Self(Done(Arc::new(Node { kind: Kind::Background, above: None, end: None, deadline: None })))
    }

    fn node(&self) -> &Node {
        &self.0.0
    }

    fn below(&self, kind: Kind, end: Option<Arc<End>>, deadline: Option<Instant>) -> Self {
        Self(Done(Arc::new(Node { kind, above: Some(Arc::clone(&self.0.0)), end, deadline })))
    }

    /// This one and all above.
    fn ways_up(&self) -> impl Iterator<Item = &Node> {
        core::iter::successors(Some(self.node()), |node| node.above.as_deref())
    }

    /// A context that ends when it is cancelled, or when this one ends. Go's `context.WithCancel` and `WithCancelCause`.
    ///
    /// Nothing is kept for it once its clones and the canceller are gone, and what was made of it ([`done`](Self::done),
    /// [`after_func`](Self::after_func)). Does not wait.
    ///
    /// ```
    /// let (context, cancel) = gzero::sync::Context::background().with_cancel();
    /// cancel.cancel();
    /// assert!(context.is_done());
    /// ```
    pub fn with_cancel(&self) -> (Self, Canceller) {
        let end = End::below(self.node().end.as_ref());
        (self.below(Kind::Cancel, Some(Arc::clone(&end)), self.node().deadline), Canceller::new(end))
    }

    /// A context that also ends at a time. Go's `context.WithDeadline`. Does not wait. Ends the machine when there is no memory
    /// for the timer.
    ///
    /// No timer is needed for a time that has passed, for one that does not come ([`Instant::NEVER`]), and where this
    /// context ends no later by its own [`deadline`](Self::deadline).
    ///
    /// ```
    /// use gzero::sync::{Context, ContextError};
    /// use gzero::time::Instant;
    ///
    /// let (context, _cancel) = Context::background().with_deadline(Instant::now());
    /// assert_eq!(context.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    pub fn with_deadline(&self, deadline: Instant) -> (Self, Canceller) {
        self.with_deadline_and(deadline, None)
    }

    /// The same with a cause for the case that the time comes. Go's `context.WithDeadlineCause`. Does not wait. Ends the machine
    /// when there is no memory for the timer.
    ///
    /// ```
    /// use alloc::string::ToString;
    /// use gzero::sync::Context;
    /// use gzero::time::Instant;
    ///
    /// let (context, _cancel) = Context::background().with_deadline_cause(Instant::now(), "too late");
    /// assert_eq!(context.cause().map(|cause| cause.to_string()).as_deref(), Some("too late"));
    /// ```
    pub fn with_deadline_cause(
        &self,
        deadline: Instant,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> (Self, Canceller) {
        self.with_deadline_and(deadline, Some(Cause::from(cause.into())))
    }

    fn with_deadline_and(&self, deadline: Instant, cause: Option<Cause>) -> (Self, Canceller) {
        if deadline == Instant::NEVER || self.node().deadline.is_some_and(|above| above <= deadline) {
            // No time ends it, or that one ends this one as well.
            return self.with_cancel();
        }
        let end = End::below(self.node().end.as_ref());
        let context = self.below(Kind::Deadline, Some(Arc::clone(&end)), Some(deadline));
        let ended = Ended::new(ContextError::DeadlineExceeded, cause);
        let now = Instant::now();
        if deadline <= now {
            end.end(&ended);
        } else {
            Self::set_timer(&end, deadline - now, ended);
        }
        (context, Canceller::new(end))
    }

    fn set_timer(end: &Arc<End>, length: Duration, ended: Ended) {
        let weak = Arc::downgrade(end);
        let timer = after_func(length, move || {
            if let Some(end) = weak.upgrade() {
                end.end(&ended);
            }
        });
        end.set_timer(timer);
    }

    /// A context that also ends after this time. Go's `context.WithTimeout`. Does not wait. Ends the machine when there is no
    /// memory for the timer.
    ///
    /// ```
    /// use gzero::sync::{Context, ContextError};
    /// use gzero::time::Duration;
    ///
    /// let (context, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// context.wait();
    /// assert_eq!(context.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    pub fn with_timeout(&self, length: Duration) -> (Self, Canceller) {
        self.with_deadline(Instant::now() + length)
    }

    /// The same with a cause for the case that the time comes. Go's `context.WithTimeoutCause`. Does not wait. Ends the machine
    /// when there is no memory for the timer.
    ///
    /// ```
    /// use gzero::sync::Context;
    /// use gzero::time::Duration;
    ///
    /// let (context, _cancel) = Context::background().with_timeout_cause(Duration::ZERO, "no time at all");
    /// assert!(context.is_done());
    /// ```
    pub fn with_timeout_cause(
        &self,
        length: Duration,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> (Self, Canceller) {
        self.with_deadline_cause(Instant::now() + length, cause)
    }

    /// A context with a value, which is found by its type. Go's `context.WithValue`, where keys are found by comparison; here
    /// a type of one's own is the key, and cannot be mistaken for another's. Does not wait.
    ///
    /// ```
    /// struct RequestId(u64);
    ///
    /// let context = gzero::sync::Context::background().with_value(RequestId(7));
    /// assert_eq!(context.value::<RequestId>().map(|id| id.0), Some(7));
    /// ```
    #[must_use = "the value is in the new context"]
    pub fn with_value<T: Any + Send + Sync>(&self, value: T) -> Self {
        self.below(Kind::Value(Box::new(value)), self.node().end.clone(), self.node().deadline)
    }

    /// The value of this type: the nearest, upwards. Does not wait.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Context::background().with_value(7_u32).value::<u32>(), Some(&7));
    /// ```
    pub fn value<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.ways_up().find_map(|node| match &node.kind {
            Kind::Value(value) => value.downcast_ref(),
            Kind::Background | Kind::Cancel | Kind::Deadline | Kind::WithoutCancel => None,
        })
    }

    /// A context with the values of this one that does not end with it, and has no deadline. Go's `context.WithoutCancel`. Does
    /// not wait.
    ///
    /// ```
    /// let (context, cancel) = gzero::sync::Context::background().with_cancel();
    /// let cleanup = context.without_cancel();
    /// cancel.cancel();
    /// assert_eq!(cleanup.err(), None);
    /// ```
    #[must_use = "it is the new context that does not end"]
    pub fn without_cancel(&self) -> Self {
        self.below(Kind::WithoutCancel, None, None)
    }

    /// The end of the context, for [`select!`](crate::select!), and for others who need nothing else of it. Go's
    /// `Context.Done`. Does not wait. In a loop that is too fast for a select, [`is_done`](Self::is_done) costs a short lock of
    /// this context.
    ///
    /// ```
    /// use gzero::{select, sync::Context};
    ///
    /// let (context, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// select! {
    ///     recv(context.done()) => {}
    /// }
    /// ```
    pub const fn done(&self) -> &Done {
        &self.0
    }

    /// Waits until the context ends; for ever if it never does.
    ///
    /// ```
    /// let (context, cancel) = gzero::sync::Context::background().with_cancel();
    /// gzero::go(move || cancel.cancel());
    /// context.wait();
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if it has ended.
    #[track_caller]
    pub fn wait(&self) -> ContextError {
        check_g_stack("Context::wait");
        self.0.wait_for_it()
    }

    /// Why it has ended; `None` while it has not. Go's `Context.Err`. Does not wait.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Context::background().err(), None);
    /// ```
    pub fn err(&self) -> Option<ContextError> {
        self.ended().map(|ended| ended.error)
    }

    /// Whether it has ended. Does not wait.
    ///
    /// ```
    /// assert!(!gzero::sync::Context::background().is_done());
    /// ```
    pub fn is_done(&self) -> bool {
        self.ended().is_some()
    }

    /// The cause that was given to whoever has ended it first, this one or one above; its [`err`](Self::err) if none was
    /// given. Go's `context.Cause`. Does not wait.
    ///
    /// ```
    /// use gzero::sync::{Context, ContextError};
    ///
    /// let (context, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// assert!(context.cause().is_some_and(|cause| cause.is::<ContextError>()));
    /// ```
    pub fn cause(&self) -> Option<Cause> {
        self.ended().map(|ended| ended.cause)
    }

    /// Has a function called when the context ends, by whoever ends it: it must not wait. It is for who has the context until
    /// then, or until it is prevented. Returns its number. `None`: the context never ends, or it has ended, and nothing is called.
    pub(crate) fn watch(&self, call: Box<dyn FnOnce() + Send>) -> Option<u64> {
        self.node().end.as_ref()?.watch(Watcher::Wake(call)).ok()
    }

    /// Prevents that.
    pub(crate) fn unwatch(&self, number: u64) {
        if let Some(end) = &self.node().end {
            end.unwatch(number);
        }
    }

    fn ended(&self) -> Option<Ended> {
        self.0.ended()
    }

    /// When it ends by itself, if it does. Go's `Context.Deadline`. Does not wait.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Context::background().deadline(), None);
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.node().deadline
    }

    /// Calls a function in a goroutine of its own when the context has ended: at once, if it has. The function is told
    /// why. Go's `context.AfterFunc`. Does not wait.
    ///
    /// The call comes though the context and its canceller were dropped before, if something above it ends it, or its time. If
    /// nobody is left who could, the function is dropped.
    ///
    /// The first call of a context costs a step for each context above that can end, up to one that has calls, or has them
    /// below; and so does the end of its last call. All others cost one step.
    ///
    /// A function that captures the context, or one below it, keeps it, and is kept by it, until the context ends or the call is
    /// stopped. If neither ever happens both stay for good: a function that needs values of the context captures those.
    ///
    /// ```
    /// use gzero::sync::{Context, ContextError};
    ///
    /// let (context, cancel) = Context::background().with_cancel();
    /// let (tx, rx) = gzero::chan(0);
    /// let _call = context.after_func(move |why| drop(tx.send(why)));
    /// cancel.cancel();
    /// assert_eq!(rx.recv(), Ok(ContextError::Canceled));
    /// ```
    ///
    /// # Panics
    /// As [`go()`], in whoever ends the context.
    #[must_use = "it can be prevented by this value"]
    pub fn after_func(&self, function: impl FnOnce(ContextError) + Send + 'static) -> AfterFunc {
        let starts = move |error| drop(go(move || function(error)));
        AfterFunc::new(self.node().end.as_ref(), Box::new(starts))
    }
}
