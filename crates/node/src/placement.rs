//! Where log replicas go (architecture 3.3): the own store first, then a rendezvous hash of volume and
//! segment over distinct failure domains, the widest that are left; nearly full rings and draining stores last,
//! silent stores not at all.

use crate::health::{Fitness, Health};
use crate::membership::Members;
use crate::options::{Faults, bug};
use catalog::StoreRow;
use std::collections::BTreeSet;
use std::rc::Rc;
use vocab::{NodeId, SegmentId, StoreId, VolumeId};
use xxhash_rust::xxh3::xxh3_64;

/// The node's rule for log replicas.
pub(crate) struct LogPlacement {
    pub(crate) node: NodeId,
    pub(crate) members: Rc<Members>,
    pub(crate) health: Rc<Health>,
    pub(crate) faults: Faults,
}

/// So many stores of a plan are chosen to lie apart from those before them; what comes after them is there in case they fail.
const SPREAD_MAX: usize = 8;

/// A store that may take a replica.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) store: StoreId,
    pub(crate) node: NodeId,
    /// Labels of the failure domains around its node, narrowest first.
    pub(crate) domains: &'a [String],
    pub(crate) fitness: Fitness,
}

impl Candidate<'_> {
    /// Which domains it shares with one of these, the widest first: by labels from zone to rack. A node that lacks a label shares
    /// its domain with nobody else.
    fn shares(&self, planned: &[&Self], levels: usize) -> Vec<bool> {
        let shares = |level: usize| {
            planned.iter().any(|other| {
                let same = match (self.domains.get(level), other.domains.get(level)) {
                    (Some(one), Some(another)) => one == another,
                    _ => false,
                };
                same || other.node == self.node
            })
        };
        (0..levels).rev().map(shares).collect()
    }
}

impl LogPlacement {
    fn labels<'a>(&self, row: &'a StoreRow) -> &'a [String] {
        match bug!(self.faults, IgnoreLogDomains) {
            true => &[],
            false => &row.domains,
        }
    }
}

impl volume::Placement for LogPlacement {
    fn log_stores(&self, volume: VolumeId, segment: SegmentId) -> Vec<StoreId> {
        self.members.look(|view| {
            let fitness = |row: &StoreRow| {
                let fitness = self.health.fitness(row.id);
                let alive = view.alive.contains_key(&row.node);
                match (fitness, view.drains(row)) {
                    (Fitness::Unknown, _) if !alive => Fitness::Unfit,
                    (fitness, true) => fitness.max(Fitness::Crowded),
                    (fitness, false) => fitness,
                }
            };
            let candidates = view.stores.values().map(|row| Candidate {
                store: row.id,
                node: row.node,
                domains: self.labels(row),
                fitness: fitness(row),
            });
            let candidates: Vec<Candidate<'_>> = candidates.collect();
            let containers = view.containers.values();
            let copies = containers.map(|row| usize::from(row.replication_factor));
            let copies_max = copies.max().unwrap_or(1);
            plan_log_stores(self.node, &candidates, copies_max, volume, segment)
        })
    }

    fn lives_elsewhere(&self, store: StoreId) -> bool {
        self.members.look(|view| {
            let node = view.stores.get(&store).map(|row| row.node);
            node.is_some_and(|node| node != self.node && view.alive.contains_key(&node))
        })
    }
}

/// Stores for a segment, best first. Pure. One per node when there are at least `copies_max` nodes (running
/// or not), else every store, those of distinct nodes first. Of those on other nodes than the ones before, each lies in another
/// zone than those, or else in another rack, unless only crowded stores do.
pub(crate) fn plan_log_stores(
    own: NodeId,
    candidates: &[Candidate<'_>],
    copies_max: usize,
    volume: VolumeId,
    segment: SegmentId,
) -> Vec<StoreId> {
    let nodes: BTreeSet<NodeId> = candidates.iter().map(|candidate| candidate.node).collect();
    let by_node = nodes.len() >= copies_max;
    let mut fit: Vec<&Candidate<'_>> = candidates
        .iter()
        .filter(|candidate| candidate.fitness != Fitness::Unfit)
        .collect();
    let crowded = |candidate: &Candidate<'_>| candidate.fitness >= Fitness::Crowded;
    let order = |candidate: &&Candidate<'_>| {
        let weight = rendezvous(volume, segment, candidate.store);
        let foreign = candidate.node != own;
        (crowded(candidate), foreign, std::cmp::Reverse(weight))
    };
    fit.sort_by_key(order);
    let levels = fit.iter().map(|candidate| candidate.domains.len()).max();
    let levels = levels.unwrap_or(0);
    let mut apart: Vec<&Candidate<'_>> = Vec::new();
    while apart.len() < SPREAD_MAX && !fit.is_empty() {
        // Of equals the first, so that the order above decides.
        let shares = |&place: &usize| {
            let candidate = fit[place];
            let node = apart.iter().any(|other| other.node == candidate.node);
            (node, crowded(candidate), candidate.shares(&apart, levels))
        };
        let next = (0..fit.len()).min_by_key(shares).unwrap_or(0);
        apart.push(fit.remove(next));
    }
    let mut taken = BTreeSet::new();
    let (mut firsts, mut others) = (Vec::new(), Vec::new());
    for candidate in apart.into_iter().chain(fit) {
        if taken.insert(candidate.node) {
            firsts.push(candidate.store);
        } else {
            others.push(candidate.store);
        }
    }
    if !by_node {
        firsts.extend(others);
    }
    firsts
}

