//! NBD server: fixed newstyle, structured replies, block status, multi-conn. docs/protocols/nbd.md says what
//! is served; this is how.
//!
//! ```text
//! server.rs      accepts, one task per connection: handshake, then transmission, then the device is closed
//!   handshake.rs   options, sans-io          connection.rs  pumps bytes, requests and replies
//!   session.rs     requests and replies, sans-io
//!   request.rs     one request on a BlockDevice; range.rs: locks for read-modify-write
//!   pdu.rs         bytes and fields          input.rs: received chunks
//! ```
//!
//! Invariants
//! - The device of a connection is closed exactly once, however the connection ends.
//! - Memory of a connection is bounded (docs/protocols/nbd.md, Bounds): a client that sends faster than the
//!   device works, or does not read its replies, is not read from.
//! - Payloads are not copied, except blocks that straddle two chunks of the stream or that are modified.

mod connection;
mod handshake;
mod input;
pub mod pdu;
mod range;
mod request;
mod server;
mod session;

pub use server::serve;

use blockdev::BlockDevice;
use futures_util::future::LocalBoxFuture;
use std::cell::Cell;
use std::rc::Rc;
use world::Duration;
use world::sync::Notify;

/// Smallest request that is advertised, in bytes.
pub const BLOCK_BYTES_MIN: u32 = 512;
/// Largest payload of one request, in bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;

/// An entry of the list of exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportName {
    /// What clients ask for; at most 4096 bytes, longer ones are left out.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
}

/// Why an export cannot be used. The texts reach the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no such export.
    #[error("there is no export of this name")]
    Unknown,
    /// It is in use elsewhere; a later attempt may succeed.
    #[error("the export is busy: {0}")]
    Busy(String),
    /// It will not be served; the text says why.
    #[error("the export is refused: {0}")]
    Refused(String),
}

/// What a server serves.
pub trait Exports {
    /// All exports that a client may see, or why they cannot be listed now.
    fn list(&self) -> LocalBoxFuture<'static, Result<Vec<ExportName>, String>>;

    /// A device for one connection. Devices of one name, open at the same time, share their state: what one
    /// has written the others read, and the flush of one covers the writes of all. The future is polled to its
    /// end even if the client goes away.
    fn open(&self, name: &str) -> LocalBoxFuture<'static, Result<Rc<dyn BlockDevice>, OpenError>>;

    /// The connection that `device` was opened for is over; no request of it is running.
    fn closed(&self, device: Rc<dyn BlockDevice>) -> LocalBoxFuture<'static, ()>;
}

/// How a server serves. Servers that get clones of one `Options` serve the same exports: they share the locks for
/// writes of less than a block and one [`Shutdown`].
#[derive(Clone)]
pub struct Options {
    /// Open connections; further ones are closed at once.
    pub connections_max: usize,
    /// For the whole handshake.
    pub handshake_timeout: Duration,
    /// For outstanding requests after the client said good-bye or the server was shut down.
    pub drain_timeout: Duration,
    /// Requests of one connection that run at the same time.
    pub requests_max: usize,
    /// Payloads, read buffers and unsent replies of one connection. A single request may exceed it.
    pub in_flight_bytes_max: u64,
    /// Structured reads of at least this many bytes ask for the allocation first and send holes as such;
    /// `u32::MAX`: never. Costs one more lookup per read and saves the transfer of zeros.
    pub sparse_read_bytes_min: u32,
    /// Ends the server.
    pub shutdown: Shutdown,
    /// Shared by servers of the same exports.
    pub locks: Locks,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            handshake_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            requests_max: 128,
            in_flight_bytes_max: 64 << 20,
            sparse_read_bytes_min: 256 << 10,
            shutdown: Shutdown::default(),
            locks: Locks::default(),
        }
    }
}

pub use range::Locks;

/// Ends servers: no more connections, no more requests; running ones finish and are answered.
#[derive(Clone, Default)]
pub struct Shutdown(Rc<ShutdownState>);

#[derive(Default)]
struct ShutdownState {
    requested: Cell<bool>,
    changed: Notify,
}

impl Shutdown {
    /// Asks for the end; [`serve`] returns once every connection is over.
    pub fn request(&self) {
        self.0.requested.set(true);
        self.0.changed.notify_all();
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.requested.get()
    }

    /// Resolves once it was asked for.
    pub async fn requested(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.is_requested() {
                return;
            }
            changed.await;
        }
    }
}
