//! Time: the time stamp counter (TSC), its rate, and waiting.
//!
//! All CPUs read their own TSC and share one rate, measured at boot (`calibrate.rs`). The time is the same
//! on all CPUs as far as their TSCs are, which holds on machines with an invariant TSC and in emulators.

use core::arch::asm;
use core::fmt;
use core::hint;
use core::ops::{Add, Sub};
use core::time::Duration;

use spin::Once;

use crate::acpi::Tables;
use crate::calibrate;
use crate::cpu::Features;
use crate::window::PhysWindow;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Fraction bits of the factor from ticks to nanoseconds: its error is below one part in 2^30 at 4 GHz.
const SHIFT: u32 = 32;
/// Before the rate is known waiting assumes the fastest one, so that it waits too long rather than too short.
const FASTEST_HZ: u64 = 8_000_000_000;
/// Of this many turns of a wait loop one looks at the clock and has a `pause`.
///
/// Often enough to let a sibling or another virtual CPU run, and seldom enough not to miss what is waited for. The clock
/// costs many turns, and in QEMU its readers wait for each other: a CPU that waits and looks at it all the time holds up the one
/// that it waits for. There a `pause` takes the emulator's big lock, too, which the delivery of an interrupt needs.
const TURNS_PER_LOOK: u32 = 1024;

/// A time, or a length of time, in nanoseconds. Times count from the start of the clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// This many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// This many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }
}

impl From<Duration> for Nanos {
    /// Stops at the greatest number, some 584 years.
    fn from(length: Duration) -> Self {
        Self(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(length: Nanos) -> Self {
        Self::from_nanos(length.0)
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, length: Self) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl Sub for Nanos {
    type Output = Self;
    /// The time from `earlier` to `self`; 0 if it is not earlier.
    fn sub(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Nanos {
    /// With the unit that leaves one to three digits before the point: `87 ns`, `1.250 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..1_000 => return write!(f, "{} ns", self.0),
            1_000..1_000_000 => (1_000, "us"),
            1_000_000..NANOS_PER_SECOND => (1_000_000, "ms"),
            _ => (NANOS_PER_SECOND, "s"),
        };
        write!(f, "{}.{:03} {name}", self.0 / unit, self.0 % unit / (unit / 1_000))
    }
}

/// A value, or a difference of values, of the TSC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

/// What the TSC's rate was measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockSource {
    /// The high precision event timer.
    Hpet,
    /// The power management timer.
    PmTimer,
    /// The 8254 timer.
    Pit,
    /// Nothing: the CPU itself names the rate.
    Cpuid,
    /// Nothing: 1 GHz is assumed, and all times may be wrong by any factor.
    Guess,
}

impl fmt::Display for ClockSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hpet => "HPET",
            Self::PmTimer => "ACPI PM timer",
            Self::Pit => "PIT",
            Self::Cpuid => "CPUID",
            Self::Guess => "a guess",
        })
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Ticks per second.
    pub hz: u64,
    /// What the rate was measured against.
    pub source: ClockSource,
    /// The CPU promises one rate in all power states. Without it, times are good while the CPU does not change
    /// its speed (an emulator never does, and makes no promise).
    pub invariant: bool,
    start: Ticks,
    nanos_per_tick: u64,
}

static CLOCK: Once<Clock> = Once::new();

impl Clock {
    fn new(hz: u64, source: ClockSource, features: Features) -> Self {
        let invariant = features.contains(Features::INVARIANT_TSC);
        let hz = hz.max(1);
        let factor = (u128::from(NANOS_PER_SECOND) << SHIFT) / u128::from(hz);
        let nanos_per_tick = u64::try_from(factor).unwrap_or(u64::MAX);
        Self { hz, source, invariant, start: rdtsc(), nanos_per_tick }
    }

