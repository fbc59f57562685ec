//! Starting goroutines and ending them.
//!
//! A new goroutine's closure lies at the top of its own stack, so a spawn allocates nothing: it takes a dead
//! goroutine of this P, with its stack, writes the closure and a first context there, and puts it on the local
//! queue. Only when the P has no dead one left, a batch comes from the shared list, or the table grows. The value
//! that the closure returns lies in the same place, until it is claimed ([`crate::join`]).
//!
//! ```text
//!   top      ┌──────────────┐
//!            │ closure,     │  moved out by the goroutine's first function
//!            │ later value  │  moved in by it (`crate::shelf`)
//!            ├──────────────┤  a multiple of 16
//!            │ first context│  see `machine::context`
//!            └──────────────┘  rsp
//! ```
//!
//! # The end, step by step
//!
//! 1. The closure returns, and its value is moved to the shelf. Local values are dropped.
//! 2. [`sched::join`] decides whose the value is. A joiner is readied: it may take the value at once, on another CPU, while the
//!    goroutine still stands on its stack; the slot stays in use until it does not. Without a handle the goroutine drops the value itself,
//!    which may run any code of the program, and then the local values that this has made.
//! 3. If it belongs to a scope, it is counted there as ended: its closure, its value or the handle's claim on that, and its
//!    local values are dealt with. It touches nothing of the scope any more.
//! 4. It leaves its stack. The side that goes on makes the slot dead, and free, unless the handle is still there
//!    (`perform::arrive`).

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use machine::context;
use machine::frames::{FRAME_SIZE, Unmapped};
use machine::percpu::Pinned;
use machine::stack::{self, Size, StackId};
use sched::join::{Ended, Outcome};
use sched::latch::Latch;
use sched::pick::Place;
use sched::table::{GrowError, Slot};
use sched::{GoIndex, GoRef};

use crate::builder::{Builder, GoError};
use crate::goroutine::{Body, Goroutines};
use crate::high_water;
use crate::idle_stacks;
use crate::local;
use crate::m::{self, M};
use crate::panic::check;
use crate::park::{goready, ready_pinned};
use crate::perform;
use crate::runtime::Runtime;
use crate::shelf::{self, Shelf};
use crate::slots;
use crate::stacks::{OwnStack, check_g_stack, is_free};
use crate::tlb::{self, Who};

/// Starts a goroutine, or says why not; the closure is then dropped.
///
/// When no page is left for its stack, memory that nobody uses is taken back first, as by [`crate::free_os_memory`]; that
/// stops the world. A caller that holds a lock of the runtime, or is no goroutine, gets the error at once.
///
/// # Errors
/// [`GoError`].
///
/// # Safety
/// 1. What `f` borrows lives until the goroutine has ended, and what its value borrows until the value is gone. Where they borrow
///    something that is not `'static`, `scope` is a latch whose owner waits for its goroutines before that ends.
/// 2. `scope` has counted the goroutine, and lives until it is told of the end.
/// 3. The caller makes exactly one handle of what it gets, by which the value is claimed.
pub(crate) unsafe fn spawn<F, T>(builder: &Builder, scope: Option<&Latch>, f: F) -> Result<GoRef, GoError>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    if shelf::fits::<T>() {
        // SAFETY: the caller's contract.
        return unsafe { spawn_for_shelf(builder, scope, f) };
    }
    let mut room = room_for_one()?;
    let into_room = move || {
        room.push(f());
        room
    };
    // SAFETY: the caller's contract; the value lies in a vector, as `shelf` has it.
    unsafe { spawn_for_shelf(builder, scope, into_room) }
}

/// [`spawn`] for values that lie on the shelf.
///
/// # Safety
/// As [`spawn`].
unsafe fn spawn_for_shelf<F, S>(builder: &Builder, scope: Option<&Latch>, f: F) -> Result<GoRef, GoError>
where
    F: FnOnce() -> S + Send,
    S: Send,
{
    if shelf::fits::<F>() {
        // SAFETY: the caller's contract; both fit.
        return unsafe { launch(builder, scope, f) };
    }
    let mut boxed = room_for_one()?;
    boxed.push(f);
    let unboxed = move || (boxed.pop().expect("the closure lies in a vector of one"))();
    // SAFETY: the caller's contract; both fit.
    unsafe { launch(builder, scope, unboxed) }
}

