//! `azekura audit`: who has changed what, with what was there before and what was asked for.

use crate::cli::{AuditArgs, AuditVerb};
use crate::output::{Table, columns, fields, render, time};
use crate::remote::RemoteError;
use crate::verbs::{Console, Shown, number, query};
use api::http::path;
use api::{AuditEntry, OperationError};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// One entry, whole.
#[derive(Serialize)]
#[serde(transparent)]
struct Entry(AuditEntry);

/// A value as a person reads it: text without quotes.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// What is said before and after, by field: those that an operation asks for, and those that it found.
fn differences(entry: &AuditEntry) -> Vec<Vec<String>> {
    let names = |value: &Option<Value>| -> Vec<String> {
        let fields = value.as_ref().and_then(Value::as_object);
        fields.map_or_else(Vec::new, |fields| fields.keys().cloned().collect())
    };
    let all: BTreeSet<String> = [names(&entry.before), names(&entry.after)]
        .into_iter()
        .flatten()
        .collect();
    let of = |value: &Option<Value>, name: &str| text(value.as_ref().and_then(|all| all.get(name)));
    let row = |name: String| {
        let (before, after) = (of(&entry.before, &name), of(&entry.after, &name));
        vec![name, before, after]
    };
    all.into_iter().map(row).collect()
}

/// In one cell: `size 4096 -> 8192` for what changes, `name=v` for what is only asked for.
fn change(entry: &AuditEntry) -> String {
    let said = |row: &Vec<String>| match (row[1].as_str(), row[2].as_str()) {
        (before, after) if before == after => None,
        (_, "-") => None,
        ("-", after) => Some(format!("{}={after}", row[0])),
        (before, after) => Some(format!("{} {before} -> {after}", row[0])),
    };
    let rows = differences(entry);
    let said: Vec<String> = rows.iter().filter_map(said).collect();
    said.join(", ")
}

impl Table for Vec<AuditEntry> {
    fn table(&self) -> String {
        let row = |entry: &AuditEntry| {
            vec![
                entry.id.to_string(),
                time(entry.at_ms),
                entry.who.clone(),
                entry.operation.clone(),
                entry.subject.clone(),
                entry.outcome.clone(),
                change(entry),
            ]
        };
        let rows: Vec<Vec<String>> = self.iter().map(row).collect();
        let head = [
            "ID",
            "TIME",
            "WHO",
            "OPERATION",
            "SUBJECT",
            "OUTCOME",
            "CHANGE",
        ];
        columns(&head, &rows)
    }
}

impl Table for Entry {
    fn table(&self) -> String {
        let entry = &self.0;
        let head = fields(&[
            ("entry", entry.id.to_string()),
            ("time", time(entry.at_ms)),
            ("who", entry.who.clone()),
            ("from", entry.from.clone()),
            ("operation", entry.operation.clone()),
            ("subject", entry.subject.clone()),
            ("request", entry.request.clone()),
            ("outcome", entry.outcome.clone()),
            ("reason", entry.reason.clone().unwrap_or_default()),
        ]);
        let rows = differences(entry);
        match rows.is_empty() {
            true => head,
            false => head + "\n" + &columns(&["FIELD", "BEFORE", "ASKED FOR"], &rows),
        }
    }
}

impl Console<'_> {
    /// `audit ...`.
    pub fn audit(&self, verb: &AuditVerb) -> Shown {
        match verb {
            AuditVerb::List(arguments) => self.show(self.entries(arguments)),
            AuditVerb::Show { id, drivers } => {
                Ok(render(&Entry(self.entry(*id, *drivers)?), self.form))
            }
        }
    }

    fn entries(&self, arguments: &AuditArgs) -> Result<Vec<AuditEntry>, RemoteError> {
        let mut path = path(&["audit"]);
        let (limit, before) = (arguments.limit.to_string(), number(arguments.before));
        let sort = arguments.sort.map(String::from);
        let parts = [
            ("limit", Some(limit.as_str())),
            ("before", before.as_deref()),
            ("drivers", arguments.drivers.then_some("true")),
            ("sort", sort.as_deref()),
            ("who", arguments.who.as_deref()),
            ("operation", arguments.operation.as_deref()),
            ("subject", arguments.subject.as_deref()),
            ("outcome", arguments.outcome.as_deref()),
        ];
        query(&mut path, &parts);
        self.remote.get(&path)
    }

    fn entry(&self, id: u64, drivers: bool) -> Result<AuditEntry, RemoteError> {
        let only = AuditArgs {
            limit: 1,
            before: Some(id.saturating_add(1)),
            drivers,
            ..AuditArgs::default()
        };
        let found = self
            .entries(&only)?
            .into_iter()
            .find(|entry| entry.id == id);
        found.ok_or_else(|| {
            RemoteError::Refused(OperationError::not_found(format!(
                "there is no entry {id}, or not any more: `azekura audit list` shows those that are kept"
            )))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry() -> AuditEntry {
        AuditEntry {
            id: 7,
            who: "user alice".to_owned(),
            operation: "volume-resize".to_owned(),
            subject: "db".to_owned(),
            outcome: "done".to_owned(),
            before: Some(json!({"size": 4096, "labels": {"app": "db"}})),
            after: Some(json!({"name": "db", "size": 8192})),
            ..AuditEntry::default()
        }
    }

    #[test]
    fn a_list_says_what_changed_in_a_few_words() {
        assert_eq!(change(&entry()), "name=db, size 4096 -> 8192");
        let text = vec![entry()].table();
        assert!(text.lines().nth(1).unwrap().ends_with("-> 8192"), "{text}");
    }

    #[test]
    fn an_entry_has_every_field_before_and_after() {
        let text = Entry(entry()).table();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        for row in [
            ["labels", r#"{"app":"db"}"#, "-"],
            ["name", "-", "db"],
            ["size", "4096", "8192"],
        ] {
            assert!(rows.iter().any(|found| found[..] == row), "{row:?}: {text}");
        }
        let json = render(&Entry(entry()), crate::cli::Form::Json);
        let back: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back["before"]["size"], 4096);
    }
}
