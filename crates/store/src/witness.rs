//! What of a store's logs a loss of power cannot take, read from the device and not from what the store says of itself: for the
//! simulator's checks, in its builds only.
//!
//! A witness follows one run of a store. It reads the batches of the journal one by one, as a replay would, from what is durable of
//! the ring. What was there when the run began was flushed before the store was open (`Store::make_ready`).

use crate::journal::batch::{self, BatchHead, Decoded, Entry};
use crate::journal::place_batch;
use crate::state::Segment;
use crate::store::Store;
use bytes::Bytes;
use std::collections::BTreeMap;
use vocab::{Epoch, ExtentId, Generation, GroupId, Position, SegmentId, StoreId, VolumeId};
use wire::RecordKind;
use world::PAGE;

/// The disk with the journal, seen from outside of all hosts.
pub trait DiskView {
    /// Bytes at an offset as a loss of power would leave them.
    fn durable(&self, offset: u64, len: usize) -> Bytes;

    /// Whether a loss of power would change none of these bytes.
    fn is_durable(&self, offset: u64, len: usize) -> bool;
}

/// How far a replica is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Last position of the chain.
    pub last: Position,
    /// Whether a record of it was taken in this run of the store: what was there before, a disk may have damaged meanwhile.
    pub in_this_run: bool,
}

/// Follows a run of a store.
pub struct Witness {
    session: u64,
    /// Number and page of the batch that is looked for.
    next: (u64, u64),
    reached: BTreeMap<(VolumeId, SegmentId, Epoch), Reached>,
}

/// What is where a batch is looked for.
enum Found {
    Batch(BatchHead, Vec<Decoded>),
    /// Not yet.
    Nothing,
    /// It was written, and the disk has damaged it since.
    Damage,
}

impl Witness {
    /// Follows this run from now on.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let mut witness = Self {
            session: store.0.session,
            next: store.0.journal.began(),
            reached: BTreeMap::new(),
        };
        witness.believe(store, |_| true);
        witness
    }

    /// Whether it follows this run.
    #[must_use]
    pub fn is_of(&self, store: &Store) -> bool {
        self.session == store.0.session
    }

    /// How far a replica is durable, as of the last [`Witness::follow`]; `None`: nothing of it is.
    #[must_use]
    pub fn reached(&self, volume: VolumeId, segment: SegmentId, epoch: Epoch) -> Option<Reached> {
        self.reached.get(&(volume, segment, epoch)).copied()
    }

    /// Reads what became durable since the last call.
    pub fn follow(&mut self, store: &Store, disk: &dyn DiskView) {
        self.believe(store, |segment| segment.ticket == 0);
        if self.next.1 < store.0.journal.tail() {
            return self.catch_up(store);
        }
        loop {
            match self.look(store, disk) {
                Found::Batch(head, entries) => {
                    entries.iter().for_each(|(entry, _)| self.note(entry));
                    self.next = (head.batch + 1, head.at + head.pages());
                }
                Found::Nothing => return,
                Found::Damage => return self.catch_up(store),
            }
        }
    }

    /// The batches between were overwritten or damaged: what is in the index counts as durable.
    fn catch_up(&mut self, store: &Store) {
        self.next = store.0.journal.next_batch();
        self.believe(store, |_| true);
    }

    /// What the store has of these segments counts as durable.
    fn believe(&mut self, store: &Store, which: impl Fn(&Segment) -> bool) {
        let state = store.0.state.borrow();
        for (&volume, log) in &state.logs {
            for (&id, segment) in log.segments.iter().filter(|(_, segment)| which(segment)) {
                let last = Position(segment.next().0.saturating_sub(1));
                let in_this_run = segment.ticket > 0;
                let reached = Reached { last, in_this_run };
                self.reached.insert((volume, id, segment.epoch), reached);
            }
        }
    }

    fn note(&mut self, entry: &Entry) {
        let (Entry::Record(record) | Entry::Moved(record)) = entry else {
            return;
        };
        let head = &record.head;
        let replica = (head.volume, head.segment, head.epoch);
        let reached = self.reached.entry(replica).or_insert(Reached {
            last: head.position,
            in_this_run: true,
        });
        reached.last = reached.last.max(head.position);
        reached.in_this_run = true;
    }

    /// Looks for the next batch, where it would be and, had it crossed the ring's end, at the next lap.
    fn look(&self, store: &Store, disk: &dyn DiskView) -> Found {
        let (batch, page) = self.next;
        let pages = store.0.journal.pages();
        let mut damaged = batch <= store.0.journal.written_batch();
        for at in [page, place_batch(page, u64::MAX, pages)] {
            let place = store.0.headers[0].journal.offset + at % pages * PAGE as u64;
            let first = disk.durable(place, PAGE);
            let head = batch::decode_head(&first).filter(|head| {
                (head.session, head.batch, head.at) == (self.session, batch, at)
                    && at % pages + head.pages() <= pages
            });
            let Some(head) = head else {
                damaged &= disk.is_durable(place, PAGE);
                continue;
            };
            let bytes = head.pages() as usize * PAGE;
            let whole = disk.durable(place, bytes);
            let sound = batch::header_is_sound(&head, &whole);
            let entries = batch::decode_entries(&head, &whole).filter(|_| sound);
            let good = |entries: &Vec<Decoded>| entries.iter().all(|(entry, _)| is_good(entry));
            if let Some(entries) = entries.filter(good) {
                return Found::Batch(head, entries);
            }
            damaged &= disk.is_durable(place, bytes);
        }
        match damaged {
            true => Found::Damage,
            false => Found::Nothing,
        }
    }
}

