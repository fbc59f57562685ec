//! Stops of the world that meet each other, and what else reaches for all CPUs.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gzero::world::{CpuStop, Doing};
use gzero::{
    MemStats, Nanos, StopReason, fd, go, gomaxprocs, gosched, now, num_cpu, read_mem_stats, sleep, stats,
    stop_the_world, testing, world, write_heap_dump,
};
use tests::{Load, Random, Verdict, equal, wait_until_alone, word};

tests::image! {
    pass: [
        stops_of_all_kinds_meet,
        shootdowns_meet_stops,
        a_stopped_cpu_forgets_translations,
        each_cpu_leaves_a_record,
        who_comes_to_a_stop_by_itself_leaves_a_record,
    ],
}

/// Rounds of a case: fewer where CPUs share the host's cores, as each then costs milliseconds.
fn rounds(most: u64) -> u64 {
    if num_cpu() > 2 { most / 10 } else { most }
}

/// Ends [`perpetuum_mobile`].
static STOP: AtomicBool = AtomicBool::new(false);

/// A goroutine that is another one each time.
fn perpetuum_mobile() {
    if !STOP.load(Ordering::Relaxed) {
        go(perpetuum_mobile);
    }
}

/// Go's `TestStopTheWorldDeadlock`: who stops the world for one reason meets those who do for others, beside a goroutine
/// that starts itself anew all the time.
fn stops_of_all_kinds_meet() -> Verdict {
    let all = i32::try_from(num_cpu()).unwrap_or(i32::MAX);
    let before = world::stats();
    let count = rounds(400);
    STOP.store(false, Ordering::Relaxed);
    go(perpetuum_mobile);
    let ends = Arc::new(AtomicU64::new(0));
    let starts: [fn(u64); 4] = [
        |round| {
            gomaxprocs(i32::try_from(round % 3).unwrap_or(0) + 1);
        },
        |_| read_mem_stats(&mut MemStats::default()),
        |round| {
            if round.is_multiple_of(8) {
                let null = fd::open("null").expect("every machine has it");
                write_heap_dump(null).expect("it is open");
            }
        },
        |_| drop(stop_the_world(StopReason::Program)),
    ];
    for start in starts {
        let ends = Arc::clone(&ends);
        go(move || {
            (0..count).for_each(start);
            ends.fetch_add(1, Ordering::Relaxed);
        });
    }
    while ends.load(Ordering::Relaxed) < starts.len() as u64 {
        gosched();
    }
    STOP.store(true, Ordering::Relaxed);
    gomaxprocs(all);
    wait_until_alone();
    let after = world::stats();
    let stops = |reason: StopReason| {
        let number = |stats: &world::WorldStats| stats.reasons[reason as usize].count;
        number(&after) - number(&before)
    };
    equal("stops to read the statistics", &stops(StopReason::ReadMemStats), &count)?;
    equal("stops to dump the heap", &stops(StopReason::WriteHeapDump), &count.div_ceil(8))?;
    equal("stops of the program", &stops(StopReason::Program), &count)?;
    // The number was the wanted one already, now and then.
    equal("stops to change the number of Ps", &(stops(StopReason::GoMaxProcs) >= count / 2), &true)
}

