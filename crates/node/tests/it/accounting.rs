//! Where the space goes: compared with a computation from scratch, and with what a deletion gives back.

use crate::support::{Cluster, LIMIT, MIB};
use api::{Answer, Operation, SnapshotRef, SpaceReportAnswer, VolumeSpec};
use blockdev::{BlockDevice, WriteMode};
use bytes::Bytes;
use catalog::{MapRoot, SnapshotRow, SnapshotState, VolumeRow};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{BLOCK_SIZE, ExtentId, Lba};
use volume::{Marks, mark};
use world::Duration;

const RUN_BLOCKS: u64 = 64;
const BLOCK: u64 = BLOCK_SIZE as u64;

/// Bytes that compress well.
fn data(seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = vec![0; RUN_BLOCKS as usize * BLOCK_SIZE];
    for chunk in bytes.chunks_mut(128) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk[..8].copy_from_slice(&state.to_le_bytes());
    }
    Bytes::from(bytes)
}

fn write(cluster: &Cluster, device: &Rc<dyn BlockDevice>, runs: std::ops::Range<u64>, seed: u64) {
    let device = device.clone();
    cluster.run(0, async move {
        for run in runs {
            let lba = Lba(run * RUN_BLOCKS);
            let written = device
                .write(lba, vec![data(seed + run)], WriteMode::Fua)
                .await;
            written.unwrap_or_else(|error| panic!("run {run}: {error}"));
        }
    });
}

fn settle(cluster: &Cluster, volumes: &[&str]) {
    for name in volumes {
        let name = (*name).to_owned();
        cluster.operate(0, Operation::VolumeDrain { name });
    }
}

fn snapshot(cluster: &Cluster, volume: &str, name: &str) {
    cluster.operate(
        0,
        Operation::SnapshotCreate {
            volume: volume.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            group: None,
        },
    );
}

/// By the node that leads, whichever is asked; for a moment none may.
fn report(cluster: &Cluster) -> SpaceReportAnswer {
    for _ in 0..LIMIT.as_secs() {
        match cluster.try_operate(
            1,
            Operation::Space {
                lineage: None,
                lineages: Vec::new(),
            },
        ) {
            Ok(Answer::Space(report)) => return *report,
            Ok(other) => panic!("not a report: {other:?}"),
            Err(_) => cluster.sim.run_for(Duration::from_secs(1)),
        }
    }
    panic!("nobody leads")
}

/// Bytes that extents occupy on all stores.
fn used(cluster: &Cluster) -> u64 {
    let nodes = 0..cluster.machines.len();
    let stores = nodes.flat_map(|index| cluster.node(index).stores());
    stores.map(|store| store.status().used.0).sum()
}

/// Until everything is walked and what was garbage is gone: the parts are what the stores say.
fn await_exact(cluster: &Cluster) -> SpaceReportAnswer {
    let mut last = SpaceReportAnswer::default();
    for _ in 0..LIMIT.as_secs() {
        cluster.sim.run_for(Duration::from_secs(1));
        last = report(cluster);
        let exact = last.physical.other == 0 && last.physical.unsettled == 0;
        if exact && last.walked == last.lineages && last.physical.used == used(cluster) {
            return last;
        }
    }
    panic!("the parts never are the whole: {last:#?}");
}

/// What every root refers to, by a walk of each for itself: extents with their blocks.
fn from_scratch(cluster: &Cluster) -> BTreeMap<String, Refers> {
    let node = cluster.node(0);
    cluster.run(0, async move {
        let volumes = node
            .catalog()
            .list::<VolumeRow>()
            .await
            .expect("the catalog is there");
        let snapshots = node
            .catalog()
            .list::<SnapshotRow>()
            .await
            .expect("the catalog is there");
        let mut roots: Vec<(String, MapRoot)> = Vec::new();
        for found in volumes {
            roots.push((found.row.name, found.row.root.map));
        }
        for found in snapshots {
            let SnapshotState::Ready(map) = found.row.state else {
                panic!("{} is pending", found.row.name)
            };
            roots.push((format!("@{}", found.row.name), map));
        }
        let mut all = BTreeMap::new();
        for (name, map) in roots {
            let mut marks = Marks::default();
            mark(&node.pages(), map, &mut marks)
                .await
                .expect("pages are readable");
            all.insert(
                name,
                Refers {
                    mapped: map.mapped_blocks * BLOCK,
                    marks,
                },
            );
        }
        all
    })
}

