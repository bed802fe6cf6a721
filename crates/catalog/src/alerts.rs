//! What is wrong now, and what was: alerts, their history, and the changes that are to be delivered.
//!
//! State: one row per open alert (`alert/N`), one per alert that was resolved (`alert-past/N`), a ring of changes
//! (`alert-change/N`), and the head (`alerts`), which every change of an alert replaces.
//!
//! Invariants
//! - At most one open alert has a kind and an entity; ids and numbers of changes grow and are never used twice.
//! - A change of alerts, its entry in the ring and the counts of the head are one transaction, which compares the head: a list
//!   that was read after the head is the one that the change was made from.
//! - At most [`ALERTS_OPEN_MAX`] are open, [`ALERTS_PAST_MAX`] are kept for [`PAST_MS_MAX`] afterwards, and the ring has
//!   [`ALERT_CHANGES_MAX`] entries.
//!
//! Read next: `targets.rs`, who is told; `curator::alerts`, what is wanted.

use crate::access::{Catalog, CatalogError, Transaction, Versioned, decode};
use crate::events::{Severity, TEXT_CHARS_MAX};
use crate::rows::{Row, numbered};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Alerts that are open at most: half a MiB.
pub const ALERTS_OPEN_MAX: usize = 256;
/// Resolved alerts that are kept, beside those of the last minutes: a MiB.
pub const ALERTS_PAST_MAX: usize = 500;
/// How long they are kept at most: 30 days.
pub const PAST_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// Changes that wait to be delivered: a MiB. Who is further behind misses the oldest.
pub const ALERT_CHANGES_MAX: u64 = 512;
/// Alerts raised, changed or resolved by one transaction; as many more may be seen again.
pub const ALERTS_AT_ONCE: usize = 24;
/// Deletions of one transaction.
const FORGET_AT_ONCE: usize = 64;
/// Rounds of compare-and-swap: operators and the leader.
const ROUNDS_MAX: usize = 16;
/// A resolution deletes, keeps, tells and lets the oldest change go; what is seen is a put; and the head.
const _: () = assert!(ALERTS_AT_ONCE * 4 + ALERTS_AT_ONCE + 1 < 128);

/// Who has seen an alert, or resolved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertMark {
    /// Who; empty: nobody, its cause is gone.
    pub by: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// What was said of it.
    #[serde(default)]
    pub note: Option<String>,
}

/// Something that is wrong, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRow {
    /// Its number.
    pub id: u64,
    /// How much it matters.
    pub severity: Severity,
    /// What kind, such as `node-lost`: for programs.
    pub kind: String,
    /// What it is about, such as `node/node-3`, `store/4`, `volume/db` or `cluster`.
    pub entity: String,
    /// What is wrong.
    pub cause: String,
    /// What follows from it.
    pub impact: String,
    /// What to do about it.
    pub remedy: String,
    /// Since when, Unix milliseconds.
    pub raised_ms: u64,
    /// When it was last found to be so, Unix milliseconds; within a minute or so.
    pub seen_ms: u64,
    /// Whether it stays until somebody resolves it.
    #[serde(default)]
    pub by_hand: bool,
    /// Who has seen it.
    #[serde(default)]
    pub acknowledged: Option<AlertMark>,
    /// When it ended, and by whom.
    #[serde(default)]
    pub resolved: Option<AlertMark>,
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(end);
    }
}

impl AlertRow {
    /// What it is one of.
    #[must_use]
    pub fn name(&self) -> (&str, &str) {
        (&self.kind, &self.entity)
    }

    /// With texts that are not longer than they may be.
    fn bounded(mut self) -> Self {
        [&mut self.cause, &mut self.impact, &mut self.remedy]
            .into_iter()
            .for_each(cut);
        let marks = [&mut self.acknowledged, &mut self.resolved];
        for mark in marks.into_iter().flatten() {
            cut(&mut mark.by);
            mark.note.iter_mut().for_each(cut);
        }
        self
    }
}

impl Row for AlertRow {
    const PREFIX: &'static str = "alert/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.id)
    }
}

/// An alert that is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct PastAlertRow(AlertRow);

impl Row for PastAlertRow {
    const PREFIX: &'static str = "alert-past/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.0.id)
    }
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertTurn {
    /// It is new.
    Raised,
    /// It is of another severity.
    Changed,
    /// Somebody has seen it.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl AlertTurn {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Changed => "changed",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// A change that is to be delivered, with the alert as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertChangeRow {
    /// Its number.
    pub id: u64,
    /// What happened.
    pub turn: AlertTurn,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// How much it mattered before.
    pub before: Severity,
    /// The alert.
    pub alert: AlertRow,
}

impl Row for AlertChangeRow {
    const PREFIX: &'static str = "alert-change/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.id)
    }
}

