//! The extents that some volumes wrote into a group, in pages.
//!
//! Ids are ordered by volume within a group: only the volumes' own parts of a listing are read, so that a collection costs what
//! its lineage holds, not what the cluster holds.

use group::{Listed, Pool, PoolError};
use std::collections::BTreeSet;
use vocab::{Epoch, ExtentId, GroupId, VolumeId};

/// Entries read at a time.
const LIMIT: u32 = 1000;
/// And where a volume's part begins: it may have few.
const LIMIT_FIRST: u32 = 32;

/// Where a page begins, and how long it is at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    after: Option<ExtentId>,
    limit: u32,
}

impl Cursor {
    /// In front of everything that a volume wrote into the group.
    fn at(group: GroupId, volume: VolumeId) -> Self {
        let last_before = |volume| ExtentId {
            group,
            volume: VolumeId(volume),
            epoch: Epoch(u64::MAX),
            counter: u32::MAX,
        };
        Self {
            after: volume.0.checked_sub(1).map(last_before),
            limit: LIMIT_FIRST,
        }
    }

    /// After a page that ended with `last`: at the next id, or at the next of the volumes. `None` behind the last one.
    fn behind(last: ExtentId, volumes: &BTreeSet<VolumeId>) -> Option<Self> {
        if volumes.contains(&last.volume) {
            let after = Some(last);
            return Some(Self {
                after,
                limit: LIMIT,
            });
        }
        let next = volumes.range(last.volume..).next();
        next.map(|&volume| Self::at(last.group, volume))
    }
}

/// Reads them; see [`Pages::next`].
pub(crate) struct Pages<'a> {
    pool: &'a Pool,
    group: GroupId,
    volumes: &'a BTreeSet<VolumeId>,
    cursor: Option<Cursor>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(pool: &'a Pool, group: GroupId, volumes: &'a BTreeSet<VolumeId>) -> Self {
        let first = volumes.first();
        Self {
            pool,
            group,
            volumes,
            cursor: first.map(|&first| Cursor::at(group, first)),
        }
    }

    /// The next extents of the volumes, in id order, perhaps none of them; `None` after the last page.
    ///
    /// # Errors
    /// [`PoolError`] when no member of the group answers; the same page may be asked for again.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Listed>>, PoolError> {
        let Some(Cursor { after, limit }) = self.cursor else {
            return Ok(None);
        };
        let (mut page, more) = self.pool.list(self.group, after, limit).await?;
        let last = page.last().map(|listed| listed.info.id).filter(|_| more);
        self.cursor = last.and_then(|last| Cursor::behind(last, self.volumes));
        page.retain(|listed| self.volumes.contains(&listed.info.id.volume));
        Ok(Some(page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound;

    fn id(volume: u64, epoch: u64, counter: u32) -> ExtentId {
        ExtentId {
            group: GroupId(3),
            volume: VolumeId(volume),
            epoch: Epoch(epoch),
            counter,
        }
    }

    /// What is found in a group that holds `held`, and how many entries were read.
    fn found(held: &BTreeSet<ExtentId>, volumes: &BTreeSet<VolumeId>) -> (Vec<ExtentId>, usize) {
        let (mut found, mut read) = (Vec::new(), 0);
        let mut cursor = volumes.first().map(|&first| Cursor::at(GroupId(3), first));
        while let Some(Cursor { after, limit }) = cursor {
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let rest = held.range((start, Bound::Unbounded));
            let page: Vec<ExtentId> = rest.clone().take(limit as usize).copied().collect();
            let more = rest.count() > page.len();
            read += page.len();
            let last = page.last().copied().filter(|_| more);
            cursor = last.and_then(|last| Cursor::behind(last, volumes));
            found.extend(page.into_iter().filter(|id| volumes.contains(&id.volume)));
        }
        (found, read)
    }

    #[test]
    fn exactly_what_the_volumes_wrote_is_found_and_little_else_is_read() {
        let counts = [0, 40, 7, 0, 5000, 1, 33, 2500, 32, 31];
        let held: BTreeSet<ExtentId> = (0..10_u64)
            .flat_map(|volume| {
                let count = counts[volume as usize];
                (1..=count).map(move |counter| id(volume, u64::from(counter % 3), counter))
            })
            .collect();
        for chosen in 0..1024_u32 {
            let volumes: BTreeSet<VolumeId> = (0..10)
                .filter(|volume| chosen & (1 << volume) != 0)
                .map(VolumeId)
                .collect();
            let wanted = held.iter().filter(|id| volumes.contains(&id.volume));
            let wanted: Vec<ExtentId> = wanted.copied().collect();
            let (found, read) = found(&held, &volumes);
            assert_eq!(found, wanted, "{volumes:?}");
            // A page that began in a volume's own part may run into another's.
            let vain = volumes.len() * (LIMIT + LIMIT_FIRST) as usize;
            assert!(read <= wanted.len() + vain, "{volumes:?}: {read}");
        }
        let alone = BTreeSet::from([VolumeId(2)]);
        assert!(found(&held, &alone).1 <= LIMIT_FIRST as usize);
    }
}
