//! Committed data that is not in the map yet, in memory: a stack of layers.
//!
//! Invariants
//! - Only committed records are applied, in position order; a layer holds a contiguous range of positions.
//! - A layer ends where draining may stop: at a cut, or at a snapshot's barrier. It never grows afterwards.
//! - Newer layers hide older ones, and all of them hide the map.
//! - In one layer a block's entry is newer than any unmapped range over it.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use vocab::{BLOCK_SIZE, ExtentId, Lba, Position, SnapshotId};

/// Where a block of an extent lies: frame * 4 + block.
pub type Slot = u16;

/// What the overlay knows of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Its 4 KiB.
    Data(Bytes),
    /// Already in an extent (journal bypass).
    Stored(ExtentId, Slot),
    /// Reads as zeros.
    Unmapped,
}

/// Committed changes over a range of positions.
#[derive(Default)]
pub struct Layer {
    blocks: BTreeMap<u64, Entry>,
    /// start -> end, disjoint.
    unmapped: BTreeMap<u64, u64>,
    /// Highest position applied.
    pub last: Position,
    /// Bytes of log that the layer stands for.
    pub log_bytes: u64,
    /// Bytes in extents that its references name.
    pub stored_bytes: u64,
    /// The snapshot whose barrier ended the layer.
    pub barrier: Option<SnapshotId>,
}

impl Layer {
    fn write(&mut self, lba: Lba, data: &Bytes) {
        for index in 0..data.len() / BLOCK_SIZE {
            // A copy: a slice would keep all of the memory that the network filled, of which other blocks may
            // be overwritten or drained long before, and half of which a slow writer leaves unused.
            let block = Bytes::copy_from_slice(&data[index * BLOCK_SIZE..(index + 1) * BLOCK_SIZE]);
            self.blocks.insert(lba.0 + index as u64, Entry::Data(block));
        }
    }

    fn store(&mut self, lba: Lba, runs: &[(ExtentId, Slot, u16)]) {
        let mut at = lba.0;
        for &(extent, slot, blocks) in runs {
            for index in 0..blocks {
                self.blocks.insert(at, Entry::Stored(extent, slot + index));
                at += 1;
            }
        }
    }

    fn unmap(&mut self, lba: Lba, blocks: u64) {
        let (mut start, mut end) = (lba.0, lba.0 + blocks);
        let hidden: Vec<u64> = self.blocks.range(start..end).map(|(&at, _)| at).collect();
        for at in hidden {
            self.blocks.remove(&at);
        }
        // Merge with every range that touches this one.
        let touching: Vec<(u64, u64)> = self
            .unmapped
            .range(..=end)
            .rev()
            .take_while(|&(_, &range_end)| range_end >= start)
            .map(|(&range_start, &range_end)| (range_start, range_end))
            .collect();
        for (range_start, range_end) in touching {
            self.unmapped.remove(&range_start);
            start = start.min(range_start);
            end = end.max(range_end);
        }
        self.unmapped.insert(start, end);
    }

    fn is_unmapped(&self, at: u64) -> bool {
        self.unmapped
            .range(..=at)
            .next_back()
            .is_some_and(|(_, &end)| at < end)
    }

    fn get(&self, at: u64) -> Option<Entry> {
        match self.blocks.get(&at) {
            Some(entry) => Some(entry.clone()),
            None if self.is_unmapped(at) => Some(Entry::Unmapped),
            None => None,
        }
    }

    /// Blocks with data or a place, in address order.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.blocks.iter().map(|(&at, entry)| (at, entry))
    }

    /// Unmapped ranges (start, end), in address order; blocks inside them may have newer entries.
    pub fn unmapped(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.unmapped.iter().map(|(&start, &end)| (start, end))
    }
}

/// The layers of one volume, oldest first; the last one is open.
pub struct Overlay {
    closed: RefCell<VecDeque<Rc<Layer>>>,
    open: RefCell<Layer>,
    bytes: Cell<u64>,
}

impl Overlay {
    /// Nothing, after `position`.
    #[must_use]
    pub fn new(position: Position) -> Self {
        let open = RefCell::new(Layer {
            last: position,
            ..Layer::default()
        });
        Self {
            closed: RefCell::default(),
            open,
            bytes: Cell::new(0),
        }
    }

    /// Applies a committed write.
    pub fn write(&self, position: Position, lba: Lba, data: &Bytes) {
        let mut open = self.advance(position, data.len() as u64);
        open.write(lba, data);
    }

    /// Applies a committed reference to stored blocks.
    pub fn store(&self, position: Position, lba: Lba, runs: &[(ExtentId, Slot, u16)]) {
        let mut open = self.advance(position, 0);
        let blocks: u64 = runs.iter().map(|run| u64::from(run.2)).sum();
        open.stored_bytes += blocks * BLOCK_SIZE as u64;
        open.store(lba, runs);
    }

