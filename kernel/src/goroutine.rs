//! What the kernel keeps of a goroutine in its table slot.

use core::cell::UnsafeCell;
use core::ops::Deref;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::park::{Wait, WaitReason};
use machine::address::{at, size};
use machine::clock::{self, Nanos, Ticks};
use machine::context::Context;
use machine::frames::FRAME_SIZE;
use machine::paging::SLOTS;
use machine::stack::{self, MAX_STACKS, Size, StackId};
use sched::blocked::Blocked;
use sched::claim::Claim;
use sched::join::JoinWord;
use sched::latch::Latch;
use sched::link::Linked;
use sched::sudog::Sudog;
use sched::table::{Slot, Table};
use sched::{GoIndex, Status, SudogIndex};

/// A sudog, and how lists name it.
pub(crate) type Named = (SudogIndex, &'static Sudog);

/// The kernel's part of a slot. Goroutine number i of the table runs on one of the two stacks of number i.
#[derive(Debug)]
pub(crate) struct Body {
    /// Written by the CPU that leaves the goroutine's stack, read by the one that goes on with it; the status
    /// word hands it over.
    context: UnsafeCell<Context>,
    /// Which of its stacks have their first page, which of them it uses, and how far they have grown. Changed while the slot is dead, by its owner; how far also by the page-fault handler.
    stacks: AtomicU32,
    /// `park`'s token: see `park.rs`.
    pub(crate) token: AtomicU32,
    /// Who ends a wait that several may end. It goes on counting from one goroutine in the slot to the next.
    pub(crate) claim: Claim,
    /// The sudog by which the goroutine waits, if it waits for one thing. For the goroutine itself, and kept for the next one in the slot.
    /// Its index is in `sudog_index`, as a word; 0: there is none yet.
    sudog: AtomicPtr<Sudog>,
    sudog_index: AtomicU32,
    wait_reason: AtomicU32,
    /// Address of what it waits for; 0 if that is no one thing.
    waits_on: AtomicU64,
    /// When the goroutine began to wait, by the TSC.
    wait_since: AtomicU64,
    /// The lock that it waits for.
    pub(crate) blocked: Blocked,
    /// The number of its last wait in a ring that was reported, if it was the lowest there; see `waits.rs`.
    pub(crate) reported: AtomicU64,
    name: AtomicU64,
    /// Between the goroutine and its handle.
    pub(crate) join: JoinWord,
    /// Address of the latch of the scope that it belongs to; 0 for none. Written before the goroutine starts, and by itself.
    scope: AtomicU64,
    /// The first of its local values; see `local.rs`. For the goroutine itself.
    locals: UnsafeCell<*mut Local>,
    /// Bytes of stack that it may use; 0 for all of it. Changed only while the slot is dead, by its owner.
    stack_limit: AtomicU32,
    /// Calls of `lock_os_thread` that are not undone.
    os_locks: AtomicU32,
    /// The [word](GoIndex::word) of the slot's index, by which any queue takes it; or [`WIRED`] and the CPU that it is locked to. 0 while
    /// the memory is away.
    queued_as: AtomicU32,
}

/// The bit of `Body::queued_as` that no index has.
const WIRED: u32 = 1 << 31;

const _: () = assert!(MAX_STACKS < WIRED as u64, "each goroutine has a stack of its number");

/// Bits of `Body::stacks`: the usual stack has its first page, …
const USUAL_BORN: u32 = 1 << 0;
/// … the large one has, …
const LARGE_BORN: u32 = 1 << 1;
const BORN: u32 = USUAL_BORN | LARGE_BORN;
/// … the large one is used, …
const LARGE: u32 = 1 << 2;
/// … and a byte for each: the most pages that the usual one has come to have, if it was more than one, …
const USUAL_SHIFT: u32 = 8;
/// … and the large one.
const LARGE_SHIFT: u32 = 16;
const PAGES: u32 = 0xff << USUAL_SHIFT | 0xff << LARGE_SHIFT;

/// Where the pages of the stack that is used are in `Body::stacks`.
#[inline]
const fn pages_shift(stacks: u32) -> u32 {
    if stacks & LARGE == 0 { USUAL_SHIFT } else { LARGE_SHIFT }
}

/// A value that belongs to one goroutine, and the one that was made before it. The value follows in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    pub(crate) key: usize,
    pub(crate) next: *mut Self,
    /// Drops the value and frees both.
    pub(crate) drop: unsafe fn(*mut Self),
}

