//! Whole nodes in the simulator: operations, I/O through gateways, loss of nodes.

use crate::support::{Client, Cluster, MIB, volume_of};
use api::{
    AlertAnswer, AlertOperation, AlertQuery, AlertState, Answer, ErrorKind, EventAnswer,
    EventQuery, ListQuery, Operation, SnapshotRef, VolumeAnswer, VolumeSpec,
};
use blockdev::{BlockError, WriteMode};
use bytes::Bytes;
use catalog_kv::memory::Outage;
use std::collections::BTreeMap;
use vocab::{BLOCK_SIZE, Lba};
use world::Duration;

fn name(text: &str) -> String {
    text.to_owned()
}

fn three(seed: u64) -> Cluster {
    let cluster = Cluster::new(seed, 3);
    cluster.create_container("c", 3);
    cluster
}

#[test]
fn a_volume_is_read_and_written_through_every_node() {
    let cluster = three(1);
    let created = cluster.create_volume(1, "v", 64 * MIB);
    assert_eq!((created.state.as_str(), created.rf), ("ready", 3));
    let devices: Vec<_> = (0..3).map(|index| cluster.device(index, "v")).collect();
    for (index, device) in devices.iter().enumerate() {
        assert_eq!(device.size().0, 64 * MIB);
        cluster.write(index, device, index as u64, 10 + index as u8);
    }
    for (index, device) in devices.iter().enumerate() {
        for lba in 0..3 {
            assert_eq!(cluster.read(index, device, lba), 10 + lba as u8);
        }
        assert_eq!(cluster.read(index, device, 99), 0);
    }
    // Opened before its node had heard of every store, a log gets the copy it lacks within seconds.
    cluster.sim.run_for(Duration::from_secs(5));
    let shown = cluster.show(2, "v");
    assert_eq!(shown.log.len(), 3, "{shown:?}");
    assert_eq!(cluster.owner(2, "v"), 0, "the first gateway's node took it");
}

#[test]
fn io_goes_on_when_the_owner_dies() {
    let cluster = three(2);
    cluster.create_volume(0, "v", 64 * MIB);
    let owner_device = cluster.device(0, "v");
    cluster.write(0, &owner_device, 7, 1);
    let device = cluster.device(1, "v");
    assert_eq!(cluster.read(1, &device, 7), 1);
    drop(owner_device);
    cluster.crash(0);
    let began = cluster.sim.now();
    cluster.write(1, &device, 8, 2);
    let took = cluster.sim.now().since(began);
    assert!(took < Duration::from_secs(10), "the takeover took {took:?}");
    assert_eq!(cluster.read(1, &device, 7), 1);
    assert_eq!(cluster.read(1, &device, 8), 2);
    assert_ne!(cluster.show(1, "v").owner, Some(1));
}

#[test]
fn a_restarted_owner_serves_its_volume_again() {
    let cluster = three(3);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(2, "v");
    for lba in 0..50 {
        cluster.write(2, &device, lba, lba as u8);
    }
    let owner = cluster.owner(2, "v");
    cluster.crash(owner);
    cluster.restart(owner);
    let device = cluster.device(owner, "v");
    for lba in 0..50 {
        assert_eq!(cluster.read(owner, &device, lba), lba as u8);
    }
    cluster.write(owner, &device, 0, 200);
    assert_eq!(cluster.read(owner, &device, 0), 200);
}

#[test]
fn everything_is_there_after_a_power_loss_of_all_nodes() {
    let cluster = three(4);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(1, "v");
    for lba in 0..20 {
        cluster.write(1, &device, lba, 1 + lba as u8);
    }
    drop(device);
    for machine in &cluster.machines {
        machine.host.power_loss();
    }
    for index in 0..3 {
        cluster.crash(index);
    }
    for index in 0..3 {
        cluster.restart(index);
    }
    let device = cluster.device(2, "v");
    for lba in 0..20 {
        assert_eq!(cluster.read(2, &device, lba), 1 + lba as u8);
    }
}

#[test]
fn what_a_power_loss_took_is_had_from_a_living_replica_that_the_owner_cannot_reach() {
    let cluster = Cluster::new(11, 3);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(0, "v");
    // The log is at full width then.
    cluster.sim.run_for(Duration::from_secs(5));
    let written = cluster.run(0, {
        let device = device.clone();
        async move {
            for lba in 0..40 {
                let data = vec![Bytes::from(vec![1 + lba as u8; BLOCK_SIZE])];
                // Acknowledged, and not flushed.
                device.write(Lba(lba), data, WriteMode::Buffered).await?;
            }
            Ok::<_, BlockError>(())
        }
    });
    written.expect("nothing fails yet");
    drop(device);
    let owner = cluster.owner(0, "v");
    let replicas = cluster.show(0, "v").log;
    assert_eq!(replicas.len(), 2, "{replicas:?}");
    let holds = |index: &usize| {
        let stores = cluster.node(*index).stores();
        let mut ids = stores.iter().map(|store| store.id().0);
        ids.any(|id| replicas.iter().any(|replica| replica.store == id))
    };
    let other = (0..3).find(|index| *index != owner && holds(index));
    let other = other.expect("a replica on another node");
    let third = (0..3).find(|index| *index != owner && *index != other);
    let third = third.expect("three nodes");

    cluster.machines[owner].host.power_loss();
    cluster.crash(owner);
    cluster
        .sim
        .partition_both(&cluster.machines[owner].host, &cluster.machines[other].host);
    cluster.restart(owner);
    // The old owner may be asked first: it must not decide by its own, suspect replica.
    let from_owner = cluster.device(owner, "v");
    for lba in 0..40 {
        assert_eq!(cluster.read(owner, &from_owner, lba), 1 + lba as u8);
    }
    let device = cluster.device(third, "v");
    assert_eq!(cluster.read(third, &device, 39), 40);
}

