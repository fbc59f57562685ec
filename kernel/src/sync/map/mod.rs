//! A map that many goroutines use at once.
//!
//! It is a number of tables, each behind a lock of its own, and a key's hash says in which table it is: so two calls meet
//! only where they happen to use the same table, or the same key.
//!
//! What runs under a table's lock: comparisons of keys, hashes (when the table grows), clones, comparisons of values, and
//! the closure of [`Map::with`]. Everything else of the program's runs without: what makes values, what looks at all
//! entries, and each drop of what was replaced, removed or not needed.

mod keys;
mod seed;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use core::hash::Hash;
use core::mem;
use core::ops::ControlFlow;

use hashbrown::HashTable;
use sched::sync::Padded;

use crate::stacks::{OwnStack, check_g_stack};
use crate::stats::num_cpu;

use super::rwmutex::RwMutex;
use keys::put;
use seed::Seed;

/// Tables for each CPU: two CPUs that use one map seldom meet.
const TABLES_PER_CPU: usize = 4;
/// A map has no more tables than these.
const MOST_TABLES: usize = 64;

/// Entries behind a lock, and on cache lines of their own.
type Table<K, V> = Padded<RwMutex<HashTable<(K, V)>>>;

/// Values by keys, for many goroutines at once. Go's `sync.Map`, with types.
///
/// A key is in one of several tables (four for each CPU, at most 64), each behind its own [`RwMutex`]; those who use
/// different tables do not meet, nor do those who only read. Every call takes the lock of one table and gives it back, so it
/// may wait while another call is at work in the same table. Calls about one key are in one order for all goroutines; what
/// one did with the map happens before what is done by those who see it there. A map that one goroutine at a time changes
/// as a whole is a matter for an [`RwMutex`] around a map of the usual kind.
///
/// `Hash`, `Eq`, `Clone` and `PartialEq` of keys and values are called under the table's lock, and so is the closure of
/// [`with`](Self::with): in these no function of the map may be called, or it waits for itself. Nothing is dropped
/// there. Each map hashes with a seed of its own, which protects against keys that were chosen to collide.
///
/// ```
/// use alloc::sync::Arc;
/// use gzero::sync::{LazyLock, Map, WaitGroup};
///
/// static SQUARES: LazyLock<Map<u32, u32>> = LazyLock::new(Map::new);
///
/// let all = Arc::new(WaitGroup::new());
/// for n in 0..10 {
///     all.go(move || {
///         SQUARES.insert(n, n * n);
///     });
/// }
/// all.wait();
/// assert_eq!(SQUARES.get(&7), Some(49));
/// assert_eq!(SQUARES.len(), 10);
/// ```
pub struct Map<K, V> {
    /// A power of two of them.
    tables: Box<[Table<K, V>]>,
    seed: Seed,
}

impl<K, V> Map<K, V> {
    /// An empty map. Does not wait; on any stack of a goroutine.
    ///
    /// ```
    /// assert!(gzero::sync::Map::<u32, u32>::new().is_empty());
    /// ```
    pub fn new() -> Self {
        let count = (TABLES_PER_CPU * num_cpu()).next_power_of_two().min(MOST_TABLES);
        let table = || Padded(RwMutex::named("map", HashTable::new()));
        Self { tables: (0..count).map(|_| table()).collect(), seed: Seed::new() }
    }

    /// The number of a hash's table, by bits that the table itself does not look at.
    fn number(&self, hash: u64) -> usize {
        usize::from((hash >> 48) as u16) & (self.tables.len() - 1)
    }

    /// The table of a hash.
    fn table(&self, hash: u64) -> &RwMutex<HashTable<(K, V)>> {
        &self.tables[self.number(hash)]
    }

    /// How many entries there are. Counts table after table, so it is exact only while nobody changes the map. May block, on
    /// the goroutine's own stack.
    ///
    /// ```
    /// let map: gzero::sync::Map<_, _> = [(1, 'a'), (2, 'b')].into_iter().collect();
    /// assert_eq!(map.len(), 2);
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn len(&self) -> usize {
        let me = check_g_stack("Map::len");
        self.tables.iter().map(|table| table.share(me).len()).sum()
    }

