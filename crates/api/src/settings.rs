//! What nodes run with.

use serde::{Deserialize, Serialize};

/// A value of a node's configuration as it is in force, whether the file says it or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SettingAnswer {
    /// Its key in the table `[tuning]` of the node's configuration; `tls.certificate`: when the certificate ends that the node shows
    /// browsers.
    pub key: String,
    /// Name of the node.
    pub node: String,
    /// The value, in `unit`.
    pub value: u64,
    /// `percent`, `milliseconds`, `bytes`, `bytes-per-second`, `unix-milliseconds` or `count`.
    pub unit: String,
}
