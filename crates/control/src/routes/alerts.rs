//! What is wrong, and who is told of it.

use super::paging::Asked;
use super::{Body, PathText, Shared, bad, bytes, text};
use crate::auth;
use crate::reply::{Reply, parse, parse_or_default, require_json};
use api::{
    AlertNote, AlertOperation, AlertQuery, AlertTargetSpec, Operation, OperationError, TargetQuery,
};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/alerts", get(list))
        .route("/alerts/{id}", get(show))
        .route("/alerts/{id}/acknowledge", post(acknowledge))
        .route("/alerts/{id}/resolve", post(resolve))
        .route("/alert-targets", get(target_list).post(target_add))
        .route(
            "/alert-targets/{name}",
            get(target_show).delete(target_delete),
        )
        .route("/alert-targets/{name}/test", post(target_test))
}

fn id_of(path: PathText) -> Result<u64, OperationError> {
    let text = text(path)?;
    let odd = |_| OperationError::bad_request(format!("`{text}` is not the id of an alert"));
    text.parse().map_err(odd)
}

async fn reply(shared: &Shared, asked: Result<AlertOperation, OperationError>) -> Reply {
    shared.reply(asked.map(Operation::Alert)).await
}

async fn list(
    State(shared): State<Shared>,
    query: Result<Query<AlertQuery>, QueryRejection>,
) -> Reply {
    let query = query.map_err(|cause| bad(&cause));
    reply(
        &shared,
        query.map(|Query(query)| AlertOperation::List(query)),
    )
    .await
}

async fn show(State(shared): State<Shared>, path: PathText) -> Reply {
    let id = id_of(path);
    reply(&shared, id.map(|id| AlertOperation::Show { id })).await
}

/// Which alert, what is said of it, and who says so.
fn noted(
    path: PathText,
    headers: &HeaderMap,
    body: Body,
) -> Result<(u64, Option<String>, String), OperationError> {
    let id = id_of(path)?;
    let AlertNote { note } = parse_or_default(headers, &bytes(body)?)?;
    Ok((id, note, auth::current().who))
}

async fn acknowledge(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let noted = noted(path, &headers, body);
    let asked = noted.map(|(id, note, by)| AlertOperation::Acknowledge { id, note, by });
    reply(&shared, asked).await
}

async fn resolve(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let noted = noted(path, &headers, body);
    let asked = noted.map(|(id, note, by)| AlertOperation::Resolve { id, note, by });
    reply(&shared, asked).await
}

async fn target_list(State(shared): State<Shared>, query: Asked<TargetQuery>) -> Reply {
    shared.listed(query).await
}

async fn target_add(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let spec = bytes(body).and_then(|body| parse::<AlertTargetSpec>(&headers, &body));
    reply(&shared, spec.map(AlertOperation::TargetAdd)).await
}

async fn target_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    let asked = name.map(|name| AlertOperation::TargetShow { name });
    reply(&shared, asked).await
}

async fn target_delete(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    let asked = name.map(|name| AlertOperation::TargetDelete { name });
    reply(&shared, asked).await
}

async fn target_test(State(shared): State<Shared>, path: PathText, headers: HeaderMap) -> Reply {
    let name = require_json(&headers).and_then(|()| text(path));
    let asked = name.map(|name| AlertOperation::TargetTest { name });
    reply(&shared, asked).await
}
