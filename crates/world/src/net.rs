//! Byte streams between nodes and from clients.

use crate::{Caller, LocalBoxFuture};
use bytes::Bytes;
use std::fmt;
use std::rc::Rc;

/// Where to connect or listen: `host:port`, or `unix:/path` for a local socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Why a network operation failed. Whether the peer received earlier bytes is unknown in every case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The machine is there and says that nobody listens (RFC 9293, 3.10.7.1: a reset answers the request).
    #[error("cannot connect to {address}: connection refused")]
    Refused {
        /// Whom we called.
        address: String,
    },
    /// The address cannot be reached.
    #[error("cannot connect to {address}: {reason}")]
    Unreachable {
        /// Whom we called.
        address: String,
        /// The operating system's words.
        reason: String,
    },
    /// Somebody answers there who is not known to be of the cluster, or does not take us for one of it.
    #[error("no safe connection to {address}: {reason}")]
    Untrusted {
        /// Whom we called.
        address: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    CannotListen {
        /// What was asked for.
        address: String,
        /// The operating system's words.
        reason: String,
    },
    /// The connection broke or was closed on this side.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// One connection: a reliable ordered byte stream until it is lost.
pub trait Stream {
    /// The next bytes, at least 1 and at most about 1 MiB; empty at the end of the stream. One reader at a time.
    fn read(&self) -> LocalBoxFuture<'static, Result<Bytes, NetError>>;

    /// Sends all of `parts` in order. Resolves when they are handed to the transport, which says nothing
    /// about arrival. One writer at a time.
    fn write(&self, parts: Vec<Bytes>) -> LocalBoxFuture<'static, Result<(), NetError>>;

    /// Ends the connection in both directions; pending reads and writes fail.
    fn close(&self);

    /// Whether the certificate that has opened it would be let in now. Where connections are not encrypted, or this side has
    /// called, there is none to doubt.
    fn is_believed(&self) -> bool {
        true
    }

    /// Who is at the other end. Nothing where connections are not encrypted: then it may be anybody.
    fn caller(&self) -> Option<Caller> {
        None
    }
}

/// Accepts connections.
pub trait Listener {
    /// The next connection.
    fn accept(&self) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>>;

    /// The bound address, with the real port when port 0 was asked for.
    fn address(&self) -> Address;
}

/// Makes connections.
pub trait Net {
    /// Connects. May hang for as long as the network does: bound it with `World::timeout`.
    fn connect(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>>;

    /// Listens.
    fn listen(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Listener>, NetError>>;

    /// Listens for programs that are not of the cluster, such as NBD clients: never encrypted.
    fn listen_plain(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Listener>, NetError>> {
        self.listen(address)
    }
}
