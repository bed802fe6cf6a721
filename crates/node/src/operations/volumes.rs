//! Volumes: create, show, grow, attach, restore, delete.

use super::conditions::perhaps_changed_by_this;
use super::figures::activity;
use super::pages::Names;
use super::{Result, catalog_error, is_unavailable, volume_error};
use crate::host::Host;
use crate::options::bug;
use crate::tasks::{kind, new_task, volume_subject};
use api::{
    Answer, AttachmentAnswer, ClientAnswer, ErrorKind, ListQuery, Operation, OperationError,
    OriginAnswer, ReplicaAnswer, StartedAnswer, VolumeAnswer, VolumeChange, VolumeSpec,
};
use catalog::{
    Attachment, AttachmentMode, CatalogError, ContainerRow, NewVolume, SnapshotRow, SnapshotState,
    SpaceState, TaskRow, Versioned, VolumeLimits, VolumeRow, VolumeState,
};
use futures_util::future::{join, join_all};
use std::rc::Rc;
use vocab::{BLOCK_BYTES, ByteCount, LineageId, VolumeId};
use volume::Volume;
use wire::{Lane, NodeError, StoreRequest};
use world::Duration;

/// Patience with an owner that is asked for figures.
pub(super) const SHOW_PATIENCE: Duration = Duration::from_secs(2);
/// Patience with a store that is told to forget a log.
const DROP_PATIENCE: Duration = Duration::from_secs(2);
/// How long requests of sessions that end are waited for.
const ENFORCE_PATIENCE: Duration = Duration::from_secs(15);
/// Time between two notes of how far a drain is.
const TELL_INTERVAL: Duration = Duration::from_secs(4);
/// How long the drain behind a pending snapshot is waited for.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

fn stopping() -> OperationError {
    OperationError::unavailable("the node is stopping: ask another one")
}

/// How a client that asks for this attaches.
pub(super) fn attachment_mode(read_only: bool, shared: bool) -> Result<AttachmentMode> {
    match (read_only, shared) {
        (false, false) => Ok(AttachmentMode::ReadWrite),
        (true, true) => Ok(AttachmentMode::ReadOnly),
        (true, false) => Ok(AttachmentMode::ReadOnlyAlone),
        (false, true) => Err(OperationError::bad_request(
            "`shared` is for readers: several clients cannot write to one volume; say `read_only`, too",
        )),
    }
}

fn attachment_answer(attachment: &Attachment) -> AttachmentAnswer {
    let grants = attachment.grants().into_iter();
    AttachmentAnswer {
        generation: attachment.generation.0,
        clients: attachment.clients.clone(),
        generations: grants.map(|(client, own)| (client, own.0)).collect(),
        read_only: attachment.mode != AttachmentMode::ReadWrite,
        shared: attachment.mode == AttachmentMode::ReadOnly,
    }
}

/// The word for a volume's state, and why it is in it.
pub(super) fn state_of(row: &VolumeRow) -> (&'static str, Option<String>) {
    match &row.state {
        VolumeState::Ready => ("ready", None),
        VolumeState::Pending => ("pending", None),
        VolumeState::Deleting => ("deleting", None),
        VolumeState::Stopped(reason) => ("stopped", Some(reason.clone())),
        VolumeState::Incomplete(reason) => ("incomplete", Some(reason.clone())),
    }
}

fn limits_of(spec: &VolumeSpec) -> VolumeLimits {
    VolumeLimits {
        iops: spec.iops_limit.unwrap_or(0),
        bandwidth: spec.bandwidth_limit.unwrap_or(0),
    }
}

fn apply_change(row: &mut VolumeRow, change: &VolumeChange) {
    for (key, value) in &change.labels {
        match value {
            Some(value) => drop(row.labels.insert(key.clone(), value.clone())),
            None => drop(row.labels.remove(key)),
        }
    }
    if let Some(text) = &change.description {
        row.description = Some(text.clone()).filter(|text| !text.is_empty());
    }
    row.limits.iops = change.iops_limit.unwrap_or(row.limits.iops);
    row.limits.bandwidth = change.bandwidth_limit.unwrap_or(row.limits.bandwidth);
}

