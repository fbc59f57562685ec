//! Functions that are called at a time.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use machine::clock::{self, Nanos};
use machine::lock::{Lock, Rank};
use sched::timer::Expiry;

use super::set::{Does, Inner, time_after};
use crate::builder::Builder;
use crate::event::{Expire, Expired};
use crate::join::go_with;

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
/// Does not block; may be called wherever allocating is allowed. Ends the machine when there is no memory for the
/// timer.
///
/// ```
/// use gzero::time::{Duration, after_func};
///
/// let me = gzero::current();
/// after_func(Duration::from_millis(1), move || {
///     gzero::unpark(me);
/// });
/// gzero::park();
/// ```
pub fn after_func<F: FnMut() + Send + 'static>(length: Duration, function: F) -> FuncTimer {
    let timer = Inner::new(Function(Lock::new(Rank::Leaf, Calls { idle: Some(function), owed: 0 })));
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
    /// Prevents the call. `true`: it does not come. `false`: it has begun, or is over, or was prevented before.
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
    /// Does not block; may be called on any stack but in interrupt handlers, and by the function itself.
    ///
    /// ```
    /// use gzero::time::{Duration, after_func};
    ///
    /// let me = gzero::current();
    /// let timer = after_func(Duration::from_hours(1), move || {
    ///     gzero::unpark(me);
    /// });
    /// assert!(timer.reset(Duration::from_millis(1)));
    /// gzero::park();
    /// assert!(!timer.reset(Duration::ZERO));
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
    /// Calls whose time has come while it ran.
    owed: u32,
}

impl<F: FnMut() + Send> Does for Function<F> {}

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
    fn expire(self: Arc<Self>, expired: Expired) {
        let timer = Arc::clone(&self);
        if go_with(Builder::new().name("after_func"), move || timer.call(expired)).is_err() {
            let mut setting = self.lock();
            // `false`: stopped or set anew meanwhile.
            setting.renew(&expired.key, || self.add(clock::now() + RETRY));
        }
    }
}

impl<F: FnMut() + Send + 'static> Inner<Function<F>> {
    /// Calls the function, in a goroutine.
    fn call(&self, expired: Expired) {
        let expiry = self.lock().expire(&expired.key, expired.when.0, clock::now().0);
        match expiry {
            Expiry::Stale => return,
            Expiry::Once | Expiry::Again(_) => {}
        }
        let Some(mut function) = self.does.take() else { return };
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
            calls.owed += 1;
        }
        idle
    }

    /// Puts the function back, or returns it for another call.
    fn put_back(&self, function: F) -> Option<F> {
        let mut calls = self.0.lock();
        if let Some(left) = calls.owed.checked_sub(1) {
            calls.owed = left;
            return Some(function);
        }
        calls.idle = Some(function);
        None
    }
}
