//! Who may ask for what: tokens and their scopes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What every token begins with, so that leaked ones are found.
pub const TOKEN_PREFIX: &str = "azk_";

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything.
    Admin,
    /// Everything but users, tokens, certificates and the removal of nodes and stores.
    Operator,
    /// To look at everything but users, tokens and the audit log.
    Viewer,
    /// What the CSI driver needs.
    Csi,
    /// To attach and detach volumes.
    Client,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Csi => "csi",
            Self::Client => "client",
        })
    }
}

/// A token to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Unique name.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// Containers that a `csi` token is limited to; empty: all. A `csi` token needs these, `kubernetes` or `all_containers`.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Kubernetes clusters that a `csi` token is limited to: only volumes with their label; empty: all.
    #[serde(default)]
    pub kubernetes: Vec<String>,
    /// That a `csi` token is to be for all containers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_containers: bool,
    /// That it is one's own, of scope `viewer`, `operator` or `admin`: it counts as the user who has logged in, never allows more than
    /// that user may, and ends with the user. Needs a session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub personal: bool,
}

/// A token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenAnswer {
    /// Unique name.
    pub name: String,
    /// What it allows; a personal one at this moment.
    pub scope: Scope,
    /// Name of the user whose personal token it is; absent: it stands for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Containers that it is limited to; empty: all.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Kubernetes clusters that it is limited to; empty: all.
    #[serde(default)]
    pub kubernetes: Vec<String>,
    /// Whether it was said that it is for all containers. One of scope `csi` without this and without limits is of a release
    /// that did not ask; it is for all containers, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_containers: bool,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
    /// The token itself: in the answer to its creation only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Version of what can be changed in it, for a change on top of that; absent: not known at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("TokenAnswer")
            .field("name", &self.name)
            .field("scope", &self.scope)
            .field("user", &self.user)
            .field("containers", &self.containers)
            .field("kubernetes", &self.kubernetes)
            .finish_non_exhaustive()
    }
}
