//! The catalog of a running cluster: copies of it, and where it is.

use serde::{Deserialize, Serialize};

/// Where a catalog is to be moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CatalogTarget {
    /// etcd's client URLs, `http://host:port`, or `https://` in a cluster with certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Instead of endpoints: an etcd that the cluster's nodes run, beginning with the one that is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub supervised: bool,
    /// Before every key in etcd.
    #[serde(default = "prefix")]
    pub prefix: String,
}

fn prefix() -> String {
    "/azekura/".to_owned()
}

/// Where the catalog is, and who keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CatalogAnswer {
    /// `etcd`, or `file`: a part of one process.
    pub place: String,
    /// Whether the cluster's nodes run that etcd.
    pub supervised: bool,
    /// How many more members may be lost; absent: too many are lost already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerates: Option<u32>,
    /// Who keeps it.
    pub members: Vec<CatalogMemberAnswer>,
    /// Nodes that run a member, or could.
    pub seats: Vec<CatalogSeatAnswer>,
}

/// A member of etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CatalogMemberAnswer {
    /// Its name: that of its node, if a node runs it.
    pub name: String,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it votes; a learner does not yet.
    pub votes: bool,
    /// Where clients reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Version of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Bytes of its file.
    pub bytes: u64,
    /// Bytes of that in use.
    pub bytes_used: u64,
    /// Changes that it has not taken over yet; absent: it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// What it warns of.
    pub alarms: Vec<String>,
    /// Why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A node that can run a member of etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CatalogSeatAnswer {
    /// The node.
    pub node: String,
    /// URL for clients.
    pub client: String,
    /// URL for other members.
    pub peer: String,
    /// `free`, `member`, or `lost`: it was a member and its data is gone.
    pub state: String,
    /// Why no member would run there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A catalog that was moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CatalogMoveAnswer {
    /// Where it is now, for people.
    pub place: String,
    /// Rows that were moved.
    pub rows: u64,
    /// Milliseconds during which the catalog answered nobody. Volumes were read and written meanwhile.
    pub paused_ms: u64,
    /// The table of a node's configuration that names it, as TOML.
    pub table: String,
}

/// All rows of a catalog at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CatalogBackupAnswer {
    /// Name of the cluster.
    pub cluster: String,
    /// The moment.
    pub revision: u64,
    /// How many rows.
    pub rows: u64,
    /// The file, as `azekura catalog restore` reads it: docs/formats/backup.md.
    pub text: String,
}
