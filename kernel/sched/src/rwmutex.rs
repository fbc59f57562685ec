//! A lock for one writer or many readers. Go's: a writer that waits keeps new readers out, and the readers that it kept out
//! all go before the next writer. So neither side starves.
//!
//! Writers exclude each other by a mutex of the kernel's, around [`RwWord::write`] and [`RwWord::unwrite`]. One word counts
//! the readers; its top bit says that a writer has announced itself.
//!
//! | | |
//! |---|---|
//! | [`RwWord::read`] | one more; beside a writer it waits for a unit of [`RwWord::readers_sema`] |
//! | [`RwWord::unread`] | one less; beside a writer it is one of those whom that waits for, and the last wakes it |
//! | [`RwWord::write`] | announces the writer; those who read at that instant have to leave first |
//! | [`RwWord::unwrite`] | takes that back; those who have come meanwhile read, by a unit each |
//!
//! # Why the writer is woken once, by the last
//!
//! The announcement is one read-modify-write, so that each reader was counted either before it (and so among the `r` that
//! the writer finds), or after it (and so waits). Each of those `r` finds the writer when it leaves, and takes one off
//! `leaving`; the writer adds `r` to it. These `r + 1` changes bring `leaving` back to 0 once, by whichever comes last: it
//! is the writer, who then does not wait, or a reader, who then wakes it. A change that comes before the writer's makes the
//! count pass below 0, which is no matter.
//!
//! # Order of memory
//!
//! All of them are `AcqRel`: what a reader did before it left is visible to the writer by `leaving` or by the word, what a
//! writer did to the readers by the word, or by the semaphore.

use crate::sync::{AtomicU32, Ordering, const_unless_modelled};

/// A writer is there. Added a second time, it is gone.
const WRITER: u32 = 1 << 31;
/// There may be as many readers; more could only be guards that were leaked, and would add up to a [`WRITER`].
///
/// The first that is one too many ends the machine. Far fewer than the rest can come before it has.
const MOST_READERS: u32 = 1 << 30;

/// The words of the lock.
#[derive(Debug, Default)]
pub struct RwWord {
    state: AtomicU32,
    /// Readers that the writer waits for.
    leaving: AtomicU32,
    writer_sema: AtomicU32,
    readers_sema: AtomicU32,
}

/// Whether who asked may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who has to wait acquires a unit first"]
pub enum Entry {
    /// At once.
    Now,
    /// When it has acquired a unit of its semaphore.
    Wait,
}

const fn has_writer(state: u32) -> bool {
    state & WRITER != 0
}

/// Readers, those who wait included.
const fn readers_of(state: u32) -> u32 {
    state & !WRITER
}

/// Whether one more may read, by what was found when it was counted.
#[inline]
fn check_readers(before: u32) {
    assert!(readers_of(before) < MOST_READERS, "more than 2^30 readers");
}

impl RwWord {
    const_unless_modelled! {
        /// A lock that nobody has.
        pub fn new() -> Self {
            Self {
                state: AtomicU32::new(0),
                leaving: AtomicU32::new(0),
                writer_sema: AtomicU32::new(0),
                readers_sema: AtomicU32::new(0),
            }
        }
    }

    /// Where a writer waits for readers.
    pub fn writer_sema(&self) -> &AtomicU32 {
        &self.writer_sema
    }

    /// Where readers wait for a writer.
    pub fn readers_sema(&self) -> &AtomicU32 {
        &self.readers_sema
    }

    /// Begins to read.
    ///
    /// # Panics
    ///
    /// There are 2^30 readers already.
    #[inline]
    pub fn read(&self) -> Entry {
        let before = self.state.fetch_add(1, Ordering::AcqRel);
        // One comparison for both.
        if before < MOST_READERS { Entry::Now } else { Self::read_beside_writer(before) }
    }

    #[cold]
    fn read_beside_writer(before: u32) -> Entry {
        check_readers(before);
        Entry::Wait
    }

    /// Begins to read if no writer is there.
    ///
    /// # Panics
    ///
    /// There are 2^30 readers already.
    pub fn try_read(&self) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while !has_writer(state) {
            check_readers(state);
            match self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(found) => state = found,
            }
        }
        false
    }

    /// Ends to read. `true`: release a unit of [`writer_sema`](Self::writer_sema).
    #[must_use = "the writer may have to be woken"]
    #[inline]
    pub fn unread(&self) -> bool {
        let before = self.state.fetch_sub(1, Ordering::AcqRel);
        assert!(readers_of(before) > 0, "nobody reads");
        has_writer(before) && self.leaving.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Announces a writer, who has the mutex of writers.
    pub fn write(&self) -> Entry {
        let readers = readers_of(self.state.fetch_add(WRITER, Ordering::AcqRel));
        let all_left =
            readers == 0 || self.leaving.fetch_add(readers, Ordering::AcqRel).wrapping_add(readers) == 0;
        if all_left { Entry::Now } else { Entry::Wait }
    }

    /// Begins to write if nobody reads. The caller has the mutex of writers.
    pub fn try_write(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends to write: release as many units of [`readers_sema`](Self::readers_sema), then the mutex of writers.
    #[must_use = "readers may have to be woken"]
    pub fn unwrite(&self) -> u32 {
        readers_of(self.state.fetch_add(WRITER, Ordering::AcqRel))
    }

    /// Ends to write and begins to read, without a writer in between; the rest as [`unwrite`](Self::unwrite).
    ///
    /// # Panics
    ///
    /// 2^30 readers wait.
    #[must_use = "readers may have to be woken"]
    pub fn downgrade(&self) -> u32 {
        let before = self.state.fetch_add(WRITER + 1, Ordering::AcqRel);
        check_readers(before);
        readers_of(before)
    }

    /// Readers, those who wait included.
    pub fn readers(&self) -> u32 {
        readers_of(self.state.load(Ordering::Relaxed))
    }

    /// Whether a writer writes, or waits for readers.
    pub fn has_writer(&self) -> bool {
        has_writer(self.state.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
#[path = "tests/rwmutex.rs"]
mod tests;
