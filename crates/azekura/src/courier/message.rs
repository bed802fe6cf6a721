//! What alerts are in other words: as JSON for programs, as lines for people.

use crate::output::time;
use ::node::Parcel;
use catalog::{AlertChangeRow, AlertMark, AlertRow};
use serde_json::{Value, json};

/// Version of the JSON form; fields are added within it.
const VERSION: u32 = 1;

/// The name of a delivery: the same for every attempt to deliver one change. The time is part of it, as numbers begin anew with a
/// catalog that is made anew.
pub fn delivery_id(parcel: &Parcel) -> String {
    match parcel.changes.first() {
        Some(change) => format!("{}-{}-{}", parcel.cluster_id, change.id, change.at_ms),
        None => format!("{}-test-{}", parcel.cluster_id, parcel.now_ms),
    }
}

/// What happened, in a word.
pub fn event(parcel: &Parcel) -> &'static str {
    let change = parcel.changes.first();
    change.map_or("test", |change| change.turn.name())
}

/// A time as RFC 3339 has it.
pub fn rfc3339(milliseconds: u64) -> String {
    time(milliseconds).replace(' ', "T")
}

fn mark(mark: Option<&AlertMark>) -> Value {
    let Some(mark) = mark else {
        return Value::Null;
    };
    let by = (!mark.by.is_empty()).then_some(&mark.by);
    json!({"by": by, "at_ms": mark.at_ms, "note": mark.note})
}

fn alert(row: &AlertRow) -> Value {
    json!({
        "id": row.id,
        "severity": row.severity.name(),
        "kind": row.kind,
        "entity": row.entity,
        "cause": row.cause,
        "impact": row.impact,
        "remedy": row.remedy,
        "raised_ms": row.raised_ms,
        "acknowledged": mark(row.acknowledged.as_ref()),
        "resolved": mark(row.resolved.as_ref()),
    })
}

/// Where people look at alerts.
pub fn page(parcel: &Parcel) -> Option<String> {
    let api = parcel.api.as_ref()?;
    Some(format!("{api}/alerts"))
}

/// As JSON.
pub fn as_json(parcel: &Parcel) -> Value {
    let change = parcel.changes.first();
    json!({
        "version": VERSION,
        "id": delivery_id(parcel),
        "event": event(parcel),
        "at_ms": change.map_or(parcel.now_ms, |change| change.at_ms),
        "sent_ms": parcel.now_ms,
        "cluster": {"name": parcel.cluster, "id": parcel.cluster_id},
        "node": parcel.node,
        "url": page(parcel),
        "severity_before": change.map(|change| change.before.name()),
        "alert": change.map(|change| alert(&change.alert)),
    })
}

/// The subject of a mail.
pub fn subject(parcel: &Parcel) -> String {
    match parcel.changes.first() {
        Some(AlertChangeRow { turn, alert, .. }) => format!(
            "[{}] {} {}: {} of {}",
            parcel.cluster,
            alert.severity.name(),
            turn.name(),
            alert.kind,
            alert.entity
        ),
        None => format!("[{}] test of alerts", parcel.cluster),
    }
}

fn said(what: &str, mark: Option<&AlertMark>) -> Option<String> {
    let mark = mark?;
    let by = match mark.by.is_empty() {
        true => "its cause is gone".to_owned(),
        false => format!("by {}", mark.by),
    };
    let note = mark.note.as_ref();
    let note = note.map_or_else(String::new, |note| format!(": {note}"));
    Some(format!("{what} {} ({by}){note}", time(mark.at_ms)))
}

/// The text of a mail.
pub fn text(parcel: &Parcel) -> String {
    let mut lines = Vec::new();
    match parcel.changes.first() {
        Some(AlertChangeRow { alert, .. }) => {
            lines.push(alert.cause.clone());
            lines.push(format!("Impact: {}", alert.impact));
            lines.push(format!("Remedy: {}", alert.remedy));
            lines.push(String::new());
            lines.push(format!("Raised {}", time(alert.raised_ms)));
            lines.extend(said("Acknowledged", alert.acknowledged.as_ref()));
            lines.extend(said("Resolved", alert.resolved.as_ref()));
            lines.push(format!("Alert {} of cluster {}", alert.id, parcel.cluster));
            lines.push(format!("azekura alert show {}", alert.id));
        }
        None => {
            lines.push(format!(
                "Alerts of cluster {} arrive here: this is a test that somebody asked for.",
                parcel.cluster
            ));
        }
    }
    lines.extend(page(parcel));
    lines.push(format!("Sent by node {}", parcel.node));
    lines.join("\r\n") + "\r\n"
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use catalog::{AlertTurn, Severity};

    /// A parcel with one change.
    pub fn parcel(turn: AlertTurn) -> Parcel {
        let alert = AlertRow {
            id: 7,
            severity: Severity::Critical,
            kind: "node-lost".to_owned(),
            entity: "node/ノード".to_owned(),
            cause: "node ノード does not hold its lease".to_owned(),
            impact: "its copies are missing".to_owned(),
            remedy: "start it again".to_owned(),
            raised_ms: 1_764_208_800_000,
            seen_ms: 1_764_208_800_000,
            by_hand: false,
            acknowledged: None,
            resolved: (turn == AlertTurn::Resolved).then(|| AlertMark {
                by: String::new(),
                at_ms: 1_764_208_860_000,
                note: None,
            }),
        };
        Parcel {
            cluster: "home".to_owned(),
            cluster_id: "0123456789abcdef".to_owned(),
            node: "a".to_owned(),
            api: Some("https://a.test:7400".to_owned()),
            now_ms: 1_764_208_861_000,
            changes: vec![AlertChangeRow {
                id: 12,
                turn,
                at_ms: 1_764_208_860_000,
                before: Severity::Critical,
                alert,
            }],
            open: Vec::new(),
            test: false,
        }
    }

    #[test]
    fn every_attempt_to_deliver_a_change_has_the_same_name() {
        let first = parcel(AlertTurn::Raised);
        let second = Parcel {
            now_ms: first.now_ms + 5000,
            node: "b".to_owned(),
            ..first.clone()
        };
        assert_eq!(delivery_id(&first), "0123456789abcdef-12-1764208860000");
        assert_eq!(delivery_id(&first), delivery_id(&second));
    }

    #[test]
    fn the_json_form_has_what_its_description_says() {
        let value = as_json(&parcel(AlertTurn::Resolved));
        assert_eq!(value["event"], "resolved");
        assert_eq!(value["alert"]["kind"], "node-lost");
        assert_eq!(value["alert"]["resolved"]["by"], Value::Null);
        assert_eq!(value["alert"]["acknowledged"], Value::Null);
        assert_eq!(value["url"], "https://a.test:7400/alerts");
        let document = include_str!("../../../../docs/operating/alerts.md");
        for field in value.as_object().unwrap().keys() {
            assert!(
                document.contains(&format!("`{field}`")),
                "{field} is not described"
            );
        }
        for field in value["alert"].as_object().unwrap().keys() {
            assert!(
                document.contains(&format!("`{field}`")),
                "{field} is not described"
            );
        }
    }

    #[test]
    fn people_read_what_is_wrong_and_what_to_do() {
        let parcel = parcel(AlertTurn::Resolved);
        assert_eq!(
            subject(&parcel),
            "[home] critical resolved: node-lost of node/ノード"
        );
        let text = text(&parcel);
        for part in [
            "Remedy: start it again",
            "its cause is gone",
            "azekura alert show 7",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(rfc3339(1_764_208_860_000), "2025-11-27T02:01:00Z");
    }
}
