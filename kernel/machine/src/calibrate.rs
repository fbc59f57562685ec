//! Measuring the TSC against a counter whose rate is known.
//!
//! An emulated CPU may stop for milliseconds at any instruction. Between the two ends of a window that does no
//! harm, because both counters go on. At an end it does: so each end is read as TSC, counter, TSC, several
//! times over, and the closest bracket counts. Windows whose brackets are still wide are outvoted: the median
//! of the best ones is the result.

use core::arch::x86_64::__cpuid;

use x86_64::instructions::port::Port;

use crate::acpi::{PmTimer, Register, Tables};
use crate::clock::{self, ClockSource};
use crate::window::PhysWindow;

/// A window lasts 1/100 s.
const WINDOWS_PER_SECOND: u64 = 100;
/// Most windows that are measured, and how many of the best make the median.
const MOST_WINDOWS: usize = 12;
const BEST_WINDOWS: usize = 5;
/// Doubt, in parts per million, below which a window is good: no more are measured once there are enough.
const GOOD: u64 = 500;
/// Brackets tried at each end of a window.
const BRACKETS: u32 = 8;
/// Reads after which a counter that shows no change is dead: 10 ms or more, where the slowest needs 1 µs.
const DEAD_READS: u32 = 100_000;
/// Reads after which a window that does not end is given up: 200 ms or more, twenty times what it should take.
const WINDOW_READS: u32 = 1 << 22;
/// Rates of the TSC that are believed.
const BELIEVED_HZ: core::ops::RangeInclusive<u64> = 1_000_000..=100_000_000_000;

/// A counter of known rate.
pub(crate) trait Reference {
    /// Counts per second.
    fn hz(&self) -> u64;
    /// Valid bits of the count, as a mask.
    fn mask(&self) -> u64;
    /// The count; rises and wraps around at the mask.
    fn count(&mut self) -> u64;
    /// Counts from one to a later one, of which at most one wrapped around.
    fn between(&self, earlier: u64, later: u64) -> u64 {
        later.wrapping_sub(earlier) & self.mask()
    }
    /// Called before each window.
    fn begin(&mut self) {}
    /// Whether the count since [`Reference::begin`] may have wrapped around unseen.
    fn overflowed(&mut self) -> bool {
        false
    }
    /// The TSC; tests bring their own.
    fn tsc(&mut self) -> u64 {
        clock::rdtsc().0
    }
}

/// The TSC's rate in ticks per second, and where it comes from.
pub(crate) fn tsc_rate(tables: &Tables, window: PhysWindow) -> (u64, ClockSource) {
    hpet(tables, window).or_else(|| pm_timer(tables, window)).or_else(pit).or_else(cpuid).unwrap_or_else(
        || {
            log::error!(
                "clock: nothing to measure the TSC against; 1 GHz is assumed and all times may be wrong"
            );
            (1_000_000_000, ClockSource::Guess)
        },
    )
}

fn hpet(tables: &Tables, window: PhysWindow) -> Option<(u64, ClockSource)> {
    let rate = Hpet::open(tables.hpet?, window).and_then(|mut hpet| measure(&mut hpet));
    accept(rate, ClockSource::Hpet)
}

fn pm_timer(tables: &Tables, window: PhysWindow) -> Option<(u64, ClockSource)> {
    let rate = PmCounter::open(tables.pm_timer?, window).and_then(|mut timer| measure(&mut timer));
    accept(rate, ClockSource::PmTimer)
}

fn pit() -> Option<(u64, ClockSource)> {
    accept(measure(&mut Pit::open()), ClockSource::Pit)
}

fn accept(rate: Option<u64>, source: ClockSource) -> Option<(u64, ClockSource)> {
    if rate.is_none() {
        log::warn!("clock: the {source} does not count; trying the next source");
    }
    rate.map(|hz| (hz, source))
}

/// What the CPU itself says. Intel SDM vol. 2A, "CPUID", leaves 0x15 and 0x16.
fn cpuid() -> Option<(u64, ClockSource)> {
    let last = __cpuid(0).eax;
    let crystal = || {
        let leaf = (last >= 0x15).then(|| __cpuid(0x15))?;
        (u64::from(leaf.ecx) * u64::from(leaf.ebx)).checked_div(u64::from(leaf.eax))
    };
    let nominal = || (last >= 0x16).then(|| u64::from(__cpuid(0x16).eax & 0xffff) * 1_000_000);
    let believed = |hz: &u64| BELIEVED_HZ.contains(hz);
    let hz = crystal().filter(believed).or_else(|| nominal().filter(believed))?;
    log::warn!("clock: no timer works; the TSC's rate of {hz} Hz is the CPU's own claim");
    Some((hz, ClockSource::Cpuid))
}

