//! What clients do is counted at the owner, once, and can be asked for afterwards, wherever the volume has been.

use crate::support::{Client, Cluster, MIB};
use api::{
    Answer, BusiestAnswer, BusiestQuery, ErrorKind, FiguresAnswer, MetricsAnswer, MetricsQuery,
    Operation, ServedFigures,
};
use history::MemoryShelf;
use node::{HostOptions, Recording};
use std::sync::Arc;
use vocab::BLOCK_SIZE;
use world::Duration;

const BLOCK: u64 = BLOCK_SIZE as u64;

fn recording(options: &mut HostOptions) {
    options.recording = Some(Recording {
        shelf: Some(Arc::new(MemoryShelf::default())),
        bytes_max: 64 << 20,
    });
}

fn cluster(seed: u64) -> Cluster {
    let cluster = Cluster::with_options(seed, 3, recording);
    cluster.create_container("c", 2);
    cluster
}

fn figures(cluster: &Cluster, index: usize) -> FiguresAnswer {
    match cluster.operate(index, Operation::Figures) {
        Answer::Figures(figures) => *figures,
        other => panic!("not figures: {other:?}"),
    }
}

/// What the owner says of a volume, if this node is it.
fn served(cluster: &Cluster, index: usize, name: &str) -> Option<ServedFigures> {
    let figures = figures(cluster, index);
    let volume = figures
        .volumes
        .into_iter()
        .find(|volume| volume.name == name)?;
    volume.served
}

fn query(entity: &str, metric: &str) -> MetricsQuery {
    MetricsQuery {
        entity: entity.to_owned(),
        metric: metric.to_owned(),
        ..MetricsQuery::default()
    }
}

fn metrics(cluster: &Cluster, index: usize, query: MetricsQuery) -> MetricsAnswer {
    match cluster.operate(index, Operation::MetricsQuery(query)) {
        Answer::Metrics(answer) => answer,
        other => panic!("not metrics: {other:?}"),
    }
}

/// Operations within the answer's time: rates by how long they held.
fn count(answer: &MetricsAnswer, series: usize) -> u64 {
    let values = answer.series[series].values.iter();
    let lengths = (0..).map(|at| {
        let begin = answer.from_ms / 1000 + at * answer.step;
        (answer.through_ms / 1000)
            .saturating_sub(begin)
            .min(answer.step)
    });
    let sum: f64 = values
        .zip(lengths)
        .filter_map(|(value, seconds)| Some(value.as_ref()?.0 * seconds as f64))
        .sum();
    sum.round() as u64
}

fn wait(cluster: &Cluster, index: usize, seconds: u64) {
    let world = cluster.machines[index].host.world();
    cluster.run(index, async move {
        world.sleep(Duration::from_secs(seconds)).await
    });
}

