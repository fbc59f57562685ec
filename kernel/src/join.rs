//! Handles of goroutines: [`JoinHandle`]. The decisions, and why they are safe on all CPUs, are in [`sched::join`].
//!
//! A goroutine that has ended and whose handle lives on keeps its slot, dead and on no list, and its stack, with the value at the top. Its
//! generation is over, so nobody else finds it: it belongs to the handle.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use machine::clock;
use machine::percpu::Pinned;
use sched::join::{Detach, JoinWord, Outcome, Slot};
use sched::{GoIndex, GoRef, Goid};

use crate::builder::{Builder, GoError};
use crate::bury;
use crate::go::{spawn, spawn_with};
use crate::m;
use crate::panic::throw;
use crate::park::{Wait, WaitReason, gopark_on};
use crate::shelf::Shelf;
use crate::stacks::{OwnStack, check_g_stack};

/// The shelf of the stack that the goroutine in a slot has used: its value lies there until it is claimed.
fn shelf_of(g: GoIndex) -> Shelf {
    Shelf::of(m::runtime().slot(g).body().stack(g))
}

/// Starts a goroutine. Go's `go` statement.
///
/// It runs soon, on this CPU or another; the caller goes on. Its value can be had from the handle by
/// [`join`](JoinHandle::join). A handle that is dropped detaches the goroutine, as in Go: it runs on, and its value is dropped.
///
/// Its stack has 124 KiB, mapped as they are touched; [`go_with`] can give it less or more, and a name. Does not block, unless no page
/// is left for the stack (see [`go_with`]), and may be called on any stack but in a handler of an interrupt. Usually it
/// allocates nothing and takes no lock: closure and value lie on the goroutine's own stack, if they have no more than 2 KiB each.
///
/// # Panics
/// When there is no memory for it; [`try_go`] returns the error instead.
///
/// # Examples
/// ```
/// #![no_std]
/// #![no_main]
///
/// use gzero::prelude::*;
///
/// gzero::entry!(main);
///
/// fn main() {
///     let sum = go(|| (1..=100).sum::<u64>());
///     println!("the sum is {}", sum.join());
/// }
/// ```
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    started(go_with(Builder::new(), f))
}

/// [`go()`] with a name for reports.
///
/// # Panics
/// As [`go()`].
///
/// # Examples
/// ```
/// let reader = gzero::go_named("reader", || gzero::println!("I am {}", gzero::goid()));
/// reader.join();
/// ```
pub fn go_named<F, T>(name: &'static str, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    started(go_with(Builder::new().name(name), f))
}

/// [`go()`] that says why the goroutine cannot be started; the closure is then dropped, with all that it has captured.
///
/// # Errors
/// As [`go_with`].
///
/// # Examples
/// ```
/// match gzero::try_go(|| 1) {
///     Ok(handle) => drop(handle.join()),
///     Err(error) => gzero::println!("{error}"),
/// }
/// ```
pub fn try_go<F, T>(f: F) -> Result<JoinHandle<T>, GoError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    go_with(Builder::new(), f)
}

/// [`go()`] with a name, a limit for the stack, or both.
///
/// When no page is left for the stack, memory that nobody uses is taken back first, as by [`free_os_memory`](crate::free_os_memory()); that
/// stops the world, and waits for others who have stopped it. A caller that holds a lock of the runtime, or does not stand on a
/// goroutine's own stack, gets the error at once.
///
/// # Errors
/// [`GoError`]: the table of goroutines is full, memory is used up, or a larger stack is asked for than there is. The closure is then
/// dropped.
///
/// # Examples
/// ```
/// use gzero::{Builder, go_with};
///
/// let handle = go_with(Builder::new().name("small").stack_size(32 * 1024), || 7)?;
/// assert_eq!(handle.join(), 7);
/// # Ok::<(), gzero::GoError>(())
/// ```
pub fn go_with<F, T>(builder: Builder, f: F) -> Result<JoinHandle<T>, GoError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: closure and value borrow nothing that ends; there is no scope; this is the one handle.
    let g = unsafe { spawn(&builder, None, f) }?;
    Ok(JoinHandle(Inner { g, value: PhantomData }))
}

