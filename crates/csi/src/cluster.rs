//! The cluster, through its public REST API.
//!
//! Every call names the request it is made for (`x-request-id`) and ends at that request's deadline. There may be several
//! endpoints: the one that answered last is asked first, and one that does not answer is passed over. Every call the driver
//! makes may be repeated: a creation that was carried out, but whose answer was lost, is answered `exists` the next
//! time, and the caller compares what exists.

use crate::call::Call;
use crate::handle::Handles;
use api::http::path;
use api::{ClusterAnswer, ErrorKind, OperationError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::Status;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};

/// Longest wait for a connection to one endpoint.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Pause between two rounds over the endpoints: doubles up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a cluster that says `unavailable` is asked again: a takeover takes a few seconds.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(15);
/// Largest answer. The largest ones are pages of 1000 volumes, about 1 KiB each.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Where the API is and how the driver may use it.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// URLs, such as `http://10.0.0.1:7400`; at least one.
    pub endpoints: Vec<String>,
    /// File with the bearer token; read for every call, so that it may be replaced at any time.
    pub token_file: Option<PathBuf>,
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// No endpoint answered.
    Unreachable(String),
    /// The time of the request was up before an answer came.
    Late(String),
    /// Something answered that is not the API of this version.
    Odd(String),
    /// The token's file cannot be read.
    Token(String),
    /// The cluster refused.
    Refused(OperationError),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => write!(
                f,
                "no answer from the cluster's API ({reason}): is a storage node running and reachable there?"
            ),
            Self::Late(reason) => write!(
                f,
                "the cluster's API has not answered in time ({reason}); repeat the request"
            ),
            Self::Odd(reason) => write!(
                f,
                "what answers is not the API of this version ({reason}): check the driver's --api"
            ),
            Self::Token(reason) => write!(f, "{reason}: check the driver's --token-file"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl ApiError {
    /// The kind of a refusal.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Refused(error) => Some(error.kind),
            _ => None,
        }
    }
}

impl From<ApiError> for Status {
    /// The code where a request has no better one.
    fn from(error: ApiError) -> Self {
        let text = error.to_string();
        match error {
            ApiError::Unreachable(_) => Self::unavailable(text),
            ApiError::Late(_) => Self::deadline_exceeded(text),
            ApiError::Odd(_) | ApiError::Token(_) => Self::internal(text),
            ApiError::Refused(error) => match error.kind {
                ErrorKind::NotFound => Self::not_found(text),
                ErrorKind::Exists => Self::already_exists(text),
                ErrorKind::InUse | ErrorKind::Refused => Self::failed_precondition(text),
                ErrorKind::NoSpace => Self::resource_exhausted(text),
                ErrorKind::Unavailable => Self::unavailable(text),
                ErrorKind::BadRequest => Self::invalid_argument(text),
                // Not the caller's secrets, but the driver's own token.
                ErrorKind::Unauthenticated | ErrorKind::Forbidden => Self::internal(format!(
                    "{text}: the driver needs a token of scope csi, see its --token-file"
                )),
                ErrorKind::Failed => Self::internal(text),
            },
        }
    }
}

/// Calls the API.
pub(crate) struct Cluster {
    options: ApiOptions,
    agent: Agent,
    /// Index of the endpoint that answered last.
    preferred: AtomicUsize,
    /// Once the cluster has told who it is, which never changes.
    handles: Mutex<Option<Handles>>,
}

impl Cluster {
    /// Calls nobody yet.
    pub fn new(options: ApiOptions) -> Self {
        assert!(!options.endpoints.is_empty(), "there is an endpoint");
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_MAX))
            .user_agent(concat!("azekura-csi/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            options,
            agent: config.new_agent(),
            preferred: AtomicUsize::new(0),
            handles: Mutex::new(None),
        }
    }

    /// Calls on behalf of a request.
    pub fn ask<'a>(&'a self, call: &'a Call) -> Asking<'a> {
        Asking {
            cluster: self,
            call,
        }
    }

    fn token(&self) -> Result<Option<String>, ApiError> {
        let Some(file) = &self.options.token_file else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(file).map_err(|cause| {
            ApiError::Token(format!(
                "cannot read the token in {}: {cause}",
                file.display()
            ))
        })?;
        Ok(Some(format!("Bearer {}", text.trim())))
    }
}

/// The cluster, asked on behalf of one request.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    cluster: &'a Cluster,
    call: &'a Call,
}

/// What became of one attempt.
enum Attempt {
    Answered(Response<Body>),
    /// Another endpoint, or another time.
    Elsewhere(ApiError),
}

