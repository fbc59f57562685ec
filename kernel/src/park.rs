//! Parking and readying, in two phases, and the friendlier `park`/`unpark` on top.
//!
//! [`gopark`] moves the goroutine to `Parking` **before** it lets anybody know of it. So a [`goready`] may come at
//! any instant from then on: while the goroutine still runs, it only turns `Parking` into `Woken`, and whoever
//! arrives after the switch puts the goroutine back on a queue. There is no instant at which a ready is lost,
//! and none at which a goroutine that still stands on its stack is in a queue.

use core::fmt;
use core::sync::atomic::Ordering;

use machine::clock::{self, Ticks};
use machine::percpu::Pinned;
use sched::pick::Place;
use sched::status::Cancelled;
use sched::table::Slot;
use sched::{GoRef, Goid, Ready};

use crate::goroutine::Body;
use crate::m::{self, Here, M};
use crate::panic::{check, throw};
use crate::perform::{self, After};
use crate::stacks::{OwnStack, check_g_stack};

/// The reasons, their numbers in a goroutine's slot, and their names in reports.
macro_rules! wait_reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// What a goroutine waits for, in reports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum WaitReason {
            $($(#[$doc])* $reason,)*
        }

        impl WaitReason {
            /// All of them; each has its place as its number.
            const ALL: &[Self] = &[$(Self::$reason),*];

            /// The reason as reports give it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

wait_reasons! {
    /// It never waited.
    None = "none",
    /// [`park`].
    Park = "park",
    /// A [`Mailbox`](crate::Mailbox), full or empty.
    Mailbox = "mailbox",
    /// An interrupt of a device: only the outside can end it, so it is no deadlock.
    Device = "device",
    /// [`crate::sleep()`].
    Sleep = "sleep",
    /// A semaphore.
    Semacquire = "semacquire",
    /// It dumps the heap, while the world is stopped.
    DumpingHeap = "dumping heap",
    /// A channel without a value.
    ChanReceive = "chan receive",
    /// A channel without room.
    ChanSend = "chan send",
    /// Any of several channels.
    Select = "select",
    /// A channel that is not there: for ever.
    NilChan = "nil chan",
    /// A select without arms: for ever.
    SelectNoCases = "select (no cases)",
    /// A mutex that another goroutine holds.
    Mutex = "mutex",
    /// The right to read, while a writer has or wants the lock.
    RwMutexRead = "rwmutex read",
    /// The right to write, while others have the lock.
    RwMutexWrite = "rwmutex write",
    /// A condition variable.
    Cond = "cond",
    /// The goroutines of a wait group.
    WaitGroup = "wait group",
    /// The end of another goroutine.
    Join = "join",
    /// The goroutines of a scope.
    Scope = "scope",
    /// A value that another goroutine makes.
    Once = "once",
    /// The others at a barrier.
    Barrier = "barrier",
}

impl WaitReason {
    pub(crate) fn from_number(number: u32) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or(Self::None)
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Parks the goroutine that calls. Go's `gopark`.
///
/// `publish` gets the goroutine's handle and hands it to whoever will call [`goready`](crate::goready). It runs on the goroutine's
/// own stack, pinned to its CPU, and must not block. If it returns `false` the goroutine stays: it must then have
/// made sure that nobody will ready it, or that the one who did is done.
///
/// Returns when somebody has readied the goroutine, perhaps on another CPU.
///
/// ```
/// use gzero::{GoRef, WaitReason, go, gopark, goready};
///
/// // A wait of one's own making: the handle goes to the one that ends it.
/// gopark(WaitReason::Park, |me: GoRef| {
///     // SAFETY: the handle is that of this wait, and nobody else has it.
///     go(move || unsafe { goready(me) });
///     true
/// });
/// assert_eq!(WaitReason::Park.name(), "park");
/// ```
///
/// # Throws
/// When not called on a goroutine's own stack, or from inside another `publish`; with a lock of the runtime held.
#[track_caller]
pub fn gopark(reason: WaitReason, publish: impl FnOnce(GoRef) -> bool) {
    let own = check_g_stack("gopark");
    gopark_on(own, Wait { reason, on: 0, since: clock::rdtsc_unordered() }, publish);
}

/// A wait, for reports, and for who waits for the same once more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    pub(crate) reason: WaitReason,
    /// Address of what it is for; 0 if it is for no one thing.
    pub(crate) on: u64,
    /// When it began, by the TSC: it may consist of several parks.
    pub(crate) since: Ticks,
}

/// [`gopark`] with more for reports.
#[inline]
pub(crate) fn gopark_on(own: OwnStack, wait: Wait, publish: impl FnOnce(GoRef) -> bool) {
    let pinned = Pinned::new();
    gopark_here(&pinned, own.here(&pinned), wait, publish);
}

/// [`gopark_on`], for who holds a pin, which is the only one when `publish` has returned. It is that of the CPU on which the goroutine goes on,
/// afterwards: perhaps another than that of `m`.
#[expect(
    clippy::inline_always,
    reason = "a call costs as much as a part of the whole, and each caller has one"
)]
#[inline(always)]
pub(crate) fn gopark_here(
    pinned: &Pinned,
    Here { m, slot }: Here,
    wait: Wait,
    publish: impl FnOnce(GoRef) -> bool,
) {
    slot.body().set_wait(wait);
    let generation = check(slot.status().begin_park());
    if publish(GoRef { index: slot.index(), generation }) {
        perform::leave_parking(pinned, m, slot);
    } else {
        // Also when there is nothing to wait for: a wrong call fails each time.
        perform::check_may_leave(m);
        let (Cancelled::Unwoken | Cancelled::Woken) = check(slot.status().cancel_park());
    }
}