/// The rate of a counter that only guesses its own, against a TSC of known rate. `None` if it does not count.
pub(crate) fn rate_of(counter: &mut dyn Reference, tsc_hz: u64) -> Option<u64> {
    // The TSC's rate comes out wrong by as much as the guess is.
    let wrong = measure(counter)?;
    let hz = (u128::from(counter.hz()) * u128::from(tsc_hz)).checked_div(u128::from(wrong))?;
    u64::try_from(hz).ok().filter(|hz| BELIEVED_HZ.contains(hz))
}

/// One measurement of the TSC's rate.
#[derive(Debug, Clone, Copy)]
struct Window {
    hz: u64,
    /// How wrong it can be at most, in parts per million.
    doubt: u64,
}

/// The TSC's rate by this counter, or `None` if it does not count (or stops doing so).
fn measure(reference: &mut dyn Reference) -> Option<u64> {
    reference.begin();
    let first = reference.count();
    (0..DEAD_READS).find(|_| reference.count() != first)?;
    let mut windows = [Window { hz: 0, doubt: u64::MAX }; MOST_WINDOWS];
    let (mut measured, mut good) = (0, 0);
    for _ in 0..MOST_WINDOWS {
        let (begin, end) = ends(reference)?;
        if let Some(window) = evaluate(reference, begin, end) {
            *windows.get_mut(measured)? = window;
            measured += 1;
            good += usize::from(window.doubt <= GOOD);
        }
        if good == BEST_WINDOWS {
            break;
        }
    }
    median_of_best(windows.get_mut(..measured)?)
}

fn median_of_best(windows: &mut [Window]) -> Option<u64> {
    windows.sort_unstable_by_key(|window| window.doubt);
    let best = windows.get_mut(..BEST_WINDOWS.min(windows.len()))?;
    best.sort_unstable_by_key(|window| window.hz);
    best.get(best.len() / 2).map(|window| window.hz)
}

/// The counter and the TSC at one moment.
#[derive(Debug, Clone, Copy)]
struct End {
    count: u64,
    tsc: u64,
    /// Ticks between the two reads of the TSC around that of the counter.
    bracket: u64,
}

/// Waits for a window to pass. `None` if it does not.
fn ends(reference: &mut dyn Reference) -> Option<(End, End)> {
    reference.begin();
    let begin = sample(reference);
    let length = reference.hz() / WINDOWS_PER_SECOND;
    (0..WINDOW_READS).find(|_| {
        let count = reference.count();
        reference.between(begin.count, count) >= length
    })?;
    Some((begin, sample(reference)))
}

fn sample(reference: &mut dyn Reference) -> End {
    let mut best = End { count: 0, tsc: 0, bracket: u64::MAX };
    for _ in 0..BRACKETS {
        let before = reference.tsc();
        let count = reference.count();
        let bracket = reference.tsc().wrapping_sub(before);
        if bracket < best.bracket {
            best = End { count, tsc: before + bracket / 2, bracket };
        }
    }
    best
}

/// `None` for a window that says nothing: the counter overflowed, or the rate is absurd.
fn evaluate(reference: &mut dyn Reference, begin: End, end: End) -> Option<Window> {
    if reference.overflowed() {
        return None;
    }
    let counts = reference.between(begin.count, end.count);
    let ticks = end.tsc.wrapping_sub(begin.tsc);
    let hz = (u128::from(ticks) * u128::from(reference.hz())).checked_div(u128::from(counts))?;
    let hz = u64::try_from(hz).ok().filter(|hz| BELIEVED_HZ.contains(hz))?;
    let doubt = u128::from(begin.bracket) + u128::from(end.bracket);
    let doubt = (doubt * 500_000).checked_div(u128::from(ticks))?;
    Some(Window { hz, doubt: u64::try_from(doubt).unwrap_or(u64::MAX) })
}

/// The high precision event timer. IA-PC HPET specification, "Memory Mapped Registers".
struct Hpet {
    registers: *mut u8,
    hz: u64,
}

impl Hpet {
    /// Half of the capabilities register: femtoseconds per count.
    const PERIOD: usize = 0x004;
    const CONFIGURATION: usize = 0x010;
    const ENABLE: u32 = 1 << 0;
    /// Lower half of the main counter, which is all that some have.
    const COUNTER: usize = 0x0f0;
    const SIZE: u64 = 0x400;
    const FEMTOSECONDS_PER_SECOND: u64 = 1_000_000_000_000_000;
    /// The specification allows no slower counter. All ones, the answer of no device, are beyond it.
    const LONGEST_PERIOD: u32 = 100_000_000;

