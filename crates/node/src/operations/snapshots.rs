//! Snapshots: take, list, compare, delete.

use super::ledger::Usages;
use super::{Result, catalog_error, volume_error};
use crate::host::Host;
use crate::tasks::{kind, new_task, snapshot_subject};
use api::{Answer, DiffAnswer, DiffRun, ListQuery, OperationError, SnapshotAnswer, StartedAnswer};
use catalog::{
    CatalogError, ContainerRow, MapRoot, SnapshotMarks, SnapshotRow, SnapshotState, TaskRow,
    VolumeRow,
};
use futures_util::future::{OptionFuture, join};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{BLOCK_BYTES, ByteCount, ContainerId, SnapshotId, VolumeId};
use volume::Volume;
use world::Duration;

/// Ranges in one answer; beyond it neighbours are joined, which an answer may always do.
const RUNS_MAX: usize = 32_768;
/// Ranges read from the map at a time.
const DIFF_LIMIT: usize = 4096;
/// How often a snapshot that is not drained yet is looked at, and the pause between two looks.
const SETTLE_LOOKS: u32 = 100;
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// The word for a snapshot's state, and the bytes that it maps.
fn state_of(row: &SnapshotRow) -> (&'static str, Option<u64>) {
    match row.state {
        SnapshotState::Pending(_) => ("pending", None),
        SnapshotState::Ready(map) => ("ready", Some(map.mapped_blocks * BLOCK_BYTES)),
    }
}

pub(super) fn describe(row: &SnapshotRow, volume: Option<String>) -> SnapshotAnswer {
    let (state, mapped) = state_of(row);
    SnapshotAnswer {
        id: row.id.0,
        name: row.name.clone(),
        volume,
        volume_id: row.volume.0,
        size: row.size.0,
        mapped,
        created_ms: row.created_ms,
        state: state.to_owned(),
        labels: row.labels.clone(),
        group: row.group.clone(),
        usage: None,
    }
}

/// The part of a diff that is asked for.
#[derive(Clone, Copy)]
pub(super) struct Part {
    offset: u64,
    /// Exact ranges at most; nothing: all, joined where they are many.
    limit: Option<usize>,
}

impl Part {
    pub(super) fn new(offset: u64, limit: Option<u32>) -> Result<Self> {
        if limit == Some(0) || limit.is_some_and(|limit| limit as usize > RUNS_MAX) {
            let hint = format!("`limit` of a diff is 1 to {RUNS_MAX}");
            return Err(OperationError::bad_request(hint));
        }
        let limit = limit.map(|limit| limit as usize);
        Ok(Self { offset, limit })
    }
}

/// Changed ranges so far, never more than [`RUNS_MAX`].
#[derive(Default)]
struct Runs(Vec<DiffRun>);

/// Changed ranges and where there are more.
type Found = (Vec<DiffRun>, Option<u64>);

impl Runs {
    /// Adds a range, joined to the last one if it goes on from it; returns how many there are.
    fn push(&mut self, run: DiffRun) -> usize {
        if run.length == 0 {
            return self.0.len();
        }
        match self.0.last_mut() {
            Some(last) if last.offset + last.length == run.offset && last.zero == run.zero => {
                last.length += run.length;
            }
            _ => self.0.push(run),
        }
        self.0.len()
    }

    /// Adds a range; neighbours are joined when there are too many.
    fn push_bounded(&mut self, run: DiffRun) {
        if self.push(run) > RUNS_MAX {
            self.join_neighbours();
        }
    }

    /// The first `limit` ranges, and where the next one begins.
    fn cut(mut self, limit: usize) -> Found {
        let next = self.0.get(limit).map(|run| run.offset);
        self.0.truncate(limit);
        (self.0, next)
    }

