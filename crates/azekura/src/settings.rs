//! `azekura cluster settings`: what the nodes run with.

use crate::cli::SettingListArgs;
use crate::output::{Table, bytes, columns, time};
use crate::verbs::{Console, Shown};
use api::SettingAnswer;
use api::http::path;
use std::collections::BTreeMap;

impl Console<'_> {
    /// `cluster settings`.
    pub fn settings(&self, page: &SettingListArgs) -> Shown {
        let path = page.path(path(&["settings"]));
        self.show::<Vec<SettingAnswer>>(self.remote.get(&path))
    }
}

/// A value as a configuration has it.
fn value_of(setting: &SettingAnswer) -> String {
    let value = setting.value;
    match setting.unit.as_str() {
        "percent" => format!("{value} %"),
        "milliseconds" => duration(value),
        "bytes" => bytes(value),
        "bytes-per-second" => format!("{}/s", bytes(value)),
        "unix-milliseconds" => time(value),
        _ => value.to_string(),
    }
}

/// In the largest unit that a configuration knows and that divides it.
fn duration(ms: u64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let whole = units
        .iter()
        .find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    whole.map_or_else(
        || format!("{ms} ms"),
        |(unit, name)| format!("{} {name}", ms / unit),
    )
}

impl Table for Vec<SettingAnswer> {
    /// One line for each value: the nodes that have it.
    fn table(&self) -> String {
        let mut lines: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
        for setting in self {
            let line = lines.entry((&setting.key, value_of(setting)));
            line.or_default().push(&setting.node);
        }
        let row = |((key, value), nodes): ((&str, String), Vec<&str>)| {
            vec![key.to_owned(), value, nodes.join(", ")]
        };
        let rows: Vec<_> = lines.into_iter().map(row).collect();
        columns(&["SETTING", "VALUE", "NODES"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_agree_share_a_line() {
        let setting = |key: &str, node: &str, value, unit: &str| SettingAnswer {
            key: key.to_owned(),
            node: node.to_owned(),
            value,
            unit: unit.to_owned(),
        };
        let table = vec![
            setting("lease", "a", 2000, "milliseconds"),
            setting("lease", "b", 2500, "milliseconds"),
            setting("scrub-interval", "a", 604_800_000, "milliseconds"),
            setting("scrub-rate", "a", 8 << 20, "bytes-per-second"),
            setting("space-warning-percent", "a", 75, "percent"),
            setting("space-warning-percent", "b", 75, "percent"),
            setting(
                "tls.certificate",
                "a",
                1_764_201_600_000,
                "unix-milliseconds",
            ),
        ]
        .table();
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(lines[1], ["lease", "2 s", "a"]);
        assert_eq!(lines[2], ["lease", "2500 ms", "b"]);
        assert_eq!(lines[3], ["scrub-interval", "7 d", "a"]);
        assert_eq!(lines[4], ["scrub-rate", "8 MiB/s", "a"]);
        assert_eq!(lines[5], ["space-warning-percent", "75 %", "a, b"]);
        assert_eq!(lines[6], ["tls.certificate", "2025-11-27 00:00:00Z", "a"]);
    }
}
