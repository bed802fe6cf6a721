//! What the management plane answers.

use crate::alerts::{AlertAnswer, AlertCountsAnswer, AlertTargetAnswer, AlertsAnswer};
use crate::catalog::{CatalogAnswer, CatalogBackupAnswer, CatalogMoveAnswer};
use crate::clones::CloneAnswer;
use crate::disks::DiskAnswer;
use crate::event::EventsAnswer;
use crate::figures::{ActivityAnswer, FiguresAnswer};
use crate::groups::GroupAnswer;
use crate::join::{AuthorityAnswer, JoinAnswer, JoinTokenAnswer};
use crate::kubernetes::{ClaimsAnswer, KubernetesAnswer, KubernetesListAnswer, ReportedAnswer};
use crate::log_report::LogReportAnswer;
use crate::logs::LogsAnswer;
use crate::members::{MemberAnswer, ResiliencyAnswer};
use crate::metrics::{BusiestAnswer, MetricsAnswer, MetricsPart};
use crate::settings::SettingAnswer;
use crate::space::{SpaceReportAnswer, StoreShareAnswer, UsageAnswer};
use crate::stream::ChangesAnswer;
use crate::task::{StartedAnswer, TaskAnswer, TasksAnswer};
use crate::token::TokenAnswer;
use crate::users::{AuditEntry, OpenSessionAnswer, SessionAnswer, UserAnswer, UserCredential};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer to an `Operation`. The REST API sends the value alone; between nodes it travels whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "value", rename_all = "kebab-case")]
#[allow(
    clippy::large_enum_variant,
    reason = "an answer is moved a few times and lives for one request"
)]
pub enum Answer {
    /// Done; nothing to tell.
    Done,
    /// Begun; a task tells of it.
    Started(StartedAnswer),
    /// A task.
    Task(TaskAnswer),
    /// Tasks, the newest first.
    Tasks(TasksAnswer),
    /// The cluster.
    Status(StatusAnswer),
    /// A container.
    Container(ContainerAnswer),
    /// Containers, by name.
    Containers(Vec<ContainerAnswer>),
    /// A volume.
    Volume(VolumeAnswer),
    /// Volumes, by name.
    Volumes(Vec<VolumeAnswer>),
    /// A snapshot.
    Snapshot(SnapshotAnswer),
    /// Snapshots, oldest first.
    Snapshots(Vec<SnapshotAnswer>),
    /// What changed.
    Diff(DiffAnswer),
    /// Who may use a volume now.
    Attachment(AttachmentAnswer),
    /// The nodes.
    Cluster(ClusterAnswer),
    /// What can still be written.
    Capacity(CapacityAnswer),
    /// A group snapshot.
    GroupSnapshot(GroupSnapshotAnswer),
    /// Group snapshots, oldest first.
    GroupSnapshots(Vec<GroupSnapshotAnswer>),
    /// A token.
    Token(TokenAnswer),
    /// Tokens, by name.
    Tokens(Vec<TokenAnswer>),
    /// A node or store.
    Member(MemberAnswer),
    /// How much loss the cluster can take.
    Resiliency(ResiliencyAnswer),
    /// Where the space goes.
    Space(Box<SpaceReportAnswer>),
    /// What happened.
    Events(EventsAnswer),
    /// Lines of logs.
    Logs(LogsAnswer),
    /// What became of lines that were told.
    LogsKept(LogReportAnswer),
    /// An alert.
    Alert(AlertAnswer),
    /// Alerts, newest first.
    Alerts(AlertsAnswer),
    /// Somebody who is told of alerts.
    AlertTarget(AlertTargetAnswer),
    /// All of them, by name.
    AlertTargets(Vec<AlertTargetAnswer>),
    /// A Kubernetes cluster.
    Kubernetes(KubernetesAnswer),
    /// What is known after a report.
    Reported(ReportedAnswer),
    /// All of them, by name.
    KubernetesList(KubernetesListAnswer),
    /// Claims of one.
    Claims(ClaimsAnswer),
    /// What a node counts.
    Figures(Box<FiguresAnswer>),
    /// Figures over time.
    Metrics(MetricsAnswer),
    /// What one node knows of them.
    MetricsPart(MetricsPart),
    /// Nodes and volumes by how busy they are.
    Busiest(BusiestAnswer),
    /// A token that lets one node join.
    JoinToken(JoinTokenAnswer),
    /// What a node needs to take part.
    Joined(JoinAnswer),
    /// The authorities of the cluster.
    Authority(AuthorityAnswer),
    /// Stores, by id.
    Stores(Vec<StoreAnswer>),
    /// What nodes run with, by key and node.
    Settings(Vec<SettingAnswer>),
    /// A user.
    User(UserAnswer),
    /// Users, by name.
    Users(Vec<UserAnswer>),
    /// A user with the hash of the password; never sent to anybody.
    Credential(UserCredential),
    /// A session.
    Session(SessionAnswer),
    /// Sessions that count, the newest first.
    Sessions(Vec<OpenSessionAnswer>),
    /// What changed.
    Changes(ChangesAnswer),
    /// Entries of the audit log, newest first.
    Audit(Vec<AuditEntry>),
    /// How a change under a key stands.
    Once(OnceAnswer),
    /// Where the catalog is and who keeps it.
    Catalog(CatalogAnswer),
    /// A copy of the catalog.
    CatalogBackup(CatalogBackupAnswer),
    /// The catalog is somewhere else.
    CatalogMoved(CatalogMoveAnswer),
    /// Disks, by node and store.
    Disks(Vec<DiskAnswer>),
    /// A placement group.
    Group(GroupAnswer),
    /// Placement groups, by id.
    Groups(Vec<GroupAnswer>),
    /// Clones.
    Clones(Vec<CloneAnswer>),
}

