//! Values to use again, kept by the CPU that has used them.
//!
//! Each P has a list of its own behind a lock of its own, which other CPUs take only when they have no value themselves,
//! and only if they find it free. So in the common case the lock's cache line stays where it is, and nobody waits.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use machine::lock::{Kind, Lock};
use machine::percpu::Pinned;
use sched::sync::Padded;

use crate::m;

/// Values that one P keeps at most.
const MOST: usize = 64;

/// Values that are expensive to make, and may be used by anybody. Go's `sync.Pool`.
///
/// Which value one gets is not said; each is had by one at a time. Each CPU keeps up to 64 values; more are dropped. No function
/// of it waits.
///
/// Nothing else drops them. In Go each garbage collection does, so `debug.FreeOSMemory` does, too; here
/// [`free_os_memory`](crate::free_os_memory) leaves pools alone, also when it is called because there is no page for a
/// goroutine: it knows of none, and would have to run the values' own code in a stopped world. A program that is short of
/// memory calls [`clear`](Self::clear) first.
///
/// ```
/// use alloc::vec::Vec;
/// use gzero::sync::{LazyLock, Pool};
///
/// static BUFFERS: LazyLock<Pool<Vec<u8>>> = LazyLock::new(|| Pool::new(Vec::new));
///
/// let mut buffer = BUFFERS.get();
/// buffer.clear();
/// buffer.push(1);
/// BUFFERS.put(buffer);
/// ```
pub struct Pool<T> {
    /// By P.
    kept: Box<[Padded<Lock<Vec<T>>>]>,
    make: fn() -> T,
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("kept", &self.len()).finish_non_exhaustive()
    }
}

impl<T: Send> Pool<T> {
    /// An empty pool, and how values are made when it has none.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Pool::new(|| [0_u8; 4096]).get()[0], 0);
    /// ```
    pub fn new(make: fn() -> T) -> Self {
        let kept =
            m::runtime().all_procs().iter().map(|_| Padded(Lock::of_kind(Kind::Pool, Vec::new()))).collect();
        Self { kept, make }
    }

    /// A value: the one that was last put back on this CPU, or one of another CPU, or a new one. Go's `Pool.Get`. Does not
    /// wait; on any stack of a goroutine.
    ///
    /// ```
    /// let pool = gzero::sync::Pool::new(|| 7);
    /// assert_eq!(pool.get(), 7);
    /// ```
    pub fn get(&self) -> T {
        // The closure's pin is gone before a value is made, which may take long.
        self.take().unwrap_or_else(self.make)
    }

    fn take(&self) -> Option<T> {
        let pinned = Pinned::new();
        let me = m::current(&pinned).proc().id().index();
        let own = self.kept.get(me).and_then(|own| own.lock().pop());
        own.or_else(|| {
            let (behind, before) = self.kept.split_at_checked(me)?;
            before.iter().chain(behind).find_map(|other| other.try_lock()?.pop())
        })
    }

    /// Puts a value back. Go's `Pool.Put`. Does not wait; on any stack of a goroutine.
    ///
    /// ```
    /// let pool = gzero::sync::Pool::new(|| 7);
    /// pool.put(8);
    /// assert_eq!(pool.len(), 1);
    /// ```
    pub fn put(&self, value: T) {
        let pinned = Pinned::new();
        let own = self.kept.get(m::current(&pinned).proc().id().index());
        let too_many = match own.map(|own| own.lock()) {
            Some(mut kept) if kept.len() < MOST => {
                kept.push(value);
                None
            }
            Some(_) | None => Some(value),
        };
        drop(pinned);
        // Without the lock: its drop is the program's code.
        drop(too_many);
    }

    /// Drops all values that are kept. Does not wait for anything but these drops; on any stack of a goroutine.
    ///
    /// ```
    /// let pool = gzero::sync::Pool::new(|| 7);
    /// pool.put(8);
    /// pool.clear();
    /// assert!(pool.is_empty());
    /// gzero::free_os_memory();
    /// ```
    pub fn clear(&self) {
        for kept in &self.kept {
            let values = core::mem::take(&mut *kept.lock());
            drop(values);
        }
    }
}

impl<T> Pool<T> {
    /// Values that are kept, at about this moment. Does not wait.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Pool::<u32>::new(|| 0).len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.kept.iter().map(|kept| kept.lock().len()).sum()
    }

    /// Whether no value is kept, at about this moment. Does not wait.
    ///
    /// ```
    /// assert!(gzero::sync::Pool::<u32>::new(|| 0).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
