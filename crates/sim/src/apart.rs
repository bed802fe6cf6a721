//! Copies are in different failure domains: in different racks where there are enough of them, else on different nodes.

//!
//! Those of a log are where they are when its segment is opened: then they lie in as many domains as they can. What counts are stores that
//! have been within reach for [`STEADY`], by what is seen of their machines and not by what nodes think of them.

use crate::cluster::{Cluster, rows};
use catalog::{GroupRow, IntentRow, SegmentRow, StoreRow, Subject, VolumeRow};
use std::collections::{BTreeMap, BTreeSet};
use vocab::{NodeId, SegmentId, StoreId, VolumeId};
use wire::Trust;
use world::{Duration, Time};

/// Nodes ask stores whether they are well when one of their rows has changed, with a patience of 1 s.
const STEADY: Duration = Duration::from_secs(4);
/// Of a journal: fuller ones are passed over for new segments (at 75 percent).
const JOURNAL_PERCENT_MAX: u64 = 50;

/// Of a store, as the catalog has it.
type DomainOf = fn(&StoreRow) -> String;

/// The widest first.
const LEVELS: [(&str, DomainOf); 2] = [("rack", rack_of), ("node", node_of)];

fn rack_of(row: &StoreRow) -> String {
    let label = row.domains.first().cloned();
    label.unwrap_or_else(|| node_of(row))
}

fn node_of(row: &StoreRow) -> String {
    format!("node {}", row.node.0)
}

/// Holds once everything runs and nothing moves. Not asked where the pool is filled up: there a domain may have no room.
pub fn copies_are_apart(cluster: &Cluster) -> Result<(), String> {
    if !cluster.config.is_newest() || cluster.config.full {
        return Ok(());
    }
    let stores = rows::<StoreRow>(&cluster.kv);
    for group in rows::<GroupRow>(&cluster.kv) {
        let copies = usize::from(group.replication_factor);
        let enough = |(_, domain): &&(&str, DomainOf)| {
            let all: BTreeSet<String> = stores.iter().map(domain).collect();
            all.len() >= copies
        };
        let Some((level, domain)) = LEVELS.iter().find(enough) else {
            continue;
        };
        let inside = stores.iter().filter(|row| group.members.contains(&row.id));
        let apart: BTreeSet<String> = inside.map(domain).collect();
        if apart.len() < group.members.len() {
            return Err(format!(
                "{} has its copies on {:?}, which are in {apart:?}: there are enough of each {level} to keep them apart",
                group.id, group.members
            ));
        }
    }
    Ok(())
}

/// Whether it has been so for long, or from the beginning: nodes start together, and hear of each other when the first container is made.
fn is_steady(since: Time, until: Time) -> bool {
    since == Time(0) || since + STEADY <= until
}

/// What was seen of logs and of the nodes that could take them.
#[derive(Default)]
pub struct Logs {
    /// Which start of a node runs, and since when it has run without a break.
    steady: BTreeMap<usize, (u64, Time)>,
    seen: BTreeMap<VolumeId, SegmentId>,
    looked: Option<Time>,
}

impl Logs {
    /// Looks at segments that were opened since the last time.
    ///
    /// # Errors
    /// Copies in the same domain that could be in different ones.
    pub fn observe(&mut self, cluster: &Cluster, volumes: &[VolumeRow]) -> Result<(), String> {
        if cluster.config.racks == 0 {
            return Ok(());
        }
        let now = cluster.sim.now();
        let first = self.looked.is_none();
        let last = self.looked.replace(now).unwrap_or(now);
        let settled = cluster.settled();
        let is_settled = settled.is_some_and(|since| is_steady(since, last));
        for (index, node) in cluster.nodes.iter().enumerate() {
            let start = node
                .running
                .borrow()
                .as_ref()
                .map(|host| host.start_number());
            match start {
                Some(start) if self.steady.get(&index).is_some_and(|seen| seen.0 == start) => {}
                // Those that run at the first look began with the run.
                Some(start) => {
                    let since = if first { Time(0) } else { now };
                    self.steady.insert(index, (start, since));
                }
                None => drop(self.steady.remove(&index)),
            }
        }
        for row in volumes {
            let Some((open, closed)) = row.segments.split_last() else {
                continue;
            };
            let known = self.seen.insert(row.id, open.id);
            if known != Some(open.id) && is_settled {
                self.lies_apart(cluster, (row, open, closed.last()), last)?;
            }
        }
        Ok(())
    }

    /// Stores that a new segment could have been opened on, as seen at the look before.
    fn within_reach(&self, cluster: &Cluster, last: Time) -> Vec<StoreRow> {
        let intents = rows::<IntentRow>(&cluster.kv);
        let drains = |subject: Subject| {
            let mut intents = intents.iter();
            intents.any(|intent| intent.subject == subject && intent.draining)
        };
        let mut stores = rows::<StoreRow>(&cluster.kv);
        let mut usable: BTreeSet<(NodeId, StoreId)> = BTreeSet::new();
        for (index, (_, since)) in &self.steady {
            let host = cluster.nodes[*index].running.borrow().clone();
            let Some(host) = host.filter(|_| is_steady(*since, last)) else {
                continue;
            };
            for store in host.stores() {
                let status = store.status();
                let has_room =
                    status.journal_used.0 * 100 <= status.journal_capacity.0 * JOURNAL_PERCENT_MAX;
                let is_well = status.failed.is_none() && status.trust == Trust::Trusted;
                if has_room && is_well && !drains(Subject::Store(store.id())) {
                    usable.insert((host.id(), store.id()));
                }
            }
        }
        stores
            .retain(|row| usable.contains(&(row.node, row.id)) && !drains(Subject::Node(row.node)));
        stores
    }

    fn lies_apart(
        &self,
        cluster: &Cluster,
        (row, open, before): (&VolumeRow, &SegmentRow, Option<&SegmentRow>),
        last: Time,
    ) -> Result<(), String> {
        if open.replicas.len() < usize::from(open.wanted) {
            // Some store did not take it.
            return Ok(());
        }
        let replicas: Vec<StoreId> = open.replicas.iter().map(|copy| copy.store).collect();
        // What is not a replica any more may have been given up for a reason.
        let given_up = |store: &StoreId| {
            let mut before = before.iter().flat_map(|before| &before.replicas);
            before.any(|copy| copy.store == *store) && !replicas.contains(store)
        };
        let stores = rows::<StoreRow>(&cluster.kv);
        let used = || stores.iter().filter(|row| replicas.contains(&row.id));
        let mut usable = self.within_reach(cluster, last);
        usable.retain(|row| !given_up(&row.id));
        for (level, domain) in LEVELS {
            let apart: BTreeSet<String> = used().map(domain).collect();
            let possible: BTreeSet<String> = usable.iter().chain(used()).map(domain).collect();
            if apart.len() < possible.len().min(replicas.len()) {
                return Err(format!(
                    "{} of {} was opened on {replicas:?}, which are in {apart:?}, and there are stores in each {level} of {possible:?}",
                    open.id, row.name
                ));
            }
        }
        Ok(())
    }
}
