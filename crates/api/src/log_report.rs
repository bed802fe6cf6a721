//! Lines of programs that are no nodes, told to a node: of the CSI driver, and of the processes that attach volumes for it.
//!
//! The node keeps them apart from its own: each has a [`LogOrigin`], whose `by` comes from what the request shows and never from
//! what it says.

use crate::http::BODY_BYTES_MAX;
use crate::logs::LogLevel;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lines of one report at most. It also has to fit the body of a request.
pub const REPORT_LINES_MAX: usize = 256;
/// Bytes of the lines of one report in JSON, so that the rest of its body fits, too.
pub const REPORT_LINES_BYTES_MAX: usize = BODY_BYTES_MAX - (8 << 10);
/// Longest message or value of a line that is told, in bytes.
pub const TOLD_VALUE_BYTES_MAX: usize = 4096;
/// Longest name of a field, and of the part of a program, in bytes.
pub const TOLD_NAME_BYTES_MAX: usize = 128;
/// Fields of a line that is told.
pub const TOLD_FIELDS_MAX: usize = 32;
/// Longest name of a host, in bytes: names of Kubernetes nodes are as long.
const HOST_BYTES_MAX: usize = 253;

/// A program that is no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LogComponent {
    /// `azekura csi controller`.
    CsiController,
    /// `azekura csi node`.
    CsiNode,
    /// `azekura attach`, which serves one volume as a block device.
    Attach,
}

impl LogComponent {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CsiController => "csi-controller",
            Self::CsiNode => "csi-node",
            Self::Attach => "attach",
        }
    }
}

/// Where a line comes from that is none of a node's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogOrigin {
    /// Which program, as it says itself.
    pub component: LogComponent,
    /// On which machine, as it says itself.
    pub host: String,
    /// Who told it: the token or the certificate of the request.
    pub by: String,
}

/// Between the name of a teller and its mark.
const MARK: &str = " #";

/// What nodes know a teller by: its name, and a mark that no other one of that name has. People are shown the name:
/// [`LogOrigin::show_name`].
#[must_use]
pub fn teller(name: &str, mark: &str) -> String {
    format!("{name}{MARK}{mark}")
}

impl LogOrigin {
    /// Leaves the name of the teller, for people.
    pub fn show_name(&mut self) {
        if let Some(end) = self.by.rfind(MARK) {
            self.by.truncate(end);
        }
    }
}

/// A line that is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    /// Which program.
    pub component: LogComponent,
    /// When, in Unix milliseconds by that machine's clock. What lies in the future is taken for now.
    pub at_ms: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// Which part of the program: at most 128 bytes.
    pub target: String,
    /// What happened: at most 4096 bytes.
    pub message: String,
    /// About what: at most 32, with names of at most 128 bytes and values of at most 4096.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// Shortens a text to the bytes that are told of it.
fn cut(text: &mut String, bytes_max: usize) {
    const MARK: char = '…';
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - MARK.len_utf8()));
        text.push(MARK);
    }
}

impl LogEntry {
    /// As much of it as is told: the values of what is too long are cut, fields beyond the bound left out.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        cut(&mut self.target, TOLD_NAME_BYTES_MAX);
        cut(&mut self.message, TOLD_VALUE_BYTES_MAX);
        self.fields
            .retain(|name, _| name.len() <= TOLD_NAME_BYTES_MAX);
        while self.fields.len() > TOLD_FIELDS_MAX {
            self.fields.pop_last();
        }
        for value in self.fields.values_mut() {
            cut(value, TOLD_VALUE_BYTES_MAX);
        }
        self
    }

    fn problem(&self) -> Option<String> {
        let names = self.fields.keys().chain([&self.target]);
        if let Some(long) = names
            .into_iter()
            .find(|name| name.len() > TOLD_NAME_BYTES_MAX)
        {
            let bytes = long.len();
            return Some(format!(
                "a name in a line has {bytes} bytes: at most {TOLD_NAME_BYTES_MAX} are kept"
            ));
        }
        let values = self.fields.values().chain([&self.message]);
        if let Some(long) = values
            .into_iter()
            .find(|text| text.len() > TOLD_VALUE_BYTES_MAX)
        {
            let bytes = long.len();
            return Some(format!(
                "a text in a line has {bytes} bytes: at most {TOLD_VALUE_BYTES_MAX} are kept"
            ));
        }
        let many = self.fields.len();
        (many > TOLD_FIELDS_MAX)
            .then(|| format!("a line has {many} fields: at most {TOLD_FIELDS_MAX} are kept"))
    }
}

