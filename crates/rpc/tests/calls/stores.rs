//! `RemoteStores`: local and remote stores behind one trait.

use crate::*;
use futures_util::future::join_all;
use rpc::{Directory, LocalStore, RemoteStores};
use std::collections::BTreeMap;
use vocab::{StoreId, VolumeId};
use wire::{CallError, Lane, StoreCall, StoreError, StoreReply, StoreRequest, Stores};
use world_sim::Options;

type StoreAnswer = Result<(StoreReply, Vec<Bytes>), StoreError>;

/// Answers `DropLog` after a moment, refuses everything else, and remembers the order.
#[derive(Clone)]
struct FakeStore {
    world: World,
    started: Rc<RefCell<Vec<VolumeId>>>,
    finished: Rc<Cell<usize>>,
}

impl FakeStore {
    fn new(world: World) -> Self {
        Self {
            world,
            started: Rc::default(),
            finished: Rc::default(),
        }
    }
}

impl LocalStore for FakeStore {
    fn handle(
        &self,
        request: StoreRequest,
        body: Vec<Bytes>,
    ) -> LocalBoxFuture<'static, StoreAnswer> {
        let this = self.clone();
        Box::pin(async move {
            let StoreRequest::DropLog { volume, .. } = request else {
                return Err(StoreError::Absent);
            };
            this.started.borrow_mut().push(volume);
            if volume.0 % 3 > 0 {
                let nanos = this.world.rng.next_u64() % 1_000_000;
                this.world.sleep(Duration::from_nanos(nanos)).await;
            }
            this.finished.set(this.finished.get() + 1);
            Ok((StoreReply::Done, body))
        })
    }
}

/// A node with one store.
struct Node(FakeStore, Rc<RefCell<Vec<Lane>>>);

impl Handler for Node {
    fn handle(
        &self,
        connection: &Connection,
        request: Request,
        body: Bytes,
    ) -> LocalBoxFuture<'static, (Reply, Vec<Bytes>)> {
        self.1.borrow_mut().push(connection.lane);
        let Request::Store { request, .. } = request else {
            panic!("unexpected {request:?}");
        };
        let running = self.0.handle(request, vec![body]);
        Box::pin(async move {
            match running.await {
                Ok((reply, body)) => (Reply::Store(Ok(reply)), body),
                Err(error) => (Reply::Store(Err(error)), Vec::new()),
            }
        })
    }

    fn closed(&self, _: u64) {}
}

fn start_node(host: &Host, port: u32) -> (FakeStore, Rc<RefCell<Vec<Lane>>>) {
    let world = host.world();
    let store = FakeStore::new(world.clone());
    let lanes: Rc<RefCell<Vec<Lane>>> = Rc::default();
    let node = Rc::new(Node(store.clone(), lanes.clone()));
    let address = Address(format!("{}:{port}", host.name()));
    host.spawn(async move {
        let listener = world.net.listen(&address).await.unwrap();
        serve(world, listener, hello(1), node).await;
    });
    (store, lanes)
}

fn drop_log(volume: u64) -> StoreCall {
    let request = StoreRequest::DropLog {
        volume: VolumeId(volume),
        epoch: vocab::Epoch(1),
    };
    StoreCall {
        request,
        body: vec![Bytes::from_static(b"bo"), Bytes::from_static(b"dy")],
    }
}

struct Setup {
    sim: Simulation,
    here: Host,
    there: Host,
    stores: RemoteStores,
    directory: Directory,
    local: FakeStore,
    remote: FakeStore,
    lanes: Rc<RefCell<Vec<Lane>>>,
}

fn setup(seed: u64) -> Setup {
    let sim = Simulation::new(seed, Options::default());
    let (here, there) = (sim.host("here"), sim.host("there"));
    let directory = Directory::default();
    directory.set_nodes(BTreeMap::from([(NodeId(2), Address::from("there:1"))]));
    directory.set_stores(BTreeMap::from([
        (StoreId(1), NodeId(1)),
        (StoreId(2), NodeId(2)),
        (StoreId(3), NodeId(3)),
    ]));
    let stores = RemoteStores::new(here.world(), hello(1), directory.clone());
    let local = FakeStore::new(here.world());
    stores.add_local(StoreId(1), Rc::new(local.clone()));
    let (remote, lanes) = start_node(&there, 1);
    sim.run_for(Duration::from_millis(1));
    Setup {
        sim,
        here,
        there,
        stores,
        directory,
        local,
        remote,
        lanes,
    }
}

#[test]
fn local_and_remote_stores_answer_alike_and_start_in_order() {
    let setup = setup(4);
    for store in [StoreId(1), StoreId(2)] {
        let call = |volume| setup.stores.call(store, Lane::Log, drop_log(volume));
        let calls: Vec<_> = (0..100).map(call).collect();
        for answer in run(&setup.sim, &setup.here, join_all(calls)) {
            let (reply, body) = answer.unwrap();
            assert_eq!((reply, &body[..]), (StoreReply::Done, &b"body"[..]));
        }
    }
    let order: Vec<VolumeId> = (0..100).map(VolumeId).collect();
    assert_eq!(*setup.local.started.borrow(), order);
    assert_eq!(*setup.remote.started.borrow(), order);
}

#[test]
fn a_refusal_is_told_apart_from_silence() {
    let setup = setup(4);
    for store in [StoreId(1), StoreId(2)] {
        let call = setup
            .stores
            .call(store, Lane::Bulk, StoreRequest::Status.into());
        let error = StoreError::Absent;
        let expected = Err(CallError::Refused { store, error });
        assert_eq!(run(&setup.sim, &setup.here, call), expected);
    }
    assert_eq!(*setup.lanes.borrow(), [Lane::Bulk]);
    setup.there.crash();
    let call = setup
        .stores
        .call(StoreId(2), Lane::Log, StoreRequest::Status.into());
    let answer = run(&setup.sim, &setup.here, call);
    assert!(
        matches!(answer, Err(CallError::Unreachable { .. })),
        "{answer:?}"
    );
}

#[test]
fn unknown_stores_and_nodes_are_named() {
    let setup = setup(4);
    for (store, words) in [(StoreId(3), "node-3"), (StoreId(9), "no node")] {
        let call = setup
            .stores
            .call(store, Lane::Log, StoreRequest::Status.into());
        match run(&setup.sim, &setup.here, call) {
            Err(CallError::Unreachable { reason, .. }) => assert!(reason.contains(words)),
            answer => panic!("{answer:?}"),
        }
    }
}

#[test]
fn a_local_request_whose_caller_gave_up_runs_to_its_end() {
    let setup = setup(4);
    drop(setup.stores.call(StoreId(1), Lane::Log, drop_log(1)));
    assert_eq!(setup.local.started.borrow().len(), 1);
    assert!(
        setup
            .sim
            .run_until(|| setup.local.finished.get() == 1, SECOND)
    );
}

#[test]
fn a_node_that_moved_is_called_at_its_new_address() {
    let setup = setup(4);
    let call = |volume| setup.stores.call(StoreId(2), Lane::Log, drop_log(volume));
    run(&setup.sim, &setup.here, call(0)).unwrap();
    let (moved, _) = start_node(&setup.there, 2);
    setup.sim.run_for(Duration::from_millis(1));
    setup
        .directory
        .set_nodes(BTreeMap::from([(NodeId(2), Address::from("there:2"))]));
    run(&setup.sim, &setup.here, call(1)).unwrap();
    assert_eq!(*moved.started.borrow(), [VolumeId(1)]);
    assert_eq!(*setup.remote.started.borrow(), [VolumeId(0)]);
}
