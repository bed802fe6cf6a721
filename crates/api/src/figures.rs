//! What one node counts, for the Prometheus endpoint: of itself, its stores and the volumes it owns.

use crate::alerts::AlertKindFigures;
use crate::answer::{NodeAnswer, StoreAnswer};
use crate::members::ResiliencyAnswer;
use serde::{Deserialize, Serialize};

/// Requests of clients with a volume, or all volumes of a node, as its owner has served them since it began to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActivityAnswer {
    /// Reads done.
    pub reads: u64,
    /// Writes done.
    pub writes: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Trims done.
    pub trims: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Microseconds that reads took, together.
    pub read_us: u64,
    /// Microseconds that writes took, together.
    pub write_us: u64,
    /// Microseconds that flushes took, together.
    pub flush_us: u64,
}

/// Requests by how long they took: one count for each of the answer's `latency_bounds_us`, and one for what took longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyFigures {
    /// Reads.
    pub reads: Vec<u64>,
    /// Writes.
    pub writes: Vec<u64>,
    /// Flushes.
    pub flushes: Vec<u64>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFigures {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its container.
    pub container: String,
    /// Bytes.
    pub size: u64,
    /// Bytes mapped.
    pub mapped: u64,
    /// Of one that is served: what only its owner knows.
    pub served: Option<ServedFigures>,
}

/// What the owner of a volume knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedFigures {
    /// Bytes in the log only.
    pub undrained: u64,
    /// Copies of the open log segment.
    pub log_replicas: u64,
    /// Its requests.
    pub activity: ActivityAnswer,
    /// How long they took.
    pub latency: LatencyFigures,
}

/// A disk of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFigures {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// How long they took: microseconds of reads, writes and flushes.
    #[serde(default)]
    pub micros: [u64; 3],
    /// And by class.
    #[serde(default)]
    pub latency: LatencyFigures,
}

/// A store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFigures {
    /// As it is listed.
    pub store: StoreAnswer,
    /// Its disks, in the order in which they carry it.
    pub disks: Vec<DiskFigures>,
}

/// The process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFigures {
    /// Processor time in milliseconds.
    pub cpu_ms: u64,
    /// Bytes of memory.
    pub resident: u64,
}

/// Map pages that a node has in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheFigures {
    /// Pages that were asked for and were there.
    pub hits: u64,
    /// Those that were read from a store.
    pub misses: u64,
    /// Bytes of pages now.
    pub bytes: u64,
    /// Bytes at most.
    pub bytes_max: u64,
}

/// What a node has read to see whether it is still good, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubFigures {
    /// Bytes of extents.
    pub bytes: u64,
    /// Copies that did not verify.
    pub damaged: u64,
    /// Those of them that were made good.
    pub repaired: u64,
}

/// What was collected by the node that leads, since it leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionFigures {
    /// Extents deleted.
    pub deleted: u64,
    /// Bytes that all members gave back.
    pub freed_bytes: u64,
    /// Extents rewritten without their dead blocks.
    pub compacted: u64,
}

/// What the walks of all volumes and snapshots found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReductionFigures {
    /// Bytes that volumes and snapshots map, each for itself.
    pub mapped: u64,
    /// Bytes of distinct blocks among them.
    pub distinct: u64,
    /// Bytes of one copy of those as stored.
    pub stored: u64,
}

/// What a volume maps and what of it is stored, where nothing shares its blocks: when it was walked last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReductionFigures {
    /// Its name.
    pub name: String,
    /// Name of its container.
    pub container: String,
    /// Bytes that it maps.
    pub mapped: u64,
    /// Bytes of one copy of them as stored.
    pub stored: u64,
}

/// A container, by the rows of its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFigures {
    /// Its name.
    pub name: String,
    /// Its volumes.
    pub volumes: u64,
    /// Bytes that they are promised.
    pub size: u64,
    /// Bytes that they map.
    pub mapped: u64,
    /// Bytes that may be promised.
    pub quota: Option<u64>,
}

/// What one node of the cluster says for all of them: the one that leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFigures {
    /// Every node.
    pub nodes: Vec<NodeAnswer>,
    /// The verdict.
    pub resiliency: ResiliencyAnswer,
    /// Open alerts; absent while the catalog does not answer.
    #[serde(default)]
    pub alerts: Option<Vec<AlertKindFigures>>,
    /// Volumes there are; absent while the catalog does not answer.
    pub volumes: Option<u64>,
    /// Those of them that no node serves.
    pub unserved: Vec<VolumeFigures>,
    /// Containers, by name; empty while the catalog does not answer.
    #[serde(default)]
    pub containers: Vec<ContainerFigures>,
    /// What snapshots, clones and compression save; absent before anything was walked.
    #[serde(default)]
    pub reduction: Option<ReductionFigures>,
    /// The same of volumes that share with nobody, by id.
    #[serde(default)]
    pub volume_reductions: Vec<VolumeReductionFigures>,
    /// Garbage.
    #[serde(default)]
    pub collection: CollectionFigures,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiguresAnswer {
    /// Name of the node.
    pub node: String,
    /// Version of its program.
    pub version: String,
    /// Its process, where the machine says.
    pub process: Option<ProcessFigures>,
    /// Ends of the classes of latency, in microseconds.
    pub latency_bounds_us: Vec<u64>,
    /// All volumes that it owns, together.
    pub activity: ActivityAnswer,
    /// How long their requests took.
    pub latency: LatencyFigures,
    /// Map pages in memory.
    #[serde(default)]
    pub cache: CacheFigures,
    /// Reading of copies that nobody asks for.
    #[serde(default)]
    pub scrub: ScrubFigures,
    /// Its stores.
    pub stores: Vec<StoreFigures>,
    /// Volumes that it owns, by id.
    pub volumes: Vec<VolumeFigures>,
    /// Only of the node that leads.
    pub cluster: Option<ClusterFigures>,
}
