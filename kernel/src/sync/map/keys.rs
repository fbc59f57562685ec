//! What is done with one key: each call takes the lock of its table once, or twice where a value has to be made.

use core::borrow::Borrow;
use core::hash::Hash;
use core::mem;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::stacks::{OwnStack, check_g_stack};

use super::Map;
use super::seed::Seed;

impl<K: Hash + Eq, V> Map<K, V> {
    /// The value of a key, as a copy. Go's `Map.Load`. May block, on the goroutine's own stack.
    ///
    /// ```
    /// use alloc::string::String;
    ///
    /// let map = gzero::sync::Map::new();
    /// map.insert(String::from("a"), 1);
    /// assert_eq!((map.get("a"), map.get("b")), (Some(1), None));
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let me = check_g_stack("Map::get");
        self.look((me, self.seed.hash(key)), key, V::clone)
    }

    /// What a function makes of the value of a key; without it, it is not called. May block, on the goroutine's own
    /// stack.
    ///
    /// The function runs under the table's lock, shared with other readers. It is to be short, and must neither use the map
    /// nor wait for anybody who does.
    ///
    /// ```
    /// let map = gzero::sync::Map::new();
    /// map.insert(1, alloc::vec![1, 2, 3]);
    /// assert_eq!(map.with(&1, |list| list[0]), Some(1));
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn with<Q, R>(&self, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let me = check_g_stack("Map::with");
        self.look((me, self.seed.hash(key)), key, f)
    }

    fn look<Q, R>(&self, (me, hash): (OwnStack, u64), key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let table = self.table(hash).share(me);
        table.find(hash, |entry| entry.0.borrow() == key).map(|entry| f(&entry.1))
    }

    /// Gives a key a value and returns the one it had. Go's `Map.Swap`, and `Map.Store`. A key that is there already stays,
    /// and the new one is dropped. May block, on the goroutine's own stack.
    ///
    /// ```
    /// let map = gzero::sync::Map::new();
    /// assert_eq!(map.insert("a", 1), None);
    /// assert_eq!(map.insert("a", 2), Some(1));
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        let me = check_g_stack("Map::insert");
        let hash = self.seed.hash(&key);
        let replaced = put(&mut self.table(hash).take(me), &self.seed, hash, key, value);
        // Here, without the lock, the surplus key is dropped.
        replaced.map(|(_, value)| value)
    }

    /// The value of a key, which is made if there is none; and whether there was one. Go's `Map.LoadOrStore`. May block,
    /// on the goroutine's own stack.
    ///
    /// The value is made without a lock. If somebody else is faster, his is the value, and this one is dropped.
    ///
    /// ```
    /// let map = gzero::sync::Map::new();
    /// assert_eq!(map.get_or_insert_with("a", || 1), (1, false));
    /// assert_eq!(map.get_or_insert_with("a", || 2), (1, true));
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> V) -> (V, bool)
    where
        V: Clone,
    {
        let me = check_g_stack("Map::get_or_insert_with");
        let hash = self.seed.hash(&key);
        if let Some(value) = self.look((me, hash), &key, V::clone) {
            return (value, true);
        }
        let value = make();
        let mut table = self.table(hash).take(me);
        let (there, surplus) = match entry(&mut table, &self.seed, hash, &key) {
            Entry::Occupied(entry) => (Some(entry.get().1.clone()), Some(key)),
            Entry::Vacant(entry) => {
                entry.insert((key, value.clone()));
                (None, None)
            }
        };
        drop(table);
        drop(surplus);
        match there {
            Some(there) => (there, true),
            None => (value, false),
        }
    }

    /// Removes a key and returns its value. Go's `Map.LoadAndDelete`, and `Map.Delete`. May block, on the goroutine's own
    /// stack.
    ///
    /// ```
    /// let map = gzero::sync::Map::new();
    /// map.insert("a", 1);
    /// assert_eq!((map.remove("a"), map.remove("a")), (Some(1), None));
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let me = check_g_stack("Map::remove");
        let hash = self.seed.hash(key);
        let mut table = self.table(hash).take(me);
        let removed =
            table.find_entry(hash, |entry| entry.0.borrow() == key).ok().map(|found| found.remove().0);
        drop(table);
        removed.map(|(_, value)| value)
    }

    /// Gives a key a value if its value equals `old`, and returns that one. Go's `Map.CompareAndSwap`. May block, on the
    /// goroutine's own stack.
    ///
    /// ```
    /// let map = gzero::sync::Map::new();
    /// assert_eq!(map.compare_exchange("a", &1, 2), Err(None));
    /// map.insert("a", 1);
    /// assert_eq!(map.compare_exchange("a", &1, 2), Ok(1));
    /// assert_eq!(map.compare_exchange("a", &1, 3), Err(Some(2)));
    /// ```
    ///
    /// # Errors
    /// The value that the key has instead, if it has one.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn compare_exchange<Q>(&self, key: &Q, old: &V, new: V) -> Result<V, Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: PartialEq + Clone,
    {
        let me = check_g_stack("Map::compare_exchange");
        let hash = self.seed.hash(key);
        // Of this function's values the lock is given back first, and `new` dropped last.
        let mut table = self.table(hash).take(me);
        match table.find_mut(hash, |entry| entry.0.borrow() == key) {
            Some((_, value)) if value == old => Ok(mem::replace(value, new)),
            Some((_, value)) => Err(Some(value.clone())),
            None => Err(None),
        }
    }

    /// Removes a key if its value equals `old`, and returns that value. Go's `Map.CompareAndDelete`. May block, on the
    /// goroutine's own stack.
    ///
    /// ```
    /// let map = gzero::sync::Map::new();
    /// map.insert("a", 1);
    /// assert_eq!(map.compare_remove("a", &2), Err(Some(1)));
    /// assert_eq!(map.compare_remove("a", &1), Ok(1));
    /// assert_eq!(map.compare_remove("a", &1), Err(None));
    /// ```
    ///
    /// # Errors
    /// The value that the key has instead, if it has one.
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn compare_remove<Q>(&self, key: &Q, old: &V) -> Result<V, Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: PartialEq + Clone,
    {
        let me = check_g_stack("Map::compare_remove");
        let hash = self.seed.hash(key);
        let mut table = self.table(hash).take(me);
        let removed = match table.find_entry(hash, |entry| entry.0.borrow() == key) {
            Ok(found) if found.get().1 == *old => Ok(found.remove().0),
            Ok(found) => Err(Some(found.get().1.clone())),
            Err(_) => Err(None),
        };
        drop(table);
        removed.map(|(_, value)| value)
    }
}

/// The place of a key in its table.
fn entry<'t, K: Hash + Eq, V>(
    table: &'t mut HashTable<(K, V)>,
    seed: &Seed,
    hash: u64,
    key: &K,
) -> Entry<'t, (K, V)> {
    table.entry(hash, |entry| entry.0 == *key, |entry| seed.hash(&entry.0))
}

/// Gives a key a value, and returns what is not needed any more.
pub(super) fn put<K: Hash + Eq, V>(
    table: &mut HashTable<(K, V)>,
    seed: &Seed,
    hash: u64,
    key: K,
    value: V,
) -> Option<(K, V)> {
    match entry(table, seed, hash, &key) {
        Entry::Occupied(mut entry) => Some((key, mem::replace(&mut entry.get_mut().1, value))),
        Entry::Vacant(entry) => {
            entry.insert((key, value));
            None
        }
    }
}
