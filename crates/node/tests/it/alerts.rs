//! Alerts of a whole cluster: raised, delivered, acknowledged, resolved, by whichever node leads.

use crate::support::{Cluster, MIB, container_spec};
use api::{
    AlertAnswer, AlertOperation, AlertQuery, AlertState, AlertTargetSpec, AlertsAnswer, Answer,
    ContainerSpec, ErrorKind, Operation, StatusAnswer, TargetKind, VolumeSpec,
};
use catalog::{AlertTargetRow, AlertTurn, Catalog, EventRow, Severity};
use node::{Courier, Parcel};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use world::{Duration, LocalBoxFuture};

thread_local! {
    /// What was delivered: whereto, by which node, and what. Options of a simulated node are a plain function.
    static DELIVERED: RefCell<Vec<(String, Parcel)>> = const { RefCell::new(Vec::new()) };
    /// Attempts that were refused.
    static REFUSED: Cell<u32> = const { Cell::new(0) };
    /// Whether targets refuse everything.
    static REFUSES: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug)]
struct Post;

impl Courier for Post {
    fn deliver(
        &self,
        target: &AlertTargetRow,
        parcel: Parcel,
    ) -> LocalBoxFuture<'static, Result<(), String>> {
        if REFUSES.get() {
            REFUSED.set(REFUSED.get() + 1);
            return Box::pin(async { Err("it does not want to".to_owned()) });
        }
        let name = target.name.clone();
        DELIVERED.with_borrow_mut(|all| all.push((name, parcel)));
        Box::pin(async { Ok(()) })
    }
}

fn start(seed: u64, nodes: usize) -> Cluster {
    let cluster = Cluster::with_options(seed, nodes, |options| {
        options.events = true;
        options.alerts = true;
        options.courier = Some(Rc::new(Post));
    });
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 64 * MIB);
    cluster.sim.run_for(Duration::from_secs(30));
    cluster
}

fn ask(cluster: &Cluster, asked: usize, operation: AlertOperation) -> Answer {
    cluster.operate(asked, Operation::Alert(operation))
}

fn list(cluster: &Cluster, asked: usize, state: AlertState) -> AlertsAnswer {
    let query = AlertQuery {
        state: Some(state),
        ..AlertQuery::default()
    };
    match ask(cluster, asked, AlertOperation::List(query)) {
        Answer::Alerts(answer) => answer,
        other => panic!("not alerts: {other:?}"),
    }
}

fn add_target(cluster: &Cluster, name: &str) {
    let spec = AlertTargetSpec {
        url: Some("https://pager.test/in".to_owned()),
        ..AlertTargetSpec::new(name, TargetKind::Webhook)
    };
    ask(cluster, 0, AlertOperation::TargetAdd(spec));
}

/// Until an alert of this kind about this entity is in a list.
fn await_alert(
    cluster: &Cluster,
    asked: usize,
    state: AlertState,
    (kind, entity): (&str, &str),
    seconds: u64,
) -> AlertAnswer {
    for _ in 0..seconds {
        let all = list(cluster, asked, state).alerts;
        let named = |alert: &&AlertAnswer| alert.kind == kind && alert.entity == entity;
        if let Some(found) = all.iter().find(named) {
            return found.clone();
        }
        cluster.sim.run_for(Duration::from_secs(1));
    }
    let all = list(cluster, asked, AlertState::All);
    panic!("no {state:?} {kind} of {entity} within {seconds} s: {all:#?}");
}

/// Turns that a target was told of, of alerts of one kind.
fn told(target: &str, kind: &str) -> Vec<AlertTurn> {
    DELIVERED.with_borrow(|all| {
        let to = all.iter().filter(|(name, _)| name == target);
        let changes = to.flat_map(|(_, parcel)| &parcel.changes);
        let changes = changes.filter(|change| change.alert.kind == kind);
        changes.map(|change| change.turn).collect()
    })
}

fn status(cluster: &Cluster, asked: usize) -> StatusAnswer {
    match cluster.operate(asked, Operation::Status) {
        Answer::Status(status) => status,
        other => panic!("not the status: {other:?}"),
    }
}

