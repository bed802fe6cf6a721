//! No answer, or a late one: every operation ends before its caller has stopped waiting.

use super::fake::{Asked, Fake, Plugins, Reply, cluster, nobody, volume};
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume};
use csi::v1::*;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tonic::{Code, Request, Status};

/// How long the callers wait.
const DEADLINE: Duration = Duration::from_millis(500);

type Outcome = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// A call of one operation whose request is in order.
macro_rules! call {
    ($client:expr, $operation:ident, $request:expr) => {{
        let (mut client, mut request) = ($client, Request::new($request));
        request.set_timeout(DEADLINE);
        let outcome = async move { client.$operation(request).await.map(drop) };
        (stringify!($operation), Box::pin(outcome) as Outcome)
    }};
}

fn text(value: &str) -> String {
    value.to_owned()
}

pub fn block() -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Block(BlockVolume {})),
        access_mode: Some(AccessMode {
            mode: Mode::SingleNodeWriter.into(),
        }),
    }
}

pub fn create(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: text(name),
        volume_capabilities: vec![block()],
        ..Default::default()
    }
}

fn range() -> Option<CapacityRange> {
    Some(CapacityRange {
        required_bytes: 1 << 30,
        limit_bytes: 0,
    })
}

/// What concerns volumes, at the controller.
fn of_volumes(plugins: &Plugins) -> Vec<(&'static str, Outcome)> {
    let client = || plugins.controller();
    let volume_id = || text("fake-v1");
    let capabilities = || vec![block()];
    let publish = ControllerPublishVolumeRequest {
        volume_id: volume_id(),
        node_id: text("worker@fake"),
        volume_capability: Some(block()),
        ..Default::default()
    };
    let unpublish = ControllerUnpublishVolumeRequest {
        volume_id: volume_id(),
        ..Default::default()
    };
    let validate = ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id(),
        volume_capabilities: capabilities(),
        ..Default::default()
    };
    let expand = ControllerExpandVolumeRequest {
        volume_id: text("fake-v3"),
        capacity_range: range(),
        ..Default::default()
    };
    let modify = ControllerModifyVolumeRequest {
        volume_id: text("fake-v4"),
        ..Default::default()
    };
    let delete = DeleteVolumeRequest {
        volume_id: text("fake-v5"),
        ..Default::default()
    };
    let get = ControllerGetVolumeRequest {
        volume_id: volume_id(),
    };
    let unpublish = ControllerUnpublishVolumeRequest {
        volume_id: text("fake-v2"),
        ..unpublish
    };
    vec![
        call!(client(), create_volume, create("pvc")),
        call!(client(), delete_volume, delete),
        call!(client(), controller_publish_volume, publish),
        call!(client(), controller_unpublish_volume, unpublish),
        call!(client(), validate_volume_capabilities, validate),
        call!(client(), list_volumes, ListVolumesRequest::default()),
        call!(client(), controller_get_volume, get),
        call!(client(), get_capacity, GetCapacityRequest::default()),
        call!(client(), controller_expand_volume, expand),
        call!(client(), controller_modify_volume, modify),
    ]
}

/// What concerns snapshots.
fn of_snapshots(plugins: &Plugins) -> Vec<(&'static str, Outcome)> {
    let (client, groups) = (|| plugins.controller(), || plugins.groups());
    let take = CreateSnapshotRequest {
        source_volume_id: text("fake-v1"),
        name: text("snap"),
        ..Default::default()
    };
    let delete = DeleteSnapshotRequest {
        snapshot_id: text("fake-s1"),
        ..Default::default()
    };
    let get = GetSnapshotRequest {
        snapshot_id: text("fake-s1"),
        ..Default::default()
    };
    let group = CreateVolumeGroupSnapshotRequest {
        name: text("group"),
        source_volume_ids: vec![text("fake-v1")],
        ..Default::default()
    };
    let delete_group = DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: text("fake-g1"),
        ..Default::default()
    };
    let get_group = GetVolumeGroupSnapshotRequest {
        group_snapshot_id: text("fake-g1"),
        ..Default::default()
    };
    vec![
        call!(client(), create_snapshot, take),
        call!(client(), delete_snapshot, delete),
        call!(client(), list_snapshots, ListSnapshotsRequest::default()),
        call!(client(), get_snapshot, get),
        call!(groups(), create_volume_group_snapshot, group),
        call!(groups(), delete_volume_group_snapshot, delete_group),
        call!(groups(), get_volume_group_snapshot, get_group),
    ]
}

/// What concerns a machine.
fn on_node(plugins: &Plugins) -> Vec<(&'static str, Outcome)> {
    let client = || plugins.node();
    let (staging, target) = (|| text("/nowhere/staging"), || text("/nowhere/target"));
    let stage = NodeStageVolumeRequest {
        volume_id: text("fake-v1"),
        publish_context: [(text("generation"), text("1"))].into(),
        staging_target_path: staging(),
        volume_capability: Some(block()),
        ..Default::default()
    };
    let unstage = NodeUnstageVolumeRequest {
        volume_id: text("fake-v2"),
        staging_target_path: staging(),
    };
    let publish = NodePublishVolumeRequest {
        volume_id: text("fake-v3"),
        staging_target_path: staging(),
        target_path: target(),
        volume_capability: Some(block()),
        ..Default::default()
    };
    let unpublish = NodeUnpublishVolumeRequest {
        volume_id: text("fake-v4"),
        target_path: target(),
    };
    let stats = NodeGetVolumeStatsRequest {
        volume_id: text("fake-v1"),
        volume_path: target(),
        ..Default::default()
    };
    let expand = NodeExpandVolumeRequest {
        volume_id: text("fake-v5"),
        volume_path: target(),
        ..Default::default()
    };
    vec![
        call!(client(), node_stage_volume, stage),
        call!(client(), node_unstage_volume, unstage),
        call!(client(), node_publish_volume, publish),
        call!(client(), node_unpublish_volume, unpublish),
        call!(client(), node_get_volume_stats, stats),
        call!(client(), node_expand_volume, expand),
        call!(client(), node_get_info, NodeGetInfoRequest {}),
    ]
}

