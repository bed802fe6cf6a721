//! Calls between nodes: one multiplexed connection per peer and lane, in order, batched, bounded.
//!
//! Memory: calls waiting and in flight per peer, requests in progress per connection; nothing on disk.
//!
//! Invariants
//! - Requests of one [`Peer`] are delivered in the order of the calls while its connection lasts; the
//!   server starts them in the order of arrival. Replies come in any order.
//! - A call ends: with a reply, or with an error once its connection is lost (silence counts after 5 s).
//! - [`RpcError::Lost`] alone means "may or may not have been carried out".
//! - Every queue is bounded (docs/protocols/rpc.md).
//!
//! It retries nothing that was sent and knows nothing of what requests mean. Read next: `message.rs`,
//! `peer.rs`, `serve.rs`, `remote.rs`.

mod message;
mod parser;
mod peer;
mod remote;
mod serve;
mod session;

pub use message::{Hello, Reply, Request, RpcError};
pub use parser::{FrameReader, Incoming};
pub use peer::{Call, Peer};
pub use remote::{Directory, LocalStore, RemoteStores};
pub use serve::{Connection, Handler, serve};

use world::Duration;

/// Requests in flight on one connection.
pub const IN_FLIGHT_MAX: usize = 1024;
/// Bytes of bodies in flight on one connection; a single message may exceed it.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// Pieces gathered into one write: half of what Linux takes in one call.
const WRITE_PARTS_MAX: usize = 512;
/// Bytes gathered into one write: about 3 ms of a 10 Gbit/s link.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// A caller that has received or sent nothing for so long asks whether the other side lives.
const PING_AFTER: Duration = Duration::from_secs(2);
/// A caller that has received nothing for so long gives the connection up.
const DEAD_AFTER: Duration = Duration::from_secs(5);
