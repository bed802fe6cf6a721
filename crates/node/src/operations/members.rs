//! Draining, excusing and removing nodes and stores.

use super::capacity::plan_capacity;
use super::{Result, catalog_error};
use crate::events::Told;
use crate::host::Host;
use crate::membership::{self, ClusterView, Part};
use crate::tasks::{kind, new_task, node_subject, store_subject};
use crate::upkeep::ROOM_PERCENT_MAX;
use api::{Answer, ErrorKind, MemberAnswer, MemberChange, OperationError};
use catalog::{
    AliveRow, CertificateRow, GroupRow, IntentRow, NodeRow, Row, SeatRow, Severity, StoreRow,
    Subject, Transaction, VolumeRow,
};
use std::collections::{BTreeMap, BTreeSet};
use vocab::{NodeId, StoreId};

/// Longest maintenance: a week.
const MAINTENANCE_MINUTES_MAX: u32 = 7 * 24 * 60;

/// A node or a store, and the stores that are meant.
pub(super) struct Member {
    pub(super) subject: Subject,
    pub(super) node: NodeRow,
    stores: Vec<StoreRow>,
}

impl Member {
    fn owns(&self, store: StoreId) -> bool {
        self.stores.iter().any(|row| row.id == store)
    }

    /// As events name it.
    fn entity(&self) -> String {
        match self.subject {
            Subject::Node(_) => format!("node/{}", self.node.name),
            Subject::Store(id) => format!("store/{}", id.0),
        }
    }

    pub(super) fn name(&self) -> String {
        match self.subject {
            Subject::Node(_) => format!("node {}", self.node.name),
            Subject::Store(id) => format!("store {}", id.0),
        }
    }
}

fn refused(reason: String) -> OperationError {
    OperationError::new(ErrorKind::Refused, reason)
}

pub(super) fn node_member(view: &ClusterView, name: &str) -> Result<Member> {
    let found = view.nodes.values().find(|row| row.name == name);
    let node =
        found.ok_or_else(|| OperationError::not_found(format!("there is no node {name}")))?;
    let stores = view.stores.values().filter(|row| row.node == node.id);
    Ok(Member {
        subject: Subject::Node(node.id),
        node: node.clone(),
        stores: stores.cloned().collect(),
    })
}

pub(super) fn store_member(view: &ClusterView, id: u32) -> Result<Member> {
    let missing = || OperationError::not_found(format!("there is no store {id}"));
    let store = view.stores.get(&StoreId(id)).ok_or_else(missing)?;
    let node = view.nodes.get(&store.node).cloned();
    Ok(Member {
        subject: Subject::Store(store.id),
        node: node.ok_or_else(missing)?,
        stores: vec![store.clone()],
    })
}

/// Groups of which `holds` is true.
fn count(view: &ClusterView, holds: impl Fn(&GroupRow) -> bool) -> u32 {
    view.groups.values().filter(|group| holds(group)).count() as u32
}

impl Host {
    pub(super) async fn show_node(&self, name: &str) -> Result<Answer> {
        let member = node_member(&self.view(), name)?;
        self.member_answer(&member).await
    }

    pub(super) async fn show_store(&self, id: u32) -> Result<Answer> {
        let member = store_member(&self.view(), id)?;
        self.member_answer(&member).await
    }

    pub(super) async fn set_node(&self, name: &str, change: &MemberChange) -> Result<Answer> {
        let member = node_member(&self.view(), name)?;
        self.set_member(&member, change).await
    }

    pub(super) async fn set_store(&self, id: u32, change: &MemberChange) -> Result<Answer> {
        let member = store_member(&self.view(), id)?;
        self.set_member(&member, change).await
    }

    pub(super) async fn remove_node(&self, name: &str, lost: bool) -> Result<Answer> {
        let member = node_member(&self.view(), name);
        match member {
            Ok(member) => self.remove_member(&member, lost).await,
            Err(missing) => self.forget_name(name, lost, missing).await,
        }
    }

