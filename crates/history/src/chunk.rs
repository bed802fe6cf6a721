//! Points of one entity in one block, as bytes.
//!
//! A chunk is a list of entries, each with a tag. Numbers are LEB128, seven bits a byte, low ones first.
//!
//! ```text
//! 0 n     n steps that nothing is known of
//! 1 n     n steps in which nothing happened and no gauge moved
//! 2 ...   one step:
//!         mask of counters that are not 0, then each of them
//!         mask of gauges: bit i: its mean is another; bit 4 + i: its highest value is above its mean;
//!         then for each of the four: difference of the mean (zigzag) if bit i, highest - mean if bit 4 + i
//!         mask of histograms that have something; for each: how many classes, then (classes passed over, count) each
//! ```

use crate::block::Damaged;
use crate::latency::{CLASSES, Histogram};
use crate::point::{COUNTERS, GAUGES, LATENCIES, Level, Point};

const UNKNOWN: u8 = 0;
const QUIET: u8 = 1;
const STEP: u8 = 2;

/// Points of an entity, to which more are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    /// Steps that it covers, quiet ones at its end included.
    steps: u32,
    /// Quiet steps at its end that are not in `bytes` yet.
    quiet: u32,
    /// The gauges of the last point.
    means: [u64; GAUGES],
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads numbers off a chunk.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (&first, rest) = self.0.split_first().ok_or(Damaged::Short)?;
        self.0 = rest;
        Ok(first)
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7F);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged::Odd("a number"))
    }

    /// A number below a bound.
    fn below(&mut self, bound: u64, what: &'static str) -> Result<u64, Damaged> {
        let value = self.number()?;
        (value < bound).then_some(value).ok_or(Damaged::Odd(what))
    }
}

impl Chunk {
    /// Steps that it covers.
    pub(crate) fn steps(&self) -> u32 {
        self.steps
    }

    fn is_quiet(&self, point: &Point) -> bool {
        let same = |(level, &mean): (&Level, &u64)| level.mean == mean && level.max == mean;
        point.counters.iter().all(|&count| count == 0)
            && point.latency.iter().all(Histogram::is_empty)
            && point.gauges.iter().zip(&self.means).all(same)
    }

    /// Adds the point of a step that is not covered yet.
    pub(crate) fn push(&mut self, step: u32, point: &Point) {
        assert!(step >= self.steps, "steps come in order");
        let unknown = step - self.steps;
        self.steps = step + 1;
        if unknown > 0 {
            self.settle();
            self.bytes.push(UNKNOWN);
            put(&mut self.bytes, u64::from(unknown));
        }
        if self.is_quiet(point) {
            self.quiet += 1;
            return;
        }
        self.settle();
        self.bytes.push(STEP);
        put_counters(&mut self.bytes, point);
        self.put_gauges(point);
        put_latency(&mut self.bytes, point);
    }

    /// Writes down the quiet steps at the end.
    fn settle(&mut self) {
        if self.quiet > 0 {
            self.bytes.push(QUIET);
            put(&mut self.bytes, u64::from(self.quiet));
            self.quiet = 0;
        }
    }

    fn put_gauges(&mut self, point: &Point) {
        let (mut mask, mut values) = (0_u64, Vec::new());
        for (index, level) in point.gauges.iter().enumerate() {
            let before = &mut self.means[index];
            if level.mean != *before {
                mask |= 1 << index;
                put(&mut values, zigzag(level.mean.wrapping_sub(*before) as i64));
                *before = level.mean;
            }
            if level.max > level.mean {
                mask |= 1 << (GAUGES + index);
                put(&mut values, level.max - level.mean);
            }
        }
        put(&mut self.bytes, mask);
        self.bytes.extend(values);
    }

    /// As it is kept.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut whole = self.clone();
        whole.settle();
        whole.bytes
    }

    /// What `bytes` say, to be gone on with.
    pub(crate) fn from_bytes(bytes: &[u8], steps_max: u32) -> Result<Self, Damaged> {
        let end = read(bytes, steps_max, &mut |_, _| {})?;
        Ok(Self {
            bytes: bytes.to_vec(),
            steps: end.steps,
            quiet: 0,
            means: end.means,
        })
    }

    /// The same without the steps from `step` on.
    pub(crate) fn before(&self, step: u32) -> Self {
        let mut kept = Self::default();
        let visited = read(&self.to_bytes(), u32::MAX, &mut |at, point| {
            if at < step {
                kept.push(at, point);
            }
        });
        visited.expect("these bytes were written here, or checked when they were read");
        kept
    }
}

