//! Contexts: the end of a task, as those who work for it come to know of it. `end.rs` argues that nobody is missed.

mod cancel;
mod end;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::error::Error;
use core::fmt;
use core::time::Duration;

use crate::chan::Receiver;
use crate::join::go;
use crate::stacks::check_g_stack;
use crate::time::{Instant, after_func};

pub use cancel::{AfterFunc, CancelOnDrop, Canceller};
pub use end::{Cause, ContextError};
use end::{End, Ended, Watcher};

/// What a context adds to the one above it.
enum Kind {
    Background,
    Cancel,
    Deadline,
    Value(Box<dyn Any + Send + Sync>),
    WithoutCancel,
}

struct Node {
    kind: Kind,
    above: Option<Context>,
    /// Its own, or that of the nearest above that has one.
    end: Option<Arc<End>>,
    deadline: Option<Instant>,
}

/// What a task hands to all that work for it: when they shall stop, and values that belong to the task. Go's
/// `context.Context`.
///
/// Contexts form trees: each is made from one above it, and ends with it. Clones are the same context. Whoever waits within a
/// task waits for [`done`](Self::done) too, or looks at [`err`](Self::err) now and then.
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
pub struct Context(Arc<Node>);

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
        Self(Arc::new(Node { kind: Kind::Background, above: None, end: None, deadline: None }))
    }

    fn below(&self, kind: Kind, end: Option<Arc<End>>, deadline: Option<Instant>) -> Self {
        Self(Arc::new(Node { kind, above: Some(self.clone()), end, deadline }))
    }

    /// This one and all above.
    fn ways_up(&self) -> impl Iterator<Item = &Node> {
        core::iter::successors(Some(&*self.0), |node| node.above.as_ref().map(|above| &*above.0))
    }

    /// A context that ends when it is cancelled, or when this one ends. Go's `context.WithCancel` and `WithCancelCause`.
    ///
    /// Nothing is kept for it once its clones and the canceller are gone. Does not wait.
    ///
    /// ```
    /// let (context, cancel) = gzero::sync::Context::background().with_cancel();
    /// cancel.cancel();
    /// assert!(context.is_done());
    /// ```
    pub fn with_cancel(&self) -> (Self, Canceller) {
        let end = End::below(self.0.end.as_ref());
        (self.below(Kind::Cancel, Some(Arc::clone(&end)), self.0.deadline), Canceller::new(end))
    }

    /// A context that also ends at a time. Go's `context.WithDeadline`. Does not wait.
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

    /// The same with a cause for the case that the time comes. Go's `context.WithDeadlineCause`. Does not wait.
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
        if self.0.deadline.is_some_and(|above| above <= deadline) {
            // That one ends this one as well.
            return self.with_cancel();
        }
        let end = End::below(self.0.end.as_ref());
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
        let mut state = end.state.lock();
        let late = if state.ended.is_none() { state.timer.replace(timer) } else { Some(timer) };
        drop(state);
        if let Some(late) = late {
            late.stop();
        }
    }

    /// A context that also ends after this time. Go's `context.WithTimeout`. Does not wait.
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

    /// The same with a cause for the case that the time comes. Go's `context.WithTimeoutCause`. Does not wait.
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
        self.below(Kind::Value(Box::new(value)), self.0.end.clone(), self.0.deadline)
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

    /// A channel that is closed when the context ends, for [`select!`](crate::select!); `None` if it never does. Nothing is
    /// ever sent. Go's `Context.Done`. Does not wait. In a loop that is
    /// too fast for a select, [`is_done`](Self::is_done) costs a short lock of this context.
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
    pub fn done(&self) -> Option<&Receiver<()>> {
        self.0.end.as_ref().map(|end| &end.rx)
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
        loop {
            if let Some(error) = self.err() {
                return error;
            }
            match self.done() {
                // It is closed, and has never held anything.
                Some(done) => assert!(done.recv().is_err(), "nothing is sent"),
                None => crate::select::for_ever(),
            }
        }
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

    /// Has a function called when the context ends, by whoever ends it: it must not wait. Returns its number. `None`: the context
    /// never ends, or it has ended, and nothing is called.
    pub(crate) fn watch(&self, call: Box<dyn FnOnce() + Send>) -> Option<u64> {
        self.0.end.as_ref()?.watch(Watcher::Call(call)).ok()
    }

    /// Prevents that.
    pub(crate) fn unwatch(&self, number: u64) {
        if let Some(end) = &self.0.end {
            drop(end.unwatch(number));
        }
    }

    fn ended(&self) -> Option<Ended> {
        self.0.end.as_ref()?.ended()
    }

    /// When it ends by itself, if it does. Go's `Context.Deadline`. Does not wait.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Context::background().deadline(), None);
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Calls a function in a goroutine of its own when the context has ended: at once, if it has. Go's `context.AfterFunc`. Does
    /// not wait.
    ///
    /// ```
    /// use gzero::sync::Context;
    ///
    /// let (context, cancel) = Context::background().with_cancel();
    /// let (tx, rx) = gzero::chan(0);
    /// let _call = context.after_func(move || drop(tx.send("ended")));
    /// cancel.cancel();
    /// assert_eq!(rx.recv(), Ok("ended"));
    /// ```
    ///
    /// # Panics
    /// As [`go()`], in whoever ends the context.
    #[must_use = "it can be prevented by this value"]
    pub fn after_func(&self, function: impl FnOnce() + Send + 'static) -> AfterFunc {
        let call = Box::new(move || drop(go(function)));
        let place = match &self.0.end {
            None => None,
            Some(end) => match end.watch(Watcher::Call(call)) {
                Ok(number) => Some((Arc::downgrade(end), number)),
                Err((_, watcher)) => {
                    if let Watcher::Call(call) = watcher {
                        call();
                    }
                    return AfterFunc::over();
                }
            },
        };
        AfterFunc::new(place)
    }
}
