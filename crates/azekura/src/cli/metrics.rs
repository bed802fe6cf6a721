//! Verbs on figures: over time, and now.

use crate::quantity::parse_duration;
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// Verbs on figures.
#[derive(Clone, Debug, Subcommand)]
pub enum MetricsVerb {
    /// Print what the node counts, as Prometheus reads it
    Export,
    /// Show figures over time
    Query(QueryArgs),
    /// List nodes, and the busiest volumes
    Busiest {
        /// What volumes are ordered by.
        #[arg(long, value_enum, default_value_t = BusyOrder::Iops)]
        by: BusyOrder,
        /// Volumes at most, 1 to 10000.
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}

/// Arguments of `metrics query`.
#[derive(Clone, Debug, Args)]
pub struct QueryArgs {
    /// cluster, node/NAME, store/ID, container/NAME or volume/NAME.
    pub entity: String,
    /// Metrics, separated by commas, such as iops,bandwidth,latency_p99; a wrong one is answered with those there are.
    pub metric: String,
    /// How far back: up to a day in fine steps, up to 90 days in coarse ones.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    pub last: Duration,
    /// Until how long ago; nothing: until now.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub to: Option<Duration>,
    /// Length of a step, a multiple of 15s: what makes at most 360 of them, if nothing is said.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub step: Option<Duration>,
}

/// Arguments of `top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// What volumes are ordered by.
    #[arg(long, value_enum, default_value_t = BusyOrder::Iops)]
    pub by: BusyOrder,
    /// Volumes at most, 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Show them once, as -o json does, instead of until interrupted.
    #[arg(long)]
    pub once: bool,
}

/// What volumes are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BusyOrder {
    /// Operations per second.
    Iops,
    /// Bytes per second.
    Bandwidth,
    /// Mean latency.
    Latency,
}

impl BusyOrder {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iops => "iops",
            Self::Bandwidth => "bandwidth",
            Self::Latency => "latency",
        }
    }
}