/// [`go_with`] for a function and a small value, which comes back if the goroutine cannot be started.
pub(crate) fn go_with_value<A: Send + 'static>(
    builder: Builder,
    value: A,
    f: fn(A),
) -> Result<JoinHandle<()>, A> {
    // SAFETY: this is the one handle.
    let g = unsafe { spawn_with(&builder, value, f) }?;
    Ok(JoinHandle(Inner { g, value: PhantomData }))
}

pub(crate) fn started<H>(result: Result<H, GoError>) -> H {
    match result {
        Ok(handle) => handle,
        Err(error) => panic!("{error}"),
    }
}

/// The goroutine that was joined ended by [`goexit`](crate::goexit()), and so has no value.
///
/// # Examples
/// ```
/// // SAFETY: nothing on this stack is borrowed or pinned.
/// let handle = gzero::go(|| -> u32 { unsafe { gzero::goexit() } });
/// if let Err(error) = handle.join_result() {
///     gzero::println!("{error}");
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedByGoexit(pub Goid);

impl fmt::Display for EndedByGoexit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {} ended by goexit and has no value", self.0)
    }
}

impl core::error::Error for EndedByGoexit {}

/// What both kinds of handles are.
pub(crate) struct Inner<T> {
    g: GoRef,
    value: PhantomData<T>,
}

// SAFETY: by reference one can only ask whether the goroutine has ended, and who it is.
unsafe impl<T: Send> Sync for Inner<T> {}

impl<T> Inner<T> {
    /// The one handle of a goroutine with a value of this type, that was just started.
    pub(crate) const fn new(g: GoRef) -> Self {
        Self { g, value: PhantomData }
    }

    pub(crate) const fn id(&self) -> GoRef {
        self.g
    }

    pub(crate) fn goid(&self) -> Goid {
        let Some(goid) = m::runtime().goid(self.g.index) else {
            throw(format_args!("a goroutine with a handle has no number"))
        };
        goid
    }

    fn word(&self) -> &'static JoinWord {
        &m::runtime().slot(self.g.index).body().join
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.word().outcome().is_some()
    }

    #[track_caller]
    pub(crate) fn join(self, own: OwnStack) -> T {
        match self.join_result(own) {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    pub(crate) fn join_result(self, own: OwnStack) -> Result<T, EndedByGoexit> {
        let outcome = self.word().outcome().unwrap_or_else(|| self.wait(own));
        self.claim(outcome)
    }

    #[track_caller]
    pub(crate) fn try_join(self) -> Result<T, Self> {
        match self.word().outcome() {
            None => Err(self),
            Some(outcome) => match self.claim(outcome) {
                Ok(value) => Ok(value),
                Err(error) => panic!("{error}"),
            },
        }
    }

    /// Parks until the goroutine has ended.
    #[track_caller]
    fn wait(&self, own: OwnStack) -> Outcome {
        let word = self.word();
        let on = core::ptr::from_ref(m::runtime().slot(self.g.index)).addr() as u64;
        gopark_on(own, Wait { reason: WaitReason::Join, on, since: clock::rdtsc_unordered() }, |me| {
            assert!(me.index != self.g.index, "goroutine {} joins itself", self.goid());
            word.wait(me)
        });
        word.outcome().unwrap_or_else(|| throw(format_args!("a joiner was readied before the end")))
    }

    /// Takes the value of a goroutine that has ended, and gives the slot back.
    fn claim(self, outcome: Outcome) -> Result<T, EndedByGoexit> {
        let this = ManuallyDrop::new(self);
        let result = match outcome {
            // SAFETY: the goroutine has ended and left a value of this type; the handle is taken, so this is the first to take it.
            Outcome::Value => Ok(unsafe { shelf_of(this.g.index).take::<T>() }),
            Outcome::Nothing => Err(EndedByGoexit(this.goid())),
        };
        this.give_back();
        result
    }

    /// The handle is dropped after the end.
    #[inline(never)]
    fn discard(&self, outcome: Outcome) {
        if outcome == Outcome::Value {
            // SAFETY: the goroutine has ended and left a value of this type, which nobody has taken.
            unsafe { shelf_of(self.g.index).discard::<T>() };
        }
        self.give_back();
    }

    /// The slot is not used by this handle any more.
    fn give_back(&self) {
        let pinned = Pinned::new();
        let rt = m::runtime();
        let slot = rt.slot(self.g.index);
        match slot.body().join.claim() {
            Slot::Kept => {}
            Slot::Free => {
                let m = m::current(&pinned);
                bury::free_slot(m, m.proc().owner(), slot);
            }
        }
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        match self.word().detach() {
            Detach::Detached => {}
            Detach::Ended(outcome) => self.discard(outcome),
        }
    }
}

/// A goroutine and its value. [`go()`] makes it; the counterpart of `std::thread::JoinHandle`.
///
/// Dropped, it detaches the goroutine: that runs on, and its value is dropped when it has ended, on its own stack; or now, by
/// whoever drops the handle, if it has ended already. As long as the handle of a goroutine that has ended is kept, so is its
/// stack, with the value in it. The goroutine itself is gone: it is not counted, not shown in traces, and [`unpark`](crate::unpark()) does not find it.
///
/// # Examples
/// ```
/// use gzero::prelude::*;
///
/// let handles: Vec<JoinHandle<u64>> = (0..10).map(|n| go(move || n * n)).collect();
/// let sum: u64 = handles.into_iter().map(JoinHandle::join).sum();
/// assert_eq!(sum, 285);
/// ```
pub struct JoinHandle<T>(Inner<T>);

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinHandle").field(&self.id()).finish()
    }
}

