//! Versions as tags, changes on top of them, and lists in pages.

use super::Server;
use api::{
    Answer, DiskAnswer, GroupSnapshotAnswer, Operation, OperationError, Scope, StoreAnswer,
    TokenAnswer, VolumeAnswer,
};
use serde_json::Value;

/// The one that is not stale.
pub(super) const VERSION: u64 = 7;

pub(super) fn volume() -> Answer {
    Answer::Volume(VolumeAnswer {
        name: "versioned".to_owned(),
        version: Some(VERSION),
        ..VolumeAnswer::default()
    })
}

pub(super) fn list(operation: &Operation) -> Result<Answer, OperationError> {
    let store = |id| StoreAnswer {
        id,
        ..StoreAnswer::default()
    };
    let group = |id: u64| GroupSnapshotAnswer {
        id: id.to_string(),
        ..GroupSnapshotAnswer::default()
    };
    let disk = |(node, store, path): (&str, u32, &str)| DiskAnswer {
        node: node.to_owned(),
        store,
        path: path.to_owned(),
        ..DiskAnswer::default()
    };
    let token = |name: &str| TokenAnswer {
        name: name.to_owned(),
        scope: Scope::Viewer,
        user: None,
        containers: Vec::new(),
        kubernetes: Vec::new(),
        all_containers: false,
        created_ms: 1,
        token: None,
        version: Some(VERSION),
    };
    Ok(match operation {
        Operation::StoreList => Answer::Stores([2, 10, 30].map(store).into()),
        Operation::GroupSnapshotList => Answer::GroupSnapshots([9, 10, 11].map(group).into()),
        Operation::DiskList => {
            let disks = [("a", 2, "/dev/x"), ("a", 10, "/dev/x"), ("b", 3, "/dev/y")];
            Answer::Disks(disks.map(disk).into())
        }
        _ => Answer::Tokens(["a", "b", "c"].map(token).into()),
    })
}

const JSON: &str = "Content-Type: application/json\r\n";
const SHOW: &str = "GET /api/v1/volumes/versioned";
const RESIZE: &str = "POST /api/v1/volumes/v/resize";

