//! What events call for, one after the other: an alert that somebody ends by hand, or its end.
//!
//! Invariants
//! - A volume that was released from quarantine has no alert of what was before, in whichever order nodes wrote it down.

use super::{AlertRow, AlertSteps, Name, WantedAlert, from_event, resolved};
use catalog::{ALERTS_AT_ONCE, EventRow};
use std::collections::{BTreeMap, BTreeSet};

/// Kind of the event, and of the alert, that a volume is in quarantine.
pub const QUARANTINED: &str = "volume-quarantined";
/// Kind of the event that somebody has released it.
pub const RELEASED: &str = "volume-released";
/// So long after a release an event that says that the volume is in quarantine is of before: a node writes its events within two
/// seconds, another one hears of the release within two more, and clocks differ. It takes three more ends of processes until it is
/// true again, and then it is told each time somebody is refused.
const LATE_MS: u64 = 10_000;
/// Releases are remembered for so long: events are looked at every few seconds.
const REMEMBERED_MS: u64 = 60_000;

/// What some events call for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// Alerts that should be there.
    pub wanted: Vec<WantedAlert>,
    /// Alerts that should not be there any more: kind and entity.
    pub over: BTreeSet<Name>,
}

/// Judges one event after the other.
#[derive(Clone, Debug, Default)]
pub struct EventJudge {
    /// When volumes were released, by entity, Unix milliseconds.
    released: BTreeMap<String, u64>,
}

impl EventJudge {
    /// What events call for that are given in the order of their log. The same events again call for the same.
    #[must_use]
    pub fn judge(&mut self, events: &[EventRow]) -> Called {
        let mut called = Called::default();
        for event in events {
            let name = (QUARANTINED.to_owned(), event.entity.clone());
            match &*event.kind {
                RELEASED => {
                    self.released.insert(event.entity.clone(), event.at_ms);
                    called
                        .wanted
                        .retain(|one| (one.kind, &one.entity) != (QUARANTINED, &event.entity));
                    called.over.insert(name);
                }
                QUARANTINED if self.is_late(event) => {}
                _ => {
                    if let Some(wanted) = from_event(event) {
                        called
                            .over
                            .remove(&(wanted.kind.to_owned(), wanted.entity.clone()));
                        called.wanted.push(wanted);
                    }
                }
            }
        }
        if let Some(newest) = events.iter().map(|event| event.at_ms).max() {
            self.released
                .retain(|_, at_ms| newest.saturating_sub(*at_ms) < REMEMBERED_MS);
        }
        called
    }

    /// Whether it is of before the volume's release.
    fn is_late(&self, event: &EventRow) -> bool {
        let released = self.released.get(&event.entity);
        released.is_some_and(|at_ms| event.at_ms < at_ms.saturating_add(LATE_MS))
    }
}

/// Resolves those of the open alerts that stay until somebody says so, and are over. With [`ALERTS_AT_ONCE`] turns there may be more.
pub fn end(open: &[AlertRow], over: &BTreeSet<Name>, now_ms: u64, steps: &mut AlertSteps) {
    let is_over =
        |row: &&AlertRow| row.by_hand && over.contains(&(row.kind.clone(), row.entity.clone()));
    let ends = open.iter().filter(is_over);
    let ends = ends.map(|row| (catalog::AlertTurn::Resolved, resolved(row, now_ms)));
    steps.turns.extend(ends);
    steps.turns.truncate(ALERTS_AT_ONCE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::AlertJudge;
    use catalog::{AlertTurn, Severity};
    use world::Time;

    fn event(kind: &str, entity: &str, at_ms: u64) -> EventRow {
        EventRow {
            id: 1,
            at_ms,
            severity: Severity::Critical,
            kind: kind.to_owned(),
            entity: entity.to_owned(),
            message: "m".to_owned(),
            remedy: None,
            node: "a".to_owned(),
            count: 1,
        }
    }

    fn kinds(called: &Called) -> Vec<(&str, &str)> {
        let wanted = called.wanted.iter();
        wanted.map(|one| (one.kind, &*one.entity)).collect()
    }

    #[test]
    fn a_release_ends_the_alert_of_the_quarantine_and_of_no_other_volume() {
        let mut judge = EventJudge::default();
        let before = judge.judge(&[
            event(QUARANTINED, "volume/v", 1_000),
            event(QUARANTINED, "volume/w", 1_000),
        ]);
        assert_eq!(before.wanted.len(), 2);
        let raised = AlertJudge::default().judge(&[], &before.wanted, Time(0), 1_000);
        let open: Vec<AlertRow> = raised.turns.into_iter().map(|(_, row)| row).collect();
        let called = judge.judge(&[
            event(RELEASED, "volume/v", 2_000),
            event("rot", "store/4", 2_000),
        ]);
        assert_eq!(kinds(&called), [("rot", "store/4")]);
        let mut steps = AlertSteps::default();
        end(&open, &called.over, 3_000, &mut steps);
        let [(AlertTurn::Resolved, row)] = &steps.turns[..] else {
            panic!("one is over: {steps:?}");
        };
        assert_eq!(row.name(), (QUARANTINED, "volume/v"));
        assert!(row.resolved.is_some());
    }

    #[test]
    fn what_was_told_before_a_release_raises_nothing_whenever_it_is_written() {
        let quarantined = event(QUARANTINED, "volume/v", 1_000);
        let released = event(RELEASED, "volume/v", 2_000);
        // Between two looks, in either order, and at the look after.
        for events in [
            [quarantined.clone(), released.clone()],
            [released.clone(), quarantined],
        ] {
            let called = EventJudge::default().judge(&events);
            assert!(
                called.wanted.is_empty() && called.over.len() == 1,
                "{called:?}"
            );
        }
        let mut judge = EventJudge::default();
        let _ = judge.judge(&[released]);
        // By a clock that is ahead.
        let late = judge.judge(&[event(QUARANTINED, "volume/v", 2_000 + LATE_MS - 1)]);
        assert_eq!(late, Called::default());
        let again = judge.judge(&[event(QUARANTINED, "volume/v", 2_000 + LATE_MS)]);
        assert_eq!(kinds(&again), [(QUARANTINED, "volume/v")]);
        assert!(again.over.is_empty());
    }

    #[test]
    fn a_volume_that_is_in_quarantine_again_has_an_alert_again() {
        let mut judge = EventJudge::default();
        let called = judge.judge(&[
            event(RELEASED, "volume/v", 2_000),
            event(QUARANTINED, "volume/v", 2_000 + LATE_MS),
        ]);
        assert_eq!(kinds(&called), [(QUARANTINED, "volume/v")]);
        assert!(called.over.is_empty(), "{called:?}");
        assert!(judge.released.len() == 1);
        let _ = judge.judge(&[event("takeover", "volume/w", 2_000 + REMEMBERED_MS)]);
        assert!(judge.released.is_empty(), "what is remembered is bounded");
    }
}
