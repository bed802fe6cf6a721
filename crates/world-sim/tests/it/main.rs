//! The simulated world against what the traits promise.

// A failed expectation is a failed test; real processes need real sockets, files and time.
#![allow(clippy::unwrap_used)]

mod disk;
mod engine;
mod net;
