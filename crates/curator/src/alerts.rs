//! Which alerts there should be: pure, from what the leader knows anyway.
//!
//! State in memory: how long something has been wanted, or not wanted any more ([`AlertJudge`]). On disk: nothing; what is open
//! is in the catalog, and is given with every look.
//!
//! Invariants
//! - The same facts give the same alerts, whoever leads.
//! - What flaps does not: an alert is raised when its cause has lasted for a while, and resolved when the cause has been gone for
//!   [`CLEAR_AFTER`]. A threshold ends below where it begins. It gets worse at once, and better as slowly as it is resolved.
//! - A leader that is new has been told nothing: it resolves nothing before [`CLEAR_AFTER`] has passed.
//!
//! Read next: `alerts/rules.rs`, one rule after the other; `alerts/told.rs`, what events call for.

mod rules;
#[cfg(test)]
mod tests;
mod told;

use crate::Standing;
use catalog::{ALERTS_AT_ONCE, ALERTS_OPEN_MAX, AlertMark, AlertRow, AlertSteps, AlertTurn};
use catalog::{Severity, SpaceState};
use std::collections::{BTreeMap, BTreeSet};
use vocab::StoreId;
use world::{Duration, Time};

pub use rules::{from_event, wanted};
pub use told::{Called, EventJudge, QUARANTINED, RELEASED, end};

/// How long a cause must be gone before its alert is resolved.
pub const CLEAR_AFTER: Duration = Duration::from_secs(20);
/// An alert that is still so is written again after so long.
const SEEN_STEP_MS: u64 = 60_000;

/// A node as the rules see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeHealth {
    /// Its name.
    pub name: String,
    /// Whether it holds its lease.
    pub alive: bool,
    /// Whether it waits to be approved.
    pub candidate: bool,
    /// Whether it may be away now.
    pub excused: bool,
}

/// A store as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    /// Its id.
    pub id: StoreId,
    /// Name of its node.
    pub node: String,
    /// Whether that holds its lease.
    pub node_alive: bool,
    /// Whether it may be away now.
    pub excused: bool,
    /// What the plan makes of it.
    pub standing: Standing,
    /// Why its disks failed.
    pub failed: Option<String>,
    /// Whether it refuses everything.
    pub full: bool,
    /// Whether it takes nothing new.
    pub protected: bool,
    /// Percent of what clients may fill.
    pub fill: Option<u64>,
}

/// The groups with one number of copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiesHealth {
    /// The number.
    pub copies: u8,
    /// Groups.
    pub groups: u32,
    /// Groups with fewer copies.
    pub degraded: u32,
    /// Groups without any.
    pub unavailable: u32,
    /// Failure domains that may be lost.
    pub tolerates: u8,
}

/// Something that is wrong elsewhere, as it was said there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub entity: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub remedy: String,
    /// Whether a person must act.
    pub critical: bool,
}

/// A container with a quota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaUse {
    /// Its name.
    pub name: String,
    /// Bytes of its volumes' sizes.
    pub provisioned: u64,
    /// Bytes they may be.
    pub quota: u64,
}

/// The cluster at one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertFacts {
    /// Unix milliseconds.
    pub now_ms: u64,
    /// Nodes.
    pub nodes: Vec<NodeHealth>,
    /// Stores.
    pub stores: Vec<StoreHealth>,
    /// Data, by copies.
    pub data: Vec<CopiesHealth>,
    /// Logs of volumes have fewer copies than wanted.
    pub logs: Option<Problem>,
    /// Groups that lack a copy and have no store for it.
    pub waiting: u32,
    /// Members of groups that are being filled.
    pub filling: u32,
    /// How long no fill has ended although some run.
    pub stalled: Duration,
    /// What is in use does not fit on what a loss would leave.
    pub capacity: Option<Problem>,
    /// Space by copies, where it is not enough: its state, and why.
    pub space: Vec<(u8, SpaceState, String)>,
    /// What is wrong with the catalog's members.
    pub catalog: Option<Problem>,
    /// Names of nodes, and until when their certificates hold, Unix milliseconds.
    pub certificates: Vec<(String, u64)>,
    /// Volumes that nobody can use.
    pub volumes: Vec<Problem>,
    /// Containers.
    pub quotas: Vec<QuotaUse>,
    /// Targets of alerts that are not reached: name, since when, why.
    pub targets: Vec<(String, u64, String)>,
}

/// An alert that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedAlert {
    /// How much it matters.
    pub severity: Severity,
    /// What kind.
    pub kind: &'static str,
    /// What it is about.
    pub entity: String,
    /// What is wrong.
    pub cause: String,
    /// What follows from it.
    pub impact: String,
    /// What to do.
    pub remedy: String,
    /// How long its cause must last first.
    pub after: Duration,
    /// Whether it stays until somebody resolves it.
    pub by_hand: bool,
}

