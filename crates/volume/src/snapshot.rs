//! Snapshots of an owned volume, restore, and what differs between two of them.

use crate::change::Change;
use crate::map::{DiffRun, diff};
use crate::volume::{Volume, VolumeError};
use catalog::{
    CatalogError, MapRoot, NewSnapshot, SnapshotBase, SnapshotMarks, SnapshotRow, SnapshotState,
};
use futures_util::future::join;
use vocab::SnapshotId;
use world::Duration;

/// Pause between attempts to reach the catalog while a barrier is already in the log.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Pause between looks at a snapshot that is about to be settled.
const SETTLE_PAUSE: Duration = Duration::from_millis(2);

impl Volume {
    /// Takes a snapshot of everything acknowledged before the call. O(1): a flushed barrier in the log and a
    /// catalog row; its root follows when the log is drained up to the barrier. Durable when it returns.
    ///
    /// # Errors
    /// [`VolumeError::Catalog`] when the name is taken or bad (nothing happened), [`VolumeError::Log`] when the
    /// volume was lost (it may or may not exist: look it up).
    pub async fn snapshot(
        &self,
        name: &str,
        marks: SnapshotMarks,
    ) -> Result<SnapshotRow, VolumeError> {
        let catalog = &self.context.catalog;
        // Before the barrier: the drain of one waits for the catalog, so none may come while that is away, and none for nothing.
        let base = catalog.snapshot_base(self.id, self.lineage, name);
        let (base, id) = join(base, catalog.next_snapshot_id()).await;
        let (base, id) = (base?, id?);
        self.recording.borrow_mut().insert(id);
        let recorded = self.record(id, name, marks, base).await;
        self.recording.borrow_mut().remove(&id);
        self.drain_now.notify_all();
        recorded
    }

    async fn record(
        &self,
        id: SnapshotId,
        name: &str,
        marks: SnapshotMarks,
        base: SnapshotBase,
    ) -> Result<SnapshotRow, VolumeError> {
        let created_ms = self.context.world.clock.unix_ms();
        let (position, outcome) = self.log.append(Change::Barrier(id), true);
        outcome.await.unwrap_or(Err(crate::log::LogError::Closed))?;
        let new = NewSnapshot {
            id,
            lineage: self.lineage,
            name: name.to_owned(),
            position,
            created_ms,
            marks,
        };
        let (catalog, mut base) = (&self.context.catalog, Some(base));
        loop {
            let recorded = catalog.record_snapshot(self.id, self.epoch, &new, &mut base);
            match recorded.await {
                Ok(row) => return Ok(row),
                // The row may have been written: only the catalog knows, so ask until it answers.
                Err(CatalogError::Kv(_) | CatalogError::Contended) if self.log.lost().is_none() => {
                    self.context.world.sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until a snapshot of this volume has its root.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub async fn settle(&self, snapshot: SnapshotId) -> Result<MapRoot, VolumeError> {
        loop {
            let row = self.context.catalog.snapshot(snapshot).await?.row;
            match row.state {
                SnapshotState::Ready(map) => return Ok(map),
                SnapshotState::Pending(position) => {
                    if row.volume == self.id {
                        self.drained_through(position).await?;
                    }
                    // The root moves before the row is written; another volume's owner settles its own.
                    self.context.world.sleep(SETTLE_PAUSE).await;
                }
            }
        }
    }

    /// Sets the volume back to one of its lineage's snapshots. Everything written since is dropped. The
    /// caller makes sure that no client writes meanwhile. O(1) apart from draining the log.
    ///
    /// # Errors
    /// [`VolumeError`]; then the volume is as it was.
    pub async fn restore(&self, snapshot: SnapshotId) -> Result<(), VolumeError> {
        let map = self.settle(snapshot).await?;
        loop {
            self.drain().await?;
            let held = self.root_lock.lock().await;
            let position = self.overlay.last();
            if self.overlay.bytes() > 0 || self.root.get().position != position {
                drop(held);
                continue;
            }
            let catalog = &self.context.catalog;
            let row = catalog
                .restore_volume(self.id, self.epoch, snapshot, position)
                .await?;
            let mut root = row.root;
            root.map = map;
            self.root.set(root);
            self.log.set_back(root).await;
            drop(held);
            return Ok(());
        }
    }

    /// Ranges in which `newer` may differ from `older`, from block `from` on, at most about `limit`, and
    /// where to go on. Both roots belong to this volume's lineage.
    ///
    /// # Errors
    /// [`VolumeError::Map`].
    pub async fn changed_ranges(
        &self,
        older: MapRoot,
        newer: MapRoot,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<DiffRun>, Option<u64>), VolumeError> {
        Ok(diff(&self.context.pages, older, newer, from, limit).await?)
    }
}
