//! Disks of this node: stores that are made, follow each other and go, while the others work on.
//!
//! Invariants
//! - Nothing is written to a disk before everything that could refuse the operation was asked.
//! - What a node will start with is kept (`Bay::remember`, `Bay::forget`) before the catalog hears of it: a crash in between
//!   is made good by the next start, or by repeating the operation.
//! - A store answers nobody before the catalog knows what its groups can expect of it.
//! - A store that is removed is taken out first and judged afterwards: nothing can come to it in between.
//! - A store that has failed is taken out before its successor's disks are opened, which may be the same ones: it answers nothing either way.

use super::members::{Member, store_member};
use super::status::{describe, place};
use super::{Result, catalog_error};
use crate::disks::{Bay, DiskFacts, DiskRequest};
use crate::host::Host;
use crate::membership::{self, ClusterView, Part};
use crate::options::StoreSpec;
use crate::stores::open_store;
use crate::tasks::{kind, new_task, store_subject};
use api::{
    Answer, DiskAnswer, DiskReplacement, DiskSpec, ErrorKind, Operation, OperationError,
    StartedAnswer,
};
use catalog::{CatalogError, GroupRow, Subject, VolumeRow};
use curator::Standing;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::rc::Rc;
use store::{DiskLatencies, DiskLatency, FormatOptions, Store};
use vocab::{NodeId, StoreId};
use world::Duration;

/// Patience with another node that works on its disks: a journal of 64 GiB is written with zeros.
const PATIENCE: Duration = Duration::from_secs(110);
/// Patience with another node that lists its disks.
const LIST_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts to tell the catalog of a store.
const TELL_PAUSE: Duration = Duration::from_millis(500);
/// How long an operation waits until the catalog was told.
const TELL_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at disks that did not work.
const ABSENT_INTERVAL: Duration = Duration::from_secs(30);
/// Stores of one node.
const STORES_MAX: usize = 64;

pub(super) fn refused(reason: impl Into<String>) -> OperationError {
    OperationError::new(ErrorKind::Refused, reason)
}

fn unlike(operation: &Operation) -> OperationError {
    let name = operation.name();
    OperationError::failed(format!(
        "operation {name} is not about disks; this is a bug"
    ))
}

/// Mean microseconds of operations of one kind, of all disks of a store; nothing while there was none. Pure.
fn mean_us(disks: &[DiskLatencies], kind: fn(&DiskLatencies) -> &DiskLatency) -> Option<u64> {
    let done = disks.iter().map(kind);
    let count: u64 = done.clone().flat_map(|one| one.counts).sum();
    let micros: u64 = done.map(|one| one.micros).sum();
    micros.checked_div(count)
}

impl Host {
    /// Carries out what changes the disks of a node, there.
    pub(super) async fn at_disks(self: &Rc<Self>, operation: Operation) -> Result<Answer> {
        let node = self.node_of_disks(&operation).await?;
        if node == self.id {
            return self.disks_here(operation).await;
        }
        let name = self.members.node_name(node);
        if !self.members.is_alive(node) {
            return match operation {
                // Its process is not there: only rows are left to be removed.
                Operation::StoreRemove { .. } => self.disks_here(operation).await,
                _ => Err(OperationError::unavailable(format!(
                    "node {name} does not run: start it first"
                ))),
            };
        }
        let answer = self.ask_node(node, &operation, PATIENCE, &mut false).await;
        let answer = answer.map_err(|reason| {
            OperationError::unavailable(format!(
                "node {name} {reason}; it may still carry it out: `azekura disk list` says"
            ))
        })?;
        if answer.is_ok() {
            let parts = [Part::Stores, Part::Groups, Part::Intents];
            let seen = membership::refresh(self, &parts).await;
            seen.map_err(catalog_error)?;
        }
        answer
    }