#[test]
fn a_stopped_node_hands_its_volumes_over_at_once() {
    let cluster = three(5);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 3, 9);
    assert_eq!(cluster.owner(1, "v"), 0);
    drop(device);
    let node = cluster.node(0);
    cluster.run(0, async move { node.stop().await });
    let began = cluster.sim.now();
    let device = cluster.device(1, "v");
    assert_eq!(cluster.read(1, &device, 3), 9);
    let took = cluster.sim.now().since(began);
    assert!(took < Duration::from_secs(5), "the hand-over took {took:?}");
}

#[test]
fn a_partitioned_owner_loses_its_volume_and_lets_go_of_it() {
    let cluster = three(6);
    cluster.create_volume(0, "v", 64 * MIB);
    let old = cluster.device(0, "v");
    cluster.write(0, &old, 1, 1);
    assert_eq!(cluster.owner(1, "v"), 0);
    let device = cluster.device(1, "v");
    cluster.sim.isolate(&cluster.machines[0].host);
    cluster.set_outage_of(0, Outage::Before);
    cluster.write(1, &device, 1, 2);
    assert_eq!(cluster.read(1, &device, 1), 2);
    let served = cluster.node(0).volumes().len();
    assert_eq!(served, 1, "it cannot know yet");
    cluster.sim.heal_all();
    cluster.set_outage_of(0, Outage::None);
    // The old gateway finds the new owner.
    assert_eq!(cluster.read(0, &old, 1), 2);
    assert!(cluster.node(0).volumes().is_empty());
}

#[test]
fn snapshot_clone_resize_restore_and_delete() {
    let cluster = three(7);
    cluster.create_volume(0, "v", 16 * MIB);
    let device = cluster.device(1, "v");
    cluster.write(1, &device, 0, 1);
    let (volume, snapshot) = (name("v"), name("s1"));
    let create = Operation::SnapshotCreate {
        volume: volume.clone(),
        name: snapshot.clone(),
        labels: BTreeMap::new(),
        group: None,
    };
    assert!(matches!(
        cluster.operate(2, create.clone()),
        Answer::Snapshot(_)
    ));
    let again = cluster
        .try_operate(2, create)
        .expect_err("the name is taken");
    assert_eq!(again.kind, ErrorKind::Exists);
    cluster.write(1, &device, 0, 2);
    cluster.write(1, &device, 5, 3);

    let clone = Operation::VolumeCreate(VolumeSpec {
        name: name("clone"),
        container: None,
        size: None,
        from: Some(SnapshotRef {
            volume: volume.clone(),
            snapshot: Some(snapshot.clone()),
        }),
        ..VolumeSpec::default()
    });
    let cloned = volume_of(cluster.operate(2, clone));
    assert_eq!(cloned.size, 16 * MIB);
    let clone_device = cluster.device(2, "clone");
    assert_eq!(cluster.read(2, &clone_device, 0), 1);
    assert_eq!(cluster.read(2, &clone_device, 5), 0);
    cluster.write(2, &clone_device, 0, 77);
    assert_eq!(cluster.read(1, &device, 0), 2);

    let diff = Operation::SnapshotDiff {
        volume: volume.clone(),
        from: Some(snapshot.clone()),
        to: None,
        offset: 0,
        limit: None,
    };
    let Answer::Diff(diff) = cluster.operate(0, diff) else {
        panic!("not a diff")
    };
    let covers = |byte: u64| {
        diff.runs
            .iter()
            .any(|run| run.offset <= byte && byte < run.offset + run.length)
    };
    assert!(
        covers(0) && covers(5 * 4096) && !covers(9 * 4096),
        "{diff:?}"
    );

    let grown = volume_of(cluster.operate(
        2,
        Operation::VolumeResize {
            name: volume.clone(),
            size: 32 * MIB,
        },
    ));
    assert_eq!(grown.size, 32 * MIB);
    cluster.write(1, &device, 5000, 4);
    let shrink = Operation::VolumeResize {
        name: volume.clone(),
        size: 16 * MIB,
    };
    assert_eq!(
        cluster.try_operate(0, shrink).expect_err("too small").kind,
        ErrorKind::Refused
    );

    let restore = Operation::VolumeRestore {
        volume: volume.clone(),
        snapshot: snapshot.clone(),
    };
    let busy = cluster
        .try_operate(0, restore.clone())
        .expect_err("it is open");
    assert_eq!(busy.kind, ErrorKind::Refused, "{busy}");
    drop(device);
    cluster.sim.run_for(Duration::from_secs(3));
    cluster.operate(0, restore);
    let device = cluster.device(0, "v");
    assert_eq!(cluster.read(0, &device, 0), 1);
    assert_eq!(cluster.read(0, &device, 5), 0);
    drop(device);
    cluster.sim.run_for(Duration::from_secs(3));

    cluster.operate(
        1,
        Operation::SnapshotDelete {
            volume: volume.clone(),
            name: snapshot,
        },
    );
    cluster.operate(
        1,
        Operation::VolumeDelete {
            name: volume.clone(),
        },
    );
    let gone = cluster
        .try_operate(2, Operation::VolumeShow { name: volume })
        .expect_err("deleted");
    assert_eq!(gone.kind, ErrorKind::NotFound);
    assert_eq!(cluster.read(2, &clone_device, 0), 77);
}

