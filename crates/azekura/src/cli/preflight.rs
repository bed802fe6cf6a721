//! Arguments of the verbs that look at this machine and at the cluster as a whole.

use clap::Args;
use std::path::PathBuf;

/// Arguments of `preflight`.
#[derive(Clone, Debug, Args)]
pub struct PreflightArgs {
    /// Look at the disks, ports, catalog and certificates of the node with this configuration, too.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Look at what attaching and mounting need, also with --config; without --config it is always looked at.
    #[arg(long)]
    pub attach: bool,
    /// Load kernel modules and install Debian packages that are missing.
    #[arg(long)]
    pub fix: bool,
}

/// Arguments of `support-bundle`.
#[derive(Clone, Debug, Args)]
pub struct BundleArgs {
    /// The file that is made, a gzip-compressed tar archive; it must not be there.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Configuration of a node of this machine, taken along without its secrets. May be repeated.
    #[arg(long = "config", value_name = "FILE")]
    pub configs: Vec<PathBuf>,
    /// Log of a node or of the driver, of which the end is taken along. May be repeated.
    #[arg(long = "log", value_name = "FILE")]
    pub logs: Vec<PathBuf>,
}
