//! Ends of slices, one by one, and a CPU whose timers never cease.

use alloc::collections::VecDeque;

use super::{End, PARTS, Share, Slice, Waits, hurry};
use crate::pick::{Place, Turn};

const LENGTH: u64 = 10_000;
const PART: u64 = LENGTH / PARTS;

fn slice(age: u64, share: Share, waits: Waits) -> Slice {
    Slice { age, length: LENGTH, share, waits }
}

#[test]
fn while_nobody_is_due_a_slice_has_its_whole_length() {
    assert_eq!(slice(PART, Share::Own, Waits::Others).left(), LENGTH - PART);
    assert_eq!(slice(LENGTH - 1, Share::Own, Waits::Others).end(), None);
    let end = End { place: Place::Global, turn: Turn::Alternate };
    assert_eq!(slice(LENGTH, Share::Own, Waits::Others).end(), Some(end));
}

#[test]
fn who_has_had_its_part_is_cut_for_who_is_due() {
    assert_eq!(slice(0, Share::Own, Waits::Due).left(), PART);
    assert_eq!(slice(PART - 1, Share::Own, Waits::Due).end(), None);
    let end = End { place: Place::Back, turn: Turn::Due };
    assert_eq!(slice(PART, Share::Own, Waits::Due).end(), Some(end));
}

#[test]
fn who_has_had_a_whole_slice_goes_to_the_global_queue_for_who_is_due() {
    let end = End { place: Place::Global, turn: Turn::Due };
    assert_eq!(slice(7 * LENGTH, Share::Own, Waits::Due).end(), Some(end));
}

#[test]
fn a_lent_slice_is_not_cut_and_others_come_after_it() {
    for waits in [Waits::Others, Waits::Due] {
        assert_eq!(slice(PART - 1, Share::Lent, waits).end(), None);
        let end = End { place: Place::Back, turn: Turn::Others };
        assert_eq!(slice(PART, Share::Lent, waits).end(), Some(end));
    }
}

#[test]
fn a_hurry_lasts_until_each_that_is_queued_could_have_its_part() {
    assert_eq!((hurry(LENGTH, 0), hurry(LENGTH, 3)), (0, 5 * PART));
}

const STEP: u64 = PART / 10;

/// The number of the sleeper, behind those of the hogs.
const SLEEPER: usize = 3;

/// What run-next slot, ring and timers do to each other, in steps of a tenth of a part. Hogs compute without end; the sleeper
/// computes for some steps, and is due again as soon as it sleeps.
struct Cpu {
    heir: Option<usize>,
    ring: VecDeque<usize>,
    runs: usize,
    slice: Slice,
}

impl Cpu {
    fn switch(&mut self, turn: Turn) {
        let first = if turn == Turn::Others { None } else { self.heir.take() };
        let next = first.or_else(|| self.ring.pop_front()).or_else(|| self.heir.take());
        self.runs = next.expect("there is always somebody");
        self.slice = slice(0, if turn == Turn::Due { Share::Lent } else { Share::Own }, Waits::Others);
    }

    fn sleeps(&self) -> bool {
        self.runs != SLEEPER && self.heir.is_none() && !self.ring.contains(&SLEEPER)
    }
}

/// Lets it run for as many steps as it takes, and says what each goroutine has had of them and how long the sleeper waited at
/// most.
fn run(work: u64) -> ([u64; SLEEPER + 1], u64) {
    let ring = (1..SLEEPER).collect();
    let mut cpu = Cpu { heir: None, ring, runs: 0, slice: slice(0, Share::Own, Waits::Others) };
    let (mut had, mut left, mut due, mut longest) = ([0_u64; SLEEPER + 1], 0, None, 0);
    for step in 0..100_000_u64 {
        if cpu.sleeps() {
            (cpu.heir, cpu.slice.waits, due, left) = (Some(SLEEPER), Waits::Due, Some(step), work);
        }
        had[cpu.runs] += 1;
        cpu.slice.age += STEP;
        if cpu.runs == SLEEPER {
            longest = longest.max(due.take().map_or(0, |since| step - since));
            left -= 1;
        }
        if cpu.runs == SLEEPER && left == 0 {
            cpu.switch(Turn::Others);
        } else if let Some(end) = cpu.slice.end() {
            cpu.ring.push_back(cpu.runs);
            cpu.switch(end.turn);
        }
    }
    (had, longest * STEP)
}

#[test]
fn neither_hogs_nor_sleepers_starve_however_many_timers_go_off() {
    for work in [1, 9, 10, 25] {
        let ([hogs @ .., sleeper], longest) = run(work);
        assert!(longest <= 2 * PART, "the sleeper has waited for {longest}, a part is {PART}");
        let fair = hogs.iter().all(|hog| hog * 4 >= sleeper);
        assert!(fair, "hogs have had {hogs:?}, a sleeper that needs {work} at a time {sleeper}");
    }
}
