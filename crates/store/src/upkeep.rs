//! Checkpoints of the state, and moving old records forward so that the ring's tail follows its head.

use crate::checkpoint;
use crate::header::Mark;
use crate::journal::batch::Entry;
use crate::state::{Slot, State};
use crate::store::Store;
use vocab::Incarnation;
use wire::StoreError;
use world::{Duration, PAGE};

/// A checkpoint at least every so many extents: after a power loss those since are read and checked.
const KEEPS_MAX: u64 = 1024;
/// Fill of the ring, in percent, above which old records are moved forward.
pub(crate) const MOVE_PERCENT: u64 = 75;
/// Fill above which requests that only add metadata wait: what follows is for promises and for moving records, which
/// is what makes room. Appends stop at 80 %, before a checkpoint that waits at 89 %.
const META_PERCENT_MAX: u64 = 90;
/// Fill above which moving stops: it must never wedge the ring itself.
const MOVE_PERCENT_MAX: u64 = 97;
/// How long a request waits for room in the ring; less than the patience of its caller.
const ROOM_PATIENCE: Duration = Duration::from_millis(1500);
/// Bytes moved between two checkpoints.
const MOVE_BYTES_MAX: u64 = 32 << 20;
/// Records read at a time while moving.
const MOVE_BATCH: usize = 64;

impl Store {
    /// The state may have grown by so many bytes since its last checkpoint.
    pub(crate) fn grow_state(&self, bytes: u64) {
        self.0.state_growth.set(self.0.state_growth.get() + bytes);
    }

    /// Whether the encoded state could outgrow its region.
    pub(crate) fn state_is_full(&self) -> bool {
        let limit = checkpoint::capacity(self.0.headers[0].state) / 10 * 9;
        self.0.state_bytes.get() + self.0.state_growth.get() > limit
    }

    fn since_checkpoint(&self) -> u64 {
        self.0.journal.next_batch().1 - self.0.checkpoint_page.get()
    }

    fn wants_checkpoint(&self) -> bool {
        let inner = &self.0;
        let (ring, since) = (inner.journal.pages(), self.since_checkpoint());
        if crate::options::bug!(inner.options.faults, LateCheckpoint) {
            return inner.checkpoint_forced.get() && since > 0;
        }
        let state_pages = (inner.state_bytes.get() + inner.state_growth.get()) / PAGE as u64;
        let worth = (ring / 8).max(4 * state_pages).min(ring / 4);
        let tight = inner.journal.used_pages() > ring / 2 && since > ring / 32;
        let movable = self.ring_is_above(MOVE_PERCENT);
        inner.checkpoint_forced.get() && (since > 0 || movable)
            || since >= worth
            || tight
            || inner.keeps.get() >= KEEPS_MAX
    }

    /// Wakes the upkeep when there is something for it.
    pub(crate) fn consider_upkeep(&self) {
        if self.wants_checkpoint() {
            self.0.upkeep.notify_all();
        }
    }

    pub(crate) fn ring_is_above(&self, percent: u64) -> bool {
        self.0.journal.used_pages() * 100 > self.0.journal.pages() * percent
    }

    /// Whether the ring is too full for metadata that can wait.
    pub(crate) fn is_tight(&self) -> bool {
        self.ring_is_above(META_PERCENT_MAX)
    }

    /// Waits until the ring has room for a request's metadata. Without this, requests that are repeated behind an old
    /// record fill the ring, and then nothing that would free it finds room.
    pub(crate) async fn room(&self) -> Result<(), StoreError> {
        let deadline = self.0.world.now() + ROOM_PATIENCE;
        loop {
            let freed = self.0.room.notified();
            if !self.is_tight() {
                return Ok(());
            }
            self.check_alive()?;
            self.force_checkpoint();
            let left = deadline.since(self.0.world.now());
            if self.0.world.timeout(left, freed).await.is_err() {
                return Err(StoreError::JournalFull);
            }
        }
    }

    /// A checkpoint as soon as possible: the ring or the state's region is nearly full.
    pub(crate) fn force_checkpoint(&self) {
        self.0.checkpoint_forced.set(true);
        self.0.upkeep.notify_all();
    }

    pub(crate) async fn upkeep_forever(self) {
        loop {
            let signal = self.0.upkeep.notified();
            if self.0.closed.get() || self.0.journal.failed().is_some() {
                return;
            }
            if !self.wants_checkpoint() {
                signal.await;
                continue;
            }
            if self.checkpoint().await.is_err() {
                return;
            }
        }
    }

