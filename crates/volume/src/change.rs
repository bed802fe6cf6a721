//! What a record changes, and how it is encoded. See docs/formats/journal.md for the record itself.
//!
//! Data of a reference record: runs of 28 bytes, each extent id (24), first slot u16, blocks u16.
//! Data of a checkpoint record: 88 bytes, see docs/formats/volume-root.md.

use crate::overlay::Slot;
use bytes::Bytes;
use catalog::{MapRoot, PagePointer, VolumeRoot};
use vocab::{BLOCK_SIZE, Epoch, ExtentId, Lba, Position, SnapshotId};
use wire::{Record, RecordHead, RecordKind};

/// A run of blocks in an extent.
pub type StoredRun = (ExtentId, Slot, u16);

const RUN_BYTES: usize = ExtentId::BYTES + 4;
/// Runs that fit the data of one reference record.
pub const RUNS_MAX: usize = BLOCK_SIZE / RUN_BYTES;
const ROOT_BYTES: usize = 88;
const ROOT_VERSION: u32 = 1;

/// The content of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Whole blocks of data.
    Write {
        /// Where.
        lba: Lba,
        /// The data.
        data: Bytes,
    },
    /// Blocks that read as zeros from now on.
    Unmap {
        /// Where.
        lba: Lba,
        /// How many; at most `u32::MAX`.
        blocks: u32,
    },
    /// Blocks whose data was put into extents before.
    Reference {
        /// Where.
        lba: Lba,
        /// The places, at most [`RUNS_MAX`].
        runs: Vec<StoredRun>,
    },
    /// The end of a snapshot.
    Barrier(SnapshotId),
    /// A durable map.
    Checkpoint(VolumeRoot),
}

/// Why a record of a valid checksum cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {position} has content this release cannot read: {what}")]
pub struct UnreadableChange {
    /// Which record.
    pub position: Position,
    /// What about it.
    pub what: &'static str,
}

impl Change {
    /// Bytes of data it carries.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        match self {
            Self::Write { data, .. } => data.len(),
            Self::Unmap { .. } | Self::Barrier(_) => 0,
            Self::Reference { runs, .. } => runs.len() * RUN_BYTES,
            Self::Checkpoint(_) => ROOT_BYTES,
        }
    }

    /// A record with this content. `head` gives the place; kind, address, sizes and checksum are set here.
    #[must_use]
    pub fn to_record(&self, mut head: RecordHead) -> Record {
        let (kind, lba, blocks, data) = match self {
            Self::Write { lba, data } => (
                RecordKind::Write,
                *lba,
                (data.len() / BLOCK_SIZE) as u32,
                data.clone(),
            ),
            Self::Unmap { lba, blocks } => (RecordKind::Unmap, *lba, *blocks, Bytes::new()),
            Self::Reference { lba, runs } => {
                let blocks = runs.iter().map(|run| u32::from(run.2)).sum();
                (RecordKind::Reference, *lba, blocks, encode_runs(runs))
            }
            Self::Barrier(snapshot) => (RecordKind::Barrier, Lba(snapshot.0), 0, Bytes::new()),
            Self::Checkpoint(root) => (RecordKind::Checkpoint, Lba(0), 0, encode_root(root)),
        };
        (head.kind, head.lba, head.blocks) = (kind, lba, blocks);
        head.data_bytes = u32::try_from(data.len()).expect("records are far smaller than 4 GiB");
        head.seal(&data);
        Record { head, data }
    }

    /// The content of a verified record.
    ///
    /// # Errors
    /// [`UnreadableChange`] when a newer release wrote it.
    pub fn from_record(record: &Record) -> Result<Self, UnreadableChange> {
        let head = &record.head;
        let unreadable = |what| UnreadableChange {
            position: head.position,
            what,
        };
        Ok(match head.kind {
            RecordKind::Write => Self::Write {
                lba: head.lba,
                data: record.data.clone(),
            },
            RecordKind::Unmap => Self::Unmap {
                lba: head.lba,
                blocks: head.blocks,
            },
            RecordKind::Reference => {
                let runs = decode_runs(&record.data).ok_or(unreadable("reference runs"))?;
                Self::Reference {
                    lba: head.lba,
                    runs,
                }
            }
            RecordKind::Barrier => Self::Barrier(SnapshotId(head.lba.0)),
            RecordKind::Checkpoint => {
                Self::Checkpoint(decode_root(&record.data).ok_or(unreadable("volume root"))?)
            }
        })
    }
}

