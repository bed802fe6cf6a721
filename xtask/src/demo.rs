//! `cargo xtask demo`: the scenario of `scenario.rs` (csi) as root; else a replicated volume that loses the process that owns
//! it, and not a byte (engine). `--scenario` asks for one of the two.
//!
//! The engine's: three `azekura node` processes and etcd on loopback, one disk file each; no root needed. Without etcd: one
//! process with three disks, one of which is torn away. `cargo xtask test` plays both, this one with less data.

use crate::cluster::{self, Cluster, Plan};
use crate::image::{Image, Sequence};
use crate::nbd::Client;
use crate::stall::{self, Stall};
use crate::{packages, process, rest, scenario};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for one I/O: a takeover several times over.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much the engine's scenario writes and compares.
struct Scale {
    volume_bytes: u64,
    /// Of each of three: two copies of everything, journals, and space for garbage not yet collected.
    disk_bytes: u64,
    /// Written before the snapshot.
    bulk_bytes: u64,
    /// Random overwrites of 4 to 64 KiB, of the volume after the snapshot and of the clone.
    overwrites: u64,
    /// How long I/O runs before and after the kill.
    before_kill: Duration,
    after_kill: Duration,
}

/// What a person is shown.
const FULL: Scale = Scale {
    volume_bytes: 1 << 30,
    disk_bytes: 4 << 30,
    bulk_bytes: 384 << 20,
    overwrites: 400,
    before_kill: Duration::from_secs(2),
    after_kill: Duration::from_secs(8),
};

/// The same promises, as fast as a test should be.
const QUICK: Scale = Scale {
    volume_bytes: 256 << 20,
    disk_bytes: 2 << 30,
    bulk_bytes: 96 << 20,
    overwrites: 100,
    before_kill: Duration::from_secs(1),
    after_kill: Duration::from_secs(4),
};

/// The two scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// A volume through NBD, every byte compared.
    Engine,
    /// Claims through the CSI driver, with a database on them.
    Csi,
}

impl Which {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Csi => "csi",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let known = [Self::Engine, Self::Csi];
        let found = known.into_iter().find(|which| which.name() == text);
        found.with_context(|| format!("there is no scenario `{text}`: engine and csi are"))
    }
}

struct Request {
    keep: bool,
    /// Whether to behave as if etcd could not be had.
    without_etcd: bool,
    /// Which one; nothing: the CSI driver's where it can run.
    scenario: Option<Which>,
    scale: &'static Scale,
    /// Where the CSI scenario has its sockets and mounts.
    run_folder: PathBuf,
    /// An `azekura` that is built already.
    binary: Option<PathBuf>,
    folder: PathBuf,
}

/// The report's lines.
#[derive(Default)]
struct Report(Vec<(String, String)>);

impl Report {
    fn add(&mut self, what: &str, value: impl Into<String>) {
        self.0.push((what.to_owned(), value.into()));
    }

    fn time(&mut self, what: &str, duration: Duration) {
        self.add(what, format!("{:.1} ms", duration.as_secs_f64() * 1000.0));
    }
}

/// The three images and what is known of them.
struct Demo {
    scale: &'static Scale,
    cluster: Cluster,
    volume: Image,
    snapshot: Image,
    clone: Image,
    report: Report,
}

/// Runs the demonstration.
pub fn run(arguments: &[String]) -> Result<bool> {
    let request = parse(arguments)?;
    let started = Instant::now();
    match request.binary {
        None => println!("==> etcd and the release build"),
        Some(_) => println!("==> etcd"),
    }
    let etcd = !request.without_etcd && packages::ensure(packages::DEMO).is_empty();
    let binary = cluster::binary(request.binary.as_deref())?;
    let obstacle = match request.scenario {
        Some(Which::Engine) => Some("the engine's scenario was asked for".to_owned()),
        Some(Which::Csi) | None => csi_obstacle(etcd),
    };
    let Some(reason) = obstacle else {
        let site = scenario::Site {
            folder: request.folder,
            run_folder: request.run_folder,
        };
        scenario::run(binary, site, request.keep)?;
        return Ok(true);
    };
    ensure!(
        request.scenario != Some(Which::Csi),
        "the CSI driver's scenario cannot run: {reason}"
    );
    println!(
        "    left out: the CSI driver, the claims it mounts, the database on them, its clone and its growth, because {reason}"
    );
    println!("    shown instead: the same storage through NBD, compared byte by byte");
    let mut demo = Demo::start(binary, &request, etcd)?;
    demo.fill()?;
    demo.snapshot_and_clone()?;
    if etcd {
        demo.kill_the_owner()?
    } else {
        demo.tear_a_disk_away()?
    }
    demo.verify()?;
    demo.finish(&request, started)?;
    Ok(true)
}

