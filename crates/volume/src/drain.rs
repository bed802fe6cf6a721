//! Draining: layers of the overlay become extents and a new root; then the log is trimmed.
//!
//! Order, and what a crash between two steps leaves:
//! 1. data extents put;
//! 2. map extents put;
//! 3. all of them flushed - crash: garbage below no floor;
//! 4. the new root serves reads;
//! 5. checkpoint record flushed on every log replica - from here takeover finds the new root;
//! 6. catalog row, where a snapshot or a closed segment waits for it;
//! 7. log trimmed.

mod layer;

pub(crate) use layer::LayerWriter;

use crate::change::Change;
use crate::options::bug;
use crate::overlay::Layer;
use crate::volume::{Volume, VolumeError};
use catalog::{CatalogError, VolumeRoot};
use futures_util::future::{Either, select};
use std::pin::pin;
use std::rc::Rc;
use vocab::{Position, SnapshotId};
use world::Duration;

/// A layer is full with so many times `drain_bytes` in extents past the journal: 512 MiB.
const STORED_SHARE: u64 = 4;
/// Pause after a drain that failed; doubled up to [`RETRY_PAUSE_MAX`]: each attempt may leave extents behind.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the log may take to make a root known before the catalog does.
const CHECKPOINT_PATIENCE: Duration = Duration::from_millis(1000);

