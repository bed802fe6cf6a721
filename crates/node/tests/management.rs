//! What programs ask of the management plane: ids instead of names, pages, clones of the present, parts of a
//! diff, limits.

mod support;

use api::{
    Answer, ErrorKind, ListQuery, Operation, SnapshotRef, VolumeAnswer, VolumeChange, VolumeSpec,
};
use std::collections::BTreeMap;
use support::{Cluster, MIB, volume_of};
use world::Duration;

fn two_volumes(seed: u64) -> (Cluster, VolumeAnswer, VolumeAnswer) {
    let cluster = Cluster::new(seed, 3);
    cluster.create_container("c", 2);
    let one = cluster.create_volume(0, "one", 16 * MIB);
    let two = cluster.create_volume(0, "two", 16 * MIB);
    (cluster, one, two)
}

fn snapshot(volume: &str, name: &str) -> Operation {
    Operation::SnapshotCreate {
        volume: volume.to_owned(),
        name: name.to_owned(),
        labels: BTreeMap::from([("for".to_owned(), name.to_owned())]),
        group: None,
    }
}

fn snapshots(cluster: &Cluster, query: ListQuery) -> Vec<api::SnapshotAnswer> {
    match cluster.operate(1, Operation::SnapshotList(query)) {
        Answer::Snapshots(found) => found,
        other => panic!("not snapshots: {other:?}"),
    }
}

fn volumes(cluster: &Cluster, query: ListQuery) -> Vec<String> {
    match cluster.operate(1, Operation::VolumeList(query)) {
        Answer::Volumes(found) => found.into_iter().map(|volume| volume.name).collect(),
        other => panic!("not volumes: {other:?}"),
    }
}

#[test]
fn volumes_and_snapshots_are_found_by_id_and_no_name_looks_like_one() {
    let (cluster, one, two) = two_volumes(31);
    let by_id = format!("volume-{}", one.id);
    assert_eq!(cluster.show(1, &by_id).name, "one");
    let Answer::Snapshot(taken) = cluster.operate(2, snapshot(&by_id, "s")) else {
        panic!("not a snapshot")
    };
    assert_eq!(taken.labels["for"], "s");
    let Answer::Snapshot(shown) = cluster.operate(1, Operation::SnapshotShow { id: taken.id })
    else {
        panic!("not a snapshot")
    };
    assert_eq!((shown.name.as_str(), shown.volume_id), ("s", one.id));
    let delete = |volume: &str| Operation::SnapshotDelete {
        volume: volume.to_owned(),
        name: format!("snapshot-{}", taken.id),
    };
    let stranger = cluster.try_operate(0, delete("two")).expect_err("of one");
    assert_eq!(stranger.kind, ErrorKind::NotFound);
    cluster.operate(0, delete(&by_id));
    let gone = cluster.try_operate(0, Operation::SnapshotShow { id: taken.id });
    assert_eq!(gone.expect_err("deleted").kind, ErrorKind::NotFound);
    let spec = VolumeSpec {
        name: "volume-7".to_owned(),
        container: Some("c".to_owned()),
        size: Some(MIB),
        ..VolumeSpec::default()
    };
    let refused = cluster.try_operate(0, Operation::VolumeCreate(spec));
    assert_eq!(refused.expect_err("a number").kind, ErrorKind::BadRequest);
    let refused = cluster.try_operate(0, snapshot("two", "snapshot-7"));
    assert_eq!(refused.expect_err("a number").kind, ErrorKind::BadRequest);
    assert!(two.id > one.id);
}

#[test]
fn lists_come_in_pages_and_filtered() {
    let (cluster, one, _) = two_volumes(32);
    cluster.operate(0, snapshot("one", "s1"));
    cluster.operate(0, snapshot("two", "s2"));
    let page = |after, limit| ListQuery {
        after,
        limit,
        ..ListQuery::default()
    };
    assert_eq!(volumes(&cluster, page(None, Some(1))), ["one"]);
    assert_eq!(volumes(&cluster, page(Some(one.id), Some(2))), ["two"]);
    let labelled = ListQuery {
        label: Some("for=s2".to_owned()),
        ..ListQuery::default()
    };
    let found = snapshots(&cluster, labelled);
    assert_eq!((found.len(), found[0].name.as_str()), (1, "s2"));
    let of_one = ListQuery {
        volume: Some(format!("volume-{}", one.id)),
        ..ListQuery::default()
    };
    assert_eq!(snapshots(&cluster, of_one).len(), 1);
    let limited = ListQuery {
        containers: vec!["other".to_owned()],
        ..ListQuery::default()
    };
    assert_eq!(volumes(&cluster, limited.clone()), Vec::<String>::new());
    assert_eq!(snapshots(&cluster, limited).len(), 0);
    let Answer::Cluster(nodes) = cluster.operate(0, Operation::Cluster) else {
        panic!("not the cluster")
    };
    assert_eq!((nodes.nodes.len(), nodes.id.is_empty()), (3, false));
}

