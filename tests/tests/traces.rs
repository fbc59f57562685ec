//! Traces: the functions that led to a place, by name and in order, and what each goroutine does.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::sync::Mutex;
use gzero::trace::{Frame, GoroutineInfo, Nanos, State, for_each_frame, for_each_goroutine};
use gzero::{Mailbox, chan, dump, go, go_named, gosched, park, stats, testing, unpark};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        frames_lie_on_the_stack_one_above_the_other,
        frames_name_functions_in_the_order_of_calls,
        a_new_goroutine_is_at_its_first_function,
        every_state_is_told,
        only_the_living_are_shown,
        a_dump_beside_goroutines_that_run_on_does_no_harm,
    ],
    dies: [
        ("panic", "panic: far down\ton cpu \ttraces::panics+0x\ttraces::calls_panics+0x", a_panic_names_the_calls),
        ("throw", "far down\ton cpu \ttraces::throws+0x\ttraces::calls_throws+0x", a_throw_names_the_calls),
        (
            "throw",
            "#PF page fault\ton cpu \ttraces::reads+0x\ttraces::calls_reads+0x",
            an_exception_names_the_calls
        ),
        (
            "throw",
            "is not executable\ton cpu \t    0xffffe\ttraces::jumps+0x",
            a_jump_to_nowhere_names_who_jumped
        ),
        (
            "fatal",
            "stack overflow: goroutine\ttraces::recurse+0x\t more frames...\ttraces::recurse+0x\ttraces::overflows+0x\tmachine::context::start",
            both_ends_of_an_overflow_are_printed
        ),
        (
            "fatal",
            "deadlock!\t [reader] [mailbox]:\ttraces::reads_a_mailbox+0x",
            a_deadlock_shows_who_waits_for_what
        ),
        ("fatal", "deadlock!\tgoroutine 1 [main] [park]:\ttraces::waits_in_main+0x", a_deadlock_shows_main_too),
        ("panic", " [busy] [running on cpu \ttraces::computes+0x", a_report_shows_where_others_run),
        ("panic", "panic: with many\t [one] [park]:\t...900 more goroutines...", a_report_of_many_is_bounded),
        (
            "pass",
            "goroutine 1 [main] [running on cpu \ttraces::dumps+0x\ttraces::calls_dumps+0x\t [reader] [mailbox]:\ttraces::reads_a_mailbox+0x",
            a_dump_shows_who_calls_and_who_waits
        ),
        (
            "pass",
            " [waiter] [\t  waits: mutex \"kept\" at 0x\theld by goroutine \t [holder]\ttraces::waits_for_a_mutex+0x\t [joiner] [\t  waits: join of goroutine \t [holder]\t [receiver] [\t  waits: chan receive at 0xffff",
            a_dump_names_what_is_waited_on_and_who_has_it
        ),
    ],
}

/// Where readers wait.
static LETTERS: Mailbox<u32> = Mailbox::new();
/// [`computes`] has begun.
static COMPUTES: AtomicBool = AtomicBool::new(false);
/// Ends the goroutines that compute.
static STOP: AtomicBool = AtomicBool::new(false);

#[inline(never)]
fn reads_a_mailbox() -> u32 {
    black_box(LETTERS.take()) + 1
}

fn reader() {
    black_box(reads_a_mailbox());
}

/// A goroutine of this name, as it is now.
fn find(name: &str) -> Option<GoroutineInfo> {
    let mut found = None;
    for_each_goroutine(&mut |info| {
        if info.name == name {
            found = Some(info.clone());
        }
    });
    found
}

/// Gives way until the goroutine waits, and returns how it then is.
fn wait_until_it_waits(name: &str) -> GoroutineInfo {
    loop {
        match find(name) {
            Some(info) if matches!(info.state, State::Waiting { .. }) => return info,
            Some(_) | None => gosched(),
        }
    }
}

