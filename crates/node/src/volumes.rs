//! The volumes this node owns: opened on demand, by take-over where needed, dropped when lost.
//!
//! Invariants
//! - One task opens a volume at a time; it is not stopped half-way by a client that goes away.
//! - A volume whose owner holds its lease is never taken over, unless the owner's machine says that its process is gone, or the owner was
//!   removed and is a candidate.
//! - A volume that ends its owners is left alone for longer and longer, or until a person releases it: `volumes/quarantine.rs`.
//! - Few openings work at a time, and whoever asks is told when it is to ask again: `volumes/turns.rs`.

mod hand_over;
mod probe;
mod quarantine;
mod turns;

pub(crate) use hand_over::NotMoved;
pub use quarantine::LastWords;
pub(crate) use quarantine::release_command;
#[cfg(feature = "bugs")]
pub use turns::OpeningSeen;
pub(crate) use turns::Turns;

use crate::events::Told;
use crate::health::Fitness;
use crate::host::Host;
use catalog::{CatalogError, ContainerRow, Severity, VolumeRow, VolumeState};
use futures_util::future::{Either, select};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::rc::Rc;
use vocab::{ContainerId, Epoch, NodeId, VolumeId};
use volume::{Volume, VolumeError};
use wire::NodeError;
use world::blame::blamed;
use world::sync::{Lock, promise};
use world::{Duration, Time};

/// Pause after a failed opening; doubled up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long a volume is left to a node that reaches more of its log.
const LEFT_FOR: Duration = Duration::from_secs(10);
/// How long the drain of a clone's origin is waited for.
const ORIGIN_PATIENCE: Duration = Duration::from_secs(2);

/// Why a volume is not served here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another node serves it.
    Elsewhere(NodeId),
    /// It does not exist (any more).
    NoVolume(String),
    /// Not now.
    Busy(String),
    /// Not until a person has looked.
    Failed(String),
}

impl From<Refusal> for NodeError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Elsewhere(_) => NodeError::NotOwner,
            Refusal::NoVolume(name) => NodeError::NoVolume { name },
            Refusal::Busy(reason) => NodeError::Busy { reason },
            Refusal::Failed(reason) => NodeError::Failed { reason },
        }
    }
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::NotFound { name, .. } => Refusal::NoVolume(name),
            CatalogError::Damaged { .. } => Refusal::Failed(error.to_string()),
            other => Refusal::Busy(other.to_string()),
        }
    }
}

/// A volume served here.
struct Owned {
    volume: Rc<Volume>,
    container: ContainerId,
    since: Time,
}

/// When the next opening may be tried.
struct Failure {
    pause: Duration,
    until: Time,
    refusal: Refusal,
}

/// Volumes owned, being opened, or not opened for now.
#[derive(Default)]
pub(crate) struct Volumes {
    owned: RefCell<BTreeMap<VolumeId, Owned>>,
    locks: RefCell<BTreeMap<VolumeId, Lock>>,
    failures: RefCell<BTreeMap<VolumeId, Failure>>,
    /// What machines said of the processes of owners.
    probes: probe::Probes,
    /// Volumes with an attempt of this process that the catalog has, or may have.
    opening: RefCell<BTreeSet<VolumeId>>,
    /// Volumes whose attempt of this process has come to an end, and the catalog does not know yet.
    ended: RefCell<BTreeSet<VolumeId>>,
    /// Whether the catalog is being told of those.
    takes_back: Cell<bool>,
    /// What ended the process that ran here before, until the catalog knows it.
    last_words: RefCell<Option<LastWords>>,
}

