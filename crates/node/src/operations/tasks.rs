//! Tasks for people and programs: which there are, and to have one stop.

use super::{Result, catalog_error};
use crate::host::Host;
use crate::tasks::{kind, number_of};
use api::sort::{Key, Order, Part};
use api::{
    Answer, ErrorKind, MemberChange, OperationError, TASKS_DEFAULT, TaskAnswer, TaskQuery,
    TaskSort, TasksAnswer,
};
use catalog::{TaskRow, TaskStatus};
use std::rc::Rc;
use vocab::NodeId;

/// Below this, nothing can be said of how long the rest takes.
const PACE_MS_MIN: u64 = 5_000;

/// When a task is done at the pace it has had. Pure.
fn eta_ms(row: &TaskRow) -> Option<u64> {
    let took = row.updated_ms.saturating_sub(row.started_ms);
    let known = row.status == TaskStatus::Running && row.started_ms > 0 && took >= PACE_MS_MIN;
    if !known || row.done == 0 || row.done >= row.total {
        return None;
    }
    let left = u128::from(took) * u128::from(row.total - row.done) / u128::from(row.done);
    row.updated_ms.checked_add(u64::try_from(left).ok()?)
}

fn is_cancellable(row: &TaskRow) -> bool {
    let whole = row.parent.is_none() && row.cancel.is_empty() && row.status.is_open();
    whole
        && matches!(
            &*row.kind,
            kind::NODE_DRAIN | kind::STORE_DRAIN | kind::BALANCE | kind::STORE_SCRUB
        )
}

fn describe(row: TaskRow) -> TaskAnswer {
    let said = |at: u64| Some(at).filter(|at| *at > 0);
    TaskAnswer {
        eta_ms: eta_ms(&row),
        cancellable: is_cancellable(&row),
        id: row.id,
        status: row.status.name().to_owned(),
        kind: row.kind,
        entity: row.entity,
        subject: row.subject,
        done: row.done,
        total: row.total,
        unit: row.unit,
        message: row.message,
        parent: row.parent,
        queued_ms: row.queued_ms,
        started_ms: said(row.started_ms),
        updated_ms: row.updated_ms,
        ended_ms: said(row.ended_ms),
        who: row.who,
        request: row.request,
        node: row.node,
        cancelled_by: Some(row.cancel).filter(|who| !who.is_empty()),
    }
}

/// What a task has in a field that tasks can be ordered by.
fn key_of(task: &TaskAnswer, field: &str) -> Key {
    match field {
        "updated" => task.updated_ms.into(),
        "status" => task.status.as_str().into(),
        "kind" => task.kind.as_str().into(),
        "entity" => task.entity.as_str().into(),
        "node" => task.node.as_str().into(),
        _ => Key::Nothing,
    }
}

/// A page of the tasks that a query wants, newest first unless it says otherwise. Pure.
fn page(rows: Vec<TaskRow>, query: &TaskQuery) -> Result<TasksAnswer> {
    let open = rows.iter().filter(|row| row.status.is_open()).count() as u64;
    let limit = query.limit.unwrap_or(TASKS_DEFAULT) as usize;
    let all = rows.into_iter().map(describe).collect();
    let part = Part {
        order: query.sort.map_or(Order::NEWEST, TaskSort::order),
        after: query.before,
        limit: limit + 1,
    };
    let mut tasks = part.of(all, |task| task.id, key_of, |task| query.wants(task))?;
    let more = tasks.len() > limit;
    tasks.truncate(limit);
    Ok(TasksAnswer {
        next: tasks.last().filter(|_| more).map(|task| task.id),
        tasks,
        open,
    })
}

impl Host {
    pub(super) async fn list_tasks(&self, query: &TaskQuery) -> Result<Answer> {
        if let Some(problem) = query.problem() {
            return Err(OperationError::bad_request(problem));
        }
        let rows = self
            .catalog
            .list::<TaskRow>()
            .await
            .map_err(catalog_error)?;
        let rows = rows.into_iter().map(|found| found.row).collect();
        Ok(Answer::Tasks(page(rows, query)?))
    }

    pub(super) async fn show_task(&self, id: u64) -> Result<Answer> {
        let found = self.catalog.task(id).await.map_err(catalog_error)?;
        Ok(Answer::Task(describe(found.row)))
    }

