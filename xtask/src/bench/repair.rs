//! `cargo xtask bench --repair`: a node of four is lost for good, comes back with a blank disk, and is lost again under load.
//!
//! The measure is the disk itself: sequential writes to a file beside those of the cluster, in the same run. Everything
//! that is copied is read from and written to that one disk, or from and to a bounded share of it for each node.

mod limit;
mod results;

use super::fio::{self, Device, JOBS, Measured};
use super::report::line;
use super::request::Request;
use super::{FOLDER, raw, stage, usage};
use crate::cluster::{self, Cluster, Plan};
use crate::{packages, rest};
use anyhow::{Context, Result, ensure};
use limit::Limits;
pub use results::{Results, markdown};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Stores, one on each node.
const NODES: usize = 4;
/// Bytes of the volume under load.
const LOADED_BYTES: u64 = 1 << 30;
/// Bytes of the file that tells what the disk writes, at most.
const RAW_BYTES_MAX: u64 = 4 << 30;
/// Writes per second of the load, far below what the machine can do: what is measured is what repair costs it.
const LOAD_RATE: u64 = 500;
/// How often the state is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for a repair or a balance.
const PATIENCE: Duration = Duration::from_secs(900);
/// The fill of a store that is even with the others differs from their mean by less than this.
const EVEN_PERCENT: f64 = 5.0;

/// Measures, and writes the results.
pub fn run(request: &Request) -> Result<()> {
    let missing = packages::ensure(packages::BENCH);
    ensure!(
        missing.is_empty(),
        "the benchmark needs {}",
        missing.join(", ")
    );
    let binary = cluster::binary(request.binary.as_deref())?;
    stage("disks and processes");
    let plan = Plan {
        folder: request.folder.clone(),
        nodes: NODES,
        disks: NODES,
        // Two copies on three of four disks, a fifth of room, journals.
        disk_bytes: ((request.bytes / request.shrink + LOADED_BYTES) * 4 / 5 + (3 << 30))
            .next_multiple_of(1 << 20),
        etcd: true,
        prewritten: true,
        sparse: false,
        bench: false,
        tokens: false,
        tls: request.tls,
        detached: false,
        given_disks: Vec::new(),
        network: None,
    };
    let cluster = Cluster::start(binary, plan)?;
    let limits = request.disk_rate.map(|rate| {
        let limits = Limits::new(&cluster.folder, NODES, rate)?;
        for (index, node) in cluster.nodes.iter().enumerate() {
            limits.put(index, node.pid())?;
        }
        anyhow::Ok(limits)
    });
    let limits = limits.transpose()?;
    let mut bench = Bench { cluster, limits };
    let results = measure(&mut bench, request)?;
    bench.cluster.remove()?;
    write(&results, request.disk_rate)
}

/// What is measured. The limits go last: their groups can be removed when no process is in them.
struct Bench {
    cluster: Cluster,
    limits: Option<Limits>,
}

fn measure(bench: &mut Bench, request: &Request) -> Result<Results> {
    let cluster = &mut bench.cluster;
    let disk = raw_rate(cluster, request)?;
    let disk = request
        .disk_rate
        .map_or(disk, |bound| disk.min(bound as f64));
    stage("fill");
    let api = cluster.any_api().context("no node runs")?.clone();
    rest::post(&api, "/containers", &json!({"name": "rf2", "rf": 2}))?;
    let volumes = [
        ("data", request.bytes, request.shrink),
        ("loaded", LOADED_BYTES, 1),
    ];
    for (name, size, shrink) in volumes {
        let body = json!({"name": name, "container": "rf2", "size": size});
        rest::post(&api, "/volumes", &body)?;
        fio::fill_with(&device(cluster, name), size, shrink)?;
    }
    wait_until(cluster, is_drained)?;
    let mut results = Results {
        machine: usage::machine(&cluster.folder),
        logical: request.bytes + LOADED_BYTES,
        shrink: request.shrink,
        disk,
        bound: request.disk_rate,
        ..Results::default()
    };
    stage("a node is lost");
    results.quiet = lose(cluster, |_| Ok(()))?;
    stage("a blank disk takes its place");
    results.balance = give_blank(cluster, bench.limits.as_ref())?;
    stage("a quiet load");
    let seconds = request.seconds_of(2);
    results.load = (LOAD_RATE, load(cluster, seconds)?.p99_us, 0.0);
    stage("a node is lost under load");
    let mut during = None;
    results.loaded = lose(cluster, |cluster| {
        during = Some(load(cluster, seconds)?);
        Ok(())
    })?;
    results.load.2 = during.context("the load ran")?.p99_us;
    Ok(results)
}

