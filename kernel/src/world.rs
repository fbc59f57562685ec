//! Stopping the world, the stopper's side.
//!
//! 1. The world semaphore is taken on the goroutine's own stack: one stop at a time, and whoever has to wait parks.
//! 2. On the kernel stack: the stop is announced, CPUs that sleep are taken without being woken, the others get an
//!    interrupt of a vector of its own, all at once where nobody sleeps ([`sched::world`], [`crate::hold`]). While these are on
//!    their way the stopper does what needs nobody stopped ([`around_stop`]).
//! 3. The stopper waits with interrupts on, and sends again every 100 µs to whoever has not stopped. After a limit it
//!    asks them by NMI where they are and reports them; after a second limit it throws.
//! 4. Whoever waits for something else meanwhile (a lock, a shootdown) waits with interrupts on, and gives an answer: no
//!    two waits form a ring.
//! 5. At the start the Ps are resized if that was asked for, all go on, and the semaphore is handed to the next stopper,
//!    who would else be overtaken again and again by this one (as in Go since 1.24).
//!
//! Between 2 and 5 the stopper is pinned to its CPU. It may allocate: nobody was stopped inside of the allocator, because
//! a CPU that holds a lock of the runtime does not stop.
//!
//! ```
//! use gzero::{Nanos, StopReason, StoppedWorld, start_the_world, stop_the_world, world};
//! use gzero::world::{CpuStop, Doing, ReasonStats, StopRecord, Times, WorldStats};
//!
//! world::set_limits(Nanos::from_millis(1_000), Nanos::from_millis(60_000));
//! let world: StoppedWorld = stop_the_world(StopReason::Program);
//! let record: StopRecord = world.record();
//! // Nobody else runs here.
//! let late = world::cpu_stops().filter(|stop: &CpuStop| stop.doing == Doing::HoldingLocks).count();
//! start_the_world(world);
//! gzero::println!("{} CPUs were asked, {late} held locks", record.interrupted);
//!
//! let stats: WorldStats = world::stats();
//! let program: &ReasonStats = &stats.reasons[StopReason::Program as usize];
//! let Times { p50, max, .. } = program.stopping;
//! assert!(p50 <= max + max && program.count >= 1);
//! ```

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::apic;
use machine::apic::icr::{Ipi, Target};
use machine::backtrace::Pc;
use machine::clock::{self, Nanos};
use machine::percpu::{self, Pinned};
use machine::vector::Vector;
use sched::sema::Handoff;
use sched::world::Taken;

use crate::hold;
use crate::m::{self, M};
use crate::panic::{Named, throw};
use crate::perform;
use crate::resize;
use crate::runtime::Runtime;
use crate::sema;
use crate::stacks::{check_g_stack, from_goroutine, on_m};
use crate::wake;

pub use crate::mark::{CpuStop, Doing};
pub use crate::stops::{ReasonStats, StopReason, StopRecord, Times, WorldStats};

/// One goroutine at a time stops the world; Go's `worldsema`.
static WORLDSEMA: AtomicU32 = AtomicU32::new(1);

/// The interrupt is sent again to whoever has not stopped after this time, as Go does.
const RESEND: Nanos = Nanos(100_000);
/// How long the stopper waits for an NMI's answer, while an emulator may not run a CPU's thread, …
const PROBE: Nanos = Nanos(200_000_000);
/// … and before it throws: then there is nothing better to do.
const LAST_PROBE: Nanos = Nanos(1_000_000_000);

/// When the interrupts of the last stop were sent.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// After this time the late CPUs are reported, …
static REPORT: AtomicU64 = AtomicU64::new(10_000_000);
/// … and after this time the stopper gives up.
static GIVE_UP: AtomicU64 = AtomicU64::new(10_000_000_000);

