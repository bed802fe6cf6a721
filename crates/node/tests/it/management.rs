//! What programs ask of the management plane: ids instead of names, pages, clones of the present, parts of a
//! diff, limits.

use crate::support::{Cluster, MIB, volume_of};
use api::{
    Answer, ContainerSpec, ErrorKind, GroupSnapshotSpec, ListQuery, ListSort, MinCopies, Operation,
    SnapshotRef, VolumeAnswer, VolumeChange, VolumeSpec,
};
use blockdev::{BlockDevice, WriteMode};
use bytes::Bytes;
use catalog::{Catalog, ClusterRow, Transaction};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{BLOCK_SIZE, Lba, Levels};
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

/// Whether a write is acknowledged within a while.
fn is_written(cluster: &Cluster, device: &Rc<dyn BlockDevice>, fill: u8) -> bool {
    let (device, world) = (device.clone(), cluster.machines[0].host.world());
    let data = vec![Bytes::from(vec![fill; BLOCK_SIZE])];
    cluster.run(0, async move {
        let write = device.write(Lba(0), data, WriteMode::Fua);
        world.timeout(Duration::from_secs(20), write).await.is_ok()
    })
}

#[test]
fn strict_volumes_write_on_with_enough_stores_and_wait_for_them_otherwise() {
    let cluster = Cluster::new(42, 3);
    let spec = ContainerSpec {
        min_copies: Some(MinCopies::Strict),
        ..crate::support::container_spec("c")
    };
    cluster.operate(0, Operation::ContainerCreate(spec));
    cluster.create_volume(0, "v", 16 * MIB);
    let device = cluster.device(0, "v");
    assert!(is_written(&cluster, &device, 1));
    assert_eq!(cluster.owner(0, "v"), 0);
    cluster.crash(2);
    assert!(
        is_written(&cluster, &device, 2),
        "two stores are enough for two copies"
    );
    cluster.crash(1);
    assert!(!is_written(&cluster, &device, 3), "one store is not");
    cluster.restart(1);
    assert!(is_written(&cluster, &device, 4));
    assert_eq!(cluster.read(0, &device, 0), 4);
}

/// The cluster's id as a node tells it.
fn cluster_id(cluster: &Cluster, index: usize) -> String {
    match cluster.operate(index, Operation::Cluster) {
        Answer::Cluster(answer) => {
            assert_eq!(answer.name, "test");
            answer.id
        }
        other => panic!("not a cluster: {other:?}"),
    }
}

#[test]
fn the_first_node_draws_the_cluster_id_and_it_stays() {
    let cluster = Cluster::new(40, 2);
    assert_eq!(cluster_id(&cluster, 0), "drawn-by-a");
    assert_eq!(cluster_id(&cluster, 1), "drawn-by-a");
    let mut options = cluster.options_of(1);
    options.cluster_id = "drawn-again".to_owned();
    cluster.crash(1);
    cluster.machines[1].host.restart();
    cluster.try_start(1, options).expect("it starts again");
    assert_eq!(cluster_id(&cluster, 1), "drawn-by-a");
}