    /// Whether there is no entry. Looks at table after table, like [`len`](Self::len). May block, on the goroutine's own
    /// stack.
    ///
    /// ```
    /// let map = gzero::sync::Map::new();
    /// map.insert("a", 1);
    /// assert!(!map.is_empty());
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn is_empty(&self) -> bool {
        let me = check_g_stack("Map::is_empty");
        self.tables.iter().all(|table| table.share(me).is_empty())
    }

    /// Removes all entries, and drops them. Go's `Map.Clear`, but that it goes from table to table: what others insert
    /// meanwhile may go or stay. Allocates nothing. May block, on the goroutine's own stack.
    ///
    /// ```
    /// let map = gzero::sync::Map::new();
    /// map.insert("a", 1);
    /// map.clear();
    /// assert!(map.is_empty());
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn clear(&self) {
        let me = check_g_stack("Map::clear");
        for table in &self.tables {
            let entries = mem::take(&mut *table.take(me));
            drop(entries);
        }
    }

    /// Calls a function with each entry. Go's `Map.Range`.
    ///
    /// A key that is in the map during the whole call comes once, one that is inserted or removed meanwhile at most once.
    /// Its value is one that it had at some time of the call; all values together need never have been there at one moment.
    ///
    /// The function gets copies and runs without any lock, so it may use the map itself, change it and wait. The copies of
    /// one table are made at a time, and take memory until the function has seen them; of an empty map none. May block, on
    /// the goroutine's own stack. [`try_for_each`](Self::try_for_each) can end early.
    ///
    /// ```
    /// let map: gzero::sync::Map<_, _> = [(1, 10), (2, 20)].into_iter().collect();
    /// let mut sum = 0;
    /// map.for_each(|key, value| {
    ///     sum += value;
    ///     map.remove(&key);
    /// });
    /// assert_eq!((sum, map.len()), (30, 0));
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn for_each(&self, mut f: impl FnMut(K, V))
    where
        K: Clone,
        V: Clone,
    {
        let me = check_g_stack("Map::for_each");
        let ControlFlow::Continue(()) = self.walk(me, |key, value| {
            f(key, value);
            ControlFlow::<Infallible>::Continue(())
        });
    }

    /// Calls a function with each entry, as [`for_each`](Self::for_each) does, until it breaks. May block, on the
    /// goroutine's own stack.
    ///
    /// ```
    /// use core::ops::ControlFlow;
    ///
    /// let map: gzero::sync::Map<_, _> = [(1, 10), (2, 20)].into_iter().collect();
    /// let found = map.try_for_each(|key, value| match value {
    ///     20 => ControlFlow::Break(key),
    ///     _ => ControlFlow::Continue(()),
    /// });
    /// assert_eq!(found, ControlFlow::Break(2));
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn try_for_each<B>(&self, f: impl FnMut(K, V) -> ControlFlow<B>) -> ControlFlow<B>
    where
        K: Clone,
        V: Clone,
    {
        let me = check_g_stack("Map::try_for_each");
        self.walk(me, f)
    }

    fn walk<B>(&self, me: OwnStack, mut f: impl FnMut(K, V) -> ControlFlow<B>) -> ControlFlow<B>
    where
        K: Clone,
        V: Clone,
    {
        let mut copies = Vec::new();
        for table in &self.tables {
            copies.extend(table.share(me).iter().cloned());
            for (key, value) in copies.drain(..) {
                f(key, value)?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Hash + Eq, V> Extend<(K, V)> for Map<K, V> {
    /// Inserts entries; of a key that comes twice the last value counts. Takes no lock, for nobody else has the map.
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            let hash = self.seed.hash(&key);
            let number = self.number(hash);
            drop(put(self.tables[number].0.get_mut(), &self.seed, hash, key, value));
        }
    }
}

impl<K: Hash + Eq, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K, V> fmt::Debug for Map<K, V> {
    /// How many tables and entries there are; the latter only if no table is being changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tables = self.tables.iter();
        let entries = tables.try_fold(0, |sum, table| Some(sum + table.try_read()?.len()));
        f.debug_struct("Map")
            .field("tables", &self.tables.len())
            .field("len", &entries)
            .finish_non_exhaustive()
    }
}
