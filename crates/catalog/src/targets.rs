//! Who is told of alerts, and how far each has been told.
//!
//! Invariants
//! - A target and its cursor come and go together.
//! - Secrets are here as they are used; nothing here shows them: what prints a row leaves them out.
//!
//! Not noted on the disks: a catalog that is made anew from them tells nobody until targets are added again.

use crate::access::{Catalog, CatalogError, Transaction, Versioned};
use crate::alerts::AlertHead;
use crate::events::Severity;
use crate::rows::Row;
use crate::volumes::check_name;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Targets at most: each is asked in turn by one node.
pub const TARGETS_MAX: usize = 16;
/// Rounds of compare-and-swap.
const ROUNDS_MAX: usize = 16;

/// Something that nobody reads but who uses it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailSecurity {
    /// From the first byte on.
    Tls,
    /// After `STARTTLS`, or not at all.
    Starttls,
    /// Not.
    None,
}

/// How alerts get there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Delivery {
    /// A `POST` for each change.
    Webhook {
        /// Where.
        url: String,
        /// Whom to believe, PEM; nothing: whom the system believes.
        #[serde(default)]
        ca: Option<String>,
        /// Key of the signature.
        #[serde(default)]
        secret: Option<Secret>,
    },
    /// A mail for each change.
    Mail {
        /// The server, `host:port`.
        server: String,
        /// How the connection is encrypted.
        security: MailSecurity,
        /// Whom to believe, PEM; nothing: whom the system believes.
        #[serde(default)]
        ca: Option<String>,
        /// Who logs in; nothing: nobody.
        #[serde(default)]
        user: Option<String>,
        /// With what.
        #[serde(default)]
        password: Option<Secret>,
        /// The sender.
        from: String,
        /// The receivers.
        to: Vec<String>,
    },
    /// Prometheus' Alertmanager: everything that is open, again and again.
    Alertmanager {
        /// Where; its API is below.
        url: String,
        /// Whom to believe, PEM; nothing: whom the system believes.
        #[serde(default)]
        ca: Option<String>,
        /// Who logs in; nothing: nobody.
        #[serde(default)]
        user: Option<String>,
        /// With what.
        #[serde(default)]
        password: Option<Secret>,
    },
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertTargetRow {
    /// Unique name.
    pub name: String,
    /// How.
    pub delivery: Delivery,
    /// Of what matters as much as this, or more.
    pub minimum: Severity,
    /// Since when, Unix milliseconds.
    pub created_ms: u64,
}

impl Row for AlertTargetRow {
    const PREFIX: &'static str = "alert-target/";
    fn key(&self) -> String {
        Self::key_of(&self.name)
    }
}

impl AlertTargetRow {
    /// Key of the row of a target.
    #[must_use]
    pub fn key_of(name: &str) -> String {
        format!("{}{name}", Self::PREFIX)
    }
}

/// How far somebody has been told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertCursorRow {
    /// Name of the target.
    pub name: String,
    /// Since when it is there: another target of the same name has another cursor.
    pub created_ms: u64,
    /// The last change that was delivered, or need not be.
    pub done: u64,
    /// When something was delivered last, Unix milliseconds.
    #[serde(default)]
    pub delivered_ms: Option<u64>,
    /// Attempts that failed since.
    #[serde(default)]
    pub failures: u32,
    /// When the first of them was, Unix milliseconds.
    #[serde(default)]
    pub failing_ms: Option<u64>,
    /// Why the last one did.
    #[serde(default)]
    pub error: Option<String>,
    /// Not before this, Unix milliseconds.
    #[serde(default)]
    pub next_ms: u64,
    /// Changes that were forgotten before they could be delivered.
    #[serde(default)]
    pub missed: u64,
}

impl Row for AlertCursorRow {
    const PREFIX: &'static str = "alert-cursor/";
    fn key(&self) -> String {
        Self::key_of(&self.name)
    }
}

impl AlertCursorRow {
    fn key_of(name: &str) -> String {
        format!("{}{name}", Self::PREFIX)
    }
}

