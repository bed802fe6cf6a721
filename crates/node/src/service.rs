//! What other nodes and clients ask this node.

use crate::host::Host;
use crate::volumes::Refusal;
use bytes::Bytes;
use rpc::{Connection, Handler, Reply, Request};
use std::rc::Rc;
use wire::{NodeError, NodeReply, NodeRequest};
use world::LocalBoxFuture;

/// Hands requests to stores, sessions and operations.
pub(crate) struct Service(pub(crate) Rc<Host>);

impl Handler for Service {
    fn handle(
        &self,
        connection: &Connection,
        request: Request,
        body: Bytes,
    ) -> LocalBoxFuture<'static, (Reply, Vec<Bytes>)> {
        let request = match request {
            Request::Store { store, request } => {
                let Some(local) = self.0.stores.get(&store) else {
                    let name = &self.0.options.name;
                    let refused = Reply::Refused(format!("{store} is not on node {name}"));
                    return Box::pin(std::future::ready((refused, Vec::new())));
                };
                let body = if body.is_empty() {
                    Vec::new()
                } else {
                    vec![body]
                };
                let running = local.handle(request, body);
                return Box::pin(async move {
                    match running.await {
                        Ok((reply, body)) => (Reply::Store(Ok(reply)), body),
                        Err(error) => (Reply::Store(Err(error)), Vec::new()),
                    }
                });
            }
            Request::Node(request) => request,
            Request::Ping => return Box::pin(std::future::ready((Reply::Pong, Vec::new()))),
        };
        let (host, connection) = (self.0.clone(), connection.id);
        Box::pin(async move {
            match host.node_request(connection, request, body).await {
                Ok((reply, body)) => (Reply::Node(Ok(reply)), body),
                Err(error) => (Reply::Node(Err(error)), Vec::new()),
            }
        })
    }

    fn closed(&self, connection_id: u64) {
        self.0.sessions.end_connection(connection_id);
    }
}

impl Host {
    /// Answers a client or another node.
    pub(crate) async fn node_request(
        self: &Rc<Self>,
        connection: u64,
        request: NodeRequest,
        body: Bytes,
    ) -> Result<(NodeReply, Vec<Bytes>), NodeError> {
        match request {
            NodeRequest::Locate { volume } => {
                let located = self.locate(&volume).await?;
                Ok((located, Vec::new()))
            }
            NodeRequest::Operate { operation } => {
                let answer = self.operate_encoded(&operation).await;
                Ok((NodeReply::Answer { answer }, Vec::new()))
            }
            session => self.session_request(connection, session, body).await,
        }
    }

    /// Who serves a volume; this node from now on, if nobody alive does.
    async fn locate(self: &Rc<Self>, name: &str) -> Result<NodeReply, NodeError> {
        let id = match self.volumes.named(name) {
            Some(volume) => volume.id(),
            None => self.volume_row(name).await?.id,
        };
        let owner = match self.acquire(id).await {
            Ok(_) => self.id,
            Err(Refusal::Elsewhere(node)) => node,
            Err(refusal) => return Err(refusal.into()),
        };
        let address = self.address_of(owner).ok_or_else(|| NodeError::Busy {
            reason: format!("the address of {owner} is not known here yet"),
        })?;
        let nodes = self.members.look(|view| {
            let alive = view
                .nodes
                .values()
                .filter(|row| view.alive.contains_key(&row.id));
            alive.map(|row| row.address.clone()).collect()
        });
        Ok(NodeReply::Located {
            owner,
            address: address.0,
            nodes,
        })
    }

    /// A volume's row by its name.
    pub(crate) async fn volume_row(&self, name: &str) -> Result<catalog::VolumeRow, Refusal> {
        Ok(self.catalog.volume_named(name).await?.row)
    }
}
