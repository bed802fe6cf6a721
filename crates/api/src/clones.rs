//! Clones: volumes that began as a copy of another one.

use serde::{Deserialize, Serialize};

/// A volume that was started from another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CloneAnswer {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Name of its container.
    pub container: String,
    /// Size in bytes.
    pub size: u64,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
    /// Id of the volume that it was started from.
    pub volume_id: u64,
    /// Name of that; absent when it is gone.
    #[serde(default)]
    pub volume: Option<String>,
    /// Id of the snapshot that it was started from.
    pub snapshot_id: u64,
    /// Name of that; absent when it is gone, as one is that was taken for the clone alone.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Bytes of blocks that it maps and that a snapshot, its origin or another clone maps, too; absent while they have not been walked.
    #[serde(default)]
    pub shared: Option<u64>,
    /// Bytes of blocks that it alone maps; absent as above.
    #[serde(default)]
    pub exclusive: Option<u64>,
}