#[test]
fn local_and_remote_clients_are_counted_alike_and_once() {
    let cluster = cluster(3801);
    cluster.create_volume(0, "v", 16 * MIB);
    let here = cluster.device(0, "v");
    (0..5).for_each(|lba| cluster.write(0, &here, lba, 1));
    assert_eq!(cluster.owner(0, "v"), 0);
    // Through another node, and from a program that finds the owner itself.
    let there = cluster.device(1, "v");
    for lba in 0..3 {
        assert_eq!(cluster.read(1, &there, lba), 1);
    }
    let client = Client::open(&cluster, 2, "v", 0).unwrap();
    client.write(7).unwrap();
    let at_owner = served(&cluster, 0, "v").expect("it is served there");
    let activity = &at_owner.activity;
    assert_eq!(
        (activity.reads, activity.writes, activity.errors),
        (3, 6, 0)
    );
    assert_eq!(
        (activity.read_bytes, activity.written_bytes),
        (3 * BLOCK, 6 * BLOCK)
    );
    assert_eq!(at_owner.latency.writes.iter().sum::<u64>(), 6);
    assert!(activity.write_us > 0);
    let shown = cluster.show(1, "v").activity.expect("the owner says it");
    assert_eq!(&shown, activity);
    for index in [1, 2] {
        assert_eq!(
            served(&cluster, index, "v"),
            None,
            "others say nothing of it"
        );
        assert_eq!(figures(&cluster, index).activity.writes, 0);
    }
    // All stores, the verdict and the volumes that nobody serves are said once.
    cluster.create_volume(0, "at-rest", 16 * MIB);
    wait(&cluster, 0, 20);
    let all: Vec<FiguresAnswer> = (0..3).map(|index| figures(&cluster, index)).collect();
    assert_eq!(all.iter().filter(|one| one.cluster.is_some()).count(), 1);
    let leader = all.iter().find_map(|one| one.cluster.as_ref()).unwrap();
    assert_eq!(leader.volumes, Some(2));
    let unserved: Vec<&str> = leader
        .unserved
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(unserved, ["at-rest"]);
    let mut stores: Vec<u32> = all
        .iter()
        .flat_map(|one| &one.stores)
        .map(|one| one.store.id)
        .collect();
    stores.sort_unstable();
    assert_eq!(stores, [1, 2, 3]);
    assert!(all.iter().all(|one| one.stores[0].disks[0].writes > 0));
}

#[test]
fn a_volume_that_moves_has_one_history() {
    let cluster = cluster(3802);
    let id = cluster.create_volume(0, "v", 16 * MIB).id;
    wait(&cluster, 0, 20);
    let here = cluster.device(0, "v");
    (0..40).for_each(|lba| cluster.write(0, &here, lba, 1));
    wait(&cluster, 0, 20);
    let before = metrics(
        &cluster,
        2,
        query("volume/v", "write_iops,write_bandwidth,latency_p99"),
    );
    assert_eq!((before.step, before.silent.len()), (15, 0));
    assert_eq!(count(&before, 0), 40);
    assert_eq!(count(&before, 1), 40 * BLOCK);
    let slowest = before.series[2].values.iter().flatten().map(|us| us.0);
    assert!(slowest.fold(0.0, f64::max) > 0.0);
    drop(here);
    // The owner gives it up, and another one serves it.
    let node = cluster.node(0);
    cluster.run(0, async move { node.stop().await });
    let there = cluster.device(1, "v");
    (0..10).for_each(|lba| cluster.write(1, &there, lba, 2));
    wait(&cluster, 1, 20);
    let alone = metrics(&cluster, 2, query("volume/v", "write_iops"));
    assert_eq!(
        alone.silent,
        ["a"],
        "what it knows is missing, and that is said"
    );
    assert_eq!(count(&alone, 0), 10);
    let by_id = metrics(
        &cluster,
        1,
        query(&format!("volume/volume-{id}"), "write_iops"),
    );
    assert_eq!(count(&by_id, 0), 10);
}

