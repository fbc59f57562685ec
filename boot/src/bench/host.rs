//! What else the host has done meanwhile: times of an emulator that shares its cores say little.

use core::fmt;
use core::num::NonZero;
use std::fs;
use std::thread::available_parallelism;
use std::time::Instant;

/// Clock ticks of the host's CPUs up to some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    /// Of all work.
    busy: u64,
    /// Of all work, and of idleness.
    all: u64,
    /// Of this program and what it has waited for.
    own: u64,
}

impl Ticks {
    fn now() -> Option<Self> {
        let (stat, own) =
            (fs::read_to_string("/proc/stat").ok()?, fs::read_to_string("/proc/self/stat").ok()?);
        let (busy, all) = of_all(&stat)?;
        Some(Self { busy, all, own: of_one(&own)? })
    }
}

/// Ticks of work, and all, by the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, ...
fn of_all(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).take(8).collect();
    let all = ticks.iter().sum::<u64>();
    Some((all.checked_sub(ticks.get(3)? + ticks.get(4)?)?, all))
}

/// Ticks of a process and its children, by its `stat`: fields 14 to 17, where 2 is its name in parentheses.
fn of_one(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: Option<Vec<u64>> =
        rest.split_whitespace().skip(11).take(4).map(|word| word.parse().ok()).collect();
    Some(ticks?.iter().sum())
}

/// Watches the host for a while.
#[derive(Debug)]
pub struct Load {
    since: Instant,
    ticks: Option<Ticks>,
}

/// What the host did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    seconds: u64,
    /// The share of all CPUs that others had, in percent.
    foreign: Option<u64>,
}

impl Load {
    /// From now on.
    pub fn begin() -> Self {
        Self { since: Instant::now(), ticks: Ticks::now() }
    }

    /// Up to now.
    pub fn end(&self) -> Report {
        let foreign = self.ticks.zip(Ticks::now()).and_then(|(before, now)| foreign(before, now));
        Report { seconds: self.since.elapsed().as_secs(), foreign }
    }
}

fn foreign(before: Ticks, now: Ticks) -> Option<u64> {
    let others = (now.busy - before.busy).saturating_sub(now.own - before.own);
    (100 * others).checked_div(now.all - before.all)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = available_parallelism().map_or(1, NonZero::get);
        write!(f, "took {} s on a host of {cpus} CPUs", self.seconds)?;
        match self.foreign {
            Some(percent) => write!(f, ", of which other programs had {percent} %"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_others_is_told_from_our_own() {
        let stat = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n";
        assert_eq!(of_all(stat), Some((150, 1_000)));
        let own = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 99";
        assert_eq!(of_one(own), Some(11 + 12 + 13 + 14));
        let before = Ticks { busy: 0, all: 0, own: 0 };
        assert_eq!(foreign(before, Ticks { busy: 150, all: 1_000, own: 50 }), Some(10));
        assert_eq!(foreign(before, before), None);
    }

    #[test]
    fn a_report_says_what_it_knows() {
        let report = Report { seconds: 5, foreign: Some(40) }.to_string();
        assert!(report.ends_with("other programs had 40 %"), "{report}");
        assert!(!Report { seconds: 5, foreign: None }.to_string().contains('%'));
    }
}
