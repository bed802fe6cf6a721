//! How many copies the logs of volumes have: pure, from their rows and from which stores answer.
//!
//! What was written last is in a volume's log alone until it is drained: a log with one copy left tolerates no loss, whatever the
//! groups have.
//!
//! Invariants
//! - A copy counts on a store that answers and still lives the life in which it was opened: a store whose disks were replaced
//!   knows nothing of it.
//! - A volume has as many copies as the segment of its log that has fewest, in distinct failure domains. A closed segment that lies
//!   below the root that the catalog has counts for nothing: a takeover needs none of it.
//! - Memory is one entry for each way in which logs lie, not for each volume.

use crate::domains::{Domains, NODE_LEVEL};
use catalog::{SegmentRow, VolumeRow, VolumeState};
use std::collections::{BTreeMap, BTreeSet};
use vocab::{Incarnation, StoreId};

/// How one segment lies: wanted copies, and where they are.
type Shape = (u8, Vec<(StoreId, Incarnation)>);

/// Volumes by how their logs lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTally {
    shapes: BTreeMap<BTreeSet<Shape>, u32>,
}

/// The logs that want so many copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCopies {
    /// Wanted copies.
    pub copies: u8,
    /// The level that they are kept apart by: nodes, or stores where there are too few nodes.
    pub level: usize,
    /// Volumes with such a log.
    pub volumes: u32,
    /// Those with fewer copies that count than wanted, of some part of their log.
    pub degraded: u32,
    /// Those without any, of some part.
    pub unavailable: u32,
    /// By level: how many domains may be lost, whichever they are, before a log is out of reach.
    pub tolerates: Vec<u32>,
}

/// Which stores answer, and the life that each lives.
pub type Answering = BTreeMap<StoreId, Incarnation>;

impl LogTally {
    /// Of these volumes. Those that are being deleted, and those that nobody may open before a person has looked, count for nothing.
    #[must_use]
    pub fn of<'a>(volumes: impl IntoIterator<Item = &'a VolumeRow>) -> Self {
        let mut tally = Self::default();
        for row in volumes {
            let counts = !matches!(
                row.state,
                VolumeState::Deleting | VolumeState::Incomplete(_)
            );
            let below = row.root.position.next();
            let needed = |segment: &&SegmentRow| segment.end.is_none_or(|end| end > below);
            let shapes: BTreeSet<Shape> =
                row.segments.iter().filter(needed).map(shape_of).collect();
            if counts && !shapes.is_empty() {
                *tally.shapes.entry(shapes).or_default() += 1;
            }
        }
        tally
    }

    /// The verdict, by wanted copies.
    #[must_use]
    pub fn judge(&self, answering: &Answering, apart: &Domains) -> Vec<LogCopies> {
        let mut by_copies: BTreeMap<u8, LogCopies> = BTreeMap::new();
        for (shapes, &volumes) in &self.shapes {
            let copies = shapes.iter().map(|(wanted, _)| *wanted).max().unwrap_or(0);
            let level = apart.level(copies).min(NODE_LEVEL);
            let sum = by_copies.entry(copies).or_insert_with(|| LogCopies {
                copies,
                level,
                volumes: 0,
                degraded: 0,
                unavailable: 0,
                tolerates: vec![u32::MAX; apart.count()],
            });
            sum.volumes += volumes;
            let have = |shape: &Shape, level| domains_of(shape, answering, apart, level);
            let short = shapes
                .iter()
                .any(|shape| have(shape, level) < usize::from(shape.0));
            let none = shapes.iter().any(|shape| have(shape, level) == 0);
            sum.degraded += u32::from(short) * volumes;
            sum.unavailable += u32::from(none) * volumes;
            for (level, tolerates) in sum.tolerates.iter_mut().enumerate() {
                let least = shapes
                    .iter()
                    .map(|shape| have(shape, level))
                    .min()
                    .unwrap_or(0);
                let spare = u32::try_from(least.saturating_sub(1)).unwrap_or(u32::MAX);
                *tolerates = spare.min(*tolerates);
            }
        }
        by_copies.into_values().collect()
    }
}

fn shape_of(segment: &SegmentRow) -> Shape {
    let replicas = segment.replicas.iter();
    let mut replicas: Vec<_> = replicas
        .map(|replica| (replica.store, replica.incarnation))
        .collect();
    replicas.sort_unstable();
    (segment.wanted, replicas)
}