/// Names of alerts: kind and entity.
pub type Name = (String, String);

/// Judges one look after the other.
#[derive(Clone, Debug, Default)]
pub struct AlertJudge {
    /// Since when what is not open has been wanted.
    wanted: BTreeMap<Name, Time>,
    /// Since when what is open has not been, or has been less severe.
    better: BTreeMap<Name, Time>,
}

impl AlertJudge {
    /// What becomes of the alerts that are open, at most [`ALERTS_AT_ONCE`] turns: the rest follows at the next look.
    #[must_use]
    pub fn judge(
        &mut self,
        open: &[AlertRow],
        wanted: &[WantedAlert],
        now: Time,
        now_ms: u64,
    ) -> AlertSteps {
        let mut steps = AlertSteps::default();
        let known: BTreeMap<(&str, &str), &AlertRow> =
            open.iter().map(|row| (row.name(), row)).collect();
        let mut present: BTreeSet<Name> = BTreeSet::new();
        let mut room = ALERTS_OPEN_MAX.saturating_sub(open.len());
        for alert in wanted {
            let name = (alert.kind.to_owned(), alert.entity.clone());
            if !present.insert(name.clone()) {
                continue;
            }
            match known.get(&(alert.kind, &*alert.entity)) {
                Some(row) => self.again(row, alert, name, now, now_ms, &mut steps),
                None if room > 0 && self.has_lasted(alert, name, now) => {
                    room -= 1;
                    steps.turns.push((AlertTurn::Raised, raised(alert, now_ms)));
                }
                None => {}
            }
        }
        for row in open.iter().filter(|row| !row.by_hand) {
            let name = (row.kind.clone(), row.entity.clone());
            if !present.contains(&name) && self.is_gone(name, now) {
                steps
                    .turns
                    .push((AlertTurn::Resolved, resolved(row, now_ms)));
            }
        }
        self.wanted.retain(|name, _| present.contains(name));
        self.better
            .retain(|(kind, entity), _| known.contains_key(&(&**kind, &**entity)));
        // The most severe first, when there are many.
        steps
            .turns
            .sort_by_key(|(_, row)| std::cmp::Reverse(row.severity));
        steps.turns.truncate(ALERTS_AT_ONCE);
        steps.seen.truncate(ALERTS_AT_ONCE);
        steps
    }

    /// Whether something that is not open has been wanted for as long as it must.
    fn has_lasted(&mut self, alert: &WantedAlert, name: Name, now: Time) -> bool {
        let since = *self.wanted.entry(name).or_insert(now);
        now.since(since) >= alert.after
    }

    /// Whether something that is open has not been wanted for long enough.
    fn is_gone(&mut self, name: Name, now: Time) -> bool {
        let since = *self.better.entry(name).or_insert(now);
        now.since(since) >= CLEAR_AFTER
    }

    /// What is open and still wanted.
    fn again(
        &mut self,
        row: &AlertRow,
        alert: &WantedAlert,
        name: Name,
        now: Time,
        now_ms: u64,
        steps: &mut AlertSteps,
    ) {
        let changes = match alert.severity.cmp(&row.severity) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => self.is_gone(name, now),
            std::cmp::Ordering::Equal => {
                self.better.remove(&name);
                false
            }
        };
        let fresh = AlertRow {
            cause: alert.cause.clone(),
            impact: alert.impact.clone(),
            remedy: alert.remedy.clone(),
            seen_ms: now_ms,
            ..row.clone()
        };
        if changes {
            let worse = alert.severity > row.severity;
            steps.turns.push((
                AlertTurn::Changed,
                AlertRow {
                    severity: alert.severity,
                    // Who has seen the lesser evil has not seen this one.
                    acknowledged: row.acknowledged.clone().filter(|_| !worse),
                    ..fresh
                },
            ));
        } else if alert.severity == row.severity
            && now_ms.saturating_sub(row.seen_ms) >= SEEN_STEP_MS
        {
            steps.seen.push(fresh);
        }
    }
}

fn raised(alert: &WantedAlert, now_ms: u64) -> AlertRow {
    AlertRow {
        id: 0,
        severity: alert.severity,
        kind: alert.kind.to_owned(),
        entity: alert.entity.clone(),
        cause: alert.cause.clone(),
        impact: alert.impact.clone(),
        remedy: alert.remedy.clone(),
        raised_ms: now_ms,
        seen_ms: now_ms,
        by_hand: alert.by_hand,
        acknowledged: None,
        resolved: None,
    }
}

fn resolved(row: &AlertRow, now_ms: u64) -> AlertRow {
    AlertRow {
        resolved: Some(AlertMark {
            by: String::new(),
            at_ms: now_ms,
            note: None,
        }),
        ..row.clone()
    }
}
