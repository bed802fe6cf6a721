//! Where things live in the REST API, version 1.
//!
//! | method and path | operation |
//! | --- | --- |
//! | `GET /api/v1/status`, `GET /api/v1/cluster` | status, cluster |
//! | `GET /api/v1/capacity?container=\|rf=` | capacity |
//! | `GET /api/v1/resiliency`, `.../stores`, `.../settings`, `.../groups`, `.../groups/{id}`, `.../clones` | resiliency, store-list, setting-list, group-list, group-show, clone-list |
//! | `GET /api/v1/space`, `.../events?after=&limit=`, `.../metrics/query?entity=&metric=&from=&to=&step=`, `.../metrics/busiest?by=&limit=`, `.../logs?node=&level=&volume=&task=&request=&text=&from=&to=&limit=` | space, events, metrics-query, busiest, logs |
//! | `POST /api/v1/logs` `{"host", "component", "lines", "lost"}` | log-report |
//! | `GET /api/v1/tasks?status=&kind=&entity=&parent=&before=&limit=`, `.../tasks/{id}`, `POST .../tasks/{id}/cancel` | task-list, -show, -cancel |
//! | `GET /api/v1/alerts?state=&severity=&kind=&entity=&before=&limit=`, `.../{id}`, `POST .../{id}/acknowledge`, `.../resolve` `{"note"}` | alert-list, -show, -acknowledge, -resolve |
//! | `GET, POST /api/v1/alert-targets`, `GET, DELETE .../{name}`, `POST .../{name}/test` | alert-target-list, -add, -show, -delete, -test |
//! | `GET /api/v1/kubernetes`, `GET, DELETE .../{cluster}`, `PUT .../{cluster}/report`, `GET .../{cluster}/claims?limit=&after=&namespace=&name=&status=&volume=` | kubernetes-list, -show, -forget, -report, -claims |
//! | `GET, PATCH, DELETE /api/v1/nodes/{name}`, `.../stores/{id}`, `POST .../stores/{id}/scrub` | node- and store-show, -set, -remove (`?lost=true`); store-scrub |
//! | `GET /api/v1/catalog`, `.../catalog/backup`, `POST .../catalog/move` `{"endpoints", "prefix"}` | catalog-show, -backup, -move |
//! | `GET, POST /api/v1/disks`, `POST .../{store}/replace`, `.../{store}/locate` | disk-list, disk-add, disk-replace, disk-locate |
//! | `GET, POST /api/v1/containers`, `GET, PATCH, DELETE .../{name}` | container-list, -create, -show, -set, -delete |
//! | `GET, POST /api/v1/volumes?limit=&after=&name=&label=` | volume-list, volume-create (a clone names `from`) |
//! | `GET, PATCH, DELETE /api/v1/volumes/{name}` | volume-show, volume-set, volume-delete |
//! | `POST /api/v1/volumes/{name}/resize` `{"size"}`, `.../restore` `{"snapshot"}`, `.../drain`, `.../release` | volume-resize, -restore, -drain, -release |
//! | `POST /api/v1/volumes/{name}/attach` `{"client", "read_only", "shared"}`, `.../detach` `{"client"}` | attach, detach |
//! | `GET, POST /api/v1/volumes/{name}/snapshots` `{"name", "labels"}`, `DELETE .../{snapshot}` | snapshot-list, -create, -delete |
//! | `GET /api/v1/volumes/{name}/diff?from=&to=&offset=&limit=` | snapshot-diff |
//! | `GET /api/v1/snapshots?limit=&after=&name=&volume=&label=`, `.../{id}` | snapshot-list of all volumes, snapshot-show |
//! | `GET, POST /api/v1/group-snapshots`, `GET, DELETE .../{id}` | group-snapshot-list, -create, -show, -delete |
//! | `GET, POST /api/v1/tokens`, `GET, DELETE /api/v1/tokens/{name}` | token-list, -create, -show, -delete; of one's own with a session |
//! | `GET, POST /api/v1/users`, `GET, PATCH, DELETE .../{name}` `{"name", "role", "password"}` | user-list, -create, -show, -set, -delete |
//! | `GET, POST, DELETE /api/v1/session` `{"user", "password"}`, `POST .../password` `{"current", "password"}` | who asks; logs in and out; user-set, of oneself |
//! | `GET /api/v1/sessions?user=`, `DELETE .../{id}`, `GET /api/v1/audit?limit=&before=&drivers=` | session-list, session-end, audit-list |
//! | `POST /api/v1/join-tokens` `{"ttl_seconds"}` | join-token-create |
//! | `POST /api/v1/join` `{"secret", "name", "request", "stores"}` | node-join |
//! | `GET /api/v1/authority`, `POST .../rotate`, `POST .../retire` `{"force"}` | authority-show, -rotate, -retire |
//! | `GET /api/v1/stream`, `GET /api/v1/openapi.json` | server-sent events of what changes; the description of all of these |
//!
//! Answers that show one thing which can be changed have its version as `ETag`; `If-Match` and `If-None-Match` take it
//! ([`Operation::takes_condition`](crate::Operation::takes_condition)). Every list takes `sort`, a place to go on after, and filters
//! (`lists.rs`, [`ListQuery`](crate::ListQuery)).
//!
//! `volume-<id>` and `snapshot-<id>` stand for a volume's or snapshot's name anywhere.
//! Beside them `GET /healthz` and `GET /metrics`. Errors are [`crate::Problem`] with the status of [`status_code`].