    /// Moves old records after each checkpoint. Apart from [`Self::upkeep_forever`]: what is moved may wait for room
    /// in the ring that only the next checkpoint makes.
    pub(crate) async fn move_forever(self) {
        loop {
            let checkpointed = self.0.room.notified();
            if self.0.closed.get() || self.0.journal.failed().is_some() {
                return;
            }
            if self.move_records().await.is_err() {
                return;
            }
            checkpointed.await;
        }
    }

    /// Makes the state durable and lets go of what only the previous one needed.
    pub(crate) async fn checkpoint(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        let _held = inner.checkpoint_lock.lock().await;
        inner.checkpoint_forced.set(false);
        // The cut. No await until the state is encoded.
        let (batch, at) = inner.journal.next_batch();
        let (encoded, oldest) = {
            let mut state = inner.state.borrow_mut();
            (state.replay_batch, state.replay_at) = (batch, at);
            (state.encode(), state.oldest_page())
        };
        inner.state_growth.set(0);
        inner.keeps.set(0);
        inner.state_bytes.set(encoded.len() as u64);
        let ticket = inner.journal.formed_ticket();
        self.flush_data().await?;
        self.flush_first_disk(ticket).await?;
        if encoded.len() as u64 > checkpoint::capacity(inner.headers[0].state) {
            let reason = "the state outgrew its region; format the store with a larger journal";
            return Err(self.fail(&reason));
        }
        let number = inner.checkpoint.get() + 1;
        let written =
            checkpoint::write(&inner.disks[0], inner.headers[0].state, number, &encoded).await;
        let bytes = written.map_err(|error| self.fail(&error))?;
        inner
            .extent_bytes_written
            .set(inner.extent_bytes_written.get() + bytes);
        inner.data_flushes.set(inner.data_flushes.get() + 1);
        inner.checkpoint.set(number);
        inner.checkpoint_page.set(at);
        // It may have made room.
        inner.notes_refused.set(false);
        inner.journal.advance_tail(oldest.unwrap_or(at).min(at));
        inner.room.notify_all();
        Ok(())
    }

    /// Everything on the first disk that was written so far becomes durable: batches up to `ticket`, extents.
    async fn flush_first_disk(&self, ticket: u64) -> Result<(), StoreError> {
        self.durable(ticket).await?;
        // Extents whose redo entry is in a batch are older than it; the journal's flush covered them, unless
        // it had nothing to flush.
        let progress = &self.0.progress[0];
        let target = progress.written.get();
        if progress.flushed.get() < target {
            self.0.data_flushes.set(self.0.data_flushes.get() + 1);
            self.0.disks[0]
                .flush()
                .await
                .map_err(|error| self.fail(&error))?;
            progress.flushed.set(progress.flushed.get().max(target));
        }
        Ok(())
    }

    /// Writes the oldest live records again, when the ring is nearly full although part of it is dead.
    async fn move_records(&self) -> Result<(), StoreError> {
        if !self.ring_is_above(MOVE_PERCENT) {
            return Ok(());
        }
        let slots = self.oldest_slots();
        let (mut rest, mut any) = (&slots[..], false);
        loop {
            let (chunk, later) = rest.split_at(self.movable(rest));
            if chunk.is_empty() {
                break;
            }
            rest = later;
            let reads = chunk.iter().map(|slot| self.read_record(slot));
            let records = futures_util::future::join_all(reads).await;
            // A damaged record stays where it is; recovery reads it from another replica.
            let moved: Vec<Entry> = records.into_iter().flatten().map(Entry::Moved).collect();
            if self.0.closed.get() {
                // Nothing may follow the batch that the clean mark names.
                return Ok(());
            }
            if moved.is_empty() {
                continue;
            }
            any = true;
            let ticket = self.0.journal.push(moved);
            self.written(ticket).await?;
        }
        if any {
            self.force_checkpoint();
        }
        Ok(())
    }

    /// How many of `slots` the ring has room for now, at most [`MOVE_BATCH`].
    fn movable(&self, slots: &[Slot]) -> usize {
        let journal = &self.0.journal;
        // Its data and, until it is in a batch, a page for its header.
        let pages_of = |slot: &Slot| u64::from(slot.head.data_bytes).div_ceil(PAGE as u64) + 1;
        let mut room =
            (journal.pages() * MOVE_PERCENT_MAX / 100).saturating_sub(journal.used_pages());
        let left = journal.pages() - journal.next_batch().1 % journal.pages();
        if left <= room {
            // No batch crosses the end of the ring: what the first entry behind it does not fill is lost.
            let largest = slots.iter().take(MOVE_BATCH).map(pages_of).max();
            room = room.saturating_sub(largest.unwrap_or(0).min(left));
        }
        let fits = |slot: &&Slot| {
            let pages = pages_of(slot);
            let fits = pages <= room;
            room = room.saturating_sub(pages);
            fits
        };
        slots.iter().take(MOVE_BATCH).take_while(fits).count()
    }

