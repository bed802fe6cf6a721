//! Latencies in log-linear buckets: 64 per power of two, so a quantile is at most 1/64 too high.
//!
//! Invariant: recording never allocates and never loses a value; above 2^40 ns (18 min) all share the
//! last bucket.

use std::time::Duration;

const SUB_BITS: u32 = 6;
const SUB: usize = 1 << SUB_BITS;
const EXPONENT_MAX: u32 = 40;
/// 64 exact values, then 64 buckets for each of the powers 6 to 39: 2,240 counters, 18 KiB.
const BUCKETS: usize = SUB * (EXPONENT_MAX - SUB_BITS + 1) as usize;

/// Counts of latencies.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            sum: 0,
            max: 0,
        }
    }
}

fn bucket(nanos: u64) -> usize {
    let exponent = 63 - (nanos | 1).leading_zeros();
    if exponent < SUB_BITS {
        return usize::try_from(nanos).expect("below 64");
    }
    if exponent >= EXPONENT_MAX {
        return BUCKETS - 1;
    }
    let shift = exponent - SUB_BITS;
    let within = usize::try_from((nanos >> shift) & (SUB as u64 - 1)).expect("below 64");
    (shift as usize + 1) * SUB + within
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let shift = bucket / SUB - 1;
    let first = (SUB + bucket % SUB) as u64;
    ((first + 1) << shift) - 1
}

impl Histogram {
    /// Adds one latency.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
    }

    /// Adds everything `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Latencies counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The largest, exactly; zero when nothing was counted.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The average; zero when nothing was counted.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.sum / u128::from(self.total.max(1));
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The latency that `parts` of `per` requests do not exceed: `quantile(999, 1000)` is the p99.9.
    ///
    /// # Panics
    /// When `per` is zero.
    #[must_use]
    pub fn quantile(&self, parts: u64, per: u64) -> Duration {
        let wanted = (u128::from(self.total) * u128::from(parts)).div_ceil(u128::from(per));
        let mut seen = 0u128;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted && seen > 0 {
                // The last bucket has no upper end of its own.
                let last = index == BUCKETS - 1;
                let bound = if last { self.max } else { upper(index) };
                return Duration::from_nanos(bound.min(self.max));
            }
        }
        Duration::ZERO
    }

    /// The median.
    #[must_use]
    pub fn p50(&self) -> Duration {
        self.quantile(50, 100)
    }

    /// The latency that 99 % of requests do not exceed.
    #[must_use]
    pub fn p99(&self) -> Duration {
        self.quantile(99, 100)
    }

    /// The latency that 99.9 % of requests do not exceed.
    #[must_use]
    pub fn p999(&self) -> Duration {
        self.quantile(999, 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_ordered() {
        for value in (0..100_000u64).chain([1 << 30, (1 << 40) - 1]) {
            let index = bucket(value);
            assert!(value <= upper(index), "{value}");
            assert!(index == 0 || value > upper(index - 1), "{value}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000u64 {
            histogram.record(Duration::from_micros(micros));
        }
        let near = |measured: Duration, micros: u128| {
            let measured = measured.as_nanos();
            assert!(measured >= micros * 1000 && measured <= micros * 1020);
        };
        near(histogram.p50(), 5_000);
        near(histogram.p99(), 9_900);
        near(histogram.p999(), 9_990);
        assert_eq!(histogram.max(), Duration::from_micros(10_000));
        assert_eq!(histogram.mean(), Duration::from_nanos(5_000_500));
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::default().p99(), Duration::ZERO);
        assert_eq!(Histogram::default().mean(), Duration::ZERO);
    }
}
