//! Bytes to bytes: the sealed form of extents, with checksums and compression.
//!
//! Invariants
//! - Decoding arbitrary bytes never panics and allocates at most what the format allows.
//! - Nothing here reads a clock, performs I/O or keeps state.
//!
//! Read next: `extent.rs`, docs/formats/extent.md.

pub mod extent;
