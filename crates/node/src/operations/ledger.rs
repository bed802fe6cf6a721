//! Where the space goes: what the leader's walks found, set against what the stores say now (decision 31).

use super::{Result, catalog_error};
use crate::host::Host;
use api::{
    Answer, ContainerUsageAnswer, NamedUsageAnswer, Operation, OperationError, PhysicalAnswer,
    SpaceReportAnswer, StoreShareAnswer, UsageAnswer,
};
use catalog::{ContainerRow, LineageRow, SnapshotRow, SnapshotState, VolumeRow};
use curator::{LineageSpace, RootOf, RootSpace};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{ContainerId, LineageId, SnapshotId, StoreId, VolumeId};
use world::Duration;

/// Patience with the leader when its figures are only a part of an answer.
const USAGE_PATIENCE: Duration = Duration::from_secs(1);

/// What one copy of a root takes as it is stored: only where the lineage has no other, so that nothing is shared.
pub(super) fn stored_alone(space: &LineageSpace) -> Option<(&RootSpace, u64)> {
    match space.roots.as_slice() {
        [alone] => Some((alone, space.stored.0)),
        _ => None,
    }
}

fn usage(root: &RootSpace, space: &LineageSpace, age_seconds: u64) -> UsageAnswer {
    UsageAnswer {
        stored: stored_alone(space).map(|(_, stored)| stored),
        mapped: root.mapped.0,
        shared: root.mapped.0 - root.exclusive.0,
        exclusive: root.exclusive.0,
        frees: root.frees.0,
        age_seconds,
    }
}

fn share((store, bytes): (StoreId, u64)) -> StoreShareAnswer {
    StoreShareAnswer {
        store: store.0,
        bytes,
    }
}

/// Hundredths of `part` in `whole`; 100 where there is nothing.
fn hundredths(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 100,
        _ => u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(u64::MAX),
    }
}

/// Whose names are known.
#[derive(Default)]
struct Names {
    containers: BTreeMap<ContainerId, String>,
    volumes: BTreeMap<VolumeId, VolumeRow>,
    snapshots: BTreeMap<SnapshotId, SnapshotRow>,
}

impl Names {
    /// Whether nobody asks for names.
    fn are_unknown(&self) -> bool {
        self.containers.is_empty()
    }

    fn container(&self, id: ContainerId) -> String {
        self.containers.get(&id).cloned().unwrap_or_default()
    }

    fn volume(&self, id: VolumeId, usage: UsageAnswer) -> NamedUsageAnswer {
        let row = self.volumes.get(&id);
        NamedUsageAnswer {
            id: id.0,
            name: row.map_or_else(String::new, |row| row.name.clone()),
            volume_id: None,
            container: row.map_or_else(String::new, |row| self.container(row.container)),
            usage,
        }
    }

    fn snapshot(&self, id: SnapshotId, usage: UsageAnswer) -> NamedUsageAnswer {
        let row = self.snapshots.get(&id);
        NamedUsageAnswer {
            id: id.0,
            name: row.map_or_else(String::new, |row| row.name.clone()),
            volume_id: row.map(|row| row.volume.0),
            container: row.map_or_else(String::new, |row| self.container(row.container)),
            usage,
        }
    }
}

/// Whether what was walked are the roots that the lineage has now.
fn has_all(row: &LineageRow, space: &LineageSpace, names: &Names) -> bool {
    let ready = |id: &&SnapshotId| {
        let snapshot = names.snapshots.get(id);
        snapshot.is_some_and(|row| matches!(row.state, SnapshotState::Ready(_)))
    };
    let volumes = row.volumes.iter().map(|&id| RootOf::Volume(id));
    let snapshots = row.snapshots.iter().filter(ready);
    let now: BTreeSet<RootOf> = volumes
        .chain(snapshots.map(|&id| RootOf::Snapshot(id)))
        .collect();
    let walked: BTreeSet<RootOf> = space.roots.iter().map(|root| root.of).collect();
    now == walked
}

