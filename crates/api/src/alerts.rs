//! What is wrong, and who is told of it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Alerts of one answer when nothing is said.
pub const ALERTS_DEFAULT: u32 = 100;
/// Most alerts of one answer.
pub const ALERTS_LIMIT_MAX: u32 = 800;
/// Longest note, in characters.
pub const NOTE_CHARS_MAX: usize = 500;

/// What can be asked about alerts. Its JSON form has the field `alert` with the name beside `operation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "alert",
    rename_all = "kebab-case",
    rename_all_fields = "snake_case"
)]
pub enum AlertOperation {
    /// Alerts -> `Answer::Alerts`.
    List(AlertQuery),
    /// One alert -> `Answer::Alert`.
    Show {
        /// Its id.
        id: u64,
    },
    /// Says that somebody has seen it -> `Answer::Alert`.
    Acknowledge {
        /// Its id.
        id: u64,
        /// For people.
        #[serde(default)]
        note: Option<String>,
        /// Who.
        by: String,
    },
    /// Says that it is over, of one that does not end by itself -> `Answer::Alert`.
    Resolve {
        /// Its id.
        id: u64,
        /// For people.
        #[serde(default)]
        note: Option<String>,
        /// Who.
        by: String,
    },
    /// Who is told -> `Answer::AlertTargets`.
    TargetList,
    /// One who is told -> `Answer::AlertTarget`.
    TargetShow {
        /// The name.
        name: String,
    },
    /// Tells somebody from now on -> `Answer::AlertTarget`.
    TargetAdd(AlertTargetSpec),
    /// Tells somebody no more -> `Answer::Done`.
    TargetDelete {
        /// The name.
        name: String,
    },
    /// Sends a test message -> `Answer::Done` once it is delivered.
    TargetTest {
        /// The name.
        name: String,
    },
}

impl AlertOperation {
    /// Its name, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "alert-list",
            Self::Show { .. } => "alert-show",
            Self::Acknowledge { .. } => "alert-acknowledge",
            Self::Resolve { .. } => "alert-resolve",
            Self::TargetList => "alert-target-list",
            Self::TargetShow { .. } => "alert-target-show",
            Self::TargetAdd(_) => "alert-target-add",
            Self::TargetDelete { .. } => "alert-target-delete",
            Self::TargetTest { .. } => "alert-target-test",
        }
    }

    /// Whether it leaves everything as it was.
    #[must_use]
    pub fn looks(&self) -> bool {
        match self {
            Self::List(_) | Self::Show { .. } => true,
            Self::TargetList | Self::TargetShow { .. } => true,
            Self::Acknowledge { .. } | Self::Resolve { .. } => false,
            Self::TargetAdd(_) | Self::TargetDelete { .. } | Self::TargetTest { .. } => false,
        }
    }

    /// Whether it says where the cluster sends what it knows, and with which secrets.
    #[must_use]
    pub fn is_for_administrators(&self) -> bool {
        matches!(self, Self::TargetAdd(_) | Self::TargetDelete { .. })
    }
}

/// Which alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Those that are not over.
    #[default]
    Open,
    /// Those that are.
    Resolved,
    /// Both.
    All,
}

/// How much an alert matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// Good to know.
    Info,
    /// A person should know.
    Warning,
    /// A person should act.
    Critical,
}

crate::sort::orders! {
    /// An order of alerts.
    AlertSort: "id", "severity", "state", "kind", "entity", "seen";
}

/// Query of a list of alerts: the newest first, unless another order is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct AlertQuery {
    /// Which; nothing: those that are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub state: Option<AlertState>,
    /// Only of this severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub severity: Option<AlertSeverity>,
    /// Only of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only about this, such as `node/node-3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// To go on: `next` of the page before. Without `sort`, only alerts with a smaller id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Another order than `-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub sort: Option<AlertSort>,
    /// Alerts in the answer at most, 1 to 800; nothing: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What is said of an alert that is acknowledged or resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AlertNote {
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Who has acknowledged or resolved an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertMarkAnswer {
    /// Who; nothing: its cause is gone.
    pub by: Option<String>,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// What was said.
    pub note: Option<String>,
}

/// An alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertAnswer {
    /// Its number: greater than that of every alert raised earlier.
    pub id: u64,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What kind: see docs/operating/alerts.md.
    pub kind: String,
    /// What it is about, such as `node/node-3`, `store/4`, `volume/db` or `cluster`.
    pub entity: String,
    /// What is wrong.
    pub cause: String,
    /// What follows from it.
    pub impact: String,
    /// What to do about it.
    pub remedy: String,
    /// `open`, `acknowledged` or `resolved`.
    pub state: String,
    /// Since when, Unix milliseconds.
    pub raised_ms: u64,
    /// When it was last found to be so, Unix milliseconds, within a minute or so.
    pub seen_ms: u64,
    /// Whether it stays until somebody resolves it.
    #[serde(default)]
    pub by_hand: bool,
    /// Who has seen it.
    #[serde(default)]
    pub acknowledged: Option<AlertMarkAnswer>,
    /// When it ended, and by whom.
    #[serde(default)]
    pub resolved: Option<AlertMarkAnswer>,
}

/// Open alerts by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertCountsAnswer {
    /// Critical ones.
    pub critical: u32,
    /// Warnings.
    pub warning: u32,
    /// The others.
    pub info: u32,
}

/// Open alerts of one kind, for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertKindFigures {
    /// The kind.
    pub kind: String,
    /// How many.
    pub open: AlertCountsAnswer,
}

/// Alerts, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertsAnswer {
    /// All that are open, whatever was asked for.
    pub open: AlertCountsAnswer,
    /// The alerts.
    pub alerts: Vec<AlertAnswer>,
    /// What to ask for with `before` to go on; nothing: there are no more.
    #[serde(default)]
    pub next: Option<u64>,
}

