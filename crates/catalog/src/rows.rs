//! What the catalog stores. Every row is JSON, so that a person can read it and a newer release can add
//! fields with defaults.

use crate::attachment::Attachment;
use crate::kv::Revision;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use vocab::{
    ByteCount, ContainerId, Epoch, ExtentId, Generation, GroupId, Incarnation, Level, Levels,
    LineageId, NodeId, Position, SegmentId, SnapshotId, StoreId, VolumeId,
};

/// A stored row: where it lies and how it is written.
pub trait Row: Serialize + DeserializeOwned + Clone {
    /// Prefix of all keys of this kind, with the slash at its end.
    const PREFIX: &'static str;

    /// This row's key.
    fn key(&self) -> String;

    /// The revision on top of which people last changed it, where the row itself says so; else what wrote it says it.
    fn edited(&self) -> Option<Revision> {
        None
    }

    /// Has a row that takes the place of `before`, which `version` wrote, say so.
    fn stamp(&mut self, _before: &Self, _version: Revision) {}
}

/// Key of a row by its number: fixed width, so that key order is number order.
pub(crate) fn numbered(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:020}")
}

/// The cluster itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredCluster", into = "StoredCluster")]
pub struct ClusterRow {
    /// Unlike that of every other cluster, and never changed: part of handles that others keep. Clusters made before ids
    /// were drawn have their name here.
    pub id: String,
    /// Name given by the operator; in every disk header and greeting.
    pub name: String,
    /// What its nodes may say to each other and write: see `vocab::Level`. It never falls.
    pub level: Level,
    /// How often the catalog was made anew: from the disks, from a backup, or in another place. Revisions start over then.
    pub era: u64,
}

/// The cluster's row as it is written. Releases that know no levels want a `version`, which they do not compare: above level 1
/// there is none, so that they do not start.
#[derive(Serialize, Deserialize)]
struct StoredCluster {
    id: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<Level>,
    #[serde(default)]
    era: u64,
}

impl From<StoredCluster> for ClusterRow {
    fn from(stored: StoredCluster) -> Self {
        Self {
            id: stored.id,
            name: stored.name,
            level: stored.level.unwrap_or_default(),
            era: stored.era,
        }
    }
}

impl From<ClusterRow> for StoredCluster {
    fn from(row: ClusterRow) -> Self {
        let first = row.level == Level::default();
        Self {
            id: row.id,
            name: row.name,
            version: first.then_some(1),
            level: (!first).then_some(row.level),
            era: row.era,
        }
    }
}

impl Row for ClusterRow {
    const PREFIX: &'static str = "cluster";
    fn key(&self) -> String {
        "cluster".to_owned()
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its id.
    pub id: NodeId,
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
    /// Version of the release that it ran when it started last.
    #[serde(default)]
    pub release: String,
    /// What that release knows.
    #[serde(default)]
    pub levels: Levels,
}

impl NodeRow {
    /// Key of a node's row.
    #[must_use]
    pub fn key_of(id: NodeId) -> String {
        numbered(Self::PREFIX, u64::from(id.0))
    }
}

impl Row for NodeRow {
    const PREFIX: &'static str = "node/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, u64::from(self.id.0))
    }
}

/// A node that can run a member of the cluster's own etcd (decision 29).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatRow {
    /// The node.
    pub id: NodeId,
    /// URL at which clients reach its member.
    pub client: String,
    /// URL at which other members reach it.
    pub peer: String,
    /// Id of the member whose data it has, or had.
    #[serde(default)]
    pub member: Option<u64>,
    /// Whether it has lost that data.
    #[serde(default)]
    pub lost: bool,
    /// Why no member would run there, when none would.
    #[serde(default)]
    pub problem: Option<String>,
    /// Bytes that its member may keep.
    #[serde(default)]
    pub quota: u64,
}

impl Row for SeatRow {
    const PREFIX: &'static str = "seat/";
    fn key(&self) -> String {
        Self::key_of(self.id)
    }
}

