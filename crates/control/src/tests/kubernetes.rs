//! What a token may do that is limited to Kubernetes clusters.

use super::Server;
use super::tokens::{LIMITED, PROD, guarded, send};
use api::{KUBERNETES_LABEL, KubernetesOperation, Operation, OperationError, SnapshotAnswer};

const REPORT: &str = r#"{"uid":"k","version":"v1.35.2","driver":"1.0.0"}"#;

/// Snapshots 90 and 91 have outlived their volumes, of the clusters prod and test.
pub(super) fn snapshot(id: u64) -> SnapshotAnswer {
    let cluster = match id {
        90 => "prod",
        91 => "test",
        _ => return SnapshotAnswer::default(),
    };
    SnapshotAnswer {
        id,
        volume_id: id,
        labels: [(KUBERNETES_LABEL.to_owned(), cluster.to_owned())].into(),
        ..SnapshotAnswer::default()
    }
}

/// Members of a group snapshot, by its id.
pub(super) fn members(group: &str) -> Vec<SnapshotAnswer> {
    match group {
        "empty" => Vec::new(),
        "orphans" => vec![snapshot(90)],
        _ => vec![SnapshotAnswer::default()],
    }
}

async fn status(server: &Server, request: &str, body: &str) -> (u16, String) {
    send(server, request, body, Some(PROD)).await
}

