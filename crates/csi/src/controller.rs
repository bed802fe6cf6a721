//! The Controller service: what concerns the cluster.
//!
//! It is a translation: a request becomes calls to the REST API, and what exists decides what a repeated request is
//! answered. Nothing is kept but a note of which of our containers have been seen. Each file of this module
//! holds a few operations as plain functions; this one gives them threads and keys.

mod create;
mod expand;
mod list;
mod publish;
mod snapshot;
mod topology;
mod view;

pub(crate) use create::CONTEXT_FILE_SYSTEM;
pub(crate) use list::read_rows;
pub(crate) use publish::{CONTEXT_GENERATION, CONTEXT_READ_ONLY};
pub(crate) use snapshot::labels_of;
pub(crate) use topology::accessible;
pub(crate) use view::{keep_name, timestamp, view_snapshot};

use crate::call::{Call, Pending, run};
use crate::cluster::Cluster;
use crate::v1::controller_server::Controller;
use crate::v1::controller_service_capability::rpc::Type as Rpc;
use crate::v1::controller_service_capability::{Rpc as Capability, Type};
use crate::v1::*;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Everything that works. MULTI_NODE writers do not, and are refused by `capability.rs`.
const CAPABILITIES: [Rpc; 15] = [
    Rpc::CreateDeleteVolume,
    Rpc::PublishUnpublishVolume,
    Rpc::ListVolumes,
    Rpc::GetCapacity,
    Rpc::CreateDeleteSnapshot,
    Rpc::ListSnapshots,
    Rpc::CloneVolume,
    Rpc::PublishReadonly,
    Rpc::ExpandVolume,
    Rpc::ListVolumesPublishedNodes,
    Rpc::VolumeCondition,
    Rpc::GetVolume,
    Rpc::SingleNodeMultiWriter,
    Rpc::ModifyVolume,
    Rpc::GetSnapshot,
];

/// Serves the Controller.
pub(crate) struct ControllerService {
    pub cluster: Arc<Cluster>,
    pub pending: Arc<Pending>,
}

/// An operation: a plain function of the cluster and the request.
type Operation<Q, T> = fn(&Cluster, &Call, Q) -> Result<T, Status>;

impl ControllerService {
    async fn carry_out<Q: Send + 'static, T: Send + 'static>(
        &self,
        name: &'static str,
        keys: Vec<String>,
        request: Request<Q>,
        operation: Operation<Q, T>,
    ) -> Result<Response<T>, Status> {
        let cluster = self.cluster.clone();
        let work = move |call: &Call, body| operation(&cluster, call, body);
        run(&self.pending, name, keys, request, work).await
    }
}

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let keys = vec![format!("volume named {}", request.get_ref().name)];
        self.carry_out("CreateVolume", keys, request, create::create)
            .await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let keys = vec![request.get_ref().volume_id.clone()];
        self.carry_out("DeleteVolume", keys, request, create::delete)
            .await
    }

    async fn controller_publish_volume(
        &self,
        request: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        let keys = vec![request.get_ref().volume_id.clone()];
        self.carry_out("ControllerPublishVolume", keys, request, publish::publish)
            .await
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        let keys = vec![request.get_ref().volume_id.clone()];
        self.carry_out(
            "ControllerUnpublishVolume",
            keys,
            request,
            publish::unpublish,
        )
        .await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        self.carry_out(
            "ValidateVolumeCapabilities",
            Vec::new(),
            request,
            create::validate,
        )
        .await
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        self.carry_out("ListVolumes", Vec::new(), request, list::list)
            .await
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        self.carry_out("GetCapacity", Vec::new(), request, list::capacity)
            .await
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let capability = |kind: &Rpc| ControllerServiceCapability {
            r#type: Some(Type::Rpc(Capability {
                r#type: (*kind).into(),
            })),
        };
        Ok(Response::new(ControllerGetCapabilitiesResponse {
            capabilities: CAPABILITIES.iter().map(capability).collect(),
        }))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let keys = vec![format!("snapshot named {}", request.get_ref().name)];
        self.carry_out("CreateSnapshot", keys, request, snapshot::create)
            .await
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let keys = vec![request.get_ref().snapshot_id.clone()];
        self.carry_out("DeleteSnapshot", keys, request, snapshot::delete)
            .await
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        self.carry_out("ListSnapshots", Vec::new(), request, snapshot::list)
            .await
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        self.carry_out("GetSnapshot", Vec::new(), request, snapshot::get)
            .await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let keys = vec![request.get_ref().volume_id.clone()];
        self.carry_out("ControllerExpandVolume", keys, request, expand::expand)
            .await
    }

    async fn controller_get_volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        self.carry_out("ControllerGetVolume", Vec::new(), request, list::get)
            .await
    }

    async fn controller_modify_volume(
        &self,
        request: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        let keys = vec![request.get_ref().volume_id.clone()];
        self.carry_out("ControllerModifyVolume", keys, request, expand::modify)
            .await
    }
}