impl Asking<'_> {
    /// The handles of the cluster: asked for once.
    pub fn handles(self) -> Result<Handles, ApiError> {
        let known = &self.cluster.handles;
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handles) = &*lock() {
            return Ok(handles.clone());
        }
        let handles = Handles {
            cluster: self.overview()?.id,
        };
        *lock() = Some(handles.clone());
        Ok(handles)
    }

    /// Who the cluster is and where its nodes are.
    pub fn overview(self) -> Result<ClusterAnswer, ApiError> {
        self.get(&path(&["cluster"]))
    }

    /// Reads what is at `path`.
    pub fn get<T: DeserializeOwned>(self, path: &str) -> Result<T, ApiError> {
        self.call(&Method::GET, path, None)
    }

    /// Sends `body` to `path`.
    pub fn post<T: DeserializeOwned>(
        self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.call(&Method::POST, path, Some(text_of(body)))
    }

    /// Changes what is at `path`.
    pub fn patch<T: DeserializeOwned>(
        self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.call(&Method::PATCH, path, Some(text_of(body)))
    }

    /// Deletes what is at `path`.
    pub fn delete(self, path: &str) -> Result<(), ApiError> {
        let _: serde_json::Value = self.call(&Method::DELETE, path, None)?;
        Ok(())
    }

    /// Rounds over the endpoints until one answers or the time is up.
    fn call<T: DeserializeOwned>(
        self,
        method: &Method,
        path: &str,
        body: Option<String>,
    ) -> Result<T, ApiError> {
        let began = std::time::Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let error = match self.round(method, path, body.as_deref()) {
                Ok(response) => match read(response) {
                    Err(error) if error.kind() == Some(ErrorKind::Unavailable) => error,
                    outcome => return outcome,
                },
                Err(error @ ApiError::Unreachable(_)) => error,
                Err(error) => return Err(error),
            };
            let patient = began.elapsed() < UNAVAILABLE_MAX;
            if !patient || self.call.left() <= pause * 2 {
                return Err(error);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Every endpoint once, the one that answered last first.
    fn round(
        self,
        method: &Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<Response<Body>, ApiError> {
        let endpoints = &self.cluster.options.endpoints;
        let first = self.cluster.preferred.load(Relaxed);
        let mut last = ApiError::Late("no time was left to ask".to_owned());
        for turn in 0..endpoints.len() {
            let index = (first + turn) % endpoints.len();
            match self.attempt(&endpoints[index], method, path, body)? {
                Attempt::Answered(response) => {
                    self.cluster.preferred.store(index, Relaxed);
                    return Ok(response);
                }
                Attempt::Elsewhere(error) => last = error,
            }
        }
        Err(last)
    }

    fn attempt(
        self,
        endpoint: &str,
        method: &Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<Attempt, ApiError> {
        let left = self.call.left();
        if left.is_zero() {
            return Ok(Attempt::Elsewhere(ApiError::Late(endpoint.to_owned())));
        }
        let url = format!("{}{path}", endpoint.trim_end_matches('/'));
        let mut request = Request::builder().method(method).uri(&url);
        request = request.header("x-request-id", &self.call.id);
        if let Some(token) = self.cluster.token()? {
            request = request.header("authorization", token);
        }
        let outcome = match body {
            Some(text) => {
                let request = request.header("content-type", "application/json");
                self.send(request.body(text.to_owned()), left)
            }
            None => self.send(request.body(()), left),
        };
        Ok(match outcome {
            Ok(response) => Attempt::Answered(response),
            Err(cause) if self.call.left().is_zero() => {
                Attempt::Elsewhere(ApiError::Late(format!("{endpoint}: {cause}")))
            }
            Err(cause) => Attempt::Elsewhere(ApiError::Unreachable(format!("{endpoint}: {cause}"))),
        })
    }

    fn send<S: ureq::AsSendBody>(
        self,
        request: Result<Request<S>, ureq::http::Error>,
        left: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let agent = &self.cluster.agent;
        let request = agent
            .configure_request(request?)
            .timeout_global(Some(left))
            .build();
        agent.run(request)
    }
}

fn read<T: DeserializeOwned>(mut response: Response<Body>) -> Result<T, ApiError> {
    let odd = |reason: String| ApiError::Odd(reason);
    let status = response.status();
    let limited = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
    let text = limited
        .read_to_string()
        .map_err(|cause| odd(cause.to_string()))?;
    if status.is_success() {
        return serde_json::from_str(&text).map_err(|cause| odd(cause.to_string()));
    }
    match serde_json::from_str::<OperationError>(&text) {
        Ok(error) => Err(ApiError::Refused(error)),
        Err(_) => Err(odd(format!("status {status}"))),
    }
}

fn text_of(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("requests are plain data with text keys")
}
