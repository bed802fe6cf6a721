//! What a block device may answer, given what was asked of it and in which order.
//!
//! A [`History`] is told when operations begin and end, on one logical clock that ticks at each call.
//! Every write has the version [`OpId`], so a block that is read names the write it came from.
//!
//! **Reads** are checked per block for linearizability by the zones of Gibbons and Korach ("Testing Shared
//! Memories", 1997): a value, its write and its reads form a cluster, which must have ended before
//! another one whose start lies after the first end in it. Two clusters that must each precede the other
//! are a violation. For distinct values this is exact. Zeros are not distinct: a read of zeros is
//! charged to the only unmap (or the fresh device) that explains it; when several do, it is only checked
//! that one does.
//!
//! **Images** (after a loss of power everywhere, and snapshots) are checked to be a causal prefix of the
//! issue order: with T the latest issue time of a visible operation, whatever had ended before T is
//! visible or overwritten, and so is everything that was promised (`image.rs`).
//!
//! Invariants
//! - No false alarms: a history that some sequential device explains passes.
//! - A value is forgotten once no later answer may hold it, not even after a crash: it is overwritten, the
//!   overwriting is durable, and no read that began earlier is under way. So flush now and then: at most
//!   [`VALUES_MAX`] values are kept.
//! - A failed operation happened before it failed or not at all; an abandoned one may happen until
//!   the next takeover or crash.
//!
//! It does not check latency, space, or that multi-block writes are atomic: the trait promises blocks.
//!
//! Read next: `oracle/history.rs`, `oracle/image.rs`, `oracle/checked.rs`.

mod checked;
mod cluster;
mod history;
mod image;
mod log;
mod violation;

pub use checked::{Checked, Trouble};
pub use history::{Action, CutId, History, OpId, ReadId, VALUES_MAX};
pub use image::Snapshot;
pub use violation::Violation;

#[cfg(test)]
mod tests;
