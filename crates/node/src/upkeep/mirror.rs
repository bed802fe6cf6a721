//! The leader notes the catalog's rows on every store, so that the catalog can be made anew from the disks:
//! docs/formats/notes.md.
//!
//! Invariants
//! - The note `synced` with revision R on a store says that its notes are the catalog as of R, and perhaps newer rows.
//! - A store that was away, or whose process started again, is compared as a whole before it counts as synced.
//! - Nothing waits for it but operations that change the catalog, and those only for a while: changes are sent at once, and those
//!   that come meanwhile are sent together after them.

use crate::host::Host;
use crate::recall;
use api::Operation;
use catalog::kv::{Change, Kv, Revision};
use catalog::{ClusterRow, is_noted};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{Incarnation, StoreId};
use wire::{Lane, NOTE_BYTES_MAX, NOTES_MAX, Note, NoteVersion, StoreReply, StoreRequest, Stores};
use world::{Duration, Time};

/// Key of the note that says how far a store's notes go.
pub(crate) const SYNCED: &str = "synced";
/// Pause before a node that does not lead asks again, and between two looks at who leads and which stores there are.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a store that did not answer is left alone.
const REST: Duration = Duration::from_secs(10);
/// Patience with one call to a store.
const PATIENCE: Duration = Duration::from_secs(2);
/// Notes of one listing.
const LIST_LIMIT: u32 = 1000;
/// How long an operation waits until what it changed is noted.
const NOTED_PATIENCE: Duration = Duration::from_secs(2);

/// A life of a store and a start of its node: notes outlive neither for certain.
type Life = (Incarnation, u64);

/// What a store is known to have.
struct Synced {
    life: Life,
    /// Keys that changed since.
    pending: BTreeSet<String>,
}

/// The catalog as the leader has it, and who knows it.
struct Mirror {
    era: u64,
    revision: Revision,
    rows: BTreeMap<String, (Revision, String)>,
    stores: BTreeMap<StoreId, Synced>,
    /// Stores that did not answer, and when they are asked again: the others must not wait for them every time.
    resting: BTreeMap<StoreId, Time>,
}

pub(crate) async fn run(host: Rc<Host>) {
    loop {
        if matches!(host.leads().await, Ok(true))
            && let Err(reason) = lead(&host).await
        {
            tracing::debug!(reason, "the disks are told of the catalog later");
        }
        host.world.sleep(PAUSE).await;
    }
}

/// Follows the catalog for as long as this node leads.
async fn lead(host: &Host) -> Result<(), String> {
    let kv = host.catalog.kv();
    let page = kv.snapshot("").await.map_err(|error| error.to_string())?;
    let mut mirror = Mirror {
        era: 0,
        revision: kv.recorded(page.revision),
        rows: BTreeMap::new(),
        stores: BTreeMap::new(),
        resting: BTreeMap::new(),
    };
    for entry in page.entries {
        mirror.on_change(&**kv, Change::Put(entry));
    }
    mirror.revision = kv.recorded(page.revision);
    let mut watch = kv.watch("", page.revision);
    let mut asked = host.world.now();
    loop {
        mirror.send(host).await;
        let silent = host.world.timeout(PAUSE, watch.next()).await;
        if let Ok(changes) = silent {
            let changes = changes.map_err(|error| error.to_string())?;
            changes
                .into_iter()
                .for_each(|change| mirror.on_change(&**kv, change));
        }
        // Two that lead for a moment send the same notes.
        if host.world.now().since(asked) < PAUSE {
            continue;
        }
        asked = host.world.now();
        let leads = host.leads().await.map_err(|error| error.to_string())?;
        if !leads {
            return Ok(());
        }
    }
}

impl Mirror {
    fn on_change(&mut self, kv: &dyn Kv, change: Change) {
        let (key, revision, value) = match change {
            Change::Put(entry) => (entry.key, entry.version, Some(entry.value)),
            Change::Deleted { key, revision } => (key, revision, None),
        };
        let revision = kv.recorded(revision);
        self.revision = self.revision.max(revision);
        if !is_noted(&key) {
            return;
        }
        // Rows are JSON; one that is not text is damage, which its readers report.
        let value = value.and_then(|bytes| String::from_utf8(bytes).ok());
        if key == "cluster"
            && let Some(text) = &value
            && let Ok(row) = serde_json::from_str::<ClusterRow>(text)
        {
            self.era = row.era;
        }
        for synced in self.stores.values_mut() {
            synced.pending.insert(key.clone());
        }
        match value {
            Some(value) => drop(self.rows.insert(key, (revision, value))),
            None => drop(self.rows.remove(&key)),
        }
    }

    fn version(&self, revision: Revision) -> NoteVersion {
        NoteVersion {
            term: self.era,
            number: revision,
        }
    }

    /// The row of a key as a note, or that there is none any more. A row that is too large for a note is left out: the
    /// rebuild says so.
    fn note(&self, key: &str) -> Option<Note> {
        let row = self.rows.get(key);
        let note = Note {
            key: key.to_owned(),
            version: self.version(row.map_or(self.revision, |(revision, _)| *revision)),
            value: row.map(|(_, value)| value.clone()),
        };
        if note.bytes() > NOTE_BYTES_MAX {
            tracing::warn!(key, "the row is too large to be noted on the disks");
            return None;
        }
        Some(note)
    }

