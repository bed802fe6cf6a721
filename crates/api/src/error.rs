//! Why an operation is not carried out: a kind for programs, a message for people.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why an operation was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperationError {
    /// What kind of reason.
    pub kind: ErrorKind,
    /// What is wrong with what, and what to do next: for a person.
    pub message: String,
}

/// Kinds of [`OperationError`]: what a program decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// What was named does not exist.
    NotFound,
    /// The name is taken.
    Exists,
    /// Another client has the volume attached.
    InUse,
    /// No token, or one that is not known.
    Unauthenticated,
    /// The token does not allow this.
    Forbidden,
    /// Too many attempts: not before some time has passed.
    Throttled,
    /// Not in this state: attached, not empty, in use by something else.
    Refused,
    /// Not now; the same request may succeed later.
    Unavailable,
    /// It is not at the version any more that the request is on top of.
    Changed,
    /// The pool or the quota is exhausted.
    NoSpace,
    /// The request was carried out and failed; a person must look.
    Failed,
    /// The request makes no sense.
    BadRequest,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::NotFound,
        Self::Exists,
        Self::InUse,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Throttled,
        Self::Refused,
        Self::Unavailable,
        Self::Changed,
        Self::NoSpace,
        Self::Failed,
        Self::BadRequest,
    ];

    /// What it means, in a few words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NotFound => "what was named does not exist",
            Self::Exists => "the name is taken",
            Self::InUse => "another client has the volume attached",
            Self::Unauthenticated => "no session, token or certificate, or one that is not known",
            Self::Forbidden => "the user, token or certificate does not allow it",
            Self::Throttled => "too many attempts",
            Self::Refused => "not in this state",
            Self::Unavailable => "not now",
            Self::Changed => "somebody has changed it meanwhile",
            Self::NoSpace => "the pool or the quota is exhausted",
            Self::Failed => "it was tried and failed",
            Self::BadRequest => "the request makes no sense",
        }
    }

    /// What helps.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NotFound => "look at the list of what there is",
            Self::Exists => "read what has the name and compare, or choose another one",
            Self::InUse => "detach that client, or wait until it has ended",
            Self::Unauthenticated => "log in, or show a token that was not deleted",
            Self::Forbidden => "ask somebody with another role, or for another token",
            Self::Throttled => "wait as long as the message says",
            Self::Refused => "change the state that the message names, then ask again",
            Self::Unavailable => "send the same request again in a moment",
            Self::Changed => "read it again, and repeat the change on top of what it is now",
            Self::NoSpace => "delete something, add disks, or raise the quota",
            Self::Failed => "look at the logs of the request, and at the alerts",
            Self::BadRequest => "correct what the message names",
        }
    }

    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Exists => "exists",
            Self::InUse => "in-use",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Changed => "changed",
            Self::NoSpace => "no-space",
            Self::Failed => "failed",
            Self::BadRequest => "bad-request",
        }
    }
}

/// An error as HTTP answers it: `application/problem+json` (RFC 9457) with the fields of [`OperationError`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:azekura:problem:` and the kind.
    pub r#type: String,
    /// What the kind means.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// The message again.
    pub detail: String,
    /// What kind of reason: what a program decides on. Kinds are added, never renamed.
    pub kind: ErrorKind,
    /// What is wrong with what, and what to do next: for a person.
    pub message: String,
    /// What helps with errors of this kind.
    pub remedy: String,
}

impl Problem {
    /// An error with a status, which may be one of HTTP's own.
    #[must_use]
    pub fn new(error: &OperationError, status: u16) -> Self {
        Self {
            r#type: format!("urn:azekura:problem:{}", error.kind.name()),
            title: error.kind.meaning().to_owned(),
            status,
            detail: error.message.clone(),
            kind: error.kind,
            message: error.message.clone(),
            remedy: error.kind.remedy().to_owned(),
        }
    }
}

impl OperationError {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::BadRequest`].
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    /// [`ErrorKind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// [`ErrorKind::Failed`].
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }
}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OperationError {}
