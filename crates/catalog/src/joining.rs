//! Who may join, who signs, and whose certificates hold: what a cluster with certificates keeps in its catalog.
//!
//! Invariants
//! - A token to join is here as a hash, and goes with its first use.
//! - A node that joins is a candidate before it has its certificate.
//! - [`AuthorityRow::signer`] is one of [`AuthorityRow::authorities`].

use crate::access::{Catalog, CatalogError, Transaction, Versioned};
use crate::placement::{IntentRow, Subject};
use crate::rows::{Row, numbered};
use serde::{Deserialize, Serialize};
use vocab::NodeId;

/// A token that lets one node join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenRow {
    /// Hash of its secret, in hexadecimal digits.
    pub hash: String,
    /// Until when it can be used, Unix milliseconds.
    pub expires_ms: u64,
}

impl Row for JoinTokenRow {
    const PREFIX: &'static str = "join-token/";
    fn key(&self) -> String {
        format!("{}{}", Self::PREFIX, self.hash)
    }
}

/// The authorities of the cluster. One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRow {
    /// Certificates of all that are believed, PEM.
    pub authorities: String,
    /// SHA-256 of the certificate of the one that signs, in hexadecimal digits.
    pub signer: String,
    /// Its name, as certificates name who has signed them.
    pub signer_name: String,
}

impl Row for AuthorityRow {
    const PREFIX: &'static str = "authority";
    fn key(&self) -> String {
        Self::PREFIX.to_owned()
    }
}

/// The certificate that a node shows now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRow {
    /// The node.
    pub id: NodeId,
    /// Name of the authority that has signed it.
    pub issuer: String,
    /// Until when it holds, Unix milliseconds.
    pub until_ms: u64,
}

impl Row for CertificateRow {
    const PREFIX: &'static str = "certificate/";
    fn key(&self) -> String {
        Self::key_of(self.id)
    }
}

impl CertificateRow {
    /// Key of the row of a node.
    #[must_use]
    pub fn key_of(node: NodeId) -> String {
        numbered(Self::PREFIX, u64::from(node.0))
    }
}

impl Catalog {
    /// Records a token to join, and forgets those whose time is up.
    ///
    /// # Errors
    /// [`CatalogError::Kv`].
    pub async fn create_join_token(
        &self,
        row: &JoinTokenRow,
        now_ms: u64,
    ) -> Result<(), CatalogError> {
        for old in self.list::<JoinTokenRow>().await? {
            if old.row.expires_ms <= now_ms {
                self.commit(Transaction::new().remove(&old)).await?;
            }
        }
        self.commit(Transaction::new().put(row)).await.map(|_| ())
    }

    /// The token with this hash, while it can be used.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`].
    pub async fn join_token(
        &self,
        hash: &str,
        now_ms: u64,
    ) -> Result<Versioned<JoinTokenRow>, CatalogError> {
        let key = format!("{}{hash}", JoinTokenRow::PREFIX);
        let found = self.read::<JoinTokenRow>(&key).await?;
        let usable = found.filter(|found| found.row.expires_ms > now_ms);
        usable.ok_or_else(|| CatalogError::NotFound {
            kind: "token to join",
            name: "of this secret (it was used, or its time is up)".to_owned(),
        })
    }

    /// Uses a token up and makes the node a candidate, in one step. Whether it was still there.
    ///
    /// # Errors
    /// [`CatalogError::Kv`].
    pub async fn admit(
        &self,
        token: &Versioned<JoinTokenRow>,
        node: NodeId,
    ) -> Result<bool, CatalogError> {
        let candidate = IntentRow {
            candidate: true,
            ..IntentRow::none(Subject::Node(node))
        };
        let admission = Transaction::new().remove(token).put(&candidate);
        Ok(self.commit(admission).await?.is_some())
    }

    /// The authorities; nothing in a cluster without certificates.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn authority(&self) -> Result<Option<Versioned<AuthorityRow>>, CatalogError> {
        self.read::<AuthorityRow>(AuthorityRow::PREFIX).await
    }
}
