//! The leader sees to the tasks of the cluster: it finds out how far they are, ends them, begins those that nobody asked for, and
//! forgets old ones.
//!
//! State in memory: the tasks as the catalog had them when their head changed last. Another leader reads them, and goes on.
//!
//! Invariants
//! - While no task is open, a look reads one row of the catalog and writes nothing.
//! - Progress of a task is written at most every [`WRITE_PAUSE`]; a change of its state at once.
//! - Nothing is planned from tasks but that a balance rests which was cancelled.
//!
//! Read next: `tasks/plan.rs`, which decides; `crate::tasks`, as operations begin and end them.

mod plan;

use self::plan::{CloneScene, DeletionScene, NodeScene, Scene, StoreScene, Ties};
use crate::host::Host;
use crate::membership::ClusterView;
use crate::tasks::{kind, number_of};
use catalog::kv::Revision;
use catalog::{
    CatalogError, CertificateRow, SnapshotState, Subject, TASKS_AT_ONCE, TASKS_MAX, TaskRow,
    TaskStatus, Versioned, VolumeRow, VolumeState,
};
use curator::RootOf;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{LineageId, SnapshotId, VolumeId};
use world::{Duration, Time};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Least time between two writes of a task's progress.
const WRITE_PAUSE: Duration = Duration::from_secs(4);
/// How long a balance rests that was cancelled.
const BALANCE_REST: Duration = Duration::from_secs(3600);
/// Volumes are looked at for drains at least so far apart, and by so much more for each of them: reading 10,000 rows takes a moment.
const TIES_PAUSE: Duration = Duration::from_secs(2);
const TIES_PAUSE_EACH: Duration = Duration::from_millis(2);

/// What the collection has found out since this node leads, for the tasks of deletions.
#[derive(Default)]
pub(crate) struct Collecting {
    /// Bytes that lineages gave back.
    freed: BTreeMap<LineageId, u64>,
    /// The last walks: which version of its row the lineage had when it was listed for it, at least, and the volumes and snapshots
    /// that were in it then. What only others had was deleted.
    walked: BTreeMap<LineageId, (Revision, BTreeSet<RootOf>)>,
    /// Lineages that there are, and how often they were listed.
    listed: BTreeSet<LineageId>,
    lists: u64,
}

impl Collecting {
    /// A round begins, with these lineages.
    pub(super) fn on_list(&mut self, lineages: BTreeSet<LineageId>) {
        self.freed.retain(|id, _| lineages.contains(id));
        self.walked.retain(|id, _| lineages.contains(id));
        self.listed = lineages;
        self.lists += 1;
    }

    /// A lineage was collected that had these volumes and snapshots at this version of its row.
    pub(super) fn on_walk(
        &mut self,
        id: LineageId,
        (version, roots): (Revision, BTreeSet<RootOf>),
        walk: Walk,
    ) {
        *self.freed.entry(id).or_default() += walk.freed;
        if walk.finished {
            self.listed.remove(&id);
            self.lists += 1;
        }
        self.walked.insert(id, (version, roots));
    }

    /// Whether what only `deleted` referred to was deleted, by a walk of the lineage as it was at `version` or later.
    fn is_swept(&self, id: LineageId, deleted: RootOf, version: Revision) -> bool {
        let walked = self.walked.get(&id);
        walked.is_some_and(|(at, roots)| *at >= version && !roots.contains(&deleted))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What a collection of one lineage came to.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    /// Bytes given back, all copies.
    pub(super) freed: u64,
    /// Whether the lineage is gone.
    pub(super) finished: bool,
}

/// What was known of a deletion when it was first looked at here.
struct FirstLook {
    /// Of the lineage's row, which the deletion had changed by then: a walk of before proves nothing.
    version: Revision,
    freed: u64,
    lists: u64,
    expected: u64,
}

/// The tasks as this leader has them.
#[derive(Default)]
struct Desk {
    head: Option<Revision>,
    open: Vec<Versioned<TaskRow>>,
    /// Ids of those that have ended, and when, oldest first.
    ended: Vec<(u64, u64)>,
    deletions: BTreeMap<u64, FirstLook>,
    ties: Option<(Time, usize, Ties)>,
}

/// Sees to tasks for as long as the node runs.
pub(crate) async fn run(host: Rc<Host>) {
    let mut desk = Desk::default();
    loop {
        host.world.sleep(INTERVAL).await;
        if !host.upkeep.leading.get() {
            desk = Desk::default();
            continue;
        }
        if let Err(error) = desk.turn(&host).await {
            tracing::debug!(%error, "tasks are looked at later");
            desk.head = None;
        }
    }
}

impl Desk {
    async fn turn(&mut self, host: &Rc<Host>) -> Result<(), CatalogError> {
        let head = host.catalog.task_head().await?;
        if self.head != Some(head) {
            self.read(host).await?;
            self.head = Some(head);
        }
        let scene = self.scene(host).await?;
        let open: Vec<TaskRow> = self.open.iter().map(|found| found.row.clone()).collect();
        let (seen, begun) = plan::look(&open, &scene);
        self.write(host, &seen, scene.now_ms).await?;
        for task in begun {
            // Whoever asked for it, if anybody did, began it with the operation.
            host.begin_task(task).await;
        }
        self.forget(host, scene.now_ms).await
    }

