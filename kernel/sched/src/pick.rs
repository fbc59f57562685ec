//! Which goroutine runs next, and where a new one goes.
//!
//! The order of sources is that of Go's `findRunnable`:
//!
//! 1. the global queue, but only in every [`GLOBAL_TICK`]th pick, and not where another CPU is at that moment: else two goroutines
//!    that ready each other on every P would keep it waiting for ever;
//! 2. the run-next slot: the goroutine that the last one readied, with its data in the cache;
//! 3. the local ring;
//! 4. the global queue: a fair share of it, one to run and the others to the local ring;
//! 5. the other Ps: half of a ring. [`STEAL_ROUNDS`] rounds over all Ps in a random order; a run-next slot
//!    only in the last round.
//!
//! [`next_local`] is 1 to 4, [`inherit`] is 2 alone, [`next_after_slice`] is 1 to 4 with another place for 2: all short
//! enough for the stack of the goroutine that gives up its CPU. [`find_work`] is 4 and 5, for a P that spins. [`recheck`] only looks, for a P that has gone idle.
//!
//! # Time slices
//!
//! A goroutine from the run-next slot inherits its predecessor's time slice. So while a slice lasts, the kernel takes
//! who [inherits](inherit) it before all others and does not count that as a pick: two that ready each other get one slice,
//! as one that computes does. At the end of every second slice the heir comes first, and at the end of the others all
//! who wait come before it ([`next_after_slice`]), unless a timer is behind it ([`slice`](crate::slice)): neither who is readied beside those who compute waits for long, nor who
//! waits beside a row in which each readies the next.
//!
//! Preemption can be turned off, and then no slice ends. Sources 1 to 4 alone have a bound of their own: after
//! [`NEXT_STREAK`] picks from the run-next slot in a row the ring has its turn.

use crate::global::GlobalQueue;
use crate::id::{GoIndex, ProcId};
use crate::link::Linked;
use crate::list::{Chain, SharedLen};
use crate::processor::{Owner, Processor};
use crate::runq::{Overflow, Pushed, StealNext};
use crate::sync::QUEUE_CAPACITY;

pub use crate::processor::GLOBAL_TICK;

/// Picks from the run-next slot in a row before the ring has its turn.
pub const NEXT_STREAK: u32 = 61;

/// Rounds that a spinning P makes over all others.
pub const STEAL_ROUNDS: u32 = 4;

/// How the kernel lends the global queue: one queue or several, each behind a lock of its own.
pub trait Global {
    /// How many queues it has, so that no lock belongs to all CPUs: at least one.
    fn queues(&self) -> usize {
        1
    }

    /// The one where the CPU that calls is at home: it puts there what it has, unless another CPU is there, and every second look begins
    /// there.
    fn home(&self) -> usize {
        0
    }

    /// How many of them are homes: those from the first on.
    fn homes(&self) -> usize {
        self.queues()
    }

    /// Calls `f` with a queue, locked. `f` is short and takes no lock.
    fn with<R>(&self, at: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> R;

    /// The same if no other CPU is at that queue, or else nothing.
    fn try_with<R>(&self, at: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> Option<R> {
        Some(self.with(at, f))
    }

    /// A queue's length, without the lock.
    fn length(&self, at: usize) -> &SharedLen;

    /// Whether all queues look empty.
    fn is_empty(&self) -> bool {
        (0..self.queues()).all(|at| self.length(at).is_empty())
    }

    /// Goroutines in all of them, at about this moment.
    fn len(&self) -> u32 {
        (0..self.queues()).map(|at| self.length(at).get()).sum()
    }

    /// Called before a run-next slot is stolen: a moment of patience (Go waits 3 µs) lets its owner run it,
    /// where a goroutine readies another and blocks right after. Does nothing unless implemented.
    fn hesitate(&self) {}
}

/// Everything that work can be in.
#[derive(Debug)]
pub struct Sources<'a, L, G> {
    /// All goroutines.
    pub table: &'a L,
    /// All Ps, each at the index of its id.
    pub processors: &'a [Processor],
    /// The global queue.
    pub global: &'a G,
}

impl<L, G> Clone for Sources<'_, L, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L, G> Copy for Sources<'_, L, G> {}

/// Where a picked goroutine was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the run-next slot.
    Next,
    /// In the local ring.
    Local,
    /// In the global queue.
    Global,
    /// In the queue of goroutines that are locked to the CPU.
    Wired,
    /// In another P's queue.
    Stolen {
        /// That P.
        from: ProcId,
        /// Goroutines that moved, the picked one included.
        count: u32,
    },
}

