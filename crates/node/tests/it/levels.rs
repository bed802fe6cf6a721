//! Releases side by side: nodes that know other levels join, the cluster's level rises when all know a higher one, and a release
//! that does not know it stays out.

use crate::support::{Cluster, MIB};
use api::{Answer, Operation};
use catalog::kv::Kv;
use catalog::{AliveRow, Announced, Catalog, ClusterRow, NodeRow, Transaction};
use catalog_kv::memory::{MemoryKv, Outage};
use node::{Host, HostError, HostOptions};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vocab::{Level, Levels, NodeId};
use world::Duration;
use world_sim::Simulation;

fn levels(text: &str) -> Levels {
    text.parse().expect(text)
}

fn options(cluster: &Cluster, index: usize, known: &str) -> HostOptions {
    HostOptions {
        levels: levels(known),
        ..cluster.options_of(index)
    }
}

/// Restarts a node as one of another release.
fn upgrade(cluster: &Cluster, index: usize, known: &str) -> Result<(), HostError> {
    cluster.crash(index);
    cluster.machines[index].host.restart();
    let started = cluster.try_start(index, options(cluster, index, known));
    cluster.sim.run_for(Duration::from_secs(20));
    started.map(drop)
}

/// The cluster's level and those of its nodes, as one of them says.
fn said(cluster: &Cluster, index: usize) -> (u16, Vec<u16>) {
    match cluster.operate(index, Operation::Cluster) {
        Answer::Cluster(answer) => {
            assert!(
                answer
                    .nodes
                    .iter()
                    .all(|node| node.release == node::RELEASE)
            );
            let levels = answer.nodes.iter().map(|node| node.level).collect();
            (answer.level, levels)
        }
        other => panic!("not a cluster: {other:?}"),
    }
}

#[test]
fn the_level_rises_when_the_last_node_is_upgraded_and_volumes_are_used_meanwhile() {
    let cluster = Cluster::new(70, 3);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", MIB);
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 0, 1);
    for (index, before) in [(1, 1), (2, 1), (0, 1)] {
        assert_eq!(said(&cluster, 1).0, before);
        upgrade(&cluster, index, "1-2").expect("one release more");
        // Written and read through nodes of both.
        for asked in [index, (index + 1) % 3] {
            let device = cluster.device(asked, "v");
            let fill = (index * 8 + asked) as u8;
            cluster.write(asked, &device, 1, fill);
            assert_eq!(cluster.read(asked, &device, 1), fill);
            assert_eq!(cluster.read(asked, &device, 0), 1);
        }
    }
    cluster.sim.run_for(Duration::from_secs(20));
    for asked in 0..3 {
        assert_eq!(said(&cluster, asked), (2, vec![2, 2, 2]), "asked {asked}");
    }
}

#[test]
fn a_node_that_is_away_keeps_the_level_down() {
    let cluster = Cluster::new(71, 3);
    cluster.crash(2);
    upgrade(&cluster, 0, "1-2").expect("one release more");
    upgrade(&cluster, 1, "1-2").expect("one release more");
    cluster.sim.run_for(Duration::from_secs(60));
    assert_eq!(said(&cluster, 0).0, 1);
    // It may come back as it was.
    cluster.machines[2].host.restart();
    cluster
        .try_start(2, options(&cluster, 2, "1"))
        .expect("it knows the level");
}

#[test]
fn a_release_that_does_not_know_the_level_stays_out() {
    let cluster = Cluster::new(72, 3);
    for index in 0..3 {
        upgrade(&cluster, index, "1-2").expect("one release more");
    }
    for known in ["1", "3-4"] {
        match upgrade(&cluster, 0, known) {
            Err(
                error @ HostError::Level {
                    level: Level(2), ..
                },
            ) => {
                let text = error.to_string();
                assert!(
                    text.contains("at level 2") && text.contains("upgrades.md"),
                    "{text}"
                );
            }
            other => panic!("{known}: {other:?}"),
        }
    }
    assert_eq!(said(&cluster, 1), (2, vec![2, 2, 2]), "nothing has changed");
    upgrade(&cluster, 0, "2-3").expect("one release more");
    assert_eq!(said(&cluster, 1), (2, vec![3, 2, 2]));
}

#[test]
fn a_new_cluster_begins_at_the_level_of_its_first_node() {
    let cluster = Cluster::with_options(73, 2, |options| {
        options.levels = "2-3".parse().expect("levels")
    });
    assert_eq!(said(&cluster, 1), (3, vec![3, 3]));
}

#[test]
fn a_release_whose_cluster_is_new_serves_through_its_gateways() {
    let cluster = Cluster::with_options(74, 3, |options| {
        options.levels = "2-3".parse().expect("levels")
    });
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", MIB);
    for asked in 0..3 {
        let device = cluster.device(asked, "v");
        cluster.write(asked, &device, 0, asked as u8);
        assert_eq!(cluster.read(asked, &device, 0), asked as u8);
    }
}

