//! A store that is exchanged while it is used: the conformance suite before and after, and what callers keep.

use crate::support::{block_on, conformance};
use catalog::kv::{Change, Compare, Kv, KvError, Op, Outcome, Revision};
use catalog_kv::memory::MemoryKv;
use catalog_kv::switch::SwitchKv;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use world::{Duration, World};
use world_sim::{Options, Simulation};

fn put(key: &str, value: &str) -> Op {
    Op::Put(key.to_owned(), value.as_bytes().to_vec())
}

async fn commit(kv: &dyn Kv, change: Op) -> Revision {
    match kv.txn(Vec::new(), vec![change]).await {
        Ok(Outcome::Committed(revision)) => revision,
        other => panic!("{other:?}"),
    }
}

/// Copies every row that no lease holds, and that the suite has not left: it runs on a store without any.
async fn copy(old: Rc<dyn Kv>, new: Rc<dyn Kv>) -> Result<Rc<dyn Kv>, KvError> {
    for entry in old.snapshot("").await?.entries {
        if entry.key.starts_with("leased/") || entry.key.starts_with("conformance/") {
            continue;
        }
        new.txn(Vec::new(), vec![Op::Put(entry.key, entry.value)])
            .await?;
    }
    Ok(new)
}

async fn exchange(switch: &SwitchKv, new: &MemoryKv) -> Result<(), KvError> {
    let new: Rc<dyn Kv> = Rc::new(new.clone());
    let pause = || -> world::LocalBoxFuture<'static, ()> { Box::pin(async {}) };
    switch.exchange(pause, |old| copy(old, new)).await
}

#[test]
fn a_switch_conforms_before_and_after_an_exchange() {
    block_on(|world| async move {
        let (first, second) = (MemoryKv::new(world.clone()), MemoryKv::new(world.clone()));
        let switch = SwitchKv::new(Rc::new(first));
        conformance::run(Rc::new(switch.clone()), world.clone()).await;
        exchange(&switch, &second).await.unwrap();
        conformance::run(Rc::new(switch), world).await;
    });
}

/// Two stores, and a task with both that runs in simulated time.
fn simulated<F: Future<Output = ()> + 'static>(task: impl FnOnce(World, SwitchKv, MemoryKv) -> F) {
    let sim = Simulation::new(3, Options::default());
    let host = sim.host("node");
    let world = host.world();
    let (first, second) = (MemoryKv::new(world.clone()), MemoryKv::new(world.clone()));
    let switch = SwitchKv::new(Rc::new(first));
    let done = Rc::new(Cell::new(false));
    let (finished, task) = (done.clone(), task(world, switch, second));
    host.spawn(async move {
        task.await;
        finished.set(true);
    });
    assert!(sim.run_until(|| done.get(), Duration::from_secs(600)));
}

#[test]
fn versions_of_before_hold_exactly_if_nothing_has_changed() {
    simulated(|_, switch, second| async move {
        let first = commit(&switch, put("row", "1")).await;
        let current = commit(&switch, put("row", "2")).await;
        for _ in 0..20 {
            commit(&switch, put("other", "x")).await;
        }
        exchange(&switch, &second).await.unwrap();
        let at = |version| vec![Compare::Version("row".to_owned(), version)];
        let stale = switch.txn(at(first), vec![put("row", "bad")]).await;
        assert_eq!(stale, Ok(Outcome::Conflict));
        let read = switch.get("row").await.unwrap().unwrap();
        assert!(read.version > current, "versions never go back");
        let Ok(Outcome::Committed(next)) = switch.txn(at(current), vec![put("row", "3")]).await
        else {
            panic!("the row has not changed since");
        };
        assert!(next > read.version);
        let again = switch.txn(at(current), vec![put("row", "bad")]).await;
        assert_eq!(again, Ok(Outcome::Conflict), "now it has");
        let row = switch.get("row").await.unwrap().unwrap();
        assert_eq!((row.value.as_slice(), row.version), (&b"3"[..], next));
        let inner = second.get("row").await.unwrap().unwrap();
        assert_eq!(switch.recorded(next), inner.version);
        assert_eq!(switch.recorded(current), current);
    });
}