/// The goroutine to run. It is in no queue now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a picked goroutine is in no queue: run it, or it is lost"]
pub struct Picked {
    /// The goroutine.
    pub g: GoIndex,
    /// It goes on with the time slice of the one before.
    pub inherit_time: bool,
    /// Where it was.
    pub source: Source,
}

impl Picked {
    /// A goroutine that starts a time slice.
    fn fresh(g: GoIndex, source: Source) -> Self {
        Self { g, inherit_time: false, source }
    }
}

/// Where a runnable goroutine goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The run-next slot: it was readied or started by the running goroutine.
    Next,
    /// The back of the local ring: it yielded.
    Back,
    /// The global queue: its time slice is over, or its P has gone away.
    Global,
}

/// Who comes first at the end of a slice; the rest of the order stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The run-next slot, at the end of every second slice.
    Alternate,
    /// The run-next slot: somebody is due there.
    Due,
    /// The ring and the global queue.
    Others,
}

/// Puts a runnable goroutine into the caller's queue. What does not fit goes to the global queue; only then
/// is its lock taken. The caller then calls [`Idle::wake_one`](crate::idle::Idle::wake_one).
pub fn enqueue<L: Linked<Index = GoIndex>, G: Global>(
    me: Owner<'_>,
    sources: &Sources<'_, L, G>,
    g: GoIndex,
    place: Place,
) {
    match place {
        Place::Next => enqueue_next(me, || *sources, g),
        Place::Back => enqueue_back(me, || *sources, g),
        Place::Global => put_global(sources, Chain::one(sources.table, g)),
    }
}

/// [`enqueue`] at [`Place::Next`], for who has the rest of the sources made only when they are needed.
#[inline]
pub fn enqueue_next<'a, L: Linked<Index = GoIndex> + 'a, G: Global + 'a>(
    me: Owner<'_>,
    sources: impl FnOnce() -> Sources<'a, L, G>,
    g: GoIndex,
) {
    if let Some(kicked) = me.queue().swap_next(g) {
        enqueue_back(me, sources, kicked);
    }
}

/// [`enqueue`] at [`Place::Back`], likewise.
#[inline]
pub fn enqueue_back<'a, L: Linked<Index = GoIndex> + 'a, G: Global + 'a>(
    me: Owner<'_>,
    sources: impl FnOnce() -> Sources<'a, L, G>,
    g: GoIndex,
) {
    match me.queue().try_push_back(g) {
        Pushed::Yes => {}
        Pushed::Full => push_or_spill(me, &sources(), g),
    }
}

/// Makes room in a full ring.
#[cold]
#[inline(never)]
fn push_or_spill<L: Linked<Index = GoIndex>, G: Global>(
    me: Owner<'_>,
    sources: &Sources<'_, L, G>,
    g: GoIndex,
) {
    if let Some(overflow) = me.queue().push_back(g) {
        spill(sources, overflow);
    }
}

/// Puts half of a full ring on the global queue.
#[cold]
fn spill<L: Linked<Index = GoIndex>, G: Global>(sources: &Sources<'_, L, G>, overflow: Overflow) {
    put_global(sources, overflow.into_chain(sources.table));
}

/// Appends goroutines to the queue of a home where no other CPU is, the caller's own before others. If there is none it waits for its own.
fn put_global<L: Linked<Index = GoIndex>, G: Global>(sources: &Sources<'_, L, G>, chain: Chain) {
    let (global, home, homes) = (sources.global, sources.global.home(), sources.global.homes());
    let mut chain = Some(chain);
    let mut put = |queue: &mut GlobalQueue| {
        if let Some(chain) = chain.take() {
            queue.push_batch(sources.table, chain);
        }
    };
    if !(home..home + homes).any(|at| global.try_with(at % homes, &mut put).is_some()) {
        global.with(home, put);
    }
}

