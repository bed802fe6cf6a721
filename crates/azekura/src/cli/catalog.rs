//! Verbs on the catalog itself. `status`, and `backup` and `move` without a configuration ask a running node; with one, and all others, work
//! on the catalog itself and need the nodes concerned to be stopped, but for a `backup` of an etcd catalog.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Verbs on the catalog.
#[derive(Clone, Debug, Subcommand)]
pub enum CatalogVerb {
    /// Show where the catalog is, who keeps it, and how they are
    Status,
    /// Write all rows of the catalog, as they are at one moment, into a file
    Backup {
        /// Where to write it; nothing may be there.
        file: PathBuf,
        /// Read the catalog that this configuration of a node names, instead of asking a running node.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Write what the stores of this machine say into a file, for a rebuild elsewhere; the node must be stopped
    Survey {
        /// Where to write it; nothing may be there.
        file: PathBuf,
        /// Configuration of the node whose stores these are.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make an empty catalog anew from what the disks of all stores say; all nodes must be stopped
    Rebuild {
        /// Where the stores are.
        #[command(flatten)]
        disks: DisksArgs,
    },
    /// Make an empty catalog anew from a backup and from what the disks have learned since; all nodes must be stopped
    Restore {
        /// The backup.
        file: PathBuf,
        /// Where the stores are.
        #[command(flatten)]
        disks: DisksArgs,
    },
    /// Let a volume that a rebuild found incomplete be used as it is
    Accept {
        /// Its name.
        volume: String,
        /// Configuration of a node: it says where the catalog is.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Move the catalog of a single process from its file to etcd, while it is used
    Move {
        /// Move that of a stopped node, whose configuration this is, instead of asking a running one.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// etcd's client URLs.
        #[arg(long, value_name = "URL", required_unless_present = "supervised", num_args = 1..)]
        to: Vec<String>,
        /// To an etcd that the nodes themselves run, where their configuration has a table [etcd]; it begins on the node that
        /// is asked.
        #[arg(long, conflicts_with = "to")]
        supervised: bool,
        /// Before every key in etcd.
        #[arg(long, default_value = "/azekura/")]
        prefix: String,
    },
}

impl CatalogVerb {
    /// Whether a running node carries it out.
    #[must_use]
    pub fn asks_a_node(&self) -> bool {
        matches!(
            self,
            Self::Status | Self::Backup { config: None, .. } | Self::Move { config: None, .. }
        )
    }
}

/// Where the stores of a cluster are, and what goes on without.
#[derive(Clone, Debug, Args)]
pub struct DisksArgs {
    /// Configuration of a node whose disks are in this machine; may be repeated. The first one names the catalog.
    #[arg(long = "config", value_name = "FILE", required = true)]
    pub configs: Vec<PathBuf>,
    /// What `azekura catalog survey` wrote on another machine; may be repeated.
    #[arg(long = "survey", value_name = "FILE")]
    pub surveys: Vec<PathBuf>,
    /// Id of a store that is lost for good; may be repeated.
    #[arg(long = "without", value_name = "STORE")]
    pub without: Vec<u32>,
    /// A volume that is used as it is found, although it may lack what was written last; `volume-N` or `snapshot-N` for one
    /// without a name; may be repeated.
    #[arg(long = "accept-loss", value_name = "NAME")]
    pub accept_loss: Vec<String>,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    pub dry_run: bool,
}