impl Answer {
    /// The value alone, as the REST API sends it; `{}` for [`Answer::Done`].
    ///
    /// # Errors
    /// None in practice: every answer is plain data with text keys.
    pub fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
        match self {
            Self::Done => Ok(serde_json::Value::Object(serde_json::Map::new())),
            Self::Started(value) => serde_json::to_value(value),
            Self::Task(value) => serde_json::to_value(value),
            Self::Tasks(value) => serde_json::to_value(value),
            Self::Status(value) => serde_json::to_value(value),
            Self::Container(value) => serde_json::to_value(value),
            Self::Containers(value) => serde_json::to_value(value),
            Self::Volume(value) => serde_json::to_value(value),
            Self::Volumes(value) => serde_json::to_value(value),
            Self::Snapshot(value) => serde_json::to_value(value),
            Self::Snapshots(value) => serde_json::to_value(value),
            Self::Diff(value) => serde_json::to_value(value),
            Self::Attachment(value) => serde_json::to_value(value),
            Self::Cluster(value) => serde_json::to_value(value),
            Self::Capacity(value) => serde_json::to_value(value),
            Self::GroupSnapshot(value) => serde_json::to_value(value),
            Self::GroupSnapshots(value) => serde_json::to_value(value),
            Self::Token(value) => serde_json::to_value(value),
            Self::Tokens(value) => serde_json::to_value(value),
            Self::JoinToken(value) => serde_json::to_value(value),
            Self::Joined(value) => serde_json::to_value(value),
            Self::Authority(value) => serde_json::to_value(value),
            Self::Catalog(value) => serde_json::to_value(value),
            Self::CatalogBackup(value) => serde_json::to_value(value),
            Self::CatalogMoved(value) => serde_json::to_value(value),
            Self::Disks(value) => serde_json::to_value(value),
            Self::Group(value) => serde_json::to_value(value),
            Self::Groups(value) => serde_json::to_value(value),
            Self::Clones(value) => serde_json::to_value(value),
            Self::Member(value) => serde_json::to_value(value),
            Self::Stores(value) => serde_json::to_value(value),
            Self::Settings(value) => serde_json::to_value(value),
            Self::User(value) => serde_json::to_value(value),
            Self::Users(value) => serde_json::to_value(value),
            // The hash stays where it is compared, whatever asked for it.
            Self::Credential(value) => serde_json::to_value(&value.name),
            Self::Session(value) => serde_json::to_value(value),
            Self::Sessions(value) => serde_json::to_value(value),
            Self::Changes(value) => serde_json::to_value(value),
            Self::Audit(value) => serde_json::to_value(value),
            Self::Once(value) => serde_json::to_value(value),
            Self::Resiliency(value) => serde_json::to_value(value),
            Self::Space(value) => serde_json::to_value(value),
            Self::Events(value) => serde_json::to_value(value),
            Self::Logs(value) => serde_json::to_value(value),
            Self::LogsKept(value) => serde_json::to_value(value),
            Self::Alert(value) => serde_json::to_value(value),
            Self::Alerts(value) => serde_json::to_value(value),
            Self::AlertTarget(value) => serde_json::to_value(value),
            Self::AlertTargets(value) => serde_json::to_value(value),
            Self::Kubernetes(value) => serde_json::to_value(value),
            Self::Reported(value) => serde_json::to_value(value),
            Self::KubernetesList(value) => serde_json::to_value(value),
            Self::Claims(value) => serde_json::to_value(value),
            Self::Figures(value) => serde_json::to_value(value),
            Self::Metrics(value) => serde_json::to_value(value),
            Self::MetricsPart(value) => serde_json::to_value(value),
            Self::Busiest(value) => serde_json::to_value(value),
        }
    }
}

