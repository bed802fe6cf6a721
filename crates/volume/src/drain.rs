//! Draining: layers of the overlay become extents and a new root; then the log is trimmed.
//!
//! Order, and what a crash between two steps leaves:
//! 1. data extents put, 2. map extents put, 3. all of them flushed - crash: garbage below no floor;
//! 4. the new root serves reads; 5. checkpoint record flushed on every log replica - from here takeover
//! finds the new root; 6. catalog row, where a snapshot or a closed segment waits for it; 7. log trimmed.

use crate::change::Change;
use crate::extents::{EXTENT_BLOCKS_MAX, MapWriter, build};
use crate::map::{MapChange, update};
use crate::options::bug;
use crate::overlay::{Entry, Layer, Slot};
use crate::volume::{Volume, VolumeError};
use bytes::Bytes;
use catalog::{CatalogError, VolumeRoot};
use group::Unflushed;
use std::rc::Rc;
use vocab::{ExtentId, Position};
use world::Duration;
use world::sync::Outcome;

/// Pause after a drain that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long the log may take to make a root known before the catalog does.
const CHECKPOINT_PATIENCE: Duration = Duration::from_millis(1000);
/// Extents on their way to the stores at a time: one travels while the next is built.
const PUTS_MAX: usize = 3;

/// An extent on its way.
type Put = Outcome<Result<Unflushed, String>>;