/// Lines of the programs of one machine. To tell the same again is safe: a node that has a line of that very time and text from
/// the same program and machine keeps it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LogReport {
    /// The machine.
    pub host: String,
    /// The program that tells.
    pub component: LogComponent,
    /// At most 256.
    #[serde(default)]
    pub lines: Vec<LogEntry>,
    /// Lines since the last report that found no place with the teller.
    #[serde(default)]
    pub lost: u64,
}

impl LogReport {
    /// What is wrong with it, for people.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let known = (1..=HOST_BYTES_MAX).contains(&self.host.len()) && self.host.bytes().all(good);
        if !known {
            return Some(format!(
                "`host` is the name of a machine: 1 to {HOST_BYTES_MAX} letters, digits, `-`, `_` and `.`"
            ));
        }
        let many = self.lines.len();
        if many > REPORT_LINES_MAX {
            return Some(format!(
                "the report has {many} lines: send at most {REPORT_LINES_MAX}, and the others in another one"
            ));
        }
        self.lines.iter().find_map(LogEntry::problem)
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogReportAnswer {
    /// Lines that the node did not have before.
    pub kept: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> LogEntry {
        LogEntry {
            component: LogComponent::Attach,
            at_ms: 5,
            level: LogLevel::Info,
            target: "client".to_owned(),
            message: "opened".to_owned(),
            fields: BTreeMap::new(),
        }
    }

    fn report(lines: Vec<LogEntry>) -> LogReport {
        LogReport {
            host: "worker-1".to_owned(),
            component: LogComponent::CsiNode,
            lines,
            lost: 0,
        }
    }

    #[test]
    fn people_see_the_name_of_a_teller_and_nodes_tell_two_of_a_name_apart() {
        assert_ne!(teller("token t", "a1"), teller("token t", "b2"));
        for (by, wanted) in [
            (teller("token t", "a1"), "token t"),
            (teller("token a #b", "a1"), "token a #b"),
            ("token t".to_owned(), "token t"),
        ] {
            let mut origin = LogOrigin {
                component: LogComponent::Attach,
                host: "w".to_owned(),
                by,
            };
            origin.show_name();
            assert_eq!(origin.by, wanted);
        }
    }

    #[test]
    fn reports_beyond_a_bound_are_refused_and_bounded_lines_are_not() {
        assert_eq!(report(vec![entry(); REPORT_LINES_MAX]).problem(), None);
        let many = report(vec![entry(); REPORT_LINES_MAX + 1]);
        assert!(many.problem().is_some_and(|text| text.contains("257")));
        for host in ["", "a/b", "node 1", &"x".repeat(254)] {
            let odd = LogReport {
                host: host.to_owned(),
                ..report(Vec::new())
            };
            assert!(odd.problem().is_some(), "{host}");
        }
        let long = "ä".repeat(3000);
        let fields = |many: usize, name: &str| {
            let names = (0..many).map(|number| format!("{name}{number}"));
            names.map(|name| (name, long.clone())).collect()
        };
        let odd = [
            LogEntry {
                message: long.clone(),
                ..entry()
            },
            LogEntry {
                target: long.clone(),
                ..entry()
            },
            LogEntry {
                fields: fields(1, "value"),
                ..entry()
            },
            LogEntry {
                fields: fields(1, &long),
                ..entry()
            },
            LogEntry {
                fields: fields(33, "f"),
                ..entry()
            },
        ];
        for line in odd {
            assert!(report(vec![line.clone()]).problem().is_some(), "{line:?}");
            assert_eq!(report(vec![line.bounded()]).problem(), None);
        }
    }
}
