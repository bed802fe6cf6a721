//! The words of the management plane: what can be asked ([`operation`]), what is answered ([`answer`]) and
//! where that lives in the REST API ([`http`]).
//!
//! Shared by `node` (which carries operations out), `control` (which serves them over HTTP) and those that call them: the
//! command line and the CSI driver, through `client`, which is behind the feature of that name.
//!
//! Invariants
//! - Plain strings, numbers and lists only: no type of the core appears here, so that a client needs
//!   nothing else.
//! - Sizes are bytes in a `u64`, times are Unix milliseconds.
//! - Fields are added, never renamed or removed, within one API version. Requests with unknown fields
//!   are refused; answers with unknown fields are read.

mod alerts;
pub mod answer;
pub mod catalog;
#[cfg(feature = "client")]
pub mod client;
mod clones;
mod condition;
pub mod copies;
pub mod disks;
mod error;
mod event;
mod figures;
mod groups;
pub mod http;
pub mod join;
pub mod kubernetes;
mod lists;
mod log_report;
mod logs;
mod looks;
pub mod members;
mod metrics;
pub mod operation;
pub mod query;
mod settings;
pub mod sort;
mod space;
mod spec;
pub mod stream;
pub mod task;
#[cfg(test)]
mod tests;
pub mod token;
pub mod users;

pub use alerts::{
    ALERTS_DEFAULT, ALERTS_LIMIT_MAX, AlertAnswer, AlertCountsAnswer, AlertKindFigures,
    AlertMarkAnswer, AlertNote, AlertOperation, AlertQuery, AlertSeverity, AlertSort, AlertState,
    AlertTargetAnswer, AlertTargetSpec, AlertsAnswer, MailSecurityName, NOTE_CHARS_MAX, TargetKind,
};
pub use answer::{
    Answer, AttachmentAnswer, CapacityAnswer, ClientAnswer, ClusterAnswer, ContainerAnswer,
    DiffAnswer, DiffRun, GroupSnapshotAnswer, NodeAnswer, OnceAnswer, OriginAnswer, ReplicaAnswer,
    SnapshotAnswer, StatusAnswer, StoreAnswer, VolumeAnswer,
};
pub use catalog::{
    CatalogAnswer, CatalogBackupAnswer, CatalogMemberAnswer, CatalogMoveAnswer, CatalogSeatAnswer,
    CatalogTarget,
};
pub use clones::CloneAnswer;
pub use copies::{MinCopies, NotCopies};
pub use disks::{DiskAnswer, DiskLight, DiskReplacement, DiskSpec};
pub use error::Problem;
pub use event::{
    EVENTS_DEFAULT, EVENTS_LIMIT_MAX, EventAnswer, EventQuery, EventSort, EventsAnswer,
};
pub use figures::{
    ActivityAnswer, CacheFigures, ClusterFigures, CollectionFigures, ContainerFigures, DiskFigures,
    FiguresAnswer, LatencyFigures, ProcessFigures, ReductionFigures, ScrubFigures, ServedFigures,
    StoreFigures, VolumeFigures, VolumeReductionFigures,
};
pub use groups::{GroupAnswer, GroupStoreAnswer};
pub use join::{
    AuthorityAnswer, JoinAnswer, JoinRequest, JoinTokenAnswer, JoinTokenSpec,
    NodeCertificateAnswer, Retirement,
};
pub use kubernetes::{
    ClaimAnswer, ClaimFacts, ClaimQuery, ClaimSort, ClaimVolume, ClaimsAnswer, KUBERNETES_LABEL,
    KubernetesAnswer, KubernetesListAnswer, KubernetesOperation, KubernetesReport, PodFacts,
    ReportedAnswer, StorageClassFacts,
};
pub use lists::{
    ContainerQuery, ContainerSort, DiskQuery, DiskSort, GroupQuery, GroupSnapshotQuery,
    GroupSnapshotSort, GroupSort, KubernetesQuery, KubernetesSort, Listing, SessionQuery,
    SessionSort, SettingQuery, SettingSort, StoreQuery, StoreSort, TargetQuery, TargetSort,
    TokenQuery, TokenSort, UserQuery, UserSort,
};
pub use log_report::{
    LogComponent, LogEntry, LogOrigin, LogReport, LogReportAnswer, REPORT_LINES_BYTES_MAX,
    REPORT_LINES_MAX, teller,
};
pub use logs::{
    LOGS_DEFAULT, LOGS_LIMIT_MAX, LogField, LogLevel, LogLineAnswer, LogQuery, LogsAnswer,
    LogsPart, LogsSeen,
};
pub use members::{
    ComponentAnswer, CopiesAnswer, LogCopiesAnswer, MemberAnswer, MemberChange, RemoveQuery,
    RepairAnswer, ResiliencyAnswer, ResilientCapacityAnswer, SpaceAnswer,
};
pub use metrics::{
    BUSIEST_DEFAULT, BUSIEST_LIMIT_MAX, BusiestAnswer, BusiestQuery, BusyBy, BusyNodeAnswer,
    BusyVolumeAnswer, Figure, MetricsAnswer, MetricsPart, MetricsQuery, RatesAnswer, SeriesAnswer,
    StepPart,
};
pub use operation::{
    CompressionName, ContainerChange, ContainerSpec, ErrorKind, GroupSnapshotSpec, OnceStep,
    Operation, OperationError, SnapshotRef, SyncName, VolumeChange, VolumeSpec,
};
pub use query::{ListQuery, ListSort};
pub use settings::SettingAnswer;
pub use space::{
    ContainerUsageAnswer, NamedUsageAnswer, PhysicalAnswer, SpaceReportAnswer, StoreShareAnswer,
    UsageAnswer,
};
pub use task::{
    Asker, Forwarded, StartedAnswer, TASK_STATES, TASKS_DEFAULT, TASKS_LIMIT_MAX, TaskAnswer,
    TaskQuery, TaskSort, TasksAnswer,
};
pub use token::{Scope, TokenAnswer, TokenSpec};
pub use users::{
    AuditEntry, AuditQuery, AuditSort, Login, OpenSessionAnswer, PasswordChange, SessionAnswer,
    UserAnswer, UserChange, UserCredential, UserRole, UserSpec,
};
