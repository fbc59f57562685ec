//! What bring-up found out, kept for whoever wants to tell.
//!
//! ```
//! use gzero::bring_up::{self, BringUp, CpuLine, Firmware};
//!
//! let facts: &BringUp = bring_up::get();
//! let how = match facts.firmware {
//!     Firmware::Bios => "the old way",
//!     Firmware::Uefi => "the new way",
//! };
//! let online = facts.cpus.iter().filter(|cpu: &&CpuLine| cpu.is_online()).count();
//! gzero::println!("started {how}, {online} CPUs after {} us", facts.ready_at.0 / 1000);
//! assert_eq!(online, gzero::num_cpu());
//! ```

use alloc::vec::Vec;
use core::fmt;

use log::LevelFilter;
use machine::acpi::OemId;
use machine::apic::Mode;
use machine::apic::timer::TimerKind;
use machine::clock::{Clock, Nanos};
use machine::cpu::Cpu;
use machine::percpu::{CpuId, PerCpu};
use machine::smp::{self, Outcome};

use crate::args::Args;

/// Levels of the boot argument `log`.
pub(crate) const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

/// The firmware that started the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        })
    }
}

/// How one CPU came up.
#[derive(Debug, Clone, Copy)]
pub struct CpuLine {
    /// Its number.
    pub id: CpuId,
    /// Its local APIC's id.
    pub apic_id: u32,
    /// How it came up; `None` for the boot CPU, which was up before.
    pub outcome: Option<Outcome>,
    block: Option<&'static PerCpu>,
}

impl CpuLine {
    pub(crate) fn boot(block: &'static PerCpu) -> Self {
        Self { id: CpuId(0), apic_id: block.apic_id(), outcome: None, block: Some(block) }
    }

    /// Whether it runs.
    pub const fn is_online(&self) -> bool {
        matches!(self.outcome, None | Some(Outcome::Online { .. }))
    }

    pub(crate) fn block(&self) -> Option<&'static PerCpu> {
        self.block.filter(|_| self.is_online())
    }
}

impl From<smp::Report> for CpuLine {
    fn from(report: smp::Report) -> Self {
        Self {
            id: report.id,
            apic_id: report.apic_id,
            outcome: Some(report.outcome),
            block: Some(report.block),
        }
    }
}

impl fmt::Display for CpuLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu {:>3}: apic id {:>3}, ", self.id.0, self.apic_id)?;
        match self.outcome {
            None => f.write_str("boot cpu"),
            Some(Outcome::Online { after, sipis }) => {
                write!(f, "online after {} us, {sipis} SIPI{}", after.0 / 1000, plural(sipis))
            }
            Some(Outcome::Missing { sipis }) => {
                write!(f, "did not come online after {sipis} SIPI{}: left out", plural(sipis))
            }
            Some(Outcome::Unreachable) => f.write_str("its id does not fit the xAPIC: left out"),
            Some(Outcome::NoMemory) => f.write_str("no memory for its stacks: left out"),
        }
    }
}

const fn plural(n: u32) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// The facts of one boot.
#[derive(Debug)]
pub struct BringUp {
    /// The firmware.
    pub firmware: Firmware,
    /// Memory that the firmware gives to the system, in bytes.
    pub memory: u64,
    /// The boot CPU.
    pub cpu: Cpu,
    /// How local APICs are driven.
    pub apic: Mode,
    /// The clock.
    pub clock: Clock,
    /// How the local APICs' timers are driven.
    pub timer: TimerKind,
    /// Maker of the ACPI tables, if there are any.
    pub acpi_oem: Option<OemId>,
    /// All CPUs that the firmware lists as usable.
    pub cpus: Vec<CpuLine>,
    /// Ps.
    pub gomaxprocs: u32,
    /// When bring-up was done, since the start of the clock.
    pub ready_at: Nanos,
    /// The boot arguments.
    pub args: Args,
}

static BRING_UP: spin::Once<BringUp> = spin::Once::new();

pub(crate) fn publish(facts: BringUp) {
    BRING_UP.call_once(|| facts);
}

/// The facts of this boot.
///
/// # Panics
/// Before bring-up is done; never in a goroutine.
pub fn get() -> &'static BringUp {
    BRING_UP.get().expect("bring-up is done before the first goroutine runs")
}
