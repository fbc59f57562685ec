//! What the end of QEMU means.
//!
//! The guest writes `0x10 + code` to QEMU's debug-exit device; QEMU then exits with `(value << 1) | 1`. So the
//! guest's code 0 is QEMU's 33, and QEMU's own 0 is never a success: it is a triple fault, a reset or a power-off.

use std::os::unix::process::ExitStatusExt as _;

use crate::cpu_time::seconds;
use crate::process::{Life, Status};

/// QEMU's status for the guest's exit code 0.
const GUEST_OK: i32 = 33;
/// What QEMU logs when a CPU meets a fault while it cannot deliver a double fault.
const TRIPLE_FAULT: &str = "Triple fault";
/// What `SeaBIOS` logs when it jumps to a boot sector.
const BIOS_STARTS: &str = "Booting from 0000:7c00";

/// Exit codes of the runner besides the guest's own, which end at 110.
pub mod code {
    /// A test failed, as libtest has it.
    pub const TEST_FAILED: u8 = 101;
    /// The time was over, as `timeout(1)` has it.
    pub const TIMED_OUT: u8 = 124;
    /// Triple fault.
    pub const TRIPLE_FAULT: u8 = 125;
    /// The run could not start, or QEMU failed.
    pub const NOT_RUN: u8 = 126;
    /// ^C, as shells have it.
    pub const INTERRUPTED: u8 = 130;
}

/// How a machine came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest ended it with this exit code.
    Guest(u8),
    /// A CPU gave up.
    TripleFault,
    /// The guest reset the machine or turned it off.
    Reset,
    /// QEMU ended by an error of its own.
    Qemu(i32),
    /// A signal ended QEMU.
    Signal(i32),
    /// The time was over.
    TimedOut,
    /// The user ended it.
    Interrupted,
}

/// The last stage that a machine was seen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing was seen.
    Nothing,
    /// The firmware ran.
    Firmware,
    /// The firmware started the boot loader.
    BootLoader,
    /// The program spoke.
    Program,
}

impl Stage {
    /// The stage by the firmware's own log.
    pub fn of_log(firmware_log: &str) -> Self {
        if firmware_log.contains(BIOS_STARTS) {
            Self::BootLoader
        } else if firmware_log.is_empty() {
            Self::Nothing
        } else {
            Self::Firmware
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing was heard yet, not even of the firmware",
            Self::Firmware => "the firmware ran but started no boot loader",
            Self::BootLoader => "the boot loader started, the program said nothing",
            Self::Program => "the program ran",
        }
    }
}

/// One boot that is over.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// How far it came.
    pub stage: Stage,
    /// The last full line of the first serial port.
    pub last_line: Option<String>,
    /// How long it took, its CPU time, QEMU's own messages.
    pub life: Life,
}

impl End {
    /// Reads the end from how the process ended and from QEMU's log of CPU resets.
    pub fn of(status: Status, reset_log: &str) -> Self {
        let status = match status {
            Status::TimedOut => return Self::TimedOut,
            Status::Interrupted => return Self::Interrupted,
            Status::Ended(status) => status,
        };
        match (status.code(), status.signal()) {
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
            (Some(0), _) if reset_log.contains(TRIPLE_FAULT) => Self::TripleFault,
            (Some(0), _) => Self::Reset,
            (Some(code), _) if code >= GUEST_OK && code % 2 == 1 => {
                u8::try_from((code - GUEST_OK) / 2).map_or(Self::Qemu(code), Self::Guest)
            }
            (Some(code), _) => Self::Qemu(code),
        }
    }

    /// The runner's exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Guest(code) => *code,
            Self::TripleFault => code::TRIPLE_FAULT,
            Self::Reset | Self::Qemu(_) | Self::Signal(_) => code::NOT_RUN,
            Self::TimedOut => code::TIMED_OUT,
            Self::Interrupted => code::INTERRUPTED,
        }
    }

    /// The end in a few words, as in "panicked: exit 2".
    pub fn words(&self) -> String {
        match self {
            Self::Guest(0) => "ended well: exit 0".to_owned(),
            Self::Guest(2) => "panicked: exit 2".to_owned(),
            Self::Guest(3) => "threw: exit 3".to_owned(),
            Self::Guest(code) => format!("ended with exit {code}"),
            Self::TripleFault => "triple fault".to_owned(),
            Self::Reset => "reset or powered off".to_owned(),
            Self::Qemu(status) => format!("QEMU failed with status {status}"),
            Self::Signal(signal) => format!("QEMU was ended by signal {signal}"),
            Self::TimedOut => "timed out".to_owned(),
            Self::Interrupted => "interrupted".to_owned(),
        }
    }
}

