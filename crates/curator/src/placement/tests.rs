//! The plan, carried out with fills that end at once.

use super::*;
use catalog::{StoreRow, plan_groups};
use vocab::{ByteCount, Incarnation};

const GIB: u64 = 1 << 30;

fn store(id: u32, node: u32, capacity: u64) -> StoreFacts {
    StoreFacts {
        id: StoreId(id),
        node: NodeId(node),
        domains: Vec::new(),
        capacity,
        standing: Standing::Present,
        has_room: true,
        is_full: false,
        free: capacity / 2,
    }
}

fn one_per_node(count: u32) -> Vec<StoreFacts> {
    (1..=count).map(|id| store(id, id, 100 * GIB)).collect()
}

fn groups_over(stores: &[StoreFacts], copies: u8, count: u32) -> Vec<GroupRow> {
    let row = |facts: &StoreFacts| StoreRow {
        id: facts.id,
        node: facts.node,
        incarnation: Incarnation(1),
        session: 1,
        capacity: ByteCount(facts.capacity),
        domains: facts.domains.clone(),
        earlier: Vec::new(),
    };
    let rows: Vec<StoreRow> = stores.iter().map(row).collect();
    plan_groups(&rows, copies, &[], count)
}

/// Applies a change; returns how many stores join the group.
fn apply(groups: &mut [GroupRow], change: &GroupChange) -> usize {
    let row = groups.iter_mut().find(|row| row.id == change.group);
    let row = row.expect("a group that is there");
    let joins = |member: &&StoreId| !row.members.contains(member);
    let joined = change.members.iter().filter(joins).count();
    *row = change.applied_to(row);
    check(row);
    joined
}

/// Applies a plan and ends all fills; returns how many stores joined groups.
fn step(groups: &mut [GroupRow], stores: &[StoreFacts], sizes: &GroupSizes) -> usize {
    let changes = plan(groups, stores, sizes, PlacementLimits::default());
    let mut joined = 0;
    for change in &changes {
        joined += apply(groups, change);
    }
    for row in groups.iter_mut() {
        if row.complete().next().is_some() {
            row.filling.clear();
        }
    }
    joined
}

/// What holds of every row at every moment.
fn check(row: &GroupRow) {
    let distinct: BTreeSet<StoreId> = row.members.iter().copied().collect();
    assert_eq!(distinct.len(), row.members.len(), "{row:?}");
    assert!(!row.members.is_empty(), "{row:?}");
    let inside = |store: &StoreId| row.members.contains(store);
    assert!(row.filling.iter().all(inside), "{row:?}");
    assert!(!row.former.iter().any(inside), "{row:?}");
    assert!(row.leaving.iter().all(inside), "{row:?}");
}

/// Until nothing is planned; returns how many stores joined groups.
fn settle(groups: &mut [GroupRow], stores: &[StoreFacts]) -> usize {
    settle_by(groups, stores, &GroupSizes::new())
}

/// As [`settle`], with groups that hold so much.
fn settle_by(groups: &mut [GroupRow], stores: &[StoreFacts], sizes: &GroupSizes) -> usize {
    let mut joined = 0;
    for _ in 0..2000 {
        let before = groups.to_vec();
        joined += step(groups, stores, sizes);
        if groups == &before[..] {
            return joined;
        }
        // Former members that are there are emptied.
        for row in groups.iter_mut() {
            let lost = |id: &StoreId| {
                let facts = stores.iter().find(|facts| facts.id == *id);
                facts.is_none_or(|facts| facts.standing == Standing::Lost)
            };
            row.former.retain(lost);
        }
    }
    panic!("the plan never ends");
}

fn loads(groups: &[GroupRow]) -> BTreeMap<StoreId, usize> {
    let mut loads = BTreeMap::new();
    for member in groups.iter().flat_map(|row| &row.members) {
        *loads.entry(*member).or_default() += 1;
    }
    loads
}

#[test]
fn a_healthy_cluster_stays_as_it_is() {
    for (count, copies) in [(3, 1), (3, 2), (3, 3), (5, 3), (7, 2)] {
        let stores = one_per_node(count);
        let mut groups = groups_over(&stores, copies, 64);
        assert_eq!(
            settle(&mut groups, &stores),
            0,
            "{count} stores, {copies} copies"
        );
    }
}

