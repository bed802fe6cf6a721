//! Parts of long lists: what is not shown is not read.

use super::{Result, catalog_error};
use crate::host::Host;
use api::ListQuery;
use catalog::{CatalogError, ContainerRow, Row, SnapshotRow, Versioned, VolumeRow};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use vocab::{ContainerId, SnapshotId, VolumeId};

/// Rows that are read at a time while those that fit are looked for.
const BATCH: usize = 500;
/// So many names are looked up one by one; for more the whole list is read.
const LOOKED_UP_MAX: usize = 64;

/// What describing volumes needs beside their rows.
#[derive(Default)]
pub(super) struct Names {
    pub(super) containers: BTreeMap<ContainerId, ContainerRow>,
    pub(super) volumes: BTreeMap<VolumeId, String>,
    pub(super) snapshots: BTreeMap<SnapshotId, String>,
}

impl Host {
    /// The rows that a query shows, in the order of their ids. `key` is that of the row with an id.
    pub(super) async fn page_of<T: Row>(
        &self,
        query: &ListQuery,
        key: impl Fn(u64) -> String,
        fits: impl Fn(&T) -> bool,
    ) -> Result<Vec<Versioned<T>>> {
        let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut after = query.after.map(key);
        let mut found: Vec<Versioned<T>> = Vec::new();
        loop {
            let batch = match query.is_selective() {
                true => BATCH,
                // Nearly all of them fit.
                false => BATCH.min((limit - found.len()).max(16)),
            };
            let read = self.catalog.list_after::<T>(after.as_deref(), batch).await;
            let (rows, more) = read.map_err(catalog_error)?;
            after = rows.last().map(|last| last.row.key()).or(after);
            let left = limit - found.len();
            found.extend(rows.into_iter().filter(|one| fits(&one.row)).take(left));
            if found.len() >= limit || !more {
                return Ok(found);
            }
        }
    }

    /// Names of these volumes; those that are gone have none.
    pub(super) async fn names_of_volumes(
        &self,
        ids: BTreeSet<VolumeId>,
    ) -> Result<BTreeMap<VolumeId, String>> {
        if ids.len() > LOOKED_UP_MAX {
            let rows = self.catalog.list::<VolumeRow>().await;
            let rows = rows.map_err(catalog_error)?.into_iter();
            return Ok(rows.map(|found| (found.row.id, found.row.name)).collect());
        }
        let look_up = async |id| match self.catalog.volume(id).await {
            Ok(found) => Ok(Some((id, found.row.name))),
            Err(CatalogError::NotFound { .. }) => Ok(None),
            Err(error) => Err(catalog_error(error)),
        };
        let names = join_all(ids.into_iter().map(look_up)).await;
        names.into_iter().filter_map(Result::transpose).collect()
    }

    async fn names_of_snapshots(
        &self,
        ids: BTreeSet<SnapshotId>,
    ) -> Result<BTreeMap<SnapshotId, String>> {
        if ids.len() > LOOKED_UP_MAX {
            let rows = self.catalog.list::<SnapshotRow>().await;
            let rows = rows.map_err(catalog_error)?.into_iter();
            return Ok(rows.map(|found| (found.row.id, found.row.name)).collect());
        }
        let look_up = async |id| match self.catalog.snapshot(id).await {
            Ok(found) => Ok(Some((id, found.row.name))),
            Err(CatalogError::NotFound { .. }) => Ok(None),
            Err(error) => Err(catalog_error(error)),
        };
        let names = join_all(ids.into_iter().map(look_up)).await;
        names.into_iter().filter_map(Result::transpose).collect()
    }

    /// What describing these volumes needs.
    pub(super) async fn names_for(&self, rows: &[Versioned<VolumeRow>]) -> Result<Names> {
        let containers = self.catalog.list::<ContainerRow>().await;
        let containers = containers.map_err(catalog_error)?.into_iter();
        let mut volumes: BTreeMap<VolumeId, String> = { rows.iter() }
            .map(|found| (found.row.id, found.row.name.clone()))
            .collect();
        let origins = || rows.iter().filter_map(|found| found.row.origin);
        let others = origins().map(|origin| origin.volume);
        let others = others.filter(|id| !volumes.contains_key(id)).collect();
        volumes.extend(self.names_of_volumes(others).await?);
        let snapshots = origins().map(|origin| origin.snapshot).collect();
        Ok(Names {
            containers: containers.map(|found| (found.row.id, found.row)).collect(),
            volumes,
            snapshots: self.names_of_snapshots(snapshots).await?,
        })
    }
}
