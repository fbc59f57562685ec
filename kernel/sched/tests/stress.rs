//! Threads for CPUs: what the model checker proves for a few steps, here for millions on a real machine.
#![cfg(not(loom))]

mod common;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Condvar, Mutex, mpsc};
use std::thread;

use common::{Locked, Rng};
use sched::free_list::FreeLists;
use sched::idle::{Idle, Left, Spin, Spinner};
use sched::list::Chain;
use sched::note::{Note, WakeAction};
use sched::pick::{self, Picked, Place, Sources};
use sched::runq::{Overflow, RunQueue, StealNext};
use sched::status::{Parked, Ready};
use sched::table::Table;
use sched::{GoIndex, GoRef, ProcId, Processor};

fn g(n: u32) -> GoIndex {
    GoIndex::new(n).expect("a test's index")
}

/// Goroutines that go round, and how many the thieves took.
struct Round {
    queued: Vec<AtomicBool>,
    thefts: AtomicU32,
    /// A goroutine came out of a queue that it was not in.
    doubled: AtomicBool,
    done: AtomicBool,
}

impl Round {
    /// A goroutine was taken out of a queue.
    fn took(&self, g: GoIndex) {
        if !self.queued[g.get() as usize].swap(false, Ordering::AcqRel) {
            self.doubled.store(true, Ordering::Relaxed);
        }
    }

    /// Steals until the owner is done and nothing is left.
    fn thief(&self, queue: &RunQueue) {
        let mine = RunQueue::new();
        while !self.done.load(Ordering::Acquire) || !queue.is_empty() {
            if let Some(stolen) = queue.steal_into(&mine.local(), StealNext::Yes) {
                self.took(stolen.g);
                self.thefts.fetch_add(1, Ordering::Relaxed);
            }
            while let Some(popped) = mine.local().pop() {
                self.took(popped.g);
            }
        }
    }

    /// Takes what did not fit.
    fn took_overflow(&self, table: &Table<()>, overflow: Option<Overflow>) {
        let mut rest = overflow.map(|overflow| overflow.into_chain(table));
        while let Some(chain) = rest {
            let (g, tail) = chain.split_first(table);
            self.took(g);
            rest = tail;
        }
    }
}

/// One step of the owner: queues a goroutine that is in no queue, and may take one.
fn owner_step(round: &Round, queue: &RunQueue, table: &Table<()>, rng: &mut Rng) {
    let (local, n) = (queue.local(), rng.below(GOROUTINES));
    if !round.queued[n as usize].load(Ordering::Acquire) {
        round.queued[n as usize].store(true, Ordering::Release);
        let overflow = if n % 2 == 0 { local.put_next(g(n)) } else { local.push_back(g(n)) };
        round.took_overflow(table, overflow);
    }
    if rng.below(2) == 0
        && let Some(popped) = local.pop()
    {
        round.took(popped.g);
    }
}

const GOROUTINES: u32 = 1024;

#[test]
fn an_owner_and_three_thieves_lose_and_double_nothing() {
    const THEFTS: u32 = 100_000;
    const STEPS: u32 = 100_000_000;
    let queue = RunQueue::new();
    let table = Table::new(GOROUTINES).expect("memory");
    while table.grow(|_| ()).is_ok() {}
    let round = Round {
        queued: (0..GOROUTINES).map(|_| AtomicBool::new(false)).collect(),
        thefts: AtomicU32::new(0),
        doubled: AtomicBool::new(false),
        done: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| round.thief(&queue));
        }
        let mut rng = Rng(1);
        // Until the thieves had their part, however the host runs the threads.
        for _ in 0..STEPS {
            owner_step(&round, &queue, &table, &mut rng);
            if round.thefts.load(Ordering::Relaxed) >= THEFTS || round.doubled.load(Ordering::Relaxed) {
                break;
            }
        }
        round.done.store(true, Ordering::Release);
    });
    assert!(!round.doubled.into_inner(), "a goroutine came out of a queue that it was not in");
    assert!(!round.queued.iter().any(|queued| queued.load(Ordering::Relaxed)), "a goroutine was lost");
}

/// Children of each goroutine of the tree, and how deep it is.
const FANOUT: u32 = 5;
const DEPTH: u32 = 3;
const CPUS: u32 = 6;
const ROUNDS: u32 = 4000;

/// What a goroutine of the tree knows.
#[derive(Default)]
struct Body {
    depth: AtomicU32,
    /// Index and generation of the parent; `u64::MAX` for the root.
    parent: AtomicU64,
    pending: AtomicU32,
    leaves: AtomicU32,
    started: AtomicBool,
}

