use super::*;
use vocab::*;

fn stores(nodes: u32, per_node: u32) -> Vec<StoreRow> {
    let store = |index: u32| StoreRow {
        id: StoreId(index + 1),
        node: NodeId(index / per_node + 1),
        session: 0,
        incarnation: Incarnation(1),
        capacity: ByteCount::gib(1),
        domains: Vec::new(),
        earlier: Vec::new(),
    };
    (0..nodes * per_node).map(store).collect()
}

#[test]
fn groups_spread_over_nodes_evenly() {
    let groups = plan_groups(&stores(5, 2), 3, &[], 64);
    let mut load = std::collections::BTreeMap::new();
    for group in &groups {
        let nodes: std::collections::BTreeSet<u32> = group
            .members
            .iter()
            .map(|member| (member.0 - 1) / 2)
            .collect();
        assert_eq!(nodes.len(), 3);
        for member in &group.members {
            *load.entry(*member).or_insert(0) += 1;
        }
    }
    let (least, most) = (load.values().min(), load.values().max());
    assert!(
        most.zip(least)
            .is_some_and(|(most, least)| most - least <= 1),
        "{load:?}"
    );
}

#[test]
fn groups_fall_back_to_stores_on_one_node_and_refuse_too_few() {
    assert_eq!(plan_groups(&stores(1, 3), 2, &[], 4).len(), 4);
    assert!(plan_groups(&stores(1, 2), 3, &[], 4).is_empty());
}

#[test]
fn more_groups_balance_those_that_are_there() {
    let few = plan_groups(&stores(3, 1), 2, &[], 8);
    let more = plan_groups(&stores(5, 1), 2, &few, 12);
    let ids: std::collections::BTreeSet<_> = few.iter().chain(&more).map(|row| row.id).collect();
    assert_eq!(ids.len(), 20, "no id twice");
    let newcomer = |row: &&crate::GroupRow| row.members.iter().any(|store| store.0 > 3);
    assert!(more.iter().filter(newcomer).count() >= 10, "{more:?}");
}

#[test]
fn groups_grow_with_the_stores() {
    assert_eq!(crate::wanted_groups(64, 16, 3, 2), 64);
    assert_eq!(crate::wanted_groups(64, 16, 1000, 2), 8000);
    assert_eq!(crate::wanted_groups(64, 16, usize::MAX >> 8, 1), 100_000);
}
