//! Nodes that run the cluster's etcd themselves, with real processes on loopback: it grows, its members die and are replaced,
//! and all of it is lost.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests of the binary use the operating system"
)]

mod growth;
mod loss;
mod scene;
mod secured;
#[path = "../support/mod.rs"]
mod support;