/// One goroutine makes all CPUs forget a translation, others stop the world, and all read the page: nobody waits for ever.
fn shootdowns_meet_stops() -> Verdict {
    let page = testing::spare_page();
    let readers = Load::start(num_cpu(), move |_| {
        black_box(word(page).load(Ordering::Relaxed));
    });
    let over = Arc::new(AtomicBool::new(false));
    let stops = Arc::new(AtomicU64::new(0));
    for _ in 0..2 {
        let (over, stops) = (Arc::clone(&over), Arc::clone(&stops));
        go(move || {
            while !over.load(Ordering::Relaxed) {
                drop(stop_the_world(StopReason::Program));
                stops.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (mut stale, mut round, mut met) = (0, 0, 0);
    // Until both have had their turns, and at the same time.
    while round < rounds(500) || stops.load(Ordering::Relaxed) < 20 || (num_cpu() > 1 && met < 20) {
        round += 1;
        let before = stops.load(Ordering::Relaxed);
        if round <= 500 {
            word(page).store(u64::MAX, Ordering::Relaxed);
            testing::replace_page(page);
            word(page).store(round, Ordering::Relaxed);
            stale += u64::from(word(page).load(Ordering::Relaxed) != round);
        } else {
            testing::shootdown();
        }
        met += u32::from(stops.load(Ordering::Relaxed) != before);
    }
    readers.wait_for_all();
    over.store(true, Ordering::Relaxed);
    drop(readers);
    equal("looks at the page that found something else", &stale, &0)
}

/// The page gets another frame while the world stands: nobody is interrupted for it, and nobody sees the old one.
fn a_stopped_cpu_forgets_translations() -> Verdict {
    let page = testing::spare_page();
    let (current, stale) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    word(page).store(0, Ordering::Relaxed);
    let readers = {
        let (current, stale) = (Arc::clone(&current), Arc::clone(&stale));
        Load::start(2 * num_cpu(), move |_| {
            let before = current.load(Ordering::Acquire);
            // Both change only while the world stands: what is read is no older than the number before.
            let seen = word(page).load(Ordering::Acquire);
            stale.fetch_add(u64::from(seen < before), Ordering::Relaxed);
        })
    };
    for round in 1..=rounds(500) {
        let world = stop_the_world(StopReason::Program);
        testing::replace_page(page);
        word(page).store(round, Ordering::Release);
        current.store(round, Ordering::Release);
        drop(world);
        if round.is_multiple_of(16) {
            readers.wait_for_all();
        }
    }
    drop(readers);
    equal("old contents seen", &stale.load(Ordering::Relaxed), &0)
}

/// What is wrong with a CPU's record, if anything.
fn check(stop: &CpuStop, began: Nanos) -> Verdict {
    let text = stop.to_string();
    equal("a time to acknowledge", &(stop.acknowledged >= began), &true)?;
    if stop.received == Nanos(0) {
        // It came to the stop by itself; or so late that an NMI has looked where it was.
        let by_itself = matches!(stop.doing, Doing::Scheduling | Doing::Running);
        return equal("what it was doing", &(stop.rip != 0 || by_itself), &true);
    }
    equal("acknowledged after the interrupt", &(stop.received <= stop.acknowledged), &true)?;
    equal("a function is named", &text.contains("+0x"), &true)?;
    equal("it did something", &(stop.doing == Doing::Idle), &false)
}

/// Under goroutines that spin, each other CPU's record says when it was asked, and when and where it stopped.
fn each_cpu_leaves_a_record() -> Verdict {
    let load = Load::start(2 * num_cpu(), |n| {
        let mut random = Random::new(n as u64);
        black_box((0..200).map(|_| random.below(7)).sum::<u64>());
    });
    load.wait_for_all();
    let mut whole = alloc::vec![0_u32; num_cpu()];
    let (mut most, mut rounds) = (0, 0_u32);
    // Until each has left a whole record: one that has to do with a repeated interrupt of an earlier stop is none.
    let deadline = now() + Nanos::from_millis(20_000);
    while num_cpu() > 1 && whole.iter().any(|count| *count < 5) && now() < deadline {
        let world = stop_the_world(StopReason::Program);
        let (record, stops) = (world.record(), world::cpu_stops().collect::<Vec<_>>());
        drop(world);
        equal("records", &stops.len(), &(record.interrupted as usize))?;
        equal("the last", &record.last, &stops.iter().copied().max_by_key(|stop| stop.acknowledged))?;
        for stop in &stops {
            check(stop, record.began)?;
            let asked = record.began <= stop.sent && stop.sent <= stop.received;
            whole[stop.cpu as usize] += u32::from(asked && stop.doing == Doing::Running);
        }
        most = most.max(stops.len());
        rounds += 1;
        if rounds % 8 == 0 {
            // On to another CPU: who spins is moved at the end of its slice.
            let cpu = testing::cpu();
            while testing::cpu() == cpu && now() < deadline {}
        }
    }
    drop(load);
    equal("all others were asked", &most, &(stats::gomaxprocs() - 1))?;
    let expected = if num_cpu() == 1 { 0 } else { num_cpu() };
    equal("CPUs with whole records", &whole.iter().filter(|count| **count >= 5).count(), &expected)
}

/// Records of CPUs that pass their gates when stops begin are in order.
///
/// They sleep and wake all the time: the stop's interrupt comes before they have stopped by themselves, meanwhile, or after it.
fn who_comes_to_a_stop_by_itself_leaves_a_record() -> Verdict {
    if num_cpu() == 1 {
        return Ok(());
    }
    let load = Load::start(num_cpu(), |_| sleep(Nanos(1_000)));
    load.wait_for_all();
    let (mut by_themselves, mut asked) = (0_u32, 0_u32);
    let (enough, deadline) = (now() + Nanos::from_millis(3_000), now() + Nanos::from_millis(20_000));
    while now() < enough || now() < deadline && (by_themselves == 0 || asked == 0) {
        let world = stop_the_world(StopReason::Program);
        let (began, stops) = (world.record().began, world::cpu_stops().collect::<Vec<_>>());
        drop(world);
        for stop in &stops {
            check(stop, began)?;
            *(if stop.received == Nanos(0) { &mut by_themselves } else { &mut asked }) += 1;
        }
        gosched();
    }
    drop(load);
    equal("records of both kinds", &(by_themselves > 0, asked > 0), &(true, true))
}