// SAFETY: `context` has one user at a time, by the status machine: who moves a goroutine from runnable to running
// owns it until the goroutine has left that CPU again. `locals` is used by the goroutine alone.
unsafe impl Sync for Body {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Body {}

impl Body {
    pub(crate) fn new(g: GoIndex) -> Self {
        Self {
            context: UnsafeCell::new(Context::NONE),
            stacks: AtomicU32::new(0),
            token: AtomicU32::new(0),
            claim: Claim::new(),
            sudog: AtomicPtr::new(core::ptr::null_mut()),
            sudog_index: AtomicU32::new(0),
            wait_reason: AtomicU32::new(0),
            waits_on: AtomicU64::new(0),
            wait_since: AtomicU64::new(0),
            blocked: Blocked::new(),
            reported: AtomicU64::new(0),
            name: AtomicU64::new(0),
            join: JoinWord::new(),
            scope: AtomicU64::new(0),
            locals: UnsafeCell::new(core::ptr::null_mut()),
            stack_limit: AtomicU32::new(0),
            os_locks: AtomicU32::new(0),
            queued_as: AtomicU32::new(g.word()),
        }
    }

    /// The goroutine's own sudog. For the goroutine itself, or who has a slot that nobody uses.
    #[inline]
    pub(crate) fn sudog(&self) -> Option<Named> {
        // Relaxed, here and below: the status word hands it from one goroutine in the slot to the next.
        let s = SudogIndex::in_word(self.sudog_index.load(Ordering::Relaxed))?;
        // SAFETY: where there is an index, there is a reference that lives for ever (`set_sudog`).
        let sudog: &'static Sudog = unsafe { &*self.sudog.load(Ordering::Relaxed) };
        Some((s, sudog))
    }

    /// Sets it, or takes it away. For the goroutine itself, or who has a slot that nobody uses.
    pub(crate) fn set_sudog(&self, sudog: Option<Named>) {
        if let Some((_, sudog)) = sudog {
            self.sudog.store(core::ptr::from_ref(sudog).cast_mut(), Ordering::Relaxed);
        }
        self.sudog_index.store(sudog.map_or(0, |(s, _)| s.word()), Ordering::Relaxed);
    }

    /// Makes the body of the dead slot `g` of zeros, which are what most of it is. For who owns the slot.
    pub(crate) fn revive(&self, g: GoIndex, wait: u32) {
        self.queued_as.store(g.word(), Ordering::Relaxed);
        self.claim.revive(wait);
        self.join.revive();
    }

    /// The CPU that the goroutine is locked to, as an index into `Runtime::ms`.
    pub(crate) fn wired_to(&self) -> Option<usize> {
        // Relaxed: written by the goroutine itself; the status word hands it to whoever enqueues it.
        let word = self.queued_as.load(Ordering::Relaxed);
        (word & WIRED != 0).then_some((word & !WIRED) as usize)
    }

    /// The slot's index, unless the goroutine is locked to a CPU. By one look: each switch needs it.
    #[inline]
    pub(crate) fn index_if_free(&self) -> Option<GoIndex> {
        // Relaxed: as in `wired_to`.
        let word = self.queued_as.load(Ordering::Relaxed);
        if word & WIRED == 0 { GoIndex::in_word(word) } else { None }
    }

    /// Locks it to a CPU once more. Says whether the count had room. For the goroutine itself, pinned.
    pub(crate) fn wire(&self, m: usize) -> bool {
        let Some(locks) = self.os_locks.load(Ordering::Relaxed).checked_add(1) else { return false };
        self.os_locks.store(locks, Ordering::Relaxed);
        let m = u32::try_from(m).expect("CPUs are few");
        self.queued_as.store(WIRED | m, Ordering::Relaxed);
        true
    }