    /// Starts the counter if it stands. `None` if there is no counter at the address.
    fn open(address: u64, window: PhysWindow) -> Option<Self> {
        let there = address != 0 && address.is_multiple_of(8);
        let registers = window.virt(address, Self::SIZE).filter(|_| there)?;
        let mut hpet = Self { registers, hz: 0 };
        let period = hpet.read(Self::PERIOD);
        if !(1..=Self::LONGEST_PERIOD).contains(&period) {
            return None;
        }
        hpet.hz = Self::FEMTOSECONDS_PER_SECOND / u64::from(period);
        let configuration = hpet.read(Self::CONFIGURATION);
        hpet.write(Self::CONFIGURATION, configuration | Self::ENABLE);
        Some(hpet)
    }

    fn register(&self, offset: usize) -> *mut u32 {
        debug_assert!((offset as u64) < Self::SIZE, "a register of the HPET");
        self.registers.wrapping_add(offset).cast()
    }

    fn read(&self, offset: usize) -> u32 {
        // SAFETY: an aligned register inside the block that `open` found mapped; reading has no effect.
        unsafe { self.register(offset).read_volatile() }
    }

    fn write(&mut self, offset: usize, value: u32) {
        // SAFETY: as for reading; only the counter's enable bit is ever changed.
        unsafe { self.register(offset).write_volatile(value) };
    }
}

impl Reference for Hpet {
    fn hz(&self) -> u64 {
        self.hz
    }
    fn mask(&self) -> u64 {
        u32::MAX.into()
    }
    fn count(&mut self) -> u64 {
        self.read(Self::COUNTER).into()
    }
}

/// The power management timer. ACPI specification, "Power Management Timer".
enum PmCounter {
    Port(Port<u32>, u64),
    Memory(*mut u32, u64),
}

impl PmCounter {
    #[expect(clippy::cast_ptr_alignment, reason = "the alignment is checked")]
    fn open(timer: PmTimer, window: PhysWindow) -> Option<Self> {
        let mask = (1 << timer.bits) - 1;
        Some(match timer.register {
            Register::Port(port) => Self::Port(Port::new(port), mask),
            Register::Memory(address) => {
                let register = window.virt(address, 4)?.cast::<u32>();
                Self::Memory(Some(register).filter(|register| register.is_aligned())?, mask)
            }
        })
    }
}

impl Reference for PmCounter {
    fn hz(&self) -> u64 {
        3_579_545
    }
    fn mask(&self) -> u64 {
        let (Self::Port(_, mask) | Self::Memory(_, mask)) = self;
        *mask
    }
    fn count(&mut self) -> u64 {
        let raw = match self {
            // SAFETY: the firmware says that the timer is there; reading has no effect.
            Self::Port(port, _) => unsafe { port.read() },
            // SAFETY: as above; mapped and aligned (`open`).
            Self::Memory(register, _) => unsafe { register.read_volatile() },
        };
        u64::from(raw) & self.mask()
    }
}

/// Channel 2 of the 8254 timer, which nothing but the speaker hangs on.
///
/// Mode 0: it counts down once from the value written, and its output rises at zero.
struct Pit {
    channel: Port<u8>,
    command: Port<u8>,
    /// Gate and output of channel 2, besides the speaker's switch.
    control: Port<u8>,
    old_control: u8,
}

impl Pit {
    const GATE: u8 = 1 << 0;
    const SPEAKER: u8 = 1 << 1;
    const OUTPUT: u8 = 1 << 5;
    /// Channel 2, both bytes, mode 0, binary.
    const ONE_SHOT: u8 = 0b1011_0000;
    /// Channel 2: hold the count for reading.
    const LATCH: u8 = 0b1000_0000;
    const TOP: u16 = u16::MAX;

    fn open() -> Self {
        let mut pit = Self {
            channel: Port::new(0x42),
            command: Port::new(0x43),
            control: Port::new(0x61),
            old_control: 0,
        };
        pit.old_control = pit.read_control();
        pit.write_control(pit.old_control & !Self::SPEAKER | Self::GATE);
        pit
    }

    fn read_control(&mut self) -> u8 {
        // SAFETY: reading has no effect.
        unsafe { self.control.read() }
    }

    fn write_control(&mut self, value: u8) {
        // SAFETY: opens or shuts the gate of channel 2 and the speaker, which nobody else uses.
        unsafe { self.control.write(value) };
    }

    fn command(&mut self, value: u8) {
        // SAFETY: programs channel 2 only; its interrupt line leads nowhere.
        unsafe { self.command.write(value) };
    }
}

