//! Mark and sweep over one lineage (architecture 3.8).
//!
//! Why stale roots are safe: a volume's newer root refers only to what its older root in the catalog refers
//! to, to snapshots of the lineage, and to extents allocated at or above the older root's floor. So what is
//! unmarked and below the floor can never be reached again.
//!
//! Deleting comes first: it is cheap, and no rewrite may hold it up. Then the extents with the most garbage in
//! proportion to what must be copied are rewritten.

use crate::account::{Held, LineageSpace, RootOf, RootSpace};
use crate::pages::Pages;
use crate::sparse::{Sparse, Sparsest};
use catalog::{
    Catalog, CatalogError, LineageRow, MapRoot, SnapshotState, Transaction, Versioned, VolumeRow,
    VolumeState,
};
use futures_util::future::join_all;
use group::{Listed, Pool, PoolError};
use std::collections::{BTreeMap, BTreeSet};
use vocab::{ByteCount, Epoch, ExtentId, GroupId, LineageId, VolumeId};
use volume::{MapError, Marks, PageCache, Referrer, Tally, mark, tally};
use wire::ExtentInfo;
use world::{Duration, World};

/// Extents deleted by one call.
const DELETE_BATCH: usize = 200;
/// A collection rewrites no more once so many rewrites were refused: the stores are full or away. Fewer are extents that
/// nobody can read, and the best candidates of every collection: they must not hold up all the others for ever.
const REFUSED_MAX: u64 = 16;

/// Bounds of a collection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// An extent is rewritten when no more than so many percent of its bytes can be live.
    pub compact_below_percent: u32,
    /// Extents rewritten per collection.
    pub compact_max: usize,
    /// Pause after each rewritten extent: with 4 MiB read and written per copy this bounds the bandwidth.
    pub pace: Duration,
    /// Extents rewritten at the same time.
    pub parallel: usize,
    /// No rewrite begins after so long: the garbage of other lineages may be had without one.
    pub rewrite_for: Duration,
    /// A planted bug: floors are ignored.
    #[cfg(feature = "bugs")]
    pub ignore_floors: bool,
    /// A planted bug: snapshots are not marked.
    #[cfg(feature = "bugs")]
    pub ignore_snapshots: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            compact_below_percent: 50,
            compact_max: 256,
            pace: Duration::from_millis(20),
            parallel: 1,
            rewrite_for: Duration::from_secs(10),
            #[cfg(feature = "bugs")]
            ignore_floors: false,
            #[cfg(feature = "bugs")]
            ignore_snapshots: false,
        }
    }
}

impl Limits {
    #[cfg(feature = "bugs")]
    fn skips_floors(&self) -> bool {
        self.ignore_floors
    }

    #[cfg(feature = "bugs")]
    fn skips_snapshots(&self) -> bool {
        self.ignore_snapshots
    }

    #[cfg(not(feature = "bugs"))]
    #[expect(clippy::unused_self, reason = "has a body in builds with planted bugs")]
    fn skips_floors(&self) -> bool {
        false
    }

    #[cfg(not(feature = "bugs"))]
    #[expect(clippy::unused_self, reason = "has a body in builds with planted bugs")]
    fn skips_snapshots(&self) -> bool {
        false
    }
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Extents of the lineage seen.
    pub extents: u64,
    /// Extents deleted.
    pub deleted: u64,
    /// Bytes they occupied, on one member.
    pub deleted_bytes: u64,
    /// Bytes they occupied, on all members.
    pub freed_bytes: u64,
    /// Extents rewritten without their dead blocks.
    pub compacted: u64,
    /// Extents that should have been and could not: a member has no room for the rewrite or does not answer.
    pub refused: u64,
    /// Whether there was no time for some of the rewrites.
    pub postponed: bool,
    /// Whether the lineage is gone.
    pub finished: bool,
}