async fn on(server: &Server, request: &str, condition: &str, body: &str) -> (u16, String) {
    let headers = format!("{JSON}{condition}\r\n");
    server.send(request, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn what_is_known_is_not_sent_again() {
    let server = Server::start().await;
    let (status, head, body) = server.whole(SHOW, "", b"").await;
    assert!(status == 200 && head.contains("etag: \"7\""), "{head}");
    assert!(body.contains(r#""version":7"#), "{body}");
    for known in ["\"7\"", "W/\"7\"", "\"6\", \"7\"", "*"] {
        let headers = format!("If-None-Match: {known}\r\n");
        let (status, head, body) = server.whole(SHOW, &headers, b"").await;
        assert_eq!((status, body.as_str()), (304, ""), "{known}");
        assert!(
            head.contains("etag: \"7\"") && head.contains("x-request-id"),
            "{head}"
        );
    }
    for other in ["\"6\"", "7", "nonsense"] {
        let headers = format!("If-None-Match: {other}\r\n");
        let (status, _, body) = server.whole(SHOW, &headers, b"").await;
        assert!(status == 200 && body.contains("versioned"), "{other}");
    }
    // One container, which is changed on top of what is read, is as one volume.
    let one = "GET /api/v1/containers/versioned";
    let (status, head, _) = server.whole(one, "", b"").await;
    assert!(status == 200 && head.contains("etag: \"7\""), "{head}");
    let (status, ..) = server.whole(one, "If-None-Match: \"7\"\r\n", b"").await;
    assert_eq!(status, 304);
    // What has no version is always sent.
    let headers = "If-None-Match: *\r\n";
    let (status, head, _) = server.whole("GET /api/v1/volumes/v", headers, b"").await;
    assert!(status == 200 && !head.contains("etag"), "{head}");
}

#[tokio::test]
async fn a_condition_is_part_of_the_operation() {
    let server = Server::start().await;
    let resize = r#"{"size":8192}"#;
    let bare = Operation::VolumeResize {
        name: "v".to_owned(),
        size: 8192,
    };
    let (status, _) = on(&server, RESIZE, "If-Match: \"7\"", resize).await;
    assert_eq!(status, 200);
    assert_eq!(server.asked(), Some(bare.clone().on_top_of(Some(7))));
    let (status, body) = on(&server, RESIZE, "If-Match: \"6\"", resize).await;
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &problem["kind"]), (412, &Value::from("changed")));
    assert!(
        problem["remedy"]
            .as_str()
            .unwrap()
            .contains("read it again")
    );
    assert_eq!(server.asked(), Some(bare.clone().on_top_of(Some(6))));
    let (status, _) = on(&server, RESIZE, "If-Match: *", resize).await;
    assert_eq!((status, server.asked()), (200, Some(bare)));
}

#[tokio::test]
async fn odd_conditions_and_those_that_cannot_be_kept_are_refused() {
    let server = Server::start().await;
    for (odd, why) in [
        ("If-Match: W/\"7\"", "weak"),
        ("If-Match: 7", "number in quotes"),
        ("If-Match: \"x\"", "number in quotes"),
        ("If-Match: \"7\", \"8\"", "several"),
        ("If-Match: \"7\"\r\nIf-Match: \"8\"", "several"),
        ("If-None-Match: *", "requests that look"),
    ] {
        let (status, body) = on(&server, RESIZE, odd, r#"{"size":8192}"#).await;
        assert!(status == 400 && body.contains(why), "{odd}: {body}");
    }
    let (status, body) = on(&server, "PUT /api/v1/volumes/v", "If-Match: 7", "{}").await;
    assert_eq!(status, 405, "there is no such method: {body}");
    for request in [
        "POST /api/v1/containers",
        "POST /api/v1/volumes/v/drain",
        "POST /api/v1/volumes/v/release",
        "DELETE /api/v1/volumes/v/snapshots/s",
        "DELETE /api/v1/group-snapshots/1",
        "DELETE /api/v1/nodes/n",
        "DELETE /api/v1/stores/3",
        "POST /api/v1/alerts/1/acknowledge",
        "POST /api/v1/session",
        "DELETE /api/v1/session",
        "POST /api/v1/session/password",
        "POST /api/v1/join",
    ] {
        let body = match request {
            "POST /api/v1/containers" => r#"{"name":"c"}"#,
            _ => "{}",
        };
        for condition in ["If-Match: \"7\"", "If-Match: *"] {
            let (status, body) = on(&server, request, condition, body).await;
            assert!(
                status == 400 && body.contains("cannot depend on a version"),
                "{request}: {body}"
            );
        }
    }
    assert_eq!(server.asked(), None);
}

#[tokio::test]
async fn a_condition_is_part_of_what_an_idempotency_key_is_for() {
    let server = Server::start().await;
    let delete = "DELETE /api/v1/containers/c";
    let keyed = "Idempotency-Key: k\r\nIf-Match: ";
    let seven = format!("{keyed}\"7\"");
    for _ in 0..2 {
        let (status, _) = on(&server, delete, &seven, "").await;
        assert_eq!(status, 200);
    }
    assert_eq!(server.fake.changes_asked(), 1, "and not twice");
    let other = format!("{keyed}\"8\"");
    let (status, body) = on(&server, delete, &other, "").await;
    assert!(status == 400 && body.contains("another request"), "{body}");
}

#[tokio::test]
async fn the_audit_log_says_the_condition() {
    let server = Server::start().await;
    on(&server, RESIZE, "If-Match: \"7\"", r#"{"size":8192}"#).await;
    server.json("GET /api/v1/audit", "").await;
    let audited = server.fake.audited.lock().unwrap().clone();
    let entry = audited.last().expect("it is told");
    assert_eq!(
        (entry.operation.as_str(), entry.subject.as_str()),
        ("volume-resize", "v")
    );
    assert_eq!(entry.after.as_ref().unwrap()["if_version"], 7);
    assert_eq!(entry.after.as_ref().unwrap()["size"], 8192);
}

/// What a list answers, by one field of its items.
async fn page(server: &Server, path: &str, field: &str) -> Vec<String> {
    let (status, body) = server.json(&format!("GET /api/v1/{path}"), "").await;
    assert_eq!(status, 200, "{path}: {body}");
    let items: Vec<Value> = serde_json::from_str(&body).unwrap();
    let text = |item: &Value| item[field].to_string().trim_matches('"').to_owned();
    items.iter().map(text).collect()
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::start().await;
    assert_eq!(page(&server, "stores", "id").await, ["2", "10", "30"]);
    assert_eq!(page(&server, "stores?limit=1", "id").await, ["2"]);
    assert_eq!(page(&server, "stores?limit=1&after=2", "id").await, ["10"]);
    assert_eq!(page(&server, "stores?after=10", "id").await, ["30"]);
    let groups = page(&server, "group-snapshots?limit=2&after=9", "id").await;
    assert_eq!(groups, ["10", "11"]);
    assert_eq!(page(&server, "tokens?limit=2", "name").await, ["a", "b"]);
    assert_eq!(page(&server, "tokens?after=b", "name").await, ["c"]);
    assert_eq!(page(&server, "containers?after=e", "name").await, ["fast"]);
    assert!(
        page(&server, "containers?after=fast", "name")
            .await
            .is_empty()
    );
    assert_eq!(
        page(&server, "stores?sort=-id", "id").await,
        ["30", "10", "2"]
    );
    assert_eq!(
        page(&server, "tokens?sort=-name&after=c", "name").await,
        ["b", "a"]
    );
    let disks = page(&server, "disks?limit=2&after=a/2//dev/x", "store").await;
    assert_eq!(disks, ["10", "3"]);
    for odd in [
        "stores?limit=0",
        "stores?limit=1001",
        "stores?after=x",
        "stores?sort=size",
        "tokens?limit=0",
        "users?limit=x",
        "disks?after=x",
        "alert-targets?limit=0",
        "group-snapshots?after=-1",
    ] {
        let (status, body) = server.json(&format!("GET /api/v1/{odd}"), "").await;
        assert_eq!(status, 400, "{odd}: {body}");
    }
}

#[test]
fn the_document_says_which_requests_take_a_condition() {
    let document = super::openapi::document();
    let takes = |operation: &Value, name: &str| {
        let wanted = format!("#/components/parameters/{name}");
        let parameters = operation["parameters"].as_array().unwrap();
        parameters.iter().any(|one| one["$ref"] == wanted)
    };
    let mut found = (0, 0);
    for item in document["paths"].as_object().unwrap().values() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap();
            let conditional = takes(operation, "if-match");
            assert_eq!(conditional, answers.contains_key("412"), "{operation}");
            let known = takes(operation, "if-none-match");
            assert_eq!(known, answers.contains_key("304"), "{operation}");
            assert!(
                !known
                    || (method == "get"
                        && operation["responses"]["200"]["headers"]["etag"].is_object())
            );
            assert!(!conditional || method != "get");
            found.0 += usize::from(conditional);
            found.1 += usize::from(known);
        }
    }
    // Set and delete of containers, volumes and users; resize, restore, attach, detach; nodes, stores; tokens, targets. Known: one
    // container, volume, node, store, user, token and target.
    assert_eq!(found, (14, 7));
}
