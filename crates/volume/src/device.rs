//! Requests to a volume: the `BlockDevice` of its owner.
//!
//! A read takes the overlay and the root in one step, so both belong to one moment; then it fetches, and
//! only then makes sure that no newer owner can have acknowledged anything before the fetch was done.

use crate::change::{Change, RUNS_MAX, StoredRun};
use crate::extents::{EXTENT_BLOCKS_MAX, build};
use crate::log::LogError;
use crate::map::{MapRun, lookup};
use crate::overlay::{Entry, Slot};
use crate::volume::Volume;
use blockdev::{Allocation, BlockDevice, BlockError, BlockFuture, WriteMode, check_range};
use bytes::Bytes;
use codec::extent::FRAME_BLOCKS;
use futures_util::future::{join_all, select};
use group::{PoolError, Purpose, Unflushed};
use std::rc::Rc;
use vocab::{BLOCK_SIZE, ByteCount, ExtentId, Lba, Position};
use wire::FrameRead;
use world::sync::Outcome;
use world::{Duration, Time};

static ZEROS: [u8; 64 * BLOCK_SIZE] = [0; 64 * BLOCK_SIZE];
/// A record carries at most this much data: below the bypass bound, and small against an append message.
const RECORD_DATA_MAX: usize = 128 << 10;
/// A write waits for space at most so many times as long as a store may take nothing.
const SPACE_PATIENCES: u32 = 4;
/// Why a write is refused while the cluster protects its space.
const PROTECTED: &str = "the cluster protects its last space and takes no new data: delete data or snapshots, or add disks; \
                         reads, deletes and trims go on";
/// Longest wait before a write that is held back looks again.
const THROTTLE_PAUSE: Duration = Duration::from_secs(1);
/// Times a read starts over because what it was about to read was collected meanwhile.
const READ_ATTEMPTS: usize = 4;
/// Largest unmap of one record.
const UNMAP_BLOCKS_MAX: u64 = 1 << 31;

/// The block device of an owned volume. Cheap to clone.
#[derive(Clone)]
pub struct Device(Rc<Volume>);

impl Volume {
    /// The volume as a block device.
    #[must_use]
    pub fn device(self: &Rc<Self>) -> Device {
        Device(self.clone())
    }
}

pub(crate) fn log_error(error: &LogError) -> BlockError {
    BlockError::Gone(error.to_string())
}

fn pool_error(error: &PoolError) -> BlockError {
    match error {
        PoolError::Full { .. } => BlockError::NoSpace(error.to_string()),
        other => BlockError::Failed(other.to_string()),
    }
}

/// Where a piece of a read comes from.
enum Source {
    Data(Bytes),
    Zeros(u64),
    Stored(ExtentId, Slot, u64),
    Map(u64, u64),
}

impl BlockDevice for Device {
    fn size(&self) -> ByteCount {
        self.0.size.get()
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
        let volume = self.0.clone();
        Box::pin(async move {
            check_range(lba, u64::from(blocks), volume.size.get())?;
            let bytes = u64::from(blocks) * BLOCK_SIZE as u64;
            volume.gate.meter(&volume.context.world, bytes).await;
            volume.read_blocks(lba, u64::from(blocks)).await
        })
    }

    fn write(&self, lba: Lba, data: Vec<Bytes>, mode: WriteMode) -> BlockFuture<()> {
        let volume = self.0.clone();
        Box::pin(async move {
            let bytes = data.iter().map(Bytes::len).sum::<usize>();
            check_range(lba, (bytes / BLOCK_SIZE) as u64, volume.size.get())?;
            volume.gate.meter(&volume.context.world, bytes as u64).await;
            let deadline = volume.context.world.now() + volume.context.options.space_patience;
            volume.throttle(bytes as u64, deadline).await?;
            let _change = volume.gate.begin_change(&volume.context.world).await;
            let durable = mode == WriteMode::Fua || volume.policy.get().sync_always;
            if bytes >= volume.context.options.bypass_bytes {
                return volume.write_large(lba, data, durable, deadline).await;
            }
            volume.write_records(lba, data, durable).await
        })
    }

    fn flush(&self) -> BlockFuture<()> {
        let volume = self.0.clone();
        Box::pin(async move {
            let position = volume.log.committed();
            let flushed = volume.log.flush(position).await;
            flushed.map_err(|error| log_error(&error))?;
            volume.log.bear_witness(position);
            Ok(())
        })
    }

    fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()> {
        let volume = self.0.clone();
        Box::pin(async move {
            check_range(lba, blocks, volume.size.get())?;
            volume.gate.meter(&volume.context.world, 0).await;
            volume.throttle(0, volume.context.world.now()).await?;
            let _change = volume.gate.begin_change(&volume.context.world).await;
            let durable = volume.policy.get().sync_always;
            let mut outcomes = Vec::new();
            let mut at = lba.0;
            while at < lba.0 + blocks {
                let count = (lba.0 + blocks - at).min(UNMAP_BLOCKS_MAX);
                let change = Change::Unmap {
                    lba: Lba(at),
                    blocks: count as u32,
                };
                outcomes.push(volume.log.append(change, durable).1);
                at += count;
            }
            committed(outcomes).await
        })
    }

    fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
        let volume = self.0.clone();
        Box::pin(async move {
            check_range(lba, blocks, volume.size.get())?;
            // A leaf at a time keeps the answer and the work bounded.
            let blocks = blocks.min(32 * crate::map::LEAF_BLOCKS);
            volume.allocation_of(lba, blocks).await
        })
    }
}

/// Waits until all of a request's records are committed.
async fn committed(outcomes: Vec<Outcome<Result<(), LogError>>>) -> Result<(), BlockError> {
    for outcome in outcomes {
        match outcome.await {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(log_error(&error)),
            None => return Err(BlockError::Gone("the node stops".to_owned())),
        }
    }
    Ok(())
}

impl Volume {
    /// Whether the cluster takes no new data with this volume's copies, by what the catalog said last.
    fn is_protected(&self) -> bool {
        let copies = self.policy.get().replication_factor;
        self.context.pool.is_protected(copies)
    }

    /// Waits while too much is undrained, here or on the node, or while space runs out and may be collected
    /// before `deadline`. A volume below its bounds waits here only while a replica's journal is full. Unmaps (0 bytes)
    /// are let in when the pool is full: they give space back. While the cluster protects its space, data is refused at once (decision 30).
    async fn throttle(&self, bytes: u64, deadline: Time) -> Result<(), BlockError> {
        let world = &self.context.world;
        loop {
            let (drained, freed) = (self.drained.notified(), self.context.room.freed());
            let moved = self.log.moved();
            if let Some(lost) = self.log.lost() {
                return Err(log_error(&lost));
            }
            if bytes > 0 && self.is_protected() {
                return Err(BlockError::NoSpace(PROTECTED.to_owned()));
            }
            let crowded_for = self.context.pool.crowded_for();
            let crowded = bytes > 0 && crowded_for.is_some();
            // Somebody else may have taken what the collector gave free: as long as it does, it is worth waiting, but not for
            // ever: stores that take small puts may never take this one.
            let patience = self.context.options.space_patience;
            let in_vain = crowded_for.is_some_and(|long| long >= patience);
            let last = deadline + patience * (SPACE_PATIENCES - 1);
            if crowded && (in_vain && world.now() >= deadline || world.now() >= last) {
                let advice = "the pool is nearly full: delete data or snapshots, or add disks";
                return Err(BlockError::NoSpace(advice.to_owned()));
            }
            if !crowded {
                let stalled = self.log.is_stalled();
                if self.has_room(bytes) && !stalled {
                    return Ok(());
                }
                self.ask_for_drain(bytes);
                if stalled {
                    let _ = world.timeout(THROTTLE_PAUSE, select(moved, drained)).await;
                    continue;
                }
            } else if self.overlay.bytes() > 0 || self.hides_garbage() {
                // What was overwritten is garbage for the collector only when that is drained.
                self.drain_wanted.set(true);
                self.drain_now.notify_all();
            }
            let _ = world.timeout(THROTTLE_PAUSE, select(drained, freed)).await;
        }
    }

    /// Puts past the journal, again while space runs out and may be collected before `deadline`.
    async fn write_large(
        &self,
        lba: Lba,
        data: Vec<Bytes>,
        durable: bool,
        deadline: Time,
    ) -> Result<(), BlockError> {
        let bytes = data.iter().map(Bytes::len).sum::<usize>() as u64;
        loop {
            match self
                .write_past_the_journal(lba, data.clone(), durable)
                .await
            {
                Err(BlockError::NoSpace(_)) => self.throttle(bytes, deadline).await?,
                // The log waits for replicas as long as policy says; groups do not.
                Err(BlockError::Failed(_)) => return self.write_records(lba, data, durable).await,
                outcome => return outcome,
            }
        }
    }

