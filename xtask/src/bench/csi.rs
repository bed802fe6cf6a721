//! `cargo xtask bench --csi`: how long the driver's calls take, for one volume and with many attached, and what an attached
//! volume costs.
//!
//! The calls are those of Kubernetes (`driver/claim.rs`), one after the other, against the processes of the driver
//! and a cluster of three nodes. A latency is what the caller waits for.

mod cost;
mod latency;
mod results;

use super::report::line;
use super::request::Request;
use super::{FOLDER, stage, usage};
use crate::cluster::{self, Cluster, Plan};
use crate::driver::{self, Driver};
use crate::process::is_root;
use crate::{packages, rest};
use anyhow::{Context, Result, ensure};
pub use results::{Results, markdown};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Where sockets, attachments and mounts are.
const RUN_FOLDER: &str = "/run/azekura-bench";
/// The storage class: a container with two copies.
const CONTAINER: &str = "csi";

/// Measures, and writes the results.
pub fn run(request: &Request) -> Result<()> {
    ensure!(
        is_root(),
        "attaching and mounting need root: run it with sudo"
    );
    for needs in [packages::BENCH, packages::MOUNT] {
        let missing = packages::ensure(needs);
        ensure!(
            missing.is_empty(),
            "the benchmark needs {}",
            missing.join(", ")
        );
    }
    let binary = cluster::binary(request.binary.as_deref())?;
    let folder = Path::new(RUN_FOLDER);
    driver::clean(&binary, folder)?;
    stage("disks, processes, the driver");
    let mut cluster = start_cluster(&binary, request)?;
    let outcome = measure(&binary, &mut cluster, request);
    // Devices first: without the cluster they could not be flushed.
    let cleaned = driver::clean(&binary, folder);
    let results = outcome?;
    cleaned?;
    cluster.remove()?;
    write(&results)
}

fn start_cluster(binary: &Path, request: &Request) -> Result<Cluster> {
    let plan = Plan {
        folder: request.folder.clone(),
        nodes: 3,
        disks: 3,
        // Two volumes in two copies on three disks, as much for what overwriting leaves, journals and file systems.
        disk_bytes: 3 * request.bytes + (1 << 30),
        etcd: true,
        prewritten: true,
        sparse: false,
        bench: false,
        tokens: true,
        tls: false,
        detached: false,
        given_disks: Vec::new(),
        network: None,
    };
    let cluster = Cluster::start(binary.to_owned(), plan)?;
    let api = cluster.any_api().context("no node runs")?;
    rest::post(api, "/containers", &json!({"name": CONTAINER, "rf": 2}))?;
    Ok(cluster)
}

fn measure(binary: &Path, cluster: &mut Cluster, request: &Request) -> Result<Results> {
    let driver = Driver::start(binary, cluster, Path::new(RUN_FOLDER), false)?;
    let mut results = Results {
        machine: usage::machine(&cluster.folder),
        settings: settings(request),
        ..Results::default()
    };
    stage("one volume");
    results.times = latency::one(&driver, request)?;
    stage("many volumes");
    let (times, cost) = latency::many(&driver, request, |claims| {
        cost::watch(cluster, &driver, claims, request.idle())
    })?;
    results.times.extend(times);
    results.cost = Some(cost);
    stage("many claims at once");
    results.crowd = Some(latency::at_once(&driver, request)?);
    stage("4 KiB through the device and through NBD");
    let (rates, busy_mib) = cost::rates(cluster, &driver, request)?;
    (results.rates, results.busy_mib) = (rates, Some(busy_mib));
    Ok(results)
}

fn settings(request: &Request) -> Vec<(String, String)> {
    vec![
        (
            "volumes".into(),
            format!("{} GiB, two copies", latency::VOLUME_BYTES >> 30),
        ),
        (
            "fio".into(),
            format!(
                "{} s, median of {}, on {} GiB",
                request.seconds,
                request.runs,
                request.bytes >> 30
            ),
        ),
    ]
}

fn write(results: &Results) -> Result<()> {
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder)?;
    let mut text = String::new();
    line(&mut text, "# Benchmark of the CSI driver\n");
    text.push_str(&markdown(results));
    fs::write(folder.join("csi.md"), &text)?;
    let json = serde_json::to_string_pretty(results)?;
    fs::write(folder.join("csi.json"), json)?;
    println!("{text}\nwritten to {FOLDER}/csi.md and csi.json");
    Ok(())
}
