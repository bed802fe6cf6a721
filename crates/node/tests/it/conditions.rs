//! Changes on top of a version: compared by whoever makes the change, here or at the owner of a volume.

use crate::support::{Cluster, MIB, volume_of};
use api::{
    Answer, ContainerAnswer, ContainerChange, ErrorKind, MemberAnswer, MemberChange, Operation,
    OperationError, Scope, TokenSpec, UserAnswer, UserRole, VolumeChange,
};
use std::collections::BTreeMap;

fn label(value: &str) -> Operation {
    Operation::VolumeSet {
        name: "v".to_owned(),
        change: VolumeChange {
            labels: BTreeMap::from([("a".to_owned(), Some(value.to_owned()))]),
            ..VolumeChange::default()
        },
    }
}

fn resize(size: u64) -> Operation {
    Operation::VolumeResize {
        name: "v".to_owned(),
        size,
    }
}

fn attach(client: &str) -> Operation {
    Operation::Attach {
        volume: "v".to_owned(),
        client: client.to_owned(),
        read_only: false,
        shared: false,
    }
}

fn delete() -> Operation {
    Operation::VolumeDelete {
        name: "v".to_owned(),
    }
}

fn kind(result: Result<Answer, OperationError>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

const CHANGED: Option<ErrorKind> = Some(ErrorKind::Changed);

fn version(cluster: &Cluster) -> u64 {
    cluster.show(0, "v").version.expect("it has one")
}

/// Three nodes, and a volume that the second one serves.
fn cluster(seed: u64) -> Cluster {
    let cluster = Cluster::new(seed, 3);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 16 * MIB);
    let device = cluster.device(1, "v");
    cluster.write(1, &device, 0, 1);
    assert_eq!(cluster.owner(0, "v"), 1);
    cluster
}

#[test]
fn a_stale_change_of_a_volume_is_refused_by_its_owner_wherever_it_is_asked_for() {
    let cluster = cluster(81);
    let seen = version(&cluster);
    let changed = volume_of(cluster.operate(2, label("x").on_top_of(Some(seen))));
    let now = changed.version.expect("it has one");
    assert!(now > seen);
    for index in 0..3 {
        for stale in [label("y"), resize(32 * MIB), attach("a"), delete()] {
            let name = stale.name();
            let refused = cluster.try_operate(index, stale.on_top_of(Some(seen)));
            assert_eq!(kind(refused), CHANGED, "{name} by node {index}");
        }
    }
    let shown = cluster.show(2, "v");
    assert_eq!((shown.labels["a"].as_str(), shown.size), ("x", 16 * MIB));
    assert!(shown.attachment.clients.is_empty());
    assert_eq!((shown.state.as_str(), shown.version), ("ready", Some(now)));
    let grown = volume_of(cluster.operate(0, resize(32 * MIB).on_top_of(Some(now))));
    assert_eq!(grown.size, 32 * MIB);
    assert!(grown.version > Some(now));
}

#[test]
fn of_two_changes_on_top_of_one_version_one_is_made() {
    let cluster = cluster(82);
    let seen = Some(version(&cluster));
    let (one, other) = (cluster.node(0), cluster.node(2));
    let both = cluster.run(0, async move {
        let one = one.operate(label("one").on_top_of(seen));
        let other = other.operate(label("other").on_top_of(seen));
        futures_util::future::join(one, other).await
    });
    let label = cluster.show(0, "v").labels["a"].clone();
    let (done, refused) = match both {
        (Ok(_), refused) => ("one", refused),
        (refused, Ok(_)) => ("other", refused),
        none => panic!("none: {none:?}"),
    };
    assert_eq!((label.as_str(), kind(refused)), (done, CHANGED));
}

#[test]
fn writes_and_takeovers_leave_a_version_as_it_is() {
    let cluster = cluster(83);
    let seen = version(&cluster);
    let drain = Operation::VolumeDrain {
        name: "v".to_owned(),
    };
    cluster.operate(1, drain);
    cluster.crash(1);
    let device = cluster.device(0, "v");
    cluster.write(0, &device, 1, 2);
    assert_eq!(version(&cluster), seen);
    cluster.operate(2, label("x").on_top_of(Some(seen)));
}

#[test]
fn a_volume_is_deleted_and_restored_on_top_of_its_version() {
    let cluster = Cluster::new(84, 3);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 16 * MIB);
    let snapshot = Operation::SnapshotCreate {
        volume: "v".to_owned(),
        name: "s".to_owned(),
        labels: BTreeMap::new(),
        group: None,
    };
    cluster.operate(0, snapshot);
    let seen = version(&cluster);
    let restore = || Operation::VolumeRestore {
        volume: "v".to_owned(),
        snapshot: "s".to_owned(),
    };
    let stale = cluster.try_operate(0, restore().on_top_of(Some(seen + 1)));
    assert_eq!(kind(stale), CHANGED);
    let restored = volume_of(cluster.operate(0, restore().on_top_of(Some(seen))));
    assert!(restored.version > Some(seen), "its contents are others");
    let stale = cluster.try_operate(0, delete().on_top_of(Some(seen)));
    assert_eq!(kind(stale), CHANGED);
    cluster.operate(0, delete().on_top_of(restored.version));
    let gone = cluster.try_operate(2, delete().on_top_of(restored.version));
    assert_eq!(kind(gone), Some(ErrorKind::NotFound));
}

fn container(answer: Answer) -> ContainerAnswer {
    match answer {
        Answer::Container(container) => container,
        Answer::Containers(mut all) => all.pop().expect("there is one"),
        other => panic!("not a container: {other:?}"),
    }
}

