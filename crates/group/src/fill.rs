//! Giving a member what it lacks: one extent after a bad read, or everything it missed while it was away.

use crate::pool::{Pool, PoolError};
use bytes::Bytes;
use catalog::GroupRow;
use std::collections::BTreeMap;
use vocab::{ExtentId, StoreId};
use wire::{ExtentInfo, StoreCall, StoreReply, StoreRequest};

/// Entries of a listing read at a time.
const LIST_LIMIT: u32 = 1000;

/// What a fill did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillReport {
    /// Extents copied to the member.
    pub copied: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Extents the member had and that were deleted while it was away.
    pub deleted: u64,
    /// Extents that no other member could give.
    pub failed: u64,
    /// Members that did not answer: the fill must be repeated when they do.
    pub silent: u64,
}

impl Pool {
    /// Copies one extent to `member` from another member that has a good copy. Durable when it returns.
    ///
    /// # Errors
    /// [`PoolError::Unreachable`] when no other member can give it.
    pub async fn repair(&self, member: StoreId, id: ExtentId) -> Result<u64, PoolError> {
        let group = self
            .group(id.group)
            .ok_or(PoolError::NoGroup { copies: 0 })?;
        let mut reason = "it is the only member".to_owned();
        for &source in group.members.iter().filter(|&&source| source != member) {
            match self
                .call(source, StoreRequest::ReadExtent { id }.into())
                .await
            {
                Ok((StoreReply::Extent { form, missing }, sealed)) => {
                    let missing = missing
                        .into_iter()
                        .filter(|&store| store != member)
                        .collect();
                    return self.copy(&group, member, id, form, missing, sealed).await;
                }
                Ok((other, _)) => reason = format!("{source} answered {other:?}"),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(PoolError::Unreachable { id, reason })
    }

    async fn copy(
        &self,
        group: &GroupRow,
        member: StoreId,
        id: ExtentId,
        form: u32,
        missing: Vec<StoreId>,
        sealed: Bytes,
    ) -> Result<u64, PoolError> {
        let bytes = sealed.len() as u64;
        let generation = group.generation;
        let request = StoreRequest::PutExtent {
            id,
            generation,
            form,
            durable: true,
            reserved: true,
            missing,
        };
        let unreachable = |reason: String| PoolError::Unreachable { id, reason };
        match self
            .call(
                member,
                StoreCall {
                    request,
                    body: vec![sealed],
                },
            )
            .await
        {
            Ok((StoreReply::Kept { .. } | StoreReply::Done, _)) => {}
            Ok((other, _)) => return Err(unreachable(format!("{member} answered {other:?}"))),
            Err(error) => return Err(unreachable(error.to_string())),
        }
        for &other in group.members.iter().filter(|&&other| other != member) {
            let request = StoreRequest::ClearMissing {
                group: group.id,
                store: member,
                ids: vec![id],
            };
            // A member that does not hear it repeats the work once, harmlessly.
            let _ = self.call(other, request.into()).await;
        }
        Ok(bytes)
    }

    async fn listing(
        &self,
        store: StoreId,
        group: &GroupRow,
    ) -> Option<BTreeMap<ExtentId, ExtentInfo>> {
        let mut listing = BTreeMap::new();
        let mut after = None;
        loop {
            let request = StoreRequest::ListExtents {
                group: group.id,
                generation: group.generation,
                after,
                limit: LIST_LIMIT,
                tombstones: true,
            };
            let Ok((StoreReply::Extents { extents, more }, _)) =
                self.call(store, request.into()).await
            else {
                return None;
            };
            after = extents.last().map(|info| info.id).or(after);
            let empty = extents.is_empty();
            listing.extend(extents.into_iter().map(|info| (info.id, info)));
            if !more || empty {
                return Some(listing);
            }
        }
    }
}

/// Brings `store` up to date in every group it belongs to: copies what it lacks, deletes what was deleted.
/// Only differences move. Repeat it while `silent` or `failed` is not zero.
pub async fn fill_store(pool: &Pool, store: StoreId) -> FillReport {
    let mut report = FillReport::default();
    for group in pool
        .groups()
        .into_iter()
        .filter(|group| group.members.contains(&store))
    {
        fill_group(pool, store, &group, &mut report).await;
    }
    report
}

async fn fill_group(pool: &Pool, store: StoreId, group: &GroupRow, report: &mut FillReport) {
    let Some(mut own) = pool.listing(store, group).await else {
        report.silent += 1;
        return;
    };
    for &member in group.members.iter().filter(|&&member| member != store) {
        let Some(theirs) = pool.listing(member, group).await else {
            report.silent += 1;
            continue;
        };
        for (id, info) in theirs {
            let held = own.get(&id);
            if info.tombstone {
                let deletes = held.is_some_and(|held| !held.tombstone);
                if deletes && delete(pool, store, group, id).await {
                    report.deleted += 1;
                    own.remove(&id);
                }
                continue;
            }
            // A tombstone here is newer knowledge than a copy there: only the collector makes them.
            if held.is_some_and(|held| held.tombstone || held.form >= info.form) {
                continue;
            }
            match pool.repair(store, id).await {
                Ok(bytes) => {
                    report.copied += 1;
                    report.bytes += bytes;
                    own.insert(id, info);
                }
                Err(_) => report.failed += 1,
            }
        }
    }
}

async fn delete(pool: &Pool, store: StoreId, group: &GroupRow, id: ExtentId) -> bool {
    let (group, generation) = (group.id, group.generation);
    let request = StoreRequest::DeleteExtents {
        group,
        generation,
        ids: vec![id],
    };
    pool.call(store, request.into()).await.is_ok()
}