impl Host {
    pub(super) fn describe(&self, row: &VolumeRow, names: &Names) -> VolumeAnswer {
        let container = names.containers.get(&row.container);
        let log = row
            .segments
            .last()
            .map_or(&[][..], |segment| &segment.replicas[..]);
        let rf = container.map_or(0, |container| container.replication_factor);
        let (state, mut reason) = state_of(row);
        if reason.is_none() && !log.is_empty() && log.len() < usize::from(rf) {
            reason = Some(format!("its log has {} of {rf} copies", log.len()));
        }
        let own = self.volumes.get(row.id).map(|volume| volume.status());
        if let Some(status) = &own {
            reason = reason
                .or(status.log.waiting.clone())
                .or(status.drain_problem.clone());
        }
        if reason.is_none() && self.space_state(rf) == SpaceState::Protected {
            reason = Some("the cluster protects its last space: new data is refused".to_owned());
        }
        let replica = |replica: &catalog::SegmentReplica| ReplicaAnswer {
            store: replica.store.0,
            incarnation: replica.incarnation.0,
        };
        let origin = row.origin.map(|origin| OriginAnswer {
            volume: names.volumes.get(&origin.volume).cloned(),
            snapshot: names.snapshots.get(&origin.snapshot).cloned(),
            volume_id: origin.volume.0,
            snapshot_id: origin.snapshot.0,
        });
        VolumeAnswer {
            id: row.id.0,
            name: row.name.clone(),
            container: container.map_or_else(String::new, |container| container.name.clone()),
            size: row.size.0,
            mapped: own
                .as_ref()
                .map_or(row.root.map, |status| status.root.map)
                .mapped_blocks
                * BLOCK_BYTES,
            created_ms: row.created_ms,
            owner: row.owner.map(|owner| owner.0),
            epoch: row.epoch.0,
            state: state.to_owned(),
            reason,
            rf,
            log: log.iter().map(replica).collect(),
            segments: row.segments.len() as u64,
            undrained: own.map(|status| status.undrained.0),
            attachment: attachment_answer(&row.attachment),
            placement: Vec::new(),
            clients: Vec::new(),
            activity: None,
            unserved: false,
            origin,
            task: None,
            usage: None,
            labels: row.labels.clone(),
            description: row.description.clone(),
            quarantine_until_ms: None,
            iops_limit: Some(row.limits.iops).filter(|&limit| limit > 0),
            bandwidth_limit: Some(row.limits.bandwidth).filter(|&limit| limit > 0),
            version: None,
        }
    }

    /// As the catalog has it, and this node if it serves it.
    pub(super) async fn volume_answer(&self, id: VolumeId) -> Result<Answer> {
        let found = self.catalog.volume(id).await.map_err(catalog_error)?;
        self.answer_of(&found, None).await
    }

    /// Of a row that was read, and its container, if that is known.
    async fn answer_of(
        &self,
        found: &Versioned<VolumeRow>,
        container: Option<ContainerRow>,
    ) -> Result<Answer> {
        let row = &found.row;
        let container = async {
            match container {
                Some(container) => Ok::<_, CatalogError>(container),
                None => Ok(self.catalog.container(row.container).await?.row),
            }
        };
        let origin = async {
            let Some(origin) = row.origin else {
                return Names::default();
            };
            let volume = self.catalog.volume(origin.volume);
            let (volume, snapshot) = join(volume, self.catalog.snapshot(origin.snapshot)).await;
            let mut names = Names::default();
            let volume = volume.ok().map(|found| found.row);
            let snapshot = snapshot.ok().map(|found| found.row);
            names.add_origin(volume.as_ref(), snapshot.as_ref());
            names
        };
        let (container, mut names) = join(container, origin).await;
        let container = container.map_err(catalog_error)?;
        names.containers.insert(container.id, container);
        Ok(Answer::Volume(self.volume_described(found, &names)))
    }

    fn volume_described(&self, found: &Versioned<VolumeRow>, names: &Names) -> VolumeAnswer {
        let row = &found.row;
        let mut answer = self.describe(row, names);
        answer.version = Some(self.catalog.version_of(found));
        answer.clients = self.heard_clients(row);
        let served = self.volumes.get(row.id);
        answer.unserved = served.is_none() && row.owner == Some(self.id);
        answer.activity = served.map(|_| activity(&self.upkeep.meters.sample(row.id)));
        answer
    }

