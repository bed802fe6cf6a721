//! Recent lines of all nodes' logs: what a query names becomes the values that lines have, every node looks, and the newest are put
//! together here.
//!
//! Nothing of this is in the catalog: a node's lines are in its memory, and end with its process. So do those that a driver told it.

use super::{Result, catalog_error};
use crate::host::Host;
use crate::tasks::number_of;
use api::{
    Answer, ErrorKind, LOGS_DEFAULT, LogField, LogLineAnswer, LogQuery, LogReport, LogReportAnswer,
    LogsAnswer, LogsPart, Operation, OperationError,
};
use catalog::{CatalogError, TaskRow, VolumeRow};
use std::collections::BTreeSet;
use std::fmt;
use vocab::{LineageId, NodeId, StoreId, VolumeId};

/// The recent lines of this node's log. `node` of each is empty: whoever asks knows.
pub trait LogWindow: fmt::Debug + Send + Sync {
    /// The newest lines that are wanted. Looks at every line there is: not for the shard's own thread.
    fn find(&self, part: &LogsPart) -> LogsAnswer;

    /// Keeps lines of somebody else, within bounds of their own; how many of them it did not have.
    ///
    /// # Errors
    /// How many seconds he should wait: he tells more than he may.
    fn keep(&self, by: &str, report: LogReport) -> std::result::Result<u64, u64>;
}