/// Sets after which time CPUs that have not stopped are reported, and after which the stopper throws.
///
/// The defaults are 10 ms and 10 s; on a machine that says that it is emulated, where a CPU may stand still at any
/// instruction for as long as its host pleases, 1 s and 60 s. The boot arguments `stopreport` and `stopthrow` set them in
/// milliseconds.
pub fn set_limits(report: Nanos, give_up: Nanos) {
    // Relaxed, both: each is a number of its own.
    REPORT.store(report.0, Ordering::Relaxed);
    GIVE_UP.store(give_up.0, Ordering::Relaxed);
}

/// The world stands still while this value lives, but for the goroutine that has it; the drop starts it.
///
/// The goroutine is pinned to its CPU meanwhile and must not block.
#[must_use = "the world starts again when this value is dropped"]
#[derive(Debug)]
pub struct StoppedWorld {
    pinned: Option<Pinned>,
    record: StopRecord,
}

/// Stops all other goroutines, wherever they are, and returns when they stand still. Go's `stopTheWorld`.
///
/// Other callers wait for their turn.
///
/// # Throws
/// When not called on a goroutine's own stack; with a lock of the runtime held; when a CPU does not stop within the second
/// limit ([`set_limits`]), with its name and where it was.
#[track_caller]
pub fn stop_the_world(reason: StopReason) -> StoppedWorld {
    check_g_stack("stop_the_world");
    take_semaphore();
    stop_with_semaphore(reason)
}

/// Step 1, for who has checked the stack.
fn take_semaphore() {
    let pinned = Pinned::new();
    if percpu::current(&pinned).locks() > 1 {
        throw(format_args!("stop_the_world: holding locks"));
    }
    drop(pinned);
    if !sema::try_semacquire(&WORLDSEMA) {
        sema::semacquire(&WORLDSEMA);
    }
}

