//! Tickers, and what timers and tickers promise about their channels, from Go's `time/tick_test.go`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gzero::chan::{Receiver, chan};
use gzero::select::Source;
use gzero::time::{Duration, Instant, Ticker, Timer, after, after_func, sleep, tick};
use gzero::{StopReason, go, gosched, num_goroutine, select, start_the_world, stop_the_world, testing};
use tests::{Verdict, equal, together};

tests::image! {
    pass: [
        ticks_come_at_their_times_until_a_stop,
        a_stop_right_after_a_tick_does_not_hang,
        ticks_come_while_the_world_stops,
        many_receive_from_a_ticker,
        many_wait_for_a_ticker_or_a_time,
        a_slow_receiver_misses_ticks,
        a_timer_keeps_what_its_channel_promises,
        a_ticker_keeps_what_its_channel_promises,
        an_instant_is_that_of_the_firing,
        a_tick_is_that_of_the_firing,
        work_goes_on_beside_many_sleepers,
        what_nobody_uses_takes_no_memory,
        a_channel_closes_when_its_timer_is_dropped,
        a_function_is_called_once_for_each_time,
    ],
}

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

/// `TestTicker`.
fn ticks_come_at_their_times_until_a_stop() {
    let step = 2 * MILLI;
    let start = Instant::now();
    let ticker = Ticker::new(step);
    for n in 1..=5 {
        assert!(ticker.recv() >= start + step * n, "tick {n} was early");
    }
    let start = Instant::now();
    ticker.reset(2 * step);
    for n in 1..=5 {
        assert!(ticker.recv() >= start + step * 2 * n, "tick {n} was early");
    }
    sleep(3 * step);
    ticker.stop();
    sleep(3 * step);
    assert!(ticker.receiver().try_recv().is_err(), "it was stopped");
    ticker.stop();
}

/// `TestTeardown`.
fn a_stop_right_after_a_tick_does_not_hang() {
    for _ in 0..10 {
        let ticker = Ticker::new(MILLI);
        ticker.recv();
        ticker.stop();
    }
}

/// A goroutine that stops the world again and again, while a function runs.
fn beside_stops(function: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (done, end) = chan(1);
    go(move || {
        while !stopped.load(Ordering::Relaxed) {
            start_the_world(stop_the_world(StopReason::Program));
            sleep(Duration::from_nanos(1));
        }
        done.send(()).expect("there is room");
    });
    function();
    stop.store(true, Ordering::Relaxed);
    end.recv().expect("it ends");
}

/// `TestTickerStress`.
fn ticks_come_while_the_world_stops() {
    beside_stops(|| {
        let ticker = Ticker::new(Duration::from_nanos(1));
        assert_eq!(ticker.receiver().iter().take(100).count(), 100);
    });
}

/// `TestTickerConcurrentStress`.
fn many_receive_from_a_ticker() {
    beside_stops(|| {
        let ticker = Ticker::new(Duration::from_nanos(1));
        let receiver = ticker.receiver().clone();
        together(10, move |_| assert_eq!(receiver.iter().take(20).count(), 20));
    });
}

