//! How much CPU time of the host QEMU uses, which tells a guest that sleeps from one that spins.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::fs;
use std::time::Instant;

use nix::unistd::{SysconfVar, sysconf};

/// Time between two samples.
const STEP: Duration = Duration::from_secs(1);
/// The latest stretch that is reported on its own, in samples.
const RECENT: usize = 10;

/// Takes a sample of a process's CPU time once a second.
#[derive(Debug)]
pub struct Meter {
    process: u32,
    start: Instant,
    samples: VecDeque<(Duration, Duration)>,
}

impl Meter {
    /// A meter for a process that starts now.
    pub fn new(process: u32) -> Self {
        Self { process, start: Instant::now(), samples: VecDeque::from([(Duration::ZERO, Duration::ZERO)]) }
    }

    /// Samples if a second has passed since the last time.
    pub fn tick(&mut self) {
        let now = self.start.elapsed();
        if self.samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= STEP)
            && let Some(used) = used(self.process)
        {
            self.samples.push_back((now, used));
            if self.samples.len() > RECENT + 1 {
                self.samples.pop_front();
            }
        }
    }

    /// What the process, which must still be there, has used up to now; `None` where the host does not tell.
    pub fn read(&self) -> Option<Usage> {
        let now = self.start.elapsed();
        let total = used(self.process)?;
        let (at, before) = self.samples.front().copied().unwrap_or_default();
        Some(Usage { total: (total, now), recent: (total.saturating_sub(before), now.saturating_sub(at)) })
    }
}

/// CPU time and the time that passed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Over the whole run.
    pub total: (Duration, Duration),
    /// Over the last ten seconds, or the whole run if it was shorter.
    pub recent: (Duration, Duration),
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QEMU used {}", Share(self.total))?;
        if self.recent.1 < self.total.1 { write!(f, "; at last {}", Share(self.recent)) } else { Ok(()) }
    }
}

struct Share((Duration, Duration));

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, passed) = self.0;
        let permille = used.as_millis() * 1000 / passed.as_millis().max(1);
        write!(
            f,
            "{}.{:02} s of CPU time in {} ({}.{}% of one CPU)",
            used.as_secs(),
            used.subsec_millis() / 10,
            seconds(passed),
            permille / 10,
            permille % 10
        )
    }
}

/// A duration as seconds with one decimal, as in `2.3 s`.
pub fn seconds(time: Duration) -> String {
    format!("{}.{} s", time.as_secs(), time.subsec_millis() / 100)
}

/// User and system time of all threads of a process, from Linux's `/proc`.
fn used(process: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
    parse(&text, u64::try_from(per_second).ok()?)
}

fn parse(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    // the name in parentheses may hold spaces; utime and stime are fields 14 and 15 of proc_pid_stat(5)
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / ticks_per_second.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let stat = "42 (qemu (x) y) S 1 42 42 0 -1 4194560 1 2 3 4 25 6 0 0 20 0 3 0 100 0 0";
        assert_eq!(parse(stat, 100), Some(Duration::from_millis(310)));
        assert_eq!(parse("nonsense", 100), None);
    }

    #[test]
    fn usage_is_told_in_seconds_and_percent() {
        let total = (Duration::from_millis(310), Duration::from_secs(10));
        let short = Usage { total, recent: total };
        assert_eq!(short.to_string(), "QEMU used 0.31 s of CPU time in 10.0 s (3.1% of one CPU)");
        let long = Usage { total: (Duration::from_secs(3), Duration::from_secs(20)), recent: total };
        assert!(long.to_string().ends_with("; at last 0.31 s of CPU time in 10.0 s (3.1% of one CPU)"));
    }
}