/// Why a collection stopped. It may be repeated at any time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A map page cannot be read: nothing may be collected.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Stores do not answer.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Roots joined or left while they were read.
    #[error("the lineage changed while its roots were read")]
    Changed,
    /// A volume of it is incomplete after a rebuild of the catalog: what it needs is not known.
    #[error("{0} is incomplete, so that nobody knows what its lineage needs")]
    Incomplete(VolumeId),
}

/// What a collection did, and where the space of the lineage goes after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What it did.
    pub report: CollectReport,
    /// Where the space goes.
    pub space: LineageSpace,
}

/// The roots of a lineage at one moment.
struct Roots {
    lineage: Versioned<LineageRow>,
    maps: Vec<MapRoot>,
    /// Whose each of the maps is.
    owners: Vec<RootOf>,
    /// Per volume: extents below are settled. `None`: the volume is deleted, all of it is.
    floors: BTreeMap<VolumeId, Option<(Epoch, u32)>>,
    /// Volumes that may have written extents: deleted ones, and those that had an owner.
    written: BTreeSet<VolumeId>,
}

/// Extents that were rewritten when so many of their blocks were live: rewriting them again at the same number
/// gains nothing (compressed frames only go when all of their blocks are dead).
#[derive(Clone, Debug, Default)]
pub struct Attempts(BTreeMap<ExtentId, u32>);

impl Attempts {
    /// Bound of the entries: beyond, all are forgotten, which costs one vain rewrite each.
    const ENTRIES_MAX: usize = 100_000;

    fn is_vain(&self, id: &ExtentId, live_blocks: u32) -> bool {
        self.0.get(id) == Some(&live_blocks)
    }

    fn note(&mut self, id: ExtentId, live_blocks: u32) {
        if self.0.len() >= Self::ENTRIES_MAX {
            self.0.clear();
        }
        self.0.insert(id, live_blocks);
    }
}

/// Deletes what no root refers to and rewrites extents that are mostly dead.
///
/// # Errors
/// [`CollectError`].
pub async fn collect_lineage(
    world: &World,
    catalog: &Catalog,
    pool: &Pool,
    pages: &PageCache,
    id: LineageId,
    limits: &Limits,
    attempts: &mut Attempts,
) -> Result<Collected, CollectError> {
    let roots = read_roots(catalog, id, limits).await?;
    let mut marks = Marks::default();
    for &map in &roots.maps {
        mark(pages, map, &mut marks).await?;
    }
    // Comparing roots takes another walk: where there is one, all is its own.
    let shares = match roots.maps.len() {
        0 | 1 => None,
        _ => Some(tally(pages, &roots.maps).await?),
    };
    let mut sweeper = Sweeper {
        pool,
        roots: &roots,
        marks: &marks,
        shares: shares.as_ref(),
        limits,
        report: CollectReport::default(),
        space: empty_space(&roots, shares.as_ref()),
        attempts,
        sparsest: Sparsest::new(limits.compact_max),
    };
    for group in pool.groups() {
        sweeper.sweep(group.id).await?;
    }
    let (mut report, sparsest, mut space) = (sweeper.report, sweeper.sparsest, sweeper.space);
    let rewriter = Rewriter {
        world,
        pool,
        marks: &marks,
        limits,
        form: LazyForm {
            catalog,
            drawn: None,
        },
    };
    rewriter
        .rewrite(sparsest.into_best_first(), attempts, &mut report)
        .await?;
    if roots.lineage.row.volumes.is_empty() && roots.lineage.row.snapshots.is_empty() {
        report.finished = finish(catalog, &roots, &report).await?;
    }
    if report.compacted > 0 {
        // Rewritten extents have other sizes.
        space = relist(pool, &roots, &marks, shares.as_ref()).await?;
    }
    Ok(Collected { report, space })
}

