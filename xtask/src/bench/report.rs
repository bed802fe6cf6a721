//! The results as Markdown and JSON.

use super::fio::{Job, Measured};
use super::times::Times;
use serde::Serialize;
use std::fmt::Write;

/// Median of the runs of one job on one device.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cell {
    pub job: String,
    pub device: String,
    pub per_second: f64,
    pub mib_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Summed over the server's processes; absent for the raw file.
    pub cpu_us_per_operation: Option<f64>,
    /// Bytes written to block devices per byte the client wrote, draining included.
    pub device_bytes_per_byte: Option<f64>,
    /// Seconds of draining after the job; for sustained jobs they are part of the rate.
    pub drain_seconds: Option<f64>,
    /// Each run's operations per second.
    pub runs: Vec<f64>,
}

/// Everything of one run of the benchmark.
#[derive(Debug, Serialize)]
pub struct Results {
    pub machine: Vec<(String, String)>,
    pub settings: Vec<(String, String)>,
    pub cells: Vec<Cell>,
    pub times: Vec<Times>,
    pub resident_mib_per_node: f64,
    pub idle_cpu_percent_per_node: f64,
    pub not_measured: Vec<String>,
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

/// The results for people.
pub fn markdown(results: &Results, jobs: &[Job]) -> String {
    let mut out = String::from("# Benchmark\n\n");
    for (what, value) in results.machine.iter().chain(&results.settings) {
        line(&mut out, &format!("- {what}: {value}"));
    }
    ratios(&mut out, results, jobs);
    cells(&mut out, results);
    times(&mut out, results);
    line(&mut out, "\n## Not measured\n");
    for what in &results.not_measured {
        line(&mut out, &format!("- {what}"));
    }
    out
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}

fn ratios(out: &mut String, results: &Results, jobs: &[Job]) {
    line(out, "\n## Against the raw disk\n");
    line(
        out,
        "| job | raw /s | NBD ceiling | RF1 | RF2 | target | RF3 | target |",
    );
    line(out, "| --- | --- | --- | --- | --- | --- | --- | --- |");
    for job in jobs {
        let rate = |device: &str| {
            let found = results
                .cells
                .iter()
                .find(|c| c.job == job.name && c.device == device);
            found.map(|cell| cell.per_second)
        };
        let raw = rate("raw");
        let ratio = |device: &str| match (rate(device), raw) {
            (Some(rate), Some(raw)) if raw > 0.0 => format!("{:.2}", rate / raw),
            _ => "-".to_owned(),
        };
        let (rf2, rf3) = job.targets;
        let shown = raw.map_or("-".to_owned(), |raw| format!("{raw:.0}"));
        line(
            out,
            &format!(
                "| {} | {shown} | {} | {} | {} | {rf2} | {} | {rf3} |",
                job.name,
                ratio("nbdkit"),
                ratio("rf1"),
                ratio("rf2"),
                ratio("rf3")
            ),
        );
    }
}

fn cells(out: &mut String, results: &Results) {
    line(out, "\n## All figures\n");
    line(
        out,
        "| job | device | per second | MiB/s | p50 us | p99 us | CPU us per operation | \
         device bytes per byte | drain s | runs |",
    );
    line(
        out,
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    );
    for cell in &results.cells {
        let optional = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.1}"));
        let runs: Vec<String> = cell.runs.iter().map(|rate| format!("{rate:.0}")).collect();
        line(
            out,
            &format!(
                "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {} | {} |",
                cell.job,
                cell.device,
                cell.per_second,
                cell.mib_per_second,
                cell.p50_us,
                cell.p99_us,
                optional(cell.cpu_us_per_operation),
                optional(cell.device_bytes_per_byte),
                optional(cell.drain_seconds),
                runs.join(", ")
            ),
        );
    }
}

fn times(out: &mut String, results: &Results) {
    line(out, "\n## Operations and losses (RF2, milliseconds)\n");
    line(
        out,
        "| volume | create | snapshot | clone | replica lost | owner lost |",
    );
    line(out, "| --- | --- | --- | --- | --- | --- |");
    for times in &results.times {
        line(
            out,
            &format!(
                "| {} GiB | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} |",
                times.volume_bytes >> 30,
                times.create_ms,
                times.snapshot_ms,
                times.clone_ms,
                times.replica_loss_ms,
                times.owner_loss_ms
            ),
        );
    }
    let (memory, idle) = (
        results.resident_mib_per_node,
        results.idle_cpu_percent_per_node,
    );
    line(
        out,
        &format!(
            "\nAfter all jobs a node holds {memory:.0} MiB resident on average and uses {idle:.2} % of a core \
             when idle."
        ),
    );
}