/// Sources 1 to 4. Allocates nothing; takes the global queue's lock only if there is something in it. Counts
/// a pick, whether it finds anything or not.
#[must_use]
pub fn next_local<L: Linked<Index = GoIndex>, G: Global>(
    me: Owner<'_>,
    sources: &Sources<'_, L, G>,
) -> Option<Picked> {
    if me.count_pick()
        && let Some(picked) = from_global(me, sources, 1)
    {
        return Some(picked);
    }
    from_queue(me).or_else(|| from_global(me, sources, QUEUE_CAPACITY / 2))
}

/// Source 2 alone: the goroutine that goes on with the running time slice. Counts no pick.
#[inline]
#[must_use]
pub fn inherit(me: Owner<'_>) -> Option<Picked> {
    let g = me.queue().pop_next()?;
    Some(Picked { g, inherit_time: true, source: Source::Next })
}

/// Source 3 alone, where it comes before source 1 and the run-next slot is empty: what most picks find, in a few steps.
/// `None`: ask [`next_local`], which counts the pick then.
#[inline]
#[must_use]
pub fn next_in_ring(me: Owner<'_>) -> Option<GoIndex> {
    if !me.count_usual_pick() {
        return None;
    }
    let g = me.queue().pop_ring();
    if g.is_none() {
        me.uncount_pick();
    }
    g
}

/// The pick at the end of a time slice: sources 1, 3 and 4, and 2 before them or after them. Whoever it is begins a slice.
/// Counted as [`next_local`].
#[must_use]
pub fn next_after_slice<L: Linked<Index = GoIndex>, G: Global>(
    me: Owner<'_>,
    sources: &Sources<'_, L, G>,
    turn: Turn,
) -> Option<Picked> {
    let on_tick = me.count_pick();
    me.set_streak(0);
    let heir = || me.queue().pop_next().map(|g| Picked::fresh(g, Source::Next));
    let first = match turn {
        Turn::Due => heir(),
        Turn::Alternate if me.take_heirs_turn() => heir(),
        Turn::Alternate | Turn::Others => None,
    };
    first
        .or_else(|| if on_tick { from_global(me, sources, 1) } else { None })
        .or_else(|| me.queue().pop_ring().map(|g| Picked::fresh(g, Source::Local)))
        .or_else(|| from_global(me, sources, QUEUE_CAPACITY / 2))
        .or_else(heir)
}

/// Sources 4 and 5, for a P whose own queue is empty and that is counted as spinning. Counts its steals.
///
/// `None` while a queue of the global one has something: another CPU was at it. The caller then looks at all that it is there for once
/// more before it goes idle; where it waited for that queue it would miss what comes elsewhere.
#[must_use]
pub fn find_work<L: Linked<Index = GoIndex>, G: Global>(
    me: Owner<'_>,
    sources: &Sources<'_, L, G>,
) -> Option<Picked> {
    let steal = || {
        (1..=STEAL_ROUNDS).find_map(|round| {
            let next = if round == STEAL_ROUNDS { StealNext::Yes } else { StealNext::No };
            steal_round(me, sources, next)
        })
    };
    from_global(me, sources, QUEUE_CAPACITY / 2).or_else(steal)
}

/// Empties the queue of a P that goes away into the global queue, while the world is stopped: no owner or thief is
/// at work on it.
pub fn drain<L: Linked<Index = GoIndex>, G: Global>(me: Owner<'_>, sources: &Sources<'_, L, G>) {
    let queue = me.queue();
    if let Some(chain) =
        Chain::link(sources.table, core::iter::from_fn(|| queue.pop()).map(|popped| popped.g))
    {
        put_global(sources, chain);
    }
}

/// Whether there is work anywhere: the third step of an idler. It takes nothing.
#[must_use]
pub fn recheck<L: Linked<Index = GoIndex>, G: Global>(sources: &Sources<'_, L, G>) -> bool {
    !sources.global.is_empty() || sources.processors.iter().any(|p| !p.queue().is_empty())
}

