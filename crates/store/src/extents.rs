//! The extent store: put, read, delete, compact, list.
//!
//! A put writes the bytes into fresh space, then adds a redo entry; the extent is visible from then on. It
//! survives a power loss once both are flushed; after a power loss, entries that were never covered by a flush
//! are checked against the bytes (`open.rs`). Space of replaced and deleted extents is reused only when
//! the entry that freed it is flushed.

use crate::GRANULE_BYTES;
use crate::journal::batch::Entry;
use crate::options::bug;
use crate::state::{Extent, Meta, Run, group_start};
use crate::store::{Answer, Store};
use bytes::Bytes;
use codec::extent::{Damage, Descriptor, Header};
use futures_util::future::try_join_all;
use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::rc::Rc;
use vocab::{ExtentId, Generation, GroupId, IdMap, StoreId};
use wire::{ExtentInfo, FramePiece, FrameRead, StoreError, StoreReply};
use world::{Buf, DiskError, PAGE};

/// Bytes of a redo entry and of the index for one extent, rounded up.
pub(crate) const KEEP_BYTES: u64 = 96;
/// A read that fails while its extent is being replaced is tried again so often.
const READ_TRIES: usize = 4;
/// Reads in a row that may fail before the disk counts as failed.
const UNREAD_MAX: u32 = 32;
/// Frames read by one request: the blocks of the largest read of a volume, 16 MiB, one by one.
const READS_MAX: usize = 4096;
/// Frames fetched by one operation of the disk: of raw data 1 MiB, what a volume's reads ask for at once.
const SPAN_FRAMES_MAX: usize = 64;
/// Members that may be named as lacking an extent; a group has at most 3.
const MISSING_MAX: usize = 16;
/// Bound of a listing.
const LIST_MAX: u32 = 5000;

/// A request to keep an extent.
pub(crate) struct Put {
    pub id: ExtentId,
    pub generation: Generation,
    pub form: u32,
    pub durable: bool,
    pub reserved: bool,
    pub missing: Vec<StoreId>,
}

/// Frame tables of extents read lately.
#[derive(Default)]
pub(crate) struct HeaderCache {
    entries: IdMap<ExtentId, (Rc<Header>, Run, u64)>,
    order: BTreeMap<u64, ExtentId>,
    tick: u64,
    bytes: usize,
}

impl HeaderCache {
    fn get(&mut self, id: ExtentId, run: Run) -> Option<Rc<Header>> {
        let (header, held, tick) = self.entries.get_mut(&id)?;
        if *held != run {
            return None;
        }
        self.tick += 1;
        self.order.remove(tick);
        *tick = self.tick;
        self.order.insert(self.tick, id);
        Some(header.clone())
    }

    fn put(&mut self, id: ExtentId, run: Run, header: Rc<Header>, bytes_max: usize) {
        self.remove(id);
        self.tick += 1;
        self.bytes += cost(&header);
        self.order.insert(self.tick, id);
        self.entries.insert(id, (header, run, self.tick));
        while self.bytes > bytes_max {
            let Some((_, oldest)) = self.order.first_key_value() else {
                return;
            };
            self.remove(*oldest);
        }
    }

    pub(crate) fn remove(&mut self, id: ExtentId) {
        if let Some((header, _, tick)) = self.entries.remove(&id) {
            self.bytes -= cost(&header);
            self.order.remove(&tick);
        }
    }
}

fn cost(header: &Header) -> usize {
    128 + header.frames() * size_of::<codec::extent::Descriptor>()
}

/// Where the wanted blocks of a frame lie in its extent.
#[derive(Clone)]
struct FramePlace {
    descriptor: Descriptor,
    first: usize,
    count: usize,
    range: Range<usize>,
}

impl FramePlace {
    fn verify(&self, read: &FrameRead, stored: &Bytes) -> Result<(), Damage> {
        self.descriptor
            .verify(read.id, read.frame, self.first, self.count, stored)
    }

    fn piece(&self, stored: &Bytes) -> FramePiece {
        FramePiece {
            descriptor: self.descriptor.to_bytes().to_vec(),
            first_block: self.first as u8,
            bytes: stored.len() as u32,
        }
    }
}

/// `None`: the extent has no such frame, or not these blocks of it.
fn place_of(header: &Header, read: &FrameRead) -> Option<FramePlace> {
    let descriptor = *header.descriptor(read.frame).ok()?;
    let (first, count) = match read.blocks {
        0 => (0, descriptor.blocks()),
        count => (usize::from(read.first_block), usize::from(count)),
    };
    let range = descriptor.range(first, count)?;
    Some(FramePlace {
        descriptor,
        first,
        count,
        range,
    })
}