struct Refers {
    mapped: u64,
    marks: Marks,
}

/// Bytes that all copies of each extent occupy, from the stores themselves.
fn occupied(cluster: &Cluster) -> BTreeMap<ExtentId, u64> {
    let mut sums: BTreeMap<ExtentId, u64> = BTreeMap::new();
    for index in 0..cluster.machines.len() {
        let node = cluster.node(index);
        let listed = cluster.run(index, async move {
            let mut listed = Vec::new();
            let groups: Vec<_> = node.view().groups.into_values().collect();
            for store in node.stores() {
                for group in groups
                    .iter()
                    .filter(|group| group.members.contains(&store.id()))
                {
                    let request = wire::StoreRequest::ListExtents {
                        group: group.id,
                        generation: group.generation,
                        after: None,
                        limit: 5000,
                        tombstones: false,
                    };
                    let answer = store.handle(request, Vec::new()).await.expect("it lists");
                    let wire::StoreReply::Extents { extents, more } = answer.0 else {
                        panic!("not a listing")
                    };
                    assert!(!more, "a test is small");
                    listed.extend(extents);
                }
            }
            listed
        });
        for info in listed {
            *sums.entry(info.id).or_default() +=
                u64::from(info.bytes).div_ceil(64 << 10) * (64 << 10);
        }
    }
    sums
}

/// What a deletion of `name` would free, by sets.
fn frees(name: &str, all: &BTreeMap<String, Refers>, occupied: &BTreeMap<ExtentId, u64>) -> u64 {
    let only = |id: &&ExtentId| {
        let users = all
            .iter()
            .filter(|(_, refers)| refers.marks.live(id).is_some());
        let users: BTreeSet<&str> = users.map(|(user, _)| user.as_str()).collect();
        users == BTreeSet::from([name])
    };
    let mine = occupied.keys().filter(only);
    mine.map(|id| occupied[id]).sum()
}

fn usage<'a>(report: &'a SpaceReportAnswer, name: &str) -> &'a api::UsageAnswer {
    let (list, name) = match name.strip_prefix('@') {
        Some(name) => (&report.snapshots, name),
        None => (&report.volumes, name),
    };
    let found = list.iter().find(|named| named.name == name);
    &found
        .unwrap_or_else(|| panic!("no {name}: {report:#?}"))
        .usage
}

/// Two volumes, one with snapshots and a clone; nothing is rewritten, so that what is freed can be told exactly.
fn scene(seed: u64) -> Cluster {
    let cluster = Cluster::with_options(seed, 3, |options| {
        options.collect.limits.compact_below_percent = 0;
    });
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 64 * MIB);
    cluster.create_volume(1, "w", 64 * MIB);
    let (v, w) = (cluster.device(0, "v"), cluster.device(0, "w"));
    write(&cluster, &v, 0..40, 1);
    write(&cluster, &w, 0..12, 2);
    settle(&cluster, &["v", "w"]);
    snapshot(&cluster, "v", "one");
    write(&cluster, &v, 10..30, 100);
    settle(&cluster, &["v"]);
    snapshot(&cluster, "v", "two");
    write(&cluster, &v, 20..45, 200);
    settle(&cluster, &["v"]);
    let spec = VolumeSpec {
        name: "clone".to_owned(),
        from: Some(SnapshotRef {
            volume: "v".to_owned(),
            snapshot: Some("one".to_owned()),
        }),
        ..VolumeSpec::default()
    };
    cluster.operate(0, Operation::VolumeCreate(spec));
    let clone = cluster.device(0, "clone");
    write(&cluster, &clone, 50..54, 300);
    settle(&cluster, &["clone"]);
    cluster
}

