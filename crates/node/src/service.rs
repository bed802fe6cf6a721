//! What other nodes and clients ask this node.

use crate::host::Host;
use crate::volumes::Refusal;
use bytes::Bytes;
use rpc::{Connection, Handler, Reply, Request};
use std::rc::Rc;
use vocab::StoreId;
use wire::{NodeError, NodeReply, NodeRequest, StoreError};
use world::{Caller, Limits, LocalBoxFuture, Role};

/// Hands requests to stores, sessions and operations.
pub(crate) struct Service(pub(crate) Rc<Host>);

impl Service {
    /// The answer to a request to a store that is not open here.
    fn no_such_store(&self, store: StoreId) -> Reply {
        match self.0.stores.why_absent(store) {
            Some(reason) => Reply::Store(Err(StoreError::Failed { reason })),
            None => {
                let name = &self.0.options.name;
                Reply::Refused(format!("{store} is not on node {name}"))
            }
        }
    }
}

/// Whether a caller may ask for it. Pure. Without certificates everybody may: the network is trusted then.
fn may_ask(caller: Option<&Caller>, request: &Request) -> bool {
    let Some(caller) = caller else { return true };
    match (caller.role, request) {
        (Role::Node, _) | (_, Request::Ping) => true,
        // Stores and forwarded operations ask nobody again.
        (_, Request::Store { .. } | Request::Node(NodeRequest::Operate { .. })) => false,
        (Role::Admin | Role::Csi | Role::Client, Request::Node(_)) => true,
        (Role::Viewer, Request::Node(_)) => false,
    }
}

impl Handler for Service {
    fn handle(
        &self,
        connection: &Connection,
        request: Request,
        body: Bytes,
    ) -> LocalBoxFuture<'static, (Reply, Vec<Bytes>)> {
        if !may_ask(connection.caller.as_ref(), &request) {
            let caller = connection.caller.as_ref().map(Caller::to_string);
            let reason = format!(
                "the certificate of {} does not allow this: use credentials of another role",
                caller.unwrap_or_default()
            );
            return Box::pin(std::future::ready((Reply::Refused(reason), Vec::new())));
        }
        let request = match request {
            Request::Store { store, request } => {
                let Some(local) = self.0.stores.get(store) else {
                    let answer = (self.no_such_store(store), Vec::new());
                    return Box::pin(std::future::ready(answer));
                };
                let body = if body.is_empty() {
                    Vec::new()
                } else {
                    vec![body]
                };
                let local = self.0.stores.local(&self.0.world, local);
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
        let (host, connection) = (self.0.clone(), connection.clone());
        Box::pin(async move {
            match host.node_request(&connection, request, body).await {
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
        connection: &Connection,
        request: NodeRequest,
        body: Bytes,
    ) -> Result<(NodeReply, Vec<Bytes>), NodeError> {
        match request {
            NodeRequest::Locate { volume } => {
                let limits = connection.caller.as_ref().map(|caller| &*caller.limits);
                let located = self.locate(&volume, limits).await?;
                Ok((located, Vec::new()))
            }
            NodeRequest::Operate { operation } => {
                let answer = self.operate_encoded(&operation, connection.caller.as_ref());
                let answer = answer.await;
                Ok((NodeReply::Answer { answer }, Vec::new()))
            }
            session => {
                let caller = connection.caller.as_ref();
                self.session_request(connection.id, caller, session, body)
                    .await
            }
        }
    }

    /// Who serves a volume; this node from now on, if nobody alive does and it is within the caller's limits.
    async fn locate(
        self: &Rc<Self>,
        name: &str,
        limits: Option<&Limits>,
    ) -> Result<NodeReply, NodeError> {
        let id = match self.volumes.named(name) {
            // It is served already, and who opens a session is looked at; the catalog need not be there for this.
            Some(volume) => volume.id(),
            None => {
                let row = self.volume_row(name).await?;
                self.check_row(&row, limits).await?;
                row.id
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::StoreId;
    use wire::StoreRequest;

    fn ask(role: Option<Role>, request: &Request) -> bool {
        let name = "x".to_owned();
        may_ask(role.map(|role| Caller::new(role, name)).as_ref(), request)
    }

    #[test]
    fn only_nodes_reach_stores_and_forward_operations() {
        let store = Request::Store {
            store: StoreId(1),
            request: StoreRequest::ListLogs {
                after: None,
                limit: 1,
            },
        };
        let operate = Request::Node(NodeRequest::Operate { operation: vec![] });
        let locate = Request::Node(NodeRequest::Locate {
            volume: "v".to_owned(),
        });
        for request in [&store, &operate, &locate, &Request::Ping] {
            assert!(ask(None, request) && ask(Some(Role::Node), request));
        }
        for role in [Role::Admin, Role::Csi, Role::Client, Role::Viewer] {
            assert!(!ask(Some(role), &store) && !ask(Some(role), &operate));
            assert!(ask(Some(role), &Request::Ping));
            assert_eq!(ask(Some(role), &locate), role != Role::Viewer);
        }
    }
}
