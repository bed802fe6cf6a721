//! The command line: verbs, arguments and their help.

mod alert;
mod catalog;
mod cluster;
mod condition;
mod csi;
mod disk;
mod kubernetes;
mod lists;
mod logs;
mod metrics;
mod preflight;
mod session;
mod tasks;
mod users;

pub use alert::{
    AlertListArgs, AlertNoteArgs, AlertStateName, AlertVerb, LoginArgs, MailArgs, SecurityName,
    SeverityName, TargetAddVerb, TargetArgs, TargetVerb, UrlArgs,
};
pub use catalog::{CatalogVerb, DisksArgs};
pub use cluster::{
    CaVerb, CapacityArgs, ClusterVerb, CredentialsArgs, CredentialsVerb, EventsArgs,
    GroupSnapshotVerb, GroupVerb, InitArgs, JoinArgs, JoinTokenVerb, MemberVerb, NodeVerb,
    StoreVerb,
};
pub use condition::IfVersion;
pub use csi::{
    Blocks, CsiArgs, CsiControllerArgs, CsiNodeArgs, CsiVerb, FollowArgs, Home, LaunchArgs,
};
pub use disk::{DiskVerb, FormatArgs};
pub use kubernetes::{ClaimArgs, KubernetesVerb};
pub use lists::{
    ContainerListArgs, DiskListArgs, GroupListArgs, GroupSnapshotListArgs, KubernetesListArgs,
    ListArgs, SessionListArgs, SettingListArgs, StoreListArgs, TargetListArgs, TokenListArgs,
    UserListArgs, query,
};
pub use logs::LogsArgs;
pub use metrics::{BusyOrder, MetricsVerb, QueryArgs, TopArgs};
pub use preflight::{BundleArgs, PreflightArgs};
pub use session::{OwnPasswordArgs, SessionCreateArgs, SessionVerb};
pub use tasks::{TaskListArgs, TaskVerb};
pub use users::{AuditArgs, AuditVerb, PasswordArgs, Role, UserVerb};

use crate::config::parse_name;
use crate::quantity::{parse_duration, parse_size};
use api::MinCopies;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use vocab::Levels;

/// Where the API is looked for when nothing is said.
pub const API_DEFAULT: &str = "http://127.0.0.1:7400";

/// Where attachments are recorded when nothing is said.
const RUN_DIR: &str = "/run/azekura/attach";

