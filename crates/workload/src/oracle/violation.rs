//! What a device did wrong, in words that name block, versions and operations.

use crate::pattern::Content;
use vocab::Lba;

/// A broken promise. Fields that describe operations are sentences for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A block was damaged, torn, or belongs elsewhere.
    #[error("{lba} returned {content}; it may hold {admissible}")]
    Wrong {
        /// The block.
        lba: Lba,
        /// What it returned.
        content: Content,
        /// What it may hold.
        admissible: String,
    },
    /// A block returned a version that nothing wrote, or that ceased to exist long ago.
    #[error("{lba} returned {content}: {reason}; it may hold {admissible}")]
    Unexplained {
        /// The block.
        lba: Lba,
        /// What it returned.
        content: Content,
        /// What is known of that version.
        reason: String,
        /// What it may hold.
        admissible: String,
    },
    /// A read returned a value that had been replaced before, or that had not come yet.
    #[error(
        "{lba} returned {returned} to a read from t{begun} to t{ended}, but {other} came in between: \
         no order of the two explains all answers"
    )]
    Stale {
        /// The block.
        lba: Lba,
        /// The operation whose value was returned.
        returned: String,
        /// The operation that contradicts it.
        other: String,
        /// When the read began.
        begun: u64,
        /// When the read ended.
        ended: u64,
    },
    /// An image lacks an operation that it must contain.
    #[error("{what}: {lba} holds {found}, but must contain {lost}, because {reason}")]
    Lost {
        /// Which image.
        what: &'static str,
        /// The block.
        lba: Lba,
        /// What it holds.
        found: String,
        /// The operation that is missing.
        lost: String,
        /// Why it must be there.
        reason: String,
    },
    /// A snapshot's block changed.
    #[error("{lba} of the snapshot returned {now}, and {first} before")]
    Changed {
        /// The block.
        lba: Lba,
        /// What it returned first.
        first: Content,
        /// What it returned now.
        now: Content,
    },
    /// An answer had fewer or more blocks than were asked for.
    #[error("a read of {asked} blocks at {lba} returned {returned}")]
    Length {
        /// First block.
        lba: Lba,
        /// Blocks asked for.
        asked: u64,
        /// Blocks returned.
        returned: u64,
    },
}
