//! A volume at its owner: overlay over map, one log, one drain.
//!
//! In memory: the overlay (bounded by `Options::undrained_bytes_max`), the newest durable root, the log's
//! window. On disk: log records in journals, extents, a root in the log and in the catalog.
//!
//! Invariants
//! - What a read returns is committed, and no newer owner had acknowledged anything when it was fetched.
//! - The map plus the overlay equals the fold of all committed records.
//! - The root only moves to a position when everything it refers to is durable.
//! - Writers wait when too much is undrained; they never make a store's journal overflow.
//!
//! Read next: `device.rs` (requests), `drain.rs`, `recover.rs`, `snapshot.rs`.

use crate::change::Change;
use crate::extents::{ExtentIds, Policy};
use crate::log::{Copies, Log, LogStatus, Sink};
use crate::map::PageCache;
use crate::options::{Options, bug};
use crate::overlay::Overlay;
use crate::room::{Room, Share};
use catalog::{
    Catalog, Compression, ContainerRow, SyncPolicy, VolumeLimits, VolumeRoot, VolumeRow,
};
use group::{Pool, PoolError, Unflushed};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};
use vocab::{ByteCount, Epoch, ExtentId, LineageId, Position, SnapshotId, VolumeId};
use world::sync::{Lock, Notify};
use world::{LocalBoxFuture, World};

/// What all volumes of a shard share.
#[derive(Clone)]
pub struct Context {
    /// The machine.
    pub world: World,
    /// Tunables.
    pub options: Rc<Options>,
    /// The catalog.
    pub catalog: Catalog,
    /// Stores, for logs.
    pub stores: Rc<dyn wire::Stores>,
    /// Where log replicas may lie.
    pub placement: Rc<dyn crate::log::Placement>,
    /// Extents.
    pub pool: Pool,
    /// Map pages.
    pub pages: Rc<PageCache>,
    /// Undrained data of all of them.
    pub room: Rc<Room>,
}

/// Why a volume cannot be opened or changed. The message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// A newer owner exists, or the volume was closed. Final for this handle.
    #[error(transparent)]
    Log(#[from] crate::log::LogError),
    /// The catalog refused or failed.
    #[error(transparent)]
    Catalog(#[from] catalog::CatalogError),
    /// The map failed.
    #[error(transparent)]
    Map(#[from] crate::map::MapError),
    /// Too few of the stores that hold the log answer. Retry.
    #[error("volume {volume} waits for its log: {reason}")]
    Unavailable {
        /// Which.
        volume: VolumeId,
        /// What is missing.
        reason: String,
    },
    /// Only stores that may have lost what was not flushed can be reached from here, and the machine of one that has
    /// lost nothing is alive: a node that reaches that one must open the volume. Nothing of the old owner can be read
    /// any more when this is returned.
    #[error(
        "volume {volume} waits for its log: {store}, whose node is alive, cannot be reached from here"
    )]
    OutOfReach {
        /// Which.
        volume: VolumeId,
        /// The store.
        store: vocab::StoreId,
    },
    /// A store has no room for a copy of the log; what it holds can be drained instead.
    #[error("the journal of {store} has no room for the log of volume {volume}")]
    JournalFull {
        /// Which volume.
        volume: VolumeId,
        /// Whose journal.
        store: vocab::StoreId,
    },
    /// Acknowledged data cannot be found. A person must decide.
    #[error(
        "volume {volume} is stopped, because data it has acknowledged cannot be found: {reason}"
    )]
    DataMissing {
        /// Which.
        volume: VolumeId,
        /// What is missing.
        reason: String,
    },
}

/// Figures of a volume.
#[derive(Clone, Debug)]
pub struct VolumeStatus {
    /// The log.
    pub log: LogStatus,
    /// Bytes not drained yet.
    pub undrained: ByteCount,
    /// Newest durable root.
    pub root: VolumeRoot,
    /// Bytes of extents written by draining since opening.
    pub drained_bytes: u64,
    /// Drains since opening.
    pub drains: u64,
    /// Why the drain fails, while it does.
    pub drain_problem: Option<String>,
}

