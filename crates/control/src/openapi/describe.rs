//! One operation of the document, put together step by step.

use super::{
    IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, REQUEST_ID, SESSION, TOKEN, etag_header,
    problem_name, request_id_header,
};
use api::{ErrorKind, Scope, http};
use std::collections::BTreeMap;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Ref, RefOr, Required};
use utoipa::{IntoParams, ToSchema};

type Schemas = Vec<(String, RefOr<Schema>)>;

/// What the document says of a route, and the schemas that it refers to.
pub(super) struct Described {
    pub(super) method: HttpMethod,
    pub(super) path: String,
    pub(super) operation: Operation,
    pub(super) schemas: BTreeMap<String, RefOr<Schema>>,
}

/// Collects what there is to say of a route.
pub(super) struct Describe {
    method: HttpMethod,
    path: String,
    operation: OperationBuilder,
    schemas: Schemas,
    takes_anything: bool,
    keyless: bool,
    tagged: bool,
    scopes: Vec<Scope>,
    problems: Vec<ErrorKind>,
}

/// `text` as the content of a message in JSON.
fn json(schema: impl Into<RefOr<Schema>>) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(schema)).build()
}

/// The schema of a type and of what it is made of.
pub(super) fn schemas_of<T: ToSchema>() -> Schemas {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    schemas
}

fn reference<T: ToSchema>(schemas: &mut Schemas) -> Ref {
    schemas.extend(schemas_of::<T>());
    Ref::from_schema_name(T::name())
}

impl Describe {
    /// A route below `api::http::PREFIX`. `id` names the operation in clients that are generated.
    pub(super) fn new(method: HttpMethod, path: &str, id: &str, summary: &str) -> Self {
        Self::outside(method, &format!("{}{path}", http::PREFIX), id, summary)
    }

