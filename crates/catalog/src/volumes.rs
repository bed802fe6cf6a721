//! Life of a volume in the catalog: create, take over, log segments, roots, attachment, delete.

use crate::access::{Catalog, CatalogError, ROUNDS_MAX, Transaction, Versioned};
use crate::attachment::Attachment;
use crate::rows::{
    ContainerRow, LineageRow, MapRoot, Origin, Row, SegmentRow, SnapshotRow, SnapshotState,
    VolumeLimits, VolumeRoot, VolumeRow, VolumeState, numbered,
};
use futures_util::future::join;
use std::collections::BTreeMap;
use vocab::{ByteCount, ContainerId, Epoch, LineageId, NodeId, Position, SnapshotId, VolumeId};

/// Bytes of the longest name of a volume, snapshot or container.
pub const NAME_BYTES_MAX: usize = 253;
/// Largest volume: what a map of five levels addresses.
pub const VOLUME_BYTES_MAX: u64 = 512 << 40;

/// A volume to create.
#[derive(Clone, Debug)]
pub struct NewVolume {
    /// Unique name.
    pub name: String,
    /// Its container.
    pub container: ContainerId,
    /// Size; at least the snapshot's when it starts from one.
    pub size: ByteCount,
    /// Snapshot to start from, and the lineage that has it.
    pub origin: Option<(SnapshotId, LineageId)>,
    /// Now, Unix milliseconds.
    pub created_ms: u64,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
    /// For people.
    pub description: Option<String>,
    /// What its clients may do per second.
    pub limits: VolumeLimits,
}

/// A committed takeover.
#[derive(Clone, Debug)]
pub struct Takeover {
    /// The volume as it stands now, with the new epoch and the log of the owner before.
    pub row: VolumeRow,
    /// The owner before.
    pub previous: Option<NodeId>,
}

pub(crate) fn volume_name_key(name: &str) -> String {
    format!("volume-name/{name}")
}

