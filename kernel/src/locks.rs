//! How often the locks of the runtime were taken, and how often a CPU waited for one that another had, or did without.

use machine::lock;

use crate::m;

/// Locks of one kind, and how often they were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockCounts {
    /// Which locks: their rank, or their purpose, as `ARCHITECTURE.md` lists them.
    pub kind: lock::Kind,
    /// Times that one was taken, on all CPUs.
    pub taken: u64,
    /// Those of them that waited for another CPU.
    pub contended: u64,
    /// Times that a CPU found one busy and went elsewhere: none of those above.
    pub passed: u64,
}

impl LockCounts {
    /// What was counted since `before`, of the same kind.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            kind: self.kind,
            taken: self.taken.saturating_sub(before.taken),
            contended: self.contended.saturating_sub(before.contended),
            passed: self.passed.saturating_sub(before.passed),
        }
    }

    /// Contended acquisitions, in hundredths of a percent of all.
    pub const fn contended_per_10_000(self) -> u64 {
        match self.taken {
            0 => 0,
            taken => self.contended.saturating_mul(10_000) / taken,
        }
    }
}

/// How often the runtime's locks were taken, waited for and passed since boot, by kind, each at about this moment.
///
/// ```
/// let waited: u64 = gzero::stats::locks().map(|locks| locks.contended).sum();
/// gzero::println!("a CPU has waited for another one's lock {waited} times");
/// for locks in gzero::stats::locks() {
///     assert!(locks.since(locks).taken == 0 && locks.contended_per_10_000() <= 10_000);
/// }
/// let first: Option<gzero::stats::LockCounts> = gzero::stats::locks().next();
/// assert!(first.is_some());
/// ```
pub fn locks() -> impl Iterator<Item = LockCounts> {
    lock::Kind::all().map(|kind| {
        let none = LockCounts { kind, taken: 0, contended: 0, passed: 0 };
        m::runtime().ms.iter().fold(none, |sum, m| {
            let here = lock::counts(m.block, kind);
            LockCounts {
                kind,
                taken: sum.taken + here.taken,
                contended: sum.contended + here.contended,
                passed: sum.passed + here.passed,
            }
        })
    })
}
