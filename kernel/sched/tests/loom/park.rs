//! Parking: a goroutine on its way to sleep against its wakers.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::thread;

use sched::status::{Cancelled, Parked, Ready, Status, StatusWord};

use crate::model;

/// A goroutine on its way to sleep: its state machine, its context, and the published handle.
struct Sleeper {
    status: StatusWord,
    context: AtomicU32,
    published: AtomicBool,
    /// What the waker did before it woke the goroutine.
    gift: AtomicU32,
    enqueued: AtomicU32,
}

impl Sleeper {
    fn running() -> Arc<Self> {
        let status = StatusWord::new();
        assert_eq!(status.spawn(), Ok(0));
        assert_eq!(status.run(), Ok(()));
        Arc::new(Self {
            status,
            context: AtomicU32::new(0),
            published: AtomicBool::new(false),
            gift: AtomicU32::new(0),
            enqueued: AtomicU32::new(0),
        })
    }

    /// The goroutine's CPU: two-phase park. Returns whether this side enqueued it.
    fn park(&self) {
        self.status.begin_park().expect("it runs");
        self.published.store(true, Ordering::Release);
        self.context.store(7, Ordering::Relaxed);
        match self.status.finish_park().expect("it parks") {
            Parked::Waiting => {}
            Parked::MustEnqueue => self.enqueue(),
        }
    }

    /// A waker: readies the goroutine if it is published. Returns whether its wake was accepted.
    fn wake(&self) -> bool {
        if !self.published.load(Ordering::Acquire) {
            return false;
        }
        self.gift.store(5, Ordering::Relaxed);
        match self.status.ready(0) {
            Ok(Ready::Enqueue) => self.enqueue(),
            Ok(Ready::AlreadyUp) => {}
            Err(_) => return false,
        }
        true
    }

    /// Puts it into a queue, from where another CPU runs it at once.
    fn enqueue(&self) {
        assert_eq!(self.context.load(Ordering::Relaxed), 7, "enqueued before its context was saved");
        assert_eq!(self.gift.load(Ordering::Relaxed), 5, "it does not see what its waker did");
        // Relaxed: this count is no part of the protocol and must not order it.
        self.enqueued.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_parking_goroutine_is_enqueued_exactly_once() {
    model(5, || {
        let sleeper = Sleeper::running();
        let waker = {
            let sleeper = Arc::clone(&sleeper);
            thread::spawn(move || sleeper.wake())
        };
        sleeper.park();
        let woken = waker.join().expect("the waker ends");
        assert_eq!(sleeper.enqueued.load(Ordering::Relaxed), u32::from(woken));
        let status = if woken { Status::Runnable } else { Status::Waiting };
        assert_eq!(sleeper.status.get(), (status, 0));
    });
}

#[test]
fn of_two_wakers_one_is_refused() {
    model(4, || {
        let sleeper = Sleeper::running();
        let wakers = [0; 2].map(|_| {
            let sleeper = Arc::clone(&sleeper);
            thread::spawn(move || sleeper.wake())
        });
        sleeper.park();
        let mut woken = 0;
        for waker in wakers {
            woken += u32::from(waker.join().expect("a waker ends"));
        }
        assert!(woken <= 1, "one park takes one wake");
        assert_eq!(sleeper.enqueued.load(Ordering::Relaxed), woken);
    });
}

#[test]
fn a_cancelled_park_knows_of_its_wake() {
    model(5, || {
        let sleeper = Sleeper::running();
        let waker = {
            let sleeper = Arc::clone(&sleeper);
            thread::spawn(move || sleeper.wake())
        };
        sleeper.status.begin_park().expect("it runs");
        sleeper.published.store(true, Ordering::Release);
        let cancelled = sleeper.status.cancel_park().expect("it parks");
        if cancelled == Cancelled::Woken {
            assert_eq!(sleeper.gift.load(Ordering::Relaxed), 5);
        }
        // A waker that comes after the cancellation is refused.
        let woken = waker.join().expect("the waker ends");
        assert_eq!(woken, cancelled == Cancelled::Woken);
        assert_eq!(sleeper.status.get(), (Status::Running, 0));
        assert_eq!(sleeper.enqueued.load(Ordering::Relaxed), 0);
    });
}