/// Open alerts of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertCounts {
    /// Critical ones.
    pub critical: u32,
    /// Warnings.
    pub warning: u32,
    /// The others.
    pub info: u32,
}

impl AlertCounts {
    fn add(&mut self, severity: Severity) {
        match severity {
            Severity::Critical => self.critical += 1,
            Severity::Warning => self.warning += 1,
            Severity::Info => self.info += 1,
        }
    }
}

/// What all alerts have in common. One row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertHead {
    /// The last number of an alert.
    pub last: u64,
    /// The last number of a change.
    pub last_change: u64,
    /// The last event that was looked at.
    #[serde(default)]
    pub events: u64,
    /// Open alerts by kind.
    #[serde(default)]
    pub open: BTreeMap<String, AlertCounts>,
}

impl Row for AlertHead {
    const PREFIX: &'static str = "alerts";
    fn key(&self) -> String {
        Self::PREFIX.to_owned()
    }
}

/// Open alerts with the head that they were read under.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertsNow {
    head: Option<Versioned<AlertHead>>,
    /// By id.
    pub open: Vec<AlertRow>,
}

impl AlertsNow {
    /// The head; what it is before there was an alert.
    #[must_use]
    pub fn head(&self) -> AlertHead {
        self.head
            .as_ref()
            .map(|head| head.row.clone())
            .unwrap_or_default()
    }
}

/// What shall become of the alerts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertSteps {
    /// New ones get their ids, others are resolved or of another severity or acknowledged: see [`AlertTurn`].
    pub turns: Vec<(AlertTurn, AlertRow)>,
    /// The same as before, found again.
    pub seen: Vec<AlertRow>,
    /// The last event that was looked at.
    pub events: Option<u64>,
}

impl AlertSteps {
    /// Whether nothing changes.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.turns.is_empty() && self.seen.is_empty() && self.events.is_none()
    }
}

/// Everything that a change of alerts writes.
fn transaction(now: &AlertsNow, steps: &AlertSteps, at_ms: u64) -> Transaction {
    let mut head = now.head();
    let mut open: BTreeMap<u64, AlertRow> =
        now.open.iter().map(|row| (row.id, row.clone())).collect();
    let mut change = Transaction::new();
    for (turn, row) in &steps.turns {
        let mut row = row.clone().bounded();
        if *turn == AlertTurn::Raised {
            head.last += 1;
            row.id = head.last;
        }
        head.last_change += 1;
        let told = AlertChangeRow {
            id: head.last_change,
            turn: *turn,
            at_ms,
            before: open.get(&row.id).map_or(row.severity, |was| was.severity),
            alert: row.clone(),
        };
        change = change.put(&told);
        if let Some(old) = told.id.checked_sub(ALERT_CHANGES_MAX) {
            change = change.free_name(numbered(AlertChangeRow::PREFIX, old));
        }
        change = match *turn {
            AlertTurn::Resolved => {
                open.remove(&row.id);
                change.free_name(row.key()).put(&PastAlertRow(row.clone()))
            }
            _ => {
                open.insert(row.id, row.clone());
                change.put(&row)
            }
        };
    }
    for row in &steps.seen {
        change = change.put(&row.clone().bounded());
    }
    head.events = steps.events.unwrap_or(head.events);
    head.open.clear();
    for row in open.values() {
        let counts = head.open.entry(row.kind.clone()).or_default();
        counts.add(row.severity);
    }
    match &now.head {
        // Only seen again: nobody needs to hear of that, but the list must be the one it was.
        Some(known) if known.row == head => change.unchanged(known),
        Some(known) => change.replace(known, &head),
        None => change.create(&head),
    }
}