/// How a change under an idempotency key stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnceAnswer {
    /// Whoever asked carries it out.
    Begun,
    /// Somebody else does, and has no answer yet.
    Running,
    /// It was carried out: an [`Answer`].
    Answered(serde_json::Value),
    /// The key was used for something else.
    Other,
    /// There is no room for another key at the moment.
    Crowded,
}

/// The cluster at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusAnswer {
    /// Name of the cluster.
    pub cluster: String,
    /// Its id, in every disk header.
    #[serde(default)]
    pub cluster_id: String,
    /// Id of the node that answered.
    pub node: u32,
    /// `ok`, `degraded` or `critical`, as `ResiliencyAnswer` explains.
    #[serde(default)]
    pub verdict: String,
    /// Why it is not `ok`, for people.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// What the verdict rests on.
    #[serde(default)]
    pub resiliency: ResiliencyAnswer,
    /// Open alerts; absent while the catalog does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertCountsAnswer>,
    /// Whether the node that answered encrypts its connections and asks for certificates.
    #[serde(default)]
    pub encrypted: bool,
    /// Every node.
    pub nodes: Vec<NodeAnswer>,
    /// Every store.
    pub stores: Vec<StoreAnswer>,
    /// The first 100 volumes that were created, by name.
    pub volumes: Vec<VolumeAnswer>,
    /// Whether there are more: `GET /volumes` lists all.
    #[serde(default)]
    pub more_volumes: bool,
}

/// The nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClusterAnswer {
    /// Name of the cluster.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Version of the node that answered.
    pub version: String,
    /// The cluster's level: what its nodes may say to each other and write. Rises when all nodes know a higher one.
    #[serde(default)]
    pub level: u16,
    /// Every node.
    pub nodes: Vec<NodeAnswer>,
}

/// What volumes with a policy can still write, in bytes of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CapacityAnswer {
    /// Free.
    pub available: u64,
    /// Free and used.
    pub total: u64,
    /// The largest volume that can be created.
    pub volume_bytes_max: u64,
}

/// One point in time of several volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupSnapshotAnswer {
    /// Its id.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// When it was taken, Unix milliseconds.
    pub created_ms: u64,
    /// Its members, in the order of the volumes asked for.
    pub snapshots: Vec<SnapshotAnswer>,
    /// Whether it is whole.
    pub ready: bool,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeAnswer {
    /// Its id.
    pub id: u32,
    /// Unique name.
    pub name: String,
    /// Where it serves other nodes and clients.
    pub address: String,
    /// Where it serves NBD, when it does.
    #[serde(default)]
    pub nbd: Option<String>,
    /// Where it serves the API, when it does.
    #[serde(default)]
    pub api: Option<String>,
    /// Version of the release that it ran when it started last; empty for one of before releases said so.
    #[serde(default)]
    pub release: String,
    /// Highest level that this release knows (docs/operating/upgrades.md).
    #[serde(default)]
    pub level: u16,
    /// Whether its lease lives.
    pub alive: bool,
    /// Whether everything moves away from it.
    #[serde(default)]
    pub draining: bool,
    /// Until when it may be away without being replaced, Unix milliseconds; 0: no such time.
    #[serde(default)]
    pub maintenance_until_ms: u64,
    /// Whether it has joined and waits to be approved.
    #[serde(default)]
    pub candidate: bool,
}