/// Adds a lineage to the report. What was deleted since is not shown any more.
fn add(report: &mut SpaceReportAnswer, space: &LineageSpace, age_seconds: u64, names: &Names) {
    report.age_seconds = report.age_seconds.max(age_seconds);
    report.distinct += space.distinct.0;
    report.stored += space.stored.0;
    report.physical.data += space.occupied.0;
    report.physical.unsettled += space.unsettled.0;
    for root in &space.roots {
        let usage = usage(root, space, age_seconds);
        report.mapped += usage.mapped;
        let (list, named) = match root.of {
            RootOf::Volume(id) => (&mut report.volumes, names.volume(id, usage)),
            RootOf::Snapshot(id) => (&mut report.snapshots, names.snapshot(id, usage)),
        };
        if !named.name.is_empty() || names.are_unknown() {
            list.push(named);
        }
    }
}

/// The sums of what is in each container.
fn containers(report: &SpaceReportAnswer, names: &Names) -> Vec<ContainerUsageAnswer> {
    let mut sums: BTreeMap<&str, ContainerUsageAnswer> = BTreeMap::new();
    for name in names.containers.values() {
        sums.entry(name).or_default();
    }
    let volumes = report.volumes.iter().map(|named| (named, true));
    let snapshots = report.snapshots.iter().map(|named| (named, false));
    for (named, is_volume) in volumes.chain(snapshots) {
        let sum = sums.entry(&named.container).or_default();
        match is_volume {
            true => sum.mapped += named.usage.mapped,
            false => sum.snapshots += named.usage.mapped,
        }
        sum.exclusive += named.usage.exclusive;
        sum.frees += named.usage.frees;
    }
    let named = |(name, sum): (&str, ContainerUsageAnswer)| ContainerUsageAnswer {
        name: name.to_owned(),
        ..sum
    };
    sums.into_iter().map(named).collect()
}

/// The lineages that are asked for; none: all.
pub(super) fn wanted_space(lineage: Option<u64>, lineages: &[u64]) -> BTreeSet<u64> {
    lineage
        .into_iter()
        .chain(lineages.iter().copied())
        .collect()
}

/// The question for some lineages, or for all. For one every release knows it.
fn asking_for(lineages: &BTreeSet<u64>) -> Operation {
    match lineages.len() {
        0 | 1 => Operation::Space {
            lineage: lineages.first().copied(),
            lineages: Vec::new(),
        },
        _ => Operation::Space {
            lineage: None,
            lineages: lineages.iter().copied().collect(),
        },
    }
}

impl Host {
    /// The report, by the node that leads; of some lineages without names, where only figures are wanted.
    pub(super) async fn space(self: &Rc<Self>, lineages: &BTreeSet<u64>) -> Result<Answer> {
        let unknown = || {
            OperationError::unavailable("no node leads at the moment: try again in a few seconds")
        };
        let leader = self
            .leader()
            .await
            .map_err(|error| catalog_error(error.into()))?;
        match leader.ok_or_else(unknown)? {
            leader if leader == self.id => self.space_here(lineages).await,
            leader => {
                let operation = asking_for(lineages);
                self.forward(leader, &operation, &mut false).await
            }
        }
    }

    /// As the node that leads.
    pub(super) async fn space_here(&self, lineages: &BTreeSet<u64>) -> Result<Answer> {
        if !self.upkeep.leading.get() {
            let reason = "this node does not lead any more: try again in a few seconds";
            return Err(OperationError::unavailable(reason));
        }
        let mut report = SpaceReportAnswer::default();
        let mut names = Names::default();
        if lineages.is_empty() {
            names = self.names_for_space().await?;
            let rows = self.catalog.list::<LineageRow>().await;
            let rows = rows.map_err(catalog_error)?;
            crate::health::refresh(self).await;
            report.physical = self.physical();
            report.lineages = rows.len() as u64;
            let ledger = self.upkeep.ledger.borrow();
            let is_walked = |row: &LineageRow| {
                let walked = ledger.get(&row.id);
                walked.is_some_and(|(_, space)| has_all(row, space, &names))
            };
            let walked = rows.iter().filter(|found| is_walked(&found.row));
            report.walked = walked.count() as u64;
        }
        {
            let now = self.world.now();
            let ledger = self.upkeep.ledger.borrow();
            let wanted = |id: &LineageId| lineages.is_empty() || lineages.contains(&id.0);
            let mut stores: BTreeMap<StoreId, u64> = BTreeMap::new();
            for (_, (at, space)) in ledger.iter().filter(|(id, _)| wanted(id)) {
                add(&mut report, space, now.since(*at).as_secs(), &names);
                for (store, bytes) in &space.stores {
                    *stores.entry(*store).or_default() += bytes.0;
                }
            }
            report.stores = stores.into_iter().map(share).collect();
        }
        let physical = &mut report.physical;
        let known = physical.data + physical.unsettled;
        physical.other = physical.used as i64 - known as i64;
        report.sharing_hundredths = hundredths(report.mapped, report.distinct);
        report.compression_hundredths = hundredths(report.distinct, report.stored);
        report.containers = containers(&report, &names);
        report
            .volumes
            .sort_by(|one, other| one.name.cmp(&other.name));
        let place = |named: &NamedUsageAnswer| (named.volume_id, named.name.clone());
        report.snapshots.sort_by_key(place);
        Ok(Answer::Space(Box::new(report)))
    }

