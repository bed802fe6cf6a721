//! The verbs that say what clients do: over time, and now.

use crate::cli::{BusyOrder, Form, MetricsVerb, QueryArgs, TopArgs};
use crate::output::{CLEAR, Table, bytes, columns, render, say, time};
use crate::remote::RemoteError;
use crate::verbs::{Console, Shown, query};
use api::http::path;
use api::{BusiestAnswer, Figure, MetricsAnswer, RatesAnswer, SeriesAnswer};
use std::io::IsTerminal;
use std::time::Duration;

/// Pause between two looks of `top`: figures are new every 15 s.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

impl Console<'_> {
    /// `metrics ...`.
    pub fn metrics(&self, verb: &MetricsVerb) -> Shown {
        match verb {
            MetricsVerb::Export => self.remote.text("/metrics"),
            MetricsVerb::Query(arguments) => self.query_metrics(arguments),
            MetricsVerb::Busiest { by, limit } => {
                self.show::<BusiestAnswer>(self.busiest(*by, *limit))
            }
        }
    }

    fn query_metrics(&self, arguments: &QueryArgs) -> Shown {
        let mut text = path(&["metrics", "query"]);
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 asks for what the node takes when nothing is said.
        let from = now
            .as_ref()
            .ok()
            .map(|now| now.saturating_sub(arguments.last).as_millis());
        let to = arguments
            .to
            .and_then(|to| Some(now.as_ref().ok()?.saturating_sub(to).as_millis()));
        let step = arguments.step.map(|step| step.as_secs());
        query(
            &mut text,
            &[
                ("entity", Some(&arguments.entity)),
                ("metric", Some(&arguments.metric)),
                ("from", from.map(|from| from.to_string()).as_deref()),
                ("to", to.map(|to| to.to_string()).as_deref()),
                ("step", step.map(|step| step.to_string()).as_deref()),
            ],
        );
        self.show::<MetricsAnswer>(self.remote.get(&text))
    }

    fn busiest(&self, by: BusyOrder, limit: u32) -> Result<BusiestAnswer, RemoteError> {
        let mut text = path(&["metrics", "busiest"]);
        let limit = limit.to_string();
        query(
            &mut text,
            &[("by", Some(by.name())), ("limit", Some(&limit))],
        );
        self.remote.get(&text)
    }

    /// `top`.
    pub fn top(&self, arguments: &TopArgs) -> Shown {
        let look = || self.busiest(arguments.by, arguments.limit);
        if arguments.once || self.form != Form::Table {
            return self.show::<BusiestAnswer>(look());
        }
        let out = std::io::stdout();
        let clear = if out.is_terminal() { CLEAR } else { "" };
        let mut seen = None;
        loop {
            let answer = look()?;
            if seen != Some(answer.at_ms) {
                seen = Some(answer.at_ms);
                let text = format!("{clear}{}\n", render(&answer, self.form));
                if !say(&text) {
                    return Ok(String::new());
                }
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn count(figure: Figure) -> String {
    match figure.0 {
        small if small < 9.95 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    }
}

fn per_second(figure: Figure) -> String {
    // Rates of bytes are far below 2^53.
    format!("{}/s", bytes(figure.0.max(0.0) as u64))
}

fn micros(figure: Option<Figure>) -> String {
    match figure.map(|figure| figure.0) {
        None => "-".to_owned(),
        Some(us) if us < 1000.0 => format!("{us:.0} µs"),
        Some(us) if us < 1_000_000.0 => format!("{:.1} ms", us / 1000.0),
        Some(us) => format!("{:.1} s", us / 1_000_000.0),
    }
}

/// Heads of [`rates`].
const RATES: [&str; 7] = [
    "IOPS", "READS", "WRITES", "READ", "WRITTEN", "LATENCY", "99 %",
];

fn rates(rates: &RatesAnswer) -> [String; 7] {
    [
        count(rates.iops),
        count(rates.read_iops),
        count(rates.write_iops),
        per_second(rates.read_bandwidth),
        per_second(rates.write_bandwidth),
        micros(rates.latency_us),
        micros(rates.latency_p99_us),
    ]
}

/// Nodes whose figures are missing, as a line; nothing when there are none.
fn missing(silent: &[String]) -> String {
    match silent.is_empty() {
        true => String::new(),
        false => format!("no answer from: {}\n", silent.join(", ")),
    }
}

impl Table for BusiestAnswer {
    fn table(&self) -> String {
        if self.at_ms == 0 {
            return format!(
                "no figures yet: they come every 15 seconds\n{}",
                missing(&self.silent)
            );
        }
        let node = |node: &api::BusyNodeAnswer| {
            let cpu = node.cpu_percent.map(|cpu| format!("{:.0}%", cpu.0));
            let memory = node.resident.map(bytes);
            let first = [
                node.name.clone(),
                cpu.unwrap_or_else(|| "-".to_owned()),
                memory.unwrap_or_else(|| "-".to_owned()),
                node.volumes.to_string(),
            ];
            [&first[..], &rates(&node.rates)[..]].concat()
        };
        let owner = |id: u32| {
            let node = self.nodes.iter().find(|node| node.id == id);
            node.map_or_else(|| format!("node-{id}"), |node| node.name.clone())
        };
        let volume = |volume: &api::BusyVolumeAnswer| {
            let first = [
                volume.name.clone(),
                volume.container.clone(),
                owner(volume.owner),
            ];
            [&first[..], &rates(&volume.rates)[..]].concat()
        };
        let nodes: Vec<Vec<String>> = self.nodes.iter().map(node).collect();
        let volumes: Vec<Vec<String>> = self.volumes.iter().map(volume).collect();
        let mut text = format!("the 15 seconds before {}\n\n", time(self.at_ms));
        let head = ["NODE", "CPU", "MEMORY", "VOLUMES"];
        text += &columns(&[&head[..], &RATES[..]].concat(), &nodes);
        text += "\n";
        let head = ["VOLUME", "CONTAINER", "OWNER"];
        text += &columns(&[&head[..], &RATES[..]].concat(), &volumes);
        text + &missing(&self.silent)
    }
}

/// A value in its unit.
fn value(series: &SeriesAnswer, at: usize) -> String {
    let Some(figure) = series.values.get(at).copied().flatten() else {
        return "-".to_owned();
    };
    match series.unit.as_str() {
        "bytes-per-second" => per_second(figure),
        "bytes" => bytes(figure.0.max(0.0) as u64),
        "microseconds" => micros(Some(figure)),
        "percent" => format!("{:.1}%", figure.0),
        _ => count(figure),
    }
}

impl Table for MetricsAnswer {
    fn table(&self) -> String {
        let steps = self.series.iter().map(|series| series.values.len()).max();
        let row = |at: usize| {
            let begin = self.from_ms + at as u64 * self.step * 1000;
            let values = self.series.iter().map(|series| value(series, at));
            std::iter::once(time(begin)).chain(values).collect()
        };
        let rows: Vec<Vec<String>> = (0..steps.unwrap_or(0)).map(row).collect();
        let names = self.series.iter().map(|series| series.metric.as_str());
        let head: Vec<&str> = std::iter::once("TIME").chain(names).collect();
        columns(&head, &rows) + &missing(&self.silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{BusyNodeAnswer, BusyVolumeAnswer};

    #[test]
    fn figures_are_for_people() {
        assert_eq!(count(Figure(3.25)), "3.2");
        assert_eq!(count(Figure(1234.6)), "1235");
        assert_eq!(per_second(Figure(4096.0)), "4 KiB/s");
        assert_eq!(micros(Some(Figure(850.0))), "850 µs");
        assert_eq!(micros(Some(Figure(1250.0))), "1.2 ms");
        assert_eq!(micros(None), "-");
    }

    #[test]
    fn nodes_and_volumes_are_tables_and_silent_nodes_are_named() {
        let none = BusiestAnswer::default().table();
        assert!(none.contains("no figures yet"), "{none}");
        let text = BusiestAnswer {
            at_ms: 1000,
            nodes: vec![BusyNodeAnswer {
                id: 1,
                name: "a".to_owned(),
                cpu_percent: Some(Figure(12.4)),
                ..BusyNodeAnswer::default()
            }],
            volumes: vec![BusyVolumeAnswer {
                name: "db".to_owned(),
                owner: 1,
                ..BusyVolumeAnswer::default()
            }],
            silent: vec!["b".to_owned()],
        }
        .table();
        assert!(text.contains("12%") && text.contains("db"), "{text}");
        assert!(text.ends_with("no answer from: b\n"), "{text}");
    }

    #[test]
    fn steps_are_rows_and_what_is_not_known_is_a_dash() {
        let answer = MetricsAnswer {
            step: 60,
            series: vec![SeriesAnswer {
                metric: "mapped".to_owned(),
                unit: "bytes".to_owned(),
                values: vec![Some(Figure(4096.0)), None],
            }],
            ..MetricsAnswer::default()
        };
        let expected =
            "TIME                  mapped\n1970-01-01 00:00:00Z  4 KiB\n1970-01-01 00:01:00Z  -\n";
        assert_eq!(answer.table(), expected);
    }
}