    /// Ticks as nanoseconds; saturates after 584 years.
    pub fn to_nanos(&self, ticks: Ticks) -> Nanos {
        let nanos = (u128::from(ticks.0) * u128::from(self.nanos_per_tick)) >> SHIFT;
        Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Nanoseconds as ticks, rounded up; saturates.
    pub fn to_ticks(&self, nanos: Nanos) -> Ticks {
        to_ticks(self.hz, nanos)
    }

    /// The TSC's first value at which it is that time, as the TSC-deadline timer takes it.
    ///
    /// The inverse of the clock itself and not of the exact rate: with that, a timer would fire a little before the clock
    /// says so, and the longer the machine is up, the more.
    pub fn deadline(&self, time: Nanos) -> Ticks {
        let ticks = (u128::from(time.0) << SHIFT).div_ceil(u128::from(self.nanos_per_tick.max(1)));
        Ticks(u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(self.start.0))
    }

    fn time_of(&self, ticks: Ticks) -> Nanos {
        // A CPU whose TSC lags behind the boot CPU's is at time 0 for a while.
        self.to_nanos(Ticks(ticks.0.saturating_sub(self.start.0)))
    }
}

fn to_ticks(hz: u64, nanos: Nanos) -> Ticks {
    let ticks = (u128::from(nanos.0) * u128::from(hz)).div_ceil(u128::from(NANOS_PER_SECOND));
    Ticks(u64::try_from(ticks).unwrap_or(u64::MAX))
}

/// Measures the TSC's rate and starts the clock at time 0. Later calls return the same clock.
///
/// Takes 50 to 150 ms. Logs which sources do not work, and says loudly when none does.
pub fn init(tables: &Tables, window: PhysWindow, features: Features) -> &'static Clock {
    CLOCK.call_once(|| {
        let (hz, source) = calibrate::tsc_rate(tables, window);
        Clock::new(hz, source, features)
    })
}

/// The clock, once [`init`] is done.
pub fn clock() -> Option<&'static Clock> {
    CLOCK.get()
}

/// The time since the start of the clock; 0 before. Never runs backwards on one CPU.
pub fn now() -> Nanos {
    time_of(rdtsc())
}

/// The length of so many ticks of the TSC.
pub fn length_of(ticks: Ticks) -> Nanos {
    CLOCK.get().map_or(Nanos(0), |clock| clock.to_nanos(ticks))
}

/// The time that a value of the TSC stands for: for values that were kept because a conversion each time would cost too much.
pub fn time_of(ticks: Ticks) -> Nanos {
    CLOCK.get().map_or(Nanos(0), |clock| clock.time_of(ticks))
}

/// The TSC of this CPU, read after all earlier loads and not before.
///
/// Intel SDM vol. 2B, "RDTSC": the fence keeps the read from being done early, so that a time taken after
/// seeing a flag is not from before the flag was set.
pub fn rdtsc() -> Ticks {
    let (high, low): (u32, u32);
    // SAFETY: reads a counter. Without `nomem`: the compiler must not move memory accesses across it either.
    unsafe { asm!("lfence", "rdtsc", out("edx") high, out("eax") low, options(nostack, preserves_flags)) };
    Ticks(u64::from(high) << 32 | u64::from(low))
}

/// The TSC of this CPU, read at about this point of the program: earlier loads may still be on their way. Half the
/// price of [`rdtsc`], for what is only compared with times much longer than that.
#[inline]
pub fn rdtsc_unordered() -> Ticks {
    // The instruction clears the upper halves of both registers (Intel SDM vol. 2B, "RDTSC").
    let (high, low): (u64, u64);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("rdx") high, out("rax") low, options(nomem, nostack, preserves_flags)) };
    Ticks(high << 32 | low)
}

/// Waits at least this long. Before [`init`] it waits longer, up to some ten times.
pub fn spin_for(length: Nanos) {
    let hz = CLOCK.get().map_or(FASTEST_HZ, |clock| clock.hz);
    let (start, ticks) = (rdtsc(), to_ticks(hz, length));
    while rdtsc().0.wrapping_sub(start.0) < ticks.0 {
        hint::spin_loop();
    }
}