/// Asks everything at once; what each was answered, all within the deadline.
fn ask_all(plugins: &Plugins) -> Vec<(&'static str, Status)> {
    let mut calls = of_volumes(plugins);
    calls.extend(of_snapshots(plugins));
    calls.extend(on_node(plugins));
    assert_eq!(calls.len(), 24);
    let began = Instant::now();
    let outcomes = plugins.block_on(async {
        let spawned = calls
            .into_iter()
            .map(|(name, call)| (name, tokio::spawn(call)));
        let mut outcomes = Vec::new();
        for (name, call) in spawned.collect::<Vec<_>>() {
            let outcome = call.await.unwrap();
            outcomes.push((name, outcome.expect_err(name)));
        }
        outcomes
    });
    // What a busy machine adds.
    let bound = DEADLINE + Duration::from_millis(1500);
    assert!(began.elapsed() < bound, "{:?}", began.elapsed());
    outcomes
}

#[test]
fn cluster_that_is_away_makes_every_operation_unavailable_and_none_hang() {
    let plugins = Plugins::new(&[&nobody(), &nobody()]);
    for (name, status) in ask_all(&plugins) {
        assert_eq!(status.code(), Code::Unavailable, "{name}: {status}");
        let helps = status.message().contains("is a storage node running");
        assert!(helps, "{name}: {status}");
    }
    // What is mounted goes on, so the node is ready; the controller can do nothing.
    for (kind, ready) in [(0, false), (1, true)] {
        let mut request = Request::new(ProbeRequest {});
        request.set_timeout(DEADLINE);
        let probed = plugins.wait(plugins.identity(kind).probe(request));
        assert_eq!(probed.unwrap().ready, Some(ready));
    }
}

#[test]
fn cluster_that_does_not_answer_is_given_up_before_the_caller_does() {
    let fake = Fake::start(|_: &Asked| Reply::Silence);
    let plugins = Plugins::new(&[&fake.url]);
    for (name, status) in ask_all(&plugins) {
        assert_eq!(status.code(), Code::DeadlineExceeded, "{name}: {status}");
        let helps = status.message().contains("repeat the request");
        assert!(helps, "{name}: {status}");
    }
}

#[test]
fn cluster_that_falls_silent_later_is_given_up_too() {
    let fake = Fake::start(|asked: &Asked| match asked.path.ends_with("/cluster") {
        true => cluster(),
        false => Reply::Silence,
    });
    let plugins = Plugins::new(&[&fake.url]);
    let mut calls = of_volumes(&plugins);
    calls.extend(of_snapshots(&plugins));
    for (name, call) in calls {
        let status = plugins.block_on(call).expect_err(name);
        assert_eq!(status.code(), Code::DeadlineExceeded, "{name}: {status}");
    }
}

#[test]
fn endpoint_that_answers_is_found_and_asked_first_from_then_on() {
    let answer = |asked: &Asked| match asked.path.ends_with("/cluster") {
        true => cluster(),
        false => Reply::Json(200, volume(1, "pvc")),
    };
    let (first, second) = (nobody(), Fake::start(answer));
    let plugins = Plugins::new(&[&first, &second.url]);
    for _ in 0..3 {
        let request = ControllerGetVolumeRequest {
            volume_id: text("fake-v1"),
        };
        let found = plugins.wait(plugins.controller().controller_get_volume(request));
        assert_eq!(found.unwrap().volume.unwrap().volume_id, "fake-v1");
    }
    assert_eq!(second.asked("/api/v1/cluster").len(), 1, "it never changes");
    assert_eq!(second.asked("/api/v1/volumes/volume-1").len(), 3);
}

#[test]
fn operation_that_takes_long_is_alone_and_is_answered_when_it_ends() {
    let fake = Fake::start(|asked: &Asked| match asked.path.as_str() {
        path if path.ends_with("/cluster") => cluster(),
        _ => {
            let done = Reply::Json(200, volume(7, "pvc"));
            Reply::Late(Duration::from_millis(400), Box::new(done))
        }
    });
    let plugins = Plugins::new(&[&fake.url]);
    let delete = |client: &csi::v1::controller_client::ControllerClient<_>| {
        let request = DeleteVolumeRequest {
            volume_id: text("fake-v7"),
            ..Default::default()
        };
        let mut client = client.clone();
        async move { client.delete_volume(request).await }
    };
    let client = plugins.controller();
    let [first, second] = plugins.block_on(async {
        let first = tokio::spawn(delete(&client));
        let mut others = Vec::new();
        // The first one is on its way when the API has heard of it.
        while fake.asked("/api/v1/volumes").is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        others.push(delete(&client).await);
        [first.await.unwrap(), others.remove(0)]
    });
    first.expect("it is carried out");
    let status = second.expect_err("another one is at it");
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().contains("fake-v7"), "{status}");
    assert_eq!(fake.asked("/api/v1/volumes").len(), 1);
}
