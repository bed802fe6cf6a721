//! The metrics that can be asked for, and how each is made of what is recorded.

use history::{Bucket, Counter, Gauge, Histogram, Kind as Timed};

/// What a metric is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Cluster,
    Node,
    Store,
    Container,
    Volume,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Store => "store",
            Self::Container => "container",
            Self::Volume => "volume",
        }
    }
}

/// How a value is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Sum of counters per second.
    Rate(&'static [Counter]),
    /// The same of bytes.
    Bandwidth(&'static [Counter]),
    /// Percent of a core.
    Cpu,
    /// Microseconds of these kinds by how many there were.
    Mean(&'static [(Counter, Counter)]),
    /// Microseconds within which so many thousandths of these kinds were done.
    Quantile(&'static [Timed], u32),
    /// Mean of a gauge.
    Level(Gauge, &'static str),
    /// Its highest value.
    Highest(Gauge, &'static str),
    /// Mean of a gauge of the stores, added up over them.
    OfStores(Gauge, &'static str),
}

const READ: (Counter, Counter) = (Counter::Reads, Counter::ReadMicros);
const WRITE: (Counter, Counter) = (Counter::Writes, Counter::WriteMicros);
const FLUSH: (Counter, Counter) = (Counter::Flushes, Counter::FlushMicros);

/// Metrics of everything that clients use.
const ACTIVITY: &[(&str, Measure)] = &[
    (
        "iops",
        Measure::Rate(&[Counter::Reads, Counter::Writes, Counter::Trims]),
    ),
    ("read_iops", Measure::Rate(&[Counter::Reads])),
    ("write_iops", Measure::Rate(&[Counter::Writes])),
    ("flush_iops", Measure::Rate(&[Counter::Flushes])),
    ("trim_iops", Measure::Rate(&[Counter::Trims])),
    ("errors", Measure::Rate(&[Counter::Errors])),
    (
        "bandwidth",
        Measure::Bandwidth(&[Counter::ReadBytes, Counter::WrittenBytes]),
    ),
    ("read_bandwidth", Measure::Bandwidth(&[Counter::ReadBytes])),
    (
        "write_bandwidth",
        Measure::Bandwidth(&[Counter::WrittenBytes]),
    ),
    ("latency_mean", Measure::Mean(&[READ, WRITE])),
    (
        "latency_p50",
        Measure::Quantile(&[Timed::Read, Timed::Write], 500),
    ),
    (
        "latency_p95",
        Measure::Quantile(&[Timed::Read, Timed::Write], 950),
    ),
    (
        "latency_p99",
        Measure::Quantile(&[Timed::Read, Timed::Write], 990),
    ),
    ("read_latency_mean", Measure::Mean(&[READ])),
    ("read_latency_p50", Measure::Quantile(&[Timed::Read], 500)),
    ("read_latency_p95", Measure::Quantile(&[Timed::Read], 950)),
    ("read_latency_p99", Measure::Quantile(&[Timed::Read], 990)),
    ("write_latency_mean", Measure::Mean(&[WRITE])),
    ("write_latency_p50", Measure::Quantile(&[Timed::Write], 500)),
    ("write_latency_p95", Measure::Quantile(&[Timed::Write], 950)),
    ("write_latency_p99", Measure::Quantile(&[Timed::Write], 990)),
    ("flush_latency_mean", Measure::Mean(&[FLUSH])),
    ("flush_latency_p50", Measure::Quantile(&[Timed::Flush], 500)),
    ("flush_latency_p95", Measure::Quantile(&[Timed::Flush], 950)),
    ("flush_latency_p99", Measure::Quantile(&[Timed::Flush], 990)),
];

const OF_CLUSTER: &[(&str, Measure)] = &[
    ("cpu_percent", Measure::Cpu),
    ("used", Measure::OfStores(Gauge::Space, "bytes")),
    ("capacity", Measure::OfStores(Gauge::Capacity, "bytes")),
];

const OF_NODE: &[(&str, Measure)] = &[
    ("cpu_percent", Measure::Cpu),
    ("resident", Measure::Level(Gauge::Space, "bytes")),
    ("resident_max", Measure::Highest(Gauge::Space, "bytes")),
    ("volumes", Measure::Level(Gauge::Pending, "count")),
    ("used", Measure::OfStores(Gauge::Space, "bytes")),
    ("capacity", Measure::OfStores(Gauge::Capacity, "bytes")),
];

const OF_VOLUME: &[(&str, Measure)] = &[
    ("mapped", Measure::Level(Gauge::Space, "bytes")),
    ("mapped_max", Measure::Highest(Gauge::Space, "bytes")),
    ("undrained", Measure::Level(Gauge::Pending, "bytes")),
    ("undrained_max", Measure::Highest(Gauge::Pending, "bytes")),
];

/// A store's operations are those of its disks.
const OF_STORE: &[(&str, Measure)] = &[
    ("iops", Measure::Rate(&[Counter::Reads, Counter::Writes])),
    ("read_iops", Measure::Rate(&[Counter::Reads])),
    ("write_iops", Measure::Rate(&[Counter::Writes])),
    ("flush_iops", Measure::Rate(&[Counter::Flushes])),
    (
        "bandwidth",
        Measure::Bandwidth(&[Counter::ReadBytes, Counter::WrittenBytes]),
    ),
    ("read_bandwidth", Measure::Bandwidth(&[Counter::ReadBytes])),
    (
        "write_bandwidth",
        Measure::Bandwidth(&[Counter::WrittenBytes]),
    ),
    ("used", Measure::Level(Gauge::Space, "bytes")),
    ("used_max", Measure::Highest(Gauge::Space, "bytes")),
    ("journal_used", Measure::Level(Gauge::Pending, "bytes")),
    (
        "journal_used_max",
        Measure::Highest(Gauge::Pending, "bytes"),
    ),
    ("capacity", Measure::Level(Gauge::Capacity, "bytes")),
];

/// The metrics of a kind, in lists.
fn tables(kind: Kind) -> [&'static [(&'static str, Measure)]; 2] {
    match kind {
        Kind::Cluster => [ACTIVITY, OF_CLUSTER],
        Kind::Node => [ACTIVITY, OF_NODE],
        Kind::Store => [OF_STORE, &[]],
        Kind::Container => [ACTIVITY, &[]],
        Kind::Volume => [ACTIVITY, OF_VOLUME],
    }
}

/// Names of the metrics of a kind.
pub(super) fn names(kind: Kind) -> Vec<&'static str> {
    let all = tables(kind).into_iter().flatten();
    all.map(|(name, _)| *name).collect()
}

/// The metric of this name.
pub(super) fn measure(name: &str, kind: Kind) -> Option<Measure> {
    let mut all = tables(kind).into_iter().flatten();
    let found = all.find(|(known, _)| *known == name);
    found.map(|(_, measure)| measure.clone())
}

impl Measure {
    /// What its values are in.
    pub(super) fn unit(&self) -> &'static str {
        match self {
            Self::Rate(_) => "per-second",
            Self::Bandwidth(_) => "bytes-per-second",
            Self::Cpu => "percent",
            Self::Mean(_) | Self::Quantile(..) => "microseconds",
            Self::Level(_, unit) | Self::Highest(_, unit) | Self::OfStores(_, unit) => unit,
        }
    }

    /// Whether it is of the stores of what is asked about, and not of that itself.
    pub(super) fn is_of_stores(&self) -> bool {
        matches!(self, Self::OfStores(..))
    }

    /// The value of a step that is so many seconds long; nothing for a latency of which there was none.
    pub(super) fn of(&self, bucket: &Bucket, seconds: u64) -> Option<f64> {
        let count = |counter: &Counter| bucket.sum.counters[*counter as usize] as f64;
        let rate = |counters: &[Counter]| counters.iter().map(count).sum::<f64>() / seconds as f64;
        match self {
            Self::Rate(counters) | Self::Bandwidth(counters) => Some(rate(counters)),
            // Milliseconds per second are tenths of a percent.
            Self::Cpu => Some(rate(&[Counter::CpuMillis]) / 10.0),
            Self::Mean(pairs) => {
                let done: f64 = pairs.iter().map(|(done, _)| count(done)).sum();
                let took: f64 = pairs.iter().map(|(_, took)| count(took)).sum();
                (done > 0.0).then(|| took / done)
            }
            Self::Quantile(kinds, thousandths) => {
                let mut all = Histogram::default();
                for kind in *kinds {
                    all.add(&bucket.sum.latency[*kind as usize]);
                }
                all.quantile_us(*thousandths).map(|us| us as f64)
            }
            Self::Level(gauge, _) => bucket.mean(*gauge as usize).map(|mean| mean as f64),
            Self::Highest(gauge, _) => Some(bucket.sum.gauges[*gauge as usize].max as f64),
            // Levels are weighed with their seconds, and those of several stores are added up.
            Self::OfStores(gauge, _) => {
                Some(bucket.levels[*gauge as usize] as f64 / seconds as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use history::class_of;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_within_a_kind() {
        for kind in [
            Kind::Cluster,
            Kind::Node,
            Kind::Store,
            Kind::Container,
            Kind::Volume,
        ] {
            let all = names(kind);
            let unique: BTreeSet<_> = all.iter().collect();
            assert_eq!(unique.len(), all.len(), "{kind:?}");
            assert!(all.iter().all(|name| measure(name, kind).is_some()));
        }
    }

    #[test]
    fn values_follow_from_what_was_recorded() {
        let mut bucket = Bucket {
            seconds: 60,
            ..Bucket::default()
        };
        bucket.sum.counters[Counter::Reads as usize] = 90;
        bucket.sum.counters[Counter::ReadMicros as usize] = 9000;
        bucket.sum.counters[Counter::Writes as usize] = 10;
        bucket.sum.counters[Counter::WriteMicros as usize] = 91_000;
        bucket.sum.counters[Counter::CpuMillis as usize] = 15_000;
        bucket.sum.latency[Timed::Read as usize].0[class_of(100)] = 90;
        bucket.sum.latency[Timed::Write as usize].0[class_of(9100)] = 10;
        bucket.levels[Gauge::Space as usize] = 600;
        bucket.sum.gauges[Gauge::Space as usize].max = 12;
        let value = |name| {
            let measure = measure(name, Kind::Volume).or_else(|| measure(name, Kind::Node));
            measure.unwrap().of(&bucket, 60)
        };
        assert_eq!(value("read_iops"), Some(1.5));
        assert_eq!(value("cpu_percent"), Some(25.0));
        assert_eq!(value("latency_mean"), Some(1000.0));
        assert_eq!(value("flush_latency_mean"), None, "there was none");
        assert!(value("latency_p50").is_some_and(|us| us <= 128.0));
        assert!(value("latency_p95").is_some_and(|us| us > 8000.0));
        assert_eq!(value("flush_latency_p99"), None);
        assert_eq!(
            (value("mapped"), value("mapped_max")),
            (Some(10.0), Some(12.0))
        );
    }

    #[test]
    fn space_is_the_sum_over_the_stores() {
        let store = |level: u128| {
            let mut bucket = Bucket {
                seconds: 15,
                ..Bucket::default()
            };
            bucket.levels[Gauge::Space as usize] = level * 15;
            bucket
        };
        let mut both = store(10);
        both.add(&store(30));
        for kind in [Kind::Cluster, Kind::Node] {
            let used = measure("used", kind).expect("it is one of its metrics");
            assert!(used.is_of_stores());
            assert_eq!(used.of(&both, 15), Some(40.0), "{kind:?}");
        }
        let of_one = measure("used", Kind::Store).expect("it is one of its metrics");
        assert_eq!(
            (of_one.is_of_stores(), of_one.of(&both, 15)),
            (false, Some(20.0))
        );
    }
}
