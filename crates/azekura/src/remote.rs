//! Calls to a node's REST API.

use anyhow::Context;
use api::OperationError;
use api::client::{Ask, Client, ClientError, Method, Token, body_of};
use identity::Credentials;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use world::World;

/// A little more than the server's own patience, so that its answer is heard.
const ANSWER_SECONDS_MAX: u64 = 150;
/// Text is read no further than this: what a node with 10,000 volumes counts is about 20 MiB.
const TEXT_BYTES_MAX: u64 = 256 << 20;
/// A stream ends after five minutes; a little more is waited for that.
const STREAM_SECONDS_MAX: u64 = 330;
/// What servers are told that asks.
pub const PROGRAM: &str = concat!("azekura/", env!("CARGO_PKG_VERSION"));
/// Longest wait for a connection.
const CONNECT_SECONDS_MAX: u64 = 5;

/// One API server.
pub struct Remote {
    base: String,
    client: Client,
    token: Option<Token>,
    /// Names requests in the node's log and in tasks.
    request: Option<String>,
    /// The task that the last answer named; 0: none.
    task: AtomicU64,
}

/// Where the API is and who asks.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// URL.
    pub api: &'a str,
    /// File with the token.
    pub token_file: Option<&'a Path>,
    /// Folder with certificates.
    pub credentials: Option<&'a Path>,
}

impl Endpoint<'_> {
    /// The certificates, if a folder is named.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn credentials(&self) -> anyhow::Result<Option<Arc<Credentials>>> {
        let read = |folder: &Path| {
            let read = Credentials::read(folder);
            read.with_context(|| format!("cannot use the credentials in {}", folder.display()))
        };
        self.credentials.map(read).transpose()
    }

    /// The URL: with credentials nothing is ever sent in the clear.
    #[must_use]
    pub fn url(&self, named: &str) -> String {
        let url = named.trim().trim_end_matches('/');
        match (self.credentials, url.strip_prefix("http://")) {
            (Some(_), Some(rest)) => format!("https://{rest}"),
            _ => url.to_owned(),
        }
    }
}

/// The network as it is, or encrypted when there are credentials.
#[must_use]
pub fn secured(world: World, credentials: Option<Arc<Credentials>>) -> World {
    match credentials {
        Some(credentials) => world_linux::tls::encrypt(&world, credentials),
        None => world,
    }
}

fn read_token(path: &Path) -> anyhow::Result<Token> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token file {}", path.display()))?;
    Token::parse(&text).with_context(|| {
        format!(
            "{} does not hold a token: it is one word that begins with azk_, or a session that `azekura session create` made",
            path.display()
        )
    })
}

/// Why a call failed.
#[derive(Debug)]
pub enum RemoteError {
    /// Nobody answered.
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// Something answered that is not an Azekura node, or is of another version.
    Odd {
        /// The URL.
        url: String,
        /// What is odd.
        reason: String,
    },
    /// The node refused.
    Refused(OperationError),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { url, reason } => write!(
                f,
                "no answer from the API at {url} ({reason}): is a node running there? \
                 Say another URL with --api or AZEKURA_API, and --credentials where connections are encrypted"
            ),
            Self::Odd { url, reason } => write!(
                f,
                "what answers at {url} is not the API of this version ({reason}): \
                 check --api or AZEKURA_API"
            ),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RemoteError {}

impl RemoteError {
    /// The error as the API would write it.
    #[must_use]
    pub fn to_operation_error(&self) -> OperationError {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Unreachable { .. } => OperationError::unavailable(self.to_string()),
            Self::Odd { .. } => OperationError::failed(self.to_string()),
        }
    }
}

impl Remote {
    /// Calls an API such as `http://127.0.0.1:7400`.
    ///
    /// # Errors
    /// When the token file cannot be used.
    pub fn new(endpoint: Endpoint<'_>) -> anyhow::Result<Self> {
        let base = endpoint.url(endpoint.api);
        let connect_max = Duration::from_secs(CONNECT_SECONDS_MAX);
        let client = match endpoint.credentials()? {
            Some(credentials) => {
                let connector = identity::http::with(credentials);
                Client::over(PROGRAM, connect_max, connector)
            }
            None if base.starts_with("https:") => anyhow::bail!(
                "{base} asks for a certificate: name a folder of credentials with --credentials or \
                 AZEKURA_CREDENTIALS (`azekura cluster credentials create` makes one)"
            ),
            None => Client::new(PROGRAM, connect_max),
        };
        Ok(Self {
            base,
            client,
            token: endpoint.token_file.map(read_token).transpose()?,
            request: None,
            task: AtomicU64::new(0),
        })
    }

