//! Generators and verifiers over [`blockdev::BlockDevice`], shared by the simulator, the benchmark and
//! the demonstration.
//!
//! - [`pattern`]: blocks that say who wrote them, where and which version they are;
//! - [`job`]: loads in the manner of fio, with latency histograms;
//! - [`oracle`]: what a device may answer, given what was asked of it so far.
//!
//! Invariants
//! - Everything is a function of its seed and of the order of its calls.
//! - Nothing here depends on how a device works; only on the promises of the trait.
//!
//! Read next: `oracle.rs`.

pub mod histogram;
pub mod job;
pub mod oracle;
pub mod pattern;
mod rng;
