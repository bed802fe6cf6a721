//! Tasks as operations begin and end them. What becomes of them in between the leader finds out: `upkeep/tasks.rs`.
//!
//! Nothing waits for a task: an operation whose task cannot be written is carried out without one.

use crate::host::Host;
use catalog::{CatalogError, TaskRow, TaskStatus};
use std::future::Future;
use std::rc::Rc;
use vocab::{NodeId, SnapshotId, StoreId, VolumeId};
use world::Duration;

/// Kinds of tasks, as people and programs see them: docs/operating/tasks.md.
pub(crate) mod kind {
    pub(crate) const VOLUME_DELETE: &str = "volume-delete";
    pub(crate) const SNAPSHOT_DELETE: &str = "snapshot-delete";
    pub(crate) const VOLUME_CLONE: &str = "volume-clone";
    pub(crate) const VOLUME_RESTORE: &str = "volume-restore";
    pub(crate) const NODE_DRAIN: &str = "node-drain";
    pub(crate) const STORE_DRAIN: &str = "store-drain";
    pub(crate) const STORE_REMOVE: &str = "store-remove";
    pub(crate) const DISK_ADD: &str = "disk-add";
    pub(crate) const DISK_REPLACE: &str = "disk-replace";
    pub(crate) const REPAIR: &str = "repair";
    pub(crate) const BALANCE: &str = "balance";
    pub(crate) const SCRUB: &str = "scrub";
    pub(crate) const CATALOG_MOVE: &str = "catalog-move";
    pub(crate) const AUTHORITY_ROTATE: &str = "authority-rotate";
}

/// Patience with the catalog when a task is begun or ended.
const PATIENCE: Duration = Duration::from_secs(3);
/// Attempts to end a task that an operation has carried out, and the pause between two.
const END_TRIES: u32 = 20;
const END_PAUSE: Duration = Duration::from_secs(2);

/// What a volume is called in tasks by its id.
pub(crate) fn volume_subject(id: VolumeId) -> String {
    format!("volume/{}", id.0)
}

/// What a snapshot is called in tasks by its id.
pub(crate) fn snapshot_subject(id: SnapshotId) -> String {
    format!("snapshot/{}", id.0)
}

/// The same of a node.
pub(crate) fn node_subject(id: NodeId) -> String {
    format!("node/{}", id.0)
}

/// The same of a store, whose name is its id.
pub(crate) fn store_subject(id: StoreId) -> String {
    format!("store/{}", id.0)
}

/// The number in a subject.
pub(crate) fn number_of(subject: &str) -> Option<u64> {
    subject.split_once('/')?.1.parse().ok()
}

/// A task of a kind about a thing that is called `entity` and is `subject` by id.
pub(crate) fn new_task(kind: &str, entity: impl Into<String>, subject: String) -> TaskRow {
    TaskRow {
        kind: kind.to_owned(),
        entity: entity.into(),
        subject,
        ..TaskRow::default()
    }
}

/// A task that ends with this node's part in it.
pub(crate) struct Carried {
    host: Rc<Host>,
    id: Option<u64>,
}

impl Carried {
    fn change(&self, change: impl Fn(TaskRow) -> TaskRow + 'static) {
        let Some(id) = self.id else { return };
        let host = self.host.clone();
        self.host.spawn(async move {
            for _ in 0..END_TRIES {
                match host.catalog.change_task(id, &change).await {
                    Ok(_) | Err(CatalogError::NotFound { .. }) => return,
                    Err(error) => tracing::debug!(task = id, %error, "the task is told of later"),
                }
                host.world.sleep(END_PAUSE).await;
            }
        });
    }

    /// It is so far.
    pub(crate) fn is_at(&self, done: u64, total: u64) {
        let now_ms = self.host.world.clock.unix_ms();
        self.change(move |row| TaskRow {
            done,
            total,
            updated_ms: now_ms,
            ..row
        });
    }

    /// It is over, and so is the task.
    pub(crate) fn end<T, E: std::fmt::Display>(&self, result: &Result<T, E>, done: &str) {
        let now_ms = self.host.world.clock.unix_ms();
        let (status, message) = match result {
            Ok(_) => (TaskStatus::Succeeded, done.to_owned()),
            Err(error) => (TaskStatus::Failed, error.to_string()),
        };
        self.change(move |row| row.ended(status, message.clone(), now_ms));
    }

    /// This node's part is over; the leader sees to the rest. What failed has no rest.
    pub(crate) fn hand_over<T, E: std::fmt::Display>(&self, result: &Result<T, E>, next: &str) {
        match result {
            Ok(_) => {
                let next = next.to_owned();
                self.change(move |row| TaskRow {
                    run: 0,
                    message: next.clone(),
                    ..row
                });
            }
            Err(_) => self.end(result, ""),
        }
    }
}

impl Host {
    /// Begins a task for who asks now, or finds the one that is there. Its id; nothing when the catalog does not answer.
    pub(crate) async fn begin_task(&self, task: TaskRow) -> Option<u64> {
        if !self.options.tasks {
            return None;
        }
        let asker = self.askers.now();
        let now_ms = self.world.clock.unix_ms();
        let task = TaskRow {
            who: asker.who,
            request: asker.request,
            node: self.options.name.clone(),
            queued_ms: now_ms,
            updated_ms: now_ms,
            ..task
        };
        match self.world.timeout(PATIENCE, self.write_task(&task)).await {
            Ok(Ok(id)) => return Some(id),
            Ok(Err(error)) => {
                tracing::warn!(kind = task.kind, entity = task.entity, %error, "no task tells of it");
            }
            Err(_) => {
                let error = "the catalog does not answer";
                tracing::warn!(
                    kind = task.kind,
                    entity = task.entity,
                    error,
                    "no task tells of it"
                );
            }
        }
        None
    }

    async fn write_task(&self, task: &TaskRow) -> Result<u64, CatalogError> {
        let (row, new) = self.catalog.begin_task(task).await?;
        if new {
            tracing::info!(
                task = row.id,
                kind = row.kind,
                entity = row.entity,
                "task begun"
            );
        } else if !row.cancel.is_empty() {
            // Asked for again before anybody has seen that it was to stop.
            let again = |row| TaskRow {
                cancel: String::new(),
                ..row
            };
            self.catalog.change_task(row.id, again).await?;
        }
        Ok(row.id)
    }

    /// Begins a task that ends when this process does.
    pub(crate) async fn carry(self: &Rc<Self>, task: TaskRow) -> Carried {
        let now_ms = self.world.clock.unix_ms();
        let task = TaskRow {
            status: TaskStatus::Running,
            started_ms: now_ms,
            run: self.lease.start(),
            ..task
        };
        Carried {
            host: self.clone(),
            id: self.begin_task(task).await,
        }
    }

    /// Carries something out as a task from its beginning to its end.
    pub(crate) async fn as_task<T, E: std::fmt::Display>(
        self: &Rc<Self>,
        task: TaskRow,
        done: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let carried = self.carry(task).await;
        let result = work.await;
        carried.end(&result, done);
        result
    }
}