fn put_counters(out: &mut Vec<u8>, point: &Point) {
    let set = point.counters.iter().enumerate();
    let mask = set.fold(0_u64, |mask, (index, &count)| {
        mask | u64::from(count > 0) << index
    });
    put(out, mask);
    for &count in point.counters.iter().filter(|&&count| count > 0) {
        put(out, count);
    }
}

fn put_latency(out: &mut Vec<u8>, point: &Point) {
    let set = point.latency.iter().enumerate();
    let mask = set.fold(0_u64, |mask, (index, one)| {
        mask | u64::from(!one.is_empty()) << index
    });
    put(out, mask);
    for histogram in point.latency.iter().filter(|one| !one.is_empty()) {
        let classes = || {
            let all = histogram.0.iter().enumerate();
            all.filter(|(_, count)| **count > 0)
        };
        put(out, classes().count() as u64);
        let mut next = 0;
        for (class, &count) in classes() {
            put(out, (class - next) as u64);
            put(out, count);
            next = class + 1;
        }
    }
}

/// Where a chunk ends.
pub(crate) struct End {
    pub(crate) steps: u32,
    means: [u64; GAUGES],
}

/// Shows every point of a chunk to `visit`, with its step. At most `steps_max` steps are believed.
pub(crate) fn read(
    bytes: &[u8],
    steps_max: u32,
    visit: &mut dyn FnMut(u32, &Point),
) -> Result<End, Damaged> {
    let mut reader = Reader(bytes);
    let mut end = End {
        steps: 0,
        means: [0; GAUGES],
    };
    while !reader.0.is_empty() {
        let tag = reader.byte()?;
        let left = u64::from(steps_max - end.steps);
        let count = match tag {
            UNKNOWN | QUIET => reader.below(left.saturating_add(1), "a run of steps")? as u32,
            STEP if left > 0 => 1,
            _ => return Err(Damaged::Odd("an entry")),
        };
        match tag {
            UNKNOWN => {}
            QUIET => {
                let point = quiet(&end.means);
                (0..count).for_each(|at| visit(end.steps + at, &point));
            }
            _ => visit(end.steps, &step(&mut reader, &mut end.means)?),
        }
        end.steps += count;
    }
    Ok(end)
}

fn quiet(means: &[u64; GAUGES]) -> Point {
    Point {
        gauges: means.map(|mean| Level { mean, max: mean }),
        ..Point::default()
    }
}

fn step(reader: &mut Reader<'_>, means: &mut [u64; GAUGES]) -> Result<Point, Damaged> {
    let mut point = Point::default();
    let mask = reader.below(1 << COUNTERS, "counters")?;
    for (index, count) in point.counters.iter_mut().enumerate() {
        if mask >> index & 1 == 1 {
            *count = reader.number()?;
        }
    }
    let mask = reader.below(1 << (2 * GAUGES), "gauges")?;
    for (index, level) in point.gauges.iter_mut().enumerate() {
        if mask >> index & 1 == 1 {
            let difference = unzigzag(reader.number()?);
            means[index] = means[index].wrapping_add(difference as u64);
        }
        level.mean = means[index];
        level.max = level.mean;
        if mask >> (GAUGES + index) & 1 == 1 {
            level.max = level.mean.saturating_add(reader.number()?);
        }
    }
    let mask = reader.below(1 << LATENCIES, "histograms")?;
    for (index, histogram) in point.latency.iter_mut().enumerate() {
        if mask >> index & 1 == 1 {
            *histogram = read_histogram(reader)?;
        }
    }
    Ok(point)
}