#[test]
fn a_lost_store_is_replaced_and_nothing_else_moves() {
    let mut stores = one_per_node(5);
    let mut groups = groups_over(&stores, 2, 64);
    let held = loads(&groups)[&StoreId(2)];
    stores[1].standing = Standing::Lost;
    let joined = settle(&mut groups, &stores);
    assert_eq!(joined, held, "only what was lost is made again");
    assert!(!loads(&groups).contains_key(&StoreId(2)));
    assert!(groups.iter().all(|row| row.members.len() == 2));
    let (least, most) = extremes(&groups);
    assert!(most - least <= 2, "declustered: {:?}", loads(&groups));
}

#[test]
fn groups_that_a_lost_store_was_in_move_for_balance_again() {
    let mut stores = one_per_node(3);
    let mut groups = groups_over(&stores, 2, 64);
    stores[1].standing = Standing::Lost;
    settle(&mut groups, &stores);
    let lost = |row: &GroupRow| row.former == [StoreId(2)];
    assert!(groups.iter().any(lost), "nobody has removed it");
    for row in &mut groups {
        row.former = vec![StoreId(2)];
    }
    stores.push(store(4, 4, 100 * GIB));
    assert!(
        settle(&mut groups, &stores) > 0,
        "a new store gets its share"
    );
    let (least, most) = extremes(&groups);
    assert!(most - least <= 2, "{:?}", loads(&groups));
}

fn extremes(groups: &[GroupRow]) -> (usize, usize) {
    let loads = loads(groups);
    let values = || loads.values().copied();
    (values().min().unwrap_or(0), values().max().unwrap_or(0))
}

#[test]
fn without_a_place_to_go_nothing_is_planned() {
    let mut stores = one_per_node(3);
    let mut groups = groups_over(&stores, 3, 16);
    stores[0].standing = Standing::Lost;
    let before = groups.clone();
    assert_eq!(settle(&mut groups, &stores), 0);
    assert_eq!(
        groups, before,
        "two of three copies stay, and the third is awaited"
    );
}

#[test]
fn the_last_good_copy_is_waited_for() {
    let mut stores = one_per_node(4);
    let mut groups = groups_over(&stores, 1, 16);
    stores[0].standing = Standing::Lost;
    let before = groups.clone();
    settle(&mut groups, &stores);
    let kept = |row: &&GroupRow| {
        before
            .iter()
            .any(|old| old == *row && row.members == [StoreId(1)])
    };
    let waiting = groups.iter().filter(kept).count();
    assert_eq!(waiting, loads(&before)[&StoreId(1)]);
}

#[test]
fn a_store_that_returns_before_the_fill_ends_takes_its_place_again() {
    let mut stores = one_per_node(4);
    let mut groups = groups_over(&stores, 2, 32);
    let before = groups.clone();
    stores[0].standing = Standing::Lost;
    for change in plan(
        &groups,
        &stores,
        &GroupSizes::new(),
        PlacementLimits::default(),
    ) {
        let row = groups.iter_mut().find(|row| row.id == change.group);
        let row = row.expect("a group that is there");
        (row.members, row.filling, row.former) = (change.members, change.filling, change.former);
    }
    assert_ne!(groups, before);
    stores[0].standing = Standing::Present;
    settle(&mut groups, &stores);
    assert_eq!(loads(&groups), loads(&before));
}

#[test]
fn who_returned_is_filled_however_long_that_takes() {
    let mut stores = one_per_node(4);
    let mut groups = groups_over(&stores, 2, 32);
    let mut apply = |stores: &[StoreFacts]| {
        let changes = plan(
            &groups,
            stores,
            &GroupSizes::new(),
            PlacementLimits::default(),
        );
        for change in &changes {
            let row = groups.iter_mut().find(|row| row.id == change.group);
            let row = row.expect("a group that is there");
            *row = change.applied_to(row);
        }
        changes.len()
    };
    stores[0].standing = Standing::Lost;
    assert!(apply(&stores) > 0);
    stores[0].standing = Standing::Present;
    assert!(apply(&stores) > 0, "it takes its place again");
    assert_eq!(apply(&stores), 0, "and keeps it while it is filled");
}