#[test]
fn clone_of_the_present_may_be_larger_and_leaves_no_snapshot() {
    let (cluster, ..) = two_volumes(33);
    let device = cluster.device(1, "one");
    cluster.write(1, &device, 5, 9);
    let clone = |name: &str, size| {
        Operation::VolumeCreate(VolumeSpec {
            name: name.to_owned(),
            size,
            from: Some(SnapshotRef {
                volume: "one".to_owned(),
                snapshot: None,
            }),
            ..VolumeSpec::default()
        })
    };
    let cloned = volume_of(cluster.operate(2, clone("larger", Some(32 * MIB))));
    assert_eq!(cloned.size, 32 * MIB);
    assert_eq!(
        cloned.origin.and_then(|origin| origin.volume).as_deref(),
        Some("one")
    );
    cluster.write(1, &device, 5, 10);
    let grown = cluster.device(2, "larger");
    assert_eq!(cluster.read(2, &grown, 5), 9);
    cluster.write(2, &grown, 5000, 11);
    assert_eq!(cluster.read(2, &grown, 5000), 11);
    let again = cluster.try_operate(0, clone("larger", Some(32 * MIB)));
    assert_eq!(again.expect_err("it exists").kind, ErrorKind::Exists);
    let small = cluster.try_operate(0, clone("smaller", Some(MIB)));
    assert_eq!(small.expect_err("too small").kind, ErrorKind::BadRequest);
    assert_eq!(snapshots(&cluster, ListQuery::default()).len(), 0);
    cluster.sim.run_for(Duration::from_secs(15));
    let internal = ListQuery {
        label: Some("azekura.dev/internal=clone".to_owned()),
        ..ListQuery::default()
    };
    assert_eq!(snapshots(&cluster, internal).len(), 0);
}

#[test]
fn parts_of_a_diff_are_exact_and_follow_each_other() {
    let (cluster, ..) = two_volumes(34);
    let device = cluster.device(1, "one");
    for block in [1, 2, 10, 20, 21, 30] {
        cluster.write(1, &device, block, 1);
    }
    cluster.operate(0, snapshot("one", "s"));
    let mut found = Vec::new();
    let mut offset = Some(0);
    while let Some(from) = offset {
        let part = Operation::SnapshotDiff {
            volume: "one".to_owned(),
            from: None,
            to: Some("s".to_owned()),
            offset: from,
            limit: Some(2),
        };
        let Answer::Diff(part) = cluster.operate(0, part) else {
            panic!("not a diff")
        };
        assert_eq!(part.size, 16 * MIB);
        assert!(part.runs.len() <= 2);
        found.extend(part.runs.iter().map(|run| (run.offset, run.length)));
        offset = part.next;
    }
    let blocks = [(1, 2), (10, 1), (20, 2), (30, 1)];
    assert_eq!(
        found,
        blocks.map(|(block, count)| (block * 4096, count * 4096))
    );
}

#[test]
fn changed_limit_slows_the_owner_down_and_labels_follow() {
    let (cluster, ..) = two_volumes(35);
    let device = cluster.device(1, "one");
    cluster.write(1, &device, 0, 1);
    let set = |limit| Operation::VolumeSet {
        name: "one".to_owned(),
        change: VolumeChange {
            labels: BTreeMap::from([("app".to_owned(), Some("db".to_owned()))]),
            iops_limit: Some(limit),
            ..VolumeChange::default()
        },
    };
    let changed = volume_of(cluster.operate(2, set(10)));
    assert_eq!(changed.iops_limit, Some(10));
    assert_eq!(changed.labels["app"], "db");
    let began = cluster.sim.now();
    for block in 0..40 {
        cluster.write(1, &device, block, 2);
    }
    let took = cluster.sim.now().since(began);
    // Ten at once, thirty more at ten a second.
    assert!(took >= Duration::from_millis(2800), "{took:?}");
    assert_eq!(volume_of(cluster.operate(0, set(0))).iops_limit, None);
    let began = cluster.sim.now();
    for block in 0..40 {
        cluster.write(1, &device, block, 3);
    }
    assert!(cluster.sim.now().since(began) < Duration::from_secs(1));
}
