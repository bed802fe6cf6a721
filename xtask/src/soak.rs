//! `cargo xtask soak`: three nodes and etcd with file systems and a database on their volumes, struck at random for a
//! stated time while every byte is compared.
//!
//! It runs in a network namespace of its own, so that it can cut connections. The seed decides what is struck and when;
//! real processes do not repeat exactly, so it repeats a run only roughly.

mod crowded;
mod fallible;
mod full;
mod load;
mod report;
mod site;
mod strike;

use crate::cluster::network::Network;
use crate::cluster::{self, Cluster, Plan};
use crate::driver::{self, output};
use crate::{packages, process, rest};
use anyhow::{Context, Result, bail, ensure};
use fallible::FallibleDisk;
use load::{Load, Pulse};
use report::{Event, Report};
use serde_json::json;
use site::Site;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use strike::{Scene, Strike};

const NODES: usize = 3;
/// Of each of them.
const DISK_BYTES: u64 = 6 << 30;
/// Of each volume.
const VOLUME_BYTES: u64 = 1 << 30;
/// Longest wait until the cluster is whole again.
const WHOLE_MAX: Duration = Duration::from_secs(300);
/// Quiet time between two strikes.
const QUIET: Duration = Duration::from_secs(4);
/// Mounts, and links to sockets: every user must reach it, and its name must be short.
const RUN_FOLDER: &str = "/run/azekura-soak";
/// Says that the process is in the namespace already.
const INSIDE: &str = "AZEKURA_SOAK_INSIDE";

const USAGE: &str = "\
cargo xtask soak [--minutes N] [--seed N] [--dir DIR] [--binary FILE] [--other FILE]
    real processes under random faults, every byte verified; the report goes to DIR.md. Needs root.
    --other FILE   an azekura of another release: restarts one after the other give nodes one or the other, from the start on,
                   so that releases are mixed; everything else goes on with --binary";

struct Request {
    minutes: u64,
    seed: u64,
    folder: PathBuf,
    binary: Option<PathBuf>,
    /// Of another release.
    other: Option<PathBuf>,
}

/// Runs it; whether nothing was wrong.
pub fn run(arguments: &[String]) -> Result<bool> {
    let request = parse(arguments)?;
    ensure!(process::is_root(), "the soak test mounts: run it as root");
    let mut missing = packages::ensure(packages::SCENARIO);
    missing.extend(packages::ensure(packages::MOUNT));
    missing.extend(packages::ensure(packages::SOAK));
    ensure!(
        missing.is_empty(),
        "packages are missing: {}",
        missing.join(" ")
    );
    if std::env::var_os(INSIDE).is_none() {
        let binary = cluster::binary(request.binary.as_deref())?;
        return enter(arguments, &binary);
    }
    output(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let binary = request.binary.clone().context("--binary is missing")?;
    driver::clean(&binary, Path::new(RUN_FOLDER))?;
    let mut soak = Soak::start(binary, request)?;
    match soak.play() {
        Ok(true) => soak.remove().map(|()| true),
        ended => {
            if let Err(error) = ended {
                eprintln!("xtask: {error:#}");
            }
            // Whoever looks into it needs the processes, and the loads would wait for them for ever.
            soak.cluster.keep_running();
            println!(
                "    everything goes on, with logs and disks in {}",
                soak.cluster.folder.display()
            );
            println!("    the next soak test with this --dir ends and clears it");
            std::process::exit(1)
        }
    }
}

/// Runs this program again in a network namespace of its own.
fn enter(arguments: &[String], binary: &Path) -> Result<bool> {
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe()?);
    command.arg("soak").args(arguments);
    command.arg("--binary").arg(binary).env(INSIDE, "1");
    let status = command.status().context("cannot start `unshare`")?;
    Ok(status.success())
}

fn parse(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        minutes: 10,
        seed: 1,
        folder: PathBuf::from("target/soak"),
        binary: None,
        other: None,
    };
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        let mut value = || {
            left.next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--minutes" => {
                request.minutes = value()?.parse().context("--minutes needs a number")?
            }
            "--seed" => request.seed = value()?.parse().context("--seed needs a number")?,
            "--dir" => request.folder = PathBuf::from(value()?),
            "--binary" => request.binary = Some(PathBuf::from(value()?)),
            "--other" => request.other = Some(PathBuf::from(value()?).canonicalize()?),
            other => bail!("soak does not know `{other}`.\n{USAGE}"),
        }
    }
    ensure!(request.minutes > 0, "--minutes must be at least 1");
    Ok(request)
}

fn make_disks(folder: &Path) -> Result<Vec<FallibleDisk>> {
    let disks = (1..=NODES).map(|number| {
        let image = folder.with_extension(format!("disk-{number}"));
        let mount = Path::new(RUN_FOLDER).join(format!("disk-{number}"));
        FallibleDisk::make(&image, DISK_BYTES, &mount)
    });
    disks.collect()
}

/// Small numbers from a seed (xorshift64*, Vigna 2016): choices need no more.
pub struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

