//! The audit log: who has changed what. Appended in batches, bounded, oldest entries go first.
//!
//! Drivers have a log of their own, with numbers of its own: however much they change, what people did stays as long as without them.
//!
//! It is neither noted on the disks nor needed by anything: a catalog that is made anew from the disks begins an empty one.

use crate::access::{Catalog, CatalogError, decode, encode, number_in};
use crate::kv::{Compare, Op, Outcome};
use crate::rows::{Row, numbered};
use serde::{Deserialize, Serialize};

/// Entries that are kept of each log: about 2 MiB in the catalog, and at most 36 MiB, of 9 KiB each.
pub const AUDIT_ROWS_MAX: u64 = 4096;
/// Entries of one append: each is a put and, when the log is full, a deletion, beside the counter; etcd takes 128 changes.
pub const AUDIT_BATCH_MAX: usize = 48;
/// Rounds of compare-and-swap: nodes append at the same time.
const ROUNDS_MAX: usize = 64;
/// A put and a deletion for each, and the counter.
const _: () = assert!(AUDIT_BATCH_MAX * 2 < 128);

/// Whose entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditLog {
    /// Of people, and of whatever is no driver.
    People,
    /// Of drivers: tokens and certificates of scope `csi`.
    Drivers,
}

impl AuditLog {
    fn prefix(self) -> &'static str {
        match self {
            Self::People => AuditRow::PREFIX,
            Self::Drivers => "audit-driver/",
        }
    }

    /// The row with the last number given.
    fn counter(self) -> &'static str {
        match self {
            Self::People => "audit-last",
            Self::Drivers => "audit-driver-last",
        }
    }
}

/// What was done. `entry` is what the API shows, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Grows by one from entry to entry of its log.
    pub id: u64,
    /// What was done, when and by whom.
    pub entry: serde_json::Value,
}

impl Row for AuditRow {
    const PREFIX: &'static str = "audit/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.id)
    }
}

impl Catalog {
    /// Appends entries, at most [`AUDIT_BATCH_MAX`], and forgets as many beyond [`AUDIT_ROWS_MAX`]. Not idempotent: after
    /// [`CatalogError::Kv`] they may be there, and repeating it may have them there twice.
    ///
    /// # Errors
    /// [`CatalogError::Contended`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn append_audit(
        &self,
        log: AuditLog,
        entries: &[serde_json::Value],
    ) -> Result<(), CatalogError> {
        assert!(
            entries.len() <= AUDIT_BATCH_MAX,
            "the caller makes batches that fit into a transaction"
        );
        for _ in 0..ROUNDS_MAX {
            let counter = self.kv().get(log.counter()).await?;
            let last = counter.as_ref().map(number_in).transpose()?.unwrap_or(0);
            let compare = match &counter {
                Some(entry) => Compare::Version(log.counter().to_owned(), entry.version),
                None => Compare::Absent(log.counter().to_owned()),
            };
            let next = last + entries.len() as u64;
            let number = next.to_string().into_bytes();
            let mut changes = vec![Op::Put(log.counter().to_owned(), number)];
            for (id, entry) in (last + 1..).zip(entries) {
                let entry = entry.clone();
                let row = AuditRow { id, entry };
                changes.push(Op::Put(numbered(log.prefix(), id), encode(&row)));
                if let Some(old) = id.checked_sub(AUDIT_ROWS_MAX).filter(|old| *old > 0) {
                    changes.push(Op::Delete(numbered(log.prefix(), old)));
                }
            }
            if let Outcome::Committed(_) = self.kv().txn(vec![compare], changes).await? {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    /// Entries, newest first: at most `limit`, older than `before` when that is given.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn audit(
        &self,
        log: AuditLog,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, CatalogError> {
        let last = self.resolve(log.counter()).await?.unwrap_or(0);
        let end = before.map_or(last, |before| last.min(before.saturating_sub(1)));
        let begin = end.saturating_sub(limit as u64);
        let mut rows = Vec::new();
        let mut after = numbered(log.prefix(), begin);
        while rows.len() < limit {
            let left = limit - rows.len();
            let page = self.kv().range(log.prefix(), Some(&after), left).await?;
            for entry in &page.entries {
                let row: AuditRow = decode(&entry.key, &entry.value)?;
                if row.id <= end {
                    rows.push(row);
                }
            }
            match page.entries.last() {
                Some(entry) if page.more && entry.key < numbered(log.prefix(), end) => {
                    after.clone_from(&entry.key);
                }
                _ => break,
            }
        }
        rows.reverse();
        Ok(rows)
    }
}
