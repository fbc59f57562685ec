//! Functions that are called at a time.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use machine::clock::{self, Nanos};
use machine::lock::{Lock, Rank};
use sched::timer::Expiry;

use super::set::{Does, Inner, time_after};
use crate::builder::Builder;
use crate::event::{Event, Expire, Expired};
use crate::join::go_with_value;
use crate::timers;

/// When there is no memory for a goroutine, another attempt is made after this time.
const RETRY: Nanos = Nanos::from_millis(10);

/// Calls a function after this time, in a goroutine of its own. Go's `time.AfterFunc`.
///
/// The function may be called again, by [`FuncTimer::reset`]: so it is `FnMut`. Calls do not overlap: one whose time
/// comes while another runs follows it in the same goroutine.
///
/// When the time comes and there is no memory for a goroutine, another attempt is made every 10 ms until there is;
/// the timer can be stopped meanwhile. What the heap keeps unused counts as memory only after
/// [`free_os_memory`](crate::free_os_memory), which starting a goroutine from another one does by itself.
///
/// Does not block; may be called on any stack but in interrupt handlers. Ends the machine when there is no memory for the
/// timer.
///
/// ```
/// use gzero::chan;
/// use gzero::time::{Duration, after_func};
///
/// let (tx, rx) = chan(1);
/// after_func(Duration::from_millis(1), move || tx.send("it rings").unwrap());
/// assert_eq!(rx.recv(), Ok("it rings"));
/// ```
pub fn after_func<F: FnMut() + Send + 'static>(length: Duration, function: F) -> FuncTimer {
    let timer = Inner::new(Function(Lock::new(Rank::Leaf, Calls { idle: Some(function), owed: false })));
    Inner::set(&timer, time_after(length), Nanos(0));
    FuncTimer { inner: timer }
}

/// A function that is called at a time, from [`after_func`]. Dropping it changes nothing: the call comes.
///
/// ```
/// use gzero::time::{Duration, after_func};
///
/// let timer = after_func(Duration::from_hours(1), || unreachable!("an hour has passed"));
/// assert!(timer.stop());
/// ```
pub struct FuncTimer {
    inner: Arc<dyn Control>,
}

impl FuncTimer {
    /// Prevents the call. `true`: it does not come. `false`: it has begun, or is over, or was prevented before. A call that
    /// waits for the end of another one has not begun.
    ///
    /// Does not wait for a call that has begun, and does not block; may be called on any stack but in interrupt
    /// handlers.
    ///
    /// ```
    /// use gzero::time::{Duration, after_func};
    ///
    /// let timer = after_func(Duration::from_secs(1), || {});
    /// assert!(timer.stop());
    /// assert!(!timer.stop());
    /// ```
    pub fn stop(&self) -> bool {
        self.inner.stop()
    }

    /// Has the function called after this time, counted from now. Returns what [`stop`](Self::stop) would have: whether
    /// a call was still to come, which does not come then.
    ///
    /// Does not block; may be called on any stack but in interrupt handlers, and by the function itself. Ends the machine
    /// when there is no memory for the timer.
    ///
    /// ```
    /// use gzero::chan;
    /// use gzero::time::{Duration, after_func};
    ///
    /// let (tx, rx) = chan(1);
    /// let timer = after_func(Duration::from_hours(1), move || tx.send(()).unwrap());
    /// assert!(timer.reset(Duration::from_millis(1)));
    /// assert_eq!(rx.recv(), Ok(()));
    /// assert!(!timer.reset(Duration::ZERO));
    /// assert_eq!(rx.recv(), Ok(()));
    /// ```
    pub fn reset(&self, length: Duration) -> bool {
        Arc::clone(&self.inner).set(time_after(length))
    }
}

impl fmt::Debug for FuncTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FuncTimer").field("is_armed", &self.inner.is_armed()).finish()
    }
}

/// A function, between calls.
struct Function<F>(Lock<Calls<F>>);

struct Calls<F> {
    /// The function, unless it runs.
    idle: Option<F>,
    /// Whether the time of a call has come while it ran. There is one at most: it is taken back before another time is
    /// set.
    owed: bool,
}

impl<F: FnMut() + Send> Does for Function<F> {
    /// A call that is owed has not begun.
    fn drain(&self) -> bool {
        core::mem::take(&mut self.0.lock().owed)
    }
}

/// A timer of a function of any type.
trait Control: Send + Sync {
    fn stop(&self) -> bool;
    fn set(self: Arc<Self>, when: Nanos) -> bool;
    fn is_armed(&self) -> bool;
}

impl<F: FnMut() + Send + 'static> Control for Inner<Function<F>> {
    fn stop(&self) -> bool {
        Self::stop(self)
    }

    fn set(self: Arc<Self>, when: Nanos) -> bool {
        Self::set(&self, when, Nanos(0))
    }

    fn is_armed(&self) -> bool {
        self.lock().is_armed()
    }
}

impl<F: FnMut() + Send + 'static> Expire for Inner<Function<F>> {
    /// Starts the goroutine, which decides whether the call is still wanted: so the timer can be stopped until then,
    /// and nothing is decided if there is no goroutine.
    ///
    /// This may be the last reference to the timer, and with it to the function, whose drop is the program's. So it goes
    /// to the goroutine, or back to the heap, even if the timer was stopped meanwhile: then the goroutine drops it later.
    fn expire(self: Arc<Self>, expired: Expired) {
        let call = |(timer, expired): (Arc<Self>, Expired)| timer.call(expired);
        if let Err((timer, expired)) = go_with_value(Builder::new().name("after_func"), (self, expired), call)
        {
            timers::put_back(&expired, clock::now() + RETRY, Event::Timer(timer));
        }
    }
}

impl<F: FnMut() + Send + 'static> Inner<Function<F>> {
    /// Calls the function, in a goroutine.
    fn call(&self, expired: Expired) {
        let mut setting = self.lock();
        let function = match setting.expire(&expired.key, expired.when.0, clock::now().0) {
            Expiry::Stale => None,
            // Under the lock: a stop that comes next finds that the call has begun, or that it is owed.
            Expiry::Once | Expiry::Again(_) => self.does.take(),
        };
        drop(setting);
        let Some(mut function) = function else { return };
        loop {
            function();
            let Some(again) = self.does.put_back(function) else { return };
            function = again;
        }
    }
}

impl<F> Function<F> {
    /// Takes the function, or notes a call for whoever runs it.
    fn take(&self) -> Option<F> {
        let mut calls = self.0.lock();
        let idle = calls.idle.take();
        if idle.is_none() {
            calls.owed = true;
        }
        idle
    }

    /// Puts the function back, or returns it for another call.
    fn put_back(&self, function: F) -> Option<F> {
        let mut calls = self.0.lock();
        if core::mem::take(&mut calls.owed) {
            return Some(function);
        }
        calls.idle = Some(function);
        None
    }
}