    async fn names_for_space(&self) -> Result<Names> {
        let containers = self.catalog.list::<ContainerRow>().await;
        let volumes = self.catalog.list::<VolumeRow>().await;
        let snapshots = self.catalog.list::<SnapshotRow>().await;
        let containers = containers.map_err(catalog_error)?.into_iter();
        let volumes = volumes.map_err(catalog_error)?.into_iter();
        let snapshots = snapshots.map_err(catalog_error)?.into_iter();
        Ok(Names {
            containers: containers
                .map(|found| (found.row.id, found.row.name))
                .collect(),
            volumes: volumes.map(|found| (found.row.id, found.row)).collect(),
            snapshots: snapshots.map(|found| (found.row.id, found.row)).collect(),
        })
    }

    /// What the stores that answer say.
    fn physical(&self) -> PhysicalAnswer {
        let stores = self
            .members
            .look(|view| view.stores.keys().copied().collect::<Vec<_>>());
        let mut sum = PhysicalAnswer::default();
        let seen = stores
            .into_iter()
            .filter_map(|store| self.health.seen(store));
        for status in seen.filter_map(|seen| seen.status.filter(|_| seen.silent.is_none())) {
            sum.capacity += status.capacity.0;
            sum.used += status.used.0;
            sum.kept_back += store::kept_back(status.capacity).0;
            sum.journal_capacity += status.journal_capacity.0;
            sum.journal_used += status.journal_used.0;
        }
        sum
    }

    /// Space of the roots of a lineage, as far as the leader knows and answers at once.
    pub(super) async fn usages(self: &Rc<Self>, lineage: LineageId) -> Usages {
        self.usages_asked(&[lineage.0].into()).await
    }

    async fn usages_asked(self: &Rc<Self>, lineages: &BTreeSet<u64>) -> Usages {
        let asked = Box::pin(self.space(lineages));
        match self.world.timeout(USAGE_PATIENCE, asked).await {
            Ok(Ok(Answer::Space(report))) => Usages {
                volumes: report.volumes,
                snapshots: report.snapshots,
                stores: report.stores,
            },
            _ => Usages::default(),
        }
    }
}

impl Host {
    /// Space of the volumes of several lineages, as far as the leader knows and answers at once.
    pub(super) async fn usages_of(
        self: &Rc<Self>,
        lineages: &BTreeSet<LineageId>,
    ) -> BTreeMap<u64, UsageAnswer> {
        if lineages.is_empty() {
            return BTreeMap::new();
        }
        let lineages = lineages.iter().map(|lineage| lineage.0).collect();
        let volumes = self.usages_asked(&lineages).await.volumes.into_iter();
        volumes.map(|named| (named.id, named.usage)).collect()
    }
}

/// Space of the roots of a lineage.
#[derive(Default)]
pub(super) struct Usages {
    volumes: Vec<NamedUsageAnswer>,
    snapshots: Vec<NamedUsageAnswer>,
    /// Of all of them together.
    pub(super) stores: Vec<StoreShareAnswer>,
}

impl Usages {
    pub(super) fn volume(&self, id: u64) -> Option<UsageAnswer> {
        let found = self.volumes.iter().find(|named| named.id == id);
        found.map(|named| named.usage)
    }

    pub(super) fn snapshot(&self, id: u64) -> Option<UsageAnswer> {
        let found = self.snapshots.iter().find(|named| named.id == id);
        found.map(|named| named.usage)
    }
}
