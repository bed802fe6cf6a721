//! What takes time is told by tasks: who asked, how far it is, how it ends, whoever leads meanwhile.

use crate::support::{Cluster, MIB, volume_of};
use api::{
    Answer, Asker, ErrorKind, GroupSnapshotSpec, MemberChange, Operation, SnapshotRef,
    StartedAnswer, TaskAnswer, TaskQuery, TasksAnswer, VolumeSpec,
};
use catalog::{NodeRow, Transaction};
use node::HostOptions;
use std::collections::BTreeMap;
use vocab::NodeId;
use world::Duration;

fn start(seed: u64, nodes: usize, change: fn(&mut HostOptions)) -> Cluster {
    let cluster = Cluster::with_options(seed, nodes, change);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 64 * MIB);
    let device = cluster.device(0, "v");
    (0..64).for_each(|block| cluster.write(0, &device, block, 7));
    cluster.sim.run_for(Duration::from_secs(10));
    cluster
}

fn with_tasks(options: &mut HostOptions) {
    options.tasks = true;
}

fn list(cluster: &Cluster, asked: usize, query: TaskQuery) -> TasksAnswer {
    match cluster.operate(asked, Operation::TaskList(query)) {
        Answer::Tasks(answer) => answer,
        other => panic!("not tasks: {other:?}"),
    }
}

fn of_kind(cluster: &Cluster, asked: usize, kind: &str) -> Vec<TaskAnswer> {
    let query = TaskQuery {
        kind: Some(kind.to_owned()),
        ..TaskQuery::default()
    };
    list(cluster, asked, query).tasks
}

fn show(cluster: &Cluster, asked: usize, id: u64) -> TaskAnswer {
    match cluster.operate(asked, Operation::TaskShow { id }) {
        Answer::Task(task) => task,
        other => panic!("not a task: {other:?}"),
    }
}

/// Until a task has ended.
fn await_end(cluster: &Cluster, asked: usize, id: u64) -> TaskAnswer {
    for _ in 0..300 {
        let task = show(cluster, asked, id);
        assert!(task.done <= task.total, "{task:?}");
        if !task.is_open() {
            assert!(
                task.ended_ms.is_some_and(|at| at >= task.queued_ms),
                "{task:?}"
            );
            return task;
        }
        cluster.sim.run_for(Duration::from_secs(1));
    }
    panic!(
        "it does not end: {:#?}",
        list(cluster, asked, TaskQuery::default())
    );
}

/// Until there is a task of this kind.
fn await_begin(cluster: &Cluster, asked: usize, kind: &str) -> TaskAnswer {
    for _ in 0..120 {
        if let Some(task) = of_kind(cluster, asked, kind).pop() {
            return task;
        }
        cluster.sim.run_for(Duration::from_secs(1));
    }
    panic!(
        "no {kind}: {:#?}",
        list(cluster, asked, TaskQuery::default())
    );
}

fn eve() -> Asker {
    Asker {
        who: "user eve".to_owned(),
        request: "request-1".to_owned(),
    }
}

/// Has an operation carried out for somebody.
fn ask(cluster: &Cluster, index: usize, operation: Operation) -> Answer {
    let node = cluster.node(index);
    let answer = cluster.run(
        index,
        async move { node.operate_for(eve(), operation).await },
    );
    answer.unwrap_or_else(|error| panic!("refused: {error}"))
}

fn drain(cluster: &Cluster, index: usize, name: &str) -> u64 {
    let change = MemberChange {
        draining: Some(true),
        ..MemberChange::default()
    };
    let operation = Operation::NodeSet {
        name: name.to_owned(),
        change,
    };
    match ask(cluster, index, operation) {
        Answer::Member(member) => member.task.expect("a task tells of it"),
        other => panic!("not a member: {other:?}"),
    }
}

