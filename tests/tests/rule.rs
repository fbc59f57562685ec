//! The rule that the project grew from: whatever may block is called on the goroutine's own stack, and throws elsewhere
//! although nothing stands in its way (golang/go#8749).
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::{
    GoRef, Mailbox, MemStats, Nanos, StackKind, StopReason, WaitReason, fd, go, goexit, gomaxprocs, gopark,
    goready, gosched, heap, lock_os_thread, mcall, num_cpu, num_goroutine, on_m, park, read_mem_stats,
    semacquire, semrelease, sleep, stack_kind, stats, stop_the_world, testing, unlock_os_thread,
    write_heap_dump,
};
use tests::{Verdict, equal};

tests::image! {
    pass: [
        each_stack_knows_what_it_is,
        on_m_comes_back_with_a_result,
        on_m_inside_of_on_m_is_a_call,
        mcall_comes_back_by_a_ready,
        gomaxprocs_works_contended,
        read_mem_stats_works_contended,
        write_heap_dump_works_contended,
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
        ("throw", "Mailbox::put not on the G stack", a_put_inside_of_on_m),
        ("throw", "gopark not on the G stack", gopark_inside_of_on_m),
        ("throw", "mcall not on the G stack", mcall_inside_of_on_m),
        ("throw", "goexit not on the G stack", goexit_inside_of_on_m),
        ("throw", "lock_os_thread not on the G stack", lock_os_thread_inside_of_on_m),
        ("throw", "unlock_os_thread not on the G stack", unlock_os_thread_inside_of_on_m),
        ("throw", "schedule: holding locks", a_park_with_locks_held),
        ("throw", "on_m called on an interrupt stack", on_m_in_an_interrupt_handler),
    ],
}

#[expect(unsafe_code, reason = "ends what `mcall` has begun")]
fn ready(g: GoRef) {
    // SAFETY: `mcall` gives the handle to this function or to the one that calls it last.
    unsafe { goready(g) }
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
        ready(g);
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
        mcall(ready);
    }
}

fn procs() -> i32 {
    i32::try_from(num_cpu()).unwrap_or(i32::MAX)
}

/// Runs a function in many goroutines, each of which finds the world stopped by somebody else and has to wait.
fn contended(call: fn(i32) -> Verdict) -> Verdict {
    const CALLERS: u32 = 12;
    let waits = || stats::per_cpu().map(|(_, counters)| counters.sema_waits).sum::<u64>();
    let waiting = || stats::waiting().filter(|waiting| waiting.reason == WaitReason::Semacquire).count();
    let (ends, failure) = (Arc::new(AtomicU32::new(0)), Arc::new(Mailbox::new()));
    let before = waits();
    let world = stop_the_world(StopReason::Program);
    for n in 0..CALLERS.cast_signed() {
        let (ends, failure) = (Arc::clone(&ends), Arc::clone(&failure));
        go(move || match call(n) {
            Ok(()) => drop(ends.fetch_add(1, Ordering::Relaxed)),
            Err(reason) => drop(failure.try_put(reason)),
        });
    }
    // All other CPUs stand: they come to their calls on this one.
    while waiting() < CALLERS as usize {
        testing::gosched_in_stop(&world);
    }
    drop(world);
    while num_goroutine() > 1 {
        gosched();
    }
    if let Some(reason) = failure.try_take() {
        return Err(reason);
    }
    equal("callers that came back", &ends.load(Ordering::Relaxed), &CALLERS)?;
    equal("all of them have waited", &(waits() - before >= CALLERS.into()), &true)
}

fn gomaxprocs_works_contended() -> Verdict {
    let verdict = contended(|n| {
        for round in 1..=10 {
            // Another number each time: the present one would stop nobody.
            let old = gomaxprocs(procs() + n + round);
            equal("a number before", &(old.cast_signed() >= procs()), &true)?;
        }
        Ok(())
    });
    gomaxprocs(procs());
    verdict
}

/// Go's `TestReadMemStats`, by many at once: each gets numbers that agree with each other.
fn read_mem_stats_works_contended() -> Verdict {
    contended(|_| {
        let (mut stats, mut stops) = (MemStats::default(), 0);
        for _ in 0..10 {
            read_mem_stats(&mut stats);
            let frees = stats.by_size.iter().chain([&stats.large]).map(|class| class.frees).sum();
            equal("frees", &stats.frees, &frees)?;
            equal("objects", &stats.heap_objects, &(stats.mallocs - stats.frees))?;
            equal("idle and in use", &(stats.heap_idle + stats.heap_inuse), &stats.heap_sys)?;
            equal("a later stop than the last", &(stats.num_stops > stops), &true)?;
            stops = stats.num_stops;
        }
        Ok(())
    })
}

fn write_heap_dump_works_contended() -> Verdict {
    let before = fd::swallowed();
    contended(|_| {
        let null = fd::open("null").expect("every machine has it");
        equal("the dump", &write_heap_dump(null), &Ok(()))
    })?;
    equal(
        "bytes are at least those of the heap",
        &(fd::swallowed() - before > 12 * heap::stats().live),
        &true,
    )
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

fn a_put_inside_of_on_m() {
    let mailbox = Mailbox::new();
    on_m(|| mailbox.put(1));
}

fn gopark_inside_of_on_m() {
    // It would not even stay.
    on_m(|| gopark(WaitReason::Park, |_| false));
}

fn mcall_inside_of_on_m() {
    on_m(|| mcall(ready));
}

fn goexit_inside_of_on_m() {
    // SAFETY: nothing relies on what lies on this stack.
    on_m(|| unsafe { goexit() });
}

fn lock_os_thread_inside_of_on_m() {
    on_m(lock_os_thread);
}

fn unlock_os_thread_inside_of_on_m() {
    on_m(unlock_os_thread);
}

fn a_park_with_locks_held() {
    testing::while_pinned(park);
}

fn on_m_in_an_interrupt_handler() {
    testing::in_interrupt(|| on_m(|| ()));
}
