//! What becomes of tasks, from the state that the leader plans with: a pure function of the tasks as they are and one look at
//! the cluster.
//!
//! Invariants
//! - Progress is what the look says, never a count of looks: what is left is counted anew every time.
//! - What a look does not say changes nothing.
//! - A task whose node's process is gone, and that nobody goes on with, ends.

use crate::tasks::{kind, new_task, node_subject, number_of, store_subject};
use catalog::{GroupRow, TaskRow, TaskStatus};
use curator::Standing;
use std::collections::{BTreeMap, BTreeSet};
use vocab::{GroupId, NodeId, StoreId, VolumeId};

/// What the cluster is called in tasks.
const CLUSTER: &str = "cluster/0";

/// A node at one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeScene {
    pub(super) name: String,
    /// Version of the release that it ran when it started last.
    pub(super) release: String,
    /// Whether everything shall move away from it.
    pub(super) draining: bool,
}

/// A store at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoreScene {
    pub(super) node: NodeId,
    pub(super) standing: Standing,
    /// Whether everything shall move away from it, whatever becomes of its node.
    pub(super) draining: bool,
}

/// What volumes tie to nodes and stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ties {
    /// Volumes with a part of their log on a store.
    pub(super) logs: Vec<BTreeSet<StoreId>>,
    /// Volumes that a node serves.
    pub(super) owned: BTreeMap<NodeId, u64>,
}

/// A volume that starts from a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloneScene {
    /// It is gone.
    Gone,
    /// It has its root.
    Ready,
    /// So many records of its origin's log are not in the map yet.
    Waits(u64),
}

/// A deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DeletionScene {
    /// Bytes that its lineage gave back since it began, as far as they were counted.
    pub(super) freed: u64,
    /// Bytes that it should give back; 0: it is not known.
    pub(super) expected: u64,
    /// Whether nothing of it is left.
    pub(super) over: bool,
}

/// The cluster at one look.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub(super) now_ms: u64,
    /// Name of the node that looks.
    pub(super) leader: String,
    /// Runs of processes that hold their leases.
    pub(super) runs: BTreeSet<u64>,
    pub(super) nodes: BTreeMap<NodeId, NodeScene>,
    pub(super) stores: BTreeMap<StoreId, StoreScene>,
    pub(super) groups: Vec<GroupRow>,
    /// Nothing: they were not looked at.
    pub(super) ties: Option<Ties>,
    /// Memberships that stores have below their share.
    pub(super) deficit: u64,
    /// Whether somebody cancelled a balance a short while ago.
    pub(super) resting: bool,
    /// Groups that are to change next.
    pub(super) planned: BTreeSet<GroupId>,
    pub(super) clones: BTreeMap<VolumeId, CloneScene>,
    /// By task.
    pub(super) deletions: BTreeMap<u64, DeletionScene>,
    /// Whether all nodes know a higher level than the cluster's, which rises in a moment.
    pub(super) rising: bool,
    /// Nodes whose certificates are not signed by the authority that signs now; nothing: it was not looked at.
    pub(super) behind: Option<Vec<String>>,
}

