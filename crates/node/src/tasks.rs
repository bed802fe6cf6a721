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
    pub(crate) const GROUP_SNAPSHOT_DELETE: &str = "group-snapshot-delete";
    pub(crate) const VOLUME_RESIZE: &str = "volume-resize";
    pub(crate) const VOLUME_DRAIN: &str = "volume-drain";
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
    pub(crate) const STORE_SCRUB: &str = "store-scrub";
    pub(crate) const UPGRADE: &str = "upgrade";
    pub(crate) const CATALOG_MOVE: &str = "catalog-move";
    pub(crate) const AUTHORITY_ROTATE: &str = "authority-rotate";
}

/// Patience with the catalog when a task is begun or ended.
const PATIENCE: Duration = Duration::from_secs(3);
/// Attempts to end a task that an operation has carried out, and the pause between two.
const TELL_TRIES: u64 = 20;
const END_PAUSE: Duration = Duration::from_secs(2);
/// Pause between two looks whether a task is to stop that this process carries out.
const WISH_PAUSE: Duration = Duration::from_secs(4);

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

/// How what was done has ended, and what there is to say.
fn outcome<T, E: std::fmt::Display>(result: &Result<T, E>, done: &str) -> (TaskStatus, String) {
    match result {
        Ok(_) => (TaskStatus::Succeeded, done.to_owned()),
        Err(error) => (TaskStatus::Failed, error.to_string()),
    }
}

impl Carried {
    /// Its id; nothing when there is none.
    pub(crate) fn id(&self) -> Option<u64> {
        self.id
    }

    /// Tells the catalog, at most so many times: what is the last of it until it knows, however long it is away.
    fn change(&self, tries: u64, change: impl Fn(TaskRow) -> TaskRow + 'static) {
        let Some(id) = self.id else { return };
        let host = self.host.clone();
        self.host.spawn(async move {
            for _ in 0..tries {
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
        self.change(TELL_TRIES, move |row| TaskRow {
            done,
            total,
            updated_ms: now_ms,
            ..row
        });
    }

    /// It is over, and so is the task.
    pub(crate) fn end<T, E: std::fmt::Display>(&self, result: &Result<T, E>, done: &str) {
        self.change(u64::MAX, self.ended(outcome(result, done)));
    }

    /// As [`Self::end`], and the catalog knows when this returns, unless it is away: for what may be tried again at once, which must not
    /// find this one open.
    pub(crate) async fn end_now<T, E: std::fmt::Display>(&self, result: &Result<T, E>, done: &str) {
        let Some(id) = self.id else { return };
        let end = self.ended(outcome(result, done));
        let told = self.host.catalog.change_task(id, &end);
        let told = self.host.world.timeout(PATIENCE, told).await;
        if !matches!(told, Ok(Ok(_) | Err(CatalogError::NotFound { .. }))) {
            self.change(u64::MAX, end);
        }
    }

    fn ended(
        &self,
        (status, message): (TaskStatus, String),
    ) -> impl Fn(TaskRow) -> TaskRow + use<> {
        let now_ms = self.host.world.clock.unix_ms();
        move |row| row.ended(status, message.clone(), now_ms)
    }

    /// It is over because somebody wanted that.
    pub(crate) fn cancelled(&self, message: &str) {
        let end = (TaskStatus::Cancelled, message.to_owned());
        self.change(u64::MAX, self.ended(end));
    }

    /// This node's part is over; the leader sees to the rest. What failed has no rest.
    pub(crate) fn hand_over<T, E: std::fmt::Display>(&self, result: &Result<T, E>, next: &str) {
        match result {
            Ok(_) => {
                let next = next.to_owned();
                self.change(u64::MAX, move |row| TaskRow {
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

    /// Waits until somebody wants a task that this process carries out to stop: who. For ever, where there is none.
    pub(crate) async fn wished(&self, task: Option<u64>) -> String {
        let Some(id) = task else {
            return std::future::pending().await;
        };
        loop {
            self.world.sleep(WISH_PAUSE).await;
            if let Ok(found) = self.catalog.task(id).await
                && !found.row.cancel.is_empty()
            {
                return found.row.cancel;
            }
        }
    }

    /// Whether somebody asked for what is done now. What is a step of something else is nobody's, and has no task of its own.
    pub(crate) fn is_asked_for(&self) -> bool {
        !self.askers.now().who.is_empty()
    }

    /// Carries something out for who asks now, also when nobody waits for it any more; nothing when the node stops meanwhile.
    pub(crate) async fn to_the_end<T: 'static>(
        self: &Rc<Self>,
        work: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        let (promise, outcome) = world::sync::promise();
        let work = self.still_on_behalf(async move { promise.fulfil(work.await) });
        self.spawn(work);
        outcome.await
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