impl SeatRow {
    /// Key of the row of a node.
    #[must_use]
    pub fn key_of(node: NodeId) -> String {
        numbered(Self::PREFIX, u64::from(node.0))
    }
}

/// Which etcd is the cluster's own: its nodes change the members of no other. One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdRow {
    /// The id that its members share.
    pub cluster: u64,
}

impl Row for EtcdRow {
    const PREFIX: &'static str = "etcd";
    fn key(&self) -> String {
        Self::PREFIX.to_owned()
    }
}

/// Says that a node lives; bound to the node's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliveRow {
    /// Who.
    pub id: NodeId,
    /// Distinguishes this start of the node from its earlier ones.
    pub start: u64,
}

impl AliveRow {
    /// Key of the row of a node.
    #[must_use]
    pub fn key_of(id: NodeId) -> String {
        numbered(Self::PREFIX, u64::from(id.0))
    }
}

impl Row for AliveRow {
    const PREFIX: &'static str = "alive/";
    fn key(&self) -> String {
        Self::key_of(self.id)
    }
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRow {
    /// Its id.
    pub id: StoreId,
    /// The node that runs it.
    pub node: NodeId,
    /// Its present life. Another one on the disks means amnesia.
    pub incarnation: Incarnation,
    /// The newest run of the store that the catalog was told; 0: none. Disks that do not remember it were rolled
    /// back.
    #[serde(default)]
    pub session: u64,
    /// Bytes for extents.
    pub capacity: ByteCount,
    /// Labels of the enclosing failure domains, narrowest first, without store and node (rack, zone).
    #[serde(default)]
    pub domains: Vec<String>,
    /// Other nodes that ran this life of it before, the newest first, at most [`StoreRow::EARLIER_MAX`]: its disks may be back in the machine of
    /// one that has not started since.
    #[serde(default)]
    pub earlier: Vec<NodeId>,
}

impl Row for StoreRow {
    const PREFIX: &'static str = "store/";
    fn key(&self) -> String {
        Self::key_of(self.id)
    }
}

impl StoreRow {
    /// Nodes that are remembered of a store that goes from one machine to another.
    pub const EARLIER_MAX: usize = 8;

    /// Key of the row of a store.
    #[must_use]
    pub fn key_of(id: StoreId) -> String {
        numbered(Self::PREFIX, u64::from(id.0))
    }
}

/// Compression of data at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// LZ4 where it saves at least an eighth.
    #[default]
    Lz4,
    /// None.
    Off,
}

/// When a write is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncPolicy {
    /// At the next flush, as on any disk.
    #[default]
    Flush,
    /// When it is acknowledged.
    Always,
}

/// A storage container: the policy domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRow {
    /// Its id.
    pub id: ContainerId,
    /// Unique name.
    pub name: String,
    /// Wanted copies, 1 to 3.
    pub replication_factor: u8,
    /// Copies below which writes stop.
    pub copies_min: u8,
    /// Whether `copies_min` is the replication factor, and follows it.
    #[serde(default)]
    pub strict: bool,
    /// Durability of writes.
    #[serde(default)]
    pub sync: SyncPolicy,
    /// Compression at rest.
    #[serde(default)]
    pub compression: Compression,
    /// Upper bound of the sum of all volume sizes.
    #[serde(default)]
    pub quota: Option<ByteCount>,
}

impl Row for ContainerRow {
    const PREFIX: &'static str = "container/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, u64::from(self.id.0))
    }
}

/// A placement group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Its id.
    pub id: GroupId,
    /// Version of the member list.
    pub generation: Generation,
    /// Wanted copies; groups of one replication factor serve all containers that want it.
    pub replication_factor: u8,
    /// Stores, in distinct failure domains. Everything new goes to all of them. More than wanted while one takes the
    /// place of another.
    pub members: Vec<StoreId>,
    /// Members that may lack what others hold: they never count as a copy of what was there before they joined.
    #[serde(default)]
    pub filling: Vec<StoreId>,
    /// Stores that were members and may still hold what no member has: asked last, filled from, and emptied once all
    /// members have everything.
    #[serde(default)]
    pub former: Vec<StoreId>,
    /// Filling members that were members before: they lack less than a newcomer would.
    #[serde(default)]
    pub returning: Vec<StoreId>,
    /// The member whose place another one takes: it leaves once enough others are complete, and does not count as a load of
    /// its store until then. None: nobody leaves, or whoever has most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<StoreId>,
}