/// A vector that has room for one.
fn room_for_one<T>() -> Result<Vec<T>, GoError> {
    let mut room = Vec::new();
    room.try_reserve_exact(1).map_err(|_| GoError::NoHeapMemory { bytes: size_of::<T>() })?;
    Ok(room)
}

/// Starts a goroutine whose closure and value both fit on the shelf.
///
/// # Safety
/// As [`spawn`]; and both fit.
unsafe fn launch<F, S>(builder: &Builder, scope: Option<&Latch>, f: F) -> Result<GoRef, GoError>
where
    F: FnOnce() -> S + Send,
    S: Send,
{
    let taken = take(builder)?;
    // SAFETY: the caller's contract; it was just taken.
    Ok(unsafe { start(taken, builder, scope, f) })
}

/// Starts a goroutine that calls a function with a value. Without memory for it the value comes back: it is never dropped
/// here.
///
/// # Safety
/// The third condition of [`spawn`].
pub(crate) unsafe fn spawn_with<A: Send + 'static>(
    builder: &Builder,
    value: A,
    f: fn(A),
) -> Result<GoRef, A> {
    const { assert!(size_of::<A>() <= 512, "value and function fit on the shelf") };
    let Ok(taken) = take(builder) else { return Err(value) };
    // SAFETY: nothing is borrowed, and there is no scope; it was just taken; the rest is the caller's contract.
    Ok(unsafe { start(taken, builder, None, move || f(value)) })
}

/// A dead goroutine that was taken for a new life, on this CPU: its stack has its first page and its limit.
struct Taken {
    /// The taker stays on the CPU until it has started it.
    pinned: Pinned,
    m: &'static M,
    slot: &'static Slot<Body>,
    shelf: Shelf,
}

/// Takes a dead goroutine. The caller must start it.
#[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
#[inline(always)]
fn take(builder: &Builder) -> Result<Taken, GoError> {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    if builder.has_usual_stack()
        && let Some((slot, shelf)) = take_usual(m)
    {
        return Ok(Taken { pinned, m, slot, shelf });
    }
    take_otherwise(pinned, builder)
}

/// What is taken almost always: one that this P keeps, whose only stack is a usual one with one page.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn take_usual(m: &'static M) -> Option<(&'static Slot<Body>, Shelf)> {
    let rt = m::runtime_of(m);
    let owner = m.proc().owner();
    // SAFETY: it lay on a list of slots.
    let slot = unsafe { Goroutines::slot_of(owner.take_free(&rt.table)?) };
    if !slot.body().has_one_page() {
        // It lies on its list as before.
        slots::keep(rt, m, owner.put_free(&rt.table, slot.index()));
        return None;
    }
    slot.body().set_stack_limit(0);
    Some((slot, Shelf::of(StackId::new(slot.index().get(), Size::Usual))))
}

/// The rest of [`take`].
#[inline(never)]
fn take_otherwise(mut pinned: Pinned, builder: &Builder) -> Result<Taken, GoError> {
    let wish = builder.stack()?;
    let rt = m::runtime();
    let mut dead = take_dead(rt, m::current(&pinned), wish.size);
    let is_short = matches!(dead, Err(GoError::NoStackMemory | GoError::Table(GrowError::NoMemory { .. })));
    if is_short && is_free(&pinned) {
        drop(pinned);
        rt.reclaim_memory();
        pinned = Pinned::new();
        dead = take_dead(rt, m::current(&pinned), wish.size);
    }
    let g = dead?;
    let (m, slot) = (m::current(&pinned), rt.slot(g));
    limit_stack(slot.body(), g, wish.pages);
    Ok(Taken { pinned, m, slot, shelf: Shelf::of(slot.body().stack(g)) })
}

