//! Owners that die, move, hang or refuse.

use crate::*;
use blockdev::{BlockDevice, WriteMode};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use vocab::Lba;
use wire::NodeError;
use world_sim::Options;

const WRITERS: u64 = 40;
const ROUNDS: u64 = 12;

/// Forty writers with blocks of their own, each block written again and again and read back.
async fn work(device: RemoteDevice, writer: u64) {
    for round in 1..=ROUNDS {
        let fill = (writer * 5 + round) as u8;
        let lba = Lba(writer * 4 + round % 3);
        let write = device.write(lba, vec![filled(fill, 2)], WriteMode::Buffered);
        write.await.unwrap();
        if round % 4 == 0 {
            device.flush().await.unwrap();
        }
        let data = device.read(lba, 2).await.unwrap().concat();
        assert!(data == filled(fill, 2), "writer {writer} round {round}");
    }
}

fn check_content(cluster: &Cluster) {
    for writer in 0..WRITERS {
        let mut expected = [0; 4];
        for round in 1..=ROUNDS {
            let first = (round % 3) as usize;
            expected[first..first + 2].fill((writer * 5 + round) as u8);
        }
        for (block, fill) in (writer * 4..).zip(expected) {
            assert_eq!(cluster.block(block), filled(fill, 1), "block {block}");
        }
    }
}

fn soak(seed: u64, options: Options) -> (Cluster, u64) {
    let sim = Simulation::new(seed, options);
    let cluster = Cluster::new(&sim, 3, 1000);
    cluster.volume.service.set(Duration::from_millis(2));
    let device = open(&cluster, FOREVER);
    let tasks = (0..WRITERS).map(|writer| work(device.clone(), writer));
    let done = start(&cluster, join_all(tasks.collect::<Vec<_>>()));
    let rng = sim.rng();
    let mut crashes = 0;
    for node in [0, 1, 2, 0, 1] {
        sim.run_steps(500 + rng.below(3000), SECOND);
        if done.borrow().is_some() {
            break;
        }
        let owner = cluster.volume.owner.get();
        cluster.stop(owner, rng.chance(0.5));
        crashes += 1;
        if !cluster.volume.up.borrow()[&node] {
            cluster.restart(node);
        }
        for other in 0..3 {
            if other != owner && !cluster.volume.up.borrow()[&other] {
                cluster.restart(other);
            }
        }
    }
    finish(&cluster, &done, 600 * SECOND);
    check_content(&cluster);
    (cluster, crashes)
}

#[test]
fn all_requests_complete_with_the_right_content_when_owners_crash() {
    let mut crashes = 0;
    for seed in 0..40 {
        let (_, count) = soak(seed, Options::default());
        crashes += count;
    }
    assert!(crashes > 100, "{crashes}");
}

#[test]
fn all_requests_complete_with_the_right_content_on_a_rough_network() {
    for seed in 100..130 {
        soak(seed, Options::rough());
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let hash = |seed| soak(seed, Options::rough()).0.sim.event_hash();
    assert_eq!(hash(7), hash(7));
}

#[test]
fn what_was_not_acknowledged_is_sent_again_in_order_and_nothing_else() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    let write = |lba| device.write(Lba(lba), vec![filled(lba as u8, 1)], WriteMode::Buffered);
    let first: Vec<_> = (0..20).map(write).collect();
    run(&cluster, join_all(first));
    cluster.volume.held.set(true);
    let second: Vec<_> = (20..120).map(write).collect();
    let done = start(&cluster, join_all(second));
    cluster.sim.run_for(SECOND);
    cluster.volume.arrived.borrow_mut().clear();
    cluster.stop(0, false);
    // Issued while there is no owner.
    let third = start(
        &cluster,
        join_all((120..130).map(write).collect::<Vec<_>>()),
    );
    cluster.sim.run_for(2 * SECOND);
    cluster.release();
    assert!(finish(&cluster, &done, SECOND).iter().all(Result::is_ok));
    assert!(finish(&cluster, &third, SECOND).iter().all(Result::is_ok));
    let arrived: Vec<(u32, u64)> = cluster
        .volume
        .arrived
        .borrow()
        .iter()
        .map(|one| (one.0, one.1))
        .collect();
    let owner = cluster.volume.owner.get();
    assert_ne!(owner, 0);
    assert_eq!(
        arrived,
        (20..130).map(|lba| (owner, lba)).collect::<Vec<_>>()
    );
    for lba in 0..130 {
        assert_eq!(cluster.block(lba)[0], lba as u8);
    }
}