    /// Forgets that a node without a row is a candidate, and its name: it was removed, or has never started. Started again it is one
    /// that nobody has seen; so a removal that is only repeated does not do it.
    async fn forget_name(&self, name: &str, lost: bool, missing: OperationError) -> Result<Answer> {
        let key = format!("node-name/{name}");
        let id = self.catalog.resolve(&key).await.map_err(catalog_error)?;
        let Some(id) = id.and_then(|id| u32::try_from(id).ok()).map(NodeId) else {
            return Err(missing);
        };
        let intent = IntentRow::key_of(Subject::Node(id));
        let intent = self.catalog.read::<IntentRow>(&intent).await;
        let intent = intent.map_err(catalog_error)?;
        let Some(intent) = intent.filter(|found| found.row.candidate) else {
            return Err(missing);
        };
        if !lost {
            return Err(refused(format!(
                "node {name} has no part in the cluster, and waits to be approved should it start: to forget its name, too, say that it is \
                 lost for good (--lost); its certificate then lets it take part at once"
            )));
        }
        let gone = Transaction::new()
            .absent(AliveRow::key_of(id))
            .absent(NodeRow::key_of(id))
            .remove(&intent)
            .free_name(CertificateRow::key_of(id))
            .free_name(SeatRow::key_of(id))
            .free_name(key);
        let done = self.catalog.commit(gone).await.map_err(catalog_error)?;
        if done.is_none() {
            return Err(refused(format!(
                "node {name} runs again, or was approved: look at `azekura node show {name}`"
            )));
        }
        membership::refresh(self, &[Part::Intents])
            .await
            .map_err(catalog_error)?;
        tracing::info!(node = name, "its name is forgotten");
        let message =
            format!("the name of node {name}, which has no part in the cluster, was forgotten");
        let entity = format!("node/{name}");
        self.tell(Told::new(Severity::Info, "member-removed", entity, message));
        Ok(Answer::Done)
    }

    /// What ties it to the cluster, as the catalog says now.
    pub(super) async fn describe_member(&self, member: &Member) -> Result<MemberAnswer> {
        let parts = [Part::Groups, Part::Stores, Part::Intents];
        membership::refresh(self, &parts)
            .await
            .map_err(catalog_error)?;
        let view = self.view();
        let volumes = self
            .catalog
            .list::<VolumeRow>()
            .await
            .map_err(catalog_error)?;
        let has_log = |row: &VolumeRow| {
            let replicas = row.segments.iter().flat_map(|segment| &segment.replicas);
            replicas
                .into_iter()
                .any(|replica| member.owns(replica.store))
        };
        let logs = volumes.iter().filter(|found| has_log(&found.row)).count() as u32;
        let owned = volumes
            .iter()
            .filter(|found| found.row.owner == Some(member.node.id));
        let inside = |store: &StoreId| member.owns(*store);
        let key = IntentRow::key_of(member.subject);
        let intent = self.catalog.read::<IntentRow>(&key).await;
        let intent = intent.map_err(catalog_error)?;
        let version = intent.as_ref();
        let version = version.map_or(0, |found| self.catalog.version_of(found));
        let intent = intent.map(|found| found.row);
        let intent = intent.as_ref();
        let (kind, id, owned) = match member.subject {
            Subject::Node(id) => ("node", id.0, owned.count() as u32),
            Subject::Store(id) => ("store", id.0, 0),
        };
        let rows = volumes.iter().map(|found| &found.row);
        let strays = self.strays(member, &view, rows).await;
        let groups = count(&view, |group| group.members.iter().any(inside));
        let leaving = count(&view, |group| group.former.iter().any(inside));
        Ok(MemberAnswer {
            kind: kind.to_owned(),
            id,
            node: member.node.name.clone(),
            draining: intent.is_some_and(|intent| intent.draining),
            maintenance_until_ms: intent.map_or(0, |intent| intent.maintenance_until_ms),
            candidate: intent.is_some_and(|intent| intent.candidate),
            groups,
            leaving,
            logs,
            volumes: owned,
            removable: groups + leaving + logs + owned == 0 && strays.is_empty(),
            strays,
            task: None,
            version: Some(version),
        })
    }