/// A store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoreAnswer {
    /// Its id.
    pub id: u32,
    /// The node that runs it.
    pub node: u32,
    /// Labels of the failure domains around its node, narrowest first (rack, zone).
    #[serde(default)]
    pub domains: Vec<String>,
    /// `ready`, `suspect`, `protected` (takes nothing new from clients), `full`, `failed` or `unreachable`.
    pub state: String,
    /// Why, when the state is not `ready`.
    #[serde(default)]
    pub reason: Option<String>,
    /// Its present life.
    pub incarnation: u64,
    /// Bytes its disks offer for extents.
    pub capacity: u64,
    /// Bytes that extents occupy.
    pub used: u64,
    /// Bytes that clients' data leaves free for drains, repair and compaction.
    #[serde(default)]
    pub kept_back: u64,
    /// Size of the journal ring in bytes.
    pub journal_capacity: u64,
    /// Bytes of it that hold records still needed.
    pub journal_used: u64,
    /// Number of extents.
    pub extents: u64,
    /// Bytes written to its devices since start, of all kinds.
    pub written: u64,
    /// Device flushes since start.
    pub flushes: u64,
    /// `present`, `away` (silent, awaited), `draining` or `lost` (silent, replaced).
    #[serde(default)]
    pub standing: String,
    /// Until when it may be away without being replaced, by what was wanted of it alone, Unix milliseconds; 0: no such time. Its node
    /// may have one of its own.
    #[serde(default)]
    pub maintenance_until_ms: u64,
    /// Placement groups it is a member of.
    #[serde(default)]
    pub groups: u32,
    /// Those of them that it is still being filled in.
    #[serde(default)]
    pub filling: u32,
    /// Groups that it has left and whose data it still holds.
    #[serde(default)]
    pub leaving: u32,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerAnswer {
    /// Its id.
    pub id: u32,
    /// Unique name.
    pub name: String,
    /// Copies.
    pub rf: u8,
    /// Copies below which writes stop.
    pub min_copies: u8,
    /// Whether that is always as many as are wanted.
    #[serde(default)]
    pub strict: bool,
    /// `flush` or `always`.
    pub sync: String,
    /// `lz4` or `off`.
    pub compression: String,
    /// Upper bound in bytes of the sum of all volume sizes.
    #[serde(default)]
    pub quota: Option<u64>,
    /// Number of volumes in it.
    pub volumes: u64,
    /// Sum of their sizes in bytes.
    pub provisioned: u64,
    /// What its volumes may still write: `ok`, `warning` or `protected`, as `SpaceAnswer` explains.
    #[serde(default)]
    pub space: String,
    /// Version of what can be changed in it, for a change on top of that; absent: not known at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeAnswer {
    /// Its id.
    pub id: u64,
    /// Unique name.
    pub name: String,
    /// Name of its container.
    pub container: String,
    /// Bytes.
    pub size: u64,
    /// Bytes its newest root known maps.
    pub mapped: u64,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
    /// Id of the node that serves it.
    #[serde(default)]
    pub owner: Option<u32>,
    /// The owner's term.
    pub epoch: u64,
    /// `ready`, `pending`, `deleting`, `stopped` or `incomplete`.
    pub state: String,
    /// Why, when it is stopped or incomplete or runs with fewer copies than wanted.
    #[serde(default)]
    pub reason: Option<String>,
    /// When its quarantine ends, Unix milliseconds, unless somebody releases it before; absent: it is in none. Of a volume
    /// that nobody serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_until_ms: Option<u64>,
    /// Copies wanted.
    pub rf: u8,
    /// Where its open log segment is copied to.
    #[serde(default)]
    pub log: Vec<ReplicaAnswer>,
    /// Segments in its log.
    pub segments: u64,
    /// Bytes in the log that are not yet in extents; absent when its owner did not say.
    #[serde(default)]
    pub undrained: Option<u64>,
    /// Who may use it.
    #[serde(default)]
    pub attachment: AttachmentAnswer,
    /// What its owner hears of the clients it is attached to. Only where one volume is shown, and only when its owner answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientAnswer>,
    /// What its clients have done since its owner began to serve it. Only where one volume is shown, and only when its owner answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<ActivityAnswer>,
    /// Whether its owner says that it does not serve it, as while it cannot open it. Only where one volume is shown, and only when its
    /// owner answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unserved: bool,
    /// The snapshot it started from.
    #[serde(default)]
    pub origin: Option<OriginAnswer>,
    /// Free-form labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// The task that goes on after a creation or a restore; absent: it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// Where its space goes, of one volume that is shown; absent while it has not been walked.
    #[serde(default)]
    pub usage: Option<UsageAnswer>,
    /// Where its data is together with that of its snapshots and clones, of one volume that is shown; empty while it has not been
    /// walked.
    #[serde(default)]
    pub placement: Vec<StoreShareAnswer>,
    /// Operations per second at most.
    #[serde(default)]
    pub iops_limit: Option<u64>,
    /// Bytes per second at most.
    #[serde(default)]
    pub bandwidth_limit: Option<u64>,
    /// Version of what can be changed in it, for a change on top of that; absent: not known at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A copy of a volume's open log segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaAnswer {
    /// The store.
    pub store: u32,
    /// The store's life when the segment was opened.
    pub incarnation: u64,
}

