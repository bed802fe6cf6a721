//! Verbs on what is above a single volume: the cluster, its capacity, group snapshots.

use super::parse_label;
use crate::config::parse_name;
use crate::quantity::parse_duration;
use clap::{Args, Subcommand};
use std::time::Duration;

/// Verbs on the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Show the cluster's id and its nodes
    Show,
}

/// Verbs on a node or a store.
#[derive(Debug, Subcommand)]
pub enum MemberVerb {
    /// Show what ties it to the cluster
    Show {
        /// Name of the node, or id of the store.
        name: String,
    },
    /// Move everything away from it, while I/O goes on
    Drain {
        /// Name of the node, or id of the store.
        name: String,
        /// Return when it is empty.
        #[arg(long)]
        wait: bool,
    },
    /// Let it take part again
    Undrain {
        /// Name of the node, or id of the store.
        name: String,
    },
    /// Let it be away for a while without replacing what it holds
    Maintenance {
        /// Name of the node, or id of the store.
        name: String,
        /// For how long; 0s ends it.
        #[arg(value_name = "DURATION", value_parser = parse_duration)]
        duration: Duration,
    },
    /// Forget it, once it is empty
    Remove {
        /// Name of the node, or id of the store.
        name: String,
        /// It will never come back with what it holds.
        #[arg(long)]
        lost: bool,
    },
}

/// Arguments of `capacity`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct CapacityArgs {
    /// For volumes of this container: its policies and quota count.
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// For volumes with so many copies.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub rf: Option<u8>,
}

/// Verbs on group snapshots.
#[derive(Debug, Subcommand)]
pub enum GroupSnapshotVerb {
    /// Take one point in time of several volumes
    Create {
        /// Unique name; each member has it in its volume, too.
        #[arg(value_parser = parse_name)]
        name: String,
        /// The volumes.
        #[arg(required = true, num_args = 1..=64)]
        volumes: Vec<String>,
        /// A label of the members; may be repeated.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
        labels: Vec<(String, String)>,
    },
    /// List group snapshots
    List,
    /// Show a group snapshot and its members
    Show {
        /// Its id.
        id: String,
    },
    /// Delete a group snapshot with its members
    Delete {
        /// Its id.
        id: String,
    },
}
