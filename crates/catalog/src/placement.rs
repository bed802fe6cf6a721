//! Placement groups that change their members, and what operators want of nodes and stores.
//!
//! Invariants
//! - A store joins a group as *filling* and leaves it as *former*: no row ever forgets where data may lie.
//! - The generation grows whenever the members change, and only then.

use crate::access::{Catalog, CatalogError, Transaction, Versioned};
use crate::rows::{GroupRow, Row, StoreRow, numbered};
use serde::{Deserialize, Serialize};
use vocab::{GroupId, NodeId, StoreId};

/// Rounds of compare-and-swap.
const ROUNDS_MAX: usize = 16;

/// What an intent is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A node and all of its stores.
    Node(NodeId),
    /// A store.
    Store(StoreId),
}

/// What an operator wants of a node or a store. No row: it takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentRow {
    /// Whom it concerns.
    pub subject: Subject,
    /// Everything moves away, and nothing new comes.
    #[serde(default)]
    pub draining: bool,
    /// It may be away until then without being replaced, Unix milliseconds; 0: no such time.
    #[serde(default)]
    pub maintenance_until_ms: u64,
    /// It has joined and waits to be approved: it takes no part yet.
    #[serde(default)]
    pub candidate: bool,
}

impl Row for IntentRow {
    const PREFIX: &'static str = "intent/";
    fn key(&self) -> String {
        Self::key_of(self.subject)
    }
}

impl IntentRow {
    /// What it is as long as nobody wants anything.
    #[must_use]
    pub fn none(subject: Subject) -> Self {
        Self {
            subject,
            draining: false,
            maintenance_until_ms: 0,
            candidate: false,
        }
    }

    /// Key of the row of a node or store.
    #[must_use]
    pub fn key_of(subject: Subject) -> String {
        match subject {
            Subject::Node(id) => numbered("intent/node/", u64::from(id.0)),
            Subject::Store(id) => numbered("intent/store/", u64::from(id.0)),
        }
    }
}

/// New members of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupChange {
    /// The group.
    pub group: GroupId,
    /// The members.
    pub members: Vec<StoreId>,
    /// Which of them may lack something.
    pub filling: Vec<StoreId>,
    /// Who may hold something that they lack.
    pub former: Vec<StoreId>,
    /// Which of the filling ones were members before.
    pub returning: Vec<StoreId>,
    /// Which member leaves once the others are complete.
    pub leaving: Option<StoreId>,
}

impl GroupChange {
    /// The group's row with these members, in the next generation. Pure.
    #[must_use]
    pub fn applied_to(&self, row: &GroupRow) -> GroupRow {
        let fills = |store: &StoreId| self.filling.contains(store);
        GroupRow {
            generation: row.generation.next(),
            members: self.members.clone(),
            filling: self.filling.clone(),
            former: self.former.clone(),
            returning: self.returning.iter().copied().filter(fills).collect(),
            leaving: self.leaving,
            ..row.clone()
        }
    }
}

fn group_key(group: GroupId) -> String {
    numbered(GroupRow::PREFIX, u64::from(group.0))
}

