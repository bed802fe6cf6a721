//! What is said of containers, volumes and group snapshots when they are made or changed.

use crate::copies::MinCopies;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A container to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// Unique name.
    pub name: String,
    /// Copies, 1 to 3.
    #[serde(default = "two")]
    pub rf: u8,
    /// Copies below which writes stop; nothing: 1 for RF 1 and 2, 2 for RF 3.
    #[serde(default)]
    pub min_copies: Option<MinCopies>,
    /// When a write is durable.
    #[serde(default)]
    pub sync: SyncName,
    /// Compression at rest.
    #[serde(default)]
    pub compression: CompressionName,
    /// Upper bound in bytes of the sum of all volume sizes.
    #[serde(default)]
    pub quota: Option<u64>,
}

fn two() -> u8 {
    2
}

impl ContainerSpec {
    /// `min_copies` as a number, or its default for the replication factor.
    #[must_use]
    pub fn copies_min(&self) -> u8 {
        match self.min_copies {
            Some(MinCopies::Count(count)) => count,
            Some(MinCopies::Strict) => self.rf,
            None if self.rf >= 3 => 2,
            None => 1,
        }
    }
}

/// What changes in a container; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ContainerChange {
    /// Copies of what is written from now on, 1 to 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rf: Option<u8>,
    /// Copies below which writes stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_copies: Option<MinCopies>,
    /// When a write is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncName>,
    /// Compression at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<CompressionName>,
    /// Upper bound in bytes of the sum of all volume sizes; 0: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
}

/// A volume to create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Unique name.
    pub name: String,
    /// Its container; a clone may leave it out and gets its origin's.
    #[serde(default)]
    pub container: Option<String>,
    /// Bytes, a multiple of 4096; a clone may leave it out and gets its origin's.
    #[serde(default)]
    pub size: Option<u64>,
    /// What to start from.
    #[serde(default)]
    pub from: Option<SnapshotRef>,
    /// Free-form labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Operations per second at most; nothing or 0: no bound.
    #[serde(default)]
    pub iops_limit: Option<u64>,
    /// Bytes per second at most; nothing or 0: no bound.
    #[serde(default)]
    pub bandwidth_limit: Option<u64>,
}

/// What changes in a volume; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VolumeChange {
    /// Labels to set, or with `null` to remove.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// For people; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Operations per second at most; 0 or `null`: no bound.
    #[serde(
        default,
        deserialize_with = "null_is_zero",
        skip_serializing_if = "Option::is_none"
    )]
    pub iops_limit: Option<u64>,
    /// Bytes per second at most; 0 or `null`: no bound.
    #[serde(
        default,
        deserialize_with = "null_is_zero",
        skip_serializing_if = "Option::is_none"
    )]
    pub bandwidth_limit: Option<u64>,
}

/// A number that is there; `null` is 0.
fn null_is_zero<'de, D: Deserializer<'de>>(source: D) -> Result<Option<u64>, D::Error> {
    Ok(Some(Option::deserialize(source)?.unwrap_or(0)))
}

/// A group snapshot to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupSnapshotSpec {
    /// Unique name; each member has it in its volume, too.
    pub name: String,
    /// The volumes.
    pub volumes: Vec<String>,
    /// Free-form labels, of the members.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Names a snapshot, or a volume as it is now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SnapshotRef {
    /// The volume.
    pub volume: String,
    /// Name of its snapshot; nothing: the volume as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

impl fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.snapshot {
            Some(snapshot) => write!(f, "{}@{snapshot}", self.volume),
            None => f.write_str(&self.volume),
        }
    }
}

/// When a write is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SyncName {
    /// At the next flush, as on any disk.
    #[default]
    Flush,
    /// When it is acknowledged.
    Always,
}

/// Compression of data at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CompressionName {
    /// LZ4 where it saves enough.
    #[default]
    Lz4,
    /// None.
    Off,
}