    /// Halves the number: unchanged blocks between two ranges may be in an answer.
    fn join_neighbours(&mut self) {
        let pairs = self.0.chunks(2).map(|pair| {
            let (first, last) = (pair[0], pair[pair.len() - 1]);
            DiffRun {
                offset: first.offset,
                length: last.offset + last.length - first.offset,
                zero: pair.len() == 1 && first.zero,
            }
        });
        self.0 = pairs.collect();
    }
}

impl Host {
    /// A snapshot's row by names.
    pub(super) async fn snapshot_row(&self, volume: &str, name: &str) -> Result<SnapshotRow> {
        let missing = |error: CatalogError| match error {
            CatalogError::NotFound { .. } => {
                OperationError::not_found(format!("volume {volume} has no snapshot {name}"))
            }
            other => catalog_error(other),
        };
        let id = self.catalog.volume_id(volume);
        // Who serves the volume knows its id, and looks for both at once. It may have been deleted and made anew elsewhere.
        let served = self.volumes.named(volume).map(|served| served.id());
        let likely = served.map(|served| self.catalog.snapshot_named(served, name));
        let (id, likely) = join(id, OptionFuture::from(likely)).await;
        let id = id.map_err(catalog_error)?;
        let found = match likely.filter(|_| served == Some(id)) {
            Some(found) => found,
            None => self.catalog.snapshot_named(id, name).await,
        };
        Ok(found.map_err(missing)?.row)
    }

    pub(super) async fn create_snapshot(
        &self,
        volume: &Volume,
        name: &str,
        marks: SnapshotMarks,
    ) -> Result<Answer> {
        let row = volume.snapshot(name, marks).await.map_err(volume_error)?;
        Ok(Answer::Snapshot(describe(
            &row,
            Some(volume.name().to_owned()),
        )))
    }

    pub(super) async fn find_snapshot(&self, volume: &str, name: &str) -> Result<Answer> {
        let row = self.snapshot_row(volume, name).await?;
        Ok(Answer::Snapshot(describe(&row, Some(volume.to_owned()))))
    }

    pub(super) async fn show_snapshot(self: &Rc<Self>, id: u64) -> Result<Answer> {
        let found = self.catalog.snapshot(SnapshotId(id)).await;
        let row = found.map_err(catalog_error)?.row;
        let volume = match self.catalog.volume(row.volume).await {
            Ok(found) => Some(found.row.name),
            Err(CatalogError::NotFound { .. }) => None,
            Err(error) => return Err(catalog_error(error)),
        };
        let mut answer = describe(&row, volume);
        answer.usage = self.usages(row.lineage).await.snapshot(id);
        Ok(Answer::Snapshot(answer))
    }

    /// Ids of the containers that a list is limited to; nothing: all.
    pub(super) async fn containers_of(
        &self,
        names: &[String],
    ) -> Result<Option<BTreeSet<ContainerId>>> {
        if names.is_empty() {
            return Ok(None);
        }
        let rows = self.catalog.list::<ContainerRow>().await;
        let rows = rows.map_err(catalog_error)?.into_iter();
        let wanted = rows.filter(|found| names.contains(&found.row.name));
        Ok(Some(wanted.map(|found| found.row.id).collect()))
    }

