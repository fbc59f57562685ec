//! Goroutines as values: handles, their results, limits of stacks.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::prelude::*;
use gzero::{GoError, current, free_os_memory, goexit, goid, num_goroutine, on_m, park, stats, unpark};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        a_value_is_returned,
        a_join_waits_for_the_end,
        a_join_after_the_end_finds_the_value,
        results_of_all_sizes_arrive_whole,
        a_value_is_dropped_once_in_every_order,
        drops_race_with_ends,
        joins_race_with_ends,
        unclaimed_values_survive,
        an_unclaimed_goroutine_is_gone,
        joins_leave_nothing_behind,
        a_try_join_gives_the_handle_back,
        a_goexit_has_no_value,
        a_handle_may_go_elsewhere,
        numbers_stay_with_their_goroutine,
        a_limited_stack_is_enough_for_what_fits,
        a_stack_that_is_too_large_is_refused,
        a_start_without_memory_is_an_error,
    ],
    dies: [
        ("throw", "JoinHandle::join not on the G stack", a_join_inside_of_on_m),
        ("throw", "JoinHandle::join_result not on the G stack", a_join_result_inside_of_on_m),
        ("panic", "joins itself", a_goroutine_joins_itself),
        ("panic", "ended by goexit and has no value", a_join_after_a_goexit),
        ("fatal", "deadlock!\t[main] waits: join of goroutine \t[endless]\t[main] [join]", a_join_without_an_end),
        ("fatal", "[small] has used up its 32 KiB", a_limit_is_kept),
        ("fatal", "[small] has used up its 32 KiB", a_limit_is_kept_on_a_stack_that_was_larger),
    ],
}

static DROPS: AtomicU32 = AtomicU32::new(0);

/// Counts how often it is dropped, and must be dropped whole.
struct CountsDrops(u64);

impl CountsDrops {
    const fn new() -> Self {
        Self(0x1234_5678)
    }
}

impl Drop for CountsDrops {
    fn drop(&mut self) {
        assert_eq!(self.0, 0x1234_5678, "a value that is not there is dropped");
        self.0 = 0;
        DROPS.fetch_add(1, Ordering::Relaxed);
    }
}

fn drops() -> u32 {
    DROPS.swap(0, Ordering::Relaxed)
}

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        gosched();
    }
}

fn wait_until_finished<T>(handle: &JoinHandle<T>) {
    while !handle.is_finished() {
        gosched();
    }
}

fn a_value_is_returned() -> Verdict {
    equal("the value", &go(|| 6 * 7).join(), &42)?;
    equal("of one with a name", &go_named("seven", || 7).join(), &7)?;
    let text = String::from("moved");
    equal("what was captured", &go(move || text + " in and out").join().as_str(), &"moved in and out")?;
    equal("of a fallible start", &try_go(|| 'x').map(JoinHandle::join), &Ok('x'))
}

fn a_join_waits_for_the_end() -> Verdict {
    for _ in 0..200 {
        let (at, main) = (Arc::new(AtomicU32::new(0)), current());
        let step = Arc::clone(&at);
        let handle = go(move || {
            unpark(main);
            for _ in 0..3 {
                gosched();
                step.fetch_add(1, Ordering::Relaxed);
            }
            goid()
        });
        let number = handle.goid();
        equal("whose value it is", &handle.join(), &number)?;
        equal("steps before the join", &at.load(Ordering::Relaxed), &3)?;
    }
    Ok(())
}