impl GroupRow {
    /// Members that hold everything, as far as the catalog knows.
    pub fn complete(&self) -> impl Iterator<Item = StoreId> + '_ {
        let complete = |member: &&StoreId| !self.filling.contains(member);
        self.members.iter().filter(complete).copied()
    }

    /// Members that stay.
    pub fn staying(&self) -> impl Iterator<Item = StoreId> + '_ {
        let stays = |member: &StoreId| self.leaving != Some(*member);
        self.members.iter().copied().filter(stays)
    }
}

impl Row for GroupRow {
    const PREFIX: &'static str = "group/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, u64::from(self.id.0))
    }
}

/// A volume and all its snapshots and clones. Its version changes whenever a root joins or leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageRow {
    /// Its id.
    pub id: LineageId,
    /// Volumes in it.
    pub volumes: Vec<VolumeId>,
    /// Snapshots in it.
    pub snapshots: Vec<SnapshotId>,
    /// Volumes that were in it and are gone: what they wrote is garbage once no root refers to it.
    #[serde(default)]
    pub deleted: Vec<VolumeId>,
}

impl Row for LineageRow {
    const PREFIX: &'static str = "lineage/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.id.0)
    }
}

/// Where a map page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PagePointer {
    /// The extent.
    pub extent: ExtentId,
    /// The frame in it.
    pub frame: u16,
}

impl PagePointer {
    /// Frames that an extent can have: `codec::extent::FRAMES_MAX`.
    pub const FRAMES_MAX: u16 = 1024;
}

/// Root of a copy-on-write map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AnyRoot")]
pub struct MapRoot {
    /// The topmost page; none while nothing is mapped.
    pub page: Option<PagePointer>,
    /// Levels of pages; 0 while nothing is mapped, 1 when the root is a leaf.
    pub height: u8,
    /// Blocks mapped.
    pub mapped_blocks: u64,
}

impl MapRoot {
    /// Levels of pages at most.
    pub const HEIGHT_MAX: u8 = 5;

    /// Whether a walk can start here: levels and page fit each other. Everything read passes this.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        match self.page {
            None => self.height == 0,
            Some(page) => {
                (1..=Self::HEIGHT_MAX).contains(&self.height)
                    && page.frame < PagePointer::FRAMES_MAX
            }
        }
    }
}

/// A root as it was read.
#[derive(Deserialize)]
struct AnyRoot {
    page: Option<PagePointer>,
    height: u8,
    mapped_blocks: u64,
}

impl TryFrom<AnyRoot> for MapRoot {
    type Error = &'static str;

    fn try_from(read: AnyRoot) -> Result<Self, Self::Error> {
        let AnyRoot {
            page,
            height,
            mapped_blocks,
        } = read;
        let root = Self {
            page,
            height,
            mapped_blocks,
        };
        let sound = root.is_sound().then_some(root);
        sound.ok_or("a map root whose height does not fit its page")
    }
}

/// A volume's newest durable root known to the catalog. The log may hold a newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRoot {
    /// The map.
    pub map: MapRoot,
    /// The map holds every record up to here.
    pub position: Position,
    /// Extents of this volume below (epoch, counter) are reachable from this root, from a snapshot, or
    /// garbage; those at or above it may be in flight.
    pub floor: (Epoch, u32),
}

/// A replica of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentReplica {
    /// The store.
    pub store: StoreId,
    /// Its life when the segment was opened: another life knows nothing of it.
    pub incarnation: Incarnation,
}