    /// Reads all tasks anew.
    async fn read(&mut self, host: &Host) -> Result<(), CatalogError> {
        let rows = host.catalog.list::<TaskRow>().await?;
        let (open, ended): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|found| found.row.status.is_open());
        let rests =
            |row: &TaskRow| row.kind == kind::BALANCE && row.status == TaskStatus::Cancelled;
        let cancelled = ended
            .iter()
            .map(|found| &found.row)
            .filter(|row| rests(row));
        let last = cancelled.map(|row| row.ended_ms).max();
        note_rest(host, last);
        self.ended = ended
            .iter()
            .map(|found| (found.row.id, found.row.ended_ms))
            .collect();
        self.ended.sort_by_key(|(_, ended_ms)| *ended_ms);
        self.deletions
            .retain(|id, _| open.iter().any(|found| found.row.id == *id));
        self.open = open;
        Ok(())
    }

    /// Writes what is other than before; progress alone not too often.
    async fn write(
        &mut self,
        host: &Host,
        seen: &[TaskRow],
        now_ms: u64,
    ) -> Result<(), CatalogError> {
        let pause = WRITE_PAUSE.as_millis() as u64;
        let due = |known: &TaskRow, row: &TaskRow| {
            let state = known.status != row.status;
            *known != *row && (state || now_ms.saturating_sub(known.updated_ms) >= pause)
        };
        let places = self.open.iter().zip(seen).enumerate();
        let due: Vec<usize> = places
            .filter(|(_, (known, row))| due(&known.row, row))
            .map(|(at, _)| at)
            .collect();
        for some in due.chunks(TASKS_AT_ONCE) {
            let changes: Vec<_> = some.iter().map(|&at| (&self.open[at], &seen[at])).collect();
            let Some(version) = host.catalog.write_tasks(&changes).await? else {
                // One has changed meanwhile: everything is read again, and looked at the next time.
                return self.read(host).await;
            };
            for &at in some {
                let row = seen[at].clone();
                self.open[at] = Versioned { row, version };
            }
        }
        self.set_ended(host);
        Ok(())
    }

    /// Puts aside what has ended.
    fn set_ended(&mut self, host: &Host) {
        for found in self
            .open
            .extract_if(.., |found| !found.row.status.is_open())
        {
            let row = found.row;
            self.deletions.remove(&row.id);
            self.ended.push((row.id, row.ended_ms));
            if row.kind == kind::BALANCE && row.status == TaskStatus::Cancelled {
                note_rest(host, Some(row.ended_ms));
            }
            tracing::info!(
                task = row.id,
                kind = row.kind,
                entity = row.entity,
                subject = row.subject,
                status = row.status.name(),
                request = row.request,
                result = row.message,
                "task ended"
            );
        }
    }

    /// Deletes what ended long ago, and what is too much.
    async fn forget(&mut self, host: &Host, now_ms: u64) -> Result<(), CatalogError> {
        let keep = host.options.tasks_kept.as_millis() as u64;
        let surplus = (self.open.len() + self.ended.len()).saturating_sub(TASKS_MAX);
        let old = |(at, (_, ended_ms)): &(usize, &(u64, u64))| {
            *at < surplus || ended_ms.saturating_add(keep) < now_ms
        };
        let ended = self.ended.iter().enumerate();
        let ids: Vec<u64> = ended
            .filter(old)
            .map(|(_, (id, _))| *id)
            .take(TASKS_AT_ONCE)
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        host.catalog.forget_tasks(&ids).await?;
        self.ended.retain(|(id, _)| !ids.contains(id));
        Ok(())
    }

