//! Ids, random numbers and counters of a P.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::Processor;
use crate::counters::Snapshot;
use crate::id::{GOID_BATCH, GoidGenerator, ProcId};

fn processor(n: u32, seed: u64) -> Processor {
    Processor::new(ProcId::new(n).expect("below the limit"), seed)
}

#[test]
fn ids_come_in_batches_and_start_at_one() {
    let generator = GoidGenerator::new();
    let ps = [processor(0, 1), processor(1, 1)];
    let first: Vec<u64> = (0..3).map(|_| ps[0].owner().next_goid(&generator).get()).collect();
    assert_eq!(first, [1, 2, 3]);
    assert_eq!(ps[1].owner().next_goid(&generator).get(), GOID_BATCH + 1);
    let all: BTreeSet<u64> =
        (0..1000).map(|i| ps[i % 2].owner().next_goid(&generator).get()).chain(first).collect();
    assert_eq!(all.len(), 1003, "no id twice");
    assert!(all.last().is_some_and(|&last| last < 1003 + 3 * 512), "few are wasted");
}

#[test]
fn random_numbers_repeat_with_their_seed_and_differ_between_ps() {
    let sequence = |p: &Processor| (0..64).map(|_| p.owner().random()).collect::<Vec<_>>();
    let one = sequence(&processor(0, 7));
    assert_eq!(one, sequence(&processor(0, 7)));
    assert_ne!(one, sequence(&processor(1, 7)));
    assert_ne!(one, sequence(&processor(0, 8)));
    let distinct: BTreeSet<_> = sequence(&processor(0, 0)).into_iter().collect();
    assert_eq!(distinct.len(), 64, "a seed of 0 is as good as another");
    let again = processor(0, 8);
    again.owner().seed(7);
    assert_eq!(sequence(&again), one, "and a later seed as good as the first");
}

#[test]
fn counters_add_up_in_a_snapshot() {
    let p = processor(0, 1);
    let me = p.owner();
    me.counters().run.add(2);
    me.counters().run.add(1);
    me.counters().idle_nanos.add(500);
    assert_eq!(p.counters(|ticks| ticks), Snapshot { run: 3, idle_nanos: 500, ..Snapshot::default() });
}