fn is_good(entry: &Entry) -> bool {
    match entry {
        Entry::Record(record) | Entry::Moved(record) => record.verify().is_ok(),
        Entry::Meta(_) => true,
    }
}

/// What a store has of an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copy {
    /// Nothing.
    Absent,
    /// It was deleted here.
    Deleted,
    /// Bytes, sound or not.
    Held {
        /// Members that it knows to lack the extent.
        missing: Vec<StoreId>,
    },
}

/// What of a journal waits and what an opening would replay.
#[derive(Clone, Copy, Debug)]
pub struct JournalLoad {
    /// Pages of the ring.
    pub pages: u64,
    /// Pages in use, with those for what waits.
    pub used: u64,
    /// Pages that an opening replays.
    pub replay: u64,
}

impl Store {
    /// What is here of an extent now.
    #[must_use]
    pub fn inspect_copy(&self, id: ExtentId) -> Copy {
        let state = self.0.state.borrow();
        if state.tombstones.contains_key(&id) {
            return Copy::Deleted;
        }
        let held = state.extents.get(&id).map(|extent| Copy::Held {
            missing: extent.missing.clone(),
        });
        held.unwrap_or(Copy::Absent)
    }

    /// Position of the newest checkpoint record of a volume here.
    #[must_use]
    pub fn inspect_checkpoint(&self, volume: VolumeId) -> Option<Position> {
        let state = self.0.state.borrow();
        let segments = state.logs.get(&volume)?.segments.values();
        let slots = segments.flat_map(|segment| &segment.slots);
        let checkpoints = slots.filter(|slot| slot.head.kind == RecordKind::Checkpoint);
        checkpoints.map(|slot| slot.head.position).max()
    }

    /// The generation of a group below which puts are refused here now.
    #[must_use]
    pub fn inspect_generation(&self, group: GroupId) -> Generation {
        let state = self.0.state.borrow();
        state.groups.get(&group).copied().unwrap_or_default()
    }

    /// The run in which it answers puts.
    #[must_use]
    pub fn inspect_run(&self) -> u64 {
        self.0.session
    }

    /// How much there is in the journal now.
    #[must_use]
    pub fn inspect_journal(&self) -> JournalLoad {
        let journal = &self.0.journal;
        JournalLoad {
            pages: journal.pages(),
            used: journal.used_pages(),
            replay: journal.next_batch().1 - self.0.checkpoint_page.get(),
        }
    }
}
