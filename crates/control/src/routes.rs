//! Paths to operations. The table is in `api::http`; `openapi/table.rs` says what each takes and answers.

mod accounts;
mod alerts;
mod catalog;
mod disks;
mod groups;
mod joining;
mod kubernetes;
mod logs;
mod members;
mod metrics;
mod paging;
mod tasks;
mod tokens;

use crate::audit::{self, Audit};
use crate::auth::{Access, Transport};
use crate::conditions;
use crate::idempotency::{self, Ticket};
use crate::password::Passwords;
use crate::reply::{Reply, no_such_method, parse, parse_or_default, require_json};
use crate::stream::Hub;
use crate::throttle::Throttle;
use crate::{Auth, Backend, auth, headers, limits, openapi, pages, request_id, stream};
use api::http::{self, BODY_BYTES_MAX, PREFIX};
use api::{
    Answer, Asker, ContainerChange, ContainerQuery, ContainerSpec, GroupSnapshotQuery,
    GroupSnapshotSpec, ListQuery, Operation, OperationError, VolumeChange, VolumeSpec,
};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use paging::Asked;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Requests with the backend at once. Each holds at most one body of `BODY_BYTES_MAX`, 4 MiB together, or a report of Kubernetes:
/// 32 MiB together.
pub const REQUESTS_MAX: usize = 64;

/// Longest wait for an answer. A takeover and a full drain of 1 GiB fit several times over.
pub const ANSWER_SECONDS_MAX: u64 = 120;

/// What every route needs.
#[derive(Clone)]
pub(crate) struct Shared {
    backend: Arc<dyn Backend>,
    permits: Arc<Semaphore>,
    transport: Transport,
    passwords: Passwords,
    throttle: Arc<Throttle>,
    audit: Audit,
    pub(crate) hub: Hub,
}

impl Shared {
    async fn call(&self, operation: Operation) -> Result<Answer, OperationError> {
        let access = auth::current();
        let allowed = match auth::check(&access, &operation) {
            Ok(()) => limits::apply(&*self.backend, &access, operation.clone()).await,
            Err(error) => Err(error),
        };
        let operation = match allowed {
            Ok(operation) => operation,
            Err(error) => {
                let result = Err(error);
                self.note(&access, &operation, None, &result);
                return result;
            }
        };
        self.do_allowed(access, operation).await
    }

    /// Carries out what somebody may: on top of the version and under the key that the request has.
    async fn do_allowed(
        &self,
        access: Access,
        operation: Operation,
    ) -> Result<Answer, OperationError> {
        let operation = conditions::apply(operation)?;
        match idempotency::ticket(&access, &operation)? {
            None => {
                let answer = self.do_and_tell(&access, operation).await?;
                Ok(limits::narrow(&access, answer))
            }
            Some(ticket) => self.do_once(access, operation, ticket).await,
        }
    }

    /// Carries out what somebody may, and has the audit log say so if it is worth saying.
    async fn do_and_tell(
        &self,
        access: &Access,
        operation: Operation,
    ) -> Result<Answer, OperationError> {
        if !audit::is_told(&operation) {
            return self.carry_out(operation).await;
        }
        let before = self.before(&operation).await;
        let result = self.carry_out(operation.clone()).await;
        self.note(access, &operation, before, &result);
        result
    }

    /// The same for a request with an idempotency key: the answer of an earlier one, or the first.
    async fn do_once(
        &self,
        access: Access,
        operation: Operation,
        ticket: Ticket,
    ) -> Result<Answer, OperationError> {
        if let Some(answer) = ticket.claim(&*self.backend).await? {
            return Ok(answer);
        }
        // It goes on when the client hangs up: who asks again wants to know what came of it.
        let shared = self.clone();
        let work = async move {
            let result = shared.do_and_tell(&access, operation).await;
            ticket.keep(&*shared.backend, &result).await;
            result
        };
        let work = auth::inherit(request_id::inherit(work));
        let done = tokio::spawn(work).await;
        done.unwrap_or_else(|cause| {
            Err(OperationError::failed(format!(
                "the request ended without an answer: {cause}"
            )))
        })
    }

    /// What is there before a change, as far as it is known in time.
    pub(crate) async fn before(&self, operation: &Operation) -> Option<serde_json::Value> {
        let look = self.carry_out(audit::look(operation)?);
        let answer = tokio::time::timeout(audit::LOOK_MAX, look).await;
        audit::before(operation, &answer.ok()?.ok()?)
    }