fn encode_runs(runs: &[StoredRun]) -> Bytes {
    assert!(runs.len() <= RUNS_MAX, "{} runs in one record", runs.len());
    let mut bytes = Vec::with_capacity(runs.len() * RUN_BYTES);
    for (extent, slot, blocks) in runs {
        bytes.extend_from_slice(&extent.to_bytes());
        bytes.extend_from_slice(&slot.to_le_bytes());
        bytes.extend_from_slice(&blocks.to_le_bytes());
    }
    bytes.into()
}

fn decode_runs(bytes: &[u8]) -> Option<Vec<StoredRun>> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(RUN_BYTES) {
        return None;
    }
    let run = |chunk: &[u8]| {
        let extent = ExtentId::from_bytes(chunk[..ExtentId::BYTES].try_into().ok()?);
        let slot = u16::from_le_bytes([chunk[24], chunk[25]]);
        let blocks = u16::from_le_bytes([chunk[26], chunk[27]]);
        slot.checked_add(blocks).map(|_| (extent, slot, blocks))
    };
    bytes.chunks(RUN_BYTES).map(run).collect()
}

/// ```text
///  0 u32 version   4 u8 height   5 u8 has page   6 u16 frame
///  8 extent id (24)   32 u64 mapped blocks   40 u64 position
/// 48 u64 floor epoch   56 u32 floor counter   60..88 zero
/// ```
fn encode_root(root: &VolumeRoot) -> Bytes {
    let mut bytes = vec![0; ROOT_BYTES];
    bytes[0..4].copy_from_slice(&ROOT_VERSION.to_le_bytes());
    bytes[4] = root.map.height;
    if let Some(page) = root.map.page {
        bytes[5] = 1;
        bytes[6..8].copy_from_slice(&page.frame.to_le_bytes());
        bytes[8..32].copy_from_slice(&page.extent.to_bytes());
    }
    bytes[32..40].copy_from_slice(&root.map.mapped_blocks.to_le_bytes());
    bytes[40..48].copy_from_slice(&root.position.0.to_le_bytes());
    bytes[48..56].copy_from_slice(&root.floor.0.0.to_le_bytes());
    bytes[56..60].copy_from_slice(&root.floor.1.to_le_bytes());
    bytes.into()
}

