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
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use machine::apic::icr::Ipi;
use machine::console;
use machine::entry::Frame;
use machine::exception::{self, Fatal};
use machine::idt;
use machine::irq;
use machine::percpu;
use machine::qemu;
use machine::smp;
use machine::vector::Vector;

use crate::m;
use crate::runtime;

/// Exit code of panics and fatal errors.
pub(crate) const EXIT_PANIC: u8 = 2;
/// Exit code of throws.
pub(crate) const EXIT_THROW: u8 = 3;

/// CPU that speaks, plus one; 0 while all is well.
static SPEAKER: AtomicU32 = AtomicU32::new(0);
/// The speaker has met a disaster in its report.
static STUMBLED: AtomicBool = AtomicBool::new(false);

/// Sends CPU exceptions here. The table is loaded.
pub(crate) fn init() {
    exception::on_fatal(exception_report);
    idt::register(Vector::NMI, nmi);
}

/// An NMI while another CPU speaks stops this one. The speaker goes on with its report: a machine that is being
/// taken down has nothing to do about another NMI. Any other is reported and survived.
fn nmi(_: &mut Frame) {
    let id = percpu::of_this_cpu().id();
    // Acquire: pairs with the exchange in `take_floor`.
    match SPEAKER.load(Ordering::Acquire) {
        0 => console::emergency_write(format_args!("NMI on cpu {} from an unknown source\n", id.0)),
        speaker if speaker == id.0 + 1 => {}
        _ => irq::halt_forever(),
    }
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
    true
}

/// Ends the machine with `code`; no other CPU runs on.
pub(crate) fn exit(code: u8) -> ! {
    take_floor();
    qemu::exit(code)
}

/// Prints a report and ends the machine.
fn report(code: u8, what: fmt::Arguments<'_>) -> ! {
    if !take_floor() {
        // Relaxed: only the speaker comes here.
        if !STUMBLED.swap(true, Ordering::Relaxed) {
            console::emergency_write(format_args!("\n(and once more, in the report: {what})\n"));
        }
        qemu::exit(code);
    }
    console::emergency_write(format_args!("\n{what}\n{Place}\n"));
    qemu::exit(code)
}

/// A broken invariant of the kernel: prints `fatal error: …` and ends with exit code 3.
///
/// May be called on any stack, with interrupts on or off.
pub fn throw(what: fmt::Arguments<'_>) -> ! {
    report(EXIT_THROW, format_args!("fatal error: {what}"))
}

/// A program that cannot go on: prints `fatal error: …` and ends with exit code 2.
///
/// May be called on any stack, with interrupts on or off.
pub fn fatal(what: fmt::Arguments<'_>) -> ! {
    report(EXIT_PANIC, format_args!("fatal error: {what}"))
}

/// Unwraps a step of the status machine: an arrow that is not in the diagram is a throw.
pub(crate) fn check<T>(step: Result<T, sched::BadTransition>) -> T {
    step.unwrap_or_else(|bad| throw(format_args!("{bad}")))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let message = info.message();
    match info.location() {
        Some(at) => report(EXIT_PANIC, format_args!("panic: {message}\n  at {at}")),
        None => report(EXIT_PANIC, format_args!("panic: {message}")),
    }
}

fn exception_report(what: &Fatal<'_>) -> ! {
    match what {
        Fatal::StackOverflow { slot, frame } => report(
            EXIT_PANIC,
            format_args!(
                "fatal error: stack overflow: {} has used up its {} KiB\n{frame}",
                Named(*slot),
                (machine::stack::top(*slot) - machine::stack::bottom(*slot)) / 1024
            ),
        ),
        Fatal::OutOfStackMemory { slot, frame } => report(
            EXIT_PANIC,
            format_args!(
                "fatal error: out of memory: no page left for the stack of {}\n{frame}",
                Named(*slot)
            ),
        ),
        Fatal::KernelStackOverflow { frame, address } => {
            report(EXIT_THROW, format_args!("fatal error: kernel stack overflow at {address:#x}\n{frame}"))
        }
        Fatal::Exception(frame) => report(EXIT_THROW, format_args!("fatal error: {frame}")),
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
