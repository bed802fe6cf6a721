//! Kubernetes clusters whose volumes are here, and their claims.

use super::paging::Asked;
use super::{Body, PathText, Shared, bad, bytes, text};
use crate::reply::{Reply, parse};
use api::kubernetes::REPORT_BYTES_MAX;
use api::{
    ClaimQuery, KubernetesOperation, KubernetesQuery, KubernetesReport, Operation, OperationError,
};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::HeaderMap;
use axum::routing::{get, put};

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    let report = put(report).layer(DefaultBodyLimit::max(REPORT_BYTES_MAX));
    Router::new()
        .route("/kubernetes", get(list))
        .route("/kubernetes/{cluster}", get(show).delete(forget))
        .route("/kubernetes/{cluster}/report", report)
        .route("/kubernetes/{cluster}/claims", get(claims))
}

async fn reply(shared: &Shared, asked: Result<KubernetesOperation, OperationError>) -> Reply {
    shared.reply(asked.map(Operation::Kubernetes)).await
}

async fn list(State(shared): State<Shared>, query: Asked<KubernetesQuery>) -> Reply {
    shared.listed(query).await
}

async fn show(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    reply(&shared, name.map(|name| KubernetesOperation::Show { name })).await
}

async fn claims(
    State(shared): State<Shared>,
    path: PathText,
    query: Result<Query<ClaimQuery>, QueryRejection>,
) -> Reply {
    let asked = || {
        let name = text(path)?;
        let Query(query) = query.map_err(|cause| bad(&cause))?;
        Ok(KubernetesOperation::Claims { name, query })
    };
    reply(&shared, asked()).await
}

async fn report(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let asked = || {
        let name = text(path)?;
        let report = parse::<KubernetesReport>(&headers, &bytes(body)?)?;
        Ok(KubernetesOperation::Report { name, report })
    };
    reply(&shared, asked()).await
}

async fn forget(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    let asked = name.map(|name| KubernetesOperation::Forget { name });
    reply(&shared, asked).await
}
