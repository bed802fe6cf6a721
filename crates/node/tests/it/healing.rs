//! Groups get other members: after a loss, for a new store, off a store that drains; and what may be removed.

use crate::support::{Cluster, MIB};
use api::{Answer, MemberAnswer, MemberChange, Operation, ResiliencyAnswer};
use catalog::GroupRow;
use std::rc::Rc;
use vocab::StoreId;
use world::Duration;
use world_sim::Rot;

/// Blocks that are written and compared.
const BLOCKS: u64 = 40;

/// So many nodes, a volume with two copies, filled and drained.
fn filled(seed: u64, nodes: usize) -> Cluster {
    let cluster = Cluster::new(seed, nodes);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(0, "v");
    for block in 0..BLOCKS {
        cluster.write(0, &device, block * 7, fill_of(block));
    }
    drain(&cluster, 0);
    cluster
}

fn fill_of(block: u64) -> u8 {
    block as u8 + 1
}

fn drain(cluster: &Cluster, asked: usize) {
    let name = "v".to_owned();
    cluster.operate(asked, Operation::VolumeDrain { name });
}

fn compare(cluster: &Cluster, asked: usize) {
    let device = cluster.device(asked, "v");
    for block in 0..BLOCKS {
        assert_eq!(cluster.read(asked, &device, block * 7), fill_of(block));
    }
}

fn groups(cluster: &Cluster, asked: usize) -> Vec<GroupRow> {
    cluster.node(asked).view().groups.into_values().collect()
}

fn store_of(cluster: &Cluster, index: usize) -> StoreId {
    cluster.node(index).stores()[0].id()
}

/// Runs until `holds` of every group.
fn until(cluster: &Cluster, asked: usize, what: &str, holds: impl Fn(&GroupRow) -> bool) {
    let done = cluster.sim.run_until(
        || groups(cluster, asked).iter().all(&holds),
        Duration::from_secs(300),
    );
    assert!(done, "{what}: {:?}", groups(cluster, asked));
}

fn is_whole(row: &GroupRow) -> bool {
    row.members.len() == 2 && row.filling.is_empty()
}

