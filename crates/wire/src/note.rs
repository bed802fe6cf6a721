//! Notes: what a store keeps about the cluster so that its disks describe themselves when the catalog is lost. A store does
//! not read them. See docs/formats/notes.md.

use serde::{Deserialize, Serialize};
use vocab::{Epoch, Generation, GroupId, Incarnation, Position, SegmentId, StoreId, VolumeId};

use crate::SegmentTail;

/// Bytes of key and value at most: a redo entry must fit a batch of the journal.
pub const NOTE_BYTES_MAX: usize = 16 << 10;
/// Notes of one request at most.
pub const NOTES_MAX: usize = 64;

/// Which of two notes with one key is newer. Compared field by field.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NoteVersion {
    /// Of a log: the owner's term. Of a catalog row: how often the catalog was made anew.
    pub term: u64,
    /// Counts within the term; of a catalog row its revision.
    pub number: u64,
}

/// A note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What it is about.
    pub key: String,
    /// A store keeps the newest.
    pub version: NoteVersion,
    /// JSON; `None` forgets the key.
    pub value: Option<String>,
}

impl Note {
    /// Bytes it takes in the store's state, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, String::len) + 32
    }
}

/// Prefix of the notes that owners write about logs.
pub const LOG_NOTES: &str = "log/";

/// Key of the note about a volume's log.
#[must_use]
pub fn log_note_key(volume: VolumeId) -> String {
    format!("{LOG_NOTES}{:020}", volume.0)
}

/// What a store's disks say, read without changing them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSurvey {
    /// Name of its cluster.
    pub cluster: String,
    /// Its id.
    pub store: StoreId,
    /// Its life; 0 when it is lost: the store starts another one when it is opened.
    pub incarnation: Incarnation,
    /// Its newest run.
    pub session: u64,
    /// Bytes for extents.
    pub capacity: u64,
    /// Notes.
    pub notes: Vec<Note>,
    /// Logs.
    pub logs: Vec<LogSurvey>,
    /// Groups of which it has a promise or extents.
    pub groups: Vec<GroupSurvey>,
    /// The highest term in the names of each volume's extents.
    pub terms: Vec<(VolumeId, Epoch)>,
}

/// What a store has of a volume's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSurvey {
    /// The volume.
    pub volume: VolumeId,
    /// Terms below are refused.
    pub promised: Epoch,
    /// Records up to here were let go.
    pub trimmed: Position,
    /// Segments.
    pub segments: Vec<SegmentTail>,
}

impl LogSurvey {
    /// The newest segment that records are here of.
    #[must_use]
    pub fn newest(&self) -> Option<(Epoch, SegmentId)> {
        let segments = self.segments.iter();
        segments.map(|tail| (tail.epoch, tail.segment)).max()
    }
}

/// What a store has of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSurvey {
    /// The group.
    pub group: GroupId,
    /// Generations below are refused.
    pub promised: Generation,
    /// Extents and tombstones of it that are here.
    pub extents: u64,
}
