//! What goes on while the catalog is away: writing, draining, and waiting for replicas that are only late.

use crate::support::{Client, Cluster, MIB};
use api::{Answer, Operation};
use blockdev::{BlockDevice, WriteMode};
use catalog::SnapshotMarks;
use catalog_kv::memory::Outage;
use std::cell::Cell;
use std::rc::Rc;
use vocab::{BLOCK_SIZE, Lba, VolumeId};
use volume::Volume;
use world::Duration;

/// Three nodes, a volume with three copies that is opened through its owner.
fn three(seed: u64) -> (Cluster, usize) {
    let cluster = Cluster::new(seed, 3);
    cluster.create_container("c", 3);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 0, 1);
    let owner = cluster.owner(0, "v");
    (cluster, owner)
}

/// As a whole cluster stops whose nodes run the catalog: the last ones have no majority of it any more.
#[test]
fn a_node_that_serves_many_volumes_closes_its_stores_also_without_a_catalog() {
    let cluster = Cluster::new(27, 2);
    cluster.create_container("c", 2);
    for volume in 0..40 {
        let name = format!("v{volume}");
        cluster.create_volume(0, &name, MIB);
        let device = cluster.device(0, &name);
        cluster.write(0, &device, 0, 1);
    }
    assert_eq!(cluster.node(0).volumes().len(), 40);
    cluster.kv.set_latency(|| Duration::from_secs(1000));
    let (node, world) = (cluster.node(0), cluster.machines[0].host.world());
    // As long as the process waits for it.
    let patience = Duration::from_secs(30);
    let stopped = cluster.run(0, async move { world.timeout(patience, node.stop()).await });
    assert!(stopped.is_ok(), "it takes too long");
    cluster.power_loss(0);
    cluster.kv.set_latency(|| Duration::ZERO);
    let trust = cluster.restart(0).stores()[0].status().trust;
    assert_eq!(trust, wire::Trust::Trusted, "it was closed");
}

fn served(cluster: &Cluster, owner: usize) -> Rc<Volume> {
    let volumes = cluster.node(owner).volumes();
    volumes.first().expect("the owner serves it").clone()
}

/// Everything written is drained; the root need not be in the catalog.
fn drain(cluster: &Cluster, owner: usize) {
    let volume = served(cluster, owner);
    let asked = volume.clone();
    cluster.machines[owner].host.spawn(async move {
        let _ = asked.drain().await;
    });
    let done = cluster
        .sim
        .run_until(|| volume.status().undrained.0 == 0, crate::support::LIMIT);
    assert!(done, "not drained: {:?}", volume.status().drain_problem);
}

/// Takes a snapshot as the owner; whether it was taken.
fn snapshot(cluster: &Cluster, owner: usize, name: &'static str) -> bool {
    let (volume, outcome) = (served(cluster, owner), Rc::new(Cell::new(None)));
    let seen = outcome.clone();
    cluster.machines[owner].host.spawn(async move {
        let taken = volume.snapshot(name, SnapshotMarks::default()).await;
        outcome.set(Some(taken.is_ok()));
    });
    let ended = || seen.get().is_some();
    assert!(cluster.sim.run_until(ended, crate::support::LIMIT));
    seen.get().expect("it ended")
}

/// A machine with a replica that is not the owner's.
fn replica_beside(owner: usize) -> usize {
    (owner + 1) % 3
}

#[test]
fn a_closed_segment_does_not_hold_up_drains() {
    let (cluster, owner) = three(21);
    let device = cluster.device(owner, "v");
    let replica = &cluster.machines[replica_beside(owner)].host;
    cluster.sim.isolate(replica);
    cluster.write(owner, &device, 1, 2);
    let closed = served(&cluster, owner).status().log.closed_segments;
    assert_eq!(closed, 1, "the segment with the lost replica is closed");
    cluster.kv.set_available(false);
    for round in 0..5 {
        cluster.write(owner, &device, 2 + round, 3 + round as u8);
        drain(&cluster, owner);
    }
    assert_eq!(served(&cluster, owner).status().log.closed_segments, 0);
    // Its end is in the log alone: whoever takes over must find it there.
    cluster.crash(owner);
    cluster.sim.heal_all();
    cluster.kv.set_available(true);
    let other = (owner + 2) % 3;
    let device = cluster.device(other, "v");
    for round in 0..5 {
        assert_eq!(cluster.read(other, &device, 2 + round), 3 + round as u8);
    }
    assert_eq!(cluster.read(other, &device, 1), 2);
}