#[test]
fn attach_keeps_others_out_and_detach_fences_the_client() {
    let cluster = three(8);
    cluster.create_volume(0, "v", 16 * MIB);
    let anonymous = cluster.device(1, "v");
    cluster.write(1, &anonymous, 0, 1);
    let attach = |client: &str| Operation::Attach {
        volume: name("v"),
        client: name(client),
        read_only: false,
        shared: false,
    };
    let Answer::Attachment(attached) = cluster.operate(2, attach("host-1")) else {
        panic!("not an attachment")
    };
    assert_eq!(attached.clients, ["host-1"]);
    let refused = cluster.try_operate(0, attach("host-2")).expect_err("taken");
    assert_eq!(refused.kind, ErrorKind::InUse);
    assert!(refused.message.contains("host-1"), "{refused}");
    let device = anonymous.clone();
    let late = cluster.run(1, async move { device.read(vocab::Lba(0), 1).await });
    assert!(
        late.is_err(),
        "an anonymous session must not outlive the attachment"
    );
    let delete = Operation::VolumeDelete { name: name("v") };
    assert_eq!(
        cluster.try_operate(1, delete).expect_err("attached").kind,
        ErrorKind::InUse
    );
    let detach = Operation::Detach {
        volume: name("v"),
        client: None,
    };
    let Answer::Attachment(detached) = cluster.operate(1, detach) else {
        panic!("not one")
    };
    assert!(detached.generation > attached.generation && detached.clients.is_empty());
    let device = cluster.device(2, "v");
    assert_eq!(cluster.read(2, &device, 0), 1);
}

#[test]
fn readers_are_let_in_and_fenced_one_by_one() {
    let cluster = three(41);
    cluster.create_volume(0, "v", 16 * MIB);
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 0, 7);
    drop(device);
    let attach = |client: &str, shared: bool| Operation::Attach {
        volume: name("v"),
        client: name(client),
        read_only: true,
        shared,
    };
    let granted = |index: usize, client: &str| match cluster.operate(index, attach(client, true)) {
        Answer::Attachment(now) => now.generation_of(client),
        other => panic!("not an attachment: {other:?}"),
    };
    let one = granted(0, "one");
    let two = granted(1, "two");
    assert_ne!(one, two);
    assert_eq!(
        granted(2, "one"),
        one,
        "the same client again changes nothing"
    );
    let alone = cluster.try_operate(0, attach("three", false));
    assert_eq!(alone.expect_err("others read").kind, ErrorKind::InUse);
    let open = |generation| Client::open(&cluster, 2, "v", generation);
    let first = open(one).expect("it is attached");
    let second = open(two).expect("it is attached");
    assert_eq!((first.read(), second.read()), (Ok(7), Ok(7)));
    assert!(first.write(8).is_err(), "readers do not write");

    let detach = |client: &str| Operation::Detach {
        volume: name("v"),
        client: Some(name(client)),
    };
    cluster.operate(2, detach("one"));
    assert!(first.read().is_err(), "it was sent away");
    assert_eq!(second.read(), Ok(7), "it stays");
    // A new owner knows them apart, too.
    assert_eq!(cluster.owner(2, "v"), 0);
    cluster.crash(0);
    assert_eq!(second.read(), Ok(7));
    assert!(open(one).is_err());
    let back = granted(2, "one");
    assert!(back > two);
    let again = open(back).expect("it is attached again");
    assert_eq!(again.read(), Ok(7));
    assert!(open(one).is_err(), "not with what let it in before");
    cluster.operate(2, detach("one"));
    cluster.operate(2, detach("two"));
    assert!(second.read().is_err());
    let writer = cluster.device(2, "v");
    cluster.write(2, &writer, 0, 9);
}

#[test]
fn a_client_that_is_started_again_supersedes_its_forerunner() {
    let cluster = three(44);
    cluster.create_volume(0, "v", 16 * MIB);
    let attach = || Operation::Attach {
        volume: name("v"),
        client: name("x"),
        read_only: false,
        shared: false,
    };
    let granted = || match cluster.operate(0, attach()) {
        Answer::Attachment(now) => now.generation_of("x"),
        other => panic!("not an attachment: {other:?}"),
    };
    let generation = granted();
    let id = client::client_id("x");
    let open = |generation| Client::open_as(&cluster, 2, "v", generation, id);
    let first = open(generation).expect("it is attached");
    assert_eq!(first.write(1), Ok(()));
    // Processes are ordered by the milliseconds of their starts.
    cluster.sim.run_for(Duration::from_millis(20));
    let second = open(generation).expect("the same client");
    assert_eq!(second.write(2), Ok(()));
    assert!(first.write(3).is_err(), "there is a newer one");
    assert_eq!(second.read(), Ok(2));

    // A clock that went back hides who is newer; a new attachment shows it.
    cluster.machines[2].host.jump_wall_clock(-3_600_000);
    let refused = open(generation).err().expect("it looks older").to_string();
    assert!(refused.contains("clock"), "{refused}");
    cluster.operate(
        1,
        Operation::Detach {
            volume: name("v"),
            client: None,
        },
    );
    let third = open(granted()).expect("a newer generation");
    assert_eq!(third.write(4), Ok(()));
    assert!(second.write(5).is_err(), "it was sent away");
    assert_eq!(third.read(), Ok(4));
}

