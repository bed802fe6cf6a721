//! `cargo xtask bench --encryption`: what encrypted connections cost, two clusters taking turns: one plain, one with
//! certificates on both sides of every connection but NBD.

use super::fio::{JOBS, Job};
use super::report::{Cell, Results, header, line, row_of};
use super::request::Request;
use super::target::{Target, run_jobs};
use super::{settings, stage, start_cluster, usage, volume};
use crate::cluster::{self, Cluster};
use crate::packages::{self, need};
use anyhow::{Result, ensure};
use std::fmt::Write;
use std::path::Path;

/// The volume that is measured: two copies, so that what is written crosses the network once.
const VOLUME: &str = "rf2";
/// Jobs in which traffic matters.
const MEASURED: [&str; 5] = ["read-32", "read-seq", "write-1", "burst", "write-seq"];
/// Ways to the volume: NBD at its owner's node, so that only the copies cross the network, and a client of its own, whose
/// connection to the owner is encrypted as well.
const WAYS: [&str; 2] = ["", "-remote"];

/// Measures, and writes the results.
pub fn run(request: &Request) -> Result<()> {
    let needs = [need("fio", "fio"), need("etcd", "etcd-server")];
    let missing = packages::ensure(&needs);
    ensure!(missing.is_empty(), "{} is missing", missing.join(", "));
    let binary = cluster::binary(request.binary.as_deref())?;
    stage("two clusters");
    // One volume of two copies on three disks, and as much again for garbage; there are two clusters of them.
    let disk_bytes = 2 * request.bytes + (2 << 30);
    let start = |name: &str, tls| {
        let folder = request.folder.join(name);
        start_cluster(&binary, request, folder, disk_bytes, tls)
    };
    let clusters = [start("plain", false)?, start("encrypted", true)?];
    let mut targets = Vec::new();
    for (cluster, name) in clusters.iter().zip(["plain", "encrypted"]) {
        targets.extend(ways(cluster, name, &binary, request)?);
    }
    stage("fill");
    for target in &targets {
        target.fill(request.bytes)?;
    }
    let jobs: Vec<Job> = JOBS
        .into_iter()
        .filter(|job| MEASURED.contains(&job.key))
        .collect();
    let mut settings = settings(request);
    settings.retain(|(what, _)| what != "connections");
    let results = Results {
        machine: usage::machine(&request.folder),
        settings,
        cells: run_jobs(&targets, &jobs, request)?,
        ..Results::default()
    };
    for cluster in clusters {
        cluster.remove()?;
    }
    super::write_as("encryption", &markdown(&results), &results)
}

fn ways(cluster: &Cluster, name: &str, binary: &Path, request: &Request) -> Result<Vec<Target>> {
    let ways = volume(cluster, binary, VOLUME, request)?;
    let wanted = ways.into_iter().filter_map(|mut target| {
        let way = target.name.strip_prefix(VOLUME)?.to_owned();
        target.name = format!("{name}{way}");
        target.jobs = Vec::new();
        WAYS.contains(&&*way).then_some(target)
    });
    Ok(wanted.collect())
}

/// The results for people.
pub fn markdown(results: &Results) -> String {
    let mut out = String::new();
    for (what, value) in results.machine.iter().chain(&results.settings) {
        line(&mut out, &format!("- {what}: {value}"));
    }
    line(&mut out, "");
    let titles = [
        "job",
        "way",
        "plain /s",
        "encrypted /s",
        "encrypted / plain",
        "CPU us plain",
        "CPU us encrypted",
        "runs: plain",
        "runs: encrypted",
    ];
    header(&mut out, &titles);
    for job in &JOBS {
        for way in WAYS {
            let plain = results.cell(job, &format!("plain{way}"));
            let encrypted = results.cell(job, &format!("encrypted{way}"));
            if let Some((plain, encrypted)) = plain.zip(encrypted) {
                row_of(&mut out, &row(job, way, plain, encrypted));
            }
        }
    }
    out
}

fn row(job: &Job, way: &str, plain: &Cell, encrypted: &Cell) -> Vec<String> {
    let way = match way {
        "" => "NBD",
        _ => "client of its own",
    };
    let ratio = encrypted.per_second / plain.per_second.max(f64::MIN_POSITIVE);
    vec![
        job.name.to_owned(),
        way.to_owned(),
        format!("{:.0}", plain.per_second),
        format!("{:.0}", encrypted.per_second),
        format!("{ratio:.2}"),
        cpu(plain),
        cpu(encrypted),
        runs(plain),
        runs(encrypted),
    ]
}

/// Of the nodes, and of the client where that is a process of Azekura's.
fn cpu(cell: &Cell) -> String {
    let nodes = cell.cpu_us_per_operation.unwrap_or_default();
    let mut text = format!("{nodes:.1}");
    if let Some(client) = cell.client_cpu_us_per_operation {
        write!(text, " c {client:.1}").expect("writing to a String cannot fail");
    }
    text
}

fn runs(cell: &Cell) -> String {
    let runs: Vec<String> = cell.runs.iter().map(|rate| format!("{rate:.0}")).collect();
    runs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_stand_beside_each_other() {
        let cell = |device: &str, per_second| Cell {
            job: JOBS[1].name.to_owned(),
            device: device.to_owned(),
            per_second,
            cpu_us_per_operation: Some(20.0),
            runs: vec![per_second],
            ..Cell::default()
        };
        let results = Results {
            cells: vec![
                cell("plain", 1000.0),
                cell("encrypted", 900.0),
                cell("plain-remote", 1000.0),
            ],
            ..Results::default()
        };
        let text = markdown(&results);
        assert!(
            text.contains("| NBD | 1000 | 900 | 0.90 | 20.0 | 20.0 |"),
            "{text}"
        );
        assert!(!text.contains("client of its own"), "{text}");
    }
}