#[test]
fn a_node_that_was_removed_while_it_was_cut_off_does_not_come_to_life_again() {
    let cluster = Cluster::new(75, 3);
    cluster.set_outage_of(2, Outage::Before);
    cluster.sim.run_for(Duration::from_secs(30));
    let remove = Operation::NodeRemove {
        name: "c".to_owned(),
        lost: false,
    };
    cluster.operate(0, remove);
    upgrade(&cluster, 0, "1-2").expect("one release more");
    upgrade(&cluster, 1, "1-2").expect("one release more");
    assert_eq!(said(&cluster, 0), (2, vec![2, 2]));
    // It runs, reaches the catalog again, and does not know the level.
    cluster.set_outage_of(2, Outage::None);
    cluster.sim.run_for(Duration::from_secs(60));
    assert_eq!(said(&cluster, 0), (2, vec![2, 2]));
    let kv = cluster.kv.handle(cluster.machines[0].host.world());
    let lives = cluster.run(0, async move { kv.range("alive/", None, 9).await });
    assert_eq!(lives.expect("the catalog answers").entries.len(), 2);
    // Nor does it lead when nobody else does.
    cluster.crash(0);
    cluster.crash(1);
    cluster.sim.run_for(Duration::from_secs(30));
    let kv = cluster.kv.handle(cluster.machines[2].host.world());
    let leader = cluster.run(2, async move { kv.get("leader").await });
    assert_eq!(leader.expect("the catalog answers"), None);
}

#[test]
fn a_second_process_of_a_name_changes_nothing() {
    let cluster = Cluster::new(76, 2);
    upgrade(&cluster, 0, "1-2").expect("one release more");
    // Another machine with a copy of the configuration of the second.
    let world = cluster.machines[0].host.world();
    let kv = cluster.kv.handle(world.clone());
    let second = HostOptions {
        listen: world::Address::from("a:7999"),
        ..options(&cluster, 1, "1-2")
    };
    let started = cluster.run(0, async move {
        let started = Host::start(world, Rc::new(kv), Vec::new(), second).await;
        started.map(drop)
    });
    assert!(
        matches!(started, Err(HostError::NameInUse { .. })),
        "{started:?}"
    );
    cluster.sim.run_for(Duration::from_secs(30));
    assert_eq!(
        said(&cluster, 0),
        (1, vec![2, 1]),
        "the one that runs counts"
    );
}

fn node_row(id: u32, known: &str) -> NodeRow {
    NodeRow {
        id: NodeId(id),
        name: format!("n{id}"),
        address: format!("n{id}:7000"),
        nbd: None,
        api: None,
        release: String::new(),
        levels: levels(known),
    }
}

/// A cluster of one node that knows level 2, whose level rises while a node that does not know it announces itself so many
/// milliseconds after a time before that. The level, and what became of the node.
fn race(start_ms: u64, before: Option<&str>) -> (Level, Announced) {
    let sim = Simulation::new(1, Default::default());
    let machine = sim.host("catalog");
    let kv = MemoryKv::new(machine.world());
    let catalog = Catalog::new(Rc::new(kv.handle(machine.world())));
    let cluster = ClusterRow {
        id: "test".to_owned(),
        name: "test".to_owned(),
        level: Level(1),
        era: 0,
    };
    let mut rows = Transaction::new().put(&cluster).put(&node_row(1, "1-2"));
    if let Some(known) = before {
        rows = rows.put(&node_row(2, known));
    }
    let (filling, world) = (catalog.clone(), machine.world());
    let outcome: Rc<RefCell<(Option<Announced>, bool)>> = Rc::default();
    let (announced, risen) = (outcome.clone(), outcome.clone());
    machine.spawn(async move {
        filling.commit(rows).await.expect("rows");
        let lease = filling
            .kv()
            .grant(Duration::from_secs(60))
            .await
            .expect("a lease");
        kv.set_latency(|| Duration::from_millis(10));
        let (rising, pause) = (filling.clone(), world.clone());
        world.spawn(async move {
            pause.sleep(Duration::from_millis(60)).await;
            rising.raise_level().await.expect("the catalog answers");
            risen.borrow_mut().1 = true;
        });
        world.sleep(Duration::from_millis(start_ms)).await;
        let alive = AliveRow {
            id: NodeId(2),
            start: 7,
        };
        let node = node_row(2, "1");
        let done = filling.announce_node(&node, &alive, lease, false).await;
        announced.borrow_mut().0 = Some(done.expect("the catalog answers"));
    });
    let over = || outcome.borrow().0.is_some() && outcome.borrow().1;
    assert!(sim.run_until(over, Duration::from_secs(10)));
    let read = Rc::new(Cell::new(None));
    let sink = read.clone();
    machine.spawn(async move { sink.set(Some(catalog.cluster().await.expect("a row").row.level)) });
    assert!(sim.run_until(|| read.get().is_some(), Duration::from_secs(10)));
    let announced = outcome.borrow().0.expect("it is over");
    (read.get().expect("it was read"), announced)
}

#[test]
fn a_rise_and_a_start_at_the_same_time_never_miss_each_other() {
    // New, and of a newer release before.
    for before in [None, Some("1-2")] {
        let mut seen = [0, 0];
        for start_ms in 0..130 {
            match race(start_ms, before) {
                (Level(1), Announced::Alive) => seen[0] += 1,
                (Level(2), Announced::Unknown(Level(2))) => seen[1] += 1,
                other => panic!("{before:?} at {start_ms} ms: {other:?}"),
            }
        }
        assert!(seen[0] > 10 && seen[1] > 10, "{before:?}: {seen:?}");
    }
}
