//! Frontends: the block protocols through which machines use volumes. Each is a `pdu` module (bytes and
//! fields), a sans-io session and a server on `world`. They see `blockdev::BlockDevice` only.
//!
//! Invariants
//! - Whatever a client sends, the answer is an error reply or a closed connection: never a panic, never
//!   memory beyond the bounds in docs/protocols.
//! - When a connection ends, for whatever reason, its device is closed and its requests are dropped.
//!
//! Read next: `nbd/mod.rs`, docs/protocols/nbd.md.

pub mod nbd;