    /// Live records in the oldest eighth of the ring, oldest first; none when so much is live that moving helps
    /// little, unless nothing else is left to do.
    fn oldest_slots(&self) -> Vec<Slot> {
        let ring = self.0.journal.pages();
        let state = self.0.state.borrow();
        let all = state
            .logs
            .values()
            .flat_map(|log| log.segments.values())
            .flat_map(|segment| &segment.slots);
        let limit = self.0.journal.tail() + ring / 8;
        let (mut live_pages, mut old) = (0, Vec::new());
        for slot in all {
            let Some(page) = slot.place.page() else {
                continue;
            };
            live_pages += u64::from(slot.head.data_bytes).div_ceil(PAGE as u64);
            if page < limit && !slot.damaged {
                old.push(*slot);
            }
        }
        if live_pages * 100 >= ring * 60 && !self.is_tight() {
            return Vec::new();
        }
        old.sort_by_key(|slot| slot.place.page());
        let mut bytes = 0;
        old.retain(|slot| {
            bytes += u64::from(slot.head.data_bytes);
            bytes <= MOVE_BYTES_MAX
        });
        old
    }

    /// A checkpoint behind which there is no way back: the next mark says that no older one may be believed.
    pub(crate) async fn begin_checkpoint(&self) -> Result<(), StoreError> {
        self.checkpoint().await?;
        self.0.first_checkpoint.set(self.0.checkpoint.get());
        Ok(())
    }

    /// Stops: everything is written, checkpointed and marked clean. Requests fail from now on. The disks are given up with the last
    /// clone, also when they failed.
    pub async fn close(&self) {
        if self.0.closed.replace(true) {
            return;
        }
        // Whoever waits ends: nothing holds the disks of a store that failed, for which no checkpoint comes any more.
        self.0.upkeep.notify_all();
        self.0.room.notify_all();
        let settled = self.0.journal.settle().await.is_ok();
        if !settled || self.checkpoint().await.is_err() {
            return;
        }
        let last_batch = self.0.state.borrow().replay_batch - 1;
        // Failing to mark the stop as clean costs trust at the next start, nothing else.
        let _ = self.write_mark(true, last_batch).await;
    }

    pub(crate) async fn write_mark(&self, clean: bool, last_batch: u64) -> Result<(), StoreError> {
        let inner = &self.0;
        let counter = inner.mark_counter.get() + 1;
        inner.mark_counter.set(counter);
        let mark = Mark {
            counter,
            incarnation: self.incarnation(),
            boot_id: inner.options.boot_id,
            clean,
            last_batch,
            sessions: inner.sessions.borrow().clone(),
            first_checkpoint: inner.first_checkpoint.get(),
        };
        let at = (2 + counter % 2) * PAGE as u64;
        inner.disks[0]
            .write(at, mark.encode())
            .await
            .map_err(|error| self.fail(&error))?;
        inner.disks[0]
            .flush()
            .await
            .map_err(|error| self.fail(&error))
    }

    /// Draws another session when anything was written since the last one, and makes it durable: the node then
    /// tells the catalog, so that disks which go back to before this moment are found out. `None`: nothing new.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn renew_session(&self) -> Result<Option<u64>, StoreError> {
        let (batch, _) = self.0.journal.next_batch();
        // After a stop the mark says clean, and nothing may be written over it.
        if batch == self.0.session_batch.get() || self.0.closed.get() {
            return Ok(None);
        }
        self.0.session_batch.set(batch);
        let session = self.0.world.rng.next_u64() | 1;
        {
            let mut sessions = self.0.sessions.borrow_mut();
            sessions.insert(0, session);
            sessions.truncate(crate::header::SESSIONS_KEPT);
        }
        self.write_mark(false, 0).await?;
        Ok(Some(session))
    }

    /// Starts another life: logs and promises are gone, extents stay. For a node that learns from the
    /// catalog that these disks were rolled back; before the store serves anybody. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn renew_incarnation(&self) -> Result<Incarnation, StoreError> {
        let incarnation = Incarnation(self.0.world.rng.next_u64() | 1);
        {
            let mut state = self.0.state.borrow_mut();
            *state = State {
                incarnation,
                session: state.session,
                extents: std::mem::take(&mut state.extents),
                tombstones: std::mem::take(&mut state.tombstones),
                ..State::default()
            };
        }
        self.0.journal.set_incarnation(incarnation);
        self.begin_checkpoint().await?;
        self.write_mark(false, 0).await?;
        Ok(incarnation)
    }
}
