//! Timers and sleeps, from Go's `time/sleep_test.go`: what comes at a time, what is stopped, what is set anew.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gzero::chan::{Receiver, chan};
use gzero::time::{Duration, FuncTimer, Instant, Timer, after, after_func, sleep};
use gzero::{
    StackKind, StopReason, go, gomaxprocs, gosched, stack_kind, start_the_world, stop_the_world, unpark,
};
use tests::{Random, Verdict, equal, together};

tests::image! {
    pass: [
        a_sleep_is_not_short,
        a_sleep_of_zero_returns_while_the_world_stops,
        the_end_of_time_does_not_come,
        functions_at_a_time_set_the_next,
        a_function_comes_while_two_play_ping_pong,
        after_delivers_nothing_before_its_time,
        one_after_the_other_takes_its_time,
        a_stopped_timer_delivers_nothing,
        a_stopped_function_is_not_called,
        timers_fire_in_the_order_of_their_times,
        functions_are_called_in_the_order_of_their_times,
        of_many_functions_those_are_called_that_were_not_stopped,
        a_reset_timer_fires_at_its_new_time,
        timers_of_zero_fire_at_once,
        functions_of_zero_are_called_at_once,
        a_function_is_set_to_zero_again_and_again,
        a_timer_that_is_moved_to_now_again_and_again_fires,
        timers_that_are_moved_to_and_fro_fire,
        a_stop_says_whether_something_is_left_to_receive,
        a_reset_says_whether_something_is_left_to_receive,
        many_wait_for_a_timer_that_all_of_them_reset,
        a_call_that_is_owed_is_prevented,
        a_function_is_dropped_by_a_goroutine,
    ]
}

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

/// A function at a time that delivers an instant: a timer by other means.
fn timer_func(length: Duration) -> (FuncTimer, Receiver<Instant>) {
    let (sender, receiver) = chan(1);
    let timer = after_func(length, move || sender.send(Instant::now()).expect("somebody waits"));
    (timer, receiver)
}

/// `TestSleep`.
fn a_sleep_is_not_short() {
    let me = gzero::current();
    for length in [MILLI / 1_000, MILLI, 20 * MILLI] {
        go(move || {
            sleep(length / 2);
            // Nothing that a sleeper waits for.
            unpark(me);
        });
        let start = Instant::now();
        sleep(length);
        assert!(start.elapsed() >= length, "{:?} of {length:?}", start.elapsed());
    }
}

/// `TestSleepZeroDeadlock`.
fn a_sleep_of_zero_returns_while_the_world_stops() {
    let (done, end) = chan(0);
    go(move || {
        for _ in 0..50 {
            start_the_world(stop_the_world(StopReason::Program));
        }
        done.send(()).expect("somebody waits");
    });
    for n in 0..100 {
        sleep(Duration::ZERO);
        let (sender, receiver) = chan(1);
        sender.send(n).expect("there is room");
        assert_eq!(receiver.recv(), Ok(n));
    }
    end.recv().expect("it ends");
}

/// `TestOverflowSleep`.
fn the_end_of_time_does_not_come() {
    // It is left asleep.
    go(|| {
        sleep(Duration::MAX);
        panic!("the end of time has come");
    });
    let almost = Duration::from_nanos(u64::MAX / 2);
    let ends = [after(Duration::MAX), after(almost), Timer::at(Instant::NEVER)];
    after(20 * MILLI).recv();
    for end in &ends {
        assert!(end.receiver().try_recv().is_err());
        assert!(end.stop(), "it is set, to a time that does not come");
        assert!(!end.reset(Duration::MAX));
        assert!(end.reset(Duration::ZERO));
        end.recv();
    }
}

/// `TestAfterFunc`: each function sets the next and stays for a while.
fn functions_at_a_time_set_the_next() {
    fn next(left: u32, done: gzero::Sender<()>) {
        after_func(Duration::ZERO, move || match left.checked_sub(1) {
            Some(left) => {
                next(left, done.clone());
                sleep(5 * MILLI);
            }
            None => done.send(()).expect("somebody waits"),
        });
    }
    let (done, end) = chan(0);
    next(10, done);
    end.recv().expect("it comes");
}

