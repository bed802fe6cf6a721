//! The CSI driver on a real node: its two processes, called over their sockets as an orchestrator would. What makes devices
//! and mounts needs root, /dev/fuse and loop devices, and says so when it is left out.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests of the binary use the operating system"
)]

mod container;
mod device;
mod driver;
mod group;
mod interruption;
mod metadata;
mod mounting;
mod publish;
mod requests;
mod snapshot;
#[path = "../support/mod.rs"]
mod support;
mod volume;
