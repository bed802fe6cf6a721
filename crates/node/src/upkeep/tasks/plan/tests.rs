//! What tasks make of looks at a cluster.

use super::*;
use vocab::Generation;

const NOW: u64 = 1_000_000;

fn group(id: u32, members: &[u32], filling: &[u32], former: &[u32]) -> GroupRow {
    let stores = |ids: &[u32]| ids.iter().copied().map(StoreId).collect();
    GroupRow {
        id: GroupId(id),
        generation: Generation(1),
        replication_factor: 2,
        members: stores(members),
        filling: stores(filling),
        former: stores(former),
        returning: Vec::new(),
        leaving: None,
    }
}

/// Four nodes with a store each, of the same number.
fn scene(groups: Vec<GroupRow>) -> Scene {
    let ids = 1..=4_u32;
    let node = |id: u32| NodeScene {
        name: format!("n{id}"),
        release: "0.9.0".to_owned(),
        draining: false,
    };
    let store = |id: u32| StoreScene {
        node: NodeId(id),
        standing: Standing::Present,
        draining: false,
    };
    Scene {
        now_ms: NOW,
        leader: "n1".to_owned(),
        runs: ids.clone().map(u64::from).collect(),
        nodes: ids.clone().map(|id| (NodeId(id), node(id))).collect(),
        stores: ids.map(|id| (StoreId(id), store(id))).collect(),
        groups,
        ties: Some(Ties::default()),
        ..Scene::default()
    }
}

fn task(kind: &str, subject: &str) -> TaskRow {
    TaskRow {
        id: 7,
        ..new_task(kind, subject, subject.to_owned())
    }
}

fn drain_of_4(mut scene: Scene) -> Scene {
    scene.nodes.get_mut(&NodeId(4)).unwrap().draining = true;
    scene.stores.get_mut(&StoreId(4)).unwrap().standing = Standing::Draining;
    scene
}

fn one(task: &TaskRow, scene: &Scene) -> TaskRow {
    let (mut seen, _) = look(std::slice::from_ref(task), scene);
    seen.pop().expect("one task gives one")
}

fn begun(open: &[TaskRow], scene: &Scene) -> Vec<(String, String, Option<u64>)> {
    let (_, begun) = look(open, scene);
    let named = |row: TaskRow| (row.kind, row.subject, row.parent);
    begun.into_iter().map(named).collect()
}

#[test]
fn a_drain_counts_down_what_is_still_there() {
    let mut before = drain_of_4(scene(vec![
        group(1, &[1, 4], &[], &[]),
        group(2, &[2, 4], &[], &[]),
    ]));
    let ties = before.ties.as_mut().unwrap();
    ties.logs = vec![BTreeSet::from([StoreId(4), StoreId(1)]), BTreeSet::new()];
    ties.owned.insert(NodeId(4), 1);
    let first = one(&task(kind::NODE_DRAIN, "node/4"), &before);
    assert_eq!(
        (first.status, first.done, first.total),
        (TaskStatus::Running, 0, 4)
    );
    assert_eq!((first.started_ms, &*first.node), (NOW, "n1"));
    let mut after = drain_of_4(scene(vec![group(1, &[1, 2], &[], &[4])]));
    after.now_ms = NOW + 1;
    let second = one(&first, &after);
    assert_eq!((second.done, second.total, second.started_ms), (3, 4, NOW));
    // While volumes were not looked at, nothing is known.
    after.ties = None;
    assert_eq!(one(&second, &after), second);
    let ended = one(&second, &drain_of_4(scene(Vec::new())));
    assert_eq!((ended.status, ended.done), (Succeeded, 4));
    let wanted = TaskRow {
        cancel: "user eve".to_owned(),
        ..second
    };
    let cancelled = one(&wanted, &scene(vec![group(1, &[1, 4], &[], &[])]));
    assert_eq!(cancelled.status, Cancelled);
    assert!(cancelled.message.starts_with("user eve"), "{cancelled:?}");
}

#[test]
fn what_nobody_asked_for_is_begun_once() {
    let groups = vec![group(1, &[1, 4], &[], &[])];
    let drained = drain_of_4(scene(groups.clone()));
    let node = (kind::NODE_DRAIN.to_owned(), "node/4".to_owned(), None);
    assert_eq!(begun(&[], &drained), [node]);
    let open = [task(kind::NODE_DRAIN, "node/4")];
    let part = (kind::STORE_DRAIN.to_owned(), "store/4".to_owned(), Some(7));
    assert_eq!(begun(&open, &drained), [part]);
    let both = [open[0].clone(), task(kind::STORE_DRAIN, "store/4")];
    assert!(begun(&both, &drained).is_empty());
    // What is empty already needs no task.
    assert!(begun(&[], &drain_of_4(scene(Vec::new()))).is_empty());
    let mut lost = scene(groups);
    lost.stores.get_mut(&StoreId(4)).unwrap().standing = Standing::Lost;
    let repair = (kind::REPAIR.to_owned(), "store/4".to_owned(), None);
    assert_eq!(begun(&[], &lost), [repair]);
    assert!(begun(&[task(kind::REPAIR, "store/4")], &lost).is_empty());
}

