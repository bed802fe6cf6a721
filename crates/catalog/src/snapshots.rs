//! Snapshots in the catalog: taken in O(1), settled by the drain, deleted in any order.

use crate::access::{Catalog, CatalogError, Transaction, Versioned};
use crate::rows::{LineageRow, Row, SnapshotRow, SnapshotState, VolumeRoot, VolumeRow, numbered};
use crate::volumes::{check_name, numbered_name};
use futures_util::future::{join, join3};
use std::collections::BTreeMap;
use vocab::{Epoch, LineageId, Position, SnapshotId, VolumeId};

/// A snapshot to record.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    /// Its id, from [`Catalog::next_snapshot_id`]; it is in the log's barrier record.
    pub id: SnapshotId,
    /// The volume's lineage.
    pub lineage: LineageId,
    /// Name, unique within the volume.
    pub name: String,
    /// Position of the flushed barrier.
    pub position: Position,
    /// Now, Unix milliseconds.
    pub created_ms: u64,
    /// What a person wrote on it.
    pub marks: SnapshotMarks,
}

/// Labels of a snapshot, and the group snapshot it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMarks {
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
    /// Id of the group snapshot.
    pub group: Option<String>,
    /// Keys of labels that it has from its volume, whatever `labels` says.
    pub inherited: Vec<String>,
}

impl SnapshotMarks {
    /// The labels of a snapshot of a volume with these.
    fn labels_on(&self, volume: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.retain(|key, _| !self.inherited.contains(key));
        let own = volume
            .iter()
            .filter(|(key, _)| self.inherited.contains(key));
        labels.extend(own.map(|(key, value)| (key.clone(), value.clone())));
        labels
    }
}

pub(crate) fn snapshot_name_key(volume: VolumeId, name: &str) -> String {
    format!("snapshot-name/{:020}/{name}", volume.0)
}

/// Rows that a snapshot's is made from; see [`Catalog::snapshot_base`].
#[derive(Clone, Debug)]
pub struct SnapshotBase {
    owner: Versioned<VolumeRow>,
    lineage: Versioned<LineageRow>,
}

