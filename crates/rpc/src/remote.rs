//! `RemoteStores`: every store of the cluster behind one trait, in this process or another.
//!
//! Invariants
//! - Calls to one store on one lane start in the order they were made, local ones too.
//! - A local request runs to its end although its caller was dropped, as a remote one does.
//! - There is one peer per node and lane; it is made again when the node's address changes.

use crate::{Hello, Peer, Reply, Request, RpcError};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use vocab::{NodeId, StoreId};
use wire::{CallError, Lane, StoreCall, StoreError, StoreReply, StoreRequest, Stores};
use world::sync::promise;
use world::{Address, Buf, LocalBoxFuture, World};

/// A store of this process.
pub trait LocalStore {
    /// Starts a request; what happens before the first await keeps the order of calls. Run to its end.
    fn handle(
        &self,
        request: StoreRequest,
        body: Vec<Bytes>,
    ) -> LocalBoxFuture<'static, Result<(StoreReply, Vec<Bytes>), StoreError>>;
}

#[derive(Default)]
struct Tables {
    nodes: RefCell<BTreeMap<NodeId, Address>>,
    stores: RefCell<BTreeMap<StoreId, NodeId>>,
    version: Cell<u64>,
}

/// Who runs which store, and where. Cheap to clone; all clones are the same directory.
#[derive(Clone, Default)]
pub struct Directory(Rc<Tables>);

impl Directory {
    /// Replaces the addresses of all nodes.
    pub fn set_nodes(&self, nodes: BTreeMap<NodeId, Address>) {
        if *self.0.nodes.borrow() != nodes {
            *self.0.nodes.borrow_mut() = nodes;
            self.0.version.set(self.0.version.get() + 1);
        }
    }

    /// Replaces the places of all stores.
    pub fn set_stores(&self, stores: BTreeMap<StoreId, NodeId>) {
        if *self.0.stores.borrow() != stores {
            *self.0.stores.borrow_mut() = stores;
            self.0.version.set(self.0.version.get() + 1);
        }
    }

    /// Where a node answers.
    #[must_use]
    pub fn address_of(&self, node: NodeId) -> Option<Address> {
        self.0.nodes.borrow().get(&node).cloned()
    }

    /// Which node runs a store.
    #[must_use]
    pub fn node_of(&self, store: StoreId) -> Option<NodeId> {
        self.0.stores.borrow().get(&store).copied()
    }
}

struct Shared {
    world: World,
    hello: Hello,
    directory: Directory,
    local: RefCell<BTreeMap<StoreId, Rc<dyn LocalStore>>>,
    peers: RefCell<BTreeMap<(NodeId, Lane), Peer>>,
    /// Version of the directory that `peers` was checked against.
    checked: Cell<u64>,
}

/// See the module's documentation. Cheap to clone; connections close with the last clone.
#[derive(Clone)]
pub struct RemoteStores(Rc<Shared>);

impl RemoteStores {
    /// Reaches the stores `directory` knows. Peers connect when they are first needed.
    #[must_use]
    pub fn new(world: World, hello: Hello, directory: Directory) -> Self {
        Self(Rc::new(Shared {
            world,
            hello,
            directory,
            local: RefCell::default(),
            peers: RefCell::default(),
            checked: Cell::new(0),
        }))
    }

    /// From now on calls to `store` are answered in this process.
    pub fn add_local(&self, store: StoreId, handler: Rc<dyn LocalStore>) {
        self.0.local.borrow_mut().insert(store, handler);
    }

    /// `store` is no longer in this process.
    pub fn remove_local(&self, store: StoreId) {
        self.0.local.borrow_mut().remove(&store);
    }

    /// The connection to a node; `None` when the directory does not know it.
    #[must_use]
    pub fn peer(&self, node: NodeId, lane: Lane) -> Option<Peer> {
        self.0.peer(node, lane)
    }

    /// Closes every connection; later calls make new ones.
    pub fn close(&self) {
        let peers = std::mem::take(&mut *self.0.peers.borrow_mut());
        for peer in peers.values() {
            peer.close();
        }
    }
}

