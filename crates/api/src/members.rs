//! Nodes and stores as members of the cluster, and how much loss the cluster can take now.

use serde::{Deserialize, Serialize};

/// What an operator wants of a node or a store; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MemberChange {
    /// Whether everything moves away from it and nothing new comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
    /// So many minutes from now it may be away without being replaced; 0 ends that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_minutes: Option<u32>,
    /// A node that has joined takes part from now on; `true` is all that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
}

/// Query of a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct RemoveQuery {
    /// Whether it will never come back, with what it holds: what others still wait for is given up.
    #[serde(default)]
    pub lost: bool,
}

/// What still ties a node or store to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberAnswer {
    /// `node` or `store`.
    pub kind: String,
    /// Its id.
    pub id: u32,
    /// The name of the node, or of the store's node.
    pub node: String,
    /// Whether everything moves away from it.
    pub draining: bool,
    /// Until when it may be away, Unix milliseconds; 0: no such time.
    pub maintenance_until_ms: u64,
    /// Whether it has joined and waits to be approved.
    #[serde(default)]
    pub candidate: bool,
    /// Placement groups that have a member there.
    pub groups: u32,
    /// Placement groups that it has left and whose data it still holds.
    pub leaving: u32,
    /// Volumes with a part of their log there.
    pub logs: u32,
    /// Volumes that it serves; 0 for a store.
    pub volumes: u32,
    /// Stores that a node had before another one said that it has them, that hold data, and that do not answer there: their disks may be back in
    /// the machine of this one, which has not started since. None of a node that runs.
    #[serde(default)]
    pub strays: Vec<u32>,
    /// Whether it can be removed now.
    pub removable: bool,
    /// The task of its drain, in the answer that begins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// Version of what can be changed in it, for a change on top of that; 0 until something was set; absent: not known at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// How much loss the cluster can take now, and what is being done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResiliencyAnswer {
    /// `ok`: as many copies as wanted everywhere, and room to make them again; `degraded`: something is missing;
    /// `critical`: the next loss, or the present one, makes data unavailable.
    pub verdict: String,
    /// Why it is not `ok`, for people.
    pub reasons: Vec<String>,
    /// Data at rest, by wanted copies.
    pub data: Vec<CopiesAnswer>,
    /// Logs of volumes, by wanted copies: what was written last is there alone until it is drained. Empty before they were looked at.
    #[serde(default)]
    pub logs: Vec<LogCopiesAnswer>,
    /// Repair that is under way or waits.
    pub repair: RepairAnswer,
    /// Space to make copies again.
    pub capacity: ResilientCapacityAnswer,
    /// What may be lost of each part of the cluster.
    #[serde(default)]
    pub components: Vec<ComponentAnswer>,
    /// What clients may still write, by copies.
    #[serde(default)]
    pub space: Vec<SpaceAnswer>,
}

/// What may be lost of one part of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComponentAnswer {
    /// `data` (at rest), `log` (written last and not drained), `capacity` (room to make every copy again) or `catalog` (takeovers and
    /// changes; reads and writes go on without it).
    pub component: String,
    /// Copies, of all but `catalog`.
    #[serde(default)]
    pub rf: Option<u8>,
    /// What is lost at a time: `store`, `node`, or `member` of etcd.
    pub domain: String,
    /// How many of them may be lost, whichever they are, before anything is repaired.
    pub tolerates: u32,
    /// `ok`, `degraded` or `critical`.
    pub state: String,
    /// Why it is not more, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub remedy: Option<String>,
}

/// How much clients may still write with so many copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SpaceAnswer {
    /// Copies.
    pub rf: u8,
    /// `ok`, `warning`, or `protected`: new data is refused, while reads, deletes, trims and repair go on.
    pub state: String,
    /// Percent in use of what clients may fill, where there is most room.
    pub fill_percent: u64,
    /// Percent in use of the resilient capacity; absent where a lost domain cannot be made good at all.
    #[serde(default)]
    pub resilient_percent: Option<u64>,
    /// `warning` from so many percent of either on.
    pub warns_at: u64,
    /// A store takes nothing new from so many percent of what clients may fill on.
    pub protects_at: u64,
    /// It does again below that.
    pub ends_below: u64,
    /// Stores of these groups that take nothing new.
    #[serde(default)]
    pub stores: Vec<u32>,
    /// Why it is not `ok`, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub remedy: Option<String>,
}

/// Groups that want so many copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CopiesAnswer {
    /// Wanted copies.
    pub rf: u8,
    /// Width of a failure domain that copies are kept apart by: `store`, `node` or a label.
    pub domain: String,
    /// Groups with that many.
    pub groups: u32,
    /// Those with fewer complete members that answer than wanted.
    pub degraded: u32,
    /// Those without any.
    pub unavailable: u32,
    /// Failure domains that may still be lost, whichever they are, without data becoming unavailable.
    pub tolerates: u8,
}

/// Volumes whose logs want so many copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogCopiesAnswer {
    /// Wanted copies.
    pub rf: u8,
    /// What copies of a log are kept apart by: `node`, or `store` where there are fewer nodes than copies.
    pub domain: String,
    /// Volumes with such a log.
    pub volumes: u32,
    /// Those of which a part of the log has fewer copies that answer than wanted.
    pub degraded: u32,
    /// Those of which a part has none.
    pub unavailable: u32,
    /// Failure domains that may still be lost, whichever they are, without a log becoming unavailable.
    pub tolerates: u8,
}

/// Copies that are being made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RepairAnswer {
    /// Members of groups that are being filled.
    pub filling: u32,
    /// Members that were filled since that began.
    pub filled: u32,
    /// Groups that lack a member and have none to fill: there is no store to put it on.
    pub waiting: u32,
    /// Seconds since members began to be filled.
    pub running_seconds: u64,
    /// Bytes that are still to be copied to them; absent while the stores have not said how much groups hold.
    #[serde(default)]
    pub bytes_left: Option<u64>,
    /// Bytes per second that were copied in the last minute; absent before it is known.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
    /// Seconds until the last is filled: by bytes at the pace of the last minute, and by members at the pace since the beginning as long
    /// as that is not known; absent while nothing was copied.
    pub eta_seconds: Option<u64>,
}

/// Space, and how much of it can be filled so that every copy can be made again after a loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResilientCapacityAnswer {
    /// Bytes of all stores that take part.
    pub total: u64,
    /// Bytes that extents occupy, copies and garbage included, and those of lost copies that are still to be made again.
    pub used: u64,
    /// Of these, bytes of copies that are still to be made again.
    #[serde(default)]
    pub missing: u64,
    /// Bytes that may be occupied so that the largest failure domain can be lost and everything made again on the others.
    pub resilient: u64,
    /// Percent of the fullest store in use.
    pub fullest_percent: u8,
}
