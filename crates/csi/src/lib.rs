//! The CSI driver `csi.azekura.dev`: volumes of the cluster for Kubernetes and other orchestrators.
//!
//! Two processes serve it, each on a unix socket. The *controller* (one per cluster) turns requests into calls to the
//! public REST API: volumes, snapshots, who may use what. The *node* (one per machine) makes block devices,
//! file systems and mounts of them. Neither keeps state: the controller asks the cluster, the node looks at what is
//! really there (attached devices, `/proc/self/mountinfo`, the blocks of the device), so that either may be killed
//! between any two steps.
//!
//! Invariants
//! - Every operation may be repeated and may be run twice at once: the second answer is that of the first, or ABORTED
//!   while the first is at it (`call.rs`).
//! - A name, a parameter or a capability that is not understood is refused by name, never passed over (`parameters.rs`,
//!   `capability.rs`).
//! - No device is formatted that is not proven blank, but for one whose formatting this driver began (`blank.rs`,
//!   `node/stage.rs`).
//! - Secrets of requests and the API token are never logged.
//! - No request waits for lines to be told (`logs.rs`).
//!
//! It does not touch the core: it knows `api` and nothing else of the workspace. How a volume becomes a block
//! device is a trait, [`Attach`].
//!
//! Read next: `controller.rs`, `node.rs`; docs/protocols/csi.md.
// The driver is where the operating system is: sockets, processes, mounts and real time are its work.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod attachment;
mod blank;
mod call;
mod capability;
pub mod claims;
mod cluster;
mod controller;
mod filesystem;
pub mod follow;
mod group;
mod handle;
mod identity;
pub mod logs;
mod metadata;
mod mounts;
mod node;
mod parameters;
mod serve;

/// The messages and services of `proto/csi.proto`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::disallowed_types,
    reason = "generated; proto/csi.proto is where they are described"
)]
pub mod v1 {
    tonic::include_proto!("csi.v1");
}

pub use attachment::{Attach, AttachRefusal, Device, Wanted};
pub use cluster::ApiOptions;
pub use serve::{
    BlockStyle, ControllerOptions, NodeOptions, ServeError, serve_controller, serve_node,
};

/// The driver's name.
pub const DRIVER: &str = "csi.azekura.dev";
