//! Group snapshots: one point in time of several volumes.
//!
//! Every owner holds back changes (a pause), then every volume gets a snapshot, then every owner lets changes
//! through again and says whether its pause held all the while. If each of them did, all pauses held from
//! the last answer to a pause until the first end of one, and every barrier lies between the two: no change
//! that began after another one was acknowledged can be in the group without that one. Clocks are not
//! compared.
//!
//! Invariants
//! - A group is ready only when every pause held; else what was taken is deleted.
//! - A pause ends by itself, so a coordinator that dies holds up nobody; its group is cleaned up by whoever
//!   asks for the name again, or by the sweep of left-over snapshots.

use super::snapshots::describe;
use super::{Result, catalog_error};
use crate::host::Host;
use crate::tasks::{kind, new_task};
use api::{
    Answer, ErrorKind, GroupSnapshotAnswer, GroupSnapshotSpec, Operation, OperationError,
    SnapshotAnswer, StartedAnswer,
};
use catalog::{Begun, CatalogError, GroupSnapshotRow, SnapshotRow, TaskRow};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::rc::Rc;
use vocab::{SnapshotId, VolumeId};
use volume::Volume;
use world::Duration;
use world::sync::promise;

/// Volumes of one group: each is a call to its owner within the two seconds of a pause.
const VOLUMES_MAX: usize = 64;
/// Patience with one step; a pause holds no longer.
const STEP_PATIENCE: Duration = Duration::from_secs(2);
/// Age from which a group that is not whole is left over: its three steps are over by then.
const LEFT_OVER_MS: u64 = 10_000;

impl Host {
    /// As the owner: holds back changes.
    pub(super) async fn pause_volume(&self, volume: &Volume, pause: &str) -> Result<Answer> {
        match volume.pause(pause).await {
            true => Ok(Answer::Done),
            false => Err(not_held(volume.name())),
        }
    }

    /// As the owner: lets changes through again.
    pub(super) fn resume_volume(&self, volume: &Volume, pause: &str) -> Result<Answer> {
        match volume.resume(pause) {
            true => Ok(Answer::Done),
            false => Err(not_held(volume.name())),
        }
    }

    async fn group_volumes(&self, spec: &GroupSnapshotSpec) -> Result<Vec<VolumeId>> {
        let mut ids = Vec::new();
        for name in &spec.volumes {
            let found = self.catalog.volume_named(name).await;
            ids.push(found.map_err(catalog_error)?.row.id);
        }
        let distinct: BTreeSet<&VolumeId> = ids.iter().collect();
        if ids.is_empty() || ids.len() > VOLUMES_MAX || distinct.len() != ids.len() {
            return Err(OperationError::bad_request(format!(
                "a group snapshot is of 1 to {VOLUMES_MAX} different volumes"
            )));
        }
        Ok(ids)
    }

    pub(super) async fn create_group_snapshot(
        self: &Rc<Self>,
        spec: GroupSnapshotSpec,
    ) -> Result<Answer> {
        let volumes = self.group_volumes(&spec).await?;
        let now_ms = self.world.clock.unix_ms();
        let begin = || {
            self.catalog
                .begin_group_snapshot(&spec.name, &volumes, now_ms)
        };
        let mut begun = begin().await.map_err(catalog_error)?;
        if let Begun::Found(found) = &begun {
            let wanted: BTreeSet<&VolumeId> = volumes.iter().collect();
            if found.volumes.iter().collect::<BTreeSet<_>>() != wanted {
                let taken = format!("group snapshot {} exists, of other volumes", spec.name);
                return Err(OperationError::new(ErrorKind::Exists, taken));
            }
            if found.ready {
                return self.group_answer(found).await.map(Answer::GroupSnapshot);
            }
            if found.created_ms.saturating_add(LEFT_OVER_MS) > now_ms {
                return Err(OperationError::unavailable(format!(
                    "group snapshot {} is being taken; try again in a moment",
                    spec.name
                )));
            }
            self.discard_group(found, None).await?;
            begun = begin().await.map_err(catalog_error)?;
        }
        let Begun::New(row) = begun else {
            return Err(catalog_error(CatalogError::Contended));
        };
        match self.take_group(&row, &spec).await {
            Ok(snapshots) => {
                let done = self.catalog.finish_group_snapshot(row.id, &snapshots).await;
                let row = done.map_err(catalog_error)?;
                self.group_answer(&row).await.map(Answer::GroupSnapshot)
            }
            Err(reason) => {
                self.discard_group(&row, None).await?;
                let message = format!("group snapshot {} was not taken: {reason}", spec.name);
                Err(OperationError::new(reason.kind, message))
            }
        }
    }