#[test]
fn a_drain_is_followed_to_its_end_also_when_the_leader_is_lost() {
    let cluster = start(71, 5, with_tasks);
    let leads = |index: &usize| cluster.node(*index).is_leading();
    let leader = (0..5).find(leads).expect("one node leads");
    let (drained, asked) = ((leader + 1) % 5, (leader + 2) % 5);
    let name = cluster.machines[drained].host.name().to_owned();
    let id = drain(&cluster, asked, &name);
    cluster.sim.run_for(Duration::from_secs(3));
    let task = show(&cluster, asked, id);
    assert_eq!(
        (&*task.kind, &*task.who, &*task.request),
        ("node-drain", "user eve", "request-1")
    );
    assert_eq!(task.entity, format!("node/{name}"));
    assert_eq!(
        drain(&cluster, asked, &name),
        id,
        "it is one task, however often it is asked for"
    );
    cluster.crash(leader);
    let ended = await_end(&cluster, asked, id);
    assert_eq!(
        (&*ended.status, ended.done),
        ("succeeded", ended.total),
        "{ended:?}"
    );
    assert!(
        ended.total > 0 && ended.node != cluster.machines[leader].host.name(),
        "{ended:?}"
    );
    let query = TaskQuery {
        parent: Some(id),
        ..TaskQuery::default()
    };
    let parts = list(&cluster, asked, query).tasks;
    assert_eq!(parts.len(), 1, "{parts:?}");
    let part = await_end(&cluster, asked, parts[0].id);
    assert_eq!(
        (&*part.kind, &*part.status),
        ("store-drain", "succeeded"),
        "{part:?}"
    );
}