    /// Stores whose disks may be in the machine of a node that does not run, although the catalog says that another node has them. Asks
    /// them once; bounded by the patience with one answer.
    async fn strays(
        &self,
        member: &Member,
        view: &ClusterView,
        volumes: impl Iterator<Item = &VolumeRow>,
    ) -> Vec<u32> {
        let Subject::Node(node) = member.subject else {
            return Vec::new();
        };
        // One that runs has said which stores it has.
        if self.members.is_alive(node) {
            return Vec::new();
        }
        let groups = view.groups.values();
        let mut holding: BTreeSet<StoreId> = groups
            .flat_map(|group| group.members.iter().chain(&group.former))
            .copied()
            .collect();
        let segments = volumes.flat_map(|row| &row.segments);
        let replicas = segments.flat_map(|segment| &segment.replicas);
        holding.extend(replicas.map(|replica| replica.store));
        let was_here = |row: &&StoreRow| row.node != node && row.earlier.contains(&node);
        let moved = view.stores.values().filter(was_here).map(|row| row.id);
        let moved: Vec<StoreId> = moved.filter(|id| holding.contains(id)).collect();
        self.health.ask(moved.clone()).await;
        let is_silent = |id: &StoreId| {
            let seen = self.health.seen(*id);
            seen.is_none_or(|seen| seen.silent.is_some())
        };
        let strays = moved.into_iter().filter(is_silent);
        strays.map(|id| id.0).collect()
    }

    async fn member_answer(&self, member: &Member) -> Result<Answer> {
        Ok(Answer::Member(self.describe_member(member).await?))
    }

    async fn set_member(&self, member: &Member, change: &MemberChange) -> Result<Answer> {
        if change
            .maintenance_minutes
            .is_some_and(|minutes| minutes > MAINTENANCE_MINUTES_MAX)
        {
            return Err(OperationError::bad_request(format!(
                "maintenance lasts at most {MAINTENANCE_MINUTES_MAX} minutes, a week"
            )));
        }
        if change.draining == Some(true) {
            self.check_drain(member)?;
        }
        let of_node = matches!(member.subject, Subject::Node(_));
        let approves = change.approved == Some(true) && of_node;
        if change.approved.is_some() && !approves {
            return Err(OperationError::bad_request(
                "`approved` is true and of a node; one that takes part is drained, not disapproved",
            ));
        }
        let now_ms = self.world.clock.unix_ms();
        let set = self.catalog.change_intent(member.subject, |intent| {
            intent.draining = change.draining.unwrap_or(intent.draining);
            intent.candidate &= !approves;
            if let Some(minutes) = change.maintenance_minutes {
                let until = now_ms + u64::from(minutes) * 60_000;
                intent.maintenance_until_ms = if minutes == 0 { 0 } else { until };
            }
        });
        set.await.map_err(catalog_error)?;
        self.tell_of_change(member, change);
        let task = match change.draining {
            Some(true) => self.begin_drain(member).await,
            _ => None,
        };
        let answer = self.describe_member(member).await?;
        Ok(Answer::Member(MemberAnswer { task, ..answer }))
    }

    /// The task of a drain that somebody has asked for. The leader begins one for each store of a node.
    async fn begin_drain(&self, member: &Member) -> Option<u64> {
        let (kind, subject) = match member.subject {
            Subject::Node(id) => (kind::NODE_DRAIN, node_subject(id)),
            Subject::Store(id) => (kind::STORE_DRAIN, store_subject(id)),
        };
        let task = new_task(kind, member.entity(), subject);
        self.begin_task(task).await
    }

    fn tell_of_change(&self, member: &Member, change: &MemberChange) {
        let name = member.name();
        let draining = change.draining.map(|draining| match draining {
            true => ("drain", format!("{name} is to be emptied")),
            false => ("undrain", format!("{name} takes part again")),
        });
        let maintenance = change.maintenance_minutes.map(|minutes| match minutes {
            0 => (
                "maintenance-ended",
                format!("{name} is not excused any more"),
            ),
            _ => (
                "maintenance",
                format!("{name} may be away for {minutes} minutes"),
            ),
        });
        let approved = change
            .approved
            .map(|_| ("approved", format!("{name} takes part from now on")));
        for (kind, message) in draining.into_iter().chain(maintenance).chain(approved) {
            self.tell(Told::new(Severity::Info, kind, member.entity(), message));
        }
    }