    /// Has the audit log say what was done, if it is worth saying.
    fn note(
        &self,
        access: &Access,
        operation: &Operation,
        before: Option<serde_json::Value>,
        result: &Result<Answer, OperationError>,
    ) {
        if let Some(entry) = audit::entry(access, operation, before, result) {
            self.audit.record(entry);
        }
    }

    /// Carries out what somebody may.
    async fn carry_out(&self, operation: Operation) -> Result<Answer, OperationError> {
        let Ok(_permit) = self.permits.try_acquire() else {
            return Err(OperationError::unavailable(format!(
                "{REQUESTS_MAX} requests are being worked on already; try again in a moment"
            )));
        };
        let name = operation.name();
        let subject = operation.subject().unwrap_or_default().to_owned();
        // A driver tells lines once a second: they would be mostly about themselves.
        let quiet = operation.looks() || matches!(operation, Operation::LogReport { .. });
        let request = request_id::current();
        let asker = Asker {
            who: auth::who(),
            request: request.clone(),
        };
        let call = self.backend.call_for(asker, operation);
        let patience = Duration::from_secs(ANSWER_SECONDS_MAX);
        let result = tokio::time::timeout(patience, call).await.map_err(|_| {
            OperationError::unavailable(format!(
                "{name} has no answer after {ANSWER_SECONDS_MAX} s; it may still be carried out"
            ))
        });
        let result = result.and_then(|answer| answer);
        if let Err(error) = &result
            && name == "glance"
        {
            // The change that it is about says the same.
            tracing::debug!(operation = name, volume = subject, request, %error, "nothing to see before a change");
        } else if let Err(error) = &result {
            tracing::info!(operation = name, volume = subject, request, kind = ?error.kind, %error, "operation refused");
        } else if quiet {
            tracing::debug!(
                operation = name,
                volume = subject,
                request,
                "operation done"
            );
        } else {
            tracing::info!(
                operation = name,
                volume = subject,
                request,
                "operation done"
            );
        }
        result
    }

    /// Carries out what `operation` says, or answers with why there is none.
    async fn reply(&self, operation: Result<Operation, OperationError>) -> Reply {
        match operation {
            Ok(operation) => self.call(operation).await.into(),
            Err(error) => error.into(),
        }
    }
}

type PathText = Result<Path<String>, PathRejection>;
type PathTexts = Result<Path<(String, String)>, PathRejection>;
type Body = Result<Bytes, BytesRejection>;

fn text(path: PathText) -> Result<String, OperationError> {
    let Path(text) = path.map_err(|cause| bad(&cause))?;
    Ok(text)
}

fn bytes(body: Body) -> Result<Bytes, OperationError> {
    body.map_err(|cause| bad(&cause))
}

pub(crate) fn bad(cause: &dyn std::fmt::Display) -> OperationError {
    OperationError::bad_request(format!("the request cannot be read: {cause}"))
}

/// The whole HTTP surface of a node.
///
/// `closing` turns true when the server stops: streams end then.
pub fn router(
    backend: Arc<dyn Backend>,
    auth: Auth,
    transport: Transport,
    closing: watch::Receiver<bool>,
) -> Router {
    let gate = auth::Gate {
        auth,
        transport,
        backend: backend.clone(),
    };
    let shared = Shared {
        permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
        transport,
        passwords: Passwords::new(),
        throttle: Arc::default(),
        audit: Audit::new(backend.clone()),
        hub: Hub::new(backend.clone(), closing),
        backend,
    };
    Router::new()
        .nest(PREFIX, version_1())
        .route("/metrics", get(metrics_text))
        .fallback(pages::serve)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(idempotency::layer))
        .layer(axum::middleware::from_fn_with_state(gate, auth::layer))
        .route("/healthz", get(async || "ok\n"))
        .route(
            &format!("{PREFIX}/join"),
            post(joining::join).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)),
        )
        .layer(axum::middleware::from_fn(conditions::layer))
        .layer(axum::middleware::from_fn(request_id::layer))
        .layer(axum::middleware::from_fn(headers::layer))
        .with_state(shared)
}

