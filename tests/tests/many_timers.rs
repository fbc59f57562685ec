//! Timers in great number, on many CPUs, and on CPUs that do not answer.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use gzero::chan::chan;
use gzero::testing::{self, Fired, TimerInPlace};
use gzero::time::{Duration, Instant, Ticker, Timer, after_func, sleep};
use gzero::{
    Nanos, free_os_memory, go, gomaxprocs, gosched, lock_os_thread, now, park, println, stats, try_go,
    unlock_os_thread, unpark,
};
use tests::{Random, Verdict, equal};

tests::image! {
    pass: [
        a_ticker_that_others_run_needs_no_memory,
        a_million_timers_half_of_them_stopped,
        timers_of_a_deaf_cpu_are_run_by_others,
        timers_of_a_pinned_cpu_are_run_by_an_idle_one,
        timers_of_a_pinned_cpu_are_run_by_a_busy_one,
        timers_go_on_when_their_p_goes_away,
        each_setting_of_a_timer_is_received_or_prevented,
        timers_may_be_dropped_while_they_fire,
        a_function_waits_until_there_is_memory_for_its_goroutine,
    ],
    dies: [
        ("fatal", "a timer cannot be set: no memory: ", timers_without_memory_for_their_places_end_the_machine),
    ],
}

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

fn cpus() -> usize {
    stats::gomaxprocs()
}

/// Runs a function in so many goroutines, and collects what they return.
fn collect<T: Send + 'static>(
    count: usize,
    function: impl Fn(usize) -> T + Send + Sync + 'static,
) -> Vec<(usize, T)> {
    let function = Arc::new(function);
    let (result, results) = chan(count);
    for n in 0..count {
        let (function, result) = (Arc::clone(&function), result.clone());
        go(move || {
            let value = function(n);
            // Before anybody takes this goroutine for ended: what it holds is to be dropped by the caller.
            drop(function);
            drop(result.send((n, value)));
        });
    }
    drop(result);
    let mut all: Vec<(usize, T)> = results.iter().collect();
    assert_eq!(all.len(), count);
    all.sort_by_key(|(n, _)| *n);
    all
}

/// Runs a function on each CPU, in a goroutine that is locked to it meanwhile.
fn on_each_cpu<T: Send + 'static>(function: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<(usize, T)> {
    let there = Arc::new(AtomicU64::new(0));
    collect(cpus(), move |n| {
        // Nobody leaves a CPU before each has one of its own.
        loop {
            lock_os_thread();
            let bit = 1 << testing::cpu().0;
            if there.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                break;
            }
            unlock_os_thread();
            gosched();
        }
        while there.load(Ordering::Relaxed).count_ones() < u32::try_from(cpus()).expect("few") {
            gosched();
        }
        let result = function(n);
        unlock_os_thread();
        result
    })
}

/// So many at most.
const MOST: usize = 1_000_000;
/// Timers whose adding is timed together.
const BATCH: usize = 1_000;

/// How often each has fired.
static FIRED: [AtomicU8; MOST] = [const { AtomicU8::new(0) }; MOST];
/// When each batch had been added.
static ADDED: [AtomicU64; MOST / BATCH] = [const { AtomicU64::new(u64::MAX) }; MOST / BATCH];
/// Those that have fired, …
static COUNT: AtomicU64 = AtomicU64::new(0);
/// … before their time, …
static EARLY: AtomicU64 = AtomicU64::new(0);
/// … or after one of the same heap that was due later, although they were in the heap when that was due.
static DISORDER: AtomicU64 = AtomicU64::new(0);
/// The latest time of those that have fired from each heap.
static LATEST: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

