//! What tokens allow, written by hand, and what limited ones are kept from. `matrix.rs` asks for everything as everybody.

use super::{Server, accounts};
use crate::{Auth, Digest};
use api::{Answer, ErrorKind, Operation, OperationError, Scope, TokenAnswer, UserRole};

pub(super) const ADMIN: &str = "azk_administrator";
pub(super) const OPERATOR: &str = "azk_operator";
pub(super) const VIEWER: &str = "azk_viewer";
pub(super) const CSI: &str = "azk_csi";
pub(super) const CLIENT: &str = "azk_client";
pub(super) const LIMITED: &str = "azk_limited";
/// Of one Kubernetes cluster.
pub(super) const PROD: &str = "azk_prod";
/// A personal one of a user who is a viewer.
pub(super) const VERAS: &str = "azk_veras";
/// A personal one of a user who is an operator.
pub(super) const OLGAS: &str = "azk_olgas";
/// A personal one of a user who is an administrator.
pub(super) const ANNS: &str = "azk_anns";

/// What a catalog with some tokens answers.
pub(super) fn find(hash: &str) -> Result<Answer, OperationError> {
    let known = [
        (OPERATOR, Scope::Operator, vec![], vec![]),
        (VIEWER, Scope::Viewer, vec![], vec![]),
        (CSI, Scope::Csi, vec![], vec![]),
        (CLIENT, Scope::Client, vec![], vec![]),
        (LIMITED, Scope::Csi, vec!["gold".to_owned()], vec![]),
        (PROD, Scope::Csi, vec![], vec!["prod".to_owned()]),
        (VERAS, Scope::Viewer, vec![], vec![]),
        (OLGAS, Scope::Operator, vec![], vec![]),
        (ANNS, Scope::Admin, vec![], vec![]),
    ];
    let users = [(VERAS, "vera"), (OLGAS, "olga"), (ANNS, "ann")];
    let mut known = known.into_iter();
    let found = known.find(|(token, ..)| Digest::of(token).to_hex() == hash);
    match found {
        Some((token, scope, containers, kubernetes)) => Ok(Answer::Token(TokenAnswer {
            name: "t".to_owned(),
            scope,
            user: users
                .iter()
                .find(|(of, _)| *of == token)
                .map(|(_, user)| (*user).to_owned()),
            containers,
            kubernetes,
            all_containers: false,
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
    ("GET /api/v1/users/u", "", ""),
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

/// Written by hand, apart from the code: what nobody may ask for with a personal token, whatever the user may.
pub(super) fn is_for_no_personal_token(request: &str) -> bool {
    [
        "POST /api/v1/tokens",
        "POST /api/v1/join-tokens",
        "POST /api/v1/users",
        "PATCH /api/v1/users/u",
        "GET /api/v1/catalog/backup",
        "POST /api/v1/catalog/move",
    ]
    .contains(&request)
}

/// Written by hand, apart from the code: what somebody may ask for who attaches volumes.
pub(super) fn client_may(request: &str) -> bool {
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
pub(super) fn csi_may(request: &str, body: &str) -> bool {
    let never = [
        "/status",
        "/alert",
        "/metrics",
        "/tokens",
        "/restore",
        "/drain",
        "/release",
        "/nodes",
        "/stores",
        "/groups",
        "/disks",
        "/settings",
        "/catalog",
        "/resiliency",
        "/space",
        "/events",
        "/tasks",
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

/// Written by hand, apart from the code: what of the requests of these tests a driver may whose token is limited, to the container
/// `gold` or to the Kubernetes cluster `prod`. Their volumes are in no container and of no Kubernetes cluster, so that they are
/// others'; so are their snapshots and groups.
pub(super) fn limited_may(token: &str, request: &str, body: &str) -> bool {
    // A list is cut to what is its own.
    if request.starts_with("GET /api/v1/volumes/v/snapshots") {
        return true;
    }
    // Its own containers alone, if it has any of its own.
    if request == "GET /api/v1/containers/c" {
        return token == PROD;
    }
    let others = ["/volumes/", "/snapshots/", "/group-snapshots"];
    let makes = ["POST /api/v1/volumes", "POST /api/v1/containers"].contains(&request);
    let may = csi_may(request, body) && !others.iter().any(|part| request.contains(part));
    // A container that is not limited to Kubernetes clusters is anybody's.
    may && (!makes || (token == PROD && request.ends_with("/containers")))
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
    let (status, _) = send(&server, "GET /api/v1/clones", "", Some(LIMITED)).await;
    assert_eq!(status, 200);
    let Some(Operation::CloneList(query)) = server.asked() else {
        panic!("clones were listed");
    };
    assert_eq!(query.containers, ["gold"]);
}

#[test]
fn limits_of_a_certificate_are_those_of_its_requests() {
    let limits = world::Limits {
        containers: vec!["gold".to_owned()],
        kubernetes: vec!["prod".to_owned()],
    };
    let caller = world::Caller {
        limits: limits.into(),
        ..world::Caller::new(world::Role::Csi, "driver")
    };
    let access = crate::auth::Access::of(&caller, String::new(), String::new());
    assert_eq!(access.scope, Some(Scope::Csi));
    assert_eq!(access.containers, ["gold"]);
    assert_eq!(access.kubernetes, ["prod"]);
}

#[test]
fn two_certificates_of_a_name_are_two_tellers() {
    let caller = world::Caller::new(world::Role::Csi, "kubernetes");
    let of = |certificate: &str, from: &str| {
        crate::auth::Access::of(&caller, certificate.to_owned(), from.to_owned())
    };
    let (one, other) = (of("a1", "::1"), of("b2", "::1"));
    assert_eq!(one.who, other.who);
    assert_ne!(one.teller(), other.teller());
    assert_eq!(one.teller(), of("a1", "::2").teller(), "wherever it is");
    assert!(one.teller().starts_with("certificate csi kubernetes #"));
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

const PERSONAL: &str = r#"{"name":"t","scope":"viewer","personal":true}"#;

#[tokio::test]
async fn a_session_makes_deletes_and_lists_its_users_own_tokens() {
    let server = accounts::start().await;
    let user = Some("viewer".to_owned());
    let session = accounts::log_in_as(&server, UserRole::Viewer);
    let headers = format!("Content-Type: application/json\r\n{session}");
    let create = "POST /api/v1/tokens";
    let (status, answer) = server.send(create, &headers, PERSONAL.as_bytes()).await;
    assert_eq!(status, 200, "{answer}");
    let Some(Operation::TokenCreate { user: of, hash, .. }) = server.asked() else {
        panic!("a token was to be made");
    };
    assert_eq!((of, hash.len()), (user.clone(), 64));
    // Whoever it is to be of is not the client's to say.
    let forged = r#"{"name":"t","scope":"viewer","personal":true,"user":"admin"}"#;
    let (status, _) = server.send(create, &headers, forged.as_bytes()).await;
    assert_eq!(status, 400);
    let delete = "DELETE /api/v1/tokens/t";
    let (status, answer) = server.send(delete, &headers, b"").await;
    assert_eq!(status, 200, "{answer}");
    let Some(Operation::TokenDelete { user: of, .. }) = server.asked() else {
        panic!("a token was to be deleted");
    };
    assert_eq!(of, user);
    // On top of a version, too.
    let on = format!("{headers}If-Match: \"7\"\r\n");
    server.send(delete, &on, b"").await;
    let Some(Operation::Conditional { version: 7, change }) = server.asked() else {
        panic!("a token was to be deleted on top of a version");
    };
    assert_eq!(
        *change,
        Operation::TokenDelete {
            name: "t".to_owned(),
            user
        }
    );
    // An administrator deletes anybody's, with a personal token as well.
    for token in [ADMIN, ANNS] {
        let (status, _) = send(&server, delete, "", Some(token)).await;
        assert_eq!(status, 200);
        let Some(Operation::TokenDelete { user: None, .. }) = server.asked() else {
            panic!("a token was to be deleted");
        };
    }
}

#[tokio::test]
async fn users_see_their_own_tokens_and_administrators_those_of_all() {
    let server = accounts::start().await;
    server.fake.furnish();
    let list = async |headers: &str| -> Vec<TokenAnswer> {
        let (status, answer) = server.send("GET /api/v1/tokens", headers, b"").await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    };
    let viewer = list(&accounts::log_in_as(&server, UserRole::Viewer)).await;
    let viewer: Vec<&str> = viewer.iter().map(|token| &*token.name).collect();
    assert_eq!(viewer, ["viewers"]);
    let operator = list(&accounts::log_in_as(&server, UserRole::Operator)).await;
    assert!(operator.is_empty(), "{operator:?}");
    let admin = list(&accounts::log_in_as(&server, UserRole::Admin)).await;
    let whose: Vec<Option<&str>> = admin.iter().map(|token| token.user.as_deref()).collect();
    assert_eq!(whose, [None, Some("viewer")]);
    let headers = accounts::log_in_as(&server, UserRole::Admin);
    let (_, answer) = server
        .send("GET /api/v1/tokens?user=viewer", &headers, b"")
        .await;
    assert!(
        answer.contains("viewers") && !answer.contains(r#""t""#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_token_makes_no_personal_token_and_a_personal_one_lets_nobody_in() {
    let server = guarded().await;
    let cases = [
        ("POST /api/v1/tokens", PERSONAL),
        ("POST /api/v1/tokens", r#"{"name":"t","scope":"viewer"}"#),
        ("POST /api/v1/join-tokens", "{}"),
        (
            "POST /api/v1/users",
            r#"{"name":"u","role":"viewer","password":"long enough"}"#,
        ),
        ("PATCH /api/v1/users/u", r#"{"password":"long enough"}"#),
    ];
    for (request, body) in cases {
        for token in [VERAS, OLGAS, ANNS] {
            let (status, answer) = send(&server, request, body, Some(token)).await;
            assert_eq!(status, 403, "{request} with {token}: {answer}");
            assert!(matches!(server.asked(), Some(Operation::TokenFind { .. })));
            assert_eq!(server.asked(), None, "nothing is carried out");
        }
    }
    let (status, answer) = send(&server, "POST /api/v1/tokens", PERSONAL, Some(ADMIN)).await;
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("azekura session create"), "{answer}");
    // All else is as the user may.
    let (status, _) = send(&server, "DELETE /api/v1/users/u", "", Some(ANNS)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn the_audit_log_names_user_and_token() {
    let server = guarded().await;
    for (token, expected) in [(OLGAS, 200), (VERAS, 403)] {
        let (status, _) = send(&server, "DELETE /api/v1/volumes/v", "", Some(token)).await;
        assert_eq!(status, expected);
    }
    let (status, _) = send(&server, "POST /api/v1/tokens", PERSONAL, Some(ADMIN)).await;
    assert_eq!(status, 403);
    // Reading the log waits for what is not written yet.
    send(&server, "GET /api/v1/audit", "", Some(ADMIN)).await;
    let audited = server.fake.audited.lock().unwrap().clone();
    let told = audited
        .iter()
        .map(|entry| (&*entry.who, &*entry.operation, &*entry.outcome));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("user olga, token t", "volume-delete", "done"),
            ("user vera, token t", "volume-delete", "forbidden"),
            ("the node's own token", "token-create", "forbidden"),
        ]
    );
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

#[tokio::test]
async fn a_driver_tells_lines_as_itself_and_sees_those_alone() {
    let server = guarded().await;
    let told = r#"{"host":"w","component":"csi-node","lines":[]}"#;
    let (status, answer) = send(&server, "POST /api/v1/logs", told, Some(LIMITED)).await;
    assert_eq!(status, 200, "{answer}");
    let Some(Operation::LogReport { by, .. }) = server.asked() else {
        panic!("lines were told");
    };
    assert!(by.starts_with("token t #"), "{by}");
    let impostor = r#"{"host":"w","component":"csi-node","lines":[],"by":"node one"}"#;
    let (status, _) = send(&server, "POST /api/v1/logs", impostor, Some(LIMITED)).await;
    assert_eq!(status, 400);
    let line = r#"{"component":"attach","at_ms":5,"level":"info","target":"t","message":"m"}"#;
    let many = [line; 257].join(",");
    let many = format!(r#"{{"host":"w","component":"csi-node","lines":[{many}]}}"#);
    let (status, answer) = send(&server, "POST /api/v1/logs", &many, Some(LIMITED)).await;
    assert!(status == 400 && answer.contains("257"), "{status} {answer}");
    // Whatever the query says. All these tokens have one name.
    let request = "GET /api/v1/logs?volume=db";
    for (token, wanted) in [(LIMITED, Some(true)), (CSI, Some(false)), (VIEWER, None)] {
        let looked = send_head(&server, request, token).await;
        assert_eq!(looked, 200, "{token}");
        let Some(Operation::Logs(query)) = server.asked() else {
            panic!("lines were looked for");
        };
        let same = query.by.map(|one| one == by);
        assert_eq!(same, wanted, "{token}");
    }
    // The places of those who follow are few, and people's.
    let follow = "GET /api/v1/logs/follow";
    assert_eq!(send_head(&server, follow, CSI).await, 403);
    assert_eq!(send_head(&server, follow, VIEWER).await, 200);
    let (status, _) = send(&server, "GET /api/v1/logs?by=x", "", Some(CSI)).await;
    assert_eq!(status, 400, "nobody says it himself");
}

/// The status of an answer that may have no end.
async fn send_head(server: &Server, request: &str, token: &str) -> u16 {
    let headers = format!("Authorization: Bearer {token}\r\n");
    super::matrix::status(server, request, &headers, "").await
}
