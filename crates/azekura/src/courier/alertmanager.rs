//! Prometheus' Alertmanager: `POST /api/v2/alerts` with all that is open, repeated while it is, and with what has ended.
//!
//! To it an alert is its labels. One of another severity is another alert, so the former one is ended with the same request.

use super::message::{page, rfc3339};
use super::{base64, post};
use ::node::Parcel;
use catalog::AlertRow;
use serde_json::{Value, json};

/// What is not told again within so long has ended: several repetitions may be lost.
const FIRING_MS: u64 = 5 * 60 * 1000;
/// A test ends by itself after so long.
const TEST_MS: u64 = 60 * 1000;

/// `AzekuraNodeLost` of `node-lost`.
fn alert_name(kind: &str) -> String {
    let mut name = "Azekura".to_owned();
    for word in kind.split('-') {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.extend(letters);
    }
    name
}

fn labels(parcel: &Parcel, row: &AlertRow) -> Value {
    json!({
        "alertname": alert_name(&row.kind),
        "severity": row.severity.name(),
        "kind": row.kind,
        "entity": row.entity,
        "cluster": parcel.cluster,
        "cluster_id": parcel.cluster_id,
    })
}

fn alert(parcel: &Parcel, row: &AlertRow, ends_ms: u64) -> Value {
    let acknowledged = row.acknowledged.as_ref().map(|mark| mark.by.clone());
    let mut value = json!({
        "labels": labels(parcel, row),
        "annotations": {
            "summary": row.cause,
            "description": format!("{}. Remedy: {}", row.impact, row.remedy),
            "remedy": row.remedy,
            "acknowledged_by": acknowledged.unwrap_or_default(),
        },
        "startsAt": rfc3339(row.raised_ms),
        "endsAt": rfc3339(ends_ms),
    });
    if let Some(page) = page(parcel) {
        value["generatorURL"] = Value::String(page);
    }
    value
}

/// The body of a request. Pure.
fn body(parcel: &Parcel) -> Value {
    if parcel.test {
        return json!([{
            "labels": {
                "alertname": "AzekuraTest",
                "severity": "info",
                "kind": "test",
                "entity": "cluster",
                "cluster": parcel.cluster,
                "cluster_id": parcel.cluster_id,
            },
            "annotations": {"summary": "somebody asked for a test: it ends by itself"},
            "startsAt": rfc3339(parcel.now_ms),
            "endsAt": rfc3339(parcel.now_ms + TEST_MS),
        }]);
    }
    let same = |one: &AlertRow, other: &AlertRow| {
        one.name() == other.name() && one.severity == other.severity
    };
    let ended = parcel.ended();
    let ended = ended
        .iter()
        .filter(|row| !parcel.open.iter().any(|open| same(open, row)));
    let ended = ended.map(|row| {
        let at = row.resolved.as_ref().map(|mark| mark.at_ms);
        alert(parcel, row, at.unwrap_or(parcel.now_ms))
    });
    let open = parcel.open.iter();
    let open = open.map(|row| alert(parcel, row, parcel.now_ms + FIRING_MS));
    Value::Array(ended.chain(open).collect())
}

/// Delivers a parcel.
pub fn deliver(
    url: &str,
    ca: Option<&str>,
    login: Option<(&str, &str)>,
    parcel: &Parcel,
) -> Result<(), String> {
    let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
    let mut headers = Vec::new();
    if let Some((user, password)) = login {
        let both = base64(format!("{user}:{password}").as_bytes());
        headers.push(("authorization", format!("Basic {both}")));
    }
    post(&url, ca, &headers, &body(parcel).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::parcel;
    use super::*;
    use catalog::{AlertTurn, Severity};

    #[test]
    fn what_is_open_ends_later_and_what_has_ended_did() {
        let mut parcel = parcel(AlertTurn::Resolved);
        let mut open = parcel.changes[0].alert.clone();
        (open.entity, open.resolved) = ("node/b".to_owned(), None);
        parcel.open = vec![open];
        let body = body(&parcel);
        let all = body.as_array().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0]["labels"]["alertname"], "AzekuraNodeLost");
        assert_eq!(all[0]["startsAt"], "2025-11-27T02:00:00Z");
        assert_eq!(all[0]["endsAt"], "2025-11-27T02:01:00Z");
        assert_eq!(all[1]["labels"]["entity"], "node/b");
        assert_eq!(all[1]["endsAt"], "2025-11-27T02:06:01Z");
        assert_eq!(all[1]["generatorURL"], "https://a.test:7400/alerts");
    }

    #[test]
    fn another_severity_ends_the_alert_of_the_former_one() {
        let mut parcel = parcel(AlertTurn::Changed);
        parcel.changes[0].before = Severity::Warning;
        parcel.open = vec![parcel.changes[0].alert.clone()];
        let text = body(&parcel);
        let severities: Vec<&Value> = text
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["labels"]["severity"])
            .collect();
        assert_eq!(severities, ["warning", "critical"]);
        // And back again within one request: what is open is not ended.
        parcel.open[0].severity = Severity::Warning;
        assert_eq!(body(&parcel).as_array().unwrap().len(), 1);
        let test = Parcel {
            test: true,
            ..parcel
        };
        assert_eq!(body(&test)[0]["labels"]["alertname"], "AzekuraTest");
    }
}