#[test]
fn a_detach_succeeds_although_the_owner_is_cut_off_from_all_nodes() {
    let cluster = three(9);
    cluster.create_volume(0, "v", 16 * MIB);
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 0, 1);
    let attach = Operation::Attach {
        volume: name("v"),
        client: name("x"),
        read_only: false,
        shared: false,
    };
    cluster.operate(0, attach);
    assert_eq!(cluster.owner(1, "v"), 0);
    // It still reaches the catalog and keeps its lease.
    cluster.sim.isolate(&cluster.machines[0].host);
    let detach = Operation::Detach {
        volume: name("v"),
        client: Some(name("x")),
    };
    let answer = cluster.operate(1, detach);
    assert!(
        matches!(answer, Answer::Attachment(ref now) if now.clients.is_empty()),
        "{answer:?}"
    );
    assert_ne!(cluster.owner(1, "v"), 0);
}

#[test]
fn io_goes_on_without_the_catalog() {
    let cluster = three(10);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(1, "v");
    cluster.write(1, &device, 0, 1);
    cluster.kv.set_available(false);
    for second in 0..20 {
        cluster.write(1, &device, second, second as u8);
        cluster.sim.run_for(Duration::from_secs(1));
        assert_eq!(cluster.read(1, &device, second), second as u8);
    }
    cluster.kv.set_available(true);
    cluster.sim.run_for(Duration::from_secs(10));
    let alive = cluster.node(0).view().alive.len();
    assert_eq!(alive, 3, "everybody has a lease again");
    cluster.write(1, &device, 0, 5);
}

#[test]
fn a_deleted_volume_gives_its_space_back() {
    let cluster = three(11);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(0, "v");
    for lba in 0..64 {
        cluster.write(0, &device, lba * 3, lba as u8);
    }
    cluster.operate(0, Operation::VolumeDrain { name: name("v") });
    let extents = |cluster: &Cluster| -> u64 {
        let stores = (0..3).flat_map(|index| cluster.node(index).stores());
        stores.map(|store| store.status().extents).sum()
    };
    assert!(extents(&cluster) > 0);
    drop(device);
    cluster.sim.run_for(Duration::from_secs(1));
    cluster.operate(2, Operation::VolumeDelete { name: name("v") });
    let freed = cluster
        .sim
        .run_until(|| extents(&cluster) == 0, Duration::from_secs(120));
    assert!(freed, "{} extents are left", extents(&cluster));
}

#[test]
fn a_second_node_of_the_same_name_is_refused() {
    let cluster = Cluster::new(12, 2);
    let mut options = cluster.options_of(1);
    options.name = name("a");
    options.listen = world::Address::from("b:7999");
    cluster.crash(1);
    cluster.machines[1].host.restart();
    let refused = cluster.try_start(1, options).err().expect("a runs");
    assert!(
        refused.to_string().contains("a node named a is running"),
        "{refused}"
    );
    let mut options = cluster.options_of(1);
    options.cluster = name("other");
    cluster.machines[1].host.restart();
    let refused = cluster
        .try_start(1, options)
        .err()
        .expect("another cluster");
    assert!(
        refused.to_string().contains("belongs to cluster test"),
        "{refused}"
    );
}

/// Three nodes, and a volume that was written to.
fn three_with_a_log(seed: u64) -> (Cluster, VolumeAnswer) {
    with_a_log(three(seed))
}

fn with_a_log(cluster: Cluster) -> (Cluster, VolumeAnswer) {
    let created = cluster.create_volume(0, "v", 16 * MIB);
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 0, 1);
    (cluster, created)
}

/// The catalog says this of openings of a volume.
fn put_opening(cluster: &Cluster, id: u64, row: String) {
    let key = format!("opening/{id:020}");
    let kv = cluster.kv.clone();
    cluster.run(1, async move {
        let put = catalog::kv::Op::Put(key, row.into_bytes());
        catalog::kv::Kv::txn(&kv, Vec::new(), vec![put])
            .await
            .expect("the catalog works");
    });
}

/// What the catalog says of openings of a volume.
fn opening(cluster: &Cluster, id: u64) -> Option<serde_json::Value> {
    let key = format!("opening/{id:020}");
    let entries = cluster.kv.entries();
    let entry = entries.iter().find(|entry| entry.key == key)?;
    Some(serde_json::from_slice(&entry.value).expect("a row"))
}

/// The nodes that try to open a volume, or ended while they did.
fn openers(cluster: &Cluster, id: u64) -> Vec<u64> {
    let row = opening(cluster, id).unwrap_or_default();
    let tried = row["tried"].as_array().into_iter().flatten();
    tried
        .filter_map(|attempt| attempt["node"].as_u64())
        .collect()
}