/// Why a scenario cannot run here; installs what it lacks, where it may.
pub fn obstacle(which: Which) -> Option<String> {
    let etcd = packages::ensure(packages::DEMO).is_empty();
    match which {
        // Without etcd it shows less, but it runs.
        Which::Engine => None,
        Which::Csi => csi_obstacle(etcd),
    }
}

/// Why the scenario with mounts and a database cannot run here.
fn csi_obstacle(etcd: bool) -> Option<String> {
    if !process::is_root() {
        return Some("attaching and mounting need root".to_owned());
    }
    if !etcd {
        return Some("three processes need etcd".to_owned());
    }
    if !process::may_mount() {
        return Some("mounting needs CAP_SYS_ADMIN, which this container lacks".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        // The node is there also where the kernel has no driver for it, or the container's rules forbid it.
        let opened = std::fs::File::options().read(true).write(true).open(device);
        if let Err(cause) = opened {
            return Some(format!(
                "{device} cannot be opened ({cause}): modprobe fuse loop, or allow it in this container"
            ));
        }
    }
    let mut missing = packages::ensure(packages::SCENARIO);
    missing.extend(packages::ensure(packages::MOUNT));
    (!missing.is_empty()).then(|| format!("packages are missing: {}", missing.join(" ")))
}

fn parse(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        keep: false,
        without_etcd: false,
        scenario: None,
        scale: &FULL,
        run_folder: PathBuf::from("/run/azekura-demo"),
        binary: None,
        folder: PathBuf::from("target/demo"),
    };
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        match argument.as_str() {
            "--keep" => request.keep = true,
            "--dir" => request.folder = left.next().context("--dir needs a folder")?.into(),
            "--without-etcd" => request.without_etcd = true,
            "--binary" => request.binary = left.next().map(PathBuf::from),
            "--rootless" | "--root-free" => request.scenario = Some(Which::Engine),
            "--scenario" => {
                let name = left.next().context("--scenario needs a name")?;
                request.scenario = Some(Which::parse(name)?);
            }
            // For `cargo xtask test`: less of it, and beside what a person keeps running.
            "--quick" => request.scale = &QUICK,
            "--run-dir" => {
                request.run_folder = left.next().context("--run-dir needs a folder")?.into()
            }
            other => bail!("`cargo xtask demo` does not know `{other}`"),
        }
    }
    Ok(request)
}

impl Demo {
    fn start(binary: PathBuf, request: &Request, etcd: bool) -> Result<Self> {
        if etcd {
            println!("==> etcd and three storage processes");
        } else {
            println!("==> one storage process with three disks, because there is no etcd");
        }
        let plan = Plan {
            folder: request.folder.clone(),
            nodes: if etcd { 3 } else { 1 },
            disks: 3,
            disk_bytes: request.scale.disk_bytes,
            etcd,
            prewritten: false,
            sparse: false,
            bench: false,
            tokens: false,
            tls: false,
            detached: request.keep,
            given_disks: Vec::new(),
            network: None,
        };
        let cluster = Cluster::start(binary, plan)?;
        for node in &cluster.nodes {
            let disks: Vec<_> = node
                .disks
                .iter()
                .map(|disk| disk.display().to_string())
                .collect();
            let size = request.scale.disk_bytes >> 30;
            println!("    {}: {} ({size} GiB each)", node.name, disks.join(", "));
        }
        let empty = Image::new(request.scale.volume_bytes);
        let report = Report::default();
        Ok(Self {
            scale: request.scale,
            cluster,
            volume: empty.clone(),
            snapshot: empty.clone(),
            clone: empty,
            report,
        })
    }

