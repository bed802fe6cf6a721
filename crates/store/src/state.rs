//! Everything a store knows apart from record data and extents. Format: docs/formats/store-state.md.
//!
//! Invariants
//! - A promise never decreases. Tombstones win over puts until they are forgotten.
//! - Applying a redo entry twice, or to a state that already holds its effect, changes nothing.
//! - A segment's slots are contiguous in position and chained by checksum.

use crate::GRANULE_BYTES;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use vocab::{
    Epoch, ExtentId, Generation, GroupId, Incarnation, Position, SegmentId, StoreId, VolumeId,
};
use wire::{Note, NoteVersion, RECORD_HEAD_BYTES, RecordHead};
use world::PAGE;

/// Where a record's data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Not in a batch yet.
    Pending,
    /// It has no data.
    Nothing,
    /// In the ring.
    At {
        /// Absolute page.
        page: u64,
        /// Byte in that page, not 0 only for inline data.
        offset: u32,
    },
}

impl Place {
    /// The page that must not be reused.
    pub fn page(self) -> Option<u64> {
        match self {
            Self::At { page, .. } => Some(page),
            Self::Pending | Self::Nothing => None,
        }
    }
}

/// A live record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The record.
    pub head: RecordHead,
    /// Its data.
    pub place: Place,
    /// Its data is known to be rotten.
    pub damaged: bool,
}

/// A replica of a log segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Term of its records.
    pub epoch: Epoch,
    /// Position of the first slot, or of the next record while there is none.
    pub first: Position,
    /// Live records.
    pub slots: VecDeque<Slot>,
    /// Checksum of the last record ever appended.
    pub last_crc: u32,
    /// Highest position that a record said is committed.
    pub committed: Position,
    /// Highest position that a record said is flushed, or that the owner had flushed here, with the extents that records up
    /// to it refer to.
    pub flushed: Position,
    /// The machine may have lost power since the last append.
    pub suspect: bool,
    /// Journal ticket of the last append in this run of the store.
    pub ticket: u64,
}

impl Segment {
    /// A segment that starts at `first`.
    pub fn new(epoch: Epoch, first: Position) -> Self {
        Self {
            epoch,
            first,
            slots: VecDeque::new(),
            last_crc: 0,
            committed: Position::ZERO,
            flushed: Position::ZERO,
            suspect: false,
            ticket: 0,
        }
    }

    /// Position after the last record.
    pub fn next(&self) -> Position {
        self.first.plus(self.slots.len() as u64)
    }

    /// Last position of the chain of good records.
    pub fn last_good(&self) -> Position {
        let good = self.slots.iter().take_while(|slot| !slot.damaged).count() as u64;
        Position((self.first.0 + good).saturating_sub(1))
    }

    /// The slot of a position.
    pub fn slot_mut(&mut self, position: Position) -> Option<&mut Slot> {
        let index = position.0.checked_sub(self.first.0)?;
        self.slots.get_mut(usize::try_from(index).ok()?)
    }

    /// Adds the next record.
    pub fn push(&mut self, slot: Slot) {
        assert_eq!(
            slot.head.position,
            self.next(),
            "records are appended in position order"
        );
        self.last_crc = slot.head.crc;
        self.committed = self.committed.max(slot.head.committed);
        self.flushed = self.flushed.max(slot.head.flushed);
        self.slots.push_back(slot);
    }

    fn trim(&mut self, through: Position) {
        while self
            .slots
            .front()
            .is_some_and(|slot| slot.head.position <= through)
        {
            self.slots.pop_front();
            self.first = self.first.next();
        }
    }
}

/// A volume's log on this store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Lower epochs are refused.
    pub promised: Epoch,
    /// Ticket of the promise's redo entry in this run of the store.
    pub promise_ticket: u64,
    /// Records up to here are not wanted any more.
    pub trimmed: Position,
    /// Records up to here may fill more of the ring: a checkpoint at this position was refused. Not saved.
    pub relief: Position,
    /// Segments.
    pub segments: BTreeMap<SegmentId, Segment>,
}