/// Bytes per second that the disk writes one after the other.
fn raw_rate(cluster: &Cluster, request: &Request) -> Result<f64> {
    let bytes = request.bytes.min(RAW_BYTES_MAX);
    raw(&cluster.folder, bytes)?;
    let path = cluster.folder.join("raw");
    let job = JOBS.iter().find(|job| job.key == "write-seq");
    let job = job.context("a job writes one after the other")?;
    let mut rates = Vec::new();
    for _ in 0..request.runs {
        let device = Device::File(path.clone());
        let measured = fio::run(job, &device, bytes, request.seconds)?;
        rates.push(measured.bytes as f64 / measured.seconds.max(1e-9));
    }
    fs::remove_file(path)?;
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

/// A volume through the gateway of the first node, which is never lost.
fn device(cluster: &Cluster, volume: &str) -> Device {
    Device::Nbd(format!("nbd://{}/{volume}", cluster.nodes[0].nbd))
}

fn load(cluster: &Cluster, seconds: u64) -> Result<Measured> {
    let job = JOBS.iter().find(|job| job.key == "write-1");
    let job = job.context("a job writes 4 KiB")?;
    let device = device(cluster, "loaded");
    fio::run_at(job, &device, LOADED_BYTES, seconds, Some(LOAD_RATE))
}

/// What a loss took, in seconds since the process was killed, and the bytes that were copied.
fn lose(
    cluster: &mut Cluster,
    meanwhile: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<results::Loss> {
    let status = status(cluster)?;
    let bytes = used(&status).pop().context("there are stores")?;
    let began = Instant::now();
    cluster.kill_node(NODES - 1)?;
    let certain = wait_until(cluster, |status| standing(status) == Some("lost"))?;
    let started = wait_until(cluster, |status| filling(status) > 0)?;
    meanwhile(cluster)?;
    wait_until(cluster, |status| {
        filling(status) == 0 && status["resiliency"]["repair"]["waiting"] == 0
    })?;
    let since = |moment: Instant| moment.duration_since(began).as_secs_f64();
    let loss = results::Loss {
        certain: since(certain),
        started: since(started),
        whole: began.elapsed().as_secs_f64(),
        bytes,
    };
    println!("    {}", loss.text());
    Ok(loss)
}

/// Starts the lost node with a blank disk; seconds until all stores are even, and by how much they differ then.
fn give_blank(cluster: &mut Cluster, limits: Option<&Limits>) -> Result<results::Balance> {
    let index = NODES - 1;
    for (number, path) in cluster.nodes[index].disks.iter().enumerate() {
        let bytes = fs::metadata(path)?.len();
        fs::remove_file(path)?;
        cluster::write_zeros(&fs::File::create(path)?, bytes)?;
        cluster.format_disk(index + 1 + number, path)?;
    }
    let began = Instant::now();
    cluster.start_node(index)?;
    if let Some(limits) = limits {
        limits.put(index, cluster.nodes[index].pid())?;
    }
    cluster.wait_ready(index)?;
    wait_until(cluster, |status| {
        filling(status) == 0 && leaving(status) == 0 && unevenness(status) < EVEN_PERCENT
    })?;
    let balance = results::Balance {
        seconds: began.elapsed().as_secs_f64(),
        percent: unevenness(&status(cluster)?),
    };
    println!("    {}", balance.text());
    Ok(balance)
}

fn status(cluster: &Cluster) -> Result<Value> {
    rest::get(cluster.any_api().context("no node runs")?, "/status")
}

fn wait_until(cluster: &Cluster, holds: impl Fn(&Value) -> bool) -> Result<Instant> {
    let began = Instant::now();
    loop {
        let status = status(cluster)?;
        if holds(&status) {
            return Ok(Instant::now());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "what was waited for did not come about within {PATIENCE:?}: {status}"
        );
        std::thread::sleep(LOOK);
    }
}

fn stores(status: &Value) -> impl Iterator<Item = &Value> {
    status["stores"].as_array().into_iter().flatten()
}

/// Bytes that extents occupy, by store.
fn used(status: &Value) -> Vec<u64> {
    let used = stores(status).map(|store| store["used"].as_u64().unwrap_or(0));
    used.collect()
}

fn sum(status: &Value, field: &str) -> u64 {
    let values = stores(status).map(|store| store[field].as_u64().unwrap_or(0));
    values.sum()
}

fn filling(status: &Value) -> u64 {
    sum(status, "filling")
}

fn leaving(status: &Value) -> u64 {
    sum(status, "leaving")
}

/// Standing of the last store.
fn standing(status: &Value) -> Option<&str> {
    stores(status).last()?["standing"].as_str()
}

/// By how many percent of the mean the store that differs most does.
fn unevenness(status: &Value) -> f64 {
    let used = used(status);
    let mean = used.iter().sum::<u64>() as f64 / used.len().max(1) as f64;
    let worst = used.iter().map(|&used| (used as f64 - mean).abs());
    worst.fold(0.0, f64::max) / mean.max(1.0) * 100.0
}

fn is_drained(status: &Value) -> bool {
    let volumes = status["volumes"].as_array();
    let waits = |volume: &Value| volume["undrained"].as_u64().unwrap_or(0) > 64 << 20;
    !volumes.into_iter().flatten().any(waits)
}

/// Where the results are, with disks as they are or bounded.
pub fn name(bounded: bool) -> &'static str {
    if bounded { "repair-bounded" } else { "repair" }
}

fn write(results: &Results, bound: Option<u64>) -> Result<()> {
    let name = name(bound.is_some());
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder)?;
    let mut text = String::new();
    line(&mut text, "# Benchmark of repair\n");
    text.push_str(&markdown(results));
    fs::write(folder.join(format!("{name}.md")), &text)?;
    let json = serde_json::to_string_pretty(results)?;
    fs::write(folder.join(format!("{name}.json")), json)?;
    println!("{text}\nwritten to {FOLDER}/{name}.md and {name}.json");
    Ok(())
}
