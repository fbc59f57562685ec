//! Cases that must end the machine, each in its own boot: how it ends, and what it says.
#![no_std]
#![no_main]

extern crate alloc;

use core::fmt::{self, Display};
use core::hint::{black_box, spin_loop};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use gzero::time::{Duration, Ticker, Timer, sleep};
use gzero::{
    StopReason, WaitReason, current, dump, go, go_named, gopark, goready, gosched, num_cpu, park, println,
    stop_the_world, testing,
};

tests::image! {
    pass: [],
    dies: [
        ("panic", "boom 42", a_panic_says_its_message),
        ("panic", "dies.rs:", a_panic_says_where),
        ("panic", "[victim]", a_panic_says_who),
        ("panic", "on cpu ", a_panic_says_on_which_cpu),
        ("panic", "panic: in main\tgoroutine 1 [main]", main_is_goroutine_1),
        ("pass", "goroutine 1 [main] [running on cpu \t!goroutine ", a_program_without_others_is_one_in_a_dump),
        ("panic", "chatter\tpanic: silence\t!chatter", nobody_prints_beside_a_report),
        ("fatal", "stack overflow: goroutine", recursion_without_end),
        ("fatal", "[deep]", an_overflow_says_who),
        ("fatal", "all goroutines are asleep - deadlock!", everybody_waits),
        ("fatal", "all goroutines are asleep - deadlock!", a_ticker_that_was_stopped_wakes_nobody),
        ("fatal", "all goroutines are asleep - deadlock!", the_end_of_time_wakes_nobody),
        ("panic", "the interval of a ticker must not be zero", a_ticker_without_an_interval),
        ("panic", "the interval of a ticker must not be zero", a_ticker_that_is_reset_to_nothing),
        ("throw", "ready: the goroutine is running", a_ready_for_one_that_runs),
        ("throw", "begin_park", a_park_inside_a_park),
        ("throw", "read of a page that is not mapped at 0x0000000000000010", a_read_of_page_zero),
        ("throw", "write to a page that is read-only", a_write_to_text),
        ("throw", "execution of a page that is not executable", a_jump_into_data),
        ("throw", "#UD invalid opcode", an_invalid_opcode),
        ("throw", "#BP breakpoint\tmachine::exception::breakpoint+0x", a_breakpoint_that_nobody_waits_for),
        ("throw", "#GP general protection", a_non_canonical_address),
        ("exit:7", "", an_exit_code_reaches_the_host),
        ("exit:0", "chatter\t!(cut off)", an_exit_cuts_no_line_off),
        ("exit:7", "so far (cut off)", an_exit_inside_a_line_is_its_end),
        ("exit:7", "chatter\t!(cut off)", one_of_many_exits_counts),
        ("exit:7", "chatter\t!(cut off)", an_exit_in_a_stopped_world),
        ("exit:7", "chatter\t!(cut off)", an_exit_in_an_interrupt_handler),
        ("panic", "memory allocation of", an_allocation_that_cannot_be),
        ("panic", "lock order: taking Stops while holding Frames", locks_in_the_wrong_order),
    ],
}

fn locks_in_the_wrong_order() {
    testing::locks_in_wrong_order();
}

fn a_panic_says_its_message() {
    panic!("boom {}", black_box(42));
}

fn a_panic_says_where() {
    let empty: &[u8] = black_box(&[]);
    black_box(empty[black_box(3)]);
}

fn a_panic_says_who() {
    go_named("victim", || panic!("in a goroutine with a name"));
    park();
}

/// The other CPUs print all the time, until the report begins.
fn nobody_prints_beside_a_report() {
    the_others_print(&"chatter");
    panic!("silence");
}