impl Catalog {
    /// Adds somebody who is told of what changes from now on.
    ///
    /// # Errors
    /// [`CatalogError::Exists`], [`CatalogError::Refused`] for a bad name or too many, [`CatalogError::Contended`],
    /// [`CatalogError::Kv`].
    pub async fn create_alert_target(&self, row: &AlertTargetRow) -> Result<(), CatalogError> {
        check_name("target", &row.name)?;
        for _ in 0..ROUNDS_MAX {
            let known = self.list::<AlertTargetRow>().await?;
            if known.iter().any(|found| found.row.name == row.name) {
                return Err(CatalogError::Exists {
                    kind: "target",
                    name: row.name.clone(),
                });
            }
            if known.len() >= TARGETS_MAX {
                return Err(CatalogError::Refused(format!(
                    "there are {TARGETS_MAX} targets already: delete one first"
                )));
            }
            let head = self.read::<AlertHead>(AlertHead::PREFIX).await?;
            let cursor = AlertCursorRow {
                name: row.name.clone(),
                created_ms: row.created_ms,
                done: head.as_ref().map_or(0, |head| head.row.last_change),
                ..AlertCursorRow::default()
            };
            let change = Transaction::new().create(row).put(&cursor);
            let change = match &head {
                Some(head) => change.unchanged(head),
                None => change,
            };
            if self.commit(change).await?.is_some() {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    /// Forgets a target.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn delete_alert_target(&self, name: &str) -> Result<(), CatalogError> {
        let found = self.alert_target(name).await?;
        let cursor = AlertCursorRow::key_of(name);
        let change = Transaction::new().remove(&found).free_name(cursor);
        match self.commit(change).await? {
            Some(_) => Ok(()),
            None => Err(CatalogError::Contended),
        }
    }

    /// The target of this name.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn alert_target(
        &self,
        name: &str,
    ) -> Result<Versioned<AlertTargetRow>, CatalogError> {
        let found = self.read(&AlertTargetRow::key_of(name)).await?;
        found.ok_or_else(|| CatalogError::NotFound {
            kind: "target",
            name: name.to_owned(),
        })
    }

    /// How far a target has been told.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] when the target is gone meanwhile, or is another one; [`CatalogError::Kv`],
    /// [`CatalogError::Damaged`].
    pub async fn alert_cursor(
        &self,
        target: &AlertTargetRow,
    ) -> Result<AlertCursorRow, CatalogError> {
        let found = self.read(&AlertCursorRow::key_of(&target.name)).await?;
        let own = found.map(|found: Versioned<AlertCursorRow>| found.row);
        let own = own.filter(|cursor| cursor.created_ms == target.created_ms);
        own.ok_or_else(|| CatalogError::NotFound {
            kind: "target",
            name: target.name.clone(),
        })
    }

    /// All targets, by name, with how far they have been told.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn alert_targets(
        &self,
    ) -> Result<Vec<(AlertTargetRow, AlertCursorRow)>, CatalogError> {
        let targets = self.list::<AlertTargetRow>().await?;
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let cursors = self.list::<AlertCursorRow>().await?;
        let with = |found: Versioned<AlertTargetRow>| {
            let own = |cursor: &&Versioned<AlertCursorRow>| {
                cursor.row.name == found.row.name && cursor.row.created_ms == found.row.created_ms
            };
            let cursor = cursors.iter().find(own);
            let cursor = cursor.map(|cursor| cursor.row.clone());
            cursor.map(|cursor| (found.row, cursor))
        };
        Ok(targets.into_iter().filter_map(with).collect())
    }

    /// Notes how far a target has been told; nothing when the target is gone.
    ///
    /// # Errors
    /// [`CatalogError::Contended`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn set_alert_cursor(&self, cursor: &AlertCursorRow) -> Result<(), CatalogError> {
        let key = cursor.key();
        let set = self.update("cursor", &key, |row: &mut AlertCursorRow| {
            // Two leaders for a moment: what the other one has delivered is not delivered again.
            let is_newer = row.created_ms == cursor.created_ms && row.done <= cursor.done;
            if !is_newer || row == cursor {
                return Ok(false);
            }
            row.clone_from(cursor);
            Ok(true)
        });
        match set.await {
            Ok(_) | Err(CatalogError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{decode, encode};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fuzz_target_rows_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<AlertTargetRow>("alert-target/a", &bytes);
            let _ = decode::<AlertCursorRow>("alert-cursor/a", &bytes);
        }
    }

    #[test]
    fn a_target_that_is_printed_shows_no_secret_and_one_that_is_read_has_it() {
        let row = AlertTargetRow {
            name: "pager".to_owned(),
            delivery: Delivery::Webhook {
                url: "https://pager.test/".to_owned(),
                ca: None,
                secret: Some(Secret("hush".to_owned())),
            },
            minimum: Severity::Warning,
            created_ms: 1,
        };
        let text = format!("{row:?}");
        assert!(text.contains("pager") && !text.contains("hush"), "{text}");
        let read: AlertTargetRow = decode(&row.key(), &encode(&row)).expect("as it was written");
        assert_eq!(read, row);
    }
}