/// The drain of a barrier waits for the catalog. One whose snapshot cannot be recorded, or whose name is taken, must not come to be.
#[test]
fn snapshots_that_fail_without_the_catalog_do_not_hold_up_drains() {
    let (cluster, owner) = three(27);
    let device = cluster.device(owner, "v");
    assert!(snapshot(&cluster, owner, "one"), "and ids are at hand");
    drain(&cluster, owner);
    cluster.kv.set_available(false);
    for round in 0..3 {
        assert!(!snapshot(&cluster, owner, "two"));
        cluster.write(owner, &device, 2 + round, 3 + round as u8);
        drain(&cluster, owner);
    }
    cluster.kv.set_available(true);
    assert!(!snapshot(&cluster, owner, "one"), "the name is taken");
    assert!(snapshot(&cluster, owner, "two"));
    drain(&cluster, owner);
}

#[test]
fn a_log_that_stands_still_for_seconds_does_not_hold_up_the_drain_after_it() {
    let (cluster, owner) = three(22);
    let device = cluster.device(owner, "v");
    let replica = cluster.machines[replica_beside(owner)].host.clone();
    cluster.kv.set_available(false);
    for round in 0..3 {
        cluster.write(owner, &device, round, 2);
        replica.pause();
        let resumed = replica.clone();
        // Longer than a flush, a confirmation of reads and the checkpoint of a drain are waited for.
        cluster
            .sim
            .after(Duration::from_secs(5), move || resumed.resume());
        drain(&cluster, owner);
        cluster.write(owner, &device, round, 3);
        assert_eq!(cluster.read(owner, &device, round), 3);
    }
    drain(&cluster, owner);
}

#[test]
fn a_second_attempt_of_a_node_waits_for_reads_of_the_old_owner_as_well() {
    let (cluster, owner) = three(31);
    let heir = replica_beside(owner);
    let old = cluster.device(owner, "v");
    let id = VolumeId(cluster.show(heir, "v").id);
    cluster.set_outage_of(owner, Outage::Before);
    // The word of the replicas, for two seconds.
    assert_eq!(cluster.read(owner, &old, 0), 1);
    // An attempt that came to nothing before it fenced anybody.
    let node = cluster.node(heir);
    let (catalog, taker) = (node.catalog().clone(), node.id());
    cluster.run(heir, async move {
        let row = catalog.volume(id).await.expect("it is there").row;
        let taken = catalog.take_over(id, row.epoch, taker).await;
        taken.expect("nobody else takes it over");
    });
    let new = cluster.device(heir, "v");
    cluster.write(heir, &new, 0, 2);
    // The old owner cannot ask who serves the volume, so it says nothing. Anything but the old byte will do.
    let seen = cluster.run(owner, async move { old.read(Lba(0), 1).await });
    let stale = seen.is_ok_and(|data| data.concat()[0] == 1);
    assert!(!stale, "a read after a write tells what was before it");
}

/// The machine of clients, which has no store.
const CLIENT: usize = 3;

fn three_and_a_client(seed: u64) -> Cluster {
    let cluster = Cluster::with_gateway(seed, 3);
    cluster.create_container("c", 3);
    cluster.create_volume(0, "v", 64 * MIB);
    cluster
}

fn attach(cluster: &Cluster, client: &str) -> u64 {
    let attach = Operation::Attach {
        volume: "v".to_owned(),
        client: client.to_owned(),
        read_only: false,
        shared: false,
    };
    match cluster.operate(0, attach) {
        Answer::Attachment(attachment) => attachment.generation_of(client),
        other => panic!("not an attachment: {other:?}"),
    }
}

/// A client that has written, and the generation that lets it in.
fn writing_client(cluster: &Cluster) -> (u64, Client<'_>) {
    let generation = attach(cluster, "pod-1");
    let client = Client::open_as(cluster, CLIENT, "v", generation, 71)
        .expect("the owner knows this attachment");
    client.write(5).expect("the first write");
    (generation, client)
}

