//! Tokens of the API in the catalog: hashes only.
//!
//! Invariants
//! - A personal token counts while the user is there who made it; one made anew under the same name is another user.
//! - A user has at most [`PERSONAL_TOKENS_MAX`] tokens, and none is left when the user is deleted.
//!
//! What it does not do: say what a personal token allows now. `node` does, by the user's role.

use crate::access::{Catalog, CatalogError, ROUNDS_MAX, Transaction, Versioned};
use crate::rows::Row;
use crate::users::UserRow;
use crate::volumes::check_name;
use serde::{Deserialize, Serialize};

/// Tokens of a user at most. A request with a token reads all rows: with [256 users](crate::USERS_MAX) these are 2048 of about 300
/// bytes at the very most, 0.6 MiB.
pub const PERSONAL_TOKENS_MAX: usize = 8;
/// What stands in the row of a personal token as its scope. No release that takes such a token for one that stands for itself knows
/// this scope, so it refuses it.
pub const PERSONAL: &str = "personal";

/// Whose a personal token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personal {
    /// Name of the user.
    pub user: String,
    /// When that user was created, Unix milliseconds.
    pub user_created_ms: u64,
    /// `viewer`, `operator` or `admin`: the most that it allows.
    pub role: String,
}

impl Personal {
    /// Whether it is of this user, and not of another one who had the name before.
    #[must_use]
    pub fn is_of(&self, user: &UserRow) -> bool {
        self.user == user.name && self.user_created_ms == user.created_ms
    }
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Unique name.
    pub name: String,
    /// `admin`, `operator`, `viewer`, `csi` or `client`; of a personal token [`PERSONAL`].
    pub scope: String,
    /// Containers that it is limited to; empty: all.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Kubernetes clusters that it is limited to; empty: all.
    #[serde(default)]
    pub kubernetes: Vec<String>,
    /// Whether it was said that it is for all containers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_containers: bool,
    /// Hash of its secret, in hexadecimal digits.
    pub hash: String,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
    /// Whose it is; nothing: it stands for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<Personal>,
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

    /// Whether it is a personal token of a user of this name.
    #[must_use]
    pub fn belongs_to(&self, user: &str) -> bool {
        self.personal
            .as_ref()
            .is_some_and(|whose| whose.user == user)
    }
}

fn no_token(name: &str) -> CatalogError {
    CatalogError::NotFound {
        kind: "token",
        name: name.to_owned(),
    }
}

fn token_exists(name: &str) -> CatalogError {
    CatalogError::Exists {
        kind: "token",
        name: name.to_owned(),
    }
}

/// Refuses one more personal token beside those that there are.
fn check_room(
    tokens: &[Versioned<TokenRow>],
    user: &UserRow,
    wanted: &TokenRow,
) -> Result<(), CatalogError> {
    if tokens.iter().any(|token| token.row.name == wanted.name) {
        return Err(token_exists(&wanted.name));
    }
    // Those of a user who had the name before are in no list, and count for nothing.
    let own = { tokens.iter() }.filter(|token| {
        let whose = token.row.personal.as_ref();
        whose.is_some_and(|whose| whose.is_of(user))
    });
    if own.count() >= PERSONAL_TOKENS_MAX {
        return Err(CatalogError::Refused(format!(
            "user {} has {PERSONAL_TOKENS_MAX} personal tokens, which is all that a user may have: delete one that is not needed",
            user.name
        )));
    }
    Ok(())
}

impl Catalog {
    /// Records a token that stands for itself.
    ///
    /// # Errors
    /// [`CatalogError::Exists`], [`CatalogError::Refused`] for a bad name, [`CatalogError::Kv`].
    pub async fn create_token(&self, row: &TokenRow) -> Result<(), CatalogError> {
        check_name("token", &row.name)?;
        match self.commit(Transaction::new().create(row)).await? {
            Some(_) => Ok(()),
            None => Err(token_exists(&row.name)),
        }
    }

    /// Records a personal token of a user as that was read. The user's row is written again as it is, because whoever deletes the
    /// user, or makes another token of his, compares it: so the one leaves none behind, and the other counts this one. The user's
    /// version is another one then.
    ///
    /// # Errors
    /// [`CatalogError::Exists`]; [`CatalogError::Refused`] for a bad name or one token too many; [`CatalogError::NotFound`] for the
    /// user; [`CatalogError::Contended`] when the user was changed meanwhile; [`CatalogError::Kv`].
    pub async fn create_personal_token(
        &self,
        user: &UserRow,
        row: &TokenRow,
    ) -> Result<(), CatalogError> {
        assert!(row.belongs_to(&user.name), "the row is of this user");
        check_name("token", &row.name)?;
        for _ in 0..ROUNDS_MAX {
            let found = self.user(&user.name).await?;
            if found.row != *user {
                return Err(CatalogError::Contended);
            }
            check_room(&self.list::<TokenRow>().await?, user, row)?;
            let transaction = Transaction::new().replace(&found, user).create(row);
            if self.commit(transaction).await?.is_some() {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    /// The token of this name; of a user, if one is named, for whom those of others are not there.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn token(
        &self,
        name: &str,
        of: Option<&str>,
    ) -> Result<Versioned<TokenRow>, CatalogError> {
        let found = self.read::<TokenRow>(&TokenRow::key_of(name)).await?;
        let found = found.filter(|found| of.is_none_or(|user| found.row.belongs_to(user)));
        found.ok_or_else(|| no_token(name))
    }

    /// Deletes a token; of a user, if one is named, as [`Catalog::token`] finds it.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn delete_token(&self, name: &str, of: Option<&str>) -> Result<(), CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.token(name, of).await?;
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
