//! Typed reads and transactions over [`Kv`].

use crate::expected::Expected;
use crate::kv::{Compare, Entry, Kv, KvError, Op, Outcome, Revision};
use crate::rows::Row;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::rc::Rc;
use vocab::{Epoch, SnapshotId};

/// Why a catalog operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The store below failed. After `Unavailable` the change may or may not be made; repeating the
    /// operation is safe.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// A row does not decode.
    #[error("catalog row {key} is damaged: {reason}")]
    Damaged {
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
    /// No such thing.
    #[error("there is no {kind} {name}")]
    NotFound {
        /// `volume`, `container` and so on.
        kind: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("{kind} {name} already exists")]
    Exists {
        /// `volume`, `container` and so on.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The name stands for something else. Says what.
    #[error("{0}")]
    Taken(String),
    /// Other clients have the volume attached.
    #[error("volume {volume} is attached to {clients}; detach it there first")]
    InUse {
        /// The volume.
        volume: String,
        /// Who has it.
        clients: String,
    },
    /// The thing is in use, or its state forbids the change.
    #[error("{0}")]
    Refused(String),
    /// A container's quota is given out. Says what would help.
    #[error("{0}")]
    OverQuota(String),
    /// Somebody has changed it since it was seen. Nothing was changed.
    #[error(
        "{kind} {name} is not at version {seen} any more: read it again, and repeat the change on top of what it is now"
    )]
    Changed {
        /// `volume`, `container` and so on.
        kind: &'static str,
        /// What was to be changed.
        name: String,
        /// The version that was expected.
        seen: Revision,
    },
    /// A newer owner has taken the volume over. Final for the caller's term.
    #[error("the volume has moved on to {current}")]
    StaleOwner {
        /// The present term.
        current: Epoch,
    },
    /// Others changed the same rows again and again. Retry later.
    #[error("the catalog row kept changing; try again")]
    Contended,
}

/// A row with the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The row.
    pub row: T,
    /// Its version.
    pub version: Revision,
}

/// The catalog. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    kv: Rc<dyn Kv>,
    /// What the change that runs now is made on top of: of all clones together.
    pub(crate) expected: Rc<RefCell<Option<Rc<Expected>>>>,
    /// Ids that only this process has: of all clones together.
    snapshot_ids: Rc<RefCell<VecDeque<u64>>>,
}

/// Bound on the rounds of a compare-and-swap loop. Each lost round means that somebody else won one.
pub(crate) const ROUNDS_MAX: usize = 64;
/// Ids of snapshots that are drawn at a time.
const SNAPSHOT_IDS: u64 = 16;
/// Rows read by one range call.
const PAGE_ROWS: usize = 500;

pub(crate) fn decode<T: Row>(key: &str, value: &[u8]) -> Result<T, CatalogError> {
    let damaged = |error: serde_json::Error| CatalogError::Damaged {
        key: key.to_owned(),
        reason: error.to_string(),
    };
    serde_json::from_slice(value).map_err(damaged)
}

pub(crate) fn encode<T: Row>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows have string keys only")
}

/// Conditions and changes, collected and then committed at once.
#[derive(Default)]
pub struct Transaction {
    pub(crate) compares: Vec<Compare>,
    pub(crate) changes: Vec<Op>,
}

impl Transaction {
    /// An empty transaction.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The row must still be the one read.
    #[must_use]
    pub fn unchanged<T: Row>(mut self, read: &Versioned<T>) -> Self {
        self.compares
            .push(Compare::Version(read.row.key(), read.version));
        self
    }

    /// Replaces a row that was read; it must still be that one.
    #[must_use]
    pub fn replace<T: Row>(mut self, read: &Versioned<T>, row: &T) -> Self {
        debug_assert_eq!(read.row.key(), row.key());
        self.compares
            .push(Compare::Version(read.row.key(), read.version));
        let mut row = row.clone();
        row.stamp(&read.row, read.version);
        self.changes.push(Op::Put(row.key(), encode(&row)));
        self
    }

    /// Writes a row whatever was there.
    #[must_use]
    pub fn put<T: Row>(mut self, row: &T) -> Self {
        self.changes.push(Op::Put(row.key(), encode(row)));
        self
    }

    /// Writes a row that must not exist yet.
    #[must_use]
    pub fn create<T: Row>(mut self, row: &T) -> Self {
        self.compares.push(Compare::Absent(row.key()));
        self.changes.push(Op::Put(row.key(), encode(row)));
        self
    }

