//! What people ask about alerts, and say of them; and who is told of alerts.

mod targets;

use super::{Result, catalog_error};
use crate::host::Host;
use api::sort::{Key, Order, Part};
use api::{
    ALERTS_DEFAULT, ALERTS_LIMIT_MAX, AlertAnswer, AlertCountsAnswer, AlertKindFigures,
    AlertMarkAnswer, AlertOperation, AlertQuery, AlertSeverity, AlertSort, AlertState,
    AlertsAnswer, Answer, NOTE_CHARS_MAX, OperationError,
};
use catalog::{AlertCounts, AlertHead, AlertMark, AlertRow, AlertTurn, CatalogError, Severity};
use std::rc::Rc;
use world::Duration;

/// How long an answer about something else waits for the counts.
const COUNTS_PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn severity_of(severity: AlertSeverity) -> Severity {
    match severity {
        AlertSeverity::Info => Severity::Info,
        AlertSeverity::Warning => Severity::Warning,
        AlertSeverity::Critical => Severity::Critical,
    }
}

fn mark(mark: AlertMark) -> AlertMarkAnswer {
    AlertMarkAnswer {
        by: (!mark.by.is_empty()).then_some(mark.by),
        at_ms: mark.at_ms,
        note: mark.note,
    }
}

fn describe(row: AlertRow) -> AlertAnswer {
    let state = match (&row.resolved, &row.acknowledged) {
        (Some(_), _) => "resolved",
        (None, Some(_)) => "acknowledged",
        (None, None) => "open",
    };
    AlertAnswer {
        id: row.id,
        severity: row.severity.name().to_owned(),
        kind: row.kind,
        entity: row.entity,
        cause: row.cause,
        impact: row.impact,
        remedy: row.remedy,
        state: state.to_owned(),
        raised_ms: row.raised_ms,
        seen_ms: row.seen_ms,
        by_hand: row.by_hand,
        acknowledged: row.acknowledged.map(mark),
        resolved: row.resolved.map(mark),
    }
}

fn counts(counts: &AlertCounts) -> AlertCountsAnswer {
    AlertCountsAnswer {
        critical: counts.critical,
        warning: counts.warning,
        info: counts.info,
    }
}

/// All kinds together.
fn sum(head: &AlertHead) -> AlertCountsAnswer {
    let mut all = AlertCountsAnswer::default();
    for kind in head.open.values() {
        all.critical += kind.critical;
        all.warning += kind.warning;
        all.info += kind.info;
    }
    all
}

/// Whether a row is one that is asked for.
fn fits(row: &AlertRow, query: &AlertQuery) -> bool {
    let severity = query.severity.map(severity_of);
    severity.is_none_or(|severity| row.severity == severity)
        && query.kind.as_ref().is_none_or(|kind| *kind == row.kind)
        && query
            .entity
            .as_ref()
            .is_none_or(|entity| *entity == row.entity)
}

/// What an alert has in a field that alerts can be ordered by.
fn key_of(row: &AlertRow, field: &str) -> Key {
    match field {
        "severity" => match row.severity {
            Severity::Info => Key::Number(0),
            Severity::Warning => Key::Number(1),
            Severity::Critical => Key::Number(2),
        },
        // Open ones, those that somebody has seen, those that are over.
        "state" => match (&row.resolved, &row.acknowledged) {
            (None, None) => Key::Number(0),
            (None, Some(_)) => Key::Number(1),
            (Some(_), _) => Key::Number(2),
        },
        "kind" => row.kind.as_str().into(),
        "entity" => row.entity.as_str().into(),
        "seen" => row.seen_ms.into(),
        _ => Key::Nothing,
    }
}

/// A note, or why it is none.
fn noted(note: Option<String>) -> Result<Option<String>> {
    let note = note.map(|note| note.trim().to_owned());
    let note = note.filter(|note| !note.is_empty());
    match note.as_ref().map_or(0, |note| note.chars().count()) {
        0..=NOTE_CHARS_MAX => Ok(note),
        long => Err(OperationError::bad_request(format!(
            "a note has at most {NOTE_CHARS_MAX} characters, and this one has {long}"
        ))),
    }
}

impl Host {
    /// Carries out what concerns alerts.
    pub(super) async fn alerts(self: &Rc<Self>, operation: AlertOperation) -> Result<Answer> {
        match operation {
            AlertOperation::List(query) => self.list_alerts(&query).await,
            AlertOperation::Show { id } => {
                let row = self.catalog.alert(id).await.map_err(catalog_error)?;
                Ok(Answer::Alert(describe(row)))
            }
            AlertOperation::Acknowledge { id, note, by } => {
                self.acknowledge_alert(id, noted(note)?, by).await
            }
            AlertOperation::Resolve { id, note, by } => {
                self.resolve_alert(id, noted(note)?, by).await
            }
            AlertOperation::TargetList => self.list_targets().await,
            AlertOperation::TargetShow { name } => self.show_target(&name).await,
            AlertOperation::TargetAdd(spec) => self.add_target(spec).await,
            AlertOperation::TargetDelete { name } => {
                let deleted = self.catalog.delete_alert_target(&name).await;
                deleted.map_err(catalog_error)?;
                Ok(Answer::Done)
            }
            AlertOperation::TargetTest { name } => self.test_target(name).await,
        }
    }

    /// The same, forwarded by another node.
    pub(super) async fn alerts_here(self: &Rc<Self>, operation: AlertOperation) -> Result<Answer> {
        match operation {
            AlertOperation::TargetTest { name } => self.test_target_here(&name).await,
            other => self.alerts(other).await,
        }
    }

