//! Parts of long lists: what is not shown is not read.

use super::{Result, catalog_error};
use crate::host::Host;
use api::query::INTERNAL_LABEL;
use api::{ListQuery, ListSort, OperationError};
use catalog::{ContainerRow, Row, SnapshotRow, Versioned, VolumeRow};
use futures_util::future::join_all;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
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

impl Names {
    /// Those of what a volume was made from, as far as that is still there.
    pub(super) fn add_origin(
        &mut self,
        volume: Option<&VolumeRow>,
        snapshot: Option<&SnapshotRow>,
    ) {
        self.volumes
            .extend(volume.map(|row| (row.id, row.name.clone())));
        let named = |row: &SnapshotRow| Some((row.id, name_for_people(row)?));
        self.snapshots.extend(snapshot.and_then(named));
    }
}

/// A snapshot that was only made for a clone has none.
fn name_for_people(row: &SnapshotRow) -> Option<String> {
    let is_shown = !row.labels.contains_key(INTERNAL_LABEL);
    is_shown.then(|| row.name.clone())
}

/// What lists can be sorted by.
pub(super) trait Sortable: Row {
    /// Name, size, when it was created, and its id.
    fn keys(&self) -> (&str, u64, u64, u64);

    /// Every row as the catalog has it now. What is kept decoded is not decoded again.
    async fn all(host: &Host) -> Result<Vec<Versioned<Rc<Self>>>> {
        let rows = host.catalog.list::<Self>().await.map_err(catalog_error)?;
        let shared = |found: Versioned<Self>| Versioned {
            row: Rc::new(found.row),
            version: found.version,
        };
        Ok(rows.into_iter().map(shared).collect())
    }
}

impl Sortable for VolumeRow {
    fn keys(&self) -> (&str, u64, u64, u64) {
        (&self.name, self.size.0, self.created_ms, self.id.0)
    }

    async fn all(host: &Host) -> Result<Vec<Versioned<Rc<Self>>>> {
        Ok(host.known_volumes().await?.versioned().collect())
    }
}

impl Sortable for SnapshotRow {
    fn keys(&self) -> (&str, u64, u64, u64) {
        (&self.name, self.size.0, self.created_ms, self.id.0)
    }
}

fn compare<T: Sortable>(sort: ListSort, one: &T, other: &T) -> Ordering {
    let (one, other) = (one.keys(), other.keys());
    let order = match sort {
        ListSort::Name | ListSort::NameDown => one.0.cmp(other.0),
        ListSort::Size | ListSort::SizeDown => one.1.cmp(&other.1),
        ListSort::Created | ListSort::CreatedDown => one.2.cmp(&other.2),
    };
    let order = order.then(one.3.cmp(&other.3));
    match sort {
        ListSort::Name | ListSort::Size | ListSort::Created => order,
        ListSort::NameDown | ListSort::SizeDown | ListSort::CreatedDown => order.reverse(),
    }
}

impl Host {
    /// The rows that a query shows. `key` is that of the row with an id.
    pub(super) async fn page_of<T: Sortable>(
        &self,
        query: &ListQuery,
        key: impl Fn(u64) -> String,
        fits: impl Fn(&T) -> bool,
    ) -> Result<Vec<Versioned<T>>> {
        match query.sort {
            None => self.page_by_id(query, key, fits).await,
            Some(sort) => self.page_sorted(query, sort, fits).await,
        }
    }

