//! On which stack code stands, and how it gets to the other one.
//!
//! A goroutine has its own stack; the CPU has its kernel stack, g0, where the scheduler loop runs and where
//! [`on_m`] and [`crate::mcall`] take a goroutine for work that must not be interrupted by a reschedule; handlers of
//! interrupts have stacks of their own.
//!
//! Blocking means to park the current goroutine, and its context can only be saved where it stands: on its own stack. So
//! whatever may block is called there, and every blocking entry point says so with [`check_g_stack`], **before** its
//! fast path: a wrong call fails every time, not only on the rare day on which it would have blocked. That is the rule
//! that this project began with (golang/go#8749).
//!
//! ```
//! use gzero::{StackKind, on_m, stack_kind};
//!
//! assert_eq!(stack_kind(), StackKind::Goroutine);
//! assert_eq!(on_m(stack_kind), StackKind::Kernel);
//! ```

use core::fmt;
use core::marker::PhantomData;
use core::panic::Location;

use machine::context;
use machine::irq;
use machine::percpu::{self, PerCpu, Pinned};
use machine::stack::{self, Region, StackId};
use sched::GoIndex;
use sched::table::Slot;

use crate::goroutine::Body;
use crate::high_water;
use crate::m::{self, Here, M};
use crate::panic::throw;
use crate::runtime::{self, Runtime};

/// A stack by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackKind {
    /// That of the goroutine that runs.
    Goroutine,
    /// The CPU's own: Go's g0.
    Kernel,
    /// One of the CPU's interrupt stacks.
    Interrupt,
}

impl fmt::Display for StackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goroutine => "a goroutine's stack",
            Self::Kernel => "the kernel stack",
            Self::Interrupt => "an interrupt stack",
        })
    }
}

pub(crate) fn init() {
    stack::on_limit(limit);
    stack::on_growth(high_water::grown);
}

/// Bytes of a stack that its goroutine may use; 0 for all. For the page-fault handler too.
fn limit(stack: StackId) -> u64 {
    /// Nobody uses it: all is guard.
    const NOTHING: u64 = 1;
    let slot = stack.number();
    let Some(rt) = runtime::try_get().filter(|rt| slot < rt.table.len()) else { return NOTHING };
    GoIndex::new(slot).map_or(NOTHING, |g| match rt.slot(g).body() {
        body if body.stack(g) == stack => body.stack_limit().into(),
        _ => NOTHING,
    })
}

/// The stack that the caller stands on.
///
/// Two witnesses are heard: the CPU's own data, and the range that the stack pointer lies in.
///
/// # Throws
/// When the two do not agree.
pub fn stack_kind() -> StackKind {
    let pinned = Pinned::new();
    let block = percpu::current(&pinned);
    let m = m::of_this_cpu();
    let said = said(block, m);
    let rsp = stack::pointer();
    let own_slot = |slot| m.and_then(M::current).is_some_and(|g| g.get() == slot);
    let agrees = match stack::region(block, rsp) {
        Region::Demand(stack) => said == StackKind::Goroutine && own_slot(stack.number()),
        Region::Kernel => said == StackKind::Kernel,
        Region::Interrupt => said == StackKind::Interrupt,
        Region::Elsewhere => false,
    };
    if !agrees {
        let id = block.id().0;
        throw(format_args!("cpu {id} says that it is on {said}, and its stack pointer is {rsp:#x}"));
    }
    said
}

/// What the CPU's data say.
fn said(block: &PerCpu, m: Option<&M>) -> StackKind {
    if block.interrupt_depth() > 0 {
        StackKind::Interrupt
    } else if block.borrows_kernel_stack() || m.and_then(M::current).is_none() {
        StackKind::Kernel
    } else {
        StackKind::Goroutine
    }
}

/// The stack that this CPU's data name; the caller is pinned.
pub(crate) fn kind_by_data(m: &M) -> StackKind {
    said(m.block, Some(m))
}

/// Whether the caller is a goroutine on its own stack that holds nothing but this guard, with interrupts on: once it has
/// dropped it, it may wait, give way, or stop the world.
pub(crate) fn is_free(pinned: &Pinned) -> bool {
    let m = m::current(pinned);
    m.block.locks() == 1 && kind_by_data(m) == StackKind::Goroutine && irq::enabled()
}

/// What [`check_g_stack`] has found: a goroutine calls, on its own stack. It stays with that goroutine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnStack(PhantomData<*mut ()>);

impl OwnStack {
    /// For who need not look.
    ///
    /// # Safety
    /// A goroutine calls, on its own stack.
    pub(crate) const unsafe fn assume() -> Self {
        Self(PhantomData)
    }

