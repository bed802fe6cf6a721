//! The results as data and as Markdown.

use super::fio::{JOBS, Job, Measured};
use super::idle::Idle;
use super::times::Times;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

pub mod goals;

/// Median of the runs of one job on one device.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cell {
    pub job: String,
    pub device: String,
    pub per_second: f64,
    pub mib_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// During the job, summed over the server's processes; absent for the raw file.
    pub cpu_us_per_operation: Option<f64>,
    /// After the job, until everything was drained.
    pub drain_cpu_us_per_operation: Option<f64>,
    /// Of a client process that is Azekura's own.
    pub client_cpu_us_per_operation: Option<f64>,
    /// Bytes written to block devices per byte the client wrote, draining included.
    pub device_bytes_per_byte: Option<f64>,
    /// Seconds of draining after the job; for sustained jobs they are part of the rate.
    pub drain_seconds: Option<f64>,
    /// Each run's operations per second.
    pub runs: Vec<f64>,
}

/// Everything of one run of the benchmark.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    pub machine: Vec<(String, String)>,
    pub settings: Vec<(String, String)>,
    pub cells: Vec<Cell>,
    pub times: Vec<Times>,
    pub idle: Vec<Idle>,
}

impl Cell {
    /// A cell from what one run measured.
    pub fn new(job: &Job, device: &str, measured: Measured) -> Self {
        Self {
            job: job.name.to_owned(),
            device: device.to_owned(),
            per_second: measured.rate(),
            mib_per_second: measured.bytes as f64 / f64::from(1 << 20) / measured.seconds.max(1e-9),
            p50_us: measured.p50_us,
            p99_us: measured.p99_us,
            ..Self::default()
        }
    }

    /// The run with the median rate stands for all of them, so that its figures belong together.
    pub fn median(mut runs: Vec<Self>) -> Option<Self> {
        let rates = runs.iter().map(|cell| cell.per_second).collect();
        runs.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        let middle = runs.len() / 2;
        let mut cell = runs.into_iter().nth(middle)?;
        cell.runs = rates;
        Some(cell)
    }
}

impl Results {
    /// The figures of a job on a device.
    pub fn cell(&self, job: &Job, device: &str) -> Option<&Cell> {
        let mut cells = self.cells.iter();
        cells.find(|cell| cell.job == job.name && cell.device == device)
    }

    /// What a device did for each operation of the raw disk in the same run.
    pub fn ratio(&self, job: &Job, device: &str) -> Option<f64> {
        let raw = self.cell(job, "raw")?.per_second;
        let rate = self.cell(job, device)?.per_second;
        (raw > 0.0).then(|| rate / raw)
    }

    fn has(&self, suffix: &str) -> bool {
        self.cells.iter().any(|cell| cell.device.ends_with(suffix))
    }
}

/// The results for people.
pub fn markdown(results: &Results) -> String {
    let mut out = String::new();
    for (what, value) in results.machine.iter().chain(&results.settings) {
        line(&mut out, &format!("- {what}: {value}"));
    }
    if results.has("rf2") || results.has("rf3") {
        ratios(&mut out, results);
        goals::table(&mut out, results);
    }
    if results.has("-remote") || results.has("-owner") {
        engine(&mut out, results);
    }
    times(&mut out, results);
    idle(&mut out, results);
    cells(&mut out, results);
    out
}

/// Azekura and Ceph, each against the raw disk of its own run.
pub fn comparison(results: &Results, peer: &Results) -> String {
    let mut out = String::new();
    let titles = [
        "job",
        "RF2 /s",
        "Ceph 2 copies /s",
        "RF2 / raw",
        "Ceph 2 / raw",
        "RF3 /s",
        "Ceph 3 copies /s",
        "RF3 / raw",
        "Ceph 3 / raw",
        "CPU us RF3",
        "CPU us Ceph 3",
    ];
    header(&mut out, &titles);
    for job in &JOBS {
        let mut row = vec![job.name.to_owned()];
        for copies in [2, 3] {
            let (ours, theirs) = (format!("rf{copies}"), format!("ceph{copies}"));
            row.push(rate(results, job, &ours));
            row.push(rate(peer, job, &theirs));
            row.push(hundredths(results.ratio(job, &ours)));
            row.push(hundredths(peer.ratio(job, &theirs)));
        }
        let cpu = |results: &Results, device| {
            tenths(
                results
                    .cell(job, device)
                    .and_then(|cell| cell.cpu_us_per_operation),
            )
        };
        row.extend([cpu(results, "rf3"), cpu(peer, "ceph3")]);
        row_of(&mut out, &row);
    }
    out
}

/// Adds a line.
pub fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}

/// Adds the head of a table.
pub fn header(out: &mut String, titles: &[&str]) {
    line(out, &format!("| {} |", titles.join(" | ")));
    line(out, &format!("|{}", " --- |".repeat(titles.len())));
}

