//! Claims of a Kubernetes cluster are told to the storage, as they are and as they change: a real node with its real API, the real controller,
//! and an API of Kubernetes that is written here.

mod scene;

use crate::support::cluster::wait_until;
use api::ClaimAnswer;
use scene::{Scene, claim, pod};

fn named<'a>(claims: &'a [ClaimAnswer], name: &str) -> Option<&'a ClaimAnswer> {
    claims.iter().find(|claim| claim.name == name)
}

/// Names of the pods of a claim and the nodes they are on.
fn pods(claim: &ClaimAnswer) -> Vec<(&str, &str)> {
    let pods = claim.pods.iter();
    pods.map(|pod| (pod.name.as_str(), pod.node.as_deref().unwrap_or_default()))
        .collect()
}

#[test]
fn claims_appear_with_their_pods_and_classes_and_change_with_them() {
    let scene = Scene::start("claims");
    let _controller = scene.report("controller", "prod", &scene.kubernetes);

    // A volume that the driver makes bears the name of the cluster, and asking twice gives the same.
    let handle = scene.create_volume("controller", "pvc-1", "data-db-0");
    assert_eq!(
        scene.create_volume("controller", "pvc-1", "data-db-0"),
        handle
    );
    let volume = scene.node.ask(&["volume", "show", "pvc-1"]);
    assert_eq!(volume["labels"][api::KUBERNETES_LABEL], "prod");

    scene.add_bound("data-db-0", "pvc-1", &handle);
    scene
        .kubernetes
        .add("pods", "db-0", pod("db-0", "data-db-0", "worker-1"));
    scene.attach("pvc-1", "worker-1");
    // One that waits for its first pod, and one of another driver.
    scene
        .kubernetes
        .add("persistentvolumeclaims", "later", claim("later", "late"));
    scene
        .kubernetes
        .add("persistentvolumeclaims", "other", claim("other", "foreign"));
    wait_until("the claims are told", || {
        let claims = scene.claims("prod");
        let bound = named(&claims, "data-db-0");
        bound.is_some_and(|claim| !claim.pods.is_empty() && !claim.attached.is_empty())
            && named(&claims, "later").is_some()
    });
    let claims = scene.claims("prod");
    assert_eq!(
        claims.len(),
        2,
        "the other driver's is not told: {claims:?}"
    );
    let bound = named(&claims, "data-db-0").unwrap();
    assert!(bound.reported);
    assert_eq!(
        (bound.namespace.as_str(), bound.status.as_str()),
        ("shop", "Bound")
    );
    assert_eq!(bound.class.as_deref(), Some("fast"));
    assert_eq!(
        (bound.requested, bound.capacity),
        (Some(1 << 30), Some(1 << 30))
    );
    assert_eq!(bound.persistent_volume.as_deref(), Some("pvc-1"));
    assert_eq!(bound.reclaim_policy.as_deref(), Some("Delete"));
    assert_eq!(pods(bound), [("db-0", "worker-1")]);
    assert_eq!(bound.attached, ["worker-1"]);
    assert_eq!(bound.volume.as_ref().unwrap().name, "pvc-1");
    let pending = named(&claims, "later").unwrap();
    assert_eq!(
        (pending.status.as_str(), &pending.volume),
        ("Pending", &None)
    );
    assert!(pending.reason.as_ref().unwrap().contains("first pod"));
    let shown = scene.shown("prod").unwrap();
    assert_eq!(
        shown.version.as_deref(),
        Some(crate::support::kubernetes::VERSION)
    );
    assert_eq!((shown.claims, shown.bound, shown.pending), (2, 1, 1));
    let classes: Vec<&str> = shown
        .classes
        .iter()
        .map(|class| class.name.as_str())
        .collect();
    assert_eq!(classes, ["fast", "late"]);

    // The pod moves; the claim that waited is deleted.
    scene.kubernetes.remove("pods", "db-0");
    scene
        .kubernetes
        .add("pods", "db-0", pod("db-0", "data-db-0", "worker-2"));
    scene.kubernetes.remove("persistentvolumeclaims", "later");
    wait_until("the pod is seen elsewhere, and the claim gone", || {
        let claims = scene.claims("prod");
        let moved = pods(named(&claims, "data-db-0").unwrap()) == [("db-0", "worker-2")];
        moved && named(&claims, "later").is_none()
    });

    // Watches end, and what they would go on from is forgotten while a claim comes and a pod goes.
    scene.kubernetes.forget_events();
    scene.kubernetes.remove("pods", "db-0");
    scene
        .kubernetes
        .add("persistentvolumeclaims", "new", claim("new", "fast"));
    wait_until("everything is listed anew", || {
        let claims = scene.claims("prod");
        named(&claims, "data-db-0").unwrap().pods.is_empty() && named(&claims, "new").is_some()
    });
}

