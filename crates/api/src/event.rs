//! What happened in the cluster.

use serde::{Deserialize, Serialize};

/// Events of one answer when nothing is said.
pub const EVENTS_DEFAULT: u32 = 100;
/// Most events of one answer.
pub const EVENTS_LIMIT_MAX: u32 = 500;

/// Query of a list of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only events with a greater id, oldest first; nothing: the newest ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Events in the answer at most, 1 to 500; nothing: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Events, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventsAnswer {
    /// The events.
    pub events: Vec<EventAnswer>,
    /// What to ask for with `after` to go on.
    pub next: u64,
}

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventAnswer {
    /// Its number: greater than that of every earlier one.
    pub id: u64,
    /// When it happened, Unix milliseconds by the clock of the node that saw it.
    pub at_ms: u64,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What kind: see docs/operating/events.md.
    pub kind: String,
    /// What it is about, such as `node/node-3`, `store/4`, `volume/db` or `cluster`.
    pub entity: String,
    /// For people.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub remedy: Option<String>,
    /// Name of the node that saw it.
    pub node: String,
    /// How often it happened within the moment.
    pub count: u32,
}
