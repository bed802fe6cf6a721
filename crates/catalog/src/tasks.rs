//! What takes time in the cluster: a row per task, bounded in number, kept for a while after its end.
//!
//! Invariants
//! - Of one kind about one thing at most one task is open: a row of its own ([`claim_key`]) names it while it is.
//! - A task that has ended does not change any more, and gives its claim up in the transaction that ends it.
//! - Ids grow by one. A task is deleted at the latest when [`ROWS_MAX`] newer ones were begun, whoever leads or does not, and with one
//!   that is open its claim.
//! - Whoever begins one, wants one cancelled, or hands one over to the leader changes the head; the leader looks at that alone while
//!   nothing happens.
//!
//! Nothing is planned from these rows but that a balance rests which was cancelled: they tell, and are neither noted on the disks
//! nor backed up. Who writes them: `node`, `upkeep/tasks.rs`.

use crate::access::{Catalog, CatalogError, Transaction, Versioned, number_in};
use crate::kv::{Compare, Op, Outcome, Revision};
use crate::rows::{Row, numbered};
use serde::{Deserialize, Serialize};

/// Tasks that the leader keeps: about half a MiB.
pub const TASKS_MAX: usize = 1000;
/// Rows at most, also while nobody leads.
const ROWS_MAX: u64 = 4000;
/// Tasks written at once: each is a put and, at its end, a deletion, and as many compares; etcd takes 128 of each.
pub const TASKS_AT_ONCE: usize = 40;
/// Rounds of a change that others were faster than.
const ROUNDS_MAX: usize = 32;
/// Longest text in a row, in characters.
const TEXT_CHARS_MAX: usize = 300;

/// How far a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// Nothing of it was seen to happen yet.
    #[default]
    Queued,
    /// It is being worked on.
    Running,
    /// It has done what it should.
    Succeeded,
    /// It will not; the message says why.
    Failed,
    /// Somebody wanted it to stop.
    Cancelled,
}

impl TaskStatus {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it goes on.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// A task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    /// Its number.
    pub id: u64,
    /// What kind, such as `volume-delete`.
    pub kind: String,
    /// What it is about, by name, such as `volume/db`.
    pub entity: String,
    /// The same by id, such as `volume/12`: names may be used again.
    pub subject: String,
    /// How far it is.
    pub status: TaskStatus,
    /// What is done.
    #[serde(default)]
    pub done: u64,
    /// Of how much; 0: it is not known.
    #[serde(default)]
    pub total: u64,
    /// Of what: `bytes`, `parts`, `groups`, `records`, `extents`, `nodes`, `moves`.
    #[serde(default)]
    pub unit: String,
    /// What it is at, or how it ended; for people.
    #[serde(default)]
    pub message: String,
    /// The task it is a part of.
    #[serde(default)]
    pub parent: Option<u64>,
    /// When it was begun, Unix milliseconds.
    pub queued_ms: u64,
    /// When it was first seen to happen; 0: not yet.
    #[serde(default)]
    pub started_ms: u64,
    /// When this row was written.
    pub updated_ms: u64,
    /// When it ended; 0: not yet.
    #[serde(default)]
    pub ended_ms: u64,
    /// Who asked for it; empty: nobody, the cluster does it by itself.
    #[serde(default)]
    pub who: String,
    /// The request that asked for it.
    #[serde(default)]
    pub request: String,
    /// The node that works on it or sees to it.
    #[serde(default)]
    pub node: String,
    /// The run of that node's process, if the task ends with it; 0: whoever leads goes on with it.
    #[serde(default)]
    pub run: u64,
    /// The lineage whose space a deletion gives back.
    #[serde(default)]
    pub lineage: u64,
    /// Who wants it to stop; empty: nobody.
    #[serde(default)]
    pub cancel: String,
}

impl Row for TaskRow {
    const PREFIX: &'static str = "task/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.id)
    }
}

impl TaskRow {
    /// Ends it.
    #[must_use]
    pub fn ended(mut self, status: TaskStatus, message: impl Into<String>, now_ms: u64) -> Self {
        assert!(!status.is_open(), "an end is one");
        self.status = status;
        self.message = message.into();
        self.ended_ms = now_ms.max(1);
        self.updated_ms = now_ms;
        if status == TaskStatus::Succeeded {
            self.done = self.total;
        }
        self
    }
}