    /// What this node, if it serves the volume, hears of the clients it is attached to.
    fn heard_clients(&self, row: &VolumeRow) -> Vec<ClientAnswer> {
        let Some(since) = self.volumes.get(row.id).and(self.volumes.since(row.id)) else {
            return Vec::new();
        };
        let now = self.world.now();
        let client = |(name, generation)| {
            let (sessions, heard) = self.sessions.heard(row.id, generation);
            ClientAnswer {
                name,
                sessions,
                silent_ms: now.since(heard.unwrap_or(since)).as_millis() as u64,
                heard: heard.is_some(),
            }
        };
        row.attachment.grants().into_iter().map(client).collect()
    }

    pub(super) async fn create_volume(self: &Rc<Self>, spec: VolumeSpec) -> Result<Answer> {
        match spec.from.clone() {
            Some(from) => match &from.snapshot {
                Some(snapshot) => {
                    let origin = self.snapshot_row(&from.volume, snapshot).await?;
                    self.create_volume_from(spec, Some(origin)).await
                }
                None => self.clone_now(spec, &from.volume).await,
            },
            None => self.create_volume_from(spec, None).await,
        }
    }

    pub(super) async fn create_volume_from(
        self: &Rc<Self>,
        spec: VolumeSpec,
        origin: Option<SnapshotRow>,
    ) -> Result<Answer> {
        let container = match self.known_container(&spec, origin.as_ref()) {
            Some(known) => known,
            None => self.container_for(&spec, origin.as_ref()).await?,
        };
        if let Err(refused) = self.check_space(&container) {
            // One that is there already is somebody else's to judge.
            let there = self.catalog.volume_named(&spec.name).await;
            there.map_err(|_| refused)?;
        }
        let size = match (spec.size, &origin) {
            (Some(size), _) => ByteCount(size),
            (None, Some(origin)) => origin.size,
            (None, None) => {
                let hint = format!("volume {} needs a size in bytes", spec.name);
                return Err(OperationError::bad_request(hint));
            }
        };
        let mut new = NewVolume {
            name: spec.name.clone(),
            container: container.id,
            size,
            origin: origin.as_ref().map(|origin| (origin.id, origin.lineage)),
            created_ms: self.world.clock.unix_ms(),
            labels: spec.labels.clone(),
            description: spec.description.clone().filter(|text| !text.is_empty()),
            limits: limits_of(&spec),
        };
        let mut names = Names::default();
        let source = self.source_of(origin.as_ref());
        let (created, source) = join(self.catalog.create_volume(&new), source).await;
        names.add_origin(source.as_ref(), origin.as_ref());
        names.containers.insert(container.id, container);
        let created = match created {
            // Another one has its name by now, which this node has not heard yet.
            Err(CatalogError::NotFound {
                kind: "container", ..
            }) => {
                let container = self.container_for(&spec, origin.as_ref()).await?;
                new.container = container.id;
                names.containers.insert(container.id, container);
                self.catalog.create_volume(&new).await
            }
            created => created,
        };
        let row = match created {
            Err(error @ CatalogError::Kv(_)) => self.created_after_all(&new, error).await?,
            created => created.map_err(catalog_error)?,
        };
        let pending = row.state == VolumeState::Pending;
        // People have changed nothing yet: its version is that of the row as it was made.
        let made = Versioned { row, version: 0 };
        let answer = self.volume_described(&made, &names);
        let Some(origin) = origin.filter(|_| pending) else {
            return Ok(Answer::Volume(answer));
        };
        let host = self.clone();
        let drain = async move { host.drain_anywhere(origin.volume).await };
        self.spawn(self.still_on_behalf(drain));
        let entity = format!("volume/{}", made.row.name);
        let task = new_task(kind::VOLUME_CLONE, entity, volume_subject(made.row.id));
        let task = self.begin_task(task).await;
        Ok(Answer::Volume(VolumeAnswer { task, ..answer }))
    }