/// `TestMultiWakeupTicker`.
fn many_wait_for_a_ticker_or_a_time() {
    let ticker = Arc::new(Ticker::new(Duration::from_micros(1)));
    let came = [const { AtomicU64::new(0) }; 2];
    let counts = Arc::new(came);
    let (shared, count) = (Arc::clone(&ticker), Arc::clone(&counts));
    together(8, move |_| {
        for _ in 0..200 {
            let arm = select! {
                recv(shared) => 0,
                recv(after(MILLI)) => 1,
            };
            count[arm].fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(counts.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>(), 8 * 200);
    assert!(counts[0].load(Ordering::Relaxed) > 0, "the ticker ticks");
}

/// What is missed is left out: a receiver that sleeps finds one tick.
fn a_slow_receiver_misses_ticks() {
    let start = Instant::now();
    let ticker = Ticker::new(2 * MILLI);
    // Of the ticks that were due meanwhile one is kept.
    sleep(20 * MILLI);
    let kept = ticker.recv();
    let next = ticker.recv();
    assert!(next > kept);
    let mut received = 2;
    while ticker.receiver().try_recv().is_ok() {
        received += 1;
    }
    // No more than one tick for each interval.
    let due = (Instant::now() - start).as_nanos() / (2 * MILLI).as_nanos();
    assert!(received <= due, "{received} ticks of {due}");
}

/// What a timer and a ticker have in common.
trait Common: Source<Value = Instant> {
    const IS_TICKER: bool;
    fn set(&self, length: Duration) -> bool;
    fn stop(&self) -> bool;
    fn receiver(&self) -> &Receiver<Instant>;
}

impl Common for Timer {
    const IS_TICKER: bool = false;
    fn set(&self, length: Duration) -> bool {
        self.reset(length)
    }
    fn stop(&self) -> bool {
        self.stop()
    }
    fn receiver(&self) -> &Receiver<Instant> {
        self.receiver()
    }
}

impl Common for Ticker {
    const IS_TICKER: bool = true;
    fn set(&self, length: Duration) -> bool {
        self.reset(length);
        true
    }
    fn stop(&self) -> bool {
        self.stop();
        true
    }
    fn receiver(&self) -> &Receiver<Instant> {
        self.receiver()
    }
}

fn nothing(what: &impl Common) {
    assert!(what.receiver().try_recv().is_err(), "nothing is to be received");
}

/// Waits until something is there, and takes it.
fn something(what: &impl Common) {
    while what.receiver().try_recv().is_err() {
        sleep(MILLI / 4);
    }
}

/// Waits until something is there, and leaves it.
fn something_comes(what: &impl Common) {
    while !testing::holds_something(what.receiver()) {
        sleep(MILLI / 4);
    }
}

/// `TestChan`.
fn keeps_its_promises<W: Common>(what: &W) {
    // A stop and a reset, with nothing delivered.
    assert!(what.stop());
    nothing(what);
    what.set(HOUR);
    nothing(what);
    what.set(MILLI / 1_000);
    something_comes(what);
    let (receiver, seems) = (what.receiver(), |receiver: &Receiver<_>| (receiver.len(), receiver.capacity()));
    assert_eq!(seems(receiver), (0, 0), "it can be taken back");
    assert!(receiver.is_empty());
    something(what);
    // A reset takes back what a ticker has delivered since.
    sleep(MILLI);
    what.set(HOUR);
    nothing(what);

    // Somebody waits while it is set anew, far away and near.
    let (done, end) = chan(1);
    let receiver = what.receiver().clone();
    go(move || done.send(receiver.recv().is_ok()).expect("there is room"));
    sleep(MILLI);
    assert!(end.is_empty());
    what.set(2 * HOUR);
    sleep(MILLI);
    assert!(end.is_empty());
    what.set(MILLI / 1_000);
    assert_eq!(end.recv(), Ok(true));
    if W::IS_TICKER {
        something(what);
    } else {
        nothing(what);
    }
    what.stop();
    nothing(what);

    two_wait(what);

    // What was delivered and not received is prevented by a stop and by a reset.
    what.set(MILLI / 1_000);
    something_comes(what);
    assert!(what.stop());
    nothing(what);
    what.set(MILLI / 1_000);
    something_comes(what);
    assert!(what.set(HOUR));
    nothing(what);
    assert!(what.set(MILLI / 1_000));
    something(what);
    sleep(MILLI);
    if W::IS_TICKER {
        something(what);
    } else {
        nothing(what);
    }
    assert_eq!(what.set(HOUR), W::IS_TICKER, "a timer has fired, and that was received");
    nothing(what);
}

/// Two wait in a select: one of them gets it. While it is stopped, neither does.
fn two_wait<W: Common>(what: &W) {
    for is_set in [true, false] {
        what.set(HOUR);
        if !is_set {
            what.stop();
        }
        let (result, results) = chan(2);
        let (stop, stopped) = chan::<()>(0);
        for _ in 0..2 {
            let (result, stopped, receiver) = (result.clone(), stopped.clone(), what.receiver().clone());
            go(move || {
                let came = select! { recv(receiver) => true, recv(stopped) => false };
                result.send(came).expect("there is room");
            });
        }
        sleep(2 * MILLI);
        assert!(results.is_empty());
        if is_set {
            what.set(MILLI / 2);
            assert_eq!(results.recv(), Ok(true));
            what.stop();
        }
        drop((stop, result));
        let others = results.iter().filter(|came| *came).count();
        assert!(others <= usize::from(is_set && W::IS_TICKER), "one expiry is received once");
        what.stop();
        nothing(what);
    }
}

fn a_timer_keeps_what_its_channel_promises() {
    keeps_its_promises(&Timer::new(HOUR));
}

fn a_ticker_keeps_what_its_channel_promises() {
    keeps_its_promises(&Ticker::new(HOUR));
}

/// The instant in a channel is older than the time at which the channel was found full.
fn instants_are_of_the_firing(what: &impl Common) {
    something_comes(what);
    let then = Instant::now();
    sleep(10 * MILLI);
    let at = what.receiver().recv().expect("it is there");
    assert!(at <= then, "received after {:?}, and says {:?} after", then.elapsed(), at - then);
}

/// `TestAfterTimes`.
fn an_instant_is_that_of_the_firing() {
    instants_are_of_the_firing(&after(MILLI));
}

/// `TestTickTimes`.
fn a_tick_is_that_of_the_firing() {
    instants_are_of_the_firing(&tick(MILLI));
}

/// `TestLongAdjustTimers`: a queue in a goroutine passes on what it is given, beside sleepers in great number, and
/// whoever waits for it waits for a time, too.
fn work_goes_on_beside_many_sleepers() {
    const SLEEPERS: usize = 1_000;
    let (slept, sleepers) = chan(SLEEPERS);
    for _ in 0..SLEEPERS {
        let slept = slept.clone();
        go(move || {
            sleep(Duration::from_micros(10));
            slept.send(()).expect("there is room");
        });
    }
    let (input, inner) = chan::<u32>(0);
    let (outer, output) = chan::<u32>(0);
    go(move || {
        let mut queue = alloc::collections::VecDeque::new();
        loop {
            let front = queue.front().copied();
            let to = front.map(|_| &outer);
            select! {
                send(to, front.unwrap_or(0)) -> sent => {
                    sent.expect("somebody receives");
                    queue.pop_front();
                }
                recv(inner) -> n => match n {
                    Ok(n) => queue.push_back(n),
                    Err(_) => return,
                },
            }
        }
    });
    for round in 0..50 {
        for n in 0..20 {
            input.send(round * 20 + n).expect("it is open");
        }
        for n in 0..20 {
            let next = select! {
                recv(output) -> n => n.ok(),
                recv(after(HOUR)) => None,
            };
            assert_eq!(next, Some(round * 20 + n));
        }
    }
    assert_eq!(sleepers.iter().take(SLEEPERS).count(), SLEEPERS);
}

/// `TestTimerGC`: what is dropped before its time takes no memory, armed or stopped.
fn what_nobody_uses_takes_no_memory() -> Verdict {
    const TIMERS: u64 = 5_000;
    let makers: [(&str, fn()); 7] = [
        ("after", || drop(after(HOUR))),
        ("tick", || drop(tick(HOUR))),
        ("timer", || drop(Timer::new(HOUR))),
        ("ticker", || drop(Ticker::new(HOUR))),
        ("stopped timer", || assert!(Timer::new(HOUR).stop())),
        ("stopped ticker", || Ticker::new(HOUR).stop()),
        ("stopped function", || assert!(after_func(HOUR, || {}).stop())),
    ];
    for (what, make) in makers {
        make();
        let before = gzero::heap::stats().live;
        for _ in 0..TIMERS {
            make();
        }
        let more = gzero::heap::stats().live.saturating_sub(before);
        equal(what, &(more < TIMERS), &true)?;
    }
    Ok(())
}

fn a_channel_closes_when_its_timer_is_dropped() {
    let timer = Timer::new(HOUR);
    let receiver = timer.receiver().clone();
    let (done, end) = chan(0);
    go(move || done.send(receiver.recv().is_err()).expect("somebody waits"));
    sleep(MILLI);
    drop(timer);
    assert_eq!(end.recv(), Ok(true));
    let ticker = Ticker::new(MILLI / 100);
    let receiver = ticker.receiver().clone();
    drop(ticker);
    assert!(receiver.recv().is_err(), "a tick of a ticker that was stopped is not received");
}

/// Calls do not overlap, and none is lost: one that is due while another runs follows it.
fn a_function_is_called_once_for_each_time() -> Verdict {
    let (calls, running) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, flag) = (Arc::clone(&calls), Arc::clone(&running));
    let timer = after_func(HOUR, move || {
        assert!(!flag.swap(true, Ordering::Relaxed), "two calls at the same time");
        sleep(MILLI);
        count.fetch_add(1, Ordering::Relaxed);
        flag.store(false, Ordering::Relaxed);
    });
    let mut expected = 0;
    assert!(timer.stop());
    let before = num_goroutine();
    for _ in 0..20 {
        // What was still to come does not come.
        expected += 1 - u64::from(timer.reset(Duration::ZERO));
        sleep(MILLI / 4);
    }
    while calls.load(Ordering::Relaxed) < expected || num_goroutine() > before {
        gosched();
    }
    equal("calls", &calls.load(Ordering::Relaxed), &expected)
}
