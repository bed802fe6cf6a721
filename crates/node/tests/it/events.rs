//! What happens in a cluster is told once, in order, and outlives who saw it.

use crate::support::{Cluster, MIB};
use api::{Answer, EventAnswer, EventQuery, EventsAnswer, MemberChange, Operation};
use world::Duration;

fn events(cluster: &Cluster, asked: usize, after: Option<u64>) -> EventsAnswer {
    let query = EventQuery {
        after,
        limit: Some(500),
        ..EventQuery::default()
    };
    match cluster.operate(asked, Operation::Events(query)) {
        Answer::Events(answer) => answer,
        other => panic!("not events: {other:?}"),
    }
}

/// Until an event of this kind about this entity is told.
fn await_event(cluster: &Cluster, asked: usize, kind: &str, entity: &str) -> EventAnswer {
    for _ in 0..60 {
        let told = events(cluster, asked, Some(0)).events;
        let found = told
            .iter()
            .find(|event| event.kind == kind && event.entity == entity);
        if let Some(found) = found {
            return found.clone();
        }
        cluster.sim.run_for(Duration::from_secs(1));
    }
    panic!(
        "no {kind} of {entity}: {:#?}",
        events(cluster, asked, Some(0))
    );
}

fn start(seed: u64) -> Cluster {
    let cluster = Cluster::with_options(seed, 4, |options| options.events = true);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 64 * MIB);
    cluster.sim.run_for(Duration::from_secs(10));
    cluster
}

#[test]
fn the_loss_of_a_node_is_told_with_what_follows_from_it() {
    let cluster = start(61);
    let device = cluster.device(3, "v");
    cluster.write(3, &device, 0, 7);
    let lost = cluster.owner(0, "v");
    assert_eq!(lost, 3);
    cluster.crash(lost);
    let node = await_event(&cluster, 0, "node-lost", "node/d");
    assert_eq!(node.severity, "critical");
    assert!(node.remedy.is_some() && node.at_ms > 0, "{node:?}");
    await_event(&cluster, 1, "takeover", "volume/v");
    await_event(&cluster, 1, "verdict", "cluster");
    let store = await_event(&cluster, 2, "store-lost", "store/4");
    cluster.restart(lost);
    await_event(&cluster, 0, "node-returned", "node/d");
    await_event(&cluster, 0, "store-returned", "store/4");
    // In order, each once, and those after an id are the rest.
    let all = events(&cluster, 3, Some(0));
    let ids: Vec<u64> = all.events.iter().map(|event| event.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{ids:?}");
    let of_loss = all.events.iter().filter(|event| event.kind == "node-lost");
    assert_eq!(of_loss.count(), 1, "{all:#?}");
    let rest = events(&cluster, 3, Some(store.id));
    assert!(rest.events.iter().all(|event| event.id > store.id));
    assert_eq!(rest.next, all.next);
}

#[test]
fn the_loss_of_the_leader_is_told_by_its_successor() {
    let cluster = start(62);
    let leader = (0..4).find(|&index| cluster.node(index).is_leading());
    let leader = leader.expect("one node leads");
    let asked = (leader + 1) % 4;
    let entity = format!("node/{}", cluster.machines[leader].host.name());
    cluster.crash(leader);
    await_event(&cluster, asked, "node-lost", &entity);
}

#[test]
fn verbs_of_operators_are_told() {
    let cluster = start(63);
    let change = MemberChange {
        maintenance_minutes: Some(5),
        ..MemberChange::default()
    };
    cluster.operate(
        1,
        Operation::NodeSet {
            name: "c".to_owned(),
            change,
        },
    );
    let told = await_event(&cluster, 2, "maintenance", "node/c");
    let query = EventQuery {
        kind: Some("maintenance".to_owned()),
        sort: Some("-id".parse().expect("known")),
        limit: Some(1),
        ..EventQuery::default()
    };
    let Answer::Events(found) = cluster.operate(1, Operation::Events(query.clone())) else {
        panic!("not events")
    };
    assert_eq!((found.events.len(), found.events[0].id), (1, told.id));
    let other = EventQuery {
        entity: Some("node/none".to_owned()),
        after: Some(told.id),
        ..query
    };
    let Answer::Events(none) = cluster.operate(1, Operation::Events(other)) else {
        panic!("not events")
    };
    assert!(none.events.is_empty() && none.next == told.id);
    assert_eq!((&*told.severity, &*told.node), ("info", "b"));
    assert!(told.message.contains("5 minutes"), "{told:?}");
}
