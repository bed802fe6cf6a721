//! Calls between simulated nodes: order, loss, silence, bounds, refusals, routing to stores.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "everything here is a test"
)]

mod belief;
mod connection;
mod hello;
mod stores;

use bytes::Bytes;
use rpc::{Connection, Handler, Hello, Peer, Reply, Request, RpcError, serve};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use vocab::{Lba, NodeId};
use wire::{NodeReply, NodeRequest};
use world::sync::Notify;
use world::{Address, Duration, LocalBoxFuture, World};
use world_sim::{Host, Simulation};

pub const SECOND: Duration = Duration::from_secs(1);

pub fn hello(node: u32) -> Hello {
    Hello {
        cluster: "test".into(),
        node: NodeId(node),
        start: 7,
        levels: vocab::Levels::OWN,
    }
}

pub fn write(number: u64) -> Request {
    Request::Node(NodeRequest::Write {
        handle: number,
        lba: Lba(0),
        fua: false,
    })
}

pub fn allocation(number: u64) -> Reply {
    let runs = vec![(number, true)];
    Reply::Node(Ok(NodeReply::Allocation { runs }))
}

/// What the server saw, shared with the scenario.
#[derive(Clone, Default)]
pub struct Seen {
    /// (connection, number) in the order of arrival.
    pub arrived: Rc<RefCell<Vec<(u64, u64)>>>,
    pub closed: Rc<RefCell<Vec<u64>>>,
    pub running: Rc<Cell<usize>>,
    pub running_max: Rc<Cell<usize>>,
    pub bytes: Rc<Cell<usize>>,
    pub bytes_max: Rc<Cell<usize>>,
    /// While set, requests wait.
    pub held: Rc<Cell<bool>>,
    pub release: Notify,
    /// Longest random service time.
    pub service: Rc<Cell<Duration>>,
}

/// Answers a write with its number and its body.
pub struct Echo {
    pub world: World,
    pub seen: Seen,
}

impl Handler for Echo {
    fn handle(
        &self,
        connection: &Connection,
        request: Request,
        body: Bytes,
    ) -> LocalBoxFuture<'static, (Reply, Vec<Bytes>)> {
        let Request::Node(NodeRequest::Write { handle, .. }) = request else {
            panic!("unexpected {request:?}");
        };
        let seen = self.seen.clone();
        seen.arrived.borrow_mut().push((connection.id, handle));
        seen.running.set(seen.running.get() + 1);
        seen.bytes.set(seen.bytes.get() + body.len());
        seen.running_max
            .set(seen.running_max.get().max(seen.running.get()));
        seen.bytes_max
            .set(seen.bytes_max.get().max(seen.bytes.get()));
        let world = self.world.clone();
        Box::pin(async move {
            while seen.held.get() {
                seen.release.notified().await;
            }
            let service = seen.service.get();
            if !service.is_zero() {
                let nanos = world.rng.next_u64() % service.as_nanos() as u64;
                world.sleep(Duration::from_nanos(nanos)).await;
            }
            seen.running.set(seen.running.get() - 1);
            seen.bytes.set(seen.bytes.get() - body.len());
            (allocation(handle), vec![body])
        })
    }

    fn closed(&self, connection_id: u64) {
        self.seen.closed.borrow_mut().push(connection_id);
    }
}

/// Serves on port 1 of the host.
pub fn start_server(host: &Host, seen: &Seen) {
    start_server_as(host, seen, hello(1));
}

pub fn start_server_as(host: &Host, seen: &Seen, own: Hello) {
    let world = host.world();
    let address = Address(format!("{}:1", host.name()));
    let seen = seen.clone();
    host.spawn(async move {
        let listener = world.net.listen(&address).await.unwrap();
        let handler = Rc::new(Echo {
            world: world.clone(),
            seen,
        });
        serve(world, listener, own, handler).await;
    });
}

pub fn peer(client: &Host, server: &Host) -> Peer {
    let address = Address(format!("{}:1", server.name()));
    Peer::new(client.world(), address, hello(2))
}

/// A cell that a task fills.
pub type Result1<T> = Rc<RefCell<Option<T>>>;

pub fn start<T: 'static>(host: &Host, task: impl Future<Output = T> + 'static) -> Result1<T> {
    let result: Result1<T> = Rc::default();
    let sink = result.clone();
    host.spawn(async move {
        let value = task.await;
        *sink.borrow_mut() = Some(value);
    });
    result
}

pub fn finish<T>(sim: &Simulation, result: &Result1<T>, limit: Duration) -> T {
    let seen = result.clone();
    assert!(
        sim.run_until(|| seen.borrow().is_some(), limit),
        "seed {}: not done in time",
        sim.seed()
    );
    result.borrow_mut().take().unwrap()
}

/// Runs `task` on the host to its end.
pub fn run<T: 'static>(
    sim: &Simulation,
    host: &Host,
    task: impl Future<Output = T> + 'static,
) -> T {
    finish(sim, &start(host, task), 120 * SECOND)
}

/// Calls until it is answered.
pub async fn insist(peer: &Peer, number: u64, body: Bytes) -> (Reply, Bytes) {
    for _ in 0..200 {
        match peer.call(write(number), vec![body.clone()]).await {
            Ok(answer) => return answer,
            Err(RpcError::Lost { .. } | RpcError::Unreachable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("never answered");
}
