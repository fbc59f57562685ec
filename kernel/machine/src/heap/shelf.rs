//! Spans on a shelf, by number: put there and taken by one exchange, for whoever finds the arena's lock busy.

use core::sync::atomic::{AtomicU32, Ordering};

use super::tables::Number;

/// Places of a shelf.
const PLACES: usize = 64;

/// Places for numbers; 0 is an empty one.
#[derive(Debug)]
pub(super) struct Shelf {
    places: [AtomicU32; PLACES],
    /// How many are full, or were a moment ago or will be in a moment.
    len: AtomicU32,
}

impl Shelf {
    pub(super) const fn new() -> Self {
        Self { places: [const { AtomicU32::new(0) }; PLACES], len: AtomicU32::new(0) }
    }

    /// How many numbers there are, at about this moment.
    pub(super) fn len(&self) -> usize {
        // Relaxed, as everywhere: a hint.
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Puts a number in, if there is room.
    pub(super) fn put(&self, number: Number) -> bool {
        // Before it can be taken: the count does not pass 0.
        self.len.fetch_add(1, Ordering::Relaxed);
        let fill = |place: &AtomicU32| {
            // Release: pairs with the Acquire in `take`; what the description says comes first.
            place.compare_exchange(0, number, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        let has_room = self.places.iter().any(fill);
        if !has_room {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        has_room
    }

    /// Takes a number, if there is one.
    pub(super) fn take(&self) -> Option<Number> {
        if self.len() == 0 {
            return None;
        }
        // Relaxed: the look saves an exchange. Acquire: pairs with the Release in `put`.
        let full = self.places.iter().filter(|place| place.load(Ordering::Relaxed) != 0);
        let number = full.map(|place| place.swap(0, Ordering::Acquire)).find(|number| *number != 0)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::{PLACES, Shelf};

    #[test]
    fn a_full_shelf_takes_no_more_and_gives_each_number_once() {
        let shelf = Shelf::new();
        assert_eq!(shelf.take(), None);
        for number in 1.. {
            if !shelf.put(number) {
                assert_eq!((number as usize, shelf.len()), (PLACES + 1, PLACES));
                break;
            }
        }
        let mut numbers: Vec<u32> = core::iter::from_fn(|| shelf.take()).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=64));
        assert_eq!(shelf.len(), 0);
    }

    #[test]
    fn each_number_is_taken_by_one() {
        const NUMBERS: u32 = if cfg!(miri) { 100 } else { 50_000 };
        let (shelf, sum) = (Shelf::new(), AtomicU64::new(0));
        let work = |first: u32| {
            for number in (first..=NUMBERS).step_by(3) {
                while !shelf.put(number) {
                    std::thread::yield_now();
                }
                let taken = shelf.take().map_or(0, u64::from);
                sum.fetch_add(taken, Ordering::Relaxed);
            }
        };
        std::thread::scope(|s| (1..=3).for_each(|first| drop(s.spawn(move || work(first)))));
        let rest: u64 = core::iter::from_fn(|| shelf.take()).map(u64::from).sum();
        let all = u64::from(NUMBERS) * (u64::from(NUMBERS) + 1) / 2;
        assert_eq!(sum.load(Ordering::Relaxed) + rest, all);
    }
}
