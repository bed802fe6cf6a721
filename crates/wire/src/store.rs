//! What a store may be asked. Logs: fence, append, flush, read, trim. Extents: put, read, list, delete,
//! compact. See docs/protocols/store.md.

use crate::note::{Note, NoteVersion};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use vocab::{
    ByteCount, Epoch, ExtentId, Generation, GroupId, Incarnation, Position, SegmentId, StoreId,
    VolumeId,
};
use world::LocalBoxFuture;

/// Which connection a call takes: bulk data must not delay log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Small and urgent: log records, fences, heartbeats, reads.
    Log,
    /// Extents.
    Bulk,
}

/// A request to one store. The comment names the body, where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreRequest {
    /// Who are you and how full? -> `Status`.
    Status,
    /// Promise durably to refuse epochs below `epoch` for this volume, then say what is there of its log
    /// -> `Fenced`. Idempotent.
    Fence {
        /// Whose log.
        volume: VolumeId,
        /// The new owner's term.
        epoch: Epoch,
    },
    /// Append records [`crate::Record::encode_batch`]ed in the body to a segment, in position order, starting
    /// right after the last one there (records already there are skipped, so a retry is safe) ->
    /// `Appended`. Answered when the records are on the journal device; with `durable`, flushed too.
    /// The first append of a segment creates it.
    Append {
        /// Whose log.
        volume: VolumeId,
        /// The owner's term.
        epoch: Epoch,
        /// The segment.
        segment: SegmentId,
        /// The store's life the segment was opened on.
        incarnation: Incarnation,
        /// Number of records in the body; at least 1.
        count: u32,
        /// Flush before answering, and count these records as flushed: none of them, nor any before them, refers to an extent that
        /// is not durable.
        durable: bool,
    },
    /// Make every record of the segment up to `through` durable, and count them as flushed: the extents that they refer to are
    /// durable already -> `Appended`. Concurrent flushes of all
    /// volumes share device flushes.
    FlushLog {
        /// Whose log.
        volume: VolumeId,
        /// The owner's term.
        epoch: Epoch,
        /// The segment.
        segment: SegmentId,
        /// The store's life the segment was opened on.
        incarnation: Incarnation,
        /// Position that must be there.
        through: Position,
    },
    /// Records of a segment from `from` on, verified and chained, about `bytes_max` bytes, at least one
    /// when there is one -> `Records` (body: [`crate::Record::encode_batch`]).
    ReadLog {
        /// Whose log.
        volume: VolumeId,
        /// The owner's term; older ones than promised are refused.
        epoch: Epoch,
        /// The segment.
        segment: SegmentId,
        /// First position wanted.
        from: Position,
        /// Bound of the answer.
        bytes_max: u32,
    },
    /// Records up to `through`, of any segment, are no longer needed -> `Done`. Idempotent.
    TrimLog {
        /// Whose log.
        volume: VolumeId,
        /// The owner's term.
        epoch: Epoch,
        /// Last position that may go.
        through: Position,
    },
    /// The volume is deleted: forget its log; keep the promise not to accept this or older epochs -> `Done`.
    DropLog {
        /// Whose log.
        volume: VolumeId,
        /// The term of the deletion.
        epoch: Epoch,
    },
    /// Is the promise of each of these volumes still the one named? -> `Confirmed`.
    Confirm {
        /// Volumes with their owners' terms.
        volumes: Vec<(VolumeId, Epoch)>,
    },
    /// Promise durably to refuse generations below -> `Done`.
    PromiseGroup {
        /// The group.
        group: GroupId,
        /// The generation.
        generation: Generation,
    },
    /// Keep an extent (body: its sealed bytes) -> `Kept`. Putting the same form again is a success;
    /// a newer form replaces an older one; an older one is ignored.
    PutExtent {
        /// Name.
        id: ExtentId,
        /// The group's generation the writer knows.
        generation: Generation,
        /// Form of the bytes.
        form: u32,
        /// Flush data and index before answering. Without it the extent may be lost by a power loss until
        /// a `FlushExtents`.
        durable: bool,
        /// May use the space kept back for draining and repair: what is put frees a journal or restores a copy.
        reserved: bool,
        /// Members that do not have it: recorded until they do.
        missing: Vec<StoreId>,
    },
    /// Make every extent put so far durable -> `Kept`.
    FlushExtents,
    /// Read frames (or parts of raw ones) -> `Frames` (body: the pieces' stored bytes, concatenated).
    /// The store has verified them; the reader verifies again.
    ReadFrames {
        /// The pieces.
        reads: Vec<FrameRead>,
    },
    /// The sealed bytes of an extent, verified -> `Extent` (body).
    ReadExtent {
        /// Name.
        id: ExtentId,
    },
    /// Delete extents; their names stay as tombstones, so that a member that was absent does not bring them
    /// back -> `Done`. Idempotent.
    DeleteExtents {
        /// The group.
        group: GroupId,
        /// Its generation.
        generation: Generation,
        /// Names, all of this group.
        ids: Vec<ExtentId>,
    },
    /// Rewrite an extent as `form` without the blocks whose bit in `live` is 0 (bit = frame * 4 + block)
    /// -> `Done`. Every member computes the same bytes. Idempotent.
    CompactExtent {
        /// Name.
        id: ExtentId,
        /// The group's generation.
        generation: Generation,
        /// The new form; higher than the present one. Numbered by the catalog.
        form: u32,
        /// Bitmap of the blocks to keep, least significant bit first.
        live: Vec<u8>,
    },
    /// Extents of a group in id order -> `Extents`.
    ListExtents {
        /// The group.
        group: GroupId,
        /// Generation the caller knows.
        generation: Generation,
        /// Start after this id.
        after: Option<ExtentId>,
        /// Bound of the answer.
        limit: u32,
        /// Include tombstones.
        tombstones: bool,
    },
    /// `store` has these extents now: it is no longer missing there -> `Done`.
    ClearMissing {
        /// The group.
        group: GroupId,
        /// Who caught up.
        store: StoreId,
        /// Names.
        ids: Vec<ExtentId>,
    },
    /// Volumes whose logs this store holds, in id order, after `after` -> `Logs`.
    ListLogs {
        /// Start after this id.
        after: Option<VolumeId>,
        /// Bound of the answer.
        limit: u32,
    },
    /// Tombstones that every member knows may be forgotten -> `Done`.
    ForgetTombstones {
        /// The group.
        group: GroupId,
        /// Names.
        ids: Vec<ExtentId>,
    },
    /// The store is no member of the group any more: forget its extents and tombstones, leaving none -> `Done`.
    /// Refused when a newer generation was promised, in which the store may be a member again.
    LeaveGroup {
        /// The group.
        group: GroupId,
        /// Its generation, of which the store is no member.
        generation: Generation,
    },
    /// Keep notes, each if it is newer than the one of its key -> `Done`, once they are in the journal before whatever is
    /// asked for next. At most [`crate::NOTES_MAX`], of at most [`crate::NOTE_BYTES_MAX`] bytes each.
    PutNotes {
        /// The notes.
        notes: Vec<Note>,
    },
    /// Keys and versions of the notes here that are not about logs, in key order, after `after` -> `Notes`.
    ListNotes {
        /// Start after this key.
        after: Option<String>,
        /// Bound of the answer.
        limit: u32,
    },
    /// Bytes that the extents of each group occupy here, in id order, after `after` -> `GroupSizes`.
    GroupSizes {
        /// Start after this group.
        after: Option<GroupId>,
    },
    /// As `ReadExtent`, to make a copy elsewhere: the node answers when its clients leave time for it.
    CopyExtent {
        /// Name.
        id: ExtentId,
    },
}

