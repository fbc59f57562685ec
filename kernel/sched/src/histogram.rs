//! Counts of lengths of time, in buckets whose width grows with the length.
//!
//! Each power of two is cut into [`PARTS`] equal parts, so a value read back is at most one part in sixteen too large. The
//! memory is fixed and no count is lost.

use alloc::boxed::Box;

/// Buckets in a power of two.
const PARTS: u64 = 1 << PART_BITS;
const PART_BITS: u32 = 4;
/// Up to 2^40 ns, 18 minutes; longer ones are in the last bucket.
const POWERS: u32 = 40;
const BUCKETS: usize = ((POWERS - PART_BITS + 1) as usize) << PART_BITS;

/// How often each length occurred.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u32]>,
    total: u64,
    max: u64,
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The bucket of a value: values below [`PARTS`] have one each.
fn bucket(value: u64) -> usize {
    let power = u64::BITS - value.leading_zeros();
    let shift = power.saturating_sub(PART_BITS + 1);
    let at = u64::from(shift) * PARTS + (value >> shift);
    usize::try_from(at).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn largest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / PARTS).saturating_sub(1);
    let part = bucket - shift * PARTS;
    ((part + 1) << shift) - 1
}

impl Histogram {
    /// No values. Allocates.
    pub fn new() -> Self {
        Self { counts: alloc::vec![0; BUCKETS].into_boxed_slice(), total: 0, max: 0, sum: 0 }
    }

    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        let count = &mut self.counts[bucket(value)];
        *count = count.saturating_add(1);
        self.total += 1;
        self.max = self.max.max(value);
        self.sum = self.sum.saturating_add(value);
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The largest value; 0 when there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The value below or at which so many thousandths of all values lie, rounded up to a bucket's end and never
    /// above the largest; 0 when there is none.
    pub fn quantile(&self, thousandths: u64) -> u64 {
        let wanted = (self.total * thousandths).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted && bucket < BUCKETS - 1 {
                return largest(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Histogram, bucket, largest};

    #[test]
    fn buckets_are_in_order_and_without_gaps() {
        assert_eq!((bucket(0), bucket(15), bucket(16)), (0, 15, 16));
        for at in 0..BUCKETS - 1 {
            assert_eq!(bucket(largest(at)), at, "the largest of bucket {at}");
            assert_eq!(bucket(largest(at) + 1), at + 1, "one more than that");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_value_read_back_is_at_most_a_sixteenth_too_large() {
        for value in (0..50).map(|n| 3_u64.pow(n % 25) + u64::from(n)) {
            let back = largest(bucket(value));
            assert!(back >= value && back - value <= value / 16, "{value} came back as {back}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.quantile(500), histogram.max()), (0, 0));
        (1..=1_000).for_each(|n| histogram.add(n));
        for (thousandths, exact) in [(1, 1), (500, 500), (990, 990), (1_000, 1_000)] {
            let found = histogram.quantile(thousandths);
            assert!(found >= exact && found <= exact + exact / 16, "{thousandths}: {found}");
        }
        assert_eq!((histogram.count(), histogram.max(), histogram.sum()), (1_000, 1_000, 500_500));
    }

    #[test]
    fn one_long_value_is_the_last_quantile() {
        let mut histogram = Histogram::new();
        (0..99).for_each(|_| histogram.add(10));
        histogram.add(u64::MAX / 2);
        assert_eq!((histogram.quantile(500), histogram.quantile(1_000)), (10, u64::MAX / 2));
    }
}