    /// The volume of a snapshot that a new one starts from, if it is still there.
    async fn source_of(&self, origin: Option<&SnapshotRow>) -> Option<VolumeRow> {
        let found = self.catalog.volume(origin?.volume).await;
        found.ok().map(|found| found.row)
    }

    /// The container of a new volume, as this node has heard of it: the transaction that makes the volume reads it again.
    fn known_container(
        &self,
        spec: &VolumeSpec,
        origin: Option<&SnapshotRow>,
    ) -> Option<ContainerRow> {
        self.members.look(|view| {
            let mut rows = view.containers.values();
            let row = match (&spec.container, origin) {
                (Some(name), _) => rows.find(|row| row.name == *name),
                (None, Some(origin)) => view.containers.get(&origin.container),
                (None, None) => None,
            };
            row.cloned()
        })
    }

    /// The same as the catalog has it.
    async fn container_for(
        &self,
        spec: &VolumeSpec,
        origin: Option<&SnapshotRow>,
    ) -> Result<ContainerRow> {
        let found = match (&spec.container, origin) {
            (Some(name), _) => self.catalog.container_named(name).await,
            (None, Some(origin)) => self.catalog.container(origin.container).await,
            (None, None) => {
                let hint = format!("volume {} needs a container: name one", spec.name);
                return Err(OperationError::bad_request(hint));
            }
        };
        Ok(found.map_err(catalog_error)?.row)
    }

    /// The volume that a creation without an answer has made.
    async fn created_after_all(&self, new: &NewVolume, error: CatalogError) -> Result<VolumeRow> {
        let found = self.catalog.volume_named(&new.name).await;
        let ours = |row: &VolumeRow| row.created_ms == new.created_ms && row.size == new.size;
        match found {
            Ok(found) if ours(&found.row) => Ok(found.row),
            _ => Err(catalog_error(error)),
        }
    }

    pub(super) async fn list_volumes(&self, query: &ListQuery) -> Result<Answer> {
        if let Some(problem) = query.problem() {
            return Err(OperationError::bad_request(problem));
        }
        Ok(Answer::Volumes(self.volume_answers(query).await?))
    }

    pub(super) async fn volume_answers(&self, query: &ListQuery) -> Result<Vec<VolumeAnswer>> {
        let inside = self.places_of(query).await?;
        let state = query.state.as_deref();
        let fits = |row: &VolumeRow| {
            inside(row.container)
                && state.is_none_or(|state| state == state_of(row).0)
                && query.is_of_kubernetes(&row.labels)
                && query.wants(&row.name, &row.labels)
        };
        let key = |id| VolumeRow::key_of(VolumeId(id));
        let rows = self.page_of(query, key, fits).await?;
        let names = self.names_for(&rows).await?;
        let answer = |found: &Versioned<VolumeRow>| VolumeAnswer {
            version: Some(self.catalog.version_of(found)),
            ..self.describe(&found.row, &names)
        };
        let mut answers: Vec<VolumeAnswer> = rows.iter().map(answer).collect();
        self.add_quarantines(&mut answers).await;
        if !query.is_paged() && query.sort.is_none() {
            answers.sort_by(|one, other| one.name.cmp(&other.name));
        }
        Ok(answers)
    }

    /// Changes labels, description and limits, as the owner, which enforces the limits.
    pub(super) async fn set_volume(
        &self,
        volume: &Volume,
        change: &VolumeChange,
    ) -> Result<Answer> {
        let set = |row: &mut VolumeRow| {
            let before = (row.labels.clone(), row.description.clone(), row.limits);
            apply_change(row, change);
            before != (row.labels.clone(), row.description.clone(), row.limits)
        };
        let row = self.catalog.describe_volume(volume.id(), set).await;
        volume.set_limits(row.map_err(catalog_error)?.limits);
        self.volume_answer(volume.id()).await
    }

    /// Asks the owner, if another node is, for it knows more than the catalog.
    pub(super) async fn show_volume(self: &Rc<Self>, name: &str) -> Result<Answer> {
        let (answer, lineage) = self.find_volume(name).await?;
        let Answer::Volume(mut volume) = answer else {
            return Ok(answer);
        };
        let usages = self.usages(lineage).await;
        volume.usage = usages.volume(volume.id);
        volume.placement = usages.stores;
        self.add_quarantine(&mut volume).await;
        Ok(Answer::Volume(volume))
    }