impl Catalog {
    /// The open alerts.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn alerts_now(&self) -> Result<AlertsNow, CatalogError> {
        let head = self.read::<AlertHead>(AlertHead::PREFIX).await?;
        let open = self.list::<AlertRow>().await?;
        Ok(AlertsNow {
            head,
            open: open.into_iter().map(|found| found.row).collect(),
        })
    }

    /// What all alerts have in common.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn alert_head(&self) -> Result<AlertHead, CatalogError> {
        let head = self.read::<AlertHead>(AlertHead::PREFIX).await?;
        Ok(head.map(|head| head.row).unwrap_or_default())
    }

    /// Carries steps out that were planned from `now`; whether it did, and nobody else was faster. At most [`ALERTS_AT_ONCE`] of
    /// either kind.
    ///
    /// # Errors
    /// [`CatalogError::Kv`]: then it may be done, which shows when the alerts are read again.
    pub async fn change_alerts(
        &self,
        now: &AlertsNow,
        steps: &AlertSteps,
        at_ms: u64,
    ) -> Result<bool, CatalogError> {
        assert!(
            steps.turns.len() <= ALERTS_AT_ONCE && steps.seen.len() <= ALERTS_AT_ONCE,
            "a change of alerts is bounded"
        );
        let done = self.commit(transaction(now, steps, at_ms)).await?;
        Ok(done.is_some())
    }

    /// Lets `edit` change one open alert, and tells of it. `edit` says what it did; nothing: it stays as it is. Returns the alert.
    ///
    /// # Errors
    /// `edit`'s, [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn turn_alert(
        &self,
        id: u64,
        at_ms: u64,
        mut edit: impl FnMut(&mut AlertRow) -> Result<Option<AlertTurn>, CatalogError>,
    ) -> Result<AlertRow, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let now = self.alerts_now().await?;
            let Some(mut row) = now.open.iter().find(|row| row.id == id).cloned() else {
                let past = self.alert(id).await?;
                return Err(CatalogError::Refused(format!(
                    "alert {} is resolved already: it says no more than what was",
                    past.id
                )));
            };
            let Some(turn) = edit(&mut row)? else {
                return Ok(row);
            };
            let steps = AlertSteps {
                turns: vec![(turn, row.clone())],
                ..AlertSteps::default()
            };
            if self.change_alerts(&now, &steps, at_ms).await? {
                return Ok(row.bounded());
            }
        }
        Err(CatalogError::Contended)
    }

    /// An alert, open or not.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn alert(&self, id: u64) -> Result<AlertRow, CatalogError> {
        let open = numbered(AlertRow::PREFIX, id);
        if let Some(found) = self.read::<AlertRow>(&open).await? {
            return Ok(found.row);
        }
        let past = numbered(PastAlertRow::PREFIX, id);
        let found = self.read::<PastAlertRow>(&past).await?;
        found
            .map(|found| found.row.0)
            .ok_or(CatalogError::NotFound {
                kind: "alert",
                name: id.to_string(),
            })
    }

    /// Resolved alerts, by id.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn past_alerts(&self) -> Result<Vec<AlertRow>, CatalogError> {
        let past = self.list::<PastAlertRow>().await?;
        Ok(past.into_iter().map(|found| found.row.0).collect())
    }

    /// Forgets alerts that were resolved long ago, or before many others. Safe to repeat.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn forget_alerts(&self, now_ms: u64) -> Result<(), CatalogError> {
        let mut past = self.past_alerts().await?;
        let ended = |row: &AlertRow| row.resolved.as_ref().map_or(0, |mark| mark.at_ms);
        past.sort_by_key(|row| std::cmp::Reverse((ended(row), row.id)));
        let is_old = |row: &AlertRow| ended(row).saturating_add(PAST_MS_MAX) < now_ms;
        let old = past
            .iter()
            .enumerate()
            .filter(|(place, row)| *place >= ALERTS_PAST_MAX || is_old(row));
        let keys: Vec<String> = old
            .map(|(_, row)| numbered(PastAlertRow::PREFIX, row.id))
            .collect();
        for some in keys.chunks(FORGET_AT_ONCE) {
            let change = some.iter().cloned();
            self.commit(change.fold(Transaction::new(), Transaction::free_name))
                .await?;
        }
        Ok(())
    }

    /// Changes after this one, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn alert_changes(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AlertChangeRow>, CatalogError> {
        let key = numbered(AlertChangeRow::PREFIX, after);
        let kv = self.kv();
        let page = kv.range(AlertChangeRow::PREFIX, Some(&key), limit).await?;
        let entries = page.entries.iter();
        entries
            .map(|entry| decode(&entry.key, &entry.value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fuzz_alert_rows_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<AlertRow>("alert/1", &bytes);
            let _ = decode::<AlertChangeRow>("alert-change/1", &bytes);
            let _ = decode::<AlertHead>("alerts", &bytes);
        }
    }

    #[test]
    fn texts_of_a_row_are_bounded() {
        let mark = AlertMark {
            by: "user a".to_owned(),
            at_ms: 1,
            note: Some("é".repeat(2000)),
        };
        let row = AlertRow {
            id: 1,
            severity: Severity::Info,
            kind: "k".to_owned(),
            entity: "cluster".to_owned(),
            cause: "é".repeat(2000),
            impact: String::new(),
            remedy: String::new(),
            raised_ms: 1,
            seen_ms: 1,
            by_hand: false,
            acknowledged: Some(mark),
            resolved: None,
        };
        let row = row.bounded();
        assert_eq!(row.cause.chars().count(), TEXT_CHARS_MAX);
        let note = row.acknowledged.and_then(|mark| mark.note);
        assert_eq!(note.map(|note| note.chars().count()), Some(TEXT_CHARS_MAX));
    }
}