/// Adds a row of a table.
pub fn row_of(out: &mut String, cells: &[String]) {
    line(out, &format!("| {} |", cells.join(" | ")));
}

fn hundredths(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.2}"))
}

fn tenths(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.1}"))
}

fn rate(results: &Results, job: &Job, device: &str) -> String {
    let cell = results.cell(job, device);
    cell.map_or("-".to_owned(), |cell| format!("{:.0}", cell.per_second))
}

fn ratios(out: &mut String, results: &Results) {
    line(out, "\n### Against the raw disk, through NBD\n");
    let titles = [
        "job",
        "raw /s",
        "NBD ceiling",
        "RF1",
        "RF2",
        "RF2 target",
        "RF3",
        "RF3 target",
    ];
    header(out, &titles);
    for job in &JOBS {
        let ratio = |device: &str| hundredths(results.ratio(job, device));
        let (rf2, rf3) = job.targets;
        row_of(
            out,
            &[
                job.name.to_owned(),
                rate(results, job, "raw"),
                ratio("nbdkit"),
                ratio("rf1"),
                ratio("rf2"),
                rf2.to_string(),
                ratio("rf3"),
                rf3.to_string(),
            ],
        );
    }
}

fn engine(out: &mut String, results: &Results) {
    line(out, "\n### Against the raw disk, without NBD\n");
    let mut titles = vec!["job".to_owned(), "raw /s".to_owned()];
    let mut devices = Vec::new();
    for way in ["remote", "owner"] {
        for copies in 1..=3 {
            let device = format!("rf{copies}-{way}");
            if results.has(&device) {
                titles.push(format!("RF{copies} {way}"));
                devices.push(device);
            }
        }
    }
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    header(out, &titles);
    for job in &JOBS {
        let mut row = vec![job.name.to_owned(), rate(results, job, "raw")];
        let ratios: Vec<_> = devices
            .iter()
            .map(|device| results.ratio(job, device))
            .collect();
        if ratios.iter().any(Option::is_some) {
            row.extend(ratios.into_iter().map(hundredths));
            row_of(out, &row);
        }
    }
}

fn cells(out: &mut String, results: &Results) {
    line(out, "\n### All figures\n");
    line(
        out,
        "CPU is that of the servers' processes for each operation: during the job + draining after it; where the \
         client is Azekura's own, `c` is its process. For `owner` the load itself is among the servers'.\n",
    );
    let titles = [
        "job",
        "device",
        "per second",
        "MiB/s",
        "p50 us",
        "p99 us",
        "CPU us",
        "device bytes per byte",
        "drain s",
        "runs",
    ];
    header(out, &titles);
    for cell in &results.cells {
        let runs: Vec<String> = cell.runs.iter().map(|rate| format!("{rate:.0}")).collect();
        let mut cpu = tenths(cell.cpu_us_per_operation);
        if let Some(draining) = cell.drain_cpu_us_per_operation {
            write!(cpu, " + {draining:.1}").expect("writing to a String cannot fail");
        }
        if let Some(client) = cell.client_cpu_us_per_operation {
            write!(cpu, " c {client:.1}").expect("writing to a String cannot fail");
        }
        row_of(
            out,
            &[
                cell.job.clone(),
                cell.device.clone(),
                format!("{:.0}", cell.per_second),
                format!("{:.0}", cell.mib_per_second),
                format!("{:.0}", cell.p50_us),
                format!("{:.0}", cell.p99_us),
                cpu,
                tenths(cell.device_bytes_per_byte),
                tenths(cell.drain_seconds),
                runs.join(", "),
            ],
        );
    }
}

fn times(out: &mut String, results: &Results) {
    if results.times.is_empty() {
        return;
    }
    line(out, "\n### Operations and losses (RF2, milliseconds)\n");
    let titles = [
        "volume",
        "create",
        "snapshot",
        "clone",
        "replica lost",
        "owner lost",
    ];
    header(out, &titles);
    for times in &results.times {
        row_of(
            out,
            &[
                format!("{} GiB", times.volume_bytes >> 30),
                format!("{:.1}", times.create_ms),
                format!("{:.1}", times.snapshot_ms),
                format!("{:.1}", times.clone_ms),
                format!("{:.0}", times.replica_loss_ms),
                format!("{:.0}", times.owner_loss_ms),
            ],
        );
    }
}

fn idle(out: &mut String, results: &Results) {
    if results.idle.is_empty() {
        return;
    }
    line(out, "\n### Idle nodes (mean, and the largest)\n");
    header(out, &["when", "resident MiB", "percent of a core"]);
    for idle in &results.idle {
        row_of(
            out,
            &[
                idle.when.clone(),
                format!("{:.0} ({:.0})", idle.resident_mib.0, idle.resident_mib.1),
                format!("{:.2} ({:.2})", idle.cpu_percent.0, idle.cpu_percent.1),
            ],
        );
    }
}

#[cfg(test)]
pub mod tests;