    async fn find_volume(self: &Rc<Self>, name: &str) -> Result<(Answer, LineageId)> {
        let row = self
            .catalog
            .volume_named(name)
            .await
            .map_err(catalog_error)?
            .row;
        if let Some(owner) = row.owner.filter(|&owner| owner != self.id)
            && self.members.serves(owner)
        {
            let show = Operation::VolumeShow {
                name: name.to_owned(),
            };
            let mut unclear = false;
            let asked = self.forward(owner, &show, &mut unclear);
            if let Ok(Ok(answer)) = self.world.timeout(SHOW_PATIENCE, asked).await {
                return Ok((answer, row.lineage));
            }
        }
        Ok((self.volume_answer(row.id).await?, row.lineage))
    }

    /// As the node asked by another one: never asks further.
    pub(super) async fn show_volume_here(&self, name: &str) -> Result<Answer> {
        let found = self.catalog.volume_named(name).await;
        self.answer_of(&found.map_err(catalog_error)?, None).await
    }

    /// What the catalog says of a volume or snapshot: asks no other node, and the catalog for no more than the row. For the audit log,
    /// before each change.
    pub(super) async fn glance(&self, volume: &str, snapshot: Option<String>) -> Result<Answer> {
        match snapshot {
            None => {
                let found = self.catalog.volume_named(volume).await;
                let found = found.map_err(catalog_error)?;
                let container = &found.row.container;
                let known = self
                    .members
                    .look(|view| view.containers.get(container).cloned());
                self.answer_of(&found, known).await
            }
            Some(name) => self.find_snapshot(volume, &name).await,
        }
    }

    /// Grows a volume. Who asked for it has a task of it; what is repeated has not.
    pub(super) async fn resize_volume(
        self: &Rc<Self>,
        volume: &Volume,
        size: u64,
    ) -> Result<Answer> {
        let row = self.catalog.volume(volume.id()).await;
        let row = row.map_err(catalog_error)?.row;
        if size > row.size.0 {
            let container = self.catalog.container(row.container).await;
            self.check_space(&container.map_err(catalog_error)?.row)?;
        }
        if size <= row.size.0 || !self.is_asked_for() {
            volume.grow(ByteCount(size)).await.map_err(volume_error)?;
            return self.volume_answer(volume.id()).await;
        }
        let entity = format!("volume/{}", row.name);
        let task = TaskRow {
            message: format!("it grows from {} to {size} bytes", row.size.0),
            ..new_task(kind::VOLUME_RESIZE, entity, volume_subject(row.id))
        };
        // Here, not beside it: the change may be on top of a version.
        let carried = self.carry(task).await;
        let grown = volume.grow(ByteCount(size)).await.map_err(volume_error);
        let done = format!("it has {size} bytes");
        carried.end_now(&grown, &done).await;
        grown?;
        self.answer_with_task(volume.id(), carried.id()).await
    }

    /// Drains a volume: for who asked for it as a task.
    pub(super) async fn drain_volume(self: &Rc<Self>, volume: &Rc<Volume>) -> Result<Answer> {
        if !self.is_asked_for() {
            volume.drain().await.map_err(volume_error)?;
            return self.volume_answer(volume.id()).await;
        }
        let (host, volume) = (self.clone(), volume.clone());
        let drained = self.to_the_end(async move { host.drain_as_task(&volume).await });
        drained.await.unwrap_or_else(|| Err(stopping()))
    }

