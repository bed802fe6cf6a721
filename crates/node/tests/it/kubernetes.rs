//! Claims of Kubernetes: what is reported, joined with the volumes that are here, whichever node is asked.

use crate::support::{Cluster, MIB, volume_of};
use api::kubernetes::{
    CLAIM_LABEL, CLAIM_NAMESPACE_LABEL, KUBERNETES_LABEL, PERSISTENT_VOLUME_LABEL, SILENT_MS,
};
use api::{
    Answer, ClaimAnswer, ClaimFacts, ClaimQuery, ClaimsAnswer, ErrorKind, KubernetesAnswer,
    KubernetesOperation, KubernetesReport, ListQuery, Operation, OperationError, Scope,
    StorageClassFacts, TokenSpec, VolumeAnswer, VolumeChange, VolumeSpec,
};
use world::Duration;

fn start(seed: u64) -> Cluster {
    let cluster = Cluster::with_apis(seed, 2);
    cluster.create_container("c", 2);
    cluster
}

fn try_ask(
    cluster: &Cluster,
    asked: usize,
    operation: KubernetesOperation,
) -> Result<Answer, OperationError> {
    cluster.try_operate(asked, Operation::Kubernetes(operation))
}

fn claim(name: &str, uid: &str) -> ClaimFacts {
    ClaimFacts {
        uid: uid.to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        status: "Pending".to_owned(),
        requested: 8 * MIB,
        volume_mode: "Filesystem".to_owned(),
        created_ms: 5,
        ..ClaimFacts::default()
    }
}

fn report_of(claims: Vec<ClaimFacts>, gone: &[&str]) -> KubernetesReport {
    KubernetesReport {
        uid: "k-1".to_owned(),
        version: "v1.35.2".to_owned(),
        driver: "1.0.0".to_owned(),
        claims,
        gone: gone.iter().map(|&uid| uid.to_owned()).collect(),
        ..KubernetesReport::default()
    }
}

fn try_report(
    cluster: &Cluster,
    asked: usize,
    report: KubernetesReport,
) -> Result<KubernetesAnswer, OperationError> {
    let name = "prod".to_owned();
    let report = KubernetesOperation::Report {
        name: name.clone(),
        report,
    };
    let Answer::Reported(told) = try_ask(cluster, asked, report)? else {
        panic!("not told how many")
    };
    match try_ask(cluster, asked, KubernetesOperation::Show { name })? {
        Answer::Kubernetes(answer) => {
            assert_eq!(told.claims, answer.bound + answer.pending);
            Ok(answer)
        }
        other => panic!("not a Kubernetes cluster: {other:?}"),
    }
}

fn report(cluster: &Cluster, claims: Vec<ClaimFacts>, gone: &[&str]) -> KubernetesAnswer {
    try_report(cluster, 0, report_of(claims, gone)).expect("it is taken over")
}

fn list(cluster: &Cluster) -> Vec<KubernetesAnswer> {
    match try_ask(cluster, 1, KubernetesOperation::List).expect("a list") {
        Answer::KubernetesList(list) => list.items,
        other => panic!("not a list: {other:?}"),
    }
}

fn page(cluster: &Cluster, query: ClaimQuery) -> ClaimsAnswer {
    let name = "prod".to_owned();
    let claims = KubernetesOperation::Claims { name, query };
    match try_ask(cluster, 1, claims).expect("claims") {
        Answer::Claims(answer) => answer,
        other => panic!("not claims: {other:?}"),
    }
}

fn claims(cluster: &Cluster) -> Vec<ClaimAnswer> {
    page(cluster, ClaimQuery::default()).items
}

fn names(answer: &ClaimsAnswer) -> Vec<&str> {
    answer.items.iter().map(|one| one.name.as_str()).collect()
}

/// A volume as the driver makes one for a claim.
fn made_for(cluster: &Cluster, volume: &str, claim: &str, labels: &[(&str, &str)]) -> VolumeAnswer {
    let all = [
        (KUBERNETES_LABEL, "prod"),
        (CLAIM_NAMESPACE_LABEL, "shop"),
        (CLAIM_LABEL, claim),
    ];
    let all = all.iter().chain(labels);
    let spec = VolumeSpec {
        name: volume.to_owned(),
        container: Some("c".to_owned()),
        size: Some(8 * MIB),
        labels: all
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        ..VolumeSpec::default()
    };
    volume_of(cluster.operate(0, Operation::VolumeCreate(spec)))
}

fn handle(cluster: &Cluster, volume: u64) -> String {
    let Answer::Cluster(answer) = cluster.operate(0, Operation::Cluster) else {
        panic!("not the cluster")
    };
    format!("{}-v{volume}", answer.id)
}