impl Log {
    /// Drops records up to `through`, and segments that are wholly dropped and not the last.
    pub fn trim(&mut self, through: Position) {
        self.trimmed = self.trimmed.max(through);
        let last = self.segments.keys().next_back().copied();
        for segment in self.segments.values_mut() {
            segment.trim(through);
        }
        let stays =
            |id: &SegmentId, segment: &Segment| Some(*id) == last || !segment.slots.is_empty();
        self.segments.retain(|id, segment| stays(id, segment));
    }
}

/// An extent on this store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Its form.
    pub form: u32,
    /// Index of the disk.
    pub disk: u8,
    /// First granule of the disk's extent area.
    pub granule: u32,
    /// Sealed bytes.
    pub bytes: u32,
    /// Members known to lack it.
    pub missing: Vec<StoreId>,
}

impl Extent {
    /// Whether its size is one that an extent can have.
    fn fits(&self) -> bool {
        (1..=codec::extent::EXTENT_BYTES_MAX as u32).contains(&self.bytes)
    }

    /// The space it occupies.
    pub fn run(&self) -> Run {
        let granules = u64::from(self.bytes).div_ceil(GRANULE_BYTES) as u32;
        Run {
            disk: self.disk,
            granule: self.granule,
            granules,
        }
    }
}

/// Granules of a disk's extent area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the disk.
    pub disk: u8,
    /// First granule.
    pub granule: u32,
    /// How many.
    pub granules: u32,
}

/// A redo entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Meta {
    /// Epochs below are refused.
    Promise(VolumeId, Epoch),
    /// Records up to the position are dropped.
    Trim(VolumeId, Position),
    /// The log is dropped; the promise stays.
    Drop(VolumeId, Epoch),
    /// Generations below are refused.
    Group(GroupId, Generation),
    /// An extent is here; whether its bytes were flushed before this entry was written.
    Keep(ExtentId, Extent, bool),
    /// Extents are deleted.
    Delete(Vec<ExtentId>),
    /// Tombstones are forgotten.
    Forget(Vec<ExtentId>),
    /// The store has these extents.
    Found(StoreId, Vec<ExtentId>),
    /// All of a group is gone, tombstones too: others are its members.
    Leave(GroupId),
    /// A note, if it is newer than the one of its key.
    Note(Note),
    /// An extent is here, flushed, in place of a rotten copy of a newer form.
    Mend(ExtentId, Extent),
}

impl Meta {
    /// An encoded redo entry; `None` when it is none, or one with whose effect no state could be read again.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let meta = postcard::from_bytes(bytes).ok()?;
        let fits =
            !matches!(&meta, Self::Keep(_, extent, _) | Self::Mend(_, extent) if !extent.fits());
        fits.then_some(meta)
    }
}

/// Any epoch and counter of a group.
pub fn group_start(group: GroupId) -> ExtentId {
    ExtentId {
        group,
        volume: VolumeId(0),
        epoch: Epoch(0),
        counter: 0,
    }
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The store's life.
    pub incarnation: Incarnation,
    /// Run of the store that wrote it.
    pub session: u64,
    /// Sequence number of the first batch to replay.
    pub replay_batch: u64,
    /// Its page.
    pub replay_at: u64,
    /// Logs and promises.
    pub logs: BTreeMap<VolumeId, Log>,
    /// Group promises.
    pub groups: BTreeMap<GroupId, Generation>,
    /// Extents.
    pub extents: BTreeMap<ExtentId, Extent>,
    /// Deleted extents with the last form.
    pub tombstones: BTreeMap<ExtentId, u32>,
    /// What it keeps for others, see docs/formats/notes.md.
    pub notes: BTreeMap<String, (NoteVersion, String)>,
}