/// A volume, owned. Requests go through [`Volume::device`](crate::Device).
pub struct Volume {
    pub(crate) context: Context,
    pub(crate) id: VolumeId,
    pub(crate) name: String,
    pub(crate) lineage: LineageId,
    pub(crate) epoch: Epoch,
    pub(crate) log: Rc<Log>,
    pub(crate) overlay: Overlay,
    pub(crate) root: Cell<VolumeRoot>,
    pub(crate) size: Cell<ByteCount>,
    pub(crate) policy: Cell<Policy>,
    pub(crate) ids: ExtentIds,
    /// Snapshots whose barrier is in the log and whose row is being written.
    pub(crate) recording: RefCell<BTreeSet<SnapshotId>>,
    /// Extents that references in the log need and that are not known durable, by the reference's position.
    pub(crate) unflushed_puts: RefCell<BTreeMap<Position, (ExtentId, Unflushed)>>,
    pub(crate) drain_now: Notify,
    pub(crate) drained: Notify,
    pub(crate) drain_wanted: Cell<bool>,
    /// One operation on roots at a time: drain, restore.
    pub(crate) root_lock: Lock,
    pub(crate) drained_bytes: Cell<u64>,
    pub(crate) drains: Cell<u64>,
    pub(crate) drain_problem: RefCell<Option<String>>,
    /// Position of the newest root that the catalog has from us.
    pub(crate) published: Cell<(Position, (vocab::Epoch, u32))>,
    /// The catalog did not take the last root it was offered.
    pub(crate) owes_root: Cell<bool>,
    /// Bytes of writes that wait for their commit.
    pub(crate) uncommitted_bytes: Cell<u64>,
    /// What all of it takes of the node's room.
    share: Share,
    /// What clients may do per second, and pauses.
    pub(crate) gate: crate::gate::Gate,
}

/// The part of a container's row that a volume follows.
#[must_use]
pub fn policy_of(container: &ContainerRow) -> Policy {
    Policy {
        replication_factor: container.replication_factor,
        copies_min: container.copies_min,
        compress: container.compression == Compression::Lz4,
        sync_always: container.sync == SyncPolicy::Always,
    }
}

/// Copies a log keeps under a policy.
#[must_use]
pub fn copies_of(policy: Policy) -> Copies {
    Copies {
        wanted: policy.replication_factor,
        least: policy.copies_min,
    }
}

impl Volume {
    pub(crate) fn assemble(
        context: Context,
        row: &VolumeRow,
        policy: Policy,
        log: Rc<Log>,
        overlay: Overlay,
        root: VolumeRoot,
        ids: ExtentIds,
    ) -> Rc<Self> {
        let share = Share::new(context.room.clone());
        share.set(overlay.bytes());
        Rc::new(Self {
            context,
            id: row.id,
            name: row.name.clone(),
            lineage: row.lineage,
            epoch: row.epoch,
            log,
            overlay,
            root: Cell::new(root),
            size: Cell::new(row.size),
            policy: Cell::new(policy),
            ids,
            recording: RefCell::default(),
            unflushed_puts: RefCell::default(),
            drain_now: Notify::default(),
            drained: Notify::default(),
            drain_wanted: Cell::new(false),
            root_lock: Lock::default(),
            drained_bytes: Cell::new(0),
            drains: Cell::new(0),
            drain_problem: RefCell::new(None),
            published: Cell::new((root.position, root.floor)),
            owes_root: Cell::new(false),
            uncommitted_bytes: Cell::new(0),
            share,
            gate: crate::gate::Gate::new(row.limits),
        })
    }

    /// Bytes that are not drained, or on their way into the log.
    pub(crate) fn undrained_bytes(&self) -> u64 {
        self.overlay.bytes() + self.uncommitted_bytes.get()
    }

    /// Keeps the node's account; called after each change of what is undrained. A volume that is lost holds nothing:
    /// whoever still has a session with it would otherwise keep room from the others.
    pub(crate) fn account(&self) {
        let held = match self.log.lost() {
            None => self.undrained_bytes(),
            Some(_) => 0,
        };
        self.share.set(held);
    }