#[test]
fn a_move_to_a_store_that_is_full_is_given_up() {
    let mut stores = one_per_node(3);
    let mut groups = groups_over(&stores, 2, 1);
    let third = stores.iter().map(|facts| facts.id);
    let third = { third }.find(|id| !groups[0].members.contains(id));
    let third = third.expect("two of three hold the group");
    let pair = groups[0].members.clone();
    groups[0].members.push(third);
    groups[0].filling.push(third);
    let limits = PlacementLimits::default();
    assert_eq!(
        plan(&groups, &stores, &GroupSizes::new(), limits),
        [],
        "it is being filled"
    );
    let full = |facts: &&mut StoreFacts| facts.id == third;
    let facts = stores.iter_mut().find(full).expect("a store");
    (facts.is_full, facts.has_room) = (true, false);
    let changes = plan(&groups, &stores, &GroupSizes::new(), limits);
    let change = changes.first().expect("it is given up");
    assert_eq!(change.members, pair);
    assert!(change.filling.is_empty() && change.former == [third]);
    groups[0].members.clone_from(&change.members);
    groups[0].filling.clear();
    groups[0].former.clone_from(&change.former);
    assert_eq!(
        plan(&groups, &stores, &GroupSizes::new(), limits),
        [],
        "and stays so"
    );
}

#[test]
fn a_full_store_is_filled_on_when_no_other_can_take_its_place() {
    let mut stores = one_per_node(3);
    let mut groups = groups_over(&stores, 2, 1);
    let lacking = groups[0].members[1];
    groups[0].filling.push(lacking);
    let full = |facts: &&mut StoreFacts| facts.id == lacking;
    let facts = stores.iter_mut().find(full).expect("a store");
    (facts.is_full, facts.has_room) = (true, false);
    let limits = PlacementLimits::default();
    let changes = plan(&groups, &stores, &GroupSizes::new(), limits);
    let change = changes.first().expect("another takes its place");
    assert!(change.former == [lacking] && change.members.len() == 2);
    let others = |facts: &&mut StoreFacts| facts.id != lacking;
    let mut nearly = stores.clone();
    { nearly.iter_mut().filter(others) }.for_each(|facts| facts.has_room = false);
    let changes = plan(&groups, &nearly, &GroupSizes::new(), limits);
    assert_eq!(changes.len(), 1, "one that is nearly full takes a copy");
    let mut tried = groups.clone();
    let third = change
        .members
        .iter()
        .find(|id| !groups[0].members.contains(id));
    // The one has come back in the place of the other.
    tried[0].returning.push(lacking);
    tried[0].former.push(*third.expect("another one"));
    assert_eq!(
        plan(&tried, &nearly, &GroupSizes::new(), limits),
        [],
        "but not twice"
    );
    stores
        .iter_mut()
        .filter(others)
        .for_each(|facts| (facts.is_full, facts.has_room) = (true, false));
    assert_eq!(plan(&groups, &stores, &GroupSizes::new(), limits), []);
}

#[test]
fn a_full_store_comes_back_when_its_substitute_is_fuller() {
    let mut stores = one_per_node(3);
    let mut groups = groups_over(&stores, 2, 1);
    let back = groups[0].members[1];
    let others = stores.iter().map(|facts| facts.id);
    let newcomer = { others }.find(|id| !groups[0].members.contains(id));
    let newcomer = newcomer.expect("two of three hold the group");
    groups[0].members[1] = newcomer;
    groups[0].filling.push(newcomer);
    groups[0].former.push(back);
    let limits = PlacementLimits::default();
    for facts in &mut stores {
        (facts.is_full, facts.has_room) = (facts.id != newcomer, false);
    }
    assert_eq!(
        plan(&groups, &stores, &GroupSizes::new(), limits),
        [],
        "it is filled on"
    );
    for facts in &mut stores {
        facts.is_full = true;
        facts.free = if facts.id == newcomer { 20 } else { 10 };
    }
    assert_eq!(
        plan(&groups, &stores, &GroupSizes::new(), limits),
        [],
        "it has less room yet"
    );
    let full = |facts: &&mut StoreFacts| facts.id == newcomer;
    stores.iter_mut().find(full).expect("a store").free = 5;
    let changes = plan(&groups, &stores, &GroupSizes::new(), limits);
    let change = changes.first().expect("the former one returns");
    assert_eq!(change.members, [groups[0].members[0], back]);
    assert!(change.filling == [back] && change.former == [newcomer]);
    let row = &mut groups[0];
    *row = change.applied_to(row);
    assert_eq!(
        plan(&groups, &stores, &GroupSizes::new(), limits),
        [],
        "and they take no turns"
    );
}