impl State {
    /// Applies a redo entry; returns space that nothing refers to any more.
    pub fn apply(&mut self, meta: &Meta) -> Vec<Run> {
        match meta {
            Meta::Promise(volume, epoch) => {
                let log = self.logs.entry(*volume).or_default();
                log.promised = log.promised.max(*epoch);
            }
            Meta::Trim(volume, through) => {
                if let Some(log) = self.logs.get_mut(volume) {
                    log.trim(*through);
                }
            }
            Meta::Drop(volume, epoch) => {
                let log = self.logs.entry(*volume).or_default();
                log.promised = log.promised.max(*epoch);
                log.segments.clear();
                self.notes.remove(&wire::log_note_key(*volume));
            }
            Meta::Group(group, generation) => {
                let promised = self.groups.entry(*group).or_default();
                *promised = (*promised).max(*generation);
            }
            Meta::Keep(id, extent, _) => return self.keep(*id, extent),
            Meta::Mend(id, extent) => {
                let older = { self.extents.get(id) }.filter(|held| held.run() != extent.run());
                let rotten = older.map(Extent::run);
                self.extents.remove(id);
                let unwanted = self.keep(*id, extent);
                return rotten.into_iter().chain(unwanted).collect();
            }
            Meta::Delete(ids) => return ids.iter().filter_map(|id| self.delete(*id)).collect(),
            Meta::Forget(ids) => self.tombstones.retain(|id, _| !ids.contains(id)),
            Meta::Found(store, ids) => {
                for id in ids {
                    if let Some(extent) = self.extents.get_mut(id) {
                        extent.missing.retain(|missing| missing != store);
                    }
                }
            }
            Meta::Leave(group) => return self.leave(*group),
            Meta::Note(note) => self.note(note),
        }
        Vec::new()
    }

    fn note(&mut self, note: &Note) {
        let held = self.notes.get(&note.key);
        if held.is_some_and(|(version, _)| *version >= note.version) {
            return;
        }
        match &note.value {
            Some(value) => {
                let kept = (note.version, value.clone());
                self.notes.insert(note.key.clone(), kept);
            }
            None => drop(self.notes.remove(&note.key)),
        }
    }

    fn leave(&mut self, group: GroupId) -> Vec<Run> {
        self.tombstones.retain(|id, _| id.group != group);
        let ids: Vec<ExtentId> = self.ids_of(group).collect();
        let left = ids.iter().filter_map(|id| self.extents.remove(id));
        left.map(|extent| extent.run()).collect()
    }

