//! Ids, units and epochs as plain data: the words of ARCHITECTURE.md as types.
//!
//! Invariants
//! - A newtype never converts into another one silently.
//! - Nothing here performs I/O, allocates on the data path or depends on an operating system.

mod level;

pub use level::{Level, Levels};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// Bytes in the block that volumes, logs and maps are made of.
pub const BLOCK_BYTES: u64 = 4096;
/// [`BLOCK_BYTES`] for indexing memory.
pub const BLOCK_SIZE: usize = 4096;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A machine's `azekura node` process.
    NodeId(u32), "node-"
);
id!(
    /// A unit of placement: one journal plus the extents on its disks.
    StoreId(u32), "store-"
);
id!(
    /// Identity of one disk, written in its header at format time; random.
    DiskId(u64), "disk-"
);
id!(
    /// A storage container, the policy domain.
    ContainerId(u32), "container-"
);
id!(
    /// A virtual disk. Ids are never used twice in a cluster.
    VolumeId(u64), "volume-"
);
id!(
    /// A retained map root. Ids are never used twice in a cluster.
    SnapshotId(u64), "snapshot-"
);
id!(
    /// A volume and all its snapshots and clones.
    LineageId(u64), "lineage-"
);
id!(
    /// A placement group.
    GroupId(u32), "group-"
);
id!(
    /// Ownership term of a volume; grows by one with every takeover.
    Epoch(u64), "epoch-"
);
id!(
    /// One link of a volume's chain of log segments; unique within a volume.
    SegmentId(u32), "segment-"
);
id!(
    /// Place of a record in a volume's write order. The first record ever has position 1.
    Position(u64), "@"
);
id!(
    /// Version of a group's member list.
    Generation(u64), "generation-"
);
id!(
    /// Life of a store's disk contents: a disk that was replaced or rolled back has another one.
    Incarnation(u64), "incarnation-"
);
id!(
    /// Version of who may use a volume; sessions of an older one are refused.
    AttachmentGeneration(u64), "attachment-"
);
id!(
    /// A block address within a volume, in units of [`BLOCK_BYTES`].
    Lba(u64), "lba-"
);

impl Epoch {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Generation {
    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl AttachmentGeneration {
    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl SegmentId {
    /// The segment after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Position {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position `count` records later.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl Lba {
    /// Byte address of the block's first byte.
    #[must_use]
    pub fn byte(self) -> u64 {
        self.0 * BLOCK_BYTES
    }

    /// The block `count` blocks later.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

/// A size or an amount in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// `count` KiB.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// `count` MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// `count` GiB.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// Number of whole blocks that fit.
    #[must_use]
    pub const fn blocks(self) -> u64 {
        self.0 / BLOCK_BYTES
    }
}

impl fmt::Display for ByteCount {
    /// Binary units with at most one decimal: `20 GiB`, `1.5 MiB`, `512 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut unit = 0;
        let mut scaled = self.0;
        while scaled >= 1024 && unit < UNITS.len() - 1 {
            scaled >>= 10;
            unit += 1;
        }
        let tenths = u128::from(self.0) * 10 / (1u128 << (10 * unit));
        match tenths % 10 {
            0 => write!(f, "{} {}", tenths / 10, UNITS[unit]),
            rest => write!(f, "{}.{} {}", tenths / 10, rest, UNITS[unit]),
        }
    }
}

/// Name of an immutable extent. Allocated by a volume's owner without coordination: the epoch makes
/// two owners' ids distinct, and the counter makes one owner's distinct.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ExtentId {
    /// The group that holds the extent.
    pub group: GroupId,
    /// The volume whose owner wrote it.
    pub volume: VolumeId,
    /// The owner's term when it wrote it.
    pub epoch: Epoch,
    /// Counts the extents of one (volume, epoch) over all groups, from 1.
    pub counter: u32,
}

impl ExtentId {
    /// Bytes of the encoded id.
    pub const BYTES: usize = 24;

    /// Little-endian: group u32, counter u32, volume u64, epoch u64.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.counter.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.volume.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes
    }

    /// The inverse of [`ExtentId::to_bytes`]; every byte pattern is an id.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Self {
            group: GroupId(u32_at(0)),
            counter: u32_at(4),
            volume: VolumeId(u64_at(8)),
            epoch: Epoch(u64_at(16)),
        }
    }

    /// Allocation order within the volume: what an in-flight floor is compared with.
    #[must_use]
    pub fn order(self) -> (Epoch, u32) {
        (self.epoch, self.counter)
    }
}

impl fmt::Display for ExtentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "extent-{}.{}.{}.{}",
            self.group.0, self.volume.0, self.epoch.0, self.counter
        )
    }
}

/// A multiplicative hasher with a fixed seed: the same order of iteration in every run, which the
/// simulator needs. Not for keys an attacker chooses.
#[derive(Clone, Copy, Default)]
pub struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(26) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// A hash map from ids whose iteration order is the same in every run.
#[expect(clippy::disallowed_types, reason = "the hasher is fixed")]
pub type IdMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FixedHasher>>;
/// A hash set of ids whose iteration order is the same in every run.
#[expect(clippy::disallowed_types, reason = "the hasher is fixed")]
pub type IdSet<K> = std::collections::HashSet<K, BuildHasherDefault<FixedHasher>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_count_prints_binary_units() {
        assert_eq!(ByteCount(512).to_string(), "512 B");
        assert_eq!(ByteCount::gib(20).to_string(), "20 GiB");
        assert_eq!(ByteCount(3 << 19).to_string(), "1.5 MiB");
        assert_eq!(ByteCount(u64::MAX).to_string(), "15.9 EiB");
    }

    #[test]
    fn extent_id_survives_its_encoding() {
        let id = ExtentId {
            group: GroupId(7),
            volume: VolumeId(u64::MAX - 1),
            epoch: Epoch(9),
            counter: 11,
        };
        assert_eq!(ExtentId::from_bytes(&id.to_bytes()), id);
    }
}
