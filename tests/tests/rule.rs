//! The rule that the project grew from: whatever may block is called on the goroutine's own stack, and throws elsewhere
//! although nothing stands in its way (golang/go#8749).
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::{
    GoRef, Mailbox, Nanos, StackKind, StopReason, go, gomaxprocs, goready, gosched, mcall, num_cpu,
    num_goroutine, on_m, park, semacquire, semrelease, sleep, stack_kind, stop_the_world, testing,
};
use tests::{Verdict, equal};

tests::image! {
    pass: [
        each_stack_knows_what_it_is,
        on_m_comes_back_with_a_result,
        on_m_inside_of_on_m_is_a_call,
        mcall_comes_back_by_a_ready,
        gomaxprocs_works_contended,
        a_goroutine_waits_on_its_own_stack,
    ],
    dies: [
        ("throw", "semacquire not on the G stack", semacquire_inside_of_on_m),
        ("throw", "semacquire not on the G stack", semacquire_on_the_kernel_stack),
        ("throw", "semacquire not on the G stack", semacquire_in_an_interrupt_handler),
        ("throw", "called on the kernel stack at", a_throw_names_the_stack),
        ("throw", "tests/rule.rs:", a_throw_names_the_caller),
        ("throw", "gomaxprocs not on the G stack", gomaxprocs_inside_of_on_m),
        ("throw", "gomaxprocs not on the G stack", gomaxprocs_on_the_kernel_stack),
        ("throw", "gomaxprocs not on the G stack", gomaxprocs_in_an_interrupt_handler),
        ("throw", "stop_the_world not on the G stack", a_stop_inside_of_on_m),
        ("throw", "stop_the_world: holding locks", a_stop_with_locks_held),
        ("throw", "park not on the G stack", park_inside_of_on_m),
        ("throw", "gosched not on the G stack", gosched_in_an_interrupt_handler),
        ("throw", "sleep not on the G stack", sleep_inside_of_on_m),
        ("throw", "Mailbox::take not on the G stack", a_full_mailbox_inside_of_on_m),
        ("throw", "schedule: holding locks", a_park_with_locks_held),
        ("throw", "on_m called on an interrupt stack", on_m_in_an_interrupt_handler),
    ],
}

/// A semaphore with units: nobody ever has to wait for it.
static FREE: AtomicU32 = AtomicU32::new(1_000);

fn each_stack_knows_what_it_is() -> Verdict {
    static IN_HANDLER: AtomicBool = AtomicBool::new(false);
    static ON_G0: AtomicBool = AtomicBool::new(false);
    equal("the stack of a goroutine", &stack_kind(), &StackKind::Goroutine)?;
    equal("inside of on_m", &on_m(stack_kind), &StackKind::Kernel)?;
    testing::in_interrupt(|| IN_HANDLER.store(stack_kind() == StackKind::Interrupt, Ordering::Relaxed));
    equal("in a handler", &IN_HANDLER.load(Ordering::Relaxed), &true)?;
    mcall(|g| {
        ON_G0.store(stack_kind() == StackKind::Kernel, Ordering::Relaxed);
        goready(g);
    });
    equal("in mcall", &ON_G0.load(Ordering::Relaxed), &true)?;
    equal("afterwards", &stack_kind(), &StackKind::Goroutine)
}

fn on_m_comes_back_with_a_result() -> Verdict {
    let words = [3_u64, 4, 5];
    for _ in 0..10_000 {
        equal("result", &on_m(|| words.iter().sum::<u64>()), &12)?;
    }
    Ok(())
}

fn on_m_inside_of_on_m_is_a_call() -> Verdict {
    equal("result", &on_m(|| on_m(|| 7) + 1), &8)
}

fn mcall_comes_back_by_a_ready() {
    for _ in 0..10_000 {
        mcall(goready);
    }
}

fn gomaxprocs_works_contended() -> Verdict {
    let procs = i32::try_from(num_cpu()).unwrap_or(i32::MAX);
    let calls = Arc::new(AtomicU32::new(0));
    for n in 0..6 {
        let calls = Arc::clone(&calls);
        go(move || {
            for _ in 0..10 {
                gomaxprocs(procs + n);
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while num_goroutine() > 1 {
        gosched();
    }
    gomaxprocs(procs);
    equal("calls that came back", &calls.load(Ordering::Relaxed), &60)
}

fn a_goroutine_waits_on_its_own_stack() -> Verdict {
    static EMPTY: AtomicU32 = AtomicU32::new(0);
    let waited = Arc::new(AtomicU32::new(0));
    for _ in 0..20 {
        let waited = Arc::clone(&waited);
        go(move || {
            semacquire(&EMPTY);
            waited.fetch_add(1, Ordering::Relaxed);
        });
    }
    (0..20).for_each(|_| semrelease(&EMPTY));
    while num_goroutine() > 1 {
        gosched();
    }
    equal("goroutines that got their unit", &waited.load(Ordering::Relaxed), &20)
}

/// Calls a function on the kernel stack with no goroutine on the CPU.
fn on_the_kernel_stack(function: fn(GoRef)) {
    mcall(function);
}

fn semacquire_inside_of_on_m() {
    on_m(|| semacquire(&FREE));
}

fn semacquire_on_the_kernel_stack() {
    on_the_kernel_stack(|_| semacquire(&FREE));
}

fn semacquire_in_an_interrupt_handler() {
    testing::in_interrupt(|| semacquire(&FREE));
}

fn a_throw_names_the_stack() {
    semacquire_inside_of_on_m();
}

fn a_throw_names_the_caller() {
    semacquire_inside_of_on_m();
}

fn gomaxprocs_inside_of_on_m() {
    on_m(|| gomaxprocs(0));
}

fn gomaxprocs_on_the_kernel_stack() {
    on_the_kernel_stack(|_| {
        gomaxprocs(0);
    });
}

fn gomaxprocs_in_an_interrupt_handler() {
    testing::in_interrupt(|| {
        gomaxprocs(0);
    });
}

fn a_stop_inside_of_on_m() {
    on_m(|| drop(stop_the_world(StopReason::Program)));
}

fn a_stop_with_locks_held() {
    testing::while_pinned(|| drop(stop_the_world(StopReason::Program)));
}

fn park_inside_of_on_m() {
    on_m(park);
}

fn gosched_in_an_interrupt_handler() {
    testing::in_interrupt(gosched);
}

fn sleep_inside_of_on_m() {
    on_m(|| sleep(Nanos(0)));
}

fn a_full_mailbox_inside_of_on_m() {
    let mailbox = Mailbox::new();
    mailbox.put(1);
    on_m(|| mailbox.take());
}

fn a_park_with_locks_held() {
    testing::while_pinned(park);
}

fn on_m_in_an_interrupt_handler() {
    testing::in_interrupt(|| on_m(|| ()));
}