    /// Undoes one [`wire`](Self::wire) of the goroutine in the slot `g`, which is this one; does nothing without one.
    pub(crate) fn unwire_once(&self, g: GoIndex) {
        match self.os_locks.load(Ordering::Relaxed) {
            0 => {}
            1 => self.unwire(g),
            locks => self.os_locks.store(locks - 1, Ordering::Relaxed),
        }
    }

    /// Whether it is locked to a CPU.
    #[inline]
    pub(crate) fn is_wired(&self) -> bool {
        // Relaxed: as in `wired_to`.
        self.os_locks.load(Ordering::Relaxed) > 0
    }

    /// Undoes all of them.
    #[cold]
    pub(crate) fn unwire(&self, g: GoIndex) {
        self.os_locks.store(0, Ordering::Relaxed);
        self.queued_as.store(g.word(), Ordering::Relaxed);
    }

    pub(crate) fn context(&self) -> *mut Context {
        self.context.get()
    }

    /// The saved context, for reports. Of a goroutine that runs it is an old one, and one that somebody continues
    /// meanwhile has moved on: it shows where to look, and is never continued.
    pub(crate) fn context_for_report(&self) -> Context {
        // SAFETY: the word is always initialised; a volatile read of one word gets an old value or a new one.
        unsafe { self.context.get().read_volatile() }
    }

    /// Says what the goroutine is about to wait for, and since when it does.
    pub(crate) fn set_wait(&self, wait: Wait) {
        // Relaxed: for reports, and for the goroutine itself.
        self.wait_reason.store(wait.reason as u32, Ordering::Relaxed);
        self.waits_on.store(wait.on, Ordering::Relaxed);
        self.wait_since.store(wait.since.0, Ordering::Relaxed);
    }

    pub(crate) fn wait_reason(&self) -> WaitReason {
        WaitReason::from_number(self.wait_reason.load(Ordering::Relaxed))
    }

    /// Address of what it waits for; 0 if that is no one thing.
    pub(crate) fn waits_on(&self) -> u64 {
        self.waits_on.load(Ordering::Relaxed)
    }

    /// When its last wait began.
    pub(crate) fn wait_since(&self) -> Nanos {
        clock::time_of(Ticks(self.wait_since.load(Ordering::Relaxed)))
    }

    /// Its last wait, as it has set it. For the goroutine itself.
    pub(crate) fn wait(&self) -> Wait {
        // Relaxed: its own; what moves it to another CPU orders that.
        let since = Ticks(self.wait_since.load(Ordering::Relaxed));
        Wait { reason: self.wait_reason(), on: self.waits_on(), since }
    }

    /// The place of its local values, for the goroutine itself.
    pub(crate) fn locals(&self) -> *mut *mut Local {
        self.locals.get()
    }

    /// Sets the scope whose latch counts the goroutine, for who prepares a dead slot.
    pub(crate) fn set_scope(&self, latch: Option<&Latch>) {
        // Relaxed: the status word hands it to the goroutine.
        self.scope.store(
            latch.map_or(0, |latch| core::ptr::from_ref(latch).expose_provenance() as u64),
            Ordering::Relaxed,
        );
    }

    /// Takes the latch that counts the goroutine, for the goroutine itself.
    pub(crate) fn take_scope(&self) -> Option<*const Latch> {
        // Relaxed, twice: the goroutine's own.
        match self.scope.load(Ordering::Relaxed) {
            0 => None,
            address => {
                self.scope.store(0, Ordering::Relaxed);
                Some(at::<Latch>(address).cast_const())
            }
        }
    }

    /// The stack that the goroutine in the slot `g`, which is this one, uses or has used last.
    pub(crate) fn stack(&self, g: GoIndex) -> StackId {
        // Relaxed, here and below: as for `stack_limit`.
        let is_large = self.stacks.load(Ordering::Relaxed) & LARGE != 0;
        StackId::new(g.get(), if is_large { Size::Large } else { Size::Usual })
    }

    /// Chooses the stack for the next life, for who prepares a dead slot. Says whether it has its first page.
    pub(crate) fn choose_stack(&self, size: Size) -> bool {
        let stacks = self.stacks.load(Ordering::Relaxed);
        let (large, born) = match size {
            Size::Usual => (0, USUAL_BORN),
            Size::Large => (LARGE, LARGE_BORN),
        };
        self.stacks.store(stacks & (BORN | PAGES) | large, Ordering::Relaxed);
        stacks & born != 0
    }