    /// Refuses to drain what the others could not take.
    fn check_drain(&self, member: &Member) -> Result<()> {
        let facts = self.store_facts();
        let takes = |facts: &&curator::StoreFacts| {
            facts.standing == curator::Standing::Present && !member.owns(facts.id)
        };
        let view = self.view();
        let stays: Vec<_> = facts.iter().filter(takes).collect();
        let copies = view
            .containers
            .values()
            .map(|row| row.replication_factor)
            .max();
        // As the planner keeps copies apart, which counts what drains until it is gone.
        let copies = copies.unwrap_or(1);
        let domains = curator::Domains::new(&facts);
        let level = domains.level(copies);
        let apart: BTreeSet<_> = stays
            .iter()
            .map(|facts| domains.of(facts.id, level))
            .collect();
        if apart.len() < usize::from(copies) {
            let name = curator::level_name(level);
            let plural = if apart.len() == 1 { "" } else { "s" };
            return Err(refused(format!(
                "{} cannot be drained: containers want {copies} copies, each in another {name}, and what else takes part is in only {} \
                 {name}{plural}; add stores in another {name} first",
                member.name(),
                apart.len()
            )));
        }
        let used = |store: StoreId| self.health.used(store).unwrap_or(0);
        // What drains already needs room there, too.
        let drains = |facts: &&curator::StoreFacts| facts.standing == curator::Standing::Draining;
        let others = facts.iter().filter(drains).map(|facts| facts.id);
        let moving: BTreeSet<StoreId> = member
            .stores
            .iter()
            .map(|row| row.id)
            .chain(others)
            .collect();
        let moving: u64 = moving.into_iter().map(used).sum();
        let mut free: BTreeMap<_, u64> = BTreeMap::new();
        for facts in &stays {
            // As much as the planner moves there.
            let most = facts.capacity / 100 * ROOM_PERCENT_MAX;
            let said = self.health.used(facts.id).filter(|_| facts.has_room);
            let room = said.map_or(0, |used| most.saturating_sub(used));
            *free.entry(domains.of(facts.id, level)).or_default() += room;
        }
        // Of what is there, which may have fewer copies than other containers want.
        let has = |group: &&GroupRow| group.members.iter().any(|&store| member.owns(store));
        let inside = view.groups.values().filter(has);
        let copies = inside.map(|group| group.replication_factor).max();
        let copies = copies.unwrap_or(1);
        let free: Vec<u64> = free.into_values().collect();
        let fits = fitting(&free, copies);
        if moving > fits {
            let name = curator::level_name(level);
            return Err(refused(format!(
                "{} cannot be drained: it and what drains already hold {moving} bytes, and the other stores have room for {fits} with \
                 {copies} copies, each in another {name}, as none is filled beyond {ROOM_PERCENT_MAX} %; delete data or add disks first, or \
                 wait until what drains already is empty",
                member.name()
            )));
        }
        Ok(())
    }

    /// Refuses to remove what is still needed.
    pub(super) async fn check_removal(&self, member: &Member, lost: bool) -> Result<()> {
        let running = self.members.is_alive(member.node.id);
        let answers = member
            .stores
            .iter()
            .any(|row| self.health.silent_for(row.id).is_none());
        if matches!(member.subject, Subject::Node(_)) && running {
            return Err(refused(format!(
                "{} runs: drain it if you have not, and stop its process first",
                member.name()
            )));
        }
        if lost && answers && !member.stores.is_empty() {
            return Err(refused(format!(
                "{} is not lost, it answers: drain it instead",
                member.name()
            )));
        }
        let ties = self.describe_member(member).await?;
        if ties.groups > 0 {
            return Err(refused(format!(
                "{} is still a member of {} placement groups: {}",
                member.name(),
                ties.groups,
                match lost {
                    true =>
                        "wait until they have others (`azekura status`); those whose only good copy is there \
                             must be deleted with their volumes, or it must come back",
                    false => "drain it and wait until it is empty",
                }
            )));
        }
        if lost {
            self.check_logs(member).await?;
        }
        if !lost && !ties.strays.is_empty() {
            return Err(refused(strays_reason(member, &ties.strays)));
        }
        if !lost && !ties.removable {
            return Err(refused(format!(
                "{} still holds data of {} groups it has left, logs of {} volumes, and serves {}: wait, or say that it \
                 is lost for good",
                member.name(),
                ties.leaving,
                ties.logs,
                ties.volumes
            )));
        }
        Ok(())
    }