fn read_histogram(reader: &mut Reader<'_>) -> Result<Histogram, Damaged> {
    let mut histogram = Histogram::default();
    let classes = reader.below(CLASSES as u64 + 1, "classes")?;
    let mut next = 0;
    for _ in 0..classes {
        let class = next + reader.below(CLASSES as u64, "a class")? as usize;
        let place = histogram.0.get_mut(class).ok_or(Damaged::Odd("a class"))?;
        *place = reader.number()?;
        next = class + 1;
    }
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    fn all(bytes: &[u8], steps_max: u32) -> Result<Vec<(u32, Point)>, Damaged> {
        let mut points = Vec::new();
        read(bytes, steps_max, &mut |at, point| {
            points.push((at, point.clone()))
        })?;
        Ok(points)
    }

    prop_compose! {
        fn point()(
            counters in proptest::collection::vec(prop_oneof![Just(0), any::<u64>(), 0_u64..1000], COUNTERS),
            gauges in proptest::collection::vec((prop_oneof![Just(0), any::<u64>()], 0_u64..9), GAUGES),
            classes in proptest::collection::vec((0..LATENCIES, 0..CLASSES, 1_u64..5000), 0..9),
        ) -> Point {
            let mut point = Point::default();
            point.counters.copy_from_slice(&counters);
            for (level, (mean, more)) in point.gauges.iter_mut().zip(gauges) {
                *level = Level { mean, max: mean.saturating_add(more) };
            }
            for (which, class, count) in classes {
                point.latency[which].0[class] = count;
            }
            point
        }
    }

    proptest! {
        #[test]
        fn what_is_put_is_read(steps in proptest::collection::vec((0_u32..4, prop_oneof![Just(Point::default()), point()]), 0..40)) {
            let (mut chunk, mut expected, mut at) = (Chunk::default(), Vec::new(), 0);
            for (passed, point) in steps {
                at += passed;
                chunk.push(at, &point);
                expected.push((at, point));
                at += 1;
            }
            let bytes = chunk.to_bytes();
            prop_assert_eq!(all(&bytes, at).unwrap(), expected.clone());
            if at > 0 {
                prop_assert!(all(&bytes, at - 1).is_err(), "more steps than there can be");
            }
            // Half of it, and gone on with from its bytes, is the same.
            let half = at / 2;
            let cut = chunk.before(half);
            let mut again = Chunk::from_bytes(&cut.to_bytes(), at).unwrap();
            for (at, point) in expected.iter().filter(|(at, _)| *at >= half) {
                again.push(*at, point);
            }
            prop_assert_eq!(all(&again.to_bytes(), at).unwrap(), expected);
        }

        #[test]
        fn fuzz_any_bytes_are_points_or_damage(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(points) = all(&bytes, 240) {
                prop_assert!(points.len() <= 240);
                let sound = |(at, point): &(u32, Point)| {
                    *at < 240 && point.gauges.iter().all(|level| level.max >= level.mean)
                };
                prop_assert!(points.iter().all(sound));
                prop_assert!(Chunk::from_bytes(&bytes, 240).is_ok());
            }
        }
    }

    #[test]
    fn fuzz_corpus_of_chunks() {
        let mut points = Vec::new();
        for step in 0..12_u64 {
            let mut point = Point::default();
            if step % 3 != 2 {
                point.counters[0] = step * 1000;
                point.counters[COUNTERS - 1] = u64::MAX;
                point.gauges[1] = Level {
                    mean: step,
                    max: 2 * step,
                };
                point.latency[0].0[CLASSES - 1] = step;
            }
            points.push((5 + 2 * step as u32, point));
        }
        let mut chunk = Chunk::default();
        for (at, point) in &points {
            chunk.push(*at, point);
        }
        let target = target!("chunk");
        let committed = target.sample("some", &chunk.to_bytes());
        assert_eq!(all(&committed, 240).expect("ours"), points);
        let mut quiet = Chunk::default();
        (0..240).for_each(|step| quiet.push(step, &Point::default()));
        let quiet = target.sample("quiet", &quiet.to_bytes());
        assert_eq!(all(&quiet, 240).map(|points| points.len()), Ok(240));
        let whole = chunk.to_bytes();
        let cut = target.sample("cut", &whole[..whole.len() - 1]);
        assert!(all(&cut, 240).is_err());
        target.play(|bytes| {
            if let Ok(points) = all(bytes, 240) {
                assert!(points.len() <= 240 && points.iter().all(|(at, _)| *at < 240));
                let again = Chunk::from_bytes(bytes, 240).expect("points are a chunk");
                assert_eq!(all(&again.to_bytes(), 240), Ok(points));
            }
        });
    }

    #[test]
    fn quiet_steps_take_no_space() {
        let mut chunk = Chunk::default();
        let mut point = Point::default();
        point.gauges[0] = Level { mean: 7, max: 7 };
        (0..240).for_each(|step| chunk.push(step, &point));
        assert!(chunk.to_bytes().len() < 12, "{:?}", chunk.to_bytes());
    }
}