impl Catalog {
    /// The snapshot of this id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn snapshot(&self, id: SnapshotId) -> Result<Versioned<SnapshotRow>, CatalogError> {
        let row = self.read(&numbered(SnapshotRow::PREFIX, id.0)).await?;
        row.ok_or_else(|| CatalogError::NotFound {
            kind: "snapshot",
            name: id.to_string(),
        })
    }

    /// The snapshot of this name of a volume; `snapshot-12` is the one with id 12, if it is of the volume.
    ///
    /// # Errors
    /// As [`Catalog::snapshot`].
    pub async fn snapshot_named(
        &self,
        volume: VolumeId,
        name: &str,
    ) -> Result<Versioned<SnapshotRow>, CatalogError> {
        let missing = || CatalogError::NotFound {
            kind: "snapshot",
            name: name.to_owned(),
        };
        let named = self.resolve(&snapshot_name_key(volume, name)).await?;
        let id = named
            .or_else(|| numbered_name("snapshot", name))
            .ok_or_else(missing)?;
        let found = self.snapshot(SnapshotId(id)).await?;
        match found.row.volume == volume {
            true => Ok(found),
            false => Err(missing()),
        }
    }

    /// Checks that a snapshot of this name may be taken.
    ///
    /// # Errors
    /// [`CatalogError::Refused`], [`CatalogError::Exists`], [`CatalogError::Kv`].
    pub async fn check_snapshot_name(
        &self,
        volume: VolumeId,
        name: &str,
    ) -> Result<(), CatalogError> {
        check_name("snapshot", name)?;
        match self.resolve(&snapshot_name_key(volume, name)).await? {
            Some(_) => Err(CatalogError::Exists {
                kind: "snapshot",
                name: name.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// What the row of a snapshot is made from, as it is now, if a snapshot of this name may be taken.
    ///
    /// # Errors
    /// As [`Catalog::check_snapshot_name`], and [`CatalogError::NotFound`].
    pub async fn snapshot_base(
        &self,
        volume: VolumeId,
        lineage: LineageId,
        name: &str,
    ) -> Result<SnapshotBase, CatalogError> {
        let free = self.check_snapshot_name(volume, name);
        let (free, owner, lineage) = join3(free, self.volume(volume), self.lineage(lineage)).await;
        free?;
        let (owner, lineage) = (owner?, lineage?);
        Ok(SnapshotBase { owner, lineage })
    }

    /// Records a snapshot whose barrier is flushed in the log of the owner of term `epoch`. O(1).
    /// Idempotent by id. `base` saves the first attempt its reads: what it holds is compared when the row is written.
    ///
    /// # Errors
    /// [`CatalogError::Exists`], [`CatalogError::Refused`], [`CatalogError::StaleOwner`],
    /// [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn record_snapshot(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        new: &NewSnapshot,
        base: &mut Option<SnapshotBase>,
    ) -> Result<SnapshotRow, CatalogError> {
        for _ in 0..64 {
            let SnapshotBase { owner, lineage } = match base.take() {
                Some(base) => base,
                None => {
                    let key = numbered(SnapshotRow::PREFIX, new.id.0);
                    let done = self.read::<SnapshotRow>(&key);
                    let base = self.snapshot_base(volume, new.lineage, &new.name);
                    let (done, base) = join(done, base).await;
                    match done? {
                        Some(done) if done.row.volume == volume => return Ok(done.row),
                        Some(_) => return Err(CatalogError::Contended),
                        None => base?,
                    }
                }
            };
            if owner.row.epoch != epoch {
                return Err(CatalogError::StaleOwner {
                    current: owner.row.epoch,
                });
            }
            let row = SnapshotRow {
                id: new.id,
                name: new.name.clone(),
                volume,
                lineage: owner.row.lineage,
                container: owner.row.container,
                size: owner.row.size,
                created_ms: new.created_ms,
                state: SnapshotState::Pending(new.position),
                labels: new.marks.labels_on(&owner.row.labels),
                group: new.marks.group.clone(),
            };
            let mut joined = lineage.row.clone();
            joined.snapshots.push(new.id);
            let transaction = Transaction::new()
                .unchanged(&owner)
                .replace(&lineage, &joined)
                .create(&row)
                .claim_name(snapshot_name_key(volume, &new.name), new.id.0);
            if self.commit(transaction).await?.is_some() {
                return Ok(row);
            }
        }
        Err(CatalogError::Contended)
    }

    /// Deletes a snapshot; clones of it live on. Its space comes back by collection. Idempotent.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] while it is pending: retry once it is drained;
    /// [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn delete_snapshot(&self, id: SnapshotId) -> Result<(), CatalogError> {
        for _ in 0..64 {
            let snapshot = match self.snapshot(id).await {
                Err(CatalogError::NotFound { .. }) => return Ok(()),
                other => other?,
            };
            if matches!(snapshot.row.state, SnapshotState::Pending(_)) {
                return Err(CatalogError::Refused(format!(
                    "snapshot {} is not drained yet; try again in a moment",
                    snapshot.row.name
                )));
            }
            let lineage = self.lineage(snapshot.row.lineage).await?;
            let mut left = lineage.row.clone();
            left.snapshots.retain(|&member| member != id);
            let transaction = Transaction::new()
                .remove(&snapshot)
                .replace(&lineage, &left)
                .free_name(snapshot_name_key(snapshot.row.volume, &snapshot.row.name));
            if self.commit(transaction).await?.is_some() {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    /// Sets a volume back to a snapshot of its own lineage, as its owner of term `epoch`, whose log ends at
    /// `position`. Everything in the log up to there is dropped. O(1). Idempotent.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] for a snapshot that is pending or of another lineage,
    /// [`CatalogError::StaleOwner`], [`CatalogError::NotFound`], [`CatalogError::Contended`],
    /// [`CatalogError::Kv`].
    pub async fn restore_volume(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        snapshot: SnapshotId,
        position: Position,
    ) -> Result<VolumeRow, CatalogError> {
        for _ in 0..64 {
            let owner = self.volume(volume).await?;
            if owner.row.epoch != epoch {
                return Err(CatalogError::StaleOwner {
                    current: owner.row.epoch,
                });
            }
            let snapshot = self.snapshot(snapshot).await?;
            let SnapshotState::Ready(map) = snapshot.row.state else {
                return Err(CatalogError::Refused(format!(
                    "snapshot {} is not drained yet",
                    snapshot.row.name
                )));
            };
            if snapshot.row.lineage != owner.row.lineage {
                return Err(CatalogError::Refused(format!(
                    "snapshot {} is not of the lineage of volume {}",
                    snapshot.row.name, owner.row.name
                )));
            }
            let lineage = self.lineage(owner.row.lineage).await?;
            let mut row = owner.row.clone();
            row.root = VolumeRoot {
                map,
                position,
                floor: row.root.floor,
            };
            row.edited = Some(owner.version);
            row.segments
                .retain(|segment| segment.end.is_none_or(|end| end > position.next()));
            // The lineage row is rewritten so that a collection that read the roots before starts again.
            let transaction = Transaction::new()
                .unchanged(&snapshot)
                .replace(&lineage, &lineage.row)
                .replace(&owner, &row);
            if self.commit(transaction).await?.is_some() {
                return Ok(row);
            }
        }
        Err(CatalogError::Contended)
    }
}