    async fn write_records(
        &self,
        lba: Lba,
        data: Vec<Bytes>,
        durable: bool,
    ) -> Result<(), BlockError> {
        let mut outcomes = Vec::with_capacity(data.len());
        let (mut at, mut total) = (lba, 0);
        for piece in data {
            for start in (0..piece.len()).step_by(RECORD_DATA_MAX) {
                let part = piece.slice(start..piece.len().min(start + RECORD_DATA_MAX));
                let bytes = part.len();
                let change = Change::Write {
                    lba: at,
                    data: part,
                };
                outcomes.push(self.log.append(change, durable).1);
                at = at.plus((bytes / BLOCK_SIZE) as u64);
                total += bytes as u64;
            }
        }
        let held = Uncommitted::new(self, total);
        let result = committed(outcomes).await;
        drop(held);
        result
    }

    /// Puts a large run into extents first and appends a record that names them (architecture 3.2).
    async fn write_past_the_journal(
        &self,
        lba: Lba,
        data: Vec<Bytes>,
        durable: bool,
    ) -> Result<(), BlockError> {
        let policy = self.policy.get();
        let blocks: Vec<Bytes> = data
            .iter()
            .flat_map(|piece| {
                (0..piece.len())
                    .step_by(BLOCK_SIZE)
                    .map(|at| piece.slice(at..at + BLOCK_SIZE))
            })
            .collect();
        let held = Uncommitted::new(self, (blocks.len() * BLOCK_SIZE) as u64);
        let mut extents = Vec::new();
        for batch in blocks.chunks(EXTENT_BLOCKS_MAX) {
            let id = self
                .ids
                .allocate(&self.context.pool, policy)
                .map_err(|error| pool_error(&error))?;
            self.ids.hold(id, None);
            extents.push((id, batch));
        }
        let puts = extents.iter().map(|&(id, batch)| async move {
            let built = build(&self.context.world, id, batch.to_vec(), policy.compress).await;
            let put = self
                .context
                .pool
                .put(id, built.sealed, 0, Purpose::Write, policy.copies_min)
                .await?;
            Ok::<_, PoolError>((built.slots, put))
        });
        let results = join_all(puts).await;
        let mut outcomes = Vec::new();
        let mut at = lba;
        for ((id, batch), result) in extents.iter().zip(results) {
            let (slots, unflushed) = match result {
                Ok(placed) => placed,
                Err(error) => {
                    extents.iter().for_each(|(id, _)| self.ids.release(*id));
                    return Err(pool_error(&error));
                }
            };
            for runs in runs_of(*id, &slots).chunks(RUNS_MAX) {
                let change = Change::Reference {
                    lba: at,
                    runs: runs.to_vec(),
                };
                let (position, outcome) = self.log.append(change, durable);
                self.note_reference(*id, position, &unflushed);
                outcomes.push(outcome);
                at = at.plus(runs.iter().map(|run| u64::from(run.2)).sum());
            }
            debug_assert_eq!(batch.len(), slots.len());
        }
        let result = committed(outcomes).await;
        drop(held);
        result
    }

    fn note_reference(&self, id: ExtentId, position: Position, unflushed: &Unflushed) {
        self.ids.hold(id, Some(position));
        self.unflushed_puts
            .borrow_mut()
            .insert(position, (id, unflushed.clone()));
    }

    pub(crate) async fn read_blocks(
        &self,
        lba: Lba,
        blocks: u64,
    ) -> Result<Vec<Bytes>, BlockError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let root = self.root.get();
            let sources = self.sources(lba, blocks);
            match self.fetch(root.map, sources).await {
                Ok(pieces) => {
                    self.log
                        .confirm_reads()
                        .await
                        .map_err(|error| log_error(&error))?;
                    return Ok(pieces);
                }
                // Collected meanwhile: the new root knows where the data is now.
                Err(_) if self.root.get() != root && attempt < READ_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Splits a range by what the overlay knows of it.
    fn sources(&self, lba: Lba, blocks: u64) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for at in lba.0..lba.0 + blocks {
            let entry = self.overlay.get(Lba(at));
            match (sources.last_mut(), entry) {
                (_, Some(Entry::Data(data))) => sources.push(Source::Data(data)),
                (Some(Source::Zeros(count)), Some(Entry::Unmapped)) => *count += 1,
                (_, Some(Entry::Unmapped)) => sources.push(Source::Zeros(1)),
                (Some(Source::Stored(extent, first, count)), Some(Entry::Stored(id, slot)))
                    if *extent == id && u64::from(*first) + *count == u64::from(slot) =>
                {
                    *count += 1;
                }
                (_, Some(Entry::Stored(id, slot))) => sources.push(Source::Stored(id, slot, 1)),
                (Some(Source::Map(_, count)), None) => *count += 1,
                (_, None) => sources.push(Source::Map(at, 1)),
            }
        }
        sources
    }

