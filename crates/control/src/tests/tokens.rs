//! Who may do what: every route times every scope.

use super::openapi::{document, operation_of};
use super::{ROUTES, Server};
use crate::{Auth, Digest};
use api::{Answer, ErrorKind, Operation, OperationError, Scope, TokenAnswer};
use std::collections::{BTreeMap, BTreeSet};

const ADMIN: &str = "azk_administrator";
const OPERATOR: &str = "azk_operator";
const VIEWER: &str = "azk_viewer";
const CSI: &str = "azk_csi";
const CLIENT: &str = "azk_client";
pub(super) const LIMITED: &str = "azk_limited";
/// Of one Kubernetes cluster.
pub(super) const PROD: &str = "azk_prod";

/// What a catalog with some tokens answers.
pub(super) fn find(hash: &str) -> Result<Answer, OperationError> {
    let known = [
        (OPERATOR, Scope::Operator, vec![], vec![]),
        (VIEWER, Scope::Viewer, vec![], vec![]),
        (CSI, Scope::Csi, vec![], vec![]),
        (CLIENT, Scope::Client, vec![], vec![]),
        (LIMITED, Scope::Csi, vec!["gold".to_owned()], vec![]),
        (PROD, Scope::Csi, vec![], vec!["prod".to_owned()]),
    ];
    let mut known = known.into_iter();
    let found = known.find(|(token, ..)| Digest::of(token).to_hex() == hash);
    match found {
        Some((_, scope, containers, kubernetes)) => Ok(Answer::Token(TokenAnswer {
            name: "t".to_owned(),
            scope,
            containers,
            kubernetes,
            created_ms: 1,
            token: None,
            version: None,
        })),
        None => Err(OperationError::new(
            ErrorKind::Unauthenticated,
            "the token is not known",
        )),
    }
}

pub(super) async fn guarded() -> Server {
    let admin = Digest::of(ADMIN);
    Server::start_with(Auth::Tokens { admin: Some(admin) }).await
}

pub(super) async fn send(
    server: &Server,
    request: &str,
    body: &str,
    token: Option<&str>,
) -> (u16, String) {
    let token = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let headers = format!("Content-Type: application/json\r\n{token}");
    server.send(request, &headers, body.as_bytes()).await
}

