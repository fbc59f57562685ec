//! A lock for readers and a writer: who may be inside with whom, and that nobody is forgotten.

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use sched::rwmutex::{Entry, RwWord};

use crate::model;
use crate::units::Units;

struct Guarded {
    word: RwWord,
    readers: Units,
    writer: Units,
    writers: Mutex<()>,
    value: UnsafeCell<u32>,
}

// SAFETY: the cell is what the scenes check: the model checker reports a writer who is not alone.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: RwWord::new(),
            readers: Units::default(),
            writer: Units::default(),
            writers: Mutex::new(()),
            value: UnsafeCell::new(0),
        })
    }

    fn read(&self) -> u32 {
        if self.word.read() == Entry::Wait {
            self.readers.acquire();
        }
        self.look_and_leave()
    }

    fn look_and_leave(&self) -> u32 {
        // SAFETY: no writer is inside; else the model checker says so.
        let value = self.value.with(|value| unsafe { *value });
        if self.word.unread() {
            self.writer.release();
        }
        value
    }

    fn write(&self) {
        let writers = self.writers.lock().expect("nobody panics");
        if self.word.write() == Entry::Wait {
            self.writer.acquire();
        }
        self.add();
        (0..self.word.unwrite()).for_each(|_| self.readers.release());
        drop(writers);
    }

    fn add(&self) {
        // SAFETY: nobody else is inside; else the model checker says so.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }
}

#[test]
fn a_writer_is_inside_alone_and_readers_are_not_forgotten() {
    model(3, || {
        let lock = Guarded::new();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || assert!(lock.read() <= 1))
            })
            .collect();
        lock.write();
        for reader in readers {
            reader.join().expect("no panic");
        }
        assert_eq!(lock.read(), 1);
    });
}

#[test]
fn two_writers_and_a_reader_are_not_forgotten() {
    model(2, || {
        let lock = Guarded::new();
        let other = Arc::clone(&lock);
        let writer = thread::spawn(move || other.write());
        let other = Arc::clone(&lock);
        let reader = thread::spawn(move || assert!(other.read() <= 2));
        lock.write();
        writer.join().expect("no panic");
        reader.join().expect("no panic");
        assert_eq!(lock.read(), 2);
    });
}

#[test]
fn a_reader_comes_beside_a_downgraded_writer() {
    model(3, || {
        let lock = Guarded::new();
        let other = Arc::clone(&lock);
        let reader = thread::spawn(move || assert!(other.read() <= 1));
        let writers = lock.writers.lock().expect("nobody panics");
        if lock.word.write() == Entry::Wait {
            lock.writer.acquire();
        }
        lock.add();
        (0..lock.word.downgrade()).for_each(|_| lock.readers.release());
        drop(writers);
        assert_eq!(lock.look_and_leave(), 1);
        reader.join().expect("no panic");
        lock.write();
    });
}
