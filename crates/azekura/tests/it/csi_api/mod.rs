//! The CSI driver and an API that is away, slow, wrong or refuses: what its callers are told, and when.

mod answers;
mod away;
mod fake;
mod follow;