    async fn drain_as_task(self: &Rc<Self>, volume: &Volume) -> Result<Answer> {
        let (begin, end) = (volume.root().position.0, volume.status().log.committed.0);
        let total = end.saturating_sub(begin);
        let entity = format!("volume/{}", volume.name());
        let task = TaskRow {
            total,
            unit: "records".to_owned(),
            message: "its log is written out into extents".to_owned(),
            ..new_task(kind::VOLUME_DRAIN, entity, volume_subject(volume.id()))
        };
        let carried = self.carry(task).await;
        let mut drain = std::pin::pin!(volume.drain());
        let drained = loop {
            match self.world.timeout(TELL_INTERVAL, drain.as_mut()).await {
                Ok(drained) => break drained.map_err(volume_error),
                Err(_) => {
                    let done = volume.root().position.0.saturating_sub(begin);
                    carried.is_at(done.min(total), total);
                }
            }
        };
        let done = "what its log held is in extents";
        carried.end_now(&drained, done).await;
        drained?;
        self.answer_with_task(volume.id(), carried.id()).await
    }

    async fn answer_with_task(&self, id: VolumeId, task: Option<u64>) -> Result<Answer> {
        match self.volume_answer(id).await? {
            Answer::Volume(answer) => Ok(Answer::Volume(VolumeAnswer { task, ..answer })),
            other => Ok(other),
        }
    }

    pub(super) async fn attach(
        &self,
        volume: &Volume,
        client: &str,
        mode: AttachmentMode,
    ) -> Result<Answer> {
        if client.is_empty() || client.len() > 253 {
            return Err(OperationError::bad_request(
                "a client's name has 1 to 253 bytes",
            ));
        }
        let change = |present: &Attachment| {
            let planned = present.plan_attach(client, mode);
            planned.map_err(|held| CatalogError::InUse {
                volume: volume.name().to_owned(),
                clients: held.clients,
            })
        };
        self.change_attachment(volume, change).await
    }

    pub(super) async fn detach(&self, volume: &Volume, client: Option<&str>) -> Result<Answer> {
        let change = |present: &Attachment| Ok(present.plan_detach(client));
        self.change_attachment(volume, change).await
    }

    /// Returns only when no session runs that the new attachment does not let in.
    async fn change_attachment(
        &self,
        volume: &Volume,
        change: impl FnMut(&Attachment) -> std::result::Result<Option<Attachment>, CatalogError>,
    ) -> Result<Answer> {
        let row = self
            .catalog
            .set_attachment(volume.id(), volume.epoch(), change)
            .await;
        if let Err(CatalogError::StaleOwner { .. }) = &row {
            volume.superseded();
            self.drop_lost();
        }
        let row = row.map_err(catalog_error)?;
        let ended = self
            .sessions
            .enforce(row.id, volume.epoch(), &row.name, &row.attachment);
        if bug!(self.options.faults, KeepDetached) {
            return Ok(Answer::Attachment(attachment_answer(&row.attachment)));
        }
        if self.world.timeout(ENFORCE_PATIENCE, ended).await.is_err() {
            return Err(OperationError::unavailable(format!(
                "requests of volume {}'s former client are still running; repeat the operation",
                row.name
            )));
        }
        // Another owner may have let sessions in by the attachment of before; it must decide.
        if volume.lost().is_some() {
            let moved = format!("volume {} moved to another node; try again", row.name);
            return Err(OperationError::unavailable(moved));
        }
        Ok(Answer::Attachment(attachment_answer(&row.attachment)))
    }

    pub(super) async fn restore_volume(
        self: &Rc<Self>,
        volume: &Volume,
        snapshot: &str,
    ) -> Result<Answer> {
        let found = self.catalog.snapshot_named(volume.id(), snapshot).await;
        let found = found.map_err(catalog_error)?.row;
        let closed = self.sessions.close_volume(volume.id());
        let row = self
            .catalog
            .volume(volume.id())
            .await
            .map_err(catalog_error)?
            .row;
        let sessions = self.sessions.count(volume.id());
        if sessions > 0 || !row.attachment.clients.is_empty() {
            return Err(OperationError::new(
                ErrorKind::Refused,
                format!("volume {} is in use; detach it first", row.name),
            ));
        }
        let entity = format!("volume/{}", row.name);
        let task = new_task(kind::VOLUME_RESTORE, entity, volume_subject(row.id));
        let work = async { volume.restore(found.id).await.map_err(volume_error) };
        let done = format!("it has the contents of snapshot {snapshot}");
        self.as_task(task, &done, work).await?;
        drop(closed);
        self.volume_answer(volume.id()).await
    }

