//! A store: one journal and the extents on its disks.
//!
//! State in memory: promises, the index of live log records, the extent index, free space, a cache of frame
//! tables. On disk: header and marks, two state regions, the journal ring, the extent areas
//! (docs/formats/disk-header.md, store-state.md, journal.md, extent.md).
//!
//! Invariants
//! - A promise (epoch of a volume, generation of a group) is durable before it is answered and never decreases.
//! - An append is answered when it and everything before it in the journal is on the device; a flush when it
//!   survives a power loss.
//! - A record or frame is never returned with a checksum that does not match.
//! - Space and ring pages are reused only when no durable state refers to them.
//! - Any failed write or flush fails the store for good.
//! - Any free space can be used: it is gathered when it lies in pieces.
//! - When the extent areas or the ring are nearly full, puts and appends are refused; reads, trims and deletes go on.
//!
//! It does not know volumes' contents, groups' members or the catalog. Amnesia (see disk-header.md) is told by
//! a new incarnation; nobody who knew the old one takes its word.
//! Read next: `store.rs`, `state.rs`, `journal/mod.rs`.

mod area;
mod checkpoint;
mod counted;
mod extents;
mod format;
mod gather;
mod header;
mod journal;
mod logs;
mod notes;
mod open;
mod options;
mod space;
mod state;
mod store;
mod survey;
mod upkeep;
mod verify;
#[cfg(feature = "bugs")]
mod witness;

pub use counted::{DISK_LATENCY_US, DiskFigures, DiskLatencies, DiskLatency};
pub use format::{
    FormatError, FormatOptions, Identity, Inspection, check_format, erase, format, inspect,
};
pub use open::OpenError;
#[cfg(feature = "bugs")]
pub use options::Bug;
pub use options::{Faults, Options};
pub use space::kept_back;
pub use store::Store;
pub use survey::survey;
pub use verify::Verified;
#[cfg(feature = "bugs")]
pub use witness::{Copy, DiskView, JournalLoad, Reached, Witness};

pub(crate) use wire::GRANULE_BYTES;

#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod tests;
