//! People who log in, their sessions, and who has changed what.

use crate::token::Scope;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Shortest password, in characters.
pub const PASSWORD_CHARACTERS_MIN: usize = 10;
/// Longest password, in bytes: hashing it takes the same time as a short one, reading it must be bounded.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Largest page of the audit log.
pub const AUDIT_LIMIT_MAX: u32 = 1000;

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// To look at everything but users, tokens and the audit log.
    Viewer,
    /// Everything but users, tokens, certificates and the removal of nodes and stores.
    Operator,
    /// Everything.
    Admin,
}

impl UserRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The scope that has the same rights.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::Viewer => Scope::Viewer,
            Self::Operator => Scope::Operator,
            Self::Admin => Scope::Admin,
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.to_string() == name)
    }
}

impl fmt::Display for UserRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scope().fmt(f)
    }
}

/// A user to create.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// Unique name.
    pub name: String,
    /// What the user may do.
    pub role: UserRole,
    /// The password: 10 characters to 256 bytes.
    pub password: String,
}

/// What changes in a user; what is absent stays. Any change ends the user's sessions.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// What the user may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<UserRole>,
    /// Another password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Who logs in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Name of the user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Another password of one's own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The present one.
    pub current: String,
    /// The new one.
    pub password: String,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserAnswer {
    /// Unique name.
    pub name: String,
    /// What the user may do.
    pub role: UserRole,
    /// When the user was created, Unix milliseconds.
    pub created_ms: u64,
    /// Sessions that are open.
    pub sessions: u32,
    /// Version of what can be changed in it, for a change on top of that; absent: not known at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A user with the hash of the password: between a node's API server and its catalog, never sent to anybody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCredential {
    /// Unique name.
    pub name: String,
    /// What the user may do.
    pub role: UserRole,
    /// Hash of the password (PHC string).
    pub password: String,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionAnswer {
    /// `user NAME`, `token NAME`, `user NAME, token NAME` of a personal one, or what a certificate says; absent when nobody has said
    /// who he is.
    #[serde(default)]
    pub who: Option<String>,
    /// Name of the user who has logged in.
    #[serde(default)]
    pub user: Option<String>,
    /// What may be asked for; absent: nothing.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Until when the session counts, Unix milliseconds; absent when there is none.
    #[serde(default)]
    pub expires_ms: Option<u64>,
}

/// A session that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenSessionAnswer {
    /// Its id, which lets nobody in: the beginning of a hash of its secret.
    pub id: String,
    /// Name of the user.
    pub user: String,
    /// When the user logged in, Unix milliseconds.
    pub created_ms: u64,
    /// Until when it counts, Unix milliseconds.
    pub expires_ms: u64,
    /// Whether it is the one that the request shows.
    #[serde(default)]
    pub own: bool,
}

/// Hexadecimal digits of the hash of a session's secret that are its id: 64 bits tell 4096 sessions apart.
pub const SESSION_ID_DIGITS: usize = 16;

macro_rules! secret {
    ($($name:ident),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Passwords and their hashes stay out of logs.
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })*
    };
}

secret!(UserSpec, UserChange, Login, PasswordChange, UserCredential);

/// What somebody did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Grows from entry to entry of a log.
    #[serde(default)]
    pub id: u64,
    /// Whether a driver asked, with a token or certificate of scope `csi`: drivers have a log of their own, with ids of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub driver: bool,
    /// When it was answered, Unix milliseconds.
    pub at_ms: u64,
    /// `user NAME`, `token NAME`, `user NAME, token NAME` of a personal one, or what a certificate says.
    pub who: String,
    /// The address that the request came from.
    #[serde(default)]
    pub from: String,
    /// Name of the operation, such as `volume-delete`.
    pub operation: String,
    /// What it was about, such as a volume's name.
    #[serde(default)]
    pub subject: String,
    /// Id of the request, as in the node's log.
    #[serde(default)]
    pub request: String,
    /// `done`, `forbidden`, or the kind of the error; `unavailable` and `failed` may have been carried out.
    pub outcome: String,
    /// Why it was not done, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was there before, without secrets; absent where there was nothing, or nothing changes. At most 4 KiB: `cut` names
    /// what had to be shortened or left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>))]
    pub before: Option<serde_json::Value>,
    /// What was asked for, without secrets, and where the answer says it, what is there now. At most 4 KiB, as `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>))]
    pub after: Option<serde_json::Value>,
}

impl Eq for AuditEntry {}

crate::sort::orders! {
    /// An order of the audit log.
    AuditSort: "id", "who", "operation", "subject", "outcome";
}

/// Which entries of the audit log: the newest first, unless another order is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Entries at most, 1 to 1000; nothing: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only entries with a smaller id; with `sort` or a filter: only those behind the entry with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// What drivers did, instead of what people did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drivers: bool,
    /// Another order than `-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub sort: Option<AuditSort>,
    /// Only what this one did, as in `user NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Only this operation, such as `volume-delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Only what was about this, such as the name of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only what came out so, such as `done` or `forbidden`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

impl AuditQuery {
    /// Whether it asks for others than the newest, or those before one.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        let about = self.operation.is_some() || self.subject.is_some();
        self.sort.is_some() || about || self.who.is_some() || self.outcome.is_some()
    }

    /// Whether an entry passes the filters.
    #[must_use]
    pub fn wants(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == text)
        };
        is(&self.who, &entry.who)
            && is(&self.operation, &entry.operation)
            && is(&self.subject, &entry.subject)
            && is(&self.outcome, &entry.outcome)
    }
}

/// What is wrong with a password, for people.
#[must_use]
pub fn password_problem(password: &str) -> Option<String> {
    let short = password.chars().count() < PASSWORD_CHARACTERS_MIN;
    (short || password.len() > PASSWORD_BYTES_MAX).then(|| {
        format!(
            "a password has at least {PASSWORD_CHARACTERS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
        )
    })
}