/// Sources 2 and 3.
fn from_queue(me: Owner<'_>) -> Option<Picked> {
    let queue = me.queue();
    if me.streak() >= NEXT_STREAK {
        me.set_streak(0);
        if let Some(g) = queue.pop_ring() {
            return Some(Picked::fresh(g, Source::Local));
        }
    }
    let popped = queue.pop()?;
    let source = if popped.inherit_time { Source::Next } else { Source::Local };
    me.set_streak(if popped.inherit_time { me.streak() + 1 } else { 0 });
    Some(Picked { g: popped.g, inherit_time: popped.inherit_time, source })
}

/// Sources 1 and 4: one goroutine to run, and the others of the share to the local ring. A queue at which another CPU works is passed
/// over: what that one leaves is found by the next look.
///
/// Every second look begins at the P's home, the others at one queue after the other: so what lies in a queue that is nobody's home
/// any more is found, and those in a long queue do not wait while those in a short one have turn after turn.
fn from_global<L: Linked<Index = GoIndex>, G: Global>(
    me: Owner<'_>,
    sources: &Sources<'_, L, G>,
    max: u32,
) -> Option<Picked> {
    let (global, queues) = (sources.global, sources.global.queues());
    if global.is_empty() {
        return None;
    }
    let queue = me.queue();
    let max = max.min(queue.room() + 1);
    let procs = u32::try_from(sources.processors.len().div_ceil(queues)).unwrap_or(u32::MAX);
    let home = global.home();
    let look = me.count_look() as usize;
    let begin = if look.is_multiple_of(2) { home } else { home + look / 2 };
    let share = (begin..begin + queues).map(|at| at % queues).find_map(|at| {
        if global.length(at).is_empty() {
            return None;
        }
        let grab = |queue: &mut GlobalQueue| queue.grab(sources.table, procs, max);
        global.try_with(at, grab).flatten()
    })?;
    let (g, rest) = share.split_first(sources.table);
    if let Some(rest) = rest {
        queue.push_chain(sources.table, rest);
    }
    Some(Picked::fresh(g, Source::Global))
}

/// One round over all other Ps.
fn steal_round<L: Linked<Index = GoIndex>, G: Global>(
    me: Owner<'_>,
    sources: &Sources<'_, L, G>,
    next: StealNext,
) -> Option<Picked> {
    let thief = me.queue();
    for index in RandomOrder::new(sources.processors.len(), me.random()) {
        let victim = &sources.processors[index];
        if victim.id() == me.id() {
            continue;
        }
        if next == StealNext::Yes && victim.queue().has_only_next() {
            sources.global.hesitate();
        }
        if let Some(stolen) = victim.queue().steal_into(&thief, next) {
            me.counters().steals.add(1);
            me.counters().stolen.add(u64::from(stolen.count));
            let source = Source::Stolen { from: victim.id(), count: stolen.count };
            return Some(Picked::fresh(stolen.g, source));
        }
    }
    None
}

/// The numbers below `len`, each once, in an order that `random` chooses.
///
/// From a random start it goes on by a step that has no divisor in common with `len`, so it comes back
/// to the start only after all of them.
#[derive(Clone, Debug)]
struct RandomOrder {
    position: usize,
    step: usize,
    len: usize,
    left: usize,
}

impl RandomOrder {
    /// An order of `0..len`.
    fn new(len: usize, random: u32) -> Self {
        let divisor = len.max(1);
        let random = random as usize;
        let position = random % divisor;
        let mut step = (random / divisor) % divisor + 1;
        // Ends: 1 and the neighbour below `len` are coprime to it, and the search wraps to 1.
        while gcd(step, divisor) != 1 {
            step = step % divisor + 1;
        }
        Self { position, step, len, left: len }
    }
}

impl Iterator for RandomOrder {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let now = self.position;
        self.position = (now + self.step) % self.len;
        Some(now)
    }
}

/// The greatest common divisor.
fn gcd(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
#[path = "tests/queues.rs"]
mod queues;
#[cfg(test)]
#[path = "tests/pick.rs"]
mod tests;