impl Reference for Pit {
    fn hz(&self) -> u64 {
        1_193_182
    }
    fn mask(&self) -> u64 {
        Self::TOP.into()
    }
    fn begin(&mut self) {
        self.command(Self::ONE_SHOT);
        for byte in Self::TOP.to_le_bytes() {
            // SAFETY: the count of channel 2, low byte first as the command announced.
            unsafe { self.channel.write(byte) };
        }
    }
    fn count(&mut self) -> u64 {
        self.command(Self::LATCH);
        // SAFETY: the latched count of channel 2, low byte first.
        let bytes = [(); 2].map(|()| unsafe { self.channel.read() });
        (Self::TOP - u16::from_le_bytes(bytes)).into()
    }
    fn overflowed(&mut self) -> bool {
        self.read_control() & Self::OUTPUT != 0
    }
}

impl Drop for Pit {
    fn drop(&mut self) {
        self.write_control(self.old_control);
    }
}

#[cfg(test)]
mod tests {
    use super::{DEAD_READS, Reference, Window, measure, median_of_best};

    /// A counter of 1 MHz beside a TSC of 2 GHz, in a world where a read takes 1 µs and time can jump.
    struct Simulated {
        ticks: u64,
        reads: u32,
        counts_until: u32,
        mask: u64,
        /// Every so many reads of any kind the CPU stops for 5 ms.
        stop_every: u32,
        overflows: bool,
    }

    impl Simulated {
        const TICKS_PER_COUNT: u64 = 2_000;

        fn new() -> Self {
            Self {
                ticks: 3_999_999,
                reads: 0,
                counts_until: u32::MAX,
                mask: 0xffff_ffff,
                stop_every: u32::MAX,
                overflows: false,
            }
        }

        fn pass(&mut self) {
            self.reads += 1;
            self.ticks += if self.reads.is_multiple_of(self.stop_every) { 10_000_000 } else { 100 };
        }

        fn rate(mut self) -> Option<u64> {
            measure(&mut self)
        }
    }

    impl Reference for Simulated {
        fn hz(&self) -> u64 {
            1_000_000
        }
        fn mask(&self) -> u64 {
            self.mask
        }
        fn count(&mut self) -> u64 {
            self.pass();
            if self.reads > self.counts_until { 5 } else { (self.ticks / Self::TICKS_PER_COUNT) & self.mask }
        }
        fn overflowed(&mut self) -> bool {
            self.overflows
        }
        fn tsc(&mut self) -> u64 {
            self.pass();
            self.ticks
        }
    }

    #[track_caller]
    fn assert_2_ghz(rate: Option<u64>) {
        let hz = rate.expect("a counter that counts");
        assert!(hz.abs_diff(2_000_000_000) < 1_000_000, "{hz} Hz is off by more than 0.05 %");
    }

    #[test]
    fn finds_the_rate() {
        assert_2_ghz(Simulated::new().rate());
    }

    #[test]
    fn stops_of_the_cpu_do_no_harm() {
        for stop_every in [7, 11, 23, 1_000, 100_003] {
            assert_2_ghz(Simulated { stop_every, ..Simulated::new() }.rate());
        }
    }

    #[test]
    fn wrapping_around_does_no_harm() {
        let narrow = Simulated { mask: 0x3fff, ..Simulated::new() };
        assert_eq!(narrow.between(0x3ffe, 1), 3);
        assert_2_ghz(narrow.rate());
    }

    #[test]
    fn a_dead_counter_is_given_up() {
        let mut dead = Simulated { counts_until: 0, ..Simulated::new() };
        assert_eq!(measure(&mut dead), None);
        assert!(dead.reads <= DEAD_READS + 1, "and soon: {} reads", dead.reads);
        let dies_later = Simulated { counts_until: DEAD_READS, ..Simulated::new() };
        assert_eq!(dies_later.rate(), None);
    }

    #[test]
    fn doubtful_windows_are_outvoted() {
        let window = |(hz, doubt)| Window { hz, doubt };
        let windows =
            [(9, 800), (9, 900), (9, 700), (4, 1), (5, 2), (9, 600), (3, 3), (9, 999), (5, 5), (9, 4)];
        assert_eq!(median_of_best(&mut windows.map(window)), Some(5));
        assert_eq!(median_of_best(&mut [window((7, 1))]), Some(7));
        assert_eq!(median_of_best(&mut []), None);
    }

    #[test]
    fn windows_that_overflow_do_not_count() {
        assert_eq!(Simulated { overflows: true, ..Simulated::new() }.rate(), None);
    }
}