    pub(super) async fn list_snapshots(self: &Rc<Self>, query: &ListQuery) -> Result<Answer> {
        if let Some(problem) = query.problem() {
            return Err(OperationError::bad_request(problem));
        }
        let wanted = match &query.volume {
            Some(name) => Some(self.volume_id(name).await?),
            None => None,
        };
        let inside = self.places_of(query).await?;
        let state = query.state.as_deref();
        // A snapshot is of the Kubernetes cluster of its volume, and once that is gone of the one that its own label names.
        let mut known: Option<BTreeMap<VolumeId, (String, bool)>> = None;
        if !query.kubernetes.is_empty() {
            let volumes = self.catalog.list::<VolumeRow>().await;
            let volumes = volumes.map_err(catalog_error)?.into_iter();
            let facts = volumes.map(|found| {
                let own = query.is_of_kubernetes(&found.row.labels);
                (found.row.id, (found.row.name, own))
            });
            known = Some(facts.collect());
        }
        let is_own = |row: &SnapshotRow| match known.as_ref().map(|known| known.get(&row.volume)) {
            None => true,
            Some(Some((_, own))) => *own,
            Some(None) => query.is_of_kubernetes(&row.labels),
        };
        let fits = |row: &SnapshotRow| {
            wanted.is_none_or(|wanted| row.volume == wanted)
                && inside(row.container)
                && state.is_none_or(|state| state == state_of(row).0)
                && is_own(row)
                && query.wants(&row.name, &row.labels)
        };
        let key = |id| SnapshotRow::key_of(SnapshotId(id));
        let page = self.page_of(query, key, fits).await?;
        let page: Vec<SnapshotRow> = page.into_iter().map(|found| found.row).collect();
        let names: BTreeMap<VolumeId, String> = match known {
            Some(known) => known
                .into_iter()
                .map(|(id, (name, _))| (id, name))
                .collect(),
            None => {
                self.names_of_volumes(page.iter().map(|row| row.volume).collect())
                    .await?
            }
        };
        // All of one volume are of one lineage; for lists of everything there is the report.
        let usages = match page.first().filter(|_| wanted.is_some()) {
            Some(first) => self.usages(first.lineage).await,
            None => Usages::default(),
        };
        let answer = |row: SnapshotRow| SnapshotAnswer {
            usage: usages.snapshot(row.id.0),
            ..describe(&row, names.get(&row.volume).cloned())
        };
        Ok(Answer::Snapshots(page.into_iter().map(answer).collect()))
    }

    pub(super) async fn delete_snapshot(
        self: &Rc<Self>,
        volume: &str,
        name: &str,
    ) -> Result<Answer> {
        let row = self.snapshot_row(volume, name).await?;
        self.delete_settled(row.id).await?;
        let task = self.begin_deletion(&row, volume, None).await;
        Ok(Answer::Started(StartedAnswer { task }))
    }

    /// The task of a snapshot that was deleted: its space comes back. `volume`: what its volume is called where that is gone.
    pub(super) async fn begin_deletion(
        &self,
        row: &SnapshotRow,
        volume: &str,
        parent: Option<u64>,
    ) -> Option<u64> {
        // Drivers say the volume's id; tasks are found by its name.
        let named = self.catalog.volume(row.volume).await;
        let volume = named.map_or_else(|_| volume.to_owned(), |found| found.row.name);
        let entity = format!("snapshot/{volume}@{}", row.name);
        self.begin_task(TaskRow {
            unit: "bytes".to_owned(),
            lineage: row.lineage.0,
            parent,
            ..new_task(kind::SNAPSHOT_DELETE, entity, snapshot_subject(row.id))
        })
        .await
    }

    /// Deletes a snapshot once it has its root.
    pub(super) async fn delete_settled(self: &Rc<Self>, id: SnapshotId) -> Result<()> {
        match self.settled(id).await {
            Err(error) if error.kind == api::ErrorKind::NotFound => return Ok(()),
            settled => settled?,
        };
        let deleted = self.catalog.delete_snapshot(id).await;
        deleted.map_err(catalog_error)
    }

    /// The root of a snapshot; one that is not drained yet is, as far as its volume's owner answers.
    async fn settled(self: &Rc<Self>, id: SnapshotId) -> Result<MapRoot> {
        for look in 0..SETTLE_LOOKS {
            let row = self.catalog.snapshot(id).await.map_err(catalog_error)?.row;
            if let SnapshotState::Ready(map) = row.state {
                return Ok(map);
            }
            if look % 10 == 0 {
                let host = self.clone();
                self.spawn(async move { host.drain_anywhere(row.volume).await });
            }
            self.world.sleep(SETTLE_PAUSE).await;
        }
        Err(OperationError::unavailable(
            "the snapshot's data has not left its volume's log yet; try again in a moment",
        ))
    }

