//! Values of which each goroutine has its own: [`goroutine_local!`](crate::goroutine_local).
//!
//! A goroutine's values form a list that begins in its slot, the youngest first. Nobody but the goroutine looks at it, so it needs neither
//! lock nor atomic; being preempted, or continued on another CPU, changes nothing about that. A handler of an interrupt may come
//! in the middle of everything, and is refused.
//!
//! References to values are handed out for the length of a call of [`LocalKey::with`] only. Values are dropped when the goroutine has
//! returned from its closure, or calls `goexit`, which never returns: no call of `with` is left to go on then, but for those inside of a
//! destructor, and they are over before the next value is dropped. A value is taken off the list before its destructor runs, which
//! therefore does not find it, and makes it anew if it asks.

use alloc::boxed::Box;
use core::fmt;

use machine::percpu::Pinned;

use crate::goroutine::{Body, Local};
use crate::m;
use crate::panic::throw;

/// Values made by destructors that are dropped.
const MADE_BY_DESTRUCTORS: usize = 1_000;

/// A value that each goroutine has for itself, made when it is first asked for. [`goroutine_local!`](crate::goroutine_local) declares it.
///
/// The counterpart of `std::thread::LocalKey`. The value need not be `Send` or `Sync`: it never leaves its goroutine, whichever CPU
/// that runs on. A call of [`with`](Self::with) costs a few dozen instructions, and some more for each local value that the
/// goroutine has made after this one.
///
/// # When values are dropped
///
/// When the goroutine's closure has returned, before whoever joins it goes on, and also by [`goexit`](crate::goexit()): on the goroutine's own
/// stack, the youngest value first. A destructor may do whatever the goroutine may, waiting included, and ask for older values, which are
/// still there. If it asks for one that is being dropped or was, that is made anew, and dropped next; when destructors have made a
/// thousand, what is left is leaked, with a warning. The value that the closure has returned is dropped after them, if there is no handle; local values that
/// its destructor makes are dropped again.
///
/// Values of the main goroutine are not dropped when `main` returns: the machine ends.
///
/// # Examples
/// ```
/// use core::cell::Cell;
///
/// gzero::goroutine_local! {
///     static DEPTH: Cell<u32> = Cell::new(0);
/// }
///
/// DEPTH.with(|depth| depth.set(depth.get() + 1));
/// let other = gzero::go(|| DEPTH.with(Cell::get)).join();
/// assert_eq!((DEPTH.with(Cell::get), other), (1, 0));
/// ```
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// A value with its link.
#[repr(C)]
struct Node<T> {
    /// Stays the first field: a pointer to it is a pointer to the node.
    link: Local,
    value: T,
}

impl<T: 'static> LocalKey<T> {
    /// For the macro: `init` makes the value.
    ///
    /// # Safety
    /// The key becomes a static. Values are found by the address of their key, and two statics have two; a key of another
    /// kind may share it with one for another type, which the compiler puts into the same constant.
    #[doc(hidden)]
    pub const unsafe fn new(init: fn() -> T) -> Self {
        Self { init }
    }

    /// Calls `f` with this goroutine's value, which is made first if there is none.
    ///
    /// Does not block, unless what makes the value does. May be called on the goroutine's own stack and, in its name, by
    /// [`on_m`](crate::on_m()).
    ///
    /// # Throws
    /// When no goroutine calls, or in a handler of an interrupt.
    ///
    /// # Examples
    /// ```
    /// use core::cell::RefCell;
    /// use gzero::prelude::*;
    ///
    /// gzero::goroutine_local! {
    ///     static SEEN: RefCell<Vec<u64>> = RefCell::new(Vec::new());
    /// }
    ///
    /// SEEN.with(|seen| seen.borrow_mut().push(7));
    /// assert_eq!(SEEN.with(|seen| seen.borrow().len()), 1);
    /// ```
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let body = own_body();
        let value = self.find(body).unwrap_or_else(|| self.make(body));
        // SAFETY: the node is on this goroutine's list, and is freed only after it has been taken off there, at the goroutine's end: no call is
        // left then that this one could return to.
        f(unsafe { &*value })
    }

    /// The key of the value in the list.
    fn key(&'static self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    fn find(&'static self, body: &Body) -> Option<*const T> {
        // SAFETY: a link on the list is a node.
        let link = links(body).find(|link| unsafe { (**link).key } == self.key())?;
        let node: *const Node<T> = link.cast();
        // SAFETY: the key says that it is a node of this type: keys are statics, whose addresses differ.
        Some(unsafe { &raw const (*node).value })
    }

    #[cold]
    fn make(&'static self, body: &Body) -> *const T {
        let value = (self.init)();
        // What makes the value may have asked for it itself: then there is one, and references to it may be in use.
        if let Some(present) = self.find(body) {
            return present;
        }
        // SAFETY: the list is the calling goroutine's.
        let next = unsafe { *body.locals() };
        let link = Local { key: self.key(), next, drop: drop_node::<T> };
        let node = Box::into_raw(Box::new(Node { link, value }));
        // SAFETY: as above.
        unsafe { *body.locals() = node.cast() };
        // SAFETY: just made.
        unsafe { &raw const (*node).value }
    }
}