/// Requests beside [`ROUTES`].
pub(super) const OTHERS: &[(&str, &str, &str)] = &[
    ("POST /api/v1/tokens", r#"{"name":"t","scope":"csi"}"#, ""),
    ("GET /api/v1/tokens", "", ""),
    ("DELETE /api/v1/tokens/t", "", ""),
    ("POST /api/v1/containers", r#"{"name":"csi-rf2"}"#, ""),
    ("POST /api/v1/join-tokens", "{}", ""),
    ("GET /api/v1/authority", "", ""),
    ("POST /api/v1/authority/rotate", "{}", ""),
    ("POST /api/v1/authority/retire", "{}", ""),
    ("POST /api/v1/alerts/7/acknowledge", "", ""),
    (
        "POST /api/v1/alerts/7/resolve",
        r#"{"note":"replaced"}"#,
        "",
    ),
    ("GET /api/v1/users", "", ""),
    (
        "POST /api/v1/users",
        r#"{"name":"u","role":"viewer","password":"long enough"}"#,
        "",
    ),
    ("PATCH /api/v1/users/u", r#"{"role":"viewer"}"#, ""),
    ("DELETE /api/v1/users/u", "", ""),
    ("GET /api/v1/audit", "", ""),
    ("GET /api/v1/stores", "", ""),
    ("GET /metrics", "", ""),
    ("GET /api/v1/openapi.json", "", ""),
];

/// Written by hand, apart from the code: what a viewer may ask for.
pub(super) fn viewer_may(request: &str) -> bool {
    let kept = ["/tokens", "/users", "/audit", "/catalog/backup"];
    request.starts_with("GET ") && !kept.iter().any(|part| request.contains(part))
}

/// Written by hand, apart from the code: what an operator may ask for.
pub(super) fn operator_may(request: &str) -> bool {
    let never = [
        "/tokens",
        "/users",
        "/join-tokens",
        "/authority/",
        "/catalog/",
        "/replace",
    ];
    let gives_up = [
        "DELETE /api/v1/nodes",
        "DELETE /api/v1/stores",
        "DELETE /api/v1/alert-targets",
    ];
    // Where the cluster sends what it knows.
    if request == "POST /api/v1/alert-targets" {
        return false;
    }
    !never.iter().any(|part| request.contains(part))
        && !gives_up.iter().any(|start| request.starts_with(start))
}

/// Written by hand, apart from the code: what somebody may ask for who attaches volumes.
fn client_may(request: &str) -> bool {
    let looks = ["status", "cluster", "openapi.json"];
    let mut looks = looks.iter().map(|path| format!("GET /api/v1/{path}"));
    let one_volume = request.strip_prefix("GET /api/v1/volumes/");
    // Metrics are the status in another form.
    request == "GET /metrics"
        || looks.any(|look| look == request)
        || one_volume.is_some_and(|name| !name.contains('/'))
        || request.ends_with("/attach")
        || request.ends_with("/detach")
}

/// Written by hand, apart from the code: what the CSI driver may ask for.
fn csi_may(request: &str, body: &str) -> bool {
    let never = [
        "/status",
        "/alert",
        "/metrics",
        "/tokens",
        "/restore",
        "/drain",
        "/nodes",
        "/stores",
        "/disks",
        "/settings",
        "/catalog",
        "/resiliency",
        "/space",
        "/events",
        "/tasks",
        "/logs",
        "/authority",
        "/join",
        "/users",
        "/audit",
    ];
    if never.iter().any(|part| request.contains(part)) {
        return false;
    }
    // It looks at its own, and does not look around.
    if request == "GET /api/v1/kubernetes" || request == "DELETE /api/v1/kubernetes/prod" {
        return false;
    }
    if request.contains("/containers") {
        return request.starts_with("GET ")
            || (request.starts_with("POST ") && body.contains(r#""name":"csi-"#));
    }
    true
}

/// The drain waits in the backend of these tests, and health needs no token.
const APART: &[(&str, &str)] = &[
    ("post", "/api/v1/volumes/{name}/drain"),
    ("get", "/healthz"),
    ("post", "/api/v1/join"),
    ("get", "/api/v1/session"),
    ("post", "/api/v1/session"),
    ("delete", "/api/v1/session"),
    ("post", "/api/v1/session/password"),
    // What they answer depends on whether there is a session: tests of accounts ask.
    ("get", "/api/v1/sessions"),
    ("delete", "/api/v1/sessions/{id}"),
    ("get", "/api/v1/stream"),
    ("get", "/api/v1/logs/follow"),
];

#[test]
fn document_names_the_scopes_of_every_route() {
    let mut allowed = BTreeMap::<(String, String), BTreeSet<&str>>::new();
    for (request, body, _) in ROUTES.iter().chain(OTHERS) {
        let scopes = allowed.entry(operation_of(request)).or_default();
        scopes.insert("admin");
        scopes.extend(operator_may(request).then_some("operator"));
        scopes.extend(viewer_may(request).then_some("viewer"));
        scopes.extend(csi_may(request, body).then_some("csi"));
        scopes.extend(client_may(request).then_some("client"));
    }
    let users = vec!["admin", "operator", "viewer"];
    let nobody = || vec![];
    let apart = [
        vec!["admin", "operator"],
        nobody(),
        nobody(),
        nobody(),
        nobody(),
        nobody(),
        users.clone(),
        users.clone(),
        users.clone(),
        users.clone(),
        users,
    ];
    let apart = APART.iter().zip(apart);
    for ((method, path), scopes) in apart {
        let key = ((*method).to_owned(), (*path).to_owned());
        allowed.insert(key, scopes.into_iter().collect());
    }
    let document = document();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let needs = operation["security"].as_array().unwrap().iter();
            let scopes = needs.filter_map(|need| need["token"][0].as_str()).collect();
            let key = (method.clone(), path.clone());
            assert_eq!(allowed.get(&key), Some(&scopes), "{method} {path}");
            seen += 1;
        }
    }
    assert_eq!(seen, allowed.len());
}

#[tokio::test]
async fn every_route_is_open_to_the_scopes_it_is_meant_for() {
    let server = guarded().await;
    for (request, body, _) in ROUTES.iter().chain(OTHERS) {
        let cases = [
            (None, 401),
            (Some("azk_unknown"), 401),
            (Some("no-token"), 401),
            (Some(ADMIN), 200),
            (
                Some(OPERATOR),
                if operator_may(request) { 200 } else { 403 },
            ),
            (Some(VIEWER), if viewer_may(request) { 200 } else { 403 }),
            (Some(CSI), if csi_may(request, body) { 200 } else { 403 }),
            (Some(CLIENT), if client_may(request) { 200 } else { 403 }),
        ];
        for (token, expected) in cases {
            let (status, answer) = send(&server, request, body, token).await;
            // The backend of this test makes no tokens: that it was asked is enough.
            let made = request.starts_with("POST /api/v1/tokens") && token == Some(ADMIN);
            assert!(
                status == expected || made,
                "{request} as {token:?}: {status} {answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_refusal_names_the_scope_and_nothing_is_carried_out() {
    let server = guarded().await;
    let (status, body) = send(&server, "DELETE /api/v1/volumes/v", "", Some(VIEWER)).await;
    assert_eq!(status, 403);
    let error: OperationError = serde_json::from_str(&body).unwrap();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    assert!(error.message.contains("scope viewer"), "{body}");
    assert!(matches!(server.asked(), Some(Operation::TokenFind { .. })));
    assert_eq!(server.asked(), None);
}

#[tokio::test]
async fn a_limited_token_stays_in_its_containers() {
    let server = guarded().await;
    // The volumes of this backend are in a container without a name.
    let refused = [
        ("GET /api/v1/volumes/v", ""),
        ("DELETE /api/v1/volumes/v", ""),
        (
            "POST /api/v1/volumes",
            r#"{"name":"v","container":"silver","size":4096}"#,
        ),
        (
            "POST /api/v1/volumes",
            r#"{"name":"v","from":{"volume":"db"}}"#,
        ),
        (
            "POST /api/v1/group-snapshots",
            r#"{"name":"g","volumes":["v"]}"#,
        ),
        ("GET /api/v1/group-snapshots", ""),
        ("POST /api/v1/volumes/v/attach", r#"{"client":"n"}"#),
    ];
    for (request, body) in refused {
        let (status, answer) = send(&server, request, body, Some(LIMITED)).await;
        assert_eq!(status, 403, "{request}: {answer}");
    }
    let body = r#"{"name":"v","container":"gold","size":4096}"#;
    let (status, answer) = send(&server, "POST /api/v1/volumes", body, Some(LIMITED)).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _) = send(&server, "GET /api/v1/volumes", "", Some(LIMITED)).await;
    assert_eq!(status, 200);
    let Some(Operation::VolumeList(query)) = server.asked() else {
        panic!("volumes were listed");
    };
    assert_eq!(query.containers, ["gold"]);
}

#[tokio::test]
async fn the_backend_gets_the_hash_of_a_new_token_only() {
    let server = guarded().await;
    let body = r#"{"name":"t","scope":"csi"}"#;
    send(&server, "POST /api/v1/tokens", body, Some(ADMIN)).await;
    let Some(Operation::TokenCreate { hash, .. }) = server.asked() else {
        panic!("a token was to be made");
    };
    assert_eq!(hash.len(), 64);
}

#[tokio::test]
async fn health_needs_no_token() {
    let server = guarded().await;
    let (status, _) = send(&server, "GET /healthz", "", None).await;
    assert_eq!(status, 200);
}

#[test]
fn tokens_differ_and_are_their_hash() {
    let (one, digest) = crate::make_token().unwrap();
    let (other, _) = crate::make_token().unwrap();
    assert_ne!(one, other);
    assert_eq!(one.len(), "azk_".len() + 64);
    assert!(Digest::of(&one) == digest);
}

#[test]
fn only_an_administrator_overwrites_what_is_on_a_disk() {
    let add = |overrides: &[&str]| {
        let spec = serde_json::json!({"node": "n", "paths": ["/dev/b"], "overrides": overrides});
        Operation::DiskAdd(serde_json::from_value(spec).unwrap())
    };
    let allows = |scope, overrides: &[&str]| crate::auth::allows(scope, &add(overrides));
    assert!(allows(Scope::Operator, &[]));
    assert!(!allows(Scope::Operator, &["overwrite /dev/b"]));
    assert!(allows(Scope::Admin, &["overwrite /dev/b"]));
}
