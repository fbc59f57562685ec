//! A P: the right to run goroutines, and what makes running them cheap — a queue, ids, dead goroutines, all
//! without a lock.
//!
//! A [`Processor`] is shared: others steal from its queue and read its counters. Everything else belongs to
//! the CPU that holds the P, which reaches it through an [`Owner`]. An `Owner` cannot leave the CPU that
//! made it, and is not kept across a switch: the goroutine may come back on another CPU.

use core::marker::PhantomData;

use crate::counters::{Counters, Snapshot};
use crate::free::LocalFree;
use crate::id::{GOID_BATCH, GOID_BATCH_MAX, GoIndex, Goid, GoidGenerator, ProcId, SudogIndex};
use crate::link::Linked;
use crate::list::Chain;
use crate::runq::{Local, RunQueue};
use crate::sudog::{Sudog, Sudogs};
use crate::sync::{Padded, Plain32, Plain64};
use crate::table::Slot;

/// In every so manieth pick the global queue comes first. A prime, as in Go, so that it does not keep step
/// with a program's own pattern.
pub const GLOBAL_TICK: u32 = 61;

/// One P.
#[derive(Debug)]
pub struct Processor {
    id: ProcId,
    queue: RunQueue,
    own: Padded<Own>,
    counters: Padded<Counters>,
}

/// What only the holder of the P touches.
#[derive(Debug)]
struct Own {
    /// Picks until the global queue has its turn, that one included.
    turn: Plain32,
    /// Picks from the run-next slot in a row.
    streak: Plain32,
    /// Looks at the global queue.
    looks: Plain32,
    /// 1 if the last time slice that ended gave its turn to who would have inherited it.
    heir: Plain32,
    /// The next id of the batch, and the end of the batch.
    goid: Plain64,
    goid_end: Plain64,
    /// Ids of the next batch.
    goid_batch: Plain64,
    /// State of the random numbers; never 0.
    random: Plain64,
    free: LocalFree<GoIndex>,
    sudogs: LocalFree<SudogIndex>,
}

/// The state of the random numbers that a seed leads to: neighbouring seeds must not lead to neighbouring numbers, and 0
/// would stay 0.
fn first_random(id: ProcId, seed: u64) -> u64 {
    seed.wrapping_add(u64::from(id.get()) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

impl Processor {
    /// A P with an empty queue. `seed` starts its random numbers; give each P another one.
    pub fn new(id: ProcId, seed: u64) -> Self {
        let random = first_random(id, seed);
        let own = Own {
            turn: Plain32::new(GLOBAL_TICK),
            streak: Plain32::new(0),
            looks: Plain32::new(0),
            heir: Plain32::new(0),
            goid: Plain64::new(0),
            goid_end: Plain64::new(0),
            goid_batch: Plain64::new(GOID_BATCH),
            random: Plain64::new(random),
            free: LocalFree::new(),
            sudogs: LocalFree::new(),
        };
        Self { id, queue: RunQueue::new(), own: Padded(own), counters: Padded(Counters::default()) }
    }

    /// Which P this is.
    pub fn id(&self) -> ProcId {
        self.id
    }

    /// The run queue, for a look or a theft.
    pub fn queue(&self) -> &RunQueue {
        &self.queue
    }

    /// What the P has done. `nanos` says how many nanoseconds so many ticks of the kernel's counter are.
    pub fn counters(&self, nanos: impl FnOnce(u64) -> u64) -> Snapshot {
        self.counters.snapshot(nanos)
    }

    /// Goroutines that were started on the P: one of its counters.
    pub fn spawned(&self) -> u64 {
        self.counters.spawned.get()
    }

    /// Goroutines that ended on the P: one of its counters.
    pub fn exited(&self) -> u64 {
        self.counters.exited.get()
    }

    /// Dead goroutines that the P keeps, at about this moment.
    pub fn free_len(&self) -> u32 {
        self.own.free.len()
    }

    /// Unused sudogs that the P keeps, at about this moment.
    pub fn sudogs_len(&self) -> u32 {
        self.own.sudogs.len()
    }

    /// The owner's face of the P. Only for the CPU that holds the P, while nothing can run another goroutine
    /// there and no interrupt handler uses the same P: two owners at once would lose goroutines and repeat
    /// ids. Memory stays safe even then.
    pub fn owner(&self) -> Owner<'_> {
        Owner { processor: self, not_send: PhantomData }
    }
}

/// The owner's face of a [`Processor`]. It stays on its CPU: neither `Send` nor `Sync`.
///
/// ```compile_fail
/// let p = sched::Processor::new(sched::ProcId::new(0).unwrap(), 1);
/// let me = p.owner();
/// std::thread::scope(|s| {
///     s.spawn(move || me.picks_until_global());
/// });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Owner<'p> {
    processor: &'p Processor,
    not_send: PhantomData<*const ()>,
}

impl<'p> Owner<'p> {
    /// Which P this is.
    pub fn id(self) -> ProcId {
        self.processor.id
    }