#[test]
fn what_is_reported_is_shown_and_changes_with_the_next_part() {
    let cluster = start(71);
    let class = StorageClassFacts {
        name: "fast".to_owned(),
        default: true,
        ..StorageClassFacts::default()
    };
    let first = KubernetesReport {
        classes: Some(vec![class.clone()]),
        ..report_of(vec![claim("a", "u-1"), claim("b", "u-2")], &[])
    };
    let answer = try_report(&cluster, 0, first.clone()).unwrap();
    assert_eq!((answer.claims, answer.bound, answer.pending), (2, 0, 2));
    assert_eq!(answer.classes, std::slice::from_ref(&class));
    assert_eq!(answer.version.as_deref(), Some("v1.35.2"));
    let again = try_report(&cluster, 1, first).unwrap();
    assert_eq!(again, answer, "a repeat changes nothing");
    let bound = ClaimFacts {
        status: "Bound".to_owned(),
        ..claim("a", "u-1")
    };
    let answer = report(&cluster, vec![bound.clone(), claim("c", "u-3")], &["u-2"]);
    assert_eq!((answer.claims, answer.bound, answer.pending), (2, 1, 1));
    assert_eq!(answer.classes, [class], "classes stay as they were");
    let all = claims(&cluster);
    let facts: Vec<ClaimFacts> = all.iter().filter_map(ClaimAnswer::facts).collect();
    assert_eq!(facts, [bound, claim("c", "u-3")]);
    assert!(
        all.iter()
            .all(|claim| claim.reported && claim.volume.is_none())
    );
    assert_eq!(list(&cluster), [answer]);
}

#[test]
fn a_cluster_of_another_uid_and_what_makes_no_sense_are_refused() {
    let cluster = start(72);
    report(&cluster, vec![claim("a", "u-1")], &[]);
    let other = KubernetesReport {
        uid: "k-2".to_owned(),
        ..report_of(vec![claim("b", "u-2")], &[])
    };
    let refused = try_report(&cluster, 1, other).expect_err("another cluster");
    assert_eq!(refused.kind, ErrorKind::Exists);
    assert!(refused.message.contains("another Kubernetes cluster"));
    let odd = report_of(vec![claim("a/b", "u-3")], &[]);
    let refused = try_report(&cluster, 1, odd).expect_err("a slash");
    assert_eq!(refused.kind, ErrorKind::BadRequest);
    assert!(refused.message.contains("`claims.name`"), "{refused}");
    assert_eq!(claims(&cluster).len(), 1);
    let missing = KubernetesOperation::Show {
        name: "none".to_owned(),
    };
    let missing = try_ask(&cluster, 0, missing).expect_err("nobody knows it");
    assert_eq!(missing.kind, ErrorKind::NotFound);
}

#[test]
fn a_cluster_that_is_not_reported_any_more_falls_silent_and_can_be_forgotten() {
    let cluster = start(73);
    made_for(&cluster, "v", "a", &[]);
    let answer = report(&cluster, vec![claim("b", "u-1")], &[]);
    assert!(answer.reported_ms.is_some() && !answer.silent);
    cluster
        .sim
        .run_for(Duration::from_millis(SILENT_MS - 5_000));
    assert!(!list(&cluster)[0].silent);
    cluster.sim.run_for(Duration::from_secs(10));
    assert!(list(&cluster)[0].silent);
    assert!(!report(&cluster, vec![], &[]).silent);
    let forget = KubernetesOperation::Forget {
        name: "prod".to_owned(),
    };
    assert_eq!(try_ask(&cluster, 1, forget.clone()), Ok(Answer::Done));
    let left = &list(&cluster)[0];
    assert_eq!((left.claims, left.volumes, left.silent), (1, 1, false));
    assert_eq!((&left.uid, left.reported_ms), (&None, None));
    let again = try_ask(&cluster, 1, forget).expect_err("nothing was reported");
    assert_eq!(again.kind, ErrorKind::NotFound);
}

#[test]
fn labels_alone_tell_of_claims_too() {
    let cluster = start(74);
    assert_eq!(list(&cluster), []);
    let volume = made_for(&cluster, "v", "a", &[(PERSISTENT_VOLUME_LABEL, "pvc-9")]);
    let all = claims(&cluster);
    assert_eq!(all.len(), 1);
    let one = &all[0];
    assert_eq!(one.key, format!("shop/a/volume-{}", volume.id));
    assert_eq!((one.status.as_str(), one.reported), ("Unknown", false));
    assert_eq!(one.persistent_volume.as_deref(), Some("pvc-9"));
    let of_claim = one.volume.as_ref().expect("its volume");
    assert_eq!((of_claim.id, of_claim.size), (volume.id, 8 * MIB));
    assert_eq!((of_claim.state.as_str(), of_claim.used), ("ready", Some(0)));
    let answer = &list(&cluster)[0];
    assert_eq!((answer.name.as_str(), answer.claims), ("prod", 1));
    assert_eq!(
        (answer.pending, answer.volumes, answer.size),
        (0, 1, 8 * MIB)
    );
}

