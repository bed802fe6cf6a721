//! Where the space goes.

use serde::{Deserialize, Serialize};

/// Space of a volume or snapshot, as of the last walk over its map. What a volume has in its log only is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageAnswer {
    /// Bytes of blocks that it maps, before compression and copies.
    pub mapped: u64,
    /// Those that a snapshot, clone or origin maps, too.
    pub shared: u64,
    /// Those that nothing else maps.
    pub exclusive: u64,
    /// Bytes that the stores give back when it is deleted, all copies: extents that only it refers to. Compaction may give more
    /// back later.
    pub frees: u64,
    /// Bytes of one copy of what it maps as it is stored, map pages and what was overwritten in its extents included: `mapped` by this is
    /// what compression saves. Only where no snapshot and no clone is beside it: blocks of several cannot be told to be one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    /// Seconds since the walk. It was exact then.
    pub age_seconds: u64,
}

/// What a store holds of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoreShareAnswer {
    /// Id of the store.
    pub store: u32,
    /// Bytes that it occupies there.
    pub bytes: u64,
}

/// Space of one volume or snapshot by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamedUsageAnswer {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Of a snapshot: the id of its volume.
    #[serde(default)]
    pub volume_id: Option<u64>,
    /// Name of its container.
    pub container: String,
    /// Its space.
    pub usage: UsageAnswer,
}

/// Space of a container: the sums of its volumes and snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerUsageAnswer {
    /// Its name.
    pub name: String,
    /// Bytes that its volumes map.
    pub mapped: u64,
    /// Bytes that its snapshots map.
    pub snapshots: u64,
    /// Bytes that one volume or snapshot of it alone maps.
    pub exclusive: u64,
    /// Bytes that the stores give back, at least, when all of them are deleted.
    pub frees: u64,
}

/// Bytes on all stores that answer. `used` = `data` + `unsettled` + `other`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PhysicalAnswer {
    /// For extents.
    pub capacity: u64,
    /// Occupied by extents, as the stores say now.
    pub used: u64,
    /// Occupied by extents that volumes and snapshots refer to, all copies, with what was overwritten in them and waits for
    /// compaction.
    pub data: u64,
    /// Occupied by extents that may be on their way into a map.
    pub unsettled: u64,
    /// What the stores say beyond that: written, deleted, or made garbage since the walks, of volumes that were not walked yet, or on
    /// its way from one store to another.
    pub other: i64,
    /// Kept free of clients' data for drains, repair and compaction.
    pub kept_back: u64,
    /// Size of the journals.
    pub journal_capacity: u64,
    /// Bytes of them that are needed.
    pub journal_used: u64,
}

/// Where the space goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SpaceReportAnswer {
    /// Volumes with their snapshots and clones, which are walked together.
    pub lineages: u64,
    /// Those of them that were walked since their node leads, and have the same volumes and snapshots since.
    pub walked: u64,
    /// Seconds since the oldest of these walks.
    pub age_seconds: u64,
    /// On the stores.
    pub physical: PhysicalAnswer,
    /// Bytes that volumes and snapshots map, each for itself.
    pub mapped: u64,
    /// Bytes of distinct blocks among them.
    pub distinct: u64,
    /// Bytes of one copy of those as stored, map pages included.
    pub stored: u64,
    /// `mapped` by `distinct`, in hundredths: what snapshots and clones save.
    pub sharing_hundredths: u64,
    /// `distinct` by `stored`, in hundredths: what compression saves. Below 100 while extents hold blocks that were overwritten.
    pub compression_hundredths: u64,
    /// Containers, by name.
    pub containers: Vec<ContainerUsageAnswer>,
    /// Volumes, by name.
    pub volumes: Vec<NamedUsageAnswer>,
    /// Snapshots, by volume and name.
    pub snapshots: Vec<NamedUsageAnswer>,
    /// What the stores hold of what was walked, by store.
    #[serde(default)]
    pub stores: Vec<StoreShareAnswer>,
}