#[test]
fn a_lost_node_is_an_alert_that_is_delivered_and_ends_by_itself() {
    let cluster = start(81, 4);
    add_target(&cluster, "pager");
    assert_eq!(list(&cluster, 1, AlertState::All).alerts, [], "all is well");
    let leader = (0..4).find(|&index| cluster.node(index).is_leading());
    let leader = leader.expect("one node leads");
    let lost = (leader + 1) % 4;
    let asked = (leader + 2) % 4;
    let entity = format!("node/{}", cluster.machines[lost].host.name());
    cluster.crash(lost);
    let name = ("node-lost", &*entity);
    let alert = await_alert(&cluster, asked, AlertState::Open, name, 12);
    assert_eq!((&*alert.severity, &*alert.state), ("critical", "open"));
    assert!(alert.impact.contains("volumes") && alert.remedy.contains("--lost"));
    let open = status(&cluster, asked).alerts.expect("the catalog answers");
    assert!(open.critical >= 1, "{open:?}");

    // It does not end because somebody says so.
    let resolve = AlertOperation::Resolve {
        id: alert.id,
        note: None,
        by: "user a".to_owned(),
    };
    let refused = cluster.try_operate(asked, Operation::Alert(resolve));
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Refused);
    for _ in 0..2 {
        let acknowledge = AlertOperation::Acknowledge {
            id: alert.id,
            note: Some("on my way".to_owned()),
            by: "user a".to_owned(),
        };
        let Answer::Alert(seen) = ask(&cluster, asked, acknowledge) else {
            panic!("not an alert");
        };
        let mark = seen.acknowledged.expect("somebody has seen it");
        assert_eq!(
            (seen.state.as_str(), mark.by.as_deref()),
            ("acknowledged", Some("user a"))
        );
    }
    cluster.restart(lost);
    let over = await_alert(&cluster, asked, AlertState::Resolved, name, 90);
    assert_eq!(over.id, alert.id);
    assert_eq!(over.resolved.expect("it is over").by, None);
    assert!(over.acknowledged.is_some());
    cluster.sim.run_for(Duration::from_secs(5));
    assert_eq!(
        told("pager", "node-lost"),
        [
            AlertTurn::Raised,
            AlertTurn::Acknowledged,
            AlertTurn::Resolved
        ]
    );
    cluster.sim.run_for(Duration::from_secs(90));
    assert_eq!(list(&cluster, asked, AlertState::Open).alerts, []);
    let open = status(&cluster, asked).alerts.expect("the catalog answers");
    assert_eq!((open.critical, open.warning, open.info), (0, 0, 0));
}

#[test]
fn the_next_leader_goes_on_with_alerts_and_deliveries() {
    let cluster = start(82, 4);
    add_target(&cluster, "pager");
    let leader = (0..4).find(|&index| cluster.node(index).is_leading());
    let leader = leader.expect("one node leads");
    let lost = (leader + 1) % 4;
    let asked = (leader + 2) % 4;
    let name = |index: usize| format!("node/{}", cluster.machines[index].host.name());
    cluster.crash(lost);
    let first = await_alert(
        &cluster,
        asked,
        AlertState::Open,
        ("node-lost", &name(lost)),
        12,
    );
    cluster.crash(leader);
    await_alert(
        &cluster,
        asked,
        AlertState::Open,
        ("node-lost", &name(leader)),
        20,
    );
    // A leader that has just begun knows little: it must neither end what is open nor raise it again.
    cluster.sim.run_for(Duration::from_secs(60));
    let again = await_alert(
        &cluster,
        asked,
        AlertState::Open,
        ("node-lost", &name(lost)),
        1,
    );
    assert_eq!(again.id, first.id);
    let raised = told("pager", "node-lost");
    assert_eq!(raised, [AlertTurn::Raised, AlertTurn::Raised]);
    let (by, ids) = DELIVERED.with_borrow(|all| {
        let by: Vec<String> = all.iter().map(|(_, parcel)| parcel.node.clone()).collect();
        let changes = all.iter().flat_map(|(_, parcel)| &parcel.changes);
        let ids: Vec<u64> = changes.map(|change| change.id).collect();
        (by, ids)
    });
    assert!(
        ids.is_sorted_by(|one, other| one < other),
        "in order, each once: {ids:?}"
    );
    let former = cluster.machines[leader].host.name();
    assert!(by.iter().any(|node| node == former) && by.iter().any(|node| node != former));
}

