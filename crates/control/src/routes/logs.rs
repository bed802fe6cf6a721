//! Recent lines of the nodes' logs.

use super::{Shared, bad};
use crate::reply::Reply;
use api::{LogQuery, Operation};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;

/// Their route.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/logs", get(find))
}

async fn find(
    State(shared): State<Shared>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Reply {
    let query = query.map_err(|cause| bad(&cause));
    let operation = query.map(|Query(query)| Operation::Logs(query));
    shared.reply(operation).await
}
