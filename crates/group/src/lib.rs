//! Placement groups: extents put on every member, read from any, repaired from the others.
//!
//! State in memory: the groups as the catalog last told them, and which stores failed a moment ago.
//! On disk: nothing of its own.
//!
//! Invariants
//! - A put succeeds only when every member of the group has the extent, or at least `copies_min` have and
//!   each of them has recorded who lacks it.
//! - Bytes that fail a checksum are never returned; they are answered from another member and the bad
//!   copy is put again.
//! - Absence on one member is never taken for absence of the extent.
//! - Every change names the group's generation; a store that has promised a newer one refuses it.
//! - A store forgets a group only when every member of the present generation holds what it held.
//!
//! It does not choose members (`catalog::plan_groups`, `curator::placement`) nor decide what is garbage (curator).
//! Read next: `pool.rs`, `read.rs`, `fill.rs`.

mod fill;
mod options;
mod pool;
mod protection;
mod read;
mod witness;

pub use fill::FillReport;
#[cfg(feature = "bugs")]
pub use options::Bug;
pub use options::PoolOptions;
pub use pool::{Listed, Pool, PoolError, Purpose, Unflushed};
#[cfg(feature = "bugs")]
pub use witness::{Acknowledged, Watch, Witness};