/// How alerts get somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// A `POST` for each change.
    Webhook,
    /// A mail for each change.
    Mail,
    /// Everything that is open, again and again, to Prometheus' Alertmanager.
    Alertmanager,
}

impl TargetKind {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mail => "mail",
            Self::Alertmanager => "alertmanager",
        }
    }
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum MailSecurityName {
    /// After `STARTTLS`, or not sent at all.
    #[default]
    Starttls,
    /// From the first byte on.
    Tls,
    /// Not: only without a password.
    None,
}

impl MailSecurityName {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Tls => "tls",
            Self::None => "none",
        }
    }
}

/// Somebody who is told of alerts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AlertTargetSpec {
    /// Unique name.
    pub name: String,
    /// How.
    pub kind: TargetKind,
    /// Of alerts that matter as much as this, or more; nothing: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<AlertSeverity>,
    /// Of a webhook or an Alertmanager, `http://` or `https://`. Of an Alertmanager what is before `/api/v2`. It is not shown again
    /// but for scheme, host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Certificates (PEM) of whom to believe instead of those whom the system believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Of a webhook: key of the signature in `x-azekura-signature`. It is not shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Of mail: the server, `host` or `host:port`; 587 with `starttls`, 465 with `tls`, else 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Of mail: how the connection is encrypted; nothing: `starttls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<MailSecurityName>,
    /// Of mail or an Alertmanager: who logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With what. It is not shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Of mail: address of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Of mail: addresses of the receivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
}

impl AlertTargetSpec {
    /// A target with nothing but what each has.
    #[must_use]
    pub fn new(name: &str, kind: TargetKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            minimum: None,
            url: None,
            ca: None,
            secret: None,
            server: None,
            security: None,
            user: None,
            password: None,
            from: None,
            to: Vec::new(),
        }
    }
}

impl fmt::Debug for AlertTargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets stay out of logs; an address may be one.
        f.debug_struct("AlertTargetSpec")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Somebody who is told, without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertTargetAnswer {
    /// Unique name.
    pub name: String,
    /// `webhook`, `mail` or `alertmanager`.
    pub kind: String,
    /// `info`, `warning` or `critical`: what matters less is not told.
    pub minimum: String,
    /// Where: scheme, host and port, or the mail server.
    pub address: String,
    /// Of mail: `starttls`, `tls` or `none`.
    #[serde(default)]
    pub security: Option<String>,
    /// Whether it has certificates of its own to believe.
    #[serde(default)]
    pub own_ca: bool,
    /// Whether what is sent is signed.
    #[serde(default)]
    pub signed: bool,
    /// Who logs in.
    #[serde(default)]
    pub user: Option<String>,
    /// Address of the sender.
    #[serde(default)]
    pub from: Option<String>,
    /// Addresses of the receivers.
    #[serde(default)]
    pub to: Vec<String>,
    /// Since when it is told, Unix milliseconds.
    pub created_ms: u64,
    /// When something was delivered last, Unix milliseconds.
    #[serde(default)]
    pub delivered_ms: Option<u64>,
    /// Changes that it has not been told of yet.
    #[serde(default)]
    pub waiting: u64,
    /// Changes that were forgotten before they could be delivered.
    #[serde(default)]
    pub missed: u64,
    /// Attempts that failed since the last delivery.
    #[serde(default)]
    pub failures: u32,
    /// When the first of them was, Unix milliseconds.
    #[serde(default)]
    pub failing_ms: Option<u64>,
    /// Why the last one failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Version of what can be changed in it, for a change on top of that; absent: not known at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;

    #[test]
    fn operations_on_alerts_travel_as_they_are() {
        let mut spec = AlertTargetSpec::new("pager", TargetKind::Webhook);
        (spec.url, spec.secret) = (
            Some("https://pager.test/x".to_owned()),
            Some("hush".to_owned()),
        );
        let all = [
            AlertOperation::List(AlertQuery {
                state: Some(AlertState::All),
                severity: Some(AlertSeverity::Critical),
                kind: Some("node-lost".to_owned()),
                entity: Some("node/a".to_owned()),
                before: Some(7),
                limit: Some(3),
                sort: None,
            }),
            AlertOperation::Show { id: 7 },
            AlertOperation::Acknowledge {
                id: 7,
                note: Some("on it".to_owned()),
                by: "user a".to_owned(),
            },
            AlertOperation::Resolve {
                id: 7,
                note: None,
                by: "user a".to_owned(),
            },
            AlertOperation::TargetList,
            AlertOperation::TargetShow {
                name: "pager".to_owned(),
            },
            AlertOperation::TargetAdd(spec),
            AlertOperation::TargetDelete {
                name: "pager".to_owned(),
            },
            AlertOperation::TargetTest {
                name: "pager".to_owned(),
            },
        ];
        for one in all {
            let name = one.name();
            let operation = Operation::Alert(one);
            assert_eq!(operation.name(), name);
            let text = serde_json::to_string(&operation).expect("plain data");
            let read: Operation = serde_json::from_str(&text).expect(&text);
            assert_eq!(read, operation, "{text}");
        }
    }

    #[test]
    fn a_target_that_is_printed_shows_no_secret() {
        let mut spec = AlertTargetSpec::new("pager", TargetKind::Mail);
        spec.password = Some("hush".to_owned());
        assert!(!format!("{spec:?}").contains("hush"));
    }

    #[test]
    fn unknown_fields_of_a_target_are_refused() {
        let text = r#"{"name":"a","kind":"webhook","url":"http://b","colour":"red"}"#;
        assert!(serde_json::from_str::<AlertTargetSpec>(text).is_err());
    }
}