impl Volumes {
    /// None yet, and what ended the process before this one.
    pub(crate) fn after(last_words: Option<LastWords>) -> Self {
        Self {
            last_words: RefCell::new(last_words),
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owned.borrow().is_empty()
    }

    /// The volume, if it is served here.
    pub(crate) fn get(&self, id: VolumeId) -> Option<Rc<Volume>> {
        let owned = self.owned.borrow();
        let owned = owned.get(&id)?;
        owned.volume.lost().is_none().then(|| owned.volume.clone())
    }

    /// Since when the volume is served here.
    pub(crate) fn since(&self, id: VolumeId) -> Option<Time> {
        let owned = self.owned.borrow();
        owned.get(&id).map(|owned| owned.since)
    }

    /// The volume of this name, if it is served here.
    pub(crate) fn named(&self, name: &str) -> Option<Rc<Volume>> {
        let owned = self.owned.borrow();
        let mut volumes = owned.values().map(|owned| &owned.volume);
        volumes
            .find(|volume| volume.name() == name && volume.lost().is_none())
            .cloned()
    }

    /// Volumes served here.
    pub(crate) fn all(&self) -> Vec<Rc<Volume>> {
        let owned = self.owned.borrow();
        owned.values().map(|owned| owned.volume.clone()).collect()
    }

    /// Volumes served here, each with its container.
    pub(crate) fn served(&self) -> Vec<(Rc<Volume>, ContainerId)> {
        let owned = self.owned.borrow();
        let served = owned.values().filter(|owned| owned.volume.lost().is_none());
        served
            .map(|owned| (owned.volume.clone(), owned.container))
            .collect()
    }

    /// Volumes owned, lost ones included.
    pub(crate) fn count(&self) -> usize {
        self.owned.borrow().len()
    }

    /// Lets go of a volume; the next opening finds everything in the log.
    pub(crate) fn abandon(&self, id: VolumeId) {
        if let Some(owned) = self.owned.borrow_mut().remove(&id) {
            owned.volume.abandon();
        }
        self.locks.borrow_mut().remove(&id);
        self.failures.borrow_mut().remove(&id);
    }

    /// Removes volumes that were lost to newer owners and returns them.
    pub(crate) fn take_lost(&self) -> Vec<Rc<Volume>> {
        let mut owned = self.owned.borrow_mut();
        let lost = |owned: &Owned| owned.volume.lost().is_some();
        let ids: Vec<VolumeId> = owned
            .iter()
            .filter(|(_, owned)| lost(owned))
            .map(|(&id, _)| id)
            .collect();
        let removed = ids.iter().filter_map(|id| owned.remove(id));
        removed.map(|owned| owned.volume).collect()
    }

    /// Hands changed policies to the volumes.
    pub(crate) fn set_policies(&self, containers: &BTreeMap<ContainerId, ContainerRow>) {
        for owned in self.owned.borrow().values() {
            if let Some(row) = containers.get(&owned.container) {
                owned.volume.set_policy(volume::policy_of(row));
            }
        }
    }

    fn lock_of(&self, id: VolumeId) -> Lock {
        self.locks.borrow_mut().entry(id).or_default().clone()
    }

    fn waiting(&self, id: VolumeId, now: Time) -> Option<Refusal> {
        let failures = self.failures.borrow();
        let failure = failures.get(&id)?;
        (failure.until > now).then(|| failure.refusal.clone())
    }

    /// What kept a volume from being opened may be gone: whoever asks for it next tries.
    fn forget_busy(&self, id: VolumeId) {
        let mut failures = self.failures.borrow_mut();
        let refusal = failures.get(&id).map(|failure| &failure.refusal);
        if matches!(refusal, Some(Refusal::Busy(_))) {
            failures.remove(&id);
        }
    }

    fn note_failure(&self, id: VolumeId, now: Time, refusal: &Refusal) {
        let mut failures = self.failures.borrow_mut();
        let before = failures.get(&id).map(|failure| failure.pause * 2);
        let pause = before.unwrap_or(BACKOFF).min(BACKOFF_MAX);
        let failure = Failure {
            pause,
            until: now + pause,
            refusal: refusal.clone(),
        };
        failures.insert(id, failure);
    }
}

impl Host {
    /// The volume, served here: opened and taken over if nobody alive serves it. Whoever asks waits a moment for its turn, and is
    /// told to ask again then; the volume is opened meanwhile.
    pub(crate) async fn acquire(self: &Rc<Self>, id: VolumeId) -> Result<Rc<Volume>, Refusal> {
        if let Some(volume) = self.volumes.get(id) {
            return Ok(volume);
        }
        if let Some(reason) = self.turns.is_overdue(id) {
            return Err(Refusal::Busy(reason));
        }
        let opened = pin!(self.acquire_in_turn(id));
        match select(opened, pin!(self.turns.overdue(id))).await {
            Either::Left((opened, _)) => opened,
            Either::Right((reason, _)) => Err(Refusal::Busy(reason)),
        }
    }