fn frames(goroutine: &GoroutineInfo) -> Vec<Frame> {
    let mut frames = Vec::new();
    for_each_frame(goroutine, &mut |frame| frames.push(frame));
    frames
}

/// Whether the functions occur in this order.
fn in_order(frames: &[Frame], functions: &[&str]) -> Verdict {
    let mut names = frames.iter().filter_map(Frame::function);
    match functions.iter().find(|wanted| !names.any(|name| name == **wanted)) {
        None => Ok(()),
        Some(missing) => Err(alloc::format!(
            "no {missing} in its place among {:?}",
            frames.iter().map(Frame::to_string).collect::<Vec<String>>()
        )
        .into()),
    }
}

/// Whether the frames tile the stack from the last call to its top.
fn tiled(goroutine: &GoroutineInfo, frames: &[Frame]) -> Verdict {
    for (frame, depth) in frames.iter().zip(0..) {
        let part = frame.stack();
        equal("depth", &frame.depth(), &depth)?;
        // The outermost one may be empty: it has only called.
        equal(
            "a frame on its stack",
            &(goroutine.stack.start < part.start && part.start <= part.end),
            &true,
        )?;
        let above = frames.get(depth as usize + 1).map_or(goroutine.stack.end, |above| above.stack().start);
        equal("where a frame ends", &part.end, &above)?;
    }
    Ok(())
}

#[inline(never)]
fn looks_at_itself() -> Verdict {
    let me = find("main").expect("main runs this");
    let mine = frames(&me);
    tiled(&me, &mine)?;
    in_order(&mine, &["traces::looks_at_itself", "traces::calls_looks_at_itself", "tests::run"])
}

#[inline(never)]
fn calls_looks_at_itself() -> Verdict {
    black_box(looks_at_itself())
}

fn frames_lie_on_the_stack_one_above_the_other() -> Verdict {
    calls_looks_at_itself()?;
    go_named("reader", reader);
    let waiting = wait_until_it_waits("reader");
    let its = frames(&waiting);
    LETTERS.put(0);
    wait_until_alone();
    equal("some frames", &(its.len() > 3), &true)?;
    tiled(&waiting, &its)
}

fn frames_name_functions_in_the_order_of_calls() -> Verdict {
    go_named("reader", reader);
    let its = frames(&wait_until_it_waits("reader"));
    LETTERS.put(0);
    wait_until_alone();
    equal("frames without a name", &its.iter().filter(|frame| frame.function().is_none()).count(), &0)?;
    in_order(
        &its,
        &["traces::reads_a_mailbox", "gzero::go::first::<traces::reader, ()>", "machine::context::start"],
    )
}

fn a_new_goroutine_is_at_its_first_function() -> Verdict {
    if stats::gomaxprocs() > 1 {
        // Somebody else may run it at once.
        return Ok(());
    }
    // Pinned: else it may have run before this goroutine looks.
    let (new, its) = testing::while_pinned(|| {
        go_named("new", || {});
        let new = find("new").expect("it was just made");
        let its = frames(&new);
        (new, its)
    });
    wait_until_alone();
    equal("state", &new.state, &State::Runnable)?;
    equal("frames", &its.len(), &1)?;
    let name = its[0].function().unwrap_or_default();
    equal("its first function", &name.starts_with("gzero::go::first::<"), &true)?;
    equal("offset", &its[0].to_string().ends_with("+0x0"), &true)
}

#[inline(never)]
fn computes() {
    COMPUTES.store(true, Ordering::Release);
    while !STOP.load(Ordering::Acquire) {
        core::hint::spin_loop();
    }
}

