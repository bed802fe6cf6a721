//! The recent lines of the nodes' logs, and of those that others told them (`log_report.rs`): which are wanted, and what they say.

use crate::log_report::LogOrigin;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Lines of one answer when nothing is said.
pub const LOGS_DEFAULT: u32 = 200;
/// Most lines of one answer.
pub const LOGS_LIMIT_MAX: u32 = 2000;
/// Longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// How much a line matters: the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something did not work, and somebody should look.
    Error,
    /// Something is odd.
    Warn,
    /// What an operator may want to know.
    Info,
    /// What a developer may want to know.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Which lines: all conditions hold of each. The newest are answered when there are more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// Only lines of this node's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Only lines that matter as much as this, or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub level: Option<LogLevel>,
    /// Only lines about this volume: its name, or `volume-` and its id. Also one that was deleted, as long as its task is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Only lines about this task: those of the request that began it, and of what it is about while it was open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// Only lines of this request, as `x-request-id` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Only lines with this text in their message, target, fields, or the program and machine that they come from; upper and lower case are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Only lines from this time on, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Only lines before this time, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Lines in the answer at most, 1 to 2000; nothing: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only lines that this one told: of a driver, which sees no others. Set from what a request shows, never by a client.
    #[serde(skip)]
    pub by: Option<String>,
}

impl LogQuery {
    /// What is wrong with it, for people.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if !(1..=LOGS_LIMIT_MAX).contains(&self.limit.unwrap_or(LOGS_DEFAULT)) {
            return Some(format!("`limit` of lines is 1 to {LOGS_LIMIT_MAX}"));
        }
        if self.from.zip(self.to).is_some_and(|(from, to)| from >= to) {
            return Some("`from` must be before `to`".to_owned());
        }
        let texts = [&self.node, &self.volume, &self.request, &self.text];
        let long = texts
            .into_iter()
            .flatten()
            .any(|text| text.len() > TEXT_BYTES_MAX);
        long.then(|| format!("what is looked for has at most {TEXT_BYTES_MAX} bytes"))
    }
}

/// A value that a line may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogField {
    /// Name of the field.
    pub name: String,
    /// Its value, as it is written.
    pub value: String,
}

/// What one node is asked for: a query whose names have become values of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsPart {
    /// Of the query.
    pub level: Option<LogLevel>,
    /// Of each of these lists a line has at least one.
    pub fields: Vec<Vec<LogField>>,
    /// Of the query, in lower case.
    pub text: Option<String>,
    /// Of the query; 0: none.
    pub from: u64,
    /// Of the query; nothing: none.
    pub to: Option<u64>,
    /// Of the query.
    pub limit: u32,
    /// Only lines of the node's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// Lines that others told, too: who does not ask for them is of a release that would take them for the node's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// Only lines that this one told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl LogsPart {
    /// Whether a line is one of those.
    #[must_use]
    pub fn wants(&self, line: &LogLineAnswer) -> bool {
        let has = |field: &LogField| line.fields.get(&field.name) == Some(&field.value);
        let says = |part: &str, text: &str| part.to_lowercase().contains(text);
        let mentions = |text: &String| {
            let fields = line.fields.iter();
            let mut parts = fields.flat_map(|(name, value)| [name, value]);
            let origin = line.origin.as_ref();
            let from = |origin: &LogOrigin| {
                says(&origin.host, text) || says(origin.component.name(), text)
            };
            says(&line.message, text)
                || origin.is_some_and(from)
                || says(&line.target, text)
                || parts.any(|part| says(part, text))
        };
        let told = |by: &String| line.origin.as_ref().is_some_and(|one| one.by == *by);
        line.at_ms >= self.from
            && (line.origin.is_none() || (self.told && !self.own))
            && self.by.as_ref().is_none_or(told)
            && self.to.is_none_or(|to| line.at_ms < to)
            && self.level.is_none_or(|level| line.level <= level)
            && self.fields.iter().all(|any| any.iter().any(has))
            && self.text.as_ref().is_none_or(mentions)
    }
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLineAnswer {
    /// The node that has it: whose log it is of, unless it has an origin.
    pub node: String,
    /// Its number there since the node's process began.
    pub number: u64,
    /// When, in Unix milliseconds by the clock of where it comes from.
    pub at_ms: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// Which part of the program.
    pub target: String,
    /// What happened.
    pub message: String,
    /// About what: such as `volume`, `task`, `request`, `error`.
    pub fields: BTreeMap<String, String>,
    /// Who told the node of it; nothing: it is the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<LogOrigin>,
}