    /// The slot of the goroutine that calls.
    #[expect(clippy::unused_self, reason = "it is what shows that a goroutine calls")]
    #[inline]
    pub(crate) fn slot(self) -> &'static Slot<Body> {
        // SAFETY: a goroutine calls.
        unsafe { m::own_slot() }
    }

    /// The runtime, which is up.
    #[expect(clippy::unused_self, reason = "it is what shows that a goroutine calls")]
    #[inline]
    pub(crate) fn runtime(self) -> &'static Runtime {
        // SAFETY: a goroutine calls.
        unsafe { runtime::place().get_unchecked() }
    }

    /// The goroutine that calls, and its CPU.
    #[inline]
    pub(crate) fn here(self, pinned: &Pinned) -> Here {
        // SAFETY: a goroutine calls: somebody has left this CPU for it.
        Here { m: unsafe { m::after_switch(pinned) }, slot: self.slot() }
    }
}

/// Throws when the caller of a function that may block does not stand on a goroutine's own stack.
///
/// By one look at each witness: the CPU's data name the goroutine that runs, and the stack pointer lies in the stack with its number.
/// Handlers and calls on the kernel stack stand elsewhere. Whoever is moved to another CPU meanwhile is the one that runs there.
#[track_caller]
#[inline]
pub(crate) fn check_g_stack(function: &str) -> OwnStack {
    if !StackId::is_before(stack::pointer(), percpu::task_stack_here()) {
        throw_unless_on_the_g_stack(function, Location::caller());
    }
    OwnStack(PhantomData)
}

#[cold]
#[inline(never)]
fn throw_unless_on_the_g_stack(function: &str, caller: &Location<'_>) {
    let kind = stack_kind();
    if kind != StackKind::Goroutine {
        throw(format_args!("{function} not on the G stack\n  called on {kind} at {caller}"))
    }
}

/// A closure and its result, as they are passed to the other stack.
struct Call<F, R> {
    function: Option<F>,
    result: Option<R>,
}

/// Runs a function on the kernel stack and comes back with its result. Go's `systemstack`.
///
/// The caller is pinned to its CPU meanwhile: it is neither preempted nor moved, and stops with the world only
/// afterwards. The function must not block; whoever tries throws. On the kernel stack already, it is simply called.
///
/// # Throws
/// In a handler of an interrupt.
pub fn on_m<R>(function: impl FnOnce() -> R) -> R {
    let pinned = Pinned::new();
    match stack_kind() {
        StackKind::Kernel => function(),
        StackKind::Interrupt => throw(format_args!("on_m called on an interrupt stack")),
        StackKind::Goroutine => from_goroutine(&pinned, function),
    }
}

/// [`on_m`], for who knows that it is on a goroutine's own stack.
pub(crate) fn from_goroutine<R, F: FnOnce() -> R>(pinned: &Pinned, function: F) -> R {
    extern "C" fn run<R, F: FnOnce() -> R>(call: *mut ()) {
        // SAFETY: `from_goroutine` passes a call of these types, which nobody else touches meanwhile.
        let call = unsafe { &mut *call.cast::<Call<F, R>>() };
        call.result = call.function.take().map(|function| function());
    }
    let m = m::current(pinned);
    let mut call = Call { function: Some(function), result: None };
    let argument = core::ptr::from_mut(&mut call).cast::<()>();
    m.block.lend_kernel_stack(|| {
        // SAFETY: the goroutine runs, so the scheduler loop is suspended above this address, and the stack is free and
        // mapped below it; the pin keeps the caller here.
        unsafe { context::call_on(m.kernel_stack_top(), run::<R, F>, argument) };
    });
    call.result.expect("the function has run")
}

/// The stack of the goroutine that was interrupted, if it stood there.
#[inline]
pub(crate) fn interrupted_stack(m: &M, rsp: u64) -> Option<StackId> {
    let slot = m.current()?.get();
    // One word down: with an empty stack rsp is the bottom of the one above.
    let stack = StackId::of(rsp.wrapping_sub(8)).filter(|stack| stack.number() == slot)?;
    (!m.block.borrows_kernel_stack()).then_some(stack)
}

/// Whether a goroutine was interrupted that stood on its own stack, with `room` bytes left below its stack pointer.
pub(crate) fn interrupted_goroutine(m: &M, rsp: u64, room: u64) -> Option<HasRoom> {
    let stack = interrupted_stack(m, rsp)?;
    let body = m.running()?.body();
    // As `stack::lowest` says, which has to find the goroutine first.
    let lowest = match u64::from(body.stack_limit()) {
        0 => stack.bottom(),
        bytes => stack.bottom().max(stack.top().saturating_sub(bytes)),
    };
    Some(if rsp >= lowest + room { HasRoom::Yes } else { HasRoom::No })
}

/// Whether there is room on a goroutine's stack for a call that it has not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HasRoom {
    Yes,
    No,
}