fn member(answer: Answer) -> MemberAnswer {
    match answer {
        Answer::Member(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn verdict(cluster: &Cluster, asked: usize) -> ResiliencyAnswer {
    match cluster.operate(asked, Operation::Resiliency) {
        Answer::Resiliency(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn draining(name: &str, draining: bool) -> Operation {
    Operation::NodeSet {
        name: name.to_owned(),
        change: MemberChange {
            draining: Some(draining),
            maintenance_minutes: None,
            ..MemberChange::default()
        },
    }
}

#[test]
fn a_lost_node_is_replaced_and_its_data_can_be_lost_again() {
    let cluster = filled(31, 4);
    assert_eq!(verdict(&cluster, 0).verdict, "ok");
    let lost = store_of(&cluster, 3);
    cluster.crash(3);
    let without = |row: &GroupRow| is_whole(row) && !row.members.contains(&lost);
    until(&cluster, 0, "others take its place", without);
    compare(&cluster, 0);
    // Both copies of everything are on the three that are left: the next loss takes none of them.
    cluster.crash(2);
    compare(&cluster, 0);
    let answer = verdict(&cluster, 0);
    assert_eq!(answer.data[0].unavailable, 0, "{answer:?}");
    assert_ne!(answer.verdict, "ok", "{answer:?}");
}

#[test]
fn a_node_that_comes_back_is_emptied_of_what_it_holds_no_more() {
    let cluster = filled(32, 4);
    let lost = store_of(&cluster, 3);
    cluster.crash(3);
    let without = |row: &GroupRow| is_whole(row) && !row.members.contains(&lost);
    until(&cluster, 0, "others take its place", without);
    assert!(
        groups(&cluster, 0)
            .iter()
            .any(|row| row.former.contains(&lost))
    );
    cluster.restart(3);
    let settled = |row: &GroupRow| is_whole(row) && row.former.is_empty();
    until(&cluster, 0, "nothing is left behind", settled);
    compare(&cluster, 3);
}

#[test]
fn a_disk_that_goes_back_to_before_it_was_emptied_is_emptied_again() {
    let cluster = filled(36, 4);
    let held = |index: usize| cluster.node(index).stores()[0].status().extents;
    let index = (1..4).max_by_key(|&index| held(index)).expect("nodes");
    assert!(held(index) > 0, "another seed is needed");
    let left = store_of(&cluster, index);
    let disk = &cluster.machines[index].disk;
    let image = disk.snapshot();
    let name = cluster.machines[index].host.name().to_owned();
    cluster.operate(0, draining(&name, true));
    let gone =
        |row: &GroupRow| is_whole(row) && !row.members.contains(&left) && row.former.is_empty();
    until(&cluster, 0, "others take its place", gone);
    assert_eq!(held(index), 0);
    // The catalog has heard of a run of the store that the image does not know.
    cluster.crash(index);
    cluster.restart(index);
    cluster.sim.run_for(Duration::from_secs(30));
    cluster.crash(index);
    disk.roll_back(&image);
    cluster.restart(index);
    assert!(held(index) > 0, "they are back");
    let empty = || held(index) == 0;
    assert!(cluster.sim.run_until(empty, Duration::from_secs(60)));
    compare(&cluster, 0);
}

#[test]
fn fills_hear_the_appends_of_owners_elsewhere() {
    let cluster = filled(37, 3);
    let owner = cluster.owner(0, "v");
    let heard = |index: usize| cluster.node(index).appends_answered();
    assert!(heard(owner) > 0);
    let others = (0..3).filter(|&index| index != owner);
    assert!(others.map(heard).sum::<u64>() > 0, "the second replica");
}

#[test]
fn a_short_absence_moves_nothing() {
    let cluster = filled(33, 4);
    let before = groups(&cluster, 0);
    cluster.crash(3);
    cluster.sim.run_for(Duration::from_secs(8));
    cluster.restart(3);
    cluster.sim.run_for(Duration::from_secs(60));
    assert_eq!(groups(&cluster, 0), before);
}

#[test]
fn maintenance_excuses_a_longer_one() {
    let cluster = filled(34, 4);
    let before = groups(&cluster, 0);
    let excused = Operation::NodeSet {
        name: "d".to_owned(),
        change: MemberChange {
            draining: None,
            maintenance_minutes: Some(5),
            ..MemberChange::default()
        },
    };
    let answer = member(cluster.operate(0, excused));
    assert!(answer.maintenance_until_ms > 0);
    cluster.crash(3);
    cluster.sim.run_for(Duration::from_secs(240));
    assert_eq!(groups(&cluster, 0), before);
    let lost = verdict(&cluster, 0);
    assert_eq!(
        lost.verdict, "critical",
        "of two copies one is away: {lost:?}"
    );
    cluster.sim.run_for(Duration::from_secs(120));
    assert_ne!(groups(&cluster, 0), before, "the time is over");
}

#[test]
fn a_drained_node_is_empty_and_can_be_removed() {
    let cluster = filled(35, 4);
    let owner = cluster.owner(0, "v");
    let asked = (owner + 1) % 4;
    let name = cluster.machines[owner].host.name().to_owned();
    let left = store_of(&cluster, owner);
    let device = cluster.device(asked, "v");
    cluster.operate(asked, draining(&name, true));
    let mut fill = 100;
    let gone =
        |row: &GroupRow| is_whole(row) && !row.members.contains(&left) && row.former.is_empty();
    let begin = cluster.sim.now();
    while !groups(&cluster, asked).iter().all(gone) {
        fill += 1;
        cluster.write(asked, &device, 1, fill % 100);
        cluster.sim.run_for(Duration::from_millis(500));
        assert!(cluster.sim.now().since(begin) < Duration::from_secs(300));
    }
    let removable = |cluster: &Cluster| {
        let name = name.clone();
        member(cluster.operate(asked, Operation::NodeShow { name })).removable
    };
    for _ in 0..60 {
        if removable(&cluster) {
            break;
        }
        cluster.write(asked, &device, 1, fill % 100);
        cluster.sim.run_for(Duration::from_secs(1));
    }
    assert!(removable(&cluster), "it still serves or holds something");
    assert_ne!(cluster.owner(asked, "v"), owner);
    let remove = |lost| Operation::NodeRemove {
        name: name.clone(),
        lost,
    };
    let running = cluster.try_operate(asked, remove(false)).unwrap_err();
    assert!(running.message.contains("stop its process"), "{running}");
    let stopped = cluster.node(owner);
    cluster.run(owner, async move { stopped.stop().await });
    cluster.crash(owner);
    cluster.sim.run_for(Duration::from_secs(10));
    cluster.operate(asked, remove(false));
    let view = cluster.node(asked).view();
    assert!(!view.stores.contains_key(&left));
    assert!(view.nodes.values().all(|row| row.name != name));
    compare(&cluster, asked);
}

/// A log that only its owner can move, of a volume that nobody asks for: released at its node's end, or left by a crash that
/// was over before anybody took it over.
#[test]
fn a_drain_moves_the_logs_of_volumes_that_nobody_serves() {
    for (crashes, itself) in [(false, false), (true, false), (true, true)] {
        let cluster = filled(36, 4);
        let owner = cluster.owner(0, "v");
        let device = cluster.device(owner, "v");
        cluster.write(owner, &device, 1, 77);
        drop(device);
        if !crashes {
            let stopped = cluster.node(owner);
            cluster.run(owner, async move { stopped.stop().await });
        }
        cluster.crash(owner);
        cluster.restart(owner);
        let served = |cluster: &Cluster| {
            let mut volumes = (0..4).flat_map(|index| cluster.node(index).volumes());
            volumes.any(|volume| volume.name() == "v")
        };
        assert!(!served(&cluster), "nobody asked for it");
        let log = cluster.show(owner, "v").log;
        let holds = |index: &usize| {
            let store = store_of(&cluster, *index);
            log.iter().any(|replica| replica.store == store.0)
        };
        let mut others = (0..4).filter(|index| *index != owner);
        let left = match itself {
            true => owner,
            false => others.find(holds).expect("two copies"),
        };
        let name = cluster.machines[left].host.name().to_owned();
        cluster.operate(owner, draining(&name, true));
        let removable = || {
            let name = name.clone();
            member(cluster.operate(owner, Operation::NodeShow { name })).removable
        };
        let begin = cluster.sim.now();
        while !removable() {
            cluster.sim.run_for(Duration::from_secs(1));
            let waited = cluster.sim.now().since(begin);
            let shown = cluster.show(owner, "v");
            assert!(
                waited < Duration::from_secs(300),
                "crashes {crashes}: {shown:?}"
            );
        }
        let device = cluster.device(owner, "v");
        assert_eq!(cluster.read(owner, &device, 1), 77);
    }
}

/// What was written last is in the log alone, of a volume that its node has let go of; then a store with a copy of it is lost, and
/// later the other one.
#[test]
fn a_log_that_nobody_serves_gets_its_copy_again() {
    let cluster = filled(39, 4);
    let owner = cluster.owner(0, "v");
    let device = cluster.device(owner, "v");
    cluster.write(owner, &device, 1, 77);
    drop(device);
    let stopped = cluster.node(owner);
    cluster.run(owner, async move { stopped.stop().await });
    cluster.crash(owner);
    cluster.restart(owner);
    let log = cluster.show(owner, "v").log;
    let holds = |index: &usize| {
        let store = store_of(&cluster, *index);
        log.iter().any(|replica| replica.store == store.0)
    };
    let (holders, others): (Vec<usize>, Vec<usize>) = (0..4).partition(holds);
    assert_eq!(holders.len(), 2, "{log:?}");
    let (asked, lost) = (others[0], store_of(&cluster, holders[0]));
    cluster.crash(holders[0]);
    let without = |row: &GroupRow| is_whole(row) && !row.members.contains(&lost);
    until(&cluster, asked, "others take its place", without);
    let begin = cluster.sim.now();
    while cluster
        .show(asked, "v")
        .log
        .iter()
        .any(|replica| replica.store == lost.0)
    {
        cluster.sim.run_for(Duration::from_secs(1));
        let waited = cluster.sim.now().since(begin);
        assert!(
            waited < Duration::from_secs(120),
            "its log is left with one copy"
        );
    }
    let name = cluster.machines[holders[0]].host.name().to_owned();
    cluster.operate(asked, Operation::NodeRemove { name, lost: true });
    cluster.sim.run_for(Duration::from_secs(5));
    cluster.crash(holders[1]);
    let device = cluster.device(asked, "v");
    assert_eq!(cluster.read(asked, &device, 1), 77);
}

#[test]
fn a_node_with_data_is_not_removed_and_the_last_stores_are_not_drained() {
    let cluster = filled(36, 2);
    let remove = |lost| Operation::NodeRemove {
        name: "b".to_owned(),
        lost,
    };
    let refused = cluster.try_operate(0, draining("b", true)).unwrap_err();
    assert!(refused.message.contains("in only 1 node"), "{refused}");
    cluster.crash(1);
    cluster.sim.run_for(Duration::from_secs(40));
    for lost in [false, true] {
        let refused = cluster.try_operate(0, remove(lost)).unwrap_err();
        assert!(refused.message.contains("still a member"), "{refused}");
    }
    compare(&cluster, 0);
}

/// Two disks were in each other's machine, and are back; the catalog hears of that when both nodes have started again.
#[test]
fn a_node_is_not_removed_whose_disks_came_back_while_it_was_stopped() {
    let cluster = filled(39, 3);
    let (a, b) = (&cluster.machines[0], &cluster.machines[1]);
    let (of_a, of_b) = (store_of(&cluster, 0), store_of(&cluster, 1));
    let swap = || {
        cluster.crash(0);
        cluster.crash(1);
        a.disk.swap(&b.disk);
    };
    swap();
    cluster.restart(0);
    cluster.restart(1);
    assert_eq!((store_of(&cluster, 0), store_of(&cluster, 1)), (of_b, of_a));
    swap();
    cluster.restart(1);
    assert_eq!(store_of(&cluster, 1), of_b);
    // Its lease ends.
    cluster.sim.run_for(Duration::from_secs(8));
    let name = || "a".to_owned();
    let shown = || member(cluster.operate(2, Operation::NodeShow { name: name() }));
    assert!(
        shown().groups + shown().volumes == 0,
        "{:?}: the catalog has its store on another node",
        shown()
    );
    assert_eq!(
        (shown().strays, shown().removable),
        (vec![of_a.0], false),
        "its disk is in its machine"
    );
    let remove = || Operation::NodeRemove {
        name: name(),
        lost: false,
    };
    let refused = cluster.try_operate(2, remove()).unwrap_err();
    let stray = format!("had store {} before", of_a.0);
    assert!(refused.message.contains(&stray), "{refused}");
    cluster.restart(0);
    let known = || cluster.node(2).view().stores[&of_a].node == cluster.node(0).id();
    assert!(cluster.sim.run_until(known, Duration::from_secs(20)));
    assert_eq!(shown().strays, Vec::<u32>::new());
    assert!(shown().groups > 0);
    compare(&cluster, 2);
}

#[test]
fn a_node_that_is_lost_for_good_can_be_forgotten() {
    let cluster = filled(37, 4);
    let lost = store_of(&cluster, 3);
    cluster.crash(3);
    let without = |row: &GroupRow| is_whole(row) && !row.members.contains(&lost);
    until(&cluster, 0, "others take its place", without);
    cluster.operate(
        0,
        Operation::NodeRemove {
            name: "d".to_owned(),
            lost: true,
        },
    );
    assert!(groups(&cluster, 0).iter().all(|row| row.former.is_empty()));
    assert_eq!(verdict(&cluster, 0).verdict, "ok");
    compare(&cluster, 0);
}

/// The row of volume `v` says that this node, which was removed, serves it.
fn name_as_owner(cluster: &Cluster, owner: vocab::NodeId) {
    let node = cluster.node(0);
    cluster.run(0, async move {
        let catalog = node.catalog();
        let row = catalog.volume_named("v").await.expect("its row").row;
        let taken = catalog.take_over(row.id, row.epoch, owner).await;
        taken.map(drop).expect("nobody else takes it");
    });
}

#[test]
fn a_removed_node_of_a_cluster_with_certificates_waits_to_be_approved_again() {
    for secured in [true, false] {
        let change: fn(&mut node::HostOptions) = match secured {
            true => |options| options.secured = true,
            false => |_| {},
        };
        let cluster = Cluster::with_options(371, 4, change);
        cluster.create_container("c", 2);
        cluster.create_volume(0, "v", 64 * MIB);
        let device = cluster.device(0, "v");
        for block in 0..BLOCKS {
            cluster.write(0, &device, block * 7, fill_of(block));
        }
        drain(&cluster, 0);
        let (lost, id) = (store_of(&cluster, 3), cluster.node(3).id());
        cluster.crash(3);
        let without = |row: &GroupRow| is_whole(row) && !row.members.contains(&lost);
        until(&cluster, 0, "others take its place", without);
        let name = "d".to_owned();
        cluster.operate(0, Operation::NodeRemove { name, lost: true });
        name_as_owner(&cluster, id);
        // Who serves it really does so no more.
        cluster.crash(0);
        cluster.restart(0);
        cluster.restart(3);
        cluster.sim.run_for(Duration::from_secs(5));
        assert_eq!(cluster.node(3).is_candidate(), secured);
        compare(&cluster, 1);
        let takes_part = || cluster.node(0).view().stores.contains_key(&lost);
        assert_eq!(takes_part(), !secured);
        if secured {
            let change = MemberChange {
                approved: Some(true),
                ..MemberChange::default()
            };
            let name = "d".to_owned();
            cluster.operate(0, Operation::NodeSet { name, change });
            assert!(cluster.sim.run_until(takes_part, Duration::from_secs(30)));
        }
    }
}

#[test]
fn the_name_of_a_removed_node_is_forgotten_when_somebody_says_that_it_is_lost() {
    let cluster = Cluster::with_options(372, 4, |options| options.secured = true);
    cluster.create_container("c", 2);
    let lost = store_of(&cluster, 3);
    cluster.crash(3);
    let without = |row: &GroupRow| is_whole(row) && !row.members.contains(&lost);
    until(&cluster, 0, "others take its place", without);
    let remove = |lost| Operation::NodeRemove {
        name: "d".to_owned(),
        lost,
    };
    let keys = || {
        let entries = cluster.kv.entries().into_iter();
        let of_it = |key: &String| key == "node-name/d" || key.starts_with("intent/node/");
        entries.map(|entry| entry.key).filter(of_it).count()
    };
    cluster.operate(0, remove(true));
    assert_eq!(keys(), 2);
    let refused = cluster.try_operate(0, remove(false)).unwrap_err();
    assert!(refused.message.contains("--lost"), "{refused}");
    assert_eq!(keys(), 2, "a removal was only repeated");
    cluster.restart(3);
    cluster.sim.run_for(Duration::from_secs(5));
    let refused = cluster.try_operate(0, remove(true)).unwrap_err();
    assert!(refused.message.contains("runs"), "{refused}");
    assert_eq!(keys(), 2);
    cluster.crash(3);
    cluster.sim.run_for(Duration::from_secs(15));
    cluster.operate(0, remove(true));
    assert_eq!(keys(), 2, "its row went, and it is a candidate still");
    cluster.operate(0, remove(true));
    assert_eq!(keys(), 0);
    let missing = cluster.try_operate(0, remove(true)).unwrap_err();
    assert!(missing.message.contains("there is no node d"), "{missing}");
}

#[test]
fn a_new_node_gets_its_share_while_writing_goes_on() {
    let cluster = Rc::new(filled(38, 3));
    let device = cluster.device(0, "v");
    let mut cluster = Rc::into_inner(cluster).expect("nobody else has it");
    cluster.add_machine("e");
    let newcomer = cluster.machines.len() - 1;
    cluster.start(newcomer);
    let joined = store_of(&cluster, newcomer);
    let begin = cluster.sim.now();
    let has = |row: &GroupRow| row.members.contains(&joined);
    let mut fill = 0;
    loop {
        fill += 1;
        cluster.write(0, &device, 3, fill % 100);
        cluster.sim.run_for(Duration::from_millis(300));
        let rows = groups(&cluster, 0);
        let count = rows.iter().filter(|row| has(row)).count();
        if count == 2
            && rows
                .iter()
                .all(|row| is_whole(row) && row.former.is_empty())
        {
            break;
        }
        let late = cluster.sim.now().since(begin) > Duration::from_secs(200);
        assert!(
            !late,
            "of 4 groups with two members each two are its share: {rows:?}"
        );
    }
    compare(&cluster, newcomer);
}

#[test]
fn what_has_rotted_is_found_and_made_good_before_anybody_asks() {
    let cluster = filled(39, 3);
    let holds = |index: &usize| {
        let status = cluster.node(*index).stores()[0].status();
        status.extents > 0
    };
    let struck = (0..3).find(holds).expect("extents lie somewhere");
    // Journal and state are in front.
    let extents = 1024 * MIB - cluster.node(struck).stores()[0].status().capacity.0;
    for _ in 0..4 {
        let disk = &cluster.machines[struck].disk;
        let rotted = disk.rot_somewhere(extents..1024 * MIB, Rot::Noise);
        assert!(rotted.is_some(), "extents lie there");
    }
    let report = || cluster.node(struck).scrubbed();
    let healed = cluster.sim.run_until(
        || report().rounds >= 2 && report().damaged > 0 && report().repaired == report().damaged,
        crate::support::LIMIT,
    );
    assert!(healed, "{:?}", report());
    let damaged = report().damaged;
    cluster.sim.run_for(Duration::from_secs(60));
    assert_eq!(report().damaged, damaged, "nothing is found twice");
    compare(&cluster, 0);
}

#[test]
fn scrubbing_goes_on_where_the_process_before_was() {
    let cluster = Cluster::with_options(43, 3, |options| {
        options.scrub.interval = Duration::from_secs(7 * 24 * 3600);
        options.scrub.bytes_per_second = 512;
    });
    cluster.create_container("c", 3);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(0, "v");
    for block in 0..BLOCKS {
        cluster.write(0, &device, block * 7, fill_of(block));
        drain(&cluster, 0);
    }
    let scrubbed = || cluster.node(1).scrubbed();
    let extents = || cluster.node(1).stores()[0].status().extents;
    let begun = || scrubbed().extents >= 12;
    assert!(
        cluster.sim.run_until(begun, Duration::from_secs(7200)),
        "{:?}",
        scrubbed()
    );
    // Long enough for where it is to be noted.
    cluster.sim.run_for(Duration::from_secs(120));
    let (before, all) = (scrubbed().extents, extents());
    assert!(before < all / 2, "{before} of {all}");
    cluster.crash(1);
    cluster.restart(1);
    let whole = || scrubbed().rounds == 1;
    assert!(
        cluster.sim.run_until(whole, Duration::from_secs(7200)),
        "{:?}",
        scrubbed()
    );
    let after = scrubbed().extents;
    assert!(
        after <= extents() - 12,
        "{before} and {after} of {}",
        extents()
    );
    assert!(after > 0);
    // The next round is not due, and another start does not make it so.
    cluster.crash(1);
    cluster.restart(1);
    cluster.sim.run_for(Duration::from_secs(3 * 3600));
    assert_eq!(scrubbed().extents, 0);
}

#[test]
fn a_record_that_has_rotted_in_a_journal_is_found_and_its_volume_drained() {
    let cluster = Cluster::with_options(38, 3, |options| {
        options.scrub.interval = Duration::from_secs(2);
        options.events = true;
    });
    cluster.create_container("c", 3);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(0, "v");
    // The ring lies before the extents.
    let extents = 1024 * MIB - cluster.node(1).stores()[0].status().capacity.0;
    let damaged = |index: usize| cluster.node(index).scrubbed().damaged_records;
    let mut written = 0;
    while damaged(1) == 0 {
        assert!(written < 3000, "{:?}", cluster.node(1).scrubbed());
        for _ in 0..50 {
            cluster.write(0, &device, written % 1000, (written % 251) as u8);
            written += 1;
        }
        for _ in 0..4 {
            let ring = extents - 64 * MIB..extents;
            let _ = cluster.machines[1].disk.rot_somewhere(ring, Rot::Noise);
        }
        cluster.sim.run_for(Duration::from_secs(1));
    }
    let healed = || {
        let found = damaged(1);
        cluster.sim.run_for(Duration::from_secs(10));
        damaged(1) == found && cluster.show(0, "v").undrained == Some(0)
    };
    assert!(
        (0..20).any(|_| healed()),
        "{:?}",
        cluster.node(1).scrubbed()
    );
    // Nothing of it was needed: all other replicas and the owner may go.
    cluster.crash(0);
    let device = cluster.device(2, "v");
    for block in written.saturating_sub(200)..written {
        assert_eq!(cluster.read(2, &device, block % 1000), (block % 251) as u8);
    }
}

#[test]
fn a_killed_owner_is_followed_within_seconds() {
    for seed in 40..45 {
        let cluster = filled(seed, 3);
        let owner = cluster.owner(0, "v");
        let asked = (owner + 1) % 3;
        let device = cluster.device(asked, "v");
        cluster.write(asked, &device, 1, 1);
        cluster.crash(owner);
        let begin = cluster.sim.now();
        cluster.write(asked, &device, 1, 2);
        let stall = cluster.sim.now().since(begin);
        assert!(stall < Duration::from_millis(4500), "{stall:?}");
    }
}

#[test]
fn volumes_of_a_lost_node_find_an_owner_without_being_asked_for() {
    let cluster = filled(46, 3);
    let owner = cluster.owner(0, "v");
    cluster.crash(owner);
    let asked = (owner + 1) % 3;
    let served = || {
        let nodes = (0..3).filter(|&index| index != owner);
        let mut volumes = nodes.flat_map(|index| cluster.node(index).volumes());
        volumes.any(|volume| volume.name() == "v")
    };
    let done = cluster.sim.run_until(served, Duration::from_secs(10));
    assert!(done, "{:?}", cluster.show(asked, "v"));
}

#[test]
fn a_fill_from_a_member_that_lost_everything_meanwhile_does_not_count() {
    let cluster = filled(47, 3);
    let known = groups(&cluster, 0).remove(0);
    let (lost, other) = (known.members[0], known.members[1]);
    let catalog = cluster.node(0).catalog().clone();
    let counted = cluster.run(0, async move {
        // Both lose what they held; the fill of one began before the other did.
        catalog.store_lost_all(other).await.unwrap();
        let before = catalog.group(known.id).await.unwrap().row;
        assert_eq!(before.filling, [other]);
        catalog.store_lost_all(lost).await.unwrap();
        let stale = catalog.group_filled(&before, other).await.unwrap();
        let now = catalog.group(known.id).await.unwrap().row;
        let fresh = catalog.group_filled(&now, other).await.unwrap();
        (stale, fresh)
    });
    assert_eq!(counted, (false, true));
}

#[test]
fn racks_are_judged_and_a_drain_leaves_enough_of_them() {
    // Four nodes in three racks.
    let cluster = Cluster::with_options(38, 4, |options| {
        let rack = match options.name.as_str() {
            "a" | "b" => "left",
            "c" => "middle",
            _ => "right",
        };
        options.domains = vec![rack.to_owned()];
    });
    cluster.create_container("c", 3);
    cluster.create_volume(0, "v", 16 * MIB);
    let of_left = [store_of(&cluster, 0), store_of(&cluster, 1)];
    let settled = |row: &GroupRow| {
        let left = row.members.iter().filter(|store| of_left.contains(store));
        row.members.len() == 3 && row.filling.is_empty() && left.count() == 1
    };
    until(&cluster, 0, "groups have a member in each rack", settled);
    // The last store has only just begun to answer.
    cluster.sim.run_for(Duration::from_secs(10));
    let answer = verdict(&cluster, 0);
    let data = answer.data.iter().find(|data| data.rf == 3);
    let data = data.expect("groups of three copies");
    assert_eq!((data.domain.as_str(), data.tolerates), ("rack", 2));
    let of = |component: &str, domain: &str| {
        let mut parts = answer.components.iter();
        let part = parts.find(|part| part.component == component && part.domain == domain);
        part.expect("it is told").tolerates
    };
    assert_eq!((of("data", "rack"), of("data", "node")), (2, 2));
    // A lost rack cannot be made good: there is no fourth one.
    assert_eq!((of("capacity", "rack"), of("capacity", "node")), (0, 1));
    let refused = cluster.try_operate(0, draining("c", true));
    let error = refused.expect_err("two racks do not hold three copies");
    assert!(error.message.contains("in only 2 racks"), "{error:?}");
    cluster.operate(0, draining("a", true));
    let left = store_of(&cluster, 0);
    let without = |row: &GroupRow| settled(row) && !row.members.contains(&left);
    until(
        &cluster,
        1,
        "the other node of the rack takes over",
        without,
    );
}
