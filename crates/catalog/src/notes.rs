//! What stores are told of the catalog, so that it can be made anew from their disks: docs/formats/notes.md.

use crate::access::{CatalogError, decode};
use crate::rows::{ContainerRow, GroupRow, MapRoot, SegmentRow, VolumeRoot};
use crate::rows::{LineageRow, NodeRow, Row, SnapshotRow, StoreRow, VolumeRow};
use crate::snapshots::snapshot_name_key;
use crate::volumes::volume_name_key;
use crate::{
    AuthorityRow, CertificateRow, ClusterRow, GroupSnapshotRow, IntentRow, TokenRow, UserRow,
};
use serde::{Deserialize, Serialize};
use vocab::{Epoch, SegmentId, SnapshotId, VolumeId};

/// What the owner of a volume notes on the replicas of its log: where the volume starts and what its log is, as the owner
/// knows it. Written before a segment is opened and before a log is trimmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogNote {
    /// The volume.
    pub volume: VolumeId,
    /// The owner's term.
    pub epoch: Epoch,
    /// The newest root.
    pub root: VolumeRoot,
    /// The log, oldest segment first.
    pub segments: Vec<SegmentRow>,
    /// Id of the next segment.
    pub next_segment: SegmentId,
    /// Snapshots that were given their roots last.
    #[serde(default)]
    pub settled: Vec<(SnapshotId, MapRoot)>,
}

impl LogNote {
    /// Snapshots named by a note at most; the catalog's rows were noted long before so many followed.
    pub const SETTLED_MAX: usize = 16;

    /// The note as text.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("a note has string keys only")
    }

    /// A note from its text.
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

/// Kinds of rows that are noted and backed up: all that others cannot be made from. Names follow from the rows, leases end
/// anyhow.
pub const NOTED: [&str; 15] = [
    ClusterRow::PREFIX,
    NodeRow::PREFIX,
    StoreRow::PREFIX,
    ContainerRow::PREFIX,
    GroupRow::PREFIX,
    IntentRow::PREFIX,
    LineageRow::PREFIX,
    VolumeRow::PREFIX,
    SnapshotRow::PREFIX,
    GroupSnapshotRow::PREFIX,
    TokenRow::PREFIX,
    UserRow::PREFIX,
    AuthorityRow::PREFIX,
    CertificateRow::PREFIX,
    COUNTERS,
];

/// Prefix of the counters of ids.
pub const COUNTERS: &str = "counter/";

/// Whether a row is noted and backed up.
#[must_use]
pub fn is_noted(key: &str) -> bool {
    NOTED.iter().any(|prefix| key.starts_with(prefix))
}

/// The name that a row reserves: its key, and the number under it.
///
/// # Errors
/// Why the row does not decode.
pub fn name_of(key: &str, value: &[u8]) -> Result<Option<(String, u64)>, CatalogError> {
    fn named<T: Row>(
        key: &str,
        value: &[u8],
        name: impl FnOnce(T) -> (String, u64),
    ) -> Result<Option<(String, u64)>, CatalogError> {
        key.starts_with(T::PREFIX)
            .then(|| decode(key, value).map(name))
            .transpose()
    }
    let node = |row: NodeRow| (format!("node-name/{}", row.name), u64::from(row.id.0));
    let container = |row: ContainerRow| {
        let id = u64::from(row.id.0);
        (format!("container-name/{}", row.name), id)
    };
    let volume = |row: VolumeRow| (volume_name_key(&row.name), row.id.0);
    let snapshot = |row: SnapshotRow| (snapshot_name_key(row.volume, &row.name), row.id.0);
    let group = |row: GroupSnapshotRow| (format!("group-snapshot-name/{}", row.name), row.id);
    let found = named(key, value, node)?
        .or(named(key, value, container)?)
        .or(named(key, value, volume)?)
        .or(named(key, value, snapshot)?)
        .or(named(key, value, group)?);
    Ok(found)
}