impl<T> JoinHandle<T> {
    /// Waits until the goroutine has ended, and returns its value.
    ///
    /// All that the goroutine did, and the drop of its local values, comes before the return. Blocks, on the goroutine's own stack; in reports
    /// the caller waits for `join`, on the address of the other's slot.
    ///
    /// # Panics
    /// When the goroutine ended by [`goexit`](crate::goexit()): there is no value. When a goroutine joins itself: it would wait for ever.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if the goroutine has ended.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(gzero::go(|| 6 * 7).join(), 42);
    /// ```
    #[track_caller]
    pub fn join(self) -> T {
        let own = check_g_stack("JoinHandle::join");
        self.0.join(own)
    }

    /// [`join`](Self::join) that also serves for goroutines that end by [`goexit`](crate::goexit()). Blocks like it, on the goroutine's own stack.
    ///
    /// # Errors
    /// [`EndedByGoexit`].
    ///
    /// # Panics
    /// When a goroutine joins itself.
    ///
    /// # Throws
    /// As [`join`](Self::join).
    ///
    /// # Examples
    /// ```
    /// match gzero::go(|| 1).join_result() {
    ///     Ok(value) => gzero::println!("{value}"),
    ///     Err(error) => gzero::println!("{error}"),
    /// }
    /// ```
    #[track_caller]
    pub fn join_result(self) -> Result<T, EndedByGoexit> {
        let own = check_g_stack("JoinHandle::join_result");
        self.0.join_result(own)
    }

    /// The value, if the goroutine has ended; else the handle back. Does not block, and may be called on any stack but in a handler of
    /// an interrupt.
    ///
    /// # Errors
    /// The handle, when the goroutine runs on.
    ///
    /// # Panics
    /// When the goroutine ended by [`goexit`](crate::goexit()).
    ///
    /// # Examples
    /// ```
    /// let mut handle = gzero::go(|| 7);
    /// let value = loop {
    ///     match handle.try_join() {
    ///         Ok(value) => break value,
    ///         Err(back) => handle = back,
    ///     }
    ///     gzero::gosched();
    /// };
    /// assert_eq!(value, 7);
    /// ```
    #[track_caller]
    pub fn try_join(self) -> Result<T, Self> {
        self.0.try_join().map_err(Self)
    }

    /// Whether the goroutine has ended, so that [`join`](Self::join) would not wait. Does not block.
    ///
    /// # Examples
    /// ```
    /// let handle = gzero::go(|| ());
    /// while !handle.is_finished() {
    ///     gzero::gosched();
    /// }
    /// ```
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// The goroutine, for [`unpark`](crate::unpark()). Once it has ended, this is the handle of one that has.
    ///
    /// # Examples
    /// ```
    /// let sleeper = gzero::go(gzero::park);
    /// gzero::unpark(sleeper.id());
    /// sleeper.join();
    /// ```
    pub fn id(&self) -> GoRef {
        self.0.id()
    }

    /// The goroutine's number in reports, also after it has ended.
    ///
    /// # Examples
    /// ```
    /// let handle = gzero::go(gzero::goid);
    /// let number = handle.goid();
    /// assert_eq!(handle.join(), number);
    /// ```
    pub fn goid(&self) -> Goid {
        self.0.goid()
    }
}