    /// In another order than that of ids all rows have to be read. The last item of the page before says where this one begins,
    /// wherever a change has put it meanwhile.
    async fn page_sorted<T: Sortable>(
        &self,
        query: &ListQuery,
        sort: ListSort,
        fits: impl Fn(&T) -> bool,
    ) -> Result<Vec<Versioned<T>>> {
        let rows = T::all(self).await?;
        // What must not be seen must not be found by where it would be.
        let may_be = |row: &T| !query.is_limited() || fits(row);
        let is_last = |row: &T, id| row.keys().3 == id && may_be(row);
        let last = |id| match rows.iter().find(|found| is_last(&found.row, id)) {
            Some(found) => Ok(found.row.clone()),
            None => Err(OperationError::bad_request(format!(
                "`after`: there is nothing with id {id} any more, which was the last of the page before: begin with the first page"
            ))),
        };
        let last = query.after.map(last).transpose()?;
        let behind = |row: &T| {
            let order = last.as_ref().map(|last| compare(sort, row, &**last));
            order.is_none_or(Ordering::is_gt)
        };
        let wanted = rows.into_iter().filter(|found| fits(&found.row));
        let mut wanted: Vec<Versioned<Rc<T>>> = wanted.filter(|found| behind(&found.row)).collect();
        wanted.sort_by(|one, other| compare(sort, &*one.row, &*other.row));
        wanted.truncate(query.limit.map_or(usize::MAX, |limit| limit as usize));
        let owned = |found: Versioned<Rc<T>>| Versioned {
            row: Rc::unwrap_or_clone(found.row),
            version: found.version,
        };
        Ok(wanted.into_iter().map(owned).collect())
    }

    /// The rows that a query shows, in the order of their ids.
    async fn page_by_id<T: Row>(
        &self,
        query: &ListQuery,
        key: impl Fn(u64) -> String,
        fits: impl Fn(&T) -> bool,
    ) -> Result<Vec<Versioned<T>>> {
        let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut after = query.after.map(key);
        let mut found: Vec<Versioned<T>> = Vec::new();
        let mut selective = query.is_selective();
        loop {
            let batch = match selective {
                true => BATCH,
                // Nearly all of them fit.
                false => BATCH.min((limit - found.len()).max(16)),
            };
            let read = self.catalog.list_after::<T>(after.as_deref(), batch).await;
            let (rows, more) = read.map_err(catalog_error)?;
            after = rows.last().map(|last| last.row.key()).or(after);
            let left = limit - found.len();
            let before = (found.len(), rows.len());
            found.extend(rows.into_iter().filter(|one| fits(&one.row)).take(left));
            selective |= (found.len() - before.0) * 2 < before.1;
            if found.len() >= limit || !more {
                return Ok(found);
            }
        }
    }

    /// What rows with these ids are called; those that are gone are left out.
    async fn names_of<T: Row, K: Ord + Copy>(
        &self,
        ids: BTreeSet<K>,
        key: impl Fn(K) -> String,
        named: impl Fn(T) -> Option<(K, String)>,
    ) -> Result<BTreeMap<K, String>> {
        if ids.len() > LOOKED_UP_MAX {
            let rows = self.catalog.list::<T>().await.map_err(catalog_error)?;
            let named = rows.into_iter().filter_map(|found| named(found.row));
            return Ok(named.collect());
        }
        let look_up = async |id| {
            let found = self.catalog.read::<T>(&key(id)).await;
            let found = found.map_err(catalog_error)?;
            Ok(found.and_then(|found| named(found.row)))
        };
        let names = join_all(ids.into_iter().map(look_up)).await;
        names.into_iter().filter_map(Result::transpose).collect()
    }

    /// Whether a row of this container may be in the answer of a query; what the token allows, and what is asked for.
    pub(super) async fn places_of(
        &self,
        query: &ListQuery,
    ) -> Result<impl Fn(ContainerId) -> bool + use<>> {
        let allowed = self.containers_of(&query.containers).await?;
        let asked = match &query.container {
            Some(name) => self.containers_of(std::slice::from_ref(name)).await?,
            None => None,
        };
        Ok(move |id: ContainerId| {
            let inside = |ids: &Option<BTreeSet<ContainerId>>| {
                ids.as_ref().is_none_or(|ids| ids.contains(&id))
            };
            inside(&allowed) && inside(&asked)
        })
    }

    /// Names of these volumes; those that are gone have none.
    pub(super) async fn names_of_volumes(
        &self,
        ids: BTreeSet<VolumeId>,
    ) -> Result<BTreeMap<VolumeId, String>> {
        let named = |row: VolumeRow| Some((row.id, row.name));
        self.names_of(ids, VolumeRow::key_of, named).await
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
        let named = |row: SnapshotRow| Some((row.id, name_for_people(&row)?));
        let snapshots = self.names_of(snapshots, SnapshotRow::key_of, named).await?;
        Ok(Names {
            containers: containers.map(|found| (found.row.id, found.row)).collect(),
            volumes,
            snapshots,
        })
    }
}
