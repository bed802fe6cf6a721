//! How far scrubbing has come.

use crate::rows::{Row, numbered};
use serde::{Deserialize, Serialize};
use vocab::{ExtentId, GroupId, Incarnation, StoreId};

/// How far the reading of all copies of a store has come, so that a process that starts again goes on there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRow {
    /// The store.
    pub id: StoreId,
    /// The life of it that is read. Another one begins anew.
    pub incarnation: Incarnation,
    /// When the round under way began, or the last one, Unix milliseconds.
    pub began_ms: u64,
    /// The group that is read now; none: the round is over.
    #[serde(default)]
    pub group: Option<GroupId>,
    /// The last extent of it that was read.
    #[serde(default)]
    pub after: Option<ExtentId>,
    /// When every copy had been read the last time, Unix milliseconds; 0: never.
    #[serde(default)]
    pub whole_ms: u64,
}

impl ScrubRow {
    /// Key of the row of a store.
    #[must_use]
    pub fn key_of(id: StoreId) -> String {
        numbered(Self::PREFIX, u64::from(id.0))
    }
}

impl Row for ScrubRow {
    const PREFIX: &'static str = "scrub/";
    fn key(&self) -> String {
        Self::key_of(self.id)
    }
}