#[test]
fn a_claim_has_the_volume_of_its_handle_or_of_its_labels() {
    let cluster = start(75);
    let by_handle = made_for(&cluster, "v1", "a", &[]);
    let by_label = made_for(&cluster, "v2", "b", &[(PERSISTENT_VOLUME_LABEL, "pvc-u-2")]);
    let older = made_for(&cluster, "v3", "b", &[(PERSISTENT_VOLUME_LABEL, "pvc-u-0")]);
    // One that was made by hand has no label at all: whoever reports its handle learns nothing of it.
    let spec = VolumeSpec {
        name: "by-hand".to_owned(),
        container: Some("c".to_owned()),
        size: Some(4 * MIB),
        ..VolumeSpec::default()
    };
    let by_hand = volume_of(cluster.operate(0, Operation::VolumeCreate(spec)));
    let with = |name: &str, uid: &str, handle: String| ClaimFacts {
        handle: Some(handle),
        status: "Bound".to_owned(),
        ..claim(name, uid)
    };
    let told = vec![
        with("a", "u-1", handle(&cluster, by_handle.id)),
        claim("b", "u-2"),
        with("c", "u-3", handle(&cluster, by_hand.id)),
        with("d", "u-4", format!("another-v{}", by_handle.id)),
    ];
    let answer = report(&cluster, told, &[]);
    assert_eq!((answer.claims, answer.volumes), (5, 3));
    assert_eq!(answer.size, 24 * MIB);
    let all = claims(&cluster);
    let found: Vec<(&str, bool, Option<u64>)> = all
        .iter()
        .map(|one| {
            let volume = one.volume.as_ref().map(|volume| volume.id);
            (one.name.as_str(), one.reported, volume)
        })
        .collect();
    let expected = [
        ("a", true, Some(by_handle.id)),
        ("b", true, Some(by_label.id)),
        ("b", false, Some(older.id)),
        ("c", true, None),
        ("d", true, None),
    ];
    assert_eq!(found, expected);
    let of = |volume: &str| ClaimQuery {
        volume: Some(volume.to_owned()),
        ..ClaimQuery::default()
    };
    assert_eq!(names(&page(&cluster, of("v1"))), ["a"]);
    assert!(page(&cluster, of("by-hand")).items.is_empty());
    let label = (KUBERNETES_LABEL.to_owned(), Some("prod".to_owned()));
    let change = VolumeChange {
        labels: [label].into(),
        ..VolumeChange::default()
    };
    let name = "by-hand".to_owned();
    cluster.operate(0, Operation::VolumeSet { name, change });
    assert_eq!(names(&page(&cluster, of("by-hand"))), ["c"]);
    let limited = ClaimQuery {
        containers: vec!["other".to_owned()],
        ..ClaimQuery::default()
    };
    let hidden = page(&cluster, limited).items;
    assert_eq!(hidden.len(), 4);
    assert!(hidden.iter().all(|one| one.volume.is_none()));
}

#[test]
fn claims_come_in_pages_in_order_and_filtered() {
    let cluster = start(76);
    let of = |namespace: &str, name: &str, uid: &str| ClaimFacts {
        namespace: namespace.to_owned(),
        ..claim(name, uid)
    };
    let told = vec![
        of("shop-a", "x", "u-1"),
        of("shop", "y", "u-9"),
        of("shop", "y", "u-2"),
        ClaimFacts {
            status: "Bound".to_owned(),
            ..of("shop", "a", "u-5")
        },
    ];
    report(&cluster, told, &[]);
    made_for(&cluster, "v", "b", &[]);
    let mut keys = Vec::new();
    let mut query = ClaimQuery {
        limit: Some(2),
        ..ClaimQuery::default()
    };
    loop {
        let answer = page(&cluster, query.clone());
        assert!(answer.items.len() <= 2);
        keys.extend(answer.items.into_iter().map(|one| one.key));
        query.after = answer.next;
        if query.after.is_none() {
            break;
        }
    }
    let id = cluster.show(0, "v").id;
    let expected = [
        "shop/a/u-5".to_owned(),
        format!("shop/b/volume-{id}"),
        "shop/y/u-2".to_owned(),
        "shop/y/u-9".to_owned(),
        "shop-a/x/u-1".to_owned(),
    ];
    assert_eq!(keys, expected);
    let query = |change: fn(&mut ClaimQuery)| {
        let mut query = ClaimQuery::default();
        change(&mut query);
        names(&page(&cluster, query)).join(" ")
    };
    assert_eq!(query(|query| query.namespace = Some("shop-a".into())), "x");
    assert_eq!(query(|query| query.name = Some("y".into())), "y y");
    assert_eq!(query(|query| query.status = Some("Bound".into())), "a");
    assert_eq!(query(|query| query.status = Some("Unknown".into())), "b");
    let odd = KubernetesOperation::Claims {
        name: "prod".to_owned(),
        query: ClaimQuery {
            limit: Some(0),
            ..ClaimQuery::default()
        },
    };
    let refused = try_ask(&cluster, 0, odd).expect_err("no page");
    assert_eq!(refused.kind, ErrorKind::BadRequest);
}