/// The snapshot a clone started from. It may be gone; then the names are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OriginAnswer {
    /// Name of the volume.
    #[serde(default)]
    pub volume: Option<String>,
    /// Name of the snapshot.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Id of the volume.
    pub volume_id: u64,
    /// Id of the snapshot.
    pub snapshot_id: u64,
}

/// Who may use a volume now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttachmentAnswer {
    /// Grows with every change.
    pub generation: u64,
    /// Names of the clients; empty: not attached.
    #[serde(default)]
    pub clients: Vec<String>,
    /// The generation that let each client in: its sessions carry it, and are refused once the client is detached.
    #[serde(default)]
    pub generations: BTreeMap<String, u64>,
    /// Whether they may only read.
    #[serde(default)]
    pub read_only: bool,
    /// Whether other readers may join them.
    #[serde(default)]
    pub shared: bool,
}

impl AttachmentAnswer {
    /// The generation that `client`'s sessions carry.
    #[must_use]
    pub fn generation_of(&self, client: &str) -> u64 {
        let own = self.generations.get(client);
        own.copied().unwrap_or(self.generation)
    }
}

/// A client that a volume is attached to, as the volume's owner hears it. A client that lives asks something every five seconds,
/// if only for the volume's size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientAnswer {
    /// Its name.
    pub name: String,
    /// Its sessions now.
    pub sessions: u64,
    /// How long it has asked this owner for nothing, in milliseconds: at most for as long as this owner has served the volume, which
    /// is what a client gets that was never heard here.
    pub silent_ms: u64,
    /// Whether this owner has heard it at all.
    pub heard: bool,
}

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnapshotAnswer {
    /// Its id.
    pub id: u64,
    /// Name, unique within its volume.
    pub name: String,
    /// Name of the volume; absent when that is gone.
    #[serde(default)]
    pub volume: Option<String>,
    /// Id of the volume.
    pub volume_id: u64,
    /// The volume's size then, in bytes.
    pub size: u64,
    /// Bytes it maps; absent while it is pending.
    #[serde(default)]
    pub mapped: Option<u64>,
    /// When it was taken, Unix milliseconds.
    pub created_ms: u64,
    /// `pending` until the log is drained up to it, then `ready`.
    pub state: String,
    /// Free-form labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Id of the group snapshot it belongs to.
    #[serde(default)]
    pub group: Option<String>,
    /// Where its space goes, in lists of a volume's snapshots; absent while it has not been walked.
    #[serde(default)]
    pub usage: Option<UsageAnswer>,
}

/// What changed between two states of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffAnswer {
    /// Name of the volume.
    pub volume: String,
    /// The older snapshot; nothing: an empty volume.
    #[serde(default)]
    pub from: Option<String>,
    /// The newer snapshot; nothing: the volume as it was.
    #[serde(default)]
    pub to: Option<String>,
    /// Changed ranges by offset. Blocks that are not in one are equal; blocks in one may be.
    pub runs: Vec<DiffRun>,
    /// Where to go on when there is more than the limit.
    #[serde(default)]
    pub next: Option<u64>,
    /// Size in bytes of the newer state.
    #[serde(default)]
    pub size: u64,
}

/// A changed range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffRun {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Whether the newer state reads as zeros there.
    pub zero: bool,
}