#[test]
fn a_repair_ends_when_others_are_filled_or_the_store_is() {
    let mut lost = scene(vec![
        group(1, &[1, 4], &[], &[]),
        group(2, &[2, 3], &[3], &[4]),
        group(3, &[1, 2], &[], &[4]),
    ]);
    let store = lost.stores.get_mut(&StoreId(4)).unwrap();
    store.standing = Standing::Lost;
    let first = one(&task(kind::REPAIR, "store/4"), &lost);
    assert_eq!((first.done, first.total, &*first.unit), (0, 2, "groups"));
    lost.groups[0] = group(1, &[1, 2], &[], &[4]);
    assert_eq!(one(&first, &lost).done, 1);
    lost.groups[1] = group(2, &[2, 3], &[], &[4]);
    assert_eq!(one(&first, &lost).status, Succeeded);
    let mut back = scene(vec![group(1, &[1, 4], &[4], &[])]);
    let filling = one(&first, &back);
    assert_eq!((filling.status, filling.done), (TaskStatus::Running, 1));
    back.groups[0].filling.clear();
    assert!(one(&filling, &back).message.contains("answers again"));
}

#[test]
fn only_moves_that_nothing_forces_are_balance() {
    let moving = group(1, &[1, 2, 3], &[3], &[]);
    let mut balanced = scene(vec![moving.clone()]);
    balanced.deficit = 2;
    let subject = "cluster/0".to_owned();
    let new = (kind::BALANCE.to_owned(), subject.clone(), None);
    assert_eq!(begun(&[], &balanced), [new]);
    let seen = one(&task(kind::BALANCE, &subject), &balanced);
    assert_eq!((seen.done, seen.total, &*seen.unit), (0, 3, "moves"));
    balanced.resting = true;
    assert!(begun(&[], &balanced).is_empty());
    let wished = TaskRow {
        cancel: "user eve".to_owned(),
        ..seen.clone()
    };
    assert_eq!(one(&wished, &balanced).status, Cancelled);
    let mut rest = scene(Vec::new());
    rest.planned.insert(GroupId(9));
    assert_eq!(
        one(&seen, &rest).status,
        TaskStatus::Running,
        "more is planned"
    );
    rest.planned.clear();
    assert_eq!(one(&seen, &rest).status, Succeeded);
    // A drain, a repair and new disks move groups, too.
    let drained = drain_of_4(scene(vec![group(1, &[1, 4, 3], &[3], &[])]));
    assert!(
        begun(&[], &drained)
            .iter()
            .all(|(kind, ..)| kind != kind::BALANCE)
    );
    let repaired = scene(vec![group(1, &[1, 3], &[3], &[4])]);
    assert!(begun(&[], &repaired).is_empty());
    let replaced = [task(kind::DISK_REPLACE, "store/3")];
    assert!(begun(&replaced, &scene(vec![moving])).is_empty());
}

#[test]
fn a_task_ends_with_the_process_that_carries_it_out() {
    let carried = TaskRow {
        run: 3,
        status: TaskStatus::Running,
        node: "n3".to_owned(),
        ..task(kind::CATALOG_MOVE, "cluster/0")
    };
    assert_eq!(one(&carried, &scene(Vec::new())), carried);
    let mut alone = scene(Vec::new());
    alone.runs.remove(&3);
    let failed = one(&carried, &alone);
    assert_eq!(failed.status, Failed);
    assert!(failed.message.contains("node n3"), "{failed:?}");
}

#[test]
fn new_disks_are_filled_before_their_task_ends() {
    let replaced = task(kind::DISK_REPLACE, "store/4");
    let filling = scene(vec![
        group(1, &[1, 4], &[4], &[]),
        group(2, &[2, 4], &[], &[]),
    ]);
    assert_eq!(one(&replaced, &filling).total, 1);
    let filled = scene(vec![group(1, &[1, 4], &[], &[])]);
    assert_eq!(one(&replaced, &filled).status, Succeeded);
}

