use super::*;
use catalog::EventRow;

use crate::SpaceLimits;

fn at(seconds: u64) -> Time {
    Time(0) + Duration::from_secs(seconds)
}

fn node(name: &str, alive: bool) -> NodeHealth {
    NodeHealth {
        name: name.to_owned(),
        alive,
        ..NodeHealth::default()
    }
}

fn store(id: u32) -> StoreHealth {
    StoreHealth {
        id: StoreId(id),
        node: "a".to_owned(),
        node_alive: true,
        excused: false,
        standing: Standing::Present,
        failed: None,
        full: false,
        protected: false,
        fill: Some(10),
    }
}

fn named(facts: &AlertFacts, open: &[AlertRow]) -> Vec<(&'static str, String, Severity)> {
    let all = wanted(facts, open, &SpaceLimits::default());
    for alert in &all {
        let texts = [&alert.cause, &alert.impact, &alert.remedy];
        assert!(texts.iter().all(|text| !text.is_empty()), "{alert:?}");
    }
    all.into_iter()
        .map(|alert| (alert.kind, alert.entity, alert.severity))
        .collect()
}

fn one(kind: &'static str, entity: &str, severity: Severity) -> (&'static str, String, Severity) {
    (kind, entity.to_owned(), severity)
}

/// Lets a judge look once a second; what it wants done is done to `open`.
struct Looks {
    judge: AlertJudge,
    open: Vec<AlertRow>,
    second: u64,
    last: u64,
}

impl Looks {
    fn new() -> Self {
        Self {
            judge: AlertJudge::default(),
            open: Vec::new(),
            second: 0,
            last: 0,
        }
    }

    fn look(&mut self, facts: &AlertFacts) -> Vec<(AlertTurn, String)> {
        self.second += 1;
        let wanted = wanted(facts, &self.open, &SpaceLimits::default());
        let now_ms = self.second * 1000;
        let steps = self
            .judge
            .judge(&self.open, &wanted, at(self.second), now_ms);
        let mut told = Vec::new();
        for (turn, mut row) in steps.turns {
            told.push((turn, row.kind.clone()));
            if turn == AlertTurn::Raised {
                self.last += 1;
                row.id = self.last;
            }
            self.open.retain(|known| known.name() != row.name());
            if turn != AlertTurn::Resolved {
                self.open.push(row);
            }
        }
        for row in steps.seen {
            self.open.retain(|known| known.id != row.id);
            self.open.push(row);
        }
        told
    }

    /// What so many looks tell.
    fn looks(&mut self, facts: &AlertFacts, count: u32) -> Vec<(AlertTurn, String)> {
        (0..count).flat_map(|_| self.look(facts)).collect()
    }
}

#[test]
fn a_quiet_cluster_wants_no_alert() {
    let facts = AlertFacts {
        nodes: vec![node("a", true)],
        stores: vec![store(1)],
        certificates: vec![("a".to_owned(), 30 * 24 * 3600 * 1000)],
        space: vec![(2, SpaceState::Ok, String::new())],
        ..AlertFacts::default()
    };
    assert!(named(&facts, &[]).is_empty());
}

#[test]
fn nodes_and_stores_are_told_apart_from_those_that_may_be_away() {
    let mut lost = store(1);
    (lost.standing, lost.node_alive) = (Standing::Lost, false);
    let mut silent = store(2);
    silent.standing = Standing::Away;
    let mut excused = store(3);
    (excused.standing, excused.excused) = (Standing::Away, true);
    let mut failed = store(4);
    (failed.standing, failed.failed) = (Standing::Lost, Some("write failed".to_owned()));
    let facts = AlertFacts {
        nodes: vec![
            node("a", false),
            NodeHealth {
                excused: true,
                ..node("b", false)
            },
            NodeHealth {
                candidate: true,
                ..node("c", true)
            },
        ],
        stores: vec![lost, silent, excused, failed],
        ..AlertFacts::default()
    };
    assert_eq!(
        named(&facts, &[]),
        [
            one("node-lost", "node/a", Severity::Critical),
            one("candidate-waiting", "node/c", Severity::Info),
            one("store-lost", "store/1", Severity::Critical),
            one("store-silent", "store/2", Severity::Warning),
            one("store-failed", "store/4", Severity::Critical),
        ]
    );
}

