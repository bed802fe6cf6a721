//! Releases side by side: nodes that know other levels join, the cluster's level rises when all know a higher one, and a release
//! that does not know it stays out.

use crate::support::{Cluster, MIB};
use api::{Answer, Operation};
use catalog::kv::Kv;
use catalog_kv::memory::Outage;
use node::{Host, HostError, HostOptions};
use std::rc::Rc;
use vocab::{Level, Levels};
use world::Duration;

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
