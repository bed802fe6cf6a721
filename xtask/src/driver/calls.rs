//! One call to the driver: to its controller as a sidecar makes it, or to its node as the kubelet does.

use super::Driver;
use anyhow::{Context, Result, anyhow};
use csi::v1::controller_client::ControllerClient;
use csi::v1::node_client::NodeClient;
use csi::v1::{NodeGetInfoRequest, NodeGetInfoResponse};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Clients of the two services.
pub type Controller = ControllerClient<Channel>;
pub type Node = NodeClient<Channel>;

/// What a call is answered with.
pub type Answer<T> = Result<Response<T>, Status>;

/// How long sidecars wait (`--timeout` of the chart) and how long the kubelet waits for a mount.
const SIDECAR: Duration = Duration::from_secs(60);
const KUBELET: Duration = Duration::from_secs(120);

impl Driver {
    /// Calls the controller.
    pub(super) fn control<Q, T>(
        &self,
        what: &str,
        body: Q,
        call: impl AsyncFnOnce(Controller, Request<Q>) -> Answer<T>,
    ) -> Result<T> {
        let client = ControllerClient::new(self.controller.channel.clone());
        let answer = self.runtime.block_on(call(client, request(body, SIDECAR)));
        unwrap(what, answer)
    }

    /// Calls the node.
    pub(super) fn on_node<Q, T>(
        &self,
        what: &str,
        body: Q,
        call: impl AsyncFnOnce(Node, Request<Q>) -> Answer<T>,
    ) -> Result<T> {
        let client = NodeClient::new(self.node.channel.clone());
        let answer = self.runtime.block_on(call(client, request(body, KUBELET)));
        unwrap(what, answer)
    }

    /// What the registrar asks.
    pub(super) fn node_info(&self) -> Result<NodeGetInfoResponse> {
        self.on_node(
            "NodeGetInfo",
            NodeGetInfoRequest {},
            async |mut node, ask| node.node_get_info(ask).await,
        )
    }
}

fn request<Q>(body: Q, patience: Duration) -> Request<Q> {
    let mut request = Request::new(body);
    request.set_timeout(patience);
    request
}

fn unwrap<T>(what: &str, answer: Answer<T>) -> Result<T> {
    let answer = answer.map_err(|status| anyhow!("{}: {}", status.code(), status.message()));
    answer
        .map(Response::into_inner)
        .with_context(|| format!("{what} is refused"))
}
