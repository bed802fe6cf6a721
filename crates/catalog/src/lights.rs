//! Lights that show where disks are, as somebody switched them last.

use crate::rows::{Row, numbered};
use serde::{Deserialize, Serialize};
use vocab::StoreId;

/// Which lights of a store's disks burned when somebody switched one of them last. It tells every node that lights are other than
/// before; whether one burns now its own node says, for others can switch it, too. It goes with the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LightRow {
    /// The store.
    pub id: StoreId,
    /// Where the disks are whose lights burned, as their node sees them.
    pub on: Vec<String>,
    /// When somebody switched one of them last, Unix milliseconds.
    pub at_ms: u64,
}

impl LightRow {
    /// Key of the row of a store.
    #[must_use]
    pub fn key_of(id: StoreId) -> String {
        numbered(Self::PREFIX, u64::from(id.0))
    }
}

impl Row for LightRow {
    const PREFIX: &'static str = "light/";
    fn key(&self) -> String {
        Self::key_of(self.id)
    }
}
