//! Heads of frames and errors of calls.

use crate::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};
use serde::{Deserialize, Serialize};
use vocab::{Levels, NodeId, StoreId};
use wire::{
    FrameError, FrameHeader, Lane, MESSAGE_BYTES_MAX, NodeError, NodeReply, NodeRequest,
    StoreError, StoreReply, StoreRequest,
};

/// Head of a request frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// To one of the node's stores.
    Store {
        /// Which.
        store: StoreId,
        /// What.
        request: StoreRequest,
    },
    /// To the node.
    Node(NodeRequest),
    /// Are you there? Answered by the connection itself, not by the handler.
    Ping,
}

/// Head of a reply frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Of a store.
    Store(Result<StoreReply, StoreError>),
    /// Of the node.
    Node(Result<NodeReply, NodeError>),
    /// I am here.
    Pong,
    /// The request or the connection is not accepted, for this reason; nothing was carried out.
    Refused(String),
}

/// Who one side of a connection is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Name of the cluster; both sides must agree.
    pub cluster: String,
    /// The node; 0 for one that is only a client.
    pub node: NodeId,
    /// When its process started; tells one run from another.
    pub start: u64,
    /// What its release knows; both sides must know one of them. Sent behind everything else, where a release that does not
    /// know it reads nothing.
    #[serde(skip)]
    pub levels: Levels,
}

/// Head of a hello frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    hello: Hello,
    bulk: bool,
    levels: Levels,
}

/// As releases greeted that did not say what they know.
#[derive(Deserialize)]
struct EarlyGreeting {
    hello: Hello,
    bulk: bool,
}

impl Greeting {
    pub(crate) fn new(hello: Hello, lane: Lane) -> Self {
        Self {
            levels: hello.levels,
            hello,
            bulk: lane == Lane::Bulk,
        }
    }

    /// Reads a hello frame.
    ///
    /// # Errors
    /// Those of [`FrameHeader::decode_head`].
    pub(crate) fn decode(header: &FrameHeader, head: &[u8]) -> Result<Self, FrameError> {
        header
            .decode_head::<Self>(head)
            .or_else(|error| match error {
                FrameError::Head(_) => {
                    let early = header.decode_head::<EarlyGreeting>(head)?;
                    Ok(Self {
                        hello: early.hello,
                        bulk: early.bulk,
                        levels: Levels::FIRST,
                    })
                }
                other => Err(other),
            })
    }

    /// Who greets.
    pub(crate) fn hello(self) -> Hello {
        Hello {
            levels: self.levels,
            ..self.hello
        }
    }

    pub(crate) fn lane(&self) -> Lane {
        if self.bulk { Lane::Bulk } else { Lane::Log }
    }
}

/// Why a call brought no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No connection came about. The request was not carried out; a retry is safe.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Whom we called.
        address: String,
        /// Why.
        reason: String,
    },
    /// The other side does not talk to us: another cluster, another release, or no node at all. The request
    /// was not carried out; a retry fails again until an operator acts.
    #[error("{address} refuses the connection: {reason}")]
    Refused {
        /// Whom we called.
        address: String,
        /// Its words, or ours about what it said.
        reason: String,
    },
    /// The connection broke after the request was handed to it: it may or may not have been carried out.
    #[error("lost {address} before it answered: {reason}")]
    Lost {
        /// Whom we called.
        address: String,
        /// Why.
        reason: String,
    },
    /// The request is larger than any message. It was not sent. A bug of the caller.
    #[error("a message of {bytes} bytes was not sent: the bound is {MESSAGE_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// [`crate::Peer::close`] was called, or the last handle dropped. If the request was sent, it may or may
    /// not have been carried out.
    #[error("the connection to {address} was closed on this side")]
    Closed {
        /// Whom we called.
        address: String,
    },
}

/// Heads are small, so a body may use the rest of a message.
pub(crate) const HEAD_BYTES_RESERVED: usize = 1 << 20;

/// Whether one more message fits beside `count` others with `bytes` of bodies.
pub(crate) fn has_room(count: usize, bytes: usize, more: usize) -> bool {
    count == 0 || count < IN_FLIGHT_MAX && bytes + more <= IN_FLIGHT_BYTES_MAX
}