impl Shared {
    fn peer(&self, node: NodeId, lane: Lane) -> Option<Peer> {
        self.check_addresses();
        if let Some(peer) = self.peers.borrow().get(&(node, lane)) {
            return Some(peer.clone());
        }
        let address = self.directory.address_of(node)?;
        let peer = Peer::with_lane(self.world.clone(), address, self.hello.clone(), lane);
        self.peers.borrow_mut().insert((node, lane), peer.clone());
        Some(peer)
    }

    /// Closes peers whose node has moved or is gone.
    fn check_addresses(&self) {
        let version = self.directory.0.version.get();
        if self.checked.replace(version) == version {
            return;
        }
        let nodes = self.directory.0.nodes.borrow();
        self.peers.borrow_mut().retain(|(node, _), peer| {
            let keep = nodes.get(node) == Some(peer.address());
            if !keep {
                peer.close();
            }
            keep
        });
    }

    fn call_local(
        &self,
        store: StoreId,
        handler: &dyn LocalStore,
        call: StoreCall,
    ) -> LocalBoxFuture<'static, Result<(StoreReply, Bytes), CallError>> {
        let outcome = move |result: Result<(StoreReply, Vec<Bytes>), StoreError>| match result {
            Ok((reply, body)) => Ok((reply, gather(body))),
            Err(error) => Err(CallError::Refused { store, error }),
        };
        let mut running = handler.handle(call.request, call.body);
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = running.as_mut().poll(&mut context) {
            return Box::pin(std::future::ready(outcome(result)));
        }
        // A task of its own: the request must go on when the caller waits for something else or gives up.
        let (sender, receiver) = promise();
        self.world
            .spawn(async move { sender.fulfil(running.await) });
        Box::pin(async move {
            match receiver.await {
                Some(result) => outcome(result),
                None => Err(unreachable(store, "this node is stopping")),
            }
        })
    }
}

fn unreachable(store: StoreId, reason: impl Into<String>) -> CallError {
    CallError::Unreachable {
        store,
        reason: reason.into(),
    }
}

/// One piece of memory; copies only when there are several.
fn gather(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() <= 1 {
        return parts.pop().unwrap_or_default();
    }
    let len = parts.iter().map(Bytes::len).sum();
    let mut whole = Buf::zeroed(len);
    let mut at = 0;
    for part in parts {
        whole[at..at + part.len()].copy_from_slice(&part);
        at += part.len();
    }
    whole.freeze().slice(..len)
}

fn read_reply(
    store: StoreId,
    answer: Result<(Reply, Bytes), RpcError>,
) -> Result<(StoreReply, Bytes), CallError> {
    match answer {
        Ok((Reply::Store(Ok(reply)), body)) => Ok((reply, body)),
        Ok((Reply::Store(Err(error)), _)) => Err(CallError::Refused { store, error }),
        Ok((Reply::Refused(reason), _)) => Err(unreachable(store, reason)),
        Ok(_) => Err(unreachable(
            store,
            "the node gave an answer of another kind",
        )),
        Err(error) => Err(unreachable(store, error.to_string())),
    }
}

impl Stores for RemoteStores {
    fn call(
        &self,
        store: StoreId,
        lane: Lane,
        call: StoreCall,
    ) -> LocalBoxFuture<'static, Result<(StoreReply, Bytes), CallError>> {
        let local = self.0.local.borrow().get(&store).cloned();
        if let Some(handler) = local {
            return self.0.call_local(store, &*handler, call);
        }
        let fail = |reason: String| -> LocalBoxFuture<'static, _> {
            Box::pin(std::future::ready(Err(unreachable(store, reason))))
        };
        let Some(node) = self.0.directory.node_of(store) else {
            return fail("the catalog names no node for it".to_owned());
        };
        let Some(peer) = self.0.peer(node, lane) else {
            return fail(format!("{node} is not known or not running"));
        };
        let request = Request::Store {
            store,
            request: call.request,
        };
        let answer = peer.call(request, call.body);
        Box::pin(async move { read_reply(store, answer.await) })
    }
}