    /// Notes that the chosen stack has its first page.
    pub(crate) fn stack_is_born(&self) {
        let stacks = self.stacks.load(Ordering::Relaxed);
        let born = if stacks & LARGE == 0 { USUAL_BORN } else { LARGE_BORN };
        self.stacks.store(stacks | born, Ordering::Relaxed);
    }

    /// Notes how many pages the stack has, more than the one with which it began. In the page-fault handler, for the goroutine that runs.
    pub(crate) fn stack_has_grown(&self, pages: u32) {
        if self.grown_pages() < pages {
            self.set_grown_pages(pages);
        }
    }

    /// Notes that the stack has no more pages than so many any more. While the slot is dead, by its owner.
    pub(crate) fn stack_has_shrunk(&self, pages: u32) {
        if self.grown_pages() > pages {
            self.set_grown_pages(pages);
        }
    }

    fn set_grown_pages(&self, pages: u32) {
        let stacks = self.stacks.load(Ordering::Relaxed);
        let shift = pages_shift(stacks);
        self.stacks.store(stacks & !(0xff << shift) | pages.min(0xff) << shift, Ordering::Relaxed);
    }

    /// How many pages its stack has, for this goroutine or for one before it; 0 when it is as it began.
    #[inline]
    pub(crate) fn grown_pages(&self) -> u32 {
        let stacks = self.stacks.load(Ordering::Relaxed);
        // Almost always neither has grown.
        if stacks & PAGES == 0 { 0 } else { stacks >> pages_shift(stacks) & 0xff }
    }

    /// Notes that no stack of a dead slot has a page any more.
    pub(crate) fn no_stack_is_born(&self) {
        self.stacks.store(0, Ordering::Relaxed);
    }

    /// The stacks of the slot `g`, which is this one, that have pages.
    pub(crate) fn mapped_stacks(&self, g: GoIndex) -> impl Iterator<Item = StackId> {
        let stacks = self.stacks.load(Ordering::Relaxed);
        let all = [(USUAL_BORN, Size::Usual), (LARGE_BORN, Size::Large)];
        all.into_iter()
            .filter(move |(bit, _)| stacks & bit != 0)
            .map(move |(_, size)| StackId::new(g.get(), size))
    }

    /// Whether its usual stack has one page, and the large one none: as that of almost every goroutine.
    #[inline]
    pub(crate) fn has_one_page(&self) -> bool {
        self.stacks.load(Ordering::Relaxed) == USUAL_BORN
    }

    /// Pages of all its stacks, as they were noted.
    pub(crate) fn stack_pages(&self, g: GoIndex) -> u64 {
        let stacks = self.stacks.load(Ordering::Relaxed);
        let pages = |(bit, shift, size)| match stacks >> shift & 0xff {
            _ if stacks & bit == 0 => 0,
            0 => 1,
            // As many or more.
            0xff => stack::mapped_pages(StackId::new(g.get(), size)),
            pages => pages.into(),
        };
        pages((USUAL_BORN, USUAL_SHIFT, Size::Usual)) + pages((LARGE_BORN, LARGE_SHIFT, Size::Large))
    }

    /// Bytes of the pages of all its stacks. Looks at each.
    pub(crate) fn stack_bytes(&self, g: GoIndex) -> u64 {
        let stacks = self.stacks.load(Ordering::Relaxed);
        if stacks & PAGES == 0 {
            return u64::from((stacks & BORN).count_ones()) * FRAME_SIZE;
        }
        self.mapped_stacks(g).map(|stack| stack::mapped_pages(stack) * FRAME_SIZE).sum()
    }

    /// Bytes of stack that the goroutine may use; 0 for all of it.
    pub(crate) fn stack_limit(&self) -> u32 {
        // Relaxed: the status word hands it to the CPU that runs the goroutine, whose page faults ask.
        self.stack_limit.load(Ordering::Relaxed)
    }

    /// Sets it, for who prepares a dead slot.
    pub(crate) fn set_stack_limit(&self, bytes: u32) {
        self.stack_limit.store(bytes, Ordering::Relaxed);
    }