    /// Extents of a group, in id order.
    pub fn ids_of(&self, group: GroupId) -> impl Iterator<Item = ExtentId> + '_ {
        let all = self.extents.range(group_start(group)..);
        all.map(|(&id, _)| id)
            .take_while(move |id| id.group == group)
    }

    /// Whether it has extents of a group, deleted ones included.
    pub fn knows_of(&self, group: GroupId) -> bool {
        let gone = self.tombstones.range(group_start(group)..).next();
        let gone = gone.is_some_and(|(id, _)| id.group == group);
        gone || self.ids_of(group).next().is_some()
    }

    fn keep(&mut self, id: ExtentId, extent: &Extent) -> Vec<Run> {
        if self.tombstones.contains_key(&id) {
            return vec![extent.run()];
        }
        match self.extents.get(&id) {
            Some(held) if held.run() == extent.run() && held.form == extent.form => {
                self.extents.insert(id, extent.clone());
                Vec::new()
            }
            Some(held) if held.form > extent.form => vec![extent.run()],
            _ => self
                .extents
                .insert(id, extent.clone())
                .map(|old| old.run())
                .into_iter()
                .collect(),
        }
    }

    fn delete(&mut self, id: ExtentId) -> Option<Run> {
        let held = self.extents.remove(&id);
        let form = held.as_ref().map_or(0, |extent| extent.form);
        self.tombstones.entry(id).or_insert(form);
        held.map(|extent| extent.run())
    }

    /// Takes over a replayed record. Records that are trimmed, there already, or do not continue their
    /// segment are passed over: the state is newer than they are.
    pub fn replay_record(&mut self, slot: Slot, moved: bool) {
        let head = slot.head;
        if head.position.0 > COUNT_MAX {
            return;
        }
        let log = self.logs.entry(head.volume).or_default();
        log.promised = log.promised.max(head.epoch);
        if head.position <= log.trimmed {
            // The segment must still be known by its end, so that later records continue it.
            let known = log.segments.entry(head.segment);
            let segment = known.or_insert_with(|| Segment::new(head.epoch, head.position));
            if !moved && segment.slots.is_empty() && segment.first == head.position {
                segment.push(slot);
                segment.trim(head.position);
            }
            return;
        }
        if moved {
            let segment = log.segments.get_mut(&head.segment);
            if let Some(held) = segment.and_then(|segment| segment.slot_mut(head.position))
                && held.head.crc == head.crc
            {
                *held = slot;
            }
            return;
        }
        let left_over = |segment: &Segment| segment.epoch < head.epoch && head.previous_crc == 0;
        if log.segments.get(&head.segment).is_some_and(left_over) {
            log.segments.remove(&head.segment);
        }
        let known = log.segments.entry(head.segment);
        let segment = known.or_insert_with(|| Segment::new(head.epoch, head.position));
        if segment.next() == head.position && segment.epoch == head.epoch {
            segment.push(slot);
        }
    }

    /// The oldest page that a live record needs.
    pub fn oldest_page(&self) -> Option<u64> {
        let slots = self
            .logs
            .values()
            .flat_map(|log| log.segments.values())
            .flat_map(|s| &s.slots);
        slots.filter_map(|slot| slot.place.page()).min()
    }

    /// Bytes that a record's slot takes in the encoded state.
    pub const SLOT_BYTES: u64 = SLOT_BYTES as u64;

    /// Encodes the state as of now: records that are in no batch yet are left out, with all behind them.
    pub fn encode(&self) -> Vec<u8> {
        let saved = Saved {
            incarnation: self.incarnation,
            session: self.session,
            replay_batch: self.replay_batch,
            replay_at: self.replay_at,
            logs: self
                .logs
                .iter()
                .map(|(&volume, log)| save_log(volume, log))
                .collect(),
            groups: self
                .groups
                .iter()
                .map(|(&group, &generation)| (group, generation))
                .collect(),
            extents: self
                .extents
                .iter()
                .map(|(&id, extent)| (id, extent.clone()))
                .collect(),
            tombstones: self
                .tombstones
                .iter()
                .map(|(&id, &form)| (id, form))
                .collect(),
        };
        let mut encoded =
            postcard::to_allocvec(&saved).expect("the state holds nothing that cannot be encoded");
        // Behind the rest, where releases that know no notes do not look.
        let notes: Vec<(&String, &(NoteVersion, String))> = self.notes.iter().collect();
        if !notes.is_empty() {
            let notes = postcard::to_allocvec(&notes).expect("notes are text and numbers");
            encoded.extend_from_slice(&notes);
        }
        encoded
    }

    /// Decodes a state; `None` when the bytes are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (saved, rest): (Saved, &[u8]) = postcard::take_from_bytes(bytes).ok()?;
        let notes: Vec<(String, (NoteVersion, String))> = match rest {
            [] => Vec::new(),
            rest => postcard::from_bytes(rest).ok()?,
        };
        if saved.replay_at.max(saved.replay_batch) > COUNT_MAX {
            return None;
        }
        if !saved.extents.iter().all(|(_, extent)| extent.fits()) {
            return None;
        }
        let mut logs = BTreeMap::new();
        for log in saved.logs {
            logs.insert(log.volume, load_log(log)?);
        }
        Some(Self {
            incarnation: saved.incarnation,
            session: saved.session,
            replay_batch: saved.replay_batch,
            replay_at: saved.replay_at,
            logs,
            groups: saved.groups.into_iter().collect(),
            extents: saved.extents.into_iter().collect(),
            tombstones: saved.tombstones.into_iter().collect(),
            notes: notes.into_iter().collect(),
        })
    }
}

/// Bound of pages and batches ever written to a journal and of positions: 10^6 of them a second for 146,000
/// years. Keeps sums of them far from the end of u64.
pub(crate) const COUNT_MAX: u64 = 1 << 62;

/// Head, page (all ones: no data), offset, damaged.
const SLOT_BYTES: usize = RECORD_HEAD_BYTES + 8 + 4 + 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    incarnation: Incarnation,
    session: u64,
    replay_batch: u64,
    replay_at: u64,
    logs: Vec<SavedLog>,
    groups: Vec<(GroupId, Generation)>,
    extents: Vec<(ExtentId, Extent)>,
    tombstones: Vec<(ExtentId, u32)>,
}

