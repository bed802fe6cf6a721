//! What this node counts, for the Prometheus endpoint. Everything is said by one node only: volumes by their owner, stores by the node
//! that runs them, and what is one for the whole cluster by the node that leads. So whoever adds up all nodes counts nothing twice.
//!
//! Nothing but the catalog is asked, by the leader alone, and not for long: its rows for half a second, its members for four.

use super::Result;
use super::ledger::stored_alone;
use super::status::{describe, nodes_of, place};
use crate::health::Seen;
use crate::host::Host;
use api::{
    ActivityAnswer, Answer, CacheFigures, ClusterFigures, CollectionFigures, ContainerFigures,
    DiskFigures, FiguresAnswer, LatencyFigures, ProcessFigures, ReductionFigures, ScrubFigures,
    ServedFigures, StoreFigures, VolumeFigures, VolumeReductionFigures,
};
use blockdev::BlockDevice;
use catalog::{ContainerRow, VolumeRow};
use curator::RootOf;
use history::{CLASSES, Counter, Histogram, Kind, Sample, end_us};
use std::collections::BTreeMap;
use store::{DISK_LATENCY_US, Store};
use vocab::{BLOCK_BYTES, ContainerId};
use volume::Volume;
use world::Duration;

/// Ends of the classes that are shown: every fourth one, from 64 µs to 4 s. All of them would be four times as many series.
const SHOWN: std::ops::Range<usize> = 4..38;
const SHOWN_EVERY: usize = 4;
/// How long the leader waits for the catalog's rows.
const CATALOG_PATIENCE: Duration = Duration::from_millis(500);

fn shown_classes() -> impl Iterator<Item = usize> {
    SHOWN.step_by(SHOWN_EVERY)
}

const _: () = assert!(
    (SHOWN.end - SHOWN.start).div_ceil(SHOWN_EVERY) == DISK_LATENCY_US.len(),
    "disks and clients have the same classes"
);

fn shown(histogram: &Histogram) -> Vec<u64> {
    let mut from = 0;
    let ends = shown_classes().map(|class| class + 1).chain([CLASSES]);
    let sum = |to: usize| {
        let counts = &histogram.0[from..to];
        from = to;
        counts.iter().sum()
    };
    ends.map(sum).collect()
}

pub(super) fn activity(sample: &Sample) -> ActivityAnswer {
    let count = |counter: Counter| sample.counters[counter as usize];
    ActivityAnswer {
        reads: count(Counter::Reads),
        writes: count(Counter::Writes),
        flushes: count(Counter::Flushes),
        trims: count(Counter::Trims),
        errors: count(Counter::Errors),
        read_bytes: count(Counter::ReadBytes),
        written_bytes: count(Counter::WrittenBytes),
        read_us: count(Counter::ReadMicros),
        write_us: count(Counter::WriteMicros),
        flush_us: count(Counter::FlushMicros),
    }
}

fn latency(sample: &Sample) -> LatencyFigures {
    let of = |kind: Kind| shown(&sample.latency[kind as usize]);
    LatencyFigures {
        reads: of(Kind::Read),
        writes: of(Kind::Write),
        flushes: of(Kind::Flush),
    }
}

fn disks(store: &Store) -> Vec<DiskFigures> {
    let disk = |(figures, took): (store::DiskFigures, store::DiskLatencies)| {
        let store::DiskLatencies {
            reads,
            writes,
            flushes,
        } = took;
        DiskFigures {
            reads: figures.reads,
            writes: figures.writes,
            flushes: figures.flushes,
            read_bytes: figures.read_bytes,
            written_bytes: figures.written_bytes,
            micros: [reads.micros, writes.micros, flushes.micros],
            latency: LatencyFigures {
                reads: reads.counts.to_vec(),
                writes: writes.counts.to_vec(),
                flushes: flushes.counts.to_vec(),
            },
        }
    };
    let figures = store.disk_figures().into_iter();
    figures.zip(store.disk_latencies()).map(disk).collect()
}

