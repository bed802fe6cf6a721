//! Nodes that join, and the authority that signs for the cluster.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A token to join, to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JoinTokenSpec {
    /// How long it can be used, in seconds; nothing: an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// A token that lets one node join.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinTokenAnswer {
    /// The token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// SHA-256 of the authority's certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// Where the new node can ask.
    pub addresses: Vec<String>,
    /// Until when it can be used, Unix milliseconds.
    pub expires_ms: u64,
}

impl fmt::Debug for JoinTokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("JoinTokenAnswer")
            .field("fingerprint", &self.fingerprint)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// What a node that joins sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The secret of its token.
    pub secret: String,
    /// The name it wants.
    pub name: String,
    /// The request for a certificate (PKCS #10, PEM).
    pub request: String,
    /// How many ids of stores it needs.
    #[serde(default)]
    pub stores: u32,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What a node needs to take part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinAnswer {
    /// Name of the cluster.
    pub cluster: String,
    /// Its certificate, and what is needed to believe it (PEM).
    pub certificate: String,
    /// The authorities to believe (PEM).
    pub authorities: String,
    /// The table `catalog` of its configuration (TOML).
    pub catalog: String,
    /// Whether the cluster's nodes run its etcd: this one may be asked to run a member.
    #[serde(default)]
    pub supervised: bool,
    /// Ids for its stores.
    #[serde(default)]
    pub stores: Vec<u32>,
}

/// Ends a rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Retirement {
    /// Also when nodes show certificates of an authority that is dropped: they are locked out.
    #[serde(default)]
    pub force: bool,
}

/// The authorities of the cluster and the certificates of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthorityAnswer {
    /// Name of the authority that signs.
    pub signer: String,
    /// SHA-256 of its certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// How many authorities are believed: 2 during a rotation.
    pub believed: u32,
    /// Certificates of all of them (PEM).
    pub authorities: String,
    /// The nodes' certificates.
    pub nodes: Vec<NodeCertificateAnswer>,
    /// The task of a rotation, in the answer that begins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
}

/// The certificate of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeCertificateAnswer {
    /// Name of the node.
    pub node: String,
    /// Name of the authority that has signed it.
    pub issuer: String,
    /// Whether that is the one that signs now.
    pub current: bool,
    /// Until when it holds, Unix milliseconds.
    pub until_ms: u64,
}