/// The routes of version 1.
fn version_1() -> Router<Shared> {
    Router::new()
        .route("/status", get(status))
        .route("/cluster", get(cluster))
        .route("/capacity", get(capacity))
        .route("/containers", get(container_list).post(container_create))
        .route(
            "/containers/{name}",
            get(container_show)
                .patch(container_set)
                .delete(container_delete),
        )
        .route("/volumes", get(volume_list).post(volume_create))
        .route(
            "/volumes/{name}",
            get(volume_show).patch(volume_set).delete(volume_delete),
        )
        .route("/volumes/{name}/resize", post(volume_resize))
        .route("/volumes/{name}/restore", post(volume_restore))
        .route("/volumes/{name}/drain", post(volume_drain))
        .route("/volumes/{name}/release", post(volume_release))
        .route("/volumes/{name}/attach", post(attach))
        .route("/volumes/{name}/detach", post(detach))
        .route(
            "/volumes/{name}/snapshots",
            get(volume_snapshots).post(snapshot_create),
        )
        .route(
            "/volumes/{name}/snapshots/{snapshot}",
            delete(snapshot_delete),
        )
        .route("/volumes/{name}/diff", get(snapshot_diff))
        .route("/snapshots", get(snapshot_list))
        .route("/snapshots/{id}", get(snapshot_show))
        .route("/group-snapshots", get(group_list).post(group_create))
        .route(
            "/group-snapshots/{id}",
            get(group_show).delete(group_delete),
        )
        .route("/openapi.json", get(openapi::serve))
        .route("/stream", get(stream::serve))
        .route("/logs/follow", get(stream::logs::serve))
        .merge(accounts::routes())
        .merge(alerts::routes())
        .merge(catalog::routes())
        .merge(disks::routes())
        .merge(groups::routes())
        .merge(joining::routes())
        .merge(kubernetes::routes())
        .merge(members::routes())
        .merge(metrics::routes())
        .merge(logs::routes())
        .merge(tasks::routes())
        .merge(tokens::routes())
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    match shared.call(Operation::Figures).await {
        Ok(Answer::Figures(figures)) => (
            [("content-type", "text/plain; version=0.0.4; charset=utf-8")],
            crate::metrics::render(&figures),
        )
            .into_response(),
        Ok(_) => Reply::from(OperationError::failed(
            "a question for figures was answered by something else",
        ))
        .into_response(),
        Err(error) => Reply::from(error).into_response(),
    }
}

async fn status(State(shared): State<Shared>) -> Reply {
    shared.reply(Ok(Operation::Status)).await
}

async fn container_list(State(shared): State<Shared>, query: Asked<ContainerQuery>) -> Reply {
    shared.listed(query).await
}

async fn container_create(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let spec = bytes(body).and_then(|body| parse::<ContainerSpec>(&headers, &body));
    shared.reply(spec.map(Operation::ContainerCreate)).await
}

async fn container_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    shared
        .reply(name.map(|name| Operation::ContainerShow { name }))
        .await
}

async fn container_set(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let name = text(path)?;
        let change = parse::<ContainerChange>(&headers, &bytes(body)?)?;
        Ok(Operation::ContainerSet { name, change })
    };
    shared.reply(operation()).await
}

async fn container_delete(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    shared
        .reply(name.map(|name| Operation::ContainerDelete { name }))
        .await
}

async fn cluster(State(shared): State<Shared>) -> Reply {
    shared.reply(Ok(Operation::Cluster)).await
}

async fn capacity(
    State(shared): State<Shared>,
    query: Result<Query<http::CapacityQuery>, QueryRejection>,
) -> Reply {
    let operation = query.map_err(|cause| bad(&cause)).map(|Query(query)| {
        let http::CapacityQuery { container, rf } = query;
        Operation::Capacity { container, rf }
    });
    shared.reply(operation).await
}

type ListText = Result<Query<ListQuery>, QueryRejection>;

fn list(query: ListText) -> Result<ListQuery, OperationError> {
    let Query(query) = query.map_err(|cause| bad(&cause))?;
    match query.problem() {
        Some(problem) => Err(OperationError::bad_request(problem)),
        None => Ok(query),
    }
}

async fn volume_list(State(shared): State<Shared>, query: ListText) -> Reply {
    let query = list(query).and_then(|query| match query.volume {
        Some(_) => Err(OperationError::bad_request("volumes have no `volume`")),
        None => Ok(query),
    });
    shared.reply(query.map(Operation::VolumeList)).await
}

async fn volume_set(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let name = text(path)?;
        let change = parse::<VolumeChange>(&headers, &bytes(body)?)?;
        Ok(Operation::VolumeSet { name, change })
    };
    shared.reply(operation()).await
}

async fn volume_create(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let spec = bytes(body).and_then(|body| parse::<VolumeSpec>(&headers, &body));
    shared.reply(spec.map(Operation::VolumeCreate)).await
}

async fn volume_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    shared
        .reply(name.map(|name| Operation::VolumeShow { name }))
        .await
}