#[derive(Serialize, Deserialize)]
struct SavedLog {
    volume: VolumeId,
    promised: Epoch,
    trimmed: Position,
    segments: Vec<SavedSegment>,
}

#[derive(Serialize, Deserialize)]
struct SavedSegment {
    id: SegmentId,
    epoch: Epoch,
    first: Position,
    last_crc: u32,
    committed: Position,
    flushed: Position,
    suspect: bool,
    slots: Vec<u8>,
}

fn save_log(volume: VolumeId, log: &Log) -> SavedLog {
    let segments = log
        .segments
        .iter()
        .filter_map(|(&id, segment)| save_segment(id, segment));
    SavedLog {
        volume,
        promised: log.promised,
        trimmed: log.trimmed,
        segments: segments.collect(),
    }
}

/// `None` for a segment of which nothing was ever placed: replay finds it from its first record.
fn save_segment(id: SegmentId, segment: &Segment) -> Option<SavedSegment> {
    let placed = segment
        .slots
        .iter()
        .take_while(|slot| slot.place != Place::Pending)
        .count();
    let pending = placed < segment.slots.len();
    if placed == 0 && pending && segment.slots[0].head.previous_crc == 0 {
        return None;
    }
    let mut slots = Vec::with_capacity(placed * SLOT_BYTES);
    for slot in segment.slots.iter().take(placed) {
        slots.extend_from_slice(&slot.head.to_bytes());
        let (page, offset) = match slot.place {
            Place::At { page, offset } => (page, offset),
            Place::Nothing | Place::Pending => (u64::MAX, 0),
        };
        slots.extend_from_slice(&page.to_le_bytes());
        slots.extend_from_slice(&offset.to_le_bytes());
        slots.push(u8::from(slot.damaged));
    }
    // The chain as of the last placed record.
    let last_crc = if pending {
        segment.slots[placed].head.previous_crc
    } else {
        segment.last_crc
    };
    Some(SavedSegment {
        id,
        epoch: segment.epoch,
        first: segment.first,
        last_crc,
        committed: segment.committed,
        flushed: segment.flushed,
        suspect: segment.suspect,
        slots,
    })
}

fn load_log(saved: SavedLog) -> Option<Log> {
    let mut segments = BTreeMap::new();
    for segment in saved.segments {
        if segment.first.0 > COUNT_MAX || !segment.slots.len().is_multiple_of(SLOT_BYTES) {
            return None;
        }
        let mut slots = VecDeque::with_capacity(segment.slots.len() / SLOT_BYTES);
        for bytes in segment.slots.chunks_exact(SLOT_BYTES) {
            slots.push_back(load_slot(bytes)?);
        }
        let contiguous = slots
            .iter()
            .zip(segment.first.0..)
            .all(|(slot, at)| slot.head.position.0 == at);
        if !contiguous {
            return None;
        }
        let loaded = Segment {
            epoch: segment.epoch,
            first: segment.first,
            slots,
            last_crc: segment.last_crc,
            committed: segment.committed,
            flushed: segment.flushed,
            suspect: segment.suspect,
            ticket: 0,
        };
        segments.insert(segment.id, loaded);
    }
    Some(Log {
        promised: saved.promised,
        promise_ticket: 0,
        trimmed: saved.trimmed,
        relief: Position::ZERO,
        segments,
    })
}

fn load_slot(bytes: &[u8]) -> Option<Slot> {
    let (head, rest) = bytes.split_at(RECORD_HEAD_BYTES);
    let head = RecordHead::from_bytes(head.try_into().ok()?).ok()?;
    let page = u64::from_le_bytes(rest[0..8].try_into().ok()?);
    let offset = u32::from_le_bytes(rest[8..12].try_into().ok()?);
    let place = if page == u64::MAX {
        Place::Nothing
    } else if page <= COUNT_MAX && (offset as usize) < PAGE {
        Place::At { page, offset }
    } else {
        return None;
    };
    Some(Slot {
        head,
        place,
        damaged: rest[12] != 0,
    })
}

#[cfg(test)]
mod tests;