#[test]
fn leases_go_on_with_their_keys_and_ended_ones_stay_ended() {
    simulated(|world, switch, second| async move {
        let ttl = Duration::from_secs(2);
        let (lives, ends) = (
            switch.grant(ttl).await.unwrap(),
            switch.grant(ttl).await.unwrap(),
        );
        for (key, lease) in [("leased/a", lives), ("leased/b", ends)] {
            commit(&switch, Op::PutLeased(key.to_owned(), vec![7], lease)).await;
        }
        for _ in 0..3 {
            world.sleep(Duration::from_secs(1)).await;
            switch.renew(lives).await.unwrap();
        }
        exchange(&switch, &second).await.unwrap();
        assert_eq!(switch.renew(ends).await, Err(KvError::LeaseEnded));
        assert_eq!(switch.get("leased/b").await.unwrap(), None);
        for _ in 0..5 {
            world.sleep(Duration::from_secs(1)).await;
            switch.renew(lives).await.unwrap();
        }
        assert_eq!(switch.get("leased/a").await.unwrap().unwrap().value, [7]);
        world.sleep(Duration::from_secs(5)).await;
        assert_eq!(switch.get("leased/a").await.unwrap(), None, "it ended");
        assert_eq!(switch.renew(lives).await, Err(KvError::LeaseEnded));
    });
}

#[test]
fn watches_end_and_begin_again_without_a_gap() {
    simulated(|world, switch, second| async move {
        let before = commit(&switch, put("w/a", "1")).await;
        let mut watch = switch.watch("w/", 0);
        assert_eq!(watch.next().await.unwrap().len(), 1);
        let outcome = Rc::new(RefCell::new(None));
        let sink = outcome.clone();
        world.spawn(async move {
            *sink.borrow_mut() = Some(watch.next().await);
        });
        world.sleep(Duration::from_millis(10)).await;
        exchange(&switch, &second).await.unwrap();
        world.sleep(Duration::from_millis(10)).await;
        assert!(matches!(
            *outcome.borrow(),
            Some(Err(KvError::Compacted(_)))
        ));
        let mut late = switch.watch("w/", before);
        assert!(matches!(late.next().await, Err(KvError::Compacted(_))));
        let page = switch.range("w/", None, 10).await.unwrap();
        let mut watch = switch.watch("w/", page.revision);
        let next = commit(&switch, put("w/b", "2")).await;
        let changes = watch.next().await.unwrap();
        let [Change::Put(entry)] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!((entry.key.as_str(), entry.version), ("w/b", next));
    });
}

#[test]
fn calls_wait_for_an_exchange_and_one_that_fails_changes_nothing() {
    simulated(|world, switch, second| async move {
        let version = commit(&switch, put("row", "1")).await;
        let (waiting, clone) = (Rc::new(RefCell::new(None)), switch.clone());
        let (sink, spawner) = (waiting.clone(), world.clone());
        let pause = || -> world::LocalBoxFuture<'static, ()> { Box::pin(async {}) };
        let failed: Result<(), KvError> = switch
            .exchange(pause, async |_| {
                spawner.spawn(async move {
                    *sink.borrow_mut() = Some(clone.get("row").await);
                });
                world.sleep(Duration::from_secs(3)).await;
                assert!(waiting.borrow().is_none(), "it waits");
                Err(KvError::Unavailable("no".to_owned()))
            })
            .await;
        assert_eq!(failed, Err(KvError::Unavailable("no".to_owned())));
        world.sleep(Duration::from_millis(1)).await;
        let found = waiting
            .borrow_mut()
            .take()
            .expect("it goes on")
            .unwrap()
            .unwrap();
        assert_eq!(found.version, version);
        assert_eq!(second.get("row").await.unwrap(), None);
        commit(&switch, put("row", "2")).await;
    });
}