fn a_join_after_the_end_finds_the_value() -> Verdict {
    for _ in 0..200 {
        let handle = go(|| vec![1, 2, 3]);
        wait_until_finished(&handle);
        equal("the value", &handle.join(), &vec![1, 2, 3])?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
#[repr(align(64))]
struct Aligned([u64; 8]);

#[derive(Debug, PartialEq, Eq)]
#[repr(align(1024))]
struct VeryAligned(u8);

#[derive(Debug, PartialEq, Eq)]
#[repr(align(4096))]
struct PageAligned(u8);

#[derive(Debug, PartialEq, Eq)]
struct Nothing;

fn at_its_place<T>(value: &T) -> bool {
    core::ptr::from_ref(value).addr().is_multiple_of(align_of::<T>())
}

#[expect(clippy::large_stack_frames, clippy::large_stack_arrays, reason = "large values are the case")]
fn results_of_all_sizes_arrive_whole() -> Verdict {
    equal("nothing", &go(|| Nothing).join(), &Nothing)?;
    equal("a unit", &go(|| ()).join(), &())?;
    let aligned = go(|| Aligned([1, 2, 3, 4, 5, 6, 7, 8])).join();
    equal("aligned", &(aligned, at_its_place(&aligned)), &(Aligned([1, 2, 3, 4, 5, 6, 7, 8]), true))?;
    equal("very aligned", &go(|| VeryAligned(7)).join(), &VeryAligned(7))?;
    let page = go(|| PageAligned(9)).join();
    equal("more than fits on the first page", &(page.0, at_its_place(&page)), &(9, true))?;
    // What lies on the stack at most, and what is too large for it by a byte.
    let most = go(|| black_box([0x5a_u8; 2048])).join();
    equal("2048 bytes", &most.iter().all(|byte| *byte == 0x5a), &true)?;
    let more = go(|| black_box([0xa5_u8; 2049])).join();
    equal("2049 bytes", &more.iter().all(|byte| *byte == 0xa5), &true)?;
    let large = go(|| black_box([3_u16; 10_000])).join();
    equal("20000 bytes", &large.iter().all(|word| *word == 3), &true)?;
    let boxed = go(|| vec![7_u8; 1 << 20].into_boxed_slice()).join();
    equal("a boxed MiB", &(boxed.len(), boxed.iter().all(|byte| *byte == 7)), &(1 << 20, true))?;
    // Closure and value of unequal size share one place.
    let words = black_box([9_u64; 100]);
    equal("small of large", &go(move || words.iter().sum::<u64>()).join(), &900)?;
    let n = black_box(5_u8);
    equal("large of small", &go(move || [n; 1500]).join(), &[5; 1500])
}

/// A drop before the end, after it, and a join that drops; of small values and of boxed ones.
#[expect(clippy::large_stack_frames, reason = "large values are among them")]
fn a_value_is_dropped_once_in_every_order() -> Verdict {
    drops();
    every_order(CountsDrops::new)?;
    every_order(|| (CountsDrops::new(), black_box([1_u8; 3000])))?;
    every_order(|| Box::new(CountsDrops::new()))
}

fn every_order<T: Send + 'static>(make: fn() -> T) -> Verdict {
    let goes_on = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&goes_on);
    let handle = go(move || {
        wait_for(&flag);
        make()
    });
    drop(handle);
    equal("drops before the value is there", &drops(), &0)?;
    goes_on.store(true, Ordering::Release);
    wait_until_alone();
    equal("drops of a detached value", &drops(), &1)?;
    let handle = go(make);
    wait_until_finished(&handle);
    wait_until_alone();
    equal("drops of a value that is kept", &drops(), &0)?;
    drop(handle);
    equal("drops by the handle", &drops(), &1)?;
    let value = go(make).join();
    equal("drops by a join", &drops(), &0)?;
    drop(value);
    equal("drops of a joined value", &drops(), &1)?;
    wait_until_alone();
    Ok(())
}

const RACES: u32 = 3_000;

/// The drop comes at any moment of the goroutine's life.
fn drops_race_with_ends() -> Verdict {
    drops();
    for n in 0..RACES {
        let handle = go(move || {
            (0..n % 3).for_each(|_| gosched());
            CountsDrops::new()
        });
        (0..n % 4).for_each(|_| gosched());
        drop(handle);
    }
    wait_until_alone();
    equal("values dropped", &drops(), &RACES)
}

/// Many joiners on all CPUs, each with a goroutine that ends at about the same moment.
fn joins_race_with_ends() -> Verdict {
    drops();
    let each = RACES / 8;
    let joiners: Vec<_> = (0..8)
        .map(|joiner| {
            go(move || {
                (0..each)
                    .map(|n| {
                        let handle = go(move || {
                            (0..n % 3).for_each(|_| gosched());
                            (u64::from(joiner * each + n), CountsDrops::new())
                        });
                        (0..n % 4).for_each(|_| gosched());
                        handle.join().0
                    })
                    .sum::<u64>()
            })
        })
        .collect();
    let sum: u64 = joiners.into_iter().map(JoinHandle::join).sum();
    let count = u64::from(each * 8);
    equal("the sum of the values", &sum, &(count * (count - 1) / 2))?;
    equal("values dropped", &u64::from(drops()), &count)
}