/// Processes of a node that have ended, each in an attempt to open the volume.
fn ended(node: u32, starts: std::ops::Range<u64>, id: u64, now_ms: u64) -> String {
    let attempts = starts.end - starts.start;
    let tried =
        starts.map(|start| format!(r#"{{"node":{node},"start":{start},"at_ms":{now_ms}}}"#));
    let tried: Vec<String> = tried.collect();
    let tried = tried.join(",");
    format!(r#"{{"volume":{id},"attempts":{attempts},"at_ms":{now_ms},"tried":[{tried}]}}"#)
}

#[test]
fn a_volume_that_ended_three_openers_is_in_quarantine() {
    let (cluster, created) = three_with_a_log(15);
    let now_ms = cluster.machines[0].host.world().clock.unix_ms();
    let id = created.id;
    // As the release before wrote it.
    let row = format!(r#"{{"volume":{id},"attempts":3,"at_ms":{now_ms}}}"#);
    put_opening(&cluster, id, row);
    cluster.crash(0);
    cluster.sim.run_for(Duration::from_secs(4));
    let node = cluster.node(1);
    let refused = cluster.run(1, async move { node.device("v", false).await.err() });
    let refused = refused.expect("in quarantine").to_string();
    assert!(refused.contains("is in quarantine"), "{refused}");
    cluster.sim.run_for(Duration::from_secs(30));
    let device = cluster.device(1, "v");
    assert_eq!(cluster.read(1, &device, 0), 1);
    cluster.sim.run_for(Duration::from_secs(1));
    assert_eq!(opening(&cluster, id), None, "it was opened");
}

#[test]
fn an_owner_that_does_not_serve_its_volume_says_so() {
    let (cluster, created) = three_with_a_log(16);
    let shown = cluster.show(1, "v");
    assert!(!shown.unserved && shown.activity.is_some());
    // So that nobody opens it.
    let now_ms = cluster.machines[0].host.world().clock.unix_ms();
    put_opening(&cluster, created.id, ended(77, 1..5, created.id, now_ms));
    cluster.crash(0);
    assert!(!cluster.show(1, "v").unserved, "its owner says nothing");
    cluster.restart(0);
    cluster.sim.run_for(Duration::from_secs(1));
    let owner = cluster.node(0).id().0;
    for index in 0..3 {
        let shown = cluster.show(index, "v");
        assert_eq!(shown.owner, Some(owner), "asked at node {index}");
        assert!(shown.unserved, "asked at node {index}");
    }
}

/// Until when the volumes are in quarantine, as a list says, by name.
fn listed(cluster: &Cluster, asked: usize) -> Vec<Option<u64>> {
    let list = Operation::VolumeList(ListQuery::default());
    let Answer::Volumes(volumes) = cluster.operate(asked, list) else {
        panic!("not volumes");
    };
    let until = volumes.iter().map(|volume| volume.quarantine_until_ms);
    until.collect()
}

/// The alert that `v` is in quarantine.
fn alert_of_quarantine(cluster: &Cluster, state: AlertState) -> Option<AlertAnswer> {
    let query = AlertQuery {
        state: Some(state),
        kind: Some(name("volume-quarantined")),
        entity: Some(name("volume/v")),
        ..AlertQuery::default()
    };
    let list = Operation::Alert(AlertOperation::List(query));
    let Answer::Alerts(found) = cluster.operate(1, list) else {
        panic!("not alerts");
    };
    found.alerts.into_iter().next()
}

/// What its owners of before did counts for the next one: who uses a volume that is served is not told that he cannot.
#[test]
fn a_volume_that_is_served_is_in_no_quarantine_in_lists_either() {
    let (cluster, created) = three_with_a_log(48);
    let now_ms = cluster.machines[0].host.world().clock.unix_ms();
    put_opening(&cluster, created.id, ended(77, 1..5, created.id, now_ms));
    for index in 0..3 {
        assert_eq!(listed(&cluster, index), [None], "node {index}");
    }
    cluster.crash(0);
    cluster.sim.run_for(Duration::from_secs(4));
    for index in [1, 2] {
        let quarantined = Some(now_ms + 60_000);
        assert_eq!(listed(&cluster, index), [quarantined], "node {index}");
    }
}

fn release() -> Operation {
    Operation::VolumeRelease { name: name("v") }
}

/// What was told of the volume `v`.
fn events_of_volume(cluster: &Cluster) -> Vec<EventAnswer> {
    let query = EventQuery {
        after: Some(0),
        limit: Some(500),
        ..EventQuery::default()
    };
    let Answer::Events(mut told) = cluster.operate(1, Operation::Events(query)) else {
        panic!("not events");
    };
    told.events.retain(|event| event.entity == "volume/v");
    told.events
}

#[test]
fn a_volume_that_is_released_is_opened_at_once() {
    let cluster = Cluster::with_options(43, 3, |options| {
        options.events = true;
        options.alerts = true;
    });
    cluster.create_container("c", 3);
    let (cluster, created) = with_a_log(cluster);
    cluster.create_volume(1, "w", MIB);
    let id = created.id;
    let now_ms = cluster.machines[0].host.world().clock.unix_ms();
    // Four ends: a minute.
    put_opening(&cluster, id, ended(77, 1..5, id, now_ms));
    cluster.crash(0);
    cluster.sim.run_for(Duration::from_secs(4));
    let node = cluster.node(1);
    let refused = cluster.run(1, async move { node.device("v", false).await.err() });
    let refused = refused.expect("in quarantine").to_string();
    assert!(refused.contains("azekura volume release v"), "{refused}");
    // Both go on to ask, and know of the quarantine.
    for index in [1, 2] {
        let node = cluster.node(index);
        cluster.machines[index]
            .host
            .spawn(async move { while node.device("v", false).await.is_err() {} });
    }
    cluster.sim.run_for(Duration::from_secs(3));
    assert!(!is_served(&cluster));
    let shown = cluster.show(2, "v");
    assert_eq!(shown.quarantine_until_ms, Some(now_ms + 60_000));
    let reason = shown.reason.expect("why nobody serves it");
    assert!(reason.contains("azekura volume release v"), "{reason}");
    for index in [1, 2] {
        let quarantined = Some(now_ms + 60_000);
        assert_eq!(listed(&cluster, index), [quarantined, None], "in lists");
    }
    let is_raised = || {
        let alert = alert_of_quarantine(&cluster, AlertState::Open);
        alert.is_some()
    };
    assert!((0..15).any(|_| {
        cluster.sim.run_for(Duration::from_secs(1));
        is_raised()
    }));

    let released = volume_of(cluster.operate(2, release()));
    assert_eq!(released.quarantine_until_ms, None);
    assert!(!is_raised(), "its alert is resolved at once");
    let over = alert_of_quarantine(&cluster, AlertState::Resolved).expect("it was there");
    let mark = over.resolved.expect("it is over");
    assert!(mark.note.is_some_and(|note| note.contains("released")));
    assert_eq!(listed(&cluster, 1), [None, None]);
    let row = opening(&cluster, id).unwrap_or_default();
    assert!(row["attempts"].as_u64() < Some(3), "{row}");
    let is_open = || is_served(&cluster);
    assert!(cluster.sim.run_until(is_open, Duration::from_secs(15)));
    let device = cluster.device(1, "v");
    assert_eq!(cluster.read(1, &device, 0), 1);
    cluster.sim.run_for(Duration::from_secs(5));
    assert_eq!(opening(&cluster, id), None, "it is no suspect any more");
    assert_eq!(cluster.show(1, "v").quarantine_until_ms, None);
    cluster.sim.run_for(Duration::from_secs(15));
    assert!(!is_raised(), "what was told before does not raise it again");

    let told = events_of_volume(&cluster);
    let of = |kind: &str| told.iter().find(|event| event.kind == kind);
    let quarantined = of("volume-quarantined").expect("it is told");
    let remedy = quarantined.remedy.as_deref().unwrap_or_default();
    assert!(remedy.contains("azekura volume release v"), "{remedy}");
    let end = of("volume-released").expect("it is told as well");
    assert_eq!(end.severity, "info");
}

#[test]
fn only_a_volume_in_quarantine_is_released() {
    let (cluster, created) = three_with_a_log(44);
    let refused = |index: usize| {
        let error = cluster.try_operate(index, release()).err();
        let error = error.expect("it is not in quarantine");
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.message.contains("is not in quarantine"), "{error}");
    };
    refused(1);
    // Two ends are none yet, and stay.
    let now_ms = cluster.machines[0].host.world().clock.unix_ms();
    put_opening(&cluster, created.id, ended(77, 1..3, created.id, now_ms));
    refused(1);
    assert_eq!(openers(&cluster, created.id), [77, 77]);
    // The third is one. An opening of a process that lives stays in the row; that of nobody else does.
    let living = cluster.node(2);
    let attempt = format!(
        r#"{{"node":{},"start":{},"at_ms":{now_ms}}}"#,
        living.id().0,
        living.start_number()
    );
    let row = ended(77, 1..4, created.id, now_ms)
        .replace(r#""attempts":3"#, r#""attempts":4"#)
        .replace(r#""tried":["#, &format!(r#""tried":[{attempt},"#));
    put_opening(&cluster, created.id, row);
    cluster.operate(1, release());
    let left = openers(&cluster, created.id);
    assert_eq!(left, [u64::from(living.id().0)]);
    let row = opening(&cluster, created.id).expect("it goes on");
    assert_eq!(row["attempts"], 2, "that, and that it is a suspect");
    // Repeated, it says that there is nothing to do.
    refused(0);
    assert_eq!(opening(&cluster, created.id), Some(row));
    let missing = Operation::VolumeRelease { name: name("w") };
    let error = cluster.try_operate(1, missing).err();
    assert_eq!(error.map(|error| error.kind), Some(ErrorKind::NotFound));
}

#[test]
fn a_process_that_says_what_ended_it_accuses_nobody_else() {
    let (cluster, accused) = three_with_a_log(35);
    let other = cluster.create_volume(0, "w", 16 * MIB);
    let device = cluster.device(0, "w");
    cluster.write(0, &device, 0, 2);
    let (node, now_ms) = (
        cluster.node(0).id().0,
        cluster.machines[0].host.world().clock.unix_ms(),
    );
    cluster.crash(0);
    for id in [accused.id, other.id] {
        put_opening(&cluster, id, ended(node, 1..4, id, now_ms));
    }
    let mut options = cluster.options_of(0);
    options.last_words = Some(node::LastWords {
        volume: vocab::VolumeId(accused.id),
        at_ms: now_ms + 1,
        start: None,
        reason: "on purpose".to_owned(),
    });
    cluster.machines[0].host.restart();
    assert!(cluster.try_start(0, options).is_ok());
    // The quarantine of before would last for half a minute.
    let device = cluster.device(1, "w");
    assert_eq!(cluster.read(1, &device, 0), 2);
    cluster.device(1, "v");
    cluster.sim.run_for(Duration::from_secs(1));
    assert_eq!(opening(&cluster, other.id), None);
    let row = opening(&cluster, accused.id).expect("it is accused");
    assert_eq!((&row["panics"], &row["attempts"]), (&1.into(), &0.into()));
}

#[test]
fn a_suspect_that_opens_is_none_any_more() {
    let (cluster, created) = three_with_a_log(36);
    let now_ms = cluster.machines[0].host.world().clock.unix_ms();
    cluster.crash(0);
    put_opening(&cluster, created.id, ended(77, 1..2, created.id, now_ms));
    let device = cluster.device(1, "v");
    assert_eq!(cluster.read(1, &device, 0), 1);
    cluster.sim.run_for(Duration::from_secs(1));
    assert_eq!(opening(&cluster, created.id), None);
}

/// Node 0 is lost, and another one opens its volume: runs until the catalog names the opening no more.
fn until_it_only_waits(cluster: &Cluster, id: u64) {
    cluster.crash(0);
    let node = cluster.node(1);
    cluster.machines[1]
        .host
        .spawn(async move { while node.device("v", false).await.is_err() {} });
    let is_named = || !openers(cluster, id).is_empty();
    assert!(cluster.sim.run_until(is_named, Duration::from_secs(30)));
    assert!(
        cluster
            .sim
            .run_until(|| !is_named(), Duration::from_secs(30))
    );
}

fn is_served(cluster: &Cluster) -> bool {
    [1, 2]
        .iter()
        .any(|index| !cluster.node(*index).volumes().is_empty())
}

#[test]
fn an_opening_that_only_waits_for_old_reads_to_end_is_not_named() {
    let (cluster, created) = three_with_a_log(41);
    // So that its end is seen.
    cluster.kv.set_latency(|| Duration::from_millis(5));
    until_it_only_waits(&cluster, created.id);
    assert!(!is_served(&cluster));
    let waits = cluster.sim.now();
    let is_named = || !openers(&cluster, created.id).is_empty();
    assert!(cluster.sim.run_until(is_named, Duration::from_secs(30)));
    assert!(!is_served(&cluster), "its end is named as well");
    let waited = cluster.sim.now().since(waits);
    assert!(waited > Duration::from_secs(1), "{waited:?}");
    let is_open = || is_served(&cluster);
    assert!(cluster.sim.run_until(is_open, Duration::from_secs(30)));
    assert_eq!(opening(&cluster, created.id), None);
    let device = cluster.device(1, "v");
    assert_eq!(cluster.read(1, &device, 0), 1);
}

#[test]
fn a_node_that_ends_while_an_opening_only_waits_accuses_nobody() {
    let (cluster, created) = three_with_a_log(42);
    until_it_only_waits(&cluster, created.id);
    // Reads of the owner before are waited for for longer than this.
    cluster.sim.run_for(Duration::from_secs(1));
    assert!(!is_served(&cluster), "it waits still");
    assert!(opening(&cluster, created.id).is_none());
    [1, 2].iter().for_each(|index| cluster.crash(*index));
    assert!(opening(&cluster, created.id).is_none());
}

#[test]
fn two_suspects_are_never_opened_at_the_same_time() {
    let (cluster, first) = three_with_a_log(39);
    let second = cluster.create_volume(0, "w", 16 * MIB);
    let device = cluster.device(0, "w");
    cluster.write(0, &device, 0, 2);
    let now_ms = cluster.machines[0].host.world().clock.unix_ms();
    cluster.crash(0);
    for id in [first.id, second.id] {
        put_opening(&cluster, id, ended(77, 1..2, id, now_ms));
    }
    for name in ["v", "w"] {
        let node = cluster.node(1);
        cluster.machines[1].host.spawn(async move {
            // It may be told to ask again; it keeps its place.
            while node.device(name, false).await.is_err() {}
        });
    }
    let opener = u64::from(cluster.node(1).id().0);
    let tries = |id| openers(&cluster, id).contains(&opener);
    let (mut one, mut other) = (false, false);
    let both = || {
        let (first, second) = (tries(first.id), tries(second.id));
        (one, other) = (one | first, other | second);
        assert!(!(first && second), "both are under way");
        one && other && !first && !second
    };
    assert!(cluster.sim.run_until(both, Duration::from_secs(60)));
}

#[test]
fn a_node_that_stops_while_it_opens_a_volume_takes_the_attempt_back() {
    let (cluster, created) = three_with_a_log(38);
    cluster.crash(0);
    let node = cluster.node(1);
    cluster.machines[1].host.spawn(async move {
        let _ = node.device("v", false).await;
    });
    let is_opened = || !openers(&cluster, created.id).is_empty();
    assert!(cluster.sim.run_until(is_opened, Duration::from_secs(30)));
    let opener = openers(&cluster, created.id)[0];
    let opens = |index: &usize| u64::from(cluster.node(*index).id().0) == opener;
    let index = [1, 2]
        .into_iter()
        .find(opens)
        .expect("one of those that live");
    let node = cluster.node(index);
    cluster.run(index, async move { node.stop().await });
    assert!(!openers(&cluster, created.id).contains(&opener));
}

#[test]
fn an_attempt_that_ended_without_the_catalog_is_taken_back_when_it_answers() {
    let (cluster, created) = three_with_a_log(40);
    cluster.kv.set_latency(|| Duration::from_millis(5));
    cluster.crash(0);
    let ask = |index: usize| {
        let node = cluster.node(index);
        cluster.machines[index].host.spawn(async move {
            let _ = node.device("v", false).await;
        });
    };
    ask(1);
    let is_opened = || !openers(&cluster, created.id).is_empty();
    assert!(cluster.sim.run_until(is_opened, Duration::from_secs(30)));
    let opener = openers(&cluster, created.id)[0];
    let opens = |index: &usize| u64::from(cluster.node(*index).id().0) == opener;
    let index = [1, 2].into_iter().find(opens).expect("one that lives");
    // The catalog has the attempt, and the node does not hear of it. Another node opens the volume.
    cluster.set_outage_of(index, Outage::Before);
    ask(3 - index);
    cluster.sim.run_for(Duration::from_secs(1));
    cluster.set_outage_of(index, Outage::None);
    cluster.sim.run_for(Duration::from_secs(10));
    assert_eq!(opening(&cluster, created.id), None);
}

#[test]
fn all_volumes_are_taken_over_however_few_at_a_time() {
    let cluster = Cluster::with_options(37, 3, |options| options.openings_max = 1);
    cluster.create_container("c", 2);
    let names: Vec<String> = (0..6).map(|number| format!("v{number}")).collect();
    for name in &names {
        cluster.create_volume(0, name, 16 * MIB);
        let device = cluster.device(0, name);
        cluster.write(0, &device, 0, 3);
    }
    cluster.crash(0);
    for name in names.clone() {
        let node = cluster.node(1);
        cluster.machines[1]
            .host
            .spawn(async move { while node.device(&name, false).await.is_err() {} });
    }
    let (mut work, mut wait) = (0, 0);
    let all = || {
        let live = [1, 2].map(|index| cluster.node(index));
        for (works, waits) in live.each_ref().map(|node| node.openings()) {
            (work, wait) = (work.max(works), wait.max(waits));
        }
        let served = live.iter().map(|node| node.volumes().len());
        served.sum::<usize>() == names.len()
    };
    assert!(cluster.sim.run_until(all, Duration::from_secs(60)));
    assert_eq!(work, 1, "so many work at a time");
    assert!(wait > 1, "the others wait");
    for name in &names {
        let device = cluster.device(1, name);
        assert_eq!(cluster.read(1, &device, 0), 3);
    }
}

#[test]
fn a_volume_whose_owners_panicked_is_in_quarantine_however_well_it_opens() {
    let (cluster, created) = three_with_a_log(16);
    for round in 0..3 {
        let owner = cluster.owner(1, "v");
        let now_ms = cluster.machines[owner].host.world().clock.unix_ms();
        cluster.crash(owner);
        let mut options = cluster.options_of(owner);
        options.last_words = Some(node::LastWords {
            volume: vocab::VolumeId(created.id),
            at_ms: now_ms,
            start: None,
            reason: "on purpose".to_owned(),
        });
        cluster.machines[owner].host.restart();
        let started = cluster.try_start(owner, options);
        assert!(started.is_ok(), "round {round}");
        cluster.sim.run_for(Duration::from_secs(3));
        let node = cluster.node(owner);
        let opened = cluster.run(owner, async move { node.device("v", false).await.err() });
        match round {
            2 => {
                let refused = opened.expect("in quarantine").to_string();
                assert!(refused.contains("is in quarantine"), "{refused}");
            }
            _ => assert_eq!(opened, None, "round {round}"),
        }
    }
    cluster.sim.run_for(Duration::from_secs(30));
    let device = cluster.device(1, "v");
    assert_eq!(cluster.read(1, &device, 0), 1);
}

#[test]
fn status_names_what_is_wrong() {
    let cluster = three(13);
    cluster.crash(2);
    cluster.sim.run_for(Duration::from_secs(5));
    let Answer::Status(status) = cluster.operate(0, Operation::Status) else {
        panic!("not one")
    };
    assert_eq!(status.nodes.len(), 3);
    assert_eq!(status.nodes.iter().filter(|node| node.alive).count(), 2);
    let silent: Vec<_> = status
        .stores
        .iter()
        .filter(|store| store.state != "ready")
        .collect();
    assert_eq!(silent.len(), 1);
    assert_eq!(silent[0].state, "unreachable");
    assert!(silent[0].reason.is_some());
}

#[test]
fn status_lists_the_first_hundred_volumes() {
    let cluster = three(33);
    let listed = |cluster: &Cluster| match cluster.operate(1, Operation::Status) {
        Answer::Status(status) => (status.volumes.len(), status.more_volumes),
        other => panic!("not a status: {other:?}"),
    };
    for number in 0..100 {
        cluster.create_volume(0, &format!("v{number}"), MIB);
    }
    assert_eq!(listed(&cluster), (100, false));
    cluster.create_volume(0, "one-more", MIB);
    assert_eq!(listed(&cluster), (100, true));
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let cluster = three(seed);
        cluster.create_volume(0, "v", 16 * MIB);
        let device = cluster.device(1, "v");
        for lba in 0..20 {
            cluster.write(1, &device, lba, lba as u8);
        }
        cluster.crash(0);
        cluster.write(1, &device, 3, 99);
        cluster.sim.event_hash()
    };
    assert_eq!(history(14), history(14));
}
