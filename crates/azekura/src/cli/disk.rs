//! Verbs on disks.

use super::DiskListArgs;
use crate::config::parse_name;
use crate::quantity::parse_size;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Verbs on disks. `format` and `show` work on this machine and need no running node; the others ask a node.
#[derive(Clone, Debug, Subcommand)]
pub enum DiskVerb {
    /// Make disks of this machine a new, empty store
    Format(FormatArgs),
    /// Say what is on a disk of this machine
    Show {
        /// A block device or a file.
        path: PathBuf,
    },
    /// List the disks of all nodes
    List {
        /// Which part.
        #[command(flatten)]
        page: DiskListArgs,
    },
    /// Make disks of a node a new store, which takes part at once
    Add(DiskAddArgs),
    /// Move everything away from a disk's store, while I/O goes on
    Drain {
        /// The disk: NODE:PATH, or the id of its store.
        disk: String,
        /// Return when it is empty.
        #[arg(long)]
        wait: bool,
    },
    /// Let a disk's store take part again
    Undrain {
        /// The disk: NODE:PATH, or the id of its store.
        disk: String,
    },
    /// Take an empty store with its disks out of a node
    Remove {
        /// The disk: NODE:PATH, or the id of its store.
        disk: String,
        /// It will never come back with what it holds.
        #[arg(long)]
        lost: bool,
    },
    /// Put other disks in the place of a store's that are dead or drained; it is filled again
    Replace(DiskReplaceArgs),
    /// Switch on the light of a disk's slot, so that it is found
    Locate {
        /// The disk: NODE:PATH, or the id of a store for all of its disks.
        disk: String,
        /// Switch it off.
        #[arg(long)]
        off: bool,
    },
}

/// Arguments of `disk add`.
#[derive(Clone, Debug, Args)]
pub struct DiskAddArgs {
    /// Name of the node.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub node: String,
    /// What they become.
    #[command(flatten)]
    pub disks: NewDiskArgs,
}

/// Arguments of `disk replace`.
#[derive(Clone, Debug, Args)]
pub struct DiskReplaceArgs {
    /// What is replaced: NODE:PATH, or the id of its store.
    pub old: String,
    /// Give up what has its only copy there.
    #[arg(long)]
    pub lost: bool,
    /// What takes its place.
    #[command(flatten)]
    pub disks: NewDiskArgs,
}

/// Disks that become a store, and how.
#[derive(Clone, Debug, Args)]
pub struct NewDiskArgs {
    /// Make files of this size where nothing is at a path.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub create: Option<u64>,
    /// Size of the journal; nothing: chosen from the size of the first disk.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub journal_size: Option<u64>,
    /// Destroy what is on a disk: the exact words that the refusal asks for, once for each disk.
    #[arg(long = "override", value_name = "WORDS")]
    pub overrides: Vec<String>,
    /// Block devices or files as the node sees them: all disks of the store.
    #[arg(required = true, num_args = 1..=64)]
    pub paths: Vec<String>,
}

/// Arguments of `disk format`.
#[derive(Clone, Debug, Args)]
pub struct FormatArgs {
    /// Name of the cluster the store will belong to.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub cluster: String,
    /// Id of the store, unique in the cluster.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub store: u32,
    /// Size of the journal; nothing: chosen from the size of the first disk.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub journal_size: Option<u64>,
    /// Make files of this size where nothing is at a path.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub create: Option<u64>,
    /// Destroy what is on a disk: the exact words that the refusal asks for, once for each disk.
    #[arg(long = "override", value_name = "WORDS")]
    pub overrides: Vec<String>,
    /// Block devices or preallocated files: all disks of the store.
    #[arg(required = true, num_args = 1..=64)]
    pub paths: Vec<PathBuf>,
}