    /// The owner's face of the run queue.
    pub fn queue(self) -> Local<'p> {
        self.processor.queue.local()
    }

    /// The counters, to raise them.
    pub fn counters(self) -> &'p Counters {
        &self.processor.counters.0
    }

    /// Picks until the global queue has its turn, that one included: 1 to [`GLOBAL_TICK`].
    pub fn picks_until_global(self) -> u32 {
        self.processor.own.turn.get()
    }

    /// Counts a pick, and says whether it is the global queue's turn.
    pub(crate) fn count_pick(self) -> bool {
        let left = self.picks_until_global() - 1;
        self.processor.own.turn.set(if left == 0 { GLOBAL_TICK } else { left });
        left == 0
    }

    /// Counts a pick that is not the global queue's turn. `false`: it would be, and nothing is counted.
    #[inline]
    pub(crate) fn count_usual_pick(self) -> bool {
        // Down first and back if need be: one step in almost all cases.
        let turn = &self.processor.own.turn;
        let left = turn.get() - 1;
        turn.set(left);
        if left == 0 {
            turn.set(1);
        }
        left != 0
    }

    /// Takes back what [`count_usual_pick`](Self::count_usual_pick) has counted.
    pub(crate) fn uncount_pick(self) {
        self.processor.own.turn.set(self.picks_until_global() + 1);
    }

    /// Counts a look at the global queue and returns how many there were before.
    pub(crate) fn count_look(self) -> u32 {
        let looks = self.processor.own.looks.get();
        self.processor.own.looks.set(looks.wrapping_add(1));
        looks
    }

    /// Picks from the run-next slot in a row.
    pub(crate) fn streak(self) -> u32 {
        self.processor.own.streak.get()
    }

    /// Sets the picks from the run-next slot in a row.
    pub(crate) fn set_streak(self, streak: u32) {
        self.processor.own.streak.set(streak);
    }

    /// Whether the heir has its turn at the end of this time slice: at every second one.
    pub(crate) fn take_heirs_turn(self) -> bool {
        let heir = &self.processor.own.heir;
        heir.set(1 - heir.get());
        heir.get() == 1
    }

    /// The id of a new goroutine. When a batch is used up the next one comes from `generator`, so ids are
    /// unique but not in the order of their birth on different Ps.
    ///
    /// # Panics
    ///
    /// Never: ids start at 1 and 2^64 of them are not used up.
    pub fn next_goid(self, generator: &GoidGenerator) -> Goid {
        let own = &self.processor.own;
        if own.goid.get() == own.goid_end.get() {
            let count = own.goid_batch.get();
            let first = generator.reserve(count);
            own.goid.set(first);
            own.goid_end.set(first + count);
            own.goid_batch.set(GOID_BATCH_MAX.min(2 * count));
        }
        let number = own.goid.get();
        own.goid.set(number + 1);
        Goid::new(number).expect("ids start at 1")
    }

    /// Begins the random numbers anew, as a P that was made with this seed.
    pub fn seed(self, seed: u64) {
        self.processor.own.random.set(first_random(self.processor.id, seed));
    }

    /// A random number, by xorshift; the same sequence for the same seed.
    pub fn random(self) -> u32 {
        let mut x = self.processor.own.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.processor.own.random.set(x);
        // The upper half has the better bits.
        (x >> 32) as u32
    }

    /// Takes a dead goroutine for a new life; `None` when the P has none and needs a
    /// [`refill`](Self::refill).
    pub fn take_free<L: Linked<Index = GoIndex>>(self, table: &L) -> Option<GoIndex> {
        self.processor.own.free.take(table)
    }

    /// Keeps a dead goroutine. A chain that comes back is for the shared
    /// [`FreeLists`](crate::free_list::FreeLists).
    #[must_use = "a spill belongs on the shared free list"]
    pub fn put_free<L: Linked<Index = GoIndex>>(self, table: &L, g: GoIndex) -> Option<Chain> {
        self.processor.own.free.put(table, g)
    }

    /// The same for who has its slot at hand, if the P has room. `false`: nothing was done.
    #[must_use = "one that is not kept is lost"]
    #[inline]
    pub fn try_put_free<B>(self, slot: &Slot<B>) -> bool {
        self.processor.own.free.try_put(slot.index(), |next| slot.set_next(next))
    }

    /// Forgets the dead goroutines that the P keeps: somebody makes a new list of all that there are.
    pub fn forget_free(self) {
        self.processor.own.free.clear();
    }

    /// Keeps a chain of dead goroutines from the shared list; call it when [`take_free`](Self::take_free)
    /// has returned nothing. What comes back did not fit.
    #[must_use = "a spill belongs on the shared free list"]
    pub fn refill(self, batch: Chain) -> Option<Chain> {
        self.processor.own.free.refill(batch)
    }

    /// Takes an unused sudog; `None` when the P has none and needs
    /// [`refill_sudogs`](Self::refill_sudogs).
    pub fn take_sudog(self, sudogs: &Sudogs) -> Option<SudogIndex> {
        self.processor.own.sudogs.take(sudogs)
    }

    /// Keeps a sudog that is no longer used. A chain that comes back is for the shared
    /// [`FreeLists`](crate::free_list::FreeLists).
    ///
    /// # Panics
    ///
    /// The sudog still waits for something.
    #[must_use = "a spill belongs on the shared free list"]
    pub fn put_sudog(self, sudogs: &Sudogs, s: SudogIndex) -> Option<Chain<SudogIndex>> {
        sudogs.get(s).retire(s);
        self.processor.own.sudogs.put(sudogs, s)
    }

    /// The same for who has it at hand, if the P has room. `false`: nothing was done.
    ///
    /// # Panics
    ///
    /// As [`put_sudog`](Self::put_sudog).
    #[must_use = "one that is not kept is lost"]
    #[inline]
    pub fn try_put_sudog(self, (s, sudog): (SudogIndex, &Sudog)) -> bool {
        sudog.retire(s);
        self.processor.own.sudogs.try_put(s, |next| sudog.next.set(next))
    }

    /// Keeps a chain of unused sudogs from the shared list; call it when [`take_sudog`](Self::take_sudog) has
    /// returned nothing. What comes back did not fit.
    #[must_use = "a spill belongs on the shared free list"]
    pub fn refill_sudogs(self, batch: Chain<SudogIndex>) -> Option<Chain<SudogIndex>> {
        self.processor.own.sudogs.refill(batch)
    }
}

#[cfg(test)]
#[path = "tests/processor.rs"]
mod tests;