    async fn node_of_disks(&self, operation: &Operation) -> Result<NodeId> {
        let parts = [Part::Nodes, Part::Stores, Part::Intents];
        let seen = membership::refresh(self, &parts).await;
        seen.map_err(catalog_error)?;
        let view = self.view();
        match operation {
            Operation::DiskAdd(spec) => {
                let row = view.nodes.values().find(|row| row.name == spec.node);
                let row = row.ok_or_else(|| {
                    OperationError::not_found(format!("there is no node {}", spec.node))
                })?;
                Ok(row.id)
            }
            Operation::StoreRemove { id: store, .. }
            | Operation::StoreScrub { id: store }
            | Operation::DiskReplace { store, .. }
            | Operation::DiskLocate { store, .. } => Ok(store_member(&view, *store)?.node.id),
            other => Err(unlike(other)),
        }
    }

    /// As [`Host::at_disks`], here. Goes on when nobody waits for it any more.
    pub(super) async fn disks_here(self: &Rc<Self>, operation: Operation) -> Result<Answer> {
        if operation == Operation::DiskList {
            return Ok(Answer::Disks(self.own_disks().await));
        }
        // Beside what changes them: one looks for a disk in order to change it.
        if let Operation::DiskLocate { store, light } = operation {
            return self.locate_disks(StoreId(store), &light).await;
        }
        if let Operation::StoreScrub { id } = operation {
            let task = self.begin_scrub(StoreId(id)).await.map_err(refused)?;
            return Ok(Answer::Started(StartedAnswer { task }));
        }
        let host = self.clone();
        let (promise, outcome) = world::sync::promise();
        let work = self.still_on_behalf(async move {
            let _held = host.stores.changing.lock().await;
            promise.fulfil(host.change_disks(operation).await);
        });
        self.spawn(work);
        let stopping = || OperationError::unavailable("the node is stopping: ask another one");
        outcome.await.unwrap_or_else(|| Err(stopping()))
    }

    /// Changes disks of this node, as a task.
    async fn change_disks(self: &Rc<Self>, operation: Operation) -> Result<Answer> {
        let store = |id: u32| store_subject(StoreId(id));
        match operation {
            Operation::DiskAdd(spec) => {
                let subject = format!("disks/{}/{}", spec.node, spec.paths.join(","));
                let task = new_task(kind::DISK_ADD, format!("node/{}", spec.node), subject);
                self.as_task(task, "they are a new store", self.add_disks(spec))
                    .await
            }
            Operation::DiskReplace { store: id, with } => {
                let task = new_task(kind::DISK_REPLACE, store(id), store(id));
                let carried = self.carry(task).await;
                let result = self.replace_disks(StoreId(id), with).await;
                carried.hand_over(&result, "its groups are filled on its new disks");
                result
            }
            Operation::StoreRemove { id, lost } => {
                let task = new_task(kind::STORE_REMOVE, store(id), store(id));
                self.as_task(task, "it was removed", self.remove_store(id, lost))
                    .await
            }
            other => Err(unlike(&other)),
        }
    }

    /// Disks of all nodes.
    pub(super) async fn list_disks(self: &Rc<Self>) -> Result<Answer> {
        let view = self.view();
        let others: Vec<NodeId> = view.alive.keys().copied().collect();
        let others = others.into_iter().filter(|&node| node != self.id);
        let asked = others.map(|node| async move {
            let list = Operation::DiskList;
            let answer = self.ask_node(node, &list, LIST_PATIENCE, &mut false).await;
            match answer {
                Ok(Ok(Answer::Disks(disks))) => disks,
                _ => Vec::new(),
            }
        });
        let mut disks: Vec<DiskAnswer> = join_all(asked).await.into_iter().flatten().collect();
        disks.extend(self.own_disks().await);
        let standings = self.standings();
        for row in view.stores.values() {
            if disks.iter().all(|disk| disk.store != row.id.0) {
                disks.push(self.disk_answer(&view, &standings, row.id, &DiskFacts::default()));
            }
        }
        disks.sort_by(|a, b| (&a.node, a.store, &a.path).cmp(&(&b.node, b.store, &b.path)));
        Ok(Answer::Disks(disks))
    }

