//! Programs for the model. Under Miri they are cut short.

use alloc::vec::Vec;
use core::iter;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use proptest::prelude::{ProptestConfig, any, proptest};

use super::{CPUS, Class, Cpu, Flushed, Model, PAGES, START, Shared, Step, index};

/// Numbers that a seed makes.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 29
    }
}

const fn unless_miri(usual: u32, miri: u32) -> u32 {
    if cfg!(miri) { miri } else { usual }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: unless_miri(128, 1), failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn any_program_gets_what_the_map_says(
        steps in proptest::collection::vec(any::<Step>(), 0..unless_miri(2_000, 40) as usize)
    ) {
        Model::new().run(steps.into_iter(), 100);
    }
}

#[test]
fn long_programs_get_what_the_map_says() {
    for seed in 1..=unless_miri(8, 1).into() {
        // Printed only if the test fails.
        std::println!("seed {seed}");
        let mut random = random(seed);
        let [what, _, one, _, other, ..] = [0, 1, 2, 3, 4, 5];
        let step = move |_| {
            let bytes = random().to_le_bytes();
            let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            (bytes[what], word(one), word(other))
        };
        let steps = unless_miri(100_000, 60);
        Model::new().run((0..steps).map(step), 1_000);
    }
}

/// Each thread is a CPU, which keeps some blocks, gives half of the others to the next to give back, and never has one that
/// somebody else has.
#[test]
fn threads_have_blocks_of_their_own() {
    let shared = Shared::new();
    let taken: Vec<AtomicBool> = (0..PAGES * 256).map(|_| AtomicBool::new(false)).collect();
    let flag = |block: u64| &taken[index((block - START) / 16)];
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..CPUS).map(|_| mpsc::channel::<(u64, Class)>()).unzip();
    let work = |seed: u64, to: mpsc::Sender<(u64, Class)>, from: mpsc::Receiver<(u64, Class)>| {
        let (mut random, cpu) = (random(seed), Cpu::new(index(seed)));
        let free = |(block, class)| {
            assert!(flag(block).swap(false, Ordering::Relaxed), "{block:#x} was taken");
            shared.free(&cpu, class, block);
        };
        for _ in 0..unless_miri(20_000, 40) {
            let class = Class::new(index(random() >> 40) % 24).expect("there are more");
            if let Some(block) = shared.allocate(&cpu, class) {
                assert!(!flag(block).swap(true, Ordering::Relaxed), "{block:#x} is somebody else's");
                if random() >> 63 == 0 || to.send((block, class)).is_err() {
                    free((block, class));
                }
            }
            from.try_iter().for_each(free);
        }
        drop(to);
        from.iter().for_each(free);
        shared.drain(&cpu);
    };
    std::thread::scope(|scope| {
        let to = senders.into_iter().cycle().skip(1);
        for ((seed, from), to) in iter::zip(1.., receivers).zip(to.take(CPUS).collect::<Vec<_>>()) {
            scope.spawn(move || work(seed, to, from));
        }
    });
    shared.drop_empty();
    assert_eq!(shared.pages_in_use(), 0, "every page is back");
}

#[test]
fn a_block_that_goes_back_twice_is_found_when_its_batch_does() {
    let (shared, cpu) = (Shared::new(), Cpu::new(1));
    let class = Class::new(3).expect("a class");
    let block = shared.allocate(&cpu, class).expect("there is memory");
    shared.free(&cpu, class, block);
    shared.free(&cpu, class, block);
    let flushed = cpu.cache.magazine(class).drain(&shared.shards, &shared.tables, class);
    assert_eq!(flushed, Some(Flushed::NotAllocated(block)));
}
