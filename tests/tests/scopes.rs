//! Goroutines that borrow from the stack of the one that starts them.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::prelude::*;
use gzero::{GoError, goexit, num_goroutine, on_m, park, stats};
use tests::{Random, Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        parts_are_changed_in_place,
        values_may_borrow,
        a_scope_returns_what_its_function_does,
        a_scope_waits_for_detached_goroutines,
        goroutines_of_a_scope_start_others,
        scopes_nest,
        unclaimed_values_are_dropped_before_the_end,
        handles_may_go_to_other_goroutines,
        an_empty_scope_ends_at_once,
        a_start_that_fails_is_not_waited_for,
        a_goexit_is_counted,
        large_closures_and_values_borrow_too,
        pages_of_the_borrowed_stack_are_there,
        many_scopes_at_once,
        a_sum_in_parallel,
    ],
    dies: [
        ("throw", "scope not on the G stack", a_scope_inside_of_on_m),
        ("throw", "ScopedJoinHandle::join not on the G stack", a_join_inside_of_on_m),
        ("fatal", "deadlock!\t[main] [scope]", a_scope_without_an_end),
    ],
}

fn parts_are_changed_in_place() -> Verdict {
    let mut numbers = [0_u64; 64];
    scope(|s| {
        for (n, part) in (1..).zip(numbers.chunks_mut(8)) {
            s.go(move || {
                for number in part {
                    gosched();
                    *number += n;
                }
            });
        }
    });
    let expected: Vec<u64> = (1..=8).flat_map(|n| [n; 8]).collect();
    equal("the parts", &numbers.to_vec(), &expected)?;
    equal("the sum", &numbers.iter().sum::<u64>(), &288)
}

fn values_may_borrow() -> Verdict {
    let text = String::from("one two three");
    let longest = scope(|s| {
        let words: Vec<_> = text.split(' ').map(|word| s.go(move || (word.len(), word))).collect();
        words.into_iter().map(ScopedJoinHandle::join).max()
    });
    equal("the longest", &longest, &Some((5, "three")))
}

fn a_scope_returns_what_its_function_does() -> Verdict {
    let seven = 7;
    equal("the value", &scope(|s| s.go(|| seven * 6).join() + 1), &43)
}

fn a_scope_waits_for_detached_goroutines() -> Verdict {
    for rounds in 0..50 {
        let ended = AtomicU32::new(0);
        scope(|s| {
            for n in 0..10 {
                let ended = &ended;
                drop(s.go(move || {
                    (0..(n + rounds) % 7).for_each(|_| gosched());
                    ended.fetch_add(1, Ordering::Relaxed);
                }));
            }
        });
        equal("goroutines that have ended", &ended.load(Ordering::Relaxed), &10)?;
    }
    Ok(())
}

