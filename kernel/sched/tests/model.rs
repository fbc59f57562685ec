//! Random operations on a machine of four Ps, against a model made of ordinary queues.
//!
//! The model says which goroutine every pick must return and from where. Each goroutine's status word goes
//! along, so one that were in two queues, or in none, would be refused by its state machine. A failure
//! names its seed.
#![cfg(not(loom))]
#![expect(clippy::std_instead_of_alloc, reason = "a host test has std")]

mod common;

use std::collections::{BTreeSet, VecDeque};

use common::{Locked, Rng};
use sched::free_list::FreeLists;
use sched::list::Chain;
use sched::pick::{self, GLOBAL_TICK, Global, NEXT_STREAK, Picked, Place, Source, Sources};
use sched::status::{Parked, Ready, Status};
use sched::sync::QUEUE_CAPACITY;
use sched::table::Table;
use sched::{GoIndex, GoRef, GoidGenerator, ProcId, Processor};

const PROCS: u32 = 4;
const SEEDS: u64 = 2000;
const STEPS: u32 = 200;

/// What one P must hold.
#[derive(Debug, Default)]
struct ModelP {
    next: Option<GoIndex>,
    ring: VecDeque<GoIndex>,
    tick: u32,
    streak: u32,
    heirs_turn: bool,
}

impl ModelP {
    fn room(&self) -> usize {
        QUEUE_CAPACITY as usize - self.ring.len()
    }
}

/// What the machine must hold.
#[derive(Debug, Default)]
struct Model {
    ps: [ModelP; PROCS as usize],
    global: VecDeque<GoIndex>,
}

impl Model {
    fn push_back(&mut self, p: usize, g: GoIndex) {
        let ring = &mut self.ps[p].ring;
        if ring.len() == QUEUE_CAPACITY as usize {
            self.global.extend(ring.drain(..QUEUE_CAPACITY as usize / 2));
            self.global.push_back(g);
        } else {
            ring.push_back(g);
        }
    }

    fn enqueue(&mut self, p: usize, g: GoIndex, place: Place) {
        let kicked = match place {
            Place::Back => Some(g),
            Place::Next => self.ps[p].next.replace(g),
            Place::Global => {
                self.global.push_back(g);
                None
            }
        };
        if let Some(g) = kicked {
            self.push_back(p, g);
        }
    }

    fn take_global(&mut self, p: usize, max: usize) -> Option<Picked> {
        let share = self.global.len() / PROCS as usize + 1;
        let count = share.min(max).min(self.ps[p].room() + 1).min(self.global.len());
        let mut taken = self.global.drain(..count);
        let g = taken.next()?;
        self.ps[p].ring.extend(taken);
        Some(Picked { g, inherit_time: false, source: Source::Global })
    }

    fn next_local(&mut self, p: usize) -> Option<Picked> {
        let half = QUEUE_CAPACITY as usize / 2;
        self.ps[p].tick += 1;
        if self.ps[p].tick.is_multiple_of(GLOBAL_TICK)
            && let Some(picked) = self.take_global(p, 1)
        {
            return Some(picked);
        }
        let mine = &mut self.ps[p];
        let local = |g| Some(Picked { g, inherit_time: false, source: Source::Local });
        if mine.streak >= NEXT_STREAK {
            mine.streak = 0;
            if let Some(g) = mine.ring.pop_front() {
                return local(g);
            }
        }
        if let Some(g) = mine.next.take() {
            mine.streak += 1;
            return Some(Picked { g, inherit_time: true, source: Source::Next });
        }
        if let Some(g) = mine.ring.pop_front() {
            mine.streak = 0;
            return local(g);
        }
        self.take_global(p, half)
    }

    fn inherit(&mut self, p: usize) -> Option<Picked> {
        let g = self.ps[p].next.take()?;
        Some(Picked { g, inherit_time: true, source: Source::Next })
    }

    fn next_after_slice(&mut self, p: usize) -> Option<Picked> {
        self.ps[p].tick += 1;
        self.ps[p].streak = 0;
        self.ps[p].heirs_turn = !self.ps[p].heirs_turn;
        let fresh = |picked| Picked { inherit_time: false, ..picked };
        if self.ps[p].heirs_turn
            && let Some(heir) = self.inherit(p)
        {
            return Some(fresh(heir));
        }
        if self.ps[p].tick.is_multiple_of(GLOBAL_TICK)
            && let Some(picked) = self.take_global(p, 1)
        {
            return Some(picked);
        }
        if let Some(g) = self.ps[p].ring.pop_front() {
            return Some(Picked { g, inherit_time: false, source: Source::Local });
        }
        let global = self.take_global(p, QUEUE_CAPACITY as usize / 2);
        global.or_else(|| self.inherit(p).map(fresh))
    }