    async fn take_group(
        self: &Rc<Self>,
        row: &GroupSnapshotRow,
        spec: &GroupSnapshotSpec,
    ) -> Result<Vec<SnapshotId>> {
        let names: Vec<String> = row
            .volumes
            .iter()
            .map(|id| format!("volume-{}", id.0))
            .collect();
        let pause = format!("group-{}-{:016x}", row.id, self.world.rng.next_u64());
        let paused = names.iter().map(|volume| Operation::VolumePause {
            volume: volume.clone(),
            pause: pause.clone(),
        });
        let mut taken = self.step(paused.collect()).await;
        if taken.is_ok() {
            let snapshots = names.iter().map(|volume| Operation::SnapshotCreate {
                volume: volume.clone(),
                name: row.name.clone(),
                labels: spec.labels.clone(),
                group: Some(row.id.to_string()),
            });
            taken = self.step(snapshots.collect()).await;
        }
        let resumed = names.iter().map(|volume| Operation::VolumeResume {
            volume: volume.clone(),
            pause: pause.clone(),
        });
        let resumed = self.step(resumed.collect()).await;
        let taken = taken?;
        resumed?;
        let id = |answer: &Answer| match answer {
            Answer::Snapshot(snapshot) => Some(SnapshotId(snapshot.id)),
            _ => None,
        };
        Ok(taken.iter().filter_map(id).collect())
    }

    /// Has all operations carried out at once. They go on although the result is no longer waited for.
    async fn step(self: &Rc<Self>, operations: Vec<Operation>) -> Result<Vec<Answer>> {
        let calls = operations.into_iter().map(|operation| {
            let (promise, outcome) = promise();
            let host = self.clone();
            self.spawn(async move { promise.fulfil(host.operate(operation).await) });
            self.world.timeout(STEP_PATIENCE, outcome)
        });
        let late = || OperationError::unavailable("a volume's owner did not answer in time");
        let answers = join_all(calls).await.into_iter();
        answers
            .map(|answer| match answer {
                Ok(Some(answer)) => answer,
                Ok(None) | Err(_) => Err(late()),
            })
            .map(|answer| match answer {
                // The pause that did not hold may hold the next time.
                Err(error) if error.kind == ErrorKind::Refused => {
                    Err(OperationError::unavailable(error.message))
                }
                answer => answer,
            })
            .collect()
    }

    /// Deletes what there is of a group snapshot; each member as a part of the task, if there is one.
    async fn discard_group(
        self: &Rc<Self>,
        row: &GroupSnapshotRow,
        task: Option<u64>,
    ) -> Result<()> {
        let id = row.id.to_string();
        for &volume in &row.volumes {
            match self.catalog.snapshot_named(volume, &row.name).await {
                Ok(found) if found.row.group.as_deref() == Some(&id) => {
                    self.delete_settled(found.row.id).await?;
                    if task.is_some() {
                        let named = format!("volume-{}", volume.0);
                        self.begin_deletion(&found.row, &named, task).await;
                    }
                }
                Ok(_) | Err(CatalogError::NotFound { .. }) => {}
                Err(error) => return Err(catalog_error(error)),
            }
        }
        let removed = self.catalog.remove_group_snapshot(row.id).await;
        removed.map_err(catalog_error)
    }

