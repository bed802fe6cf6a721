//! `cargo xtask demo` as root: the main job. Claims become mounted, replicated disks through the CSI driver, and a storage
//! process dies under them.
//!
//! Three storage processes and etcd on loopback, the two processes of the driver, two volumes that are there already; two
//! claims provisioned, published, staged and mounted by the calls that Kubernetes makes (`driver/claim.rs`); MariaDB on one
//! and a tree of pages on the other; snapshot and clone, SIGKILL, online growth, and everything deleted again.
//!
//! Whatever ends the run, mounts and devices are taken away before the cluster, unless it was asked to keep them.

pub mod database;
mod sites;
mod steps;
mod tasks;
mod workload;

use crate::cluster::{Cluster, Plan};
use crate::driver::{self, Claim, Driver, Kind};
use crate::process::may_grow_ext4;
use crate::rest::{self, Api};
use anyhow::{Context, Result, ensure};
use database::Database;
use serde_json::json;
use sites::{QuietSites, Sites};
use std::path::PathBuf;
use std::time::Duration;
use tasks::{Tasks, print_volumes};

/// Container that the storage class names.
const CONTAINER: &str = "kubernetes";
const GIB: u64 = 1 << 30;
/// Of each of three; what is written is a few hundred MiB, volumes are thin.
const DISK_BYTES: u64 = 4 * GIB;

/// Where it runs.
pub struct Site {
    /// Disks, logs and etcd.
    pub folder: PathBuf,
    /// Sockets, attachments and mounts: short, as sockets ask for, and open to the database's user.
    pub run_folder: PathBuf,
}

/// A running scenario.
struct Scenario {
    run_folder: PathBuf,
    cluster: Cluster,
    binary: PathBuf,
    api: Api,
    driver: Driver,
    tasks: Tasks,
    /// From claim to mounted file system, and from there to deleted: the latest of each.
    setup: Duration,
    teardown: Duration,
}

/// Runs it. `keep`: stop before anything is deleted and leave it running.
pub fn run(binary: PathBuf, site: Site, keep: bool) -> Result<()> {
    driver::clean(&binary, &site.run_folder)?;
    let mut scenario = Scenario::start(binary, site, keep)?;
    let outcome = scenario.play(keep);
    if keep && outcome.is_ok() {
        scenario.cluster.keep_running();
        scenario.driver.keep_running();
        return Ok(());
    }
    // Devices first: without the cluster they could not be flushed.
    let cleaned = driver::clean(&scenario.binary, &scenario.run_folder);
    outcome?;
    cleaned?;
    scenario.finish()
}

impl Scenario {
    fn start(binary: PathBuf, site: Site, keep: bool) -> Result<Self> {
        println!("==> etcd and three storage processes");
        let plan = Plan {
            folder: site.folder,
            nodes: 3,
            disks: 3,
            disk_bytes: DISK_BYTES,
            etcd: true,
            prewritten: false,
            sparse: false,
            bench: false,
            tokens: true,
            tls: false,
            detached: keep,
            given_disks: Vec::new(),
            network: None,
        };
        let mut tasks = Tasks::new();
        let cluster = tasks.run("start, until all answer", "storage", || {
            Cluster::start(binary.clone(), plan)
        })?;
        let api = cluster.any_api().context("no node runs")?.to_owned();
        println!(
            "==> the CSI driver: azekura csi controller and azekura csi node, with a token of scope csi"
        );
        let driver = tasks.run("start, until both answer", "driver", || {
            Driver::start(&binary, &cluster, &site.run_folder, keep)
        })?;
        Ok(Self {
            run_folder: site.run_folder,
            cluster,
            binary,
            api,
            driver,
            tasks,
            setup: Duration::ZERO,
            teardown: Duration::ZERO,
        })
    }

    fn play(&mut self, keep: bool) -> Result<()> {
        self.existing_volumes()?;
        let mut sites = self.apply()?;
        self.snapshot_and_clone(&sites)?;
        self.kill_processes(&sites)?;
        self.expand(&mut sites)?;
        let sites = self.move_sites(sites)?;
        if keep {
            self.leave_running(sites)?;
            return Ok(());
        }
        self.delete(sites)
    }

    fn expect_volumes(&self, count: usize) -> Result<()> {
        let found = print_volumes(&self.api)?;
        ensure!(
            found == count,
            "there are {found} volumes and should be {count}"
        );
        Ok(())
    }

    fn existing_volumes(&mut self) -> Result<()> {
        println!("==> what is there already: logging and monitoring");
        let container = json!({"name": CONTAINER, "rf": 2});
        rest::post(&self.api, "/containers", &container)?;
        for (name, size) in [("logging", 10), ("monitoring", 20)] {
            let mut claim = Claim::new(&self.driver, name, Kind::Ext4, size * GIB)?;
            self.provision(&mut claim, None)?;
        }
        self.expect_volumes(2)
    }

    /// The file system of the claim that grows while it is mounted.
    fn growing_kind() -> Kind {
        if may_grow_ext4() {
            return Kind::Ext4;
        }
        println!(
            "    left out: growing a mounted ext4, which takes CAP_SYS_RESOURCE and this root lacks it; \
             mysql-pv-claim has xfs instead"
        );
        Kind::Xfs
    }

    fn apply(&mut self) -> Result<Sites> {
        println!("==> mysql-pv-claim and wp-pv-claim, 20 GiB each, two copies of everything");
        let mysql = self.claim("mysql-pv-claim", Self::growing_kind())?;
        let web = self.claim("wp-pv-claim", Kind::Ext4)?;
        self.expect_volumes(4)?;
        println!("==> a database on the first, a web tree on the second");
        let data = mysql.target.join("data");
        self.tasks.run("mariadb-install-db", &mysql.name, || {
            database::install(&data)
        })?;
        let folder = self.cluster.folder.clone();
        let sockets = &self.run_folder;
        let database = self.tasks.run("start mariadbd", &mysql.name, || {
            Database::start(&data, "mysql", &folder, sockets)
        })?;
        Sites::start(database, mysql, web)
    }

    fn delete(&mut self, sites: QuietSites) -> Result<()> {
        println!("==> everything is deleted");
        sites.database.stop()?;
        for claim in [&sites.mysql, &sites.web] {
            let started = std::time::Instant::now();
            self.release(claim)?;
            self.delete_volume(claim)?;
            self.teardown = started.elapsed();
        }
        self.expect_volumes(2)?;
        self.tasks.print(&["DeleteVolume", "DeleteSnapshot"]);
        Ok(())
    }

    fn finish(self) -> Result<()> {
        println!("==> what it took");
        let seconds = |what: &str, time: Duration| {
            println!("    {what:<40} {:>8.2} s", time.as_secs_f64());
        };
        seconds("claim to mounted and writable", self.setup);
        seconds("unmount to deleted", self.teardown);
        seconds("the whole demo, without building", self.tasks.elapsed());
        let folder = self.cluster.folder.clone();
        drop(self.driver);
        self.cluster.remove()?;
        println!("    all processes ended, {} deleted", folder.display());
        Ok(())
    }
}