#[test]
fn a_new_store_gets_its_share_and_no_more_moves_than_that() {
    let mut stores = one_per_node(3);
    let mut groups = groups_over(&stores, 2, 64);
    stores.push(store(4, 4, 100 * GIB));
    let joined = settle(&mut groups, &stores);
    let share = 64 * 2 / 4;
    assert!((share - 1..=share + 1).contains(&joined), "{joined} moved");
    let (least, most) = extremes(&groups);
    assert!(most - least <= 2, "{:?}", loads(&groups));
}

#[test]
fn shares_follow_capacity() {
    let mut stores = one_per_node(4);
    stores[3].capacity = 300 * GIB;
    let mut groups = groups_over(&stores, 2, 90);
    settle(&mut groups, &stores);
    let loads = loads(&groups);
    // A store can be in every group once: 90 of 180 memberships are its half.
    assert!(loads[&StoreId(4)] >= 85, "{loads:?}");
}

#[test]
fn a_draining_store_is_emptied_in_moves_that_keep_all_copies() {
    let mut stores = one_per_node(4);
    let mut groups = groups_over(&stores, 2, 64);
    stores[2].standing = Standing::Draining;
    for _ in 0..500 {
        step(&mut groups, &stores, &GroupSizes::new());
        assert!(groups.iter().all(|row| row.complete().count() >= 2));
        groups.iter_mut().for_each(|row| row.former.clear());
    }
    assert!(
        !loads(&groups).contains_key(&StoreId(3)),
        "{:?}",
        loads(&groups)
    );
}

#[test]
fn copies_that_share_a_node_part_when_there_are_more_nodes() {
    let on_one = [store(1, 1, GIB), store(2, 1, GIB)];
    let mut groups = groups_over(&on_one, 2, 16);
    let mut stores = on_one.to_vec();
    stores.push(store(3, 2, GIB));
    settle(&mut groups, &stores);
    for row in &groups {
        assert!(row.members.contains(&StoreId(3)), "{row:?}");
    }
}

#[test]
fn racks_part_copies_when_there_are_enough() {
    let mut stores = one_per_node(6);
    for (index, facts) in stores.iter_mut().enumerate() {
        facts.domains = vec![format!("rack-{}", index / 2)];
    }
    let mut groups = groups_over(&stores, 3, 30);
    settle(&mut groups, &stores);
    for row in &groups {
        let racks: BTreeSet<u32> = row.members.iter().map(|id| (id.0 - 1) / 2).collect();
        assert_eq!(racks.len(), 3, "{row:?}");
    }
}

#[test]
fn a_member_that_is_not_filled_yet_can_leave_again() {
    let mut stores = one_per_node(4);
    let mut groups = groups_over(&stores, 2, 64);
    stores[2].standing = Standing::Draining;
    for round in 0..40 {
        for change in plan(
            &groups,
            &stores,
            &GroupSizes::new(),
            PlacementLimits::default(),
        ) {
            let row = groups.iter_mut().find(|row| row.id == change.group);
            let row = row.expect("a group that is there");
            *row = change.applied_to(row);
            check(row);
        }
        // Nothing is ever filled, and another store drains in every round.
        stores
            .iter_mut()
            .for_each(|store| store.standing = Standing::Present);
        stores[round % 4].standing = Standing::Draining;
        assert!(groups.iter().all(|row| row.complete().count() >= 2));
    }
}

#[test]
fn few_groups_move_at_a_time_for_balance() {
    let mut stores = one_per_node(3);
    let groups = groups_over(&stores, 2, 64);
    stores.push(store(4, 4, 100 * GIB));
    let limits = PlacementLimits::default();
    let changes = plan(&groups, &stores, &GroupSizes::new(), limits);
    assert_eq!(changes.len(), limits.moves_max);
}

/// Bytes of each store when groups hold so much.
fn bytes_of(groups: &[GroupRow], sizes: &GroupSizes) -> BTreeMap<StoreId, u64> {
    let mut bytes = BTreeMap::new();
    for row in groups {
        for member in &row.members {
            *bytes.entry(*member).or_default() += sizes.get(&row.id).copied().unwrap_or(0);
        }
    }
    bytes
}

/// Groups of one store hold `heavy` bytes, as when one node owns all volumes; the others nothing.
fn sizes_of_one_owner(groups: &[GroupRow], owner: StoreId, heavy: u64) -> GroupSizes {
    let held = groups.iter().filter(|row| row.members.contains(&owner));
    held.map(|row| (row.id, heavy)).collect()
}