#[test]
fn lists_and_tokens_may_be_limited_to_kubernetes_clusters() {
    let cluster = start(77);
    made_for(&cluster, "ours", "a", &[]);
    cluster.create_volume(0, "others", MIB);
    for volume in ["ours", "others"] {
        let snapshot = Operation::SnapshotCreate {
            volume: volume.to_owned(),
            name: "s".to_owned(),
            labels: Default::default(),
            group: None,
        };
        cluster.operate(0, snapshot);
    }
    let limited = ListQuery {
        kubernetes: vec!["prod".to_owned()],
        ..ListQuery::default()
    };
    let Answer::Volumes(volumes) = cluster.operate(1, Operation::VolumeList(limited.clone()))
    else {
        panic!("not volumes")
    };
    let found: Vec<&str> = volumes.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(found, ["ours"]);
    let snapshots = || match cluster.operate(1, Operation::SnapshotList(limited.clone())) {
        Answer::Snapshots(found) => found,
        other => panic!("not snapshots: {other:?}"),
    };
    let found = snapshots();
    assert_eq!((found.len(), found[0].volume.as_deref()), (1, Some("ours")));
    for name in ["ours", "others"] {
        let name = name.to_owned();
        cluster.operate(0, Operation::VolumeDelete { name });
    }
    cluster.sim.run_for(Duration::from_secs(30));
    let found = snapshots();
    assert_eq!(
        (found.len(), &found[0].volume),
        (1, &None),
        "by its own label"
    );
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn tokens_of_drivers_say_which_volumes_they_are_for_and_no_others_do() {
    let cluster = start(77);
    let token = |scope, containers: &[&str], kubernetes: &[&str], all_containers| {
        let spec = TokenSpec {
            name: format!("t-{scope}-{}-{}", containers.len(), kubernetes.len()),
            scope,
            containers: owned(containers),
            kubernetes: owned(kubernetes),
            all_containers,
            personal: false,
        };
        let create = Operation::TokenCreate {
            spec,
            hash: "0".repeat(64),
            user: None,
        };
        match cluster.try_operate(0, create) {
            Ok(Answer::Token(answer)) => {
                Ok((answer.containers, answer.kubernetes, answer.all_containers))
            }
            Ok(other) => panic!("not a token: {other:?}"),
            Err(error) => Err(error.kind),
        }
    };
    let refused = Err(ErrorKind::BadRequest);
    assert_eq!(token(Scope::Csi, &[], &[], false), refused);
    assert_eq!(token(Scope::Csi, &["gold"], &[], true), refused);
    let made = |containers: &[&str], kubernetes: &[&str], all| {
        Ok((owned(containers), owned(kubernetes), all))
    };
    for (containers, kubernetes, all) in [
        (&["gold"][..], &[][..], false),
        (&[], &["prod"], false),
        (&["gold"], &["prod", "test"], false),
        (&[], &[], true),
        (&[], &["prod", "test", "dev"], true),
    ] {
        let answer = token(Scope::Csi, containers, kubernetes, all);
        assert_eq!(answer, made(containers, kubernetes, all));
    }
    assert_eq!(token(Scope::Operator, &[], &["prod"], false), refused);
    assert_eq!(token(Scope::Client, &["gold"], &[], false), refused);
    assert_eq!(token(Scope::Viewer, &[], &[], true), refused);
    assert_eq!(token(Scope::Viewer, &[], &[], false), made(&[], &[], false));
}

#[test]
fn pages_are_told_that_claims_changed() {
    let cluster = start(78);
    let changes = |after: Option<u64>| {
        let mood = String::new();
        match cluster.operate(1, Operation::Changes { after, mood }) {
            Answer::Changes(answer) => answer,
            other => panic!("not changes: {other:?}"),
        }
    };
    let before = changes(None).revision;
    report(&cluster, vec![claim("a", "u-1"), claim("b", "u-2")], &[]);
    cluster.sim.run_for(Duration::from_secs(1));
    let told = changes(Some(before)).changes;
    let own = told.iter().filter(|change| change.kind == "kubernetes");
    let own: Vec<(u64, bool)> = own.map(|change| (change.id, change.gone)).collect();
    assert_eq!(own, [(0, false)], "once, however many claims");
}