    fn has(&self, kind: &str) -> bool {
        self.open.iter().any(|found| found.row.kind == kind)
    }

    /// The cluster as the leader sees it now, as far as the tasks need it.
    async fn scene(&mut self, host: &Rc<Host>) -> Result<Scene, CatalogError> {
        let view = host.view();
        let facts = host.store_facts();
        let drains = view.intents.values().any(|intent| intent.draining);
        let now_ms = host.world.clock.unix_ms();
        let mut scene = Scene {
            now_ms,
            leader: host.options.name.clone(),
            runs: view.alive.values().map(|row| row.start).collect(),
            nodes: nodes(&view),
            stores: BTreeMap::new(),
            groups: view.groups.values().cloned().collect(),
            ..Scene::default()
        };
        for fact in &facts {
            let intent = view.intents.get(&Subject::Store(fact.id));
            let store = StoreScene {
                node: fact.node,
                standing: fact.standing,
                draining: intent.is_some_and(|intent| intent.draining),
            };
            scene.stores.insert(fact.id, store);
        }
        scene.resting = host.balance_rests();
        let known = view.nodes.values().map(|node| node.levels.newest).min();
        scene.rising = known > Some(host.level());
        scene.deficit = curator::deficit(&scene.groups, &facts, &host.upkeep.sizes.last());
        if scene.deficit > 0 || self.has(kind::BALANCE) {
            scene.planned = host.plan().iter().map(|change| change.group).collect();
        }
        if drains || self.has(kind::NODE_DRAIN) || self.has(kind::STORE_DRAIN) {
            scene.ties = Some(self.ties(host).await?);
        }
        self.look_at_deletions(host, &mut scene).await?;
        self.look_at_clones(host, &mut scene).await?;
        if self.has(kind::AUTHORITY_ROTATE) {
            scene.behind = behind(host, &view).await?;
        }
        Ok(scene)
    }

    /// What volumes tie to stores and nodes, as of a moment ago.
    async fn ties(&mut self, host: &Host) -> Result<Ties, CatalogError> {
        let now = host.world.now();
        if let Some((at, volumes, ties)) = &self.ties {
            let each = TIES_PAUSE_EACH * u32::try_from(*volumes).unwrap_or(u32::MAX);
            if now.since(*at) < TIES_PAUSE + each {
                return Ok(ties.clone());
            }
        }
        let rows = host.catalog.list::<VolumeRow>().await?;
        let mut ties = Ties::default();
        for found in &rows {
            let replicas = found
                .row
                .segments
                .iter()
                .flat_map(|segment| &segment.replicas);
            ties.logs
                .push(replicas.map(|replica| replica.store).collect());
            if let Some(owner) = found.row.owner {
                *ties.owned.entry(owner).or_default() += 1;
            }
        }
        self.ties = Some((now, rows.len(), ties.clone()));
        Ok(ties)
    }

    async fn look_at_deletions(
        &mut self,
        host: &Host,
        scene: &mut Scene,
    ) -> Result<(), CatalogError> {
        for row in self.open.iter().map(|found| &found.row) {
            let Some(deleted) = deleted_by(row) else {
                continue;
            };
            let lineage = LineageId(row.lineage);
            if let Entry::Vacant(vacant) = self.deletions.entry(row.id) {
                vacant.insert(first_look(host, row, deleted).await?);
            }
            let first = &self.deletions[&row.id];
            let collecting = host.upkeep.collecting.borrow();
            let freed = collecting.freed.get(&lineage).copied().unwrap_or(0);
            let gone = collecting.lists > first.lists && !collecting.listed.contains(&lineage);
            let seen = DeletionScene {
                freed: freed.saturating_sub(first.freed),
                expected: first.expected,
                over: gone || collecting.is_swept(lineage, deleted, first.version),
            };
            scene.deletions.insert(row.id, seen);
        }
        Ok(())
    }