/// By how many percent of the mean the store that differs most does.
fn unevenness(bytes: &BTreeMap<StoreId, u64>) -> u64 {
    let mean = bytes.values().sum::<u64>() / bytes.len() as u64;
    let worst = bytes.values().map(|&bytes| bytes.abs_diff(mean)).max();
    worst.expect("stores") * 100 / mean
}

#[test]
fn bytes_are_evened_where_one_owner_wrote_them() {
    let mut stores = one_per_node(3);
    let mut groups = groups_over(&stores, 2, 64);
    let sizes = sizes_of_one_owner(&groups, StoreId(1), 200 << 20);
    stores.push(store(4, 4, 100 * GIB));
    let moved = settle_by(&mut groups, &stores, &sizes);
    let bytes = bytes_of(&groups, &sizes);
    assert!(unevenness(&bytes) < 5, "{bytes:?}");
    assert!(moved < 80, "{moved} members moved");
    assert_eq!(deficit(&groups, &stores, &sizes), 0);
    // What came meanwhile is not worth a move.
    let mut later = sizes.clone();
    later.insert(groups[0].id, 210 << 20);
    assert_eq!(settle_by(&mut groups, &stores, &later), 0);
}

#[test]
fn groups_are_exchanged_where_each_is_too_heavy_to_move() {
    // As a benchmark left it: the owner's store and a new one have a dozen groups of 366 MB each, two others 52 smaller ones.
    let stores = one_per_node(4);
    let members = [
        (vec![1, 4], 6),
        (vec![1, 2], 3),
        (vec![1, 3], 3),
        (vec![2, 4], 3),
        (vec![3, 4], 3),
        (vec![2, 3], 46),
    ];
    let mut groups = groups_over(&stores, 2, 64);
    let mut sizes = GroupSizes::new();
    let lists = members
        .iter()
        .flat_map(|(list, count)| vec![list.clone(); *count]);
    for (row, list) in groups.iter_mut().zip(lists) {
        sizes.insert(
            row.id,
            if list == [2, 3] {
                37 << 20
            } else {
                (366 + 4 * u64::from(list[1])) << 20
            },
        );
        row.members = list.into_iter().map(StoreId).collect();
    }
    let before = bytes_of(&groups, &sizes);
    assert!(unevenness(&before) >= 5, "{before:?}");
    let moved = settle_by(&mut groups, &stores, &sizes);
    let bytes = bytes_of(&groups, &sizes);
    assert!(unevenness(&bytes) < 5, "{bytes:?}");
    assert!(moved <= 12, "{moved} members moved");
}

#[test]
fn balance_ends_and_is_even_however_groups_differ() {
    for seed in 1..40_u64 {
        let mut stores = one_per_node(3 + (seed % 5) as u32);
        let mut groups = groups_over(&stores, 2, 16 * stores.len() as u32);
        stores.push(store(90, 90, 100 * GIB));
        let mut state = seed;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 40
        };
        let sizes: GroupSizes = groups
            .iter()
            .map(|row| (row.id, (random() % 400) << 20))
            .collect();
        let moved = settle_by(&mut groups, &stores, &sizes);
        let bytes = bytes_of(&groups, &sizes);
        assert!(unevenness(&bytes) < 5, "seed {seed}: {bytes:?}");
        assert!(
            moved <= groups.len(),
            "seed {seed}: {moved} of {} moved",
            groups.len()
        );
    }
}

/// Of all groups that wait for a fill the lightest or the heaviest one gets it.
fn end_one_fill(groups: &mut [GroupRow], sizes: &GroupSizes, lightest: bool) {
    let waits = groups.iter_mut().filter(|row| !row.filling.is_empty());
    let weight = |row: &&mut GroupRow| (sizes.get(&row.id).copied(), row.id);
    let ends = match lightest {
        true => waits.min_by_key(weight),
        false => waits.max_by_key(weight),
    };
    if let Some(row) = ends {
        row.filling.clear();
        row.returning.clear();
    }
}

