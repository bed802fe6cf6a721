//! New extents of a volume: names, building off the shard, and what is in flight.

use crate::map::PageSink;
use crate::overlay::Slot;
use bytes::Bytes;
use catalog::PagePointer;
use codec::extent::{Builder, ExtentKind, FRAME_BLOCKS};
use group::{Pool, PoolError, Purpose, Unflushed};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use vocab::{BLOCK_SIZE, Epoch, ExtentId, Position, VolumeId};
use world::{LocalBoxFuture, World};

/// Blocks in one data extent: 255 frames, so that header and data stay near 4 MiB.
pub const EXTENT_BLOCKS_MAX: usize = 255 * FRAME_BLOCKS;

/// Policies that new extents follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Wanted copies.
    pub replication_factor: u8,
    /// Copies below which a put fails.
    pub copies_min: u8,
    /// Whether to try LZ4.
    pub compress: bool,
    /// Whether every write is durable when acknowledged.
    pub sync_always: bool,
}

/// Names extents and remembers which of them no durable root can know yet.
pub struct ExtentIds {
    volume: VolumeId,
    epoch: Epoch,
    next: Cell<u32>,
    turn: Cell<u64>,
    /// Extents that only the log refers to, or nothing yet, with the record's position once known.
    in_flight: RefCell<BTreeMap<(Epoch, u32), Option<Position>>>,
}

impl ExtentIds {
    /// Names for the owner of term `epoch`.
    #[must_use]
    pub fn new(volume: VolumeId, epoch: Epoch) -> Self {
        // Spreads the first extents of many volumes over the groups.
        let turn = Cell::new(volume.0.wrapping_mul(0x9E37_79B9));
        Self {
            volume,
            epoch,
            next: Cell::new(1),
            turn,
            in_flight: RefCell::default(),
        }
    }

    /// Goes on where the names of an earlier part of the same term ended.
    pub fn skip_to(&self, other: &Self) {
        assert_eq!((self.volume, self.epoch), (other.volume, other.epoch));
        self.next.set(self.next.get().max(other.next.get()));
    }

    /// A name never used before, in a group of the policy's replication factor.
    ///
    /// # Errors
    /// [`PoolError`] when there is no such group.
    pub fn allocate(&self, pool: &Pool, policy: Policy) -> Result<ExtentId, PoolError> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let group = pool.choose_group(policy.replication_factor, turn)?;
        let counter = self.next.get();
        self.next.set(
            counter
                .checked_add(1)
                .expect("a term writes fewer than 2^32 extents"),
        );
        Ok(ExtentId {
            group,
            volume: self.volume,
            epoch: self.epoch,
            counter,
        })
    }

    /// From now on roots must not count this extent as garbage.
    pub fn hold(&self, id: ExtentId, position: Option<Position>) {
        self.in_flight.borrow_mut().insert(id.order(), position);
    }

    /// The put failed, or nothing will refer to it.
    pub fn release(&self, id: ExtentId) {
        self.in_flight.borrow_mut().remove(&id.order());
    }

    /// Roots hold everything up to `through`.
    pub fn drained(&self, through: Position) {
        let stays = |position: &Option<Position>| position.is_none_or(|at| at > through);
        self.in_flight
            .borrow_mut()
            .retain(|_, position| stays(position));
    }

    /// Below it nothing is in flight.
    #[must_use]
    pub fn floor(&self) -> (Epoch, u32) {
        self.floor_of_root(Position(0))
    }

    /// Below it nothing is in flight once a root holds everything up to `through`. What that root replaced is garbage
    /// then and there: no later drain may be needed for it, as writers may be waiting for its space.
    #[must_use]
    pub fn floor_of_root(&self, through: Position) -> (Epoch, u32) {
        let in_flight = self.in_flight.borrow();
        let stays = |position: &Option<Position>| position.is_none_or(|at| at > through);
        let first = in_flight.iter().find(|(_, position)| stays(position));
        let next = (self.epoch, self.next.get());
        first.map_or(next, |(&first, _)| first.min(next))
    }
}

/// A sealed extent and where its blocks lie.
pub struct Built {
    /// Sealed bytes.
    pub sealed: Bytes,
    /// Slot of each block given.
    pub slots: Vec<Slot>,
}

/// Packs `blocks` (4 KiB each, at most [`EXTENT_BLOCKS_MAX`]) into an extent. CPU: a copy, a checksum and
/// with `compress` an LZ4 attempt per frame; runs off the shard.
pub async fn build(world: &World, id: ExtentId, blocks: Vec<Bytes>, compress: bool) -> Built {
    assert!(
        blocks.len() <= EXTENT_BLOCKS_MAX,
        "{} blocks in one extent",
        blocks.len()
    );
    world
        .offload(move || {
            let mut builder = Builder::with_room(id, ExtentKind::Data, blocks.len() * BLOCK_SIZE);
            let mut slots = Vec::with_capacity(blocks.len());
            for frame_blocks in blocks.chunks(FRAME_BLOCKS) {
                let views: Vec<&[u8]> = frame_blocks.iter().map(|block| &block[..]).collect();
                let frame = builder
                    .push_blocks(&views, compress)
                    .expect("EXTENT_BLOCKS_MAX blocks fit");
                slots.extend(
                    (0..views.len()).map(|index| frame * FRAME_BLOCKS as u16 + index as u16),
                );
            }
            Built {
                sealed: builder.seal(),
                slots,
            }
        })
        .await
}

/// Puts map pages into map extents.
pub struct MapWriter<'a> {
    pool: &'a Pool,
    ids: &'a ExtentIds,
    policy: Policy,
    builder: Option<(ExtentId, Builder)>,
    unflushed: Unflushed,
    bytes: u64,
}

impl<'a> MapWriter<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new(pool: &'a Pool, ids: &'a ExtentIds, policy: Policy) -> Self {
        Self {
            pool,
            ids,
            policy,
            builder: None,
            unflushed: Unflushed::default(),
            bytes: 0,
        }
    }

    async fn put(&mut self) -> Result<(), String> {
        let Some((id, builder)) = self.builder.take() else {
            return Ok(());
        };
        let sealed = builder.seal();
        self.bytes += sealed.len() as u64;
        let put = self
            .pool
            .put(id, sealed, 0, Purpose::Drain, self.policy.copies_min)
            .await;
        self.unflushed.add(&put.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Puts the last extent; returns what must be flushed and the bytes written.
    ///
    /// # Errors
    /// Why it could not be put.
    pub async fn finish(mut self) -> Result<(Unflushed, u64), String> {
        self.put().await?;
        Ok((self.unflushed, self.bytes))
    }
}

impl PageSink for MapWriter<'_> {
    fn push<'a>(&'a mut self, page: &'a [u8]) -> LocalBoxFuture<'a, Result<PagePointer, String>> {
        Box::pin(async move {
            for _ in 0..2 {
                if self.builder.is_none() {
                    let id = self
                        .ids
                        .allocate(self.pool, self.policy)
                        .map_err(|error| error.to_string())?;
                    self.builder = Some((id, Builder::new(id, ExtentKind::Map)));
                }
                let (id, builder) = self.builder.as_mut().expect("made above");
                if let Some(frame) = builder.push_page(page) {
                    return Ok(PagePointer { extent: *id, frame });
                }
                self.put().await?;
            }
            Err("a map page does not fit an empty extent".to_owned())
        })
    }
}