    /// As [`Self::acquire`], however long others are before it.
    pub(crate) async fn acquire_in_turn(
        self: &Rc<Self>,
        id: VolumeId,
    ) -> Result<Rc<Volume>, Refusal> {
        if let Some(volume) = self.volumes.get(id) {
            return Ok(volume);
        }
        let (promise, outcome) = promise();
        let host = self.clone();
        self.spawn(async move { promise.fulfil(host.acquire_alone(id).await) });
        let stops = || Err(Refusal::Busy("the node stops".to_owned()));
        outcome.await.unwrap_or_else(stops)
    }

    async fn acquire_alone(self: &Rc<Self>, id: VolumeId) -> Result<Rc<Volume>, Refusal> {
        let lock = self.volumes.lock_of(id);
        let held = lock.lock().await;
        if let Some(volume) = self.volumes.get(id) {
            return Ok(volume);
        }
        if self.is_stopping() {
            return Err(Refusal::Busy("the node stops".to_owned()));
        }
        if let Some(reason) = self.lease.why_out() {
            return Err(Refusal::Busy(reason));
        }
        let waiting = self.volumes.waiting(id, self.world.now());
        if let Some(refusal) = waiting
            && self.still_holds(id, &refusal).await
        {
            return Err(refusal);
        }
        let opened = self.take_over(id).await;
        match &opened {
            Ok(_) => drop(self.volumes.failures.borrow_mut().remove(&id)),
            Err(refusal @ (Refusal::Busy(_) | Refusal::Failed(_))) => {
                self.volumes.note_failure(id, self.world.now(), refusal);
            }
            Err(Refusal::Elsewhere(_) | Refusal::NoVolume(_)) => {}
        }
        drop(held);
        opened
    }

    /// Whether what was said of a volume lately is true still. A node that it was left to may be gone by now, or may have given it to a
    /// third one, as its row says: without the catalog nobody could open it anyway.
    async fn still_holds(&self, id: VolumeId, refusal: &Refusal) -> bool {
        let Refusal::Elsewhere(node) = refusal else {
            return true;
        };
        let gone = self.members.gone_for(*node);
        if gone.is_some_and(|gone| gone >= self.options.suspicion) {
            return false;
        }
        match self.catalog.volume(id).await {
            Ok(found) => found.row.owner.is_none_or(|owner| owner == *node),
            Err(_) => true,
        }
    }

    /// Whether this node may serve the volume as its row stands.
    fn may_serve(&self, row: &VolumeRow) -> Result<(), Refusal> {
        if self.is_candidate() {
            return Err(self.elsewhere(row));
        }
        let owner = match row.owner {
            Some(owner) if owner != self.id => owner,
            Some(_) | None => return Ok(()),
        };
        // It was removed and is back: what it served before it may not serve again.
        if self.members.look(|view| view.is_candidate(owner)) {
            return Ok(());
        }
        let Some(gone) = self.members.gone_for(owner) else {
            return Err(Refusal::Elsewhere(owner));
        };
        if gone < self.options.suspicion {
            let name = self.members.node_name(owner);
            return Err(Refusal::Busy(format!(
                "node {name}, which serves volume {}, stopped answering {} ms ago; its volumes are taken over \
                 in a moment",
                row.name,
                gone.as_millis()
            )));
        }
        Ok(())
    }