fn show(name: &str) -> Operation {
    Operation::ContainerShow {
        name: name.to_owned(),
    }
}

#[test]
fn one_container_is_shown_as_it_is_in_the_list_of_all() {
    let cluster = cluster(87);
    let shown = container(cluster.operate(1, show("c")));
    let listed = container(cluster.operate(1, Operation::ContainerList));
    assert_eq!(shown, listed);
    assert_eq!((shown.volumes, shown.provisioned), (1, 16 * MIB));
    assert!(shown.version.is_some());
    let missing = cluster.try_operate(1, show("none"));
    assert_eq!(kind(missing), Some(ErrorKind::NotFound));
}

#[test]
fn a_container_is_changed_and_deleted_on_top_of_its_version() {
    let cluster = Cluster::new(85, 3);
    cluster.create_container("c", 2);
    let seen = container(cluster.operate(1, show("c"))).version;
    assert!(seen.is_some());
    let set = |quota| Operation::ContainerSet {
        name: "c".to_owned(),
        change: ContainerChange {
            quota: Some(quota),
            ..ContainerChange::default()
        },
    };
    let changed = container(cluster.operate(2, set(MIB).on_top_of(seen)));
    assert!(changed.version > seen);
    let stale = cluster.try_operate(0, set(2 * MIB).on_top_of(seen));
    assert_eq!(kind(stale), CHANGED);
    let delete = || Operation::ContainerDelete {
        name: "c".to_owned(),
    };
    let stale = cluster.try_operate(0, delete().on_top_of(seen));
    assert_eq!(kind(stale), CHANGED);
    cluster.operate(0, delete().on_top_of(changed.version));
}

fn user(answer: Answer) -> UserAnswer {
    match answer {
        Answer::User(user) => user,
        other => panic!("not a user: {other:?}"),
    }
}

#[test]
fn users_and_tokens_are_changed_on_top_of_their_version() {
    let cluster = Cluster::new(86, 2);
    let create = |name: &str| Operation::UserCreate {
        name: name.to_owned(),
        role: UserRole::Viewer,
        hash: "hash".to_owned(),
    };
    let seen = user(cluster.operate(0, create("ann"))).version;
    let set = || Operation::UserSet {
        name: "ann".to_owned(),
        role: Some(UserRole::Operator),
        hash: None,
    };
    let changed = user(cluster.operate(1, set().on_top_of(seen)));
    assert!(seen.is_some() && changed.version > seen);
    assert_eq!(kind(cluster.try_operate(0, set().on_top_of(seen))), CHANGED);
    let delete = || Operation::UserDelete {
        name: "ann".to_owned(),
    };
    assert_eq!(
        kind(cluster.try_operate(0, delete().on_top_of(seen))),
        CHANGED
    );
    cluster.operate(0, delete().on_top_of(changed.version));
    let create = Operation::TokenCreate {
        spec: TokenSpec {
            name: "t".to_owned(),
            scope: Scope::Viewer,
            containers: Vec::new(),
            kubernetes: Vec::new(),
            all_containers: false,
            personal: false,
        },
        hash: "0".repeat(64),
        user: None,
    };
    let Answer::Token(token) = cluster.operate(0, create) else {
        panic!("not a token")
    };
    let delete = || Operation::TokenDelete {
        name: "t".to_owned(),
        user: None,
    };
    let stale = cluster.try_operate(1, delete().on_top_of(token.version.map(|seen| seen + 1)));
    assert_eq!(kind(stale), CHANGED);
    cluster.operate(1, delete().on_top_of(token.version));
}

fn member(answer: Answer) -> MemberAnswer {
    match answer {
        Answer::Member(member) => member,
        other => panic!("not a member: {other:?}"),
    }
}

#[test]
fn a_node_is_excused_on_top_of_what_was_wanted_of_it() {
    let cluster = Cluster::new(87, 3);
    let show = || Operation::StoreShow { id: 2 };
    assert_eq!(member(cluster.operate(0, show())).version, Some(0));
    let set = |minutes| Operation::StoreSet {
        id: 2,
        change: MemberChange {
            maintenance_minutes: Some(minutes),
            ..MemberChange::default()
        },
    };
    let excused = member(cluster.operate(1, set(5).on_top_of(Some(0))));
    assert!(excused.maintenance_until_ms > 0 && excused.version > Some(0));
    let stale = cluster.try_operate(2, set(0).on_top_of(Some(0)));
    assert_eq!(kind(stale), CHANGED);
    let shown = member(cluster.operate(2, show()));
    assert_eq!(shown.maintenance_until_ms, excused.maintenance_until_ms);
    let Answer::Stores(stores) = cluster.operate(2, Operation::StoreList) else {
        panic!("not stores");
    };
    let until = |id| {
        let mut found = stores.iter().filter(move |one| one.id == id);
        found.next().expect("there is one").maintenance_until_ms
    };
    assert_eq!(
        (until(1), until(2)),
        (0, excused.maintenance_until_ms),
        "the list says it of the store that is excused, and of no other"
    );
    cluster.operate(2, set(0).on_top_of(shown.version));
}

#[test]
fn what_cannot_depend_on_a_version_is_refused() {
    let cluster = cluster(88);
    let drain = Operation::VolumeDrain {
        name: "v".to_owned(),
    };
    let twice = label("x").on_top_of(Some(1)).on_top_of(Some(1));
    for odd in [drain.on_top_of(Some(1)), twice] {
        let refused = cluster.try_operate(0, odd);
        assert_eq!(kind(refused), Some(ErrorKind::BadRequest));
    }
    assert!(cluster.show(0, "v").labels.is_empty());
}
