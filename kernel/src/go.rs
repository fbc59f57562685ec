//! Starting goroutines and ending them.
//!
//! A new goroutine's closure lies at the top of its own stack, so a spawn allocates nothing: it takes a dead
//! goroutine of this P, with its stack, writes the closure and a first context there, and puts it on the local
//! queue. Only when the P has no dead one left, a batch comes from the shared list, or the table grows.
//!
//! ```text
//!   top      ┌──────────────┐
//!            │ closure      │  moved out by the goroutine's first function
//!            ├──────────────┤  a multiple of 16
//!            │ first context│  see `machine::context`
//!            └──────────────┘  rsp
//! ```

use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::Ordering;

use machine::address::at;
use machine::context;
use machine::percpu::Pinned;
use machine::stack;
use sched::list::Chain;
use sched::pick::Place;
use sched::table::GrowError;
use sched::{GoIndex, GoRef};

use crate::goroutine::Body;
use crate::m::{self, M};
use crate::panic::{check, throw};
use crate::perform::{self, After};
use crate::runtime::Runtime;
use crate::stacks::{check_g_stack, is_free};

/// Largest closure that is put on the stack's first page; larger ones are boxed.
const MAX_ON_STACK: usize = 2048;

/// Why a goroutine could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoError {
    /// The table of goroutines cannot grow.
    Table(GrowError),
    /// No page is left for its stack.
    NoStackMemory,
}

impl fmt::Display for GoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(error) => write!(f, "cannot start a goroutine: {error}"),
            Self::NoStackMemory => f.write_str("cannot start a goroutine: no memory for its stack"),
        }
    }
}

impl core::error::Error for GoError {}

/// Starts a goroutine. Go's `go` statement.
///
/// It runs soon, on this CPU or another. Its stack has 252 KiB, mapped as they are touched.
///
/// # Panics
/// When there is no memory for it; [`try_go`] returns the error instead.
pub fn go<F: FnOnce() + Send + 'static>(f: F) -> GoRef {
    go_named("", f)
}

/// Starts a goroutine with a name for reports.
///
/// # Panics
/// As [`go`].
pub fn go_named<F: FnOnce() + Send + 'static>(name: &'static str, f: F) -> GoRef {
    match try_go(name, f) {
        Ok(g) => g,
        Err(error) => panic!("{error}"),
    }
}

/// Starts a goroutine with a name (which may be empty), or says why not; the closure is then dropped.
///
/// When no page is left for its stack, memory that nobody uses is taken back first, as by [`crate::free_os_memory`]; that
/// stops the world. A caller that holds a lock of the runtime, or is no goroutine, gets the error at once.
///
/// # Errors
/// [`GoError`].
pub fn try_go<F: FnOnce() + Send + 'static>(name: &'static str, f: F) -> Result<GoRef, GoError> {
    if size_of::<F>() > MAX_ON_STACK || align_of::<F>() > MAX_ON_STACK {
        return spawn(name, Box::new(f));
    }
    spawn(name, f)
}

fn spawn<F: FnOnce() + Send + 'static>(name: &'static str, f: F) -> Result<GoRef, GoError> {
    let mut pinned = Pinned::new();
    let rt = m::runtime();
    let mut dead = take_dead(rt, m::current(&pinned));
    if dead == Err(GoError::NoStackMemory) && is_free(&pinned) {
        drop(pinned);
        rt.reclaim_memory();
        pinned = Pinned::new();
        dead = take_dead(rt, m::current(&pinned));
    }
    let g = dead?;
    let m = m::current(&pinned);
    let owner = m.proc().owner();
    let slot = rt.slot(g);
    let body = slot.body();
    // SAFETY: the goroutine is dead and taken from its list, so its stack is ours; its first page is mapped.
    let context = unsafe { lay_out(g, f) };
    // SAFETY: as above, and nobody else reads the context of a dead goroutine.
    unsafe { body.context().write(context) };
    // Relaxed, here and in `set_name`: `spawn` below releases all of it.
    body.token.store(0, Ordering::Relaxed);
    body.set_name(name);
    slot.set_goid(owner.next_goid(&rt.goids));
    owner.counters().spawned.add(1);
    let generation = check(slot.status().spawn());
    perform::enqueue(rt, m, g, Place::Next);
    Ok(GoRef { index: g, generation })
}

