//! The verbs on tasks: which there are, how far they are, and to have one stop.

use crate::cli::{Form, IfVersion, TaskListArgs, TaskVerb};
use crate::output::{CLEAR, Table, bytes, columns, fields, render, say, time};
use crate::remote::RemoteError;
use crate::verbs::{Console, Shown, query};
use api::http::path;
use api::{StartedAnswer, TaskAnswer, TasksAnswer};
use serde::Serialize;
use std::fmt::{self, Write};
use std::io::IsTerminal;
use std::time::Duration;

/// Pause between two looks: a task's progress is new every few seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Characters of a bar.
const BAR: u64 = 30;
/// Tasks that are watched at most when none is named.
const WATCHED_MAX: u32 = 200;

impl Console<'_> {
    /// `task ...`.
    ///
    /// # Errors
    /// Also when a task that was watched did not succeed.
    pub fn task(&self, verb: TaskVerb) -> anyhow::Result<String> {
        let one = |id: u64| path(&["tasks", &id.to_string()]);
        let shown = match verb {
            TaskVerb::List(arguments) => self.show::<TasksAnswer>(self.list_tasks(&arguments)),
            TaskVerb::Show { id } => self.show::<TaskAnswer>(self.remote.get(&one(id))),
            TaskVerb::Cancel { id } => {
                let path = format!("{}/cancel", one(id));
                self.show::<TaskAnswer>(self.remote.post(&path, &serde_json::json!({})))
            }
            TaskVerb::Watch { ids } => return self.watch(&ids),
        };
        Ok(shown?)
    }

    fn list_tasks(&self, arguments: &TaskListArgs) -> Result<TasksAnswer, RemoteError> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let (parent, before) = (number(arguments.parent), number(arguments.before));
        let limit = arguments.limit.to_string();
        let sort = arguments.sort.map(String::from);
        let mut text = path(&["tasks"]);
        query(
            &mut text,
            &[
                ("status", arguments.status.as_deref()),
                ("kind", arguments.kind.as_deref()),
                ("entity", arguments.entity.as_deref()),
                ("parent", parent.as_deref()),
                ("before", before.as_deref()),
                ("sort", sort.as_deref()),
                ("limit", Some(&limit)),
            ],
        );
        self.remote.get(&text)
    }

    /// What is watched, as it is now.
    fn look(&self, ids: &[u64]) -> Result<Vec<TaskAnswer>, RemoteError> {
        if ids.is_empty() {
            let text = format!("{}?status=open&limit={WATCHED_MAX}", path(&["tasks"]));
            return Ok(self.remote.get::<TasksAnswer>(&text)?.tasks);
        }
        let one = |id: &u64| self.remote.get(&path(&["tasks", &id.to_string()]));
        ids.iter().map(one).collect()
    }

    fn watch(&self, ids: &[u64]) -> anyhow::Result<String> {
        let redraws = self.form == Form::Table && std::io::stdout().is_terminal();
        let mut said = String::new();
        loop {
            let tasks = self.look(ids)?;
            let text = match self.form {
                Form::Table => tasks.iter().map(line).collect(),
                _ => render(&Watched(tasks.clone()), self.form),
            };
            if text != said {
                let begin = if redraws { CLEAR } else { "" };
                if !say(&format!("{begin}{text}")) {
                    return Ok(String::new());
                }
                said = text;
            }
            if tasks.iter().all(|task| !task.is_open()) {
                return ended(&tasks);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Deletes what gives its space back as a task.
    pub fn deleted_as_task(&self, path: &str, what: String, on: IfVersion) -> Shown {
        let started: StartedAnswer = self.remote.delete_for(path, on.version)?;
        let deleted = Begun {
            done: format!("deleted {what}"),
            task: started.task,
            end: "its space is back",
        };
        Ok(render(&deleted, self.form))
    }

    /// Begins what goes on as a task, which ends when `end`.
    pub fn begun_as_task(&self, path: &str, done: String, end: &'static str) -> Shown {
        let started: StartedAnswer = self.remote.post(path, &serde_json::json!({}))?;
        let task = started.task;
        Ok(render(&Begun { done, task, end }, self.form))
    }
}

/// A task that was watched and did not succeed.
#[derive(Debug)]
pub struct TaskFailed(String);

impl fmt::Display for TaskFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TaskFailed {}

/// What is printed at the end of a watch: nothing, or why it has failed.
pub fn ended(tasks: &[TaskAnswer]) -> anyhow::Result<String> {
    let bad = |task: &&TaskAnswer| task.status != "succeeded";
    let Some(task) = tasks.iter().find(bad) else {
        return Ok(String::new());
    };
    let what = format!("task {} ({} of {})", task.id, task.kind, task.entity);
    Err(TaskFailed(format!("{what} {}: {}", task.status, task.message)).into())
}

/// What was done, or was begun, and goes on as a task.
#[derive(Serialize)]
struct Begun {
    done: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<u64>,
    #[serde(skip)]
    end: &'static str,
}

impl Table for Begun {
    fn table(&self) -> String {
        match self.task {
            Some(task) => format!("{}; task {task} ends when {}\n", self.done, self.end),
            None => format!("{}\n", self.done),
        }
    }
}

#[derive(Serialize)]
struct Watched(Vec<TaskAnswer>);

impl Table for Watched {
    fn table(&self) -> String {
        self.0.iter().map(line).collect()
    }
}

fn percent(task: &TaskAnswer) -> Option<u64> {
    let done = u128::from(task.done.min(task.total)) * 100;
    let percent = done.checked_div(u128::from(task.total))?;
    u64::try_from(percent).ok()
}

fn amount(count: u64, unit: &str) -> String {
    match unit {
        "bytes" => bytes(count),
        _ => count.to_string(),
    }
}

fn progress(task: &TaskAnswer) -> String {
    let Some(percent) = percent(task) else {
        return "-".to_owned();
    };
    let unit = if task.unit == "bytes" { "" } else { &task.unit };
    let (done, total) = (
        amount(task.done, &task.unit),
        amount(task.total, &task.unit),
    );
    format!("{percent}% ({done} of {total} {unit}")
        .trim_end()
        .to_owned()
        + ")"
}

/// A span of time, roughly.
fn span(milliseconds: u64) -> String {
    let seconds = milliseconds.div_ceil(1000);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long the rest takes.
fn left(task: &TaskAnswer) -> String {
    let eta = task.eta_ms.filter(|_| task.is_open());
    match eta {
        Some(eta) => span(eta.saturating_sub(task.updated_ms)),
        None => "-".to_owned(),
    }
}

/// One line of a watch, with a bar.
pub fn line(task: &TaskAnswer) -> String {
    let filled = percent(task).unwrap_or(0) * BAR / 100;
    let bar: String = (0..BAR)
        .map(|at| if at < filled { '#' } else { '.' })
        .collect();
    let mut text = format!("{:>6}  {} {}  ", task.id, task.kind, task.entity);
    if task.total > 0 && task.is_open() {
        let eta = task.eta_ms.map(|_| format!(", {} left", left(task)));
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[{bar}] {}{}  ",
            progress(task),
            eta.unwrap_or_default()
        );
    } else {
        text += &format!("{}  ", task.status);
    }
    text + &task.message + "\n"
}

/// One line of a watch that nobody sees drawn: for files and logs.
pub fn plain_line(task: &TaskAnswer) -> String {
    let (id, kind, entity) = (task.id, &task.kind, &task.entity);
    let far = match task.is_open() && task.total > 0 {
        true => progress(task),
        false => task.status.clone(),
    };
    let eta = task.eta_ms.filter(|_| task.is_open());
    let eta = eta.map_or_else(String::new, |_| format!(", {} left", left(task)));
    let colon = if task.message.is_empty() { "" } else { ": " };
    let message = &task.message;
    format!("task {id} ({kind} of {entity}) {far}{eta}{colon}{message}\n")
}

impl Table for TaskAnswer {
    fn table(&self) -> String {
        let at = |at: Option<u64>| at.map(time).unwrap_or_default();
        let who = match self.who.is_empty() {
            true => "the cluster itself".to_owned(),
            false => self.who.clone(),
        };
        fields(&[
            ("task", self.id.to_string()),
            ("kind", self.kind.clone()),
            ("entity", format!("{} ({})", self.entity, self.subject)),
            ("status", self.status.clone()),
            ("progress", progress(self)),
            ("left", left(self)),
            ("message", self.message.clone()),
            (
                "part of",
                self.parent.map(|id| id.to_string()).unwrap_or_default(),
            ),
            ("asked for by", who),
            ("request", self.request.clone()),
            ("node", self.node.clone()),
            ("begun", time(self.queued_ms)),
            ("first seen", at(self.started_ms)),
            ("ended", at(self.ended_ms)),
            (
                "cancelled by",
                self.cancelled_by.clone().unwrap_or_default(),
            ),
        ])
    }
}

impl Table for TasksAnswer {
    fn table(&self) -> String {
        let row = |task: &TaskAnswer| {
            let id = match task.parent {
                Some(parent) => format!("{} of {parent}", task.id),
                None => task.id.to_string(),
            };
            let ended = task.ended_ms.map(time);
            vec![
                id,
                task.kind.clone(),
                task.entity.clone(),
                task.status.clone(),
                progress(task),
                left(task),
                time(task.queued_ms),
                ended.unwrap_or_else(|| "-".to_owned()),
                task.message.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = self.tasks.iter().map(row).collect();
        let head = [
            "ID", "KIND", "ENTITY", "STATUS", "PROGRESS", "LEFT", "BEGUN", "ENDED", "MESSAGE",
        ];
        let mut text = columns(&head, &rows);
        if let Some(next) = self.next {
            text += &format!("there are older ones: --before {next}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> TaskAnswer {
        TaskAnswer {
            id: 7,
            kind: "node-drain".to_owned(),
            entity: "node/b".to_owned(),
            status: "running".to_owned(),
            done: 12,
            total: 48,
            unit: "parts".to_owned(),
            updated_ms: 10_000,
            eta_ms: Some(70_000),
            message: "still there".to_owned(),
            ..TaskAnswer::default()
        }
    }

    #[test]
    fn a_running_task_is_a_bar_and_one_that_ended_is_a_word() {
        let bar = "#######.......................";
        let running = format!(
            "     7  node-drain node/b  [{bar}] 25% (12 of 48 parts), 60 s left  still there\n"
        );
        assert_eq!(line(&task()), running);
        let ended = TaskAnswer {
            status: "failed".to_owned(),
            ..task()
        };
        assert_eq!(
            line(&ended),
            "     7  node-drain node/b  failed  still there\n"
        );
    }

    #[test]
    fn progress_is_in_the_unit_of_the_task_or_not_known() {
        let bytes = TaskAnswer {
            unit: "bytes".to_owned(),
            done: 1 << 20,
            total: 4 << 20,
            ..task()
        };
        assert_eq!(progress(&bytes), "25% (1 MiB of 4 MiB)");
        let unknown = TaskAnswer {
            done: 0,
            total: 0,
            ..task()
        };
        assert_eq!(progress(&unknown), "-");
        assert_eq!(
            (span(1500), span(600_000), span(90_000_000)),
            ("2 s".to_owned(), "10 min".to_owned(), "25 h".to_owned())
        );
    }

    #[test]
    fn a_watch_fails_with_its_tasks() {
        let good = TaskAnswer {
            status: "succeeded".to_owned(),
            ..task()
        };
        let bad = TaskAnswer {
            status: "cancelled".to_owned(),
            ..task()
        };
        assert!(ended(std::slice::from_ref(&good)).is_ok());
        let error = ended(&[good, bad]).unwrap_err().to_string();
        assert_eq!(
            error,
            "task 7 (node-drain of node/b) cancelled: still there"
        );
    }
}
