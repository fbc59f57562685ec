//! What tests need to look at or to break, and programs do not.

pub use machine::audit::{Audit, audit};
pub use machine::bare;
pub use machine::clock::{now, rdtsc};
pub use machine::exception::invalid_opcode;
pub use machine::paging::translate;
pub use machine::patterns;
pub use machine::power::triple_fault;
pub use machine::serial::Port;

use alloc::sync::Arc;

use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use machine::apic;
use machine::apic::icr::{Ipi, Target};
use machine::clock::{self, Nanos};
use machine::frames::{self, FRAME_SIZE};
use machine::idt;
use machine::irq::{self, IrqGuard};
use machine::lock::{self, Kind, Lock, Rank};
use machine::paging;
use machine::percpu::{self, CpuId, Pinned};
use machine::serial;
use machine::stack;
use machine::vector::Vector;
use sched::pick::Global;
use sched::timer::Expiry;
use sched::{GoRef, Status};

use crate::chan::Receiver;
use crate::event::{Expire, Expired};
use crate::give_way::gosched;
use crate::m::{self, M, ask};
use crate::park::WaitReason;
use crate::runtime::Runtime;
use crate::sema;
use crate::stacks::on_m;
use crate::stats;
use crate::tick;
use crate::time::{Does, Inner};
use crate::tlb::{self, Who};
use crate::waits;
use crate::wake;
use crate::world::StoppedWorld;

/// The CPU that the caller was on a moment ago.
pub fn cpu() -> CpuId {
    m::current(&Pinned::new()).block.id()
}

/// The bare cost of reaching all other CPUs.
///
/// Sends them an interrupt whose handler counts itself, as a stop of the world does, and waits until all have. Returns how
/// long that took, on the kernel stack with nothing else done.
pub fn broadcast_and_acknowledge() -> Nanos {
    reach(m::runtime().ms.len())
}

/// [`broadcast_and_acknowledge`] to the CPUs that run goroutines.
pub fn reach_procs() -> Nanos {
    reach(stats::gomaxprocs())
}

/// Sends the others of the first so many CPUs an interrupt and waits for all of them.
fn reach(cpus: usize) -> Nanos {
    acknowledged(|rt, me, vector| {
        let wanted = |m: &M| m.index < cpus;
        let count = rt.ms.iter().filter(|m| m.index != me.index && wanted(m)).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        wake::send_to_others(rt, me, vector, count, wanted);
        count
    })
}

/// The bare cost of reaching one other CPU, if there is one: an interrupt, and the word that its handler writes.
pub fn reach_one() -> Nanos {
    acknowledged(|rt, me, vector| {
        let Some(other) = rt.ms.iter().find(|m| m.index != me.index) else { return 0 };
        wake::send(other, vector);
        1
    })
}

/// Sends interrupts, says to how many CPUs, and waits until that many handlers have run.
fn acknowledged(send: impl FnOnce(&Runtime, &M, Vector) -> u32) -> Nanos {
    /// Handlers that have run.
    static ACKNOWLEDGED: AtomicU32 = AtomicU32::new(0);
    const VECTOR: Vector = Vector(0xe1);
    on_m(|| {
        idt::register(VECTOR, |_| {
            // Release: pairs with the Acquire below.
            ACKNOWLEDGED.fetch_add(1, Ordering::Release);
        });
        let rt = m::runtime();
        let me = m::of_this_cpu().expect("a goroutine's CPU has an M");
        ACKNOWLEDGED.store(0, Ordering::Relaxed);
        let began = now();
        let sent = send(rt, me, VECTOR);
        while ACKNOWLEDGED.load(Ordering::Acquire) < sent {}
        now() - began
    })
}

/// Begins the random numbers of this CPU's P anew, so that what happens by chance happens again. The goroutine stays on that
/// CPU, or others draw.
pub fn seed(seed: u64) {
    m::current(&Pinned::new()).proc().owner().seed(seed);
}

/// Changes the length of all time slices; the usual one is 10 ms.
pub fn set_slice(length: Nanos) {
    tick::set_slice(length);
}

/// A page of memory that no goroutine's stack and no heap block lies in, and that is never freed. Its first word's address.
///
/// # Panics
/// When memory is used up.
pub fn spare_page() -> u64 {
    stack::allocate_whole(FRAME_SIZE).expect("memory for a page").bottom
}

