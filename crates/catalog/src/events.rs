//! What happened in the cluster: a log of bounded length, newest last.
//!
//! Invariants
//! - Ids grow by one and are never used twice; what is older than [`EVENTS_MAX`] events is deleted with the write that makes it so.
//! - An append is one transaction: all of it is there, or nothing.

use crate::access::{Catalog, CatalogError, Transaction};
use crate::rows::{Row, numbered};
use serde::{Deserialize, Serialize};

/// Events that are kept.
pub const EVENTS_MAX: u64 = 1000;
/// Events of one append: with as many deletions and the head it fits a transaction of 128 changes.
pub const EVENTS_AT_ONCE: usize = 32;
/// Longest message and remedy, in characters: a thousand events take less than 2 MiB.
pub const TEXT_CHARS_MAX: usize = 500;
/// Rounds of an append that others were faster than.
const ROUNDS_MAX: usize = 8;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Info,
    /// A person should know.
    Warning,
    /// A person should act.
    Critical,
}

impl Severity {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Its number; given by the append.
    pub id: u64,
    /// When it happened, Unix milliseconds of the node that saw it.
    pub at_ms: u64,
    /// How much it matters.
    pub severity: Severity,
    /// What kind, such as `node-lost`: for programs.
    pub kind: String,
    /// What it is about, such as `node/node-3`, `store/4`, `volume/db` or `cluster`.
    pub entity: String,
    /// For people.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub remedy: Option<String>,
    /// Name of the node that saw it.
    pub node: String,
    /// How often it happened before it was written.
    pub count: u32,
}

impl Row for EventRow {
    const PREFIX: &'static str = "event/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.id)
    }
}

/// The last id given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct EventHead {
    last: u64,
}

impl Row for EventHead {
    const PREFIX: &'static str = "events";
    fn key(&self) -> String {
        Self::PREFIX.to_owned()
    }
}

impl Catalog {
    /// Appends events, at most [`EVENTS_AT_ONCE`], and gives them their ids. What may or may not have been written comes back as
    /// [`CatalogError::Kv`]: repeated, it is told twice.
    ///
    /// # Errors
    /// [`CatalogError::Contended`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn append_events(&self, events: &[EventRow]) -> Result<(), CatalogError> {
        assert!(events.len() <= EVENTS_AT_ONCE, "an append is bounded");
        for _ in 0..ROUNDS_MAX {
            let head = self.read::<EventHead>(EventHead::PREFIX).await?;
            let last = head.as_ref().map_or(0, |head| head.row.last);
            let next = EventHead {
                last: last + events.len() as u64,
            };
            let mut change = match &head {
                Some(head) => Transaction::new().replace(head, &next),
                None => Transaction::new().create(&next),
            };
            for (event, id) in events.iter().zip(last + 1..) {
                change = change.put(&EventRow {
                    id,
                    ..event.clone()
                });
                if let Some(old) = id.checked_sub(EVENTS_MAX) {
                    change = change.free_name(numbered(EventRow::PREFIX, old));
                }
            }
            if self.commit(change).await?.is_some() {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    /// Events after this id, oldest first, at most `limit`; without an id the newest ones.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn events(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<EventRow>, CatalogError> {
        let after = match after {
            Some(after) => after,
            None => {
                let head = self.read::<EventHead>(EventHead::PREFIX).await?;
                let last = head.map_or(0, |head| head.row.last);
                last.saturating_sub(limit as u64)
            }
        };
        let key = numbered(EventRow::PREFIX, after);
        let page = self.kv().range(EventRow::PREFIX, Some(&key), limit).await?;
        let row = |entry: &crate::kv::Entry| crate::access::decode(&entry.key, &entry.value);
        page.entries.iter().map(row).collect()
    }
}
