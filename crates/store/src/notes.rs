//! Notes: what owners and the leader leave on the disks so that a lost catalog can be made anew. The store keeps the newest
//! of each key and reads none of them. Format: docs/formats/notes.md.
//!
//! Invariants
//! - A note is in the journal before everything that is asked of the store after its answer.
//! - Notes about logs are always taken; others only while all of them take less than an eighth of the state's region.

use crate::checkpoint;
use crate::journal::batch::Entry;
use crate::state::Meta;
use crate::store::Store;
use bytes::Bytes;
use std::ops::Bound;
use wire::{LOG_NOTES, NOTE_BYTES_MAX, NOTES_MAX, Note, NoteVersion, StoreError, StoreReply};
use world::sync::Notified;

/// Share of the state's region for notes that are not about logs.
const SHARE: u64 = 8;
/// Bound of a listing.
const LIST_MAX: u32 = 10_000;

fn check(notes: &[Note]) -> Result<(), StoreError> {
    let fits = |note: &Note| note.bytes() <= NOTE_BYTES_MAX && !note.key.is_empty();
    if notes.len() <= NOTES_MAX && notes.iter().all(fits) {
        return Ok(());
    }
    let reason = format!("notes: at most {NOTES_MAX}, of at most {NOTE_BYTES_MAX} bytes");
    Err(StoreError::BadRequest { reason })
}

impl Store {
    pub(crate) async fn put_notes(&self, notes: Vec<Note>) -> Result<(), StoreError> {
        check(&notes)?;
        let about_logs = notes.iter().all(|note| note.key.starts_with(LOG_NOTES));
        if !about_logs {
            self.room().await?;
            let room = self.check_room_for(&notes);
            self.0.notes_refused.set(room.is_err());
            if room.is_err() {
                // Who waits for them need not.
                self.0.noted.notify_all();
            }
            room?;
        }
        let metas: Vec<Meta> = notes.into_iter().map(Meta::Note).collect();
        let bytes: usize = metas.iter().map(meta_bytes).sum();
        {
            let mut state = self.0.state.borrow_mut();
            for meta in &metas {
                state.apply(meta);
            }
        }
        self.0.noted.notify_all();
        self.grow_state(bytes as u64);
        if about_logs && self.is_tight() {
            // As with a trim, which comes next: the checkpoint that makes room holds both.
            self.force_checkpoint();
            return Ok(());
        }
        let ticket = self.0.journal.push(metas.iter().map(Entry::meta));
        self.consider_upkeep();
        if about_logs {
            // What is asked for next is durable only together with it.
            return self.written(ticket).await;
        }
        self.durable(ticket).await
    }

    fn check_room_for(&self, notes: &[Note]) -> Result<(), StoreError> {
        let others = notes.iter().filter(|note| !note.key.starts_with(LOG_NOTES));
        let growing = others.filter(|note| note.value.is_some());
        let more: u64 = growing.map(|note| note.bytes() as u64).sum();
        if more == 0 {
            return Ok(());
        }
        let limit = checkpoint::capacity(self.0.headers[0].state) / SHARE;
        let state = self.0.state.borrow();
        let held = state
            .notes
            .iter()
            .map(|(key, (_, value))| (key.len() + value.len() + 32) as u64);
        if self.state_is_full() || held.sum::<u64>() + more > limit {
            return Err(StoreError::Full);
        }
        Ok(())
    }

    pub(crate) fn list_notes(&self, after: Option<String>, limit: u32) -> (StoreReply, Vec<Bytes>) {
        let state = self.0.state.borrow();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let held = state.notes.range((start, Bound::Unbounded));
        let notes = held
            .filter(|(key, _)| !key.starts_with(LOG_NOTES))
            .map(|(key, (version, _))| (key.clone(), *version))
            .take(limit.min(LIST_MAX) as usize)
            .collect();
        (StoreReply::Notes { notes }, Vec::new())
    }

    /// Whether it has no room for notes: the last ones were refused.
    #[must_use]
    pub fn refuses_notes(&self) -> bool {
        self.0.notes_refused.get()
    }

    /// Resolves when every note that is here survives a power loss.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn notes_durable(&self) -> Result<(), StoreError> {
        self.durable(self.0.journal.last_ticket()).await
    }

    /// Resolves when notes are taken after this call.
    pub fn notes_change(&self) -> Notified {
        self.0.noted.notified()
    }

    /// The version of a note that is here, though perhaps not on the disk yet.
    #[must_use]
    pub fn note_version(&self, key: &str) -> Option<NoteVersion> {
        let state = self.0.state.borrow();
        state.notes.get(key).map(|(version, _)| *version)
    }
}

fn meta_bytes(meta: &Meta) -> usize {
    match meta {
        Meta::Note(note) => note.bytes(),
        _ => 0,
    }
}
