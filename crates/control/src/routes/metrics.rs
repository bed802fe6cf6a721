//! Figures over time, and who is busy now.

use super::{Shared, bad};
use crate::reply::Reply;
use api::{BusiestQuery, MetricsQuery, Operation};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/metrics/query", get(query))
        .route("/metrics/busiest", get(busiest))
}

async fn query(
    State(shared): State<Shared>,
    query: Result<Query<MetricsQuery>, QueryRejection>,
) -> Reply {
    let query = query.map_err(|cause| bad(&cause));
    let operation = query.map(|Query(query)| Operation::MetricsQuery(query));
    shared.reply(operation).await
}

async fn busiest(
    State(shared): State<Shared>,
    query: Result<Query<BusiestQuery>, QueryRejection>,
) -> Reply {
    let query = query.map_err(|cause| bad(&cause));
    let operation = query.map(|Query(query)| Operation::Busiest(query));
    shared.reply(operation).await
}
