//! The document against the router, and against itself. What scopes it names is held to the router in `tokens.rs`.

use super::Server;
use crate::{Auth, Transport, openapi, router};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

pub(super) fn document() -> Value {
    serde_json::to_value(openapi::document()).unwrap()
}

/// Methods by path, as the document has them.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| item.as_object().unwrap().keys().cloned().collect();
    let paths = paths.iter();
    paths
        .map(|(path, item)| (path.clone(), methods(item)))
        .collect()
}

/// The operation that a request asks for: method and path of the document.
pub(super) fn operation_of(request: &str) -> (String, String) {
    let (method, path) = request.split_once(' ').unwrap();
    let path = path.split('?').next().unwrap();
    let fits = |pattern: &str| {
        let (want, have): (Vec<_>, Vec<_>) =
            (pattern.split('/').collect(), path.split('/').collect());
        let same = |(want, have): (&&str, &&str)| want.starts_with('{') || want == have;
        want.len() == have.len() && want.iter().zip(&have).all(same)
    };
    let documented = documented();
    let mut fitting: Vec<&String> = documented.keys().filter(|path| fits(path)).collect();
    // `/snapshots` and the like come before what has a part that may be anything.
    fitting.sort_by_key(|path| path.matches('{').count());
    let pattern = fitting
        .first()
        .unwrap_or_else(|| panic!("{path} is in the document"));
    (method.to_lowercase(), (*pattern).clone())
}

/// Every path that the router has, from what it shows of itself.
fn routed() -> BTreeSet<String> {
    let fake = Arc::new(super::Fake::new());
    let shown = format!(
        "{:?}",
        router(
            fake,
            Auth::Open,
            Transport::Plain,
            tokio::sync::watch::channel(false).1
        )
    );
    let pieces = shown.split('"').skip(1).step_by(2);
    // The fallback is at `/` and at everything: what it answers is tested where wrong paths are.
    let fallback = |path: &str| path == "/" || path.contains("__private__axum_fallback");
    let paths = pieces.filter(|piece| piece.starts_with('/') && !fallback(piece));
    paths.map(str::to_owned).collect()
}

#[tokio::test]
async fn router_and_document_have_the_same_paths_and_methods() {
    let documented = documented();
    let paths: BTreeSet<String> = documented.keys().cloned().collect();
    assert_eq!(routed(), paths);
    let server = Server::start().await;
    server.fake.gate.add_permits(usize::MAX >> 4);
    for (pattern, methods) in documented {
        let parts = pattern.split('/').map(|part| {
            let open = part.starts_with('{');
            if open { "1" } else { part }
        });
        let path = parts.collect::<Vec<_>>().join("/");
        // Streams do not end by themselves: `stream.rs` asks for them.
        if ["/api/v1/stream", "/api/v1/logs/follow"].contains(&path.as_str()) {
            continue;
        }
        for method in METHODS {
            let request = format!("{} {path}", method.to_uppercase());
            let (status, answer) = server.json(&request, "{}").await;
            assert!(status != 404, "{request}: {answer}");
            let routed = status != 405;
            assert_eq!(routed, methods.contains(method), "{request}: {answer}");
        }
    }
}

pub(super) fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                found.push(target);
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn document_is_whole() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for target in found {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{target} is missing");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} is there twice");
            assert!(operation["summary"].is_string(), "{method} {path}");
            let parameters = operation["parameters"].as_array().unwrap();
            let of_path = parameters.iter().filter(|one| one["in"] == "path");
            let names: Vec<&str> = of_path.map(|one| one["name"].as_str().unwrap()).collect();
            let parts = path.split('/').filter_map(|part| part.strip_prefix('{'));
            let parts: Vec<&str> = parts.map(|part| part.trim_end_matches('}')).collect();
            assert_eq!(names, parts, "{method} {path}");
        }
    }
}

#[test]
fn every_kind_of_error_is_described_with_its_status() {
    let document = document();
    for kind in api::ErrorKind::ALL {
        let name = serde_json::to_value(kind).unwrap();
        assert_eq!(name, kind.name());
        let status = api::http::status_code(kind);
        let problem = &document["components"]["responses"][format!("problem-{status}")];
        let narrowed = &problem["content"]["application/problem+json"]["schema"]["allOf"][1];
        let kinds = narrowed["properties"]["kind"]["enum"].as_array().unwrap();
        assert!(kinds.contains(&name), "{name} in {problem}");
    }
}

#[tokio::test]
async fn document_is_served() {
    let server = Server::start().await;
    let (status, body) = server.json("GET /api/v1/openapi.json", "").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), document());
}