    /// Has a task stop. What it has done so far stays done.
    pub(super) async fn cancel_task(self: &Rc<Self>, id: u64) -> Result<Answer> {
        let row = self.catalog.task(id).await.map_err(catalog_error)?.row;
        if row.status.is_open() && row.cancel.is_empty() && !is_cancellable(&row) {
            let reason = match row.parent {
                Some(parent) => format!("task {id} is a part of task {parent}: cancel that one"),
                None => format!(
                    "a task of kind {} cannot be cancelled: what it has begun must be brought to its end",
                    row.kind
                ),
            };
            return Err(OperationError::new(ErrorKind::Refused, reason));
        }
        let mut who = self.askers.now().who;
        if who.is_empty() {
            who.push_str("somebody");
        }
        let row = self
            .catalog
            .cancel_task(id, &who)
            .await
            .map_err(catalog_error)?;
        let undrain = MemberChange {
            draining: Some(false),
            ..MemberChange::default()
        };
        match &*row.kind {
            kind::NODE_DRAIN => {
                let node = number_of(&row.subject).and_then(|id| u32::try_from(id).ok());
                let name = node.map(|id| self.members.node_name(NodeId(id)));
                self.set_node(&name.unwrap_or_default(), &undrain).await?;
            }
            kind::STORE_DRAIN => {
                let store = number_of(&row.subject).and_then(|id| u32::try_from(id).ok());
                self.set_store(store.unwrap_or_default(), &undrain).await?;
            }
            _ => {}
        }
        Ok(Answer::Task(describe(row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u64, status: TaskStatus) -> TaskRow {
        TaskRow {
            id,
            status,
            kind: kind::NODE_DRAIN.to_owned(),
            ..TaskRow::default()
        }
    }

    #[test]
    fn the_rest_takes_as_long_as_the_pace_so_far_says() {
        let running = TaskRow {
            started_ms: 10_000,
            updated_ms: 20_000,
            done: 1,
            total: 4,
            ..row(1, TaskStatus::Running)
        };
        assert_eq!(eta_ms(&running), Some(50_000));
        let unknown = [
            TaskRow {
                done: 0,
                ..running.clone()
            },
            TaskRow {
                total: 0,
                ..running.clone()
            },
            TaskRow {
                updated_ms: 10_500,
                ..running.clone()
            },
            TaskRow {
                status: TaskStatus::Succeeded,
                ..running.clone()
            },
        ];
        assert!(unknown.iter().all(|row| eta_ms(row).is_none()));
        let far = TaskRow {
            done: 1,
            total: u64::MAX,
            ..running
        };
        assert_eq!(eta_ms(&far), None, "beyond any calendar");
    }

    #[test]
    fn pages_are_newest_first_and_say_how_to_go_on() {
        let rows: Vec<TaskRow> = (1..=5).map(|id| row(id, TaskStatus::Running)).collect();
        let query = |before, limit| TaskQuery {
            before,
            limit: Some(limit),
            ..TaskQuery::default()
        };
        let ids =
            |answer: &TasksAnswer| answer.tasks.iter().map(|task| task.id).collect::<Vec<_>>();
        let first = page(rows.clone(), &query(None, 2)).unwrap();
        assert_eq!(
            (ids(&first), first.next, first.open),
            (vec![5, 4], Some(4), 5)
        );
        let rest = page(rows.clone(), &query(first.next, 3)).unwrap();
        assert_eq!((ids(&rest), rest.next), (vec![3, 2, 1], None));
        let sorted = |before| TaskQuery {
            sort: Some("status".parse().unwrap()),
            ..query(before, 2)
        };
        let mut rows = rows;
        rows[3].status = TaskStatus::Failed;
        let first = page(rows.clone(), &sorted(None)).unwrap();
        assert_eq!((ids(&first), first.next), (vec![4, 1], Some(1)));
        let rest = page(rows.clone(), &sorted(first.next)).unwrap();
        assert_eq!((ids(&rest), rest.next), (vec![2, 3], Some(3)));
        assert!(page(rows, &sorted(Some(9))).is_err(), "it is gone");
    }

    #[test]
    fn drains_can_be_cancelled_and_parts_and_ends_cannot() {
        assert!(is_cancellable(&row(1, TaskStatus::Queued)));
        assert!(!is_cancellable(&row(1, TaskStatus::Failed)));
        let part = TaskRow {
            parent: Some(1),
            ..row(2, TaskStatus::Running)
        };
        assert!(!is_cancellable(&part));
        let rebuild = TaskRow {
            kind: kind::REPAIR.to_owned(),
            ..row(2, TaskStatus::Running)
        };
        assert!(!is_cancellable(&rebuild));
    }
}
