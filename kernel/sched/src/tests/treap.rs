//! Order of waiters, and random operations against a map of queues with all invariants checked after each.

use alloc::collections::{BTreeMap, VecDeque};

use super::{Order, Treap};
use crate::id::SudogIndex;
use crate::sudog::tests::store;
use crate::sudog::{Sudog, Sudogs};

/// What a treap holds: waiters by address, in the order of their turns.
pub(crate) type Queues = BTreeMap<u64, VecDeque<SudogIndex>>;

/// Checks all invariants of a treap and returns what it holds.
pub(crate) fn check(treap: &Treap, sudogs: &Sudogs) -> Queues {
    let mut queues = Queues::new();
    check_node(sudogs, treap.root, None, 0..u64::MAX, &mut queues);
    queues
}

/// Checks what is below and behind a node; its addresses must be within `range`.
fn check_node(
    sudogs: &Sudogs,
    s: Option<SudogIndex>,
    parent: Option<SudogIndex>,
    range: core::ops::Range<u64>,
    queues: &mut Queues,
) {
    let Some(s) = s else { return };
    let node = sudogs.get(s);
    let address = node.address();
    assert!(range.contains(&address), "search order: {address} at {s:?} is not within {range:?}");
    assert_eq!(node.parent.get(), parent, "parent of {s:?}");
    assert_ne!(node.ticket(), 0, "ticket of {s:?}");
    if let Some(parent) = parent {
        assert!(sudogs.get(parent).ticket() <= node.ticket(), "heap order: {parent:?} above {s:?}");
    }
    let mut queue = VecDeque::from([s]);
    let mut link = node.waitlink.get();
    while let Some(behind) = link {
        let waiter = sudogs.get(behind);
        assert_eq!(waiter.address(), address, "address of {behind:?}");
        for none in [&waiter.parent, &waiter.prev, &waiter.next, &waiter.waittail] {
            assert_eq!(none.get(), None, "{behind:?} is not in the tree");
        }
        assert!(queue.len() < sudogs.len() as usize, "the list behind {s:?} is a ring");
        queue.push_back(behind);
        link = waiter.waitlink.get();
    }
    assert_eq!(node.waittail.get(), queue.back().copied().filter(|last| *last != s), "tail of {s:?}");
    assert!(queues.insert(address, queue).is_none(), "two nodes for {address}");
    check_node(sudogs, node.prev.get(), Some(s), range.start..address, queues);
    check_node(sudogs, node.next.get(), Some(s), address + 1..range.end, queues);
}

/// The depth of a treap.
fn depth(sudogs: &Sudogs, s: Option<SudogIndex>) -> u32 {
    s.map_or(0, |s| {
        let node = sudogs.get(s);
        1 + depth(sudogs, node.prev.get()).max(depth(sudogs, node.next.get()))
    })
}

/// Random numbers from a seed (splitmix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 32) as u32
    }
}

/// A sudog that is ready to be inserted.
fn waiter(sudogs: &Sudogs, s: SudogIndex, address: u64, ticket: u32) -> (SudogIndex, &Sudog) {
    let sudog = sudogs.get(s);
    sudog.set_address(address);
    sudog.set_ticket(ticket | 1);
    (s, sudog)
}

/// The waiter that is taken out.
fn remove(treap: &mut Treap, sudogs: &Sudogs, address: u64) -> Option<SudogIndex> {
    let waiters: usize = check(treap, sudogs).values().map(VecDeque::len).sum();
    let removed =
        if waiters == 1 { treap.remove_only(sudogs, address) } else { treap.remove(sudogs, address) };
    removed.map(|(s, _)| s)
}

#[test]
fn waiters_of_an_address_take_turns() {
    let (sudogs, all) = store(5);
    let mut treap = Treap::default();
    for s in &all[..3] {
        treap.insert(&sudogs, waiter(&sudogs, *s, 8, 77), Order::Fifo);
    }
    treap.insert(&sudogs, waiter(&sudogs, all[3], 8, 5), Order::Lifo);
    treap.insert(&sudogs, waiter(&sudogs, all[4], 8, 5), Order::Lifo);
    for n in [4, 3, 0, 1, 2] {
        assert_eq!(check(&treap, &sudogs).len(), 1);
        assert_eq!(remove(&mut treap, &sudogs, 8), Some(all[n]));
        assert_eq!((sudogs.get(all[n]).ticket(), sudogs.get(all[n]).address()), (0, 0));
        sudogs.get(all[n]).retire(all[n]);
    }
    assert_eq!(remove(&mut treap, &sudogs, 8), None);
    assert_eq!(treap.root, None);
}

#[test]
fn addresses_in_rising_order_make_no_list() {
    let (sudogs, all) = store(2000);
    let mut treap = Treap::default();
    let mut rng = Rng(1);
    for (address, s) in (1..).zip(&all) {
        treap.insert(&sudogs, waiter(&sudogs, *s, address, rng.next()), Order::Fifo);
    }
    assert_eq!(check(&treap, &sudogs).len(), all.len());
    let depth = depth(&sudogs, treap.root);
    assert!(depth < 60, "depth {depth} of 2000");
    for (address, s) in (1..2001).zip(&all) {
        assert_eq!(remove(&mut treap, &sudogs, address), Some(*s));
    }
    assert_eq!(treap.root, None);
}

#[test]
fn an_address_that_nobody_waits_for_has_no_waiter() {
    let (sudogs, all) = store(2);
    let mut treap = Treap::default();
    treap.insert(&sudogs, waiter(&sudogs, all[0], 10, 3), Order::Fifo);
    treap.insert(&sudogs, waiter(&sudogs, all[1], 30, 1), Order::Fifo);
    for address in [1, 9, 11, 20, 31] {
        assert_eq!(remove(&mut treap, &sudogs, address), None);
    }
    assert_eq!(check(&treap, &sudogs).len(), 2);
}

#[test]
fn random_operations_keep_every_invariant() {
    for seed in 0..150 {
        random_operations(seed);
    }
}

fn random_operations(seed: u64) {
    let (sudogs, mut free) = store(60);
    let mut rng = Rng(seed);
    let (mut treap, mut model) = (Treap::default(), Queues::new());
    // Few tickets in some rounds, so that equal ones occur.
    let tickets = if seed.is_multiple_of(3) { 4 } else { u32::MAX };
    for step in 0..400 {
        let address = 8 * u64::from(1 + rng.next() % 24);
        if rng.next() % 100 < 55
            && let Some(s) = free.pop()
        {
            let order = if rng.next().is_multiple_of(3) { Order::Lifo } else { Order::Fifo };
            treap.insert(&sudogs, waiter(&sudogs, s, address, rng.next() % tickets), order);
            let queue = model.entry(address).or_default();
            match order {
                Order::Fifo => queue.push_back(s),
                Order::Lifo => queue.push_front(s),
            }
        } else {
            let expected = model.get_mut(&address).and_then(VecDeque::pop_front);
            model.retain(|_, queue| !queue.is_empty());
            assert_eq!(remove(&mut treap, &sudogs, address), expected, "seed {seed}, step {step}");
            if let Some(s) = expected {
                sudogs.get(s).retire(s);
                free.push(s);
            }
        }
        assert_eq!(check(&treap, &sudogs), model, "seed {seed}, step {step}");
    }
}
