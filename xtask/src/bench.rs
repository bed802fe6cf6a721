//! `cargo xtask bench`: the raw disk, the protocol's ceiling and Azekura with one, two and three copies, in one run.
//!
//! Everything is set up once and the devices take turns within each job, so that a noisy machine is equally unfair
//! to all of them. Every figure is the median of the runs.

mod fio;
mod report;
mod times;
mod usage;

use crate::cluster::{self, Cluster, Plan};
use crate::process::find_program;
use crate::{packages, rest};
use anyhow::{Context, Result, bail, ensure};
use fio::{Device, JOBS, Job};
use report::{Cell, Results};
use serde_json::json;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use usage::Usage;

const USAGE: &str = "\
cargo xtask bench [--seconds N] [--runs N] [--gib N] [--losses N] [--only DEVICES] [--binary FILE]
                  [--dir DIR]
  --seconds N     length of one job (5; the sustained one takes four times as long)
  --runs N        runs of each job, of which the median counts (3)
  --gib N         bytes of each volume that are filled and used (2)
  --losses N      how often a replica and an owner are killed at each size (3)
  --only DEVICES  some of raw,nbdkit,rf1,rf2,rf3, comma-separated
  --binary FILE   measure this azekura instead of building one
  --dir DIR       where files and disks are (target/bench/data); the results are in target/bench/";
/// Pause before a job, for what the one before left to do.
const SETTLE: Duration = Duration::from_millis(300);
/// How long an idle cluster is watched.
const IDLE: Duration = Duration::from_secs(10);

struct Request {
    seconds: u64,
    runs: usize,
    bytes: u64,
    losses: usize,
    only: Vec<String>,
    /// An `azekura` that is built already.
    binary: Option<PathBuf>,
    folder: PathBuf,
}

/// A device under test and the processes that serve it.
struct Target {
    name: String,
    device: Device,
    pids: Vec<u32>,
    /// Where to ask for draining, for Azekura's volumes.
    api: Option<String>,
}

/// Ends nbdkit with the benchmark.
struct Ceiling(Child);

impl Drop for Ceiling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the benchmark and writes its results.
pub fn run(arguments: &[String]) -> Result<bool> {
    let Some(request) = parse(arguments)? else {
        println!("{USAGE}");
        return Ok(true);
    };
    let missing = packages::ensure(packages::BENCH);
    ensure!(
        missing.is_empty(),
        "the benchmark needs {}",
        missing.join(", ")
    );
    let binary = cluster::binary(request.binary.as_deref())?;
    println!(
        "==> disks, processes, volumes of {} GiB",
        request.bytes >> 30
    );
    let mut cluster = start_cluster(binary, &request)?;
    let (mut targets, _ceiling) = targets(&cluster, &request)?;
    targets.retain(|target| request.only.is_empty() || request.only.contains(&target.name));
    for target in &targets {
        println!("    fill {}", target.name);
        fio::fill(&target.device, request.bytes)?;
        drain(target)?;
    }
    let cells = run_jobs(&targets, &request)?;
    println!("==> idle for {} s", IDLE.as_secs());
    let (resident, idle) = idle(&cluster);
    println!("==> create, snapshot, clone, losses");
    let times = match request.losses {
        0 => Vec::new(),
        losses => times::measure(&mut cluster, losses)?,
    };
    let results = Results {
        machine: usage::machine(),
        settings: settings(&request),
        cells,
        times,
        resident_mib_per_node: resident,
        idle_cpu_percent_per_node: idle,
        not_measured: not_measured(),
    };
    cluster.remove()?;
    write(&results)?;
    Ok(true)
}