    /// Whether so many bytes more are within the bounds of the volume and of the node.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        if bug!(self.context.options, NeverThrottle) {
            return true;
        }
        let undrained = self.undrained_bytes();
        let fits = undrained + bytes <= self.context.options.undrained_bytes_max || undrained == 0;
        fits && self.share.admits(bytes)
    }

    /// Has the drain look; for want of room on the node it takes less than a whole layer as well.
    pub(crate) fn ask_for_drain(&self, bytes: u64) {
        if !self.share.admits(bytes) && self.overlay.bytes() > 0 {
            self.drain_wanted.set(true);
        }
        self.drain_now.notify_all();
    }

    /// The oldest layer is in the map.
    pub(crate) fn drop_drained(&self) {
        self.overlay.drop_oldest();
        self.account();
        self.share.notify_freed();
    }

    /// Starts the log and the drain, on the volume's behalf.
    pub(crate) fn run(self: &Rc<Self>) {
        world::blame::on_behalf(Some(self.id.0), || {
            self.log.run(Rc::new(Committer(Rc::downgrade(self))));
            self.context.world.spawn(self.clone().drain_forever());
        });
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> VolumeId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its lineage.
    #[must_use]
    pub fn lineage(&self) -> LineageId {
        self.lineage
    }

    /// The owner's term.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether this handle has lost the volume to a newer owner or was closed.
    #[must_use]
    pub fn lost(&self) -> Option<crate::log::LogError> {
        self.log.lost()
    }

    /// Newest durable root.
    #[must_use]
    pub fn root(&self) -> VolumeRoot {
        self.root.get()
    }

    /// Takes over changed policies of the container.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.set(policy);
        self.log.set_copies(copies_of(policy));
    }

    /// Holds back changes, and waits for those under way, for at most two seconds. A name that holds already
    /// keeps its end. Whether the pause holds when it returns; [`Volume::resume`] says whether it still did.
    pub async fn pause(&self, name: &str) -> bool {
        self.gate.pause(&self.context.world, name).await && self.log.lost().is_none()
    }

    /// Ends a pause; whether it held from [`Volume::pause`] until now.
    #[must_use]
    pub fn resume(&self, name: &str) -> bool {
        let held = self.gate.resume(self.context.world.now(), name);
        held && self.log.lost().is_none()
    }

    /// Takes over changed limits.
    pub fn set_limits(&self, limits: VolumeLimits) {
        self.gate.set_limits(limits);
    }

    /// Figures.
    #[must_use]
    pub fn status(&self) -> VolumeStatus {
        VolumeStatus {
            log: self.log.status(),
            undrained: ByteCount(self.overlay.bytes()),
            root: self.root.get(),
            drained_bytes: self.drained_bytes.get(),
            drains: self.drains.get(),
            drain_problem: self.drain_problem.borrow().clone(),
        }
    }

    /// Whether references were committed whose extents a loss of power may take, for checks.
    #[cfg(feature = "bugs")]
    #[must_use]
    pub fn has_unflushed_references(&self) -> bool {
        let last = self.unflushed_puts.borrow().keys().next_back().copied();
        last.is_some_and(|last| last > self.log.flushed() && last <= self.log.committed())
    }

    /// Grows the volume. Durable in the catalog when it returns; the new size is served at once.
    ///
    /// # Errors
    /// [`VolumeError::Catalog`].
    pub async fn grow(&self, size: ByteCount) -> Result<(), VolumeError> {
        let row = self
            .context
            .catalog
            .grow_volume(self.id, self.epoch, size)
            .await?;
        self.size.set(row.size);
        Ok(())
    }

    /// Drains everything written so far and publishes the root; the log is then empty.
    ///
    /// # Errors
    /// [`VolumeError::Log`] when the volume is lost meanwhile.
    pub async fn drain(&self) -> Result<(), VolumeError> {
        let target = self.log.committed();
        loop {
            let drained = self.drained.notified();
            if let Some(lost) = self.log.lost() {
                return Err(lost.into());
            }
            if self.root.get().position >= target {
                return Ok(());
            }
            self.drain_wanted.set(true);
            self.drain_now.notify_all();
            drained.await;
        }
    }

    /// Takes the log off these stores, when there are enough others, and drains what they still hold of it. Repeat it while
    /// they shall be left.
    pub fn leave_stores(&self, leaving: &[vocab::StoreId]) {
        if self.log.leave_stores(leaving) || self.log.has_closed_segments() {
            self.drain_wanted.set(true);
            self.drain_now.notify_all();
        }
    }

    /// The catalog has a newer term: nothing is served here any more. An idle log would not find out by itself.
    pub fn superseded(&self) {
        self.log.fenced();
    }

    /// Lets go of the volume without draining: a takeover finds everything in the log.
    pub fn abandon(&self) {
        self.log.close();
        self.drain_now.notify_all();
        self.drained.notify_all();
    }

    /// Drains, publishes, and gives up ownership.
    ///
    /// # Errors
    /// [`VolumeError`]; the volume is let go all the same.
    pub async fn close(&self) -> Result<(), VolumeError> {
        let drained = self.drain().await;
        self.abandon();
        drained?;
        let released = self
            .context
            .catalog
            .update_as_owner(self.id, self.epoch, |row| {
                let owned = row.owner.is_some();
                row.owner = None;
                owned
            });
        released.await?;
        Ok(())
    }
}