    /// Sets the name, shortened to 65,535 bytes.
    pub(crate) fn set_name(&self, name: &'static str) {
        // Relaxed: one word, so a report on another CPU sees one name or the other.
        self.name.store(pack(name), Ordering::Relaxed);
    }

    /// The name; empty if it has none.
    pub(crate) fn name(&self) -> &'static str {
        unpack(self.name_word())
    }

    /// The name as a number; 0 if it has none.
    pub(crate) fn name_word(&self) -> u64 {
        self.name.load(Ordering::Relaxed)
    }
}

const ADDRESS_BITS: u32 = 48;

/// Address and length in one word: kernel addresses have 48 significant bits, sign-extended.
fn pack(name: &'static str) -> u64 {
    if name.is_empty() {
        return 0;
    }
    let length = name.floor_char_boundary(usize::from(u16::MAX)) as u64;
    length << ADDRESS_BITS | name.as_ptr().expose_provenance() as u64 & ((1 << ADDRESS_BITS) - 1)
}

/// The name that [`pack`] has made a word of: only such words, and 0, are given.
pub(crate) fn unpack(word: u64) -> &'static str {
    let length = size(word >> ADDRESS_BITS);
    if length == 0 {
        return "";
    }
    let address = ((word << (64 - ADDRESS_BITS)).cast_signed() >> (64 - ADDRESS_BITS)).cast_unsigned();
    let start: *const u8 = at(address);
    // SAFETY: the word was packed from a string that lives for ever, and is not longer than that.
    let bytes = unsafe { core::slice::from_raw_parts(start, length) };
    // SAFETY: the string was cut at a character boundary.
    unsafe { str::from_utf8_unchecked(bytes) }
}

/// Whether a slot holds no goroutine, and no value that a handle has not claimed yet.
pub(crate) fn is_unused(slot: &Slot<Body>) -> bool {
    slot.status().get().0 == Status::Dead && slot.body().join.is_free()
}

/// Bytes of a slot.
pub(crate) const SLOT: u64 = size_of::<Slot<Body>>() as u64;

/// The table of goroutines, which finds a slot by its address alone: in a third of the steps that its directory takes.
#[derive(Debug)]
pub(crate) struct Goroutines(Table<Body>);

impl Goroutines {
    /// For a table without slots, to which chunks are lent one behind the other (`slots::grow`).
    pub(crate) const fn new(table: Table<Body>) -> Self {
        Self(table)
    }

    /// The slot at an index.
    ///
    /// # Panics
    /// There is no such slot.
    #[inline]
    pub(crate) fn slot(&self, g: GoIndex) -> &'static Slot<Body> {
        // By the word, which is the number plus one: a step less than by the number.
        if g.word() > self.0.len() {
            no_slot(g);
        }
        // SAFETY: the table has as many slots.
        unsafe { Self::slot_of(g) }
    }

    /// The slot of a goroutine that was found by its slot before.
    ///
    /// # Safety
    /// There is such a slot.
    #[inline]
    pub(crate) unsafe fn slot_of(g: GoIndex) -> &'static Slot<Body> {
        // SAFETY: the contract. Slots lie one behind the other, from `SLOTS` on, for ever.
        unsafe { &*at(SLOTS - SLOT + u64::from(g.word()) * SLOT) }
    }
}

impl Deref for Goroutines {
    type Target = Table<Body>;

    fn deref(&self) -> &Table<Body> {
        &self.0
    }
}

impl Linked for Goroutines {
    type Index = GoIndex;

    #[inline]
    fn next(&self, g: GoIndex) -> Option<GoIndex> {
        self.slot(g).next()
    }

    #[inline]
    fn set_next(&self, g: GoIndex, next: Option<GoIndex>) {
        self.slot(g).set_next(next);
    }

    #[inline]
    fn take_next(&self, g: GoIndex) -> Option<GoIndex> {
        let slot = self.slot(g);
        let next = slot.next();
        slot.set_next(None);
        next
    }
}

#[cold]
#[inline(never)]
fn no_slot(g: GoIndex) -> ! {
    panic!("the goroutine table has no slot {}", g.get())
}
