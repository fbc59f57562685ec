//! Traces: where each goroutine is, and by which calls it came there.
//!
//! ```text
//! goroutine 12 [reader] [mailbox, 3 minutes]:
//!     gzero::park::gopark::<...>+0x1f
//!     <gzero::mailbox::Mailbox<u32>>::take+0x84
//!     program::read+0x3a
//! ```
//!
//! Nothing here takes a lock of the runtime, allocates, or waits for anybody, so that it works in the report of a
//! dying machine. While other CPUs run, what is printed of their goroutines may be out of date before it is
//! printed: a goroutine may be woken and run on while its stack is walked. The walk cannot fault then
//! (`machine::backtrace`) and at worst shows calls that were never there together. Of a goroutine that waits all
//! the time, and of all of them while the world stands still, it shows what is.
//!
//! ```
//! use gzero::trace::{Frame, GoroutineInfo, State, for_each_frame, for_each_goroutine};
//!
//! for_each_goroutine(&mut |goroutine: &GoroutineInfo| {
//!     if let State::Waiting { reason, .. } = goroutine.state {
//!         gzero::println!("goroutine {} waits: {reason}", goroutine.goid);
//!     }
//!     for_each_frame(goroutine, &mut |frame: Frame| {
//!         let name = frame.function().unwrap_or("?");
//!         gzero::println!("{:>3} {:#x} {name}, {} bytes", frame.depth(), frame.pc(), frame.stack().count());
//!     });
//! });
//! ```

use core::fmt;
use core::ops::Range;

use machine::backtrace::{self, Start};
use machine::clock;
use machine::console;
use machine::percpu::Pinned;
use machine::stack;
use machine::symbol::Symbol;
use sched::table::Slot;
use sched::{GoIndex, Goid, Status};

pub use machine::clock::Nanos;
pub use machine::percpu::CpuId;

use crate::goroutine::Body;
use crate::m;
use crate::runtime::{self, Runtime};

/// Frames at the top of a stack that are printed, …
const INNERMOST: u32 = 50;
/// … and at its base, if there are more.
const OUTERMOST: u32 = 10;
/// Goroutines in the report of a dying machine.
const MOST_IN_REPORT: usize = 100;

const NANOS_PER_MINUTE: u64 = 60_000_000_000;

/// Where text goes: the console in normal life, or its way for emergencies.
type Print = fn(fmt::Arguments<'_>);

/// What a goroutine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has a CPU. Which one is not known at the moments when it comes or goes.
    Running(Option<CpuId>),
    /// It waits for a CPU.
    Runnable,
    /// It waits for somebody to ready it.
    Waiting {
        /// The name of what it waits for.
        reason: &'static str,
        /// When it began to wait.
        since: Nanos,
        /// For how long it has waited.
        waited: Nanos,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(Some(cpu)) => write!(f, "running on cpu {}", cpu.0),
            Self::Running(None) => f.write_str("running"),
            Self::Runnable => f.write_str("runnable"),
            Self::Waiting { reason, waited, .. } => {
                f.write_str(reason)?;
                match waited.0 / NANOS_PER_MINUTE {
                    0 => Ok(()),
                    1 => f.write_str(", 1 minute"),
                    minutes => write!(f, ", {minutes} minutes"),
                }
            }
        }
    }
}

/// A living goroutine, as it was when somebody looked.
#[derive(Debug, Clone)]
pub struct GoroutineInfo {
    /// Its number.
    pub goid: Goid,
    /// Its name; empty if it has none.
    pub name: &'static str,
    /// What it does.
    pub state: State,
    /// The addresses of its stack. Pages that it has never used are not mapped.
    pub stack: Range<u64>,
    g: GoIndex,
}

impl GoroutineInfo {
    fn of(rt: &Runtime, g: GoIndex, slot: &Slot<Body>) -> Option<Self> {
        let body = slot.body();
        let state = match slot.status().get().0 {
            Status::Dead => return None,
            Status::Runnable => State::Runnable,
            Status::Running | Status::Parking | Status::Woken => State::Running(cpu_of(rt, g)),
            Status::Waiting => {
                let (reason, since) = (body.wait_reason().name(), body.wait_since());
                State::Waiting { reason, since, waited: clock::now() - since }
            }
        };
        Some(Self { goid: slot.goid()?, name: body.name(), state, stack: body.stack(g).bounds(), g })
    }
}

impl GoroutineInfo {
    /// Whether it is the one that runs on this CPU.
    pub(crate) fn is_current(&self, m: &m::M) -> bool {
        m.current() == Some(self.g)
    }

    pub(crate) const fn index(&self) -> GoIndex {
        self.g
    }

    /// The address of its slot in the table.
    pub(crate) fn address(&self) -> u64 {
        core::ptr::from_ref(m::runtime().slot(self.g)).addr() as u64
    }

    /// When it last began to wait.
    pub(crate) fn last_wait(&self) -> Nanos {
        m::runtime().slot(self.g).body().wait_since()
    }

    /// The CPU that it runs on.
    pub(crate) fn cpu(&self) -> Option<&'static m::M> {
        m::runtime().ms.iter().find(|m| m.current() == Some(self.g))
    }
}

impl fmt::Display for GoroutineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {}", self.goid)?;
        if !self.name.is_empty() {
            write!(f, " [{}]", self.name)?;
        }
        write!(f, " [{}]", self.state)
    }
}

/// A call on a goroutine's stack that has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame(backtrace::Frame);

impl Frame {
    /// The address at which the function goes on.
    pub const fn pc(&self) -> u64 {
        self.0.pc.address()
    }

    /// The function's part of the stack: from where the one that it has called ends, to its own return address.
    pub const fn stack(&self) -> Range<u64> {
        self.0.low..self.0.high
    }