/// In how many domains of a level there is a copy that counts.
fn domains_of(shape: &Shape, answering: &Answering, apart: &Domains, level: usize) -> usize {
    let counts = |(store, life): &&(StoreId, Incarnation)| answering.get(store) == Some(life);
    let counting = shape.1.iter().filter(counts);
    let domains: BTreeSet<_> = counting.map(|(store, _)| apart.of(*store, level)).collect();
    domains.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{STORE_LEVEL, Standing, StoreFacts};
    use catalog::SegmentReplica;
    use vocab::{Epoch, NodeId, Position, SegmentId, VolumeId};

    fn domains(nodes: u32) -> Domains {
        let facts = |id| StoreFacts {
            id: StoreId(id),
            node: NodeId(id),
            domains: vec!["one rack".to_owned()],
            capacity: 100,
            standing: Standing::Present,
            has_room: true,
            is_full: false,
            free: 50,
        };
        let facts: Vec<StoreFacts> = (1..=nodes).map(facts).collect();
        Domains::new(&facts)
    }

    fn answering(stores: &[u32]) -> Answering {
        let stores = stores.iter();
        stores.map(|&id| (StoreId(id), Incarnation(1))).collect()
    }

    fn segment(wanted: u8, stores: &[u32]) -> SegmentRow {
        let replica = |&id: &u32| SegmentReplica {
            store: StoreId(id),
            incarnation: Incarnation(1),
        };
        SegmentRow {
            id: SegmentId(1),
            epoch: Epoch(1),
            start: Position(1),
            end: None,
            replicas: stores.iter().map(replica).collect(),
            wanted,
        }
    }

    fn volume(id: u64, segments: Vec<SegmentRow>) -> VolumeRow {
        VolumeRow {
            segments,
            ..row(id)
        }
    }

    fn row(id: u64) -> VolumeRow {
        let text = format!(
            r#"{{"id":{id},"name":"v{id}","container":1,"lineage":1,"size":4096,"created_ms":0,"epoch":1}}"#
        );
        let row: VolumeRow = serde_json::from_str(&text).expect("a row as it is written");
        assert_eq!(row.id, VolumeId(id));
        row
    }

    fn judge(volumes: &[VolumeRow], stores: &[u32]) -> Vec<LogCopies> {
        LogTally::of(volumes).judge(&answering(stores), &domains(4))
    }

    #[test]
    fn a_log_has_as_many_copies_as_its_weakest_segment() {
        let volumes = [
            volume(1, vec![segment(3, &[1, 2, 3])]),
            volume(2, vec![segment(3, &[1, 2, 3]), segment(3, &[2, 3, 4])]),
        ];
        let all = judge(&volumes, &[1, 2, 3, 4]);
        assert_eq!((all[0].volumes, all[0].degraded), (2, 0));
        assert_eq!(all[0].tolerates[NODE_LEVEL], 2);
        let without_4 = judge(&volumes, &[1, 2, 3]);
        assert_eq!((without_4[0].degraded, without_4[0].unavailable), (1, 0));
        assert_eq!(without_4[0].tolerates[NODE_LEVEL], 1);
        let only_1 = judge(&volumes, &[1]);
        assert_eq!((only_1[0].degraded, only_1[0].unavailable), (2, 1));
        assert_eq!(only_1[0].tolerates[STORE_LEVEL], 0);
    }

    #[test]
    fn a_log_that_was_opened_with_one_copy_tolerates_nothing() {
        let volumes = [
            volume(1, vec![segment(2, &[1])]),
            volume(2, vec![segment(1, &[2])]),
        ];
        let all = judge(&volumes, &[1, 2, 3, 4]);
        assert_eq!(
            (all[0].copies, all[0].degraded),
            (1, 0),
            "one copy was wanted"
        );
        assert_eq!((all[1].copies, all[1].degraded), (2, 1));
        assert_eq!(all[1].tolerates[NODE_LEVEL], 0);
    }

    #[test]
    fn a_store_that_lives_another_life_has_no_copy() {
        let tally = LogTally::of(&[volume(1, vec![segment(2, &[1, 2])])]);
        let mut answering = answering(&[1, 2]);
        answering.insert(StoreId(2), Incarnation(7));
        let judged = tally.judge(&answering, &domains(3));
        assert_eq!(
            (judged[0].degraded, judged[0].tolerates[NODE_LEVEL]),
            (1, 0)
        );
    }

    #[test]
    fn logs_are_kept_apart_by_node_where_data_is_by_rack_and_by_store_where_nodes_are_few() {
        let volumes = [volume(1, vec![segment(2, &[1, 2])])];
        let judged = judge(&volumes, &[1, 2]);
        assert_eq!((judged[0].level, judged[0].degraded), (NODE_LEVEL, 0));
        assert_eq!(judged[0].tolerates, [1, 1, 0], "all in one rack");
        let judged = LogTally::of(&volumes).judge(&answering(&[1, 2]), &domains(1));
        assert_eq!(judged[0].level, STORE_LEVEL);
    }

    #[test]
    fn what_the_root_covers_needs_no_copies() {
        let closed = |end| SegmentRow {
            end: Some(Position(end)),
            ..segment(2, &[1])
        };
        let mut drained = volume(1, vec![closed(11), segment(2, &[1, 2])]);
        drained.root.position = Position(10);
        assert_eq!(judge(&[drained.clone()], &[1, 2])[0].degraded, 0);
        drained.segments[0] = closed(12);
        assert_eq!(judge(&[drained], &[1, 2])[0].degraded, 1);
    }

    #[test]
    fn volumes_without_a_log_and_deleted_ones_do_not_count() {
        let deleting = VolumeRow {
            state: VolumeState::Deleting,
            ..volume(1, vec![segment(2, &[9])])
        };
        assert!(judge(&[deleting, row(2)], &[1]).is_empty());
    }

    #[test]
    fn volumes_that_lie_alike_are_one_entry() {
        let volumes: Vec<VolumeRow> = (1..=100)
            .map(|id| volume(id, vec![segment(2, &[2, 1])]))
            .collect();
        let tally = LogTally::of(&volumes);
        assert_eq!(tally.shapes.len(), 1);
        let judged = tally.judge(&answering(&[1, 2]), &domains(2));
        assert_eq!(judged[0].volumes, 100);
    }
}
