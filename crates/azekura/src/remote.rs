//! Calls to a node's REST API.

use anyhow::Context;
use api::OperationError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::Path;
use std::time::Duration;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};

/// A little more than the server's own patience, so that its answer is heard.
const ANSWER_SECONDS_MAX: u64 = 150;
/// Longest wait for a connection.
const CONNECT_SECONDS_MAX: u64 = 5;
/// Largest answer: a diff of a 16 TiB volume with every other block changed is far above; a diff that large
/// fails with a clear message. 256 MiB hold about 4 million runs.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// One API server.
pub struct Remote {
    base: String,
    agent: Agent,
    /// Value of the header `authorization`.
    authorization: Option<String>,
}

/// Where the API is and who asks.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// URL.
    pub api: &'a str,
    /// File with the token.
    pub token_file: Option<&'a Path>,
}

/// The token in a file: its one line, without blanks around it.
fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token file {}", path.display()))?;
    let token = text.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if token.is_empty() || !token.bytes().all(plain) {
        anyhow::bail!(
            "{} does not hold a token: it is one word that begins with azk_",
            path.display()
        );
    }
    Ok(token.to_owned())
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
                 Say another URL with --api or AZEKURA_API"
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
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(CONNECT_SECONDS_MAX)))
            .timeout_global(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))
            .user_agent(concat!("azekura/", env!("CARGO_PKG_VERSION")))
            .build();
        let token = endpoint.token_file.map(read_token).transpose()?;
        Ok(Self {
            base: endpoint.api.trim_end_matches('/').to_owned(),
            agent: config.new_agent(),
            authorization: token.map(|token| format!("Bearer {token}")),
        })
    }

    /// Reads what is at `path`.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        self.call(Method::GET, path, None)
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
        self.call(Method::POST, path, Some(text_of(body)))
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
        self.call(Method::PATCH, path, Some(text_of(body)))
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// As [`Remote::post`].
    pub fn delete(&self, path: &str) -> Result<(), RemoteError> {
        let _: serde_json::Value = self.call(Method::DELETE, path, None)?;
        Ok(())
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<T, RemoteError> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let response = match body {
            Some(text) => {
                let request = request
                    .header("content-type", "application/json")
                    .body(text);
                request
                    .map_err(ureq::Error::from)
                    .and_then(|request| self.agent.run(request))
            }
            None => request
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| self.agent.run(request)),
        };
        let response = response.map_err(|cause| RemoteError::Unreachable {
            url: self.base.clone(),
            reason: cause.to_string(),
        })?;
        self.read(response)
    }

    fn read<T: DeserializeOwned>(&self, mut response: Response<Body>) -> Result<T, RemoteError> {
        let odd = |reason: String| RemoteError::Odd {
            url: self.base.clone(),
            reason,
        };
        let status = response.status();
        let limited = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = limited
            .read_to_string()
            .map_err(|cause| odd(cause.to_string()))?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|cause| odd(cause.to_string()));
        }
        match serde_json::from_str::<OperationError>(&text) {
            Ok(error) => Err(RemoteError::Refused(error)),
            Err(_) => Err(odd(format!("status {status}"))),
        }
    }
}

fn text_of(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("requests are plain data with text keys")
}