/// In the backend of these tests volumes whose name begins with `prod` have the label, and the others have none.
#[tokio::test]
async fn a_token_of_a_kubernetes_cluster_touches_nothing_of_others() {
    let server = guarded().await;
    let refused = [
        ("GET /api/v1/volumes/v", ""),
        ("DELETE /api/v1/volumes/v", ""),
        ("POST /api/v1/volumes/v/resize", r#"{"size":8192}"#),
        ("PATCH /api/v1/volumes/v", r#"{"labels":{"a":"b"}}"#),
        (
            "PATCH /api/v1/volumes/v",
            r#"{"labels":{"csi.azekura.dev/kubernetes":"prod"}}"#,
        ),
        (
            "PATCH /api/v1/volumes/prod-v",
            r#"{"labels":{"csi.azekura.dev/kubernetes":"test"}}"#,
        ),
        (
            "PATCH /api/v1/volumes/prod-v",
            r#"{"labels":{"csi.azekura.dev/kubernetes":null}}"#,
        ),
        ("POST /api/v1/volumes/v/snapshots", r#"{"name":"s"}"#),
        ("DELETE /api/v1/volumes/v/snapshots/s", ""),
        ("GET /api/v1/volumes/v/diff?from=s", ""),
        ("GET /api/v1/snapshots/7", ""),
        ("POST /api/v1/volumes/v/attach", r#"{"client":"n"}"#),
        ("POST /api/v1/volumes/v/detach", r#"{"client":"n"}"#),
        (
            "POST /api/v1/group-snapshots",
            r#"{"name":"g","volumes":["prod-v","v"]}"#,
        ),
        ("GET /api/v1/group-snapshots", ""),
        ("GET /api/v1/group-snapshots/g", ""),
        ("DELETE /api/v1/group-snapshots/g", ""),
        ("PUT /api/v1/kubernetes/test/report", REPORT),
        ("GET /api/v1/kubernetes/test", ""),
        ("GET /api/v1/kubernetes/test/claims", ""),
        ("GET /api/v1/kubernetes", ""),
        ("DELETE /api/v1/kubernetes/prod", ""),
    ];
    for (request, body) in refused {
        let (status, answer) = status(&server, request, body).await;
        assert_eq!(status, 403, "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_volume_is_made_with_a_label_of_the_token_and_of_no_foreign_one() {
    let server = guarded().await;
    let create = |rest: &str| format!(r#"{{"name":"n","container":"c","size":4096{rest}}}"#);
    let labels = |name: &str| format!(r#","labels":{{"csi.azekura.dev/kubernetes":"{name}"}}"#);
    let from = |name: &str| format!(r#","from":{{"volume":"{name}"}}"#);
    let cases = [
        (create(""), 403, "does not have the label"),
        (create(&labels("test")), 403, "test is not one of them"),
        (
            create(&(labels("prod") + &from("v"))),
            403,
            "volume v does not have",
        ),
        (create(&labels("prod")), 200, ""),
        (create(&(labels("prod") + &from("prod-v"))), 200, ""),
    ];
    for (body, expected, says) in cases {
        let (status, answer) = status(&server, "POST /api/v1/volumes", &body).await;
        assert_eq!(status, expected, "{body}: {answer}");
        if expected == 403 {
            let error: OperationError = serde_json::from_str(&answer).unwrap();
            assert!(error.message.contains(says), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_token_of_a_kubernetes_cluster_does_with_its_own_as_any_driver() {
    let server = guarded().await;
    let allowed = [
        ("GET /api/v1/volumes/prod-v", ""),
        ("DELETE /api/v1/volumes/prod-v", ""),
        ("POST /api/v1/volumes/prod-v/resize", r#"{"size":8192}"#),
        (
            "PATCH /api/v1/volumes/prod-v",
            r#"{"labels":{"a":"b","csi.azekura.dev/kubernetes":"prod"}}"#,
        ),
        ("POST /api/v1/volumes/prod-v/snapshots", r#"{"name":"s"}"#),
        ("POST /api/v1/volumes/prod-v/attach", r#"{"client":"n"}"#),
        (
            "POST /api/v1/group-snapshots",
            r#"{"name":"g","volumes":["prod-v"]}"#,
        ),
        ("GET /api/v1/containers", ""),
        ("PUT /api/v1/kubernetes/prod/report", REPORT),
        ("GET /api/v1/kubernetes/prod", ""),
        ("GET /api/v1/kubernetes/prod/claims", ""),
    ];
    for (request, body) in allowed {
        let (status, answer) = status(&server, request, body).await;
        assert_eq!(status, 200, "{request}: {answer}");
    }
}

/// A driver that hears that there is no such snapshot believes that it has deleted it.
#[tokio::test]
async fn a_snapshot_that_outlives_its_volume_is_judged_by_its_own_label() {
    let server = guarded().await;
    let create = |snapshot: u64| {
        format!(
            r#"{{"name":"n","labels":{{"csi.azekura.dev/kubernetes":"prod"}},"from":{{"volume":"volume-{snapshot}","snapshot":"snapshot-{snapshot}"}}}}"#
        )
    };
    let (own, foreign) = (create(90), create(91));
    let cases = [
        ("GET /api/v1/snapshots/90", "", 200),
        (
            "DELETE /api/v1/volumes/volume-90/snapshots/snapshot-90",
            "",
            200,
        ),
        ("POST /api/v1/volumes", &*own, 200),
        ("GET /api/v1/group-snapshots/orphans", "", 200),
        ("GET /api/v1/snapshots/91", "", 403),
        (
            "DELETE /api/v1/volumes/volume-91/snapshots/snapshot-91",
            "",
            403,
        ),
        ("POST /api/v1/volumes", &*foreign, 403),
        ("DELETE /api/v1/group-snapshots/empty", "", 403),
        // Another one's under the name of its own, and one that is not there.
        (
            "DELETE /api/v1/volumes/volume-90/snapshots/snapshot-91",
            "",
            404,
        ),
        ("DELETE /api/v1/volumes/volume-90/snapshots/s", "", 404),
    ];
    for (request, body, expected) in cases {
        let (status, answer) = status(&server, request, body).await;
        assert_eq!(status, expected, "{request}: {answer}");
    }
    let request = "DELETE /api/v1/volumes/volume-90/snapshots/snapshot-90";
    let (status, answer) = send(&server, request, "", Some(LIMITED)).await;
    assert_eq!(
        status, 403,
        "nothing says in which container it was: {answer}"
    );
}

#[tokio::test]
async fn lists_are_narrowed_to_what_a_token_is_limited_to() {
    let server = guarded().await;
    for path in ["volumes", "snapshots", "volumes/prod-v/snapshots"] {
        let (code, answer) = status(&server, &format!("GET /api/v1/{path}"), "").await;
        assert_eq!(code, 200, "{answer}");
        let query = match server.asked() {
            Some(Operation::VolumeList(query) | Operation::SnapshotList(query)) => query,
            other => panic!("nothing was listed: {other:?}"),
        };
        assert_eq!(query.kubernetes, ["prod"]);
    }
    let request = "GET /api/v1/kubernetes/prod/claims";
    send(&server, request, "", Some(LIMITED)).await;
    let Some(Operation::Kubernetes(KubernetesOperation::Claims { query, .. })) = server.asked()
    else {
        panic!("claims were listed");
    };
    assert_eq!(query.containers, ["gold"]);
}

#[tokio::test]
async fn a_report_may_be_longer_than_other_requests_but_not_without_bounds() {
    let server = guarded().await;
    let body = |bytes: usize| {
        let long = "x".repeat(bytes);
        format!(r#"{{"uid":"k","version":"v1","driver":"1","gone":["{long}"]}}"#)
    };
    let request = "PUT /api/v1/kubernetes/prod/report";
    let (code, answer) = status(&server, request, &body(200 << 10)).await;
    assert_eq!(code, 200, "{answer}");
    let (code, _) = status(&server, request, &body(600 << 10)).await;
    assert_eq!(code, 400);
    let (code, _) = status(&server, request, r#"{"uid":"k","odd":1}"#).await;
    assert_eq!(code, 400);
}