    /// Checks what `find_work` returned: it may choose the victim, nothing else.
    fn find_work(&mut self, p: usize, picked: Option<Picked>) {
        if let Some(global) = self.take_global(p, QUEUE_CAPACITY as usize / 2) {
            assert_eq!(picked, Some(global));
            return;
        }
        let others = || (0..PROCS as usize).filter(|&other| other != p);
        let Some(picked) = picked else {
            let nothing = others().all(|q| self.ps[q].ring.is_empty() && self.ps[q].next.is_none());
            assert!(nothing || self.ps[p].room() == 0, "missed work");
            return;
        };
        let Source::Stolen { from, count } = picked.source else {
            panic!("P{p} steals, and got {picked:?}");
        };
        assert!(from.index() != p && !picked.inherit_time);
        let ready = self.ps[from.index()].ring.len();
        if ready == 0 {
            assert!(others().all(|q| self.ps[q].ring.is_empty()), "a run-next slot goes last");
            assert_eq!(self.ps[from.index()].next.take(), Some(picked.g));
            assert_eq!(count, 1);
            return;
        }
        let moved = (ready - ready / 2).min(self.ps[p].room());
        assert_eq!(count as usize, moved);
        let mut loot: Vec<_> = self.ps[from.index()].ring.drain(..moved).collect();
        assert_eq!(loot.pop(), Some(picked.g));
        self.ps[p].ring.extend(loot);
    }
}