    async fn look_at_clones(&self, host: &Host, scene: &mut Scene) -> Result<(), CatalogError> {
        let open = self.open.iter().map(|found| &found.row);
        for row in open.filter(|row| row.kind == kind::VOLUME_CLONE) {
            let id = VolumeId(number_of(&row.subject).unwrap_or_default());
            scene.clones.insert(id, look_at_clone(host, id).await?);
        }
        Ok(())
    }
}

/// What a task deletes.
fn deleted_by(row: &TaskRow) -> Option<RootOf> {
    let number = number_of(&row.subject).unwrap_or_default();
    match &*row.kind {
        kind::VOLUME_DELETE => Some(RootOf::Volume(VolumeId(number))),
        kind::SNAPSHOT_DELETE => Some(RootOf::Snapshot(SnapshotId(number))),
        _ => None,
    }
}

async fn first_look(
    host: &Host,
    row: &TaskRow,
    deleted: RootOf,
) -> Result<FirstLook, CatalogError> {
    let lineage = LineageId(row.lineage);
    let version = match host.catalog.lineage(lineage).await {
        Ok(found) => found.version,
        // Gone: what there was of it was deleted with it.
        Err(CatalogError::NotFound { .. }) => 0,
        Err(error) => return Err(error),
    };
    let collecting = host.upkeep.collecting.borrow();
    let freed = collecting.freed.get(&lineage).copied().unwrap_or(0);
    let ledger = host.upkeep.ledger.borrow();
    let space = ledger.get(&lineage).map(|(_, space)| &space.roots);
    let root = space.into_iter().flatten().find(|root| root.of == deleted);
    Ok(FirstLook {
        version,
        // What another leader counted stays counted.
        freed: freed.saturating_sub(row.done),
        lists: collecting.lists,
        expected: row.total.max(root.map_or(0, |root| root.frees.0)),
    })
}

async fn look_at_clone(host: &Host, id: VolumeId) -> Result<CloneScene, CatalogError> {
    let row = match host.catalog.volume(id).await {
        Ok(found) => found.row,
        Err(CatalogError::NotFound { .. }) => return Ok(CloneScene::Gone),
        Err(error) => return Err(error),
    };
    let origin = match (&row.state, row.origin) {
        (VolumeState::Pending, Some(origin)) => origin,
        _ => return Ok(CloneScene::Ready),
    };
    let snapshot = host.catalog.snapshot(origin.snapshot).await;
    let drained = host.catalog.volume(origin.volume).await;
    let left = match (snapshot, drained) {
        (Ok(snapshot), Ok(volume)) => match snapshot.row.state {
            SnapshotState::Pending(barrier) => barrier.0.saturating_sub(volume.row.root.position.0),
            SnapshotState::Ready(_) => 0,
        },
        _ => 0,
    };
    Ok(CloneScene::Waits(left))
}

fn nodes(view: &ClusterView) -> BTreeMap<vocab::NodeId, NodeScene> {
    let nodes = view.nodes.values();
    let scene = nodes.map(|row| {
        let node = NodeScene {
            name: row.name.clone(),
            release: row.release.clone(),
            draining: view.node_drains(row.id),
        };
        (row.id, node)
    });
    scene.collect()
}

/// Names of nodes that do not show a certificate of the authority that signs.
async fn behind(host: &Host, view: &ClusterView) -> Result<Option<Vec<String>>, CatalogError> {
    let Some(authority) = host.catalog.authority().await? else {
        return Ok(None);
    };
    let shown = host.catalog.list::<CertificateRow>().await?;
    let current = |id: vocab::NodeId| {
        let mut rows = shown.iter().map(|found| &found.row);
        rows.any(|row| row.id == id && row.issuer == authority.row.signer_name)
    };
    let nodes = view.nodes.values().filter(|row| !current(row.id));
    Ok(Some(nodes.map(|row| row.name.clone()).collect()))
}

/// Until when a balance that was cancelled last, if any was, rests.
fn note_rest(host: &Host, cancelled_ms: Option<u64>) {
    let rest = BALANCE_REST.as_millis() as u64;
    let until = cancelled_ms.map_or(0, |at| at.saturating_add(rest));
    host.upkeep.balance_rests_until_ms.set(until);
}

impl Host {
    /// Whether no group is to move for balance: somebody cancelled that.
    pub(crate) fn balance_rests(&self) -> bool {
        self.world.clock.unix_ms() < self.upkeep.balance_rests_until_ms.get()
    }
}
