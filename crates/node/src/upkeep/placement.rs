//! Who holds which group: the leader plans, members fill themselves, former members empty themselves.
//!
//! The leader only writes rows; each step is one transaction that compares the row it was planned from, so that a
//! leader that was replaced meanwhile changes nothing.

use crate::health::{FAILED_DELAY, Fitness};
use crate::host::Host;
use crate::membership::{self, ClusterView, Part};
use catalog::{GroupChange, GroupRow, StoreRow, Subject};
use curator::{Standing, StoreFacts};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::StoreId;
use world::Duration;

/// Pause between two looks at the plan.
const INTERVAL: Duration = Duration::from_secs(2);
/// A store whose space is used above this share takes no more groups, but for copies that are lost elsewhere.
pub(crate) const ROOM_PERCENT_MAX: u64 = 85;
/// So many times longer a store is waited for that nobody answers for while its node holds its lease.
const ALIVE_FACTOR: u32 = 4;
/// Pause between two attempts to empty a former member.
const LEAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Plans while this node leads.
pub(crate) async fn run(host: Rc<Host>) {
    loop {
        host.world.sleep(INTERVAL).await;
        let groups = host.members.look(|view| view.groups.len());
        if groups == 0 || !matches!(host.leads().await, Ok(true)) {
            continue;
        }
        crate::health::refresh(&host).await;
        if host.members.look(|view| is_isolated(&host, view)) {
            continue;
        }
        if let Err(error) = super::space::look(&host).await {
            tracing::debug!(%error, "the state of the space is written later");
        }
        if let Err(error) = more_groups(&host).await {
            tracing::debug!(%error, "groups are added later");
        }
        super::sizes::look(&host).await;
        let changes = host.plan();
        if changes.is_empty() {
            continue;
        }
        if let Err(error) = carry_out(&host, &changes).await {
            tracing::debug!(%error, "groups are changed later");
        }
        let _ = membership::refresh(&host, &[Part::Groups]).await;
    }
}

/// A cluster that grows gets more groups, while all of its stores take part that have not been replaced.
async fn more_groups(host: &Host) -> Result<(), catalog::CatalogError> {
    let facts = host.store_facts();
    let replaced = host.members.look(|view| replaced_stores(view, &facts));
    if !all_take_part(&facts, &replaced) {
        return Ok(());
    }
    let counts = host.members.look(|view| {
        let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
        for group in view.groups.values() {
            *counts.entry(group.replication_factor).or_default() += 1;
        }
        counts
    });
    for (copies, count) in counts {
        let wanted = host.groups_for(copies);
        if count < wanted {
            host.ensure_groups(copies).await?;
            membership::refresh(host, &[Part::Groups]).await?;
        }
    }
    Ok(())
}

/// Stores that are given up and in whose place all groups have other members. What is left of them is that groups name them as former
/// members, until somebody removes or replaces them. Pure.
pub(super) fn replaced_stores(view: &ClusterView, facts: &[StoreFacts]) -> BTreeSet<StoreId> {
    let lost = facts
        .iter()
        .filter(|facts| facts.standing == Standing::Lost);
    let mut lost: BTreeSet<StoreId> = lost.map(|facts| facts.id).collect();
    for member in view.groups.values().flat_map(|group| &group.members) {
        lost.remove(member);
    }
    lost
}

/// Whether every store takes part but those that have been replaced. Pure.
pub(super) fn all_take_part(facts: &[StoreFacts], replaced: &BTreeSet<StoreId>) -> bool {
    let takes_part = |facts: &StoreFacts| facts.standing == Standing::Present;
    facts
        .iter()
        .all(|facts| takes_part(facts) || replaced.contains(&facts.id))
}

