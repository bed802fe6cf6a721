//! Key-value stores under the catalog, all behind [`catalog::kv::Kv`].
//!
//! - [`memory::MemoryKv`] for the simulator and unit tests, with faults;
//! - `embedded::EmbeddedKv` (feature `embedded`): one local file, for one process;
//! - [`switch::SwitchKv`]: any of them, exchanged for another while it is used;
//! - `etcd::EtcdKv` (feature `etcd`): an etcd cluster, for several processes or machines.
//!
//! Memory and embedded share one state machine (`state.rs`), so what the simulator exercises is what a
//! single machine runs. One conformance suite (`tests/support/conformance.rs`) runs against all three.
//!
//! Invariants
//! - A future does nothing before it is first polled; dropping it leaves open whether the call happened.
//! - A transaction is never sent twice by this crate, unless it certainly did not reach the store.
//! - Replies from another thread resolve futures of a shard through its waker (`reply.rs`); nothing here
//!   needs a runtime on the shard's thread.
//!
//! Read next: `state.rs`, then the backend of interest; docs/decisions/0002-catalog-backends.md.

// The embedded and etcd backends run on threads of their own beside the shards, with real files, sockets
// and time. `memory` and `state` use none of it: they live on `world` alone.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod limits;
pub mod memory;
mod state;
pub mod switch;

#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(any(feature = "embedded", feature = "etcd"))]
mod reply;