impl Catalog {
    /// The group of this id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn group(&self, id: GroupId) -> Result<Versioned<GroupRow>, CatalogError> {
        let row = self.read(&group_key(id)).await?;
        row.ok_or_else(|| CatalogError::NotFound {
            kind: "group",
            name: id.to_string(),
        })
    }

    /// Gives a group other members, in the next generation; `None` when it has changed since it was planned.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`]. A retry is safe.
    pub async fn change_group(
        &self,
        change: &GroupChange,
        planned_from: &GroupRow,
    ) -> Result<Option<GroupRow>, CatalogError> {
        let found = self.group(change.group).await?;
        if found.row != *planned_from {
            return Ok(None);
        }
        let row = change.applied_to(&found.row);
        let replaced = self
            .commit(Transaction::new().replace(&found, &row))
            .await?;
        Ok(replaced.map(|_| row))
    }

    /// A member has everything that the group holds, as it was when that began. Nothing happens, and the answer is
    /// `false`, when the members have changed since, or when one that was taken for complete has lost what it held: then
    /// it has to be found out again.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`]. A retry is safe.
    pub async fn group_filled(
        &self,
        known: &GroupRow,
        store: StoreId,
    ) -> Result<bool, CatalogError> {
        self.update_same(known, |row| {
            let still = |filling: &StoreId| known.filling.contains(filling);
            let counts = row.filling.contains(&store) && row.filling.iter().all(still);
            if counts {
                row.filling.retain(|filling| *filling != store);
                row.returning.retain(|filling| *filling != store);
            }
            counts
        })
        .await
    }

    /// A former member holds nothing any more; whether that counted.
    ///
    /// # Errors
    /// As [`Catalog::group_filled`].
    pub async fn group_left(&self, known: &GroupRow, store: StoreId) -> Result<bool, CatalogError> {
        self.update_same(known, |row| {
            let before = row.former.len();
            row.former.retain(|former| *former != store);
            row.former.len() < before
        })
        .await
    }

    /// Changes a group that is still of the generation that the caller knows; whether it did.
    async fn update_same(
        &self,
        known: &GroupRow,
        mut change: impl FnMut(&mut GroupRow) -> bool,
    ) -> Result<bool, CatalogError> {
        let mut changed = false;
        self.update("group", &group_key(known.id), |row: &mut GroupRow| {
            changed = row.generation == known.generation && change(row);
            Ok(changed)
        })
        .await?;
        Ok(changed)
    }

    /// The store starts a new life without what it held: it lacks everything in all of its groups.
    ///
    /// # Errors
    /// As [`Catalog::group_filled`].
    pub async fn store_lost_all(&self, store: StoreId) -> Result<(), CatalogError> {
        for found in self.list::<GroupRow>().await? {
            if !found.row.members.contains(&store) {
                continue;
            }
            self.update("group", &found.row.key(), |row: &mut GroupRow| {
                let joins = row.members.contains(&store) && !row.filling.contains(&store);
                row.filling.extend(joins.then_some(store));
                Ok(joins)
            })
            .await?;
        }
        Ok(())
    }

    /// Forgets a store that is a member of no group: its row, and that it may hold what members lack.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] while a group has it as a member, [`CatalogError::Contended`], [`CatalogError::Kv`]. A
    /// retry is safe.
    pub async fn forget_store(&self, store: StoreId) -> Result<(), CatalogError> {
        for found in self.list::<GroupRow>().await? {
            if found.row.members.contains(&store) {
                return Err(CatalogError::Refused(format!(
                    "{store} is a member of {} again",
                    found.row.id
                )));
            }
            if !found.row.former.contains(&store) {
                continue;
            }
            self.update("group", &found.row.key(), |row: &mut GroupRow| {
                row.former.retain(|former| *former != store);
                Ok(true)
            })
            .await?;
        }
        let gone = Transaction::new()
            .free_name(StoreRow::key_of(store))
            .free_name(crate::ScrubRow::key_of(store))
            .free_name(crate::LightRow::key_of(store));
        self.commit(gone).await.map(|_| ())
    }

    /// What operators want of nodes and stores.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn intent(&self, subject: Subject) -> Result<IntentRow, CatalogError> {
        let found = self.read::<IntentRow>(&IntentRow::key_of(subject)).await?;
        Ok(found.map_or(IntentRow::none(subject), |found| found.row))
    }

    /// Changes what operators want of a node or a store; nothing is written when that is as it was. Returns it as it then stands.
    ///
    /// # Errors
    /// [`CatalogError::Contended`], [`CatalogError::Kv`], [`CatalogError::Damaged`]. A retry is safe.
    pub async fn change_intent(
        &self,
        subject: Subject,
        change: impl Fn(&mut IntentRow),
    ) -> Result<IntentRow, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.read::<IntentRow>(&IntentRow::key_of(subject)).await?;
            let present = found.as_ref().map(|found| found.row.clone());
            let present = present.unwrap_or_else(|| IntentRow::none(subject));
            let mut row = present.clone();
            change(&mut row);
            if row == present {
                return Ok(row);
            }
            let step = match &found {
                Some(found) => Transaction::new().replace(found, &row),
                None => Transaction::new().create(&row),
            };
            if self.commit(step).await?.is_some() {
                return Ok(row);
            }
        }
        Err(CatalogError::Contended)
    }
}