    async fn fetch(
        &self,
        map: catalog::MapRoot,
        sources: Vec<Source>,
    ) -> Result<Vec<Bytes>, BlockError> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(sources.len());
        let mut reads = Vec::new();
        for source in sources {
            match source {
                Source::Data(data) => pieces.push(Piece::Ready(data)),
                Source::Zeros(count) => push_zeros(&mut pieces, count),
                Source::Stored(extent, slot, count) => {
                    push_reads(&mut pieces, &mut reads, extent, slot, count)
                }
                Source::Map(lba, count) => {
                    let runs = lookup(&self.context.pages, map, lba, count).await;
                    for run in runs.map_err(|error| BlockError::Failed(error.to_string()))? {
                        let MapRun { blocks, place, .. } = run;
                        match place {
                            Some((extent, slot)) => {
                                push_reads(&mut pieces, &mut reads, extent, slot, blocks);
                            }
                            None => push_zeros(&mut pieces, blocks),
                        }
                    }
                }
            }
        }
        let read = match reads.is_empty() {
            true => Vec::new(),
            false => self
                .context
                .pool
                .read(reads)
                .await
                .map_err(|error| pool_error(&error))?,
        };
        let mut read = read.into_iter();
        let piece = |piece| match piece {
            Piece::Ready(data) => data,
            Piece::Read => read.next().expect("the pool answers every read"),
        };
        Ok(pieces.into_iter().map(piece).collect())
    }

    async fn allocation_of(&self, lba: Lba, blocks: u64) -> Result<Vec<Allocation>, BlockError> {
        let map = self.root.get().map;
        let mut runs: Vec<Allocation> = Vec::new();
        let mut add = |blocks: u64, mapped: bool| match runs.last_mut() {
            Some(last) if last.mapped == mapped => last.blocks += blocks,
            _ => runs.push(Allocation { blocks, mapped }),
        };
        for source in self.sources(lba, blocks) {
            match source {
                Source::Data(data) => add((data.len() / BLOCK_SIZE) as u64, true),
                Source::Zeros(count) => add(count, false),
                Source::Stored(_, _, count) => add(count, true),
                Source::Map(lba, count) => {
                    let found = lookup(&self.context.pages, map, lba, count).await;
                    for run in found.map_err(|error| BlockError::Failed(error.to_string()))? {
                        add(run.blocks, run.place.is_some());
                    }
                }
            }
        }
        self.log
            .confirm_reads()
            .await
            .map_err(|error| log_error(&error))?;
        Ok(runs)
    }
}

/// A part of an answer: there already, or the next read's.
enum Piece {
    Ready(Bytes),
    Read,
}

fn push_zeros(pieces: &mut Vec<Piece>, blocks: u64) {
    let mut left = blocks as usize * BLOCK_SIZE;
    while left > 0 {
        let part = left.min(ZEROS.len());
        pieces.push(Piece::Ready(Bytes::from_static(&ZEROS[..part])));
        left -= part;
    }
}

/// One read per frame touched.
fn push_reads(
    pieces: &mut Vec<Piece>,
    reads: &mut Vec<FrameRead>,
    id: ExtentId,
    slot: Slot,
    blocks: u64,
) {
    let frame_blocks = FRAME_BLOCKS as u64;
    let mut at = u64::from(slot);
    let end = at + blocks;
    while at < end {
        let first = at % frame_blocks;
        let count = (frame_blocks - first).min(end - at);
        let frame = (at / frame_blocks) as u16;
        reads.push(FrameRead {
            id,
            frame,
            first_block: first as u8,
            blocks: count as u8,
        });
        pieces.push(Piece::Read);
        at += count;
    }
}

/// Consecutive slots as runs.
fn runs_of(id: ExtentId, slots: &[Slot]) -> Vec<StoredRun> {
    let mut runs: Vec<StoredRun> = Vec::new();
    for &slot in slots {
        match runs.last_mut() {
            Some((_, first, count)) if *first + *count == slot => *count += 1,
            _ => runs.push((id, slot, 1)),
        }
    }
    runs
}

/// Counts bytes that are on their way into the log, so that a burst is throttled before it is committed.
struct Uncommitted<'a>(&'a Volume, u64);

impl<'a> Uncommitted<'a> {
    fn new(volume: &'a Volume, bytes: u64) -> Self {
        volume
            .uncommitted_bytes
            .set(volume.uncommitted_bytes.get() + bytes);
        volume.account();
        Self(volume, bytes)
    }
}

impl Drop for Uncommitted<'_> {
    fn drop(&mut self) {
        let left = self.0.uncommitted_bytes.get() - self.1;
        self.0.uncommitted_bytes.set(left);
        self.0.account();
    }
}