/// Starts a goroutine that was taken.
///
/// # Safety
/// As [`launch`]; and it was taken by [`take`], and not started since.
#[inline]
unsafe fn start<F, S>(
    Taken { pinned, m, slot, shelf }: Taken,
    builder: &Builder,
    scope: Option<&Latch>,
    f: F,
) -> GoRef
where
    F: FnOnce() -> S + Send,
    S: Send,
{
    let (owner, body) = (m.proc().owner(), slot.body());
    body.set_name(builder.get_name());
    if body.grown_pages() != 0 && high_water::wants_clear_stack(body) {
        // SAFETY: the slot is ours, and the stack is used by nobody before the goroutine runs.
        unsafe { stack::clear(body.stack(slot.index())) };
    }
    // SAFETY: the goroutine is dead and taken from its list, so its stack is ours; its first page is mapped.
    unsafe { shelf.place::<F>().write(f) };
    let base = shelf.below::<F, S>();
    // SAFETY: as above; `base` is a multiple of 16, and the words below it are on the same page.
    let context = unsafe { context::prepare(base, first::<F, S>, shelf.word()) };
    // SAFETY: as above, and nobody else reads the context of a dead goroutine.
    unsafe { body.context().write(context) };
    // Relaxed, here and in the next ones: `spawn` below releases all of it.
    body.token.store(0, Ordering::Relaxed);
    body.set_scope(scope);
    body.join.begin();
    slot.set_goid(owner.next_goid(&m::runtime_of(m).goids));
    owner.counters().spawned.add(1);
    let generation = check(slot.status().spawn());
    perform::enqueue(m, slot, Place::Next);
    drop(pinned);
    GoRef { index: slot.index(), generation }
}

/// Sets the limit of a dead goroutine's stack; what is mapped beyond it goes.
fn limit_stack(body: &Body, g: GoIndex, pages: Option<u64>) {
    let bytes = pages.map_or(0, |pages| pages * FRAME_SIZE);
    body.set_stack_limit(u32::try_from(bytes).unwrap_or(0));
    if let Some(pages) = pages
        && stack::reaches_beyond(body.stack(g), pages)
    {
        let mut unmapped = Unmapped::new();
        stack::unmap_beyond(body.stack(g), pages, &mut unmapped);
        body.stack_has_shrunk(u32::try_from(pages).unwrap_or(u32::MAX));
        tlb::shootdown(Who::Running);
        // SAFETY: all CPUs have flushed, or will before they touch anything that can be unmapped.
        unsafe { unmapped.free() };
    }
}

/// The first function of a goroutine.
extern "C" fn first<F: FnOnce() -> S, S>(word: u64, shelf: u64) -> ! {
    let pinned = Pinned::adopt();
    perform::arrive(word, &pinned);
    drop(pinned);
    // SAFETY: a goroutine begins here.
    let own = unsafe { OwnStack::assume() };
    let shelf = Shelf::from_word(shelf);
    // SAFETY: `launch` wrote it there, and it is read once.
    let f = unsafe { shelf.place::<F>().read() };
    let value = f();
    // SAFETY: the closure has moved out, and nobody reads the place before the end is published.
    unsafe { shelf.place::<S>().write(value) };
    end(
        own,
        Left::Value(if core::mem::needs_drop::<S>() { Some((Shelf::discard::<S>, shelf)) } else { None }),
    )
}

/// What a goroutine leaves on its shelf.
#[derive(Debug, Clone, Copy)]
enum Left {
    /// A value, and what drops it there.
    Value(Option<(unsafe fn(Shelf), Shelf)>),
    /// Nothing.
    Nothing,
}

/// Ends the goroutine that calls: see the head of this file.
fn end(own: OwnStack, left: Left) -> ! {
    let slot = own.slot();
    let body = slot.body();
    local::drop_all(body);
    let outcome = match left {
        Left::Value(_) => Outcome::Value,
        Left::Nothing => Outcome::Nothing,
    };
    let mut pinned = Pinned::new();
    match body.join.end(outcome) {
        Ended::Kept => {}
        // Pinned, so that this CPU goes on with the joiner.
        Ended::Wake(joiner) => ready_pinned(&pinned, joiner),
        Ended::Detached => {
            if let Left::Value(Some((discard, shelf))) = left {
                drop(pinned);
                // SAFETY: the value is on the shelf, and there is no handle.
                unsafe { discard(shelf) };
                local::drop_all(body);
                pinned = Pinned::new();
            }
        }
    }
    leave_scope(body);
    if body.grown_pages() != 0 {
        high_water::note_end(body, slot.index());
    }
    perform::leave_for_good(&pinned, own.here(&pinned))
}

/// Counts the goroutine as ended in its scope.
fn leave_scope(body: &Body) {
    let Some(latch) = body.take_scope() else { return };
    // SAFETY: condition 2 of `spawn`.
    if let Some(owner) = unsafe { Latch::end(&*latch) } {
        goready(owner);
    }
}

