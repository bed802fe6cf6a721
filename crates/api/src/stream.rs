//! What changes in the cluster, for pages that show it.

use serde::{Deserialize, Serialize};

/// Something that is other than before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeAnswer {
    /// `volume`, `snapshot`, `group-snapshot`, `container`, `node`, `store`, `event`, `alert`, `task`; `disk` with the
    /// id of its store when somebody switched a light, `placement` when groups changed,
    /// `health` when the verdict or the state of a store did, `metrics` when another step of figures is there, `alert-target` when who is
    /// told of alerts changed, or how far, `kubernetes` when a Kubernetes cluster was heard, `claims` when one of its
    /// claims changed, `user`, `session`, `token` and `audit` when one of those did, `authority` when another one signs or is believed or
    /// a node has another certificate: all without an id.
    pub kind: String,
    /// Its id; 0: of no single thing.
    pub id: u64,
    /// Whether it is gone.
    pub gone: bool,
}

/// What changed since somebody asked last. One event of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangesAnswer {
    /// Up to which revision of the catalog; the id of the event.
    pub revision: u64,
    /// Whether too much changed to tell: everything is to be read again.
    #[serde(default)]
    pub reset: bool,
    /// What changed, each thing once.
    pub changes: Vec<ChangeAnswer>,
    /// Another word than before when health or verdict changed.
    #[serde(default)]
    pub mood: String,
}
