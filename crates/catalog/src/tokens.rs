//! Tokens of the API in the catalog: hashes only.

use crate::access::{Catalog, CatalogError, Transaction};
use crate::rows::Row;
use crate::volumes::check_name;
use serde::{Deserialize, Serialize};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Unique name.
    pub name: String,
    /// `admin`, `viewer`, `csi` or `client`.
    pub scope: String,
    /// Containers that it is limited to; empty: all.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Kubernetes clusters that it is limited to; empty: all.
    #[serde(default)]
    pub kubernetes: Vec<String>,
    /// Hash of its secret, in hexadecimal digits.
    pub hash: String,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
}

impl Row for TokenRow {
    const PREFIX: &'static str = "token/";
    fn key(&self) -> String {
        Self::key_of(&self.name)
    }
}

impl TokenRow {
    /// Key of the row of a token.
    #[must_use]
    pub fn key_of(name: &str) -> String {
        format!("{}{name}", Self::PREFIX)
    }
}

impl Catalog {
    /// Records a token.
    ///
    /// # Errors
    /// [`CatalogError::Exists`], [`CatalogError::Refused`] for a bad name, [`CatalogError::Kv`].
    pub async fn create_token(&self, row: &TokenRow) -> Result<(), CatalogError> {
        check_name("token", &row.name)?;
        match self.commit(Transaction::new().create(row)).await? {
            Some(_) => Ok(()),
            None => Err(CatalogError::Exists {
                kind: "token",
                name: row.name.clone(),
            }),
        }
    }

    /// Deletes a token.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn delete_token(&self, name: &str) -> Result<(), CatalogError> {
        for _ in 0..16 {
            let found = self.read::<TokenRow>(&TokenRow::key_of(name)).await?;
            let Some(found) = found else {
                return Err(CatalogError::NotFound {
                    kind: "token",
                    name: name.to_owned(),
                });
            };
            if self
                .commit(Transaction::new().remove(&found))
                .await?
                .is_some()
            {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }
}
