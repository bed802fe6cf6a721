//! The same change asked for twice under one key.

use super::Server;
use api::{Answer, OnceAnswer, OnceStep, Operation};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// What the catalog would remember: requests and answers by key.
#[derive(Default)]
pub(super) struct Keys(Mutex<BTreeMap<String, (String, Option<Value>)>>);

impl Keys {
    pub(super) fn answer(&self, operation: &Operation) -> Option<Answer> {
        let mut keys = self.0.lock().unwrap();
        match operation {
            Operation::Once(OnceStep::Begin { digest, request }) => {
                let stands = match keys.get(digest) {
                    None => OnceAnswer::Begun,
                    Some((other, _)) if other != request => OnceAnswer::Other,
                    Some((_, None)) => OnceAnswer::Running,
                    Some((_, Some(answer))) => OnceAnswer::Answered(answer.clone()),
                };
                if stands == OnceAnswer::Begun {
                    keys.insert(digest.clone(), (request.clone(), None));
                }
                Some(Answer::Once(stands))
            }
            Operation::Once(OnceStep::End { digest, answer, .. }) => {
                match answer {
                    Some(_) => keys.get_mut(digest).unwrap().1.clone_from(answer),
                    None => drop(keys.remove(digest)),
                }
                Some(Answer::Done)
            }
            _ => None,
        }
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

async fn keyed(server: &Server, request: &str, key: &str, body: &str) -> (u16, bool, String) {
    let headers = format!("{JSON}Idempotency-Key: {key}\r\n");
    let (status, head, body) = server.whole(request, &headers, body.as_bytes()).await;
    let replayed = head.to_lowercase().contains("idempotency-replayed: true");
    (status, replayed, body)
}

const CREATE: &str = "POST /api/v1/containers";

#[tokio::test]
async fn a_change_under_a_key_is_carried_out_once() {
    let server = Server::start().await;
    let first = keyed(&server, CREATE, "k-1", r#"{"name":"c"}"#).await;
    assert_eq!(first, (200, false, "{}".to_owned()));
    assert!(matches!(
        server.asked(),
        Some(Operation::ContainerCreate(_))
    ));
    let again = keyed(&server, CREATE, "\"k-1\"", r#"{"name":"c"}"#).await;
    assert_eq!(again, (200, true, "{}".to_owned()));
    assert_eq!(server.asked(), None, "and not twice");
    let (status, _, body) = keyed(&server, CREATE, "k-1", r#"{"name":"d"}"#).await;
    assert!(status == 400 && body.contains("another request"), "{body}");
    assert_eq!(server.asked(), None);
    let (status, replayed, _) = keyed(&server, CREATE, "k-2", r#"{"name":"c"}"#).await;
    assert!(status == 200 && !replayed && server.asked().is_some());
}

#[tokio::test]
async fn what_was_begun_ends_without_its_client() {
    let server = Server::start().await;
    let drain = "POST /api/v1/volumes/v/drain";
    // The gate is shut, and the client hangs up before there is an answer.
    let patient = Duration::from_millis(200);
    let hung_up = tokio::time::timeout(patient, keyed(&server, drain, "k", "{}")).await;
    assert!(hung_up.is_err());
    let (status, _, body) = keyed(&server, drain, "k", "{}").await;
    assert!(status == 503 && body.contains("no answer yet"), "{body}");
    server.fake.gate.add_permits(8);
    let answered = loop {
        let answered = keyed(&server, drain, "k", "{}").await;
        if answered.0 != 503 {
            break answered;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(
        answered.0 == 200 && answered.1,
        "it went on without the client"
    );
    assert_eq!(server.fake.changes_asked(), 1);
}

#[tokio::test]
async fn what_failed_is_carried_out_again() {
    let server = Server::start().await;
    let resize = "POST /api/v1/volumes/full/resize";
    for _ in 0..2 {
        let (status, replayed, body) = keyed(&server, resize, "k", r#"{"size":4096}"#).await;
        assert!(
            status == 409 && !replayed && body.contains("no-space"),
            "{body}"
        );
        assert!(server.asked().is_some());
    }
    let (status, replayed, _) = keyed(&server, CREATE, "k", r#"{"name":"c"}"#).await;
    assert!(status == 200 && !replayed, "the key was never used up");
}

#[tokio::test]
async fn secrets_and_bad_keys_are_refused_and_looking_needs_no_key() {
    let server = Server::start().await;
    let token = r#"{"name":"t","scope":"viewer"}"#;
    let (status, _, body) = keyed(&server, "POST /api/v1/tokens", "k", token).await;
    assert!(
        status == 400 && body.contains("takes no `idempotency-key`"),
        "{body}"
    );
    let (status, _, body) = keyed(&server, CREATE, "a b", r#"{"name":"c"}"#).await;
    assert!(status == 400 && body.contains("letters, digits"), "{body}");
    assert_eq!(server.asked(), None);
    for _ in 0..2 {
        let (status, replayed, _) = keyed(&server, "GET /api/v1/status", "k", "").await;
        assert!(status == 200 && !replayed);
    }
}