#[test]
fn reporters_come_and_go_and_a_name_belongs_to_one_cluster() {
    let scene = Scene::start("reporters");
    for number in 0..230 {
        let name = format!("data-{number}");
        scene
            .kubernetes
            .add("persistentvolumeclaims", &name, claim(&name, "fast"));
    }
    let mut first = scene.report("first", "prod", &scene.kubernetes);
    wait_until("all claims are told", || scene.claims("prod").len() == 230);
    first.process.kill();

    // What happens while nobody looks is the only thing that the next one tells.
    scene.kubernetes.remove("persistentvolumeclaims", "data-7");
    scene
        .kubernetes
        .add("pods", "db-0", pod("db-0", "data-8", "worker-1"));
    let mut second = scene.report("second", "prod", &scene.kubernetes);
    wait_until("the difference is told", || {
        let claims = scene.claims("prod");
        named(&claims, "data-7").is_none() && !named(&claims, "data-8").unwrap().pods.is_empty()
    });
    // It is logged after the storage has taken it.
    wait_until("the report is logged", || {
        !second.lines("a report was sent").is_empty()
    });
    let told = second.lines("a report was sent");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("claims=1 gone=1"), "{told:?}");

    // Two at once tell the same, and one of them is enough.
    let third = scene.report("third", "prod", &scene.kubernetes);
    scene
        .kubernetes
        .add("persistentvolumeclaims", "both", claim("both", "fast"));
    wait_until("it is told", || {
        named(&scene.claims("prod"), "both").is_some()
    });
    // One that had its turn before the claim came would not know that it was ever told, until it compares again.
    wait_until("the third has told it, too", || {
        !third.lines("a report was sent claims=1").is_empty()
    });
    second.process.kill();
    scene.kubernetes.remove("persistentvolumeclaims", "both");
    wait_until("it is gone", || {
        named(&scene.claims("prod"), "both").is_none()
    });
    assert_eq!(scene.claims("prod").len(), 229);

    // Another cluster under the same name is refused, and told what to do; under a name of its own it is not.
    let other = scene::kubernetes("uid-of-another-cluster");
    other.add(
        "persistentvolumeclaims",
        "foreign",
        claim("foreign", "fast"),
    );
    let refused = scene.report("refused", "prod", &other);
    wait_until("the second cluster is refused", || {
        let lines = refused.lines("driver.kubernetes.cluster");
        lines.iter().any(|line| line.contains("ERROR"))
    });
    assert_eq!(named(&scene.claims("prod"), "foreign"), None);
    let _accepted = scene.report("accepted", "test", &other);
    wait_until("under its own name it is told", || {
        scene.claims("test").len() == 1
    });
    assert_eq!(
        scene.shown("prod").unwrap().uid.as_deref(),
        Some(scene::UID)
    );
    let list = scene.node.ask(&["kubernetes", "list"]);
    assert!(
        list.to_string().contains("prod") && list.to_string().contains("test"),
        "{list}"
    );
}
