//! How full the cluster is, as its nodes act on it: written by the leader when it changes, followed by every node.

use crate::access::{Catalog, CatalogError, Transaction};
use crate::rows::Row;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use vocab::StoreId;

/// How much clients may still write with so many copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpaceState {
    /// Enough.
    #[default]
    Ok,
    /// It runs out: a person should act.
    Warning,
    /// Nothing new is taken: what is left is for repair, drains and compaction.
    Protected,
}

impl SpaceState {
    /// Its word in answers, metrics and events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Protected => "protected",
        }
    }
}

/// The states. One row; none: everything is [`SpaceState::Ok`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceRow {
    /// By the number of copies, where it is not [`SpaceState::Ok`].
    #[serde(default)]
    pub factors: BTreeMap<u8, SpaceState>,
    /// Stores that take nothing new.
    #[serde(default)]
    pub stores: BTreeSet<StoreId>,
}

impl Row for SpaceRow {
    const PREFIX: &'static str = "space";
    fn key(&self) -> String {
        Self::PREFIX.to_owned()
    }
}

impl SpaceRow {
    /// The state for so many copies.
    #[must_use]
    pub fn state(&self, copies: u8) -> SpaceState {
        self.factors.get(&copies).copied().unwrap_or_default()
    }
}

impl Catalog {
    /// The row as it stands.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn space(&self) -> Result<SpaceRow, CatalogError> {
        let found = self.read::<SpaceRow>(SpaceRow::PREFIX).await?;
        Ok(found.map(|found| found.row).unwrap_or_default())
    }

    /// Replaces the row that was judged from `known`; whether it did, and not somebody else. Safe to repeat.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn set_space(&self, known: &SpaceRow, row: &SpaceRow) -> Result<bool, CatalogError> {
        let found = self.read::<SpaceRow>(SpaceRow::PREFIX).await?;
        let change = match &found {
            Some(found) if found.row == *row => return Ok(true),
            Some(found) if found.row == *known => Transaction::new().replace(found, row),
            None if *known == SpaceRow::default() => Transaction::new().create(row),
            _ => return Ok(false),
        };
        Ok(self.commit(change).await?.is_some())
    }
}