    /// Disks of this node.
    async fn own_disks(self: &Rc<Self>) -> Vec<DiskAnswer> {
        let view = self.view();
        self.health.ask(view.stores.keys().copied().collect()).await;
        let Some(bay) = &self.options.bay else {
            return Vec::new();
        };
        let facts = bay.list().await;
        let standings = self.standings();
        let describe =
            |facts: &DiskFacts| self.disk_answer(&view, &standings, StoreId(facts.store), facts);
        facts.iter().map(describe).collect()
    }

    fn disk_answer(
        &self,
        view: &ClusterView,
        standings: &BTreeMap<StoreId, Standing>,
        store: StoreId,
        facts: &DiskFacts,
    ) -> DiskAnswer {
        let mut answer = DiskAnswer {
            node: self.options.name.clone(),
            store: store.0,
            path: facts.path.clone(),
            size: facts.size,
            serial: facts.serial.clone(),
            model: facts.model.clone(),
            light: facts.light,
            state: "unreachable".to_owned(),
            reason: self.stores.why_absent(store),
            standing: "away".to_owned(),
            ..DiskAnswer::default()
        };
        let Some(row) = view.stores.get(&store) else {
            answer.reason.get_or_insert_with(|| {
                "the catalog does not know the store yet: it waits for approval, or for the catalog"
                    .to_owned()
            });
            return answer;
        };
        answer.node = self.members.node_name(row.node);
        let standing = standings.get(&store).copied().unwrap_or(Standing::Away);
        let seen = place(describe(row, self.health.seen(store)), view, standing);
        answer.state = match self.stores.why_absent(store) {
            Some(_) => "failed".to_owned(),
            None => seen.state,
        };
        answer.reason = answer.reason.or(seen.reason);
        answer.capacity = seen.capacity;
        answer.used = seen.used;
        answer.standing = seen.standing;
        answer.groups = seen.groups;
        // Of a store of several disks these would be the mean of all, which hides the slow one; `/metrics` has each.
        let took = self.stores.get(store).map(|open| open.disk_latencies());
        if let Some(took) = took.filter(|took| took.len() == 1) {
            answer.read_us = mean_us(&took, |one| &one.reads);
            answer.write_us = mean_us(&took, |one| &one.writes);
            answer.flush_us = mean_us(&took, |one| &one.flushes);
        }
        answer
    }

    pub(super) fn bay(&self) -> Result<Rc<dyn Bay>> {
        let bay = self.options.bay.clone();
        bay.ok_or_else(|| refused("the stores of this node do not change while it runs"))
    }

    /// Makes disks a new store.
    async fn add_disks(self: &Rc<Self>, spec: DiskSpec) -> Result<Answer> {
        let bay = self.bay()?;
        check_paths(&spec.paths)?;
        if spec.node != self.options.name {
            return Err(OperationError::not_found(format!(
                "there is no node {} here",
                spec.node
            )));
        }
        if self.is_candidate() {
            return Err(refused(format!(
                "node {0} waits to be approved: `azekura node approve {0}` first",
                self.options.name
            )));
        }
        if self.stores.ids().len() >= STORES_MAX {
            return Err(refused(format!("a node has at most {STORES_MAX} stores")));
        }
        let request = DiskRequest {
            paths: spec.paths.clone(),
            create: spec.create,
            journal: spec.journal.or(self.options.journal_bytes),
            overrides: spec.overrides,
        };
        let found = bay.open(request, None).await.map_err(refused)?;
        let id = self.unused_store().await?;
        let store = self
            .make_store(id, found.disks.clone(), spec.journal)
            .await?;
        if let Err(reason) = bay.remember(id, spec.paths).await {
            store.close().await;
            for disk in &found.disks {
                // So that the operation can be repeated; a disk that fails here is refused then.
                let _ = store::erase(disk).await;
            }
            return Err(OperationError::failed(reason));
        }
        tracing::info!(store = %id, "a new store");
        self.introduce(store).await?;
        self.disks_of(id).await
    }

