//! What the replicas of a log are told of it, so that the catalog can be made anew from the disks: where the volume starts,
//! and which segments its log has. Format and argument: docs/formats/notes.md.
//!
//! Invariants
//! - Every replica of a segment has a note that names it with exactly its replicas, before the catalog knows the segment.
//! - Once a replica was told that the open segment ends, nothing more is committed in that segment.
//! - No replica lets go of a record before it has a note whose root holds that record.

use super::{ClosedSegment, Log, OpenSegment, State};
use catalog::{LogNote, MapRoot, SegmentReplica, SegmentRow, VolumeRoot};
use futures_util::future::join_all;
use vocab::{Epoch, Position, SnapshotId, StoreId};
use wire::{Lane, Note, NoteVersion, StoreReply, StoreRequest, Stores, log_note_key};
use world::{Duration, World};

/// Patience with a store that is told something.
const NOTE_PATIENCE: Duration = Duration::from_millis(2000);

/// The newest note.
pub(super) struct Described {
    note: LogNote,
    /// Notes of this term so far.
    count: u64,
    /// The segment that was told of last: it may be about to be registered.
    told: Option<SegmentRow>,
    /// The catalog has a closed segment without records: until it is told of a root, takeovers ask its replicas.
    pub(super) left_empty: bool,
}

impl Described {
    pub(super) fn of(note: LogNote) -> Self {
        Self {
            note,
            count: 1,
            told: None,
            left_empty: false,
        }
    }

    /// The note after the last one.
    fn next(&mut self, root: Option<VolumeRoot>, segments: Vec<SegmentRow>) -> Note {
        self.count += 1;
        if let Some(root) = root.filter(|root| root.position >= self.note.root.position) {
            self.note.root = root;
        }
        if let Some(last) = segments.last() {
            self.note.next_segment = last.id.next();
        }
        self.note.segments = segments;
        note_of(&self.note, self.count)
    }
}

fn note_of(note: &LogNote, number: u64) -> Note {
    Note {
        key: log_note_key(note.volume),
        version: NoteVersion {
            term: note.epoch.0,
            number,
        },
        value: Some(note.encode()),
    }
}

/// Tells a store of a log; the first note of a term has number 1.
pub(crate) async fn put_note(
    world: &World,
    stores: &dyn Stores,
    store: StoreId,
    note: &LogNote,
    number: u64,
) -> Result<(), String> {
    put(world, stores, store, note_of(note, number)).await
}

async fn put(world: &World, stores: &dyn Stores, store: StoreId, note: Note) -> Result<(), String> {
    let request = StoreRequest::PutNotes { notes: vec![note] };
    let call = stores.call(store, Lane::Log, request.into());
    match world.timeout(NOTE_PATIENCE, call).await {
        Ok(Ok((StoreReply::Done, _))) => Ok(()),
        Ok(Ok((other, _))) => Err(format!("{store} answered {other:?} to a note")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("{store} does not answer")),
    }
}

impl ClosedSegment {
    fn row(&self, epoch: Epoch) -> SegmentRow {
        SegmentRow {
            id: self.id,
            epoch,
            start: self.start,
            end: Some(self.end),
            replicas: self.replicas.iter().map(|(replica, _)| *replica).collect(),
            wanted: self.wanted,
        }
    }
}

impl OpenSegment {
    fn row(&self, epoch: Epoch, end: Option<Position>) -> SegmentRow {
        let replicas = self.replicas.iter().map(|replica| SegmentReplica {
            store: replica.store,
            incarnation: replica.incarnation,
        });
        SegmentRow {
            id: self.id,
            epoch,
            start: self.start,
            end,
            replicas: replicas.collect(),
            wanted: self.wanted,
        }
    }
}

impl State {
    fn rows(&self, epoch: Epoch, next: Option<&SegmentRow>) -> Vec<SegmentRow> {
        let closed = self.closed.iter().map(|closed| closed.row(epoch));
        let end = next.map(|next| next.start);
        // One without records is no link of the chain.
        let open = (end != Some(self.open.start)).then(|| self.open.row(epoch, end));
        closed.chain(open).chain(next.cloned()).collect()
    }
}

impl Log {
    /// Tells the replicas of a segment that it follows the open one; whether all of them know.
    pub(super) async fn describe_segment(&self, next: &SegmentRow) -> bool {
        if !self.options.describe_logs {
            return true;
        }
        let note = {
            let rows = self.state.borrow().rows(self.epoch, Some(next));
            let mut described = self.described.borrow_mut();
            described.told = Some(next.clone());
            described.next(None, rows)
        };
        let told = next
            .replicas
            .iter()
            .map(|replica| put(&self.world, &*self.stores, replica.store, note.clone()));
        let told = join_all(told).await;
        let refused = next.replicas.iter().zip(&told);
        for (replica, _) in refused.filter(|(_, told)| told.is_err()) {
            self.shun(replica.store);
        }
        told.iter().all(Result::is_ok)
    }

    /// What a store must know before it lets go of what `root` holds; `None` where nothing is told.
    pub(super) fn describe_root(&self, root: VolumeRoot) -> Option<Note> {
        if !self.options.describe_logs {
            return None;
        }
        let mut described = self.described.borrow_mut();
        let state = self.state.borrow();
        // A segment that is about to be registered must stay in the newest note.
        let told = described.told.as_ref();
        let rows = state.rows(self.epoch, told.filter(|told| told.id > state.open.id));
        Some(described.next(Some(root), rows))
    }

    /// Tells a store something that was described.
    pub(super) async fn tell(&self, store: StoreId, note: Note) -> Result<(), String> {
        put(&self.world, &*self.stores, store, note).await
    }

    /// The volume was set to another root at once: its replicas know when this returns, as far as they answer.
    pub async fn set_back(&self, root: VolumeRoot) {
        let Some(note) = self.describe_root(root) else {
            return;
        };
        let stores: Vec<StoreId> = {
            let state = self.state.borrow();
            let replicas = state.open.replicas.iter();
            replicas.map(|replica| replica.store).collect()
        };
        let told = stores.iter().map(|&store| self.tell(store, note.clone()));
        // The catalog's row, which is noted as well, says the same.
        let _ = join_all(told).await;
    }

    /// A snapshot has its root: the next note says so.
    pub fn note_settled(&self, settled: &[(SnapshotId, MapRoot)]) {
        let mut described = self.described.borrow_mut();
        let known = &mut described.note.settled;
        known.retain(|(id, _)| settled.iter().all(|(settled, _)| settled != id));
        known.extend_from_slice(settled);
        let surplus = known.len().saturating_sub(LogNote::SETTLED_MAX);
        known.drain(..surplus);
    }
}