fn goroutines_of_a_scope_start_others() -> Verdict {
    fn tree<'scope>(s: &'scope Scope<'scope, '_>, ended: &'scope AtomicU32, depth: u32) {
        for _ in 0..3 {
            s.go(move || {
                gosched();
                if depth > 0 {
                    tree(s, ended, depth - 1);
                }
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
    }
    let ended = AtomicU32::new(0);
    scope(|s| tree(s, &ended, 4));
    equal("goroutines that have ended", &ended.load(Ordering::Relaxed), &(3 + 9 + 27 + 81 + 243))
}

fn scopes_nest() -> Verdict {
    fn fill(y: u32, row: &mut [u32]) {
        scope(|inner| {
            for (x, cell) in (0..).zip(row.iter_mut()) {
                inner.go(move || *cell = y * 8 + x);
            }
        });
        assert_eq!(row[7], y * 8 + 7, "the inner scope is over: the row is whole");
    }
    let mut grid = [[0_u32; 8]; 8];
    scope(|outer| {
        for (y, row) in (0..).zip(&mut grid) {
            outer.go(move || fill(y, row));
        }
    });
    equal("cells", &grid.as_flattened().to_vec(), &(0..64).collect::<Vec<u32>>())
}

/// Counts its drop in something that is borrowed.
struct Borrows<'a>(&'a AtomicU32);

impl Drop for Borrows<'_> {
    fn drop(&mut self) {
        gosched();
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn unclaimed_values_are_dropped_before_the_end() -> Verdict {
    for round in 0..100 {
        let dropped = AtomicU32::new(0);
        scope(|s| {
            // Detached before the end, or after it, or kept until the function returns.
            drop(s.go(|| Borrows(&dropped)));
            let handle = s.go(|| Borrows(&dropped));
            (0..round % 3).for_each(|_| gosched());
            drop(handle);
            let kept = s.go(|| Borrows(&dropped));
            while round % 2 == 0 && !kept.is_finished() {
                gosched();
            }
        });
        equal("values dropped", &dropped.load(Ordering::Relaxed), &3)?;
    }
    Ok(())
}

fn handles_may_go_to_other_goroutines() -> Verdict {
    let dropped = AtomicU32::new(0);
    let sum = scope(|s| {
        let first = s.go(|| {
            gosched();
            (Borrows(&dropped), 1)
        });
        let second = s.go(|| first.join().1 + 1);
        // One that leaves a handle with a value behind, in its own value, which nobody claims.
        let third = s.go(|| s.go(|| Borrows(&dropped)));
        s.go(move || drop(third));
        second.join()
    });
    equal("the sum", &sum, &2)?;
    equal("values dropped", &dropped.load(Ordering::Relaxed), &2)
}

fn an_empty_scope_ends_at_once() -> Verdict {
    equal("the value", &scope(|_| 3), &3)
}

fn a_start_that_fails_is_not_waited_for() -> Verdict {
    let dropped = AtomicU32::new(0);
    let captured = Borrows(&dropped);
    let too_large = Builder::new().stack_size(usize::MAX);
    let failed = scope(|s| {
        let handle = s.go_with(too_large, move || drop(captured));
        s.go(gosched);
        matches!(handle, Err(GoError::StackTooLarge { .. }))
    });
    equal(
        "it failed, and what it captured is dropped",
        &(failed, dropped.load(Ordering::Relaxed)),
        &(true, 1),
    )
}

fn a_goexit_is_counted() -> Verdict {
    let reached = AtomicU32::new(0);
    let value = scope(|s| {
        s.go(|| {
            reached.fetch_add(1, Ordering::Relaxed);
            // SAFETY: nothing relies on what lies on this stack.
            unsafe { goexit() }
        });
        s.go(|| -> u8 {
            // SAFETY: as above.
            unsafe { goexit() }
        })
        .join_result()
        .ok()
    });
    equal("value and reached", &(value, reached.load(Ordering::Relaxed)), &(None, 1))
}

#[expect(clippy::large_stack_frames, clippy::large_stack_arrays, reason = "large values are the case")]
fn large_closures_and_values_borrow_too() -> Verdict {
    let borrowed = AtomicU32::new(0);
    let bytes = black_box([1_u8; 5000]);
    let large = scope(|s| {
        s.go(|| {
            let bytes = black_box(bytes);
            borrowed.fetch_add(bytes.iter().map(|byte| u32::from(*byte)).sum(), Ordering::Relaxed);
            (Borrows(&borrowed), black_box([2_u8; 5000]))
        })
        .join()
    });
    equal("the value", &large.1.iter().all(|byte| *byte == 2), &true)?;
    drop(large);
    equal("the sum", &borrowed.load(Ordering::Relaxed), &5001)
}

/// Another goroutine is the first to write to an array that its owner has never touched.
#[expect(clippy::large_stack_frames, clippy::large_stack_arrays, reason = "a large array is the case")]
fn pages_of_the_borrowed_stack_are_there() -> Verdict {
    fn fills(part: &mut [core::mem::MaybeUninit<u8>]) -> usize {
        part.iter_mut().rev().map(|byte| usize::from(*byte.write(1))).sum()
    }
    let sum = go(|| {
        let mut bytes = [const { core::mem::MaybeUninit::<u8>::uninit() }; 50_000];
        let parts = black_box(&mut bytes).chunks_mut(5_000);
        scope(|s| {
            let parts: Vec<_> = parts.map(|part| s.go(|| fills(part))).collect();
            parts.into_iter().map(ScopedJoinHandle::join).sum::<usize>()
        })
    });
    equal("bytes written", &sum.join(), &50_000)
}

/// Starts up to five goroutines that end at any moment of the wait. Whether all had ended when the scope did.
fn is_whole(random: &mut Random) -> bool {
    let (count, ended) = (random.index(6), AtomicU32::new(0));
    scope(|s| {
        for _ in 0..count {
            let (turns, ended) = (random.below(4), &ended);
            s.go(move || {
                (0..turns).for_each(|_| gosched());
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        (0..random.below(4)).for_each(|_| gosched());
    });
    ended.load(Ordering::Relaxed) as usize == count
}

/// Scopes on all CPUs.
fn many_scopes_at_once() -> Verdict {
    let run = |seed| {
        go(move || {
            let mut random = Random::new(seed);
            (0..200).all(|_| is_whole(&mut random))
        })
    };
    let handles: Vec<_> = (0..2 * stats::gomaxprocs() as u64).map(run).collect();
    equal("all scopes were whole", &handles.into_iter().all(JoinHandle::join), &true)?;
    wait_until_alone();
    equal("goroutines", &num_goroutine(), &1)
}

fn a_sum_in_parallel() -> Verdict {
    fn sum(numbers: &[u64]) -> u64 {
        if numbers.len() <= 64 {
            return numbers.iter().sum();
        }
        let (left, right) = numbers.split_at(numbers.len() / 2);
        scope(|s| {
            let left = s.go(|| sum(left));
            sum(right) + left.join()
        })
    }
    let numbers: Vec<u64> = (0..4096).collect();
    equal("the sum", &sum(&numbers), &(4095 * 4096 / 2))
}

fn a_scope_inside_of_on_m() {
    on_m(|| scope(|_| {}));
}

fn a_join_inside_of_on_m() {
    scope(|s| {
        let handle = s.go(|| 1);
        while !handle.is_finished() {
            gosched();
        }
        on_m(|| handle.join());
    });
}

fn a_scope_without_an_end() {
    let never = AtomicBool::new(false);
    scope(|s| {
        s.go(|| {
            while !never.load(Ordering::Relaxed) {
                park();
            }
        });
    });
}
