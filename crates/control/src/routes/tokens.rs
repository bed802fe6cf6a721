//! Tokens: of programs, which administrators make, and personal ones, which users make for themselves.
//!
//! Invariants
//! - Users make, see and delete their own with a session alone, so that a token that was stolen makes no others.
//! - An administrator sees and deletes those of all. Everybody else is refused as anywhere.
//!
//! Read next: `node::operations::tokens`, what a personal token allows.

use super::paging::{self, Asked};
use super::{Body, PathText, Shared, bad, bytes, text};
use crate::auth::{self, Access};
use crate::make_token;
use crate::reply::{Reply, parse};
use api::{
    Answer, ErrorKind, Operation, OperationError, Scope, TokenAnswer, TokenQuery, TokenSpec,
};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::get;

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/tokens", get(token_list).post(token_create))
        .route("/tokens/{name}", get(token_show).delete(token_delete))
}

/// The user who asks for his own. Nothing: those of all are asked for, which is an administrator's.
fn own(access: &Access) -> Option<String> {
    match (access.scope, &access.session) {
        (Some(Scope::Admin), _) | (_, None) => None,
        (_, Some(session)) => Some(session.user.clone()),
    }
}

async fn token_list(State(shared): State<Shared>, query: Asked<TokenQuery>) -> Reply {
    match own(&auth::current()) {
        None => shared.listed(query).await,
        Some(user) => shared.list_own(&user, query).await.into(),
    }
}

/// Makes the secret here, so that it never gets further than this answer.
async fn token_create(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let spec = bytes(body).and_then(|body| parse::<TokenSpec>(&headers, &body));
    let made = make_token().map_err(|cause| {
        OperationError::failed(format!("no token can be made without randomness: {cause}"))
    });
    let (spec, (token, digest)) = match (spec, made) {
        (Ok(spec), Ok(made)) => (spec, made),
        (Err(error), _) | (_, Err(error)) => return error.into(),
    };
    let hash = digest.to_hex();
    let created = match spec.personal {
        true => shared.create_own(spec, hash).await,
        false => {
            let user = None;
            let create = Operation::TokenCreate { spec, hash, user };
            shared.call(create).await
        }
    };
    match created {
        Ok(Answer::Token(answer)) => Reply::from(Ok(Answer::Token(TokenAnswer {
            token: Some(token),
            ..answer
        }))),
        other => other.into(),
    }
}

async fn token_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = match text(path) {
        Ok(name) => name,
        Err(error) => return error.into(),
    };
    let access = auth::current();
    let user = own(&access);
    let is_own = user.is_some();
    let show = Operation::TokenShow { name, user };
    let shown = match is_own {
        true => shared.do_allowed(access, show).await,
        false => shared.call(show).await,
    };
    shown.into()
}

async fn token_delete(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = match text(path) {
        Ok(name) => name,
        Err(error) => return error.into(),
    };
    let access = auth::current();
    let user = own(&access);
    let is_own = user.is_some();
    let delete = Operation::TokenDelete { name, user };
    let deleted = match is_own {
        true => shared.do_allowed(access, delete).await,
        false => shared.call(delete).await,
    };
    deleted.into()
}

impl Shared {
    async fn list_own(
        &self,
        user: &str,
        query: Asked<TokenQuery>,
    ) -> Result<Answer, OperationError> {
        let Query(query) = query.map_err(|cause| bad(&cause))?;
        let Answer::Tokens(mut tokens) = self.carry_out(Operation::TokenList).await? else {
            return Err(OperationError::failed(
                "a question for tokens was answered by something else",
            ));
        };
        tokens.retain(|token| token.user.as_deref() == Some(user));
        paging::part(&query, Answer::Tokens(tokens))
    }

    /// A personal token of whoever has logged in. That it is of his role at most is seen to where it is recorded.
    async fn create_own(&self, spec: TokenSpec, hash: String) -> Result<Answer, OperationError> {
        let access = auth::current();
        let user = access.session.as_ref().map(|session| session.user.clone());
        let has_session = user.is_some();
        let create = Operation::TokenCreate { spec, hash, user };
        if has_session {
            return self.do_allowed(access, create).await;
        }
        let reason = "only who has logged in makes personal tokens, so that a token that was stolen makes no others: log in \
                      (`azekura session create`), and show that session";
        let refused = Err(OperationError::new(ErrorKind::Forbidden, reason));
        self.note(&access, &create, None, &refused);
        refused
    }
}
