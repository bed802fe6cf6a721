//! The log of events: numbered, bounded, whole.

use catalog::{Catalog, EVENTS_AT_ONCE, EVENTS_MAX, EventRow, Severity};
use catalog_kv::memory::MemoryKv;
use std::rc::Rc;
use world_sim::{Options, Simulation};

fn event(number: usize) -> EventRow {
    EventRow {
        id: 0,
        at_ms: number as u64,
        severity: Severity::Info,
        kind: "test".to_owned(),
        entity: "cluster".to_owned(),
        message: format!("event {number}"),
        remedy: None,
        node: "a".to_owned(),
        count: 1,
    }
}

#[test]
fn events_are_numbered_and_the_oldest_go() {
    let sim = Simulation::new(1, Options::default());
    let host = sim.host("a");
    let kv = MemoryKv::new(host.world());
    let catalog = Catalog::new(Rc::new(kv.handle(host.world())));
    let done = Rc::new(std::cell::Cell::new(false));
    let flag = done.clone();
    host.spawn(async move {
        assert!(catalog.events(None, 10).await.unwrap().is_empty());
        let appends = EVENTS_MAX as usize / EVENTS_AT_ONCE + 2;
        for append in 0..appends {
            let first = append * EVENTS_AT_ONCE;
            let batch: Vec<EventRow> = (first..first + EVENTS_AT_ONCE).map(event).collect();
            catalog.append_events(&batch).await.unwrap();
        }
        let last = (appends * EVENTS_AT_ONCE) as u64;
        let newest = catalog.events(None, 3).await.unwrap();
        let ids: Vec<u64> = newest.iter().map(|event| event.id).collect();
        assert_eq!(ids, [last - 2, last - 1, last]);
        assert_eq!(newest[2].message, format!("event {}", last - 1));
        let all = catalog.events(Some(0), 5000).await.unwrap();
        assert_eq!(all.len() as u64, EVENTS_MAX);
        assert_eq!(all[0].id, last - EVENTS_MAX + 1);
        let after = catalog.events(Some(last - 5), 2).await.unwrap();
        assert_eq!(
            after.iter().map(|event| event.id).collect::<Vec<_>>(),
            [last - 4, last - 3]
        );
        assert!(catalog.events(Some(last), 5).await.unwrap().is_empty());
        flag.set(true);
    });
    assert!(sim.run_until(|| done.get(), world::Duration::from_secs(600)));
}