/// Leaves the goroutine's stack for the kernel stack and calls `function` there. Go's `mcall`.
///
/// It does not come back by return: the goroutine waits, and goes on when somebody [readies](crate::goready) the handle that
/// the function gets, once; if nobody does, it waits for ever. The function runs on the scheduler loop's stack, pinned to the CPU, and must not block.
///
/// ```
/// // What `gosched` would do: the function runs on the kernel stack.
/// // SAFETY: the handle is that of this wait, and nobody else has it.
/// gzero::mcall(|me| unsafe { gzero::goready(me) });
/// ```
///
/// # Throws
/// When not called on a goroutine's own stack; with a lock of the runtime held.
#[track_caller]
pub fn mcall(function: fn(GoRef)) {
    let pinned = Pinned::new();
    let Here { m, slot } = check_g_stack("mcall").here(&pinned);
    perform::check_may_leave(m);
    slot.body().set_wait(Wait { reason: WaitReason::None, on: 0, since: clock::rdtsc_unordered() });
    check(slot.status().begin_park());
    m.set_mcall(function);
    perform::leave(&pinned, m, slot, After::Mcall, None);
}

/// Makes a parked goroutine runnable, on the CPU that calls: [`crate::goready`], for the kernel, each of whose waits argues
/// who readies it.
///
/// # Throws
/// When the goroutine does not wait, or has ended.
pub(crate) fn goready(g: GoRef) {
    let pinned = Pinned::new();
    ready_pinned(&pinned, g);
}

/// [`goready`], for who is pinned already.
pub(crate) fn ready_pinned(pinned: &Pinned, g: GoRef) {
    ready_on(m::current(pinned), g);
}

/// [`goready`], for who is pinned already and knows its CPU's M.
#[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
#[inline(always)]
pub(crate) fn ready_on(m: &'static M, g: GoRef) {
    let slot = m::runtime_of(m).slot(g.index);
    match check(slot.status().ready(g.generation)) {
        Ready::Enqueue => perform::enqueue(m, slot, Place::Next),
        Ready::AlreadyUp => {}
    }
}

/// For a wait that has not got what it was for: somebody has called [`crate::goready`] who did not owe it.
///
/// What the goroutine waited in knows it still, and will ready it or use its stack, so it must not go on.
#[cold]
pub(crate) fn readied_by_something_else(reason: WaitReason) -> ! {
    throw(format_args!("{reason}: the goroutine was readied by something else"))
}