    /// Refuses to forget stores that logs of volumes nobody serves name: those lack a copy, which is made when they are opened.
    async fn check_logs(&self, member: &Member) -> Result<()> {
        let volumes = self.catalog.list::<VolumeRow>().await;
        let volumes = volumes.map_err(catalog_error)?;
        // Where no other copy answers, waiting does not help, and what is lost is lost.
        let stores: Vec<StoreId> = member.stores.iter().map(|row| row.id).collect();
        let named = |row: &&VolumeRow| self.lacks_log_copy(row, &stores);
        let unserved =
            |row: &&VolumeRow| !row.owner.is_some_and(|owner| self.members.serves(owner));
        let rows = volumes.iter().map(|found| &found.row);
        let left: Vec<&VolumeRow> = rows.filter(unserved).filter(named).collect();
        let Some(first) = left.first() else {
            return Ok(());
        };
        Err(refused(format!(
            "{} holds copies of the logs of {} volumes that nobody serves, of {} for one: they are opened and get another copy by \
             themselves, wait for that; what cannot be opened without it must be deleted, or it must come back",
            member.name(),
            left.len(),
            first.name
        )))
    }

    async fn remove_member(&self, member: &Member, lost: bool) -> Result<Answer> {
        self.check_removal(member, lost).await?;
        self.forget_member(member, lost).await
    }

    /// Forgets a member that may be removed. In a cluster with certificates a node keeps its id and is a candidate from then on: its
    /// certificate holds on, and must not be enough to take part again.
    pub(super) async fn forget_member(&self, member: &Member, lost: bool) -> Result<Answer> {
        for row in &member.stores {
            self.catalog
                .forget_store(row.id)
                .await
                .map_err(catalog_error)?;
        }
        let stores = member.stores.iter().map(|row| Subject::Store(row.id));
        let mut subjects: BTreeSet<Subject> = stores.chain([member.subject]).collect();
        if self.options.secured {
            // Of a node it is written below.
            subjects.retain(|subject| matches!(subject, Subject::Store(_)));
        }
        let keys = subjects.into_iter().map(IntentRow::key_of);
        let mut gone = keys.fold(Transaction::new(), Transaction::free_name);
        if let Subject::Node(_) = member.subject {
            // It may have come back since it was looked at.
            gone = gone
                .absent(AliveRow::key_of(member.node.id))
                .free_name(member.node.key())
                .free_name(CertificateRow::key_of(member.node.id))
                .free_name(SeatRow::key_of(member.node.id));
            gone = match self.options.secured {
                true => gone.put(&IntentRow {
                    candidate: true,
                    ..IntentRow::none(member.subject)
                }),
                false => gone.free_name(format!("node-name/{}", member.node.name)),
            };
        }
        let done = self.catalog.commit(gone).await.map_err(catalog_error)?;
        if done.is_none() {
            return Err(OperationError::new(
                ErrorKind::Refused,
                format!(
                    "{} runs again; its stores are forgotten until it is restarted: stop it, and repeat this, or restart it",
                    member.name()
                ),
            ));
        }
        let parts = [Part::Nodes, Part::Stores, Part::Groups, Part::Intents];
        membership::refresh(self, &parts)
            .await
            .map_err(catalog_error)?;
        tracing::info!(member = member.name(), lost, "removed from the cluster");
        let message = format!("{} was removed from the cluster", member.name());
        self.tell(Told::new(
            Severity::Info,
            "member-removed",
            member.entity(),
            message,
        ));
        Ok(Answer::Done)
    }
}

/// Why a node that stores may be in is not removed. Pure.
fn strays_reason(member: &Member, strays: &[u32]) -> String {
    let ids: Vec<String> = strays.iter().map(u32::to_string).collect();
    let (stores, them) = match strays.len() {
        1 => ("store", "it holds"),
        _ => ("stores", "they hold"),
    };
    format!(
        "{} had {stores} {} before another node, where {them} data and nobody answers: if the disks are back in its machine, start it once; if not, \
         bring them back where they are, wait until there are other copies, or say that it is lost for good",
        member.name(),
        ids.join(", ")
    )
}

/// Bytes that fit on domains with so many free bytes each, when all of them have `copies` copies in distinct domains. Pure.
fn fitting(free: &[u64], copies: u8) -> u64 {
    plan_capacity(free, copies).saturating_mul(u64::from(copies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drains_must_fit_with_its_copies_apart() {
        // A large one and two small ones stay: 7 are free, and 4 of them can be used with two copies.
        assert_eq!(fitting(&[5, 1, 1], 2), 4);
        assert_eq!(fitting(&[5, 1, 1], 1), 7);
        assert_eq!(fitting(&[5, 5, 10], 2), 20);
        assert_eq!(fitting(&[], 2), 0);
    }
}