/// How far something is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Look {
    /// Nothing is known.
    Unknown,
    /// So much is left.
    Left(u64, &'static str, String),
    /// So much of so much is done.
    Done(u64, u64, &'static str, String),
    /// It has ended.
    Ended(TaskStatus, String),
}

use TaskStatus::{Cancelled, Failed, Succeeded};

/// What the tasks that are open look like now, and tasks that nobody has begun although they are worked on.
pub(super) fn look(open: &[TaskRow], scene: &Scene) -> (Vec<TaskRow>, Vec<TaskRow>) {
    let seen = open
        .iter()
        .map(|row| apply(row, look_at(row, open, scene), scene));
    (seen.collect(), missing(open, scene))
}

/// The row of a task as a look found it.
fn apply(row: &TaskRow, look: Look, scene: &Scene) -> TaskRow {
    let mut next = row.clone();
    let (done, total, unit, message) = match look {
        Look::Unknown => return next,
        Look::Ended(status, message) => return next.ended(status, message, scene.now_ms),
        Look::Left(left, unit, message) => {
            let total = row.total.max(left);
            (total - left, total, unit, message)
        }
        Look::Done(done, total, unit, message) => (done.min(total), total, unit, message),
    };
    unit.clone_into(&mut next.unit);
    (next.done, next.total, next.message) = (done, total, message);
    next.status = TaskStatus::Running;
    if next.started_ms == 0 {
        next.started_ms = scene.now_ms;
    }
    next.node.clone_from(&scene.leader);
    if next != *row {
        next.updated_ms = scene.now_ms;
    }
    next
}

fn look_at(row: &TaskRow, open: &[TaskRow], scene: &Scene) -> Look {
    if row.run != 0 {
        return match scene.runs.contains(&row.run) {
            true => Look::Unknown,
            false => Look::Ended(Failed, abandoned(row)),
        };
    }
    let store = || number_of(&row.subject).and_then(|id| u32::try_from(id).ok());
    let store = || store().map(StoreId);
    let node = || number_of(&row.subject).and_then(|id| u32::try_from(id).ok());
    let look = match &*row.kind {
        kind::NODE_DRAIN => node().map(|id| node_drain(row, NodeId(id), scene)),
        kind::STORE_DRAIN => store().map(|id| store_drain(row, id, scene)),
        kind::REPAIR => store().map(|id| repair(id, scene)),
        kind::DISK_REPLACE => store().map(|id| refill(id, scene)),
        kind::BALANCE => Some(balance(row, open, scene)),
        kind::VOLUME_DELETE | kind::SNAPSHOT_DELETE => scene.deletions.get(&row.id).map(deletion),
        kind::GROUP_SNAPSHOT_DELETE => Some(parts(row, open)),
        kind::UPGRADE => Some(upgrade(scene)),
        kind::VOLUME_CLONE => number_of(&row.subject)
            .and_then(|id| scene.clones.get(&VolumeId(id)))
            .map(clone),
        kind::AUTHORITY_ROTATE => scene.behind.as_ref().map(|behind| rotation(behind, scene)),
        other => Some(Look::Ended(
            Failed,
            format!("this release knows no tasks of kind {other}"),
        )),
    };
    look.unwrap_or(Look::Unknown)
}

/// Why a task ends with the process that worked on it.
fn abandoned(row: &TaskRow) -> String {
    let next = match &*row.kind {
        kind::SCRUB => "the next round begins some time after its start",
        _ => "what it had done stays done; repeat the operation",
    };
    format!("the process of node {} ended meanwhile: {next}", row.node)
}

fn members_in(group: &GroupRow, stores: &BTreeSet<StoreId>) -> (u64, u64) {
    let inside = |list: &[StoreId]| list.iter().filter(|id| stores.contains(id)).count() as u64;
    (inside(&group.members), inside(&group.former))
}

/// What is left to leave some stores.
fn leaving(stores: &BTreeSet<StoreId>, owner: Option<NodeId>, scene: &Scene) -> Look {
    let Some(ties) = &scene.ties else {
        return Look::Unknown;
    };
    let (mut member, mut former) = (0, 0);
    for group in &scene.groups {
        let (one, other) = members_in(group, stores);
        (member, former) = (member + one, former + other);
    }
    let logs = ties.logs.iter().filter(|log| !log.is_disjoint(stores));
    let logs = logs.count() as u64;
    let owned = owner.and_then(|node| ties.owned.get(&node).copied());
    let owned = owned.unwrap_or(0);
    let left = member + former + logs + owned;
    if left == 0 {
        return Look::Ended(Succeeded, "it is empty and can be removed".to_owned());
    }
    let mut message =
        format!("still there: {member} groups, {former} being left, logs of {logs} volumes");
    if owner.is_some() {
        message += &format!(", {owned} volumes served");
    }
    Look::Left(left, "parts", message)
}

fn gone() -> Look {
    Look::Ended(Succeeded, "it was removed from the cluster".to_owned())
}

fn undrained(row: &TaskRow) -> Look {
    let message = match row.cancel.is_empty() {
        true => "it takes part again".to_owned(),
        false => format!("{} cancelled it: it takes part again", row.cancel),
    };
    Look::Ended(Cancelled, message)
}

fn node_drain(row: &TaskRow, id: NodeId, scene: &Scene) -> Look {
    match scene.nodes.get(&id) {
        None => gone(),
        Some(node) if !node.draining => undrained(row),
        Some(_) => leaving(&stores_of(id, scene), Some(id), scene),
    }
}

fn stores_of(node: NodeId, scene: &Scene) -> BTreeSet<StoreId> {
    let stores = scene.stores.iter();
    let inside = stores.filter(|(_, store)| store.node == node);
    inside.map(|(id, _)| *id).collect()
}

fn drains(store: &StoreScene, scene: &Scene) -> bool {
    let node = scene.nodes.get(&store.node);
    store.draining || node.is_some_and(|node| node.draining)
}

fn store_drain(row: &TaskRow, id: StoreId, scene: &Scene) -> Look {
    match scene.stores.get(&id) {
        None => gone(),
        Some(store) if !drains(store, scene) => undrained(row),
        Some(_) => leaving(&BTreeSet::from([id]), None, scene),
    }
}

/// Groups that have not as many copies as before a store was lost, or that it is filled in again.
fn unrepaired(id: StoreId, standing: Option<Standing>, groups: &[GroupRow]) -> u64 {
    let lost = standing == Some(Standing::Lost);
    let open = groups.iter().filter(|group| {
        let inside = group.members.contains(&id) && (lost || group.filling.contains(&id));
        inside || group.former.contains(&id) && !group.filling.is_empty()
    });
    open.count() as u64
}

fn repair(id: StoreId, scene: &Scene) -> Look {
    let standing = scene.stores.get(&id).map(|store| store.standing);
    let left = unrepaired(id, standing, &scene.groups);
    match (left, standing) {
        (0, Some(Standing::Present | Standing::Draining | Standing::Away)) => Look::Ended(
            Succeeded,
            format!("store {} answers again, and nothing is missing", id.0),
        ),
        (0, _) => Look::Ended(
            Succeeded,
            "every group has as many copies as before".to_owned(),
        ),
        (left, Some(Standing::Lost) | None) => {
            let message = format!("store {} is lost: {left} groups get other members", id.0);
            Look::Left(left, "groups", message)
        }
        (left, Some(_)) => {
            let message = format!(
                "store {} answers again: {left} groups are being filled",
                id.0
            );
            Look::Left(left, "groups", message)
        }
    }
}

fn refill(id: StoreId, scene: &Scene) -> Look {
    let filling = scene.groups.iter();
    let filling = filling.filter(|group| group.filling.contains(&id));
    match filling.count() as u64 {
        0 => Look::Ended(
            Succeeded,
            "its new disks hold everything that they should".to_owned(),
        ),
        left => Look::Left(
            left,
            "groups",
            format!("{left} groups are being filled on its new disks"),
        ),
    }
}

/// Groups that move although nothing is missing and nothing is to be emptied.
fn moving(open: &[TaskRow], scene: &Scene) -> u64 {
    let refilled = |id: &StoreId| {
        let subject = store_subject(*id);
        let tasks = open.iter();
        let mut of_store = tasks.filter(|row| row.subject == subject);
        of_store.any(|row| matches!(&*row.kind, kind::DISK_REPLACE | kind::REPAIR))
    };
    let settled = |id: &StoreId| {
        let store = scene.stores.get(id);
        store.is_some_and(|store| store.standing == Standing::Present)
    };
    let moves = scene.groups.iter().filter(|group| {
        let whole = group.complete().count() >= usize::from(group.replication_factor);
        let unforced = group.members.iter().all(settled) && group.former.iter().all(settled);
        let fresh = !group.filling.is_empty() && !group.filling.iter().any(refilled);
        let planned = scene.planned.contains(&group.id) && group.filling.is_empty();
        whole && unforced && (fresh || planned)
    });
    moves.count() as u64
}

fn balance(row: &TaskRow, open: &[TaskRow], scene: &Scene) -> Look {
    let moving = moving(open, scene);
    if !row.cancel.is_empty() {
        let message = format!(
            "{} cancelled it: moves that had begun ({moving}) come to their end, and none begins within the hour",
            row.cancel
        );
        return Look::Ended(Cancelled, message);
    }
    if moving == 0 && scene.planned.is_empty() {
        let message = "every store holds its share".to_owned();
        return Look::Ended(Succeeded, message);
    }
    let left = moving + scene.deficit;
    let message = format!(
        "{moving} groups move now; stores lack {} more",
        scene.deficit
    );
    Look::Left(left, "moves", message)
}

fn deletion(seen: &DeletionScene) -> Look {
    if seen.over {
        return Look::Ended(Succeeded, "its space is free again".to_owned());
    }
    let message = "its name is free; its space comes back with the next collections".to_owned();
    Look::Done(seen.freed, seen.expected, "bytes", message)
}

/// The deletion of a group, of which every snapshot is a part that was begun before the leader sees to this.
fn parts(row: &TaskRow, open: &[TaskRow]) -> Look {
    let parts = open.iter().filter(|part| part.parent == Some(row.id));
    match parts.count() as u64 {
        0 => Look::Ended(
            Succeeded,
            "the space of its snapshots is free again".to_owned(),
        ),
        left => {
            let message = format!("the space of {left} snapshots comes back");
            Look::Left(left, "parts", message)
        }
    }
}

/// A version by its numbers; what comes before a release (`-x`) is older than that, and a node that tells of none the oldest.
fn by_age(release: &str) -> (Vec<u64>, bool, &str) {
    let end = release.find(|sign: char| !sign.is_ascii_digit() && sign != '.');
    let (numbers, rest) = release.split_at(end.unwrap_or(release.len()));
    let numbers = numbers.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.collect(), !rest.starts_with('-'), rest)
}