/// The last id given, and how often somebody wanted a task cancelled, or handed one over to the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHead {
    /// Id of the newest task.
    pub last: u64,
    /// Grows with every wish, and every task that is handed over.
    #[serde(default)]
    pub wishes: u64,
}

impl Row for TaskHead {
    const PREFIX: &'static str = "tasks";
    fn key(&self) -> String {
        Self::PREFIX.to_owned()
    }
}

impl TaskHead {
    /// The next one, that the leader hears.
    fn wished(&self) -> Self {
        Self {
            wishes: self.wishes + 1,
            ..self.clone()
        }
    }
}

/// A change of tasks that were read: those that end give their claims up.
fn changed(changes: &[(&Versioned<TaskRow>, &TaskRow)]) -> Transaction {
    let mut change = Transaction::new();
    for (known, row) in changes {
        assert!(known.row.status.is_open(), "what has ended stays as it is");
        change = change.replace(known, &within_bounds(row));
        if !row.status.is_open() {
            change = change.free_name(claim_key(row));
        }
    }
    change
}

/// The row that names the open task of a kind about a thing.
fn claim_key(row: &TaskRow) -> String {
    format!("task-of/{}/{}", row.kind, row.subject)
}

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// With no text that is too long.
fn within_bounds(row: &TaskRow) -> TaskRow {
    TaskRow {
        entity: bounded(&row.entity),
        subject: bounded(&row.subject),
        message: bounded(&row.message),
        who: bounded(&row.who),
        request: bounded(&row.request),
        cancel: bounded(&row.cancel),
        ..row.clone()
    }
}

fn missing(id: u64) -> CatalogError {
    CatalogError::NotFound {
        kind: "task",
        name: id.to_string(),
    }
}

impl Catalog {
    /// Begins a task with the next id, or finds the open one of this kind about this thing. Whether it is new.
    ///
    /// # Errors
    /// [`CatalogError::Contended`], [`CatalogError::Kv`], [`CatalogError::Damaged`]. A retry is safe.
    pub async fn begin_task(&self, new: &TaskRow) -> Result<(TaskRow, bool), CatalogError> {
        let new = within_bounds(new);
        let claim = claim_key(&new);
        for _ in 0..ROUNDS_MAX {
            let claimed = self.kv().get(&claim).await?;
            let held = match &claimed {
                Some(entry) => {
                    let id = number_in(entry)?;
                    if let Some(open) = self.open_task(id).await? {
                        return Ok((open, false));
                    }
                    // Its task was deleted to keep the number of rows.
                    Compare::Version(claim.clone(), entry.version)
                }
                None => Compare::Absent(claim.clone()),
            };
            let head = self.read::<TaskHead>(TaskHead::PREFIX).await?;
            let mut next = head
                .as_ref()
                .map(|head| head.row.clone())
                .unwrap_or_default();
            next.last += 1;
            let row = TaskRow {
                id: next.last,
                ..new.clone()
            };
            let mut change = match &head {
                Some(head) => Transaction::new().replace(head, &next),
                None => Transaction::new().create(&next),
            }
            .create(&row)
            .when(held)
            .write(Op::Put(claim.clone(), row.id.to_string().into_bytes()));
            if let Some(old) = row.id.checked_sub(ROWS_MAX).filter(|old| *old > 0) {
                change = self.evict(change, old, &claim).await?;
            }
            if self.commit(change).await?.is_some() {
                return Ok((row, true));
            }
        }
        Err(CatalogError::Contended)
    }

