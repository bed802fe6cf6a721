//! Tasks: one of a kind about a thing, numbered, bounded, never changed after their end.

use catalog::{Catalog, CatalogError, TaskRow, TaskStatus};
use catalog_kv::memory::MemoryKv;
use std::rc::Rc;
use world_sim::{Options, Simulation};

fn task(kind: &str, subject: &str) -> TaskRow {
    TaskRow {
        kind: kind.to_owned(),
        entity: subject.to_owned(),
        subject: subject.to_owned(),
        unit: "parts".to_owned(),
        total: 5,
        ..TaskRow::default()
    }
}

pub(crate) fn run(task: impl AsyncFnOnce(Catalog) + 'static) {
    let sim = Simulation::new(1, Options::default());
    let host = sim.host("a");
    let kv = MemoryKv::new(host.world());
    let catalog = Catalog::new(Rc::new(kv.handle(host.world())));
    let done = Rc::new(std::cell::Cell::new(false));
    let flag = done.clone();
    host.spawn(async move {
        task(catalog).await;
        flag.set(true);
    });
    assert!(sim.run_until(|| done.get(), world::Duration::from_secs(3600)));
}

#[test]
fn one_task_of_a_kind_about_a_thing_is_open() {
    run(async |catalog| {
        let head = catalog.task_head().await.unwrap();
        let (first, new) = catalog
            .begin_task(&task("node-drain", "node/1"))
            .await
            .unwrap();
        assert!(new && first.id == 1);
        assert_ne!(catalog.task_head().await.unwrap(), head);
        let (same, new) = catalog
            .begin_task(&task("node-drain", "node/1"))
            .await
            .unwrap();
        assert!(!new && same.id == 1);
        let (other, new) = catalog
            .begin_task(&task("node-drain", "node/2"))
            .await
            .unwrap();
        assert!(new && other.id == 2);
        let end = |row: TaskRow| row.ended(TaskStatus::Succeeded, "done", 7);
        let ended = catalog.change_task(1, end).await.unwrap();
        assert_eq!((ended.done, ended.ended_ms), (5, 7));
        let again = catalog
            .change_task(1, |row| row.ended(TaskStatus::Failed, "no", 9))
            .await;
        assert_eq!(again.unwrap(), ended, "what has ended stays");
        let (next, new) = catalog
            .begin_task(&task("node-drain", "node/1"))
            .await
            .unwrap();
        assert!(new && next.id == 3);
    });
}

#[test]
fn a_wish_to_cancel_is_heard_and_refused_after_the_end() {
    run(async |catalog| {
        let (row, _) = catalog
            .begin_task(&task("balance", "cluster"))
            .await
            .unwrap();
        let known = catalog.task(row.id).await.unwrap();
        let head = catalog.task_head().await.unwrap();
        assert_eq!(
            catalog
                .cancel_task(row.id, "user eve")
                .await
                .unwrap()
                .cancel,
            "user eve"
        );
        assert_ne!(catalog.task_head().await.unwrap(), head);
        let running = TaskRow {
            status: TaskStatus::Running,
            ..known.row.clone()
        };
        let written = catalog.write_tasks(&[(&known, &running)]).await.unwrap();
        assert_eq!(written, None, "it was planned from what has changed");
        let end = |row: TaskRow| row.ended(TaskStatus::Cancelled, "as wanted", 3);
        catalog.change_task(row.id, end).await.unwrap();
        let late = catalog.cancel_task(row.id, "user eve").await;
        assert!(matches!(late, Err(CatalogError::Refused(_))), "{late:?}");
        let none = catalog.cancel_task(99, "user eve").await;
        assert!(
            matches!(none, Err(CatalogError::NotFound { .. })),
            "{none:?}"
        );
    });
}

#[test]
fn rows_are_bounded_and_a_lost_claim_is_taken_over() {
    run(async |catalog| {
        let (first, _) = catalog.begin_task(&task("scrub", "store/0")).await.unwrap();
        for number in 1..=4000 {
            catalog
                .begin_task(&task("scrub", &format!("store/{number}")))
                .await
                .unwrap();
        }
        let rows = catalog.list::<TaskRow>().await.unwrap();
        assert_eq!(rows.len(), 4000);
        // It was open: nothing names it any more.
        let claim = |number: u32| format!("task-of/scrub/store/{number}");
        assert_eq!(catalog.resolve(&claim(0)).await.unwrap(), None);
        assert_eq!(catalog.resolve(&claim(1)).await.unwrap(), Some(2));
        assert!(catalog.task(first.id).await.is_err(), "the oldest is gone");
        let (anew, new) = catalog.begin_task(&task("scrub", "store/0")).await.unwrap();
        assert!(new && anew.id == 4002);
        catalog.forget_tasks(&[2, 3]).await.unwrap();
        assert_eq!(catalog.list::<TaskRow>().await.unwrap().len(), 3999);
    });
}

#[test]
fn a_claim_that_another_task_holds_outlives_the_one_it_named() {
    run(async |catalog| {
        let (old, _) = catalog.begin_task(&task("scrub", "store/0")).await.unwrap();
        let end = |row: TaskRow| row.ended(TaskStatus::Succeeded, "done", 7);
        catalog.change_task(old.id, end).await.unwrap();
        let (open, _) = catalog.begin_task(&task("scrub", "store/0")).await.unwrap();
        for number in 1..=3999 {
            catalog
                .begin_task(&task("scrub", &format!("store/{number}")))
                .await
                .unwrap();
        }
        assert!(catalog.task(old.id).await.is_err(), "the oldest is gone");
        let (same, new) = catalog.begin_task(&task("scrub", "store/0")).await.unwrap();
        assert!(!new && same.id == open.id);
    });
}

#[test]
fn the_leader_hears_of_a_task_that_is_handed_over() {
    run(async |catalog| {
        let carried = TaskRow {
            run: 5,
            ..task("disk-replace", "store/1")
        };
        let (row, _) = catalog.begin_task(&carried).await.unwrap();
        let head = catalog.task_head().await.unwrap();
        let on = |row: TaskRow| TaskRow { done: 1, ..row };
        catalog.change_task(row.id, on).await.unwrap();
        assert_eq!(catalog.task_head().await.unwrap(), head, "progress alone");
        let over = |row: TaskRow| TaskRow { run: 0, ..row };
        catalog.change_task(row.id, over).await.unwrap();
        assert_ne!(catalog.task_head().await.unwrap(), head);
        let (next, _) = catalog.begin_task(&task("scrub", "store/1")).await.unwrap();
        assert_eq!(next.id, row.id + 1, "ids go on");
    });
}