#[test]
fn a_cluster_made_before_ids_were_drawn_keeps_its_name_as_id() {
    let cluster = Cluster::new(41, 1);
    let kv = cluster.kv.handle(cluster.machines[0].host.world());
    let before = ClusterRow {
        id: "test".to_owned(),
        name: "test".to_owned(),
        level: Levels::OWN.newest,
        era: 0,
    };
    let written = async move {
        let catalog = Catalog::new(Rc::new(kv));
        catalog.commit(Transaction::new().put(&before)).await
    };
    cluster.run(0, written).expect("the row is replaced");
    cluster.crash(0);
    cluster.restart(0);
    assert_eq!(cluster_id(&cluster, 0), "test");
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
    let sorted = |sort, after| ListQuery {
        sort: Some(sort),
        after,
        limit: Some(1),
        ..ListQuery::default()
    };
    // By name "one" comes first, which is the first by id as well: from the other end it comes last.
    assert_eq!(volumes(&cluster, sorted(ListSort::Name, None)), ["one"]);
    let from_the_end = sorted(ListSort::NameDown, None);
    assert_eq!(volumes(&cluster, from_the_end), ["two"]);
    let two = cluster.show(0, "two").id;
    for sort in [ListSort::NameDown, ListSort::CreatedDown] {
        assert_eq!(
            volumes(&cluster, sorted(sort, Some(two))),
            ["one"],
            "{sort:?}"
        );
        let end = volumes(&cluster, sorted(sort, Some(one.id)));
        assert!(end.is_empty(), "{sort:?}: {end:?}");
    }
    let gone = cluster.try_operate(0, Operation::VolumeList(sorted(ListSort::Size, Some(999))));
    assert_eq!(gone.expect_err("there is none").kind, ErrorKind::BadRequest);
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

fn clones(cluster: &Cluster, query: ListQuery) -> Vec<api::CloneAnswer> {
    match cluster.operate(1, Operation::CloneList(query)) {
        Answer::Clones(clones) => clones,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sorted_list_tells_nothing_of_what_who_asks_may_not_see() {
    let (cluster, one, _) = two_volumes(39);
    cluster.create_container("gold", 1);
    let spec = VolumeSpec {
        name: "mine".to_owned(),
        container: Some("gold".to_owned()),
        size: Some(MIB),
        ..VolumeSpec::default()
    };
    cluster.operate(0, Operation::VolumeCreate(spec));
    let behind = |id, containers: &[&str]| {
        let query = ListQuery {
            sort: Some(ListSort::Name),
            after: Some(id),
            containers: containers.iter().map(|name| (*name).to_owned()).collect(),
            ..ListQuery::default()
        };
        cluster.try_operate(1, Operation::VolumeList(query))
    };
    let gone = behind(9999, &["gold"]).expect_err("there is none");
    let foreign = behind(one.id, &["gold"]).expect_err("it is in another container");
    let text = |error: &api::OperationError| {
        error
            .message
            .replace(|sign: char| sign.is_ascii_digit(), "")
    };
    assert_eq!((foreign.kind, text(&foreign)), (gone.kind, text(&gone)));
    assert!(behind(one.id, &[]).is_ok());
}

#[test]
fn clones_are_listed_with_what_they_were_started_from() {
    let (cluster, one, _) = two_volumes(37);
    cluster.operate(0, snapshot("one", "s"));
    let clone = |name: &str, from: &str, snapshot: Option<&str>| {
        Operation::VolumeCreate(VolumeSpec {
            name: name.to_owned(),
            from: Some(SnapshotRef {
                volume: from.to_owned(),
                snapshot: snapshot.map(str::to_owned),
            }),
            ..VolumeSpec::default()
        })
    };
    assert!(clones(&cluster, ListQuery::default()).is_empty());
    cluster.operate(0, clone("z", "one", Some("s")));
    cluster.operate(0, clone("a", "two", None));
    let names = |query| -> Vec<String> {
        let found = clones(&cluster, query).into_iter();
        found.map(|clone| clone.name).collect()
    };
    assert_eq!(names(ListQuery::default()), ["z", "a"], "by id");
    let all = clones(&cluster, ListQuery::default());
    assert_eq!(
        (all[0].volume.as_deref(), all[0].snapshot.as_deref()),
        (Some("one"), Some("s"))
    );
    assert_eq!((all[0].volume_id, all[1].snapshot.as_ref()), (one.id, None));
    let sorted = |after| ListQuery {
        sort: Some(ListSort::Name),
        limit: Some(1),
        after,
        ..ListQuery::default()
    };
    assert_eq!(names(sorted(None)), ["a"]);
    assert_eq!(names(sorted(Some(all[1].id))), ["z"]);
    let of = |volume: &str| ListQuery {
        volume: Some(volume.to_owned()),
        ..ListQuery::default()
    };
    assert_eq!(names(of("two")), ["a"]);
    let missing = cluster.try_operate(0, Operation::CloneList(of("none")));
    assert_eq!(missing.expect_err("no volume").kind, ErrorKind::NotFound);
    let elsewhere = ListQuery {
        container: Some("other".to_owned()),
        ..ListQuery::default()
    };
    assert!(names(elsewhere.clone()).is_empty());
    assert!(volumes(&cluster, elsewhere).is_empty());
    let stopped = ListQuery {
        state: Some("stopped".to_owned()),
        ..ListQuery::default()
    };
    assert!(names(stopped.clone()).is_empty());
    assert!(volumes(&cluster, stopped).is_empty());
}

#[test]
fn placement_groups_are_listed_with_their_stores() {
    let (cluster, ..) = two_volumes(38);
    let Answer::Groups(groups) = cluster.operate(1, Operation::GroupList) else {
        panic!("not groups")
    };
    assert!(!groups.is_empty());
    for group in &groups {
        assert_eq!(
            (group.state.as_str(), group.missing),
            ("ok", 0),
            "{group:?}"
        );
        assert_eq!(group.members.len(), usize::from(group.rf));
        let complete = |one: &api::GroupStoreAnswer| one.role == "complete" && one.bytes.is_some();
        assert!(group.members.iter().all(complete), "{group:?}");
        assert!(group.bytes.is_some() && group.former.is_empty());
    }
    let first = groups[0].id;
    let Answer::Group(one) = cluster.operate(2, Operation::GroupShow { id: first }) else {
        panic!("not a group")
    };
    assert_eq!(
        (one.id, one.members.len()),
        (first, groups[0].members.len())
    );
    let missing = cluster.try_operate(0, Operation::GroupShow { id: u32::MAX });
    assert_eq!(missing.expect_err("no group").kind, ErrorKind::NotFound);
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

fn group(name: &str, volumes: &[&str]) -> Operation {
    Operation::GroupSnapshotCreate(GroupSnapshotSpec {
        name: name.to_owned(),
        volumes: volumes.iter().map(|&name| name.to_owned()).collect(),
        labels: BTreeMap::new(),
    })
}

/// Writes 1, 2, 3, ... to both volumes in turn, each once the one before is acknowledged.
async fn write_in_turn(devices: [Rc<dyn blockdev::BlockDevice>; 2], stop: Rc<Cell<bool>>) -> u8 {
    let mut fill = 0;
    while !stop.get() && fill < 250 {
        fill += 1;
        for device in &devices {
            let data = vec![bytes::Bytes::from(vec![fill; 4096])];
            let written = device.write(vocab::Lba(0), data, blockdev::WriteMode::Buffered);
            written.await.expect("the cluster is healthy");
        }
    }
    fill
}

#[test]
fn members_of_a_group_snapshot_are_one_point_in_time_of_writes_that_depend_on_each_other() {
    let (cluster, ..) = two_volumes(36);
    // Different owners.
    let devices = [cluster.device(1, "one"), cluster.device(2, "two")];
    cluster.write(1, &devices[0], 1, 1);
    cluster.write(2, &devices[1], 1, 1);
    for round in 0..8 {
        let name = format!("g{round}");
        // What an earlier round has written would look like the future of this one.
        cluster.write(2, &devices[1], 0, 0);
        cluster.write(1, &devices[0], 0, 0);
        let stop = Rc::new(Cell::new(false));
        let writer = write_in_turn(
            [cluster.device(0, "one"), cluster.device(0, "two")],
            stop.clone(),
        );
        let host = cluster.node(0);
        let world = cluster.sim.now();
        let take = group(&name, &["one", "two"]);
        let both = async move {
            let taken = async {
                let answer = host.operate(take).await;
                stop.set(true);
                answer
            };
            futures_util::future::join(writer, taken).await
        };
        let (written, taken) = cluster.run(0, both);
        assert!(cluster.sim.now() > world);
        let Answer::GroupSnapshot(taken) = taken.expect("taken") else {
            panic!("not a group snapshot")
        };
        assert!(taken.ready && taken.snapshots.len() == 2, "{taken:?}");
        let mut seen = Vec::new();
        for volume in ["one", "two"] {
            let clone = format!("{name}-{volume}");
            cluster.operate(
                1,
                Operation::VolumeCreate(VolumeSpec {
                    name: clone.clone(),
                    from: Some(SnapshotRef {
                        volume: volume.to_owned(),
                        snapshot: Some(name.clone()),
                    }),
                    ..VolumeSpec::default()
                }),
            );
            let device = cluster.device(1, &clone);
            seen.push(cluster.read(1, &device, 0));
        }
        let (first, second) = (seen[0], seen[1]);
        assert!(
            second <= first && first <= second + 1,
            "{seen:?} of {written}"
        );
    }
}

#[test]
fn group_snapshot_is_idempotent_by_name_and_deleted_with_its_members() {
    let (cluster, ..) = two_volumes(37);
    let Answer::GroupSnapshot(taken) = cluster.operate(0, group("g", &["one", "two"])) else {
        panic!("not a group snapshot")
    };
    assert_eq!(taken.snapshots[0].group.as_deref(), Some(taken.id.as_str()));
    let again = cluster.operate(2, group("g", &["two", "one"]));
    let Answer::GroupSnapshot(again) = again else {
        panic!("not a group snapshot")
    };
    assert_eq!(again.id, taken.id);
    let other = cluster.try_operate(1, group("g", &["one"]));
    assert_eq!(other.expect_err("another set").kind, ErrorKind::Exists);
    let twice = cluster.try_operate(1, group("h", &["one", "one"]));
    assert_eq!(twice.expect_err("twice").kind, ErrorKind::BadRequest);
    let missing = cluster.try_operate(1, group("h", &["one", "none"]));
    assert_eq!(missing.expect_err("none").kind, ErrorKind::NotFound);
    let Answer::GroupSnapshots(all) = cluster.operate(1, Operation::GroupSnapshotList) else {
        panic!("not group snapshots")
    };
    assert_eq!(all.len(), 1);
    let id = taken.id.clone();
    cluster.operate(1, Operation::GroupSnapshotDelete { id });
    assert_eq!(snapshots(&cluster, ListQuery::default()).len(), 0);
    let show = Operation::GroupSnapshotShow { id: taken.id };
    let gone = cluster.try_operate(1, show);
    assert_eq!(gone.expect_err("deleted").kind, ErrorKind::NotFound);
}

#[test]
fn member_whose_name_is_taken_leaves_nothing_of_the_group() {
    let (cluster, ..) = two_volumes(38);
    cluster.operate(0, snapshot("two", "g"));
    let failed = cluster.try_operate(0, group("g", &["one", "two"]));
    assert_eq!(failed.expect_err("taken").kind, ErrorKind::Exists);
    let left = snapshots(&cluster, ListQuery::default());
    assert_eq!((left.len(), left[0].group.clone()), (1, None));
    // Writes go on at once.
    let device = cluster.device(1, "one");
    cluster.write(1, &device, 0, 1);
}

#[test]
fn pause_that_nobody_ends_ends_by_itself_and_is_then_known_not_to_have_held() {
    let (cluster, ..) = two_volumes(39);
    let device = cluster.device(1, "one");
    cluster.write(1, &device, 0, 1);
    let (volume, pause) = ("one".to_owned(), "p".to_owned());
    cluster.operate(
        1,
        Operation::VolumePause {
            volume: volume.clone(),
            pause: pause.clone(),
        },
    );
    let began = cluster.sim.now();
    cluster.write(1, &device, 0, 2);
    let held = cluster.sim.now().since(began);
    assert!(
        held > Duration::from_millis(1500) && held < Duration::from_millis(2500),
        "{held:?}"
    );
    let resumed = cluster.try_operate(1, Operation::VolumeResume { volume, pause });
    assert_eq!(resumed.expect_err("over").kind, ErrorKind::Refused);
}

#[test]
fn every_node_says_what_it_runs_with() {
    let cluster = Cluster::with_options(40, 3, |options| {
        options.space.warn_percent = match options.name.as_str() {
            "b" => 60,
            _ => 75,
        };
        if options.name == "b" {
            options.process = Some(std::rc::Rc::new(Showing));
        }
    });
    // Each hears of the others by the catalog.
    cluster.sim.run_for(Duration::from_secs(1));
    let Answer::Settings(settings) = cluster.operate(1, Operation::SettingList) else {
        panic!("settings are answered");
    };
    let warn = settings
        .iter()
        .filter(|setting| setting.key == "space-warning-percent");
    let warn: Vec<(&str, u64)> = warn
        .map(|setting| (setting.node.as_str(), setting.value))
        .collect();
    assert_eq!(warn, [("a", 75), ("b", 60), ("c", 75)]);
    let lease = settings.iter().find(|setting| setting.key == "lease");
    let lease = lease.expect("all have one");
    assert_eq!((lease.value, lease.unit.as_str()), (2000, "milliseconds"));
    let shown = settings
        .iter()
        .filter(|setting| setting.key == "tls.certificate");
    let shown: Vec<_> = shown
        .map(|setting| (setting.node.as_str(), setting.value, setting.unit.as_str()))
        .collect();
    assert_eq!(shown, [("b", 1_800_000_000_000, "unix-milliseconds")]);
}

/// A process that shows browsers a certificate of another authority.
#[derive(Debug)]
struct Showing;

impl node::Process for Showing {
    fn usage(&self) -> Option<node::Usage> {
        None
    }

    fn browser_certificate_until_ms(&self) -> Option<u64> {
        Some(1_800_000_000_000)
    }
}