/// Where the space of a lineage goes in which nothing was ever written, so that there is nothing to collect: all of it that
/// ever was is there, and none of it had an owner. `None` when that is not so.
#[must_use]
pub fn untouched(lineage: &LineageRow, volumes: &[&VolumeRow]) -> Option<LineageSpace> {
    let new = |row: &&VolumeRow| {
        let empty = row.root.map.page.is_none() && row.root.map.mapped_blocks == 0;
        row.epoch == Epoch(0) && row.state == VolumeState::Ready && row.origin.is_none() && empty
    };
    let whole = lineage.snapshots.is_empty()
        && lineage.deleted.is_empty()
        && lineage.volumes.len() == volumes.len();
    let root = |row: &&VolumeRow| RootSpace {
        of: RootOf::Volume(row.id),
        mapped: ByteCount(0),
        exclusive: ByteCount(0),
        frees: ByteCount(0),
    };
    (whole && volumes.iter().all(new)).then(|| LineageSpace {
        roots: volumes.iter().map(root).collect(),
        ..LineageSpace::default()
    })
}

/// Where the space goes, by listings that are made anew.
async fn relist(
    pool: &Pool,
    roots: &Roots,
    marks: &Marks,
    shares: Option<&Tally>,
) -> Result<LineageSpace, CollectError> {
    let mut space = empty_space(roots, shares);
    for group in pool.groups() {
        let mut pages = Pages::new(pool, group.id, &roots.written);
        while let Some(extents) = pages.next().await? {
            for listed in &extents {
                space.add(held(listed, marks, shares));
            }
        }
    }
    Ok(space)
}

/// Who refers to an extent of the lineage, and what it takes.
fn held<'a>(listed: &'a Listed, marks: &Marks, shares: Option<&Tally>) -> Held<'a> {
    let id = &listed.info.id;
    let referrer = match (shares, marks.live(id)) {
        (_, None) => None,
        (Some(shares), Some(_)) => shares.referrer(id),
        (None, Some(_)) => Some(Referrer::One(0)),
    };
    Held {
        referrer,
        bytes: listed.info.bytes,
        copies: &listed.copies,
    }
}

/// What the roots map, before any extent is counted.
fn empty_space(roots: &Roots, shares: Option<&Tally>) -> LineageSpace {
    let bytes = |blocks: u64| ByteCount(blocks * vocab::BLOCK_BYTES);
    let pairs = roots.owners.iter().zip(&roots.maps).enumerate();
    let root = |(index, (&of, map)): (usize, (&RootOf, &MapRoot))| RootSpace {
        of,
        mapped: bytes(map.mapped_blocks),
        exclusive: bytes(match shares {
            Some(shares) => shares.exclusive_blocks(index),
            None => map.mapped_blocks,
        }),
        frees: ByteCount(0),
    };
    let distinct = match shares {
        Some(shares) => shares.distinct_blocks(),
        None => roots.maps.iter().map(|map| map.mapped_blocks).sum(),
    };
    LineageSpace {
        roots: pairs.map(root).collect(),
        distinct: bytes(distinct),
        ..LineageSpace::default()
    }
}

async fn read_roots(
    catalog: &Catalog,
    id: LineageId,
    limits: &Limits,
) -> Result<Roots, CollectError> {
    let lineage = catalog.lineage(id).await?;
    let (mut maps, mut owners, mut floors) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut written: BTreeSet<VolumeId> = lineage.row.deleted.iter().copied().collect();
    for &volume in &lineage.row.volumes {
        let row = match catalog.volume(volume).await {
            Err(CatalogError::NotFound { .. }) => return Err(CollectError::Changed),
            other => other?.row,
        };
        if matches!(row.state, VolumeState::Incomplete(_)) {
            return Err(CollectError::Incomplete(volume));
        }
        let settled = if row.state == VolumeState::Pending {
            (Epoch(0), 0)
        } else {
            row.root.floor
        };
        if row.epoch > Epoch(0) {
            written.insert(volume);
        }
        maps.push(row.root.map);
        owners.push(RootOf::Volume(volume));
        floors.insert(volume, Some(settled));
    }
    for &snapshot in &lineage.row.snapshots {
        let row = match catalog.snapshot(snapshot).await {
            Err(CatalogError::NotFound { .. }) => return Err(CollectError::Changed),
            other => other?.row,
        };
        if let SnapshotState::Ready(map) = row.state
            && !limits.skips_snapshots()
        {
            maps.push(map);
            owners.push(RootOf::Snapshot(snapshot));
        }
    }
    for &volume in &lineage.row.deleted {
        floors.insert(volume, None);
    }
    if catalog.lineage(id).await?.version != lineage.version {
        return Err(CollectError::Changed);
    }
    Ok(Roots {
        lineage,
        maps,
        owners,
        floors,
        written,
    })
}