    /// Deletes a row that was read; it must still be that one.
    #[must_use]
    pub fn remove<T: Row>(mut self, read: &Versioned<T>) -> Self {
        self.compares
            .push(Compare::Version(read.row.key(), read.version));
        self.changes.push(Op::Delete(read.row.key()));
        self
    }

    /// Reserves a name for an id; the name must be free.
    #[must_use]
    pub fn claim_name(mut self, key: String, id: u64) -> Self {
        self.compares.push(Compare::Absent(key.clone()));
        self.changes.push(Op::Put(key, id.to_string().into_bytes()));
        self
    }

    /// There must be no row at this key.
    #[must_use]
    pub fn absent(self, key: String) -> Self {
        self.when(Compare::Absent(key))
    }

    /// One more condition.
    #[must_use]
    pub(crate) fn when(mut self, condition: Compare) -> Self {
        self.compares.push(condition);
        self
    }

    /// One more change.
    #[must_use]
    pub(crate) fn write(mut self, change: Op) -> Self {
        self.changes.push(change);
        self
    }

    /// Frees a name.
    #[must_use]
    pub fn free_name(mut self, key: String) -> Self {
        self.changes.push(Op::Delete(key));
        self
    }
}

impl Catalog {
    /// A catalog in `kv`.
    #[must_use]
    pub fn new(kv: Rc<dyn Kv>) -> Self {
        Self {
            kv,
            expected: Rc::default(),
            snapshot_ids: Rc::default(),
        }
    }

    /// The store below, for leases and watches.
    #[must_use]
    pub fn kv(&self) -> &Rc<dyn Kv> {
        &self.kv
    }

    /// The row at `key`.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`]; in [`Catalog::expecting`], [`CatalogError::Changed`].
    pub async fn read<T: Row>(&self, key: &str) -> Result<Option<Versioned<T>>, CatalogError> {
        let entry = self.kv.get(key).await?;
        self.check_expected(key, entry.as_ref())?;
        let Some(entry) = entry else {
            return Ok(None);
        };
        Ok(Some(Versioned {
            row: decode(key, &entry.value)?,
            version: entry.version,
        }))
    }

