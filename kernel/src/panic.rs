//! The last words: panic, throw, fatal, and CPU exceptions.
//!
//! | | for | exit code |
//! |---|---|---|
//! | panic | a bug in the program | 2 |
//! | [`fatal`] | a program that cannot go on: stack overflow, deadlock | 2 |
//! | [`throw`] | a broken invariant of the kernel | 3 |
//!
//! The first CPU that comes here speaks; it stops the others by NMI, so that nothing is printed in between, and a
//! second disaster on the way is one line and the end. A third, in that line, is the end alone.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use machine::apic::icr::Ipi;
use machine::backtrace::Start;
use machine::clock::{self, Nanos};
use machine::console;
use machine::entry::Frame;
use machine::exception::{self, Fatal};
use machine::idt;
use machine::irq;
use machine::percpu::{self, Pinned};
use machine::qemu;
use machine::smp;
use machine::vector::Vector;

use crate::m;
use crate::runtime;
use crate::trace;

/// Exit code of panics and fatal errors.
pub(crate) const EXIT_PANIC: u8 = 2;
/// Exit code of throws.
pub(crate) const EXIT_THROW: u8 = 3;

/// CPU that speaks, plus one; 0 while all is well.
static SPEAKER: AtomicU32 = AtomicU32::new(0);
/// CPUs that the speaker's NMI has stopped.
static FROZEN: AtomicUsize = AtomicUsize::new(0);
/// How long the speaker waits for them: an emulator may not run a CPU's thread for that long.
const FREEZE: Nanos = Nanos(200_000_000);
/// The speaker has met a disaster in its report.
static STUMBLED: AtomicBool = AtomicBool::new(false);

/// Sends CPU exceptions here. The table is loaded.
pub(crate) fn init() {
    exception::on_fatal(exception_report);
    idt::register(Vector::NMI, nmi);
}

/// An NMI of a stopper that waits for this CPU leaves a trace. One while another CPU speaks stops this one; it may be both,
/// because two NMIs that come before a CPU runs are one.
///
/// The speaker itself goes on with its report: a machine that is being taken down has nothing to do about another NMI. Any
/// other is reported and survived.
fn nmi(frame: &mut Frame) {
    let probed = m::of_this_cpu().is_some_and(|m| m.answer_probe(frame));
    let id = percpu::of_this_cpu().id();
    // Acquire: pairs with the exchange in `take_floor`.
    match SPEAKER.load(Ordering::Acquire) {
        0 if probed => {}
        0 => console::emergency_write(format_args!("NMI on cpu {} from an unknown source\n", id.0)),
        speaker if speaker == id.0 + 1 => {}
        _ => freeze(frame),
    }
}

/// Stops this CPU for good, and leaves behind where its goroutine stands.
fn freeze(frame: &Frame) -> ! {
    if let Some(m) = m::of_this_cpu()
        && m.standing().is_none()
    {
        // The walk along its stack finds out whether that is where the CPU stood.
        m.stand(Start::interrupted(frame));
    }
    // Release pairs with the Acquire in `take_floor`.
    FROZEN.fetch_add(1, Ordering::Release);
    irq::halt_forever()
}

/// Makes this CPU the only one that runs. Returns `false` when it speaks already: a disaster in the report.
fn take_floor() -> bool {
    irq::disable();
    let me = percpu::of_this_cpu().id().0 + 1;
    match SPEAKER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(speaker) if speaker == me => return false,
        Err(_) => irq::halt_forever(),
    }
    smp::send_to_others(Ipi::Nmi);
    let others = runtime::try_get().map_or(0, |rt| rt.ms.len() - 1);
    // A CPU that has taken no NMI by then is reported as it was last seen.
    clock::spin_until(clock::now() + FREEZE, || FROZEN.load(Ordering::Acquire) >= others);
    true
}

/// Ends the machine with `code`; no other CPU runs on.
pub(crate) fn exit(code: u8) -> ! {
    // The others still run, as one may be in the middle of a line; this goroutine is not to be put off meanwhile.
    let _here = Pinned::new();
    console::close();
    take_floor();
    qemu::exit(code)
}

