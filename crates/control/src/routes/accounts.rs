//! Users, sessions, and the audit log.

use super::paging::{self, Asked};
use super::{Body, PathText, Shared, bad, bytes, text};
use crate::auth::{self, Access, Digest, Transport};
use crate::reply::{Reply, parse, require_json};
use crate::{audit, idempotency, make_secret};
use api::users::SESSION_ID_DIGITS;
use api::{
    Answer, AuditQuery, ErrorKind, Login, Operation, OperationError, PasswordChange, Scope,
    SessionAnswer, SessionQuery, UserChange, UserQuery, UserSpec,
};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use std::time::Instant;

/// Their routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/users", get(user_list).post(user_create))
        .route(
            "/users/{name}",
            get(user_show).patch(user_set).delete(user_delete),
        )
        .route("/session", get(session).post(log_in).delete(log_out))
        .route("/session/password", post(own_password))
        .route("/sessions", get(session_list))
        .route("/sessions/{id}", delete(session_end))
        .route("/audit", get(audit_list))
}

async fn user_list(State(shared): State<Shared>, query: Asked<UserQuery>) -> Reply {
    shared.listed(query).await
}

async fn user_show(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    shared
        .reply(name.map(|name| Operation::UserShow { name }))
        .await
}

async fn user_create(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let operation = async {
        let spec = parse::<UserSpec>(&headers, &bytes(body)?)?;
        let create = |hash| Operation::UserCreate {
            name: spec.name.clone(),
            role: spec.role,
            hash,
        };
        // Who may not is told so before anything is computed.
        auth::check(&auth::current(), &create(String::new()))?;
        let hash = shared.passwords.hash(spec.password.clone()).await?;
        Ok(create(hash))
    };
    shared.reply(operation.await).await
}

async fn user_set(
    State(shared): State<Shared>,
    path: PathText,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let operation = async {
        let name = text(path)?;
        let UserChange { role, password } = parse(&headers, &bytes(body)?)?;
        let set = |hash| Operation::UserSet {
            name: name.clone(),
            role,
            hash,
        };
        auth::check(&auth::current(), &set(None))?;
        match password {
            Some(password) => Ok(set(Some(shared.passwords.hash(password).await?))),
            None => Ok(set(None)),
        }
    };
    shared.reply(operation.await).await
}

async fn user_delete(State(shared): State<Shared>, path: PathText) -> Reply {
    let name = text(path);
    shared
        .reply(name.map(|name| Operation::UserDelete { name }))
        .await
}

