//! Verbs on what is above a single volume: the cluster, its capacity, group snapshots.

use super::{
    GroupListArgs, GroupSnapshotListArgs, IfVersion, LimitArgs, SettingListArgs, StoreListArgs,
    parse_label,
};
use crate::config::parse_name;
use crate::quantity::{parse_duration, parse_size};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;
use world::Role;

/// Verbs on the cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterVerb {
    /// Show the cluster's id and its nodes
    Show,
    /// Print the API's own description, an OpenAPI 3.1 document
    Api,
    /// Policies and thresholds that the nodes run with, as their configurations set them
    Settings {
        /// Which, and in which order.
        #[command(flatten)]
        page: SettingListArgs,
    },
    /// Make the authority of a new cluster, and credentials for its first node and its administrator
    Init(InitArgs),
    /// Certificates for people and machines
    #[command(subcommand)]
    Credentials(CredentialsVerb),
    /// The authority that signs the cluster's certificates
    #[command(subcommand)]
    Ca(CaVerb),
}

/// Arguments of `events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// Only events after this one, oldest first.
    #[arg(long, value_name = "ID")]
    pub after: Option<u64>,
    /// By id, severity, kind, entity or node, with `-` in front from the other end.
    #[arg(
        long,
        value_name = "FIELD",
        allow_hyphen_values = true,
        conflicts_with = "follow"
    )]
    pub sort: Option<api::EventSort>,
    /// Only events that matter so much: info, warning or critical.
    #[arg(long)]
    pub severity: Option<String>,
    /// Only events of this kind, such as node-lost.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only events about this, such as node/node-3.
    #[arg(long)]
    pub entity: Option<String>,
    /// Events at most, 1 to 500.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// Go on with what happens from now on, until interrupted.
    #[arg(long)]
    pub follow: bool,
}

/// Verbs on the authority.
#[derive(Clone, Debug, Subcommand)]
pub enum CaVerb {
    /// Who signs, who is believed, and what nodes show
    Show,
    /// Have a new authority sign; the old one is still believed, and nodes renew by themselves
    Rotate {
        /// Return at once instead of when every node has renewed.
        #[arg(long)]
        no_wait: bool,
    },
    /// End a rotation: what the old authority has signed is refused
    Retire {
        /// Also when nodes still show its certificates: they are locked out.
        #[arg(long)]
        force: bool,
    },
}

/// Verbs on stores.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreVerb {
    /// List the stores of all nodes
    List {
        /// Which part.
        #[command(flatten)]
        page: StoreListArgs,
    },
    /// Read every copy of a store now, beside the rounds and at their pace, and make good what has rotted
    Scrub {
        /// Id of the store.
        id: u32,
    },
    /// What any member has
    #[command(flatten)]
    Member(MemberVerb),
}

/// Verbs on a node.
#[derive(Clone, Debug, Subcommand)]
pub enum NodeVerb {
    /// List the nodes
    List,
    /// What any member has
    #[command(flatten)]
    Member(MemberVerb),
    /// Tokens that let nodes join
    #[command(subcommand)]
    Token(JoinTokenVerb),
    /// Make this machine a node of a cluster: its key, its certificate and a configuration
    Join(Box<JoinArgs>),
    /// Let a node take part that has joined
    Approve {
        /// Its name.
        name: String,
    },
}

/// Verbs on tokens to join.
#[derive(Clone, Debug, Subcommand)]
pub enum JoinTokenVerb {
    /// Make a token, which lets one node join
    Create {
        /// How long it can be used: an hour, if nothing is said.
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        ttl: Option<Duration>,
    },
}

/// Arguments of `node join`.
#[derive(Clone, Debug, Args)]
pub struct JoinArgs {
    /// The token, or - to read it from standard input.
    #[arg(long)]
    pub token: String,
    /// The configuration to write.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Name of the node: this machine's, if nothing is said.
    #[arg(long, value_parser = parse_name)]
    pub name: Option<String>,
    /// Folder for key and certificate: `credentials` beside the configuration, if nothing is said.
    #[arg(long = "out", value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Where to serve nodes and clients.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7401")]
    pub listen: String,
    /// What to tell others, when it differs.
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<String>,
    /// Where to serve NBD.
    #[arg(long, value_name = "ADDRESS")]
    pub nbd: Option<String>,
    /// Where to serve the API; with certificates it may be any address.
    #[arg(
        long = "serve-api",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:7400"
    )]
    pub serve_api: String,
    /// A disk, which becomes a store; may be repeated.
    #[arg(long = "disk", value_name = "PATH")]
    pub disks: Vec<PathBuf>,
    /// Make the disks as files of this size when they are absent.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub create: Option<u64>,
    /// Size of each store's journal.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub journal: Option<u64>,
    /// Where clients reach the member of the cluster's etcd that the node may be asked to run: port 2379 of where the node is
    /// reached, if nothing is said.
    #[arg(
        long = "etcd-client",
        value_name = "ADDRESS",
        conflicts_with = "no_etcd"
    )]
    pub etcd_client: Option<String>,
    /// And where other members reach it: port 2380, if nothing is said.
    #[arg(long = "etcd-peer", value_name = "ADDRESS", conflicts_with = "no_etcd")]
    pub etcd_peer: Option<String>,
    /// The node never runs a member.
    #[arg(long = "no-etcd")]
    pub no_etcd: bool,
}

/// Arguments of `cluster init`.
#[derive(Clone, Debug, Args)]
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
#[derive(Clone, Debug, Subcommand)]
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
#[derive(Clone, Debug, Args)]
pub struct CredentialsArgs {
    /// Whose they are: a person, a machine, a node.
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// What they allow: node, admin, viewer, csi or client.
    #[arg(long)]
    pub role: Role,
    /// The volumes that credentials of role csi are for.
    #[command(flatten)]
    pub limits: LimitArgs,
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
#[derive(Clone, Debug, Subcommand)]
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
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// Let it take part again
    Undrain {
        /// Name of the node, or id of the store.
        name: String,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// Let it be away for a while without replacing what it holds
    Maintenance {
        /// Name of the node, or id of the store.
        name: String,
        /// For how long; 0s ends it.
        #[arg(value_name = "DURATION", value_parser = parse_duration)]
        duration: Duration,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
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
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct CapacityArgs {
    /// For volumes of this container: its policies and quota count.
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// For volumes with so many copies.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub rf: Option<u8>,
}

/// Verbs on placement groups.
#[derive(Clone, Debug, Subcommand)]
pub enum GroupVerb {
    /// List placement groups: their stores, and what is missing
    List {
        /// Which, and in which order.
        #[command(flatten)]
        page: GroupListArgs,
    },
    /// Show one placement group
    Show {
        /// Its id.
        id: u32,
    },
}

/// Verbs on group snapshots.
#[derive(Clone, Debug, Subcommand)]
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
    List {
        /// Which part.
        #[command(flatten)]
        page: GroupSnapshotListArgs,
    },
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
