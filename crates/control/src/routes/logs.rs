//! Recent lines of the nodes' logs, and lines that drivers tell them.

use super::{Body, Shared, bad, bytes};
use crate::auth;
use crate::reply::{Reply, parse};
use api::{LogQuery, LogReport, Operation, OperationError};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::get;

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/logs", get(find).post(report))
}

async fn find(
    State(shared): State<Shared>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Reply {
    let query = query.map_err(|cause| bad(&cause));
    let operation = query.map(|Query(query)| Operation::Logs(query));
    shared.reply(operation).await
}

/// Who tells is who asks, whatever the report says.
async fn report(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let operation = || {
        let report = parse::<LogReport>(&headers, &bytes(body)?)?;
        match report.problem() {
            Some(problem) => Err(OperationError::bad_request(problem)),
            None => Ok(Operation::LogReport {
                by: auth::current().teller(),
                report,
            }),
        }
    };
    shared.reply(operation()).await
}