#[test]
fn a_takeover_after_a_power_loss_costs_seconds_not_minutes() {
    for seed in 0..10 {
        let cluster = setup(seed, 1000);
        let device = open(&cluster, FOREVER);
        cluster.stop(0, true);
        let write = device.write(Lba(0), vec![filled(1, 1)], WriteMode::Buffered);
        let write = start(&cluster, write);
        // Silence is doubted after half a second, and the other nodes are asked.
        finish(&cluster, &write, 3 * SECOND).unwrap();
        // A process that dies says so: no silence to wait for.
        cluster.restart(0);
        cluster.stop(cluster.volume.owner.get(), false);
        let write = device.write(Lba(0), vec![filled(2, 1)], WriteMode::Buffered);
        let write = start(&cluster, write);
        finish(&cluster, &write, SECOND).unwrap();
    }
}

#[test]
fn an_owner_that_handed_over_is_followed() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    for owner in [1, 2, 0, 2] {
        cluster.volume.owner.set(owner);
        run(&cluster, device.flush()).unwrap();
    }
    assert_eq!(cluster.volume.opens.get(), 5);
}

#[test]
fn a_busy_owner_is_asked_again_until_it_is_not() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    let busy = NodeError::Busy {
        reason: "full".into(),
    };
    *cluster.volume.errors.borrow_mut() = vec![busy; 10];
    let write = |lba| device.write(Lba(lba), vec![filled(7, 1)], WriteMode::Buffered);
    let writes: Vec<_> = (0..30).map(write).collect();
    assert!(run(&cluster, join_all(writes)).iter().all(Result::is_ok));
    for lba in 0..30 {
        assert_eq!(cluster.block(lba)[0], 7);
    }
}

#[test]
fn patience_ends_and_the_device_recovers_afterwards() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, 10 * SECOND);
    for node in 0..3 {
        cluster.stop(node, false);
    }
    let before = cluster.sim.now();
    let read = start(&cluster, device.read(Lba(0), 1));
    let error = finish(&cluster, &read, 20 * SECOND).unwrap_err();
    assert!(matches!(error, BlockError::Failed(_)), "{error}");
    let waited = cluster.sim.now().since(before);
    assert!(waited >= 9 * SECOND && waited <= 11 * SECOND, "{waited:?}");
    cluster.restart(1);
    run(&cluster, device.read(Lba(0), 1)).unwrap();
}

#[test]
fn without_a_bound_requests_wait_through_a_long_outage() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    for node in 0..3 {
        cluster.stop(node, true);
    }
    let write = device.write(Lba(0), vec![filled(9, 1)], WriteMode::Fua);
    let write = start(&cluster, write);
    cluster.sim.run_for(3600 * SECOND);
    assert!(write.borrow().is_none());
    cluster.restart(2);
    finish(&cluster, &write, 20 * SECOND).unwrap();
    assert_eq!(cluster.block(0), filled(9, 1));
}

#[test]
fn a_partition_from_the_owner_is_survived() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    cluster
        .sim
        .partition_both(&cluster.client, &cluster.hosts[0]);
    let write = device.write(Lba(0), vec![filled(9, 1)], WriteMode::Fua);
    let write = start(&cluster, write);
    cluster.sim.run_for(20 * SECOND);
    // The owner lives, as far as the nodes can tell: nobody takes over.
    assert!(write.borrow().is_none());
    cluster.sim.heal_all();
    finish(&cluster, &write, 15 * SECOND).unwrap();
    let nodes: BTreeSet<u32> = cluster
        .volume
        .applied
        .borrow()
        .iter()
        .map(|one| one.0)
        .collect();
    assert_eq!(nodes, BTreeSet::from([0]));
}