    /// An id that no store has, and none of this node's configuration.
    async fn unused_store(&self) -> Result<StoreId> {
        loop {
            let ids = self.free_stores(1).await?;
            let id = StoreId(ids[0]);
            let kept = self.bay()?.paths_of(id);
            if !self.stores.owns(id) && kept.is_empty() {
                return Ok(id);
            }
        }
    }

    /// Formats disks, whatever is on them, and opens the store.
    async fn make_store(
        &self,
        id: StoreId,
        disks: Vec<Rc<dyn world::Disk>>,
        journal: Option<u64>,
    ) -> Result<Store> {
        let format = self.format_of(id, &disks, journal)?;
        for disk in &disks {
            let erased = store::erase(disk).await;
            erased.map_err(|error| OperationError::failed(error.to_string()))?;
        }
        let formatted = store::format(&self.world, &disks, &format).await;
        formatted.map_err(|error| refused(error.to_string()))?;
        self.open_here(id, disks).await
    }

    /// How disks are to be formatted; refused before anything on them is erased.
    fn format_of(
        &self,
        id: StoreId,
        disks: &[Rc<dyn world::Disk>],
        journal: Option<u64>,
    ) -> Result<FormatOptions> {
        let format = FormatOptions {
            cluster: self.options.cluster.clone(),
            store: id,
            journal_bytes: journal.or(self.options.journal_bytes),
        };
        let sizes: Vec<u64> = disks.iter().map(|disk| disk.size()).collect();
        store::check_format(&sizes, &format).map_err(|error| refused(error.to_string()))?;
        Ok(format)
    }

    async fn open_here(&self, id: StoreId, disks: Vec<Rc<dyn world::Disk>>) -> Result<Store> {
        let spec = StoreSpec {
            id: Some(id),
            disks,
        };
        let opened = open_store(&self.world, &self.catalog, &spec, &self.options).await;
        opened.map_err(|fault| OperationError::failed(format!("{id}: {}", fault.reason())))
    }

    /// Tells the catalog of a store, then lets it serve. Goes on until that has succeeded, also when the operation has ended.
    async fn introduce(self: &Rc<Self>, store: Store) -> Result<()> {
        let (host, id) = (self.clone(), store.id());
        let (promise, done) = world::sync::promise();
        self.spawn(async move {
            while let Err(error) = host.tell_of(&store).await {
                tracing::warn!(store = %id, %error, "the catalog is told of the store later");
                host.world.sleep(TELL_PAUSE).await;
            }
            host.put_in(store);
            promise.fulfil(());
        });
        let told = self.world.timeout(TELL_PATIENCE, done).await;
        match told {
            Ok(_) => Ok(()),
            Err(_) => Err(OperationError::unavailable(format!(
                "{id} is ready and takes part as soon as the catalog answers"
            ))),
        }
    }

    async fn tell_of(&self, store: &Store) -> std::result::Result<(), CatalogError> {
        self.announce_store(store).await?;
        membership::refresh(self, &[Part::Stores, Part::Groups]).await
    }

    /// New disks are meant to be used.
    async fn undrain(&self, id: StoreId) -> std::result::Result<(), CatalogError> {
        let wanted = self
            .catalog
            .change_intent(Subject::Store(id), |intent| intent.draining = false);
        wanted.await?;
        membership::refresh(self, &[Part::Intents]).await
    }

    pub(super) async fn disks_of(self: &Rc<Self>, id: StoreId) -> Result<Answer> {
        let mut disks = self.own_disks().await;
        disks.retain(|disk| disk.store == id.0);
        Ok(Answer::Disks(disks))
    }

