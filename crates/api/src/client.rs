//! One request to one server of the REST API, for programs outside of the cluster.
//!
//! What is done about a server that does not answer is the caller's business: a person at a terminal is told, a driver asks
//! the next one. Blocking; no runtime. Behind the feature `client`, which no crate of the core asks for.

use crate::operation::OperationError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::Read;
use std::time::Duration;
use ureq::http::{Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::Connector;
use ureq::{Agent, Body};

pub use ureq::http::Method;

/// Largest answer: a diff of a 16 TiB volume with every other block changed is far above, and fails with a clear
/// message. 256 MiB hold about 4 million runs.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Name of the cookie of a session; over TLS with [`SECURE`] in front.
const SESSION_COOKIE: &str = "azekura-session=";
/// What tells a browser that only this server sets the cookie.
const SECURE: &str = "__Host-";

/// Whether a word is the cookie of a session.
fn is_session(word: &str) -> bool {
    let name = word.strip_prefix(SECURE).unwrap_or(word);
    name.starts_with(SESSION_COOKIE)
}

/// A token, or the cookie of a session, kept out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token in a file's content: one word, with blanks around it. Also what [`Token::text`] says of a session.
    #[must_use]
    pub fn parse(content: &str) -> Option<Self> {
        let word = content.trim();
        let secret = |word: &str| word.split_once('=').map(|(_, secret)| secret.to_owned());
        if is_session(word) {
            let plain = secret(word)?.bytes().all(|byte| byte.is_ascii_hexdigit());
            return plain.then(|| Self(word.to_owned()));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (!word.is_empty() && word.bytes().all(plain)).then(|| Self(word.to_owned()))
    }
}

impl Token {
    /// As it is kept in a file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether it is a session: it ends, and its user changes the password with it.
    #[must_use]
    pub fn is_session(&self) -> bool {
        is_session(&self.0)
    }

    /// The session that an answer sets.
    fn set_by(response: &Response<Body>) -> Option<Self> {
        let lines = response.headers().get_all("set-cookie").into_iter();
        let mut pairs = lines.filter_map(|line| line.to_str().ok()?.split(';').next());
        Self::parse(pairs.find(|pair| is_session(pair))?)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// URL of the server, such as `http://127.0.0.1:7400`.
    pub server: &'a str,
    /// What to do.
    pub method: &'a Method,
    /// With what: see [`crate::http::path`].
    pub path: &'a str,
    /// What to send: see [`body_of`].
    pub body: Option<&'a str>,
    /// Who asks.
    pub token: Option<&'a Token>,
    /// Names the request in the server's log.
    pub request_id: Option<&'a str>,
    /// How long to wait for the whole answer.
    pub patience: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// Nobody answered; the request may have been carried out.
    Unreachable(String),
    /// Something answered that is not the API of this version.
    Odd(String),
    /// The server refused.
    Refused(OperationError),
}

fn config(program: &str, connect_max: Duration) -> ureq::config::Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(Some(connect_max))
        .user_agent(program)
        .build()
}

/// Sends requests; keeps connections open between them.
#[derive(Clone, Debug)]
pub struct Client(Agent);

impl Client {
    /// Connects to nobody yet. `program` is what servers are told that asks.
    #[must_use]
    pub fn new(program: &str, connect_max: Duration) -> Self {
        Self(config(program, connect_max).new_agent())
    }

    /// As [`Client::new`], with connections made by `connector`: one that encrypts.
    #[must_use]
    pub fn over(program: &str, connect_max: Duration, connector: impl Connector) -> Self {
        let resolver = DefaultResolver::default();
        Self(Agent::with_parts(
            config(program, connect_max),
            connector,
            resolver,
        ))
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn ask<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, ClientError> {
        self.ask_if(ask, None)
    }

    /// The same, for a change that is made only on top of a version of what it changes.
    ///
    /// # Errors
    /// See [`ClientError`]; refused as [`ErrorKind::Changed`](crate::ErrorKind::Changed) where the version is another one.
    pub fn ask_if<T: DeserializeOwned>(
        &self,
        ask: &Ask<'_>,
        version: Option<u64>,
    ) -> Result<T, ClientError> {
        let response = self.send(ask, version);
        read(response.map_err(|cause| ClientError::Unreachable(cause.to_string()))?)
    }

    /// Sends a request that logs somebody in; the answer, and the session that it sets.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn ask_for_session<T: DeserializeOwned>(
        &self,
        ask: &Ask<'_>,
    ) -> Result<(T, Token), ClientError> {
        let response = self.send(ask, None);
        let response = response.map_err(|cause| ClientError::Unreachable(cause.to_string()))?;
        let token = Token::set_by(&response);
        let answer = read(response)?;
        let missing = || ClientError::Odd("a log-in was answered without a session".to_owned());
        Ok((answer, token.ok_or_else(missing)?))
    }

    /// Sends a request whose answer does not end by itself, or is no JSON; what comes, as it comes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn listen(&self, ask: &Ask<'_>) -> Result<impl Read + use<>, ClientError> {
        let response = self.send(ask, None);
        let response = response.map_err(|cause| ClientError::Unreachable(cause.to_string()))?;
        if response.status().is_success() {
            return Ok(response.into_body().into_reader());
        }
        match read::<serde_json::Value>(response) {
            Err(error) => Err(error),
            Ok(_) => Err(ClientError::Odd("an answer that is none".to_owned())),
        }
    }

    fn send(&self, ask: &Ask<'_>, version: Option<u64>) -> Result<Response<Body>, ureq::Error> {
        let url = format!("{}{}", ask.server.trim_end_matches('/'), ask.path);
        let mut request = Request::builder().method(ask.method).uri(url);
        if let Some(id) = ask.request_id {
            request = request.header("x-request-id", id);
        }
        request = match ask.token {
            Some(token) if token.is_session() => request
                .header("cookie", token.text())
                .header("x-azekura-request", "1"),
            Some(Token(token)) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        if let Some(version) = version {
            request = request.header("if-match", format!("\"{version}\""));
        }
        match ask.body {
            Some(text) => {
                let request = request.header("content-type", "application/json");
                self.run(request.body(text.to_owned())?, ask.patience)
            }
            None => self.run(request.body(())?, ask.patience),
        }
    }

    fn run<S: ureq::AsSendBody>(
        &self,
        request: Request<S>,
        patience: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.0.configure_request(request);
        let request = request.timeout_global(Some(patience)).build();
        self.0.run(request)
    }
}

fn read<T: DeserializeOwned>(mut response: Response<Body>) -> Result<T, ClientError> {
    let odd = |reason: String| ClientError::Odd(reason);
    let status = response.status();
    let limited = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
    let text = limited
        .read_to_string()
        .map_err(|cause| odd(cause.to_string()))?;
    if status.is_success() {
        return serde_json::from_str(&text).map_err(|cause| odd(cause.to_string()));
    }
    match serde_json::from_str::<OperationError>(&text) {
        Ok(error) => Err(ClientError::Refused(error)),
        Err(_) => Err(odd(format!("status {status}"))),
    }
}

/// The body that says `value`.
pub fn body_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("requests are plain data with text keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_one_word_and_stays_out_of_logs() {
        let token = Token::parse(" azk_0a-f\n").expect("one word");
        assert_eq!(token.0, "azk_0a-f");
        assert_eq!(format!("{token:?}"), "Token(..)");
        for session in ["azekura-session=0af9", "__Host-azekura-session=0af9"] {
            let token = Token::parse(session).expect("a session");
            assert!(token.is_session() && token.text() == session);
        }
        for odd in [
            "",
            " \n",
            "two words",
            "a\r\nx-evil: 1",
            "azekura-session=0af; x=1",
            "other=0af9",
        ] {
            assert_eq!(Token::parse(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn nobody_at_an_address_is_unreachable() {
        let client = Client::new("test", Duration::from_secs(1));
        let asked: Result<serde_json::Value, _> = client.ask(&Ask {
            // Port 1 of this machine, where nobody listens.
            server: "http://127.0.0.1:1/",
            method: &Method::GET,
            path: "/api/v1/status",
            body: None,
            token: None,
            request_id: None,
            patience: Duration::from_secs(5),
        });
        assert!(
            matches!(asked, Err(ClientError::Unreachable(_))),
            "{asked:?}"
        );
    }
}