/// A form of an extent on its way to the disk.
struct Copy {
    id: ExtentId,
    /// The group's generation that whoever wants it kept knows.
    generation: Generation,
    form: u32,
    missing: Vec<StoreId>,
    sealed: Bytes,
}

impl Store {
    fn check_generation(&self, group: GroupId, generation: Generation) -> Result<(), StoreError> {
        let promised = self
            .0
            .state
            .borrow()
            .groups
            .get(&group)
            .copied()
            .unwrap_or_default();
        if generation < promised && !bug!(self.0.options.faults, AcceptStaleGeneration) {
            return Err(StoreError::StaleGeneration { promised });
        }
        if generation > promised {
            // Whoever knows only an older list of members must not be served after somebody with this one.
            self.record(&Meta::Group(group, generation));
        }
        Ok(())
    }

    /// Frees runs as of `ticket`.
    fn free(&self, ticket: u64, runs: Vec<Run>) {
        let mut freed = self.0.freed.borrow_mut();
        freed.extend(runs.into_iter().map(|run| (ticket, run)));
    }

    /// Applies a redo entry, journals it, frees what it freed; returns its ticket.
    pub(crate) fn record(&self, meta: &Meta) -> u64 {
        let freed = self.0.state.borrow_mut().apply(meta);
        let ticket = self.0.journal.push([Entry::meta(meta)]);
        self.free(ticket, freed);
        self.consider_upkeep();
        ticket
    }

    pub(crate) async fn put_extent(&self, put: Put, body: Vec<Bytes>) -> Answer {
        let Put {
            id,
            generation,
            form,
            durable,
            reserved,
            missing,
        } = put;
        self.check_generation(id.group, generation)?;
        if missing.len() > MISSING_MAX {
            let reason = format!("put {id}: more than {MISSING_MAX} members lack it");
            return Err(StoreError::BadRequest { reason });
        }
        let sealed = match &body[..] {
            [whole] if Buf::is_aligned(whole) => whole.clone(),
            parts => joined(parts),
        };
        let header = codec::extent::verify(&sealed);
        let header = header.map_err(|damage| StoreError::BadRequest {
            reason: format!("put {id}: {damage}"),
        })?;
        if header.id() != id || header.form() != form {
            let reason = format!(
                "put {id} form {form}: the bytes are {} form {}",
                header.id(),
                header.form()
            );
            return Err(StoreError::BadRequest { reason });
        }
        self.room().await?;
        // A new member may have listed what is here meanwhile.
        self.check_generation(id.group, generation)?;
        let ticket = match self.already(id, form, &missing) {
            Some(ticket) => ticket,
            None => {
                if self.state_is_full() {
                    self.force_checkpoint();
                    return Err(StoreError::Full);
                }
                let reserve = if reserved {
                    self.reserve() / 4
                } else {
                    2 * self.reserve()
                };
                let copy = Copy {
                    id,
                    generation,
                    form,
                    missing,
                    sealed,
                };
                self.keep(copy, reserve).await?
            }
        };
        if durable {
            self.flush_data().await?;
            self.durable(ticket).await?;
        } else {
            self.written(ticket).await?;
        }
        Ok((
            StoreReply::Kept {
                session: self.0.session,
                full: self.is_full(),
            },
            Vec::new(),
        ))
    }

    /// A put that changes nothing: the form or a newer one is here, and good, or the extent is deleted.
    /// Returns the ticket to wait for.
    fn already(&self, id: ExtentId, form: u32, missing: &[StoreId]) -> Option<u64> {
        let held = {
            let state = self.0.state.borrow();
            if state.tombstones.contains_key(&id) {
                return Some(self.0.journal.formed_ticket());
            }
            state
                .extents
                .get(&id)
                .filter(|held| held.form >= form)
                .cloned()?
        };
        // A rotten one is as good as none, also of a newer form: whoever has the older one may answer for it.
        if self.0.bad.borrow().contains(&id) {
            return None;
        }
        if missing.iter().all(|store| held.missing.contains(store)) {
            return Some(self.0.journal.last_ticket());
        }
        let mut extent = held;
        extent.missing.extend(missing);
        extent.missing.sort_unstable();
        extent.missing.dedup();
        Some(self.record(&Meta::Keep(id, extent, false)))
    }