#[test]
fn an_owner_that_is_cut_off_is_left_for_the_next_one_and_its_late_answer_counts_for_nothing() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    // What the owner answers stays on the way.
    cluster.sim.partition(&cluster.hosts[0], &cluster.client);
    let write = |fill| device.write(Lba(5), vec![filled(fill, 1)], WriteMode::Fua);
    let first = start(&cluster, write(1));
    cluster.sim.run_for(Duration::from_millis(100));
    assert_eq!(*cluster.volume.applied.borrow(), [(0, 5, 1)]);
    cluster.volume.up.borrow_mut().insert(0, false);
    finish(&cluster, &first, 3 * SECOND).unwrap();
    run(&cluster, write(2)).unwrap();
    cluster.sim.heal_all();
    cluster.sim.run_for(10 * SECOND);
    let applied = [(0, 5, 1), (1, 5, 1), (1, 5, 1)];
    assert_eq!(*cluster.volume.applied.borrow(), applied);
    assert_eq!(cluster.block(5), filled(2, 1));
    assert_eq!(cluster.volume.opens.get(), 2);
}

#[test]
fn an_owner_that_is_silent_for_a_while_keeps_its_session() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    cluster
        .sim
        .partition_both(&cluster.client, &cluster.hosts[0]);
    let write = device.write(Lba(0), vec![filled(9, 1)], WriteMode::Fua);
    let write = start(&cluster, write);
    cluster.sim.run_for(2 * SECOND);
    cluster.sim.heal_all();
    finish(&cluster, &write, 5 * SECOND).unwrap();
    assert_eq!(*cluster.volume.applied.borrow(), [(0, 0, 1)]);
    assert_eq!(cluster.volume.opens.get(), 1);
}

#[test]
fn an_owner_that_is_merely_slow_keeps_its_session() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    cluster.volume.held.set(true);
    // More than a window: pings wait behind requests.
    let write = |lba| device.write(Lba(lba), vec![filled(7, 1)], WriteMode::Buffered);
    let writes = start(&cluster, join_all((0..1000).map(write).collect::<Vec<_>>()));
    let flush = start(
        &cluster,
        join_all((0..100).map(|_| device.flush()).collect::<Vec<_>>()),
    );
    cluster.sim.run_for(60 * SECOND);
    assert!(writes.borrow().is_none());
    cluster.release();
    assert!(finish(&cluster, &writes, SECOND).iter().all(Result::is_ok));
    assert!(finish(&cluster, &flush, SECOND).iter().all(Result::is_ok));
    assert_eq!(cluster.volume.opens.get(), 1);
}

#[test]
fn a_newer_session_of_the_same_client_ends_the_older_device() {
    let cluster = setup(3, 1000);
    let mut options = options(&cluster, FOREVER);
    options.client = 77;
    let old = try_open(&cluster, options.clone()).unwrap();
    cluster.sim.run_for(SECOND);
    let new = try_open(&cluster, options).unwrap();
    let write =
        |device: &RemoteDevice, fill| device.write(Lba(0), vec![filled(fill, 1)], WriteMode::Fua);
    run(&cluster, write(&new, 2)).unwrap();
    for _ in 0..2 {
        let error = run(&cluster, write(&old, 1)).unwrap_err();
        assert!(matches!(error, BlockError::Gone(_)), "{error}");
    }
    run(&cluster, new.flush()).unwrap();
    assert_eq!(cluster.block(0), filled(2, 1));
    assert_eq!(cluster.volume.opens.get(), 2);
}

#[test]
fn a_deleted_volume_is_gone_for_good() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    cluster.volume.deleted.set(true);
    cluster.volume.owner.set(1);
    let reads: Vec<_> = (0..5).map(|lba| device.read(Lba(lba), 1)).collect();
    for result in run(&cluster, join_all(reads)) {
        assert!(matches!(result, Err(BlockError::Gone(_))), "{result:?}");
    }
}

#[test]
fn an_idle_device_costs_next_to_nothing() {
    let cluster = setup(3, 1000);
    let device = open(&cluster, FOREVER);
    run(&cluster, device.flush()).unwrap();
    let before = cluster.sim.counters().polls;
    cluster.sim.run_for(1000 * SECOND);
    let polls = cluster.sim.counters().polls - before;
    // Both sides together; a ping and its answer every 2 s.
    assert!(polls < 15_000, "{polls}");
    assert_eq!(cluster.volume.opens.get(), 1);
}