/// `TestAfterFuncStarvation`.
fn a_function_comes_while_two_play_ping_pong() {
    let old = gomaxprocs(1);
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = chan(1);
    let (done, end) = chan(2);
    let (stopped, over) = (Arc::clone(&stop), done.clone());
    go(move || {
        while !stopped.load(Ordering::Relaxed) {
            sender.send(true).expect("somebody receives");
        }
        over.send(()).expect("somebody waits");
    });
    go(move || {
        receiver.iter().for_each(drop);
        done.send(()).expect("somebody waits");
    });
    after_func(Duration::from_micros(1), move || stop.store(true, Ordering::Relaxed));
    assert_eq!(end.iter().count(), 2);
    gomaxprocs(i32::try_from(old).expect("at most 256"));
}

/// `TestAfter`.
fn after_delivers_nothing_before_its_time() {
    for length in [Duration::ZERO, MILLI, 30 * MILLI] {
        let start = Instant::now();
        let fired = after(length).recv();
        assert!(start.elapsed() >= length);
        assert!(fired >= start + length, "{fired:?} is before {:?}", start + length);
        assert!(fired <= Instant::now());
    }
}

/// `TestAfterTick`.
fn one_after_the_other_takes_its_time() {
    let start = Instant::now();
    for _ in 0..10 {
        after(2 * MILLI).recv();
    }
    assert!(start.elapsed() >= 20 * MILLI);
}

/// `TestAfterStop` with channels.
fn a_stopped_timer_delivers_nothing() {
    let early = Timer::new(3 * MILLI);
    let other = Timer::new(2 * MILLI);
    assert!(early.stop(), "it has not fired, or that was not received");
    assert!(!early.stop());
    after(6 * MILLI).recv();
    assert!(early.receiver().try_recv().is_err(), "it was stopped");
    assert!(!early.stop());
    other.recv();
    assert!(!other.stop(), "it has fired");
}

/// `TestAfterStop` with functions.
fn a_stopped_function_is_not_called() {
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let timer = after_func(HOUR, move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    assert!(timer.stop());
    assert!(!timer.stop());
    assert!(!timer.reset(HOUR), "it was stopped");
    assert!(timer.reset(HOUR), "it was set");
    assert!(timer.stop());
    // Whether one that may have been called was: that is what its stop says.
    for n in 0..50 {
        let before = calls.load(Ordering::Relaxed);
        timer.reset(Duration::from_micros(n * 10));
        sleep(Duration::from_micros(200));
        let expected = before + u64::from(!timer.stop());
        while calls.load(Ordering::Relaxed) < expected {
            gosched();
        }
        sleep(Duration::from_micros(100));
        assert_eq!(calls.load(Ordering::Relaxed), expected, "round {n}");
    }
}

const SLOTS: [u32; 13] = [5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0];

/// Goroutines wait for timers that were set in no order. They come in the order of their times: unless the machine
/// stands still for longer than the time between two, and then again.
fn in_order<W: Send + 'static>(
    set: impl Fn(Duration) -> W,
    wait: impl Fn(&W) -> Instant + Copy + Send + 'static,
) -> Verdict {
    let mut found = Vec::new();
    for attempt in 0..5 {
        let step = MILLI * (4 + 20 * attempt);
        let (sender, results) = chan(SLOTS.len());
        let start = Instant::now();
        for slot in SLOTS {
            let (sender, timer) = (sender.clone(), set(step * slot));
            go(move || sender.send((slot, wait(&timer))).expect("somebody receives"));
        }
        drop(sender);
        let came: Vec<(u32, Instant)> = results.iter().collect();
        assert_eq!(came.len(), SLOTS.len());
        assert!(came.iter().all(|(slot, at)| *at >= start + step * *slot), "one was early: {came:?}");
        found = came.iter().map(|(slot, _)| *slot).collect();
        if found.is_sorted() {
            return Ok(());
        }
    }
    equal("the order", &found.is_sorted(), &true)
}

/// `TestAfterQueuing` with channels.
fn timers_fire_in_the_order_of_their_times() -> Verdict {
    in_order(after, Timer::recv)
}