fn container_name(containers: &BTreeMap<ContainerId, ContainerRow>, id: ContainerId) -> String {
    let row = containers.get(&id);
    row.map_or_else(String::new, |row| row.name.clone())
}

impl Host {
    /// See the head of this file.
    pub(super) async fn figures(&self) -> Result<Answer> {
        let total = self.upkeep.meters.total();
        let process = self.options.process.as_ref();
        let process = process.and_then(|process| process.usage());
        Ok(Answer::Figures(Box::new(FiguresAnswer {
            node: self.options.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: process.map(|usage| ProcessFigures {
                cpu_ms: u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX),
                resident: usage.resident.0,
            }),
            latency_bounds_us: shown_classes().filter_map(end_us).collect(),
            activity: activity(&total),
            latency: latency(&total),
            cache: self.cache_figures(),
            scrub: self.scrub_figures(),
            stores: self.own_store_figures(),
            volumes: self.own_volume_figures(),
            cluster: match self.upkeep.leading.get() {
                true => Some(self.cluster_figures().await),
                false => None,
            },
        })))
    }

    fn cache_figures(&self) -> CacheFigures {
        let pages = self.pages();
        let (hits, misses) = pages.lookups();
        CacheFigures {
            hits,
            misses,
            bytes: pages.bytes() as u64,
            bytes_max: pages.bytes_max() as u64,
        }
    }

    fn scrub_figures(&self) -> ScrubFigures {
        let report = self.scrubbed();
        ScrubFigures {
            bytes: report.bytes,
            damaged: report.damaged,
            repaired: report.repaired,
        }
    }

    fn collection_figures(&self) -> CollectionFigures {
        let report = self.upkeep.collected.borrow();
        CollectionFigures {
            deleted: report.deleted,
            freed_bytes: report.freed_bytes,
            compacted: report.compacted,
        }
    }

    /// The sums of the leader's walks.
    fn reduction_figures(&self) -> Option<ReductionFigures> {
        let ledger = self.upkeep.ledger.borrow();
        if ledger.is_empty() {
            return None;
        }
        let mut sum = ReductionFigures::default();
        for (_, space) in ledger.values() {
            sum.mapped += space.roots.iter().map(|root| root.mapped.0).sum::<u64>();
            sum.distinct += space.distinct.0;
            sum.stored += space.stored.0;
        }
        Some(sum)
    }

    /// The stores that this node runs, or should.
    fn own_store_figures(&self) -> Vec<StoreFigures> {
        let view = self.view();
        let standings = self.standings();
        let own = view.stores.values().filter(|row| row.node == self.id);
        let figures = |row: &catalog::StoreRow| {
            let store = self.stores.get(row.id);
            let absent = || self.stores.why_absent(row.id).unwrap_or_default();
            let said = store.as_ref().map(Store::status).ok_or_else(absent);
            let seen = Seen::here(said);
            let standing = standings.get(&row.id).copied();
            let standing = standing.unwrap_or(curator::Standing::Away);
            StoreFigures {
                store: place(describe(row, Some(seen)), &view, standing),
                disks: store.as_ref().map(disks).unwrap_or_default(),
            }
        };
        own.map(figures).collect()
    }

    fn own_volume_figures(&self) -> Vec<VolumeFigures> {
        let containers = self.members.look(|view| view.containers.clone());
        let served = self.volumes.served();
        let figures = |(volume, container): (std::rc::Rc<Volume>, ContainerId)| {
            let status = volume.status();
            let sample = self.upkeep.meters.sample(volume.id());
            VolumeFigures {
                id: volume.id().0,
                name: volume.name().to_owned(),
                container: container_name(&containers, container),
                size: volume.device().size().0,
                mapped: status.root.map.mapped_blocks * BLOCK_BYTES,
                served: Some(ServedFigures {
                    undrained: status.undrained.0,
                    log_replicas: status.log.replicas.len() as u64,
                    activity: activity(&sample),
                    latency: latency(&sample),
                }),
            }
        };
        served.into_iter().map(figures).collect()
    }

    /// What volumes that share with nobody map and store, as the walks of this node found.
    fn volume_reductions<'a>(
        &self,
        rows: impl Iterator<Item = &'a VolumeRow>,
        containers: &BTreeMap<ContainerId, ContainerRow>,
    ) -> Vec<VolumeReductionFigures> {
        let ledger = self.upkeep.ledger.borrow();
        let alone = |row: &VolumeRow| {
            let (_, space) = ledger.get(&row.lineage)?;
            let (root, stored) = stored_alone(space)?;
            (root.of == RootOf::Volume(row.id)).then(|| VolumeReductionFigures {
                name: row.name.clone(),
                container: container_name(containers, row.container),
                mapped: root.mapped.0,
                stored,
            })
        };
        rows.filter_map(alone).collect()
    }

    async fn cluster_figures(&self) -> ClusterFigures {
        let rows = self.catalog.list::<VolumeRow>();
        let rows = self.world.timeout(CATALOG_PATIENCE, rows);
        let rows = rows.await.ok().and_then(std::result::Result::ok);
        if let Some(rows) = &rows {
            self.note_logs(rows.iter().map(|found| &found.row), Vec::new());
        }
        self.ask_for_verdict().await;
        let alerts = self.alert_figures().await;
        let view = self.view();
        let is_unserved = |row: &VolumeRow| {
            let owner = row.owner.filter(|owner| view.alive.contains_key(owner));
            // What this node serves it says as the owner, whatever the row may say.
            owner.is_none() && self.volumes.get(row.id).is_none()
        };
        let figures = |row: &VolumeRow| VolumeFigures {
            id: row.id.0,
            name: row.name.clone(),
            container: container_name(&view.containers, row.container),
            size: row.size.0,
            mapped: row.root.map.mapped_blocks * BLOCK_BYTES,
            served: None,
        };
        let all = || rows.iter().flatten().map(|found| &found.row);
        let containers = match rows.is_some() {
            true => of_containers(&view.containers, all()),
            false => Vec::new(),
        };
        let volume_reductions = self.volume_reductions(all(), &view.containers);
        ClusterFigures {
            containers,
            volume_reductions,
            reduction: self.reduction_figures(),
            collection: self.collection_figures(),
            unserved: all().filter(|row| is_unserved(row)).map(figures).collect(),
            alerts,
            volumes: rows.as_ref().map(|rows| rows.len() as u64),
            resiliency: self.verdict(),
            nodes: nodes_of(&view),
        }
    }
}

