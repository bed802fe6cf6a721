//! What takes time: tasks, and who asked for something.

use crate::operation::Operation;
use serde::{Deserialize, Serialize};

/// Tasks of one answer when nothing is said.
pub const TASKS_DEFAULT: u32 = 100;
/// Most tasks of one answer.
pub const TASKS_LIMIT_MAX: u32 = 1000;

/// On whose behalf something is done. Empty: nobody's; the cluster does it by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// Who, as the audit log names them.
    #[serde(default)]
    pub who: String,
    /// The id of the request.
    #[serde(default)]
    pub request: String,
}

/// An operation on its way from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// On whose behalf.
    #[serde(default)]
    pub asker: Asker,
    /// What to do.
    pub operation: Operation,
}

crate::sort::orders! {
    /// An order of tasks.
    TaskSort: "id", "updated", "status", "kind", "entity", "node";
}

/// Which tasks, and how many: the newest first, unless another order is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct TaskQuery {
    /// Only tasks of these states, with commas between them: `queued`, `running`, `succeeded`, `failed`, `cancelled`; or `open` for
    /// the first two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Only tasks of this kind, such as `volume-delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only tasks about this, such as `volume/db`, `volume/12` by id, `node/node-3` or `store/4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Only the parts of this task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
    /// To go on: `next` of the page before. Without `sort`, only tasks with a smaller id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Another order than `-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub sort: Option<TaskSort>,
    /// Tasks in the answer at most, 1 to 1000; nothing: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// States of a task, as `TaskAnswer::status` has them.
pub const TASK_STATES: [&str; 5] = ["queued", "running", "succeeded", "failed", "cancelled"];

impl TaskQuery {
    /// What is wrong with it, for people.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let limit = self.limit.unwrap_or(TASKS_DEFAULT);
        if !(1..=TASKS_LIMIT_MAX).contains(&limit) {
            return Some(format!("`limit` of tasks is 1 to {TASKS_LIMIT_MAX}"));
        }
        let states = self.status.as_deref().unwrap_or("open").split(',');
        let known = |state: &str| state == "open" || TASK_STATES.contains(&state);
        let mut odd = states.filter(|state| !known(state));
        let odd = odd.next()?;
        Some(format!(
            "`{odd}` is no state of a task: write `open`, or some of {}, with commas between them",
            TASK_STATES.join(", ")
        ))
    }

    /// Whether a task passes the filters.
    #[must_use]
    pub fn wants(&self, task: &TaskAnswer) -> bool {
        let state = |wanted: &str| match wanted {
            "open" => task.is_open(),
            other => other == task.status,
        };
        let states = self.status.as_deref();
        let kind = self.kind.as_deref();
        let entity = self.entity.as_deref();
        states.is_none_or(|states| states.split(',').any(state))
            && kind.is_none_or(|kind| kind == task.kind)
            && entity.is_none_or(|entity| entity == task.entity || entity == task.subject)
            && self.parent.is_none_or(|parent| task.parent == Some(parent))
    }
}

/// Tasks, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TasksAnswer {
    /// The tasks.
    pub tasks: Vec<TaskAnswer>,
    /// What to ask for with `before` to go on; nothing: these are the last.
    #[serde(default)]
    pub next: Option<u64>,
    /// Tasks of the whole cluster that are queued or running, whatever was asked for.
    pub open: u64,
}

/// A task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskAnswer {
    /// Its number: greater than that of every earlier one.
    pub id: u64,
    /// What kind: see docs/operating/tasks.md.
    pub kind: String,
    /// What it is about, such as `volume/db`, `node/node-3`, `store/4` or `cluster`.
    pub entity: String,
    /// The same by id: names may be used again.
    pub subject: String,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    pub status: String,
    /// How much is done.
    pub done: u64,
    /// Of how much; 0: it is not known.
    pub total: u64,
    /// Of what: `bytes`, `parts`, `groups`, `records`, `extents`, `nodes`, `moves`, `steps`.
    pub unit: String,
    /// When it will be done at the pace it has had, Unix milliseconds; absent while that cannot be told.
    #[serde(default)]
    pub eta_ms: Option<u64>,
    /// What it is at, or how it ended.
    pub message: String,
    /// The task it is a part of.
    #[serde(default)]
    pub parent: Option<u64>,
    /// When it was begun, Unix milliseconds.
    pub queued_ms: u64,
    /// When it was first seen to happen.
    #[serde(default)]
    pub started_ms: Option<u64>,
    /// When this was found out.
    pub updated_ms: u64,
    /// When it ended.
    #[serde(default)]
    pub ended_ms: Option<u64>,
    /// Who asked for it; empty: the cluster does it by itself.
    pub who: String,
    /// The request that asked for it.
    pub request: String,
    /// Name of the node that works on it or sees to it.
    pub node: String,
    /// Whether it can be cancelled.
    pub cancellable: bool,
    /// Who wants it to stop, until it has.
    #[serde(default)]
    pub cancelled_by: Option<String>,
}

impl TaskAnswer {
    /// Whether it goes on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(&*self.status, "queued" | "running")
    }
}

/// What was begun and goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StartedAnswer {
    /// The task that tells of it; nothing: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_tasks_and_what_is_wrong_with_it() {
        let query = |status: &str| TaskQuery {
            status: Some(status.to_owned()),
            ..TaskQuery::default()
        };
        assert_eq!(TaskQuery::default().problem(), None);
        assert_eq!(query("failed,open").problem(), None);
        assert!(query("done").problem().unwrap().contains("`done`"));
        let limited = TaskQuery {
            limit: Some(0),
            ..TaskQuery::default()
        };
        assert!(limited.problem().is_some());
        let task = TaskAnswer {
            id: 7,
            kind: "volume-delete".to_owned(),
            entity: "volume/db".to_owned(),
            subject: "volume/12".to_owned(),
            status: "running".to_owned(),
            ..TaskAnswer::default()
        };
        assert!(query("open").wants(&task) && !query("failed").wants(&task));
        for (entity, wanted) in [
            ("volume/db", true),
            ("volume/12", true),
            ("volume/1", false),
        ] {
            let query = TaskQuery {
                entity: Some(entity.to_owned()),
                ..TaskQuery::default()
            };
            assert_eq!(query.wants(&task), wanted, "{entity}");
        }
    }
}