#[test]
fn sums_of_containers_nodes_and_the_cluster_agree() {
    let cluster = cluster(3803);
    for name in ["v", "w"] {
        cluster.create_volume(0, name, 16 * MIB);
    }
    let (one, other) = (cluster.device(0, "v"), cluster.device(1, "w"));
    (0..12).for_each(|lba| cluster.write(0, &one, lba, 1));
    (0..8).for_each(|lba| cluster.write(1, &other, lba, 1));
    wait(&cluster, 0, 20);
    for entity in ["cluster", "container/c"] {
        let answer = metrics(&cluster, 2, query(entity, "write_iops,iops"));
        assert_eq!((count(&answer, 0), count(&answer, 1)), (20, 20), "{entity}");
    }
    let owners = ["a", "b", "c"].map(|name| {
        let answer = metrics(&cluster, 2, query(&format!("node/{name}"), "write_iops"));
        count(&answer, 0)
    });
    assert_eq!(owners.iter().sum::<u64>(), 20);
    let store = metrics(&cluster, 0, query("store/1", "write_iops,used,capacity"));
    assert!(count(&store, 0) > 0);
    let capacity = store.series[2].values.iter().flatten().last().unwrap().0;
    assert!(capacity > 512.0 * MIB as f64, "{capacity}");
    // Space adds up, too: the stores of the nodes, and of all.
    let space = |entity: &str| {
        let answer = metrics(&cluster, 1, query(entity, "capacity,used,write_iops"));
        let last = |at: usize| {
            answer.series[at]
                .values
                .iter()
                .flatten()
                .last()
                .map(|one| one.0)
        };
        (
            last(0).expect("it has stores"),
            last(1).expect("they hold something"),
        )
    };
    let nodes = ["a", "b", "c"].map(|name| space(&format!("node/{name}")).0);
    assert_eq!(nodes[0], capacity, "a node has one store");
    let (whole, used) = space("cluster");
    assert_eq!(whole, nodes.iter().sum::<f64>());
    assert!(used > 0.0 && used < whole, "{used} of {whole}");
}

#[test]
fn the_busiest_volumes_and_nodes_are_listed() {
    let cluster = cluster(3804);
    for name in ["busy", "idle"] {
        cluster.create_volume(0, name, 16 * MIB);
    }
    let (busy, idle) = (cluster.device(0, "busy"), cluster.device(1, "idle"));
    cluster.write(1, &idle, 0, 1);
    wait(&cluster, 0, 20);
    (0..30).for_each(|lba| cluster.write(0, &busy, lba, 1));
    wait(&cluster, 0, 15);
    let busiest = |limit| match cluster.operate(
        2,
        Operation::Busiest(BusiestQuery {
            by: None,
            limit: Some(limit),
        }),
    ) {
        Answer::Busiest(answer) => answer,
        other => panic!("not the busiest: {other:?}"),
    };
    let all: BusiestAnswer = busiest(10);
    let names: Vec<&str> = all
        .volumes
        .iter()
        .map(|volume| volume.name.as_str())
        .collect();
    assert_eq!(names, ["busy", "idle"]);
    let rates = &all.volumes[0].rates;
    assert!(
        rates.write_iops.0 > 1.0 && rates.read_iops.0 == 0.0,
        "{rates:?}"
    );
    assert_eq!(all.volumes[1].rates.latency_us, None, "it does nothing");
    assert_eq!((all.nodes.len(), all.silent.len()), (3, 0));
    assert_eq!(busiest(1).volumes.len(), 1);
    cluster.crash(1);
    wait(&cluster, 0, 5);
    assert_eq!(busiest(1).silent, ["b"]);
}

#[test]
fn odd_queries_are_told_what_is_wrong() {
    let cluster = cluster(3805);
    let kind = |query: MetricsQuery| {
        let answer = cluster.try_operate(0, Operation::MetricsQuery(query));
        answer.unwrap_err().kind
    };
    for (entity, expected) in [
        ("node/none", ErrorKind::NotFound),
        ("container/none", ErrorKind::NotFound),
        ("volume/none", ErrorKind::NotFound),
        ("store/one", ErrorKind::BadRequest),
        ("disk/1", ErrorKind::BadRequest),
        ("", ErrorKind::BadRequest),
    ] {
        assert_eq!(kind(query(entity, "iops")), expected, "{entity}");
    }
    assert_eq!(kind(query("cluster", "iops,mapped")), ErrorKind::BadRequest);
    // What nobody has recorded yet is not zero.
    let answer = metrics(&cluster, 0, query("volume/volume-99", "iops"));
    assert!(answer.series[0].values.iter().all(Option::is_none));
    let busiest = Operation::Busiest(BusiestQuery {
        by: None,
        limit: Some(0),
    });
    assert_eq!(
        cluster.try_operate(0, busiest).unwrap_err().kind,
        ErrorKind::BadRequest
    );
}
