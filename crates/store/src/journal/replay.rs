//! Replay: from where the state says to the end of what was written. Rules: docs/formats/journal.md.

use super::batch::{self, BatchHead, Decoded, Entry};
use super::place_batch;
use crate::header::Area;
use crate::state::{Extent, Meta, Place, Slot, State};
use bytes::Bytes;
use std::rc::Rc;
use vocab::ExtentId;
use wire::Record;
use world::{Disk, DiskError, PAGE};

/// Pages read at a time.
const WINDOW_PAGES: u64 = 512;

/// What replay found.
pub struct Replayed {
    /// Page after the last batch.
    pub head: u64,
    /// Sequence number after the last batch.
    pub next_batch: u64,
    /// A batch that was flushed cannot be read: promises may be lost.
    pub rotten: bool,
    /// Extents whose bytes were not known flushed when their entry was written.
    pub unflushed: Vec<(ExtentId, Extent)>,
}

struct Reader<'a> {
    disk: &'a Rc<dyn Disk>,
    area: Area,
    window_at: u64,
    window: Bytes,
}

impl Reader<'_> {
    fn pages(&self) -> u64 {
        self.area.bytes / PAGE as u64
    }

    /// `count` pages from ring page `page` on, which do not cross the end.
    async fn read(&mut self, page: u64, count: u64) -> Result<Bytes, DiskError> {
        let end = self.window_at + (self.window.len() / PAGE) as u64;
        if page < self.window_at || page + count > end {
            let size = WINDOW_PAGES.max(count).min(self.pages() - page);
            let offset = self.area.offset + page * PAGE as u64;
            self.window = self.disk.read(offset, size as usize * PAGE).await?;
            self.window_at = page;
        }
        let start = (page - self.window_at) as usize * PAGE;
        Ok(self.window.slice(start..start + count as usize * PAGE))
    }

    /// The batch at absolute page `at`, if its header is sound.
    async fn batch(&mut self, at: u64) -> Result<Option<(BatchHead, Bytes)>, DiskError> {
        let page = at % self.pages();
        let first = self.read(page, 1).await?;
        let Some(head) = batch::decode_head(&first) else {
            return Ok(None);
        };
        if head.at != at || page + head.pages() > self.pages() {
            return Ok(None);
        }
        let bytes = self.read(page, head.pages()).await?;
        Ok(batch::header_is_sound(&head, &bytes).then_some((head, bytes)))
    }
}

/// Whether a batch is the one looked for.
fn continues(head: &BatchHead, state: &State, batch: u64) -> bool {
    head.session == state.session && head.batch == batch && head.incarnation == state.incarnation
}

/// Applies every batch from the state's replay point on. The state then holds all that was written.
pub async fn replay(
    disk: &Rc<dyn Disk>,
    area: Area,
    state: &mut State,
) -> Result<Replayed, DiskError> {
    let mut reader = Reader {
        disk,
        area,
        window_at: 0,
        window: Bytes::new(),
    };
    let (mut at, mut next) = (state.replay_at, state.replay_batch);
    let mut unflushed = Vec::new();
    let rotten = loop {
        let found = find(&mut reader, state, at, next).await?;
        let Some((head, entries)) = found else {
            break known_flushed(&mut reader, state, at, next).await?;
        };
        let good = entries.iter().all(|(entry, _)| is_good(entry));
        if !good && !known_flushed(&mut reader, state, head.at, next).await? {
            break false;
        }
        for decoded in entries {
            apply(state, &head, decoded, &mut unflushed);
        }
        at = head.at + head.pages();
        next += 1;
    };
    for log in state.logs.values_mut() {
        log.trim(log.trimmed);
    }
    Ok(Replayed {
        head: at,
        next_batch: next,
        rotten,
        unflushed,
    })
}

async fn find(
    reader: &mut Reader<'_>,
    state: &State,
    at: u64,
    next: u64,
) -> Result<Option<(BatchHead, Vec<Decoded>)>, DiskError> {
    // A batch that would have crossed the end starts at the next lap.
    let lap = place_batch(at, u64::MAX, reader.pages());
    for at in [at, lap] {
        if let Some((head, bytes)) = reader.batch(at).await?
            && continues(&head, state, next)
            && let Some(entries) = batch::decode_entries(&head, &bytes)
        {
            return Ok(Some((head, entries)));
        }
    }
    Ok(None)
}

fn is_good(entry: &Entry) -> bool {
    match entry {
        Entry::Record(record) | Entry::Moved(record) => record.verify().is_ok(),
        Entry::Meta(_) => true,
    }
}

fn apply(
    state: &mut State,
    head: &BatchHead,
    (entry, place): Decoded,
    unflushed: &mut Vec<(ExtentId, Extent)>,
) {
    let place = match place {
        Some((page, offset)) => Place::At {
            page: head.at + page,
            offset,
        },
        None => Place::Nothing,
    };
    let slot = |record: &Record| Slot {
        head: record.head,
        place,
        damaged: record.verify().is_err(),
    };
    match &entry {
        Entry::Record(record) => state.replay_record(slot(record), false),
        Entry::Moved(record) => state.replay_record(slot(record), true),
        Entry::Meta(encoded) => {
            // Sound headers hold whole redo entries; one of a newer release cannot be here, because the
            // batch's version would tell.
            if let Some(meta) = Meta::decode(encoded) {
                if let Meta::Keep(id, extent, false) = &meta {
                    unflushed.push((*id, extent.clone()));
                }
                state.apply(&meta);
            }
        }
    }
}

/// Whether a later batch of the session says that `batch` was flushed: then it is not a torn tail but rot.
async fn known_flushed(
    reader: &mut Reader<'_>,
    state: &State,
    from: u64,
    batch: u64,
) -> Result<bool, DiskError> {
    let ring = reader.pages();
    let mut at = from + 1;
    while at < from + ring {
        let count = WINDOW_PAGES.min(ring - at % ring).min(from + ring - at);
        let bytes = reader.read(at % ring, count).await?;
        for (index, page) in bytes.chunks_exact(PAGE).enumerate() {
            let place = at + index as u64;
            let Some(head) = batch::decode_head(page) else {
                continue;
            };
            let later = head.session == state.session && head.batch > batch && head.at == place;
            if later && head.flushed >= batch && reader.batch(place).await?.is_some() {
                return Ok(true);
            }
        }
        at += count;
    }
    Ok(false)
}
