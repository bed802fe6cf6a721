//! Answers of the API in the words of the specification.

use super::away::create;
use super::fake::{Asked, Fake, Plugins, Reply, cluster, containers, refusal, snapshot, volume};
use csi::v1::*;
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tonic::{Code, Status};

/// An API that knows who it is, and answers everything else in one way.
fn fake(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Fake {
    Fake::start(move |asked| match asked.path.as_str() {
        "/api/v1/cluster" => cluster(),
        "/api/v1/containers" => containers(),
        _ => answer(asked),
    })
}

fn get_volume(plugins: &Plugins) -> Result<ControllerGetVolumeResponse, Status> {
    let request = ControllerGetVolumeRequest {
        volume_id: "fake-v1".to_owned(),
    };
    plugins.wait(plugins.controller().controller_get_volume(request))
}

#[test]
fn refusals_become_the_codes_of_the_specification() {
    for (status, kind, code) in [
        (400, "bad-request", Code::InvalidArgument),
        (404, "not-found", Code::NotFound),
        (409, "exists", Code::AlreadyExists),
        (409, "in-use", Code::FailedPrecondition),
        (409, "refused", Code::FailedPrecondition),
        (409, "no-space", Code::ResourceExhausted),
        (500, "failed", Code::Internal),
        (401, "unauthenticated", Code::Internal),
        (403, "forbidden", Code::Internal),
    ] {
        let fake = fake(move |_| refusal(status, kind));
        let refused = get_volume(&Plugins::new(&[&fake.url])).expect_err(kind);
        assert_eq!(refused.code(), code, "{kind}");
        assert!(refused.message().contains("said: "), "{refused}");
        assert!(refused.details().is_empty());
    }
}

#[test]
fn cluster_that_is_unavailable_for_a_moment_is_asked_again_for_the_same_request() {
    let count = AtomicU32::new(0);
    let fake = fake(move |_| match count.fetch_add(1, Relaxed) {
        0 | 1 => refusal(503, "unavailable"),
        _ => Reply::Json(200, volume(1, "pvc")),
    });
    get_volume(&Plugins::new(&[&fake.url])).expect("in the end");
    let asked = fake.asked("/api/v1/volumes/");
    let ids = asked.iter().map(|asked| &asked.headers["x-request-id"]);
    let ids: Vec<&String> = ids.collect();
    assert_eq!(ids.len(), 3);
    assert!(
        ids[0].starts_with("csi-") && ids.iter().all(|id| *id == ids[0]),
        "{ids:?}"
    );
}

#[test]
fn what_is_not_the_api_is_called_so() {
    for (status, text) in [
        (200, "<html>"),
        (200, "{\"id\": 7}"),
        (404, "not here"),
        (301, ""),
    ] {
        let fake = fake(move |_| Reply::Text(status, text));
        let odd = get_volume(&Plugins::new(&[&fake.url])).expect_err(text);
        assert_eq!(odd.code(), Code::Internal);
        assert!(odd.message().contains("--api"), "{odd}");
    }
}

#[test]
fn token_is_read_for_every_call_and_is_never_told() {
    let fake = fake(|asked| match asked.headers.get("authorization") {
        Some(token) if token == "Bearer second" => Reply::Json(200, volume(1, "pvc")),
        _ => refusal(401, "unauthenticated"),
    });
    let plugins = Plugins::with_token(&[&fake.url], Some("token"));
    let missing = get_volume(&plugins).expect_err("no file");
    assert_eq!(missing.code(), Code::Internal);
    assert!(missing.message().contains("--token-file"), "{missing}");
    let file = plugins.folder.join("token");
    std::fs::write(&file, "first\n").unwrap();
    let refused = get_volume(&plugins).expect_err("not that one");
    assert_eq!(refused.code(), Code::Internal);
    assert!(refused.message().contains("scope csi"), "{refused}");
    assert!(!refused.message().contains("first"), "{refused}");
    std::fs::write(&file, "second\n").unwrap();
    get_volume(&plugins).expect("the new one");
}

#[test]
fn creation_whose_answer_was_lost_is_answered_with_what_was_made() {
    let count = AtomicU32::new(0);
    let fake = fake(
        move |asked| match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/api/v1/volumes") => match count.fetch_add(1, Relaxed) {
                0 => Reply::Hangup,
                _ => refusal(409, "exists"),
            },
            ("GET", "/api/v1/volumes/pvc") => Reply::Json(200, volume(1, "pvc")),
            _ => Reply::Text(500, "not expected"),
        },
    );
    let plugins = Plugins::new(&[&fake.url]);
    let created = plugins.wait(plugins.controller().create_volume(create("pvc")));
    assert_eq!(created.unwrap().volume.unwrap().volume_id, "fake-v1");
    assert_eq!(fake.asked("/api/v1/volumes").len(), 3);
}