async fn volume_delete(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    shared
        .reply(name.map(|name| Operation::VolumeDelete { name }))
        .await
}

async fn volume_resize(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let name = text(path)?;
        let http::Resize { size } = parse(&headers, &bytes(body)?)?;
        Ok(Operation::VolumeResize { name, size })
    };
    shared.reply(operation()).await
}

async fn volume_restore(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let volume = text(path)?;
        let http::Restore { snapshot } = parse(&headers, &bytes(body)?)?;
        Ok(Operation::VolumeRestore { volume, snapshot })
    };
    shared.reply(operation()).await
}

async fn volume_drain(State(shared): State<Shared>, path: PathText, headers: HeaderMap) -> Reply {
    let operation = || {
        require_json(&headers)?;
        let name = text(path)?;
        Ok(Operation::VolumeDrain { name })
    };
    shared.reply(operation()).await
}

async fn volume_release(State(shared): State<Shared>, path: PathText, headers: HeaderMap) -> Reply {
    let operation = || {
        require_json(&headers)?;
        let name = text(path)?;
        Ok(Operation::VolumeRelease { name })
    };
    shared.reply(operation()).await
}

async fn attach(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let volume = text(path)?;
        let http::Attach {
            client,
            read_only,
            shared,
        } = parse(&headers, &bytes(body)?)?;
        Ok(Operation::Attach {
            volume,
            client,
            read_only,
            shared,
        })
    };
    shared.reply(operation()).await
}

async fn detach(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let volume = text(path)?;
        let http::Detach { client } = parse_or_default(&headers, &bytes(body)?)?;
        Ok(Operation::Detach { volume, client })
    };
    shared.reply(operation()).await
}

async fn volume_snapshots(State(shared): State<Shared>, path: PathText, query: ListText) -> Reply {
    let operation = || {
        let volume = Some(text(path)?);
        let query = list(query)?;
        if query.volume.is_some() && query.volume != volume {
            return Err(OperationError::bad_request(
                "the path names another `volume`",
            ));
        }
        Ok(Operation::SnapshotList(ListQuery { volume, ..query }))
    };
    shared.reply(operation()).await
}

async fn snapshot_list(State(shared): State<Shared>, query: ListText) -> Reply {
    shared.reply(list(query).map(Operation::SnapshotList)).await
}

async fn snapshot_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let operation = text(path).and_then(|text| {
        let digits = text.strip_prefix("snapshot-").unwrap_or(&text);
        let id = digits.parse();
        let odd = |_| OperationError::bad_request(format!("`{text}` is not the id of a snapshot"));
        Ok(Operation::SnapshotShow {
            id: id.map_err(odd)?,
        })
    });
    shared.reply(operation).await
}

async fn group_list(State(shared): State<Shared>, query: Asked<GroupSnapshotQuery>) -> Reply {
    shared.listed(query).await
}

async fn group_create(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let spec = bytes(body).and_then(|body| parse::<GroupSnapshotSpec>(&headers, &body));
    shared.reply(spec.map(Operation::GroupSnapshotCreate)).await
}

async fn group_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let id = text(path);
    shared
        .reply(id.map(|id| Operation::GroupSnapshotShow { id }))
        .await
}

async fn group_delete(State(shared): State<Shared>, path: PathText) -> Reply {
    let id = text(path);
    shared
        .reply(id.map(|id| Operation::GroupSnapshotDelete { id }))
        .await
}

async fn snapshot_create(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = || {
        let volume = text(path)?;
        let http::SnapshotName { name, labels } = parse(&headers, &bytes(body)?)?;
        Ok(Operation::SnapshotCreate {
            volume,
            name,
            labels,
            group: None,
        })
    };
    shared.reply(operation()).await
}

async fn snapshot_delete(State(shared): State<Shared>, path: PathTexts) -> Reply {
    let operation = path
        .map(|Path((volume, name))| Operation::SnapshotDelete { volume, name })
        .map_err(|cause| bad(&cause));
    shared.reply(operation).await
}

async fn snapshot_diff(
    State(shared): State<Shared>,
    path: PathText,
    query: Result<Query<http::DiffQuery>, QueryRejection>,
) -> Reply {
    let operation = || {
        let volume = text(path)?;
        let Query(query) = query.map_err(|cause| bad(&cause))?;
        let http::DiffQuery {
            from,
            to,
            offset,
            limit,
        } = query;
        Ok(Operation::SnapshotDiff {
            volume,
            from,
            to,
            offset,
            limit,
        })
    };
    shared.reply(operation()).await
}