async fn carry_out(host: &Host, changes: &[GroupChange]) -> Result<(), catalog::CatalogError> {
    for change in changes {
        let known = host
            .members
            .look(|view| view.groups.get(&change.group).cloned());
        let Some(known) = known else { continue };
        let changed = host.catalog.change_group(change, &known).await?;
        if let Some(row) = changed {
            tracing::info!(
                group = %row.id, generation = row.generation.0, from = ?known.members, members = ?row.members,
                filling = ?row.filling, former = ?row.former, "the group has other members"
            );
        }
    }
    Ok(())
}

/// Why a store does not count, as an operator or the time says.
fn standing_of(host: &Host, view: &ClusterView, row: &StoreRow) -> Standing {
    let now_ms = host.world.clock.unix_ms();
    let intents = [Subject::Node(row.node), Subject::Store(row.id)];
    let intents = intents
        .iter()
        .filter_map(|subject| view.intents.get(subject));
    let (mut draining, mut excused) = (false, false);
    for intent in intents {
        draining |= intent.draining;
        excused |= intent.maintenance_until_ms > now_ms;
    }
    // The lease of a node says that it lives, whatever can be reached from here: it is waited for longer. What it says of its own
    // disks is certain, though.
    let (alive, delay) = (
        view.alive.contains_key(&row.node),
        host.options.repair_delay,
    );
    let (delay, failed_delay) = match alive {
        true => (delay * ALIVE_FACTOR, delay.min(FAILED_DELAY)),
        false => (delay, delay),
    };
    let failed = host.health.failed_for(row.id);
    let is_failed = failed.is_some_and(|failed| failed >= failed_delay);
    match host.health.silent_for(row.id) {
        Some(silent) if (silent >= delay || is_failed) && !excused => Standing::Lost,
        Some(_) => Standing::Away,
        None if draining => Standing::Draining,
        None => Standing::Present,
    }
}

/// Whether this node may be the one that is cut off: more than half of the other nodes hold their leases, and not one of their stores is
/// answered for, be it that it has failed.
fn is_isolated(host: &Host, view: &ClusterView) -> bool {
    let others = || view.alive.keys().filter(|&&node| node != host.id());
    let silent = |node: &&vocab::NodeId| {
        let mut stores = view.stores.values().filter(|row| row.node == **node);
        let any = stores.clone().next().is_some();
        any && stores.all(|row| host.health.is_unanswered(row.id))
    };
    2 * others().filter(silent).count() > others().count()
}

impl Host {
    /// How many groups of this many copies there should be.
    fn groups_for(&self, copies: u8) -> u32 {
        let stores = self.store_facts();
        let there = { stores.iter() }.filter(|facts| facts.standing != Standing::Lost);
        self.options.groups_for(there.count(), copies)
    }

    /// Makes groups of this many copies until there are as many as there should be. None gets a member that is given up, as long as there
    /// are enough others: it would have no copy there, and with one copy none at all.
    ///
    /// # Errors
    /// [`catalog::CatalogError::Refused`] while there are too few stores.
    pub(crate) async fn ensure_groups(&self, copies: u8) -> Result<(), catalog::CatalogError> {
        let facts = self.store_facts();
        let lost = facts
            .iter()
            .filter(|facts| facts.standing == Standing::Lost);
        let mut lost: BTreeSet<StoreId> = lost.map(|facts| facts.id).collect();
        if facts.len() - lost.len() < usize::from(copies) {
            lost.clear();
        }
        let wanted = self.groups_for(copies);
        let planned = self.catalog.ensure_groups(copies, wanted, &lost);
        planned.await.map(drop)
    }

    /// The stores as the planner sees them.
    pub(crate) fn store_facts(&self) -> Vec<StoreFacts> {
        let view = self.view();
        let facts = |row: &StoreRow| StoreFacts {
            id: row.id,
            node: row.node,
            domains: row.domains.clone(),
            capacity: row.capacity.0,
            standing: standing_of(self, &view, row),
            has_room: self.health.takes_more(row.id, ROOM_PERCENT_MAX),
            is_full: self.health.is_full(row.id),
            free: self.health.free(row.id),
        };
        view.stores.values().map(facts).collect()
    }

