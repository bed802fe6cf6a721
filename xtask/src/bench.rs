//! `cargo xtask bench`: the raw disk, the protocol's ceiling and Azekura with one, two and three copies, in one run.
//!
//! Everything is set up once and the devices take turns within each job, so that a noisy machine is equally unfair
//! to all of them. Every figure is the median of the runs. `--peer ceph` measures Ceph instead, with the raw disk
//! beside it again, so that both sets of figures can be divided by what the disk did in their own run.

mod ceph;
mod csi;
mod encryption;
mod engine;
mod fio;
mod idle;
mod manage;
mod publish;
mod repair;
mod report;
mod request;
mod target;
mod times;
mod usage;

use crate::cluster::{self, Cluster, Plan};
use crate::process::find_program;
use crate::{packages, rest};
use anyhow::{Context, Result, ensure};
use ceph::Ceph;
use engine::Engine;
use fio::{Device, JOBS};
use report::Results;
use request::{Request, USAGE};
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use target::{Driver, Target, run_jobs};

/// Where results are.
const FOLDER: &str = "target/bench";
/// Copies that are measured.
const COPIES: [u8; 3] = [1, 2, 3];
/// Stores count as even when nothing has moved for so long: their fill is looked at every 10 s while something does.
const SETTLED_AFTER: Duration = Duration::from_secs(15);
/// And never longer than this.
const SETTLE_MAX: Duration = Duration::from_secs(300);
/// Jobs of the quick form for the protocol's ceiling, RF1 and the engine without NBD; the others run all.
const QUICK_CEILING: [&str; 3] = [JOBS[1].name, JOBS[3].name, JOBS[4].name];
const QUICK_RF1: [&str; 2] = [JOBS[1].name, JOBS[4].name];
const QUICK_ENGINE: [&str; 3] = [JOBS[1].name, JOBS[3].name, JOBS[4].name];

/// Ends nbdkit with the benchmark.
struct Ceiling(Child);

impl Drop for Ceiling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says what begins, and how long everything before took.
fn stage(text: &str) {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    let started = STARTED.get_or_init(Instant::now);
    println!("==> {text} ({} s)", started.elapsed().as_secs());
}

/// Runs the benchmark and writes its results.
pub fn run(arguments: &[String]) -> Result<bool> {
    let Some(request) = Request::parse(arguments)? else {
        println!("{USAGE}");
        return Ok(true);
    };
    if request.csi {
        csi::run(&request)?;
        stage("done");
    } else if request.repair {
        repair::run(&request)?;
        stage("done");
    } else if request.manage {
        manage::run(&request)?;
        stage("done");
    } else if request.encryption {
        encryption::run(&request)?;
        stage("done");
    } else if request.measure {
        let results = match request.peer {
            true => measure_ceph(&request)?,
            false => measure(&request)?,
        };
        let name = if request.peer { "peer" } else { "results" };
        write(&results, name)?;
        stage("done");
    }
    if request.publish {
        publish::publish(Path::new(FOLDER))?;
    }
    Ok(true)
}

fn measure(request: &Request) -> Result<Results> {
    let missing = packages::ensure(packages::BENCH);
    ensure!(
        missing.is_empty(),
        "the benchmark needs {}",
        missing.join(", ")
    );
    let binary = cluster::binary(request.binary.as_deref())?;
    stage("disks, processes, volumes");
    // Six copies of the data on three disks, three times as much for garbage, and journals: above 70 % of a store,
    // collecting comes before clients.
    let disk_bytes = 8 * request.bytes + (4 << 30);
    let folder = request.folder.clone();
    let mut cluster = start_cluster(&binary, request, folder, disk_bytes, request.tls)?;
    stage("idle");
    let mut idle = vec![idle::watch(&cluster, "after the start", request.idle())];
    let (targets, ceiling) = targets(&cluster, &binary, request)?;
    stage("fill");
    for target in &targets {
        target.fill(request.bytes)?;
    }
    settle(&cluster)?;
    let cells = run_jobs(&targets, &JOBS, request)?;
    drop(ceiling);
    stage("idle, with and without volumes");
    idle.push(idle::watch(&cluster, "after all jobs", request.idle()));
    idle.extend(idle::watch_attached(&cluster, request.idle())?);
    stage("create, snapshot, clone, losses");
    let times = match request.losses {
        0 => Vec::new(),
        losses => times::measure(&mut cluster, losses)?,
    };
    let results = Results {
        machine: usage::machine(&cluster.folder),
        settings: settings(request),
        cells,
        times,
        idle,
    };
    cluster.remove()?;
    Ok(results)
}