#[test]
fn name_of_a_volume_that_is_being_deleted_is_free_in_a_moment() {
    for gone in [false, true] {
        let fake = fake(move |asked| match asked.method.as_str() {
            "POST" => refusal(409, "exists"),
            _ if gone => refusal(404, "not-found"),
            _ => {
                let mut answer = volume(1, "pvc");
                answer["state"] = "deleting".into();
                Reply::Json(200, answer)
            }
        });
        let plugins = Plugins::new(&[&fake.url]);
        let refused = plugins.wait(plugins.controller().create_volume(create("pvc")));
        let refused = refused.expect_err("not yet");
        assert_eq!(refused.code(), Code::Aborted);
        assert!(refused.message().contains("deleted"), "{refused}");
    }
}

#[test]
fn volume_that_is_not_well_says_why() {
    let fake = fake(|_| {
        let mut answer = volume(1, "pvc");
        answer["state"] = "stopped".into();
        answer["reason"] = "both copies are away".into();
        Reply::Json(200, answer)
    });
    let shown = get_volume(&Plugins::new(&[&fake.url])).unwrap();
    let condition = shown.status.unwrap().volume_condition.unwrap();
    assert!(condition.abnormal);
    assert!(
        condition.message.contains("both copies are away"),
        "{condition:?}"
    );
}

/// A page of a diff with one range.
fn page(offset: u64, next: Option<u64>) -> Reply {
    let runs = [json!({"offset": offset, "length": 4096, "zero": false})];
    Reply::Json(
        200,
        json!({"volume": "pvc", "runs": runs, "next": next, "size": 64 << 20}),
    )
}

#[test]
fn stream_that_cannot_go_on_ends_with_an_error_after_what_was_told() {
    let fake = fake(|asked| match asked.path.as_str() {
        "/api/v1/snapshots/1" => Reply::Json(200, snapshot(1)),
        path if path.contains("offset=0&") => page(0, Some(8192)),
        path if path.contains("offset=8192&") => refusal(500, "failed"),
        _ => Reply::Text(500, "not expected"),
    });
    let plugins = Plugins::new(&[&fake.url]);
    let request = GetMetadataAllocatedRequest {
        snapshot_id: "fake-s1".to_owned(),
        max_results: 1,
        ..Default::default()
    };
    let mut client = plugins.metadata();
    let (told, end) = plugins.block_on(async {
        let mut stream = client
            .get_metadata_allocated(request)
            .await
            .unwrap()
            .into_inner();
        let told = stream.message().await.unwrap().unwrap();
        (told, stream.message().await)
    });
    assert_eq!(told.block_metadata[0].size_bytes, 4096);
    assert_eq!(end.expect_err("not whole").code(), Code::Internal);
}

#[test]
fn page_that_does_not_go_on_is_not_asked_for_for_ever() {
    let fake = fake(|asked| match asked.path.as_str() {
        "/api/v1/snapshots/1" => Reply::Json(200, snapshot(1)),
        _ => page(0, Some(0)),
    });
    let plugins = Plugins::new(&[&fake.url]);
    let request = GetMetadataAllocatedRequest {
        snapshot_id: "fake-s1".to_owned(),
        ..Default::default()
    };
    let mut client = plugins.metadata();
    plugins.block_on(async {
        let mut stream = client
            .get_metadata_allocated(request)
            .await
            .unwrap()
            .into_inner();
        while stream.message().await.unwrap().is_some() {}
    });
    assert_eq!(fake.asked("/api/v1/volumes/volume-1/diff").len(), 1);
}