    /// What is to be done next.
    pub(super) fn plan(&self) -> Vec<GroupChange> {
        self.plan_with(self.upkeep.sizes.are_known())
    }

    /// What would be done next if what groups hold were as it was heard last.
    pub(super) fn plan_to_balance(&self) -> Vec<GroupChange> {
        self.plan_with(true)
    }

    fn plan_with(&self, balance: bool) -> Vec<GroupChange> {
        let groups: Vec<GroupRow> = self
            .members
            .look(|view| view.groups.values().cloned().collect());
        let mut limits = self.options.placement;
        limits.balance &= balance && !self.balance_rests();
        let sizes = self.upkeep.sizes.last();
        curator::plan(&groups, &self.store_facts(), &sizes, limits)
    }
}

/// Follows groups that have changed when a store says so: the watch may be late.
pub(crate) async fn follow(host: Rc<Host>) {
    loop {
        host.pool.outdated().await;
        if membership::refresh(&host, &[Part::Groups]).await.is_err() {
            host.world.sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Host {
    /// Logs of volumes served here whose replicas share a node, although another one has a good store, are opened again
    /// there: a single machine that became several.
    pub(crate) fn spread_logs(&self) {
        for volume in self.volumes() {
            let replicas = volume.status().log.replicas;
            let (mut used, mut surplus) = (BTreeSet::new(), Vec::new());
            let good = self.members.look(|view| {
                for store in &replicas {
                    let node = view.stores.get(store).map(|row| row.node);
                    if !used.insert(node) {
                        surplus.push(*store);
                    }
                }
                let rows = view.stores.values().filter(|row| !view.drains(row));
                let good = rows.filter(|row| self.health.fitness(row.id) == Fitness::Good);
                good.map(|row| row.node).collect::<BTreeSet<_>>().len()
            });
            let mut spreading = self.upkeep.spreading.borrow_mut();
            if !surplus.is_empty() && good > used.len() {
                volume.leave_stores(&surplus);
                spreading.insert(volume.id());
            } else if spreading.contains(&volume.id()) {
                // The segment that was closed needs its old replicas until it is drained.
                volume.leave_stores(&[]);
                if volume.status().log.closed_segments == 0 {
                    spreading.remove(&volume.id());
                }
            }
        }
    }
}

/// Empties a local store of groups that it is no member of any more.
pub(crate) async fn leave(host: Rc<Host>, store: StoreId) {
    loop {
        let changed = host.members.changed.notified();
        let groups = left_behind(&host, store);
        if groups.is_empty() {
            changed.await;
            continue;
        }
        let (mut emptied, mut told) = (0, false);
        for group in &groups {
            let answers = |member: &StoreId| host.health.fitness(*member) != Fitness::Unfit;
            if !group.members.iter().all(answers) || !host.pool.leave(store, group).await {
                continue;
            }
            emptied += 1;
            if group.former.contains(&store) {
                let heard = host.catalog.group_left(group, store).await;
                told |= matches!(heard, Ok(true));
            }
        }
        if emptied > 0 {
            tracing::info!(%store, groups = emptied, "left groups whose members have everything");
        }
        if told {
            let _ = membership::refresh(&host, &[Part::Groups]).await;
        }
        host.world.sleep(LEAVE_INTERVAL).await;
    }
}

/// Groups that a local store has to leave: their rows say so, or do not name it although it holds extents of theirs. It
/// has left those before, and its disks went back in time since.
fn left_behind(host: &Host, store: StoreId) -> Vec<GroupRow> {
    let local = host.stores.get(store);
    let holds = |group: &GroupRow| local.as_ref().is_some_and(|store| store.knows_of(group.id));
    let left = |group: &&GroupRow| {
        group.former.contains(&store) || (!group.members.contains(&store) && holds(group))
    };
    host.members
        .look(|view| view.groups.values().filter(left).cloned().collect())
}
