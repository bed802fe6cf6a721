//! Arguments of the verb on logs.

use crate::quantity::parse_duration;
use clap::{Args, ValueEnum};
use std::time::Duration;

/// Arguments of `logs`.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// Only lines about this volume: its name, or volume- and its id; also a deleted one, as long as its task is kept.
    #[arg(long, value_name = "NAME")]
    pub volume: Option<String>,
    /// Only lines about this task and of the request that began it.
    #[arg(long, value_name = "ID")]
    pub task: Option<u64>,
    /// Only lines of this request, as the audit log and answers name it.
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// Only lines of this node.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Only lines that matter as much as this, or more.
    #[arg(long, value_enum)]
    pub level: Option<LevelName>,
    /// Only lines with this text in their message, origin or fields.
    #[arg(long)]
    pub text: Option<String>,
    /// Only lines of the last such time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub last: Option<Duration>,
    /// Only lines that are older than this.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "follow")]
    pub to: Option<Duration>,
    /// Lines at most, 1 to 2000: the newest of those that fit.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub limit: u32,
    /// Go on with what is logged from now on, until interrupted.
    #[arg(long)]
    pub follow: bool,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelName {
    /// Something did not work.
    Error,
    /// Something is odd.
    Warn,
    /// What an operator may want to know.
    Info,
    /// What a developer may want to know.
    Debug,
    /// Every step.
    Trace,
}

impl LevelName {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
