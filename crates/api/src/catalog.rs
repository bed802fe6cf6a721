//! The catalog of a running cluster: copies of it, and where it is.

use serde::{Deserialize, Serialize};

/// Where a catalog is to be moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CatalogTarget {
    /// etcd's client URLs, `http://host:port`.
    pub endpoints: Vec<String>,
    /// Before every key in etcd.
    #[serde(default = "prefix")]
    pub prefix: String,
}

fn prefix() -> String {
    "/azekura/".to_owned()
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