impl Outcome {
    /// What the user has to know about an end that was not a success; the guest's own words stand before it.
    pub fn report(&self) -> Vec<String> {
        let after = seconds(self.life.elapsed);
        match &self.end {
            End::Guest(0) => Vec::new(),
            End::Guest(_) => vec![format!("the guest {}", self.end.words())],
            End::TripleFault => vec![self.where_it_was("triple fault")],
            End::Reset => vec![self.where_it_was("the guest reset the machine or powered it off")],
            End::Qemu(_) | End::Signal(_) => {
                let errors = self.life.errors.lines().map(|line| format!("| {line}"));
                [self.end.words()].into_iter().chain(errors).collect()
            }
            End::TimedOut => {
                let line = self.where_it_was(&format!("timed out after {after}"));
                [line].into_iter().chain(self.life.usage.map(|usage| usage.to_string())).collect()
            }
            End::Interrupted => vec![format!("interrupted after {after}")],
        }
    }

    fn where_it_was(&self, what: &str) -> String {
        let stage = self.stage.words();
        match &self.last_line {
            Some(line) => format!("{what}: {stage}; its last line: {line}"),
            None => format!("{what}: {stage}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::process::ExitStatus;

    fn end(wait_status: i32, log: &str) -> End {
        End::of(Status::Ended(ExitStatus::from_raw(wait_status)), log)
    }

    fn exited(code: i32) -> End {
        end(code << 8, "")
    }

    #[test]
    fn only_33_is_a_success() {
        for code in 0..=255 {
            assert_eq!(exited(code).code() == 0, code == 33, "{code}");
        }
    }

    #[test]
    fn the_guests_code_becomes_ours() {
        assert_eq!(exited(35), End::Guest(1));
        assert_eq!(exited(37), End::Guest(2));
        assert_eq!(exited(253), End::Guest(110));
        assert_eq!(exited(253).code(), 110);
    }

    #[test]
    fn a_triple_fault_is_told_from_a_reset() {
        assert_eq!(end(0, "CPU Reset (CPU 0)\nTriple fault\n"), End::TripleFault);
        assert_eq!(end(0, "CPU Reset (CPU 0)\n"), End::Reset);
        assert_eq!((End::TripleFault.code(), End::Reset.code()), (125, 126));
    }

    #[test]
    fn failures_of_qemu_are_not_the_guests() {
        assert_eq!(exited(1), End::Qemu(1));
        assert_eq!(exited(34), End::Qemu(34));
        assert_eq!(end(11, ""), End::Signal(11));
        assert_eq!((exited(1).code(), end(11, "").code()), (126, 126));
    }

    #[test]
    fn stages_are_ordered_by_what_was_seen() {
        assert_eq!(Stage::of_log(""), Stage::Nothing);
        assert_eq!(Stage::of_log("SeaBIOS\n"), Stage::Firmware);
        assert_eq!(Stage::of_log("SeaBIOS\nBooting from 0000:7c00\n"), Stage::BootLoader);
        assert_eq!(Stage::of_log("SeaBIOS\n").max(Stage::Program), Stage::Program);
    }

    #[test]
    fn a_time_out_says_how_far_it_came() {
        let life = Life {
            status: Status::TimedOut,
            elapsed: Duration::from_secs(10),
            usage: None,
            errors: String::new(),
        };
        let last_line = Some("cpus: 4 online of 4".to_owned());
        let outcome = Outcome { end: End::TimedOut, stage: Stage::Program, last_line, life };
        let report = outcome.report();
        assert_eq!(report, ["timed out after 10.0 s: the program ran; its last line: cpus: 4 online of 4"]);
    }
}
