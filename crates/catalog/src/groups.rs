//! Group snapshots in the catalog: a row per group, whose members are ordinary snapshots that carry its id.

use crate::access::{Catalog, CatalogError, Transaction, Versioned};
use crate::rows::{Row, numbered};
use crate::volumes::check_name;
use serde::{Deserialize, Serialize};
use vocab::{SnapshotId, VolumeId};

/// A group snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSnapshotRow {
    /// Its id.
    pub id: u64,
    /// Unique name; each member has it in its volume.
    pub name: String,
    /// When it was asked for, Unix milliseconds.
    pub created_ms: u64,
    /// Its volumes, in the order asked for.
    pub volumes: Vec<VolumeId>,
    /// Its members, in the same order; empty until it is whole.
    #[serde(default)]
    pub snapshots: Vec<SnapshotId>,
    /// Whether it is whole: one point in time of all volumes.
    #[serde(default)]
    pub ready: bool,
}

impl Row for GroupSnapshotRow {
    const PREFIX: &'static str = "group-snapshot/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.id)
    }
}

/// What beginning a group snapshot found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is the caller's to take.
    New(GroupSnapshotRow),
    /// One of this name is there.
    Found(GroupSnapshotRow),
}

fn name_key(name: &str) -> String {
    format!("group-snapshot-name/{name}")
}

impl Catalog {
    /// Claims a name for a group snapshot, or finds who has it.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] for a bad name, [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn begin_group_snapshot(
        &self,
        name: &str,
        volumes: &[VolumeId],
        created_ms: u64,
    ) -> Result<Begun, CatalogError> {
        check_name("snapshot", name)?;
        for _ in 0..16 {
            if let Some(id) = self.resolve(&name_key(name)).await? {
                match self.group_snapshot(id).await {
                    Ok(found) => return Ok(Begun::Found(found.row)),
                    Err(CatalogError::NotFound { .. }) => continue,
                    Err(error) => return Err(error),
                }
            }
            let row = GroupSnapshotRow {
                id: self.next_id("group-snapshot").await?,
                name: name.to_owned(),
                created_ms,
                volumes: volumes.to_vec(),
                snapshots: Vec::new(),
                ready: false,
            };
            let transaction = Transaction::new()
                .create(&row)
                .claim_name(name_key(name), row.id);
            if self.commit(transaction).await?.is_some() {
                return Ok(Begun::New(row));
            }
        }
        Err(CatalogError::Contended)
    }

    /// The group snapshot of this id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn group_snapshot(
        &self,
        id: u64,
    ) -> Result<Versioned<GroupSnapshotRow>, CatalogError> {
        let row = self.read(&numbered(GroupSnapshotRow::PREFIX, id)).await?;
        row.ok_or_else(|| CatalogError::NotFound {
            kind: "group snapshot",
            name: id.to_string(),
        })
    }

    /// Says that a group snapshot is whole.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] when it was given up meanwhile, [`CatalogError::Kv`].
    pub async fn finish_group_snapshot(
        &self,
        id: u64,
        snapshots: &[SnapshotId],
    ) -> Result<GroupSnapshotRow, CatalogError> {
        let key = numbered(GroupSnapshotRow::PREFIX, id);
        self.update("group snapshot", &key, |row: &mut GroupSnapshotRow| {
            row.snapshots = snapshots.to_vec();
            row.ready = true;
            Ok(true)
        })
        .await
    }

    /// Removes a group snapshot and frees its name. Its members are deleted before. Idempotent.
    ///
    /// # Errors
    /// [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn remove_group_snapshot(&self, id: u64) -> Result<(), CatalogError> {
        for _ in 0..16 {
            let found = match self.group_snapshot(id).await {
                Err(CatalogError::NotFound { .. }) => return Ok(()),
                found => found?,
            };
            let name = name_key(&found.row.name);
            let transaction = Transaction::new().remove(&found).free_name(name);
            if self.commit(transaction).await?.is_some() {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }
}
