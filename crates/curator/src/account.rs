//! Where the space of a lineage goes: what each of its roots has alone, what they share.
//!
//! Exact for the roots that the catalog had when they were read: every extent of the lineage on every member is in one of
//! the sums, once garbage was deleted. Blocks that were overwritten in extents that are still referred to count with those, until
//! compaction drops them. What its volumes have in their logs only is not in extents yet, and in none of them.

use std::collections::BTreeMap;
use vocab::{ByteCount, LineageId, SnapshotId, StoreId, VolumeId};
use volume::Referrer;

/// Whose root it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootOf {
    /// A volume's newest.
    Volume(VolumeId),
    /// A snapshot's.
    Snapshot(SnapshotId),
}

/// Space of one root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootSpace {
    /// Whose.
    pub of: RootOf,
    /// Bytes of blocks that it maps, before compression and copies.
    pub mapped: ByteCount,
    /// Those of them that no other root of the lineage maps.
    pub exclusive: ByteCount,
    /// Bytes that stores give back when it is deleted: extents that only it refers to, all copies.
    pub frees: ByteCount,
}

/// Space of a lineage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineageSpace {
    /// Its roots: volumes, then snapshots.
    pub roots: Vec<RootSpace>,
    /// Bytes of distinct blocks that any of them maps, before compression and copies.
    pub distinct: ByteCount,
    /// Bytes of one copy of each extent that one of them refers to, map pages included.
    pub stored: ByteCount,
    /// Bytes that all copies of those occupy.
    pub occupied: ByteCount,
    /// Bytes that copies of extents occupy which nobody refers to yet, and which may be in flight.
    pub unsettled: ByteCount,
    /// Bytes that copies of any of its extents occupy on each store.
    pub stores: BTreeMap<StoreId, ByteCount>,
}

/// An extent of the lineage as the listings have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    /// Who refers to it; nobody: it may be in flight.
    pub(crate) referrer: Option<Referrer>,
    /// Bytes of one copy.
    pub(crate) bytes: u32,
    /// Bytes that each of its copies occupies, and where.
    pub(crate) copies: &'a [(StoreId, u64)],
}

impl LineageSpace {
    /// Adds an extent. Every extent goes into one sum.
    pub(crate) fn add(&mut self, held: Held<'_>) {
        let occupied: u64 = held.copies.iter().map(|(_, bytes)| bytes).sum();
        for &(store, bytes) in held.copies {
            self.stores.entry(store).or_default().0 += bytes;
        }
        match held.referrer {
            Some(referrer) => {
                self.stored.0 += u64::from(held.bytes);
                self.occupied.0 += occupied;
                if let Referrer::One(root) = referrer
                    && let Some(root) = self.roots.get_mut(root)
                {
                    root.frees.0 += occupied;
                }
            }
            None => self.unsettled.0 += occupied,
        }
    }

    /// Bytes that all of it occupies on the stores.
    #[must_use]
    pub fn total(&self) -> ByteCount {
        ByteCount(self.occupied.0 + self.unsettled.0)
    }
}

/// The space of lineages, each as of its last walk, by the one node that collects.
pub type Ledger = std::collections::BTreeMap<LineageId, (world::Time, LineageSpace)>;