    /// The number of calls below it: 0 for the last one.
    pub const fn depth(&self) -> u32 {
        self.0.depth
    }

    /// The function, if it is known.
    pub(crate) fn symbol(&self) -> Option<Symbol> {
        self.0.pc.symbol()
    }

    /// The function's name, if it is known.
    pub fn function(&self) -> Option<&'static str> {
        self.0.pc.symbol().map(|symbol| symbol.name)
    }
}

impl fmt::Display for Frame {
    /// `path::function+0x1f`, or the address where there is no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.pc.fmt(f)
    }
}

/// Shows every living goroutine to `visit`. Those that are started or end meanwhile may be missing.
pub fn for_each_goroutine(visit: &mut dyn FnMut(&GoroutineInfo)) {
    let Some(rt) = runtime::try_get() else { return };
    for (g, slot) in rt.table.iter() {
        if let Some(info) = GoroutineInfo::of(rt, g, slot) {
            visit(&info);
        }
    }
}

/// Shows the frames of a goroutine to `visit`, the last call first. Of the goroutine that asks, the first frame is
/// the function that calls this; of one that runs on another CPU there are none.
#[inline(never)]
pub fn for_each_frame(goroutine: &GoroutineInfo, visit: &mut dyn FnMut(Frame)) {
    let asker = Asker::new(Start::caller());
    if let Some(start) = asker.start_of(goroutine) {
        start.walk(goroutine.stack.clone()).map(Frame).for_each(visit);
    }
}

/// Prints all living goroutines with their frames, the one that calls first. Its own begin at `start`. What `note` prints
/// of each comes between its line and the frames.
pub(crate) fn print_all(start: Start, note: &dyn Fn(&GoroutineInfo)) {
    let asker = Asker::new(start);
    let visit = &mut |info: &GoroutineInfo, own| {
        if asker.is(info) == own {
            asker.block(console::write_fmt, info, note);
        }
    };
    for_each_goroutine(&mut |info| visit(info, true));
    for_each_goroutine(&mut |info| visit(info, false));
}

/// Prints the stack that `start` is on, in the report of a dying machine.
pub(crate) fn report_stack(start: Start) {
    match stack::around(start.rsp()) {
        Some(stack) => frames(console::emergency_write, start, stack),
        None => console::emergency_write(format_args!("    (rsp {:#018x} is on no stack)\n", start.rsp())),
    }
}

/// Prints the goroutines but the one on this CPU, in the report of a dying machine.
pub(crate) fn report_others(start: Start) {
    let asker = Asker::new(start);
    let mut others = 0;
    for_each_goroutine(&mut |info| {
        others += usize::from(!asker.is(info));
        if !asker.is(info) && others <= MOST_IN_REPORT {
            asker.block(console::emergency_write, info, &|_| {});
        }
    });
    if let Some(more @ 1..) = others.checked_sub(MOST_IN_REPORT) {
        console::emergency_write(format_args!("\n...{more} more goroutines...\n"));
    }
}

/// Who looks: the goroutine that runs here, if any, and its own place.
struct Asker {
    g: Option<GoIndex>,
    start: Start,
}

impl Asker {
    fn new(start: Start) -> Self {
        let _pinned = Pinned::new();
        Self { g: m::of_this_cpu().and_then(m::M::current), start }
    }

    fn is(&self, info: &GoroutineInfo) -> bool {
        self.g == Some(info.g)
    }

    /// Where a walk along a goroutine's stack begins.
    fn start_of(&self, info: &GoroutineInfo) -> Option<Start> {
        match info.state {
            // On the kernel stack in its name: it stands where it has left its own.
            State::Running(_) if self.is(info) => start_of_running(info).or(Some(self.start)),
            State::Running(_) => start_of_running(info),
            State::Runnable | State::Waiting { .. } => {
                let body = m::runtime().slot(info.g).body();
                Start::suspended(body.context_for_report())
            }
        }
    }

    /// Prints one goroutine.
    fn block(&self, print: Print, info: &GoroutineInfo, note: &dyn Fn(&GoroutineInfo)) {
        print(format_args!("\n{info}:\n"));
        note(info);
        match self.start_of(info) {
            Some(start) => frames(print, start, info.stack.clone()),
            None => print(format_args!("    (no frames: it runs)\n")),
        }
    }
}

/// Where a goroutine is that has a CPU: known while that CPU is stopped with the world, or frozen by a report.
fn start_of_running(info: &GoroutineInfo) -> Option<Start> {
    m::runtime().ms.iter().find(|m| m.current() == Some(info.g))?.standing()
}

/// Prints the frames of a stack; of a deep one those at both ends.
fn frames(print: Print, start: Start, stack: Range<u64>) {
    let mut walk = start.walk(stack.clone());
    let total = walk.by_ref().last().map_or(0, |last| last.depth + 1);
    // Whoever runs on this stack meanwhile may call more functions, but no more of them are printed.
    for frame in start.walk(stack).map(Frame).take_while(|frame| frame.depth() < total) {
        match frame.depth() {
            depth if depth < INNERMOST || depth >= total.saturating_sub(OUTERMOST) => {
                print(format_args!("    {frame}\n"));
            }
            INNERMOST => print(format_args!("    ...{} more frames...\n", total - INNERMOST - OUTERMOST)),
            _ => {}
        }
    }
    if let Some(rbp) = walk.broken() {
        print(format_args!("    (the frame pointer {rbp:#018x} cannot be followed)\n"));
    }
}

/// The CPU on which a goroutine runs.
fn cpu_of(rt: &Runtime, g: GoIndex) -> Option<CpuId> {
    rt.ms.iter().find(|m| m.current() == Some(g)).map(|m| m.block.id())
}