/// Whether nothing can be in flight that refers to the extent and no root knows.
fn is_settled(roots: &Roots, id: &ExtentId, limits: &Limits) -> bool {
    match roots.floors.get(&id.volume) {
        None => false,
        Some(None) => true,
        Some(Some(floor)) => id.order() < *floor || limits.skips_floors(),
    }
}

/// The form that this collection's rewrites get. Drawn from the catalog, so that no two collections rewrite
/// one extent into the same form with different blocks, whatever each of them knew of its members.
struct LazyForm<'a> {
    catalog: &'a Catalog,
    drawn: Option<u32>,
}

impl LazyForm<'_> {
    async fn get(&mut self) -> Result<u32, CollectError> {
        if let Some(form) = self.drawn {
            return Ok(form);
        }
        let number = self.catalog.next_id("form").await?;
        let exhausted = |_| CatalogError::Refused("2^32 collections were made".to_owned());
        let form = u32::try_from(number).map_err(exhausted)?;
        self.drawn = Some(form);
        Ok(form)
    }
}

struct Sweeper<'a> {
    pool: &'a Pool,
    roots: &'a Roots,
    marks: &'a Marks,
    shares: Option<&'a Tally>,
    limits: &'a Limits,
    report: CollectReport,
    space: LineageSpace,
    attempts: &'a Attempts,
    sparsest: Sparsest,
}

impl Sweeper<'_> {
    async fn sweep(&mut self, group: GroupId) -> Result<(), CollectError> {
        let mut pages = Pages::new(self.pool, group, &self.roots.written);
        let mut doomed: Vec<ExtentId> = Vec::new();
        while let Some(extents) = pages.next().await? {
            for listed in &extents {
                let id = listed.info.id;
                if is_settled(self.roots, &id, self.limits) && self.judge(&listed.info) {
                    self.report.freed_bytes += listed.occupied();
                    doomed.push(id);
                } else {
                    self.space.add(held(listed, self.marks, self.shares));
                }
            }
            while doomed.len() >= DELETE_BATCH {
                let batch = doomed.split_off(doomed.len() - DELETE_BATCH);
                self.pool.delete(group, batch).await?;
            }
        }
        if !doomed.is_empty() {
            self.pool.delete(group, doomed).await?;
        }
        Ok(())
    }

    /// Whether the extent is garbage; remembers it when it is mostly so.
    fn judge(&mut self, info: &ExtentInfo) -> bool {
        self.report.extents += 1;
        if self.marks.live(&info.id).is_none() {
            self.report.deleted += 1;
            self.report.deleted_bytes += u64::from(info.bytes);
            return true;
        }
        let live_blocks = self.marks.live_blocks(&info.id);
        let vain = self.attempts.is_vain(&info.id, live_blocks);
        if !vain && is_sparse(info, self.marks, self.limits) {
            self.sparsest.offer(Sparse {
                id: info.id,
                bytes: info.bytes,
                live_blocks,
            });
        }
        false
    }
}

struct Rewriter<'a> {
    world: &'a World,
    pool: &'a Pool,
    marks: &'a Marks,
    limits: &'a Limits,
    form: LazyForm<'a>,
}

