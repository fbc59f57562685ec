//! A time since the start of the machine.

use core::fmt;
use core::ops::{Add, AddAssign, Sub, SubAssign};
use core::time::Duration;

use machine::clock::{self, Nanos};

/// A time, in nanoseconds since the machine's clock was started. It never runs backwards for one goroutine, as far as
/// the CPUs' time stamp counters agree.
///
/// Sums and differences stop at the ends: the start, and [`NEVER`](Self::NEVER).
///
/// ```
/// use gzero::time::{Duration, Instant};
///
/// let then = Instant::now();
/// let now = Instant::now();
/// assert!(now >= then);
/// assert_eq!(then + (now - then), now);
/// assert_eq!(then - now, Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start of the clock.
    ///
    /// ```
    /// use gzero::time::Instant;
    ///
    /// assert!(Instant::BOOT < Instant::now());
    /// ```
    pub const BOOT: Self = Self(0);

    /// The end of time, which does not come: some 584 years after the start.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant};
    ///
    /// assert_eq!(Instant::now() + Duration::MAX, Instant::NEVER);
    /// ```
    pub const NEVER: Self = Self(u64::MAX);

    /// The time of now. Reads the CPU's time stamp counter; may be called anywhere.
    ///
    /// ```
    /// use gzero::time::Instant;
    ///
    /// assert!(Instant::now() < Instant::NEVER);
    /// ```
    pub fn now() -> Self {
        clock::now().into()
    }

    /// The time that has passed since; 0 if this time has not come yet. Go's `time.Since`.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant, sleep};
    ///
    /// let start = Instant::now();
    /// sleep(Duration::from_millis(1));
    /// assert!(start.elapsed() >= Duration::from_millis(1));
    /// ```
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }

    /// The time from `earlier` to this one; 0 if it is not earlier.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant};
    ///
    /// let then = Instant::BOOT + Duration::from_secs(1);
    /// assert_eq!(then.duration_since(Instant::BOOT), Duration::from_secs(1));
    /// assert_eq!(Instant::BOOT.duration_since(then), Duration::ZERO);
    /// ```
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time from `earlier` to this one, or `None` if it is later.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant};
    ///
    /// let then = Instant::BOOT + Duration::from_secs(1);
    /// assert_eq!(then.checked_duration_since(Instant::BOOT), Some(Duration::from_secs(1)));
    /// assert_eq!(Instant::BOOT.checked_duration_since(then), None);
    /// ```
    pub fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_nanos)
    }

    /// So much later, or `None` if that is no time before the end.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant};
    ///
    /// assert_eq!(Instant::BOOT.checked_add(Duration::MAX), None);
    /// assert!(Instant::BOOT.checked_add(Duration::from_secs(1)).is_some());
    /// ```
    pub fn checked_add(self, length: Duration) -> Option<Self> {
        let length = u64::try_from(length.as_nanos()).ok()?;
        self.0.checked_add(length).map(Self).filter(|sum| *sum != Self::NEVER)
    }

    /// So much earlier, or `None` if that is before the start.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant};
    ///
    /// assert_eq!(Instant::BOOT.checked_sub(Duration::from_nanos(1)), None);
    /// ```
    pub fn checked_sub(self, length: Duration) -> Option<Self> {
        let length = u64::try_from(length.as_nanos()).ok()?;
        self.0.checked_sub(length).map(Self)
    }

    /// So much later, but not after the end; the same as `+`.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant};
    ///
    /// assert_eq!(Instant::BOOT.saturating_add(Duration::MAX), Instant::NEVER);
    /// ```
    #[must_use = "the sum is a new instant"]
    pub fn saturating_add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(Nanos::from(length).0))
    }

    /// So much earlier, but not before the start; the same as `-`.
    ///
    /// ```
    /// use gzero::time::{Duration, Instant};
    ///
    /// assert_eq!(Instant::now().saturating_sub(Duration::MAX), Instant::BOOT);
    /// ```
    #[must_use = "the difference is a new instant"]
    pub fn saturating_sub(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(Nanos::from(length).0))
    }
}

impl fmt::Debug for Instant {
    /// Seconds since the start: `+1.250003s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("never");
        }
        write!(f, "+{:?}", Duration::from_nanos(self.0))
    }
}

impl From<Nanos> for Instant {
    fn from(since_boot: Nanos) -> Self {
        Self(since_boot.0)
    }
}

impl From<Instant> for Nanos {
    fn from(instant: Instant) -> Self {
        Self(instant.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        self.saturating_add(length)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, length: Duration) {
        *self = *self + length;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, length: Duration) -> Self {
        self.saturating_sub(length)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, length: Duration) {
        *self = *self - length;
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// 0 if the other one is later.
    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}
