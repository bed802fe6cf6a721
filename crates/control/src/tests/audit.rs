//! What the audit log has of every change: what was there before, and what was asked for.

use super::tokens::OTHERS;
use super::{ROUTES, Server, volume};
use api::{
    AlertAnswer, AlertOperation, AlertTargetAnswer, Answer, AuditEntry, AuthorityAnswer,
    CatalogAnswer, ContainerAnswer, DiskAnswer, GroupSnapshotAnswer, KubernetesAnswer,
    KubernetesOperation, MemberAnswer, OpenSessionAnswer, Operation, Scope, SnapshotAnswer,
    TaskAnswer, TokenAnswer, UserAnswer, UserRole, VolumeAnswer,
};

const SECRET: &str = "hush";

/// What is there, with a secret wherever an answer has a place for one.
pub(super) fn there(operation: &Operation) -> Option<Answer> {
    let name = || "there".to_owned();
    let member = || {
        Answer::Member(MemberAnswer {
            node: name(),
            ..MemberAnswer::default()
        })
    };
    Some(match operation {
        Operation::NodeShow { .. } | Operation::StoreShow { .. } => member(),
        Operation::Glance {
            volume: of,
            snapshot: None,
        } => Answer::Volume(VolumeAnswer {
            description: Some("as it was".to_owned()),
            ..volume(of.clone())
        }),
        Operation::Glance {
            snapshot: Some(of), ..
        } => Answer::Snapshot(SnapshotAnswer {
            name: of.clone(),
            ..SnapshotAnswer::default()
        }),
        Operation::GroupSnapshotShow { id } => Answer::GroupSnapshot(GroupSnapshotAnswer {
            id: id.clone(),
            ..GroupSnapshotAnswer::default()
        }),
        Operation::ContainerList => Answer::Containers(vec![ContainerAnswer {
            name: "c".to_owned(),
            ..ContainerAnswer::default()
        }]),
        Operation::UserList => Answer::Users(vec![UserAnswer {
            name: "u".to_owned(),
            role: UserRole::Admin,
            created_ms: 1,
            sessions: 2,
            version: None,
        }]),
        Operation::TokenList => {
            let token = |name: &str, user: Option<&str>| TokenAnswer {
                name: name.to_owned(),
                scope: Scope::Viewer,
                user: user.map(str::to_owned),
                containers: Vec::new(),
                kubernetes: Vec::new(),
                all_containers: false,
                created_ms: 1,
                token: Some(SECRET.to_owned()),
                version: None,
            };
            Answer::Tokens(vec![token("t", None), token("viewers", Some("viewer"))])
        }
        Operation::SessionList { .. } => Answer::Sessions(vec![OpenSessionAnswer {
            id: "0af9".to_owned(),
            user: "u".to_owned(),
            ..OpenSessionAnswer::default()
        }]),
        Operation::TaskShow { id } => Answer::Task(TaskAnswer {
            id: *id,
            ..TaskAnswer::default()
        }),
        Operation::DiskList => Answer::Disks(vec![DiskAnswer {
            store: 3,
            ..DiskAnswer::default()
        }]),
        Operation::CatalogShow => Answer::Catalog(CatalogAnswer::default()),
        Operation::AuthorityShow => Answer::Authority(AuthorityAnswer {
            authorities: SECRET.to_owned(),
            ..AuthorityAnswer::default()
        }),
        Operation::Alert(AlertOperation::Show { id }) => Answer::Alert(AlertAnswer {
            id: *id,
            ..AlertAnswer::default()
        }),
        Operation::Alert(AlertOperation::TargetList) => {
            Answer::AlertTargets(vec![AlertTargetAnswer {
                name: "t".to_owned(),
                address: format!("https://user:{SECRET}@pager.test"),
                ..AlertTargetAnswer::default()
            }])
        }
        Operation::Kubernetes(KubernetesOperation::Show { name }) => {
            Answer::Kubernetes(KubernetesAnswer {
                name: name.clone(),
                ..KubernetesAnswer::default()
            })
        }
        _ => return None,
    })
}

