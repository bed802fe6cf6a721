//! The results as data and as Markdown, next to what must be reached.

use super::cost::Cost;
use crate::bench::report::goals::{self, Goal};
use crate::bench::report::{header, line, row_of};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Times of one call, or of several that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Time {
    /// The call.
    pub what: String,
    /// How many volumes there were.
    pub volumes: usize,
    /// How often it was done.
    pub count: usize,
    /// Milliseconds.
    pub median_ms: f64,
    /// The smallest that 99 of 100 do not exceed.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Operations per second of one job in both ways.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    pub job: String,
    /// On the published block device; the median.
    pub device: f64,
    /// Through NBD; the median.
    pub nbd: f64,
    /// Each run's, in this order.
    pub runs: [Vec<f64>; 2],
}

/// Many claims at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Crowd {
    /// How many were worked at.
    pub at_once: usize,
    /// How many there were.
    pub claims: usize,
    /// Until the last was mounted and writable.
    pub up_seconds: f64,
    /// From there until the last was deleted.
    pub down_seconds: f64,
    /// Of each claim.
    pub times: Vec<Time>,
}

/// Everything of one run of the benchmark.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    pub machine: Vec<(String, String)>,
    pub settings: Vec<(String, String)>,
    pub times: Vec<Time>,
    pub crowd: Option<Crowd>,
    pub cost: Option<Cost>,
    pub rates: Vec<Rate>,
    /// MiB resident in the process of a device after fio's jobs on it.
    pub busy_mib: Option<f64>,
}

/// Times that were measured, by call, in the order of the first of each.
#[derive(Default)]
pub struct Samples(Vec<(String, Vec<f64>)>);

impl Samples {
    /// Does something and notes how long it took.
    pub fn run<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let outcome = work()?;
        self.add(what, started);
        Ok(outcome)
    }

    /// Notes how long something took that began at `started` and has ended now.
    pub fn add(&mut self, what: &str, started: Instant) {
        let took = started.elapsed().as_secs_f64() * 1000.0;
        match self.0.iter_mut().find(|(known, _)| known == what) {
            Some((_, times)) => times.push(took),
            None => self.0.push((what.to_owned(), vec![took])),
        }
    }

    /// Adds those of another.
    pub fn join(&mut self, other: Self) {
        for (what, times) in other.0 {
            match self.0.iter_mut().find(|(known, _)| *known == what) {
                Some((_, all)) => all.extend(times),
                None => self.0.push((what, times)),
            }
        }
    }

    /// What they come to.
    pub fn times(self, volumes: usize) -> Vec<Time> {
        let time = |(what, mut times): (String, Vec<f64>)| {
            times.sort_by(f64::total_cmp);
            Time {
                what,
                volumes,
                count: times.len(),
                median_ms: rank(&times, 50),
                p99_ms: rank(&times, 99),
                max_ms: rank(&times, 100),
            }
        };
        self.0.into_iter().map(time).collect()
    }
}

/// The value that `percent` of all do not exceed, of sorted values.
fn rank(sorted: &[f64], percent: usize) -> f64 {
    let position = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(position - 1).copied().unwrap_or(0.0)
}

/// The results for people.
pub fn markdown(results: &Results) -> String {
    let mut out = String::new();
    for (what, value) in results.machine.iter().chain(&results.settings) {
        line(&mut out, &format!("- {what}: {value}"));
    }
    line(&mut out, "\n### What must be reached, CSI\n");
    goals::rows(&mut out, &goals_of(results));
    times(&mut out, results);
    crowd(&mut out, results);
    cost(&mut out, results);
    rates(&mut out, results);
    out
}