struct Soak {
    cluster: Cluster,
    /// One for each node.
    disks: Vec<FallibleDisk>,
    sites: Vec<Site>,
    loads: Vec<Load>,
    pulse: Arc<Pulse>,
    dice: Dice,
    report: Report,
    request: Request,
}

impl Soak {
    fn start(binary: PathBuf, request: Request) -> Result<Self> {
        println!("==> three nodes and etcd in {}", request.folder.display());
        std::fs::create_dir_all(RUN_FOLDER)?;
        let disks = make_disks(&request.folder)?;
        let plan = Plan {
            folder: request.folder.clone(),
            nodes: NODES,
            disks: NODES,
            disk_bytes: DISK_BYTES,
            etcd: true,
            prewritten: false,
            sparse: false,
            bench: false,
            tokens: false,
            tls: true,
            detached: false,
            given_disks: disks.iter().map(|disk| disk.path.clone()).collect(),
            network: Some(Network::make(NODES)?),
        };
        let cluster = Cluster::start(binary, plan)?;
        let api = cluster.any_api().context("no node runs")?.clone();
        rest::post(&api, "/containers", &json!({"name": "soak", "rf": 2}))?;
        let pulse = Arc::new(Pulse::default());
        let mut soak = Self {
            dice: Dice::new(request.seed),
            report: Report::new(request.minutes, request.seed),
            cluster,
            disks,
            sites: Vec::new(),
            loads: Vec::new(),
            pulse,
            request,
        };
        for (volume, kind) in [
            ("files-ext4", "ext4"),
            ("files-xfs", "xfs"),
            ("database", "ext4"),
        ] {
            let body = json!({"name": volume, "container": "soak", "size": VOLUME_BYTES});
            rest::post(&api, "/volumes", &body)?;
            let site = Site::make(&soak.cluster, volume, kind, Path::new(RUN_FOLDER))?;
            println!("    {volume}: {} on {}", site.kind, site.device);
            soak.sites.push(site);
        }
        let seed = soak.request.seed;
        for number in 0..2 {
            let folder = soak.sites[number].mount.join("data");
            let load = Load::files(&folder, seed + number as u64, &soak.pulse)?;
            soak.loads.push(load);
        }
        let data = soak.sites[2].mount.join("mysql");
        let load = Load::database(
            &data,
            &soak.cluster.folder,
            Path::new(RUN_FOLDER),
            &soak.pulse,
        )?;
        soak.loads.push(load);
        Ok(soak)
    }

    fn play(&mut self) -> Result<bool> {
        let started = Instant::now();
        let length = Duration::from_secs(self.request.minutes * 60);
        let quiet = self.watch(QUIET * 3);
        self.report.quiet(quiet);
        let mut first = { self.request.other.is_some() }.then_some(Strike::RollingRestart);
        while started.elapsed() < length && self.pulse.errors().is_empty() {
            let strike = { first.take() }.unwrap_or_else(|| Strike::draw(&mut self.dice));
            let at = started.elapsed();
            let event = self.strike(strike, at)?;
            println!("    {}", event.line());
            self.report.add(event);
            self.watch(QUIET);
        }
        if self.pulse.errors().is_empty() {
            self.loads.iter_mut().for_each(Load::stop);
        }
        let errors = self.pulse.errors();
        let text = self.report.markdown(&self.pulse, &self.loads, &errors);
        let path = self.request.folder.with_extension("md");
        std::fs::write(&path, &text)?;
        println!("{text}\n    written to {}", path.display());
        Ok(errors.is_empty())
    }

    fn remove(self) -> Result<()> {
        drop(self.loads);
        for site in self.sites {
            site.remove(&self.cluster)?;
        }
        self.cluster.remove()?;
        drop(self.disks);
        std::fs::remove_dir_all(RUN_FOLDER)?;
        Ok(())
    }

    /// Lets the loads run; the longest operation of the time.
    fn watch(&self, time: Duration) -> Duration {
        self.pulse.take_longest();
        std::thread::sleep(time);
        self.pulse.take_longest()
    }

    /// One strike, until the cluster is whole again and everything has been compared.
    fn strike(&mut self, strike: Strike, at: Duration) -> Result<Event> {
        self.pulse.take_longest();
        let begun = Instant::now();
        let scene = Scene {
            disks: &self.disks,
            sites: &self.sites,
            other: self.request.other.as_deref(),
        };
        let what = strike.carry_out(&mut self.cluster, &scene, &mut self.dice)?;
        let struck = begun.elapsed();
        self.cluster.wait_verdict("ok", WHOLE_MAX)?;
        let whole = begun.elapsed();
        // What was asked for before the cluster was whole counts.
        self.pulse.settle();
        let longest = self.pulse.take_longest();
        let mut verified = 0;
        for load in &self.loads {
            match load.verify() {
                Ok(bytes) => verified += bytes,
                Err(error) => self.pulse.fail(format!("{}: {error:#}", load.name())),
            }
        }
        Ok(Event {
            at,
            what,
            struck,
            whole,
            longest,
            verified,
        })
    }
}