    /// Who serves a volume in place of this node, which is a candidate: its owner, or any node that takes part.
    fn elsewhere(&self, row: &VolumeRow) -> Refusal {
        let other = self.members.look(|view| {
            let alive = |node: &NodeId| view.alive.contains_key(node) && view.takes_volumes(*node);
            row.owner
                .filter(alive)
                .or_else(|| view.alive.keys().copied().find(alive))
        });
        match other {
            Some(node) => Refusal::Elsewhere(node),
            None => Refusal::Busy(
                "this node waits to be approved (`azekura node approve`), and no other one runs"
                    .to_owned(),
            ),
        }
    }

    /// As [`Self::may_serve`], but an owner whose process is gone is not waited for, whatever its lease says: its machine
    /// refuses connections. Should that be wrong, the fence of the takeover ends the owner like any other.
    async fn may_serve_now(&self, row: &VolumeRow) -> Result<(), Refusal> {
        let refusal = match self.may_serve(row) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        match row.owner {
            Some(owner) if self.is_process_gone(owner).await => {
                let name = self.members.node_name(owner);
                tracing::info!(volume = %row.name, owner = name, "the owner's process is gone");
                Ok(())
            }
            _ => Err(refusal),
        }
    }

    async fn take_over(self: &Rc<Self>, id: VolumeId) -> Result<Rc<Volume>, Refusal> {
        let row = self.catalog.volume(id).await?.row;
        match &row.state {
            VolumeState::Deleting => return Err(Refusal::NoVolume(row.name)),
            VolumeState::Pending => return Err(self.hasten_origin(&row).await),
            VolumeState::Incomplete(reason) => {
                return Err(Refusal::Failed(catalog::incomplete(&row.name, reason)));
            }
            VolumeState::Ready | VolumeState::Stopped(_) => {}
        }
        self.may_serve_now(&row).await?;
        if let Some(other) = self.successor(id) {
            if row.owner == Some(self.id) {
                // Left from an earlier start of this node, whose process is gone: the successor must not wait for its reads.
                // Those of any other owner it must wait for.
                let released = self.catalog.update_as_owner(id, row.epoch, |row| {
                    row.owner = None;
                    true
                });
                released.await?;
            }
            return Err(Refusal::Elsewhere(other));
        }
        self.reach_log(&row).await?;
        let opened = self.open(&row).await?;
        match opened {
            Ok(volume) => {
                self.keep(&row, volume.clone());
                self.tell_of_takeover(&row);
                Ok(volume)
            }
            Err(VolumeError::Catalog(CatalogError::StaleOwner {
                current: Epoch(epoch),
            })) => {
                let name = &row.name;
                Err(Refusal::Busy(format!(
                    "another node took volume {name} over first (epoch {epoch})"
                )))
            }
            Err(VolumeError::Catalog(error)) => Err(error.into()),
            Err(error @ VolumeError::DataMissing { .. }) => {
                tracing::error!(volume = %row.name, %error, "the volume is stopped");
                let entity = format!("volume/{}", row.name);
                let told = Told::new(
                    Severity::Critical,
                    "volume-stopped",
                    entity,
                    error.to_string(),
                );
                self.tell(told.remedy("bring the stores back that the message names"));
                Err(Refusal::Failed(error.to_string()))
            }
            Err(error @ VolumeError::OutOfReach { store, .. }) => {
                tracing::warn!(volume = %row.name, %error, "left to a node that reaches it");
                Err(self.leave_to(&row, store).await)
            }
            Err(error) => {
                tracing::warn!(volume = %row.name, %error, "not opened");
                Err(Refusal::Busy(format!("volume {}: {error}", row.name)))
            }
        }
    }