/// Whether all nodes run the newest release that one of them runs.
fn upgrade(scene: &Scene) -> Look {
    let releases = scene.nodes.values().map(|node| node.release.as_str());
    let newest = releases.max_by(|one, other| by_age(one).cmp(&by_age(other)));
    let Some(newest) = newest else {
        return Look::Unknown;
    };
    let behind = scene.nodes.values().filter(|node| node.release != newest);
    let behind: Vec<&str> = behind.map(|node| &*node.name).collect();
    let total = scene.nodes.len() as u64;
    let done = total - behind.len() as u64;
    if behind.is_empty() && !scene.rising {
        return Look::Ended(Succeeded, format!("all nodes run release {newest}"));
    }
    let message = match behind.is_empty() {
        true => format!("all nodes run release {newest}; the cluster's level rises"),
        false => format!(
            "release {newest} does not run yet on: {}",
            behind.join(", ")
        ),
    };
    Look::Done(done, total, "nodes", message)
}

fn clone(seen: &CloneScene) -> Look {
    match seen {
        CloneScene::Gone => Look::Ended(Cancelled, "the volume was deleted meanwhile".to_owned()),
        CloneScene::Ready => Look::Ended(Succeeded, "it has everything of its origin".to_owned()),
        CloneScene::Waits(left) => {
            let message = "it waits until its origin's log is drained up to the snapshot";
            Look::Left(*left, "records", message.to_owned())
        }
    }
}