    /// A route beside the API.
    pub(super) fn outside(method: HttpMethod, path: &str, id: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new()
            .operation_id(Some(id))
            .summary(Some(summary))
            .parameter_ref(Ref::new(format!("#/components/parameters/{REQUEST_ID}")));
        Self {
            method,
            path: path.to_owned(),
            operation,
            schemas: Vec::new(),
            takes_anything: false,
            keyless: false,
            tagged: false,
            scopes: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn parameter(mut self, parameter: Parameter) -> Self {
        self.operation = self.operation.parameter(parameter);
        self.takes_anything = true;
        self
    }

    /// Describes a part of the path.
    pub(super) fn named(self, name: &str, description: &str) -> Self {
        assert!(
            self.path.contains(&format!("{{{name}}}")),
            "{} has no part {name}",
            self.path
        );
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(description))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        self.parameter(parameter.build())
    }

    /// What may stand in the query, but for `except`.
    pub(super) fn query<T: IntoParams>(self, except: &[&str]) -> Self {
        let all = T::into_params(|| Some(ParameterIn::Query));
        all.into_iter()
            .filter(|parameter| !except.contains(&parameter.name.as_str()))
            .fold(self, Self::parameter)
    }

    /// The body that is sent.
    pub(super) fn body<T: ToSchema>(mut self, required: Required) -> Self {
        let schema = reference::<T>(&mut self.schemas);
        let body = RequestBodyBuilder::new()
            .content("application/json", json(schema))
            .required(Some(required));
        self.operation = self.operation.request_body(Some(body.build()));
        self.takes_anything = true;
        self
    }

    /// The answer when all goes well.
    pub(super) fn answer<T: ToSchema>(mut self, description: &str) -> Self {
        let schema = reference::<T>(&mut self.schemas);
        self.answer_with("application/json", json(schema), description)
    }

    /// The answer is a list.
    pub(super) fn list<T: ToSchema>(mut self, description: &str) -> Self {
        let schema = reference::<T>(&mut self.schemas);
        let list = ArrayBuilder::new().items(schema);
        self.answer_with("application/json", json(list), description)
    }

    /// The answer is an object of no further description here.
    pub(super) fn object(self, description: &str) -> Self {
        let object = ObjectBuilder::new().schema_type(Type::Object);
        self.answer_with("application/json", json(object), description)
    }

    /// The answer is a stream of events.
    pub(super) fn events<T: ToSchema>(mut self, description: &str) -> Self {
        let schema = reference::<T>(&mut self.schemas);
        self.answer_with("text/event-stream", json(schema), description)
    }

    /// The answer is text.
    pub(super) fn text(self, description: &str) -> Self {
        let text = ObjectBuilder::new().schema_type(Type::String);
        self.answer_with("text/plain", json(text), description)
    }

    fn answer_with(
        mut self,
        media: &str,
        content: utoipa::openapi::Content,
        description: &str,
    ) -> Self {
        let mut response = ResponseBuilder::new()
            .description(description)
            .header(REQUEST_ID, request_id_header())
            .content(media, content);
        if self.tagged {
            response = response.header("etag", etag_header());
        }
        self.operation = self.operation.response("200", response.build());
        self
    }

    /// Kinds of errors beside those that any request may meet.
    pub(super) fn problems(mut self, kinds: &[ErrorKind]) -> Self {
        self.problems.extend_from_slice(kinds);
        self
    }

    /// The answer has a version. Said before the answer is.
    pub(super) fn tagged(mut self) -> Self {
        self.tagged = true;
        self
    }

    /// It takes what a client has already, and then answers that this is as it was.
    pub(super) fn known(mut self) -> Self {
        let parameter = format!("#/components/parameters/{IF_NONE_MATCH}");
        let response = ResponseBuilder::new()
            .description("As it was with one of the tags that were sent")
            .header(REQUEST_ID, request_id_header())
            .header("etag", etag_header());
        self.operation = self.operation.parameter_ref(Ref::new(parameter));
        self.operation = self.operation.response("304", response.build());
        self
    }

    /// It can be made to depend on a version.
    pub(super) fn conditional(mut self) -> Self {
        let parameter = format!("#/components/parameters/{IF_MATCH}");
        self.operation = self.operation.parameter_ref(Ref::new(parameter));
        self.problems.push(ErrorKind::Changed);
        self
    }

    /// A secret is in it or in its answer: it takes no idempotency key.
    pub(super) fn keyless(mut self) -> Self {
        self.keyless = true;
        self
    }

    /// Scopes whose tokens may ask.
    pub(super) fn scopes(mut self, scopes: &[Scope]) -> Self {
        self.scopes.extend_from_slice(scopes);
        self
    }

    /// All of it. Without scopes the route is open to everybody, and cannot fail.
    pub(super) fn done(self) -> Described {
        let mut kinds = self.problems;
        let mut operation = self.operation;
        if self.scopes.is_empty() {
            operation = operation.securities(Some([]));
        } else {
            kinds.extend([
                ErrorKind::Unauthenticated,
                ErrorKind::Forbidden,
                ErrorKind::Unavailable,
                ErrorKind::Failed,
            ]);
        }
        if !matches!(self.method, HttpMethod::Get) && !self.keyless && !self.scopes.is_empty() {
            let key = format!("#/components/parameters/{IDEMPOTENCY_KEY}");
            operation = operation.parameter_ref(Ref::new(key));
            kinds.push(ErrorKind::Throttled);
        }
        // What changes something must say that it is JSON, also where nothing is to be said.
        if self.takes_anything || !matches!(self.method, HttpMethod::Get) {
            kinds.push(ErrorKind::BadRequest);
        }
        for scope in &self.scopes {
            for scheme in [TOKEN, SESSION] {
                let one = SecurityRequirement::new(scheme, [scope.to_string()]);
                operation = operation.security(one);
            }
        }
        let statuses: std::collections::BTreeSet<u16> =
            kinds.into_iter().map(http::status_code).collect();
        for status in statuses {
            let problem = Ref::new(format!("#/components/responses/{}", problem_name(status)));
            operation = operation.response(status.to_string(), problem);
        }
        Described {
            method: self.method,
            path: self.path,
            operation: operation.build(),
            schemas: self.schemas.into_iter().collect(),
        }
    }
}
