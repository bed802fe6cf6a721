//! Disks of the nodes.

use super::members::id_of;
use super::paging::Asked;
use super::{Body, PathText, Shared, bytes};
use crate::reply::{Reply, parse};
use api::{DiskLight, DiskQuery, DiskReplacement, DiskSpec, Operation};
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::{get, post};

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/disks", get(list).post(add))
        .route("/disks/{store}/replace", post(replace))
        .route("/disks/{store}/locate", post(locate))
}

async fn list(State(shared): State<Shared>, query: Asked<DiskQuery>) -> Reply {
    shared.listed(query).await
}

async fn add(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let spec = bytes(body).and_then(|body| parse::<DiskSpec>(&headers, &body));
    shared.reply(spec.map(Operation::DiskAdd)).await
}

async fn replace(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let store = id_of(path)?;
        let with = parse::<DiskReplacement>(&headers, &bytes(body)?)?;
        Ok(Operation::DiskReplace { store, with })
    };
    shared.reply(operation()).await
}

async fn locate(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let store = id_of(path)?;
        let light = parse::<DiskLight>(&headers, &bytes(body)?)?;
        Ok(Operation::DiskLocate { store, light })
    };
    shared.reply(operation()).await
}
