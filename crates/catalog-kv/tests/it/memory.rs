//! The store in memory: the conformance suite, faults, and several simulated nodes on one store.

use crate::support::{block_on, conformance};
use catalog::kv::{Change, Kv, KvError, LeaseId, Op, Outcome};
use catalog_kv::memory::{MemoryKv, Outage};
use futures_util::FutureExt;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use world::{Duration, World};
use world_sim::{Options, Simulation};

fn put(key: &str) -> Op {
    Op::Put(key.to_owned(), vec![1])
}

#[test]
fn the_store_in_memory_conforms() {
    block_on(|world| conformance::run(Rc::new(MemoryKv::new(world.clone())), world));
}

#[test]
fn the_store_in_memory_conforms_in_simulated_time_with_latency() {
    let sim = Simulation::new(7, Options::rough());
    let (server, client) = (sim.host("catalog"), sim.host("node"));
    let kv = MemoryKv::new(server.world());
    let rng = client.world().rng;
    kv.set_latency(move || Duration::from_micros(rng.next_u64() % 2_000));
    let done = Rc::new(Cell::new(false));
    let (kv, finished, world) = (kv.handle(client.world()), done.clone(), client.world());
    client.spawn(async move {
        conformance::run(Rc::new(kv), world).await;
        finished.set(true);
    });
    assert!(sim.run_until(|| done.get(), Duration::from_secs(600)));
}

/// A store and the world its calls, which never wait, run in.
fn store() -> (Simulation, World, MemoryKv) {
    let sim = Simulation::new(1, Options::default());
    let world = sim.host("catalog").world();
    let kv = MemoryKv::new(world.clone());
    (sim, world, kv)
}

fn txn(kv: &MemoryKv, changes: Vec<Op>) -> Result<Outcome, KvError> {
    kv.txn(vec![], changes).now_or_never().expect("no latency")
}

#[test]
fn an_outage_loses_the_request_or_only_the_reply() {
    let (_sim, world, kv) = store();
    let here = kv.handle(world);
    kv.set_available(false);
    assert!(matches!(
        txn(&kv, vec![put("a")]),
        Err(KvError::Unavailable(_))
    ));
    assert!(kv.entries().is_empty());
    kv.set_outage(Outage::After);
    assert!(matches!(
        txn(&kv, vec![put("b")]),
        Err(KvError::Unavailable(_))
    ));
    assert_eq!(kv.entries().len(), 1);
    kv.set_available(true);
    here.set_outage_here(Outage::Before);
    assert!(matches!(
        txn(&here, vec![put("c")]),
        Err(KvError::Unavailable(_))
    ));
    assert!(matches!(
        txn(&kv, vec![put("c")]),
        Ok(Outcome::Committed(_))
    ));
}

#[test]
fn a_watch_outlasts_an_outage_and_is_told_of_compaction() {
    let (_sim, _world, kv) = store();
    let mut watch = kv.watch("", 0);
    kv.set_outage(Outage::After);
    assert!(txn(&kv, vec![put("a")]).is_err());
    assert_eq!(watch.next().now_or_never(), None);
    kv.set_available(true);
    let seen = watch.next().now_or_never().expect("reconnected");
    assert_eq!(seen.map(|changes| changes.len()), Ok(1));
    assert!(txn(&kv, vec![put("a")]).is_ok());
    kv.compact();
    let lagging = kv.watch("", 0).next().now_or_never();
    assert_eq!(lagging, Some(Err(KvError::Compacted(0))));
    let mut current = kv.watch("", kv.revision());
    assert_eq!(current.next().now_or_never(), None);
}

#[test]
fn expired_leases_are_seen_by_watches_without_any_call() {
    let sim = Simulation::new(3, Options::rough());
    let (server, node, peer) = (sim.host("catalog"), sim.host("node"), sim.host("peer"));
    let kv = MemoryKv::new(server.world());
    let lease = Rc::new(Cell::new(LeaseId(0)));
    let gone = Rc::new(RefCell::new(Vec::new()));
    let (handle, granted, world) = (kv.handle(node.world()), lease.clone(), node.world());
    node.spawn(async move {
        let id = handle.grant(Duration::from_secs(3)).await.expect("up");
        let alive = Op::PutLeased("alive/node".to_owned(), vec![], id);
        handle.txn(vec![], vec![alive]).await.expect("up");
        granted.set(id);
        loop {
            world.sleep(Duration::from_secs(1)).await;
            handle.renew(id).await.expect("in time");
        }
    });
    let (mut watch, seen) = (kv.handle(peer.world()).watch("alive/", 0), gone.clone());
    peer.spawn(async move {
        loop {
            let changes = watch.next().await.expect("nothing is compacted");
            let deleted = |change| matches!(change, Change::Deleted { .. }).then_some(change);
            seen.borrow_mut()
                .extend(changes.into_iter().filter_map(deleted));
        }
    });
    sim.run_for(Duration::from_secs(20));
    assert!(gone.borrow().is_empty(), "renewed all the time");
    node.crash();
    sim.run_for(Duration::from_secs(2));
    assert!(gone.borrow().is_empty(), "the lease runs on after a crash");
    sim.run_for(Duration::from_secs(2));
    assert_eq!(gone.borrow().len(), 1);
    assert!(kv.entries().is_empty());
    let renewed = kv.renew(lease.get()).now_or_never();
    assert_eq!(renewed, Some(Err(KvError::LeaseEnded)));
}

#[test]
fn leases_can_be_ended_at_once() {
    let (_sim, _world, kv) = store();
    let lease = kv.grant(Duration::from_secs(99)).now_or_never();
    let lease = lease.expect("no latency").expect("up");
    let alive = Op::PutLeased("alive".to_owned(), vec![], lease);
    assert!(txn(&kv, vec![alive.clone()]).is_ok());
    kv.expire_leases();
    assert!(kv.entries().is_empty());
    assert_eq!(txn(&kv, vec![alive]), Err(KvError::LeaseEnded));
}

#[test]
fn a_call_dropped_under_way_may_have_happened() {
    let sim = Simulation::new(5, Options::default());
    let (server, node) = (sim.host("catalog"), sim.host("node"));
    let kv = MemoryKv::new(server.world());
    kv.set_latency(|| Duration::from_millis(10));
    let spawn = |key: &'static str| {
        let handle = kv.handle(node.world());
        node.spawn(async move {
            let _crashed = handle.txn(vec![], vec![put(key)]).await;
        });
    };
    spawn("reached");
    sim.run_for(Duration::from_millis(11));
    spawn("lost");
    sim.run_for(Duration::from_millis(5));
    node.crash();
    sim.run_for(Duration::from_secs(1));
    let keys: Vec<String> = kv.entries().into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["reached"]);
}
