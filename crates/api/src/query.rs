//! What lists are asked for: pages by id, and filters.

use crate::kubernetes::KUBERNETES_LABEL;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest page.
pub const LIMIT_MAX: u32 = 1000;

/// Label of what exists for a while inside another operation; hidden from lists that do not ask for it.
pub const INTERNAL_LABEL: &str = "azekura.dev/internal";

/// An order of volumes and snapshots, equal ones in that of their ids; `-` in front is exactly the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ListSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, from the last one on.
    #[serde(rename = "-name")]
    NameDown,
    /// The smallest first.
    #[serde(rename = "size")]
    Size,
    /// The largest first.
    #[serde(rename = "-size")]
    SizeDown,
    /// The oldest first.
    #[serde(rename = "created")]
    Created,
    /// The newest first.
    #[serde(rename = "-created")]
    CreatedDown,
}

impl ListSort {
    /// All of them as they are written.
    pub const WRITTEN: [(&str, Self); 6] = [
        ("name", Self::Name),
        ("-name", Self::NameDown),
        ("size", Self::Size),
        ("-size", Self::SizeDown),
        ("created", Self::Created),
        ("-created", Self::CreatedDown),
    ];
}

impl std::str::FromStr for ListSort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::WRITTEN.iter().find(|(written, _)| *written == text);
        let found = found.map(|&(_, sort)| sort);
        found.ok_or_else(|| {
            "it is name, size or created, or one of them with `-` in front".to_owned()
        })
    }
}

/// Which volumes or snapshots, and how many. With `limit` or `after` the answer is ordered by id unless `sort` says otherwise,
/// and fewer items than `limit` mean the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Items at most, up to [`LIMIT_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only items with a larger id; with `sort` those that come after the item with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Another order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub sort: Option<ListSort>,
    /// Only items of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only snapshots or clones of this volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Only items of this container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Only items in this state, such as `ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Only items with this label, as `KEY=VALUE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Only items of these containers; empty: of all. Set from a token, never by a client.
    #[serde(skip)]
    pub containers: Vec<String>,
    /// Only items of volumes with the label of one of these Kubernetes clusters; empty: of all. Set from a token, never by a client.
    #[serde(skip)]
    pub kubernetes: Vec<String>,
}

impl ListQuery {
    /// Whether the answer is a page.
    #[must_use]
    pub fn is_paged(&self) -> bool {
        self.limit.is_some() || self.after.is_some()
    }

    /// Whether who asks may not see everything.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        !self.containers.is_empty() || !self.kubernetes.is_empty()
    }

    /// Whether it asks for few of many.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        let limited = self.is_limited();
        let placed = self.container.is_some() || self.volume.is_some() || self.state.is_some();
        limited || placed || self.name.is_some() || self.label.is_some()
    }

    /// Whether volumes with these labels are of the Kubernetes clusters that it is limited to.
    #[must_use]
    pub fn is_of_kubernetes(&self, labels: &BTreeMap<String, String>) -> bool {
        let own = labels.get(KUBERNETES_LABEL);
        self.kubernetes.is_empty() || own.is_some_and(|own| self.kubernetes.contains(own))
    }

    /// What is wrong with it, for people.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self
            .limit
            .is_some_and(|limit| limit == 0 || limit > LIMIT_MAX)
        {
            return Some(format!("`limit` is 1 to {LIMIT_MAX}"));
        }
        let label = self.label.as_deref();
        let odd =
            label.is_some_and(|label| label.split_once('=').is_none_or(|(key, _)| key.is_empty()));
        odd.then(|| "`label` is written KEY=VALUE".to_owned())
    }

    /// Whether an item passes the filters by name and label, and is not hidden.
    #[must_use]
    pub fn wants(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let wanted = self
            .label
            .as_deref()
            .and_then(|label| label.split_once('='));
        let hidden = labels.contains_key(INTERNAL_LABEL)
            && wanted.is_none_or(|(key, _)| key != INTERNAL_LABEL);
        let labelled =
            wanted.is_none_or(|(key, value)| labels.get(key).is_some_and(|has| has == value));
        !hidden && labelled && self.name.as_deref().is_none_or(|wanted| wanted == name)
    }
}