#[test]
fn a_target_that_is_not_reached_is_an_alert_and_misses_nothing() {
    let cluster = start(83, 3);
    add_target(&cluster, "pager");
    REFUSES.set(true);
    let spec = ContainerSpec {
        quota: Some(100 * MIB),
        ..container_spec("small")
    };
    cluster.operate(0, Operation::ContainerCreate(spec));
    let spec = VolumeSpec {
        name: "most".to_owned(),
        container: Some("small".to_owned()),
        size: Some(95 * MIB),
        ..VolumeSpec::default()
    };
    cluster.operate(0, Operation::VolumeCreate(spec));
    let quota = ("quota-nearly-used", "container/small");
    await_alert(&cluster, 0, AlertState::Open, quota, 80);
    let failed = ("delivery-failed", "target/pager");
    let alert = await_alert(&cluster, 1, AlertState::Open, failed, 150);
    assert!(alert.cause.contains("does not want to"), "{alert:?}");
    assert!(
        (3..20).contains(&REFUSED.get()),
        "pauses grow: {}",
        REFUSED.get()
    );
    let Answer::AlertTargets(targets) = ask(&cluster, 1, AlertOperation::TargetList) else {
        panic!("not targets");
    };
    assert!(
        targets[0].waiting > 0 && targets[0].failures > 0,
        "{targets:?}"
    );
    let show = |name: &str| AlertOperation::TargetShow {
        name: name.to_owned(),
    };
    let Answer::AlertTarget(shown) = ask(&cluster, 2, show("pager")) else {
        panic!("not a target");
    };
    assert!(shown.waiting > 0 && shown.failures > 0, "{shown:?}");
    assert_eq!(shown.version, targets[0].version);
    let missing = cluster.try_operate(2, Operation::Alert(show("none")));
    assert_eq!(missing.unwrap_err().kind, ErrorKind::NotFound);
    let test = AlertOperation::TargetTest {
        name: "pager".to_owned(),
    };
    let refused = cluster.try_operate(1, Operation::Alert(test.clone()));
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Refused);
    REFUSES.set(false);
    // A test that arrives has what waits follow at once.
    ask(&cluster, 1, test);
    cluster.sim.run_for(Duration::from_secs(5));
    assert_eq!(told("pager", "quota-nearly-used"), [AlertTurn::Raised]);
    await_alert(&cluster, 1, AlertState::Resolved, failed, 60);
    cluster.sim.run_for(Duration::from_secs(5));
    assert_eq!(
        told("pager", "delivery-failed"),
        [AlertTurn::Raised, AlertTurn::Resolved]
    );
    let delete = AlertOperation::TargetDelete {
        name: "pager".to_owned(),
    };
    ask(&cluster, 2, delete);
    let Answer::AlertTargets(targets) = ask(&cluster, 1, AlertOperation::TargetList) else {
        panic!("not targets");
    };
    assert!(targets.is_empty());
}

#[test]
fn what_only_an_event_says_is_resolved_by_hand() {
    let cluster = start(84, 3);
    let event = EventRow {
        id: 0,
        at_ms: 1,
        severity: Severity::Critical,
        kind: "rot".to_owned(),
        entity: "store/2".to_owned(),
        message: "a copy has rotted".to_owned(),
        remedy: None,
        node: "a".to_owned(),
        count: 1,
    };
    let catalog = Catalog::new(Rc::new(cluster.kv.handle(cluster.machines[0].host.world())));
    let written = cluster.run(0, async move { catalog.append_events(&[event]).await });
    written.expect("the catalog answers");
    let rot = ("rot", "store/2");
    let alert = await_alert(&cluster, 1, AlertState::Open, rot, 20);
    assert!(alert.by_hand);
    cluster.sim.run_for(Duration::from_secs(60));
    let resolve = || AlertOperation::Resolve {
        id: alert.id,
        note: Some("disk replaced".to_owned()),
        by: "user a".to_owned(),
    };
    let Answer::Alert(over) = ask(&cluster, 2, resolve()) else {
        panic!("not an alert");
    };
    let mark = over.resolved.expect("it is over");
    assert_eq!(
        (mark.by.as_deref(), mark.note.as_deref()),
        (Some("user a"), Some("disk replaced"))
    );
    let again = cluster.try_operate(2, Operation::Alert(resolve()));
    assert_eq!(again.unwrap_err().kind, ErrorKind::Refused);
    let missing = AlertOperation::Show { id: 999 };
    let missing = cluster.try_operate(2, Operation::Alert(missing));
    assert_eq!(missing.unwrap_err().kind, ErrorKind::NotFound);
    cluster.sim.run_for(Duration::from_secs(60));
    assert_eq!(list(&cluster, 0, AlertState::Open).alerts, []);
    let shown = await_alert(&cluster, 0, AlertState::Resolved, rot, 1);
    assert_eq!(shown.id, alert.id);
}