/// A link of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// Its id.
    pub id: SegmentId,
    /// Term that opened it.
    pub epoch: Epoch,
    /// First position in it.
    pub start: Position,
    /// Position after its last one, once it is closed.
    #[serde(default)]
    pub end: Option<Position>,
    /// Where its copies are.
    pub replicas: Vec<SegmentReplica>,
    /// Copies wanted when it was opened.
    pub wanted: u8,
}

/// What a volume started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The volume.
    pub volume: VolumeId,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// State of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Serves.
    #[default]
    Ready,
    /// Its first root is that of its origin, which is not drained yet.
    Pending,
    /// Being deleted: no session is accepted.
    Deleting,
    /// Stopped to protect data; the reason says what is missing.
    Stopped(String),
    /// The catalog was made anew, and what it says of the volume cannot be proved; the reason says what is missing. Nobody
    /// opens it before a person has accepted the loss.
    Incomplete(String),
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRow {
    /// Its id.
    pub id: VolumeId,
    /// Unique name.
    pub name: String,
    /// Its policies.
    pub container: ContainerId,
    /// Whom it shares extents with.
    pub lineage: LineageId,
    /// Its size.
    pub size: ByteCount,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
    /// The node that serves it.
    #[serde(default)]
    pub owner: Option<NodeId>,
    /// The owner's term; 0 before the first.
    pub epoch: Epoch,
    /// Newest root the catalog knows.
    #[serde(default)]
    pub root: VolumeRoot,
    /// The log, oldest segment first; the last one is open while there is an owner.
    #[serde(default)]
    pub segments: Vec<SegmentRow>,
    /// Id of the next segment.
    #[serde(default)]
    pub next_segment: SegmentId,
    /// Who may use it.
    #[serde(default)]
    pub attachment: Attachment,
    /// What it started from.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// State.
    #[serde(default)]
    pub state: VolumeState,
    /// Free-form labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// What its clients may do per second.
    #[serde(default)]
    pub limits: VolumeLimits,
    /// The revision on top of which people last changed it; nothing: written by a release that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<Revision>,
}

/// Bounds per second of what a volume's clients do; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeLimits {
    /// Operations.
    #[serde(default)]
    pub iops: u64,
    /// Bytes read and written.
    #[serde(default)]
    pub bandwidth: u64,
}

impl Row for VolumeRow {
    const PREFIX: &'static str = "volume/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.id.0)
    }

    fn edited(&self) -> Option<Revision> {
        self.edited
    }

    /// Owners write roots and logs into the row all the time: those are nobody's change.
    fn stamp(&mut self, before: &Self, version: Revision) {
        let deleting = |row: &Self| row.state == VolumeState::Deleting;
        let same = self.size == before.size
            && self.labels == before.labels
            && self.description == before.description
            && self.limits == before.limits
            // Each change of it has a generation of its own; a process that comes is none.
            && self.attachment.generation == before.attachment.generation
            && deleting(self) == deleting(before);
        if !same {
            self.edited = Some(version);
        } else if self.edited.is_none() {
            // Until now the version was that of the row: it stays.
            self.edited = Some(version.saturating_sub(1));
        }
    }
}

/// State of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotState {
    /// Taken; its root exists once the log is drained up to this barrier.
    Pending(Position),
    /// Has its root.
    Ready(MapRoot),
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRow {
    /// Its id.
    pub id: SnapshotId,
    /// Name, unique within its volume.
    pub name: String,
    /// The volume it was taken of, which may be gone.
    pub volume: VolumeId,
    /// The lineage.
    pub lineage: LineageId,
    /// The volume's container.
    pub container: ContainerId,
    /// The volume's size then.
    pub size: ByteCount,
    /// When it was taken, Unix milliseconds.
    pub created_ms: u64,
    /// State.
    pub state: SnapshotState,
    /// Free-form labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The group snapshot it is a member of.
    #[serde(default)]
    pub group: Option<String>,
}

impl VolumeRow {
    /// Key of the row of a volume.
    #[must_use]
    pub fn key_of(id: VolumeId) -> String {
        numbered(Self::PREFIX, id.0)
    }
}

