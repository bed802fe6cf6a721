//! Background work that no I/O waits for: collection of garbage, and the plan of who holds which placement group.
//!
//! State in memory: none between two collections. On disk: nothing of its own.
//!
//! Invariants
//! - Nothing that a durable root of the lineage refers to is deleted or dropped by a compaction.
//! - Nothing at or above a volume's floor is touched: it may be in flight.
//! - Roots are read as one moment: the lineage row is read before and after, and its version changes whenever
//!   a root joins, leaves or is set back.
//! - Every step may be repeated; a collection that stops half-way leaves garbage, never damage.
//!
//! Read next: `collect.rs`, `account.rs`, `placement.rs`, `owners.rs`, `missing.rs`, `log_copies.rs`, `space.rs`, `alerts.rs`, `rebuild.rs`.

mod account;
pub mod alerts;
mod collect;
mod domains;
mod log_copies;
mod missing;
mod owners;
mod pace;
mod pages;
mod placement;
mod quorum;
pub mod rebuild;
mod space;
mod sparse;

pub use account::{Ledger, LineageSpace, RootOf, RootSpace};
pub use collect::{
    Attempts, CollectError, CollectReport, Collected, Limits, collect_lineage, untouched,
};
pub use domains::{Domain, Domains, NODE_LEVEL, STORE_LEVEL, level_name};
pub use log_copies::{Answering, LogCopies, LogTally};
pub use missing::{HeldSizes, Lacking, bytes_moved, lacking, missing_redundancy};
pub use owners::{OwnedVolume, OwnerMove, plan_owner};
pub use pace::{FULL, Pace, PaceOptions, Share, Window};
pub use placement::{GroupSizes, PlacementLimits, Standing, StoreFacts, deficit, plan};
pub use quorum::{
    Holding, QuorumLimits, QuorumStep, Seat, Tenant, has_no_space, has_room, is_closed,
    members_wanted, plan_member,
};
pub use space::{SpaceInventory, SpaceJudge, SpaceLimits, fill_of};