impl Volume {
    pub(crate) async fn drain_forever(self: Rc<Self>) {
        loop {
            let signal = self.drain_now.notified();
            if self.log.lost().is_some() {
                self.drained.notify_all();
                return;
            }
            if !self.should_drain() {
                match self.idle_wait() {
                    Some(wait) => drop(self.context.world.timeout(wait, signal).await),
                    None => signal.await,
                }
                continue;
            }
            match self.drain_once().await {
                Ok(()) => *self.drain_problem.borrow_mut() = None,
                Err(reason) => {
                    *self.drain_problem.borrow_mut() = Some(reason);
                    self.context.world.sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    fn should_drain(&self) -> bool {
        let overlay = &self.overlay;
        let idle = overlay.bytes() > 0 && self.quiet_for() >= self.context.options.drain_idle;
        overlay.has_closed()
            || overlay.bytes() >= self.context.options.drain_bytes
            || self.drain_wanted.get()
            || (overlay.bytes() > 0 && self.log.has_closed_segments())
            || idle
    }

    fn quiet_for(&self) -> Duration {
        self.context.world.now().since(self.log.last_append())
    }

    /// How long until the log counts as idle; `None` when nothing is undrained.
    fn idle_wait(&self) -> Option<Duration> {
        let rest = self
            .context
            .options
            .drain_idle
            .saturating_sub(self.quiet_for());
        (self.overlay.bytes() > 0).then(|| rest.max(Duration::from_millis(10)))
    }

    /// Drains the oldest layer, closing the open one if there is no other, and settles what waits for it.
    async fn drain_once(&self) -> Result<(), String> {
        let held = self.root_lock.lock().await;
        self.drain_wanted.set(false);
        if !self.overlay.has_closed() {
            self.overlay.cut();
        }
        let Some(layer) = self.overlay.oldest() else {
            return self.leave_the_log().await;
        };
        self.wait_for_recording(&layer).await;
        let root = self.write_layer(&layer).await?;
        self.root.set(root);
        self.overlay.drop_oldest();
        self.ids.drained(root.position);
        self.unflushed_puts
            .borrow_mut()
            .retain(|&position, _| position > root.position);
        self.drains.set(self.drains.get() + 1);
        self.make_root_known(root, &layer).await?;
        drop(held);
        self.drained.notify_all();
        Ok(())
    }

    /// A snapshot's row must exist, or be known not to, before its barrier is drained: the drain gives it its root.
    async fn wait_for_recording(&self, layer: &Layer) {
        let Some(snapshot) = layer.barrier else {
            return;
        };
        loop {
            let changed = self.drain_now.notified();
            if !self.recording.borrow().contains(&snapshot) || self.log.lost().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Puts the layer's data and the map pages that refer to it, durably; returns the root after it.
    async fn write_layer(&self, layer: &Layer) -> Result<VolumeRoot, String> {
        let mut unflushed = Unflushed::default();
        let placed = self.put_blocks(layer, &mut unflushed).await?;
        let mut changes = changes_of(layer, &placed);
        if bug!(self.context.options, ForgetUnmap) {
            changes.retain(|change| change.place.is_some());
        }
        let context = &self.context;
        let mut writer = MapWriter::new(&context.pool, &self.ids, self.policy.get());
        let updated = update(&context.pages, self.root.get().map, &changes, &mut writer).await;
        let map = updated.map_err(|error| error.to_string())?;
        let (map_unflushed, map_bytes) = writer.finish().await?;
        unflushed.add(&map_unflushed);
        self.drained_bytes.set(self.drained_bytes.get() + map_bytes);
        if !bug!(context.options, SkipExtentFlush) {
            context
                .pool
                .flush(&unflushed)
                .await
                .map_err(|error| error.to_string())?;
            let referenced = self.secure_references(layer.last).await;
            referenced.map_err(|error| error.to_string())?;
        }
        Ok(VolumeRoot {
            map,
            position: layer.last,
            floor: self.ids.floor(),
        })
    }

    /// Puts the layer's blocks of data into extents; returns where each of them lies, in address order.
    async fn put_blocks(
        &self,
        layer: &Layer,
        unflushed: &mut Unflushed,
    ) -> Result<Vec<(u64, ExtentId, Slot)>, String> {
        let data = |(lba, entry)| match entry {
            &Entry::Data(ref data) => Some((lba, data.clone())),
            Entry::Stored(..) | Entry::Unmapped => None,
        };
        let blocks: Vec<(u64, Bytes)> = layer.blocks().filter_map(data).collect();
        let mut placed = Vec::with_capacity(blocks.len());
        let mut puts: std::collections::VecDeque<Put> = std::collections::VecDeque::new();
        for batch in blocks.chunks(EXTENT_BLOCKS_MAX) {
            let policy = self.policy.get();
            let id = self
                .ids
                .allocate(&self.context.pool, policy)
                .map_err(|error| error.to_string())?;
            let contents = batch.iter().map(|(_, block)| block.clone()).collect();
            let built = build(&self.context.world, id, contents, policy.compress).await;
            placed.extend(
                batch
                    .iter()
                    .zip(&built.slots)
                    .map(|(&(lba, _), &slot)| (lba, id, slot)),
            );
            self.drained_bytes
                .set(self.drained_bytes.get() + built.sealed.len() as u64);
            if puts.len() >= PUTS_MAX {
                unflushed.add(&finished(puts.pop_front()).await?);
            }
            puts.push_back(self.start_put(id, built.sealed));
        }
        while !puts.is_empty() {
            unflushed.add(&finished(puts.pop_front()).await?);
        }
        Ok(placed)
    }

    fn start_put(&self, id: ExtentId, sealed: Bytes) -> Put {
        let (promise, outcome) = world::sync::promise();
        let (pool, copies_min) = (self.context.pool.clone(), self.policy.get().copies_min);
        self.context.world.spawn(async move {
            let put = pool.put(id, sealed, 0, false, copies_min).await;
            promise.fulfil(put.map_err(|error| error.to_string()));
        });
        outcome
    }

    /// Makes the root findable by a takeover, then trims the log behind it.
    async fn make_root_known(&self, root: VolumeRoot, layer: &Layer) -> Result<(), String> {
        if bug!(self.context.options, TrimBeforeCheckpoint) {
            self.log.drained(root.position);
        }
        let (_, outcome) = self.log.append(Change::Checkpoint(root), true);
        // A log that does not move, because a journal is full of what this drain would let go, must not
        // hold up the trim: the catalog can make the root known as well.
        let logged = self.context.world.timeout(CHECKPOINT_PATIENCE, outcome).await;
        match logged {
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(None) => return Err("the node stops".to_owned()),
            Ok(Some(Ok(()))) | Err(_) => {}
        }
        let publish = logged.is_err()
            || layer.barrier.is_some()
            || self.log.has_closed_segments()
            || self
                .drains
                .get()
                .is_multiple_of(u64::from(self.context.options.publish_every));
        if publish {
            let settled: Vec<_> = layer
                .barrier
                .map(|snapshot| (snapshot, root.map))
                .into_iter()
                .collect();
            self.publish(root, &settled).await?;
        }
        self.log.drained(root.position);
        if self.overlay.bytes() == 0 {
            return self.leave_the_log().await;
        }
        Ok(())
    }

    /// Nothing is undrained: the root in the catalog then covers the whole log, and nothing pins a journal.
    async fn leave_the_log(&self) -> Result<(), String> {
        let position = self.overlay.last();
        if self.overlay.bytes() > 0 || self.root.get().position == position {
            self.drained.notify_all();
            return Ok(());
        }
        let root = VolumeRoot {
            position,
            ..self.root.get()
        };
        self.publish(root, &[]).await?;
        if self.root.get().position <= position {
            self.root.set(root);
        }
        self.log.drained(position);
        self.drained.notify_all();
        Ok(())
    }

    /// Writes the root to the catalog, however long the catalog is out of reach.
    async fn publish(
        &self,
        root: VolumeRoot,
        settled: &[(vocab::SnapshotId, catalog::MapRoot)],
    ) -> Result<(), String> {
        loop {
            match self
                .context
                .catalog
                .publish_root(self.id, self.epoch, root, settled)
                .await
            {
                Ok(_) => return Ok(()),
                Err(error @ (CatalogError::StaleOwner { .. } | CatalogError::NotFound { .. })) => {
                    self.log.close();
                    return Err(error.to_string());
                }
                Err(error) if self.log.lost().is_some() => return Err(error.to_string()),
                Err(error) => {
                    *self.drain_problem.borrow_mut() = Some(error.to_string());
                    self.context.world.sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Waits until the root holds every record up to `position`.
    pub(crate) async fn drained_through(&self, position: Position) -> Result<(), VolumeError> {
        loop {
            let drained = self.drained.notified();
            if let Some(lost) = self.log.lost() {
                return Err(lost.into());
            }
            if self.root.get().position >= position {
                return Ok(());
            }
            self.drain_wanted.set(true);
            self.drain_now.notify_all();
            drained.await;
        }
    }
}

async fn finished(put: Option<Put>) -> Result<Unflushed, String> {
    match put {
        Some(put) => put
            .await
            .unwrap_or_else(|| Err("the node stops".to_owned())),
        None => Ok(Unflushed::default()),
    }
}

/// The layer as changes of the map, sorted and disjoint: blocks at their places, and unmapped ranges
/// where no newer block lies.
fn changes_of(layer: &Layer, placed: &[(u64, ExtentId, Slot)]) -> Vec<MapChange> {
    let mut changes: Vec<MapChange> = Vec::new();
    let mut placed = placed.iter().peekable();
    let mut ranges = layer.unmapped().peekable();
    let mut range: Option<(u64, u64)> = ranges.next();
    let unmap_until = |range: &mut Option<(u64, u64)>,
                       ranges: &mut dyn Iterator<Item = (u64, u64)>,
                       changes: &mut Vec<MapChange>,
                       limit: u64| {
        while let Some((start, end)) = *range {
            if start >= limit {
                return;
            }
            let stop = end.min(limit);
            changes.push(MapChange {
                lba: start,
                blocks: stop - start,
                place: None,
            });
            *range = if stop < end {
                Some((stop, end))
            } else {
                ranges.next()
            };
        }
    };
    for (lba, entry) in layer.blocks() {
        unmap_until(&mut range, &mut ranges, &mut changes, lba);
        let place = match entry {
            Entry::Data(_) => placed.next().map(|&(at, extent, slot)| {
                assert_eq!(at, lba, "blocks were placed in address order");
                (extent, slot)
            }),
            Entry::Stored(extent, slot) => Some((*extent, *slot)),
            Entry::Unmapped => None,
        };
        // The range goes on behind this block.
        if let Some((start, end)) = range
            && start == lba
        {
            range = if end > lba + 1 {
                Some((lba + 1, end))
            } else {
                ranges.next()
            };
        }
        push_change(
            &mut changes,
            MapChange {
                lba,
                blocks: 1,
                place,
            },
        );
    }
    unmap_until(&mut range, &mut ranges, &mut changes, u64::MAX);
    changes
}

/// Adds a change, joined with the one before where it continues it.
fn push_change(changes: &mut Vec<MapChange>, change: MapChange) {
    if let Some(last) = changes.last_mut()
        && let (Some((last_extent, last_slot)), Some((extent, slot))) = (last.place, change.place)
        && last_extent == extent
        && last.lba + last.blocks == change.lba
        && u64::from(last_slot) + last.blocks == u64::from(slot)
    {
        last.blocks += change.blocks;
        return;
    }
    changes.push(change);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::Overlay;
    use vocab::{BLOCK_SIZE, Epoch, GroupId, Lba, VolumeId};

    #[test]
    fn changes_are_sorted_disjoint_and_leave_newer_blocks_alone() {
        let overlay = Overlay::new(Position(0));
        let block = Bytes::from(vec![1; BLOCK_SIZE]);
        overlay.unmap(Position(1), Lba(0), 10);
        overlay.write(Position(2), Lba(4), &block);
        overlay.write(Position(3), Lba(5), &block);
        overlay.write(Position(4), Lba(20), &block);
        overlay.unmap(Position(5), Lba(30), 5);
        overlay.cut();
        let layer = overlay.oldest().expect("cut");
        let extent = ExtentId {
            group: GroupId(1),
            volume: VolumeId(1),
            epoch: Epoch(1),
            counter: 1,
        };
        let changes = changes_of(&layer, &[(4, extent, 0), (5, extent, 1), (20, extent, 2)]);
        let place = |slot| Some((extent, slot));
        let change = |lba, blocks, place| MapChange { lba, blocks, place };
        let expected = [
            change(0, 4, None),
            change(4, 2, place(0)),
            change(6, 4, None),
            change(20, 1, place(2)),
            change(30, 5, None),
        ];
        assert_eq!(changes, expected);
    }
}