use crate::operation::ErrorKind;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Prefix of every path of this version.
pub const PREFIX: &str = "/api/v1";

/// Media type of errors (RFC 9457).
pub const PROBLEM_MEDIA: &str = "application/problem+json";

/// Largest accepted request body.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// Body of a resize.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// New size in bytes.
    pub size: u64,
}

/// Body of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Name of the snapshot.
    pub snapshot: String,
}

/// Body of an attach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Name of the client.
    pub client: String,
    /// Whether it may only read.
    #[serde(default)]
    pub read_only: bool,
    /// Whether other readers may have it, too; with `read_only` only.
    #[serde(default)]
    pub shared: bool,
}

/// Body of a detach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// Name of the client; nothing: every client.
    #[serde(default)]
    pub client: Option<String>,
}

/// Body of a snapshot creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SnapshotName {
    /// Name of the snapshot.
    pub name: String,
    /// Free-form labels.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// Query of a diff.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// The older snapshot.
    #[serde(default)]
    pub from: Option<String>,
    /// The newer snapshot.
    #[serde(default)]
    pub to: Option<String>,
    /// First byte looked at.
    #[serde(default)]
    pub offset: u64,
    /// Ranges in the answer at most.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Query of the capacity: a container, or a number of copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct CapacityQuery {
    /// The container.
    #[serde(default)]
    pub container: Option<String>,
    /// Copies.
    #[serde(default)]
    pub rf: Option<u8>,
}

/// HTTP status of an error.
#[must_use]
pub fn status_code(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::BadRequest => 400,
        ErrorKind::NotFound => 404,
        ErrorKind::Unauthenticated => 401,
        ErrorKind::Forbidden => 403,
        ErrorKind::Throttled => 429,
        ErrorKind::Changed => 412,
        // No space is nothing that a server has done wrong: somebody must delete something or raise a quota.
        ErrorKind::Exists | ErrorKind::Refused | ErrorKind::InUse | ErrorKind::NoSpace => 409,
        ErrorKind::Unavailable => 503,
        ErrorKind::Failed => 500,
    }
}

/// The path of `segments` below [`PREFIX`], each percent-encoded.
#[must_use]
pub fn path(segments: &[&str]) -> String {
    let mut path = PREFIX.to_owned();
    for segment in segments {
        path.push('/');
        encode(segment, &mut path);
    }
    path
}

/// Appends `text` to `out` with everything but unreserved characters (RFC 3986, 2.3) percent-encoded.
pub fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => write!(out, "%{other:02X}").expect("writing to a String cannot fail"),
        }
    }
}