    pub(super) async fn diff_snapshots(
        self: &Rc<Self>,
        volume: &str,
        from: Option<&str>,
        to: Option<&str>,
        part: Part,
    ) -> Result<Answer> {
        let Some(to) = to else {
            return Err(OperationError::failed(
                "the volume's owner must compare with now; this is a bug",
            ));
        };
        let newer = self.snapshot_row(volume, to).await?;
        let newer_map = self.settled(newer.id).await?;
        let older_map = self.older_root(volume, from).await?;
        let found = self.compare(older_map, newer_map, newer.size, part).await?;
        Ok(diff_answer(volume, from, Some(to), newer.size, found))
    }

    pub(super) async fn diff_with_now(
        self: &Rc<Self>,
        volume: &Volume,
        from: Option<&str>,
        part: Part,
    ) -> Result<Answer> {
        let older_map = self.older_root(volume.name(), from).await?;
        volume.drain().await.map_err(volume_error)?;
        let row = self.catalog.volume(volume.id()).await;
        let size = row.map_err(catalog_error)?.row.size;
        let found = self.compare(older_map, volume.root().map, size, part);
        let found = found.await?;
        Ok(diff_answer(volume.name(), from, None, size, found))
    }

    async fn older_root(self: &Rc<Self>, volume: &str, name: Option<&str>) -> Result<MapRoot> {
        match name {
            None => Ok(MapRoot::default()),
            Some(name) => {
                let row = self.snapshot_row(volume, name).await?;
                self.settled(row.id).await
            }
        }
    }

    async fn compare(
        &self,
        older: MapRoot,
        newer: MapRoot,
        size: ByteCount,
        part: Part,
    ) -> Result<Found> {
        let mut runs = Runs::default();
        let mut from = part.offset / BLOCK_BYTES;
        loop {
            let found = volume::diff(&self.pages, older, newer, from, DIFF_LIMIT).await;
            let (found, next) = found.map_err(|error| volume_error(error.into()))?;
            for run in found {
                let offset = (run.lba * BLOCK_BYTES).min(size.0).max(part.offset);
                let end = ((run.lba + run.blocks) * BLOCK_BYTES).min(size.0);
                let run = DiffRun {
                    offset,
                    length: end.saturating_sub(offset),
                    zero: !run.mapped,
                };
                match part.limit {
                    None => runs.push_bounded(run),
                    Some(limit) if runs.push(run) > limit => return Ok(runs.cut(limit)),
                    Some(_) => {}
                }
            }
            match next {
                Some(next) if next > from => from = next,
                _ => return Ok((runs.0, None)),
            }
        }
    }
}

fn diff_answer(
    volume: &str,
    from: Option<&str>,
    to: Option<&str>,
    size: ByteCount,
    (runs, next): Found,
) -> Answer {
    Answer::Diff(DiffAnswer {
        volume: volume.to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        runs,
        next,
        size: size.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_stay_bounded() {
        let mut runs = Runs::default();
        let run = |offset, zero| DiffRun {
            offset,
            length: 4096,
            zero,
        };
        runs.push(run(0, false));
        runs.push(run(4096, false));
        runs.push(run(8192, true));
        assert_eq!(runs.0.len(), 2);
        for index in 0..3 * RUNS_MAX as u64 {
            runs.push_bounded(run(16384 + index * 8192, false));
        }
        assert!(runs.0.len() <= RUNS_MAX);
        let last = runs.0.last().expect("there are many");
        assert_eq!(
            last.offset + last.length,
            16384 + (3 * RUNS_MAX as u64 - 1) * 8192 + 4096
        );
        let ordered = runs
            .0
            .windows(2)
            .all(|pair| pair[0].offset + pair[0].length <= pair[1].offset);
        assert!(ordered, "in order and disjoint");
    }
}