fn measure_ceph(request: &Request) -> Result<Results> {
    ceph::ensure_installed()?;
    stage("Ceph: three OSDs");
    // Five copies of the data on three OSDs, and as much again for BlueStore's own.
    let ceph = Ceph::start(
        &request.folder,
        4 * request.bytes + (4 << 30),
        request.bytes,
    )?;
    let mut targets = vec![raw(&request.folder.canonicalize()?, request.bytes)?];
    targets.extend(ceph.targets());
    targets.retain(|target| request.wants(&target.name));
    stage("fill");
    for target in &targets {
        target.fill(request.bytes)?;
    }
    let cells = run_jobs(&targets, &JOBS, request)?;
    let mut settings = settings(request);
    settings.push((
        "Ceph".into(),
        format!(
            "{}; one monitor, one manager, three OSDs with BlueStore on files, loopback, no authentication, pools \
             of two copies (of which one must be there) and three (two), fio's rbd engine with rbd_cache=false",
            ceph::version()
        ),
    ));
    let results = Results {
        machine: usage::machine(&request.folder),
        settings,
        cells,
        ..Results::default()
    };
    ceph.remove()?;
    Ok(results)
}

fn settings(request: &Request) -> Vec<(String, String)> {
    let version = Command::new("fio").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    vec![
        ("fio".into(), version.unwrap_or_default()),
        (
            "bytes used of each device".into(),
            format!("{} GiB", request.bytes >> 30),
        ),
        (
            "connections".into(),
            match request.tls {
                true => "TLS 1.3 with certificates on both sides; NBD plain",
                false => "plain",
            }
            .into(),
        ),
        (
            "one job".into(),
            format!(
                "{} s, the sustained one {} s; median of {}",
                request.seconds,
                request.seconds_of(4),
                request.runs
            ),
        ),
    ]
}

fn start_cluster(
    binary: &Path,
    request: &Request,
    folder: PathBuf,
    disk_bytes: u64,
    tls: bool,
) -> Result<Cluster> {
    let plan = Plan {
        folder,
        nodes: 3,
        disks: 3,
        disk_bytes,
        etcd: true,
        prewritten: true,
        sparse: false,
        bench: true,
        tokens: false,
        tls,
        detached: false,
        given_disks: Vec::new(),
        network: None,
    };
    let cluster = Cluster::start(binary.to_path_buf(), plan)?;
    let api = cluster.any_api().context("no node runs")?;
    for rf in COPIES {
        let container = format!("rf{rf}");
        rest::post(api, "/containers", &json!({"name": container, "rf": rf}))?;
        let body = json!({"name": container, "container": container, "size": request.bytes});
        rest::post(api, "/volumes", &body)?;
    }
    Ok(cluster)
}

