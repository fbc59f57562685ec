//! The queue against a plain one.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::Waiters;
use crate::id::SudogIndex;
use crate::link::Linked as _;
use crate::list::Chain;
use crate::sudog::Sudogs;
use crate::sudog::tests::store;

/// The sudogs of a chain.
pub(crate) fn members(sudogs: &Sudogs, chain: Option<Chain<SudogIndex>>) -> Vec<SudogIndex> {
    let (mut rest, mut all) = (chain, Vec::new());
    while let Some(chain) = rest {
        // One that is alone must not lead to those that stay.
        assert_eq!(chain.len() > 1, sudogs.next(chain.first()).is_some());
        let (s, tail) = chain.split_first(sudogs);
        all.push(s);
        rest = tail;
    }
    all
}

#[test]
fn random_operations_agree_with_a_plain_queue() {
    let (sudogs, all) = store(16);
    let (mut waiters, mut model) = (Waiters::new(), VecDeque::new());
    let mut unused: Vec<SudogIndex> = all;
    let mut seed = 1_u64;
    for _ in 0..5_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (what, which) = ((seed >> 33) % 5, (seed >> 40) as u32 % 16);
        match what {
            0 | 1 => {
                if let Some(s) = unused.pop() {
                    waiters.push(&sudogs, s, which);
                    model.push_back((s, which));
                }
            }
            2 => {
                assert_eq!(waiters.first_number(&sudogs), model.front().map(|(_, number)| *number));
                let found = waiters.pop(&sudogs);
                assert_eq!(found, model.pop_front().map(|(s, _)| s));
                unused.extend(found);
            }
            3 => {
                let found = waiters.remove(&sudogs, |_, number| number == which);
                let at = model.iter().position(|(_, number)| *number == which);
                assert_eq!(found, at.and_then(|at| model.remove(at)).map(|(s, _)| s));
                unused.extend(found);
            }
            _ => {
                let found = waiters.pop_many(&sudogs, which % 4);
                let found = members(&sudogs, found);
                let count = model.len().min((which % 4) as usize);
                assert_eq!(found, model.drain(..count).map(|(s, _)| s).collect::<Vec<_>>());
                unused.extend(found);
            }
        }
        assert_eq!(waiters.is_empty(), model.is_empty());
        if which == 0 {
            let found = members(&sudogs, core::mem::take(&mut waiters).into_chain());
            assert_eq!(found, model.drain(..).map(|(s, _)| s).collect::<Vec<_>>());
            unused.extend(found);
        }
    }
}
