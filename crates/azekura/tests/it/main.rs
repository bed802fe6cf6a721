//! The binary as its users meet it. One program: every further one would be linked anew.

// A failed expectation is a failed test; real processes need real sockets, files and time.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used
)]

mod csi_api;
mod real_alerts;
mod real_attach;
mod real_bench;
mod real_catalog;
mod real_chart;
mod real_claims;
mod real_cluster;
mod real_console;
mod real_csi;
mod real_disk;
mod real_disks;
mod real_etcd;
mod real_follow;
mod real_logs;
mod real_nbd;
mod real_node;
mod real_openapi;
mod real_readers;
mod real_tasks;
mod real_tls;
mod real_verdict;
mod support;
