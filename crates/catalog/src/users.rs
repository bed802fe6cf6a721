//! People who log in, and their sessions.
//!
//! Invariants
//! - A password is here as its argon2id hash, a session as the hash of its secret.
//! - A session counts while its time is not up and its user has the generation that it began with: another password, another
//!   role or a deletion ends all sessions of a user at once.
//! - One user of role `admin` is left, always, once there was one.
//! - A user who is deleted leaves no personal token behind: see `tokens.rs`.
//!
//! What it does not do: hash, compare, or make secrets. `control` does.

use crate::access::{Catalog, CatalogError, Transaction, Versioned};
use crate::rows::Row;
use crate::tokens::TokenRow;
use crate::volumes::check_name;
use serde::{Deserialize, Serialize};

/// Users at most: people, not machines, which have tokens.
pub const USERS_MAX: usize = 256;
/// Sessions of a user at most; a further one ends the oldest. With all users 4096 rows of about 250 bytes.
pub const SESSIONS_MAX: usize = 16;
/// Sessions that are removed with a new one at most, to stay below the 128 changes of a transaction.
const SWEPT_MAX: usize = 64;
/// Rounds of compare-and-swap.
const ROUNDS_MAX: usize = 16;
/// The role that may do everything.
const ADMIN: &str = "admin";

/// Somebody who logs in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Unique name.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Hash of the password, in the PHC string format.
    pub password: String,
    /// When the user was created, Unix milliseconds.
    pub created_ms: u64,
    /// Grows with every change of role or password; sessions carry it.
    #[serde(default)]
    pub generation: u64,
}

impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The hash stays out of logs.
        f.debug_struct("UserRow")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Row for UserRow {
    const PREFIX: &'static str = "user/";
    fn key(&self) -> String {
        Self::key_of(&self.name)
    }
}

impl UserRow {
    /// Key of the row of a user.
    #[must_use]
    pub fn key_of(name: &str) -> String {
        format!("{}{name}", Self::PREFIX)
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Hash of its secret, in hexadecimal digits.
    pub hash: String,
    /// Whose.
    pub user: String,
    /// The user's generation when it began.
    pub generation: u64,
    /// When it began, Unix milliseconds.
    pub created_ms: u64,
    /// Until when it counts, Unix milliseconds.
    pub expires_ms: u64,
}

impl Row for SessionRow {
    const PREFIX: &'static str = "session/";
    fn key(&self) -> String {
        Self::key_of(&self.hash)
    }
}

impl SessionRow {
    /// Key of the row of a session.
    #[must_use]
    pub fn key_of(hash: &str) -> String {
        format!("{}{hash}", Self::PREFIX)
    }

    /// Whether it counts for a user at a time.
    #[must_use]
    pub fn counts(&self, user: &UserRow, now_ms: u64) -> bool {
        self.user == user.name && self.generation == user.generation && now_ms < self.expires_ms
    }
}

fn no_user(name: &str) -> CatalogError {
    CatalogError::NotFound {
        kind: "user",
        name: name.to_owned(),
    }
}

/// The other administrators. One of them is compared unchanged with whatever takes an administrator away, so that two such
/// changes at a time cannot both win.
fn another_admin<'a>(
    users: &'a [Versioned<UserRow>],
    name: &str,
) -> Result<&'a Versioned<UserRow>, CatalogError> {
    let other = |user: &&Versioned<UserRow>| user.row.role == ADMIN && user.row.name != name;
    users.iter().find(other).ok_or_else(|| {
        CatalogError::Refused(format!(
            "{name} is the only user of role admin: give that role to another user first"
        ))
    })
}

impl Catalog {
    /// Records a user.
    ///
    /// # Errors
    /// [`CatalogError::Exists`], [`CatalogError::Refused`] for a bad name or too many users, [`CatalogError::Kv`].
    pub async fn create_user(&self, row: &UserRow) -> Result<(), CatalogError> {
        check_name("user", &row.name)?;
        if self.list::<UserRow>().await?.len() >= USERS_MAX {
            return Err(CatalogError::Refused(format!(
                "there are {USERS_MAX} users already: delete some, or give machines tokens"
            )));
        }
        match self.commit(Transaction::new().create(row)).await? {
            Some(_) => Ok(()),
            None => Err(CatalogError::Exists {
                kind: "user",
                name: row.name.clone(),
            }),
        }
    }

