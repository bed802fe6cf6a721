//! The OpenAPI 3.1 document of everything the server answers.
//!
//! Schemas are derived from the types of `api`; what a route takes and answers is in `table.rs`. Tests hold the table to the
//! router's routes, in both directions, to what scopes allow, and to the answers of a real node.
//!
//! Read next: `table.rs`, `describe.rs`.

mod accounts;
mod alerts;
mod describe;
mod groups;
mod kubernetes;
mod table;

use api::{ErrorKind, Problem, http};
use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use describe::Described;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::ToSchema;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::info::{InfoBuilder, LicenseBuilder};
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::response::{Response as Answer, ResponseBuilder};
use utoipa::openapi::schema::{AllOfBuilder, Components, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required};

/// Name of the security scheme.
const TOKEN: &str = "token";
/// Name of the other one.
const SESSION: &str = "session";
/// Name of the header, of the parameter and of the component that describes it.
const REQUEST_ID: &str = "x-request-id";

/// The same of the key of a change.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

const DESCRIPTION: &str = "Block storage. Every node serves the same API. Sizes are bytes, times are Unix milliseconds. \
    `volume-12` stands for the volume with id 12 wherever a volume is named, and `snapshot-34` for a snapshot. \
    Requests that change something say `Content-Type: application/json`. Requests with fields that are not described here \
    are refused; answers may get further fields.";

const TOKEN_DESCRIPTION: &str = "A token made with `POST /api/v1/tokens`, or the node's own. An operation names the scopes \
    that may use it, each as an alternative. A node whose configuration has `[api_auth] mode = \"none\"` asks for none.";

const SESSION_DESCRIPTION: &str = "The cookie that `POST /api/v1/session` gives to a user who logs in; over TLS its name begins \
    with `__Host-`. A request that changes something carries `x-azekura-request`, too, with any value, and no `Origin` but that \
    of the server. A user of role viewer, operator or admin may use what a token of the scope of that name may.";

/// The same of what a change is on top of, and of what a client has already.
const IF_MATCH: &str = "if-match";
const IF_NONE_MATCH: &str = "if-none-match";

/// Serves the document.
pub(crate) async fn serve() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let text = document().to_json();
        Bytes::from(text.expect("the document is plain data with text keys"))
    });
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, DOCUMENT.clone()).into_response()
}

/// The whole document, for programs that compare themselves with it.
///
/// # Panics
/// Never: it is plain data with text keys.
#[must_use]
pub fn api_document() -> serde_json::Value {
    serde_json::to_value(document()).expect("the document is plain data with text keys")
}

/// The whole document.
pub(crate) fn document() -> OpenApi {
    let mut paths = Paths::new();
    let mut components = Components::new();
    for described in table::operations() {
        let Described {
            method,
            path,
            operation,
            schemas,
        } = described;
        components.schemas.extend(schemas);
        paths.add_path_operation(path, vec![method], operation);
    }
    components.schemas.extend(describe::schemas_of::<Problem>());
    components.responses = problems();
    components
        .parameters
        .insert(REQUEST_ID.to_owned(), RefOr::T(request_id()));
    components
        .parameters
        .insert(IDEMPOTENCY_KEY.to_owned(), RefOr::T(idempotency_key()));
    components
        .parameters
        .insert(IF_MATCH.to_owned(), RefOr::T(if_match()));
    components
        .parameters
        .insert(IF_NONE_MATCH.to_owned(), RefOr::T(if_none_match()));
    components
        .security_schemes
        .insert(TOKEN.to_owned(), token().into());
    components
        .security_schemes
        .insert(SESSION.to_owned(), session().into());
    let license = LicenseBuilder::new()
        .name("Apache License 2.0")
        .identifier(Some("Apache-2.0"))
        .build();
    let info = InfoBuilder::new()
        .title("Azekura")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components))
        .build()
}

fn token() -> SecurityScheme {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("azk_ and 64 hexadecimal digits")
        .description(Some(TOKEN_DESCRIPTION));
    SecurityScheme::Http(scheme.build())
}

fn session() -> SecurityScheme {
    let cookie = ApiKeyValue::with_description("azekura-session", SESSION_DESCRIPTION);
    SecurityScheme::ApiKey(ApiKey::Cookie(cookie))
}

fn request_id() -> utoipa::openapi::path::Parameter {
    ParameterBuilder::new()
        .name(REQUEST_ID)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Names the request in the answer and in the node's log: 1 to 64 letters, digits, `-`, `_`, `.`",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn idempotency_key() -> utoipa::openapi::path::Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(crate::idempotency::KEY_BYTES_MAX))
        .pattern(Some("^[A-Za-z0-9_.:-]+$"));
    ParameterBuilder::new()
        .name(IDEMPOTENCY_KEY)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A change under a key is done once: the same request with the same key is answered as the first was, for ten minutes \
             at least. Take a new key, a UUID for example, for every change",
        ))
        .schema(Some(text))
        .build()
}

fn if_match() -> utoipa::openapi::path::Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(r#"^(\*|"(0|[1-9][0-9]{0,18})")$"#));
    ParameterBuilder::new()
        .name(IF_MATCH)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The `etag` that an answer had, or its `version` in quotes: the change is made only on top of that, else the answer is \
             412 and nothing is changed. `*`: of whatever is there",
        ))
        .schema(Some(text))
        .build()
}

fn if_none_match() -> utoipa::openapi::path::Parameter {
    ParameterBuilder::new()
        .name(IF_NONE_MATCH)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Tags that answers had: while one of them is the present one, the answer is 304 without a body",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

/// The version of what is answered, where there is one.
fn etag_header() -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(
            "The `version` of the answer in quotes, when it is known: what can be changed is as it was as long as this is",
        ))
        .build()
}

/// The id of the request, in every answer.
fn request_id_header() -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some("The id of the request: its own, or one that was made"))
        .build()
}

/// The answer to a request that is not carried out, by status.
fn problems() -> BTreeMap<String, RefOr<Answer>> {
    let mut by_status = BTreeMap::<u16, Vec<ErrorKind>>::new();
    for kind in ErrorKind::ALL {
        let kinds = by_status.entry(http::status_code(kind));
        kinds.or_default().push(kind);
    }
    let named =
        |(status, kinds): (u16, Vec<ErrorKind>)| (problem_name(status), RefOr::T(problem(&kinds)));
    by_status.into_iter().map(named).collect()
}

fn problem_name(status: u16) -> String {
    format!("problem-{status}")
}

fn problem(kinds: &[ErrorKind]) -> Answer {
    let meanings: Vec<String> = kinds
        .iter()
        .map(|kind| format!("`{}`: {}", kind.name(), kind.meaning()))
        .collect();
    let names = kinds.iter().map(|kind| kind.name());
    let kind = ObjectBuilder::new().enum_values(Some(names));
    let narrowed = ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .property("kind", kind.schema_type(Type::String));
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name(Problem::name()))
        .item(narrowed);
    ResponseBuilder::new()
        .description(meanings.join("; "))
        .header(REQUEST_ID, request_id_header())
        .content(
            http::PROBLEM_MEDIA,
            ContentBuilder::new().schema(Some(schema)).build(),
        )
        .build()
}