/// Waits until the condition holds or the time `deadline` has come. Returns whether the condition held.
///
/// The condition is tried at least once, and once more after the deadline: a CPU that was held up for long must
/// not take that for the other side's delay. Before [`init`] every deadline has passed.
pub fn spin_until(deadline: Nanos, mut condition: impl FnMut() -> bool) -> bool {
    while CLOCK.get().is_some_and(|clock| clock.time_of(rdtsc()) < deadline) {
        if spin_without_clock(&mut condition) {
            return true;
        }
    }
    condition()
}

/// Waits until the condition holds or this time has passed, and a moment more. Returns whether the condition held.
///
/// Who waits for something that takes a moment only does not look at the clock at all.
pub fn spin_at_most(length: Nanos, mut condition: impl FnMut() -> bool) -> bool {
    spin_without_clock(&mut condition) || spin_until(now() + length, condition)
}

/// Some turns of a wait loop.
#[inline]
fn spin_without_clock(condition: &mut impl FnMut() -> bool) -> bool {
    let holds = (0..TURNS_PER_LOOK).any(|_| condition());
    if !holds {
        hint::spin_loop();
    }
    holds
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::{Clock, ClockSource, Features, Nanos, Ticks, rdtsc, spin_until};

    fn clock(hz: u64) -> Clock {
        Clock::new(hz, ClockSource::Guess, Features::empty())
    }

    #[test]
    fn years_do_not_overflow() {
        let year: u64 = 365 * 24 * 3_600;
        for hz in [100_000_000, 1_000_000_000, 2_399_997_123, 5_800_000_000] {
            let nanos = clock(hz).to_nanos(Ticks(hz * 30 * year)).0;
            let exact = 30 * year * 1_000_000_000;
            let parts_per_billion = u128::from(exact.abs_diff(nanos)) * 1_000_000_000 / u128::from(exact);
            assert!(parts_per_billion <= 2, "{hz} Hz: {parts_per_billion} parts per billion off");
        }
        assert_eq!(clock(1_000).to_nanos(Ticks(u64::MAX)), Nanos(u64::MAX));
        assert_eq!(clock(4_000_000_000).to_ticks(Nanos(u64::MAX)), Ticks(u64::MAX));
    }

    #[test]
    fn ticks_are_rounded_up_so_that_no_wait_is_short() {
        let clock = clock(2_500_000_000);
        assert_eq!(clock.to_ticks(Nanos(1)), Ticks(3));
        assert_eq!(clock.to_nanos(Ticks(2_500)), Nanos(999), "and times down");
        assert_eq!(clock.deadline(Nanos(0)), clock.start);
    }

    #[test]
    fn a_deadline_is_the_first_tick_of_its_time() {
        for hz in [100_000_000, 1_000_000_000, 2_399_997_123, 5_800_000_000] {
            let clock = clock(hz);
            for exponent in 0..60 {
                let time = Nanos((1 << exponent) + exponent);
                let ticks = clock.deadline(time).0 - clock.start.0;
                assert!(clock.to_nanos(Ticks(ticks)) >= time, "{hz} Hz: early for {time:?}");
                assert!(clock.to_nanos(Ticks(ticks - 1)) < time, "{hz} Hz: late for {time:?}");
            }
        }
    }

    #[test]
    fn times_are_shown_with_a_fitting_unit() {
        let shown = [0, 999, 1_000, 1_250_999, 999_999_999, 61_000_000_000].map(|n| Nanos(n).to_string());
        assert_eq!(shown, ["0 ns", "999 ns", "1.000 us", "1.250 ms", "999.999 ms", "61.000 s"]);
    }

    #[test]
    fn the_counter_does_not_run_backwards() {
        let mut last = rdtsc();
        for _ in 0..10_000 {
            let next = rdtsc();
            assert!(next >= last);
            last = next;
        }
    }

    #[test]
    fn without_a_clock_the_condition_is_tried_once() {
        let mut tries = 0;
        assert!(!spin_until(Nanos::from_millis(1), || {
            tries += 1;
            false
        }));
        assert_eq!(tries, 1);
        assert!(spin_until(Nanos(0), || true));
    }
}