impl Volume {
    pub(crate) async fn drain_forever(self: Rc<Self>) {
        let mut pause = RETRY_PAUSE;
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
                Ok(()) => {
                    *self.drain_problem.borrow_mut() = None;
                    pause = RETRY_PAUSE;
                }
                Err(reason) => {
                    *self.drain_problem.borrow_mut() = Some(reason);
                    self.publish_progress().await;
                    self.context.world.sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
    }

    fn should_drain(&self) -> bool {
        let overlay = &self.overlay;
        let idle = overlay.bytes() > 0 && self.quiet_for() >= self.context.options.drain_idle;
        overlay.has_closed()
            || self.has_full_layer()
            || self.drain_wanted.get()
            || (overlay.bytes() > 0 && self.log.has_closed_segments())
            || idle
    }

    /// What lies in extents already costs a drain map pages only; but until then nothing of what it replaced is garbage.
    pub(crate) fn has_full_layer(&self) -> bool {
        let bytes = self.context.options.drain_bytes;
        self.overlay.bytes() >= bytes || self.overlay.stored_bytes() / STORED_SHARE >= bytes
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
        let root = self.write_layer(&layer).await?;
        self.root.set(root);
        self.drop_drained();
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

    /// A snapshot's row must exist, or be known not to, before the drain of its barrier gives it its root.
    async fn wait_for_recording(&self, snapshot: SnapshotId) {
        loop {
            let changed = self.drain_now.notified();
            if !self.recording.borrow().contains(&snapshot) || self.log.lost().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Gives a snapshot its root. The barrier is flushed before its row is written, and that flush may wait for this
    /// drain, where a closed segment has no replica left that could flush: then the root is made known first.
    async fn settle_barrier(&self, root: VolumeRoot, snapshot: SnapshotId) -> Result<(), String> {
        let recorded = self.wait_for_recording(snapshot);
        let patience = CHECKPOINT_PATIENCE;
        if self
            .context
            .world
            .timeout(patience, recorded)
            .await
            .is_err()
        {
            self.publish(root, &[]).await?;
            self.log.durable_through(root.position);
            self.wait_for_recording(snapshot).await;
        }
        self.publish(root, &[(snapshot, root.map)]).await
    }

    /// Puts the layer's data and the map pages that refer to it, durably; returns the root after it.
    async fn write_layer(&self, layer: &Layer) -> Result<VolumeRoot, String> {
        let context = &self.context;
        let writer = LayerWriter::new(context, &self.ids, self.policy.get());
        let written = writer.write(self.root.get(), layer).await;
        self.drained_bytes
            .set(self.drained_bytes.get() + writer.bytes.get());
        let (root, unflushed) = written?;
        if !bug!(context.options, SkipExtentFlush) {
            let flushed = context.pool.flush(&unflushed).await;
            flushed.map_err(|error| error.to_string())?;
            let referenced = self.secure_references(layer.last).await;
            referenced.map_err(|error| error.to_string())?;
        }
        Ok(root)
    }

    /// Makes the root findable by a takeover, then trims the log behind it.
    async fn make_root_known(&self, root: VolumeRoot, layer: &Layer) -> Result<(), String> {
        if bug!(self.context.options, TrimBeforeCheckpoint) {
            self.log.drained(root);
        }
        let (_, outcome) = self.log.append(Change::Checkpoint(root), true);
        let logged = async {
            match outcome.await {
                Some(Ok(())) => Ok(()),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("the node stops".to_owned()),
            }
        };
        if let Some(snapshot) = layer.barrier {
            self.settle_barrier(root, snapshot).await?;
        } else {
            self.log_or_publish(root, logged).await?;
            self.offer_root(root).await;
        }
        self.log.drained(root);
        if self.overlay.bytes() == 0 {
            return self.leave_the_log().await;
        }
        Ok(())
    }

    /// Waits until the checkpoint record is flushed. A log that does not move, because a journal is full of what this
    /// drain would let go, must not hold up the trim: the catalog can make the root known as well, whichever is first.
    async fn log_or_publish(
        &self,
        root: VolumeRoot,
        logged: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        let mut logged = pin!(logged);
        let patience = CHECKPOINT_PATIENCE;
        if let Ok(logged) = self.context.world.timeout(patience, logged.as_mut()).await {
            return logged;
        }
        let published = pin!(self.publish(root, &[]));
        match select(logged, published).await {
            Either::Left((known, _)) | Either::Right((known, _)) => known,
        }
    }

    /// Tells the catalog of the root now and then, and at once when it can let go of closed segments or space is short.
    /// Only the collector and the next takeover gain by it: draining, and with it writing, goes on without the catalog.
    async fn offer_root(&self, root: VolumeRoot) {
        let every = u64::from(self.context.options.publish_every);
        let due = self.drains.get().is_multiple_of(every)
            || self.log.has_closed_segments()
            || self.context.pool.is_crowded();
        if !due && !self.owes_root.get() {
            return;
        }
        let published = self.publish(root, &[]);
        let patience = CHECKPOINT_PATIENCE;
        let told = self.context.world.timeout(patience, published).await;
        self.owes_root.set(!matches!(told, Ok(Ok(()))));
    }

    /// Nothing is undrained: the root in the catalog then covers the whole log, and nothing pins a journal.
    async fn leave_the_log(&self) -> Result<(), String> {
        let position = self.overlay.last();
        if self.overlay.bytes() > 0 || !self.has_news(position) {
            self.drained.notify_all();
            return Ok(());
        }
        let root = VolumeRoot {
            position,
            floor: self.ids.floor_of_root(position),
            ..self.root.get()
        };
        if !self.publish_while_idle(root).await? {
            return Ok(());
        }
        if self.root.get().position <= position {
            self.root.set(root);
        }
        self.log.drained(root);
        self.drained.notify_all();
        Ok(())
    }

    /// Whether the catalog could learn of a root up to `position`, or while space is short of garbage below a new floor.
    fn has_news(&self, position: Position) -> bool {
        self.root.get().position != position
            || self.log.has_closed_segments()
            || (self.context.pool.is_crowded() && self.hides_garbage())
    }

    /// Whether the collector does not know yet that nothing below the floor is in flight: what failed puts left behind is
    /// not garbage for it until then.
    pub(crate) fn hides_garbage(&self) -> bool {
        self.published.get().1 < self.ids.floor()
    }

    /// A drain that fails for want of space needs the collector, which only goes by published roots. What a failed
    /// drain has put is garbage, and the floor says so: nothing below it is in flight.
    async fn publish_progress(&self) {
        let _held = self.root_lock.lock().await;
        let root = VolumeRoot {
            floor: self.ids.floor(),
            ..self.root.get()
        };
        if self.published.get() < (root.position, root.floor) {
            self.root.set(root);
            let published = self.publish(root, &[]);
            // A catalog that is away must not hold up the next attempt.
            let _ = self
                .context
                .world
                .timeout(CHECKPOINT_PATIENCE, published)
                .await;
        }
    }

    /// As [`Self::publish`], but gives up (`false`) when the volume is written to again while the catalog is away: the
    /// drain that this would hold up comes first.
    async fn publish_while_idle(&self, root: VolumeRoot) -> Result<bool, String> {
        loop {
            let published = self.publish(root, &[]);
            match self
                .context
                .world
                .timeout(CHECKPOINT_PATIENCE, published)
                .await
            {
                Ok(published) => return published.map(|()| true),
                Err(_) if self.overlay.bytes() > 0 => return Ok(false),
                Err(_) => {}
            }
        }
    }

    /// Writes the root to the catalog, however long the catalog is out of reach.
    async fn publish(
        &self,
        root: VolumeRoot,
        settled: &[(SnapshotId, catalog::MapRoot)],
    ) -> Result<(), String> {
        loop {
            match self
                .context
                .catalog
                .publish_root(self.id, self.epoch, root, settled)
                .await
            {
                Ok(_) => {
                    self.log.note_settled(settled);
                    let known = (root.position, root.floor);
                    self.published.set(self.published.get().max(known));
                    return Ok(());
                }
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
