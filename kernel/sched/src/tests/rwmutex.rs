//! The steps of a lock for readers and a writer, one by one; the model checker has their races.

use super::{Entry, RwWord, WRITER};
use crate::sync::AtomicU32;

#[test]
fn readers_share() {
    let lock = RwWord::new();
    assert_eq!(lock.read(), Entry::Now);
    assert!(lock.try_read());
    assert!(!lock.try_write());
    assert_eq!(lock.readers(), 2);
    assert!(!lock.unread());
    assert!(!lock.unread());
    assert!(lock.try_write());
    assert!(!lock.try_read());
    assert_eq!(lock.unwrite(), 0);
    assert!(lock.try_read());
}

#[test]
fn a_writer_waits_for_those_who_read_and_keeps_others_out() {
    let lock = RwWord::new();
    assert_eq!((lock.read(), lock.read()), (Entry::Now, Entry::Now));
    assert_eq!(lock.write(), Entry::Wait);
    assert!(lock.has_writer());
    assert!(!lock.try_read());
    assert_eq!(lock.read(), Entry::Wait, "it has come later");
    assert!(!lock.unread());
    assert!(lock.unread(), "the last one wakes the writer");
    assert_eq!(lock.unwrite(), 1, "for the one that was kept out");
    assert!(!lock.has_writer());
    assert!(!lock.unread());
}

#[test]
fn a_downgraded_writer_is_a_reader() {
    let lock = RwWord::new();
    assert_eq!(lock.write(), Entry::Now);
    assert_eq!(lock.read(), Entry::Wait);
    assert_eq!(lock.downgrade(), 1, "the other one, not itself");
    assert_eq!(lock.readers(), 2);
    assert!(!lock.try_write());
    assert_eq!(lock.write(), Entry::Wait);
    assert!(!lock.unread());
    assert!(lock.unread());
}

#[test]
#[should_panic(expected = "nobody reads")]
fn an_end_without_a_beginning_is_noticed() {
    assert!(!RwWord::new().unread());
}

/// With as many readers as there may be.
fn crowded(writer: u32) -> RwWord {
    RwWord { state: AtomicU32::new(writer + (1 << 30)), ..RwWord::new() }
}

#[test]
#[should_panic(expected = "2^30 readers")]
fn readers_do_not_count_up_to_a_writer() {
    let _entry = crowded(0).read();
}

#[test]
#[should_panic(expected = "2^30 readers")]
fn readers_that_wait_do_not_either() {
    let _entry = crowded(WRITER).read();
}

#[test]
#[should_panic(expected = "2^30 readers")]
fn nor_do_those_that_try() {
    crowded(0).try_read();
}

#[test]
#[should_panic(expected = "2^30 readers")]
fn nor_does_a_writer_that_becomes_one() {
    let _readers = crowded(WRITER).downgrade();
}