fn every_state_is_told() -> Verdict {
    let minutes = |minutes: u64| {
        let waited = Nanos::from_millis(minutes * 60_000);
        State::Waiting { reason: "park", since: Nanos(0), waited }.to_string()
    };
    equal("a short wait", &minutes(0), &"park".to_string())?;
    equal("a wait", &minutes(1), &"park, 1 minute".to_string())?;
    equal("a long wait", &minutes(3), &"park, 3 minutes".to_string())?;
    let me = find("main").expect("main runs this");
    equal("of who asks", &matches!(me.state, State::Running(Some(_))), &true)?;
    let parked = go_named("sleeper", park);
    let waits = wait_until_it_waits("sleeper").to_string();
    unpark(parked.id());
    equal("of who waits", &waits.ends_with(" [sleeper] [park]"), &true)?;
    if stats::gomaxprocs() > 1 {
        STOP.store(false, Ordering::Release);
        go_named("busy", computes);
        let busy = loop {
            match find("busy") {
                Some(info) if matches!(info.state, State::Running(Some(_))) => break info,
                Some(_) | None => core::hint::spin_loop(),
            }
        };
        let its = frames(&busy).len();
        STOP.store(true, Ordering::Release);
        equal("frames of one that runs elsewhere", &its, &0)?;
    }
    wait_until_alone();
    Ok(())
}

fn only_the_living_are_shown() -> Verdict {
    for _ in 0..100 {
        go(|| {});
    }
    wait_until_alone();
    let mut names = Vec::new();
    for_each_goroutine(&mut |info| names.push(info.name));
    equal("who lives", &names, &["main"].to_vec())
}

/// Passes a number to and fro until it is told to stop.
fn plays(theirs: &'static Mailbox<bool>, mine: &'static Mailbox<bool>) {
    while mine.take() {
        theirs.put(!STOP.load(Ordering::Acquire));
    }
    theirs.put(false);
}

fn a_dump_beside_goroutines_that_run_on_does_no_harm() -> Verdict {
    static TABLE: [[Mailbox<bool>; 2]; 4] = [const { [const { Mailbox::new() }; 2] }; 4];
    STOP.store(false, Ordering::Release);
    for [ping, pong] in &TABLE {
        go_named("ping", || plays(pong, ping));
        go_named("pong", || plays(ping, pong));
        ping.put(true);
    }
    let mut strays = 0;
    let mut seen = 0_u32;
    // A round may last as long as the slices of all four pairs.
    for _ in 0..50 {
        for_each_goroutine(&mut |info| {
            for_each_frame(info, &mut |frame| {
                let part = frame.stack();
                seen += 1;
                strays += u32::from(part.start < info.stack.start || part.end > info.stack.end);
            });
        });
        gosched();
    }
    dump();
    STOP.store(true, Ordering::Release);
    // There is one word for each pair: whoever gets it says the last one, and so does the other.
    wait_until_alone();
    equal("frames beyond their stack", &strays, &0)?;
    equal("frames were seen", &(seen > 50), &true)
}

#[inline(never)]
fn panics(n: u32) -> u32 {
    assert!(!black_box(true), "far down");
    n
}

#[inline(never)]
fn calls_panics(n: u32) -> u32 {
    black_box(panics(black_box(n))) + 1
}

fn a_panic_names_the_calls() {
    black_box(calls_panics(1));
}

#[inline(never)]
fn throws(n: u32) -> u32 {
    if black_box(true) {
        gzero::throw(format_args!("far down"));
    }
    n
}

#[inline(never)]
fn calls_throws(n: u32) -> u32 {
    black_box(throws(black_box(n))) + 1
}

fn a_throw_names_the_calls() {
    black_box(calls_throws(1));
}

#[inline(never)]
#[expect(unsafe_code, reason = "the access is what the case is about")]
fn reads(address: usize) -> u32 {
    // Makes a frame: else the access may come before it.
    let address = black_box(address);
    // SAFETY: none: the address is not mapped, and the case must end here.
    unsafe { core::ptr::with_exposed_provenance::<u32>(address).read_volatile() }
}

#[inline(never)]
fn calls_reads(address: usize) -> u32 {
    black_box(reads(black_box(address))) + 1
}