    /// Puts other disks in the place of a store's.
    async fn replace_disks(self: &Rc<Self>, id: StoreId, with: DiskReplacement) -> Result<Answer> {
        let bay = self.bay()?;
        check_paths(&with.paths)?;
        if !self.stores.owns(id) {
            return Err(OperationError::not_found(format!(
                "{id} is not on node {}",
                self.options.name
            )));
        }
        let member = store_member(&self.view(), id.0)?;
        self.check_replacement(&member, id, with.lost).await?;
        let request = DiskRequest {
            paths: with.paths.clone(),
            create: with.create,
            journal: with.journal.or(self.options.journal_bytes),
            overrides: with.overrides,
        };
        if let Some(reason) = self.stores.get(id).and_then(|store| store.status().failed) {
            self.take_out(id, reason).await;
        }
        let found = bay.open(request, Some(id)).await.map_err(refused)?;
        if !found.kept {
            self.format_of(id, &found.disks, with.journal)?;
        }
        self.take_out_to_replace(&*bay, &member, id).await?;
        let store = match found.kept {
            true => self.open_here(id, found.disks).await,
            false => self.make_store(id, found.disks, with.journal).await,
        };
        let store = match store {
            Ok(store) => store,
            Err(error) => {
                let reason = format!("its disks were not replaced: {error}");
                self.take_out(id, reason).await;
                return Err(error);
            }
        };
        if let Err(reason) = bay.remember(id, with.paths).await {
            store.close().await;
            self.take_out(id, reason.clone()).await;
            return Err(OperationError::failed(reason));
        }
        tracing::info!(store = %id, incarnation = store.incarnation().0, "has other disks");
        self.introduce(store).await?;
        self.undrain(id).await.map_err(catalog_error)?;
        self.disks_of(id).await
    }

    /// Takes a store out whose disks are replaced. One that worked was empty when it was looked at: whether something has come to
    /// it since is known for certain now that it answers nobody.
    async fn take_out_to_replace(
        self: &Rc<Self>,
        bay: &dyn Bay,
        member: &Member,
        id: StoreId,
    ) -> Result<()> {
        let worked = self
            .stores
            .get(id)
            .is_some_and(|store| store.status().failed.is_none());
        let paths = bay.paths_of(id);
        let reason = "its disks are being replaced".to_owned();
        self.take_out(id, reason).await;
        if !worked {
            return Ok(());
        }
        let error = match self.describe_member(member).await {
            Ok(ties) if ties.removable => return Ok(()),
            Ok(_) => refused(format!(
                "store {} holds data again: drain it first (`azekura disk drain {0} --wait`)",
                id.0
            )),
            Err(error) => error,
        };
        self.bring_back(bay, id, paths).await;
        Err(error)
    }

    /// Refuses to replace disks that work and hold something, or that hold the only copy of something.
    async fn check_replacement(&self, member: &Member, id: StoreId, lost: bool) -> Result<()> {
        self.health
            .ask(self.view().stores.keys().copied().collect())
            .await;
        let ties = self.describe_member(member).await?;
        if ties.removable {
            return Ok(());
        }
        let works = |store: Store| store.status().failed.is_none();
        if self.stores.get(id).is_some_and(works) {
            return Err(refused(format!(
                "store {} works and holds data: drain it first (`azekura disk drain {0} --wait`)",
                id.0
            )));
        }
        if lost {
            return Ok(());
        }
        let groups: Vec<GroupRow> = self.view().groups.into_values().collect();
        let answers = |member: StoreId| self.answers(member);
        let alone = groups
            .iter()
            .filter(|group| is_alone(group, id, answers))
            .count();
        let volumes = self.catalog.list::<VolumeRow>().await;
        let volumes = volumes.map_err(catalog_error)?;
        let logs = volumes.iter().map(|found| &found.row);
        let logs: Vec<&str> = logs
            .filter(|row| self.has_lone_log(row, id))
            .map(|row| row.name.as_str())
            .collect();
        if alone == 0 && logs.is_empty() {
            return Ok(());
        }
        Err(refused(format!(
            "store {} may hold the only good copy of data of {alone} placement groups, and of the logs of {} volumes \
             ({}): bring its disks or the other copies back. If there is nothing to bring back, say --lost",
            id.0,
            logs.len(),
            match logs.is_empty() {
                true => "none".to_owned(),
                false => logs[..logs.len().min(5)].join(", "),
            }
        )))
    }