async fn audit_list(
    State(shared): State<Shared>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Reply {
    shared.audit.settle().await;
    let query = query.map_err(|cause| bad(&cause));
    shared
        .reply(query.map(|Query(query)| Operation::AuditList(query)))
        .await
}

/// Who asks; everybody may ask that.
async fn session() -> Reply {
    let access = auth::current();
    Reply::from(Ok(Answer::Session(SessionAnswer {
        who: access.scope.map(|_| access.who),
        scope: access.scope,
        expires_ms: access
            .session
            .as_ref()
            .and_then(|session| session.expires_ms),
        user: access.session.map(|session| session.user),
    })))
}

/// The cookie of a session; without one, that it is to be forgotten.
fn cookie(transport: Transport, secret: Option<(&str, u64)>) -> HeaderValue {
    let name = transport.cookie_name();
    let (secret, seconds) = secret.unwrap_or_default();
    let secure = match transport {
        Transport::Encrypted => "; Secure",
        Transport::Plain => "",
    };
    let text =
        format!("{name}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).expect("names and hexadecimal digits are a header value")
}

fn with_cookie(cookie: HeaderValue, reply: Reply) -> Response {
    let mut response = reply.into_response();
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

/// Begins a session.
async fn log_in(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let login = bytes(body).and_then(|body| parse::<Login>(&headers, &body));
    let login = match login {
        Ok(login) => login,
        Err(error) => return Reply::from(error).into_response(),
    };
    let user = login.user.clone();
    let begun = begin_session(&shared, login).await;
    let told = Operation::SessionCreate {
        user,
        password: String::new(),
        hash: String::new(),
    };
    let result = begun.as_ref().map(|_| Answer::Done).map_err(Clone::clone);
    if result.is_ok() || shared.is_worth_telling(&told, &result).await {
        let mut access = auth::current();
        if let Ok((SessionAnswer { who: Some(who), .. }, _)) = &begun {
            access.who.clone_from(who);
        }
        shared.note(&access, &told, None, &result);
    }
    match begun {
        Ok((session, secret)) => {
            let left_ms = session
                .expires_ms
                .unwrap_or(0)
                .saturating_sub(audit::now_ms());
            let cookie = cookie(shared.transport, Some((&secret, left_ms / 1000)));
            with_cookie(cookie, Reply::from(Ok(Answer::Session(session))))
        }
        Err(error) => Reply::from(error).into_response(),
    }
}

fn wrong() -> OperationError {
    let reason = "there is no such user, or the password is wrong";
    OperationError::new(ErrorKind::Unauthenticated, reason)
}

impl Shared {
    /// Whether a failed attempt to log in comes into the audit log: of those that have to wait, the first of each wait.
    async fn is_worth_telling(
        &self,
        told: &Operation,
        result: &Result<Answer, OperationError>,
    ) -> bool {
        let Operation::SessionCreate { user, .. } = told else {
            return false;
        };
        self.is_news(user, result) && self.is_user(told).await
    }

    fn is_news(&self, user: &str, result: &Result<Answer, OperationError>) -> bool {
        let waits = |error: &OperationError| error.kind == ErrorKind::Throttled;
        let from = network(&auth::current().from);
        !result.as_ref().is_err_and(waits) || self.throttle.is_news(user, &from)
    }

    /// Whether the user exists that somebody failed to log in as. Names that somebody makes up must not push everything else out
    /// of the audit log; for names that exist the throttle bounds how many entries there are.
    async fn is_user(&self, told: &Operation) -> bool {
        let Operation::SessionCreate { user, .. } = told else {
            return false;
        };
        let find = Operation::UserFind { name: user.clone() };
        self.carry_out(find).await.is_ok()
    }
}

impl Shared {
    /// As [`whose`]; a refusal comes into the audit log.
    fn whose(
        &self,
        access: &Access,
        asked: Option<String>,
        operation: impl Fn(Option<String>) -> Operation,
    ) -> Result<Option<String>, OperationError> {
        let found = whose(access, asked.clone());
        if let Err(error) = &found {
            self.note(access, &operation(asked), None, &Err(error.clone()));
        }
        found
    }
}

/// What counts as one address: of version 6, everybody has 2^64 of them.
fn network(from: &str) -> String {
    match from.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        _ => from.to_owned(),
    }
}

/// The user's hash, if the password is right.
async fn authenticate(
    shared: &Shared,
    user: &str,
    password: String,
) -> Result<String, OperationError> {
    let from = network(&auth::current().from);
    let attempt = shared.throttle.attempt(user, &from, Instant::now());
    attempt.map_err(|wait| {
        let seconds = wait.as_secs() + 1;
        let reason = format!("too many attempts to log in: try again in {seconds} s");
        OperationError::new(ErrorKind::Throttled, reason)
    })?;
    let name = user.to_owned();
    let hash = match shared.carry_out(Operation::UserFind { name }).await {
        Ok(Answer::Credential(found)) => Some(found.password),
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Ok(_) => {
            return Err(OperationError::failed(
                "a search for a user was answered by something else",
            ));
        }
        Err(error) => return Err(error),
    };
    match (
        shared.passwords.is_right(password, hash.clone()).await?,
        hash,
    ) {
        (true, Some(hash)) => {
            shared.throttle.succeeded(user, &from);
            Ok(hash)
        }
        _ => Err(wrong()),
    }
}

async fn begin_session(
    shared: &Shared,
    login: Login,
) -> Result<(SessionAnswer, String), OperationError> {
    let Login { user, password } = login;
    let password = authenticate(shared, &user, password).await?;
    let secret = make_secret().map_err(|cause| {
        OperationError::failed(format!("no session can begin without randomness: {cause}"))
    })?;
    let begin = Operation::SessionCreate {
        user,
        password,
        hash: Digest::of(&secret).to_hex(),
    };
    match shared.carry_out(begin).await? {
        Answer::Session(session) => Ok((session, secret)),
        _ => Err(OperationError::failed(
            "a log-in was answered by something else",
        )),
    }
}

/// Ends the session that the request shows, if any.
async fn log_out(State(shared): State<Shared>) -> Response {
    let access = auth::current();
    let forget = cookie(shared.transport, None);
    let Some(session) = &access.session else {
        return with_cookie(forget, Reply::from(Ok(Answer::Done)));
    };
    let end = Operation::SessionDelete {
        hash: session.hash.clone(),
    };
    let result = shared.carry_out(end).await;
    let told = Operation::SessionEnd {
        id: session
            .hash
            .get(..SESSION_ID_DIGITS)
            .unwrap_or_default()
            .to_owned(),
        user: Some(session.user.clone()),
    };
    shared.note(&access, &told, None, &result);
    match result {
        Ok(answer) => with_cookie(forget, Reply::from(Ok(answer))),
        Err(error) => Reply::from(error).into_response(),
    }
}

/// Whose sessions are meant: an administrator's question is about anybody's, everybody else's about their own.
fn whose(access: &Access, asked: Option<String>) -> Result<Option<String>, OperationError> {
    if access.scope == Some(Scope::Admin) {
        return Ok(asked);
    }
    let refuse = |reason: &str| Err(OperationError::new(ErrorKind::Forbidden, reason));
    let Some(session) = &access.session else {
        return refuse(
            "only who has logged in has sessions, and only an administrator sees those of others: log in as a user",
        );
    };
    match asked {
        Some(user) if user != session.user => {
            refuse("these are sessions of somebody else: an administrator may look at them")
        }
        _ => Ok(Some(session.user.clone())),
    }
}

/// Sessions that count.
async fn session_list(State(shared): State<Shared>, query: Asked<SessionQuery>) -> Reply {
    let listed = async {
        let Query(query) = query.map_err(|cause| bad(&cause))?;
        let access = auth::current();
        let list = |user| Operation::SessionList { user };
        let user = shared.whose(&access, query.user.clone(), list)?;
        let Answer::Sessions(mut all) = shared.carry_out(Operation::SessionList { user }).await?
        else {
            return Err(OperationError::failed(
                "a question for sessions was answered by something else",
            ));
        };
        let own = access.session.map(|session| session.hash);
        for session in &mut all {
            session.own = own
                .as_ref()
                .is_some_and(|hash| hash.starts_with(&session.id));
        }
        paging::part(&query, Answer::Sessions(all))
    };
    listed.await.into()
}

/// Ends a session, of oneself or, for an administrator, of anybody.
async fn session_end(State(shared): State<Shared>, path: PathText) -> Reply {
    let ended = async {
        let id = text(path)?;
        let access = auth::current();
        let end = |user| Operation::SessionEnd {
            id: id.clone(),
            user,
        };
        let user = shared.whose(&access, None, end)?;
        match idempotency::ticket(&access, &end(user.clone()))? {
            None => shared.do_and_tell(&access, end(user)).await,
            Some(ticket) => shared.do_once(access, end(user), ticket).await,
        }
    };
    ended.await.into()
}

/// Changes the password of whoever has logged in, which ends all of the user's sessions, this one, too.
async fn own_password(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let changed = async {
        require_json(&headers)?;
        let access = auth::current();
        let session = access.session.as_ref().ok_or_else(|| {
            let reason = "only who has logged in has a password: tokens and certificates have none";
            OperationError::new(ErrorKind::Forbidden, reason)
        })?;
        let PasswordChange { current, password } = parse(&headers, &bytes(body)?)?;
        let set = |hash| Operation::UserSet {
            name: session.user.clone(),
            role: None,
            hash: Some(hash),
        };
        let known = authenticate(&shared, &session.user, current).await;
        if let Err(error) = known {
            let refused = Err(error);
            if shared.is_news(&session.user, &refused) {
                shared.note(&access, &set(String::new()), None, &refused);
            }
            return refused;
        }
        let set = set(shared.passwords.hash(password).await?);
        let before = shared.before(&set).await;
        let result = shared.carry_out(set.clone()).await;
        shared.note(&access, &set, before, &result);
        result
    };
    match changed.await {
        Ok(answer) => with_cookie(cookie(shared.transport, None), Reply::from(Ok(answer))),
        Err(error) => Reply::from(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_for_this_server_alone() {
        let plain = cookie(Transport::Plain, Some(("5ec", 60)));
        let wanted = "azekura-session=5ec; Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
        assert_eq!(plain, wanted);
        let encrypted = cookie(Transport::Encrypted, Some(("5ec", 60)));
        assert_eq!(encrypted, format!("__Host-{wanted}; Secure"));
        let forgotten = cookie(Transport::Plain, None);
        assert!(
            forgotten
                .to_str()
                .unwrap()
                .starts_with("azekura-session=; Path=/; Max-Age=0;")
        );
    }
}
