//! A node without an operating system: stores, volumes, sessions, gateways and background work put
//! together over `world`, `catalog::Kv` and `world::Disk`.
//!
//! State in memory: what the catalog says of the cluster as last seen, the volumes owned now, the
//! sessions of clients. On disk: nothing of its own; one small catalog row per volume that is being opened.
//!
//! Invariants
//! - A volume is opened by one task at a time, and served only while its handle is not lost.
//! - A request of a session that was ended is never started; the next session of the same client starts
//!   when the last request of the one before is done.
//! - Local clients and remote ones run through the same sessions.
//! - Background work is bounded and woken by events; an idle node renews its lease and looks at the catalog
//!   now and then.
//!
//! It does not place extents (group), decide what is garbage (curator), or parse configuration (control).
//! Read next: `host.rs`, then `membership.rs`, `volumes.rs`, `sessions.rs`, `operations.rs`.

mod accounts;
mod alerts;
mod asker;
mod device;
mod disks;
mod events;
mod exports;
mod feed;
mod health;
mod host;
mod latency;
mod membership;
mod meter;
mod operations;
mod options;
mod placement;
mod recall;
mod service;
mod sessions;
mod stores;
mod tasks;
mod upkeep;
mod volumes;

pub use crate::alerts::{Courier, Parcel};
pub use crate::disks::{Bay, DiskFacts, DiskRequest, FoundDisks};
pub use crate::host::Host;
pub use crate::membership::ClusterView;
pub use crate::meter::{Process, Usage};
pub use crate::operations::{CatalogPlace, LogWindow, Moved, Signer};
#[cfg(feature = "bugs")]
pub use crate::options::Bug;
pub use crate::options::{
    CollectOptions, Faults, HostError, HostOptions, RELEASE, ScrubOptions, StoreSpec,
};
pub use crate::upkeep::{EvenOptions, Keeper, Recording, ScrubReport, SeatFacts};
pub use crate::volumes::LastWords;
#[cfg(feature = "bugs")]
pub use crate::volumes::OpeningSeen;