    /// Applies a committed unmap.
    pub fn unmap(&self, position: Position, lba: Lba, blocks: u64) {
        let mut open = self.advance(position, 0);
        open.unmap(lba, blocks);
    }

    /// Applies a committed checkpoint: it changes no block, and alone it is not worth a drain.
    pub fn pass(&self, position: Position) {
        let mut open = self.open.borrow_mut();
        assert_eq!(
            position,
            open.last.next(),
            "records are applied in order, without gaps"
        );
        open.last = position;
    }

    /// Applies a committed barrier: the open layer ends with it.
    pub fn barrier(&self, position: Position, snapshot: SnapshotId) {
        self.advance(position, 0).barrier = Some(snapshot);
        self.cut();
    }

    /// A planted bug: the open layer goes on behind the barrier.
    pub fn pass_barrier(&self, position: Position, snapshot: SnapshotId) {
        self.advance(position, 0).barrier = Some(snapshot);
    }

    fn advance(&self, position: Position, data_bytes: u64) -> std::cell::RefMut<'_, Layer> {
        let mut open = self.open.borrow_mut();
        assert_eq!(
            position,
            open.last.next(),
            "records are applied in order, without gaps"
        );
        open.last = position;
        // Every record costs a head in the journal too.
        let cost = data_bytes + wire::RECORD_HEAD_BYTES as u64;
        open.log_bytes += cost;
        self.bytes.set(self.bytes.get() + cost);
        open
    }

    /// Ends the open layer, so that it can be drained. No effect when it holds no record.
    pub fn cut(&self) {
        let mut open = self.open.borrow_mut();
        if open.log_bytes == 0 {
            return;
        }
        let next = Layer {
            last: open.last,
            ..Layer::default()
        };
        let layer = std::mem::replace(&mut *open, next);
        self.closed.borrow_mut().push_back(Rc::new(layer));
    }

    /// The oldest closed layer.
    #[must_use]
    pub fn oldest(&self) -> Option<Rc<Layer>> {
        self.closed.borrow().front().cloned()
    }

    /// Drops the oldest closed layer: the map holds it now.
    pub fn drop_oldest(&self) {
        if let Some(layer) = self.closed.borrow_mut().pop_front() {
            self.bytes.set(self.bytes.get() - layer.log_bytes);
        }
    }

    /// Bytes of log that are not in the map yet.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Bytes in extents that references of the open layer name.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.open.borrow().stored_bytes
    }

    /// Whether a closed layer waits to be drained.
    #[must_use]
    pub fn has_closed(&self) -> bool {
        !self.closed.borrow().is_empty()
    }

    /// Highest position applied.
    #[must_use]
    pub fn last(&self) -> Position {
        self.open.borrow().last
    }

    /// What is known of one block; `None` leaves it to the map.
    #[must_use]
    pub fn get(&self, lba: Lba) -> Option<Entry> {
        if let Some(entry) = self.open.borrow().get(lba.0) {
            return Some(entry);
        }
        self.closed
            .borrow()
            .iter()
            .rev()
            .find_map(|layer| layer.get(lba.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fill: u8) -> Bytes {
        Bytes::from(vec![fill; BLOCK_SIZE])
    }

    #[test]
    fn newer_layers_hide_older_ones() {
        let overlay = Overlay::new(Position(0));
        overlay.write(Position(1), Lba(5), &block(1));
        overlay.barrier(Position(2), SnapshotId(9));
        overlay.write(Position(3), Lba(5), &block(2));
        assert_eq!(overlay.get(Lba(5)), Some(Entry::Data(block(2))));
        assert_eq!(overlay.get(Lba(6)), None);
        let oldest = overlay.oldest().expect("closed by the barrier");
        assert_eq!(
            (oldest.last, oldest.barrier),
            (Position(2), Some(SnapshotId(9)))
        );
    }

    #[test]
    fn unmapped_ranges_merge_and_yield_to_later_writes() {
        let overlay = Overlay::new(Position(0));
        overlay.write(Position(1), Lba(3), &block(1));
        overlay.unmap(Position(2), Lba(0), 4);
        overlay.unmap(Position(3), Lba(4), 4);
        overlay.write(Position(4), Lba(7), &block(2));
        assert_eq!(overlay.get(Lba(3)), Some(Entry::Unmapped));
        assert_eq!(overlay.get(Lba(7)), Some(Entry::Data(block(2))));
        overlay.cut();
        let layer = overlay.oldest().expect("cut");
        assert_eq!(layer.unmapped().collect::<Vec<_>>(), vec![(0, 8)]);
        overlay.drop_oldest();
        assert_eq!(overlay.bytes(), 0);
    }
}