    /// Opens a volume in its turn; the catalog knows of the attempt until it has come to an end.
    async fn open(
        self: &Rc<Self>,
        row: &VolumeRow,
    ) -> Result<Result<Rc<Volume>, VolumeError>, Refusal> {
        let turn = self.begin_attempt(row).await?;
        tracing::info!(volume = %row.name, epoch = row.epoch.0 + 1, "opening");
        let opening = volume::open(self.context(), row.id, row.epoch, self.id, &turn);
        let opened = blamed(row.id.0, opening).await;
        self.end_attempt(row, &opened).await;
        // Not before nothing is left of the attempt: it must not be taken for company of the next suspect.
        drop(turn);
        Ok(opened)
    }

    /// Leaves a volume that was taken over here to the node of a store that cannot be reached from here, for long enough
    /// that this one does not get in its way.
    async fn leave_to(&self, row: &VolumeRow, store: vocab::StoreId) -> Refusal {
        let released = self
            .catalog
            .update_as_owner(row.id, row.epoch.next(), |row| {
                row.owner = None;
                true
            });
        if let Err(error) = released.await {
            return error.into();
        }
        let node = self
            .members
            .look(|view| view.stores.get(&store).map(|row| row.node));
        let Some(node) = node else {
            return Refusal::Busy(format!(
                "volume {}: {store} is not known any more",
                row.name
            ));
        };
        let refusal = Refusal::Elsewhere(node);
        let failure = Failure {
            pause: BACKOFF,
            until: self.world.now() + LEFT_FOR,
            refusal: refusal.clone(),
        };
        self.volumes.failures.borrow_mut().insert(row.id, failure);
        refusal
    }

    /// Of one that another node served, and did not give up.
    fn tell_of_takeover(&self, row: &VolumeRow) {
        if let Some(owner) = row.owner.filter(|&owner| owner != self.id) {
            let (volume, from, to) = (&row.name, self.members.node_name(owner), &self.options.name);
            let entity = format!("volume/{volume}");
            let message = format!("node {to} has taken volume {volume} over from {from}");
            self.tell(Told::new(Severity::Warning, "takeover", entity, message));
        }
    }

    fn keep(&self, row: &VolumeRow, volume: Rc<Volume>) {
        let container = row.container;
        let owned = Owned {
            volume,
            container,
            since: self.world.now(),
        };
        self.volumes.owned.borrow_mut().insert(row.id, owned);
        self.members
            .look(|view| self.volumes.set_policies(&view.containers));
        // The health watch goes to its busy pace.
        self.members.changed.notify_all();
    }

    /// Does not raise the epoch, which ends the present owner, while no replica of the log can be reached
    /// from here.
    async fn reach_log(&self, row: &VolumeRow) -> Result<(), Refusal> {
        let Some(last) = row.segments.last() else {
            return Ok(());
        };
        let stores: Vec<_> = last.replicas.iter().map(|replica| replica.store).collect();
        self.health.ask(stores.clone()).await;
        let answers = |store: &&vocab::StoreId| self.health.fitness(**store) != Fitness::Unfit;
        if stores.iter().any(|store| answers(&store)) {
            return Ok(());
        }
        let names: Vec<String> = stores.iter().map(ToString::to_string).collect();
        Err(Refusal::Busy(format!(
            "none of the stores that hold the log of volume {} answers: {}; bring one of them back",
            row.name,
            names.join(", ")
        )))
    }

    /// A clone waits until its origin is drained up to the snapshot: has that done now.
    async fn hasten_origin(self: &Rc<Self>, row: &VolumeRow) -> Refusal {
        let waits = Refusal::Busy(format!(
            "volume {} waits until the snapshot it starts from has left its volume's log",
            row.name
        ));
        let Some(origin) = row.origin else {
            return waits;
        };
        let drained = Box::pin(self.drain_anywhere(origin.volume));
        let _ = self.world.timeout(ORIGIN_PATIENCE, drained).await;
        waits
    }

    /// Lets go of volumes that newer owners have, and of their sessions.
    pub(crate) fn drop_lost(&self) {
        for volume in self.volumes.take_lost() {
            tracing::info!(volume = %volume.name(), "the volume has moved on to another owner");
            self.sessions.end_volume(volume.id(), &NodeError::NotOwner);
        }
    }
}
