//! Frames that a CPU keeps to hand out, without a lock.
//!
//! A place holds a frame or 0, and is emptied and filled by one exchange. So it does not matter who comes between: a page fault
//! of the same CPU in the middle of any function here, a CPU that has run dry and takes what others keep, or code that is moved
//! to another CPU meanwhile. Each frame is taken by one of them, and nobody waits. The level is where the owner looks first; a wrong
//! one costs a look at more places, or a frame that stays where it is until somebody looks at all.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Frames that a CPU keeps at most.
pub(super) const PLACES: usize = 31;

/// What a CPU keeps. Of the size of whole pairs of cache lines.
#[repr(align(256))]
pub(super) struct Cache {
    /// Places below this one are full, those from there on empty: a hint.
    level: AtomicU32,
    /// Physical addresses; 0 is nothing.
    places: [AtomicU64; PLACES],
}

impl Cache {
    pub(super) const fn new() -> Self {
        Self { level: AtomicU32::new(0), places: [const { AtomicU64::new(0) }; PLACES] }
    }

    fn level(&self) -> usize {
        // Relaxed, as the store is: a hint.
        (self.level.load(Ordering::Relaxed) as usize).min(PLACES)
    }

    fn set_level(&self, level: usize) {
        self.level.store(u32::try_from(level).unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes the frame that was put in last.
    pub(super) fn take(&self) -> Option<u64> {
        let found = (0..self.level()).rev().find_map(|at| Some((at, empty(&self.places[at])?)));
        self.set_level(found.map_or(0, |(at, _)| at));
        found.map(|(_, frame)| frame)
    }

    /// Puts a frame in, if there is room.
    pub(super) fn put(&self, frame: u64) -> bool {
        let found = (self.level()..PLACES).find(|&at| {
            // Release: pairs with the Acquire in `empty`; what was done with the frame comes first.
            self.places[at].compare_exchange(0, frame, Ordering::Release, Ordering::Relaxed).is_ok()
        });
        self.set_level(found.map_or(PLACES, |at| at + 1));
        found.is_some()
    }

    /// Takes any frame, on whatever CPU.
    pub(super) fn steal(&self) -> Option<u64> {
        self.places.iter().find_map(empty)
    }

    /// Frames that are kept.
    pub(super) fn len(&self) -> u64 {
        // Relaxed: exact when nobody takes or puts any meanwhile.
        self.places.iter().filter(|place| place.load(Ordering::Relaxed) != 0).count() as u64
    }
}

/// Takes what is in a place.
fn empty(place: &AtomicU64) -> Option<u64> {
    // Relaxed: the look saves an exchange. Acquire: pairs with the Release in `put`.
    let full = place.load(Ordering::Relaxed) != 0;
    full.then(|| place.swap(0, Ordering::Acquire)).filter(|&frame| frame != 0)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::{Cache, PLACES};

    #[test]
    fn what_was_put_in_last_comes_out_first() {
        let cache = Cache::new();
        assert_eq!(cache.take(), None);
        let frames: Vec<u64> = (1..=PLACES as u64).collect();
        assert!(frames.iter().all(|&frame| cache.put(frame)));
        assert!(!cache.put(99), "it is full");
        assert_eq!(cache.len(), PLACES as u64);
        let taken: Vec<u64> = core::iter::from_fn(|| cache.take()).collect();
        assert!(taken.iter().eq(frames.iter().rev()));
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_frame_above_the_level_is_found_by_who_looks_at_all() {
        let cache = Cache::new();
        assert!(cache.put(1) && cache.put(2) && cache.put(3));
        assert_eq!(cache.steal(), Some(1));
        cache.set_level(1);
        assert_eq!(cache.take(), None);
        assert!(cache.put(4), "a place is empty");
        assert_eq!(cache.len(), 3);
        let mut rest: Vec<u64> = core::iter::from_fn(|| cache.steal()).collect();
        rest.sort_unstable();
        assert_eq!(rest, [2, 3, 4]);
    }

    #[test]
    fn each_frame_is_taken_once_whoever_takes() {
        const FRAMES: u64 = if cfg!(miri) { 200 } else { 100_000 };
        let cache = Cache::new();
        let (sum, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        let count = |frame| {
            sum.fetch_add(frame, Ordering::Relaxed);
            taken.fetch_add(1, Ordering::Relaxed);
        };
        let put = |frame| {
            while !cache.put(frame) {
                cache.take().into_iter().for_each(count);
            }
        };
        let owner = || {
            for frame in 1..=FRAMES {
                put(frame);
                (0..frame % 2).filter_map(|_| cache.take()).for_each(count);
            }
        };
        let thief = || {
            while taken.load(Ordering::Relaxed) < FRAMES {
                cache.steal().into_iter().for_each(count);
                std::thread::yield_now();
            }
        };
        std::thread::scope(|s| {
            s.spawn(owner);
            s.spawn(thief);
        });
        assert_eq!(taken.load(Ordering::Relaxed), FRAMES);
        assert_eq!(sum.load(Ordering::Relaxed), FRAMES * (FRAMES + 1) / 2);
    }
}