    /// Writes sealed bytes into fresh space and indexes them.
    async fn keep(&self, copy: Copy, reserve: u64) -> Result<u64, StoreError> {
        let Copy {
            id,
            generation,
            form,
            missing,
            sealed,
        } = copy;
        let run = self.allocate(sealed.len(), reserve).await?;
        let (disk, bytes) = (usize::from(run.disk), sealed.len());
        self.write_run(run, sealed).await?;
        // What replaces something must be durable first: the old bytes are the only good ones until then.
        let replaces = self.0.state.borrow().extents.contains_key(&id);
        if replaces {
            self.flush_disk(disk).await?;
            // Nothing may follow the batch that a clean mark names.
            self.check_alive()?;
        }
        if let Err(stale) = self.check_generation(id.group, generation) {
            self.0.space.borrow_mut().release(run);
            return Err(stale);
        }
        let extent = Extent {
            form,
            disk: run.disk,
            granule: run.granule,
            bytes: bytes as u32,
            missing,
        };
        self.grow_state(KEEP_BYTES);
        self.0.keeps.set(self.0.keeps.get() + 1);
        let held = self.find(id).map(|held| held.form);

        let newer = held.is_ok_and(|held| held > form);
        let mends = newer && replaces && self.0.bad.borrow().contains(&id);
        let ticket = self.record(&match mends {
            true => Meta::Mend(id, extent),
            false => Meta::Keep(id, extent, replaces),
        });
        if newer && !mends {
            // A good one of a newer form came first, which stays.
            return Ok(ticket);
        }
        self.0.bad.borrow_mut().remove(&id);
        self.0.unreadable.borrow_mut().remove(&id);
        self.0.cache.borrow_mut().remove(id);
        Ok(ticket)
    }

    pub(crate) async fn flush_disk(&self, disk: usize) -> Result<(), StoreError> {
        let progress = &self.0.progress[disk];
        let target = progress.written.get();
        if progress.flushed.get() >= target || bug!(self.0.options.faults, SkipFlush) {
            return Ok(());
        }
        self.0.data_flushes.set(self.0.data_flushes.get() + 1);
        if let Err(error) = self.0.disks[disk].flush().await
            && !bug!(self.0.options.faults, IgnoreFlushError)
        {
            return Err(self.fail(&error));
        }
        progress.flushed.set(progress.flushed.get().max(target));
        Ok(())
    }

    /// Flushes extents on the disks that the journal's flush does not cover.
    pub(crate) async fn flush_data(&self) -> Result<(), StoreError> {
        for disk in 1..self.0.disks.len() {
            self.flush_disk(disk).await?;
        }
        Ok(())
    }

    pub(crate) async fn flush_extents(&self) -> Answer {
        let ticket = self.0.journal.last_ticket();
        self.flush_data().await?;
        self.durable(ticket).await?;
        Ok((
            StoreReply::Kept {
                session: self.0.session,
                full: self.is_full(),
            },
            Vec::new(),
        ))
    }

    pub(crate) fn find(&self, id: ExtentId) -> Result<Extent, StoreError> {
        self.0
            .state
            .borrow()
            .extents
            .get(&id)
            .cloned()
            .ok_or(StoreError::Absent)
    }

    /// Reads `bytes` at `offset` of an extent; any offset. What the disk cannot read is a copy that is damaged, like one that
    /// rotted; a disk that reads nothing any more has failed.
    async fn read_bytes(
        &self,
        id: ExtentId,
        extent: &Extent,
        offset: usize,
        bytes: usize,
    ) -> Result<Bytes, StoreError> {
        let start = offset / PAGE * PAGE;
        let length = (offset + bytes - start).next_multiple_of(PAGE);
        let at = self.address(extent.run()) + start as u64;
        let read = self.0.disks[usize::from(extent.disk)]
            .read(at, length)
            .await;
        // One that is known to be bad says nothing new of the disk.
        let counts = !self.0.bad.borrow().contains(&id);
        let read = match self.heard(read, counts)? {
            Ok(read) => read,
            Err(reason) => {
                if self.find(id).is_ok_and(|now| now.run() == extent.run()) {
                    self.0.bad.borrow_mut().insert(id);
                    self.0.unreadable.borrow_mut().insert(id);
                    self.0.cache.borrow_mut().remove(id);
                }
                let what = format!("{id}: {reason}");
                return Err(StoreError::Damaged { what });
            }
        };
        Ok(if length == bytes {
            read
        } else {
            read.slice(offset - start..offset - start + bytes)
        })
    }