/// The connections of this machine are lost; it is there again.
fn break_connections(cluster: &Cluster, index: usize) {
    cluster.sim.isolate(&cluster.machines[index].host);
    // Longer than a connection may be silent.
    cluster.sim.run_for(Duration::from_secs(8));
    cluster.sim.heal_all();
}

#[test]
fn a_client_comes_back_to_its_owner_without_the_catalog_and_nobody_else_does() {
    let cluster = three_and_a_client(23);
    let (generation, client) = writing_client(&cluster);
    cluster.kv.set_available(false);
    break_connections(&cluster, CLIENT);
    assert_eq!(client.read().unwrap(), 5, "the session was made again");
    client.write(6).unwrap();
    assert_eq!(client.read().unwrap(), 6);
    // Another one that names the same generation was never here, and one of another generation may be newer than what is
    // known: both wait for the catalog.
    for (stranger, generation) in [(72, generation), (71, generation + 1)] {
        let opened = Client::open_as(&cluster, CLIENT, "v", generation, stranger);
        let error = opened.err().expect("it is not let in").to_string();
        assert!(error.contains("catalog"), "{error}");
    }
}

#[test]
fn an_older_process_is_let_in_by_no_later_owner() {
    let cluster = three_and_a_client(25);
    let (generation, first) = writing_client(&cluster);
    // Processes are ordered by the milliseconds of their starts.
    cluster.sim.run_for(Duration::from_millis(20));
    let open = || Client::open_as(&cluster, CLIENT, "v", generation, 71);
    let second = open().expect("the same client");
    second.write(6).unwrap();
    // It is gone before its forerunner asks for anything, and with it everybody who knows of it but the row.
    drop(second);
    let owner = cluster.owner(CLIENT, "v");
    cluster.crash(owner);
    cluster.restart(owner);
    let error = first.write(7).expect_err("there was a newer process");
    assert!(error.contains("newer session"), "{error}");
    cluster.sim.run_for(Duration::from_millis(20));
    let third = open().expect("the newest");
    assert_eq!(third.read().unwrap(), 6);

    // What the row names already comes back without the catalog, also under an owner that has just been told.
    let owner = cluster.owner(CLIENT, "v");
    cluster.crash(owner);
    cluster.restart(owner);
    assert_eq!(third.read().unwrap(), 6, "another owner");
    cluster.kv.set_available(false);
    break_connections(&cluster, CLIENT);
    third.write(8).unwrap();
    // One that the row does not name waits for the catalog.
    let error = open().err().expect("nobody could note it").to_string();
    assert!(error.contains("catalog"), "{error}");
    third.write(9).unwrap();
    cluster.kv.set_available(true);
    cluster.sim.run_for(Duration::from_secs(10));
    let fourth = open().expect("the newest again");
    assert_eq!(fourth.read().unwrap(), 9);
    assert!(third.write(10).is_err());
}

#[test]
fn who_was_detached_does_not_come_back_without_the_catalog() {
    let cluster = three_and_a_client(24);
    let (_, client) = writing_client(&cluster);
    let detach = Operation::Detach {
        volume: "v".to_owned(),
        client: None,
    };
    cluster.operate(0, detach);
    let newer = attach(&cluster, "pod-2");
    let other = Client::open_as(&cluster, CLIENT, "v", newer, 72).unwrap();
    other.write(7).unwrap();
    cluster.kv.set_available(false);
    break_connections(&cluster, CLIENT);
    assert!(client.write(6).is_err());
    assert_eq!(other.read().unwrap(), 7);
}

/// Writes one run of seven blocks after the other.
async fn write_runs(device: Rc<dyn BlockDevice>, first: u64, count: u64) {
    for run in first..first + count {
        let data = vec![bytes::Bytes::from(vec![run as u8; 7 * BLOCK_SIZE])];
        let written = device.write(Lba(run * 7), data, WriteMode::Buffered);
        written.await.expect("written");
    }
}