impl Rewriter<'_> {
    /// Rewrites extents until [`REFUSED_MAX`] are refused, or the time for it is over: the rest has to wait for space, or for
    /// the stores.
    async fn rewrite(
        mut self,
        extents: Vec<Sparse>,
        attempts: &mut Attempts,
        report: &mut CollectReport,
    ) -> Result<(), CollectError> {
        let began = self.world.now();
        for batch in extents.chunks(self.limits.parallel.max(1)) {
            if self.world.now().since(began) >= self.limits.rewrite_for {
                report.postponed = true;
                return Ok(());
            }
            let form = self.form.get().await?;
            let rewrites = batch.iter().map(|sparse| self.rewrite_one(sparse, form));
            for (sparse, done) in batch.iter().zip(join_all(rewrites).await) {
                if done {
                    attempts.note(sparse.id, sparse.live_blocks);
                    report.compacted += 1;
                } else {
                    report.refused += 1;
                }
            }
            if report.refused >= REFUSED_MAX {
                return Ok(());
            }
            self.world.sleep(self.limits.pace).await;
        }
        Ok(())
    }

    async fn rewrite_one(&self, sparse: &Sparse, form: u32) -> bool {
        // It was marked when it was offered.
        let live = self.marks.live(&sparse.id).unwrap_or_default();
        let rewritten = self.pool.compact(sparse.id, form, live.to_vec());
        rewritten.await.is_ok()
    }
}

/// Whether a rewrite gives enough back. Compressed blocks count as whole ones, so it errs to waiting.
fn is_sparse(info: &ExtentInfo, marks: &Marks, limits: &Limits) -> bool {
    let live_bytes = u64::from(marks.live_blocks(&info.id)) * vocab::BLOCK_BYTES;
    let threshold = u64::from(info.bytes) * u64::from(limits.compact_below_percent) / 100;
    live_bytes < threshold && u64::from(info.bytes) > 4 * vocab::BLOCK_BYTES
}

/// Forgets a lineage without roots once nothing of it was left to delete.
async fn finish(
    catalog: &Catalog,
    roots: &Roots,
    report: &CollectReport,
) -> Result<bool, CollectError> {
    if report.extents > 0 {
        return Ok(false);
    }
    Ok(catalog
        .commit(Transaction::new().remove(&roots.lineage))
        .await?
        .is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::SnapshotId;

    fn volume(id: u64) -> VolumeRow {
        let row = serde_json::json!({
            "id": id, "name": "v", "container": 1, "lineage": 5, "size": 1 << 30, "created_ms": 0, "epoch": 0,
        });
        serde_json::from_value(row).expect("the rest has defaults")
    }

    fn lineage(volumes: &[u64]) -> LineageRow {
        LineageRow {
            id: LineageId(5),
            volumes: volumes.iter().copied().map(VolumeId).collect(),
            snapshots: Vec::new(),
            deleted: Vec::new(),
        }
    }

    #[test]
    fn only_a_lineage_that_nobody_ever_wrote_to_is_passed_over() {
        let new = volume(7);
        let space = untouched(&lineage(&[7]), &[&new]).expect("nothing was written");
        assert_eq!(space.roots.len(), 1);
        // Rows that were read a moment apart.
        assert_eq!(untouched(&lineage(&[7, 8]), &[&new]), None);
        let with_snapshot = LineageRow {
            snapshots: vec![SnapshotId(1)],
            ..lineage(&[7])
        };
        assert_eq!(untouched(&with_snapshot, &[&new]), None);
        let with_deleted = LineageRow {
            deleted: vec![VolumeId(6)],
            ..lineage(&[7])
        };
        assert_eq!(untouched(&with_deleted, &[&new]), None);
        let mut opened = volume(7);
        opened.epoch = Epoch(1);
        assert_eq!(untouched(&lineage(&[7]), &[&opened]), None);
        let mut pending = volume(7);
        pending.state = VolumeState::Pending;
        assert_eq!(untouched(&lineage(&[7]), &[&pending]), None);
    }
}
