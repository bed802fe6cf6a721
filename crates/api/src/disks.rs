//! Disks of the nodes: what is there, and disks that come, go and follow each other.

use crate::operation::Operation;
use serde::{Deserialize, Serialize};

/// Disks of a node that become a new store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// Name of the node that has them.
    pub node: String,
    /// Block devices or files as that node sees them: all disks of the store.
    pub paths: Vec<String>,
    /// Make preallocated files of so many bytes where nothing is at a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<u64>,
    /// Bytes of the journal; nothing: chosen from the size of the first disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<u64>,
    /// Destroy what is on a disk: the exact words that the refusal asks for, once for each disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
}

/// Disks that take the place of those of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DiskReplacement {
    /// Block devices or files as the store's node sees them: all disks of the store from now on.
    pub paths: Vec<String>,
    /// Make preallocated files of so many bytes where nothing is at a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<u64>,
    /// Bytes of the journal; nothing: chosen from the size of the first disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<u64>,
    /// Destroy what is on a disk: the exact words that the refusal asks for, once for each disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
    /// Give up what has its only copy on the disks that are replaced.
    #[serde(default)]
    pub lost: bool,
}

/// A disk of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskAnswer {
    /// Name of the node.
    pub node: String,
    /// The store that is on it, alone or with others.
    pub store: u32,
    /// Where it is, as its node sees it; empty when the node does not answer.
    pub path: String,
    /// Its bytes; nothing when it is not there, or the node does not answer.
    pub size: Option<u64>,
    /// Bytes of the store that extents can take, all disks together.
    pub capacity: u64,
    /// Bytes of the store that extents occupy, all disks together.
    pub used: u64,
    /// `ready`, `full`, `suspect`, `failed` or `unreachable`: the store's.
    pub state: String,
    /// Why it is not ready.
    pub reason: Option<String>,
    /// `present`, `away`, `draining` or `lost`: what is made of the store.
    pub standing: String,
    /// Placement groups that have the store as a member.
    pub groups: u32,
    /// Mean microseconds of a read since the store was opened; absent before one, when the node does not answer, and for the disks of a
    /// store of several: `azekura_disk_latency_seconds` of `/metrics` tells them apart.
    #[serde(default)]
    pub read_us: Option<u64>,
    /// The same of a write.
    #[serde(default)]
    pub write_us: Option<u64>,
    /// The same of a flush.
    #[serde(default)]
    pub flush_us: Option<u64>,
    /// Serial number, if the operating system says it.
    pub serial: Option<String>,
    /// Model, if the operating system says it.
    pub model: Option<String>,
    /// Whether the light that shows where it is is on; nothing: it has none that its node can switch.
    #[serde(default)]
    pub light: Option<bool>,
}

/// Switches the lights that show where disks are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DiskLight {
    /// One disk of the store, as its node sees it; nothing: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether the light is to be on.
    pub on: bool,
}

impl Operation {
    /// As [`Operation::name`], of those about disks.
    pub(crate) fn name_of_disks(&self) -> &'static str {
        match self {
            Self::DiskList => "disk-list",
            Self::DiskAdd(_) => "disk-add",
            Self::DiskReplace { .. } => "disk-replace",
            _ => "disk-locate",
        }
    }
}