    /// What a read brought, or why its place cannot be read. One that fails and `counts` may be the one too many in a row.
    ///
    /// # Errors
    /// When the disk has failed: it is gone, or reads nothing any more.
    pub(crate) fn heard(
        &self,
        read: Result<Bytes, DiskError>,
        counts: bool,
    ) -> Result<Result<Bytes, String>, StoreError> {
        let in_a_row = &self.0.unread;
        match read {
            Ok(bytes) => {
                in_a_row.set(0);
                Ok(Ok(bytes))
            }
            Err(error @ DiskError::Io { .. }) if in_a_row.get() < UNREAD_MAX => {
                in_a_row.set(in_a_row.get() + u32::from(counts));
                Ok(Err(error.to_string()))
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    async fn header(
        &self,
        id: ExtentId,
        extent: &Extent,
    ) -> Result<Result<Rc<Header>, Damage>, StoreError> {
        let cached = self.0.cache.borrow_mut().get(id, extent.run());
        if let Some(header) = cached {
            return Ok(Ok(header));
        }
        // Three pages hold the table of a full extent of raw data.
        let first = (3 * PAGE).min(extent.bytes as usize);
        let mut bytes = self.read_bytes(id, extent, 0, first).await?;
        match Header::bytes_needed(&bytes) {
            Ok(needed) if needed > bytes.len() && needed <= extent.bytes as usize => {
                bytes = self.read_bytes(id, extent, 0, needed).await?;
            }
            Ok(_) => {}
            Err(damage) => return Ok(Err(damage)),
        }
        let header = match Header::parse(&bytes) {
            Ok(header) if header.id() == id && header.sealed_bytes() == extent.bytes as usize => {
                Rc::new(header)
            }
            Ok(_) => return Ok(Err(Damage::Malformed("it is another extent"))),
            Err(damage) => return Ok(Err(damage)),
        };
        let bytes_max = self.0.options.header_cache_bytes;
        self.0
            .cache
            .borrow_mut()
            .put(id, extent.run(), header.clone(), bytes_max);
        Ok(Ok(header))
    }

    pub(crate) async fn read_frames(&self, reads: &[FrameRead]) -> Answer {
        if reads.len() > READS_MAX {
            let reason = format!("read: at most {READS_MAX} frames at a time");
            return Err(StoreError::BadRequest { reason });
        }
        if let [single] = reads {
            let (piece, bytes) = self.read_frame(*single).await?;
            return Ok((
                StoreReply::Frames {
                    pieces: vec![piece],
                },
                vec![bytes],
            ));
        }
        let runs = reads.chunk_by(|one, next| one.id == next.id);
        let runs = try_join_all(runs.map(|run| self.read_run(run))).await?;
        let (pieces, body) = runs.into_iter().flatten().unzip();
        Ok((StoreReply::Frames { pieces }, body))
    }

    /// Frames of one extent: those that lie side by side in one operation of the disk, each verified by itself.
    /// One that cannot be had this way is read alone, which tells damage from a replaced extent.
    async fn read_run(&self, reads: &[FrameRead]) -> Result<Vec<(FramePiece, Bytes)>, StoreError> {
        let whole = async || {
            let extent = self.find(reads[0].id).ok()?;
            let header = self.header(reads[0].id, &extent).await.ok()?.ok()?;
            let places = reads.iter().map(|read| place_of(&header, read));
            let places: Vec<FramePlace> = places.collect::<Option<_>>()?;
            let spans = places.chunk_by(|one, next| one.range.end == next.range.start);
            let spans = spans.flat_map(|span| span.chunks(SPAN_FRAMES_MAX));
            let spans = spans.map(|span| self.read_span(reads[0].id, &extent, span));
            Some(try_join_all(spans).await.ok()?.concat())
        };
        let mut answers = Vec::with_capacity(reads.len());
        let stored = whole().await;
        for (index, read) in reads.iter().enumerate() {
            let sound = |(place, bytes): &(FramePlace, Bytes)| {
                bug!(self.0.options.faults, SkipReadChecksum) || place.verify(read, bytes).is_ok()
            };
            let found = stored
                .as_ref()
                .map(|stored| &stored[index])
                .filter(|found| sound(found));
            answers.push(match found {
                Some((place, bytes)) => (place.piece(bytes), bytes.clone()),
                None => self.read_frame(*read).await?,
            });
        }
        Ok(answers)
    }

    /// The stored bytes of frames that lie side by side.
    async fn read_span(
        &self,
        id: ExtentId,
        extent: &Extent,
        span: &[FramePlace],
    ) -> Result<Vec<(FramePlace, Bytes)>, StoreError> {
        let start = span[0].range.start;
        let end = span[span.len() - 1].range.end;
        let bytes = self.read_bytes(id, extent, start, end - start).await?;
        let part = |place: &FramePlace| {
            let range = place.range.start - start..place.range.end - start;
            (place.clone(), bytes.slice(range))
        };
        Ok(span.iter().map(part).collect())
    }

    async fn read_frame(&self, read: FrameRead) -> Result<(FramePiece, Bytes), StoreError> {
        let mut what = String::new();
        for _ in 0..READ_TRIES {
            let extent = self.find(read.id)?;
            match self.try_frame(read, &extent).await? {
                Ok(answer) => return Ok(answer),
                Err(damage) => what = format!("{} frame {}: {damage}", read.id, read.frame),
            }
            // Replaced while it was read: its space may hold something else by now.
            let unchanged = self
                .find(read.id)
                .is_ok_and(|now| now.run() == extent.run());
            if unchanged {
                self.0.bad.borrow_mut().insert(read.id);
                self.0.cache.borrow_mut().remove(read.id);
                break;
            }
        }
        Err(StoreError::Damaged { what })
    }

    async fn try_frame(
        &self,
        read: FrameRead,
        extent: &Extent,
    ) -> Result<Result<(FramePiece, Bytes), Damage>, StoreError> {
        let header = match self.header(read.id, extent).await? {
            Ok(header) => header,
            Err(damage) => return Ok(Err(damage)),
        };
        let Some(place) = place_of(&header, &read) else {
            return Ok(Err(Damage::NoFrame { frame: read.frame }));
        };
        let range = place.range.clone();
        let bytes = self.read_bytes(read.id, extent, range.start, range.len());
        let bytes = bytes.await?;
        if !bug!(self.0.options.faults, SkipReadChecksum)
            && let Err(damage) = place.verify(&read, &bytes)
        {
            return Ok(Err(damage));
        }
        Ok(Ok((place.piece(&bytes), bytes)))
    }

    pub(crate) async fn read_extent(&self, id: ExtentId) -> Answer {
        let (extent, sealed) = self.read_sealed(id).await?;
        let (form, missing) = (extent.form, extent.missing);
        Ok((StoreReply::Extent { form, missing }, vec![sealed]))
    }

    /// All bytes of an extent, verified.
    pub(crate) async fn read_sealed(&self, id: ExtentId) -> Result<(Extent, Bytes), StoreError> {
        let mut what = String::new();
        for _ in 0..READ_TRIES {
            let extent = self.find(id)?;
            let sealed = self.read_bytes(id, &extent, 0, extent.bytes as usize);
            let sealed = sealed.await?;
            match codec::extent::verify(&sealed) {
                Ok(header) if header.id() == id && header.form() == extent.form => {
                    return Ok((extent, sealed));
                }
                Ok(_) => what = format!("{id}: another extent lies in its place"),
                Err(damage) => what = format!("{id}: {damage}"),
            }
            if self.find(id).is_ok_and(|now| now.run() == extent.run()) {
                self.0.bad.borrow_mut().insert(id);
                self.0.cache.borrow_mut().remove(id);
                break;
            }
        }
        Err(StoreError::Damaged { what })
    }

    pub(crate) async fn delete_extents(
        &self,
        group: GroupId,
        generation: Generation,
        ids: Vec<ExtentId>,
    ) -> Result<(), StoreError> {
        self.check_generation(group, generation)?;
        if ids.is_empty() || ids.len() > LIST_MAX as usize || ids.iter().any(|id| id.group != group)
        {
            let reason = format!("delete: 1 to {LIST_MAX} extents of one group at a time");
            return Err(StoreError::BadRequest { reason });
        }
        self.room().await?;
        self.check_generation(group, generation)?;
        self.grow_state(ids.len() as u64 * KEEP_BYTES);
        let mut ticket = 0;
        for batch in ids.chunks(500) {
            ticket = self.record(&Meta::Delete(batch.to_vec()));
        }
        for id in &ids {
            self.0.cache.borrow_mut().remove(*id);
            self.0.bad.borrow_mut().remove(id);
            self.0.unreadable.borrow_mut().remove(id);
        }
        self.written(ticket).await
    }

    pub(crate) async fn compact_extent(
        &self,
        id: ExtentId,
        generation: Generation,
        form: u32,
        live: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.check_generation(id.group, generation)?;
        let (held, sealed) = self.read_sealed(id).await?;
        if held.form >= form {
            return Ok(());
        }
        let compacted = self
            .0
            .world
            .offload(move || codec::extent::compact(&sealed, &live, form))
            .await;
        let compacted = compacted.map_err(|damage| StoreError::Damaged {
            what: format!("{id}: {damage}"),
        })?;
        // Compressed frames with one live block stay whole: nothing to gain, on any member.
        if compacted.len() as u64 / GRANULE_BYTES == u64::from(held.bytes) / GRANULE_BYTES {
            return Ok(());
        }
        self.room().await?;
        let copy = Copy {
            id,
            generation,
            form,
            missing: held.missing,
            sealed: compacted,
        };
        // The reserve exists for this: rewriting is what makes space.
        let ticket = self.keep(copy, 0).await?;
        self.durable(ticket).await
    }

    pub(crate) fn list_extents(
        &self,
        group: GroupId,
        generation: Generation,
        after: Option<ExtentId>,
        limit: u32,
        tombstones: bool,
    ) -> Answer {
        self.check_generation(group, generation)?;
        let state = self.0.state.borrow();
        let start = after.map_or(Bound::Included(group_start(group)), Bound::Excluded);
        let next = group.0.checked_add(1).map(GroupId);
        let end = next.map_or(Bound::Unbounded, |next| Bound::Excluded(group_start(next)));
        let limit = limit.clamp(1, LIST_MAX) as usize;
        if after.is_some_and(|after| after.group != group) {
            let reason = "list: the page starts in another group".to_owned();
            return Err(StoreError::BadRequest { reason });
        }
        let live = state
            .extents
            .range((start, end))
            .map(|(&id, extent)| ExtentInfo {
                id,
                form: extent.form,
                bytes: extent.bytes,
                tombstone: false,
                missing: extent.missing.clone(),
            });
        let dead = state
            .tombstones
            .range((start, end))
            .map(|(&id, &form)| ExtentInfo {
                id,
                form,
                bytes: 0,
                tombstone: true,
                missing: Vec::new(),
            });
        let mut extents: Vec<ExtentInfo> = live.take(limit + 1).collect();
        if tombstones {
            extents.extend(dead.take(limit + 1));
            extents.sort_by_key(|info| info.id);
        }
        let more = extents.len() > limit;
        extents.truncate(limit);
        Ok((StoreReply::Extents { extents, more }, Vec::new()))
    }

    pub(crate) async fn clear_missing(
        &self,
        store: StoreId,
        ids: Vec<ExtentId>,
    ) -> Result<(), StoreError> {
        for batch in ids.chunks(500) {
            self.room().await?;
            let ticket = self.record(&Meta::Found(store, batch.to_vec()));
            self.written(ticket).await?;
        }
        Ok(())
    }

    pub(crate) async fn forget_tombstones(&self, ids: Vec<ExtentId>) -> Result<(), StoreError> {
        for batch in ids.chunks(500) {
            self.room().await?;
            let ticket = self.record(&Meta::Forget(batch.to_vec()));
            self.written(ticket).await?;
        }
        Ok(())
    }

    pub(crate) async fn promise_group(
        &self,
        group: GroupId,
        generation: Generation,
    ) -> Result<(), StoreError> {
        self.check_generation(group, generation)?;
        let ticket = self.record(&Meta::Group(group, generation));
        self.durable(ticket).await
    }

    pub(crate) async fn leave_group(
        &self,
        group: GroupId,
        generation: Generation,
    ) -> Result<(), StoreError> {
        self.room().await?;
        self.check_generation(group, generation)?;
        let ids: Vec<ExtentId> = self.0.state.borrow().ids_of(group).collect();
        for id in ids {
            self.0.cache.borrow_mut().remove(id);
            self.0.bad.borrow_mut().remove(&id);
            self.0.unreadable.borrow_mut().remove(&id);
        }
        let ticket = self.record(&Meta::Leave(group));
        self.durable(ticket).await
    }
}

/// Parts of a body in one page-aligned piece.
fn joined(parts: &[Bytes]) -> Bytes {
    let length = parts.iter().map(Bytes::len).sum();
    let mut buf = Buf::zeroed(length);
    let mut at = 0;
    for part in parts {
        buf[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    buf.freeze().slice(..length)
}
