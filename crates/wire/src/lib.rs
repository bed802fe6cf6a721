//! Node-to-node messages: what a store, a volume's owner and a node may be asked, and how it is framed.
//!
//! Invariants
//! - Every message to a store that concerns a log carries (volume, epoch, segment, incarnation); every one
//!   that concerns an extent carries (group, generation).
//! - Enums grow at the end only: the position of a variant is its number on the wire.
//! - Decoders accept any bytes and answer with a value or an error; they never panic and never allocate
//!   more than the bytes they were given.
//!
//! No behaviour lives here. Read next: `record.rs`, `store.rs`, `note.rs`, `volume.rs`, `frame.rs`.

#[cfg(test)]
mod corpus_tests;
mod frame;
mod note;
#[cfg(test)]
mod numbers;
mod record;
mod store;
mod volume;

pub use frame::{Frame, FrameError, FrameHeader, FrameKind, MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
pub use note::{
    GroupSurvey, LOG_NOTES, LogSurvey, NOTE_BYTES_MAX, NOTES_MAX, Note, NoteVersion, StoreSurvey,
    log_note_key,
};
pub use record::{RECORD_HEAD_BYTES, Record, RecordDamage, RecordHead, RecordKind};
pub use store::{
    CallError, ExtentInfo, FramePiece, FrameRead, GRANULE_BYTES, Lane, SegmentTail, StoreCall,
    StoreError, StoreReply, StoreRequest, StoreStatus, Stores, Trust, occupied_by,
};
pub use volume::{NodeError, NodeReply, NodeRequest, SessionNumber, VolumeInfo};
