//! The cluster stops taking new data before it is full, and takes it again by itself.

use crate::support::{Cluster, LIMIT, MIB, container_spec};
use api::{
    Answer, ContainerChange, ContainerSpec, ErrorKind, MemberChange, Operation, OperationError,
    ResiliencyAnswer, SnapshotRef, VolumeSpec,
};
use blockdev::{BlockDevice, BlockError, WriteMode};
use bytes::Bytes;
use std::rc::Rc;
use vocab::{BLOCK_SIZE, Lba};
use world::Duration;

/// Blocks of one write: past the journal.
const RUN_BLOCKS: u64 = 256;
const DISK: u64 = 256 * MIB;

/// Bytes that do not compress.
fn noise(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = (0..bytes / 8).flat_map(|_| next().to_le_bytes());
    Bytes::from(words.collect::<Vec<u8>>())
}

fn write_run(cluster: &Cluster, device: &Rc<dyn BlockDevice>, run: u64) -> Result<(), BlockError> {
    let device = device.clone();
    cluster.run(0, async move {
        let data = noise(run + 1, RUN_BLOCKS as usize * BLOCK_SIZE);
        device
            .write(Lba(run * RUN_BLOCKS), vec![data], WriteMode::Buffered)
            .await
    })
}

fn resiliency(cluster: &Cluster, asked: usize) -> ResiliencyAnswer {
    match cluster.operate(asked, Operation::Resiliency) {
        Answer::Resiliency(answer) => answer,
        other => panic!("not a verdict: {other:?}"),
    }
}

fn space(cluster: &Cluster, asked: usize) -> String {
    resiliency(cluster, asked).space[0].state.clone()
}

/// Until the state of the space is this; the states on the way.
fn await_space(cluster: &Cluster, wanted: &str) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..LIMIT.as_secs() {
        let state = space(cluster, 0);
        if seen.last() != Some(&state) {
            seen.push(state);
        }
        if seen.last().is_some_and(|state| state == wanted) {
            return seen;
        }
        cluster.sim.run_for(Duration::from_secs(1));
    }
    panic!("the space is never {wanted}: {seen:?}");
}

/// Fills the pool until nothing is taken any more; how many runs were.
fn fill(cluster: &Cluster, device: &Rc<dyn BlockDevice>) -> u64 {
    for run in 0.. {
        match write_run(cluster, device, run) {
            Ok(()) => {}
            Err(BlockError::NoSpace(_)) => return run,
            Err(other) => panic!("run {run}: {other}"),
        }
    }
    unreachable!("a pool is finite")
}

fn no_space(cluster: &Cluster, operation: Operation) {
    let name = operation.name();
    let refused = cluster.try_operate(0, operation);
    let error = refused.expect_err(name);
    assert_eq!(error.kind, ErrorKind::NoSpace, "{name}: {error}");
    assert!(error.message.contains("delete data"), "{name}: {error}");
}

fn spec(name: &str, from: Option<SnapshotRef>) -> VolumeSpec {
    VolumeSpec {
        name: name.to_owned(),
        container: Some("c".to_owned()),
        size: Some(1024 * MIB),
        from,
        ..VolumeSpec::default()
    }
}

#[test]
fn a_protected_pool_refuses_new_data_alone_and_recovers_when_something_is_deleted() {
    let cluster = Cluster::with_disks(21, 3, DISK);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "kept", 64 * MIB);
    let kept = cluster.device(0, "kept");
    cluster.write(0, &kept, 0, 7);
    cluster.create_volume(0, "big", 1024 * MIB);
    let big = cluster.device(0, "big");
    assert_eq!(space(&cluster, 0), "ok");
    let runs = fill(&cluster, &big);
    assert!(runs > 100, "{runs} MiB were taken");
    await_space(&cluster, "protected");

    let answer = resiliency(&cluster, 1);
    assert_eq!(answer.verdict, "critical", "{answer:?}");
    assert!(
        answer.space[0]
            .reason
            .as_ref()
            .is_some_and(|reason| reason.contains("refused"))
    );
    // At once, whoever writes, and at the owner without a question.
    let before = cluster.sim.now();
    let refused = write_run(&cluster, &kept, 0);
    assert!(
        matches!(&refused, Err(BlockError::NoSpace(reason)) if reason.contains("protects")),
        "{refused:?}"
    );
    assert!(cluster.sim.now().since(before) < Duration::from_millis(200));
    no_space(&cluster, Operation::VolumeCreate(spec("new", None)));
    let now = SnapshotRef {
        volume: "kept".to_owned(),
        snapshot: None,
    };
    no_space(&cluster, Operation::VolumeCreate(spec("clone", Some(now))));
    no_space(
        &cluster,
        Operation::VolumeResize {
            name: "kept".to_owned(),
            size: 128 * MIB,
        },
    );
    match cluster.operate(
        0,
        Operation::Capacity {
            container: None,
            rf: Some(2),
        },
    ) {
        Answer::Capacity(answer) => assert_eq!(answer.available, 0),
        other => panic!("{other:?}"),
    }

    // What goes on.
    assert_eq!(cluster.read(0, &kept, 0), 7);
    cluster.operate(
        0,
        Operation::SnapshotCreate {
            volume: "kept".to_owned(),
            name: "s".to_owned(),
            labels: Default::default(),
            group: None,
        },
    );
    cluster.crash(2);
    cluster.sim.run_for(Duration::from_secs(5));
    cluster.restart(2);
    let whole = || {
        resiliency(&cluster, 0)
            .data
            .iter()
            .all(|data| data.degraded == 0)
    };
    let repaired = (0..120).any(|_| {
        cluster.sim.run_for(Duration::from_secs(1));
        whole()
    });
    assert!(
        repaired,
        "copies are not made: {:?}",
        resiliency(&cluster, 0)
    );
    assert_eq!(space(&cluster, 0), "protected");

    // Trims give space back, and so does deletion.
    let trimmed = big.clone();
    cluster.run(0, async move {
        let done = trimmed.unmap(Lba(0), RUN_BLOCKS * runs / 2).await;
        done.unwrap_or_else(|error| panic!("trimming: {error}"));
    });
    let seen = await_space(&cluster, "ok");
    assert_eq!(seen.first().map(String::as_str), Some("protected"));
    write_run(&cluster, &kept, 0).unwrap_or_else(|error| panic!("writing again: {error}"));
    cluster.operate(0, Operation::VolumeCreate(spec("new", None)));
}