/// Lines, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogsAnswer {
    /// The newest of those that were asked for.
    pub lines: Vec<LogLineAnswer>,
    /// Whether there are older ones, too.
    pub more: bool,
    /// Since when all nodes that answered have every line, in Unix milliseconds: since they started, or since what did not fit
    /// any more.
    pub since_ms: u64,
    /// Nodes that did not answer.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// Lines of a node whose clock is behind by less are seen by those who follow, too.
const SKEW_MS: u64 = 5_000;

/// What somebody who follows lines has seen of the last few seconds.
#[derive(Clone, Debug, Default)]
pub struct LogsSeen {
    from_ms: u64,
    newest_ms: u64,
    lines: BTreeSet<(u64, String, u64)>,
}

impl LogsSeen {
    /// Lines since this time are wanted, in Unix milliseconds.
    #[must_use]
    pub fn from(from_ms: u64) -> Self {
        Self {
            from_ms,
            newest_ms: from_ms,
            lines: BTreeSet::new(),
        }
    }

    /// Lines up to this time were seen before, it is not known which.
    #[must_use]
    pub fn until(newest_ms: u64) -> Self {
        Self {
            newest_ms,
            ..Self::default()
        }
    }

    /// Since when lines are to be asked for, in Unix milliseconds.
    #[must_use]
    pub fn from_ms(&self) -> u64 {
        self.newest_ms.saturating_sub(SKEW_MS).max(self.from_ms)
    }

    /// The time of the newest that was seen.
    #[must_use]
    pub fn newest_ms(&self) -> u64 {
        self.newest_ms
    }

    /// Those that were not there before.
    pub fn new_ones(&mut self, lines: Vec<LogLineAnswer>) -> Vec<LogLineAnswer> {
        let mut fresh = lines;
        fresh.retain(|line| {
            let place = (line.at_ms, line.node.clone(), line.number);
            self.lines.insert(place)
        });
        let newest = fresh.iter().map(|line| line.at_ms).max();
        self.newest_ms = self.newest_ms.max(newest.unwrap_or(0));
        let old = self.newest_ms.saturating_sub(2 * SKEW_MS);
        self.lines.retain(|(at_ms, ..)| *at_ms >= old);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &[(&str, &str)]) -> LogLineAnswer {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        LogLineAnswer {
            node: "a".to_owned(),
            number: 7,
            at_ms: 1000,
            level: LogLevel::Warn,
            target: "node::volumes".to_owned(),
            message: "Not opened".to_owned(),
            fields: fields.iter().map(owned).collect(),
            origin: None,
        }
    }

