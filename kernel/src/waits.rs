//! Who holds the lock that a goroutine waits for, and rings of goroutines that wait for each other.
//!
//! [`sched::blocked`] has the argument why a ring that is found is one, and why it is found. Here are the words: a lock of
//! goroutines begins with a [`LockHead`] that names its holder, and a goroutine that has to wait says so in its slot
//! ([`while_blocked`]) and looks whether that has closed a ring. The look costs one step as long as the holder does not wait
//! for a lock itself.
//!
//! A walk reads the words of locks that may be gone by then, for instance with the memory that they were in. So it reads
//! them through the window on physical memory, where nothing faults ([`paging::peek`]), and `sched::blocked` says why what
//! comes of a dead lock is thrown away.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use machine::console;
use machine::paging;
use sched::blocked::{self, Blocked, Number, Waiter, Waits};
use sched::table::Slot;
use sched::{GoIndex, GoRef, Status};

use crate::goroutine::Body;
use crate::m;
use crate::panic::{Named, fatal};
use crate::park::current;
use crate::runtime::Runtime;
use crate::stacks::OwnStack;

/// The longest ring that a goroutine looks for when it has to wait: more hops would cost all who wait behind a long chain.
const MOST_WHEN_BLOCKED: u32 = 64;

/// The longest ring that is looked for when all goroutines are asleep.
pub(crate) const MOST_ASLEEP: u32 = 10_000;

/// What is done about a ring of goroutines that wait for each other's locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum OnDeadlock {
    /// It is printed, and the others run on.
    Report,
    /// It is a fatal error: exit code 2.
    Fatal,
    /// Nobody looks.
    Off,
}

/// The values of the boot argument `deadlock`.
pub(crate) const CHOICES: [(&str, OnDeadlock); 3] =
    [("report", OnDeadlock::Report), ("fatal", OnDeadlock::Fatal), ("off", OnDeadlock::Off)];

/// What is done, by number.
static ON_DEADLOCK: AtomicU32 = AtomicU32::new(OnDeadlock::Report as u32);

/// Sets what is done about rings.
pub(crate) fn set_on_deadlock(what: OnDeadlock) {
    // Relaxed, here and below: a number of its own.
    ON_DEADLOCK.store(what as u32, Ordering::Relaxed);
}

fn on_deadlock() -> OnDeadlock {
    let number = ON_DEADLOCK.load(Ordering::Relaxed);
    CHOICES.iter().map(|(_, what)| *what).find(|what| *what as u32 == number).unwrap_or(OnDeadlock::Report)
}

/// What a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    Mutex,
    RwMutex,
    Once,
}

impl LockKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::RwMutex => "rwmutex",
            Self::Once => "once",
        }
    }
}

/// What reports know of a lock. The first field of each lock, whose address is the lock's.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct LockHead {
    /// The goroutine that holds it, as [`blocked::pack`] names it. Must stay the first field. Of a lock for readers and a
    /// writer it is the writer.
    holder: AtomicU64,
    name: &'static str,
    kind: LockKind,
}

impl LockHead {
    pub(crate) const fn new(kind: LockKind, name: &'static str) -> Self {
        Self { holder: AtomicU64::new(0), name, kind }
    }

    /// The goroutine in this slot, which calls, has got the lock.
    #[inline]
    pub(crate) fn hold(&self, me: &Slot<Body>) {
        // Relaxed: its next `Blocked::begin` releases it to those who ask.
        self.holder.store(blocked::pack(me.handle()), Ordering::Relaxed);
    }

    /// It is about to give the lock away.
    #[inline]
    pub(crate) fn release(&self) {
        // Relaxed: giving it away releases it.
        self.holder.store(0, Ordering::Relaxed);
    }

    /// Whether the goroutine that calls holds the lock.
    pub(crate) fn is_mine(&self) -> bool {
        // Relaxed: its own store, or another's.
        self.holder.load(Ordering::Relaxed) == blocked::pack(current())
    }

    /// Who holds it, at about this moment.
    pub(crate) fn holder(&self) -> Option<GoRef> {
        // Relaxed: a hint.
        blocked::unpack(self.holder.load(Ordering::Relaxed))
    }

    /// Whether the holder has a CPU, or nobody is known to hold it: then it may be free soon.
    pub(crate) fn holder_runs(&self, rt: &Runtime) -> bool {
        let has_cpu = |g| rt.table.get(g).is_some_and(|slot| slot.status().get().0 == Status::Running);
        self.holder().is_none_or(has_cpu)
    }

    pub(crate) fn address(&self) -> u64 {
        core::ptr::from_ref(self).expose_provenance() as u64
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn kind(&self) -> LockKind {
        self.kind
    }
}

impl fmt::Display for LockHead {
    /// `mutex "accounts" at 0x…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if !self.name.is_empty() {
            write!(f, " \"{}\"", self.name)?;
        }
        write!(f, " at {:#x}", self.address())
    }
}

