//! Mutual exclusion. [`sched::mutex`] decides and has the argument; here the goroutine spins, parks and is woken.

use core::cell::UnsafeCell;
use core::fmt;
use core::hint;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use machine::clock::{self, Ticks};
use machine::percpu::Pinned;
use sched::mutex::{Awake, Contender, MutexWord, Step};
use sched::sema::Order;
use sched::table::Slot;

use crate::give_way::give_way;
use crate::goroutine::Body;
use crate::m::{self, Here, M};
use crate::park::{Wait, WaitReason, current_slot};
use crate::sema;
use crate::stacks::{OwnStack, check_g_stack};
use crate::waits::{HeldBy, LockHead, LockKind, while_blocked};

/// Times that a goroutine waits awake before it sleeps, and how many pauses each takes; as Go's. It may also make room for the holder instead:
/// docs/adr/0025-make-room-for-the-holder-that-is-next.md.
const SPINS: u32 = 4;
const PAUSES: u32 = 30;

/// Takes the mutex of a lock whose head is `head`, for the goroutine that calls, on its own stack. It is the caller who names the
/// holder.
#[inline]
pub(crate) fn lock_word(word: &MutexWord, (head, me): (&LockHead, OwnStack), reason: WaitReason) {
    if !word.lock_free() {
        lock_slow(word, (head, me), reason);
    }
}

/// Gives it back; the holder's name is gone already.
#[inline]
pub(crate) fn unlock_word(word: &MutexWord) {
    if let Some(handoff) = word.unlock() {
        sema::semrelease1(word.sema(), handoff);
    }
}

/// The harder case: waits awake first, because short sections are over sooner than a goroutine is asleep.
#[cold]
fn lock_slow(word: &MutexWord, (head, goroutine): (&LockHead, OwnStack), reason: WaitReason) {
    let mut me = Contender::default();
    let Some(order) = compete(word, (head, goroutine), &mut me) else { return };
    let what = Wait { reason, on: head.address(), since: Ticks(me.since()) };
    while_blocked((head, goroutine), || sleep(word, (head, goroutine), me, order, what));
}

/// The rest of the way, from the first sleep on.
fn sleep(word: &MutexWord, named: (&LockHead, OwnStack), mut me: Contender, mut order: Order, what: Wait) {
    loop {
        sema::acquire(named.1, word.sema(), order, what);
        match word.woken(&mut me, |since| nanos(since, now())) {
            Awake::Locked => return,
            Awake::Again => {}
        }
        match compete(word, named, &mut me) {
            None => return,
            Some(again) => order = again,
        }
    }
}

/// Goes on until the contender, the goroutine that calls, has the mutex, or has to sleep, at this place in the queue.
#[inline]
fn compete(word: &MutexWord, (head, goroutine): (&LockHead, OwnStack), me: &mut Contender) -> Option<Order> {
    let mut spins = 0;
    loop {
        let mut how = Spin::Not;
        let pays = |me: &mut Contender| {
            how = if spins < SPINS { how_to_spin(head, me) } else { Spin::Not };
            !matches!(how, Spin::Not)
        };
        match word.step(me, pays, now) {
            Step::Locked => return None,
            Step::Sleep(order) => return Some(order),
            Step::Spin => spins += 1,
        }
        match how {
            Spin::Not => {}
            Spin::Pause => pause(),
            Spin::MakeRoom(pinned, m) => give_way(&pinned, Here { m, slot: goroutine.slot() }),
        }
    }
}

/// The time.
fn now() -> u64 {
    clock::rdtsc_unordered().0
}

/// How many nanoseconds lie between two times.
fn nanos(since: u64, now: u64) -> u64 {
    // Clocks of two CPUs may differ a little.
    clock::length_of(Ticks(now.saturating_sub(since))).0
}

fn pause() {
    (0..PAUSES).for_each(|_| hint::spin_loop());
}