#[test]
fn the_report_is_what_a_computation_from_scratch_finds() {
    let cluster = scene(51);
    let report = await_exact(&cluster);
    let (all, occupied) = (from_scratch(&cluster), occupied(&cluster));
    assert_eq!(all.len(), 5, "v, w, clone and two snapshots");
    for (name, refers) in &all {
        let found = usage(&report, name);
        assert_eq!(found.mapped, refers.mapped, "{name}");
        assert_eq!(found.shared + found.exclusive, found.mapped, "{name}");
        assert_eq!(found.frees, frees(name, &all, &occupied), "{name}");
    }
    // What was written says how much of it only one root has.
    let run = RUN_BLOCKS * BLOCK;
    assert_eq!(usage(&report, "w").exclusive, 12 * run);
    // v: runs 20..45 were written after everything.
    assert_eq!(usage(&report, "v").exclusive, 25 * run);
    // two: 20..30 of the second round; 10..20 it shares with v.
    assert_eq!(usage(&report, "@two").exclusive, 10 * run);
    // one: all of it is the clone's, too.
    assert_eq!(usage(&report, "@one").exclusive, 0);
    assert_eq!(usage(&report, "clone").exclusive, 4 * run);
    assert_eq!(report.distinct, (12 + 40 + 20 + 25 + 4) * run);
    for part in &report.stores {
        let host = (0..3).map(|node| cluster.node(node)).find_map(|host| {
            let stores = host.stores().into_iter();
            stores
                .map(|store| (store.id().0, store.status().used.0))
                .find(|(id, _)| *id == part.store)
        });
        assert_eq!(
            host,
            Some((part.store, part.bytes)),
            "every byte of a store is somebody's"
        );
    }
    let placed: u64 = report.stores.iter().map(|part| part.bytes).sum();
    assert_eq!(placed, report.physical.used);
    let mut parts: BTreeMap<u32, u64> = BTreeMap::new();
    for volume in ["v", "w"] {
        for part in cluster.show(1, volume).placement {
            *parts.entry(part.store).or_default() += part.bytes;
        }
    }
    let together = report.stores.iter().map(|part| (part.store, part.bytes));
    assert_eq!(parts, together.collect(), "two lineages are all there is");
    let clone = cluster.show(1, "clone").placement;
    assert_eq!(
        clone,
        cluster.show(2, "v").placement,
        "they are walked together"
    );
    let referred: u64 = occupied.values().sum();
    assert_eq!(
        (report.physical.data, report.physical.used),
        (referred, referred)
    );
    assert!(report.compression_hundredths > 120, "{report:#?}");
    assert!(report.sharing_hundredths > 100);
    assert_eq!(report.containers[0].name, "c");
    let shown = cluster.show(2, "v").usage.expect("it was walked");
    assert_eq!(shown.exclusive, 25 * run);
}

#[test]
fn deleting_a_snapshot_frees_exactly_what_only_it_had() {
    let cluster = scene(52);
    let before = await_exact(&cluster);
    let expected = usage(&before, "@two").frees;
    assert!(expected > 0);
    cluster.operate(
        0,
        Operation::SnapshotDelete {
            volume: "v".to_owned(),
            name: "two".to_owned(),
        },
    );
    let after = await_exact_without(&cluster, "two");
    assert_eq!(before.physical.used - after.physical.used, expected);
    // Deleting what is shared frees nothing.
    assert_eq!(usage(&after, "@one").frees, 0);
    cluster.operate(
        0,
        Operation::SnapshotDelete {
            volume: "v".to_owned(),
            name: "one".to_owned(),
        },
    );
    let last = await_exact_without(&cluster, "one");
    assert_eq!(last.physical.used, after.physical.used);
}

/// As [`await_exact`], once a snapshot is no part of the report.
fn await_exact_without(cluster: &Cluster, snapshot: &str) -> SpaceReportAnswer {
    for _ in 0..60 {
        let report = await_exact(cluster);
        if report.snapshots.iter().all(|named| named.name != snapshot) {
            return report;
        }
    }
    panic!("{snapshot} is never forgotten");
}