fn parse(arguments: &[String]) -> Result<Option<Request>> {
    let mut request = Request {
        seconds: 5,
        runs: 3,
        bytes: 2 << 30,
        losses: 3,
        only: Vec::new(),
        binary: None,
        folder: PathBuf::from("target/bench/data"),
    };
    let mut left = arguments.iter();
    while let Some(name) = left.next() {
        if matches!(name.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let value = left
            .next()
            .with_context(|| format!("{name} needs a value.\n{USAGE}"))?;
        let number = || {
            value
                .parse::<u64>()
                .with_context(|| format!("{name} needs a number"))
        };
        match name.as_str() {
            "--seconds" => request.seconds = number()?.max(1),
            "--runs" => request.runs = usize::try_from(number()?)?.max(1),
            "--gib" => request.bytes = number()?.max(1) << 30,
            "--losses" => request.losses = usize::try_from(number()?)?,
            "--only" => request.only = value.split(',').map(str::to_owned).collect(),
            "--binary" => request.binary = Some(value.into()),
            "--dir" => request.folder = value.into(),
            _ => bail!("`cargo xtask bench` does not know `{name}`.\n{USAGE}"),
        }
    }
    Ok(Some(request))
}

fn settings(request: &Request) -> Vec<(String, String)> {
    let version = Command::new("fio").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    vec![
        ("fio".into(), version.unwrap_or_default()),
        ("data".into(), "incompressible (fio's default buffers)".into()),
        ("bytes used of each device".into(), format!("{} GiB", request.bytes >> 30)),
        ("one job".into(), format!("{} s, median of {}", request.seconds, request.runs)),
        (
            "cluster".into(),
            "three processes on loopback, one file with O_DIRECT each on the disk of the raw file; fio connects \
             to the NBD gateway of the volume's owner"
                .into(),
        ),
    ]
}

fn not_measured() -> Vec<String> {
    let list = [
        "the engine without NBD (remote client, owner's process)",
        "another storage system on the same machine",
        "a real network: all processes share one machine, its cores and its disk",
        "compressible data",
    ];
    list.map(str::to_owned).to_vec()
}

fn start_cluster(binary: PathBuf, request: &Request) -> Result<Cluster> {
    let plan = Plan {
        folder: request.folder.clone(),
        nodes: 3,
        disks: 3,
        // Six copies of the data on three disks, as much again for garbage, and journals.
        disk_bytes: 4 * request.bytes + (4 << 30),
        etcd: true,
        prewritten: true,
        detached: false,
    };
    let cluster = Cluster::start(binary, &plan)?;
    let api = cluster.any_api().context("no node runs")?;
    for rf in 1..=3 {
        let container = format!("rf{rf}");
        rest::post(api, "/containers", &json!({"name": container, "rf": rf}))?;
        let body = json!({"name": container, "container": container, "size": request.bytes});
        rest::post(api, "/volumes", &body)?;
    }
    Ok(cluster)
}

fn targets(cluster: &Cluster, request: &Request) -> Result<(Vec<Target>, Ceiling)> {
    let raw = cluster.folder.join("raw");
    println!(
        "    a raw file of {} GiB, written in full",
        request.bytes >> 30
    );
    cluster::write_zeros(&File::create(&raw)?, request.bytes)?;
    let address = cluster::free_address()?;
    let (host, port) = address.split_once(':').context("an address has a port")?;
    let program = find_program("nbdkit").context("nbdkit is missing")?;
    let mut command = Command::new(program);
    command.args([
        "-f",
        "-i",
        host,
        "-p",
        port,
        "memory",
        &request.bytes.to_string(),
    ]);
    let log = cluster.folder.join("nbdkit.log");
    let ceiling = Ceiling(cluster::spawn(&mut command, &log)?);
    cluster::wait_port(&address, "nbdkit", &log)?;
    let mut targets = vec![
        Target {
            name: "raw".into(),
            device: Device::File(raw),
            pids: Vec::new(),
            api: None,
        },
        Target {
            name: "nbdkit".into(),
            device: Device::Nbd(format!("nbd://{address}")),
            pids: vec![ceiling.0.id()],
            api: None,
        },
    ];
    for rf in 1..=3 {
        targets.push(volume(cluster, &format!("rf{rf}"))?);
    }
    Ok((targets, ceiling))
}

/// A volume through the gateway of its owner, whom the first use settles.
fn volume(cluster: &Cluster, name: &str) -> Result<Target> {
    let first = cluster.nodes.first().context("no nodes")?;
    let mut client = crate::nbd::Client::connect(&first.nbd, name, Duration::from_secs(60))?;
    client.write(0, &[0; 4096])?;
    drop(client);
    let owner = &cluster.nodes[cluster.owner_of(name)?];
    println!("    {name} is owned by {}", owner.name);
    Ok(Target {
        name: name.to_owned(),
        device: Device::Nbd(format!("nbd://{}/{name}", owner.nbd)),
        pids: cluster.pids(),
        api: Some(owner.api.clone()),
    })
}

/// Has everything in the volume's log written into extents; returns the seconds it took.
fn drain(target: &Target) -> Result<Option<f64>> {
    let Some(api) = &target.api else {
        return Ok(None);
    };
    let started = Instant::now();
    rest::post(api, &format!("/volumes/{}/drain", target.name), &json!({}))?;
    Ok(Some(started.elapsed().as_secs_f64()))
}

fn run_jobs(targets: &[Target], request: &Request) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for job in &JOBS {
        println!("==> {}", job.name);
        let mut runs: Vec<Vec<Cell>> = vec![Vec::new(); targets.len()];
        for _ in 0..request.runs {
            for (target, runs) in targets.iter().zip(&mut runs) {
                std::thread::sleep(SETTLE);
                runs.push(run_job(job, target, request)?);
            }
        }
        for cell in runs.into_iter().filter_map(Cell::median) {
            println!(
                "    {:<8} {:>9.0} /s  p50 {:>7.0} us  p99 {:>7.0} us",
                cell.device, cell.per_second, cell.p50_us, cell.p99_us
            );
            cells.push(cell);
        }
    }
    Ok(cells)
}