    fn field(name: &str, value: &str) -> LogField {
        LogField {
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn all_conditions_hold_and_one_of_each_list_of_fields() {
        let about = line(&[("volume", "db"), ("request", "r1")]);
        let asked = LogsPart {
            fields: vec![
                vec![field("volume", "volume-3"), field("volume", "db")],
                vec![field("request", "r1")],
            ],
            ..LogsPart::default()
        };
        assert!(asked.wants(&about));
        assert!(!asked.wants(&line(&[("volume", "db")])), "no request");
        assert!(!asked.wants(&line(&[("volume", "db2"), ("request", "r1")])));
        let cases = [
            (
                LogsPart {
                    from: 1000,
                    to: Some(1001),
                    ..LogsPart::default()
                },
                true,
            ),
            (
                LogsPart {
                    from: 1001,
                    ..LogsPart::default()
                },
                false,
            ),
            (
                LogsPart {
                    to: Some(1000),
                    ..LogsPart::default()
                },
                false,
            ),
            (
                LogsPart {
                    level: Some(LogLevel::Info),
                    ..LogsPart::default()
                },
                true,
            ),
            (
                LogsPart {
                    level: Some(LogLevel::Error),
                    ..LogsPart::default()
                },
                false,
            ),
            (
                LogsPart {
                    text: Some("opened".to_owned()),
                    ..LogsPart::default()
                },
                true,
            ),
            (
                LogsPart {
                    text: Some("::vol".to_owned()),
                    ..LogsPart::default()
                },
                true,
            ),
            (
                LogsPart {
                    text: Some("r1".to_owned()),
                    ..LogsPart::default()
                },
                true,
            ),
            (
                LogsPart {
                    text: Some("closed".to_owned()),
                    ..LogsPart::default()
                },
                false,
            ),
        ];
        for (part, wanted) in cases {
            assert_eq!(part.wants(&about), wanted, "{part:?}");
        }
    }

    #[test]
    fn lines_that_were_told_are_found_by_their_origin_and_are_no_nodes_own() {
        let told = LogLineAnswer {
            origin: Some(LogOrigin {
                component: crate::LogComponent::CsiNode,
                host: "worker-1".to_owned(),
                by: "token prod".to_owned(),
            }),
            ..line(&[])
        };
        let text = |text: &str| LogsPart {
            text: Some(text.to_owned()),
            told: true,
            ..LogsPart::default()
        };
        let by = |by: &str| LogsPart {
            by: Some(by.to_owned()),
            told: true,
            ..LogsPart::default()
        };
        let own = LogsPart {
            own: true,
            told: true,
            ..LogsPart::default()
        };
        assert!(text("worker-1").wants(&told) && text("csi-n").wants(&told));
        assert!(by("token prod").wants(&told) && !by("token other").wants(&told));
        assert!(!by("token prod").wants(&line(&[])), "a node's own");
        assert!(own.wants(&line(&[])) && !own.wants(&told));
        let older = r#"{"level":null,"fields":[],"text":null,"from":0,"to":null,"limit":9}"#;
        let older: LogsPart = serde_json::from_str(older).expect("an older one");
        assert!(older.wants(&line(&[])) && !older.wants(&told));
    }

    #[test]
    fn queries_that_make_no_sense_are_named() {
        let limit = |limit| LogQuery {
            limit: Some(limit),
            ..LogQuery::default()
        };
        assert_eq!(LogQuery::default().problem(), None);
        assert!(limit(0).problem().is_some() && limit(2001).problem().is_some());
        let turned = LogQuery {
            from: Some(2),
            to: Some(2),
            ..LogQuery::default()
        };
        assert!(turned.problem().is_some());
        let long = LogQuery {
            text: Some("x".repeat(257)),
            ..LogQuery::default()
        };
        assert!(long.problem().is_some());
    }

    #[test]
    fn followers_see_each_line_once_and_late_ones_too() {
        let entry = |number, at_ms| LogLineAnswer {
            number,
            at_ms,
            ..line(&[])
        };
        let mut seen = LogsSeen::default();
        let first = seen.new_ones(vec![entry(1, 10_000), entry(3, 11_000)]);
        assert_eq!((first.len(), seen.from_ms()), (2, 6_000));
        let then = seen.new_ones(vec![entry(2, 10_500), entry(3, 11_000), entry(4, 40_000)]);
        let numbers: Vec<u64> = then.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [2, 4]);
        assert_eq!((seen.newest_ms(), seen.lines.len()), (40_000, 1));
        assert_eq!(LogsSeen::from(9_000).from_ms(), 9_000);
        assert_eq!(LogsSeen::until(9_000).from_ms(), 4_000);
    }
}
