//! The verb that says what happened.

use crate::cli::EventsArgs;
use crate::output::{Table, columns, render, say, time};
use crate::remote::RemoteError;
use crate::verbs::{Console, Shown, number, query};
use api::http::path;
use api::{EventAnswer, EventsAnswer};
use std::time::Duration;

/// Pause between two looks with `--follow`.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Console<'_> {
    /// `events`.
    pub fn events(&self, arguments: &EventsArgs) -> Shown {
        let answer = self.events_after(arguments.after, arguments);
        if !arguments.follow {
            return self.show::<EventsAnswer>(answer);
        }
        let mut answer = answer?;
        loop {
            if !answer.events.is_empty() {
                let text = match self.form {
                    crate::cli::Form::Table => lines(&answer.events),
                    form => render(&answer, form),
                };
                if !say(&text) {
                    return Ok(String::new());
                }
            }
            std::thread::sleep(LOOK_INTERVAL);
            answer = self.events_after(Some(answer.next), arguments)?;
        }
    }

    fn events_after(
        &self,
        after: Option<u64>,
        arguments: &EventsArgs,
    ) -> Result<EventsAnswer, RemoteError> {
        let (limit, after) = (number(Some(arguments.limit)), number(after));
        let sort = arguments.sort.map(String::from);
        let mut text = path(&["events"]);
        query(
            &mut text,
            &[
                ("limit", limit.as_deref()),
                ("after", after.as_deref()),
                ("sort", sort.as_deref()),
                ("severity", arguments.severity.as_deref()),
                ("kind", arguments.kind.as_deref()),
                ("entity", arguments.entity.as_deref()),
            ],
        );
        self.remote.get(&text)
    }
}

fn row(event: &EventAnswer) -> Vec<String> {
    let mut message = event.message.clone();
    if event.count > 1 {
        message += &format!(" ({} times)", event.count);
    }
    if let Some(remedy) = &event.remedy {
        message += &format!("; {remedy}");
    }
    vec![
        event.id.to_string(),
        time(event.at_ms),
        event.severity.clone(),
        event.kind.clone(),
        event.entity.clone(),
        message,
    ]
}

/// One line each, without a head: for `--follow`.
fn lines(events: &[EventAnswer]) -> String {
    let line = |event: &EventAnswer| row(event).join("  ") + "\n";
    events.iter().map(line).collect()
}

impl Table for EventsAnswer {
    fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self.events.iter().map(row).collect();
        columns(
            &["ID", "TIME", "SEVERITY", "KIND", "ENTITY", "MESSAGE"],
            &rows,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_its_remedy() {
        let event = EventAnswer {
            id: 7,
            severity: "critical".to_owned(),
            kind: "node-lost".to_owned(),
            entity: "node/b".to_owned(),
            message: "node b is gone".to_owned(),
            remedy: Some("bring it back".to_owned()),
            count: 2,
            ..EventAnswer::default()
        };
        let text = lines(std::slice::from_ref(&event));
        assert_eq!(
            text,
            "7  1970-01-01 00:00:00Z  critical  node-lost  node/b  node b is gone (2 times); bring it back\n"
        );
        let table = EventsAnswer {
            events: vec![event],
            next: 7,
        }
        .table();
        assert!(
            table.starts_with("ID") && table.lines().count() == 2,
            "{table}"
        );
    }
}