#[test]
fn a_drain_can_be_cancelled_and_its_parts_cannot() {
    let cluster = start(72, 4, with_tasks);
    let id = drain(&cluster, 0, "d");
    let part = await_begin(&cluster, 1, "store-drain");
    assert_eq!(part.parent, Some(id));
    let refused = cluster.try_operate(1, Operation::TaskCancel { id: part.id });
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Refused);
    ask(&cluster, 1, Operation::TaskCancel { id });
    let ended = await_end(&cluster, 2, id);
    assert_eq!(ended.status, "cancelled");
    assert!(ended.message.contains("user eve"), "{ended:?}");
    assert_eq!(await_end(&cluster, 2, part.id).status, "cancelled");
    let late = cluster.try_operate(1, Operation::TaskCancel { id });
    assert_eq!(late.unwrap_err().kind, ErrorKind::Refused);
    let unknown = cluster.try_operate(1, Operation::TaskShow { id: 999 });
    assert_eq!(unknown.unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn a_deletion_ends_when_its_space_is_back() {
    let cluster = start(73, 3, with_tasks);
    let name = "v".to_owned();
    let volume = cluster.show(1, "v").id;
    cluster.operate(1, Operation::VolumeDrain { name: name.clone() });
    // Once it is walked, it is known how much it frees.
    cluster.sim.run_for(Duration::from_secs(20));
    let answer = ask(&cluster, 1, Operation::VolumeDelete { name });
    let Answer::Started(StartedAnswer { task: Some(id) }) = answer else {
        panic!("no task: {answer:?}");
    };
    let ended = await_end(&cluster, 2, id);
    assert_eq!(
        (&*ended.status, &*ended.entity),
        ("succeeded", "volume/v"),
        "{ended:?}"
    );
    assert_eq!(
        (ended.subject, &*ended.who),
        (format!("volume/{volume}"), "user eve")
    );
    assert!(ended.total > 0 && ended.done == ended.total && ended.unit == "bytes");
    assert_eq!(list(&cluster, 0, TaskQuery::default()).open, 0);
    // The name is used again: another task.
    cluster.create_volume(0, "v", MIB);
    let again = ask(
        &cluster,
        0,
        Operation::VolumeDelete {
            name: "v".to_owned(),
        },
    );
    assert!(matches!(again, Answer::Started(StartedAnswer { task: Some(other) }) if other > id));
}

#[test]
fn a_loss_is_repaired_as_a_task_of_the_cluster_itself() {
    let cluster = start(74, 4, with_tasks);
    let lost = (0..4)
        .find(|&index| !cluster.node(index).is_leading())
        .unwrap();
    let asked = (0..4)
        .find(|&index| cluster.node(index).is_leading())
        .unwrap();
    cluster.crash(lost);
    let repair = await_begin(&cluster, asked, "repair");
    assert_eq!(repair.entity, format!("store/{}", lost + 1));
    assert_eq!((&*repair.who, repair.cancellable), ("", false));
    let ended = await_end(&cluster, asked, repair.id);
    assert_eq!(
        (&*ended.status, ended.done),
        ("succeeded", ended.total),
        "{ended:?}"
    );
    assert!(ended.total > 0 && ended.unit == "groups", "{ended:?}");
}

#[test]
fn a_balance_rests_when_it_is_cancelled() {
    let mut cluster = start(75, 3, |options| {
        options.tasks = true;
        options.groups = 16;
        // One move after the other, so that there is something to cancel.
        options.placement.moves_max = 1;
    });
    cluster.add_machine("e");
    cluster.start(3);
    let balance = await_begin(&cluster, 0, "balance");
    assert!(balance.cancellable, "{balance:?}");
    ask(&cluster, 1, Operation::TaskCancel { id: balance.id });
    assert_eq!(await_end(&cluster, 0, balance.id).status, "cancelled");
    cluster.sim.run_for(Duration::from_secs(60));
    let members = |cluster: &Cluster| match cluster.operate(0, Operation::StoreShow { id: 4 }) {
        Answer::Member(member) => member.groups,
        other => panic!("not a member: {other:?}"),
    };
    let held = members(&cluster);
    assert_eq!(of_kind(&cluster, 0, "balance").len(), 1, "nothing moves");
    cluster.sim.run_for(Duration::from_secs(3600));
    assert!(members(&cluster) > held, "it goes on after the hour");
    assert_eq!(of_kind(&cluster, 0, "balance").len(), 2);
}

#[test]
fn tasks_are_forgotten_some_time_after_their_end() {
    let cluster = start(76, 3, |options| {
        options.tasks = true;
        options.tasks_kept = Duration::from_secs(60);
    });
    let id = drain(&cluster, 0, "c");
    cluster.operate(0, Operation::TaskCancel { id });
    await_end(&cluster, 0, id);
    cluster.sim.run_for(Duration::from_secs(90));
    assert!(cluster.try_operate(0, Operation::TaskShow { id }).is_err());
    assert!(list(&cluster, 1, TaskQuery::default()).tasks.is_empty());
}

#[test]
fn a_snapshots_deletion_waits_for_a_walk_that_came_after_it() {
    let cluster = start(76, 3, |options| {
        options.tasks = true;
        options.collect.interval = Duration::from_secs(40);
    });
    let drain = || {
        let name = "v".to_owned();
        cluster.operate(1, Operation::VolumeDrain { name });
    };
    drain();
    // Walked before there was a snapshot: that says nothing of it.
    cluster.sim.run_for(Duration::from_secs(100));
    let (volume, name) = ("v".to_owned(), "s".to_owned());
    let create = Operation::SnapshotCreate {
        volume: volume.clone(),
        name: name.clone(),
        labels: BTreeMap::new(),
        group: None,
    };
    cluster.operate(1, create);
    let device = cluster.device(0, "v");
    // More than once: the catalog does not hear of every root.
    for fill in 8..12 {
        (0..64).for_each(|block| cluster.write(0, &device, block, fill));
        drain();
    }
    let id = cluster.show(1, "v").id;
    let delete = Operation::SnapshotDelete {
        volume: format!("volume-{id}"),
        name,
    };
    let used = || -> u64 {
        let stores = (0..3).map(|index| cluster.node(index).stores());
        let status = stores.flatten().map(|store| store.status().used.0);
        status.sum()
    };
    let Answer::Started(StartedAnswer { task: Some(task) }) = ask(&cluster, 1, delete) else {
        panic!("no task");
    };
    let before = used();
    let ended = await_end(&cluster, 2, task);
    assert_eq!(
        (&*ended.status, &*ended.entity),
        ("succeeded", "snapshot/v@s")
    );
    let after = used();
    assert!(after < before, "nothing was given back: {before} {after}");
}

fn started(answer: Answer) -> u64 {
    match answer {
        Answer::Started(StartedAnswer { task: Some(id) }) => id,
        other => panic!("no task: {other:?}"),
    }
}

#[test]
fn growth_and_drains_that_somebody_asks_for_are_tasks() {
    let cluster = start(77, 3, with_tasks);
    let grow = Operation::VolumeResize {
        name: "v".to_owned(),
        size: 128 * MIB,
    };
    let id = volume_of(ask(&cluster, 1, grow.clone())).task;
    let ended = await_end(&cluster, 2, id.expect("a task"));
    assert_eq!(
        (&*ended.kind, &*ended.status, &*ended.entity, &*ended.who),
        ("volume-resize", "succeeded", "volume/v", "user eve"),
        "{ended:?}"
    );
    let again = volume_of(ask(&cluster, 1, grow));
    assert_eq!((again.task, again.size), (None, 128 * MIB));
    let device = cluster.device(0, "v");
    (0..64).for_each(|block| cluster.write(0, &device, block, 9));
    let drain = Operation::VolumeDrain {
        name: "v".to_owned(),
    };
    let id = volume_of(ask(&cluster, 1, drain.clone())).task;
    let ended = await_end(&cluster, 2, id.expect("a task"));
    assert_eq!(
        (&*ended.kind, &*ended.status, &*ended.unit),
        ("volume-drain", "succeeded", "records"),
        "{ended:?}"
    );
    assert!(ended.total > 0 && ended.done == ended.total, "{ended:?}");
    // Nobody asked.
    assert_eq!(volume_of(cluster.operate(1, drain)).task, None);
    assert_eq!(of_kind(&cluster, 0, "volume-drain").len(), 1);
}

#[test]
fn a_drain_that_is_a_step_of_a_clone_has_no_task_of_its_own() {
    let cluster = start(78, 3, with_tasks);
    let device = cluster.device(0, "v");
    (0..64).for_each(|block| cluster.write(0, &device, block, 9));
    let spec = VolumeSpec {
        name: "w".to_owned(),
        from: Some(SnapshotRef {
            volume: "v".to_owned(),
            snapshot: None,
        }),
        ..VolumeSpec::default()
    };
    volume_of(ask(&cluster, 1, Operation::VolumeCreate(spec)));
    cluster.sim.run_for(Duration::from_secs(30));
    assert!(of_kind(&cluster, 0, "volume-drain").is_empty());
}

#[test]
fn a_group_snapshot_is_deleted_with_its_snapshots_as_parts() {
    let cluster = start(79, 3, with_tasks);
    cluster.create_volume(0, "w", MIB);
    let take = Operation::GroupSnapshotCreate(GroupSnapshotSpec {
        name: "g".to_owned(),
        volumes: vec!["v".to_owned(), "w".to_owned()],
        labels: BTreeMap::new(),
    });
    let Answer::GroupSnapshot(taken) = ask(&cluster, 0, take) else {
        panic!("no group snapshot");
    };
    let delete = Operation::GroupSnapshotDelete { id: taken.id };
    let id = started(ask(&cluster, 1, delete));
    let ended = await_end(&cluster, 2, id);
    assert_eq!(
        (&*ended.kind, &*ended.status, &*ended.entity),
        ("group-snapshot-delete", "succeeded", "group-snapshot/g"),
        "{ended:?}"
    );
    assert_eq!((ended.done, ended.total), (2, 2), "{ended:?}");
    let query = TaskQuery {
        parent: Some(id),
        ..TaskQuery::default()
    };
    let parts = list(&cluster, 0, query).tasks;
    let mut entities: Vec<&str> = parts.iter().map(|part| &*part.entity).collect();
    entities.sort_unstable();
    assert_eq!(entities, ["snapshot/v@g", "snapshot/w@g"]);
    assert!(
        parts.iter().all(|part| part.status == "succeeded"),
        "{parts:?}"
    );
}

#[test]
fn a_store_is_read_when_somebody_asks_for_it() {
    let cluster = start(80, 3, with_tasks);
    let drain = Operation::VolumeDrain {
        name: "v".to_owned(),
    };
    cluster.operate(0, drain);
    let id = started(ask(&cluster, 0, Operation::StoreScrub { id: 2 }));
    let ended = await_end(&cluster, 2, id);
    assert_eq!(
        (&*ended.kind, &*ended.status, &*ended.entity, &*ended.who),
        ("store-scrub", "succeeded", "store/2", "user eve"),
        "{ended:?}"
    );
    assert!(ended.message.contains("extents were read"), "{ended:?}");
    let next = started(ask(&cluster, 0, Operation::StoreScrub { id: 2 }));
    assert!(next > id, "it is read again");
    let missing = cluster.try_operate(0, Operation::StoreScrub { id: 9 });
    assert_eq!(missing.unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn two_who_ask_for_a_scrub_at_once_are_told_of_one_task() {
    let cluster = start(83, 3, |options| {
        options.tasks = true;
        options.scrub.bytes_per_second = 1;
    });
    let drain = Operation::VolumeDrain {
        name: "v".to_owned(),
    };
    cluster.operate(0, drain);
    // A store with extents: one without is read before the second has asked.
    for id in 1..=3 {
        let node = cluster.node(id as usize - 1);
        let both = cluster.run(id as usize - 1, async move {
            let begin = || node.operate_for(eve(), Operation::StoreScrub { id });
            futures_util::future::join(begin(), begin()).await
        });
        let task = |answer| started(answer);
        let (one, other) = (task(both.0.expect("begun")), task(both.1.expect("begun")));
        assert_eq!(one, other, "store {id}");
    }
}

#[test]
fn a_scrub_that_was_asked_for_can_be_cancelled() {
    let cluster = start(81, 3, |options| {
        options.tasks = true;
        // Nothing is read to its end meanwhile.
        options.scrub.bytes_per_second = 1;
    });
    let drain = Operation::VolumeDrain {
        name: "v".to_owned(),
    };
    cluster.operate(0, drain);
    // The copies of the volume's one extent or two are on two of three stores: all of them are read.
    let begin = |id: u32| started(ask(&cluster, 0, Operation::StoreScrub { id }));
    let ids: Vec<u64> = (1..=3).map(begin).collect();
    let again: Vec<u64> = (1..=3).map(begin).collect();
    let is_open = |id: &u64| show(&cluster, 1, *id).is_open();
    let open: Vec<usize> = (0..3).filter(|&at| is_open(&ids[at])).collect();
    assert!(!open.is_empty(), "no store has an extent");
    for &at in &open {
        assert_eq!(again[at], ids[at], "it is read already");
        ask(&cluster, 1, Operation::TaskCancel { id: ids[at] });
        let ended = await_end(&cluster, 1, ids[at]);
        assert_eq!(ended.status, "cancelled", "{ended:?}");
        assert!(ended.message.starts_with("user eve"), "{ended:?}");
    }
}

#[test]
fn nodes_of_two_releases_are_an_upgrade() {
    let cluster = start(82, 3, with_tasks);
    let release = |text: &'static str| {
        let node = cluster.node(0);
        cluster.run(0, async move {
            let catalog = node.catalog();
            let key = NodeRow::key_of(NodeId(3));
            let row = catalog.read::<NodeRow>(&key).await.unwrap().unwrap();
            let changed = NodeRow {
                release: text.to_owned(),
                ..row.row.clone()
            };
            let change = Transaction::new().replace(&row, &changed);
            catalog.commit(change).await.unwrap().expect("nobody else");
        });
    };
    assert!(of_kind(&cluster, 0, "upgrade").is_empty());
    release("9999.0.0");
    let upgrade = await_begin(&cluster, 1, "upgrade");
    assert_eq!(
        (&*upgrade.entity, upgrade.done, upgrade.total, &*upgrade.who),
        ("cluster", 1, 3, ""),
        "{upgrade:?}"
    );
    assert!(upgrade.message.contains("9999.0.0"), "{upgrade:?}");
    release(node::RELEASE);
    assert_eq!(await_end(&cluster, 1, upgrade.id).status, "succeeded");
}
