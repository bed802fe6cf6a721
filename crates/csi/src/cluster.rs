//! The cluster, through its public REST API.
//!
//! Every call names the request it is made for (`x-request-id`) and ends at that request's deadline. There may be several
//! endpoints: the one that answered last is asked first, and one that does not answer is passed over. Every call the driver
//! makes may be repeated: a creation that was carried out, but whose answer was lost, is answered `exists` the next
//! time, and the caller compares what exists.

use crate::call::Call;
use crate::handle::Handles;
use api::client::{Ask, Client, ClientError, Method, Token, body_of};
use api::http::path;
use api::{ClusterAnswer, ErrorKind, OperationError};
use identity::Credentials;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::Status;

/// Longest wait for a connection to one endpoint.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Pause between two rounds over the endpoints: doubles up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a cluster that says `unavailable` is asked again: a takeover takes a few seconds.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(15);

/// Where the API is and how the driver may use it.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// URLs, such as `http://10.0.0.1:7400`; at least one.
    pub endpoints: Vec<String>,
    /// File with the bearer token; read for every call, so that it may be replaced at any time.
    pub token_file: Option<PathBuf>,
    /// Certificates, when the endpoints are `https` URLs.
    pub credentials: Option<Arc<Credentials>>,
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
                ErrorKind::Unavailable | ErrorKind::Throttled => Self::unavailable(text),
                ErrorKind::BadRequest => Self::invalid_argument(text),
                // Not the caller's secrets, but the driver's own token.
                ErrorKind::Unauthenticated | ErrorKind::Forbidden => Self::internal(format!(
                    "{text}: the driver needs a token of scope csi or credentials of role csi, see its --token-file and \
                     --credentials"
                )),
                // The driver makes nothing conditional.
                ErrorKind::Failed | ErrorKind::Changed => Self::internal(text),
            },
        }
    }
}

/// Calls the API.
pub(crate) struct Cluster {
    options: ApiOptions,
    client: Client,
    /// Index of the endpoint that answered last.
    preferred: AtomicUsize,
    /// The Kubernetes cluster that volumes are made for.
    kubernetes: Option<String>,
    /// Once the cluster has told who it is, which never changes.
    handles: Mutex<Option<Handles>>,
}

impl Cluster {
    /// Calls nobody yet.
    pub fn new(options: ApiOptions) -> Self {
        assert!(!options.endpoints.is_empty(), "there is an endpoint");
        const PROGRAM: &str = concat!("azekura-csi/", env!("CARGO_PKG_VERSION"));
        let client = match &options.credentials {
            Some(credentials) => {
                let connector = identity::http::with(credentials.clone());
                Client::over(PROGRAM, CONNECT_MAX, connector)
            }
            None => Client::new(PROGRAM, CONNECT_MAX),
        };
        Self {
            options,
            client,
            preferred: AtomicUsize::new(0),
            kubernetes: None,
            handles: Mutex::new(None),
        }
    }

    /// Makes volumes for a Kubernetes cluster of this name.
    #[must_use]
    pub fn for_kubernetes(mut self, name: Option<String>) -> Self {
        self.kubernetes = name;
        self
    }

    /// Calls on behalf of a request.
    pub fn ask<'a>(&'a self, call: &'a Call) -> Asking<'a> {
        Asking {
            cluster: self,
            call,
        }
    }

    fn token(&self) -> Result<Option<Token>, ApiError> {
        let Some(file) = &self.options.token_file else {
            return Ok(None);
        };
        let place = file.display();
        let text = std::fs::read_to_string(file).map_err(|cause| {
            ApiError::Token(format!("cannot read the token in {place}: {cause}"))
        })?;
        let token = Token::parse(&text);
        let odd = || ApiError::Token(format!("{place} does not hold a token, which is one word"));
        token.map(Some).ok_or_else(odd)
    }
}

/// The cluster, asked on behalf of one request.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    cluster: &'a Cluster,
    call: &'a Call,
}

impl<'a> Asking<'a> {
    /// The Kubernetes cluster that volumes are made for, when it is known.
    pub fn kubernetes(self) -> Option<&'a str> {
        self.cluster.kubernetes.as_deref()
    }

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
        self.call(&Method::POST, path, Some(&body_of(body)))
    }

    /// Puts `body` to `path`, as often as it may be.
    pub fn put<T: DeserializeOwned>(
        self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.call(&Method::PUT, path, Some(&body_of(body)))
    }

    /// Changes what is at `path`.
    pub fn patch<T: DeserializeOwned>(
        self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.call(&Method::PATCH, path, Some(&body_of(body)))
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
        body: Option<&str>,
    ) -> Result<T, ApiError> {
        let began = std::time::Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let error = match self.round(method, path, body) {
                Err(error @ ApiError::Unreachable(_)) => error,
                Err(error) if error.kind() == Some(ErrorKind::Unavailable) => error,
                outcome => return outcome,
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
    fn round<T: DeserializeOwned>(
        self,
        method: &Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<T, ApiError> {
        let endpoints = &self.cluster.options.endpoints;
        let first = self.cluster.preferred.load(Relaxed);
        let mut last = ApiError::Late("no time was left to ask".to_owned());
        for turn in 0..endpoints.len() {
            let index = (first + turn) % endpoints.len();
            match self.attempt(&endpoints[index], method, path, body) {
                Err(error @ (ApiError::Unreachable(_) | ApiError::Late(_))) => last = error,
                Err(error @ ApiError::Token(_)) => return Err(error),
                answered => {
                    self.cluster.preferred.store(index, Relaxed);
                    return answered;
                }
            }
        }
        Err(last)
    }

    fn attempt<T: DeserializeOwned>(
        self,
        endpoint: &str,
        method: &Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<T, ApiError> {
        let left = self.call.left();
        if left.is_zero() {
            return Err(ApiError::Late(endpoint.to_owned()));
        }
        let asked = self.cluster.client.ask(&Ask {
            server: endpoint,
            method,
            path,
            body,
            token: self.cluster.token()?.as_ref(),
            request_id: Some(&self.call.id),
            patience: left,
        });
        asked.map_err(|error| match error {
            ClientError::Unreachable(cause) if self.call.left().is_zero() => {
                ApiError::Late(format!("{endpoint}: {cause}"))
            }
            ClientError::Unreachable(cause) => {
                ApiError::Unreachable(format!("{endpoint}: {cause}"))
            }
            ClientError::Odd(reason) => ApiError::Odd(reason),
            ClientError::Refused(error) => ApiError::Refused(error),
        })
    }
}