impl SnapshotRow {
    /// Key of the row of a snapshot.
    #[must_use]
    pub fn key_of(id: SnapshotId) -> String {
        numbered(Self::PREFIX, id.0)
    }
}

impl Row for SnapshotRow {
    const PREFIX: &'static str = "snapshot/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{decode, encode};
    use proptest::prelude::*;

    fn volume() -> VolumeRow {
        let extent = ExtentId {
            group: GroupId(3),
            volume: VolumeId(9),
            epoch: Epoch(2),
            counter: 5,
        };
        let map = MapRoot {
            page: Some(PagePointer { extent, frame: 7 }),
            height: 2,
            mapped_blocks: 4096,
        };
        let replica = SegmentReplica {
            store: StoreId(1),
            incarnation: Incarnation(u64::MAX),
        };
        let segment = SegmentRow {
            id: SegmentId(4),
            epoch: Epoch(2),
            start: Position(100),
            end: None,
            replicas: vec![replica],
            wanted: 2,
        };
        VolumeRow {
            id: VolumeId(9),
            name: "db".to_owned(),
            container: ContainerId(1),
            lineage: LineageId(2),
            size: ByteCount::gib(20),
            created_ms: 1,
            owner: Some(NodeId(3)),
            epoch: Epoch(2),
            root: VolumeRoot {
                map,
                position: Position(99),
                floor: (Epoch(2), 6),
            },
            segments: vec![segment],
            next_segment: SegmentId(5),
            attachment: Attachment::default(),
            origin: None,
            state: VolumeState::Stopped("why".to_owned()),
            labels: BTreeMap::from([("app".to_owned(), "db".to_owned())]),
            description: None,
            limits: VolumeLimits::default(),
            edited: Some(7),
        }
    }

    #[test]
    fn a_volume_survives_its_row() {
        let bytes = encode(&volume());
        assert_eq!(decode::<VolumeRow>("volume/9", &bytes), Ok(volume()));
    }

    #[test]
    fn a_root_whose_height_does_not_fit_its_page_is_damage() {
        let good = String::from_utf8(encode(&volume())).expect("JSON");
        for height in ["0", "6", "255"] {
            let bad = good.replace("\"height\":2", &format!("\"height\":{height}"));
            assert!(
                decode::<VolumeRow>("volume/9", bad.as_bytes()).is_err(),
                "{bad}"
            );
        }
    }

    /// Decodes as every kind of row; what decodes must survive its encoding.
    fn decode_all(bytes: &[u8]) {
        fn one<T: Row + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
            if let Ok(row) = decode::<T>("row", bytes) {
                assert_eq!(decode::<T>("row", &encode(&row)), Ok(row));
            }
        }
        one::<ClusterRow>(bytes);
        one::<NodeRow>(bytes);
        one::<AliveRow>(bytes);
        one::<SeatRow>(bytes);
        one::<EtcdRow>(bytes);
        one::<StoreRow>(bytes);
        one::<ContainerRow>(bytes);
        one::<GroupRow>(bytes);
        one::<LineageRow>(bytes);
        one::<VolumeRow>(bytes);
        one::<SnapshotRow>(bytes);
        one::<crate::TaskRow>(bytes);
        one::<crate::TaskHead>(bytes);
        if let Ok(row) = decode::<VolumeRow>("row", bytes) {
            assert!(row.root.map.is_sound());
        }
    }

    proptest! {
        #[test]
        fn fuzz_any_bytes_are_a_row_or_damage(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode_all(&bytes);
        }

        #[test]
        fn fuzz_changed_bytes_of_a_row_are_a_row_or_damage(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), "[\\x20-\\x7e]"), 1..4),
            cut in any::<proptest::sample::Index>(),
            shorter: bool,
        ) {
            let mut bytes = encode(&volume());
            for (at, with) in changes {
                let at = at.index(bytes.len());
                bytes[at] = with.as_bytes()[0];
            }
            if shorter {
                bytes.truncate(cut.index(bytes.len()));
            }
            decode_all(&bytes);
        }
    }
}