    async fn list_alerts(&self, query: &AlertQuery) -> Result<Answer> {
        let limit = query.limit.unwrap_or(ALERTS_DEFAULT);
        if !(1..=ALERTS_LIMIT_MAX).contains(&limit) {
            let hint = format!("`limit` of alerts is 1 to {ALERTS_LIMIT_MAX}");
            return Err(OperationError::bad_request(hint));
        }
        let now = self.catalog.alerts_now().await.map_err(catalog_error)?;
        let open = sum(&now.head());
        let state = query.state.unwrap_or_default();
        let mut rows = match state {
            AlertState::Resolved => Vec::new(),
            AlertState::Open | AlertState::All => now.open,
        };
        if state != AlertState::Open {
            let past = self.catalog.past_alerts().await;
            rows.extend(past.map_err(catalog_error)?);
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.id));
        // One that is resolved between the two reads is in both.
        rows.dedup_by_key(|row| row.id);
        let part = Part {
            order: query.sort.map_or(Order::NEWEST, AlertSort::order),
            after: query.before,
            limit: limit as usize + 1,
        };
        let mut rows = part.of(rows, |row| row.id, key_of, |row| fits(row, query))?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().map(|row| row.id).filter(|_| more);
        Ok(Answer::Alerts(AlertsAnswer {
            open,
            alerts: rows.into_iter().map(describe).collect(),
            next,
        }))
    }

    async fn acknowledge_alert(&self, id: u64, note: Option<String>, by: String) -> Result<Answer> {
        let at_ms = self.world.clock.unix_ms();
        let turned = self.catalog.turn_alert(id, at_ms, |row| {
            let again = |mark: &AlertMark| mark.by == by && mark.note == note;
            if row.acknowledged.as_ref().is_some_and(again) {
                return Ok(None);
            }
            row.acknowledged = Some(AlertMark {
                by: by.clone(),
                at_ms,
                note: note.clone(),
            });
            Ok(Some(AlertTurn::Acknowledged))
        });
        let row = turned.await.map_err(catalog_error)?;
        self.upkeep.alerts.on_changed();
        Ok(Answer::Alert(describe(row)))
    }

    async fn resolve_alert(&self, id: u64, note: Option<String>, by: String) -> Result<Answer> {
        let at_ms = self.world.clock.unix_ms();
        let turned = self.catalog.turn_alert(id, at_ms, |row| {
            if !row.by_hand {
                return Err(CatalogError::Refused(format!(
                    "alert {id} ends by itself when its cause is gone ({}); acknowledge it to say that somebody knows",
                    row.cause
                )));
            }
            row.resolved = Some(AlertMark {
                by: by.clone(),
                at_ms,
                note: note.clone(),
            });
            Ok(Some(AlertTurn::Resolved))
        });
        let row = turned.await.map_err(catalog_error)?;
        self.upkeep.alerts.on_changed();
        Ok(Answer::Alert(describe(row)))
    }

    /// Resolves the open alert of a kind about an entity, if there is one that somebody ends by hand.
    pub(super) async fn resolve_named(
        &self,
        kind: &str,
        entity: &str,
        by: &str,
        note: &str,
    ) -> Result<()> {
        let now = self.catalog.alerts_now().await.map_err(catalog_error)?;
        let named = |row: &&AlertRow| row.name() == (kind, entity) && row.by_hand;
        let Some(row) = now.open.iter().find(named) else {
            return Ok(());
        };
        let resolved = self.resolve_alert(row.id, Some(note.to_owned()), by.to_owned());
        resolved.await.map(|_| ())
    }

    async fn alert_head(&self) -> Option<AlertHead> {
        let head = self.catalog.alert_head();
        let head = self.world.timeout(COUNTS_PATIENCE, head).await;
        head.ok().and_then(std::result::Result::ok)
    }

    /// Open alerts, for an answer about the whole cluster.
    pub(super) async fn alert_counts(&self) -> Option<AlertCountsAnswer> {
        self.alert_head().await.as_ref().map(sum)
    }

    /// The same by kind, for the metrics.
    pub(super) async fn alert_figures(&self) -> Option<Vec<AlertKindFigures>> {
        let head = self.alert_head().await?;
        let kinds = head.open.iter().map(|(kind, open)| AlertKindFigures {
            kind: kind.clone(),
            open: counts(open),
        });
        Some(kinds.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_trimmed_and_bounded() {
        assert_eq!(noted(None).unwrap(), None);
        assert_eq!(noted(Some("  ".to_owned())).unwrap(), None);
        let note = noted(Some(" on it\n".to_owned())).unwrap();
        assert_eq!(note.as_deref(), Some("on it"));
        assert!(noted(Some("é".repeat(NOTE_CHARS_MAX))).unwrap().is_some());
        assert!(noted(Some("é".repeat(NOTE_CHARS_MAX + 1))).is_err());
    }

    #[test]
    fn all_kinds_are_summed() {
        let kind = |critical, warning| AlertCounts {
            critical,
            warning,
            info: 1,
        };
        let open = [("a".to_owned(), kind(1, 2)), ("b".to_owned(), kind(0, 3))];
        let head = AlertHead {
            open: open.into(),
            ..AlertHead::default()
        };
        let all = sum(&head);
        assert_eq!((all.critical, all.warning, all.info), (1, 5, 2));
    }
}
