//! How long requests of clients take, as their owner sees it: counts by length, since the last look.
//!
//! Eight classes for each doubling: a percentile is at most an eighth too large.

use std::cell::RefCell;
use world::Duration;

/// From 1 µs to more than an hour.
const CLASSES: usize = 256;
/// Bits that tell classes within a doubling.
const FINE_BITS: u32 = 3;

/// Requests by how long they took.
pub(crate) struct Latency {
    counts: RefCell<[u64; CLASSES]>,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            counts: RefCell::new([0; CLASSES]),
        }
    }
}

fn class(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if micros < 1 << FINE_BITS {
        return micros as usize;
    }
    let doubling = micros.ilog2() - FINE_BITS;
    let fine = (micros >> doubling) as usize - (1 << FINE_BITS);
    let class = ((doubling as usize + 1) << FINE_BITS) + fine;
    class.min(CLASSES - 1)
}

/// The end of a class.
fn end_of(class: usize) -> Duration {
    if class < 1 << FINE_BITS {
        return Duration::from_micros(class as u64);
    }
    let (doubling, fine) = ((class >> FINE_BITS) - 1, class % (1 << FINE_BITS));
    Duration::from_micros((((1 << FINE_BITS) + fine as u64 + 1) << doubling) - 1)
}

impl Latency {
    /// Counts a request.
    pub(crate) fn note(&self, took: Duration) {
        self.counts.borrow_mut()[class(took)] += 1;
    }

    /// Requests since the last call and their 99th percentile; counting starts over.
    pub(crate) fn take(&self) -> (u64, Duration) {
        let counts = self.counts.replace([0; CLASSES]);
        let total: u64 = counts.iter().sum();
        let mut left = total / 100;
        for (class, &count) in counts.iter().enumerate().rev() {
            if count > left {
                return (total, end_of(class));
            }
            left -= count;
        }
        (0, Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_at_most_an_eighth_too_large() {
        for micros in [0, 1, 7, 8, 9, 100, 12_345, 1_000_000, 3_599_000_000] {
            let took = Duration::from_micros(micros);
            let end = end_of(class(took));
            assert!(end >= took && end <= took + took / 8, "{took:?}: {end:?}");
        }
    }

    #[test]
    fn one_of_a_hundred_is_left_out() {
        let latency = Latency::default();
        assert_eq!(latency.take(), (0, Duration::ZERO));
        (0..99).for_each(|_| latency.note(Duration::from_micros(7)));
        latency.note(Duration::from_secs(1));
        assert_eq!(latency.take(), (100, Duration::from_micros(7)));
        assert_eq!(latency.take().0, 0);
    }
}