#[test]
fn copies_that_are_missing_are_critical_where_the_next_loss_takes_data() {
    let data = |degraded, unavailable, tolerates| CopiesHealth {
        copies: 2,
        groups: 8,
        degraded,
        unavailable,
        tolerates,
    };
    let of = |data| {
        let facts = AlertFacts {
            data: vec![data],
            ..AlertFacts::default()
        };
        named(&facts, &[])
    };
    assert!(of(data(0, 0, 1)).is_empty());
    assert_eq!(
        of(data(1, 0, 1)),
        [one("copies-missing", "copies/2", Severity::Warning)]
    );
    assert_eq!(
        of(data(1, 0, 0)),
        [one("copies-missing", "copies/2", Severity::Critical)]
    );
    assert_eq!(of(data(1, 1, 0))[0].0, "data-unavailable");
}

#[test]
fn everything_else_that_can_be_wrong_is_told() {
    let problem = |critical| Problem {
        entity: "volume/v".to_owned(),
        reason: "why".to_owned(),
        remedy: "what to do".to_owned(),
        critical,
    };
    let facts = AlertFacts {
        now_ms: 1_000_000_000,
        logs: Some(problem(true)),
        waiting: 1,
        filling: 2,
        stalled: Duration::from_secs(601),
        capacity: Some(problem(false)),
        space: vec![
            (2, SpaceState::Warning, "why".to_owned()),
            (3, SpaceState::Protected, "why".to_owned()),
        ],
        catalog: Some(problem(true)),
        certificates: vec![("a".to_owned(), 999), ("b".to_owned(), 1_400_000_000)],
        volumes: vec![problem(true)],
        quotas: vec![QuotaUse {
            name: "c".to_owned(),
            provisioned: 90,
            quota: 100,
        }],
        targets: vec![
            ("t".to_owned(), 999_900_000, "refused".to_owned()),
            ("u".to_owned(), 999_990_000, "refused".to_owned()),
        ],
        ..AlertFacts::default()
    };
    assert_eq!(
        named(&facts, &[]),
        [
            one("repair-waiting", "cluster", Severity::Warning),
            one("repair-stalled", "cluster", Severity::Warning),
            one("log-copies-missing", "logs", Severity::Critical),
            one("space", "space/2", Severity::Warning),
            one("space", "space/3", Severity::Critical),
            one("capacity-short", "cluster", Severity::Warning),
            one("catalog-member", "catalog", Severity::Critical),
            one("certificate-expiring", "node/a", Severity::Critical),
            one("certificate-expiring", "node/b", Severity::Warning),
            one("volume-stopped", "volume/v", Severity::Critical),
            one("quota-nearly-used", "container/c", Severity::Warning),
            one("delivery-failed", "target/t", Severity::Warning),
        ]
    );
}

#[test]
fn a_store_that_fills_up_gets_worse_and_ends_below_where_it_began() {
    let facts = |fill, protected, full| AlertFacts {
        stores: vec![StoreHealth {
            fill: Some(fill),
            protected,
            full,
            ..store(1)
        }],
        ..AlertFacts::default()
    };
    let mut looks = Looks::new();
    assert!(looks.look(&facts(74, false, false)).is_empty());
    let raised = (AlertTurn::Raised, "store-filling".to_owned());
    assert_eq!(looks.look(&facts(75, false, false)), [raised]);
    // Neither what goes up and down around the threshold, nor another figure, is a change.
    for fill in [74, 76, 71, 80] {
        assert!(looks.look(&facts(fill, false, false)).is_empty());
    }
    let changed = [(AlertTurn::Changed, "store-filling".to_owned())];
    assert_eq!(looks.look(&facts(99, true, true)), changed);
    assert_eq!(looks.open[0].severity, Severity::Critical);
    assert!(looks.looks(&facts(90, true, false), 20).is_empty());
    assert_eq!(looks.looks(&facts(90, true, false), 2), changed);
    assert_eq!(looks.open[0].severity, Severity::Warning);
    let resolved = [(AlertTurn::Resolved, "store-filling".to_owned())];
    assert!(looks.looks(&facts(69, false, false), 20).is_empty());
    assert_eq!(looks.looks(&facts(69, false, false), 2), resolved);
}