/// Drops a value and frees its node.
///
/// # Safety
/// `link` is the first field of a node of this type, made by a box, that is on no list.
unsafe fn drop_node<T>(link: *mut Local) {
    // SAFETY: the caller's contract.
    drop(unsafe { Box::from_raw(link.cast::<Node<T>>()) });
}

/// The slot of the goroutine that calls.
fn own_body() -> &'static Body {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    if m.block.interrupt_depth() > 0 {
        throw(format_args!("a goroutine-local value was asked for in a handler of an interrupt"));
    }
    m::runtime().slot(m::current_g(m)).body()
}

/// Drops the values of the goroutine that calls, on its own stack, at its end.
pub(crate) fn drop_all(body: &Body) {
    let mut left = MADE_BY_DESTRUCTORS + links(body).count();
    while let Some(link) = links(body).next() {
        if left == 0 {
            log::warn!("goroutine-local values are leaked: destructors make them over and over");
            // SAFETY: the list is the calling goroutine's.
            return unsafe { *body.locals() = core::ptr::null_mut() };
        }
        left -= 1;
        // SAFETY: a link on the list is a node.
        let Local { next, drop, .. } = unsafe { *link };
        // SAFETY: the list is the calling goroutine's.
        unsafe { *body.locals() = next };
        // SAFETY: the node is on no list any more, and its own function is for its type.
        unsafe { drop(link) };
    }
}

/// The values of the goroutine that calls, the youngest first.
fn links(body: &Body) -> impl Iterator<Item = *mut Local> {
    // SAFETY: the list is the calling goroutine's.
    let first = unsafe { *body.locals() };
    let unless_last = |link: *mut Local| (!link.is_null()).then_some(link);
    // SAFETY: a link on the list is a node.
    core::iter::successors(unless_last(first), move |link| unless_last(unsafe { (**link).next }))
}

/// Declares values of which each goroutine has its own, as `std::thread_local!` does for threads.
///
/// Each is a [`LocalKey`], which says when values are made and dropped.
///
/// # Examples
/// ```
/// use core::cell::Cell;
///
/// gzero::goroutine_local! {
///     /// How often this goroutine has asked.
///     static ASKED: Cell<u32> = Cell::new(0);
///     pub static NAME: Cell<&'static str> = Cell::new("nobody");
/// }
///
/// ASKED.with(|asked| asked.set(asked.get() + 1));
/// ```
#[macro_export]
macro_rules! goroutine_local {
    () => {};
    ($(#[$attribute:meta])* $visible:vis static $name:ident: $type:ty = $init:expr; $($rest:tt)*) => {
        $crate::goroutine_local!($(#[$attribute])* $visible static $name: $type = $init);
        $crate::goroutine_local!($($rest)*);
    };
    ($(#[$attribute:meta])* $visible:vis static $name:ident: $type:ty = $init:expr) => {
        $(#[$attribute])*
        $visible static $name: $crate::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            // SAFETY: it is a static.
            unsafe { $crate::LocalKey::new(init) }
        };
    };
}
