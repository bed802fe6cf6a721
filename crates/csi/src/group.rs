//! The GroupController service: snapshots of several volumes at one point of time.
//!
//! The cluster holds back writes to all of them, takes the snapshots, and lets go; it fails rather than hold back
//! longer than two seconds.

use crate::call::{Call, Pending, run};
use crate::cluster::Cluster;
use crate::controller::{keep_name, labels_of, timestamp, view_snapshot};
use crate::handle::{Handles, require, volume_address};
use crate::v1::group_controller_server::GroupController;
use crate::v1::group_controller_service_capability::rpc::Type as Rpc;
use crate::v1::group_controller_service_capability::{Rpc as Capability, Type};
use crate::v1::*;
use api::http::path;
use api::{ErrorKind, GroupSnapshotAnswer, GroupSnapshotSpec};
use std::collections::BTreeSet;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Volumes of one group, as the cluster has it: each is held back until the last one is.
const VOLUMES_MAX: usize = 64;

/// Serves the GroupController.
pub(crate) struct GroupService {
    pub cluster: Arc<Cluster>,
    pub pending: Arc<Pending>,
}

#[tonic::async_trait]
impl GroupController for GroupService {
    async fn group_controller_get_capabilities(
        &self,
        _: Request<GroupControllerGetCapabilitiesRequest>,
    ) -> Result<Response<GroupControllerGetCapabilitiesResponse>, Status> {
        let all = Rpc::CreateDeleteGetVolumeGroupSnapshot;
        let capability = GroupControllerServiceCapability {
            r#type: Some(Type::Rpc(Capability { r#type: all.into() })),
        };
        Ok(Response::new(GroupControllerGetCapabilitiesResponse {
            capabilities: vec![capability],
        }))
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<CreateVolumeGroupSnapshotRequest>,
    ) -> Result<Response<CreateVolumeGroupSnapshotResponse>, Status> {
        let keys = vec![format!("group snapshot named {}", request.get_ref().name)];
        let cluster = self.cluster.clone();
        let work = move |call: &Call, body| create(&cluster, call, body);
        run(
            &self.pending,
            "CreateVolumeGroupSnapshot",
            keys,
            request,
            work,
        )
        .await
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<DeleteVolumeGroupSnapshotResponse>, Status> {
        let keys = vec![request.get_ref().group_snapshot_id.clone()];
        let cluster = self.cluster.clone();
        let work = move |call: &Call, body| delete(&cluster, call, body);
        run(
            &self.pending,
            "DeleteVolumeGroupSnapshot",
            keys,
            request,
            work,
        )
        .await
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<GetVolumeGroupSnapshotResponse>, Status> {
        let cluster = self.cluster.clone();
        let work = move |call: &Call, body| get(&cluster, call, body);
        run(
            &self.pending,
            "GetVolumeGroupSnapshot",
            Vec::new(),
            request,
            work,
        )
        .await
    }
}

fn view_group(group: &GroupSnapshotAnswer, handles: &Handles) -> VolumeGroupSnapshot {
    let snapshots = group.snapshots.iter();
    VolumeGroupSnapshot {
        group_snapshot_id: handles.group(&group.id),
        snapshots: snapshots.map(|one| view_snapshot(one, handles)).collect(),
        creation_time: Some(timestamp(group.created_ms)),
        ready_to_use: group.ready,
    }
}

fn create(
    cluster: &Cluster,
    call: &Call,
    request: CreateVolumeGroupSnapshotRequest,
) -> Result<CreateVolumeGroupSnapshotResponse, Status> {
    let kept = keep_name(&request.name)?;
    let sources = &request.source_volume_ids;
    if sources.is_empty() || sources.len() > VOLUMES_MAX {
        return Err(Status::invalid_argument(format!(
            "source_volume_ids has {} volumes: a group has 1 to {VOLUMES_MAX}",
            sources.len()
        )));
    }
    let labels = labels_of(&request.parameters)?;
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let numbers = sources.iter().map(|handle| handles.volume_of(handle));
    let numbers: BTreeSet<u64> = numbers.collect::<Result<_, _>>()?;
    if numbers.len() != sources.len() {
        return Err(Status::invalid_argument(
            "source_volume_ids names a volume twice",
        ));
    }
    let spec = GroupSnapshotSpec {
        name: kept.name,
        volumes: numbers.into_iter().map(volume_address).collect(),
        labels,
    };
    let group: GroupSnapshotAnswer = cluster.post(&path(&["group-snapshots"]), &spec)?;
    Ok(CreateVolumeGroupSnapshotResponse {
        group_snapshot: Some(view_group(&group, &handles)),
    })
}

/// The group, if it is there and has the snapshots that the caller believes it has.
fn find(
    cluster: &Cluster,
    call: &Call,
    id: &str,
    expected: &[String],
) -> Result<Option<GroupSnapshotAnswer>, Status> {
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let group: GroupSnapshotAnswer = match cluster.get(&path(&["group-snapshots", id])) {
        Err(error) if error.kind() == Some(ErrorKind::NotFound) => return Ok(None),
        group => group?,
    };
    let has = group.snapshots.iter().map(|one| handles.snapshot(one.id));
    let has: BTreeSet<String> = has.collect();
    let expected: BTreeSet<String> = expected.iter().cloned().collect();
    if !expected.is_empty() && expected != has {
        return Err(Status::invalid_argument(format!(
            "snapshot_ids is not the list of group snapshot {}: it has {}",
            handles.group(id),
            has.into_iter().collect::<Vec<_>>().join(", ")
        )));
    }
    Ok(Some(group))
}

fn delete(
    cluster: &Cluster,
    call: &Call,
    request: DeleteVolumeGroupSnapshotRequest,
) -> Result<DeleteVolumeGroupSnapshotResponse, Status> {
    let handle = require("group_snapshot_id", &request.group_snapshot_id)?;
    let handles = cluster.ask(call).handles()?;
    let done = Ok(DeleteVolumeGroupSnapshotResponse {});
    let Some(id) = handles.parse_group(handle) else {
        return done;
    };
    if find(cluster, call, id, &request.snapshot_ids)?.is_none() {
        return done;
    }
    match cluster.ask(call).delete(&path(&["group-snapshots", id])) {
        Err(error) if error.kind() != Some(ErrorKind::NotFound) => Err(error.into()),
        _ => done,
    }
}

fn get(
    cluster: &Cluster,
    call: &Call,
    request: GetVolumeGroupSnapshotRequest,
) -> Result<GetVolumeGroupSnapshotResponse, Status> {
    let handles = cluster.ask(call).handles()?;
    let id = handles.group_of(&request.group_snapshot_id)?;
    let group = find(cluster, call, id, &request.snapshot_ids)?.ok_or_else(|| {
        Status::not_found(format!(
            "group snapshot {} does not exist",
            request.group_snapshot_id
        ))
    })?;
    Ok(GetVolumeGroupSnapshotResponse {
        group_snapshot: Some(view_group(&group, &handles)),
    })
}