#[test]
fn writes_go_on_without_the_catalog_when_a_broken_connection_is_made_again() {
    let (cluster, owner) = three(26);
    let device = cluster.device(owner, "v");
    let volume = served(&cluster, owner);
    let segment = volume.status().log.segment;
    cluster.kv.set_available(false);
    for round in 0..3_u64 {
        let written = Rc::new(Cell::new(false));
        let (asked, done) = (device.clone(), written.clone());
        cluster.machines[owner].host.spawn(async move {
            futures_util::future::join_all(
                (0..8).map(|run| write_runs(asked.clone(), round * 80 + run * 10, 10)),
            )
            .await;
            asked.flush().await.expect("flushed");
            done.set(true);
        });
        break_connections(&cluster, replica_beside(owner));
        assert!(!written.get(), "a copy is out of reach");
        let done = cluster
            .sim
            .run_until(|| written.get(), crate::support::LIMIT);
        assert!(done, "writes wait: {:?}", volume.status().log.waiting);
        let calm = || volume.status().log.waiting.is_none();
        assert!(cluster.sim.run_until(calm, Duration::from_secs(1)));
    }
    assert_eq!(volume.status().log.segment, segment, "it needs no other");
    // Whoever takes over finds all of it on the replica that was away.
    cluster.crash(owner);
    cluster.kv.set_available(true);
    cluster.sim.isolate(&cluster.machines[(owner + 2) % 3].host);
    let other = replica_beside(owner);
    cluster.sim.heal_all();
    let device = cluster.device(other, "v");
    for run in 0..240_u64 {
        assert_eq!(cluster.read(other, &device, run * 7), run as u8);
    }
}

#[test]
fn a_replica_whose_machine_lost_power_takes_part_in_another_segment_only() {
    let (cluster, owner) = three(27);
    let device = cluster.device(owner, "v");
    let segment = served(&cluster, owner).status().log.segment;
    let replica = replica_beside(owner);
    cluster.write(owner, &device, 1, 2);
    // At first the owner alone misses the catalog: the replica could not start without it.
    cluster.set_outage_of(owner, Outage::Before);
    cluster.power_loss(replica);
    cluster.restart(replica);
    cluster.kv.set_available(false);
    let written = Rc::new(Cell::new(false));
    let (asked, done) = (device.clone(), written.clone());
    cluster.machines[owner].host.spawn(async move {
        write_runs(asked, 10, 1).await;
        done.set(true);
    });
    cluster.sim.run_for(Duration::from_secs(10));
    assert!(!written.get(), "what it holds is not trusted");
    cluster.set_outage_of(owner, Outage::None);
    cluster.kv.set_available(true);
    let limit = crate::support::LIMIT;
    assert!(cluster.sim.run_until(|| written.get(), limit));
    let now = served(&cluster, cluster.owner(owner, "v"));
    assert_ne!(now.status().log.segment, segment);
}

#[test]
fn an_idle_replica_that_lost_power_does_not_hold_up_the_next_write() {
    for seed in 28..34 {
        let (cluster, owner) = three(seed);
        let device = cluster.device(owner, "v");
        // Acknowledged, and on no disk for certain.
        cluster.run(owner, write_runs(device.clone(), 10, 20));
        let replica = replica_beside(owner);
        cluster.power_loss(replica);
        cluster.restart(replica);
        let began = cluster.sim.now();
        cluster.run(owner, write_runs(device.clone(), 30, 1));
        let took = cluster.sim.now().since(began);
        assert!(took < Duration::from_secs(3), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_full_journal_is_emptied_without_the_catalog() {
    // Four volumes may hold as much as the ring takes, and while a replica stands still nothing of it is let go.
    let cluster = Cluster::with_options(25, 3, |options| {
        options.journal_bytes = Some(12 << 20);
    });
    cluster.create_container("c", 3);
    let device = |name: &str| {
        cluster.create_volume(0, name, 64 * MIB);
        let device = cluster.device(0, name);
        cluster.write(0, &device, 0, 1);
        device
    };
    let devices = ["v0", "v1", "v2", "v3"].map(device);
    let owner = cluster.owner(0, "v0");
    cluster.kv.set_available(false);
    for pause in 0..12_u64 {
        let replica = cluster.machines[replica_beside(owner)].host.clone();
        let resumed = replica.clone();
        let at = Duration::from_millis(pause * 900);
        cluster.sim.after(at, move || replica.pause());
        let until = at + Duration::from_millis(700);
        cluster.sim.after(until, move || resumed.resume());
    }
    let writers = devices.iter().flat_map(|device| {
        let writer = |lane: u64| write_runs(device.clone(), lane * 40, 40);
        (0..8).map(writer).collect::<Vec<_>>()
    });
    let all = futures_util::future::join_all(writers.collect::<Vec<_>>());
    cluster.run(0, all);
}