/// A part of an extent to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRead {
    /// The extent.
    pub id: ExtentId,
    /// The frame.
    pub frame: u16,
    /// First block wanted; ignored for compressed frames and pages, which come whole.
    pub first_block: u8,
    /// Blocks wanted; 0 = the whole frame.
    pub blocks: u8,
}

/// What was read: how to decode the stored bytes. The encoded descriptor is `codec`'s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FramePiece {
    /// The frame's descriptor as it stands in the extent's header.
    pub descriptor: Vec<u8>,
    /// First block that the bytes hold (raw frames).
    pub first_block: u8,
    /// Stored bytes in the body.
    pub bytes: u32,
}

/// How far a store's log tail can be believed after its last start (architecture 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Same boot of the machine, or a clean stop: everything acknowledged is there.
    Trusted,
    /// The machine may have lost power: only what was flushed is certain to be there.
    Suspect,
}

/// A segment as a fenced store holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentTail {
    /// The segment.
    pub segment: SegmentId,
    /// Term of its records.
    pub epoch: Epoch,
    /// First position kept.
    pub first: Position,
    /// Last position of the valid chain that starts at `first`.
    pub last: Position,
    /// Highest position that a record here says is committed.
    pub committed: Position,
    /// Highest position that a record here says is flushed, or that the owner had this store flush: what records up to it refer to
    /// is durable, too. There may be more on the device.
    pub flushed: Position,
}