    /// Deletes a volume; its owner does it, while there is one that answers.
    pub(super) async fn delete_volume(
        self: &Rc<Self>,
        name: &str,
        version: Option<u64>,
    ) -> Result<Answer> {
        let row = self
            .catalog
            .volume_named(name)
            .await
            .map_err(catalog_error)?
            .row;
        let mut tried = false;
        if let Some(owner) = row.owner.filter(|&owner| owner != self.id)
            && self.members.serves(owner)
        {
            let delete = Operation::VolumeDelete {
                name: name.to_owned(),
            };
            let delete = delete.on_top_of(version);
            match self.forward(owner, &delete, &mut false).await {
                Err(error) if is_unavailable(&error) => tried = true,
                answered => return answered,
            }
        }
        match self.delete_volume_here(name, version).await {
            Err(error) if tried && error.kind == ErrorKind::Changed => {
                Err(perhaps_changed_by_this(&error))
            }
            result => result,
        }
    }

    pub(super) async fn delete_volume_here(
        self: &Rc<Self>,
        name: &str,
        version: Option<u64>,
    ) -> Result<Answer> {
        let Some(version) = version else {
            return self.delete_volume_now(name).await;
        };
        let delete = Operation::VolumeDelete {
            name: name.to_owned(),
        };
        let work = Box::pin(self.delete_volume_now(name));
        self.on_top_of(version, &delete, work).await
    }

    async fn delete_volume_now(self: &Rc<Self>, name: &str) -> Result<Answer> {
        let row = self
            .catalog
            .volume_named(name)
            .await
            .map_err(catalog_error)?
            .row;
        let sessions = self.sessions.count(row.id);
        if sessions > 0 {
            return Err(OperationError::new(
                ErrorKind::Refused,
                format!("volume {name} is in use by {sessions} sessions; end them first"),
            ));
        }
        if row.state != VolumeState::Deleting && self.has_pending_snapshot(&row).await? {
            let drained = self.drain_anywhere(row.id);
            let _ = self.world.timeout(DRAIN_PATIENCE, drained).await;
        }
        let row = self
            .catalog
            .begin_delete(row.id)
            .await
            .map_err(catalog_error)?;
        let entity = format!("volume/{}", row.name);
        let task = self
            .begin_task(TaskRow {
                unit: "bytes".to_owned(),
                lineage: row.lineage.0,
                ..new_task(kind::VOLUME_DELETE, entity, volume_subject(row.id))
            })
            .await;
        self.finish_delete(&row).await?;
        tracing::info!(volume = %row.id, name = row.name, "deleted; its space comes back with the next collections");
        Ok(Answer::Started(StartedAnswer { task }))
    }

    async fn has_pending_snapshot(&self, row: &VolumeRow) -> Result<bool> {
        let lineage = self
            .catalog
            .lineage(row.lineage)
            .await
            .map_err(catalog_error)?
            .row;
        for id in lineage.snapshots {
            if let Ok(found) = self.catalog.snapshot(id).await
                && found.row.volume == row.id
                && matches!(found.row.state, SnapshotState::Pending(_))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Second half of a deletion, by whichever node gets to it. Stores that do not answer now drop the log
    /// when they look for volumes that are gone.
    pub(crate) async fn finish_delete(&self, row: &VolumeRow) -> Result<()> {
        let gone = NodeError::NoVolume {
            name: row.name.clone(),
        };
        self.sessions.end_volume(row.id, &gone);
        self.volumes.abandon(row.id);
        let stores: Vec<_> = self
            .members
            .look(|view| view.stores.keys().copied().collect());
        let (volume, epoch) = (row.id, row.epoch);
        let drops = stores.into_iter().map(|store| {
            let call = StoreRequest::DropLog { volume, epoch }.into();
            let call = self.context().stores.call(store, Lane::Log, call);
            self.world.timeout(DROP_PATIENCE, call)
        });
        join_all(drops).await;
        // First, because nobody comes back for it afterwards.
        let forgotten = self.forget_openings(row.id).await;
        forgotten.map_err(catalog_error)?;
        self.catalog
            .remove_volume(row.id)
            .await
            .map_err(catalog_error)
    }
}