fn rotation(behind: &[String], scene: &Scene) -> Look {
    let total = scene.nodes.len() as u64;
    if behind.is_empty() {
        let message = "every node shows a certificate of the new authority; `azekura cluster ca retire` ends the old one";
        return Look::Ended(Succeeded, message.to_owned());
    }
    let message = format!("waits for certificates of: {}", behind.join(", "));
    let done = total.saturating_sub(behind.len() as u64);
    Look::Done(done, total, "nodes", message)
}

/// What is worked on and no task tells of.
fn missing(open: &[TaskRow], scene: &Scene) -> Vec<TaskRow> {
    let has = |kind: &str, subject: &str| {
        let mut rows = open.iter();
        rows.any(|row| row.kind == kind && row.subject == subject)
    };
    let id_of = |kind: &str, subject: &str| {
        let mut rows = open.iter();
        let found = rows.find(|row| row.kind == kind && row.subject == subject);
        found.map(|row| row.id)
    };
    // What is found here is told at once: it may be over at the next look.
    let begin = |kind: &str, entity: String, subject: &str, look: Look| match look {
        Look::Left(..) if !has(kind, subject) => {
            let task = new_task(kind, entity, subject.to_owned());
            Some(apply(&task, look, scene))
        }
        _ => None,
    };
    let mut begun = Vec::new();
    for (id, node) in scene.nodes.iter().filter(|(_, node)| node.draining) {
        let left = leaving(&stores_of(*id, scene), Some(*id), scene);
        let entity = format!("node/{}", node.name);
        begun.extend(begin(kind::NODE_DRAIN, entity, &node_subject(*id), left));
    }
    for (id, store) in &scene.stores {
        let subject = store_subject(*id);
        let parent = id_of(kind::NODE_DRAIN, &node_subject(store.node));
        // A part of a node's drain is begun after that.
        if store.draining || parent.is_some() {
            let left = leaving(&BTreeSet::from([*id]), None, scene);
            let task = begin(kind::STORE_DRAIN, subject.clone(), &subject, left);
            begun.extend(task.map(|task| TaskRow { parent, ..task }));
        }
        if store.standing == Standing::Lost {
            let left = repair(*id, scene);
            begun.extend(begin(kind::REPAIR, subject.clone(), &subject, left));
        }
    }
    let upgraded = upgrade(scene);
    // A rise alone is over in a moment.
    if matches!(&upgraded, Look::Done(done, total, ..) if done < total)
        && !has(kind::UPGRADE, CLUSTER)
    {
        let task = new_task(kind::UPGRADE, "cluster", CLUSTER.to_owned());
        begun.push(apply(&task, upgraded, scene));
    }
    if !scene.resting && moving(open, scene) > 0 {
        let left = balance(&TaskRow::default(), open, scene);
        begun.extend(begin(kind::BALANCE, "cluster".to_owned(), CLUSTER, left));
    }
    begun
}

#[cfg(test)]
mod tests;
