//! The catalog: who is in the cluster, which policies hold, where every volume starts.
//!
//! State: rows of JSON under a small key-value store ([`kv::Kv`]); nothing in memory. O(volumes + groups)
//! rows, never O(extents), and never on the path of a read or a write.
//!
//! Invariants
//! - Every change is one transaction that compares the version of each row it read.
//! - A volume's epoch never decreases; a change made for an owner names its epoch and is refused with
//!   [`CatalogError::StaleOwner`] once the row holds a newer one.
//! - Ids come from counters that only grow: a volume, snapshot or segment id is never used twice.
//! - A change is idempotent: repeating it after [`kv::KvError::Unavailable`] finds it done.
//!
//! Read next: `rows.rs` (what is stored), `access.rs` (transactions), `volumes.rs`, `attachment.rs`, `snapshots.rs`.

mod access;
mod alerts;
mod attachment;
mod audit;
mod cluster;
#[cfg(test)]
mod corpus_tests;
pub mod dump;
mod events;
mod expected;
mod groups;
mod joining;
mod kubernetes;
pub mod kv;
mod levels;
mod lights;
mod notes;
mod once;
mod placement;
mod rows;
mod scrub;
mod snapshots;
mod space;
mod targets;
mod tasks;
mod tokens;
mod users;
mod volumes;

#[cfg(test)]
mod tests;

pub use access::{Catalog, CatalogError, Transaction, Versioned};
pub use alerts::{
    ALERT_CHANGES_MAX, ALERTS_AT_ONCE, ALERTS_OPEN_MAX, ALERTS_PAST_MAX, AlertChangeRow,
    AlertCounts, AlertHead, AlertMark, AlertRow, AlertSteps, AlertTurn, AlertsNow, PAST_MS_MAX,
};
pub use attachment::{Attachment, AttachmentMode, Held};
pub use audit::{AUDIT_BATCH_MAX, AUDIT_ROWS_MAX, AuditLog, AuditRow};
pub use cluster::{plan_groups, wanted_groups};
pub use events::{EVENTS_AT_ONCE, EVENTS_MAX, EventRow, Severity, TEXT_CHARS_MAX};
pub use expected::{Expected, Expecting};
pub use groups::{Begun, GroupSnapshotRow};
pub use joining::{AuthorityRow, CertificateRow, JoinTokenRow};
pub use kubernetes::{
    CLAIMS_MAX, ClaimRow, KUBERNETES_MAX, KnownRows, KubernetesClass, KubernetesNews,
    KubernetesPod, KubernetesRow, REPORTED_STEP_MS,
};
pub use levels::Announced;
pub use lights::LightRow;
pub use notes::{COUNTERS, LogNote, NOTED, is_noted, name_of};
pub use once::{Once, OnceRow};
pub use placement::{GroupChange, IntentRow, Subject};
pub use rows::{
    AliveRow, ClusterRow, Compression, ContainerRow, EtcdRow, GroupRow, LineageRow, MapRoot,
    NodeRow, Origin, PagePointer, Row, SeatRow, SegmentReplica, SegmentRow, SnapshotRow,
    SnapshotState, StoreRow, SyncPolicy, VolumeLimits, VolumeRoot, VolumeRow, VolumeState,
};
pub use scrub::ScrubRow;
pub use snapshots::{NewSnapshot, SnapshotBase, SnapshotMarks};
pub use space::{SpaceRow, SpaceState};
pub use targets::{AlertCursorRow, AlertTargetRow, Delivery, MailSecurity, Secret, TARGETS_MAX};
pub use tasks::{TASKS_AT_ONCE, TASKS_MAX, TaskHead, TaskRow, TaskStatus};
pub use tokens::{PERSONAL, PERSONAL_TOKENS_MAX, Personal, TokenRow};
pub use users::{SESSIONS_MAX, SessionRow, USERS_MAX, UserRow};
pub use volumes::{NewVolume, Takeover, incomplete};