/// How a contender waits awake.
enum Spin {
    /// It does not: it does not pay.
    Not,
    /// The holder is at work on another CPU, and nobody waits for this one.
    Pause,
    /// The holder is all that waits for this CPU: it goes on if the contender, pinned since it was found, makes room.
    MakeRoom(Pinned, &'static M),
}

fn how_to_spin(head: &LockHead, me: &mut Contender) -> Spin {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    let (rt, proc) = (m::runtime_of(m), m.proc());
    if head.holder().is_some_and(|g| proc.owner().queue().holds_only(g.index)) {
        let now = now();
        let may = me.may_make_room(now, |since| nanos(since, now));
        if may { Spin::MakeRoom(pinned, m) } else { Spin::Not }
    } else if rt.procs().len() > 1 && proc.queue().is_empty() && head.holder_runs(rt) {
        Spin::Pause
    } else {
        Spin::Not
    }
}

/// A value that one goroutine at a time has access to. Go's `sync.Mutex`, around what it guards.
///
/// Waiters are served roughly in the order in which they came, but whoever runs may be faster. One that has lost for longer
/// than a millisecond makes the mutex go from hand to hand until nobody waits for long. Not re-entrant: a goroutine that
/// locks what it has locked waits for itself, and is reported.
///
/// It is unlocked when the guard is dropped, in the goroutine that has locked it. There is no poisoning, because a panic ends
/// the machine; see [the module](crate::sync).
///
/// ```
/// use gzero::go;
/// use gzero::sync::Mutex;
///
/// static HITS: Mutex<u64> = Mutex::named("hits", 0);
///
/// go(|| *HITS.lock() += 1);
/// ```
#[repr(C)]
pub struct Mutex<T: ?Sized> {
    /// Must stay the first field.
    head: LockHead,
    word: MutexWord,
    value: UnsafeCell<T>,
}

// SAFETY: whoever has the lock has the value, alone: to share the mutex is to send the value about.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: a mutex that is sent takes its value along; nobody has locked it.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    ///
    /// ```
    /// assert_eq!(*gzero::sync::Mutex::new(5).lock(), 5);
    /// ```
    pub const fn new(value: T) -> Self {
        Self::named("", value)
    }

    /// The same with a name for reports.
    ///
    /// ```
    /// static LEFT_FORK: gzero::sync::Mutex<()> = gzero::sync::Mutex::named("left fork", ());
    ///
    /// drop(LEFT_FORK.lock());
    /// ```
    pub const fn named(name: &'static str, value: T) -> Self {
        Self {
            head: LockHead::new(LockKind::Mutex, name),
            word: MutexWord::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, when nobody else has the mutex any more. Does not wait.
    ///
    /// ```
    /// assert_eq!(gzero::sync::Mutex::new(7).into_inner(), 7);
    /// ```
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until nobody has the lock, and takes it. Go's `Mutex.Lock`.
    ///
    /// What came before an unlock is visible after the lock that follows.
    ///
    /// ```
    /// let list = gzero::sync::Mutex::new(alloc::vec::Vec::new());
    /// list.lock().push(1);
    /// let mut guard = list.lock();
    /// guard.push(2);
    /// drop(guard);
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even if the mutex is free.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let me = check_g_stack("Mutex::lock");
        self.lock_by(me)
    }

    /// [`lock`](Self::lock) for a caller that has checked the stack.
    #[inline]
    pub(crate) fn lock_by(&self, me: OwnStack) -> MutexGuard<'_, T> {
        lock_word(&self.word, (&self.head, me), WaitReason::Mutex);
        self.guard(me.slot())
    }

    /// Takes the lock if nobody has it, without waiting. Go's `Mutex.TryLock`.
    ///
    /// ```
    /// let mutex = gzero::sync::Mutex::new(0);
    /// if let Some(mut value) = mutex.try_lock() {
    ///     *value += 1;
    /// }
    /// ```
    ///
    /// # Throws
    /// When no goroutine calls. May be called on the kernel stack in a goroutine's name ([`crate::on_m`]).
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.word.try_lock().then(|| self.guard(current_slot()))
    }

    /// The guard of the goroutine that has just got the lock, in its slot.
    #[inline]
    fn guard(&self, me: &Slot<Body>) -> MutexGuard<'_, T> {
        self.head.hold(me);
        MutexGuard { mutex: self, not_send: PhantomData }
    }

    /// The value, for whoever has the mutex to himself: no lock is needed. Does not wait.
    ///
    /// ```
    /// let mut mutex = gzero::sync::Mutex::new(1);
    /// *mutex.get_mut() = 2;
    /// assert_eq!(mutex.into_inner(), 2);
    /// ```
    pub const fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Whether somebody has the lock, at about this moment. Does not wait.
    ///
    /// ```
    /// assert!(!gzero::sync::Mutex::new(0).is_locked());
    /// ```
    pub fn is_locked(&self) -> bool {
        self.word.is_locked()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("name", &self.head.name())
            .field("locked", &self.is_locked())
            .field("holder", &format_args!("{}", HeldBy(&self.head)))
            .finish_non_exhaustive()
    }
}

/// Access to the value of a [`Mutex`]; the drop unlocks it, and may wake a waiter, but does not wait.
///
/// It stays in its goroutine: reports name the one that has locked.
///
/// ```
/// let mutex = gzero::sync::Mutex::new(5);
/// let guard = mutex.lock();
/// assert_eq!(*guard, 5);
/// ```
#[must_use = "the mutex is unlocked when the guard is dropped"]
pub struct MutexGuard<'m, T: ?Sized> {
    mutex: &'m Mutex<T>,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives shared access to the value, and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'m, T: ?Sized> MutexGuard<'m, T> {
    /// The mutex that it locks.
    pub(crate) const fn mutex(&self) -> &'m Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard's owner has the lock, and lends the value for as long as the guard is lent.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is lent to one.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.head.release();
        unlock_word(&self.mutex.word);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
