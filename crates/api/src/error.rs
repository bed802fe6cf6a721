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
    /// The pool or the quota is exhausted.
    NoSpace,
    /// The request was carried out and failed; a person must look.
    Failed,
    /// The request makes no sense.
    BadRequest,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::NotFound,
        Self::Exists,
        Self::InUse,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Throttled,
        Self::Refused,
        Self::Unavailable,
        Self::NoSpace,
        Self::Failed,
        Self::BadRequest,
    ];

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
            Self::NoSpace => "no-space",
            Self::Failed => "failed",
            Self::BadRequest => "bad-request",
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