/// A CPU's interrupt line: pending or not.
#[derive(Default)]
struct Line(Mutex<bool>, Condvar);

/// A machine whose CPUs are threads.
struct Machine {
    table: Table<Body>,
    processors: Vec<Processor>,
    global: Locked,
    free: FreeLists,
    grow: Mutex<()>,
    idle: Idle,
    notes: Vec<Note>,
    lines: Vec<Line>,
    off: AtomicBool,
    finished: Mutex<mpsc::Sender<u32>>,
}

impl Machine {
    fn new(finished: mpsc::Sender<u32>) -> Self {
        Self {
            table: Table::new(100_000).expect("memory"),
            processors: (0..CPUS).filter_map(ProcId::new).map(|id| Processor::new(id, 5)).collect(),
            global: Locked::new(),
            free: FreeLists::new(CPUS as usize),
            grow: Mutex::new(()),
            idle: Idle::new(CPUS),
            notes: (0..CPUS).map(|_| Note::new()).collect(),
            lines: (0..CPUS).map(|_| Line::default()).collect(),
            off: AtomicBool::new(false),
            finished: Mutex::new(finished),
        }
    }

    fn sources(&self) -> Sources<'_, Table<Body>, Locked> {
        Sources { table: &self.table, processors: &self.processors, global: &self.global }
    }

    fn send_wake(&self, p: ProcId) {
        if self.notes[p.index()].wake() == WakeAction::SendIpi {
            *self.lines[p.index()].0.lock().expect("no panic under it") = true;
            self.lines[p.index()].1.notify_one();
        }
    }

    fn wake_one(&self) {
        if let Some(p) = self.idle.wake_one() {
            self.send_wake(p);
        }
    }

    fn enqueue(&self, p: &Processor, g: GoIndex, place: Place) {
        pick::enqueue(p.owner(), &self.sources(), g, place);
        self.wake_one();
    }

    fn spawn(&self, p: &Processor, depth: u32, parent: Option<GoRef>) {
        let me = p.owner();
        let g = loop {
            if let Some(g) = me.take_free(&self.table) {
                break g;
            }
            let cpu = p.id().index();
            if let Some(batch) = self.free.take(cpu, &self.table) {
                assert_eq!(me.refill(batch), None, "the P had none");
                continue;
            }
            let _growing = self.grow.lock().expect("no panic under it");
            if self.free.is_empty() {
                let range = self.table.grow(|_| Body::default()).expect("the tree fits");
                let new =
                    Chain::link(&self.table, range.filter_map(GoIndex::new)).expect("a chunk is not empty");
                self.free.spread(cpu, &self.table, new);
            }
        };
        let body = self.table.slot(g).body();
        let parent = parent.map_or(u64::MAX, |r| u64::from(r.index.get()) << 32 | u64::from(r.generation));
        body.parent.store(parent, Ordering::Relaxed);
        body.depth.store(depth, Ordering::Relaxed);
        body.leaves.store(0, Ordering::Relaxed);
        body.started.store(false, Ordering::Relaxed);
        self.table.slot(g).status().spawn().expect("it was dead");
        self.enqueue(p, g, Place::Next);
    }

    /// Runs a goroutine until it leaves its CPU.
    fn run(&self, p: &Processor, g: GoIndex) {
        let slot = self.table.slot(g);
        slot.status().run().expect("it came from a queue");
        let body = slot.body();
        let depth = body.depth.load(Ordering::Relaxed);
        if depth == 0 {
            return self.report(p, g, 1);
        }
        if body.started.swap(true, Ordering::Relaxed) {
            return self.report(p, g, body.leaves.load(Ordering::Relaxed));
        }
        body.pending.store(FANOUT, Ordering::Relaxed);
        slot.status().begin_park().expect("it runs");
        let handle = self.table.handle(g);
        for _ in 0..FANOUT {
            self.spawn(p, depth - 1, Some(handle));
        }
        match slot.status().finish_park().expect("it parks") {
            Parked::Waiting => {}
            Parked::MustEnqueue => self.enqueue(p, g, Place::Back),
        }
    }

    /// Gives the leaves to the parent, readies that if this was its last child, and exits.
    fn report(&self, p: &Processor, g: GoIndex, leaves: u32) {
        let slot = self.table.slot(g);
        let parent = slot.body().parent.load(Ordering::Relaxed);
        slot.status().exit().expect("it runs");
        if let Some(spill) = p.owner().put_free(&self.table, g) {
            self.free.put(p.id().index(), &self.table, spill);
        }
        if parent == u64::MAX {
            self.finished.lock().expect("no panic under it").send(leaves).expect("the test listens");
            return;
        }
        let (index, generation) = (g_of(parent >> 32), u32::try_from(parent & 0xffff_ffff).expect("masked"));
        let parent = self.table.get(GoRef { index, generation }).expect("a parent waits for its children");
        parent.body().leaves.fetch_add(leaves, Ordering::Relaxed);
        if parent.body().pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            match parent.status().ready(generation).expect("it waits, or is about to") {
                Ready::Enqueue => self.enqueue(p, index, Place::Next),
                Ready::AlreadyUp => {}
            }
        }
    }

    /// One look at all sources, and whether the P is counted as spinning after it.
    fn look(&self, p: &Processor, mut spin: Spin) -> (Option<Picked>, Spin) {
        let mut picked = pick::next_local(p.owner(), &self.sources());
        if picked.is_none() && spin == Spin::No {
            spin = self.idle.try_spin();
        }
        if picked.is_none() && spin == Spin::Yes {
            picked = pick::find_work(p.owner(), &self.sources());
        }
        if picked.is_some() && spin == Spin::Yes {
            spin = Spin::No;
            if self.idle.stop_spinning() == Spinner::Last {
                self.wake_one();
            }
        }
        (picked, spin)
    }

    /// The next goroutine; `None` when the machine is off.
    fn schedule(&self, p: &Processor) -> Option<Picked> {
        let mut counted = Spin::No;
        loop {
            let (picked, spin) = self.look(p, counted);
            if picked.is_some() {
                return picked;
            }
            self.idle.go_idle(p.id(), spin);
            if !pick::recheck(&self.sources()) {
                self.halt(p.id());
            }
            let (Left::TookBack | Left::Claimed) = self.idle.leave_idle(p.id());
            counted = Spin::Yes;
            if self.off.load(Ordering::Acquire) {
                return None;
            }
        }
    }

    /// `prepare`, then `sti; hlt` until an interrupt is pending.
    fn halt(&self, p: ProcId) {
        let note = &self.notes[p.index()];
        let Line(pending, arrived) = &self.lines[p.index()];
        if note.prepare() {
            let mut pending = pending.lock().expect("no panic under it");
            while !*pending {
                pending = arrived.wait(pending).expect("no panic under it");
            }
            *pending = false;
        }
        note.clear();
    }
}