/// Ends the goroutine that calls, without a value: its stack is not unwound. Go's `Goexit`, but that Go runs deferred calls.
///
/// What lies on the goroutine's stack is **not dropped**: guards stay locked, memory stays allocated. Local values
/// ([`goroutine_local!`](crate::goroutine_local)) are dropped, a scope that the goroutine belongs to counts it as ended, and whoever joins it is told
/// ([`JoinHandle::join`](crate::JoinHandle::join) panics, [`JoinHandle::join_result`](crate::JoinHandle::join_result) has an error for it). The main goroutine may
/// do so too; the machine then runs on until it is ended otherwise, or deadlocked.
///
/// A return from the closure ends a goroutine as well, and drops everything; there are few reasons to call this.
///
/// # Safety
/// The stack is used again for something else, so nobody may rely on what lies there, and nothing there may rely on being dropped:
/// 1. No call of [`scope`](crate::scope()) is in progress on it: goroutines of the scope could borrow from the stack.
/// 2. No pinned value lies on it whose destructor must run before its memory is used again.
/// 3. No reference or pointer to anything on it is used by anybody afterwards.
/// 4. It is not called by a destructor of a local value, or of the value that the goroutine has returned.
///
/// # Throws
/// When not called on a goroutine's own stack.
///
/// # Examples
/// ```
/// let handle = gzero::go(|| -> u32 {
///     // SAFETY: nothing on this stack is borrowed or pinned.
///     unsafe { gzero::goexit() }
/// });
/// assert!(handle.join_result().is_err());
/// ```
#[track_caller]
pub unsafe fn goexit() -> ! {
    end(check_g_stack("goexit"), Left::Nothing)
}

/// The table grows by a chunk, and by another one for each so many CPUs: all of them may want goroutines at once.
const CPUS_PER_CHUNK: usize = 16;

/// A dead goroutine whose stack, of this size, has its first page.
fn take_dead(rt: &'static Runtime, m: &'static M, size: Size) -> Result<GoIndex, GoError> {
    let owner = m.proc().owner();
    let g = loop {
        if let Some(g) = owner.take_free(&rt.table) {
            break g;
        }
        rt.grow.check_order();
        if let Some(batch) = rt.free.take(m.index, &rt.table) {
            slots::keep(rt, m, owner.refill(batch));
            grow_ahead(rt, m);
        } else {
            grow(rt, m)?;
            // Another CPU may be at it.
            while rt.grow.is_held() && rt.free.is_empty() {
                // That one may wait for the flushes of all, and interrupts may be off here.
                tlb::catch_up(rt, m);
                core::hint::spin_loop();
            }
        }
    };
    let body = rt.slot(g).body();
    if size == Size::Usual && body.has_one_page() {
        return Ok(g);
    }
    idle_stacks::take(m, body, g);
    if !body.choose_stack(size) {
        if stack::birth(body.stack(g)).is_err() {
            idle_stacks::put(m, body, g);
            slots::keep(rt, m, owner.put_free(&rt.table, g));
            return Err(GoError::NoStackMemory);
        }
        body.stack_is_born();
    }
    Ok(g)
}

/// Makes the table longer, if all that are left are those that a P has just got: so there are more when these are used up, and it
/// need not wait for another CPU that is at it.
fn grow_ahead(rt: &'static Runtime, m: &'static M) {
    if rt.free.is_empty() {
        // Without room for more the P goes on with what it has, and says so when that is used up.
        let _full = grow(rt, m);
    }
}

/// Adds chunks to the table and puts their goroutines on the shared list, unless there are some.
///
/// If another CPU is at it, nothing is done: who has no goroutine looks again, for what that one adds, or for what is given back
/// meanwhile.
fn grow(rt: &'static Runtime, m: &'static M) -> Result<(), GoError> {
    let Some(growing) = rt.grow.try_lock() else { return Ok(()) };
    if !rt.free.is_empty() {
        // Somebody else has grown the table, or has spilled, since this CPU looked.
        return Ok(());
    }
    for added in 0..=rt.ms.len() / CPUS_PER_CHUNK {
        match slots::grow(rt) {
            Ok(Some(new)) => {
                idle_stacks::add_bare(m, new.len());
                rt.free.spread(m.index + added * CPUS_PER_CHUNK, &rt.table, new);
            }
            Ok(None) => {}
            Err(error) if added == 0 => return Err(GoError::Table(error)),
            Err(_) => break,
        }
    }
    drop(growing);
    Ok(())
}