    /// Brings every store that answers up to date.
    async fn send(&mut self, host: &Host) {
        let now = host.world.now();
        self.resting.retain(|_, until| *until > now);
        let lives: BTreeMap<StoreId, Life> = host.members.look(|view| {
            let life = |row: &catalog::StoreRow| {
                if self.resting.contains_key(&row.id) {
                    return None;
                }
                let alive = view.alive.get(&row.node)?;
                Some((row.id, (row.incarnation, alive.start)))
            };
            view.stores.values().filter_map(life).collect()
        });
        self.stores
            .retain(|store, synced| lives.get(store) == Some(&synced.life));
        let this = &*self;
        let sent = lives.keys().map(|&store| this.send_to(host, store));
        let results = join_all(sent).await;
        for ((store, life), result) in lives.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    let pending = BTreeSet::new();
                    self.stores.insert(store, Synced { life, pending });
                }
                Err(reason) => {
                    tracing::debug!(%store, reason, "not told of the catalog");
                    self.stores.remove(&store);
                    self.resting.insert(store, host.world.now() + REST);
                }
            }
        }
    }

    async fn send_to(&self, host: &Host, store: StoreId) -> Result<(), String> {
        let known = self.stores.get(&store);
        if known.is_some_and(|synced| synced.pending.is_empty()) {
            return Ok(());
        }
        let mut notes: Vec<Note> = match known {
            Some(synced) => {
                let pending = synced.pending.iter();
                pending.filter_map(|key| self.note(key)).collect()
            }
            None => self.differences(host, store).await?,
        };
        notes.push(Note {
            key: SYNCED.to_owned(),
            version: self.version(self.revision),
            value: Some("true".to_owned()),
        });
        for part in notes.chunks(NOTES_MAX) {
            let notes = part.to_vec();
            call(host, store, StoreRequest::PutNotes { notes }).await?;
        }
        Ok(())
    }

    /// What a store lacks, and what it has too much.
    async fn differences(&self, host: &Host, store: StoreId) -> Result<Vec<Note>, String> {
        let mut held: BTreeMap<String, NoteVersion> = BTreeMap::new();
        loop {
            let request = StoreRequest::ListNotes {
                after: held.keys().next_back().cloned(),
                limit: LIST_LIMIT,
            };
            let StoreReply::Notes { notes } = call(host, store, request).await? else {
                return Err("it answered something else to a listing of notes".to_owned());
            };
            let more = notes.len() >= LIST_LIMIT as usize;
            held.extend(notes);
            if !more {
                break;
            }
        }
        let surplus = held
            .keys()
            .filter(|key| *key != SYNCED && !self.rows.contains_key(*key));
        let lacking = self.rows.iter().filter(|(key, (revision, _))| {
            held.get(*key)
                .is_none_or(|held| *held < self.version(*revision))
        });
        let keys = surplus.chain(lacking.map(|(key, _)| key));
        Ok(keys.filter_map(|key| self.note(key)).collect())
    }
}

async fn call(host: &Host, store: StoreId, request: StoreRequest) -> Result<StoreReply, String> {
    let call = host.remote.call(store, Lane::Bulk, request.into());
    match host.world.timeout(PATIENCE, call).await {
        Ok(Ok((reply, _))) => Ok(reply),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer".to_owned()),
    }
}

/// Whether an operation changes what is noted.
pub(crate) fn changes_catalog(operation: &Operation) -> bool {
    use Operation as O;
    let not_noted = matches!(
        operation.bare(),
        O::VolumeDrain { .. }
            | O::VolumeRelease { .. }
            | O::VolumePause { .. }
            | O::VolumeResume { .. }
            | O::SessionCreate { .. }
            | O::SessionDelete { .. }
            | O::SessionEnd { .. }
            | O::AuditRecord { .. }
            | O::Once(_)
            | O::Alert(_)
            | O::Kubernetes(_)
            | O::DiskLocate { .. }
            | O::StoreScrub { .. }
    );
    !operation.looks() && !not_noted
}

impl Host {
    /// Waits until the catalog as it stands is noted on a store of this node, for a while: then what was answered is on
    /// the disks, too. Whether it is.
    pub(crate) async fn noted(&self) -> bool {
        let works = |store: &store::Store| store.status().failed.is_none();
        let Some(store) = self.stores.all().into_iter().find(works) else {
            return false;
        };
        let Ok(wanted) = recall::age(&self.catalog).await else {
            return false;
        };
        let deadline = self.world.now() + NOTED_PATIENCE;
        loop {
            let changes = store.notes_change();
            if store
                .note_version(SYNCED)
                .is_some_and(|held| held >= wanted)
            {
                return store.notes_durable().await.is_ok();
            }
            if store.refuses_notes() {
                return false;
            }
            let left = deadline.since(self.world.now());
            if self.world.timeout(left, changes).await.is_err() {
                return false;
            }
        }
    }
}