/// Puts another frame behind a [`spare_page`], and makes all CPUs notice. The new contents are undefined, the old frame is
/// lost.
///
/// # Panics
/// When memory is used up.
pub fn replace_page(address: u64) {
    let frame = frames::alloc().expect("memory for a page");
    paging::replace(address, frame).expect("the page is mapped");
    tlb::shootdown(Who::Running);
}

/// Makes all CPUs forget what they know of pages that are not mapped any more.
pub fn shootdown() {
    tlb::shootdown(Who::Running);
}

/// Runs a function while the goroutine is pinned to its CPU.
pub fn while_pinned<R>(function: impl FnOnce() -> R) -> R {
    let pinned = Pinned::new();
    let result = function();
    drop(pinned);
    result
}

/// Runs a function under a lock of the runtime, which all callers share.
pub fn under_lock<R>(function: impl FnOnce() -> R) -> R {
    static LOCK: Lock<()> = Lock::new(Rank::Leaf, ());
    let guard = LOCK.lock();
    let result = function();
    drop(guard);
    result
}

/// Bytes of stack that the goroutine that calls has left.
pub fn stack_left() -> u64 {
    let pinned = Pinned::new();
    let me = m::current_g(m::current(&pinned));
    stack::pointer() - stack::lowest(m::runtime().slot(me).body().stack(me))
}

/// Whether the goroutine that calls is locked to a CPU.
pub fn is_locked_to_cpu() -> bool {
    let pinned = Pinned::new();
    m::runtime().slot(m::current_g(m::current(&pinned))).body().wired_to().is_some()
}

/// Whether this CPU's timer is set to the end of the running slice, or nobody waits for that in its P's own queue.
pub fn slice_ends_if_somebody_waits() -> bool {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    // In this order: only this CPU puts anybody there, but others take, and then the timer may go off for good.
    tick::is_armed(m) || m.proc().queue().is_empty()
}

/// Keeps the global queue busy until another CPU has come upon it several times because its slice is over, and says whether that slice
/// stayed over meanwhile.
///
/// `None`: there was nothing to see. Somebody has to wait in the global queue, and nobody in that of the other CPU, whose goroutine must
/// not leave it.
pub fn slice_stays_over_at_a_busy_queue() -> Option<bool> {
    const LOOKS: u64 = 4;
    let pinned = Pinned::new();
    let (rt, me) = (m::runtime(), m::current(&pinned));
    let _held = rt.global.hold()?;
    let is_alone = |m: &&M| m.is_active() && m.current().is_some() && m.proc().queue().is_empty();
    let other = rt.ms.iter().filter(|m| m.index != me.index).find(is_alone)?;
    let passed = || lock::counts(other.block, Kind::Rank(Rank::Global)).passed;
    // Who has something to put there passes each home once, whatever its slice, and waits then.
    let first = passed() + rt.global.homes() as u64;
    let deadline = now() + Nanos(1_000_000_000);
    clock::spin_until(deadline, || passed() > first);
    let mut stays_over = true;
    clock::spin_until(deadline, || {
        stays_over &= tick::left_of_slice(other) == Nanos(0);
        passed() > first + LOOKS
    });
    (passed() > first + LOOKS).then_some(stays_over)
}

/// Whether the goroutine that calls has been asked to give way, and has not done so because it is pinned.
pub fn is_asked_to_give_way() -> bool {
    percpu::current(&Pinned::new()).requests() & ask::PREEMPT != 0
}

/// Whether a channel holds a value, though it be a timer's.
pub fn holds_something<T>(receiver: &Receiver<T>) -> bool {
    !receiver.core().glance().is_empty()
}

/// Keeps the CPU until the slice is over, and leaves it to the next pin or lock that goes to look at that and give way.
///
/// Others on this CPU see `begun` set only after that. Somebody has to wait for the CPU, or the slice never ends.
pub fn outstay_slice(begun: &AtomicBool) {
    let pinned = Pinned::new();
    begun.store(true, Ordering::Relaxed);
    while percpu::current(&pinned).requests() & ask::PREEMPT == 0 {
        core::hint::spin_loop();
    }
    pinned.release();
}