/// Few groups that differ much, on stores with nodes of their own, two of a node, and in two racks, whose fills end one after the other:
/// whichever half of an exchange ends first, it is not taken back, and moves come to an end.
#[test]
fn balance_ends_whichever_fill_ends_first() {
    for seed in 1..400_u64 {
        let (count, per_node) = (4 + (seed % 3) as u32, 1 + (seed / 3 % 2) as u32);
        let racks = seed / 6 % 2 == 1;
        let mut stores: Vec<StoreFacts> = (0..count * per_node)
            .map(|index| store(index + 1, index / per_node + 1, 100 * GIB))
            .collect();
        for facts in stores.iter_mut().filter(|_| racks) {
            facts.domains = vec![format!("rack-{}", facts.node.0 % 2)];
        }
        let copies = 1 + (seed / 12 % 2) as u8;
        let mut groups = groups_over(&stores, copies, 6 + (seed % 5) as u32);
        let sizes: GroupSizes = groups
            .iter()
            .zip(1..)
            .map(|(row, place)| (row.id, (seed * place * 7919 % 64) << 24))
            .collect();
        let mut joined = 0;
        for round in 0.. {
            assert!(round < 500, "seed {seed}: {joined} joined, and no end");
            let before = groups.clone();
            for change in plan(&groups, &stores, &sizes, PlacementLimits::default()) {
                joined += apply(&mut groups, &change);
            }
            end_one_fill(&mut groups, &sizes, seed % 4 < 2);
            groups.iter_mut().for_each(|row| row.former.clear());
            let same = |row: &GroupRow, was: &GroupRow| row.members == was.members;
            let moved = !groups.iter().zip(&before).all(|(row, was)| same(row, was));
            if !moved && groups.iter().all(|row| row.filling.is_empty()) {
                break;
            }
        }
    }
}

#[test]
fn a_disk_that_is_added_to_a_node_gets_its_share_and_balance_ends() {
    for (copies, count) in [(3, 64), (3, 63), (2, 64), (2, 65)] {
        let mut stores = one_per_node(3);
        let mut groups = groups_over(&stores, copies, count);
        stores.push(store(4, 1, 100 * GIB));
        assert!(settle(&mut groups, &stores) > 0, "{copies} copies");
        let sizes: GroupSizes = (1..)
            .zip(&groups)
            .map(|(index, row)| (row.id, (index * 37 % 23) << 26))
            .collect();
        settle_by(&mut groups, &stores, &sizes);
    }
}

#[test]
fn with_hardly_any_data_groups_are_counted() {
    let stores = one_per_node(4);
    let mut groups = groups_over(&stores, 2, 64);
    settle(&mut groups, &stores);
    let sizes = sizes_of_one_owner(&groups, StoreId(1), 100 << 10);
    assert_eq!(settle_by(&mut groups, &stores, &sizes), 0);
}

#[test]
fn two_stores_of_which_one_has_garbage_rest() {
    let stores = one_per_node(2);
    let mut groups = groups_over(&stores, 2, 32);
    let sizes = sizes_of_one_owner(&groups, StoreId(1), 1 << 30);
    assert_eq!(settle_by(&mut groups, &stores, &sizes), 0);
}

#[test]
fn a_large_store_gets_more_bytes_than_a_small_one() {
    let mut stores = one_per_node(4);
    stores[3].capacity *= 2;
    let mut groups = groups_over(&stores, 2, 100);
    let sizes: GroupSizes = (1..)
        .zip(&groups)
        .map(|(index, row)| (row.id, (index % 7) << 26))
        .collect();
    settle_by(&mut groups, &stores, &sizes);
    let bytes = bytes_of(&groups, &sizes);
    let small = bytes[&StoreId(1)];
    assert!(
        (small * 2).abs_diff(bytes[&StoreId(4)]) < small / 8,
        "{bytes:?}"
    );
}

#[test]
fn a_move_ends_when_the_store_that_it_led_to_drains_as_well() {
    // Found by the simulator: two of three nodes drain, and each group's third member is one of theirs.
    let mut stores = one_per_node(3);
    stores.push(store(4, stores[1].node.0, GIB));
    for index in [0, 2] {
        stores[index].standing = Standing::Draining;
    }
    let mut groups = groups_over(&stores[..2], 2, 8);
    for row in &mut groups {
        row.members = vec![StoreId(1), StoreId(2), StoreId(3)];
        row.filling.clear();
    }
    for _ in 0..100 {
        step(&mut groups, &stores, &GroupSizes::new());
        assert!(groups.iter().all(|row| row.complete().count() >= 2));
        groups.iter_mut().for_each(|row| row.former.clear());
    }
    for row in &groups {
        assert_eq!(row.members.len(), 2, "{row:?}");
        assert!(row.members.contains(&StoreId(2)), "{row:?}");
    }
}
