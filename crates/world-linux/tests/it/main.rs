//! The real world against what the traits promise.

// A failed expectation is a failed test; real processes need real sockets, files and time.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used
)]

mod both;
mod disk;
mod members;
mod net;
mod shard;
mod tls;