fn fired(fired: Fired) {
    let n = usize::try_from(fired.argument).expect("an index");
    FIRED[n].fetch_add(1, Ordering::Relaxed);
    EARLY.fetch_add(u64::from(fired.at < fired.when), Ordering::Relaxed);
    let latest = LATEST[fired.heap].fetch_max(fired.when.0, Ordering::Relaxed);
    if fired.when.0 < latest && ADDED[n / BATCH].load(Ordering::Relaxed) < latest {
        DISORDER.fetch_add(1, Ordering::Relaxed);
    }
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// How long it takes to set a timer and to stop it, while all CPUs do.
fn time_of_one() -> Nanos {
    const TRIES: u64 = 2_000;
    let times = on_each_cpu(|_| {
        let (began, never) = (now(), now() + Nanos::from_millis(1_000_000));
        let timers: Vec<TimerInPlace> = (0..TRIES).map(|n| TimerInPlace::at(never, fired, n)).collect();
        assert!(timers.iter().all(TimerInPlace::stop));
        now() - began
    });
    times.into_iter().map(|(_, time)| Nanos(time.0 / TRIES)).max().expect("there is a CPU")
}

/// A million on four CPUs, which is what is promised; less on other machines, to save time. Every second one is
/// stopped, by another CPU than the one that has set it.
fn a_million_timers_half_of_them_stopped() -> Verdict {
    let all = if cpus() == 4 { MOST } else { MOST / 50 };
    let each = all / cpus() / BATCH * BATCH;
    let all = each * cpus();
    let before = gzero::heap::stats().live;
    let began = now();
    // The first ones are due when all have been set and half of them stopped, if the machine does not get much slower,
    // and the last ones a little later.
    let base =
        began + Nanos(each as u64 * time_of_one().0 + if all == MOST { 1_000_000_000 } else { 500_000_000 });
    let timers = on_each_cpu(move |cpu| {
        let mut random = Random::new(7 + cpu as u64);
        let first = cpu * each;
        let mut timers = Vec::with_capacity(each);
        for batch in (first..first + each).step_by(BATCH) {
            for n in batch..batch + BATCH {
                let when = base + Nanos(random.below(1_000) * all as u64);
                timers.push(TimerInPlace::at(when, fired, n as u64));
            }
            ADDED[batch / BATCH].store(now().0, Ordering::Relaxed);
        }
        timers
    });
    let (set, live) = (now(), gzero::heap::stats().live - before);
    let timers: Arc<Vec<Vec<TimerInPlace>>> =
        Arc::new(timers.into_iter().map(|(_, timers)| timers).collect());
    let heaps = Arc::clone(&timers);
    let stopped: Vec<(usize, Vec<usize>)> = on_each_cpu(move |cpu| {
        let other = (cpu + 1) % heaps.len();
        (0..each).step_by(2).filter(|n| heaps[other][*n].stop()).map(|n| other * each + n).collect()
    });
    let stops = now();
    let mut is_stopped = alloc::vec![false; all];
    stopped.iter().flat_map(|(_, numbers)| numbers).for_each(|n| is_stopped[*n] = true);
    let count = is_stopped.iter().filter(|is_stopped| **is_stopped).count();
    while COUNT.load(Ordering::Relaxed) < (all - count) as u64 {
        sleep(MILLI);
    }
    println!(
        "{all} timers: set in {}, {count} of {} stopped in {}, fired by {}, first due at {}; {} bytes each",
        set - began,
        all / 2,
        stops - set,
        now() - began,
        base - began,
        live / all as u64
    );
    sleep(MILLI);
    let wrong = (0..all).filter(|n| FIRED[*n].load(Ordering::Relaxed) != u8::from(!is_stopped[*n]));
    equal("timers that did not fire once, or fired and were stopped", &wrong.count(), &0)?;
    equal("timers before their time", &EARLY.load(Ordering::Relaxed), &0)?;
    equal("timers after later ones", &DISORDER.load(Ordering::Relaxed), &0)?;
    drop(timers);
    let left = gzero::heap::stats().live.saturating_sub(before);
    // Each heap keeps a chunk or two.
    equal("memory comes back", &(left < live / 20 + 100_000 * cpus() as u64), &true)
}

/// Waits for an instant on another CPU than the caller's, and says so. The caller's is the only one that does not
/// answer: whoever else is needed is awake, or asleep on a CPU that does.
///
/// `keep_busy` spins, and says what that says before the CPU answers again: its first answer runs the timer.
fn fires_elsewhere(keep_busy: impl FnOnce(&AtomicBool) -> bool) -> Verdict {
    lock_os_thread();
    let mine = testing::cpu();
    let came = Arc::new(AtomicBool::new(false));
    let there = Arc::new(AtomicBool::new(false));
    let timer = Timer::at(Instant::NEVER);
    let (receiver, flag, elsewhere) = (timer.receiver().clone(), Arc::clone(&came), Arc::clone(&there));
    go(move || {
        // It must not be queued on the CPU that does not answer.
        lock_to_another_than(mine);
        elsewhere.store(true, Ordering::Release);
        receiver.recv().expect("the timer is there");
        flag.store(true, Ordering::Release);
    });
    assert!(spin(&there), "it finds another CPU");
    // So long that nobody else has a timer left that would make it look.
    timer.reset(60 * MILLI);
    let in_time = keep_busy(&came);
    unlock_os_thread();
    while !came.load(Ordering::Acquire) {
        gosched();
    }
    equal("it came while its CPU did not answer", &in_time, &true)
}

/// Locks the caller to its CPU as soon as that is not this one, whose goroutine spins meanwhile.
fn lock_to_another_than(mine: gzero::trace::CpuId) {
    let lock = || {
        let elsewhere = testing::cpu() != mine;
        if elsewhere {
            lock_os_thread();
        }
        elsewhere
    };
    while !testing::while_pinned(lock) {
        gosched();
    }
}

/// Until the flag is set, or for long. Whether it is set.
fn spin(came: &AtomicBool) -> bool {
    let deadline = now() + Nanos::from_millis(20_000);
    while !came.load(Ordering::Acquire) && now() < deadline {
        core::hint::spin_loop();
    }
    came.load(Ordering::Acquire)
}

fn timers_of_a_deaf_cpu_are_run_by_others() -> Verdict {
    if cpus() == 1 {
        return Ok(());
    }
    // Another CPU has something to do now and then: nobody tells it of this one.
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (done, end) = chan(1);
    let began = Arc::new(AtomicBool::new(false));
    let begin = Arc::clone(&began);
    lock_os_thread();
    let mine = testing::cpu();
    go(move || {
        lock_to_another_than(mine);
        begin.store(true, Ordering::Release);
        while !stopped.load(Ordering::Relaxed) {
            sleep(MILLI);
        }
        done.send(()).expect("there is room");
    });
    assert!(spin(&began), "it finds another CPU");
    let verdict = fires_elsewhere(|came| testing::with_interrupts_off(|| spin(came)));
    unlock_os_thread();
    stop.store(true, Ordering::Relaxed);
    end.recv().expect("it ends");
    verdict
}

fn timers_of_a_pinned_cpu_are_run_by_an_idle_one() -> Verdict {
    if cpus() == 1 {
        return Ok(());
    }
    fires_elsewhere(|came| testing::while_pinned(|| spin(came)))
}

/// They stay in the heap of their CPU, and can be stopped and set there.
fn timers_go_on_when_their_p_goes_away() {
    let old = i32::try_from(cpus()).expect("at most 256");
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let timers = on_each_cpu(move |_| {
        let count = Arc::clone(&count);
        let func = after_func(3 * MILLI, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (Timer::new(4 * MILLI), Timer::new(HOUR), Timer::new(HOUR), Ticker::new(MILLI), func)
    });
    gomaxprocs(1);
    for (_, (soon, stopped, moved, ticker, func)) in &timers {
        soon.recv();
        assert!(stopped.stop(), "an hour has not passed");
        assert!(moved.reset(MILLI), "an hour has not passed");
        moved.recv();
        assert!(ticker.recv() < ticker.recv());
        func.reset(HOUR);
    }
    let slept = Instant::now();
    sleep(2 * MILLI);
    assert!(slept.elapsed() >= 2 * MILLI);
    gomaxprocs(old);
    for (_, (soon, stopped, moved, ticker, func)) in &timers {
        assert!(!soon.stop() && !stopped.stop() && !moved.stop());
        ticker.recv();
        func.stop();
    }
}

/// Many set one timer anew, and others receive from it: each setting ends in one of two ways.
fn each_setting_of_a_timer_is_received_or_prevented() -> Verdict {
    const SETTERS: usize = 6;
    const ROUNDS: u64 = 300;
    let timer = Arc::new(Timer::new(Duration::ZERO));
    let received = Arc::new(AtomicU64::new(0));
    let (over, ends) = chan(2);
    for _ in 0..2 {
        let (receiver, received, over) = (timer.receiver().clone(), Arc::clone(&received), over.clone());
        go(move || {
            while receiver.recv().is_ok() {
                received.fetch_add(1, Ordering::Relaxed);
            }
            over.send(()).expect("there is room");
        });
    }
    let shared = Arc::clone(&timer);
    let prevented = collect(SETTERS, move |n| {
        let mut random = Random::new(n as u64);
        let mut prevented = 0;
        for round in 0..ROUNDS {
            prevented += u64::from(shared.reset(Duration::from_nanos(random.below(20_000))));
            if round % 16 == 0 {
                sleep(Duration::from_micros(10));
            }
        }
        prevented
    });
    let mut prevented: u64 = prevented.iter().map(|(_, prevented)| prevented).sum();
    prevented += u64::from(timer.stop());
    drop(timer);
    assert_eq!(ends.iter().take(2).count(), 2);
    let received = received.load(Ordering::Relaxed);
    println!("received {received}, prevented {prevented}");
    equal("settings", &(received + prevented), &(SETTERS as u64 * ROUNDS + 1))
}

fn timers_may_be_dropped_while_they_fire() {
    collect(8, |n| {
        let mut random = Random::new(n as u64);
        for _ in 0..150 {
            let timer = Timer::new(Duration::from_nanos(random.below(20_000)));
            let ticker = Ticker::new(Duration::from_nanos(1 + random.below(20_000)));
            drop(after_func(Duration::from_nanos(random.below(20_000)), || {}));
            if random.below(8) == 0 {
                sleep(Duration::from_micros(10));
            }
            drop(ticker);
            drop(timer);
        }
    });
}

/// A CPU runs nothing but its goroutine, which is pinned, and the others run what nothing interrupts.
fn timers_of_a_pinned_cpu_are_run_by_a_busy_one() -> Verdict {
    static CAME: AtomicBool = AtomicBool::new(false);
    if cpus() == 1 {
        return Ok(());
    }
    let saw = on_each_cpu(|n| {
        if n != 0 {
            return spin(&CAME);
        }
        let came = |_: Fired| CAME.store(true, Ordering::Release);
        let timer = TimerInPlace::at(now() + Nanos::from_millis(60), came, 0);
        let in_time = testing::while_pinned(|| spin(&CAME));
        timer.stop();
        in_time
    });
    equal("it came while its CPU did not answer", &saw.iter().all(|(_, in_time)| *in_time), &true)
}

/// All memory, and all goroutines that have a stack already.
struct Hoard {
    blocks: Vec<Vec<u8>>,
    parked: Vec<gzero::GoRef>,
}

impl Hoard {
    fn of_all() -> Self {
        let (mut blocks, mut parked) = (Vec::with_capacity(10_000), Vec::with_capacity(100_000));
        let mut size = 1 << 30;
        while size >= 4096 {
            let mut block: Vec<u8> = Vec::new();
            if blocks.len() < blocks.capacity() && block.try_reserve_exact(size).is_ok() {
                blocks.push(block);
            } else {
                size /= 2;
            }
        }
        while let Ok(waits) = try_go(park) {
            parked.push(waits.id());
        }
        Self { blocks, parked }
    }

    fn give_back(self) {
        drop(self.blocks);
        // The heap keeps what was dropped until somebody asks for it.
        free_os_memory();
        for waits in self.parked {
            // It may not have begun to wait.
            unpark(waits);
        }
    }
}

/// All memory is taken, and the CPU that makes it tick never had a timer. Two CPUs will do: it takes long to take all.
fn a_ticker_that_others_run_needs_no_memory() -> Verdict {
    if cpus() != 2 {
        return Ok(());
    }
    lock_os_thread();
    let ticker = Ticker::new(HOUR);
    let receiver = ticker.receiver();
    let hoard = Hoard::of_all();
    let ticked = testing::while_pinned(|| {
        ticker.reset(20 * MILLI);
        let deadline = now() + Nanos::from_millis(20_000);
        while !testing::holds_something(receiver) && now() < deadline {
            core::hint::spin_loop();
        }
        testing::holds_something(receiver)
    });
    hoard.give_back();
    unlock_os_thread();
    assert!(ticker.recv() < ticker.recv(), "it goes on");
    equal("another CPU made it tick", &ticked, &true)
}

/// All memory is taken when its time comes. Then nothing is lost, and nobody hangs.
fn a_function_waits_until_there_is_memory_for_its_goroutine() -> Verdict {
    if cpus() > 2 {
        return Ok(());
    }
    let called = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&called);
    let timer = after_func(HOUR, move || flag.store(true, Ordering::Relaxed));
    let hoard = Hoard::of_all();
    timer.reset(Duration::ZERO);
    sleep(15 * MILLI);
    let early = called.load(Ordering::Relaxed);
    println!("{} goroutines took the rest", hoard.parked.len());
    hoard.give_back();
    while !called.load(Ordering::Relaxed) {
        sleep(MILLI);
    }
    // Another CPU may have kept a goroutine that has a stack already.
    equal("it was called without memory", &(early && cpus() == 1), &false)
}

/// They have their memory, but no place among what is to happen: that comes with their time.
fn timers_without_memory_for_their_places_end_the_machine() -> Verdict {
    let timers: Vec<Timer> = (0..2_000).map(|_| Timer::at(Instant::NEVER)).collect();
    let hoard = Hoard::of_all();
    let mut set = 0;
    for timer in &timers {
        set += usize::from(timer.reset(HOUR));
    }
    hoard.give_back();
    equal("timers that were set", &set, &timers.len())
}