/// Changes before which there is nothing, and why.
const NOTHING_BEFORE: &[(&str, &str)] = &[
    ("POST /api/v1/containers", "it is new"),
    ("POST /api/v1/volumes", "it is new"),
    ("POST /api/v1/volumes/v/snapshots", "it is new"),
    ("POST /api/v1/group-snapshots", "it is new"),
    ("POST /api/v1/tokens", "it is new"),
    ("POST /api/v1/join-tokens", "it is new"),
    ("POST /api/v1/users", "it is new"),
    ("POST /api/v1/alert-targets", "it is new"),
    ("POST /api/v1/disks", "the store is new"),
    (
        "POST /api/v1/alert-targets/t/test",
        "a message is sent, and nothing changes",
    ),
];

/// Requests that change something for their driver alone, a thousand times a day.
const NOT_TOLD: &[&str] = &["PUT /api/v1/kubernetes/prod/report", "POST /api/v1/logs"];

/// Requests that are in no list of others, with what they send.
const MORE: &[(&str, &str)] = &[
    ("POST /api/v1/volumes/v/drain", ""),
    ("DELETE /api/v1/sessions/0af9", ""),
    ("DELETE /api/v1/tokens/t", ""),
];

async fn told_of(server: &Server, request: &str, body: &str) -> Vec<AuditEntry> {
    server.fake.audited.lock().unwrap().clear();
    server.json(request, body).await;
    // Reading the log waits for what is not written yet.
    let (status, answer) = server.json("GET /api/v1/audit", "").await;
    assert_eq!(status, 200, "{answer}");
    server.fake.audited.lock().unwrap().clone()
}

#[tokio::test]
async fn every_change_is_told_with_what_was_there_before_and_what_was_asked_for() {
    let server = Server::start().await;
    server.fake.gate.add_permits(usize::MAX >> 4);
    server.fake.furnish();
    let all = ROUTES.iter().chain(OTHERS);
    let all = all.map(|(request, body, _)| (*request, *body));
    let changes = all
        .chain(MORE.iter().copied())
        .filter(|(request, _)| !request.starts_with("GET ") && !NOT_TOLD.contains(request));
    let mut count = 0;
    for (request, body) in changes {
        let entries = told_of(&server, request, body).await;
        let [entry] = &entries[..] else {
            panic!("{request} is told once: {entries:?}");
        };
        let nothing = NOTHING_BEFORE.iter().any(|(known, _)| *known == request);
        let before = entry.before.as_ref().and_then(|before| before.as_object());
        match nothing {
            true => assert_eq!(before, None, "{request}"),
            false => {
                let before = before.unwrap_or_else(|| panic!("{request}: {entry:?}"));
                assert!(!before.is_empty(), "{request}: what was there is said");
            }
        }
        assert!(
            entry
                .after
                .as_ref()
                .is_some_and(serde_json::Value::is_object),
            "{request}: what was asked for is said: {entry:?}"
        );
        let text = serde_json::to_string(entry).unwrap();
        for secret in [SECRET, "argon2", "long enough", "http://t"] {
            assert!(!text.contains(secret), "{request} tells {secret}: {text}");
        }
        count += 1;
    }
    assert!(count > 35, "{count} changes");
}

#[tokio::test]
async fn what_a_change_answers_is_what_comes_after() {
    let server = Server::start().await;
    server.fake.furnish();
    let entries = told_of(&server, "POST /api/v1/volumes/v/resize", r#"{"size":8192}"#).await;
    let (before, after) = (&entries[0].before, &entries[0].after);
    assert_eq!(before.as_ref().unwrap()["description"], "as it was");
    assert_eq!(after.as_ref().unwrap()["size"], 8192);
    let long = "x".repeat(9000);
    let body = format!(r#"{{"description":"{long}","labels":{{"app":"db"}}}}"#);
    let entries = told_of(&server, "PATCH /api/v1/volumes/v", &body).await;
    let after = entries[0].after.as_ref().unwrap();
    assert_eq!(after["cut"], serde_json::json!(["description"]));
    assert_eq!(after["labels"]["app"], "db");
    assert!(after.to_string().len() <= 4096, "{after}");
}