/// Values of which a line has one.
#[derive(Default)]
struct Any(BTreeSet<(&'static str, String)>);

impl Any {
    fn add(&mut self, name: &'static str, value: impl fmt::Display) {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.insert((name, value));
        }
    }

    /// What a task is about, and the request that began it.
    fn add_task(&mut self, row: &TaskRow) {
        self.add("task", row.id);
        self.add("request", &row.request);
        if row.lineage > 0 {
            self.add("lineage", LineageId(row.lineage));
        }
        let Some(number) = number_of(&row.subject) else {
            return;
        };
        match row.subject.split_once('/') {
            Some(("volume", _)) => self.add("volume", VolumeId(number)),
            Some(("store", _)) => {
                if let Ok(id) = u32::try_from(number) {
                    self.add("store", StoreId(id));
                }
            }
            _ => {}
        }
    }

    fn add_volume(&mut self, row: &VolumeRow) {
        self.add("volume", &row.name);
        self.add("volume", row.id);
        self.add("lineage", row.lineage);
    }

    fn done(self) -> Vec<LogField> {
        let field = |(name, value): (&str, String)| LogField {
            name: name.to_owned(),
            value,
        };
        self.0.into_iter().map(field).collect()
    }
}

/// The newest lines of all that nodes have answered. Pure.
fn merged(parts: Vec<LogsAnswer>, limit: usize, silent: Vec<String>) -> LogsAnswer {
    let mut all = LogsAnswer {
        silent,
        ..LogsAnswer::default()
    };
    for part in parts {
        all.more |= part.more;
        all.since_ms = all.since_ms.max(part.since_ms);
        all.lines.extend(part.lines);
    }
    let place = |line: &LogLineAnswer| (line.at_ms, line.node.clone(), line.number);
    all.lines.sort_by_cached_key(place);
    let over = all.lines.len().saturating_sub(limit);
    all.more |= over > 0;
    all.lines.drain(..over);
    all
}

/// What somebody asks who sees his own lines only. Names are looked for as they are: what the catalog knows of them would show in
/// which of his lines are found. Pure.
fn literally(query: &LogQuery) -> LogsPart {
    let one = |name: &str, value: String| LogField {
        name: name.to_owned(),
        value,
    };
    let mut fields = Vec::new();
    if let Some(volume) = &query.volume {
        fields.push(vec![
            one("volume", volume.clone()),
            one("name", volume.clone()),
        ]);
    }
    if let Some(task) = query.task {
        fields.push(vec![one("task", task.to_string())]);
    }
    if let Some(request) = &query.request {
        fields.push(vec![one("request", request.clone())]);
    }
    LogsPart {
        level: query.level,
        fields,
        text: query.text.as_ref().map(|text| text.to_lowercase()),
        from: query.from.unwrap_or(0),
        to: query.to,
        limit: query.limit.unwrap_or(LOGS_DEFAULT),
        own: query.node.is_some(),
        told: true,
        by: query.by.clone(),
    }
}

/// What is shown of a node's answer. Pure.
fn shown(part: &LogsPart, mut found: LogsAnswer) -> LogsAnswer {
    // A node of an older release does not know that somebody sees his own only.
    found.lines.retain(|line| part.wants(line));
    let lines = found.lines.iter_mut();
    for origin in lines.filter_map(|line| line.origin.as_mut()) {
        origin.show_name();
    }
    found
}

impl Host {
    /// The newest lines that a query wants, of all nodes that answer.
    pub(super) async fn find_logs(&self, query: &LogQuery) -> Result<Answer> {
        if let Some(problem) = query.problem() {
            return Err(OperationError::bad_request(problem));
        }
        let only = match &query.node {
            Some(name) => Some(self.node_called(name)?),
            None => None,
        };
        let part = self.logs_part(query).await?;
        let limit = part.limit as usize;
        let asked = Operation::LogsPart(part.clone());
        let (answers, silent) = self.answers_of_all(&asked, only).await;
        let lines = |answer| match answer {
            Answer::Logs(found) => Some(shown(&part, found)),
            _ => None,
        };
        let parts = answers.into_iter().filter_map(lines).collect();
        Ok(Answer::Logs(merged(parts, limit, silent)))
    }

    fn node_called(&self, name: &str) -> Result<NodeId> {
        let view = self.view();
        let row = view.nodes.values().find(|row| row.name == name);
        let row = row.map(|row| row.id);
        row.ok_or_else(|| OperationError::not_found(format!("there is no node {name}")))
    }

    async fn logs_part(&self, query: &LogQuery) -> Result<LogsPart> {
        if query.by.is_some() {
            return Ok(literally(query));
        }
        let mut fields = Vec::new();
        if let Some(name) = &query.volume {
            fields.push(self.about_volume(name).await?);
        }
        let (mut from, mut to) = (query.from, query.to);
        if let Some(id) = query.task {
            let row = self.catalog.task(id).await.map_err(catalog_error)?.row;
            from = from.or(Some(row.queued_ms));
            // The last words about it come a moment after its end.
            let end = row.ended_ms.saturating_add(5_000);
            to = to.or(Some(end).filter(|_| row.ended_ms > 0));
            let mut any = Any::default();
            any.add_task(&row);
            fields.push(any.done());
        }
        if let Some(request) = &query.request {
            let mut any = Any::default();
            any.add("request", request);
            fields.push(any.done());
        }
        Ok(LogsPart {
            level: query.level,
            fields,
            text: query.text.as_ref().map(|text| text.to_lowercase()),
            from: from.unwrap_or(0),
            to,
            limit: query.limit.unwrap_or(LOGS_DEFAULT),
            own: query.node.is_some(),
            told: true,
            by: None,
        })
    }

    /// What lines about a volume have: its names, those of its tasks and their requests, also when it is gone.
    async fn about_volume(&self, name: &str) -> Result<Vec<LogField>> {
        let mut any = Any::default();
        any.add("volume", name);
        any.add("name", name);
        let found = match self.volume_id(name).await {
            Ok(id) => self.catalog.volume(id).await.map(Some),
            Err(_) => Ok(None),
        };
        match found {
            Ok(Some(found)) => any.add_volume(&found.row),
            Ok(None) | Err(CatalogError::NotFound { .. }) => {}
            Err(error) => return Err(catalog_error(error)),
        }
        let tasks = self.catalog.list::<TaskRow>().await;
        for found in tasks.map_err(catalog_error)? {
            let by_id = number_of(&found.row.subject).map(|id| VolumeId(id).to_string());
            let entity = found.row.entity.strip_prefix("volume/");
            let about = found.row.subject.starts_with("volume/")
                && (entity == Some(name) || by_id.as_deref() == Some(name));
            if about {
                any.add_task(&found.row);
            }
        }
        Ok(any.done())
    }

    /// Keeps lines of a driver here.
    pub(super) async fn keep_logs(&self, by: String, report: LogReport) -> Result<Answer> {
        let Some(window) = self.options.logs.clone() else {
            return Err(OperationError::unavailable("this node keeps no lines"));
        };
        // From another node it was not looked at.
        if let Some(problem) = report.problem() {
            return Err(OperationError::bad_request(problem));
        }
        let kept = self
            .world
            .offload(move || window.keep(&by, report))
            .await
            .map_err(|seconds| {
                let reason = format!(
                    "more lines are told than are kept for one token or certificate: wait {seconds} s, or log less (RUST_LOG)"
                );
                OperationError::new(ErrorKind::Throttled, reason)
            })?;
        Ok(Answer::LogsKept(LogReportAnswer { kept }))
    }

    /// The lines of this node.
    pub(super) async fn logs_here(&self, part: LogsPart) -> Answer {
        let name = self.members.node_name(self.id);
        let Some(window) = self.options.logs.clone() else {
            return Answer::Logs(LogsAnswer::default());
        };
        let mut found = self.world.offload(move || window.find(&part)).await;
        for line in &mut found.lines {
            line.node.clone_from(&name);
        }
        Answer::Logs(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{LogComponent, LogLevel, LogOrigin};

    fn line(node: &str, number: u64, at_ms: u64) -> LogLineAnswer {
        LogLineAnswer {
            node: node.to_owned(),
            number,
            at_ms,
            level: LogLevel::Info,
            target: "node".to_owned(),
            message: "opening".to_owned(),
            fields: std::collections::BTreeMap::new(),
            origin: None,
        }
    }

    #[test]
    fn the_newest_lines_of_all_nodes_are_in_the_order_of_time() {
        let part = |lines, since_ms| LogsAnswer {
            lines,
            since_ms,
            ..LogsAnswer::default()
        };
        let parts = vec![
            part(
                vec![line("a", 1, 10), line("a", 2, 30), line("a", 3, 30)],
                5,
            ),
            part(vec![line("b", 1, 20), line("b", 2, 30)], 8),
        ];
        let all = merged(parts.clone(), 4, vec!["c".to_owned()]);
        let order: Vec<_> = all
            .lines
            .iter()
            .map(|line| (&*line.node, line.number))
            .collect();
        assert_eq!(order, [("b", 1), ("a", 2), ("a", 3), ("b", 2)]);
        assert!(all.more && all.since_ms == 8 && all.silent == ["c"]);
        assert!(!merged(parts, 5, Vec::new()).more);
    }

    #[test]
    fn who_sees_his_own_lines_learns_nothing_of_the_catalog() {
        let query = LogQuery {
            volume: Some("db".to_owned()),
            task: Some(7),
            by: Some("token prod".to_owned()),
            ..LogQuery::default()
        };
        let part = literally(&query);
        let names = part.fields.iter().flatten();
        let pairs: Vec<_> = names.map(|field| (&*field.name, &*field.value)).collect();
        assert_eq!(pairs, [("volume", "db"), ("name", "db"), ("task", "7")]);
        assert_eq!(part.by.as_deref(), Some("token prod"));
        assert!(!part.wants(&line("a", 1, 10)));
    }

    #[test]
    fn who_told_is_compared_with_its_mark_and_shown_by_its_name() {
        let told = |number, mark: &str| LogLineAnswer {
            origin: Some(LogOrigin {
                component: LogComponent::Attach,
                host: "w".to_owned(),
                by: api::teller("token prod", mark),
            }),
            ..line("a", number, 10)
        };
        let found = LogsAnswer {
            lines: vec![told(1, "a1"), told(2, "b2"), line("a", 3, 10)],
            ..LogsAnswer::default()
        };
        let of_one = literally(&LogQuery {
            by: Some(api::teller("token prod", "b2")),
            ..LogQuery::default()
        });
        let seen = shown(&of_one, found.clone()).lines;
        let numbers: Vec<u64> = seen.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [2], "not of another one of its name");
        let all = LogsPart {
            told: true,
            ..LogsPart::default()
        };
        let seen = shown(&all, found).lines;
        let names = seen.iter().filter_map(|line| line.origin.as_ref());
        let names: Vec<&str> = names.map(|origin| &*origin.by).collect();
        assert_eq!(names, ["token prod", "token prod"]);
    }

    #[test]
    fn lines_about_a_task_have_its_request_or_its_subject() {
        let row = TaskRow {
            id: 4,
            request: "r1".to_owned(),
            subject: "volume/12".to_owned(),
            lineage: 9,
            ..TaskRow::default()
        };
        let mut any = Any::default();
        any.add_task(&row);
        let pairs: Vec<_> = any
            .0
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let wanted = [
            ("lineage", "lineage-9"),
            ("request", "r1"),
            ("task", "4"),
            ("volume", "volume-12"),
        ];
        assert_eq!(pairs, wanted);
        let by_itself = TaskRow {
            id: 5,
            subject: "store/3".to_owned(),
            ..TaskRow::default()
        };
        let mut any = Any::default();
        any.add_task(&by_itself);
        assert!(any.0.contains(&("store", StoreId(3).to_string())));
        assert!(
            any.0.iter().all(|(name, _)| *name != "request"),
            "nobody asked"
        );
    }
}
