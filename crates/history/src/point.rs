//! What is measured of an entity, and what became of it in a step.
//!
//! One layout for volumes, stores and nodes: what an entity does not have stays zero and takes no space. A new figure goes to the
//! end of its list.

use crate::latency::Histogram;

/// Counters of an entity.
pub const COUNTERS: usize = 11;
/// Gauges of an entity.
pub const GAUGES: usize = 4;
/// Latency histograms of an entity.
pub const LATENCIES: usize = 3;

/// What a counter counts: its place in [`Sample::counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Reads done.
    Reads,
    /// Writes done.
    Writes,
    /// Flushes done.
    Flushes,
    /// Trims done.
    Trims,
    /// Requests that failed.
    Errors,
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WrittenBytes,
    /// Microseconds that reads took, together.
    ReadMicros,
    /// Microseconds that writes took, together.
    WriteMicros,
    /// Microseconds that flushes took, together.
    FlushMicros,
    /// Milliseconds of processor time.
    CpuMillis,
}

/// What a gauge measures: its place in [`Sample::gauges`]. One place has another meaning for each kind of entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Of a volume: bytes mapped. Of a store: bytes used. Of a node: bytes of memory.
    Space,
    /// Of a volume: bytes undrained. Of a store: journal bytes needed. Of a node: volumes it owns.
    Pending,
    /// Of a store: bytes it has.
    Capacity,
    /// For later use.
    Spare,
}

/// Which latency: its place in [`Sample::latency`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of reads.
    Read,
    /// Of writes.
    Write,
    /// Of flushes.
    Flush,
}

/// Figures of an entity at one moment: counters since it began to count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Which run of counting it is: another one begins at zero.
    pub run: u64,
    /// By [`Counter`].
    pub counters: [u64; COUNTERS],
    /// By [`Gauge`].
    pub gauges: [u64; GAUGES],
    /// By [`Kind`].
    pub latency: [Histogram; LATENCIES],
}

/// A gauge over a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Mean.
    pub mean: u64,
    /// Highest; not below the mean.
    pub max: u64,
}

/// What happened in a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// By [`Counter`]: so much more than before.
    pub counters: [u64; COUNTERS],
    /// By [`Gauge`].
    pub gauges: [Level; GAUGES],
    /// By [`Kind`]: requests of the step.
    pub latency: [Histogram; LATENCIES],
}

impl Sample {
    /// Whether it cannot be a later sample of what counted `before`.
    fn began_anew(&self, before: &Self) -> bool {
        let counters = self.counters.iter().zip(&before.counters);
        let classes = self.latency.iter().zip(&before.latency);
        self.run != before.run
            || counters.into_iter().any(|(now, then)| now < then)
            || classes
                .flat_map(|(now, then)| now.0.iter().zip(&then.0))
                .any(|(now, then)| now < then)
    }

    /// What happened since `before`. Without it, or when a counter went back, all of it did: counting began anew.
    #[must_use]
    pub fn since(&self, before: Option<&Self>) -> Point {
        let level = |&value: &u64| Level {
            mean: value,
            max: value,
        };
        let mut point = Point {
            counters: self.counters,
            gauges: [Level::default(); GAUGES],
            latency: self.latency,
        };
        for (place, value) in point.gauges.iter_mut().zip(&self.gauges) {
            *place = level(value);
        }
        let Some(before) = before.filter(|before| !self.began_anew(before)) else {
            return point;
        };
        for (now, then) in point.counters.iter_mut().zip(&before.counters) {
            *now -= then;
        }
        for (now, then) in point.latency.iter_mut().zip(&before.latency) {
            for (now, then) in now.0.iter_mut().zip(&then.0) {
                *now -= then;
            }
        }
        point
    }
}

impl Point {
    /// A longer step made of shorter ones.
    #[must_use]
    pub fn merged<'a>(points: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        let (mut means, mut count) = ([0_u128; GAUGES], 0_u128);
        for point in points {
            count += 1;
            for (own, more) in sum.counters.iter_mut().zip(&point.counters) {
                *own = own.saturating_add(*more);
            }
            for (own, more) in sum.latency.iter_mut().zip(&point.latency) {
                own.add(more);
            }
            for (index, level) in point.gauges.iter().enumerate() {
                means[index] += u128::from(level.mean);
                sum.gauges[index].max = sum.gauges[index].max.max(level.max);
            }
        }
        for (level, mean) in sum.gauges.iter_mut().zip(means) {
            let mean = mean / count.max(1);
            level.mean = u64::try_from(mean).unwrap_or(u64::MAX);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(reads: u64, class: usize, space: u64) -> Sample {
        let mut sample = Sample::default();
        sample.counters[Counter::Reads as usize] = reads;
        sample.latency[Kind::Read as usize].0[class] = reads;
        sample.gauges[Gauge::Space as usize] = space;
        sample
    }

    #[test]
    fn a_step_is_the_difference_and_all_of_it_after_a_reset() {
        let (first, second) = (sample(10, 3, 5), sample(25, 3, 7));
        let step = second.since(Some(&first));
        assert_eq!(step.counters[0], 15);
        assert_eq!(step.latency[0].0[3], 15);
        assert_eq!(step.gauges[0], Level { mean: 7, max: 7 });
        let anew = sample(4, 3, 7).since(Some(&second));
        assert_eq!(anew.counters[0], 4, "the process began anew");
        // More requests than before, and yet another process: they are of other lengths.
        let other = sample(30, 9, 7).since(Some(&second));
        assert_eq!((other.counters[0], other.latency[0].0[9]), (30, 30));
        let mut run = sample(30, 3, 7);
        run.run = 1;
        assert_eq!(run.since(Some(&second)).counters[0], 30);
    }

    #[test]
    fn a_longer_step_has_sums_means_and_the_highest() {
        let first = sample(10, 3, 4).since(None);
        let second = sample(20, 5, 8).since(None);
        let merged = Point::merged([&first, &second]);
        assert_eq!(merged.counters[0], 30);
        assert_eq!(merged.gauges[0], Level { mean: 6, max: 8 });
        assert_eq!(merged.latency[0].total(), 30);
        assert_eq!(Point::merged([]), Point::default());
    }
}