/// Stops the world, does something on the kernel stack, and starts it: all in one visit to that stack. The caller has
/// checked that it is on a goroutine's own stack.
pub(crate) fn while_stopped<R>(reason: StopReason, work: impl FnOnce(&'static Runtime) -> R) -> R {
    around_stop(reason, |_| (), |rt, ()| (work(rt), None))
}

/// The same, for who has something to do that needs nobody stopped.
///
/// `meanwhile` is called while the others are on their way. Stops of the world are the caller's alone from then on, and it is
/// pinned. `work` may also ask for another GOMAXPROCS.
pub(crate) fn around_stop<A, R>(
    reason: StopReason,
    meanwhile: impl FnOnce(&'static Runtime) -> A,
    work: impl FnOnce(&'static Runtime, A) -> (R, Option<u32>),
) -> R {
    take_semaphore();
    let pinned = Pinned::new();
    let result = from_goroutine(&pinned, || {
        let rt = m::runtime();
        let begun = begin(rt);
        let known = meanwhile(rt);
        let record = finish(rt, reason, begun);
        let (result, newprocs) = work(rt, known);
        start(rt, newprocs, record);
        result
    });
    give_semaphore(pinned);
    result
}

/// The same for a caller that does not wait for its turn: `None` while another has the world, or is about to.
pub(crate) fn try_stop_the_world(reason: StopReason) -> Option<StoppedWorld> {
    sema::try_semacquire(&WORLDSEMA).then(|| stop_with_semaphore(reason))
}

fn stop_with_semaphore(reason: StopReason) -> StoppedWorld {
    let pinned = Pinned::new();
    let record = on_m(|| {
        let rt = m::runtime();
        finish(rt, reason, begin(rt))
    });
    StoppedWorld { pinned: Some(pinned), record }
}

/// Lets all goroutines go on. Go's `startTheWorld`; the same as dropping the value.
pub fn start_the_world(world: StoppedWorld) {
    drop(world);
}

impl StoppedWorld {
    /// What is known of this stop: its `stopped` time is still 0.
    pub fn record(&self) -> StopRecord {
        self.record
    }
}

impl Drop for StoppedWorld {
    fn drop(&mut self) {
        let rt = m::runtime();
        on_m(|| start(rt, None, self.record));
        if let Some(pinned) = self.pinned.take() {
            give_semaphore(pinned);
        }
    }
}

/// The end of step 5.
fn give_semaphore(pinned: Pinned) {
    // The pin keeps this goroutine from giving way to the one that the semaphore goes to.
    sema::semrelease1(&WORLDSEMA, Handoff::Yes);
    m::vacate_if_inactive(&pinned);
    drop(pinned);
}

/// A stop that has begun: when, how long the stopper's own work took, and how many CPUs were asked.
#[derive(Debug, Clone, Copy)]
struct Begun {
    began: Nanos,
    asking: Nanos,
    interrupted: u32,
}

/// Step 2, on the kernel stack.
fn begin(rt: &'static Runtime) -> Begun {
    let me = m::of_this_cpu().expect("a goroutine's CPU has an M");
    let others = || rt.ms.iter().filter(|m| m.index != me.index);
    let began = clock::now();
    rt.world.begin(me.index);
    let must_interrupt = |m: &M| u32::from(rt.world.take(m.index) == Taken::MustInterrupt);
    let interrupted = others().map(must_interrupt).sum();
    if interrupted > 0 {
        // Relaxed: read by who has the world stopped, or for reports.
        ASKED.store(clock::now().0, Ordering::Relaxed);
        // Whoever has stopped by itself meanwhile is left alone.
        wake::send_to_others(rt, me, Vector::STOP, interrupted, |m| rt.world.is_late(m.index));
    }
    // While the interrupts are on their way.
    Begun { began, asking: clock::now() - began, interrupted }
}

/// Step 3.
fn finish(rt: &'static Runtime, reason: StopReason, begun: Begun) -> StopRecord {
    let Begun { began, asking, interrupted } = begun;
    wait(rt, reason, began);
    let stopping = clock::now() - began;
    StopRecord { number: 0, reason, began, asking, stopping, stopped: Nanos(0), interrupted, last: last(rt) }
}

/// The CPU that stopped last.
fn last(rt: &'static Runtime) -> Option<CpuStop> {
    let number = rt.world.number();
    let times = rt.ms.iter().map(|m| (m.mark().time_of(number), m));
    // One word of each, and all of one only: the others are held up meanwhile.
    times.max_by_key(|(time, _)| *time).and_then(|(_, m)| cpu_stop(rt, m))
}

/// One CPU's part, if it has stopped. What an NMI found is nearer to the truth than the interrupt, which came when it could.
fn cpu_stop(rt: &Runtime, m: &'static M) -> Option<CpuStop> {
    let number = rt.world.number();
    let sent = Nanos(ASKED.load(Ordering::Relaxed));
    let mut stop = m.mark().read(number, m.block.id().0, sent).filter(|stop| stop.acknowledged > Nanos(0))?;
    if let Some((rip, doing)) = m.mark().probed(number) {
        (stop.rip, stop.doing) = (rip, doing);
    }
    Some(stop)
}

/// Step 3: waits until all have stopped.
fn wait(rt: &'static Runtime, reason: StopReason, began: Nanos) {
    let mut reported = false;
    // Relaxed, both: as in `set_limits`.
    let report = began + Nanos(REPORT.load(Ordering::Relaxed));
    let give_up = began + Nanos(GIVE_UP.load(Ordering::Relaxed));
    let mut next = 0;
    while !clock::spin_at_most(RESEND, || rt.world.is_stopped(&mut next)) {
        let now = clock::now();
        if now >= give_up {
            probe(rt, LAST_PROBE);
            if rt.world.is_stopped(&mut next) {
                return;
            }
            throw(format_args!("stop the world for {reason}: {}", Late { rt, began }));
        }
        if now >= report && !reported {
            reported = true;
            probe(rt, PROBE);
            if (Late { rt, began }).cpus().next().is_some() {
                log::warn!("stop the world for {reason}: {}", Late { rt, began });
            }
        }
        for m in late(rt) {
            wake::send(m, Vector::STOP);
        }
    }
}

/// The CPUs that have not stopped.
fn late(rt: &'static Runtime) -> impl Iterator<Item = &'static M> {
    rt.ms.iter().filter(|m| rt.world.is_late(m.index))
}

/// Asks the late CPUs by NMI where they are, and waits this long for the answers.
fn probe(rt: &'static Runtime, length: Nanos) {
    let number = rt.world.number();
    for m in late(rt).filter(|m| m.mark().probed(number).is_none()) {
        m.mark().probe(number);
        apic::send(Ipi::Nmi, Target::One(m.block.apic_id()));
    }
    clock::spin_until(clock::now() + length, || late(rt).all(|m| m.mark().probed(number).is_some()));
}

/// The late CPUs, in words.
struct Late {
    rt: &'static Runtime,
    began: Nanos,
}

impl Late {
    /// Those that are late, and those that were and have stopped since they answered the NMI.
    fn cpus(&self) -> impl Iterator<Item = &'static M> + use<> {
        let rt = self.rt;
        let number = rt.world.number();
        rt.ms.iter().filter(move |m| rt.world.is_late(m.index) || m.mark().probed(number).is_some())
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rt = self.rt;
        let after = clock::now() - self.began;
        let number = rt.world.number();
        for (at, m) in self.cpus().enumerate() {
            let comma = if at == 0 { "" } else { "; " };
            write!(f, "{comma}cpu {} has not stopped after {after}: ", m.block.id().0)?;
            match m.mark().probed(number) {
                Some((rip, doing)) => write!(f, "{doing} at {}", Pc::Next(rip))?,
                None => write!(f, "it does not answer an NMI")?,
            }
            match m.current() {
                Some(g) => write!(f, ", in {}", Named(g.get()))?,
                None => write!(f, ", in no goroutine")?,
            }
            let found = m.mark().read(number, 0, Nanos(0));
            if found.is_some_and(|stop| stop.doing == Doing::HoldingLocks) {
                write!(f, ", with {} locks", m.block.locks())?;
            }
        }
        Ok(())
    }
}

/// Step 5, on the kernel stack.
fn start(rt: &'static Runtime, newprocs: Option<u32>, mut record: StopRecord) {
    let before = rt.procs().len();
    if let Some(procs) = newprocs {
        resize::resize(rt, procs);
    }
    let released = clock::now();
    hold::release(rt);
    record.stopped = released - record.began - record.stopping;
    rt.stops.lock().add(record);
    if newprocs.is_some() {
        wake_resized(rt, before);
    }
}

/// Wakes whom a change of GOMAXPROCS concerns; `before` is how many Ps of CPUs were in use.
///
/// Goroutines of a P that has gone wait for the others, and CPUs that got a P may sleep. Without a change nobody is to be woken: who
/// was made runnable meanwhile has woken a CPU, which comes in now.
fn wake_resized(rt: &'static Runtime, before: usize) {
    let me = m::of_this_cpu().expect("a goroutine's CPU has an M");
    let grown = rt.ms.get(before..rt.procs().len()).unwrap_or_default();
    grown.iter().filter(|m| m.index != me.index).for_each(wake::wake_cpu);
    if sched::pick::recheck(&rt.sources()) {
        wake::wake_one(rt, me.proc().owner());
        perform::somebody_waits(rt, me);
    }
}

/// What is known of all stops since boot.
pub fn stats() -> WorldStats {
    let mut reasons = Vec::with_capacity(StopReason::ALL.len());
    let stops = m::runtime().stops.lock();
    reasons.extend(StopReason::ALL.map(|reason| stops.reason(reason)));
    WorldStats { count: stops.count(), reasons, last: stops.last() }
}

/// The part of each CPU in the last stop, but for the one that stopped the world; only CPUs that did not sleep.
///
/// Exact for the goroutine that has the world stopped; else another stop may be on its way.
pub fn cpu_stops() -> impl Iterator<Item = CpuStop> {
    let rt = m::runtime();
    rt.ms.iter().filter_map(|m| cpu_stop(rt, m))
}