/// Waits until the stores are even: what was filled lies where its owner is, and moving a share of it elsewhere would go on
/// beside the first jobs.
fn settle(cluster: &Cluster) -> Result<()> {
    stage("stores become even");
    let api = cluster.any_api().context("no node runs")?;
    let began = Instant::now();
    let mut quiet = Instant::now();
    while quiet.elapsed() < SETTLED_AFTER {
        ensure!(
            began.elapsed() < SETTLE_MAX,
            "the stores are not even after {} s",
            SETTLE_MAX.as_secs()
        );
        let status = rest::get(api, "/status")?;
        let stores = status["stores"].as_array().cloned().unwrap_or_default();
        let moves = |store: &serde_json::Value| store["filling"] != 0 || store["leaving"] != 0;
        if stores.iter().any(moves) {
            quiet = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// What is asked for, in the order of the table. A volume is there when any way to it is.
fn targets(
    cluster: &Cluster,
    binary: &Path,
    request: &Request,
) -> Result<(Vec<Target>, Option<Ceiling>)> {
    let mut targets = vec![raw(&cluster.folder, request.bytes)?];
    let mut ceiling = None;
    if request.wants("nbdkit") {
        let (process, target) = start_ceiling(cluster, request)?;
        targets.push(target);
        ceiling = Some(process);
    }
    for rf in COPIES {
        let ways = volume(cluster, binary, &format!("rf{rf}"), request)?;
        let wanted = ways.iter().any(|target| request.wants(&target.name));
        targets.extend(ways.into_iter().filter(|_| wanted));
    }
    // A volume that is measured without NBD alone is still filled through NBD.
    for target in &mut targets {
        if !request.wants(&target.name) {
            target.jobs = vec![""];
        }
    }
    Ok((targets, ceiling))
}

fn raw(folder: &Path, bytes: u64) -> Result<Target> {
    let path = folder.join("raw");
    println!("    a raw file of {} GiB, written in full", bytes >> 30);
    cluster::write_zeros(&File::create(&path)?, bytes)?;
    Ok(Target {
        name: "raw".into(),
        driver: Driver::Fio(Device::File(path)),
        pids: Vec::new(),
        drains: None,
        jobs: Vec::new(),
    })
}

fn start_ceiling(cluster: &Cluster, request: &Request) -> Result<(Ceiling, Target)> {
    let address = cluster::free_address()?;
    let (host, port) = address.split_once(':').context("an address has a port")?;
    let program = find_program("nbdkit").context("nbdkit is missing")?;
    let mut command = Command::new(program);
    command.args(["-f", "-i", host, "-p", port, "memory"]);
    command.arg(request.bytes.to_string());
    let log = cluster.folder.join("nbdkit.log");
    let ceiling = Ceiling(cluster::spawn(&mut command, &log)?);
    cluster::wait_port(&address, "nbdkit", &log)?;
    let target = Target {
        name: "nbdkit".into(),
        driver: Driver::Fio(Device::Nbd(format!("nbd://{address}"))),
        pids: vec![ceiling.0.id()],
        drains: None,
        jobs: quick(request, &QUICK_CEILING),
    };
    Ok((ceiling, target))
}

fn quick(request: &Request, jobs: &[&'static str]) -> Vec<&'static str> {
    if request.quick {
        jobs.to_vec()
    } else {
        Vec::new()
    }
}

/// A volume through the gateway of its owner, whom the first use settles, and without NBD.
fn volume(cluster: &Cluster, binary: &Path, name: &str, request: &Request) -> Result<[Target; 3]> {
    let first = cluster.nodes.first().context("no nodes")?;
    let mut client = crate::nbd::Client::connect(&first.nbd, name, Duration::from_secs(60))?;
    client.write(0, &[0; 4096])?;
    drop(client);
    let owner = &cluster.nodes[cluster.owner_of(name)?];
    println!("    {name} is owned by {}", owner.name);
    let target = |suffix: &str, driver: Driver, few: &[&'static str]| Target {
        name: format!("{name}{suffix}"),
        driver,
        pids: cluster.pids(),
        drains: Some((name.to_owned(), owner.api.clone())),
        jobs: quick(request, few),
    };
    let engine = |socket: Option<PathBuf>| {
        Driver::Engine(Engine {
            binary: binary.to_path_buf(),
            volume: name.to_owned(),
            api: owner.api.clone(),
            socket,
        })
    };
    let device = Device::Nbd(format!("nbd://{}/{name}", owner.nbd));
    let through_nbd: &[_] = if name == "rf1" { &QUICK_RF1 } else { &[] };
    let alone: &[_] = if name == "rf1" { &[""] } else { &QUICK_ENGINE };
    Ok([
        target("", Driver::Fio(device), through_nbd),
        target("-remote", engine(None), alone),
        target("-owner", engine(owner.bench.clone()), alone),
    ])
}

fn write(results: &Results, name: &str) -> Result<()> {
    write_as(name, &report::markdown(results), results)
}

fn write_as(name: &str, markdown: &str, results: &Results) -> Result<()> {
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder)?;
    let text = format!("# Benchmark\n\n{markdown}");
    fs::write(folder.join(format!("{name}.md")), &text)?;
    fs::write(
        folder.join(format!("{name}.json")),
        serde_json::to_string_pretty(results)?,
    )?;
    println!("{text}\nwritten to {FOLDER}/{name}.md and {name}.json");
    Ok(())
}