#[test]
fn deletions_clones_and_rotations_say_what_is_left() {
    let mut seen = scene(Vec::new());
    let deleted = task(kind::VOLUME_DELETE, "volume/9");
    assert_eq!(one(&deleted, &seen), deleted, "it was not looked at");
    let mut deletion = DeletionScene {
        freed: 30,
        expected: 20,
        over: false,
    };
    seen.deletions.insert(7, deletion);
    let running = one(&deleted, &seen);
    assert_eq!((running.done, running.total), (20, 20));
    deletion.over = true;
    seen.deletions.insert(7, deletion);
    assert_eq!(one(&running, &seen).status, Succeeded);
    let cloned = task(kind::VOLUME_CLONE, "volume/9");
    for (scene, status) in [
        (CloneScene::Waits(5), TaskStatus::Running),
        (CloneScene::Ready, Succeeded),
        (CloneScene::Gone, Cancelled),
    ] {
        seen.clones.insert(VolumeId(9), scene);
        assert_eq!(one(&cloned, &seen).status, status);
    }
    let rotated = task(kind::AUTHORITY_ROTATE, "cluster/0");
    seen.behind = Some(vec!["n2".to_owned()]);
    let waiting = one(&rotated, &seen);
    assert_eq!(
        (waiting.done, waiting.total, &*waiting.unit),
        (3, 4, "nodes")
    );
    seen.behind = Some(Vec::new());
    assert_eq!(one(&rotated, &seen).status, Succeeded);
}

#[test]
fn a_group_is_deleted_when_its_parts_are() {
    let whole = TaskRow {
        total: 3,
        ..task(kind::GROUP_SNAPSHOT_DELETE, "group-snapshot/5")
    };
    let part = |id: u64, parent: u64| TaskRow {
        id,
        parent: Some(parent),
        ..task(kind::SNAPSHOT_DELETE, "snapshot/9")
    };
    let seen = scene(Vec::new());
    let open = [whole.clone(), part(8, 7), part(9, 7), part(10, 6)];
    let running = look(&open, &seen).0.swap_remove(0);
    assert_eq!((running.done, running.total), (1, 3), "{running:?}");
    let ended = look(&[running, part(10, 6)], &seen).0.swap_remove(0);
    assert_eq!((ended.status, ended.done), (Succeeded, 3), "{ended:?}");
    // While its process has not begun all parts, nothing is known.
    let carried = TaskRow { run: 3, ..whole };
    assert_eq!(one(&carried, &seen), carried);
}

#[test]
fn an_upgrade_lasts_until_all_nodes_run_the_newest_release_and_the_level_has_risen() {
    let mut seen = scene(Vec::new());
    assert!(begun(&[], &seen).is_empty(), "all nodes are of one release");
    let run = |seen: &mut Scene, id: u32, release: &str| {
        let node = seen.nodes.get_mut(&NodeId(id)).unwrap();
        release.clone_into(&mut node.release);
    };
    run(&mut seen, 2, "0.10.0");
    let new = (kind::UPGRADE.to_owned(), CLUSTER.to_owned(), None);
    assert_eq!(begun(&[], &seen), [new]);
    let first = one(&task(kind::UPGRADE, CLUSTER), &seen);
    assert_eq!((first.done, first.total, &*first.unit), (1, 4, "nodes"));
    assert!(first.message.contains("0.10.0"), "{first:?}");
    assert!(first.message.ends_with("n1, n3, n4"), "{first:?}");
    assert!(begun(std::slice::from_ref(&first), &seen).is_empty());
    (1..=4).for_each(|id| run(&mut seen, id, "0.10.0"));
    seen.rising = true;
    let rising = one(&first, &seen);
    assert_eq!((rising.status, rising.done), (TaskStatus::Running, 4));
    assert!(begun(&[], &seen).is_empty(), "a rise alone is no upgrade");
    seen.rising = false;
    assert_eq!(one(&rising, &seen).status, Succeeded);
}

#[test]
fn releases_are_compared_by_their_numbers() {
    let ordered = ["", "0.1.0", "0.9.0", "0.10.0", "1.0.0-x", "1.0.0"];
    for pair in ordered.windows(2) {
        assert!(by_age(pair[0]) < by_age(pair[1]), "{pair:?}");
    }
}

#[test]
fn a_kind_or_a_subject_that_makes_no_sense_hurts_nobody() {
    let seen = scene(Vec::new());
    assert_eq!(
        one(&task("from-the-future", "thing/1"), &seen).status,
        Failed
    );
    let odd = task(kind::STORE_DRAIN, "store/x");
    assert_eq!(one(&odd, &seen), odd);
}