    /// All rows of a kind, in key order. Not one point in time when there are more than 500.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn list<T: Row>(&self) -> Result<Vec<Versioned<T>>, CatalogError> {
        let mut rows: Vec<Versioned<T>> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let (part, more) = self.list_after(after.as_deref(), PAGE_ROWS).await?;
            after = part.last().map(|last: &Versioned<T>| last.row.key());
            rows.extend(part);
            if !more || after.is_none() {
                return Ok(rows);
            }
        }
    }

    /// As [`Catalog::list`], without rows that cannot be read: their keys.
    ///
    /// # Errors
    /// [`CatalogError::Kv`].
    pub async fn list_sound<T: Row>(
        &self,
    ) -> Result<(Vec<Versioned<T>>, Vec<String>), CatalogError> {
        let (mut rows, mut damaged) = (Vec::new(), Vec::new());
        let mut after: Option<String> = None;
        loop {
            let page = self
                .kv
                .range(T::PREFIX, after.as_deref(), PAGE_ROWS)
                .await?;
            after = page.entries.last().map(|last| last.key.clone());
            for entry in page.entries {
                match decode(&entry.key, &entry.value) {
                    Ok(row) => rows.push(Versioned {
                        row,
                        version: entry.version,
                    }),
                    Err(_) => damaged.push(entry.key),
                }
            }
            if !page.more || after.is_none() {
                return Ok((rows, damaged));
            }
        }
    }

    /// Rows of a kind after a key, at most so many, and whether more follow.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn list_after<T: Row>(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Versioned<T>>, bool), CatalogError> {
        let page = self
            .kv
            .range(T::PREFIX, after, limit.min(PAGE_ROWS))
            .await?;
        let rows = page.entries.iter().map(|entry| {
            Ok(Versioned {
                row: decode(&entry.key, &entry.value)?,
                version: entry.version,
            })
        });
        Ok((rows.collect::<Result<_, CatalogError>>()?, page.more))
    }

    /// Commits; `None` when a condition did not hold.
    ///
    /// # Errors
    /// [`CatalogError::Kv`]; in [`Catalog::expecting`], [`CatalogError::Changed`].
    pub async fn commit(&self, transaction: Transaction) -> Result<Option<Revision>, CatalogError> {
        let transaction = self.guard(transaction).await?;
        let met = self.met_by(&transaction);
        match self
            .kv
            .txn(transaction.compares, transaction.changes)
            .await?
        {
            Outcome::Committed(revision) => {
                if let Some(met) = met {
                    met.end();
                }
                Ok(Some(revision))
            }
            Outcome::Conflict => Ok(None),
        }
    }

    /// Changes one row: reads it, lets `change` edit it, writes it back, again if somebody else was
    /// faster. `change` returns whether there is anything to write. Returns the row as it then stands.
    ///
    /// # Errors
    /// `change`'s, [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn update<T: Row>(
        &self,
        kind: &'static str,
        key: &str,
        mut change: impl FnMut(&mut T) -> Result<bool, CatalogError>,
    ) -> Result<T, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let Some(read) = self.read::<T>(key).await? else {
                return Err(CatalogError::NotFound {
                    kind,
                    name: key.to_owned(),
                });
            };
            let mut row = read.row.clone();
            if !change(&mut row)? {
                return Ok(row);
            }
            if self
                .commit(Transaction::new().replace(&read, &row))
                .await?
                .is_some()
            {
                return Ok(row);
            }
        }
        Err(CatalogError::Contended)
    }

    /// The id that a name stands for.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn resolve(&self, key: &str) -> Result<Option<u64>, CatalogError> {
        let entry = self.kv.get(key).await?;
        entry.as_ref().map(number_in).transpose()
    }

    /// A number never given before under this counter's name; the first is 1.
    ///
    /// # Errors
    /// [`CatalogError::Contended`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn next_id(&self, counter: &str) -> Result<u64, CatalogError> {
        Ok(*self.next_ids(counter, 1).await?.start())
    }

    /// So many numbers, one after the other.
    async fn next_ids(
        &self,
        counter: &str,
        count: u64,
    ) -> Result<RangeInclusive<u64>, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let draw = self.draw(counter, count).await?;
            let numbers = draw.numbers.clone();
            let outcome = self.kv.txn(vec![draw.compare], vec![draw.put]).await?;
            if let Outcome::Committed(_) = outcome {
                return Ok(numbers);
            }
        }
        Err(CatalogError::Contended)
    }

    /// What draws so many numbers, once it is committed.
    pub(crate) async fn draw(&self, counter: &str, count: u64) -> Result<Draw, CatalogError> {
        let key = format!("counter/{counter}");
        let entry = self.kv.get(&key).await?;
        let (last, compare) = match &entry {
            None => (0, Compare::Absent(key.clone())),
            Some(entry) => {
                let last = number_in(entry)?;
                (last, Compare::Version(key.clone(), entry.version))
            }
        };
        let end = last
            .checked_add(count)
            .ok_or_else(|| CatalogError::Damaged {
                key: key.clone(),
                reason: "the counter is at its end".to_owned(),
            })?;
        Ok(Draw {
            numbers: last + 1..=end,
            given: entry.map_or(0, |entry| entry.version),
            compare,
            put: Op::Put(key, end.to_string().into_bytes()),
        })
    }

    /// The id of a snapshot that this process takes. Most are at hand: a log's barrier, which waits for the disk, must not wait for
    /// the catalog's disk before. Those that a process ends with are never given. Of two processes the later snapshot may have the
    /// lower id.
    ///
    /// # Errors
    /// As [`Catalog::next_id`].
    pub async fn next_snapshot_id(&self) -> Result<SnapshotId, CatalogError> {
        let at_hand = self.snapshot_ids.borrow_mut().pop_front();
        if let Some(id) = at_hand {
            return Ok(SnapshotId(id));
        }
        let mut drawn = self.next_ids("snapshot", SNAPSHOT_IDS).await?;
        let first = drawn.next().expect("at least one is drawn");
        self.snapshot_ids.borrow_mut().extend(drawn);
        Ok(SnapshotId(first))
    }
}

/// Numbers that nobody has until a transaction with the condition and the change is committed.
pub(crate) struct Draw {
    pub(crate) numbers: RangeInclusive<u64>,
    /// The revision that gave the number before.
    pub(crate) given: Revision,
    pub(crate) compare: Compare,
    pub(crate) put: Op,
}

/// The number that a row of a name or a counter is.
pub(crate) fn number_in(entry: &Entry) -> Result<u64, CatalogError> {
    let text = std::str::from_utf8(&entry.value).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| CatalogError::Damaged {
            key: entry.key.clone(),
            reason: "not a number".to_owned(),
        })
}