/// Goroutines come and go, and memory is given back, while others' values lie on their stacks.
fn unclaimed_values_survive() -> Verdict {
    let handles: Vec<_> = (0..100_u64).map(|n| go(move || [n; 32])).collect();
    handles.iter().for_each(wait_until_finished);
    wait_until_alone();
    let (held, before) = (stats::memory().stacks, free_os_memory());
    for _ in 0..20 {
        let others: Vec<_> = (0..50_u64).map(|n| go(move || [!n; 32])).collect();
        others.into_iter().for_each(drop);
    }
    wait_until_alone();
    free_os_memory();
    equal("stacks are counted as used", &(stats::memory().stacks >= held && before > 0), &true)?;
    for (n, handle) in (0..).zip(handles) {
        equal("a value", &handle.join(), &[n; 32])?;
    }
    Ok(())
}

fn an_unclaimed_goroutine_is_gone() -> Verdict {
    let handle = go_named("gone", || 1);
    let id = handle.id();
    wait_until_finished(&handle);
    wait_until_alone();
    equal("goroutines", &num_goroutine(), &1)?;
    equal("an unpark", &unpark(id), &false)?;
    let mut seen = false;
    gzero::trace::for_each_goroutine(&mut |info| seen |= info.name == "gone");
    equal("shown in traces", &seen, &false)?;
    equal("who it was", &handle.id(), &id)?;
    equal("its value", &handle.join(), &1)?;
    equal("an unpark after the join", &unpark(id), &false)
}

/// A million on one CPU; emulated, more CPUs are slower at it.
fn joins_leave_nothing_behind() -> Verdict {
    let joins = 1_000_000 / stats::num_cpu().pow(2) as u64 / if cfg!(debug_assertions) { 10 } else { 1 };
    let run = |count| (0..count).map(|n| go(move || n).join()).sum::<u64>();
    run(200);
    drop((0..100).map(go_number).collect::<Vec<_>>());
    wait_until_alone();
    let before = stats::memory();
    equal("the sum", &run(joins), &(joins * (joins - 1) / 2))?;
    wait_until_alone();
    let after = stats::memory();
    equal("bytes available", &after.available(), &before.available())?;
    equal("slots of the table", &after.goroutine_table, &before.goroutine_table)?;
    equal("stacks in use", &after.stacks, &before.stacks)
}

fn go_number(n: u64) -> JoinHandle<u64> {
    go(move || n)
}

fn a_try_join_gives_the_handle_back() -> Verdict {
    let goes_on = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&goes_on);
    let handle = go(move || {
        wait_for(&flag);
        11
    });
    let Err(handle) = handle.try_join() else { return Err("it runs on".into()) };
    equal("finished", &handle.is_finished(), &false)?;
    goes_on.store(true, Ordering::Release);
    wait_until_finished(&handle);
    equal("the value", &handle.try_join().ok(), &Some(11))
}

fn exits() -> JoinHandle<CountsDrops> {
    go(|| {
        gosched();
        // SAFETY: nothing relies on what lies on this stack.
        unsafe { goexit() }
    })
}

fn a_goexit_has_no_value() -> Verdict {
    drops();
    let handle = exits();
    let number = handle.goid();
    equal("a join before it", &handle.join_result().err().map(|error| error.0), &Some(number))?;
    let handle = exits();
    wait_until_finished(&handle);
    equal("a join after it", &handle.join_result().is_err(), &true)?;
    drop(exits());
    let handle = exits();
    wait_until_finished(&handle);
    drop(handle);
    wait_until_alone();
    equal("values dropped", &drops(), &0)
}

