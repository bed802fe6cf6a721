//! What the verdict says of logs, and of space and time while copies are missing.

use crate::support::{Cluster, MIB};
use api::{Answer, LogCopiesAnswer, Operation, ResiliencyAnswer};
use catalog_kv::memory::Outage;
use node::HostOptions;
use world::Duration;

/// Blocks that are written, far apart.
const BLOCKS: u64 = 40;
/// As long as the rows of a few volumes are good for, and a bit.
const AGE: Duration = Duration::from_secs(8);

fn verdict(cluster: &Cluster, asked: usize) -> ResiliencyAnswer {
    match cluster.operate(asked, Operation::Resiliency) {
        Answer::Resiliency(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn logs(cluster: &Cluster, asked: usize) -> LogCopiesAnswer {
    let answer = verdict(cluster, asked);
    answer.logs.first().expect("one volume has a log").clone()
}

/// Four nodes, and a volume with two copies that the first serves.
fn filled(seed: u64, change: fn(&mut HostOptions)) -> Cluster {
    let cluster = Cluster::with_options(seed, 4, change);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(0, "v");
    for block in 0..BLOCKS {
        cluster.write(0, &device, block * 7, block as u8 + 1);
    }
    cluster
}

/// Whether a node's store has a copy of the volume's log.
fn holds(cluster: &Cluster, asked: usize, index: usize) -> bool {
    let store = cluster.node(index).stores()[0].id();
    let log = cluster.show(asked, "v").log;
    log.iter().any(|replica| replica.store == store.0)
}

/// Nothing is given up for lost.
fn patient(options: &mut HostOptions) {
    options.repair_delay = Duration::from_secs(100_000);
}

/// What is lost is not made again.
fn idle(options: &mut HostOptions) {
    options.placement.repairs_max = 0;
    options.placement.balance = false;
}

#[test]
fn a_log_with_one_copy_left_tolerates_nothing_although_nobody_serves_it() {
    let cluster = filled(71, patient);
    let stopped = cluster.node(0);
    cluster.run(0, async move { stopped.stop().await });
    cluster.crash(0);
    cluster.restart(0);
    let whole = logs(&cluster, 0);
    assert_eq!((whole.volumes, whole.degraded, whole.tolerates), (1, 0, 1));
    let (holders, others): (Vec<usize>, Vec<usize>) =
        (0..4).partition(|&index| holds(&cluster, 0, index));
    assert_eq!(holders.len(), 2);
    let asked = others[0];
    cluster.crash(holders[0]);
    cluster.sim.run_for(AGE);
    let answer = verdict(&cluster, asked);
    let log = &answer.logs[0];
    assert_eq!((log.degraded, log.unavailable, log.tolerates), (1, 0, 0));
    let mut parts = answer.components.iter();
    let part = parts.find(|part| part.component == "log" && part.domain == "node");
    assert_eq!(part.expect("logs are a part").state, "critical");
    let said = answer.reasons.iter().any(|reason| reason.contains("logs"));
    assert!(said, "{:?}", answer.reasons);
    cluster.restart(holders[0]);
    cluster.sim.run_for(AGE);
    let whole = logs(&cluster, asked);
    assert_eq!((whole.degraded, whole.tolerates), (0, 1));
}

#[test]
fn a_log_that_is_served_has_its_copies_again_long_before_the_data() {
    let cluster = filled(72, patient);
    let lost = (1..4).find(|&index| holds(&cluster, 0, index));
    cluster.crash(lost.expect("two copies"));
    // What was closed with one copy is drained.
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 1, 99);
    let name = "v".to_owned();
    cluster.operate(0, Operation::VolumeDrain { name });
    let begin = cluster.sim.now();
    while logs(&cluster, 0).degraded > 0 {
        cluster.sim.run_for(Duration::from_secs(1));
        let waited = cluster.sim.now().since(begin);
        assert!(waited < Duration::from_secs(60), "{:?}", logs(&cluster, 0));
    }
    let answer = verdict(&cluster, 0);
    assert!(answer.data[0].degraded > 0, "{answer:?}");
    assert_eq!(answer.logs[0].tolerates, 1);
}

#[test]
fn where_logs_lie_is_not_known_before_it_was_read() {
    let cluster = filled(75, patient);
    let unknown = |answer: &ResiliencyAnswer| {
        let mut reasons = answer.reasons.iter();
        reasons.any(|reason| reason.contains("where the logs of volumes lie is not known"))
    };
    assert!(!unknown(&verdict(&cluster, 2)));
    // Known for a while without the catalog, in which no log changes its stores.
    cluster.set_outage_of(2, Outage::Before);
    cluster.sim.run_for(AGE);
    assert!(!unknown(&verdict(&cluster, 2)));
    cluster.sim.run_for(Duration::from_secs(30));
    let answer = verdict(&cluster, 2);
    assert!(unknown(&answer), "{answer:?}");
    assert_ne!(answer.verdict, "ok");
    cluster.set_outage_of(2, Outage::None);
    cluster.sim.run_for(AGE);
    assert!(!unknown(&verdict(&cluster, 2)));
}

#[test]
fn space_in_use_does_not_fall_because_a_store_is_lost() {
    let cluster = filled(73, idle);
    let name = "v".to_owned();
    cluster.operate(0, Operation::VolumeDrain { name });
    cluster.sim.run_for(Duration::from_secs(30));
    let before = verdict(&cluster, 0).capacity;
    assert_eq!(before.missing, 0);
    let held = |index: usize| cluster.node(index).stores()[0].status().used.0;
    let lost = (1..4).max_by_key(|&index| held(index)).expect("nodes");
    let (gone, extents) = (held(lost), cluster.node(lost).stores()[0].status().extents);
    assert!(extents > 0, "another seed is needed");
    cluster.crash(lost);
    // The repair delay, and an answer of the stores after it.
    cluster.sim.run_for(Duration::from_secs(60));
    verdict(&cluster, 0);
    cluster.sim.run_for(Duration::from_secs(12));
    let after = verdict(&cluster, 0);
    assert!(after.data[0].degraded > 0, "{after:?}");
    let capacity = after.capacity;
    assert!(capacity.missing > 0, "{capacity:?}");
    // The collector may have found something meanwhile, and what a store keeps for itself is not made again.
    let differs = capacity.used.abs_diff(before.used);
    assert!(
        differs <= before.used / 20,
        "{before:?} {capacity:?}, of which {gone} are gone"
    );
    assert!(
        capacity.used - capacity.missing < before.used,
        "{capacity:?}"
    );
    assert!(capacity.total < before.total, "{before:?} {capacity:?}");
}

/// As above, and logs are looked at often.
fn watchful(options: &mut HostOptions) {
    patient(options);
    options.lost_logs_interval = Duration::from_secs(5);
}

#[test]
fn a_log_that_was_released_with_one_copy_gets_another_when_there_is_a_store_again() {
    let cluster = filled(74, watchful);
    for index in 1..4 {
        cluster.crash(index);
    }
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 1, 99);
    drop(device);
    let stopped = cluster.node(0);
    cluster.run(0, async move { stopped.stop().await });
    cluster.crash(0);
    for index in 0..4 {
        cluster.restart(index);
    }
    let begin = cluster.sim.now();
    while logs(&cluster, 1).degraded > 0 || cluster.show(1, "v").log.len() < 2 {
        cluster.sim.run_for(Duration::from_secs(1));
        let waited = cluster.sim.now().since(begin);
        assert!(waited < Duration::from_secs(120), "{:?}", logs(&cluster, 1));
    }
    let device = cluster.device(1, "v");
    assert_eq!(cluster.read(1, &device, 1), 99);
}