fn times(out: &mut String, results: &Results) {
    let mut scales: Vec<usize> = results.times.iter().map(|time| time.volumes).collect();
    scales.dedup();
    line(out, "\n### Calls of the driver (milliseconds)\n");
    let mut titles = vec!["call".to_owned()];
    for scale in &scales {
        let volumes = match scale {
            1 => "1 volume".to_owned(),
            _ => format!("{scale} volumes"),
        };
        titles.extend([
            format!("{volumes}: median"),
            "p99".to_owned(),
            "longest".to_owned(),
            "of".to_owned(),
        ]);
    }
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    header(out, &titles);
    let first = scales.first().copied().unwrap_or(0);
    for time in results.times.iter().filter(|time| time.volumes == first) {
        let mut row = vec![time.what.clone()];
        for scale in &scales {
            let same = |other: &&Time| other.what == time.what && other.volumes == *scale;
            match results.times.iter().find(same) {
                None => row.extend([
                    "-".to_owned(),
                    "-".to_owned(),
                    "-".to_owned(),
                    "0".to_owned(),
                ]),
                Some(time) => {
                    let tenths = |value: f64| format!("{value:.1}");
                    row.extend([time.median_ms, time.p99_ms, time.max_ms].map(tenths));
                    row.push(time.count.to_string());
                }
            }
        }
        row_of(out, &row);
    }
}

fn crowd(out: &mut String, results: &Results) {
    let Some(crowd) = &results.crowd else {
        return;
    };
    line(
        out,
        &format!(
            "\n### {} claims, {} at once\n\nAll are mounted and writable after {:.1} s, and gone {:.1} s later. Of each, \
             in milliseconds:\n",
            crowd.claims, crowd.at_once, crowd.up_seconds, crowd.down_seconds
        ),
    );
    header(out, &["what", "median", "p99", "longest", "of"]);
    for time in &crowd.times {
        let mut row = vec![time.what.clone()];
        row.extend([time.median_ms, time.p99_ms, time.max_ms].map(|ms| format!("{ms:.0}")));
        row.push(time.count.to_string());
        row_of(out, &row);
    }
}

fn cost(out: &mut String, results: &Results) {
    let Some(cost) = &results.cost else {
        return;
    };
    line(out, "\n### Attached and idle\n");
    header(out, &["what", "resident MiB", "percent of a core"]);
    let row = |what: String, memory: String, cpu: String| [what, memory, cpu];
    row_of(
        out,
        &row(
            format!("{} processes of attached volumes", cost.volumes),
            format!(
                "{:.1} each (largest {:.1}); {:.1} without what they share",
                cost.resident_mib.0, cost.resident_mib.1, cost.own_mib
            ),
            format!("{:.2} for all", cost.cpu_percent),
        ),
    );
    if let Some(busy) = results.busy_mib {
        let what = "the process of a volume after fio's jobs".to_owned();
        row_of(out, &row(what, format!("{busy:.1}"), "-".to_owned()));
    }
    row_of(
        out,
        &row(
            "controller and node of the driver".to_owned(),
            format!("{:.1} for both", cost.driver.1),
            format!("{:.2}", cost.driver.0),
        ),
    );
    row_of(
        out,
        &row(
            "a storage node (mean, and the busiest)".to_owned(),
            "-".to_owned(),
            format!(
                "{:.2} ({:.2})",
                cost.nodes_cpu_percent.0, cost.nodes_cpu_percent.1
            ),
        ),
    );
}

fn rates(out: &mut String, results: &Results) {
    if results.rates.is_empty() {
        return;
    }
    line(
        out,
        "\n### The block device against NBD (operations per second)\n",
    );
    header(
        out,
        &["job", "device", "NBD", "ratio", "runs: device", "runs: NBD"],
    );
    for rate in &results.rates {
        let list = |runs: &[f64]| {
            let runs: Vec<String> = runs.iter().map(|run| format!("{run:.0}")).collect();
            runs.join(", ")
        };
        row_of(
            out,
            &[
                rate.job.clone(),
                format!("{:.0}", rate.device),
                format!("{:.0}", rate.nbd),
                format!("{:.2}", rate.device / rate.nbd.max(1e-9)),
                list(&rate.runs[0]),
                list(&rate.runs[1]),
            ],
        );
    }
}

/// The slowest median of all that begin so, whatever the number of volumes.
fn slowest(results: &Results, what: &str) -> Option<f64> {
    let times = results.times.iter();
    let medians = times
        .filter(|time| time.what.starts_with(what))
        .map(|time| time.median_ms);
    medians.reduce(f64::max)
}