fn an_exception_names_the_calls() {
    black_box(calls_reads(0x10));
}

#[inline(never)]
#[expect(unsafe_code, reason = "the call is what the case is about")]
fn jumps(code: &[u8; 16]) -> u32 {
    let start = core::ptr::from_ref(code).cast::<()>();
    // SAFETY: none: the page is not executable, and the case must end here.
    let function: fn() -> u32 = unsafe { core::mem::transmute(start) };
    black_box(black_box(function)()) + 1
}

fn a_jump_to_nowhere_names_who_jumped() {
    black_box(jumps(&alloc::boxed::Box::new([0xc3; 16])));
}

/// Uses stack without end.
#[expect(unconditional_recursion, reason = "that is the case")]
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let words = black_box([depth; 16]);
    recurse(depth + 1) + words[3]
}

#[inline(never)]
fn overflows() {
    black_box(recurse(0));
}

fn both_ends_of_an_overflow_are_printed() {
    go_named("deep", overflows);
    park();
}

#[inline(never)]
fn waits_in_main() -> u32 {
    static WAITS: AtomicU32 = AtomicU32::new(0);
    loop {
        park();
        WAITS.fetch_add(1, Ordering::Relaxed);
    }
}

fn a_deadlock_shows_who_waits_for_what() {
    go_named("reader", reader);
    black_box(waits_in_main());
}

fn a_deadlock_shows_main_too() {
    a_deadlock_shows_who_waits_for_what();
}

/// The other CPUs are stopped by NMI, and their goroutines' frames are those of that moment.
fn a_report_shows_where_others_run() {
    STOP.store(false, Ordering::Release);
    go_named("busy", computes);
    if stats::gomaxprocs() == 1 {
        gzero::println!(
            "goroutine 0 [busy] [running on cpu 0]: there is no other CPU\n    traces::computes+0x0"
        );
    } else {
        // It has a CPU before it has come so far.
        while !COMPUTES.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
    }
    panic!("while another runs");
}

fn a_report_of_many_is_bounded() {
    for _ in 0..1000 {
        go_named("one", park);
    }
    let waiting = || {
        let mut waiting = 0;
        for_each_goroutine(&mut |info| waiting += u32::from(matches!(info.state, State::Waiting { .. })));
        waiting
    };
    while waiting() < 1000 {
        gosched();
    }
    panic!("with many");
}

#[inline(never)]
fn dumps(n: u32) -> u32 {
    dump();
    black_box(n)
}

#[inline(never)]
fn calls_dumps(n: u32) -> u32 {
    black_box(dumps(black_box(n))) + 1
}

fn a_dump_shows_who_calls_and_who_waits() {
    go_named("reader", reader);
    wait_until_it_waits("reader");
    black_box(calls_dumps(1));
    LETTERS.put(0);
    wait_until_alone();
}

/// Who waits for this, waits for the one that holds it.
static KEPT: Mutex<u32> = Mutex::named("kept", 0);

#[inline(never)]
fn waits_for_a_mutex() -> u32 {
    black_box(*KEPT.lock())
}

/// One dump for each: their order is not said.
fn a_dump_names_what_is_waited_on_and_who_has_it() {
    let dump_while = |name| {
        wait_until_it_waits(name);
        dump();
    };
    let holder = go_named("holder", || {
        let kept = KEPT.lock();
        park();
        drop(kept);
    });
    wait_until_it_waits("holder");
    let id = holder.id();
    let waiter = go_named("waiter", waits_for_a_mutex);
    dump_while("waiter");
    go_named("joiner", move || holder.join());
    dump_while("joiner");
    unpark(id);
    waiter.join();
    let (sender, receiver) = chan::<u32>(0);
    go_named("receiver", move || assert!(receiver.recv().is_err()));
    dump_while("receiver");
    drop(sender);
    wait_until_alone();
}