/// What the rows of volumes say of each container.
fn of_containers<'a>(
    containers: &BTreeMap<ContainerId, ContainerRow>,
    volumes: impl Iterator<Item = &'a VolumeRow>,
) -> Vec<ContainerFigures> {
    let empty = |row: &ContainerRow| ContainerFigures {
        name: row.name.clone(),
        quota: row.quota.map(|quota| quota.0),
        ..ContainerFigures::default()
    };
    let mut sums: BTreeMap<ContainerId, ContainerFigures> = containers
        .iter()
        .map(|(&id, row)| (id, empty(row)))
        .collect();
    for row in volumes {
        if let Some(sum) = sums.get_mut(&row.container) {
            sum.volumes += 1;
            sum.size += row.size.0;
            sum.mapped += row.root.map.mapped_blocks * BLOCK_BYTES;
        }
    }
    let mut sums: Vec<ContainerFigures> = sums.into_values().collect();
    sums.sort_by(|one, other| one.name.cmp(&other.name));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use history::class_of;

    #[test]
    fn shown_classes_hold_what_is_not_longer_than_their_end() {
        let bounds: Vec<u64> = shown_classes().filter_map(end_us).collect();
        assert_eq!(bounds[..3], [64, 256, 1024]);
        assert_eq!(bounds.last(), Some(&(64 << 16)));
        for (place, &bound) in bounds.iter().enumerate() {
            let mut histogram = Histogram::default();
            histogram.0[class_of(bound)] += 1;
            histogram.0[class_of(bound + 1)] += 1;
            let counts = shown(&histogram);
            assert_eq!(counts.len(), bounds.len() + 1);
            assert_eq!((counts[place], counts[place + 1]), (1, 1), "{bound}");
        }
    }
}
