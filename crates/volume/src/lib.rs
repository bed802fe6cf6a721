//! A volume: a replicated log, an overlay, a copy-on-write map, a drain between them, and recovery.
//!
//! State in memory: per volume the overlay (bounded), the log's window and the newest root; per node the
//! page cache. On disk: nothing of its own; records and extents in stores, reached through `wire::Stores`
//! and `group::Pool`, and rows in the catalog.
//!
//! Invariants
//! - Acknowledged means: on every replica of a log segment that the catalog knows.
//! - After a crash of anything the volume is a prefix of its write order that holds all flushed data.
//! - A read never returns what is not committed, nor what a newer owner may have replaced.
//! - Nothing a durable root refers to is ever changed; garbage is told by roots and floors alone.
//!
//! It does not place data (group), store it (store), or decide who owns it (catalog).
//! Read next: `volume.rs`, then `log/mod.rs`.

mod change;
mod device;
mod drain;
mod extents;
mod gate;
mod log;
mod map;
mod options;
mod overlay;
mod recover;
mod room;
mod snapshot;
mod volume;

pub use crate::device::Device;
pub use crate::extents::Policy;
pub use crate::log::{LogError, LogStatus, Placement};
pub use crate::map::{
    DiffRun, MapError, Marks, PageCache, PageSource, Referrer, Tally, diff, mark, tally,
};
#[cfg(feature = "bugs")]
pub use crate::options::{Bug, Watch, Witness};
pub use crate::options::{Faults, Options};
pub use crate::recover::{Turn, open};
pub use crate::room::Room;
pub use crate::volume::{Context, Volume, VolumeError, VolumeStatus, policy_of};
