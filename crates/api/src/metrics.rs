//! Figures over time, and the busiest volumes now.

use serde::{Deserialize, Serialize};

/// Volumes of an answer when nothing is said.
pub const BUSIEST_DEFAULT: u32 = 10;
/// Most volumes of an answer.
pub const BUSIEST_LIMIT_MAX: u32 = 10_000;

/// A measured number; never one that is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figure(pub f64);

impl Eq for Figure {}

impl Figure {
    /// A number to three digits behind the point; what is no number becomes zero.
    #[must_use]
    pub fn new(value: f64) -> Self {
        match value.is_finite() {
            true => Self((value * 1000.0).round() / 1000.0),
            false => Self(0.0),
        }
    }
}

/// Query of figures over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct MetricsQuery {
    /// What is asked about: `cluster`, `node/NAME`, `store/ID`, `container/NAME` or `volume/NAME`.
    pub entity: String,
    /// Names of metrics, separated by commas: see docs/operating/history.md.
    pub metric: String,
    /// Begin, Unix milliseconds; nothing: an hour before the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// End, Unix milliseconds; nothing: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Seconds of a step, a multiple of 15; nothing: what makes at most 360 steps. From 1800 on the history of 90 days is read, below
    /// that of a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
}

/// One metric over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SeriesAnswer {
    /// Its name.
    pub metric: String,
    /// `per-second`, `bytes-per-second`, `microseconds`, `bytes`, `percent` or `count`.
    pub unit: String,
    /// One for each step; `null` where no node knows anything, and for latencies where nothing was done.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f64>>))]
    pub values: Vec<Option<Figure>>,
}

/// Figures over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MetricsAnswer {
    /// What they are about.
    pub entity: String,
    /// Begin of the first step, Unix milliseconds.
    pub from_ms: u64,
    /// End of the last step, Unix milliseconds.
    pub to_ms: u64,
    /// Seconds of a step.
    pub step: u64,
    /// Up to when there are figures, Unix milliseconds; 0: there are none. The step that this lies in counts what was done in it so far.
    pub through_ms: u64,
    /// The metrics, as they were asked for.
    pub series: Vec<SeriesAnswer>,
    /// Nodes that did not answer: what only they know is missing.
    pub silent: Vec<String>,
}

/// What the list of the busiest volumes is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum BusyBy {
    /// Operations per second.
    #[default]
    Iops,
    /// Bytes per second.
    Bandwidth,
    /// Mean latency.
    Latency,
}

/// Query of the busiest volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct BusiestQuery {
    /// What they are ordered by; nothing: operations per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub by: Option<BusyBy>,
    /// Volumes in the answer at most, 1 to 10000; nothing: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What clients did per second, in the last step of 15 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RatesAnswer {
    /// Reads, writes and trims per second.
    #[cfg_attr(feature = "openapi", schema(value_type = f64))]
    pub iops: Figure,
    /// Reads per second.
    #[cfg_attr(feature = "openapi", schema(value_type = f64))]
    pub read_iops: Figure,
    /// Writes per second.
    #[cfg_attr(feature = "openapi", schema(value_type = f64))]
    pub write_iops: Figure,
    /// Bytes read and written per second.
    #[cfg_attr(feature = "openapi", schema(value_type = f64))]
    pub bandwidth: Figure,
    /// Bytes read per second.
    #[cfg_attr(feature = "openapi", schema(value_type = f64))]
    pub read_bandwidth: Figure,
    /// Bytes written per second.
    #[cfg_attr(feature = "openapi", schema(value_type = f64))]
    pub write_bandwidth: Figure,
    /// Mean latency of reads and writes in microseconds; absent when there were none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub latency_us: Option<Figure>,
    /// What 99 of 100 reads and writes took at most, in microseconds; absent when there were none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub latency_p99_us: Option<Figure>,
}

/// A volume now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BusyVolumeAnswer {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its container.
    pub container: String,
    /// Id of the node that owns it.
    pub owner: u32,
    /// What its clients do.
    pub rates: RatesAnswer,
}

/// A node now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BusyNodeAnswer {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Processor time in percent of one core, where the machine says.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub cpu_percent: Option<Figure>,
    /// Bytes of memory, where the machine says.
    #[serde(default)]
    pub resident: Option<u64>,
    /// Volumes that it owns.
    pub volumes: u64,
    /// What clients do with these, together.
    pub rates: RatesAnswer,
}

/// Nodes, and volumes by how busy they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BusiestAnswer {
    /// End of the newest step that is in it, Unix milliseconds; 0: none has ended yet.
    pub at_ms: u64,
    /// Nodes, by name.
    pub nodes: Vec<BusyNodeAnswer>,
    /// Volumes that a node owns, the busiest first.
    pub volumes: Vec<BusyVolumeAnswer>,
    /// Nodes that did not answer: their volumes are missing.
    pub silent: Vec<String>,
}

/// A step of some entities, as one node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPart {
    /// Which step, counted from the begin of the query.
    pub at: u32,
    /// Seconds that are known.
    pub seconds: u64,
    /// Counters that are not zero: which and how much.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<(u8, u64)>,
    /// Gauges: mean and highest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gauges: Vec<(u64, u64)>,
    /// Histograms: class and count, for each kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<Vec<(u8, u64)>>,
}

/// What one node knows of some entities: a step of a query, between nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsPart {
    /// Unix seconds up to which it has recorded.
    pub through: u64,
    /// Steps of which it knows anything.
    pub steps: Vec<StepPart>,
}
