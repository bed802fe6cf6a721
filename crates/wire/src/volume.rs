//! What a node may be asked about volumes: by gateways and attaches (`client`), not by stores.

use serde::{Deserialize, Serialize};
use vocab::{AttachmentGeneration, ByteCount, Lba, NodeId, VolumeId};

/// Bits of a session's number that count the sessions of one process.
const SESSION_BITS: u32 = 20;

/// Orders the sessions of a client: first by the process that opens them, then one after the other.
///
/// 44 bits of the wall clock's milliseconds at the process's start, and 20 that count. What overflows the count looks like
/// a process that started a millisecond later. A bare count of milliseconds, which releases before this one sent, is less
/// than any number made from a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionNumber(pub u64);

impl SessionNumber {
    /// What comes before the first session of a process that started at this time.
    #[must_use]
    pub fn before_first(started_ms: u64) -> Self {
        Self(started_ms << SESSION_BITS)
    }

    /// The session after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Orders the processes of a client.
    #[must_use]
    pub fn process(self) -> u64 {
        self.0 >> SESSION_BITS
    }
}

/// A request to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeRequest {
    /// Finds a volume by name and its owner; a volume without a living owner is taken over by the node
    /// asked (or by the one it names in the answer) -> `Located`.
    Locate {
        /// Name of the volume.
        volume: String,
    },
    /// Starts a session on the owner -> `Opened`. Ends an older session of the same client first.
    Open {
        /// Name of the volume.
        volume: String,
        /// Random name of the client, kept over reconnects.
        client: u64,
        /// Orders the sessions of this client; an older one than seen is refused, and of a client with an attachment also
        /// one of an older process than was ever let in.
        session: SessionNumber,
        /// Attachment generation the client was given; 0 = whatever is current.
        attachment: AttachmentGeneration,
        /// No writes wanted.
        read_only: bool,
    },
    /// Read -> `Done` with the data in the body. All of the following name a session by the connection's
    /// `handle` from `Opened`.
    Read {
        /// Session handle.
        handle: u64,
        /// Where.
        lba: Lba,
        /// How much.
        blocks: u32,
    },
    /// Write the body -> `Done`. With `fua`, durable when answered.
    Write {
        /// Session handle.
        handle: u64,
        /// Where.
        lba: Lba,
        /// Flush before the answer.
        fua: bool,
    },
    /// Everything acknowledged so far becomes durable -> `Done`.
    Flush {
        /// Session handle.
        handle: u64,
    },
    /// Blocks read as zeros afterwards and give their space back -> `Done`.
    Unmap {
        /// Session handle.
        handle: u64,
        /// Where.
        lba: Lba,
        /// How much.
        blocks: u64,
    },
    /// Which blocks are mapped -> `Allocation`.
    Allocation {
        /// Session handle.
        handle: u64,
        /// Where.
        lba: Lba,
        /// How much.
        blocks: u64,
    },
    /// Present size and state -> `Opened` again.
    Refresh {
        /// Session handle.
        handle: u64,
    },
    /// Ends the session -> `Done`.
    Close {
        /// Session handle.
        handle: u64,
    },
    /// An operation of the management plane that only this node, the owner, can carry out; JSON ->
    /// `Answer`.
    Operate {
        /// The operation.
        operation: Vec<u8>,
    },
}

impl NodeRequest {
    /// What it is, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Locate { .. } => "locate",
            Self::Open { .. } => "open",
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Flush { .. } => "flush",
            Self::Unmap { .. } => "unmap",
            Self::Allocation { .. } => "allocation",
            Self::Refresh { .. } => "refresh",
            Self::Close { .. } => "close",
            Self::Operate { .. } => "operate",
        }
    }
}

/// A volume as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Its id.
    pub volume: VolumeId,
    /// Its size.
    pub size: ByteCount,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The attachment generation that let the session in; 0: the volume was open to everybody.
    pub attachment: AttachmentGeneration,
}

/// A node's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeReply {
    /// Done; data of a read in the body.
    Done,
    /// Who owns the volume, and the addresses of all nodes of the cluster for later.
    Located {
        /// The owner.
        owner: NodeId,
        /// Where it serves clients.
        address: String,
        /// Every node's address.
        nodes: Vec<String>,
    },
    /// The session.
    Opened {
        /// Names the session on this connection.
        handle: u64,
        /// The volume.
        info: VolumeInfo,
    },
    /// Runs of mapped and unmapped blocks, in order, from the asked `lba` on; may end early.
    Allocation {
        /// (blocks, mapped).
        runs: Vec<(u64, bool)>,
    },
    /// Result of an operation, JSON.
    Answer {
        /// Value or error.
        answer: Vec<u8>,
    },
}

/// Why a node refused a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NodeError {
    /// No such volume.
    #[error("there is no volume {name}")]
    NoVolume {
        /// The name asked for.
        name: String,
    },
    /// This node does not own the volume (any more): locate again.
    #[error("this node does not own the volume; ask again who does")]
    NotOwner,
    /// Not now: retry after a moment.
    #[error("not available now: {reason}")]
    Busy {
        /// Why.
        reason: String,
    },
    /// The volume is attached by somebody else, or a newer session of the same client exists. Final.
    #[error("refused: {reason}")]
    Detached {
        /// Why.
        reason: String,
    },
    /// Outside of the volume, misaligned, or not allowed.
    #[error("bad request: {reason}")]
    BadRequest {
        /// Why.
        reason: String,
    },
    /// No space left in the pool or the quota.
    #[error("no space left: {reason}")]
    NoSpace {
        /// Why.
        reason: String,
    },
    /// The data cannot be read or written; a person must look.
    #[error("I/O error: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}
