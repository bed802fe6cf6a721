//! The CSI driver and an API that is away, slow, wrong or refuses: what its callers are told, and when.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests of the binary use the operating system"
)]

mod answers;
mod away;
mod fake;
mod follow;
