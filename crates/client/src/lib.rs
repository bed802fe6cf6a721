//! A volume of the cluster as a `BlockDevice`, wherever it is owned at the moment.
//!
//! Memory: the requests that are not acknowledged, with their data; nothing on disk.
//!
//! Invariants
//! - At most one session. Its requests are sent in the order they were issued.
//! - What was not acknowledged when a session ended is sent again on the next one, in the order it was first issued,
//!   before anything newer. What was acknowledged is never sent again.
//! - Writes in flight do not overlap, so one that is carried out twice cannot undo another.
//! - Without a session a request waits for at most `ClientOptions::patience`.
//!
//! It caches nothing and does not shape requests beyond cutting large ones. See docs/protocols/client.md. Read next:
//! `device.rs` (the block device), `engine.rs` (requests and sessions), `find.rs` (locating and opening), `doubt.rs` (silent owners).

mod device;
mod doubt;
mod engine;
mod find;
mod ranges;

pub use device::RemoteDevice;
pub use doubt::DOUBT_AFTER;

use vocab::{AttachmentGeneration, Levels};
use world::{Address, Duration};

/// Which volume, and how to reach it.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Name of the cluster; nodes of another one refuse us.
    pub cluster: String,
    /// Nodes to ask first; the others are learned from them.
    pub nodes: Vec<Address>,
    /// Name of the volume.
    pub volume: String,
    /// Who the client is, kept over reconnects: a newer session of the same client ends the older one first, also when
    /// its process died and another one came ([`client_id`]). 0 draws a random one.
    pub client: u64,
    /// Attachment generation we were given; 0 = whatever is current.
    pub attachment: AttachmentGeneration,
    /// No writes wanted.
    pub read_only: bool,
    /// What the release knows that asks.
    pub levels: Levels,
    /// How long a request (or `open`) waits while no owner can be reached; [`Duration::MAX`] is for ever.
    pub patience: Duration,
    /// How long the owner may owe an answer and say nothing before it is asked for a sign of life; as long again without one,
    /// the other nodes are asked who serves the volume now. [`DOUBT_AFTER`] is for everybody; [`Duration::MAX`]: never, and its
    /// connection is given up after 5 s of silence.
    pub doubt_after: Duration,
}

/// What a client of this name calls itself, in each of its processes; never 0.
#[must_use]
pub fn client_id(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes()).max(1)
}

/// Why a volume could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// There is no such volume. A retry is of use once somebody has made it.
    #[error("there is no volume {name}")]
    NoVolume {
        /// The name asked for.
        name: String,
    },
    /// The owner, or every node, does not let us in: attached by somebody else, another cluster, another release.
    #[error("volume {volume} is refused to this client: {reason}")]
    Refused {
        /// Which.
        volume: String,
        /// Their words.
        reason: String,
    },
    /// No owner was reached within `patience`. A retry is safe.
    #[error("volume {volume} cannot be reached: {reason}")]
    Unavailable {
        /// Which.
        volume: String,
        /// The last failure.
        reason: String,
    },
}
