//! The cluster's level: which nodes may be in it, and when it rises.
//!
//! Invariants
//! - The level is one that every node in the catalog knows, whichever order rises and starts come in: a node that is new, or of
//!   another release than before, writes the cluster's row anew, and a rise is on top of the row that was read before the nodes.
//! - It never falls.

use crate::Catalog;
use crate::access::{CatalogError, ROUNDS_MAX, Transaction, Versioned};
use crate::rows::{ClusterRow, NodeRow, Row};
use vocab::Level;

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

    /// Writes a node's row, unless its release does not know the cluster's level: then that is the answer. A retry is safe.
    ///
    /// # Errors
    /// [`CatalogError::Contended`]; [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn announce_node(&self, node: &NodeRow) -> Result<Result<(), Level>, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let cluster = self.cluster().await?;
            if !node.levels.know(cluster.row.level) {
                return Ok(Err(cluster.row.level));
            }
            let change = Transaction::new();
            let change = match self.read::<NodeRow>(&node.key()).await? {
                Some(present) if present.row.levels == node.levels => {
                    change.replace(&present, node)
                }
                // Whoever is about to raise the level counts this node, too.
                _ => change.put(node).replace(&cluster, &cluster.row),
            };
            if self.commit(change).await?.is_some() {
                return Ok(Ok(()));
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
