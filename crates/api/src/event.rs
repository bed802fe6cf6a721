//! What happened in the cluster.

use serde::{Deserialize, Serialize};

/// Events of one answer when nothing is said.
pub const EVENTS_DEFAULT: u32 = 100;
/// Most events of one answer.
pub const EVENTS_LIMIT_MAX: u32 = 500;

crate::sort::orders! {
    /// An order of events.
    EventSort: "id", "severity", "kind", "entity", "node";
}

/// Query of a list of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only events with a greater id, oldest first; nothing: the newest ones. With `sort` or a filter: only those behind the event with
    /// this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Events in the answer at most, 1 to 500; nothing: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Another order: that of the ids is `id`, from its beginning, and `-id` has the newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub sort: Option<EventSort>,
    /// Only events that matter so much: `info`, `warning` or `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Only events of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only events about this, such as `node/node-3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
}

impl EventQuery {
    /// Whether it asks for others than the newest, or those that follow one.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        self.sort.is_some()
            || self.severity.is_some()
            || self.kind.is_some()
            || self.entity.is_some()
    }

    /// Whether an event passes the filters.
    #[must_use]
    pub fn wants(&self, event: &EventAnswer) -> bool {
        let is = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == text)
        };
        is(&self.severity, &event.severity)
            && is(&self.kind, &event.kind)
            && is(&self.entity, &event.entity)
    }
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