impl Volume {
    /// Makes durable what references up to `through` point to: by a flush, or where a store was restarted
    /// since the put, by putting again.
    pub(crate) async fn secure_references(&self, through: Position) -> Result<(), PoolError> {
        let mut unflushed = Unflushed::default();
        let mut extents = BTreeSet::new();
        for (extent, puts) in self
            .unflushed_puts
            .borrow()
            .range(..=through)
            .map(|(_, puts)| puts)
        {
            unflushed.add(puts);
            extents.insert(*extent);
        }
        let Err(error) = self.context.pool.flush(&unflushed).await else {
            return Ok(());
        };
        if !matches!(error, PoolError::NotFlushed { .. }) {
            return Err(error);
        }
        for extent in extents {
            self.context
                .pool
                .secure(extent, self.policy.get().copies_min)
                .await?;
        }
        Ok(())
    }
}

/// Hands committed records to the overlay.
/// Weak, as the volume holds the log; the drain's task keeps the volume until the log is lost.
struct Committer(Weak<Volume>);

impl Sink for Committer {
    fn committed(&self, position: Position, change: Change) {
        let Some(volume) = self.0.upgrade() else {
            return;
        };
        let was_drained = volume.overlay.bytes() == 0;
        match change {
            Change::Barrier(snapshot) if bug!(volume.context.options, DrainAcrossBarrier) => {
                volume.overlay.pass_barrier(position, snapshot);
            }
            _ => apply(&volume.overlay, position, &change),
        }
        volume.account();
        // The first record also wakes the drain: from now on it must notice when the volume falls idle.
        if was_drained || volume.overlay.has_closed() || volume.has_full_layer() {
            volume.drain_now.notify_all();
        }
    }

    fn on_full_journal(&self) {
        if let Some(volume) = self.0.upgrade() {
            volume.drain_wanted.set(true);
            volume.drain_now.notify_all();
        }
    }

    fn on_lost(&self) {
        if let Some(volume) = self.0.upgrade() {
            volume.account();
            volume.share.notify_freed();
            // The drain's task ends.
            volume.drain_now.notify_all();
        }
    }

    fn flush_references(&self, through: Position) -> LocalBoxFuture<'static, Result<(), String>> {
        let volume = self.0.upgrade();
        Box::pin(async move {
            let volume = volume.ok_or("the volume is closed")?;
            volume
                .secure_references(through)
                .await
                .map_err(|error| error.to_string())?;
            volume
                .unflushed_puts
                .borrow_mut()
                .retain(|&position, _| position > through);
            Ok(())
        })
    }
}

/// Applies one record to an overlay: used by the owner and by recovery alike.
pub(crate) fn apply(overlay: &Overlay, position: Position, change: &Change) {
    match change {
        Change::Write { lba, data } => overlay.write(position, *lba, data),
        Change::Unmap { lba, blocks } => overlay.unmap(position, *lba, u64::from(*blocks)),
        Change::Reference { lba, runs } => overlay.store(position, *lba, runs),
        Change::Barrier(snapshot) => overlay.barrier(position, *snapshot),
        Change::Checkpoint(_) => overlay.pass(position),
    }
}