    /// Reads what is at `path`.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        self.call(&Method::GET, path, None, None)
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// See [`RemoteError`]. A request that was not answered may have been carried out.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, RemoteError> {
        self.post_if(path, body, None)
    }

    /// The same, only on top of a version of what is changed.
    ///
    /// # Errors
    /// As [`Remote::post`].
    pub fn post_if<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        version: Option<u64>,
    ) -> Result<T, RemoteError> {
        self.call(&Method::POST, path, Some(&body_of(body)), version)
    }

    /// Changes what is at `path`.
    ///
    /// # Errors
    /// As [`Remote::post`].
    pub fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, RemoteError> {
        self.patch_if(path, body, None)
    }

    /// The same, only on top of a version of what is changed.
    ///
    /// # Errors
    /// As [`Remote::post`].
    pub fn patch_if<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        version: Option<u64>,
    ) -> Result<T, RemoteError> {
        self.call(&Method::PATCH, path, Some(&body_of(body)), version)
    }

    /// Deletes what is at `path`, only at a version if one is given.
    ///
    /// # Errors
    /// As [`Remote::post`].
    pub fn delete(&self, path: &str, version: Option<u64>) -> Result<(), RemoteError> {
        let _: serde_json::Value = self.delete_for(path, version)?;
        Ok(())
    }

    /// The same where the answer tells something.
    ///
    /// # Errors
    /// As [`Remote::post`].
    pub fn delete_for<T: DeserializeOwned>(
        &self,
        path: &str,
        version: Option<u64>,
    ) -> Result<T, RemoteError> {
        self.call(&Method::DELETE, path, None, version)
    }

    /// Reads text at a path of the server.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn text(&self, path: &str) -> Result<String, RemoteError> {
        let listened = self.client.listen(&self.ask(&Method::GET, path, None));
        let mut text = String::new();
        let reader = listened.map_err(|error| self.failed(error))?;
        let read = reader.take(TEXT_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|cause| self.failed(ClientError::Odd(cause.to_string())))?;
        Ok(text)
    }

    /// Logs in as a user.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn log_in(&self, login: &api::Login) -> Result<(api::SessionAnswer, Token), RemoteError> {
        let (path, body) = (api::http::path(&["session"]), body_of(login));
        let ask = Ask {
            token: None,
            ..self.ask(&Method::POST, &path, Some(&body))
        };
        let asked = self.client.ask_for_session(&ask);
        asked.map_err(|error| self.failed(error))
    }

    /// The same server, asked with a session.
    #[must_use]
    pub fn with_session(&self, session: Token) -> Self {
        Self {
            token: Some(session),
            ..self.again()
        }
    }

    /// The same server, asked under an id of a request.
    #[must_use]
    pub fn named(&self, request: &str) -> Self {
        Self {
            request: Some(request.to_owned()),
            ..self.again()
        }
    }

    fn again(&self) -> Self {
        Self {
            base: self.base.clone(),
            client: self.client.clone(),
            token: self.token.clone(),
            request: self.request.clone(),
            task: AtomicU64::new(0),
        }
    }

    /// The task that an answer to a change has named.
    #[must_use]
    pub fn begun(&self) -> Option<u64> {
        Some(self.task.load(Ordering::Relaxed)).filter(|task| *task != 0)
    }

    /// What comes, as it comes, from a path whose answer goes on for minutes.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn listen(&self, path: &str) -> Result<impl Read + use<>, RemoteError> {
        let ask = Ask {
            patience: Duration::from_secs(STREAM_SECONDS_MAX),
            ..self.ask(&Method::GET, path, None)
        };
        self.client.listen(&ask).map_err(|error| self.failed(error))
    }

    /// Whether requests show a session.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.token.as_ref().is_some_and(Token::is_session)
    }

    fn ask<'a>(&'a self, method: &'a Method, path: &'a str, body: Option<&'a str>) -> Ask<'a> {
        Ask {
            server: &self.base,
            method,
            path,
            body,
            token: self.token.as_ref(),
            request_id: self.request.as_deref(),
            patience: Duration::from_secs(ANSWER_SECONDS_MAX),
        }
    }

    fn failed(&self, error: ClientError) -> RemoteError {
        let url = self.base.clone();
        match error {
            ClientError::Unreachable(reason) => RemoteError::Unreachable { url, reason },
            ClientError::Odd(reason) => RemoteError::Odd { url, reason },
            ClientError::Refused(error) => RemoteError::Refused(error),
        }
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&str>,
        version: Option<u64>,
    ) -> Result<T, RemoteError> {
        let ask = self.ask(method, path, body);
        if *method == Method::GET {
            let asked = self.client.ask_if(&ask, version);
            return asked.map_err(|error| self.failed(error));
        }
        let asked = self.client.ask_if::<serde_json::Value>(&ask, version);
        let answer = asked.map_err(|error| self.failed(error))?;
        if let Some(task) = answer.get("task").and_then(serde_json::Value::as_u64) {
            self.task.store(task, Ordering::Relaxed);
        }
        let read = serde_json::from_value(answer);
        read.map_err(|cause| self.failed(ClientError::Odd(cause.to_string())))
    }
}