/// Timers in the heap of the caller's CPU; a goroutine that sleeps has one.
pub fn timers_here() -> usize {
    m::current(&Pinned::new()).timers.lock().len()
}

/// Lets others run on this CPU although the caller has stopped the world, which no program can do. Whoever wants to stop
/// it meanwhile has to wait, and the caller comes back here: all other CPUs stand.
pub fn gosched_in_stop(_: &StoppedWorld) {
    // The pin of the stop.
    drop(Pinned::adopt());
    gosched();
    let _again = ManuallyDrop::new(Pinned::new());
}

/// Takes two locks of the runtime in the wrong order, which debug builds refuse.
pub fn locks_in_wrong_order() {
    let (early, late) = (Lock::new(Rank::Stops, ()), Lock::new(Rank::Frames, ()));
    let late = late.lock();
    drop((early.lock(), late));
}

/// Sends bytes to the first serial port's own input, fifteen at a time: the kernel may send XOFF meanwhile.
///
/// Waits until each portion has left the UART, for which there has to be room behind it. What others print meanwhile comes in
/// as well.
pub fn type_in(bytes: &[u8]) {
    for part in bytes.chunks(15) {
        serial::loop_back(Port::Com1, part);
        while serial::is_waiting(Port::Com1) {
            gosched();
        }
    }
}

/// Sends up to fifteen bytes to a serial port's own input, and waits for nothing.
pub fn loop_back(port: Port, bytes: &[u8]) {
    serial::loop_back(port, bytes);
}

/// Interrupts that the CPU of the caller has taken.
pub fn interrupts() -> u64 {
    percpu::current(&Pinned::new()).interrupts()
}

/// Interrupts that all CPUs but the caller's have taken.
pub fn interrupts_elsewhere() -> u64 {
    let pinned = Pinned::new();
    let me = m::current(&pinned);
    m::runtime().ms.iter().filter(|m| m.index != me.index).map(|m| m.block.interrupts()).sum()
}

/// Runs a function with interrupts off.
pub fn with_interrupts_off<R>(function: impl FnOnce() -> R) -> R {
    let off = IrqGuard::new();
    let result = function();
    drop(off);
    result
}

/// Keeps this CPU with interrupts off for this long, and on until a stopper has asked it by NMI where it is, but not much
/// longer than `most`. Tells its number as soon as they are off.
pub fn deaf_until_probed(length: Nanos, most: Nanos, told: &AtomicU64) {
    let _off = IrqGuard::new();
    let m = m::of_this_cpu().expect("a goroutine's CPU has an M");
    let world = &m::runtime().world;
    // The answer to an earlier NMI is none to the next.
    let last = world.number();
    // Release: the caller's flag; interrupts are off before.
    told.store(m.block.id().0.into(), Ordering::Release);
    clock::spin_for(length);
    clock::spin_until(now() + most, || world.number() > last && m.mark().probed(world.number()).is_some());
}

/// Runs a function on an interrupt stack of this CPU, in the handler of an interrupt that it sends to itself.
pub fn in_interrupt(function: fn()) {
    /// The function to call.
    static FUNCTION: spin::Mutex<Option<fn()>> = spin::Mutex::new(None);
    let pinned = Pinned::new();
    *FUNCTION.lock() = Some(function);
    idt::register(Vector(0xe0), |_| {
        let function = FUNCTION.lock().take();
        if let Some(function) = function {
            function();
        }
    });
    apic::send(Ipi::Fixed(Vector(0xe0)), Target::Myself);
    clock::spin_until(now() + Nanos(1_000_000_000), || FUNCTION.lock().is_none());
    drop(pinned);
}

/// Sets what is done about goroutines that wait for each other, by the words of the boot argument `deadlock`.
///
/// # Panics
/// When it is none of them.
pub fn on_deadlock(what: &str) {
    let choice = waits::CHOICES.iter().find(|(word, _)| *word == what);
    waits::set_on_deadlock(choice.expect("a value of the boot argument").1);
}

/// Waiters in the root of a semaphore: none if it is 0. Those of other words may be among them.
pub fn sema_nwait(word: &AtomicU32) -> u32 {
    sema::nwait(word)
}

/// Whether the waiters of two semaphores have a root in common.
pub fn share_a_sema_root(one: &AtomicU32, other: &AtomicU32) -> bool {
    let [one, other] = [one, other].map(|word| sched::sema::root_of(core::ptr::from_ref(word).addr() as u64));
    one == other
}