    fn answers(&self, store: StoreId) -> bool {
        self.health.seen(store).is_some() && self.health.silent_for(store).is_none()
    }

    /// Whether a part of a volume's log is on this store and on no other one that answers.
    fn has_lone_log(&self, row: &VolumeRow, id: StoreId) -> bool {
        row.segments.iter().any(|segment| {
            let stores = || segment.replicas.iter().map(|replica| replica.store);
            stores().any(|store| store == id)
                && !stores().any(|store| store != id && self.answers(store))
        })
    }

    /// Forgets a store; one of this process is taken out first.
    async fn remove_store(self: &Rc<Self>, id: u32, lost: bool) -> Result<Answer> {
        let member = store_member(&self.view(), id)?;
        self.check_removal(&member, lost).await?;
        let id = StoreId(id);
        if member.node.id == self.id {
            self.take_out_for_good(&member, id, lost).await?;
        } else if self.members.is_alive(member.node.id) {
            return Err(OperationError::unavailable(format!(
                "node {} runs the store and must remove it itself: try again",
                member.node.name
            )));
        }
        self.forget_member(&member, lost).await
    }

    async fn take_out_for_good(
        self: &Rc<Self>,
        member: &Member,
        id: StoreId,
        lost: bool,
    ) -> Result<()> {
        let Some(bay) = self.options.bay.clone() else {
            // It is in the configuration, which only a person changes.
            if self.stores.get(id).is_none() {
                self.forget_absent(id);
            }
            return Ok(());
        };
        let paths = bay.paths_of(id);
        let ran = self.stores.get(id).is_some();
        let drains = self.members.look(|view| {
            let row = view.stores.get(&id);
            row.is_some_and(|row| view.drains(row))
        });
        if ran && !lost && !drains {
            return Err(refused(format!(
                "store {} takes part: drain it first (`azekura disk drain {0} --wait`)",
                id.0
            )));
        }
        self.take_out(id, "it is being removed".to_owned()).await;
        // Nothing is acknowledged by it any more; what is registered in the catalog now is all there will be.
        let checked = match lost {
            true => Ok(()),
            false => self.check_removal(member, false).await,
        };
        let forgotten = match checked {
            Ok(()) => bay.forget(id).await.map_err(OperationError::failed),
            Err(error) => Err(error),
        };
        let Err(error) = forgotten else {
            self.forget_absent(id);
            return Ok(());
        };
        if ran {
            self.bring_back(&*bay, id, paths).await;
        }
        Err(error)
    }

    /// Opens a store again that was taken out to be removed and may not be.
    async fn bring_back(self: &Rc<Self>, bay: &dyn Bay, id: StoreId, paths: Vec<String>) {
        let request = DiskRequest {
            paths,
            ..DiskRequest::default()
        };
        let opened = match bay.open(request, Some(id)).await {
            Ok(found) if found.kept => self.open_here(id, found.disks).await,
            Ok(_) => Err(refused("its disks are blank")),
            Err(reason) => Err(refused(reason)),
        };
        let introduced = match opened {
            Ok(store) => self.introduce(store).await,
            Err(error) => Err(error),
        };
        if let Err(error) = introduced {
            tracing::error!(store = %id, %error, "a store that was not removed cannot be opened again: restart the node");
            self.take_out(id, error.to_string()).await;
        }
    }
}

