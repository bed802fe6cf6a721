//! How long requests take, as counts by length.
//!
//! Two classes for each doubling from 16 µs to 67 s. A percentile is interpolated within its class, so it is at most half as large
//! again as the true one, and below 16 µs it says no more than that. Histograms of several steps, volumes or nodes are added; that
//! is why they are kept and not percentiles.

/// Classes of a histogram: one below 16 µs, two for each of 22 doublings, one for the rest.
pub const CLASSES: usize = 46;
/// End of the first class in microseconds.
const FIRST_US: u64 = 16;

/// The class of a request that took so long.
#[must_use]
pub fn class_of(micros: u64) -> usize {
    if micros <= FIRST_US {
        return 0;
    }
    // Classes include their end: 24 µs are in the class that ends there.
    let below = micros - 1;
    let doubling = below.ilog2() - FIRST_US.ilog2();
    let upper = (below >> (doubling + FIRST_US.ilog2() - 1)) & 1;
    let class = 2 * doubling as usize + 1 + upper as usize;
    class.min(CLASSES - 1)
}

/// The end of a class in microseconds, inclusive; nothing for the last one, which has none.
#[must_use]
pub fn end_us(class: usize) -> Option<u64> {
    match class {
        0 => Some(FIRST_US),
        _ if class >= CLASSES - 1 => None,
        _ if class % 2 == 1 => Some((FIRST_US * 3 / 2) << (class / 2)),
        _ => Some(FIRST_US << (class / 2)),
    }
}

/// Counts by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram(pub [u64; CLASSES]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; CLASSES])
    }
}

impl Histogram {
    /// Requests counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&count| count == 0)
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (own, more) in self.0.iter_mut().zip(&other.0) {
            *own = own.saturating_add(*more);
        }
    }

    /// Microseconds within which so many thousandths of the requests were done; nothing without requests. Beyond 67 s it says 67 s.
    #[must_use]
    pub fn quantile_us(&self, thousandths: u32) -> Option<u64> {
        let total = u128::from(self.total());
        if total == 0 {
            return None;
        }
        let rank = (total * u128::from(thousandths.min(1000)))
            .div_ceil(1000)
            .max(1);
        let mut before = 0_u128;
        for (class, &count) in self.0.iter().enumerate() {
            let count = u128::from(count);
            if count > 0 && before + count >= rank {
                return Some(within(class, rank - before, count));
            }
            before += count;
        }
        // Saturated counts add up to less than their sum.
        end_us(CLASSES - 2)
    }
}

/// The place of the `rank`th of `count` requests that are spread evenly over a class.
fn within(class: usize, rank: u128, count: u128) -> u64 {
    let begin = class.checked_sub(1).and_then(end_us).unwrap_or(0);
    let Some(end) = end_us(class) else {
        return begin;
    };
    let part = u128::from(end - begin) * rank / count;
    begin + u64::try_from(part).unwrap_or(end - begin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_follow_each_other_without_a_hole() {
        let mut last = 0;
        for class in 0..CLASSES - 1 {
            let end = end_us(class).unwrap();
            assert!(end > last, "class {class} ends at {end}");
            assert_eq!(class_of(end), class);
            assert_eq!(class_of(end + 1), class + 1);
            last = end;
        }
        assert_eq!(last, 16 << 22);
        assert_eq!(class_of(u64::MAX), CLASSES - 1);
        assert_eq!(end_us(CLASSES - 1), None);
    }

    #[test]
    fn powers_of_four_from_64_are_ends() {
        for power in 0..9 {
            let bound = 64_u64 << (2 * power);
            assert_eq!(end_us(class_of(bound)), Some(bound));
        }
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Histogram::default().quantile_us(990), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_in_the_class_of_the_true_one(
            mut lengths in proptest::collection::vec(1_u64..1 << 26, 1..200),
            thousandths in 1_u32..=1000,
        ) {
            let mut histogram = Histogram::default();
            for &length in &lengths {
                histogram.0[class_of(length)] += 1;
            }
            lengths.sort_unstable();
            let rank = (lengths.len() * thousandths as usize).div_ceil(1000);
            let true_one = lengths[rank - 1];
            let said = histogram.quantile_us(thousandths).unwrap();
            let class = class_of(true_one);
            let begin = class.checked_sub(1).and_then(end_us).unwrap_or(0);
            prop_assert!(said >= begin && said <= end_us(class).unwrap(), "{said} for {true_one}");
        }

        #[test]
        fn merging_is_counting_together(
            one in proptest::collection::vec(1_u64..1 << 26, 0..50),
            other in proptest::collection::vec(1_u64..1 << 26, 0..50),
        ) {
            let of = |lengths: &[u64]| {
                let mut histogram = Histogram::default();
                lengths.iter().for_each(|&length| histogram.0[class_of(length)] += 1);
                histogram
            };
            let mut merged = of(&one);
            merged.add(&of(&other));
            prop_assert_eq!(merged, of(&[one, other].concat()));
        }
    }
}
