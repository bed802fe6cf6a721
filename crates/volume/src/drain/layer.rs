//! Writing one layer of an overlay into extents and a new map.

use crate::extents::{EXTENT_BLOCKS_MAX, ExtentIds, MapWriter, Policy, build};
use crate::map::{MapChange, update};
use crate::options::bug;
use crate::overlay::{Entry, Layer, Slot};
use crate::volume::Context;
use bytes::Bytes;
use catalog::VolumeRoot;
use group::{Purpose, Unflushed};
use std::cell::Cell;
use std::collections::VecDeque;
use vocab::ExtentId;
use world::sync::Outcome;

/// Extents on their way to the stores at a time: one travels while the next is built.
const PUTS_MAX: usize = 3;

/// An extent on its way.
type Put = Outcome<Result<Unflushed, String>>;

/// Writes layers, for the drain of a volume and for a takeover that finds no room in the journals.
pub(crate) struct LayerWriter<'a> {
    context: &'a Context,
    ids: &'a ExtentIds,
    policy: Policy,
    /// Bytes of extents put so far.
    pub(crate) bytes: Cell<u64>,
}

impl<'a> LayerWriter<'a> {
    /// A writer that names extents from `ids`.
    pub(crate) fn new(context: &'a Context, ids: &'a ExtentIds, policy: Policy) -> Self {
        Self {
            context,
            ids,
            policy,
            bytes: Cell::new(0),
        }
    }

    fn count(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Puts the layer's data and the map pages that refer to it; returns the root after it, and what must be
    /// flushed before anything relies on that root.
    pub(crate) async fn write(
        &self,
        root: VolumeRoot,
        layer: &Layer,
    ) -> Result<(VolumeRoot, Unflushed), String> {
        let mut unflushed = Unflushed::default();
        let placed = self.put_blocks(layer, &mut unflushed).await?;
        let mut changes = changes_of(layer, &placed);
        if bug!(self.context.options, ForgetUnmap) {
            changes.retain(|change| change.place.is_some());
        }
        let mut writer = MapWriter::new(&self.context.pool, self.ids, self.policy);
        let updated = update(&self.context.pages, root.map, &changes, &mut writer).await;
        let map = updated.map_err(|error| error.to_string())?;
        let (map_unflushed, map_bytes) = writer.finish().await?;
        unflushed.add(&map_unflushed);
        self.count(map_bytes);
        let (position, floor) = (layer.last, self.ids.floor_of_root(layer.last));
        Ok((
            VolumeRoot {
                map,
                position,
                floor,
            },
            unflushed,
        ))
    }

    /// Puts the layer's blocks of data into extents; returns where each of them lies, in address order.
    async fn put_blocks(
        &self,
        layer: &Layer,
        unflushed: &mut Unflushed,
    ) -> Result<Vec<(u64, ExtentId, Slot)>, String> {
        let data = |(lba, entry): (u64, &Entry)| match entry {
            Entry::Data(data) => Some((lba, data.clone())),
            Entry::Stored(..) | Entry::Unmapped => None,
        };
        let blocks: Vec<(u64, Bytes)> = layer.blocks().filter_map(data).collect();
        let mut placed = Vec::with_capacity(blocks.len());
        let mut puts: VecDeque<Put> = VecDeque::new();
        for batch in blocks.chunks(EXTENT_BLOCKS_MAX) {
            let id = self.ids.allocate(&self.context.pool, self.policy);
            let id = id.map_err(|error| error.to_string())?;
            let contents = batch.iter().map(|(_, block)| block.clone()).collect();
            let built = build(&self.context.world, id, contents, self.policy.compress).await;
            let places = batch.iter().zip(&built.slots);
            placed.extend(places.map(|(&(lba, _), &slot)| (lba, id, slot)));
            self.count(built.sealed.len() as u64);
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
        let (pool, copies_min) = (self.context.pool.clone(), self.policy.copies_min);
        self.context.world.spawn(async move {
            let put = pool.put(id, sealed, 0, Purpose::Drain, copies_min).await;
            promise.fulfil(put.map_err(|error| error.to_string()));
        });
        outcome
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
    use vocab::{BLOCK_SIZE, Epoch, GroupId, Lba, Position, VolumeId};

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
