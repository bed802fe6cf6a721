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
    };
    (0..nodes * per_node).map(store).collect()
}

#[test]
fn groups_spread_over_nodes_evenly() {
    let groups = plan_groups(&stores(5, 2), 3, 64);
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
    assert_eq!(plan_groups(&stores(1, 3), 2, 4).len(), 4);
    assert!(plan_groups(&stores(1, 2), 3, 4).is_empty());
}
