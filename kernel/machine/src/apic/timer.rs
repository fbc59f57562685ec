//! The local APIC's timer: one interrupt at a time, at a given time.
//!
//! Intel SDM vol. 3A, "APIC Timer". Where the CPU has TSC-deadline mode the time goes to a register as it is. Else the
//! timer counts down at a rate that the boot CPU measures against the TSC, and a time that is further away than the
//! counter reaches gives an early interrupt: whoever armed the timer looks at the clock and arms it again.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::model_specific::Msr;

use super::{LVT_MASKED, Mode, Register, mode, read, write};
use crate::calibrate::{self, Reference};
use crate::clock::{self, Nanos, Ticks};
use crate::cpu::Features;
use crate::irq::IrqGuard;
use crate::vector::Vector;

/// `IA32_TSC_DEADLINE`.
const TSC_DEADLINE: u32 = 0x6e0;
/// Timer mode "TSC-deadline" of the local vector table's entry; 0 is one-shot.
const LVT_TSC_DEADLINE: u32 = 0b10 << 17;
/// Divide configuration: by 1.
const DIVIDE_BY_1: u32 = 0b1011;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// How the timers of this machine are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// By a value of the TSC.
    TscDeadline,
    /// By a counter.
    OneShot {
        /// Counts per second.
        hz: u64,
    },
    /// Not at all: it does not count.
    Dead,
}

impl fmt::Display for TimerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TscDeadline => f.write_str("TSC-deadline"),
            Self::OneShot { hz } => write!(f, "one-shot at {} MHz", hz / 1_000_000),
            Self::Dead => f.write_str("dead"),
        }
    }
}

/// The counter's rate; [`DEADLINE`] when it is not used, 0 before [`init`] and when it does not count.
static HZ: AtomicU64 = AtomicU64::new(0);
/// No rate: the timers are in TSC-deadline mode.
const DEADLINE: u64 = u64::MAX;

/// The kind that [`init`] found.
pub fn kind() -> TimerKind {
    // Relaxed: written before other CPUs start, and constant from then on.
    match HZ.load(Ordering::Relaxed) {
        0 => TimerKind::Dead,
        DEADLINE => TimerKind::TscDeadline,
        hz => TimerKind::OneShot { hz },
    }
}

/// Chooses the mode, and measures the rate where it is needed (5 to 50 ms). Once, on the boot CPU, whose local APIC is
/// enabled and whose clock runs.
pub fn init(features: Features) -> TimerKind {
    if features.contains(Features::TSC_DEADLINE) {
        HZ.store(DEADLINE, Ordering::Relaxed);
        return TimerKind::TscDeadline;
    }
    write(Register::LvtTimer, LVT_MASKED);
    write(Register::DivideConfiguration, DIVIDE_BY_1);
    let hz = clock::clock().and_then(|clock| calibrate::rate_of(&mut Counter, clock.hz));
    write(Register::InitialCount, 0);
    HZ.store(hz.unwrap_or(0), Ordering::Relaxed);
    kind()
}

/// Lets this CPU's timer interrupt with [`Vector::TIMER`]. Its local APIC is enabled; nothing is armed yet.
pub fn enable() {
    let vector = u32::from(Vector::TIMER.0);
    match kind() {
        TimerKind::TscDeadline => {
            write(Register::LvtTimer, vector | LVT_TSC_DEADLINE);
            if mode() == Mode::Xapic {
                // The entry is in memory, the deadline is not: nothing else orders the two. SDM, "TSC-Deadline Mode".
                core::sync::atomic::fence(Ordering::SeqCst);
            }
        }
        TimerKind::OneShot { .. } => {
            write(Register::DivideConfiguration, DIVIDE_BY_1);
            write(Register::LvtTimer, vector);
        }
        TimerKind::Dead => {}
    }
}

/// Asks for an interrupt at this time, or at once if it has passed. Replaces what was asked for before.
///
/// The interrupt may come early (the counter's range is some seconds), never much before the time itself if that is
/// near, and late by what the machine takes. The caller is kept on its CPU.
pub fn arm(time: Nanos) {
    match kind() {
        // 0 would disarm it.
        TimerKind::TscDeadline => set_deadline(clock::clock().map_or(Ticks(1), |clock| clock.deadline(time))),
        TimerKind::OneShot { hz } => {
            // Between the look at the clock and the write no interrupt may come: the timer would be late by its length.
            let _off = IrqGuard::new();
            let left = time - clock::now();
            let counts = (u128::from(left.0) * u128::from(hz)).div_ceil(u128::from(NANOS_PER_SECOND));
            write(Register::InitialCount, u32::try_from(counts).unwrap_or(u32::MAX).max(1));
        }
        TimerKind::Dead => {}
    }
}

/// Takes back what was asked for. An interrupt that is on its way still comes. The caller is kept on its CPU.
pub fn disarm() {
    match kind() {
        TimerKind::TscDeadline => set_deadline(Ticks(0)),
        TimerKind::OneShot { .. } => write(Register::InitialCount, 0),
        TimerKind::Dead => {}
    }
}

fn set_deadline(ticks: Ticks) {
    // SAFETY: the register exists where the mode does (`init`); any value is allowed.
    unsafe { Msr::new(TSC_DEADLINE).write(ticks.0) };
}

/// The masked timer as a counter whose rate is to be found.
struct Counter;

impl Reference for Counter {
    /// A guess for the length of a window: 10 ms at 100 MHz, between 1 and 40 ms on known machines.
    fn hz(&self) -> u64 {
        100_000_000
    }

    fn mask(&self) -> u64 {
        u32::MAX.into()
    }

    fn count(&mut self) -> u64 {
        // It counts down.
        u64::from(!read(Register::CurrentCount))
    }

    fn begin(&mut self) {
        write(Register::InitialCount, u32::MAX);
    }

    fn overflowed(&mut self) -> bool {
        read(Register::CurrentCount) == 0
    }
}