    /// Has a change delete a task, and with one that is open the claim that names it. `claim` is written by the change itself.
    async fn evict(
        &self,
        change: Transaction,
        id: u64,
        claim: &str,
    ) -> Result<Transaction, CatalogError> {
        let key = numbered(TaskRow::PREFIX, id);
        let old = match self.read::<TaskRow>(&key).await {
            Ok(found) => found.map(|found| claim_key(&found.row)),
            // Nobody knows what it was about; its row goes nevertheless.
            Err(CatalogError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let change = change.free_name(key);
        let Some(old) = old.filter(|old| old != claim) else {
            return Ok(change);
        };
        match self.kv().get(&old).await? {
            // Given up while this was read, or taken over: then the change is made anew.
            Some(entry) if number_in(&entry).is_ok_and(|named| named == id) => Ok(change
                .when(Compare::Version(old.clone(), entry.version))
                .free_name(old)),
            _ => Ok(change),
        }
    }

    async fn open_task(&self, id: u64) -> Result<Option<TaskRow>, CatalogError> {
        let found = self.read::<TaskRow>(&numbered(TaskRow::PREFIX, id)).await?;
        let found = found.map(|found| found.row);
        Ok(found.filter(|row| row.status.is_open()))
    }

    /// What changes whenever a task is begun or is to be cancelled.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn task_head(&self) -> Result<Revision, CatalogError> {
        let head = self.read::<TaskHead>(TaskHead::PREFIX).await?;
        Ok(head.map_or(0, |head| head.version))
    }

    /// The task of this id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn task(&self, id: u64) -> Result<Versioned<TaskRow>, CatalogError> {
        let found = self.read::<TaskRow>(&numbered(TaskRow::PREFIX, id)).await?;
        found.ok_or_else(|| missing(id))
    }

    /// Writes tasks that were read, at most [`TASKS_AT_ONCE`]: all of them, or with `None` none, because one has changed since.
    ///
    /// # Errors
    /// [`CatalogError::Kv`].
    pub async fn write_tasks(
        &self,
        changes: &[(&Versioned<TaskRow>, &TaskRow)],
    ) -> Result<Option<Revision>, CatalogError> {
        assert!(changes.len() <= TASKS_AT_ONCE, "a write is bounded");
        self.commit(changed(changes)).await
    }

    /// Changes an open task; one that has ended stays as it is. Returns it as it then stands. The leader hears of one whose `run`
    /// changes.
    ///
    /// # Errors
    /// `change`'s, [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn change_task(
        &self,
        id: u64,
        change: impl Fn(TaskRow) -> TaskRow,
    ) -> Result<TaskRow, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.task(id).await?;
            if !found.row.status.is_open() {
                return Ok(found.row);
            }
            let row = change(found.row.clone());
            let mut transaction = changed(&[(&found, &row)]);
            // The leader passes over what a process carries out, until it hears that it is handed over.
            if row.run != found.row.run && row.status.is_open() {
                let head = self.read::<TaskHead>(TaskHead::PREFIX).await?;
                let head = head.ok_or_else(|| missing(id))?;
                transaction = transaction.replace(&head, &head.row.wished());
            }
            if self.commit(transaction).await?.is_some() {
                return Ok(row);
            }
        }
        Err(CatalogError::Contended)
    }

    /// Says that a task is to stop: whoever works on it sees to that. The leader hears of it.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Refused`] when it has ended, [`CatalogError::Contended`],
    /// [`CatalogError::Kv`]. A retry is safe.
    pub async fn cancel_task(&self, id: u64, who: &str) -> Result<TaskRow, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.task(id).await?;
            if !found.row.status.is_open() {
                let status = found.row.status.name();
                return Err(CatalogError::Refused(format!(
                    "task {id} has ended: it {status}"
                )));
            }
            if !found.row.cancel.is_empty() {
                return Ok(found.row);
            }
            let head = self.read::<TaskHead>(TaskHead::PREFIX).await?;
            let head = head.ok_or_else(|| missing(id))?;
            let wished = head.row.wished();
            let row = within_bounds(&TaskRow {
                cancel: who.to_owned(),
                ..found.row.clone()
            });
            let change = Transaction::new()
                .replace(&found, &row)
                .replace(&head, &wished);
            if self.commit(change).await?.is_some() {
                return Ok(row);
            }
        }
        Err(CatalogError::Contended)
    }

    /// Deletes tasks, at most [`TASKS_AT_ONCE`], that have ended.
    ///
    /// # Errors
    /// [`CatalogError::Kv`].
    pub async fn forget_tasks(&self, ids: &[u64]) -> Result<(), CatalogError> {
        assert!(ids.len() <= TASKS_AT_ONCE, "a write is bounded");
        let gone = ids
            .iter()
            .map(|id| Op::Delete(numbered(TaskRow::PREFIX, *id)));
        match self.kv().txn(Vec::new(), gone.collect()).await? {
            Outcome::Committed(_) | Outcome::Conflict => Ok(()),
        }
    }
}
