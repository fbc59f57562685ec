//! A handler that fills a ring, and a reader that empties it: no byte stays in a device that interrupts no more, and no reader
//! waits beside a byte.

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use sched::input::{Device, Input};
use sched::sema::try_acquire;

use crate::model;

/// A device with some bytes, which are numbered. Its interrupts are taken by one CPU, one after the other.
struct Source {
    ring: Input,
    received: AtomicU32,
    most: u32,
    enabled: AtomicU32,
    cpu: Mutex<()>,
}

/// The handler's side: interrupts that come on are its own, and it looks itself.
struct Handler<'a>(&'a Source);
/// The reader's: interrupts that come on find what is there.
struct Reader<'a>(&'a Source);

impl Device for Handler<'_> {
    fn receive(&self) -> Option<u8> {
        let next = self.0.received.load(Ordering::Relaxed);
        (next < self.0.most).then(|| {
            self.0.received.store(next + 1, Ordering::Relaxed);
            next.to_le_bytes()[0]
        })
    }

    fn enable_interrupts(&self) {
        self.0.enabled.store(1, Ordering::SeqCst);
    }

    fn disable_interrupts(&self) {
        self.0.enabled.store(0, Ordering::SeqCst);
    }
}

impl Device for Reader<'_> {
    fn receive(&self) -> Option<u8> {
        unreachable!("only the handler receives")
    }

    fn enable_interrupts(&self) {
        self.0.enabled.store(1, Ordering::SeqCst);
        self.0.interrupt();
    }

    fn disable_interrupts(&self) {
        unreachable!("only the handler does that")
    }
}

impl Source {
    fn new(capacity: u32, most: u32) -> Arc<Self> {
        Arc::new(Self {
            ring: Input::new(capacity),
            received: AtomicU32::new(0),
            most,
            enabled: AtomicU32::new(1),
            cpu: Mutex::new(()),
        })
    }

    /// What the CPU does about bytes that are there.
    fn interrupt(&self) {
        let cpu = self.cpu.lock().expect("nobody panics");
        if self.enabled.load(Ordering::SeqCst) != 0 {
            self.ring.fill(&Handler(self));
        }
        drop(cpu);
    }

    /// Takes a byte; it has to be this one.
    fn take(&self, expected: &mut u8) -> bool {
        let mut byte = [0xff];
        let took = self.ring.take(&Reader(self), &mut byte) == 1;
        if took {
            assert_eq!(byte[0], *expected);
            *expected += 1;
        }
        took
    }
}

#[test]
fn no_byte_stays_in_a_silent_device() {
    model(3, || {
        let source = Source::new(1, 3);
        let other = Arc::clone(&source);
        let handler = thread::spawn(move || other.interrupt());
        let mut expected = 0;
        for _ in 0..2 {
            source.take(&mut expected);
        }
        handler.join().expect("it ends");
        while u32::from(expected) < source.most {
            assert!(source.take(&mut expected), "{expected} bytes came, and no more will");
        }
    });
}

#[test]
fn no_reader_waits_beside_a_byte() {
    model(3, || {
        let source = Source::new(2, 1);
        // Left from bytes that somebody has read since.
        let units = Arc::new(sched::sync::AtomicU32::new(1));
        let (other, owed) = (Arc::clone(&source), Arc::clone(&units));
        let handler = thread::spawn(move || {
            other.interrupt();
            if other.ring.owes_unit(&owed) {
                owed.fetch_add(1, Ordering::Release);
            }
        });
        let mut expected = 0;
        let mut read = source.take(&mut expected);
        while !read && try_acquire(&units) {
            read = source.take(&mut expected);
        }
        handler.join().expect("it ends");
        assert!(read || units.load(Ordering::Relaxed) > 0, "it waits, and nobody wakes it");
    });
}