/// The weight of a store for a segment: every store wins equally often, and one that leaves moves only what
/// it had.
fn rendezvous(volume: VolumeId, segment: SegmentId, store: StoreId) -> u64 {
    let mut key = [0; 16];
    key[0..8].copy_from_slice(&volume.0.to_le_bytes());
    key[8..12].copy_from_slice(&segment.0.to_le_bytes());
    key[12..16].copy_from_slice(&store.0.to_le_bytes());
    xxh3_64(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(nodes: u32, per_node: u32) -> Vec<Candidate<'static>> {
        let candidate = |index| Candidate {
            store: StoreId(index + 1),
            node: NodeId(index / per_node + 1),
            domains: &[],
            fitness: Fitness::Good,
        };
        (0..nodes * per_node).map(candidate).collect()
    }

    fn plan(candidates: &[Candidate<'_>], copies: usize, volume: u64) -> Vec<u32> {
        let planned = plan_log_stores(
            NodeId(1),
            candidates,
            copies,
            VolumeId(volume),
            SegmentId(1),
        );
        planned.into_iter().map(|store| store.0).collect()
    }

    #[test]
    fn own_store_comes_first_and_nodes_are_distinct() {
        for volume in 0..50 {
            let planned = plan(&stores(4, 2), 3, volume);
            assert_eq!(planned.len(), 4, "one per node");
            assert!(planned[0] <= 2, "a store of this node");
        }
    }

    #[test]
    fn volumes_spread_over_the_other_nodes() {
        let second: BTreeSet<u32> = (0..50)
            .map(|volume| plan(&stores(5, 1), 3, volume)[1])
            .collect();
        assert_eq!(second, BTreeSet::from([2, 3, 4, 5]));
    }

    #[test]
    fn one_machine_with_several_disks_uses_all_of_them() {
        assert_eq!(plan(&stores(1, 3), 2, 7).len(), 3);
        let two = plan(&stores(2, 2), 3, 7);
        assert_eq!(two.len(), 4);
        assert!(two[0] <= 2 && two[1] > 2, "distinct nodes first: {two:?}");
    }

    #[test]
    fn full_rings_come_last_and_silent_stores_never() {
        let mut candidates = stores(4, 1);
        candidates[0].fitness = Fitness::Crowded;
        candidates[2].fitness = Fitness::Unfit;
        let planned = plan(&candidates, 3, 7);
        assert_eq!(planned.len(), 3);
        assert_eq!(planned[2], 1);
        assert!(!planned.contains(&3));
    }

    /// A store on each of these nodes, with these labels.
    fn labelled(labels: &[Vec<String>]) -> Vec<Candidate<'_>> {
        let mut stores = stores(u32::try_from(labels.len()).unwrap(), 1);
        for (store, labels) in stores.iter_mut().zip(labels) {
            store.domains = labels;
        }
        stores
    }

    fn words(labels: &[&str]) -> Vec<Vec<String>> {
        let of = |node: &&str| node.split_whitespace().map(str::to_owned).collect();
        labels.iter().map(of).collect()
    }

    #[test]
    fn copies_of_a_log_lie_in_other_racks_and_zones_where_there_are_some() {
        let labels = words(&["r1 z1", "r1 z1", "r2 z1", "r2 z1", "r3 z2", "r3 z2"]);
        let stores = labelled(&labels);
        for volume in 0..50 {
            let planned = plan(&stores, 3, volume);
            assert_eq!(planned[0], 1, "the own store");
            assert!([5, 6].contains(&planned[1]), "the other zone: {planned:?}");
            assert!([3, 4].contains(&planned[2]), "the other rack: {planned:?}");
            assert_eq!(planned.len(), 6, "the others in case those fail");
        }
        let zones: BTreeSet<u32> = (0..50).map(|volume| plan(&stores, 3, volume)[1]).collect();
        assert_eq!(zones.len(), 2, "volumes spread within the zone");
    }

    #[test]
    fn another_rack_does_not_outweigh_room_or_another_node() {
        let labels = words(&["r1", "r1", "r2"]);
        let mut stores = labelled(&labels);
        stores[2].fitness = Fitness::Crowded;
        assert_eq!(plan(&stores, 2, 7), [1, 2, 3]);
        // Nodes without a label are domains of their own.
        let labels = words(&["r1", "r1", ""]);
        assert_eq!(plan(&labelled(&labels), 2, 7), [1, 3, 2]);
    }
}