/// The real machine beside its model.
struct Bench {
    table: Table<()>,
    processors: Vec<Processor>,
    global: Locked,
    shared_free: FreeLists,
    goids: GoidGenerator,
    seen_goids: BTreeSet<u64>,
    waiting: Vec<GoRef>,
    model: Model,
    alive: usize,
    rng: Rng,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let processors = (0..PROCS).filter_map(ProcId::new).map(|id| Processor::new(id, seed)).collect();
        Self {
            table: Table::new(8192).expect("memory"),
            processors,
            global: Locked::new(),
            shared_free: FreeLists::new(2),
            goids: GoidGenerator::new(),
            seen_goids: BTreeSet::new(),
            waiting: Vec::new(),
            model: Model::default(),
            alive: 0,
            rng: Rng(seed),
        }
    }

    fn sources(&self) -> Sources<'_, Table<()>, Locked> {
        Sources { table: &self.table, processors: &self.processors, global: &self.global }
    }

    /// A dead goroutine: of the P, else of the shared list, else of a larger table.
    fn take_free(&mut self, p: usize) -> GoIndex {
        let me = self.processors[p].owner();
        loop {
            if let Some(g) = me.take_free(&self.table) {
                return g;
            }
            let batch = self.shared_free.take(p, &self.table).unwrap_or_else(|| {
                let range = self.table.grow(|_| ()).expect("fewer live than the table's limit");
                Chain::link(&self.table, range.filter_map(GoIndex::new)).expect("a chunk is not empty")
            });
            if let Some(back) = me.refill(batch) {
                self.shared_free.put(p, &self.table, back);
            }
        }
    }

    fn spawn(&mut self, p: usize) {
        let g = self.take_free(p);
        let goid = self.processors[p].owner().next_goid(&self.goids);
        assert!(self.seen_goids.insert(goid.get()), "goid {goid} was given twice");
        self.table.slot(g).set_goid(goid);
        self.table.slot(g).status().spawn().expect("it came from a free list");
        self.alive += 1;
        let place = match self.rng.below(6) {
            0 | 1 => Place::Next,
            2 => Place::Global,
            _ => Place::Back,
        };
        self.enqueue(p, g, place);
    }

    fn enqueue(&mut self, p: usize, g: GoIndex, place: Place) {
        pick::enqueue(self.processors[p].owner(), &self.sources(), g, place);
        self.model.enqueue(p, g, place);
    }

    /// A goroutine runs for a moment, then yields, parks, readies another or exits.
    fn run(&mut self, p: usize, g: GoIndex) {
        self.table.slot(g).status().run().expect("it came from a queue");
        match self.rng.below(6) {
            0 | 1 => {
                self.table.slot(g).status().yielded().expect("it runs");
                self.enqueue(p, g, Place::Back);
            }
            2 => self.park(p, g),
            3 => {
                self.table.slot(g).status().yielded().expect("it runs");
                self.enqueue(p, g, Place::Next);
            }
            _ => {
                let handle = self.table.handle(g);
                self.table.slot(g).status().exit().expect("it runs");
                assert!(self.table.get(handle).is_none());
                self.alive -= 1;
                if let Some(spill) = self.processors[p].owner().put_free(&self.table, g) {
                    self.shared_free.put(p, &self.table, spill);
                }
            }
        }
    }

    /// Parks, sometimes with a wake between the phases.
    fn park(&mut self, p: usize, g: GoIndex) {
        let handle = self.table.handle(g);
        self.table.slot(g).status().begin_park().expect("it runs");
        let early = self.rng.below(3) == 0;
        if early {
            let ready = self.table.slot(g).status().ready(handle.generation);
            assert_eq!(ready, Ok(Ready::AlreadyUp));
        }
        match self.table.slot(g).status().finish_park().expect("it parks") {
            Parked::MustEnqueue => {
                assert!(early);
                self.enqueue(p, g, Place::Next);
            }
            Parked::Waiting => {
                assert!(!early);
                self.waiting.push(handle);
            }
        }
    }

    fn ready(&mut self, p: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let chosen = self.rng.below(u32::try_from(self.waiting.len()).expect("few")) as usize;
        let handle = self.waiting.swap_remove(chosen);
        let slot = self.table.get(handle).expect("a waiting goroutine lives");
        assert_eq!(slot.status().ready(handle.generation), Ok(Ready::Enqueue));
        assert!(slot.status().ready(handle.generation).is_err(), "a second wake is refused");
        self.enqueue(p, handle.index, Place::Next);
    }

    fn step(&mut self) {
        let p = self.rng.below(PROCS) as usize;
        match self.rng.below(16) {
            0 => {
                for _ in 0..self.rng.below(150) {
                    self.spawn(p);
                }
            }
            1 | 2 => self.spawn(p),
            3 => self.ready(p),
            4..6 => {
                let picked = pick::find_work(self.processors[p].owner(), &self.sources());
                self.model.find_work(p, picked);
                if let Some(picked) = picked {
                    self.run(p, picked.g);
                }
            }
            way => {
                let (owner, sources) = (self.processors[p].owner(), self.sources());
                let (picked, expected) = match way {
                    6 => (pick::inherit(owner), self.model.inherit(p)),
                    7 => (
                        pick::next_after_slice(owner, &sources, pick::Turn::Alternate),
                        self.model.next_after_slice(p),
                    ),
                    _ => (pick::next_local(owner, &sources), self.model.next_local(p)),
                };
                assert_eq!(picked, expected);
                if let Some(picked) = picked {
                    self.run(p, picked.g);
                }
            }
        }
    }

    /// Compares lengths, and counts each goroutine once.
    fn check(&self) {
        let mut queued = self.model.global.len();
        assert_eq!(self.global.length(0).get() as usize, queued);
        for (p, model) in self.processors.iter().zip(&self.model.ps) {
            let len = model.ring.len() + usize::from(model.next.is_some());
            assert_eq!(p.queue().len() as usize, len, "{}", p.id());
            assert_eq!(p.queue().is_empty(), len == 0);
            queued += len;
        }
        assert_eq!(pick::recheck(&self.sources()), queued != 0);
        assert_eq!(queued + self.waiting.len(), self.alive, "a goroutine is lost or doubled");
    }

    /// Runs everything down, and counts the dead.
    fn finish(mut self) {
        let mut p = 0;
        while self.alive > self.waiting.len() {
            while let Some(picked) = pick::next_local(self.processors[p].owner(), &self.sources()) {
                assert_eq!(Some(picked), self.model.next_local(p));
                self.run(p, picked.g);
            }
            assert_eq!(self.model.next_local(p), None);
            p = (p + 1) % PROCS as usize;
        }
        let dead = self.table.iter().filter(|(_, slot)| slot.status().get().0 == Status::Dead).count();
        assert_eq!(dead + self.alive, self.table.len() as usize);
        let local: u32 = self.processors.iter().map(Processor::free_len).sum();
        assert_eq!(
            u64::from(local) + self.shared_free.len(),
            dead as u64,
            "a dead goroutine is lost or doubled"
        );
    }
}

#[test]
fn random_operations_agree_with_the_model() {
    for seed in 0..SEEDS {
        // Printed only if the test fails.
        println!("seed {seed}");
        let mut bench = Bench::new(seed);
        for _ in 0..STEPS {
            bench.step();
            bench.check();
        }
        bench.finish();
    }
}
