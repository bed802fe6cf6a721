//! Tasks: what takes time.

use super::{PathText, Shared, bad, text};
use crate::reply::{Reply, require_json};
use api::{Operation, OperationError, TaskQuery};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/tasks", get(list))
        .route("/tasks/{id}", get(show))
        .route("/tasks/{id}/cancel", post(cancel))
}

fn id_of(path: PathText) -> Result<u64, OperationError> {
    let text = text(path)?;
    let odd = |_| OperationError::bad_request(format!("`{text}` is not the id of a task"));
    text.parse().map_err(odd)
}

async fn list(
    State(shared): State<Shared>,
    query: Result<Query<TaskQuery>, QueryRejection>,
) -> Reply {
    let query = query.map_err(|cause| bad(&cause));
    let operation = query.map(|Query(query)| Operation::TaskList(query));
    shared.reply(operation).await
}

async fn show(State(shared): State<Shared>, path: PathText) -> Reply {
    let id = id_of(path);
    shared.reply(id.map(|id| Operation::TaskShow { id })).await
}

async fn cancel(State(shared): State<Shared>, path: PathText, headers: HeaderMap) -> Reply {
    let id = require_json(&headers).and_then(|()| id_of(path));
    shared
        .reply(id.map(|id| Operation::TaskCancel { id }))
        .await
}