/// Distributed block storage.
#[derive(Clone, Debug, Parser)]
#[command(name = "azekura", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused in this state, 5 not allowed, 6 not now, \
    7 no space, 8 a task did not succeed."
)]
pub struct Cli {
    /// URL of any node's API.
    #[arg(long, global = true, env = "AZEKURA_API", value_name = "URL", default_value = API_DEFAULT)]
    pub api: String,
    /// File that holds the token for the API, when that asks for one; or a session, as `azekura session create` makes it.
    #[arg(long, global = true, env = "AZEKURA_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Folder with this machine's certificate, in a cluster that has any; connections are encrypted then.
    #[arg(
        long,
        global = true,
        env = "AZEKURA_CREDENTIALS",
        value_name = "FOLDER"
    )]
    pub credentials: Option<PathBuf>,
    /// Form of the answer.
    #[arg(short, long, global = true, value_enum, default_value_t = Form::Table)]
    pub output: Form,
    /// Show it again whenever something changes; of a verb that changes something: how far its tasks are, until they have
    /// ended.
    #[arg(long, global = true)]
    pub watch: bool,
    /// With --watch: look at least so often [15s while nodes tell of changes, else 2s].
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    pub watch_interval: Option<Duration>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people: one document each.
    Yaml,
    /// As JSON, on one line each: what `--watch` makes of that.
    #[value(skip)]
    JsonLine,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Print what a shell reads to complete verbs and options
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Run a node until it is told to stop, or say what becomes of one
    Node(NodeArgs),
    /// Stores: which there are, and what becomes of them
    #[command(subcommand)]
    Store(StoreVerb),
    /// Disks: of all nodes, and of this machine
    #[command(subcommand)]
    Disk(DiskVerb),
    /// Back the catalog up, make it anew from the disks, move it to etcd
    #[command(subcommand)]
    Catalog(CatalogVerb),
    /// Storage containers: the policies of the volumes in them
    #[command(subcommand)]
    Container(ContainerVerb),
    /// Volumes
    #[command(subcommand)]
    Volume(VolumeVerb),
    /// Snapshots of volumes
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
    /// Points in time of several volumes
    #[command(subcommand)]
    GroupSnapshot(GroupSnapshotVerb),
    /// Placement groups: which stores hold the same data, and what is missing
    #[command(subcommand)]
    Group(GroupVerb),
    /// Create a volume that starts from a snapshot, or from a volume as it is now; list such volumes
    Clone(CloneArgs),
    /// Make a volume a block device of this machine
    Attach(AttachArgs),
    /// End an attachment, here or by force from anywhere
    Detach(DetachArgs),
    /// Serve the CSI driver, for Kubernetes and other orchestrators
    #[command(subcommand)]
    Csi(CsiVerb),
    /// Kubernetes clusters whose volumes are here, and their claims
    #[command(subcommand)]
    Kubernetes(KubernetesVerb),
    /// Tokens for the API
    #[command(subcommand)]
    Token(TokenVerb),
    /// Users, who log in to the web pages
    #[command(subcommand)]
    User(UserVerb),
    /// Sessions of users: log in, see who has, end one; change one's own password
    #[command(subcommand)]
    Session(SessionVerb),
    /// Who has changed what
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Nodes, stores and volumes at a glance
    Status,
    /// How much loss the cluster can take now
    Resiliency,
    /// Where the space goes: stores, containers, volumes, snapshots
    Space,
    /// What happened in the cluster, newest last
    Events(EventsArgs),
    /// Recent lines of the nodes' logs: about a volume, a task, a request
    Logs(LogsArgs),
    /// Tasks: what takes time, and how far it is
    #[command(subcommand)]
    Task(TaskVerb),
    /// What is wrong, and who is told of it
    #[command(subcommand)]
    Alert(AlertVerb),
    /// Figures over time, and the busiest volumes
    #[command(subcommand)]
    Metrics(MetricsVerb),
    /// Nodes and volumes as they work, until interrupted
    Top(TopArgs),
    /// The cluster and its nodes
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// How much volumes can still write
    Capacity(CapacityArgs),
    /// Whether this machine can run a node, or hold volumes for pods
    Preflight(PreflightArgs),
    /// Put what a helper needs to know of the cluster into one file, without secrets
    SupportBundle(BundleArgs),
    /// Overwrite a volume at full speed, for measurements
    #[command(hide = true)]
    Bench(BenchArgs),
    /// Clean up after an attachment whose process is killed; started by that process
    #[command(hide = true)]
    AttachGuard(AttachGuardArgs),
}

/// Arguments of `node`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct NodeArgs {
    /// What becomes of a node; nothing: run one here.
    #[command(subcommand)]
    pub verb: Option<NodeVerb>,
    /// Configuration, see docs/operating/configuration.md.
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// Log JSON objects instead of lines for people.
    #[arg(long)]
    pub log_json: bool,
    /// Behave as a release that knows these levels, as in 1-2: for trying upgrades before there is a next release.
    #[arg(long, value_name = "LEVELS", hide = true)]
    pub levels: Option<Levels>,
    /// Run the jobs of `azekura bench --through owner` that come in at this socket.
    #[arg(long, value_name = "FILE", hide = true)]
    pub bench_socket: Option<PathBuf>,
}

