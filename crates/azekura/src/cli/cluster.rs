//! Verbs on what is above a single volume: the cluster, its capacity, group snapshots.

use super::parse_label;
use crate::config::parse_name;
use crate::quantity::parse_duration;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;
use world::Role;

/// Verbs on the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Show the cluster's id and its nodes
    Show,
    /// Make the authority of a new cluster, and credentials for its first node and its administrator
    Init(InitArgs),
    /// Certificates for people and machines
    #[command(subcommand)]
    Credentials(CredentialsVerb),
}

/// Arguments of `cluster init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Name of the cluster.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub cluster: String,
    /// Name of the first node, as in its configuration.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub node: String,
    /// Where everything goes; must not hold an authority yet.
    #[arg(long, value_name = "FOLDER")]
    pub dir: PathBuf,
}

/// Verbs on certificates. They work where the authority's file is and need no running node.
#[derive(Debug, Subcommand)]
pub enum CredentialsVerb {
    /// Make a folder with a new key and certificate
    Create(CredentialsArgs),
    /// Say whose a folder's certificate is, and until when it holds
    Show {
        /// The folder.
        folder: PathBuf,
    },
}

/// Arguments of `cluster credentials create`.
#[derive(Debug, Args)]
pub struct CredentialsArgs {
    /// Whose they are: a person, a machine, a node.
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// What they allow: node, admin, viewer, csi or client.
    #[arg(long)]
    pub role: Role,
    /// The authority's file.
    #[arg(long, value_name = "FILE")]
    pub authority: PathBuf,
    /// The folder to make.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// How long they hold.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: Option<u32>,
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