/// One extent in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentInfo {
    /// Name.
    pub id: ExtentId,
    /// Form held; of a tombstone the last one.
    pub form: u32,
    /// Bytes it occupies.
    pub bytes: u32,
    /// Whether it is deleted.
    pub tombstone: bool,
    /// Members known to lack it.
    pub missing: Vec<StoreId>,
}

/// Unit of space of a store's extents.
pub const GRANULE_BYTES: u64 = 64 << 10;

/// Bytes that an extent of so many bytes occupies on a store.
#[must_use]
pub fn occupied_by(bytes: u32) -> u64 {
    u64::from(bytes).div_ceil(GRANULE_BYTES) * GRANULE_BYTES
}

/// State of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Its id.
    pub store: StoreId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Trust in its log tails since the last start.
    pub trust: Trust,
    /// Bytes its disks offer for extents.
    pub capacity: ByteCount,
    /// Bytes that extents occupy.
    pub used: ByteCount,
    /// Size of the journal ring.
    pub journal_capacity: ByteCount,
    /// Bytes of it that hold records still needed.
    pub journal_used: ByteCount,
    /// Whether writes are refused for lack of space.
    pub full: bool,
    /// Number of extents.
    pub extents: u64,
    /// Bytes written to the devices since start, of all kinds.
    pub written: ByteCount,
    /// Device flushes since start.
    pub flushes: u64,
    /// Disks that failed, with the reason.
    pub failed: Option<String>,
}

/// A store's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreReply {
    /// Done.
    Done,
    /// See [`StoreRequest::Status`].
    Status(StoreStatus),
    /// The promise is durable.
    Fenced {
        /// The store's life.
        incarnation: Incarnation,
        /// Trust in the tails.
        trust: Trust,
        /// Highest epoch promised before this one.
        previous: Epoch,
        /// What is there of the volume's log, in segment order.
        segments: Vec<SegmentTail>,
    },
    /// The segment's state after an append or a flush.
    Appended {
        /// Last position on the device.
        written: Position,
        /// Last position that the owner has had flushed.
        flushed: Position,
    },
    /// Records in the body.
    Records {
        /// How many.
        count: u32,
        /// Whether more follow.
        more: bool,
    },
    /// One answer per volume, in the order asked: the epoch promised now, 0 when the volume is unknown.
    Confirmed {
        /// Promised epochs.
        promised: Vec<Epoch>,
    },
    /// Pieces of frames, in the order asked.
    Frames {
        /// How to decode them.
        pieces: Vec<FramePiece>,
    },
    /// Sealed bytes in the body.
    Extent {
        /// Their form.
        form: u32,
        /// Members known to lack it.
        missing: Vec<StoreId>,
    },
    /// A page of the listing.
    Extents {
        /// In id order.
        extents: Vec<ExtentInfo>,
        /// Whether more follow.
        more: bool,
    },
    /// Volumes with a log here.
    Logs {
        /// In id order.
        volumes: Vec<VolumeId>,
    },
    /// Answer to `PutExtent` and `FlushExtents`: done by this run of the store. A put without `durable` is
    /// durable once a flush answers with the same session; a store that lost power in between has another.
    Kept {
        /// Random, drawn whenever the store is opened.
        session: u64,
        /// Only what is kept back for draining and repair is left: take no new data.
        full: bool,
    },
    /// Notes that are here.
    Notes {
        /// In key order.
        notes: Vec<(String, NoteVersion)>,
    },
    /// Groups with extents here.
    GroupSizes {
        /// In id order, with the bytes they occupy.
        groups: Vec<(GroupId, u64)>,
        /// Whether more follow.
        more: bool,
    },
}