/// The slots and locks of this machine.
pub(crate) struct World(&'static Runtime);

impl World {
    pub(crate) fn new() -> Self {
        Self(m::runtime())
    }
}

impl Waits for World {
    fn blocked(&self, g: GoRef) -> Option<&Blocked> {
        Some(&self.0.table.get(g)?.body().blocked)
    }

    fn holder(&self, lock: u64) -> Option<u64> {
        load(lock)
    }
}

/// A word that may be gone.
fn load(address: u64) -> Option<u64> {
    let word = paging::peek(address);
    // A load of this machine is an `Acquire` load; the fence tells the compiler.
    fence(Ordering::Acquire);
    word
}

/// Waits for a lock: tells others so, looks whether that closes a ring, and calls `wait`, which returns when the goroutine
/// that calls has got the lock.
#[cold]
pub(crate) fn while_blocked<R>((lock, own): (&LockHead, OwnStack), wait: impl FnOnce() -> R) -> R {
    let me = own.slot();
    let (g, blocked) = (me.handle(), &me.body().blocked);
    let number = blocked.begin(lock.address());
    match on_deadlock() {
        OnDeadlock::Off => {}
        what @ (OnDeadlock::Report | OnDeadlock::Fatal) => look(Waiter { g, number }, what),
    }
    let result = wait();
    blocked.end();
    result
}

/// Looks for a ring that begins at the goroutine that calls.
fn look(me: Waiter, what: OnDeadlock) {
    let Some(ring) = Ring::at(me, MOST_WHEN_BLOCKED).filter(Ring::is_new) else { return };
    match what {
        OnDeadlock::Fatal => fatal(format_args!("deadlock: {ring}")),
        OnDeadlock::Report | OnDeadlock::Off => console::write_fmt(format_args!("deadlock: {ring}\n")),
    }
}

/// Goroutines each of which waits for a lock that the next one holds, and the last for one of the first. They wait for ever.
pub(crate) struct Ring {
    first: Waiter,
    length: u32,
}

impl Ring {
    /// The ring that a wait is in, if it has no more members than `most`: of the goroutine that calls, or in a world that
    /// stands still.
    pub(crate) fn at(first: Waiter, most: u32) -> Option<Self> {
        blocked::ring(&World::new(), first, most).map(|length| Self { first, length })
    }

    /// All rings, of any length, in a world that stands still. Each begins with the lowest slot.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let rt = m::runtime();
        let waiters: Vec<Waiter> = rt.table.iter().filter_map(|(g, _)| wait_of(rt, g)).collect();
        let rings = blocked::rings(&World::new(), &waiters);
        rings.into_iter().map(|(first, length)| Self { first, length })
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = Waiter> + use<> {
        let mut next = Some(self.first);
        let length = usize::try_from(self.length).unwrap_or(0);
        let each = core::iter::from_fn(move || {
            let here = next?;
            next = blocked::hop(&World::new(), here);
            Some(here)
        });
        each.take(length)
    }

    /// Whether the first member has the lowest slot of all: one of the members does.
    pub(crate) fn begins_lowest(&self) -> bool {
        self.members().all(|member| member.g.index.get() >= self.first.g.index.get())
    }

    /// Whether it has not been reported, which it then is, by the caller.
    ///
    /// The member in the lowest slot is marked: the same for all who find the ring, and in that wait for ever.
    fn is_new(&self) -> bool {
        let lowest = self.members().min_by_key(|member| member.g.index.get()).unwrap_or(self.first);
        let reported = &m::runtime().slot(lowest.g.index).body().reported;
        // Relaxed: one of the swaps is the first, and no other memory depends on it.
        reported.swap(lowest.number, Ordering::Relaxed) != lowest.number
    }
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length {
            1 => f.write_str("a goroutine waits for itself")?,
            length => write!(f, "{length} goroutines wait for each other in a ring")?,
        }
        let mut holds = self.members().last().and_then(lock_of);
        for member in self.members() {
            let waits = lock_of(member);
            write!(f, "\n  {}", Named(member.g.index.get()))?;
            if let Some(lock) = holds {
                write!(f, " holds {lock},")?;
            }
            if let Some(lock) = waits {
                write!(f, " waits for {lock}, {}", HeldBy(lock))?;
            }
            holds = waits;
        }
        Ok(())
    }
}

/// The lock of a wait that goes on: of a member of a ring, or while nobody runs.
pub(crate) fn lock_of(waiter: Waiter) -> Option<&'static LockHead> {
    let blocked = &m::runtime().table.get(waiter.g)?.body().blocked;
    let head: *const LockHead = machine::address::at(blocked.on());
    // SAFETY: the goroutine waits and will not go on before the caller is done, so that the lock is borrowed by it; `on` is
    // the address of its head. `is_at` below is for callers who are wrong about that.
    blocked.is_at(waiter.number).then(|| unsafe { &*head })
}

/// The wait of a goroutine for a lock.
pub(crate) fn wait_of(rt: &Runtime, index: GoIndex) -> Option<Waiter> {
    let number: Number = rt.slot(index).body().blocked.number()?;
    Some(Waiter { g: rt.table.handle(index), number })
}

/// Who holds a lock.
pub(crate) struct HeldBy<'l>(pub(crate) &'l LockHead);

impl HeldBy<'_> {
    /// The holder.
    pub(crate) fn holder(&self) -> Option<GoRef> {
        self.0.holder()
    }
}

impl fmt::Display for HeldBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(g) = self.holder() else {
            return f.write_str(match self.0.kind {
                LockKind::RwMutex => "held by readers",
                LockKind::Mutex | LockKind::Once => "held by nobody",
            });
        };
        let rt = m::runtime();
        let (status, generation) = rt.slot(g.index).status().get();
        if rt.table.get(g).is_some() {
            write!(f, "held by {}", Named(g.index.get()))
        } else if status == Status::Dead && generation == g.generation.wrapping_add(1) {
            // Its number stays in the slot until the next one is born there, or the slot's memory goes.
            write!(f, "held by {}, which has ended", Named(g.index.get()))
        } else {
            f.write_str("held by a goroutine that has ended")
        }
    }
}