/// `TestAfterQueuing` with functions.
fn functions_are_called_in_the_order_of_their_times() -> Verdict {
    in_order(timer_func, |(_, receiver)| receiver.recv().expect("it is called"))
}

/// `TestTimerStopStress`: what a stop says is what happens.
fn of_many_functions_those_are_called_that_were_not_stopped() -> Verdict {
    let [called, expected] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let (calls, late) = (Arc::clone(&called), Arc::clone(&expected));
    together(100, move |n| {
        let calls = Arc::clone(&calls);
        let timer = after_func(20 * MILLI, move || {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        // Most are stopped early, some when they may be called.
        sleep(if n % 10 == 0 { 20 * MILLI } else { 5 * MILLI });
        if !timer.stop() {
            late.fetch_add(1, Ordering::Relaxed);
        }
    });
    sleep(25 * MILLI);
    while called.load(Ordering::Relaxed) < expected.load(Ordering::Relaxed) {
        gosched();
    }
    equal("functions that were called", &called.load(Ordering::Relaxed), &expected.load(Ordering::Relaxed))
}

/// `TestReset`.
fn a_reset_timer_fires_at_its_new_time() {
    let timer = Timer::new(HOUR);
    sleep(MILLI);
    assert!(timer.reset(2 * HOUR), "it has not fired");
    sleep(MILLI);
    assert!(timer.receiver().try_recv().is_err(), "it has not fired");
    let start = Instant::now();
    assert!(timer.reset(3 * MILLI));
    assert!(timer.recv() >= start + 3 * MILLI);
    assert!(timer.receiver().try_recv().is_err(), "it fires once");
    assert!(!timer.reset(HOUR), "it has fired");
    assert!(timer.stop());
}

/// `TestZeroTimer` with channels.
fn timers_of_zero_fire_at_once() {
    for _ in 0..1_000 {
        Timer::new(Duration::ZERO).recv();
    }
}

/// `TestZeroTimer` with functions.
fn functions_of_zero_are_called_at_once() {
    for _ in 0..500 {
        let (_timer, receiver) = timer_func(Duration::ZERO);
        receiver.recv().expect("it is called");
    }
}

/// `TestZeroTimer` with one timer for all.
fn a_function_is_set_to_zero_again_and_again() {
    let (timer, receiver) = timer_func(HOUR);
    assert!(timer.stop());
    for _ in 0..500 {
        assert!(!timer.reset(Duration::ZERO));
        receiver.recv().expect("it is called");
    }
}

/// `TestTimerModifiedEarlier`.
fn a_timer_that_is_moved_to_now_again_and_again_fires() {
    for _ in 0..100 {
        let (timer, receiver) = timer_func(HOUR);
        for _ in 0..10 {
            if !timer.stop() {
                receiver.recv().expect("it was called");
            }
            timer.reset(Duration::ZERO);
        }
        receiver.recv().expect("it is called");
    }
}

/// `TestAdjustTimers`: each timer goes through eleven steps, in an order that a seed chooses.
fn timers_that_are_moved_to_and_fro_fire() {
    const TIMERS: usize = 100;
    let mut random = Random::new(47_762);
    let mut timers: Vec<Option<(FuncTimer, Receiver<Instant>)>> = (0..TIMERS).map(|_| None).collect();
    let mut steps = [0; TIMERS];
    let mut left: Vec<usize> = (0..TIMERS).collect();
    while !left.is_empty() {
        let at = random.index(left.len());
        let n = left[at];
        let step = steps[n];
        steps[n] += 1;
        if step == 0 {
            timers[n] = Some(timer_func(Duration::ZERO));
            continue;
        }
        let (timer, receiver) = timers[n].as_ref().expect("made in the first step");
        match step {
            // It is idle after that.
            1 | 9 => drop(receiver.recv().expect("it is called")),
            2 | 4 | 6 => assert!(!timer.reset(HOUR * step), "timer {n}, step {step}: it was idle"),
            3 | 5 | 7 => assert!(timer.stop(), "timer {n}, step {step}: an hour has not passed"),
            8 => assert!(!timer.reset(Duration::ZERO), "timer {n}, step {step}: it was stopped"),
            _ => drop(left.swap_remove(at)),
        }
    }
}

/// What a stop or a reset prevents is not received, and what it does not prevent can be: whoever waits for that does
/// not wait for ever.
fn prevented_or_received(prevents: fn(&Timer) -> bool) {
    together(20, move |n| {
        for _ in 0..20 {
            let first = Timer::new(MILLI / 2);
            let second = Timer::new(MILLI / 2);
            // Somebody else receives from the second meanwhile.
            let (sender, received) = chan(1);
            let receiver = second.receiver().clone();
            if n % 2 == 0 {
                go(move || sender.send(receiver.recv().is_ok()).expect("there is room"));
            } else {
                drop((sender, receiver));
            }
            first.recv();
            let prevented = prevents(&second);
            if prevented {
                assert!(second.receiver().try_recv().is_err(), "it was prevented");
                drop(second);
            } else {
                assert_eq!(n % 2, 0, "nobody has received");
                assert_eq!(received.recv(), Ok(true), "it was not prevented");
                continue;
            }
            if n % 2 == 0 {
                assert_eq!(received.recv(), Ok(false), "it was prevented, and the timer has gone");
            }
        }
    });
}

/// `TestStopResult`.
fn a_stop_says_whether_something_is_left_to_receive() {
    prevented_or_received(Timer::stop);
}

/// `TestResetResult`.
fn a_reset_says_whether_something_is_left_to_receive() {
    prevented_or_received(|timer| timer.reset(HOUR));
}

/// `TestMultiWakeupTimer`.
fn many_wait_for_a_timer_that_all_of_them_reset() {
    let timer = Arc::new(Timer::new(Duration::from_nanos(1)));
    let shared = Arc::clone(&timer);
    together(8, move |_| {
        for _ in 0..500 {
            if let Ok(at) = shared.receiver().try_recv() {
                assert!(at <= Instant::now());
            }
            shared.reset(Duration::from_nanos(1));
        }
    });
    timer.recv();
    assert!(timer.receiver().try_recv().is_err(), "it fires once");
}

/// A call that waits for the end of another has not begun: `stop` and `reset` prevent it, and say so.
fn a_call_that_is_owed_is_prevented() {
    for prevents in [FuncTimer::stop, |timer: &FuncTimer| timer.reset(Duration::from_hours(1))] {
        let calls = Arc::new(AtomicU64::new(0));
        let (began, begins) = chan(2);
        let (open, gate) = chan::<()>(2);
        let count = Arc::clone(&calls);
        let timer = after_func(Duration::ZERO, move || {
            count.fetch_add(1, Ordering::Relaxed);
            began.send(()).expect("there is room");
            gate.recv().expect("it is opened");
        });
        begins.recv().expect("it begins");
        assert!(!timer.reset(Duration::ZERO), "it has begun");
        // Its time comes meanwhile; if it does not, the stop finds it armed.
        sleep(5 * MILLI);
        assert!(prevents(&timer), "the second call has not begun");
        open.send(()).expect("there is room");
        open.send(()).expect("there is room");
        sleep(5 * MILLI);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        timer.reset(Duration::ZERO);
        begins.recv().expect("the function is there for another call");
    }
}

static DROPPED: AtomicU64 = AtomicU64::new(0);
static ELSEWHERE: AtomicU64 = AtomicU64::new(0);

struct Probe;

impl Drop for Probe {
    fn drop(&mut self) {
        ELSEWHERE.fetch_add(u64::from(stack_kind() != StackKind::Goroutine), Ordering::Relaxed);
        DROPPED.fetch_add(1, Ordering::Release);
    }
}

/// Whoever finds that its time has come may be the last who knows the function, and is no goroutine.
fn a_function_is_dropped_by_a_goroutine() {
    const MOST: u64 = 2_000;
    for n in 0..MOST {
        let probe = Probe;
        drop(after_func(Duration::from_nanos(n % 100 * 500), move || {
            let _held = &probe;
        }));
        while n % 20 == 19 && DROPPED.load(Ordering::Acquire) <= n {
            sleep(Duration::from_micros(20));
        }
    }
    assert_eq!(ELSEWHERE.load(Ordering::Relaxed), 0);
}