/// Writes the closure and the first context on the stack of a dead goroutine.
///
/// # Safety
/// The stack is unused and its first page is mapped.
unsafe fn lay_out<F: FnOnce() + Send + 'static>(g: GoIndex, f: F) -> context::Context {
    let align = align_of::<F>().max(16) as u64;
    let place = (stack::top(g.get()) - size_of::<F>() as u64) & !(align - 1);
    let closure: *mut F = at(place);
    // SAFETY: the caller's contract; a closure of at most half a page fits on the first page.
    unsafe { closure.write(f) };
    // The context must start at a multiple of 16, which `place` is.
    // SAFETY: as above; the words below the closure are on the same page.
    unsafe { context::prepare(place, first::<F>, place) }
}

/// The first function of a goroutine.
extern "C" fn first<F: FnOnce() + Send + 'static>(word: u64, closure: u64) -> ! {
    let pinned = Pinned::adopt();
    perform::arrive(word, &pinned);
    drop(pinned);
    let closure: *mut F = at(closure);
    // SAFETY: `lay_out` wrote it there, and it is read once.
    let f = unsafe { closure.read() };
    f();
    goexit()
}

/// Ends the goroutine that calls. Go's `Goexit`: its stack is not unwound, so values on it are not dropped.
///
/// # Throws
/// When not called on a goroutine's own stack.
#[track_caller]
pub fn goexit() -> ! {
    check_g_stack("goexit");
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    let me = m::current_g(m);
    let next = perform::next_local(m::runtime(), m);
    perform::leave(&pinned, m, me, After::Exited(me), next);
    throw(format_args!("a goroutine that has ended was continued"))
}

/// Lets others run: the goroutine goes to the end of this P's queue. Go's `Gosched`.
///
/// Returns at once when nothing else is runnable here.
///
/// # Throws
/// When not called on a goroutine's own stack.
#[track_caller]
pub fn gosched() {
    check_g_stack("gosched");
    yield_cpu();
}

/// Lets the goroutine that was readied last run, in the same time slice: the caller, a goroutine on its own stack, goes
/// to the end of this P's queue, never to the global one. Go's `goyield`.
pub(crate) fn goyield() {
    yield_cpu();
}

/// Goes to the end of this P's queue, if anything else is runnable here.
fn yield_cpu() {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    let me = m::current_g(m);
    if let Some(next) = perform::next_local(m::runtime(), m) {
        perform::leave(&pinned, m, me, After::Yielded(me), Some(next));
    }
}

/// A dead goroutine whose stack has its first page.
fn take_dead(rt: &'static Runtime, m: &'static M) -> Result<GoIndex, GoError> {
    let owner = m.proc().owner();
    let g = loop {
        if let Some(g) = owner.take_free(&rt.table) {
            break g;
        }
        let batch = if rt.free_len.is_empty() { None } else { rt.free.lock().take(&rt.table) };
        match batch {
            Some(batch) => perform::keep_dead(rt, owner.refill(&rt.table, batch)),
            None => grow(rt)?,
        }
    };
    let body = rt.slot(g).body();
    if !body.stack_born.load(Ordering::Relaxed) {
        if stack::birth(g.get()).is_err() {
            perform::keep_dead(rt, owner.put_free(&rt.table, g));
            return Err(GoError::NoStackMemory);
        }
        // Relaxed: a dead goroutine has one owner; its list hands the word on.
        body.stack_born.store(true, Ordering::Relaxed);
    }
    Ok(g)
}

/// Adds a chunk to the table and puts its goroutines on the shared list.
fn grow(rt: &'static Runtime) -> Result<(), GoError> {
    let growing = rt.grow.lock();
    if !rt.free_len.is_empty() {
        // Somebody else has grown the table, or has spilled, while this CPU waited for the lock.
        return Ok(());
    }
    let new = rt.table.grow(|_| Body::new()).map_err(GoError::Table)?;
    perform::keep_dead(rt, Chain::link(&rt.table, new.filter_map(GoIndex::new)));
    drop(growing);
    Ok(())
}