/// Parks for an interrupt of a device, which nobody has registered for yet: for ever.
///
/// Other goroutines run on, and when there are none all CPUs sleep; that is no deadlock, because the outside may still wake the machine.
///
/// ```
/// gzero::go(|| gzero::park_for_devices());
/// ```
pub fn park_for_devices() -> ! {
    loop {
        m::runtime().awake.begin_device_wait();
        gopark(WaitReason::Device, |_| true);
        m::runtime().awake.end_device_wait();
    }
}

/// The token of `park` and `unpark`: nothing, …
const EMPTY: u32 = 0;
/// … an unpark that nobody has taken yet, …
const NOTIFIED: u32 = 1;
/// … or a goroutine that waits for one.
const PARKED: u32 = 2;

/// Waits until somebody calls [`unpark`] with this goroutine's handle.
///
/// Returns at once if that happened since the last `park`. The semantics of `std::thread::park`: it may also return without cause, so callers check in a
/// loop what they wait for.
///
/// What happens before `unpark` is visible after the `park` that it ends.
///
/// ```
/// use gzero::{current, go, park, unpark};
/// use core::sync::atomic::{AtomicBool, Ordering};
///
/// static DONE: AtomicBool = AtomicBool::new(false);
/// let me = current();
/// go(move || {
///     DONE.store(true, Ordering::Relaxed);
///     unpark(me);
/// });
/// while !DONE.load(Ordering::Relaxed) {
///     park();
/// }
/// ```
///
/// # Throws
/// When not called on a goroutine's own stack.
#[track_caller]
pub fn park() {
    check_g_stack("park");
    let token = &m::runtime().slot(current().index).body().token;
    // Acquire: pairs with the Release in `unpark`.
    if token.swap(EMPTY, Ordering::Acquire) == NOTIFIED {
        return;
    }
    gopark(WaitReason::Park, |_| {
        // Fails when an unpark came since: then there is nothing to wait for.
        token.compare_exchange(EMPTY, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    });
    // An unpark has stored EMPTY or NOTIFIED; either is used up now. Acquire: as above.
    token.swap(EMPTY, Ordering::Acquire);
}

/// Ends the current or the next [`park`] of a goroutine. Several calls before that count as one.
///
/// Returns `false`, and does nothing, if the goroutine has ended.
///
/// ```
/// // The token is kept until somebody takes it.
/// assert!(gzero::unpark(gzero::current()));
/// gzero::park();
/// ```
pub fn unpark(g: GoRef) -> bool {
    let rt = m::runtime();
    // Until the ready: from the swap on nobody else can ready it. And from the look on the slot's memory stays: see `slots.rs`.
    let pinned = Pinned::new();
    let Some(slot) = rt.table.get(g) else { return false };
    // Release: pairs with the Acquire in `park`.
    if slot.body().token.swap(NOTIFIED, Ordering::AcqRel) != PARKED {
        return true;
    }
    // Whoever takes PARKED away owes a ready to the goroutine that put it there. If the slot has changed hands since
    // the look above, that is another one, for which this `park` ends without cause; it cannot be gone, because
    // only this ready lets it go on.
    let (_, generation) = slot.status().get();
    match check(slot.status().ready(generation)) {
        Ready::Enqueue => perform::enqueue(m::current(&pinned), slot, Place::Next),
        Ready::AlreadyUp => {}
    }
    true
}

/// The slot of the goroutine that calls.
///
/// # Throws
/// When no goroutine calls.
pub(crate) fn current_slot() -> &'static Slot<Body> {
    m::current_slot(&Pinned::new())
}

/// The handle of the goroutine that calls.
///
/// ```
/// assert_eq!(gzero::current(), gzero::current());
/// ```
///
/// # Throws
/// When no goroutine calls.
pub fn current() -> GoRef {
    current_slot().handle()
}

/// The number of the goroutine that calls: the one in reports. Unique, never used again.
///
/// ```
/// gzero::println!("this is goroutine {}", gzero::goid());
/// ```
///
/// # Throws
/// When no goroutine calls.
pub fn goid() -> Goid {
    let g = current();
    match m::runtime().goid(g.index) {
        Some(goid) => goid,
        None => throw(format_args!("the running goroutine in slot {} has no number", g.index.get())),
    }
}