fn goals_of(results: &Results) -> Vec<Goal> {
    let must = |most: f64| (Some(most), None);
    let mut goals = vec![
        Goal::at_most(
            "claim to mounted and writable, slowest median",
            must(1500.0),
            slowest(results, "claim to mounted"),
            " ms",
        ),
        Goal::at_most(
            "teardown, slowest median",
            must(1000.0),
            slowest(results, "teardown"),
            " ms",
        ),
        Goal::at_most(
            "CreateSnapshot, slowest median",
            must(100.0),
            slowest(results, "CreateSnapshot"),
            " ms",
        ),
    ];
    let cost = results.cost.as_ref();
    goals.push(Goal::at_most(
        "resident memory of an attached volume, the largest",
        must(20.0),
        cost.map(|cost| cost.resident_mib.1),
        " MiB",
    ));
    let volumes = cost.map_or(0, |cost| cost.volumes);
    goals.push(Goal::at_most(
        &format!("CPU of all processes of {volumes} idle volumes"),
        must(2.0),
        cost.map(|cost| cost.cpu_percent),
        " %",
    ));
    for rate in &results.rates {
        let ratio = (rate.nbd > 0.0).then(|| rate.device / rate.nbd);
        let what = format!("{}, device / NBD", rate.job);
        goals.push(Goal::at_least(what, Some(0.4), None, ratio));
    }
    goals
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Results with every kind of figure.
    pub fn sample() -> Results {
        let time = |what: &str, volumes, median_ms| Time {
            what: what.to_owned(),
            volumes,
            count: 11,
            median_ms,
            p99_ms: 3.0,
            max_ms: 4.0,
        };
        Results {
            times: vec![
                time("claim to mounted and writable, ext4", 1, 300.0),
                time("CreateSnapshot", 1, 20.0),
                time("claim to mounted and writable, ext4", 100, 1600.0),
            ],
            crowd: Some(Crowd {
                at_once: 10,
                claims: 50,
                up_seconds: 9.0,
                down_seconds: 2.0,
                times: vec![time("teardown", 50, 200.0)],
            }),
            cost: Some(Cost {
                volumes: 100,
                resident_mib: (10.0, 21.0),
                cpu_percent: 1.0,
                ..Cost::default()
            }),
            rates: vec![Rate {
                job: "read".to_owned(),
                device: 50.0,
                nbd: 100.0,
                runs: [vec![50.0], vec![100.0]],
            }],
            ..Results::default()
        }
    }

    #[test]
    fn the_slowest_scale_decides() {
        let text = markdown(&sample());
        let verdict = |figure: &str| {
            let row = text.lines().find(|line| line.contains(figure));
            let row = row.unwrap_or_else(|| panic!("no {figure} in\n{text}"));
            row.rsplit(" | ")
                .next()
                .expect("a row has cells")
                .to_owned()
        };
        assert_eq!(verdict("writable, slowest"), "missed |");
        assert_eq!(verdict("CreateSnapshot, slowest"), "reached |");
        assert_eq!(verdict("teardown, slowest"), "not measured |");
        assert_eq!(verdict("resident memory"), "missed |");
        assert_eq!(verdict("CPU of all"), "reached |");
        assert_eq!(verdict("read, device / NBD"), "reached |");
    }

    #[test]
    fn a_call_that_was_not_made_at_one_scale_has_no_figures_there() {
        let text = markdown(&sample());
        let row = text
            .lines()
            .find(|line| line.starts_with("| CreateSnapshot |"));
        let row = row.expect("the call has a row");
        assert!(row.ends_with("| 11 | - | - | - | 0 |"), "{row}");
    }

    #[test]
    fn samples_of_two_callers_are_counted_together() {
        let mut all = Samples::default();
        for _ in 0..2 {
            let mut own = Samples::default();
            own.run("x", || Ok(())).expect("nothing fails");
            all.join(own);
        }
        assert_eq!(all.times(2)[0].count, 2);
    }

    #[test]
    fn ranks_are_of_what_was_measured() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((rank(&values, 50), rank(&values, 99)), (100.0, 198.0));
        assert_eq!((rank(&values[..1], 50), rank(&values[..1], 99)), (1.0, 1.0));
        assert_eq!(rank(&[], 50), 0.0);
    }

    #[test]
    fn results_survive_the_file() {
        let text = serde_json::to_string(&sample()).expect("plain data");
        let read: Results = serde_json::from_str(&text).expect("its own output");
        assert_eq!(markdown(&read), markdown(&sample()));
    }
}