    /// The user of this name.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn user(&self, name: &str) -> Result<Versioned<UserRow>, CatalogError> {
        let found = self.read::<UserRow>(&UserRow::key_of(name)).await?;
        found.ok_or_else(|| no_user(name))
    }

    /// Changes role or password, whichever is given, and so ends the user's sessions. Repeating it ends them again.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] for the last administrator's role, [`CatalogError::NotFound`],
    /// [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn set_user(
        &self,
        name: &str,
        role: Option<&str>,
        password: Option<&str>,
    ) -> Result<UserRow, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.user(name).await?;
            let mut row = found.row.clone();
            let mut transaction = Transaction::new();
            if let Some(role) = role {
                if row.role == ADMIN && role != ADMIN {
                    let users = self.list::<UserRow>().await?;
                    transaction = transaction.unchanged(another_admin(&users, name)?);
                }
                role.clone_into(&mut row.role);
            }
            if let Some(password) = password {
                password.clone_into(&mut row.password);
            }
            row.generation += 1;
            let transaction = transaction.replace(&found, &row);
            if self.commit(transaction).await?.is_some() {
                return Ok(row);
            }
        }
        Err(CatalogError::Contended)
    }

    /// Deletes a user with his personal tokens. Sessions end with that.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] for the last administrator, [`CatalogError::NotFound`], [`CatalogError::Contended`],
    /// [`CatalogError::Kv`].
    pub async fn delete_user(&self, name: &str) -> Result<(), CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.user(name).await?;
            let mut transaction = Transaction::new();
            if found.row.role == ADMIN {
                let users = self.list::<UserRow>().await?;
                transaction = transaction.unchanged(another_admin(&users, name)?);
            }
            // One that cannot be read counts for nobody, and must not keep a user who is to go.
            let (tokens, _) = self.list_sound::<TokenRow>().await?;
            let own = tokens.iter().filter(|token| token.row.belongs_to(name));
            let transaction = own.fold(transaction, Transaction::remove);
            if self.commit(transaction.remove(&found)).await?.is_some() {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    /// Begins a session of a user as that was read, and removes sessions that do not count any more, of anybody. Fails when
    /// the user was changed since.
    ///
    /// # Errors
    /// [`CatalogError::Contended`] when the user was changed meanwhile, [`CatalogError::Kv`].
    pub async fn begin_session(
        &self,
        user: &Versioned<UserRow>,
        row: &SessionRow,
        now_ms: u64,
    ) -> Result<(), CatalogError> {
        let sessions = self.list::<SessionRow>().await?;
        let (mut own, others): (Vec<_>, Vec<_>) = sessions
            .into_iter()
            .partition(|session| session.row.counts(&user.row, now_ms));
        own.sort_by_key(|session| session.row.created_ms);
        let surplus = (own.len() + 1).saturating_sub(SESSIONS_MAX);
        let ended = |session: &Versioned<SessionRow>| {
            session.row.expires_ms <= now_ms || session.row.user == user.row.name
        };
        let swept = own.drain(..surplus).chain(others.into_iter().filter(ended));
        for old in swept.take(SWEPT_MAX) {
            // Somebody else may have removed it.
            self.commit(Transaction::new().remove(&old)).await?;
        }
        let begun = Transaction::new().unchanged(user).create(row);
        match self.commit(begun).await? {
            Some(_) => Ok(()),
            None => Err(CatalogError::Contended),
        }
    }

    /// Ends a session; nothing when it has ended.
    ///
    /// # Errors
    /// [`CatalogError::Kv`].
    pub async fn end_session(&self, hash: &str) -> Result<(), CatalogError> {
        if let Some(found) = self.read::<SessionRow>(&SessionRow::key_of(hash)).await? {
            self.commit(Transaction::new().remove(&found)).await?;
        }
        Ok(())
    }
}