    fn api(&self) -> Result<&rest::Api> {
        self.cluster.any_api().context("no node runs")
    }

    /// Connects to an export through the gateway of a node that is not `avoid`.
    fn connect(&self, export: &str, avoid: Option<usize>) -> Result<Client> {
        let others = self
            .cluster
            .nodes
            .iter()
            .enumerate()
            .filter(|(index, node)| {
                node.pid().is_some() && (Some(*index) != avoid || self.cluster.nodes.len() == 1)
            });
        let node = others
            .map(|(_, node)| node)
            .next_back()
            .context("no node runs")?;
        Client::connect(&node.nbd, export, PATIENCE)
    }

    fn post(&self, path: &str, body: &serde_json::Value) -> Result<Duration> {
        let started = Instant::now();
        rest::post(self.api()?, path, body)?;
        Ok(started.elapsed())
    }

    fn fill(&mut self) -> Result<()> {
        let (bytes, bulk) = (self.scale.volume_bytes, self.scale.bulk_bytes);
        println!(
            "==> a volume of {} MiB with two copies, written through NBD",
            bytes >> 20
        );
        self.post("/containers", &json!({"name": "demo", "rf": 2}))?;
        let body = json!({"name": "disk", "container": "demo", "size": bytes});
        let took = self.post("/volumes", &body)?;
        self.report.time("create the volume", took);
        let started = Instant::now();
        let mut client = self.connect("disk", None)?;
        self.volume.write_bulk(&mut client, bulk, 1, "write")?;
        let rate = (bulk >> 20) as f64 / started.elapsed().as_secs_f64();
        self.report.add(
            &format!("write {} MiB, two copies, flushed", bulk >> 20),
            format!("{rate:.0} MiB/s"),
        );
        Ok(())
    }

    fn snapshot_and_clone(&mut self) -> Result<()> {
        println!("==> snapshot, overwrite, clone");
        let (bulk, overwrites) = (self.scale.bulk_bytes, self.scale.overwrites);
        let took = self.post("/volumes/disk/snapshots", &json!({"name": "before"}))?;
        self.report.time("snapshot", took);
        self.snapshot = self.volume.clone();
        let mut client = self.connect("disk", None)?;
        let written = self.volume.write_random(&mut client, bulk, overwrites, 2)?;
        println!(
            "    {overwrites} random overwrites of the volume, {} MiB",
            written >> 20
        );
        let from = json!({"volume": "disk", "snapshot": "before"});
        let took = self.post("/volumes", &json!({"name": "copy", "from": from}))?;
        self.report.time("clone", took);
        self.clone = self.snapshot.clone();
        let mut client = self.connect("copy", None)?;
        let written = self.clone.write_random(&mut client, bulk, overwrites, 3)?;
        println!(
            "    {overwrites} random overwrites of the clone, {} MiB",
            written >> 20
        );
        Ok(())
    }

    /// Writes 4 KiB blocks one after another, kills the owner meanwhile, and goes on.
    fn kill_the_owner(&mut self) -> Result<()> {
        let owner = self.cluster.owner_of("disk")?;
        let name = self.cluster.nodes[owner].name.clone();
        let client = self.connect("disk", Some(owner))?;
        println!("==> kill -9 of {name}, which owns the volume, while 4 KiB writes run");
        let stall = self.write_through(client, |cluster| cluster.kill_node(owner))?;
        let heir = self.cluster.owner_of("disk")?;
        println!(
            "    {} writes before, {} after; {} took over; longest wait of a write {:.0} ms",
            stall.before,
            stall.after,
            self.cluster.nodes[heir].name,
            stall.longest.as_secs_f64() * 1000.0
        );
        self.report
            .time("longest wait of a write when the owner died", stall.longest);
        Ok(())
    }

