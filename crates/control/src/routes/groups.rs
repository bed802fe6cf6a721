//! Placement groups, and clones: where data is, and what shares it.

use super::paging::Asked;
use super::{ListText, PathText, Shared, list, text};
use crate::reply::Reply;
use api::{GroupQuery, Operation, OperationError};
use axum::Router;
use axum::extract::State;
use axum::routing::get;

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/groups", get(group_list))
        .route("/groups/{id}", get(group_show))
        .route("/clones", get(clone_list))
}

async fn group_list(State(shared): State<Shared>, query: Asked<GroupQuery>) -> Reply {
    shared.listed(query).await
}

fn id_of(path: PathText) -> Result<u32, OperationError> {
    let text = text(path)?;
    let number = text.strip_prefix("group-").unwrap_or(&text);
    let odd = |_| OperationError::bad_request(format!("`{text}` is not the id of a group"));
    number.parse().map_err(odd)
}

async fn group_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let id = id_of(path);
    shared.reply(id.map(|id| Operation::GroupShow { id })).await
}

async fn clone_list(State(shared): State<Shared>, query: ListText) -> Reply {
    shared.reply(list(query).map(Operation::CloneList)).await
}