fn a_handle_may_go_elsewhere() -> Verdict {
    let inner = go(|| {
        (0..5).for_each(|_| gosched());
        8
    });
    let outer = go(move || inner.join() + 1);
    let third = go(move || outer);
    equal("through two", &third.join().join(), &9)?;
    // A goroutine that has its own handle, and ends with it, detaches itself.
    drops();
    let own: Arc<gzero::Mailbox<JoinHandle<CountsDrops>>> = Arc::new(gzero::Mailbox::new());
    let taken = Arc::clone(&own);
    own.put(go(move || {
        drop(taken.take());
        CountsDrops::new()
    }));
    wait_until_alone();
    equal("drops by one that detached itself", &drops(), &1)
}

fn numbers_stay_with_their_goroutine() -> Verdict {
    let handles: Vec<_> = (0..50).map(|_| go(goid)).collect();
    handles.iter().for_each(wait_until_finished);
    for handle in handles {
        let number = handle.goid();
        equal("number", &handle.join(), &number)?;
    }
    Ok(())
}

/// Uses about a quarter of a kilobyte of stack a level.
fn descend(depth: u64) -> u64 {
    let words = black_box([depth; 24]);
    if depth == 0 { 0 } else { descend(depth - 1) + u64::from(words[7] == depth) }
}

fn a_limited_stack_is_enough_for_what_fits() -> Verdict {
    for kib in [16, 60, 64, 1020] {
        let builder = Builder::new().name("limited").stack_size(kib << 10);
        let handle = go_with(builder, move || descend(kib as u64));
        equal("levels", &handle.map(JoinHandle::join), &Ok(kib as u64))?;
    }
    Ok(())
}

fn a_stack_that_is_too_large_is_refused() -> Verdict {
    drops();
    let captured = CountsDrops::new();
    let asked = Builder::MAX_STACK_SIZE + 1;
    let error = go_with(Builder::new().stack_size(asked), move || captured).err();
    equal("the error", &error, &Some(GoError::StackTooLarge { asked, maximum: 1020 << 10 }))?;
    equal("captured values dropped", &drops(), &1)?;
    let words = error.map(|error| format!("{error}"));
    equal("it says the maximum", &words.is_some_and(|words| words.contains("1044480")), &true)
}

/// A value that has its room on the heap, which has not as much.
struct Huge {
    _bytes: [u8; 1 << 40],
}

#[expect(clippy::large_stack_frames, reason = "no frame is made for what is never started")]
fn a_start_without_memory_is_an_error() -> Verdict {
    drops();
    let captured = CountsDrops::new();
    let error = try_go(move || -> Huge {
        drop(captured);
        loop {
            park();
        }
    })
    .err();
    equal("the error", &error, &Some(GoError::NoHeapMemory { bytes: 1 << 40 }))?;
    equal("captured values dropped", &drops(), &1)?;
    wait_until_alone();
    Ok(())
}

fn a_join_inside_of_on_m() {
    let handle = go(|| 1);
    wait_until_finished(&handle);
    on_m(|| handle.join());
}

fn a_join_result_inside_of_on_m() {
    let handle = go(|| 1);
    wait_until_finished(&handle);
    on_m(|| assert!(handle.join_result().is_err()));
}

fn a_goroutine_joins_itself() {
    let own: Arc<gzero::Mailbox<JoinHandle<()>>> = Arc::new(gzero::Mailbox::new());
    let taken = Arc::clone(&own);
    own.put(go(move || taken.take().join()));
    park();
}

fn a_join_after_a_goexit() {
    drop(exits().join());
}

fn a_join_without_an_end() {
    go_named("endless", park).join();
}

/// Uses about a hundred KiB.
fn overflows() -> u64 {
    descend(400)
}

fn a_limit_is_kept() {
    let handle = go_with(Builder::new().name("small").stack_size(32 << 10), overflows);
    assert!(handle.map(JoinHandle::join).is_err());
}

fn a_limit_is_kept_on_a_stack_that_was_larger() {
    // All stacks that this CPU has at hand were used deeply.
    let deep: Vec<_> = (0..300).map(|_| go(|| descend(180))).collect();
    assert_eq!(deep.into_iter().map(JoinHandle::join).sum::<u64>(), 300 * 180);
    a_limit_is_kept();
}
