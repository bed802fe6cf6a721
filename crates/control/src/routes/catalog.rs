//! The catalog as a whole.

use super::{Body, Shared, bytes};
use crate::reply::{Reply, parse};
use api::{CatalogTarget, Operation};
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::{get, post};

/// Its routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/catalog", get(show))
        .route("/catalog/backup", get(backup))
        .route("/catalog/move", post(move_to))
}

async fn show(State(shared): State<Shared>) -> Reply {
    shared.reply(Ok(Operation::CatalogShow)).await
}

async fn backup(State(shared): State<Shared>) -> Reply {
    shared.reply(Ok(Operation::CatalogBackup)).await
}

async fn move_to(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let target = bytes(body).and_then(|body| parse::<CatalogTarget>(&headers, &body));
    shared.reply(target.map(Operation::CatalogMove)).await
}