fn decode_root(bytes: &[u8]) -> Option<VolumeRoot> {
    let bytes: &[u8; ROOT_BYTES] = bytes.try_into().ok()?;
    let u32_at =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if u32_at(0) != ROOT_VERSION || bytes[5] > 1 || bytes[60..].iter().any(|&byte| byte != 0) {
        return None;
    }
    let page = (bytes[5] == 1).then(|| PagePointer {
        extent: ExtentId::from_bytes(bytes[8..32].try_into().expect("24 bytes")),
        frame: u16::from_le_bytes([bytes[6], bytes[7]]),
    });
    let map = MapRoot {
        page,
        height: bytes[4],
        mapped_blocks: u64_at(32),
    };
    map.is_sound().then_some(())?;
    Some(VolumeRoot {
        map,
        position: Position(u64_at(40)),
        floor: (Epoch(u64_at(48)), u32_at(56)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;
    use vocab::{GroupId, SegmentId, VolumeId};

    fn head() -> RecordHead {
        RecordHead {
            crc: 0,
            previous_crc: 0,
            volume: VolumeId(1),
            epoch: Epoch(1),
            position: Position(5),
            segment: SegmentId(1),
            kind: RecordKind::Unmap,
            lba: Lba(0),
            blocks: 0,
            data_bytes: 0,
            committed: Position(3),
            flushed: Position(2),
        }
    }

    fn changes() -> [(&'static str, Change); 6] {
        let extent = ExtentId {
            group: GroupId(1),
            volume: VolumeId(2),
            epoch: Epoch(3),
            counter: 4,
        };
        let runs = vec![(extent, 12, 4), (extent, 40, 1)];
        let data = Bytes::from(vec![7; BLOCK_SIZE * 2]);
        let empty = VolumeRoot {
            map: MapRoot::default(),
            ..sample_root()
        };
        [
            ("write", Change::Write { lba: Lba(8), data }),
            (
                "unmap",
                Change::Unmap {
                    lba: Lba(1),
                    blocks: u32::MAX,
                },
            ),
            ("reference", Change::Reference { lba: Lba(2), runs }),
            ("barrier", Change::Barrier(SnapshotId(11))),
            ("checkpoint", Change::Checkpoint(sample_root())),
            ("empty-map", Change::Checkpoint(empty)),
        ]
    }

    /// A record of the corpus: its head and its data, without the zeros at the end.
    fn decode(bytes: &[u8]) -> Option<(RecordHead, Change)> {
        let (head, data) = bytes.split_first_chunk()?;
        let head = RecordHead::from_bytes(head).ok()?;
        let mut data = data.to_vec();
        // Records are smaller.
        let bytes = usize::try_from(head.data_bytes).ok()?;
        data.resize((bytes <= 1 << 20).then_some(bytes)?, 0);
        let data = data.into();
        let change = Change::from_record(&Record { head, data }).ok()?;
        Some((head, change))
    }

    #[test]
    fn fuzz_corpus_of_changes() {
        let target = target!("change");
        for (name, change) in changes() {
            let record = change.to_record(head());
            let encoded = [&record.head.to_bytes(), &record.data[..]].concat();
            // Of blocks the bytes do not matter: a few will do.
            let end = if name == "write" { 80 } else { encoded.len() };
            let committed = target.sample(name, &encoded[..end]);
            let (head, decoded) = decode(&committed).expect("a change");
            assert_eq!(head, record.head);
            if name != "write" {
                assert_eq!(decoded, change);
            }
        }
        target.play(|bytes| {
            let Some((head, change)) = decode(bytes) else {
                return;
            };
            assert_eq!(change.data_bytes(), head.data_bytes as usize);
            if let Change::Checkpoint(root) = &change {
                assert!(root.map.is_sound());
            }
            // What an owner copies into another segment is the same there.
            if !matches!(&change, Change::Reference { runs, .. } if runs.len() > RUNS_MAX) {
                let again = change.to_record(head);
                assert_eq!(Change::from_record(&again), Ok(change));
            }
        });
    }

    #[test]
    fn every_change_survives_its_record() {
        for (_, change) in changes() {
            let record = change.to_record(head());
            record.verify().expect("sealed");
            let decoded = RecordHead::from_bytes(&record.head.to_bytes()).expect("valid");
            assert_eq!(decoded, record.head);
            assert_eq!(Change::from_record(&record), Ok(change));
        }
    }

    fn sample_root() -> VolumeRoot {
        let extent = ExtentId {
            group: GroupId(1),
            volume: VolumeId(2),
            epoch: Epoch(3),
            counter: 4,
        };
        VolumeRoot {
            map: MapRoot {
                page: Some(PagePointer { extent, frame: 9 }),
                height: 2,
                mapped_blocks: 77,
            },
            position: Position(4),
            floor: (Epoch(3), 5),
        }
    }

    proptest! {
        #[test]
        fn fuzz_any_bytes_are_runs_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..BLOCK_SIZE)) {
            if let Some(runs) = decode_runs(&bytes) {
                prop_assert!(runs.len() <= RUNS_MAX);
                prop_assert_eq!(encode_runs(&runs), bytes);
            }
        }

        #[test]
        fn fuzz_any_bytes_are_a_root_that_can_be_walked_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..2 * ROOT_BYTES),
            at in 0..ROOT_BYTES,
            value: u8,
        ) {
            let mut changed = encode_root(&sample_root()).to_vec();
            changed[at] = value;
            for root in [decode_root(&bytes), decode_root(&changed)].into_iter().flatten() {
                prop_assert!(root.map.is_sound());
            }
        }

        #[test]
        fn fuzz_any_record_is_a_change_or_refused(
            number in 0_u8..7,
            blocks in prop_oneof![0_u32..3, any::<u32>()],
            lba: u64,
            data in proptest::collection::vec(any::<u8>(), 0..2 * BLOCK_SIZE),
        ) {
            let mut bytes = head().to_bytes();
            bytes[36] = number;
            bytes[40..48].copy_from_slice(&lba.to_le_bytes());
            bytes[48..52].copy_from_slice(&blocks.to_le_bytes());
            bytes[52..56].copy_from_slice(&(data.len() as u32).to_le_bytes());
            if let Ok(mut head) = RecordHead::from_bytes(&bytes) {
                head.seal(&data);
                let record = Record { head, data: data.into() };
                if let Ok(change) = Change::from_record(&record) {
                    prop_assert_eq!(change.data_bytes(), record.data.len());
                }
            }
        }
    }
}
