//! The Identity service.

use crate::DRIVER;
use crate::call::{Call, Pending, run};
use crate::cluster::{ApiError, Cluster};
use crate::v1::identity_server::Identity;
use crate::v1::plugin_capability::service::Type as ServiceType;
use crate::v1::plugin_capability::volume_expansion::Type as ExpansionType;
use crate::v1::plugin_capability::{Service, Type, VolumeExpansion};
use crate::v1::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest,
    GetPluginInfoResponse, PluginCapability, ProbeRequest, ProbeResponse,
};
use api::GroupSnapshotAnswer;
use api::http::path;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Says who the plugin is and whether it can reach the cluster.
pub(crate) struct IdentityService {
    pub cluster: Arc<Cluster>,
    pub pending: Arc<Pending>,
    /// Whether this is the node's process: it is ready without the cluster, because what is mounted goes on.
    pub on_node: bool,
}

fn service(kind: ServiceType) -> PluginCapability {
    PluginCapability {
        r#type: Some(Type::Service(Service {
            r#type: kind.into(),
        })),
    }
}

fn capabilities(groups: bool) -> Vec<PluginCapability> {
    let online = PluginCapability {
        r#type: Some(Type::VolumeExpansion(VolumeExpansion {
            r#type: ExpansionType::Online.into(),
        })),
    };
    let mut all = vec![
        service(ServiceType::ControllerService),
        service(ServiceType::VolumeAccessibilityConstraints),
        service(ServiceType::SnapshotMetadataService),
        online,
    ];
    if groups {
        all.push(service(ServiceType::GroupControllerService));
    }
    all
}

/// Whether the cluster takes group snapshots: not every release does, nor may every token ask for them.
fn can_group(cluster: &Cluster, call: &Call) -> Result<bool, Status> {
    let listed: Result<Vec<GroupSnapshotAnswer>, ApiError> =
        cluster.ask(call).get(&path(&["group-snapshots"]));
    match listed {
        Ok(_) => Ok(true),
        Err(ApiError::Refused(_) | ApiError::Odd(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: DRIVER.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: [].into(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        request: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let cluster = self.cluster.clone();
        let operation = "GetPluginCapabilities";
        run(
            &self.pending,
            operation,
            Vec::new(),
            request,
            move |call, _| {
                let groups = can_group(&cluster, call)?;
                Ok(GetPluginCapabilitiesResponse {
                    capabilities: capabilities(groups),
                })
            },
        )
        .await
    }

    async fn probe(
        &self,
        request: Request<ProbeRequest>,
    ) -> Result<Response<ProbeResponse>, Status> {
        let ready = |ready| ProbeResponse { ready: Some(ready) };
        if self.on_node {
            return Ok(Response::new(ready(true)));
        }
        // Not ready before it has seen its cluster once, and ready ever after: restarting the plugin, which is what
        // a failed probe leads to, brings no cluster back, and each request says for itself that it is away.
        let cluster = self.cluster.clone();
        run(
            &self.pending,
            "Probe",
            Vec::new(),
            request,
            move |call, _| Ok(ready(cluster.ask(call).handles().is_ok())),
        )
        .await
    }
}
