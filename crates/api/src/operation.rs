//! What the management plane can be asked, as one JSON vocabulary.
//!
//! The same [`Operation`] is what the REST API builds from a request, what a node carries out and what it
//! forwards to the volume's owner. Its JSON form has the field `operation` with the name in kebab-case:
//! `{"operation":"volume-resize","name":"db","size":1073741824}`.

use crate::alerts::AlertOperation;
use crate::catalog::CatalogTarget;
use crate::disks::{DiskLight, DiskReplacement, DiskSpec};
pub use crate::error::{ErrorKind, OperationError};
use crate::event::EventQuery;
use crate::join::{JoinTokenSpec, Retirement};
use crate::kubernetes::KubernetesOperation;
use crate::log_report::LogReport;
use crate::logs::{LogQuery, LogsPart};
use crate::members::MemberChange;
use crate::metrics::{BusiestQuery, MetricsQuery};
use crate::query::ListQuery;
pub use crate::spec::{
    CompressionName, ContainerChange, ContainerSpec, GroupSnapshotSpec, SnapshotRef, SyncName,
    VolumeChange, VolumeSpec,
};
use crate::task::TaskQuery;
use crate::token::TokenSpec;
use crate::users::{AuditEntry, AuditQuery, UserRole};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One request to the management plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "operation",
    rename_all = "kebab-case",
    rename_all_fields = "snake_case"
)]
pub enum Operation {
    /// The whole cluster at a glance -> `Answer::Status`.
    Status,
    /// The nodes alone: what clients poll for addresses -> `Answer::Cluster`.
    Cluster,
    /// What volumes with a policy can still write -> `Answer::Capacity`.
    Capacity {
        /// The container whose policy and quota count.
        #[serde(default)]
        container: Option<String>,
        /// Copies, without a container.
        #[serde(default)]
        rf: Option<u8>,
    },
    /// How much loss the cluster can take now -> `Answer::Resiliency`.
    Resiliency,
    /// What happened -> `Answer::Events`.
    Events(EventQuery),
    /// Tasks, the newest first -> `Answer::Tasks`.
    TaskList(TaskQuery),
    /// One task -> `Answer::Task`.
    TaskShow {
        /// Its id.
        id: u64,
    },
    /// Has a task stop, if it can -> `Answer::Task`.
    TaskCancel {
        /// Its id.
        id: u64,
    },
    /// What is wrong, and who is told of it: see there what is answered.
    Alert(AlertOperation),
    /// Kubernetes clusters whose volumes are here: see there what is answered.
    Kubernetes(KubernetesOperation),
    /// Recent lines of the nodes' logs -> `Answer::Logs`.
    Logs(LogQuery),
    /// The same of one node, as a step of it -> `Answer::Logs`.
    LogsPart(LogsPart),
    /// Lines of a driver, kept by the node that is asked -> `Answer::LogsKept`.
    LogReport {
        /// Who tells: from what the request shows, with its mark (`teller`).
        by: String,
        /// The lines.
        report: LogReport,
    },
    /// What this node counts: itself, its stores, the volumes it owns -> `Answer::Figures`.
    Figures,
    /// Figures over time -> `Answer::Metrics`.
    MetricsQuery(MetricsQuery),
    /// What this node knows of some entities: a step of a query, between nodes -> `Answer::MetricsPart`.
    MetricsPart {
        /// Such as `volume/12`, `node/1`, `store/3`: with ids.
        entities: Vec<String>,
        /// Unix seconds.
        from: u64,
        /// Unix seconds.
        to: u64,
        /// Seconds.
        step: u64,
    },
    /// Nodes, and volumes by how busy they are -> `Answer::Busiest`.
    Busiest(BusiestQuery),
    /// Where the space goes -> `Answer::Space`.
    Space {
        /// Of one lineage, without names and sums: a step of other operations, between nodes.
        #[serde(default)]
        lineage: Option<u64>,
        /// The same of several. A release that does not know it answers the whole report, which has more than is needed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lineages: Vec<u64>,
    },
    /// What ties a node to the cluster -> `Answer::Member`.
    NodeShow {
        /// Its name.
        name: String,
    },
    /// Says what an operator wants of a node -> `Answer::Member`.
    NodeSet {
        /// Its name.
        name: String,
        /// What changes.
        #[serde(flatten)]
        change: MemberChange,
    },
    /// Forgets a node that has been drained, or is gone for good -> `Answer::Done`.
    NodeRemove {
        /// Its name.
        name: String,
        /// Whether it will never come back.
        #[serde(default)]
        lost: bool,
    },
    /// What ties a store to the cluster -> `Answer::Member`.
    StoreShow {
        /// Its id.
        id: u32,
    },
    /// Says what an operator wants of a store -> `Answer::Member`.
    StoreSet {
        /// Its id.
        id: u32,
        /// What changes.
        #[serde(flatten)]
        change: MemberChange,
    },
    /// Forgets a store that has been drained, or is gone for good -> `Answer::Done`.
    StoreRemove {
        /// Its id.
        id: u32,
        /// Whether it will never come back.
        #[serde(default)]
        lost: bool,
    },
    /// Begins to read every copy of a store, and to make good what has rotted; does not wait for it -> `Answer::Started`.
    StoreScrub {
        /// Its id.
        id: u32,
    },
    /// Placement groups, by id -> `Answer::Groups`.
    GroupList,
    /// One placement group -> `Answer::Group`.
    GroupShow {
        /// Its id.
        id: u32,
    },
    /// The disks of all nodes -> `Answer::Disks`.
    DiskList,
    /// Makes disks of a node a new store, which takes part at once -> `Answer::Disks`: the store's.
    DiskAdd(DiskSpec),
    /// Puts other disks in the place of a store's that are dead or empty; it is filled again -> `Answer::Disks`: the store's.
    DiskReplace {
        /// Id of the store.
        store: u32,
        /// What takes their place.
        #[serde(flatten)]
        with: DiskReplacement,
    },
    /// Switches the lights that show where disks of a store are -> `Answer::Disks`: the store's.
    DiskLocate {
        /// Id of the store.
        store: u32,
        /// Which, and how.
        #[serde(flatten)]
        light: DiskLight,
    },
    /// Where the catalog is and who keeps it -> `Answer::Catalog`.
    CatalogShow,
    /// All rows of the catalog at one moment -> `Answer::CatalogBackup`.
    CatalogBackup,
    /// Moves the catalog of a single process to etcd while it is used -> `Answer::CatalogMoved`.
    CatalogMove(CatalogTarget),
    /// Creates a storage container -> `Answer::Container`.
    ContainerCreate(ContainerSpec),
    /// Every container -> `Answer::Containers`.
    ContainerList,
    /// One container -> `Answer::Container`.
    ContainerShow {
        /// Its name.
        name: String,
    },
    /// Changes a container; what is absent stays -> `Answer::Container`.
    ContainerSet {
        /// Its name.
        name: String,
        /// What changes.
        #[serde(flatten)]
        change: ContainerChange,
    },
    /// Deletes an empty container -> `Answer::Done`.
    ContainerDelete {
        /// Its name.
        name: String,
    },
    /// Creates a volume, or with `from` a clone -> `Answer::Volume`.
    VolumeCreate(VolumeSpec),
    /// Volumes -> `Answer::Volumes`.
    VolumeList(ListQuery),
    /// Volumes that were started from others -> `Answer::Clones`.
    CloneList(ListQuery),
    /// One volume -> `Answer::Volume`.
    VolumeShow {
        /// Its name.
        name: String,
    },
    /// One volume, or one of its snapshots, as the catalog alone has it: what the audit log says was there before a change
    /// -> `Answer::Volume`, `Answer::Snapshot`.
    Glance {
        /// The volume.
        volume: String,
        /// Its snapshot.
        #[serde(default)]
        snapshot: Option<String>,
    },
    /// Changes labels, description and limits; what is absent stays -> `Answer::Volume`.
    VolumeSet {
        /// Its name.
        name: String,
        /// What changes.
        #[serde(flatten)]
        change: VolumeChange,
    },
    /// Holds back writes for at most two seconds: one step of a group snapshot, between nodes
    /// -> `Answer::Done` once no write is under way.
    VolumePause {
        /// The volume.
        volume: String,
        /// Names the pause.
        pause: String,
    },
    /// Ends a pause -> `Answer::Done` when it held until now, else unavailable.
    VolumeResume {
        /// The volume.
        volume: String,
        /// Names the pause.
        pause: String,
    },
    /// Deletes a volume that nobody has attached; its snapshots stay -> `Answer::Started`.
    VolumeDelete {
        /// Its name.
        name: String,
    },
    /// Grows a volume while it is in use -> `Answer::Volume`.
    VolumeResize {
        /// Its name.
        name: String,
        /// The new size in bytes, a multiple of 4096, not below the present one.
        size: u64,
    },
    /// Gives a detached volume the contents of one of its lineage's snapshots -> `Answer::Volume`.
    VolumeRestore {
        /// The volume.
        volume: String,
        /// The snapshot, of this volume.
        snapshot: String,
    },
    /// Writes everything in the volume's log out into extents -> `Answer::Volume`.
    VolumeDrain {
        /// Its name.
        name: String,
    },
    /// Ends the quarantine of a volume whose cause is gone, so that any node may open it; refused where it is in none
    /// -> `Answer::Volume`.
    VolumeRelease {
        /// Its name.
        name: String,
    },
    /// Takes a snapshot -> `Answer::Snapshot`.
    SnapshotCreate {
        /// The volume.
        volume: String,
        /// Name of the snapshot, unique within the volume.
        name: String,
        /// Free-form labels.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        /// The group snapshot it is a member of: a step of that, between nodes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
    },
    /// Snapshots of one volume, or all -> `Answer::Snapshots`.
    SnapshotList(ListQuery),
    /// One snapshot -> `Answer::Snapshot`.
    SnapshotShow {
        /// Its id.
        id: u64,
    },
    /// Deletes a snapshot -> `Answer::Started`.
    SnapshotDelete {
        /// The volume.
        volume: String,
        /// The snapshot.
        name: String,
    },
    /// What changed between two states of a volume -> `Answer::Diff`.
    SnapshotDiff {
        /// The volume.
        volume: String,
        /// The older snapshot; nothing: an empty volume.
        #[serde(default)]
        from: Option<String>,
        /// The newer snapshot; nothing: the volume as it is now.
        #[serde(default)]
        to: Option<String>,
        /// First byte looked at.
        #[serde(default)]
        offset: u64,
        /// Ranges in the answer, which are then exact; nothing: all, joined where they are many.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// One point in time of several volumes -> `Answer::GroupSnapshot`.
    GroupSnapshotCreate(GroupSnapshotSpec),
    /// Group snapshots, oldest first -> `Answer::GroupSnapshots`.
    GroupSnapshotList,
    /// One group snapshot -> `Answer::GroupSnapshot`.
    GroupSnapshotShow {
        /// Its id.
        id: String,
    },
    /// Deletes a group snapshot with its members -> `Answer::Started`.
    GroupSnapshotDelete {
        /// Its id.
        id: String,
    },
    /// Records a token -> `Answer::Token`.
    TokenCreate {
        /// What it allows.
        #[serde(flatten)]
        spec: TokenSpec,
        /// Hash of its secret, in hexadecimal digits.
        hash: String,
        /// The user whose personal token it is to be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// Records a token that lets one node join -> `Answer::JoinToken`.
    JoinTokenCreate {
        /// How long it can be used.
        #[serde(flatten)]
        spec: JoinTokenSpec,
        /// Hash of its secret, in hexadecimal digits.
        hash: String,
    },
    /// Lets a node join that has a token -> `Answer::Joined`.
    NodeJoin {
        /// Hash of the token's secret.
        hash: String,
        /// The name it wants.
        name: String,
        /// The request for a certificate.
        request: String,
        /// How many ids of stores it needs.
        stores: u32,
    },
    /// A new certificate for a node of the cluster, asked for by itself -> `Answer::Joined`.
    CertificateRenew {
        /// Its name.
        name: String,
        /// The request for a certificate.
        request: String,
    },
    /// Who signs, and what nodes show -> `Answer::Authority`.
    AuthorityShow,
    /// A new authority signs from now on; the old one is still believed -> `Answer::Authority`.
    AuthorityRotate,
    /// Authorities that sign no more are not believed any more -> `Answer::Authority`.
    AuthorityRetire(Retirement),
    /// Every token, without secrets -> `Answer::Tokens`.
    TokenList,
    /// One token, without its secret -> `Answer::Token`.
    TokenShow {
        /// Its name.
        name: String,
        /// The user of whom it is to be; nothing: anybody's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// Deletes a token: it is refused from now on -> `Answer::Done`.
    TokenDelete {
        /// Its name.
        name: String,
        /// The user of whom it is to be; nothing: anybody's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// The token with this hash: a step of authentication -> `Answer::Token`.
    TokenFind {
        /// Hash of its secret, in hexadecimal digits.
        hash: String,
    },
    /// Every store -> `Answer::Stores`.
    StoreList,
    /// What the nodes run with -> `Answer::Settings`.
    SettingList,
    /// Records a user -> `Answer::User`.
    UserCreate {
        /// Unique name.
        name: String,
        /// What the user may do.
        role: UserRole,
        /// Hash of the password (PHC string).
        hash: String,
    },
    /// Every user -> `Answer::Users`.
    UserList,
    /// One user -> `Answer::User`.
    UserShow {
        /// The name.
        name: String,
    },
    /// Changes a user; what is absent stays. Ends the user's sessions -> `Answer::User`.
    UserSet {
        /// The name.
        name: String,
        /// What the user may do.
        #[serde(default)]
        role: Option<UserRole>,
        /// Hash of the password (PHC string).
        #[serde(default)]
        hash: Option<String>,
    },
    /// Deletes a user, and so ends the user's sessions -> `Answer::Done`.
    UserDelete {
        /// The name.
        name: String,
    },
    /// A user with the hash of the password: a step of logging in -> `Answer::Credential`.
    UserFind {
        /// The name.
        name: String,
    },
    /// Begins a session of a user whose password was right: a step of logging in -> `Answer::Session`.
    SessionCreate {
        /// The user.
        user: String,
        /// The hash that the password was compared with: another one by now, and nothing begins.
        password: String,
        /// Hash of the session's secret, in hexadecimal digits.
        hash: String,
    },
    /// The session with this hash, and its user: a step of authentication -> `Answer::Session`.
    SessionFind {
        /// Hash of its secret, in hexadecimal digits.
        hash: String,
    },
    /// Ends a session -> `Answer::Done`.
    SessionDelete {
        /// Hash of its secret, in hexadecimal digits.
        hash: String,
    },
    /// Sessions that count -> `Answer::Sessions`.
    SessionList {
        /// Whose; nothing: of all users.
        #[serde(default)]
        user: Option<String>,
    },
    /// Ends the session with this id -> `Answer::Done`.
    SessionEnd {
        /// Its id.
        id: String,
        /// Whose it must be; nothing: anybody's.
        #[serde(default)]
        user: Option<String>,
    },
    /// What changed in the cluster since a revision, or what will: a step of the stream -> `Answer::Changes`.
    Changes {
        /// The revision of the last change that was told; nothing: only where the catalog is now.
        #[serde(default)]
        after: Option<u64>,
        /// The mood that was told last.
        #[serde(default)]
        mood: String,
    },
    /// Appends to the audit log, what other operations did -> `Answer::Done`.
    AuditRecord {
        /// At most 48.
        entries: Vec<AuditEntry>,
    },
    /// A change under an idempotency key: a step of other operations -> `Answer::Once` to a beginning, `Answer::Done` to an end.
    Once(OnceStep),
    /// The audit log, newest first -> `Answer::Audit`.
    AuditList(AuditQuery),
    /// Gives a client the right to use a volume -> `Answer::Attachment`. Attaching the same client
    /// again changes nothing.
    Attach {
        /// The volume.
        volume: String,
        /// Name of the client.
        client: String,
        /// Whether it may only read.
        #[serde(default)]
        read_only: bool,
        /// Whether other readers may have it, too; for readers only.
        #[serde(default)]
        shared: bool,
    },
    /// Another operation, on top of a version of what it changes: made atomically, or refused as [`ErrorKind::Changed`]. A release that
    /// does not know it refuses it -> what the other one answers.
    Conditional {
        /// As the answer had it that somebody has seen.
        version: u64,
        /// What to do: see [`Operation::takes_condition`].
        change: Box<Operation>,
    },
    /// Takes the right away and fences its sessions -> `Answer::Attachment`.
    Detach {
        /// The volume.
        volume: String,
        /// Name of the client; nothing: every client.
        #[serde(default)]
        client: Option<String>,
    },
}

impl Operation {
    /// Name of the volume it is about, when it is about one; for logs.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self.bare() {
            Self::VolumeCreate(spec) => Some(&spec.name),
            Self::VolumeShow { name }
            | Self::VolumeSet { name, .. }
            | Self::VolumeDelete { name }
            | Self::VolumeResize { name, .. }
            | Self::VolumeDrain { name }
            | Self::VolumeRelease { name } => Some(name),
            Self::VolumePause { volume, .. }
            | Self::VolumeResume { volume, .. }
            | Self::VolumeRestore { volume, .. }
            | Self::SnapshotCreate { volume, .. }
            | Self::SnapshotDelete { volume, .. }
            | Self::SnapshotDiff { volume, .. }
            | Self::Attach { volume, .. }
            | Self::Detach { volume, .. } => Some(volume),
            _ => None,
        }
    }

    /// As [`Operation::name`], of those on figures, events and tasks.
    fn name_of_figures(&self) -> &'static str {
        match self {
            Self::MetricsQuery(_) => "metrics-query",
            Self::MetricsPart { .. } => "metrics-part",
            Self::Busiest(_) => "busiest",
            Self::Space { .. } => "space",
            Self::Events(_) => "events",
            Self::TaskList(_) => "task-list",
            Self::TaskShow { .. } => "task-show",
            Self::TaskCancel { .. } => "task-cancel",
            Self::Logs(_) => "logs",
            Self::LogsPart(_) => "logs-part",
            Self::LogReport { .. } => "log-report",
            _ => "figures",
        }
    }

    /// As [`Operation::name`], of lists of the cluster's parts, and clones.
    fn name_of_lists(&self) -> &'static str {
        match self {
            Self::StoreList => "store-list",
            Self::StoreScrub { .. } => "store-scrub",
            Self::SettingList => "setting-list",
            Self::GroupList => "group-list",
            Self::GroupShow { .. } => "group-show",
            _ => "clone-list",
        }
    }