/// Verbs on containers.
#[derive(Clone, Debug, Subcommand)]
pub enum ContainerVerb {
    /// Create a container
    Create {
        /// Unique name.
        #[arg(value_parser = parse_name)]
        name: String,
        /// Copies of everything, 1 to 3.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
        rf: u8,
        /// Further policies.
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// List containers
    List {
        /// Which part.
        #[command(flatten)]
        page: ContainerListArgs,
    },
    /// Show one container; its version is in the JSON form
    Show {
        /// Its name.
        name: String,
    },
    /// Change a container; what is not named stays
    Set {
        /// Its name.
        name: String,
        /// Copies of what is written from now on, 1 to 3.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3))]
        rf: Option<u8>,
        /// Further policies.
        #[command(flatten)]
        policy: PolicyArgs,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// Delete a container that holds no volumes
    Delete {
        /// Its name.
        name: String,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
}

/// Policies of a container.
#[derive(Clone, Debug, Args)]
pub struct PolicyArgs {
    /// Copies below which writes stop, or strict: as many as RF says [created with: 1 for RF 1 and 2, 2 for RF 3].
    #[arg(long, value_name = "N|strict")]
    pub min_copies: Option<MinCopies>,
    /// When a write is durable [created with: flush].
    #[arg(long, value_enum)]
    pub sync: Option<Sync>,
    /// Compression of data at rest [created with: lz4].
    #[arg(long, value_enum)]
    pub compression: Option<Compression>,
    /// Upper bound of the sum of all volume sizes; 0 for none.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub quota: Option<u64>,
}

/// When a write is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sync {
    /// At the next flush, as on any disk.
    Flush,
    /// When it is acknowledged.
    Always,
}

/// Compression of data at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// LZ4 where it saves enough.
    Lz4,
    /// None.
    Off,
}

/// Verbs on volumes.
#[derive(Clone, Debug, Subcommand)]
pub enum VolumeVerb {
    /// Create an empty volume
    Create {
        /// Unique name.
        #[arg(value_parser = parse_name)]
        name: String,
        /// Its container.
        #[arg(long, value_name = "NAME")]
        container: String,
        /// Size, a multiple of 4096 bytes.
        #[arg(long, value_parser = parse_size)]
        size: u64,
        /// What can be changed later.
        #[command(flatten)]
        description: DescriptionArgs,
    },
    /// Change labels, description and limits while the volume is in use; what is not named stays
    Set {
        /// Its name.
        name: String,
        /// What changes.
        #[command(flatten)]
        description: DescriptionArgs,
        /// A label to remove; may be repeated.
        #[arg(long = "remove-label", value_name = "KEY")]
        removed: Vec<String>,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// List volumes
    List {
        /// Which, and in which order.
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show everything about a volume
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a volume that nobody has attached
    Delete {
        /// Its name.
        name: String,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// Grow a volume while it is in use
    Resize {
        /// Its name.
        name: String,
        /// The new size.
        #[arg(value_parser = parse_size)]
        size: u64,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// Give a detached volume the contents of one of its snapshots
    Restore {
        /// Its name.
        name: String,
        /// The snapshot.
        snapshot: String,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// Write everything in a volume's log out into extents
    Drain {
        /// Its name.
        name: String,
    },
    /// End a volume's quarantine when its cause is gone
    Release {
        /// Its name.
        name: String,
    },
}

/// What is said about a volume, and what its clients may do per second.
#[derive(Clone, Debug, Args)]
pub struct DescriptionArgs {
    /// A label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// For people; empty for none.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Reads, writes and trims per second; 0 for no limit.
    #[arg(long, value_name = "N")]
    pub iops_limit: Option<u64>,
    /// Bytes read and written per second, e.g. 100MiB; 0 for no limit.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub bandwidth_limit: Option<u64>,
}

/// Verbs on snapshots.
#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Take a snapshot
    Create {
        /// The volume.
        volume: String,
        /// Name of the snapshot, unique within the volume.
        #[arg(value_parser = parse_name)]
        name: String,
        /// A label; may be repeated.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
        labels: Vec<(String, String)>,
    },
    /// Show everything about a snapshot
    Show {
        /// Its id.
        id: u64,
    },
    /// List snapshots
    List {
        /// Of this volume only.
        volume: Option<String>,
        /// Which, and in which order.
        #[command(flatten)]
        list: ListArgs,
    },
    /// Delete a snapshot
    Delete {
        /// The volume.
        volume: String,
        /// The snapshot.
        name: String,
    },
    /// List the ranges that changed between two snapshots
    Diff {
        /// The volume.
        volume: String,
        /// The older snapshot; nothing: an empty volume.
        #[arg(long, value_name = "SNAPSHOT")]
        from: Option<String>,
        /// The newer snapshot; nothing: the volume as it is now.
        #[arg(long, value_name = "SNAPSHOT")]
        to: Option<String>,
        /// The first byte that is looked at.
        #[arg(long, value_name = "BYTES", value_parser = parse_size)]
        offset: Option<u64>,
        /// Ranges at most, which are then exact; nothing: all, joined where they are many.
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
}

/// Arguments of `clone`.
#[derive(Clone, Debug, Args)]
#[command(
    allow_missing_positional = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct CloneArgs {
    /// What else there is to do with clones; nothing: create one. A volume that is called like a verb is `volume-` and its id.
    #[command(subcommand)]
    pub verb: Option<CloneVerb>,
    /// The volume to start from.
    #[arg(required = true)]
    pub volume: Option<String>,
    /// Its snapshot; nothing: the volume as it is now.
    pub snapshot: Option<String>,
    /// Name of the new volume.
    #[arg(required = true, value_parser = parse_name)]
    pub name: Option<String>,
    /// Its container; nothing: the same.
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// Its size; nothing: the same.
    #[arg(long, value_parser = parse_size)]
    pub size: Option<u64>,
    /// A label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
}

/// Verbs on clones.
#[derive(Clone, Debug, Subcommand)]
pub enum CloneVerb {
    /// List volumes that were started from others, with what they share
    List {
        /// Only those that were started from this volume.
        #[arg(long, value_name = "NAME")]
        volume: Option<String>,
        /// Which, and in which order.
        #[command(flatten)]
        list: ListArgs,
    },
}

/// Arguments of `attach`.
#[derive(Clone, Debug, Args)]
pub struct AttachArgs {
    /// The volume.
    pub volume: String,
    /// Do not write.
    #[arg(long)]
    pub read_only: bool,
    /// Let other clients read at the same time.
    #[arg(long, requires = "read_only")]
    pub shared: bool,
    /// Stay in the foreground until told to stop.
    #[arg(long)]
    pub foreground: bool,
    /// Name of this client; nothing: the machine's host name.
    #[arg(long, value_name = "NAME", value_parser = csi::parse_node)]
    pub client: Option<String>,
    /// Logical block size of the block device, 512 or 4096.
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    pub block_size: u32,
    /// How long a request waits while no node answers, e.g. 10m; nothing: for ever.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub patience: Option<Duration>,
    /// Where attachments of this machine are recorded and mounted.
    #[arg(long, value_name = "DIRECTORY", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
    /// For an attachment that exists already.
    #[command(flatten)]
    pub published: PublishedArgs,
}

/// What `attach --published` must be told: it asks nobody.
#[derive(Clone, Debug, Args)]
pub struct PublishedArgs {
    /// Use the attachment of this generation, which somebody else made and will give back. The API is not asked.
    #[arg(long, value_name = "GENERATION", requires_all = ["cluster", "nodes", "volume_name"])]
    pub published: Option<u64>,
    /// Name of the cluster, for `--published`.
    #[arg(long, value_name = "NAME", requires = "published")]
    pub cluster: Option<String>,
    /// Where the cluster's nodes serve clients, for `--published`.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        requires = "published"
    )]
    pub nodes: Vec<String>,
    /// Name of the volume in the cluster, for `--published`; VOLUME then only names the attachment here.
    #[arg(long, value_name = "NAME", requires = "published")]
    pub volume_name: Option<String>,
}

/// Verbs on tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenVerb {
    /// Create a token and show it, this once
    Create {
        /// Unique name.
        #[arg(value_parser = parse_name)]
        name: String,
        /// What it allows.
        #[arg(long, value_enum)]
        scope: TokenScope,
        /// The volumes that a token of scope csi is for.
        #[command(flatten)]
        limits: LimitArgs,
        /// One's own, of scope viewer, operator or admin: it counts as the user whose session --token-file names, never allows
        /// more than that user may, and ends with the user.
        #[arg(long)]
        personal: bool,
    },
    /// List tokens, without their secrets: one's own, or as an administrator all
    List {
        /// Which part.
        #[command(flatten)]
        page: TokenListArgs,
    },
    /// Show one token, without its secret: one's own, or as an administrator any
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a token, which is refused from now on: one's own, or as an administrator any
    Delete {
        /// Its name.
        name: String,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
}

/// The volumes that a token of scope csi, or credentials of role csi, are for: one of these must be said.
#[derive(Clone, Debug, Default, Args)]
pub struct LimitArgs {
    /// With scope or role csi: volumes of this container; may be repeated.
    #[arg(long = "container", value_name = "NAME", value_parser = parse_name)]
    pub containers: Vec<String>,
    /// With scope or role csi: volumes of this Kubernetes cluster, as `csi controller --kubernetes-cluster` names it; may be repeated.
    #[arg(long = "kubernetes", value_name = "NAME", value_parser = parse_name)]
    pub kubernetes: Vec<String>,
    /// With scope or role csi: volumes of every container.
    #[arg(long = "all-containers", conflicts_with = "containers")]
    pub all_containers: bool,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenScope {
    /// Everything.
    Admin,
    /// Everything but users, tokens, certificates and the removal of nodes and stores.
    Operator,
    /// To look at everything but users, tokens and the audit log.
    Viewer,
    /// What the CSI driver needs.
    Csi,
    /// To attach and detach volumes.
    Client,
}

/// Arguments of `detach`.
#[derive(Clone, Debug, Args)]
pub struct DetachArgs {
    /// The volume.
    pub volume: String,
    /// Name of the client; nothing: the machine's host name.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub client: Option<String>,
    /// Every client, wherever it is: their sessions are fenced and their unwritten data is lost.
    #[arg(long, conflicts_with = "client")]
    pub all: bool,
    /// Where attachments of this machine are recorded and mounted.
    #[arg(long, value_name = "DIRECTORY", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
}

/// Arguments of `attach-guard`.
#[derive(Clone, Debug, Args)]
pub struct AttachGuardArgs {
    /// Where attachments of this machine are recorded and mounted.
    pub run_dir: PathBuf,
    /// Name of the attachment.
    pub name: String,
}

/// Arguments of `bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// The volume, which is overwritten.
    #[arg(long, value_name = "NAME")]
    pub volume: String,
    /// Where the job runs.
    #[arg(long, value_enum)]
    pub through: Through,
    /// The owner's `--bench-socket`, for `--through owner`.
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// What the job does.
    #[arg(long, value_enum)]
    pub job: BenchKind,
    /// Bytes of one request.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "4KiB")]
    pub block_size: u64,
    /// Requests in flight.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub depth: u32,
    /// Bytes from the start that are used; 0: the whole volume.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "0")]
    pub span: u64,
    /// Length of the job.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=crate::bench::JOB_SECONDS_MAX))]
    pub seconds: u64,
    /// Share of zeros in what is written.
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    pub compressible: u8,
    /// Addresses and contents.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Where a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Through {
    /// In a client process of its own.
    Remote,
    /// In the process that owns the volume.
    Owner,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchKind {
    /// Sequential reads.
    Read,
    /// Sequential writes.
    Write,
    /// Reads at random addresses.
    Randread,
    /// Writes at random addresses.
    Randwrite,
    /// Writes at random addresses, each followed by a flush.
    WriteFlush,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not a label: write key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_exits_with_two() {
        for words in [
            &["azekura", "volume", "create", "v"][..],
            &["azekura", "volume", "resize", "v", "20GB"],
            &["azekura", "container", "create", "c", "--rf", "4"],
            &["azekura", "container", "create", "a b"],
            &[
                "azekura",
                "disk",
                "format",
                "--cluster",
                "c",
                "--store",
                "0",
                "x",
            ],
            &["azekura", "status", "-o", "xml"],
            &["azekura", "container", "create", "c", "--min-copies", "all"],
            &["azekura", "capacity"],
            &["azekura", "capacity", "--rf", "2", "--container", "c"],
            &["azekura", "group-snapshot", "create", "g"],
            &["azekura", "attach", "v", "--shared"],
        ] {
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn output_and_api_may_stand_behind_the_verb() {
        let words = [
            "azekura",
            "volume",
            "list",
            "-o",
            "json",
            "--api",
            "http://h:1",
        ];
        let cli = Cli::try_parse_from(words).unwrap();
        assert_eq!((cli.output, cli.api.as_str()), (Form::Json, "http://h:1"));
    }
}
