//! Whole nodes in the simulator: operations, I/O through gateways, loss of nodes.

use crate::support::{Client, Cluster, MIB, volume_of};
use api::{Answer, ErrorKind, Operation, SnapshotRef, VolumeAnswer, VolumeSpec};
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
    let cluster = three(seed);
    let created = cluster.create_volume(0, "v", 16 * MIB);
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 0, 1);
    (cluster, created)
}

#[test]
fn a_volume_that_ended_three_openers_is_in_quarantine() {
    let (cluster, created) = three_with_a_log(15);
    let now_ms = cluster.machines[0].host.world().clock.unix_ms();
    let (id, key) = (created.id, format!("opening/{:020}", created.id));
    let row = format!(r#"{{"volume":{id},"attempts":3,"at_ms":{now_ms}}}"#);
    let kv = cluster.kv.clone();
    cluster.run(1, async move {
        let put = catalog::kv::Op::Put(key, row.into_bytes());
        catalog::kv::Kv::txn(&kv, Vec::new(), vec![put])
            .await
            .expect("the catalog works");
    });
    cluster.crash(0);
    cluster.sim.run_for(Duration::from_secs(4));
    let node = cluster.node(1);
    let refused = cluster.run(1, async move { node.device("v", false).await.err() });
    let refused = refused.expect("in quarantine").to_string();
    assert!(refused.contains("is in quarantine"), "{refused}");
    cluster.sim.run_for(Duration::from_secs(30));
    let device = cluster.device(1, "v");
    assert_eq!(cluster.read(1, &device, 0), 1);
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