#[test]
fn a_drain_is_refused_that_would_leave_others_fuller_than_groups_move_to() {
    let cluster = Cluster::with_disks(24, 3, DISK);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 1024 * MIB);
    let device = cluster.device(0, "v");
    let status = |index: usize| cluster.node(index).stores()[0].status();
    // Of two stores that stay each gets a copy of what has two.
    let room = |percent: u64| {
        let each = [0, 1].map(|index| {
            let status = status(index);
            (status.capacity.0 / 100 * percent).saturating_sub(status.used.0)
        });
        2 * each[0].min(each[1])
    };
    let mut runs = 0;
    while status(2).used.0 <= room(85) {
        write_run(&cluster, &device, runs).expect("there is room");
        runs += 1;
    }
    // The node that is asked has heard of it.
    cluster.sim.run_for(Duration::from_secs(3));
    let moving = status(2).used.0;
    assert!(moving > room(85) && moving <= room(90), "{moving} bytes");
    let drain = Operation::NodeSet {
        name: "c".to_owned(),
        change: MemberChange {
            draining: Some(true),
            ..MemberChange::default()
        },
    };
    let refused = cluster.try_operate(0, drain);
    let message = refused.expect_err("it would never end").message;
    for words in [
        format!("hold {moving} bytes"),
        format!("room for {}", room(85)),
        "85 %".to_owned(),
    ] {
        assert!(message.contains(&words), "{words}: {message}");
    }
}

/// The collector rests in proportion to what it did. A pool that fills up meanwhile cannot wait for the end of that.
#[test]
fn a_pool_that_fills_with_garbage_while_the_collector_rests_takes_all_that_is_written() {
    let cluster = Cluster::with_disks_and_options(22, 3, DISK, |options| {
        options.collect.duty_percent = 1;
        options.collect.interval = Duration::from_secs(5);
    });
    cluster.create_container("c", 2);
    let runs = 48;
    cluster.create_volume(0, "v", runs * MIB);
    let device = cluster.device(0, "v");
    let write = |run: u64| write_run(&cluster, &device, run).expect("there is room for garbage");
    (0..runs).for_each(write);
    // Two of three blocks of each run are written anew: worth a rewrite, whose rest takes minutes.
    for block in (0..runs * RUN_BLOCKS).filter(|block| block % 3 > 0) {
        cluster.write(0, &device, block, 9);
    }
    cluster.operate(
        0,
        Operation::VolumeDrain {
            name: "v".to_owned(),
        },
    );
    cluster.sim.run_for(Duration::from_secs(15));
    for _ in 0..12 {
        (0..runs).for_each(write);
        // What was overwritten is garbage once the volume is quiet and drained.
        cluster.sim.run_for(Duration::from_secs(5));
    }
}

#[test]
fn a_quota_that_is_used_up_does_not_refuse_what_is_there_already() {
    let cluster = Cluster::new(67, 2);
    let spec = ContainerSpec {
        quota: Some(8 * MIB),
        ..container_spec("small")
    };
    cluster.operate(0, Operation::ContainerCreate(spec));
    let create = |name: &str| {
        let spec = VolumeSpec {
            name: name.to_owned(),
            container: Some("small".to_owned()),
            size: Some(8 * MIB),
            ..VolumeSpec::default()
        };
        cluster.try_operate(1, Operation::VolumeCreate(spec))
    };
    create("v").expect("it fits");
    let kind = |answer: Result<Answer, OperationError>| answer.expect_err("refused").kind;
    assert_eq!(kind(create("w")), ErrorKind::NoSpace);
    // Whoever repeats a creation is told that it was done.
    assert_eq!(kind(create("v")), ErrorKind::Exists);
    let change = ContainerChange {
        quota: Some(4 * MIB),
        ..ContainerChange::default()
    };
    let name = "small".to_owned();
    cluster.operate(0, Operation::ContainerSet { name, change });
    let resize = |size| {
        let name = "v".to_owned();
        cluster.try_operate(1, Operation::VolumeResize { name, size })
    };
    resize(8 * MIB).expect("it has that size");
    assert_eq!(kind(resize(9 * MIB)), ErrorKind::NoSpace);
}
