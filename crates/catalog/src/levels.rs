//! The cluster's level: which nodes may be in it, and when it rises.
//!
//! Invariants
//! - The level is one that every node in the catalog knows, whichever order rises and starts come in: a node that is new, or of
//!   another release than before, writes the cluster's row anew, and a rise is on top of the row that was read before the nodes.
//! - A node's row is that of the process that holds its name: it is written together with the row that says that it lives.
//! - The level never falls, but for a catalog that is made anew of what disks or a backup knew.

use crate::Catalog;
use crate::access::{CatalogError, ROUNDS_MAX, Transaction, Versioned};
use crate::kv::{Compare, LeaseId, Op};
use crate::rows::{AliveRow, ClusterRow, NodeRow, Row};
use vocab::Level;

/// What became of a node that wants to take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// It takes part, for as long as its lease lives.
    Alive,
    /// A process of this name lives already.
    NameInUse,
    /// Its release does not know the cluster's level, which is this. Nothing was changed.
    Unknown(Level),
    /// It took part, and was removed since. Nothing was changed.
    Removed,
}

impl Catalog {
    /// The cluster's own row.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] before the first node has started; [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn cluster(&self) -> Result<Versioned<ClusterRow>, CatalogError> {
        let found = self.read::<ClusterRow>(ClusterRow::PREFIX).await?;
        found.ok_or(CatalogError::NotFound {
            kind: "cluster",
            name: "cluster".to_owned(),
        })
    }

    /// Writes a node's row, and with it the row that says that it lives. `returning`: it took part before, and is not to come back
    /// once it was removed. A retry is safe.
    ///
    /// # Errors
    /// [`CatalogError::Contended`]; [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn announce_node(
        &self,
        node: &NodeRow,
        alive: &AliveRow,
        lease: LeaseId,
        returning: bool,
    ) -> Result<Announced, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let cluster = self.cluster().await?;
            if !node.levels.know(cluster.row.level) {
                return Ok(Announced::Unknown(cluster.row.level));
            }
            let change = alone(alive, lease);
            let change = match self.read::<NodeRow>(&node.key()).await {
                Ok(None) if returning => return Ok(Announced::Removed),
                Ok(Some(present)) if present.row.levels == node.levels => {
                    change.replace(&present, node)
                }
                // Whoever is about to raise the level counts this node, too. A damaged row is written anew.
                Ok(_) | Err(CatalogError::Damaged { .. }) => {
                    change.put(node).replace(&cluster, &cluster.row)
                }
                Err(error) => return Err(error),
            };
            if self.commit(change).await?.is_some() {
                return Ok(Announced::Alive);
            }
            if let Some(other) = self.read::<AliveRow>(&alive.key()).await? {
                // An attempt before, whose answer was lost, may have written it.
                return Ok(match other.row == *alive {
                    true => Announced::Alive,
                    false => Announced::NameInUse,
                });
            }
        }
        Err(CatalogError::Contended)
    }

    /// Raises the cluster's level to the highest that all of its nodes know, those that do not run included; the new level, if it
    /// rose. A retry is safe.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn raise_level(&self) -> Result<Option<Level>, CatalogError> {
        let cluster = self.cluster().await?;
        let nodes = self.list::<NodeRow>().await?;
        let common = nodes.iter().map(|node| node.row.levels.newest).min();
        let Some(level) = common.filter(|common| *common > cluster.row.level) else {
            return Ok(None);
        };
        let risen = ClusterRow {
            level,
            ..cluster.row.clone()
        };
        let change = Transaction::new().replace(&cluster, &risen);
        Ok(self.commit(change).await?.map(|_| level))
    }
}

/// The node lives, and no other process under its name.
fn alone(alive: &AliveRow, lease: LeaseId) -> Transaction {
    let value = serde_json::to_vec(alive).expect("rows have string keys only");
    Transaction::new()
        .when(Compare::Absent(alive.key()))
        .write(Op::PutLeased(alive.key(), value, lease))
}