    async fn group_answer(&self, row: &GroupSnapshotRow) -> Result<GroupSnapshotAnswer> {
        let mut snapshots: Vec<SnapshotAnswer> = Vec::new();
        for &id in &row.snapshots {
            let snapshot = match self.catalog.snapshot(id).await {
                Err(CatalogError::NotFound { .. }) => continue,
                found => found.map_err(catalog_error)?.row,
            };
            let volume = self.catalog.volume(snapshot.volume).await.ok();
            snapshots.push(describe(&snapshot, volume.map(|found| found.row.name)));
        }
        Ok(GroupSnapshotAnswer {
            id: row.id.to_string(),
            name: row.name.clone(),
            created_ms: row.created_ms,
            ready: row.ready && snapshots.len() == row.volumes.len(),
            snapshots,
        })
    }

    async fn group_row(&self, id: &str) -> Result<GroupSnapshotRow> {
        let missing = || OperationError::not_found(format!("there is no group snapshot {id}"));
        let number = id.parse().map_err(|_| missing())?;
        let found = self.catalog.group_snapshot(number).await;
        Ok(found.map_err(catalog_error)?.row)
    }

    pub(super) async fn show_group_snapshot(&self, id: &str) -> Result<Answer> {
        let row = self.group_row(id).await?;
        self.group_answer(&row).await.map(Answer::GroupSnapshot)
    }

    pub(super) async fn list_group_snapshots(&self) -> Result<Answer> {
        let rows = self.catalog.list::<GroupSnapshotRow>().await;
        let mut answers = Vec::new();
        for found in rows.map_err(catalog_error)? {
            answers.push(self.group_answer(&found.row).await?);
        }
        Ok(Answer::GroupSnapshots(answers))
    }

    pub(super) async fn delete_group_snapshot(self: &Rc<Self>, id: &str) -> Result<Answer> {
        let row = self.group_row(id).await?;
        let host = self.clone();
        let deleted = self.to_the_end(async move { host.delete_group(&row).await });
        let stopping = || OperationError::unavailable("the node is stopping: ask another one");
        deleted.await.unwrap_or_else(|| Err(stopping()))
    }

    /// As a task, whose parts the leader sees to once all members are deleted.
    async fn delete_group(self: &Rc<Self>, row: &GroupSnapshotRow) -> Result<Answer> {
        let (entity, subject) = (
            format!("group-snapshot/{}", row.name),
            format!("group-snapshot/{}", row.id),
        );
        let task = TaskRow {
            total: row.snapshots.len() as u64,
            unit: "parts".to_owned(),
            message: "its snapshots are deleted".to_owned(),
            ..new_task(kind::GROUP_SNAPSHOT_DELETE, entity, subject)
        };
        let carried = self.carry(task).await;
        let deleted = self.discard_group(row, carried.id()).await;
        carried.hand_over(&deleted, "the space of its snapshots comes back");
        deleted?;
        let task = carried.id();
        Ok(Answer::Started(StartedAnswer { task }))
    }

    /// Whether a snapshot is of a group that was given up.
    pub(super) async fn is_stray_member(&self, row: &SnapshotRow) -> Result<bool> {
        let Some(group) = row.group.as_deref().and_then(|group| group.parse().ok()) else {
            return Ok(false);
        };
        match self.catalog.group_snapshot(group).await {
            Ok(_) => Ok(false),
            Err(CatalogError::NotFound { .. }) => Ok(true),
            Err(error) => Err(catalog_error(error)),
        }
    }
}

fn not_held(volume: &str) -> OperationError {
    OperationError::new(
        ErrorKind::Refused,
        format!("the pause of volume {volume} did not hold: it is busy, or its owner changed"),
    )
}
