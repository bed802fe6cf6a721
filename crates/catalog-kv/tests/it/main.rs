//! Every backend of the catalog against one conformance suite, and what is its own.

// A failed expectation is a failed test; real processes need real sockets, files and time.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used
)]

mod conditions;
mod embedded;
mod events;
mod kubernetes;
mod memory;
mod once;
mod real_etcd;
mod support;
mod switch;
mod tasks;
