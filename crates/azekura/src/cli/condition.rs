//! The argument of changes that depend on a version.

use clap::Args;

/// What a change is on top of.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct IfVersion {
    /// Only if it is still at this version, as `-o json` shows it; else nothing is changed.
    #[arg(long = "if-version", value_name = "N")]
    pub version: Option<u64>,
}