/// Keeps this CPU with interrupts off for ever, and says so as soon as they are.
#[inline(never)]
pub fn hang(deaf: &AtomicBool) -> ! {
    irq::disable();
    // Release: the caller's flag; interrupts are off before.
    deaf.store(true, Ordering::Release);
    loop {
        core::hint::spin_loop();
    }
}

/// Halts this CPU with an interrupt pending, and returns how many times: the interrupt has to end each halt.
pub fn halt_with_interrupt_pending(rounds: u32) -> u32 {
    let _pinned = Pinned::new();
    for _ in 0..rounds {
        irq::disable();
        apic::send(Ipi::Fixed(Vector::WAKE), Target::Myself);
        irq::enable_and_halt();
    }
    rounds
}

/// Vector that the last interrupt of [`interrupt_self`] came in with, and how many came.
static SEEN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

/// Sends this CPU an interrupt and returns how many of that vector arrived within a second: 1.
///
/// Replaces the vector's handler while it waits.
pub fn interrupt_self(vector: u8) -> u32 {
    let pinned = Pinned::new();
    SEEN[0].store(u32::from(vector), Ordering::Relaxed);
    SEEN[1].store(0, Ordering::Relaxed);
    let old = idt::registered(Vector(vector));
    idt::register(Vector(vector), |frame| {
        if frame.vector == u64::from(SEEN[0].load(Ordering::Relaxed)) {
            SEEN[1].fetch_add(1, Ordering::Release);
        }
    });
    let before = percpu::current(&pinned).interrupts();
    apic::send(Ipi::Fixed(Vector(vector)), Target::Myself);
    let deadline = Nanos(now().0 + 1_000_000_000);
    clock::spin_until(deadline, || SEEN[1].load(Ordering::Acquire) > 0);
    let handled = percpu::current(&pinned).interrupts() > before;
    idt::register(Vector(vector), old.unwrap_or(|_| {}));
    if handled { SEEN[1].load(Ordering::Acquire) } else { 0 }
}

/// An expiry of a [`TimerInPlace`].
#[derive(Debug, Clone, Copy)]
pub struct Fired {
    /// What the timer was made with.
    pub argument: u64,
    /// The time that it was set to.
    pub when: Nanos,
    /// When it came.
    pub at: Nanos,
    /// The CPU in whose heap it was.
    pub heap: usize,
}

/// A timer that calls a function where it expires: on the kernel stack, pinned, under the timer's lock. So the order of a
/// heap can be seen, and nothing is needed for each but the timer itself.
#[derive(Debug)]
pub struct TimerInPlace(Arc<Inner<InPlace>>);

#[derive(Debug)]
struct InPlace {
    function: fn(Fired),
    argument: u64,
}

impl Does for InPlace {}

impl TimerInPlace {
    /// Calls `function` at a time.
    pub fn at(when: Nanos, function: fn(Fired), argument: u64) -> Self {
        let inner = Inner::new(InPlace { function, argument });
        inner.set(when, Nanos(0));
        Self(inner)
    }

    /// Stops it. Whether it was still to expire.
    pub fn stop(&self) -> bool {
        self.0.stop()
    }

    /// Bytes of heap that an armed one takes, besides its entry in the heap of timers.
    pub const fn bytes() -> usize {
        size_of::<Inner<InPlace>>() + 2 * size_of::<usize>()
    }
}

impl Expire for Inner<InPlace> {
    fn expire(self: Arc<Self>, expired: Expired) {
        let mut setting = self.lock();
        let at = now();
        match setting.expire(&expired.key, expired.when.0, at.0) {
            Expiry::Stale => {}
            Expiry::Once | Expiry::Again(_) => {
                let InPlace { function, argument } = self.does;
                function(Fired { argument, when: expired.when, at, heap: expired.key.cpu });
            }
        }
    }
}

/// What a goroutine waits for, if it waits at this moment and has left its CPU.
pub fn waits_for(g: GoRef) -> Option<WaitReason> {
    let slot = m::runtime().slot(g.index);
    let waits = slot.status().get() == (Status::Waiting, g.generation);
    waits.then(|| slot.body().wait_reason())
}
