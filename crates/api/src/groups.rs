//! Placement groups: where data is, and what is missing of it.

use serde::{Deserialize, Serialize};

/// A store that a placement group has, or had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupStoreAnswer {
    /// Id of the store.
    pub store: u32,
    /// `complete`, `filling` (it may lack what others hold) or `former` (it was a member, and may still hold something).
    pub role: String,
    /// `present`, `away`, `draining` or `lost`: what is made of the store.
    pub standing: String,
    /// Whether another store is to take its place.
    #[serde(default)]
    pub leaving: bool,
    /// Bytes of the group that it holds, with what is not collected yet, as it said within the last half minute; absent: it was not
    /// asked yet, or does not answer.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// A placement group: stores that hold the same extents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupAnswer {
    /// Its id.
    pub id: u32,
    /// Version of its members: grows with every change of them.
    pub generation: u64,
    /// Copies wanted.
    pub rf: u8,
    /// `ok`; `filling`: as many complete copies as are wanted answer, and members are being filled; `degraded`: fewer answer;
    /// `unavailable`: none does.
    pub state: String,
    /// Copies wanted beyond those that are complete and answer.
    pub missing: u32,
    /// Bytes of one copy: the most that a complete member holds. Absent while none has said it.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Stores that it has, in order; everything new goes to all of them.
    pub members: Vec<GroupStoreAnswer>,
    /// Stores that it had, until they are empty.
    #[serde(default)]
    pub former: Vec<GroupStoreAnswer>,
}