/// The other CPUs print from now on; this comes back when some lines are out.
fn the_others_print(text: &'static (impl Display + Sync)) {
    static LINES: AtomicUsize = AtomicUsize::new(0);
    for _ in 1..num_cpu().max(2) {
        go(move || {
            loop {
                println!("{text}");
                LINES.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while LINES.load(Ordering::Relaxed) < 50 {
        gosched();
    }
}

fn a_panic_says_on_which_cpu() {
    panic!("somewhere");
}

/// Go's `TestMainGoroutineID`.
fn main_is_goroutine_1() {
    panic!("in main");
}

/// Go's `TestNoHelperGoroutines`.
fn a_program_without_others_is_one_in_a_dump() {
    dump();
}

/// Uses stack without end.
#[expect(unconditional_recursion, reason = "that is the case")]
fn recurse(depth: u64) -> u64 {
    let words = black_box([depth; 16]);
    recurse(depth + 1) + words[3]
}

fn recursion_without_end() {
    black_box(recurse(0));
}

fn an_overflow_says_who() {
    go_named("deep", || {
        black_box(recurse(0));
    });
    park();
}

fn everybody_waits() {
    for _ in 0..10 {
        go_named("waits", park);
    }
    park();
}

#[expect(unsafe_code, reason = "the call is what the case is about")]
fn a_ready_for_one_that_runs() {
    // SAFETY: none: nobody waits for it, and the case must end here.
    unsafe { goready(current()) };
}

fn a_park_inside_a_park() {
    gopark(WaitReason::Park, |_| {
        park();
        false
    });
}

#[expect(unsafe_code, reason = "the access is what the case is about")]
fn read(address: usize) {
    // SAFETY: none: the address is not mapped, and the case must end here.
    black_box(unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u64>(address)) });
}

fn a_read_of_page_zero() {
    read(0x10);
}

fn a_non_canonical_address() {
    read(0x8000_0000_0000_0000);
}

#[expect(unsafe_code, reason = "the access is what the case is about")]
fn a_write_to_text() {
    let text = a_write_to_text as *const () as usize;
    // SAFETY: none: the page is read-only, and the case must end here.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut::<u8>(text), 0x90) };
}

#[expect(unsafe_code, reason = "the call is what the case is about")]
fn a_jump_into_data() {
    // `ret`, on a heap page.
    let code = alloc::boxed::Box::new([0xc3_u8; 16]);
    let start = ptr::from_ref(&*code).cast::<()>();
    // SAFETY: none: the page is not executable, and the case must end here.
    let function: fn() = unsafe { core::mem::transmute(start) };
    function();
}

fn an_invalid_opcode() {
    testing::invalid_opcode();
}

fn a_breakpoint_that_nobody_waits_for() {
    gzero::breakpoint();
}

fn an_exit_code_reaches_the_host() {
    gzero::exit(7);
}

/// Whoever prints it is in the middle of a line nearly all the time.
struct Slowly;

impl Display for Slowly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("chat")?;
        for _ in 0..10_000 {
            spin_loop();
        }
        f.write_str("ter")
    }
}

fn an_exit_cuts_no_line_off() {
    the_others_print(&Slowly);
    gzero::exit(0);
}

fn one_of_many_exits_counts() {
    the_others_print(&Slowly);
    for _ in 0..2 * num_cpu() {
        go(|| gzero::exit(7));
    }
    gzero::exit(7);
}

fn an_exit_in_a_stopped_world() {
    the_others_print(&Slowly);
    let _stopped = stop_the_world(StopReason::Program);
    gzero::exit(7);
}

fn an_exit_in_an_interrupt_handler() {
    the_others_print(&Slowly);
    testing::in_interrupt(|| gzero::exit(7));
}

fn an_exit_inside_a_line_is_its_end() {
    struct Exits;

    impl Display for Exits {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            gzero::exit(7)
        }
    }
    println!("so far{Exits} and on");
}

fn an_allocation_that_cannot_be() {
    black_box(alloc::vec![0u8; 1 << 46]);
}

/// What is set no more counts for nothing.
fn a_ticker_that_was_stopped_wakes_nobody() {
    let ticker = Ticker::new(Duration::from_millis(1));
    let timer = Timer::new(Duration::from_hours(1));
    ticker.recv();
    ticker.stop();
    timer.stop();
    ticker.recv();
}

fn the_end_of_time_wakes_nobody() {
    sleep(Duration::MAX);
}

/// Go's `TestNewTickerLtZeroDuration`.
fn a_ticker_without_an_interval() {
    drop(Ticker::new(Duration::ZERO));
}

/// Go's `TestTickerResetLtZeroDuration`.
fn a_ticker_that_is_reset_to_nothing() {
    Ticker::new(Duration::from_secs(1)).reset(Duration::ZERO);
}