/// Prints a report and ends the machine: what happened, how it came to `start`, and where all goroutines are.
fn report(code: u8, what: fmt::Arguments<'_>, start: Start) -> ! {
    if !take_floor() {
        // Relaxed: only the speaker comes here.
        if !STUMBLED.swap(true, Ordering::Relaxed) {
            console::emergency_write(format_args!("\n(and once more, in the report: {what})\n"));
        }
        qemu::exit(code);
    }
    console::emergency_write(format_args!("\n{what}\n\n{Place}:\n"));
    trace::report_stack(start);
    trace::report_others(start);
    qemu::exit(code)
}

/// A broken invariant of the kernel: prints `fatal error: …` and ends with exit code 3.
///
/// May be called on any stack, with interrupts on or off.
///
/// ```no_run
/// let (taken, given) = (3, 2);
/// if taken > given {
///     gzero::throw(format_args!("{taken} were taken of {given}"));
/// }
/// ```
#[inline(never)]
pub fn throw(what: fmt::Arguments<'_>) -> ! {
    report(EXIT_THROW, format_args!("fatal error: {what}"), Start::caller())
}

/// A program that cannot go on: prints `fatal error: …` and ends with exit code 2.
///
/// May be called on any stack, with interrupts on or off.
///
/// ```no_run
/// gzero::fatal(format_args!("no disk: this program cannot work without one"));
/// ```
#[inline(never)]
pub fn fatal(what: fmt::Arguments<'_>) -> ! {
    report(EXIT_PANIC, format_args!("fatal error: {what}"), Start::caller())
}

/// Unwraps a step of the status machine: an arrow that is not in the diagram is a throw.
#[inline]
pub(crate) fn check<T>(step: Result<T, sched::BadTransition>) -> T {
    #[cold]
    #[inline(never)]
    fn refuse(bad: sched::BadTransition) -> ! {
        throw(format_args!("{bad}"))
    }
    step.unwrap_or_else(|bad| refuse(bad))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (message, start) = (info.message(), Start::caller());
    match info.location() {
        Some(at) => report(EXIT_PANIC, format_args!("panic: {message}\n  at {at}"), start),
        None => report(EXIT_PANIC, format_args!("panic: {message}"), start),
    }
}

fn exception_report(what: &Fatal<'_>) -> ! {
    let (code, start) = match what {
        Fatal::StackOverflow { frame, .. } | Fatal::OutOfStackMemory { frame, .. } => {
            (EXIT_PANIC, Start::interrupted(frame))
        }
        Fatal::KernelStackOverflow { frame, .. } | Fatal::Exception(frame) => {
            (EXIT_THROW, Start::interrupted(frame))
        }
    };
    match what {
        Fatal::StackOverflow { stack, frame } => report(
            code,
            format_args!(
                "fatal error: stack overflow: {} has used up its {} KiB\n{frame}",
                Named(stack.number()),
                (stack.top() - machine::stack::lowest(*stack)) / 1024
            ),
            start,
        ),
        Fatal::OutOfStackMemory { stack, frame } => report(
            code,
            format_args!(
                "fatal error: out of memory: no page left for the stack of {}\n{frame}",
                Named(stack.number())
            ),
            start,
        ),
        Fatal::KernelStackOverflow { frame, address } => {
            report(code, format_args!("fatal error: kernel stack overflow at {address:#x}\n{frame}"), start)
        }
        Fatal::Exception(frame) => report(code, format_args!("fatal error: {frame}"), start),
    }
}

/// A goroutine by its slot: number and name.
pub(crate) struct Named(pub(crate) u32);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = runtime::try_get().zip(sched::GoIndex::new(self.0));
        let Some((goid, slot)) = known.and_then(|(rt, g)| Some((rt.goid(g)?, rt.slot(g)))) else {
            return write!(f, "goroutine in slot {}", self.0);
        };
        match slot.body().name() {
            "" => write!(f, "goroutine {goid}"),
            name => write!(f, "goroutine {goid} [{name}]"),
        }
    }
}

/// Where the speaker is: goroutine and CPU.
struct Place;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match m::of_this_cpu().and_then(m::M::current) {
            Some(g) => write!(f, "{}", Named(g.get()))?,
            None => write!(f, "no goroutine")?,
        }
        write!(f, " on cpu {}", percpu::of_this_cpu().id().0)
    }
}