/// The id that a name such as `volume-12` stands for.
pub(crate) fn numbered_name(kind: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(kind)?.strip_prefix('-')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Checks a name a person chose.
pub(crate) fn check_name(kind: &'static str, name: &str) -> Result<(), CatalogError> {
    let forbidden = |c: char| c.is_control() || c == '/';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(forbidden) {
        let what = "1 to 253 bytes without slashes and control characters";
        return Err(CatalogError::Refused(format!(
            "{kind} name {name:?} is not allowed: use {what}"
        )));
    }
    if numbered_name(kind, name).is_some() {
        return Err(CatalogError::Refused(format!(
            "{kind} name {name:?} is not allowed: {kind}- and a number stands for the {kind} of that id"
        )));
    }
    Ok(())
}

fn no_volume(name: &str) -> CatalogError {
    CatalogError::NotFound {
        kind: "volume",
        name: name.to_owned(),
    }
}

fn check_size(size: ByteCount) -> Result<(), CatalogError> {
    if size.0 == 0 || !size.0.is_multiple_of(vocab::BLOCK_BYTES) || size.0 > VOLUME_BYTES_MAX {
        let allowed = "a multiple of 4 KiB, more than 0 and at most 512 TiB";
        return Err(CatalogError::Refused(format!(
            "volume size {} bytes is not allowed: use {allowed}",
            size.0
        )));
    }
    Ok(())
}

pub(crate) fn check_owner(row: &VolumeRow, epoch: Epoch) -> Result<(), CatalogError> {
    if row.epoch == epoch {
        Ok(())
    } else {
        Err(CatalogError::StaleOwner { current: row.epoch })
    }
}

/// The snapshot that a clone starts from, and what it joins.
struct Source {
    snapshot: Versioned<SnapshotRow>,
    lineage: Versioned<LineageRow>,
}

fn start_from(origin: &Source, row: &mut VolumeRow, transaction: Transaction) -> Transaction {
    let Source { snapshot, lineage } = origin;
    row.lineage = snapshot.row.lineage;
    row.origin = Some(Origin {
        volume: snapshot.row.volume,
        snapshot: snapshot.row.id,
    });
    match snapshot.row.state {
        SnapshotState::Ready(map) => row.root.map = map,
        SnapshotState::Pending(_) => row.state = VolumeState::Pending,
    }
    let mut joined = lineage.row.clone();
    joined.volumes.push(row.id);
    transaction.unchanged(snapshot).replace(lineage, &joined)
}

impl Catalog {
    /// The volume of this id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn volume(&self, id: VolumeId) -> Result<Versioned<VolumeRow>, CatalogError> {
        let row = self.read(&numbered(VolumeRow::PREFIX, id.0)).await?;
        row.ok_or_else(|| CatalogError::NotFound {
            kind: "volume",
            name: id.to_string(),
        })
    }

    /// The volume of this name; `volume-12` is the one with id 12.
    ///
    /// # Errors
    /// As [`Catalog::volume`].
    pub async fn volume_named(&self, name: &str) -> Result<Versioned<VolumeRow>, CatalogError> {
        let id = self.volume_id(name).await?;
        self.volume(id).await.map_err(|error| match error {
            CatalogError::NotFound { .. } => no_volume(name),
            other => other,
        })
    }

    /// The id of the volume of this name. That of `volume-12` is 12, whether there is one or not.
    ///
    /// # Errors
    /// As [`Catalog::volume`].
    pub async fn volume_id(&self, name: &str) -> Result<VolumeId, CatalogError> {
        let named = self.resolve(&volume_name_key(name)).await?;
        let id = named.or_else(|| numbered_name("volume", name));
        id.map(VolumeId).ok_or_else(|| no_volume(name))
    }

    /// The lineage of this id.
    ///
    /// # Errors
    /// As [`Catalog::volume`].
    pub async fn lineage(&self, id: LineageId) -> Result<Versioned<LineageRow>, CatalogError> {
        let row = self.read(&numbered(LineageRow::PREFIX, id.0)).await?;
        row.ok_or_else(|| CatalogError::NotFound {
            kind: "lineage",
            name: id.to_string(),
        })
    }

    /// Sum of the sizes of a container's volumes.
    async fn container_bytes(&self, container: ContainerId) -> Result<ByteCount, CatalogError> {
        let volumes = self.list::<VolumeRow>().await?;
        let sizes = volumes
            .iter()
            .filter(|volume| volume.row.container == container);
        Ok(ByteCount(sizes.map(|volume| volume.row.size.0).sum()))
    }

    /// What asks for nothing more is not refused, whatever is given out: the quota may have been lowered since.
    async fn check_quota(
        &self,
        container: &ContainerRow,
        more: ByteCount,
    ) -> Result<(), CatalogError> {
        let Some(quota) = container.quota.filter(|_| more.0 > 0) else {
            return Ok(());
        };
        let used = self.container_bytes(container.id).await?;
        if used.0.saturating_add(more.0) <= quota.0 {
            return Ok(());
        }
        Err(CatalogError::OverQuota(format!(
            "container {} has a quota of {quota}, {used} of it is given out: {more} more do not fit; \
             raise the quota or delete volumes",
            container.name
        )))
    }

    /// Creates a volume. O(1) also from a snapshot of any size.
    ///
    /// # Errors
    /// [`CatalogError::Exists`] with the same name, [`CatalogError::Refused`] for bad names and sizes, [`CatalogError::OverQuota`],
    /// [`CatalogError::NotFound`] for an unknown container or snapshot, [`CatalogError::Contended`],
    /// [`CatalogError::Kv`]. After `Unavailable` look the name up before trying again.
    pub async fn create_volume(&self, new: &NewVolume) -> Result<VolumeRow, CatalogError> {
        check_name("volume", &new.name)?;
        check_size(new.size)?;
        let name_key = volume_name_key(&new.name);
        for _ in 0..ROUNDS_MAX {
            let reads = join(self.container(new.container), self.resolve(&name_key));
            let reads = join(reads, join(self.draw("volume", 1), self.origin_of(new)));
            let ((container, taken), (drawn, origin)) = reads.await;
            // First, so that who repeats a creation that filled the quota is told that it was done.
            let container = container?;
            if taken?.is_some() {
                return Err(CatalogError::Exists {
                    kind: "volume",
                    name: new.name.clone(),
                });
            }
            // The counter was read before and is compared when the row is written: no other creation comes between.
            let drawn = drawn?;
            self.check_quota(&container.row, new.size).await?;
            let id = VolumeId(*drawn.numbers.start());
            let mut row = blank_volume(id, container.row.id, new);
            row.edited = Some(drawn.given);
            // One transaction draws the id and writes the row: a creation waits for the catalog's disk once.
            let mut transaction = Transaction::new().unchanged(&container);
            transaction = transaction.when(drawn.compare).write(drawn.put);
            transaction = match &origin? {
                None => {
                    row.lineage = LineageId(id.0);
                    let lineage = LineageRow {
                        id: row.lineage,
                        volumes: vec![id],
                        snapshots: Vec::new(),
                        deleted: Vec::new(),
                    };
                    transaction.create(&lineage)
                }
                Some(origin) => start_from(origin, &mut row, transaction),
            };
            transaction = transaction.create(&row).claim_name(name_key.clone(), id.0);
            if self.commit(transaction).await?.is_some() {
                return Ok(row);
            }
        }
        Err(CatalogError::Contended)
    }

    /// What a new volume starts from.
    async fn origin_of(&self, new: &NewVolume) -> Result<Option<Source>, CatalogError> {
        let Some((snapshot, lineage)) = new.origin else {
            return Ok(None);
        };
        let (snapshot, lineage) = join(self.snapshot(snapshot), self.lineage(lineage)).await;
        let (snapshot, lineage) = (snapshot?, lineage?);
        if new.size < snapshot.row.size {
            return Err(CatalogError::Refused(format!(
                "volume size {} is not allowed: a clone of snapshot {} needs at least {}",
                new.size, snapshot.row.name, snapshot.row.size
            )));
        }
        Ok(Some(Source { snapshot, lineage }))
    }

    /// Makes `node` the owner: bumps the epoch in one transaction. The caller fences the log replicas next.
    /// Fails with [`CatalogError::StaleOwner`] when the epoch is no longer `seen`: somebody else was faster.
    ///
    /// # Errors
    /// [`CatalogError::StaleOwner`], [`CatalogError::Refused`] while deleting, [`CatalogError::NotFound`],
    /// [`CatalogError::Kv`].
    pub async fn take_over(
        &self,
        id: VolumeId,
        seen: Epoch,
        node: NodeId,
    ) -> Result<Takeover, CatalogError> {
        let mut previous = None;
        let key = numbered(VolumeRow::PREFIX, id.0);
        let row = self
            .update::<VolumeRow>("volume", &key, |row| {
                if row.epoch != seen {
                    return Err(CatalogError::StaleOwner { current: row.epoch });
                }
                match &row.state {
                    VolumeState::Deleting => {
                        return Err(CatalogError::Refused(format!(
                            "volume {} is being deleted",
                            row.name
                        )));
                    }
                    VolumeState::Pending => {
                        return Err(CatalogError::Refused(format!(
                            "volume {} waits for the drain of its origin",
                            row.name
                        )));
                    }
                    VolumeState::Incomplete(reason) => {
                        return Err(CatalogError::Refused(incomplete(&row.name, reason)));
                    }
                    VolumeState::Ready | VolumeState::Stopped(_) => {}
                }
                previous = row.owner;
                row.epoch = row.epoch.next();
                row.owner = Some(node);
                Ok(true)
            })
            .await?;
        Ok(Takeover { row, previous })
    }

    /// Changes a volume's row as its owner of term `epoch`.
    ///
    /// # Errors
    /// [`CatalogError::StaleOwner`], [`CatalogError::NotFound`], [`CatalogError::Contended`],
    /// [`CatalogError::Kv`].
    pub async fn update_as_owner(
        &self,
        id: VolumeId,
        epoch: Epoch,
        mut change: impl FnMut(&mut VolumeRow) -> bool,
    ) -> Result<VolumeRow, CatalogError> {
        let key = numbered(VolumeRow::PREFIX, id.0);
        self.update("volume", &key, |row: &mut VolumeRow| {
            check_owner(row, epoch)?;
            Ok(change(row))
        })
        .await
    }

    /// Closes the open segment, if there is one, before position `end` and opens `segment`, in one
    /// transaction. Nothing may be acknowledged in it before this returns. Idempotent.
    ///
    /// # Errors
    /// As [`Catalog::update_as_owner`].
    pub async fn open_segment(
        &self,
        id: VolumeId,
        epoch: Epoch,
        segment: &SegmentRow,
    ) -> Result<VolumeRow, CatalogError> {
        self.update_as_owner(id, epoch, |row| {
            if row
                .segments
                .last()
                .is_some_and(|last| last.id == segment.id)
            {
                return false;
            }
            if let Some(last) = row.segments.last_mut()
                && last.end.is_none()
            {
                last.end = Some(segment.start);
            }
            row.segments.push(segment.clone());
            row.next_segment = segment.id.next();
            true
        })
        .await
    }

    /// Ends recovery: the log is now `segment` alone, which holds everything not yet in the map.
    /// Idempotent.
    ///
    /// # Errors
    /// As [`Catalog::update_as_owner`].
    pub async fn replace_log(
        &self,
        id: VolumeId,
        epoch: Epoch,
        root: VolumeRoot,
        segment: &SegmentRow,
    ) -> Result<VolumeRow, CatalogError> {
        self.update_as_owner(id, epoch, |row| {
            if row.segments.len() == 1 && row.segments[0].id == segment.id {
                return false;
            }
            row.segments = vec![segment.clone()];
            row.next_segment = segment.id.next();
            row.root = root;
            row.state = VolumeState::Ready;
            true
        })
        .await
    }

    /// Publishes a durable root, drops the segments that lie wholly below it, and gives pending snapshots
    /// their roots; clones that waited for them become ready. One transaction. Idempotent.
    ///
    /// # Errors
    /// As [`Catalog::update_as_owner`].
    pub async fn publish_root(
        &self,
        id: VolumeId,
        epoch: Epoch,
        root: VolumeRoot,
        snapshots: &[(SnapshotId, MapRoot)],
    ) -> Result<VolumeRow, CatalogError> {
        for _ in 0..64 {
            let volume = self.volume(id).await?;
            check_owner(&volume.row, epoch)?;
            let mut row = volume.row.clone();
            if row.root.position <= root.position {
                row.root = root;
            }
            let below = row.root.position.next();
            row.segments
                .retain(|segment| segment.end.is_none_or(|end| end > below));
            let mut transaction = Transaction::new().replace(&volume, &row);
            for (snapshot, map) in snapshots {
                transaction = self.settle_snapshot(*snapshot, *map, transaction).await?;
            }
            if self.commit(transaction).await?.is_some() {
                return Ok(row);
            }
        }
        Err(CatalogError::Contended)
    }

    async fn settle_snapshot(
        &self,
        id: SnapshotId,
        map: MapRoot,
        mut transaction: Transaction,
    ) -> Result<Transaction, CatalogError> {
        let key = numbered(SnapshotRow::PREFIX, id.0);
        let Some(snapshot) = self.read::<SnapshotRow>(&key).await? else {
            return Ok(transaction);
        };
        if matches!(snapshot.row.state, SnapshotState::Ready(_)) {
            return Ok(transaction);
        }
        // A clone created meanwhile changes the lineage row, and with it fails this transaction.
        let lineage = self.lineage(snapshot.row.lineage).await?;
        for &volume in &lineage.row.volumes {
            let clone = self.volume(volume).await?;
            let waits = clone.row.state == VolumeState::Pending
                && clone.row.origin.is_some_and(|origin| origin.snapshot == id);
            if waits {
                let mut ready = clone.row.clone();
                ready.state = VolumeState::Ready;
                ready.root.map = map;
                transaction = transaction.replace(&clone, &ready);
            }
        }
        let settled = SnapshotRow {
            state: SnapshotState::Ready(map),
            ..snapshot.row.clone()
        };
        Ok(transaction.replace(&snapshot, &settled).unchanged(&lineage))
    }

    /// Grows a volume. The owner calls it, so that its own bounds follow.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] for a smaller or impossible size, [`CatalogError::OverQuota`], and as
    /// [`Catalog::update_as_owner`].
    pub async fn grow_volume(
        &self,
        id: VolumeId,
        epoch: Epoch,
        size: ByteCount,
    ) -> Result<VolumeRow, CatalogError> {
        check_size(size)?;
        let volume = self.volume(id).await?;
        if size < volume.row.size {
            return Err(CatalogError::Refused(format!(
                "volume {} has {}: it can grow, but not shrink to {size}",
                volume.row.name, volume.row.size
            )));
        }
        let container = self.container(volume.row.container).await?;
        self.check_quota(&container.row, ByteCount(size.0 - volume.row.size.0))
            .await?;
        self.update_as_owner(id, epoch, |row| {
            let grows = row.size < size;
            row.size = row.size.max(size);
            grows
        })
        .await
    }

    /// Changes what is neither owned nor attached: labels, description, limits. `change` returns whether there
    /// is anything to write.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn describe_volume(
        &self,
        id: VolumeId,
        mut change: impl FnMut(&mut VolumeRow) -> bool,
    ) -> Result<VolumeRow, CatalogError> {
        let key = numbered(VolumeRow::PREFIX, id.0);
        self.update("volume", &key, |row: &mut VolumeRow| Ok(change(row)))
            .await
    }

    /// Stops a volume to protect its data; `reason` is for people.
    ///
    /// # Errors
    /// As [`Catalog::update_as_owner`].
    pub async fn stop_volume(
        &self,
        id: VolumeId,
        epoch: Epoch,
        reason: &str,
    ) -> Result<(), CatalogError> {
        let stopped = VolumeState::Stopped(reason.to_owned());
        self.update_as_owner(id, epoch, |row| {
            let changes = row.state != stopped;
            row.state = stopped.clone();
            changes
        })
        .await?;
        Ok(())
    }

    /// First half of a deletion: no owner, a new epoch, no sessions. The caller then drops the logs on all
    /// stores and calls [`Catalog::remove_volume`].
    ///
    /// # Errors
    /// [`CatalogError::Refused`] while attached or while a snapshot of it is pending,
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`].
    pub async fn begin_delete(&self, id: VolumeId) -> Result<VolumeRow, CatalogError> {
        let volume = self.volume(id).await?;
        let lineage = self.lineage(volume.row.lineage).await?;
        for &snapshot in &lineage.row.snapshots {
            let snapshot = self.snapshot(snapshot).await?;
            let pending = matches!(snapshot.row.state, SnapshotState::Pending(_));
            if pending && snapshot.row.volume == id {
                let name = &snapshot.row.name;
                return Err(CatalogError::Refused(format!(
                    "snapshot {name} of volume {} is not drained yet; try again in a moment",
                    volume.row.name
                )));
            }
        }
        let key = numbered(VolumeRow::PREFIX, id.0);
        self.update("volume", &key, |row: &mut VolumeRow| {
            if row.state == VolumeState::Deleting {
                return Ok(false);
            }
            if !row.attachment.clients.is_empty() {
                return Err(CatalogError::InUse {
                    volume: row.name.clone(),
                    clients: row.attachment.clients.join(", "),
                });
            }
            row.state = VolumeState::Deleting;
            row.epoch = row.epoch.next();
            row.owner = None;
            Ok(true)
        })
        .await
    }

    /// Second half of a deletion: the volume and its name are gone; its extents are garbage unless a
    /// snapshot or clone refers to them. Idempotent.
    ///
    /// # Errors
    /// [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn remove_volume(&self, id: VolumeId) -> Result<(), CatalogError> {
        for _ in 0..64 {
            let volume = match self.volume(id).await {
                Err(CatalogError::NotFound { .. }) => return Ok(()),
                other => other?,
            };
            assert_eq!(
                volume.row.state,
                VolumeState::Deleting,
                "begin_delete comes first"
            );
            let lineage = self.lineage(volume.row.lineage).await?;
            let mut left = lineage.row.clone();
            left.volumes.retain(|&member| member != id);
            left.deleted.push(id);
            let transaction = Transaction::new()
                .remove(&volume)
                .replace(&lineage, &left)
                .free_name(volume_name_key(&volume.row.name));
            if self.commit(transaction).await?.is_some() {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }
}

/// Why nobody opens a volume that a rebuild could not prove, and what to do.
#[must_use]
pub fn incomplete(name: &str, reason: &str) -> String {
    format!(
        "volume {name} is incomplete since the catalog was made anew: {reason}; bring back what is missing and rebuild \
         again, or accept what is there: azekura catalog accept {name}"
    )
}

fn blank_volume(id: VolumeId, container: ContainerId, new: &NewVolume) -> VolumeRow {
    VolumeRow {
        id,
        name: new.name.clone(),
        container,
        lineage: LineageId(0),
        size: new.size,
        created_ms: new.created_ms,
        owner: None,
        epoch: Epoch(0),
        root: VolumeRoot {
            position: Position::ZERO,
            ..VolumeRoot::default()
        },
        segments: Vec::new(),
        next_segment: vocab::SegmentId(1),
        attachment: Attachment::default(),
        origin: None,
        state: VolumeState::Ready,
        labels: new.labels.clone(),
        description: new.description.clone(),
        limits: new.limits,
        edited: None,
    }
}