/// Why a store refused. Damage has variants of its own; none of them means "absent everywhere".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StoreError {
    /// A newer owner fenced this one. Final for the caller's term.
    #[error("refused: the store has promised {promised}")]
    StaleEpoch {
        /// The promise.
        promised: Epoch,
    },
    /// The group has changed: read the catalog.
    #[error("refused: the store has promised {promised}")]
    StaleGeneration {
        /// The promise.
        promised: Generation,
    },
    /// The store's disks were replaced or rolled back since the segment was opened.
    #[error("the store lives its {actual}: its disks were replaced or rolled back")]
    WrongIncarnation {
        /// The present life.
        actual: Incarnation,
    },
    /// The record before the first one sent is not there: send from `expected`.
    #[error("log gap: the store expects position {expected}")]
    Gap {
        /// Next position it will take.
        expected: Position,
    },
    /// This store does not have it (yet); another member may.
    #[error("not on this store")]
    Absent,
    /// No such segment here, or it is trimmed.
    #[error("this store has no such log segment")]
    NoSegment,
    /// Not enough free space for extents. Deletes and trims go on.
    #[error("the store is full")]
    Full,
    /// The journal ring has no room until drained: slow down and retry.
    #[error("the store's journal is full until volumes drain")]
    JournalFull,
    /// Stored bytes fail their checksum.
    #[error("damaged on this store: {what}")]
    Damaged {
        /// Which bytes.
        what: String,
    },
    /// A disk failed; the store no longer serves.
    #[error("the store failed: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// The request makes no sense.
    #[error("bad request: {reason}")]
    BadRequest {
        /// Why.
        reason: String,
    },
}

/// Why a call to a store brought no answer, or a refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection, or no answer: the request may or may not have been carried out.
    #[error("{store} does not answer: {reason}")]
    Unreachable {
        /// Who was asked.
        store: StoreId,
        /// Why.
        reason: String,
    },
    /// The store answered with a refusal.
    #[error("{store}: {error}")]
    Refused {
        /// Who refused.
        store: StoreId,
        /// Its words.
        #[source]
        error: StoreError,
    },
}

/// A request with its body.
#[derive(Clone, Debug)]
pub struct StoreCall {
    /// What.
    pub request: StoreRequest,
    /// Raw bytes, in pieces that are sent one after the other.
    pub body: Vec<Bytes>,
}

impl From<StoreRequest> for StoreCall {
    fn from(request: StoreRequest) -> Self {
        Self {
            request,
            body: Vec::new(),
        }
    }
}

/// Reaches every store of the cluster: locally, or over the network. Calls on one lane to one store are
/// delivered in the order they were made while the connection lasts; answers come in any order.
pub trait Stores {
    /// Calls `store`. Waits as long as the connection lives: callers bound it with `World::timeout`.
    /// Dropping the future does not undo the request.
    fn call(
        &self,
        store: StoreId,
        lane: Lane,
        call: StoreCall,
    ) -> LocalBoxFuture<'static, Result<(StoreReply, Bytes), CallError>>;
}

impl<T: Stores + ?Sized> Stores for Rc<T> {
    fn call(
        &self,
        store: StoreId,
        lane: Lane,
        call: StoreCall,
    ) -> LocalBoxFuture<'static, Result<(StoreReply, Bytes), CallError>> {
        (**self).call(store, lane, call)
    }
}