#[test]
fn what_flaps_is_raised_and_resolved_once() {
    let with = |alive| AlertFacts {
        nodes: vec![node("a", alive)],
        ..AlertFacts::default()
    };
    let mut looks = Looks::new();
    // Started again within its time.
    assert!(looks.looks(&with(false), 4).is_empty());
    assert!(looks.looks(&with(true), 4).is_empty());
    let raised = (AlertTurn::Raised, "node-lost".to_owned());
    assert_eq!(looks.looks(&with(false), 6), [raised]);
    for _ in 0..10 {
        assert!(looks.looks(&with(true), 10).is_empty());
        assert!(looks.looks(&with(false), 10).is_empty());
    }
    let resolved = (AlertTurn::Resolved, "node-lost".to_owned());
    assert_eq!(looks.looks(&with(true), 30), [resolved]);
    assert!(looks.open.is_empty());
}

#[test]
fn what_gets_worse_has_been_seen_by_nobody() {
    let with = |tolerates| AlertFacts {
        data: vec![CopiesHealth {
            copies: 3,
            groups: 8,
            degraded: 4,
            unavailable: 0,
            tolerates,
        }],
        ..AlertFacts::default()
    };
    let mut looks = Looks::new();
    assert_eq!(looks.looks(&with(1), 20).len(), 1);
    looks.open[0].acknowledged = Some(AlertMark {
        by: "user a".to_owned(),
        at_ms: 1,
        note: None,
    });
    assert!(looks.looks(&with(1), 90).is_empty());
    assert!(looks.open[0].acknowledged.is_some());
    assert!(looks.open[0].seen_ms > 60_000, "{:?}", looks.open);
    assert_eq!(looks.look(&with(0)).len(), 1);
    assert!(looks.open[0].acknowledged.is_none());
    // It gets better: who has seen the worse has seen this.
    looks.open[0].acknowledged = Some(AlertMark {
        by: "user a".to_owned(),
        at_ms: 1,
        note: None,
    });
    assert_eq!(looks.looks(&with(1), 30).len(), 1);
    assert!(looks.open[0].acknowledged.is_some());
}

#[test]
fn what_only_an_event_says_stays_until_somebody_resolves_it() {
    let event = EventRow {
        id: 9,
        at_ms: 1,
        severity: Severity::Critical,
        kind: "rot".to_owned(),
        entity: "store/4".to_owned(),
        message: "a copy has rotted".to_owned(),
        remedy: Some("bring others back".to_owned()),
        node: "a".to_owned(),
        count: 1,
    };
    let alert = from_event(&event).expect("rot is an alert");
    assert!(alert.by_hand && alert.remedy.starts_with("bring others back; "));
    let quarantined = EventRow {
        kind: "volume-quarantined".to_owned(),
        remedy: Some("`azekura volume release v`".to_owned()),
        ..event.clone()
    };
    let quarantined = from_event(&quarantined).expect("so is a quarantine");
    assert!(
        quarantined.by_hand
            && quarantined
                .remedy
                .starts_with("`azekura volume release v`; ")
    );
    let quiet = EventRow {
        kind: "takeover".to_owned(),
        ..event
    };
    assert_eq!(from_event(&quiet), None);
    let mut judge = AlertJudge::default();
    let steps = judge.judge(&[], &[alert], at(0), 0);
    let open: Vec<AlertRow> = steps.turns.into_iter().map(|(_, row)| row).collect();
    for second in 1..100 {
        assert!(
            judge
                .judge(&open, &[], at(second), second * 1000)
                .are_none()
        );
    }
}

#[test]
fn many_alerts_come_in_bounded_steps_the_worst_first() {
    let facts = AlertFacts {
        nodes: (0..1000)
            .map(|number| NodeHealth {
                candidate: number < 500,
                ..node(&format!("n{number}"), false)
            })
            .collect(),
        ..AlertFacts::default()
    };
    let mut looks = Looks::new();
    let first = looks.looks(&facts, 5);
    assert!(first.len() <= 5 * ALERTS_AT_ONCE);
    let mut judge = AlertJudge::default();
    let all = wanted(&facts, &[], &SpaceLimits::default());
    let _ = judge.judge(&[], &all, at(0), 0);
    let steps = judge.judge(&[], &all, at(10), 10_000);
    assert_eq!(steps.turns.len(), ALERTS_AT_ONCE);
    looks.looks(&facts, 60);
    assert_eq!(looks.open.len(), ALERTS_OPEN_MAX);
}
