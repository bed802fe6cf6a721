//! Nodes and stores as members of the cluster.

use super::paging::Asked;
use super::{Body, PathText, Shared, bad, bytes, text};
use crate::reply::{Reply, parse, require_json};
use api::{
    EventQuery, MemberChange, Operation, OperationError, RemoveQuery, SettingQuery, StoreQuery,
};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};

type RemoveText = Result<Query<RemoveQuery>, QueryRejection>;

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/resiliency", get(resiliency))
        .route("/stores", get(store_list))
        .route("/settings", get(settings))
        .route("/space", get(space))
        .route("/events", get(events))
        .route(
            "/nodes/{name}",
            get(node_show).patch(node_set).delete(node_remove),
        )
        .route(
            "/stores/{id}",
            get(store_show).patch(store_set).delete(store_remove),
        )
        .route("/stores/{id}/scrub", post(store_scrub))
}

pub(super) fn id_of(path: PathText) -> Result<u32, OperationError> {
    let text = text(path)?;
    let digits = text.strip_prefix("store-").unwrap_or(&text);
    let odd = |_| OperationError::bad_request(format!("`{text}` is not the id of a store"));
    digits.parse().map_err(odd)
}

fn is_lost(query: RemoveText) -> Result<bool, OperationError> {
    let Query(query) = query.map_err(|cause| bad(&cause))?;
    Ok(query.lost)
}

async fn resiliency(State(shared): State<Shared>) -> Reply {
    shared.reply(Ok(Operation::Resiliency)).await
}

async fn space(State(shared): State<Shared>) -> Reply {
    let whole = Operation::Space {
        lineage: None,
        lineages: Vec::new(),
    };
    shared.reply(Ok(whole)).await
}

async fn events(
    State(shared): State<Shared>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Reply {
    let query = query.map_err(|cause| bad(&cause));
    let operation = query.map(|Query(query)| Operation::Events(query));
    shared.reply(operation).await
}

async fn node_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    shared
        .reply(name.map(|name| Operation::NodeShow { name }))
        .await
}

async fn node_set(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let name = text(path)?;
        let change = parse::<MemberChange>(&headers, &bytes(body)?)?;
        Ok(Operation::NodeSet { name, change })
    };
    shared.reply(operation()).await
}

async fn node_remove(State(shared): State<Shared>, path: PathText, query: RemoveText) -> Reply {
    let operation = || {
        let (name, lost) = (text(path)?, is_lost(query)?);
        Ok(Operation::NodeRemove { name, lost })
    };
    shared.reply(operation()).await
}

async fn settings(State(shared): State<Shared>, query: Asked<SettingQuery>) -> Reply {
    shared.listed(query).await
}

async fn store_list(State(shared): State<Shared>, query: Asked<StoreQuery>) -> Reply {
    shared.listed(query).await
}

async fn store_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let id = id_of(path);
    shared.reply(id.map(|id| Operation::StoreShow { id })).await
}

async fn store_set(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let id = id_of(path)?;
        let change = parse::<MemberChange>(&headers, &bytes(body)?)?;
        Ok(Operation::StoreSet { id, change })
    };
    shared.reply(operation()).await
}

async fn store_scrub(State(shared): State<Shared>, path: PathText, headers: HeaderMap) -> Reply {
    let id = require_json(&headers).and_then(|()| id_of(path));
    shared
        .reply(id.map(|id| Operation::StoreScrub { id }))
        .await
}

async fn store_remove(State(shared): State<Shared>, path: PathText, query: RemoveText) -> Reply {
    let operation = || {
        let (id, lost) = (id_of(path)?, is_lost(query)?);
        Ok(Operation::StoreRemove { id, lost })
    };
    shared.reply(operation()).await
}