/// The slot of an index in a wider word.
fn g_of(index: u64) -> GoIndex {
    g(u32::try_from(index).expect("an index"))
}

impl Machine {
    /// A CPU until the machine is off.
    fn cpu(&self, p: &Processor) {
        while let Some(picked) = self.schedule(p) {
            self.run(p, picked.g);
        }
    }

    /// The boot CPU: starts a tree for every word it gets, while the others fall asleep after the one before,
    /// and runs nothing itself. If the wake-up for the root is lost, the machine sleeps for ever.
    fn boot_cpu(&self, p: &Processor, rounds: &mpsc::Receiver<()>) {
        while rounds.recv().is_ok() {
            self.spawn(p, DEPTH, None);
        }
    }

    /// Ends the machine: no goroutine will.
    fn power_off(&self) {
        self.off.store(true, Ordering::Release);
        for p in &self.processors {
            self.send_wake(p.id());
        }
    }
}

#[test]
fn a_machine_of_threads_loses_no_wake_up() {
    let (finished, results) = mpsc::channel();
    let (start, rounds) = mpsc::channel();
    let machine = Machine::new(finished);
    thread::scope(|scope| {
        let machine = &machine;
        for p in &machine.processors[1..] {
            scope.spawn(move || machine.cpu(p));
        }
        scope.spawn(move || machine.boot_cpu(&machine.processors[0], &rounds));
        let failed = (0..ROUNDS).find(|_| {
            start.send(()).expect("P0 listens");
            // Generous: only a machine that sleeps for ever takes so long.
            results.recv_timeout(Duration::from_mins(1)) != Ok(FANOUT.pow(DEPTH))
        });
        let state = format!("{:?}", machine.idle);
        drop(start);
        machine.power_off();
        assert_eq!(failed, None, "wrong sum, or the machine sleeps with work left: {state}");
    });
    let steals: u64 = machine.processors.iter().map(|p| p.counters(|ticks| ticks).steals).sum();
    assert!(steals > 0, "the other CPUs took part");
}