fn run_job(job: &Job, target: &Target, request: &Request) -> Result<Cell> {
    let before = Usage::of(&target.pids);
    let mut measured = fio::run(job, &target.device, request.bytes, request.seconds)
        .with_context(|| format!("`{}` on {}", job.name, target.name))?;
    let mut used = Usage::of(&target.pids).since(&before);
    let drained = if job.writes() { drain(target)? } else { None };
    let after = Usage::of(&target.pids).since(&before);
    if let Some(seconds) = drained.filter(|_| job.until_drained) {
        measured.seconds += seconds;
        used = after;
    }
    let mut cell = Cell::new(job, &target.name, measured);
    cell.drain_seconds = drained;
    if !target.pids.is_empty() {
        cell.cpu_us_per_operation = Some(used.cpu_us as f64 / measured.operations as f64);
    }
    if job.writes() && target.api.is_some() {
        let ratio = after.device_bytes as f64 / measured.bytes.max(1) as f64;
        cell.device_bytes_per_byte = Some(ratio);
    }
    Ok(cell)
}

/// Mean MiB resident and percent of a core per node while nothing happens.
fn idle(cluster: &Cluster) -> (f64, f64) {
    let pids = cluster.pids();
    let nodes = pids.len().max(1) as f64;
    let before = Usage::of(&pids);
    std::thread::sleep(IDLE);
    let used = Usage::of(&pids).since(&before);
    let resident = used.resident_bytes as f64 / f64::from(1 << 20) / nodes;
    (
        resident,
        used.cpu_us as f64 / IDLE.as_micros() as f64 * 100.0 / nodes,
    )
}

fn write(results: &Results) -> Result<()> {
    let folder = PathBuf::from("target/bench");
    fs::create_dir_all(&folder)?;
    let text = report::markdown(results, &JOBS);
    fs::write(folder.join("results.md"), &text)?;
    fs::write(
        folder.join("results.json"),
        serde_json::to_string_pretty(results)?,
    )?;
    println!("{text}\nwritten to target/bench/results.md and results.json");
    Ok(())
}
