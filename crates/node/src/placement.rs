//! Where log replicas go (architecture 3.3): the own store first, then a rendezvous hash of volume and
//! segment over distinct nodes; nearly full rings and draining stores last, silent stores not at all.

use crate::health::{Fitness, Health};
use crate::membership::Members;
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
}

/// A store that may take a replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) store: StoreId,
    pub(crate) node: NodeId,
    pub(crate) fitness: Fitness,
}

impl volume::Placement for LogPlacement {
    fn log_stores(&self, volume: VolumeId, segment: SegmentId) -> Vec<StoreId> {
        let candidate = |row: &StoreRow, alive: bool| {
            let fitness = self.health.fitness(row.id);
            let unfit = fitness == Fitness::Unknown && !alive;
            Candidate {
                store: row.id,
                node: row.node,
                fitness: if unfit { Fitness::Unfit } else { fitness },
            }
        };
        let last = |candidate: Candidate, drains: bool| Candidate {
            fitness: if drains {
                candidate.fitness.max(Fitness::Crowded)
            } else {
                candidate.fitness
            },
            ..candidate
        };
        let (candidates, copies_max) = self.members.look(|view| {
            let alive = |row: &StoreRow| view.alive.contains_key(&row.node);
            let rows = view.stores.values();
            let candidate = |row| last(candidate(row, alive(row)), view.drains(row));
            let candidates: Vec<Candidate> = rows.map(candidate).collect();
            let containers = view.containers.values();
            let copies_max = containers
                .map(|row| usize::from(row.replication_factor))
                .max();
            (candidates, copies_max.unwrap_or(1))
        });
        plan_log_stores(self.node, &candidates, copies_max, volume, segment)
    }

    fn lives_elsewhere(&self, store: StoreId) -> bool {
        self.members.look(|view| {
            let node = view.stores.get(&store).map(|row| row.node);
            node.is_some_and(|node| node != self.node && view.alive.contains_key(&node))
        })
    }
}

/// Stores for a segment, best first. Pure. One per node when there are at least `copies_max` nodes (running
/// or not), else every store, those of distinct nodes first.
pub(crate) fn plan_log_stores(
    own: NodeId,
    candidates: &[Candidate],
    copies_max: usize,
    volume: VolumeId,
    segment: SegmentId,
) -> Vec<StoreId> {
    let nodes: BTreeSet<NodeId> = candidates.iter().map(|candidate| candidate.node).collect();
    let by_node = nodes.len() >= copies_max;
    let mut fit: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.fitness != Fitness::Unfit)
        .collect();
    let order = |candidate: &&Candidate| {
        let weight = rendezvous(volume, segment, candidate.store);
        (
            candidate.fitness >= Fitness::Crowded,
            candidate.node != own,
            std::cmp::Reverse(weight),
        )
    };
    fit.sort_by_key(order);
    let mut taken = BTreeSet::new();
    let (mut firsts, mut others) = (Vec::new(), Vec::new());
    for candidate in fit {
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

    fn stores(nodes: u32, per_node: u32) -> Vec<Candidate> {
        let candidate = |index| Candidate {
            store: StoreId(index + 1),
            node: NodeId(index / per_node + 1),
            fitness: Fitness::Good,
        };
        (0..nodes * per_node).map(candidate).collect()
    }

    fn plan(candidates: &[Candidate], copies: usize, volume: u64) -> Vec<u32> {
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
}