    /// The one process loses a disk: its file is cut to nothing while I/O runs.
    fn tear_a_disk_away(&mut self) -> Result<()> {
        let disk = self.cluster.nodes[0].disks[2].clone();
        println!(
            "==> {} is torn away (cut to 0 bytes) while 4 KiB writes run",
            disk.display()
        );
        let client = self.connect("disk", None)?;
        let stall = self.write_through(client, |_| {
            let file = std::fs::File::options().write(true).open(&disk)?;
            file.set_len(0).context("cannot cut the disk's file")
        })?;
        println!("    {} writes before, {} after", stall.before, stall.after);
        self.report.time(
            "longest wait of a write when the disk vanished",
            stall.longest,
        );
        Ok(())
    }

    fn write_through(
        &mut self,
        client: Client,
        strike: impl FnOnce(&mut Cluster) -> Result<()>,
    ) -> Result<Stall> {
        let mut sequence = Sequence(4);
        let volume = &mut self.volume;
        let cluster = &mut self.cluster;
        let scale = self.scale;
        let mut next = move || {
            let offset = sequence.draw() % (scale.bulk_bytes / 4096) * 4096;
            (offset, volume.change(offset, 4096, 4))
        };
        stall::measure(
            client,
            &mut next,
            scale.before_kill,
            scale.after_kill,
            || strike(cluster),
        )
    }

    /// Every byte of the volume, the clone, and the snapshot.
    fn verify(&mut self) -> Result<()> {
        println!("==> every byte of volume, snapshot and clone");
        let started = Instant::now();
        self.volume
            .verify(&mut self.connect("disk", None)?, "the volume")?;
        self.clone
            .verify(&mut self.connect("copy", None)?, "the clone")?;
        // A snapshot is read through a clone of its own.
        let from = json!({"volume": "disk", "snapshot": "before"});
        self.post("/volumes", &json!({"name": "look", "from": from}))?;
        self.snapshot
            .verify(&mut self.connect("look", None)?, "the snapshot")?;
        let bytes = 3 * self.scale.volume_bytes;
        let rate = (bytes >> 20) as f64 / started.elapsed().as_secs_f64();
        self.report.add(
            "verified, no byte wrong",
            format!("{} MiB at {rate:.0} MiB/s", bytes >> 20),
        );
        let written = self.volume.bytes_written() >> 20;
        println!(
            "    all equal; {written} MiB of the volume were written, the rest reads as zeros"
        );
        Ok(())
    }

    fn finish(mut self, request: &Request, started: Instant) -> Result<()> {
        println!("==> what it took");
        for (what, value) in &self.report.0 {
            println!("    {what:<46} {value:>20}");
        }
        println!(
            "    {:<46} {:>18.0} s",
            "the whole demo",
            started.elapsed().as_secs_f64()
        );
        if request.keep {
            return self.keep();
        }
        let folder = self.cluster.folder.clone();
        self.cluster.remove()?;
        println!("    all processes ended, {} deleted", folder.display());
        Ok(())
    }

    fn keep(&mut self) -> Result<()> {
        for index in 0..self.cluster.nodes.len() {
            if self.cluster.nodes[index].pid().is_none() {
                self.cluster.start_node(index)?;
                self.cluster.wait_ready(index)?;
            }
        }
        self.cluster.keep_running();
        println!("==> it keeps running");
        for node in &self.cluster.nodes {
            println!(
                "    {}: API http://{}, NBD nbd://{}/disk",
                node.name, node.api, node.nbd
            );
        }
        let api = self.api()?;
        println!("    try: target/release/azekura --api http://{api} status");
        let words = |pids: &[u32]| {
            pids.iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let nodes = words(&self.cluster.pids());
        let etcd = self
            .cluster
            .etcd
            .as_ref()
            .map(|child| format!("kill {} && ", child.id()));
        let etcd = etcd.unwrap_or_default();
        let folder = self.cluster.folder.display();
        println!("    to end it: kill {nodes}; sleep 5; {etcd}rm -r {folder}");
        Ok(())
    }
}