    /// As [`Operation::name`], of those on containers.
    fn name_of_containers(&self) -> &'static str {
        match self {
            Self::ContainerCreate(_) => "container-create",
            Self::ContainerList => "container-list",
            Self::ContainerShow { .. } => "container-show",
            Self::ContainerSet { .. } => "container-set",
            _ => "container-delete",
        }
    }

    /// As [`Operation::name`], of those on how a volume is served, which change nothing that is in it.
    fn name_of_service(&self) -> &'static str {
        match self {
            Self::VolumePause { .. } => "volume-pause",
            Self::VolumeResume { .. } => "volume-resume",
            Self::VolumeDrain { .. } => "volume-drain",
            _ => "volume-release",
        }
    }

    /// As [`Operation::name`], of those on users, their sessions, and tokens.
    fn name_of_users(&self) -> &'static str {
        match self {
            Self::TokenCreate { .. } => "token-create",
            Self::TokenList => "token-list",
            Self::TokenShow { .. } => "token-show",
            Self::TokenDelete { .. } => "token-delete",
            Self::TokenFind { .. } => "token-find",
            Self::UserCreate { .. } => "user-create",
            Self::UserList => "user-list",
            Self::UserShow { .. } => "user-show",
            Self::UserSet { .. } => "user-set",
            Self::UserDelete { .. } => "user-delete",
            Self::UserFind { .. } => "user-find",
            Self::SessionCreate { .. } => "session-create",
            Self::SessionFind { .. } => "session-find",
            Self::SessionList { .. } => "session-list",
            Self::SessionEnd { .. } => "session-end",
            _ => "session-delete",
        }
    }

    /// The name in the JSON form, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Cluster => "cluster",
            Self::Capacity { .. } => "capacity",
            Self::Resiliency => "resiliency",
            Self::Space { .. } | Self::Events(_) | Self::LogReport { .. } => self.name_of_figures(),
            Self::MetricsQuery(_) | Self::MetricsPart { .. } => self.name_of_figures(),
            Self::Figures | Self::Busiest(_) | Self::LogsPart(_) => self.name_of_figures(),
            Self::Alert(operation) => operation.name(),
            Self::Kubernetes(operation) => operation.name(),
            Self::TaskList(_) | Self::TaskShow { .. } => self.name_of_figures(),
            Self::TaskCancel { .. } | Self::Logs(_) => self.name_of_figures(),
            Self::NodeShow { .. } => "node-show",
            Self::NodeSet { .. } => "node-set",
            Self::NodeRemove { .. } => "node-remove",
            Self::StoreShow { .. } => "store-show",
            Self::StoreSet { .. } => "store-set",
            Self::StoreRemove { .. } => "store-remove",
            Self::DiskList | Self::DiskAdd(_) => self.name_of_disks(),
            Self::DiskReplace { .. } | Self::DiskLocate { .. } => self.name_of_disks(),
            Self::CatalogShow | Self::CatalogBackup => self.name_of_records(),
            Self::CatalogMove(_) => "catalog-move",
            Self::ContainerCreate(_) | Self::ContainerList => self.name_of_containers(),
            Self::ContainerShow { .. } => self.name_of_containers(),
            Self::ContainerSet { .. } | Self::ContainerDelete { .. } => self.name_of_containers(),
            Self::VolumeCreate(_) => "volume-create",
            Self::VolumeList(_) => "volume-list",
            Self::VolumeShow { .. } => "volume-show",
            Self::VolumeSet { .. } => "volume-set",
            Self::VolumePause { .. } | Self::VolumeResume { .. } => self.name_of_service(),
            Self::VolumeDelete { .. } => "volume-delete",
            Self::VolumeResize { .. } => "volume-resize",
            Self::VolumeRestore { .. } => "volume-restore",
            Self::VolumeDrain { .. } | Self::VolumeRelease { .. } => self.name_of_service(),
            Self::SnapshotCreate { .. } => "snapshot-create",
            Self::SnapshotShow { .. } => "snapshot-show",
            Self::SnapshotList(_) => "snapshot-list",
            Self::SnapshotDelete { .. } => "snapshot-delete",
            Self::SnapshotDiff { .. } => "snapshot-diff",
            Self::GroupList | Self::GroupShow { .. } | Self::CloneList(_) => self.name_of_lists(),
            Self::GroupSnapshotCreate(_) => "group-snapshot-create",
            Self::GroupSnapshotList => "group-snapshot-list",
            Self::GroupSnapshotShow { .. } => "group-snapshot-show",
            Self::GroupSnapshotDelete { .. } => "group-snapshot-delete",
            Self::TokenCreate { .. } | Self::TokenList => self.name_of_users(),
            Self::TokenDelete { .. } | Self::TokenFind { .. } => self.name_of_users(),
            Self::TokenShow { .. } | Self::UserShow { .. } => self.name_of_users(),
            Self::JoinTokenCreate { .. } => "join-token-create",
            Self::NodeJoin { .. } => "node-join",
            Self::CertificateRenew { .. } => "certificate-renew",
            Self::AuthorityShow => "authority-show",
            Self::AuthorityRotate => "authority-rotate",
            Self::AuthorityRetire(_) => "authority-retire",
            Self::StoreList | Self::SettingList | Self::StoreScrub { .. } => self.name_of_lists(),
            Self::UserCreate { .. } | Self::UserList => self.name_of_users(),
            Self::UserSet { .. } | Self::UserDelete { .. } => self.name_of_users(),
            Self::SessionList { .. } | Self::SessionEnd { .. } => self.name_of_users(),
            Self::UserFind { .. } | Self::SessionCreate { .. } => self.name_of_users(),
            Self::SessionFind { .. } | Self::SessionDelete { .. } => self.name_of_users(),
            Self::Changes { .. } | Self::AuditList(_) => self.name_of_records(),
            Self::AuditRecord { .. } | Self::Once(_) | Self::Glance { .. } => {
                self.name_of_records()
            }
            Self::Conditional { .. } => self.bare().name(),
            Self::Attach { .. } => "attach",
            Self::Detach { .. } => "detach",
        }
    }

    /// As [`Operation::name`], of those that keep and tell what others did, and on the catalog as it is.
    fn name_of_records(&self) -> &'static str {
        match self {
            Self::AuditRecord { .. } => "audit-record",
            Self::AuditList(_) => "audit-list",
            Self::CatalogShow => "catalog-show",
            Self::CatalogBackup => "catalog-backup",
            Self::Glance { .. } => "glance",
            Self::Once(OnceStep::Begin { .. }) => "once-begin",
            Self::Once(OnceStep::End { .. }) => "once-end",
            _ => "changes",
        }
    }
}

/// A step of a change under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum OnceStep {
    /// Begins it, unless it was begun before.
    Begin {
        /// Digest of who asks and of the key: 64 hexadecimal digits.
        digest: String,
        /// Digest of what is asked for.
        request: String,
    },
    /// Keeps its answer.
    End {
        /// As it was begun.
        digest: String,
        /// As it was begun.
        request: String,
        /// The answer; nothing: it may be begun again.
        answer: Option<serde_json::Value>,
    },
}
