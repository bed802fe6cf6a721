//! Changes that are made only on top of what somebody has seen.
//!
//! Whoever carries out such a change wraps the future of it in [`Catalog::expecting`]. As long as that future runs, the row it is
//! about has a *version* that is compared wherever it is read and in the transaction that changes it.
//!
//! Invariants
//! - The comparison is part of the transaction: what is committed was made on top of the version, whatever happens beside it.
//! - The first transaction that changes the row ends the condition; the steps after it are those of a change that was begun.
//! - Another row of the same kind is never changed, instead or after it: a name may have been given to something else.
//! - What an operation leaves to a task of its own is not compared.
//!
//! A row's version is the revision that wrote it. Rows that the cluster itself writes all the time, which are those of volumes, keep
//! the one of the last change that people made ([`Row::edited`]).

use crate::access::{Catalog, CatalogError, Transaction, Versioned, decode};
use crate::kv::{Compare, Entry, Op, Revision};
use crate::rows::Row;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use world::LocalBoxFuture;

/// A row at the version that somebody has seen. Version 0: it did not exist.
#[derive(Debug)]
pub struct Expected {
    kind: &'static str,
    name: String,
    prefix: &'static str,
    key: String,
    version: Revision,
    edited: fn(&Entry) -> Result<Option<Revision>, CatalogError>,
    /// Whether the change was begun.
    met: Cell<bool>,
}

fn edited_in<T: Row>(entry: &Entry) -> Result<Option<Revision>, CatalogError> {
    Ok(decode::<T>(&entry.key, &entry.value)?.edited())
}

fn key_of(change: &Op) -> &str {
    match change {
        Op::Put(key, _) | Op::PutLeased(key, _, _) | Op::Delete(key) => key,
    }
}

fn compares(compare: &Compare, wanted: &str) -> bool {
    match compare {
        Compare::Version(key, _) | Compare::Absent(key) => key == wanted,
    }
}

impl Expected {
    /// The row of type `T` at `key`; `kind` and `name` are for people.
    #[must_use]
    pub fn new<T: Row>(
        kind: &'static str,
        name: impl Into<String>,
        key: String,
        version: Revision,
    ) -> Self {
        Self {
            kind,
            name: name.into(),
            prefix: T::PREFIX,
            key,
            version,
            edited: edited_in::<T>,
            met: Cell::new(false),
        }
    }

    /// The same of a change that was begun before: it goes on with this row, whatever its version is, and with no other one.
    #[must_use]
    pub fn begun(self) -> Self {
        self.end();
        self
    }

    fn changed(&self) -> CatalogError {
        CatalogError::Changed {
            kind: self.kind,
            name: self.name.clone(),
            seen: self.version,
        }
    }

    /// The change is begun: what follows is part of it.
    pub(crate) fn end(&self) {
        self.met.set(true);
    }

    /// Whether these changes change the row as people see it.
    fn is_met_by(&self, changes: &[Op]) -> bool {
        let own = |change: &&Op| key_of(change) == self.key;
        match changes.iter().find(own) {
            None => false,
            Some(Op::Delete(_)) => true,
            Some(Op::Put(key, value) | Op::PutLeased(key, value, _)) => {
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    version: 0,
                };
                let edited = (self.edited)(&entry).ok().flatten();
                edited.is_none_or(|edited| number(edited) != self.version)
            }
        }
    }
}

/// The version of a row that was last changed by people on top of this revision.
fn number(edited: Revision) -> Revision {
    edited.saturating_add(1)
}

/// A future whose transactions keep to a condition.
pub struct Expecting<'a, T> {
    catalog: Catalog,
    expected: Rc<Expected>,
    future: LocalBoxFuture<'a, T>,
}

impl<T> Future for Expecting<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let before = self.catalog.expected.replace(Some(self.expected.clone()));
        let polled = self.future.as_mut().poll(context);
        self.catalog.expected.replace(before);
        polled
    }
}

impl Catalog {
    /// Has the changes that `future` makes through this catalog, or a clone of it, made on top of what is expected. They fail with
    /// [`CatalogError::Changed`] otherwise, and then nothing of the row is changed. Dropping it is dropping `future`.
    pub fn expecting<'a, T>(
        &self,
        expected: Expected,
        future: LocalBoxFuture<'a, T>,
    ) -> Expecting<'a, T> {
        Expecting {
            catalog: self.clone(),
            expected: Rc::new(expected),
            future,
        }
    }

    /// The version of a row, as every process of the cluster knows it.
    #[must_use]
    pub fn version_of<T: Row>(&self, found: &Versioned<T>) -> Revision {
        let edited = found.row.edited().map(number);
        edited.unwrap_or_else(|| self.kv().recorded(found.version))
    }

    /// The version of `row`, if that is still what is stored: a version never stands beside something else.
    pub async fn version_if_still<T: Row + PartialEq>(&self, row: &T) -> Option<Revision> {
        let found = self.read::<T>(&row.key()).await.ok()??;
        (found.row == *row).then(|| self.version_of(&found))
    }

    /// What has to be met by the change that runs now.
    fn expected_now(&self) -> Option<Rc<Expected>> {
        let expected = self.expected.borrow().clone();
        expected.filter(|expected| !expected.met.get())
    }

    /// Compares what was read with what is expected.
    pub(crate) fn check_expected(
        &self,
        key: &str,
        entry: Option<&Entry>,
    ) -> Result<(), CatalogError> {
        let Some(expected) = self.expected_now().filter(|expected| expected.key == key) else {
            return Ok(());
        };
        let version = match entry {
            None => 0,
            Some(entry) => match (expected.edited)(entry)? {
                Some(edited) => number(edited),
                None => self.kv().recorded(entry.version),
            },
        };
        match version == expected.version {
            true => Ok(()),
            false => Err(expected.changed()),
        }
    }

    /// Adds to a transaction that changes the row what it does not compare by itself. Refuses one that changes another row.
    pub(crate) async fn guard(
        &self,
        transaction: Transaction,
    ) -> Result<Transaction, CatalogError> {
        let expected = self.expected.borrow().clone();
        let Some(expected) = expected else {
            return Ok(transaction);
        };
        let keys = || transaction.changes.iter().map(key_of);
        let mut others =
            keys().filter(|key| key.starts_with(expected.prefix) && *key != expected.key);
        if others.next().is_some() {
            return Err(expected.changed());
        }
        if expected.met.get() {
            return Ok(transaction);
        }
        let own = keys().any(|key| key == expected.key);
        let mut compared = transaction.compares.iter();
        if !own || compared.any(|compare| compares(compare, &expected.key)) {
            return Ok(transaction);
        }
        let entry = self.kv().get(&expected.key).await?;
        self.check_expected(&expected.key, entry.as_ref())?;
        let key = expected.key.clone();
        Ok(transaction.when(match entry {
            Some(entry) => Compare::Version(key, entry.version),
            None => Compare::Absent(key),
        }))
    }

    /// What ends once a transaction is committed.
    pub(crate) fn met_by(&self, transaction: &Transaction) -> Option<Rc<Expected>> {
        let expected = self.expected_now();
        expected.filter(|expected| expected.is_met_by(&transaction.changes))
    }
}