/// Whether a store may hold what no other store that answers is known to have of a group. After a rebuild of the catalog no member is known
/// to have everything: then any may have the only copy of something. Pure.
fn is_alone(group: &GroupRow, id: StoreId, answers: impl Fn(StoreId) -> bool) -> bool {
    let is_member = match group.complete().next() {
        Some(_) => group.complete().any(|member| member == id),
        None => group.members.contains(&id),
    };
    let mut others = group.complete().filter(|&member| member != id);
    (is_member || group.former.contains(&id)) && !others.any(answers)
}

/// Disks that did not work come back: they are looked at now and then, and taken as they are.
pub(crate) async fn watch_absent(host: Rc<Host>) {
    let Some(bay) = host.options.bay.clone() else {
        return;
    };
    loop {
        host.world.sleep(ABSENT_INTERVAL).await;
        for id in host.stores.absent_ids() {
            let _held = host.stores.changing.lock().await;
            let request = DiskRequest {
                paths: bay.paths_of(id),
                ..DiskRequest::default()
            };
            // It may have been replaced or removed while the lock was waited for.
            if host.stores.why_absent(id).is_none() || request.paths.is_empty() {
                continue;
            }
            let Ok(found) = bay.open(request, Some(id)).await else {
                continue;
            };
            if !found.kept {
                // Blank: whoever put it there says so (`azekura disk replace`).
                continue;
            }
            match host.open_here(id, found.disks).await {
                Ok(store) => {
                    tracing::info!(store = %id, "its disks work again");
                    if let Err(error) = host.introduce(store).await {
                        tracing::warn!(store = %id, %error, "it does not take part yet");
                    }
                }
                Err(error) => tracing::debug!(store = %id, %error, "its disks still do not work"),
            }
        }
    }
}

fn check_paths(paths: &[String]) -> Result<()> {
    let mut sorted = paths.to_vec();
    sorted.sort();
    sorted.dedup();
    match (1..=64).contains(&paths.len()) && sorted.len() == paths.len() {
        true => Ok(()),
        false => Err(OperationError::bad_request(
            "`paths` names 1 to 64 different disks",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_member_has_everything_each_may_have_the_only_copy() {
        let ids = |ids: &[u32]| ids.iter().map(|&id| StoreId(id)).collect();
        let group = |members: &[u32], filling: &[u32], former: &[u32]| GroupRow {
            id: vocab::GroupId(1),
            generation: vocab::Generation(1),
            replication_factor: 2,
            members: ids(members),
            filling: ids(filling),
            former: ids(former),
            returning: Vec::new(),
            leaving: None,
        };
        let alone = |group: &GroupRow, id: u32| is_alone(group, StoreId(id), |_| true);
        let whole = group(&[1, 2], &[], &[]);
        assert!(!alone(&whole, 1) && is_alone(&whole, StoreId(1), |_| false));
        assert!(!alone(&group(&[1, 2], &[2], &[]), 2), "it is being filled");
        assert!(alone(&group(&[1, 2], &[2], &[]), 1));
        assert!(!alone(&group(&[1, 2], &[], &[3]), 3));
        // As a rebuild of the catalog leaves it.
        let rebuilt = group(&[1, 2], &[1, 2], &[3]);
        assert!(alone(&rebuilt, 1) && alone(&rebuilt, 2) && alone(&rebuilt, 3));
        assert!(!alone(&rebuilt, 4));
    }

    #[test]
    fn the_mean_is_of_all_disks_and_nothing_before_the_first_operation() {
        let disk = |count, micros| {
            let mut reads = DiskLatency {
                micros,
                ..DiskLatency::default()
            };
            reads.counts[1] = count;
            DiskLatencies {
                reads,
                ..DiskLatencies::default()
            }
        };
        let disks = [disk(3, 300), disk(1, 500)];
        assert_eq!(mean_us(&disks, |one| &one.reads), Some(200));
        assert_eq!(mean_us(&disks, |one| &one.writes), None);
    }
}
