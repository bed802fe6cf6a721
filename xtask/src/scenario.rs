//! `cargo xtask demo` as root: a database and a web tree on replicated volumes, and a storage process that dies.
//!
//! Three storage processes and etcd on loopback, two volumes that are there already, two claims made, attached, formatted
//! and mounted; MariaDB on one and a tree of pages on the other; snapshot and clone, SIGKILL, and everything
//! deleted again. Volumes become devices through `azekura attach`, the process that serves them in Kubernetes too.
//!
//! Whatever ends the run, mounts and devices are taken away before the cluster, unless it was asked to keep them.

mod claim;
mod database;
mod tasks;
mod workload;

use crate::cluster::{Cluster, Plan};
use crate::rest;
use anyhow::{Context, Result, ensure};
use claim::{Access, Claim, RUN_FOLDER};
use database::Database;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tasks::{Tasks, print_volumes};
use workload::{Workload, verify_pages};

const GIB: u64 = 1 << 30;
/// Of each of three; what is written is a few hundred MiB, volumes are thin.
const DISK_BYTES: u64 = 4 * GIB;
/// How long the workload runs before and after the kill.
const BEFORE_KILL: Duration = Duration::from_secs(3);
const AFTER_KILL: Duration = Duration::from_secs(8);

/// A running scenario.
struct Scenario {
    cluster: Cluster,
    access: Access,
    tasks: Tasks,
    /// From claim to mounted file system, and from there to deleted: the latest of each.
    setup: Duration,
    teardown: Duration,
}

/// The two sites: their claims, devices and what runs on them.
struct Sites {
    database: Database,
    workload: Workload,
    mysql: Claim,
    web: Claim,
}

/// The same after the workload has ended.
struct QuietSites {
    database: Database,
    mysql: Claim,
    web: Claim,
}

/// Runs it. `keep`: stop before anything is deleted and leave it running.
pub fn run(binary: PathBuf, folder: &Path, keep: bool) -> Result<()> {
    claim::clean(&binary)?;
    std::fs::create_dir_all(RUN_FOLDER)?;
    let mut scenario = Scenario::start(binary, folder, keep)?;
    let outcome = scenario.play(keep);
    if keep && outcome.is_ok() {
        scenario.cluster.keep_running();
        return Ok(());
    }
    // Devices first: without the cluster they could not be flushed.
    let cleaned = claim::clean(&scenario.access.binary);
    outcome?;
    cleaned?;
    scenario.finish()
}

impl Scenario {
    fn start(binary: PathBuf, folder: &Path, keep: bool) -> Result<Self> {
        println!("==> etcd and three storage processes");
        let plan = Plan {
            folder: folder.to_owned(),
            nodes: 3,
            disks: 3,
            disk_bytes: DISK_BYTES,
            etcd: true,
            prewritten: false,
            bench: false,
            detached: keep,
        };
        let cluster = Cluster::start(binary.clone(), &plan)?;
        let api = cluster.any_api().context("no node runs")?.to_owned();
        let access = Access { binary, api };
        let tasks = Tasks::new();
        Ok(Self {
            cluster,
            access,
            tasks,
            setup: Duration::ZERO,
            teardown: Duration::ZERO,
        })
    }

    fn play(&mut self, keep: bool) -> Result<()> {
        self.existing_volumes()?;
        let sites = self.apply()?;
        self.snapshot_and_clone(&sites)?;
        self.kill_a_process(&sites)?;
        let sites = self.restart_sites(sites)?;
        if keep {
            self.leave_running(sites);
            return Ok(());
        }
        self.delete(sites)
    }

    fn expect_volumes(&self, count: usize) -> Result<()> {
        let found = print_volumes(&self.access.api)?;
        ensure!(
            found == count,
            "there are {found} volumes and should be {count}"
        );
        Ok(())
    }

    fn existing_volumes(&mut self) -> Result<()> {
        println!("==> what is there already: logging and monitoring");
        rest::post(
            &self.access.api,
            "/containers",
            &json!({"name": "kubernetes", "rf": 2}),
        )?;
        for (name, size) in [("logging", 10), ("monitoring", 20)] {
            let what = json!({"container": "kubernetes", "size": size * GIB});
            Claim::new(name)?.provision(&self.access, &mut self.tasks, &what)?;
        }
        self.expect_volumes(2)
    }

    /// A claim made, attached, formatted and mounted.
    fn claim(&mut self, name: &str) -> Result<Claim> {
        let started = Instant::now();
        let claim = Claim::new(name)?;
        let what = json!({"container": "kubernetes", "size": 20 * GIB});
        claim.provision(&self.access, &mut self.tasks, &what)?;
        let device = claim.attach(&self.access, &mut self.tasks)?;
        claim.format(&device, &mut self.tasks)?;
        claim.mount(&device, &mut self.tasks)?;
        self.setup = started.elapsed();
        Ok(claim)
    }

    fn apply(&mut self) -> Result<Sites> {
        println!("==> mysql-pv-claim and wp-pv-claim, 20 GiB each, two copies of everything");
        let mysql = self.claim("mysql-pv-claim")?;
        let web = self.claim("wp-pv-claim")?;
        self.expect_volumes(4)?;
        println!("==> a database on the first, a web tree on the second");
        let data = mysql.mount.join("data");
        self.tasks.run("mariadb-install-db", &mysql.name, || {
            database::install(&data)
        })?;
        let folder = self.cluster.folder.clone();
        let database = self.tasks.run("start mariadbd", &mysql.name, || {
            Database::start(&data, "mysql", &folder)
        })?;
        let workload = Workload::start(&database, &web.mount)?;
        std::thread::sleep(BEFORE_KILL);
        println!(
            "    {} rows committed, {} pages written, and it goes on",
            workload.rows.done(),
            workload.pages.done()
        );
        Ok(Sites {
            database,
            workload,
            mysql,
            web,
        })
    }

    /// The clone's database starts as after a power cut, and holds what was committed when the snapshot was taken.
    fn snapshot_and_clone(&mut self, sites: &Sites) -> Result<()> {
        println!("==> snapshot and clone of the running database's volume");
        let path = format!("/volumes/{}/snapshots", sites.mysql.volume);
        let committed = sites.workload.rows.done();
        self.tasks.run("snapshot", &sites.mysql.name, || {
            rest::post(&self.access.api, &path, &json!({"name": "backup"})).map(drop)
        })?;
        // One row may be on its way when the snapshot is taken.
        let committed_after = sites.workload.rows.done() + 1;
        let clone = Claim::new("mysql-clone")?;
        let from = json!({"from": {"volume": sites.mysql.volume, "snapshot": "backup"}});
        clone.provision(&self.access, &mut self.tasks, &from)?;
        let device = clone.attach(&self.access, &mut self.tasks)?;
        clone.mount(&device, &mut self.tasks)?;
        let folder = self.cluster.folder.clone();
        let data = clone.mount.join("data");
        let database = self.tasks.run("start mariadbd, recover", &clone.name, || {
            Database::start(&data, "clone", &folder)
        })?;
        let rows = database.session()?.verify()?;
        ensure!(
            (committed..=committed_after).contains(&rows),
            "the clone holds {rows} rows; {committed} to {committed_after} were committed at the snapshot"
        );
        println!(
            "    the clone holds rows 1 to {rows}, each right; {committed} were committed before the snapshot"
        );
        database.stop()?;
        clone.release(&self.access, &mut self.tasks)?;
        clone.delete(&self.access, &mut self.tasks)?;
        self.tasks.run("delete snapshot", &sites.mysql.name, || {
            rest::call(&self.access.api, "DELETE", &format!("{path}/backup"), None).map(drop)
        })
    }

    fn kill_a_process(&mut self, sites: &Sites) -> Result<()> {
        let owner = self.cluster.owner_of(&sites.mysql.volume)?;
        let name = self.cluster.nodes[owner].name.clone();
        println!("==> kill -9 of {name}, which owns the database's volume");
        let (rows, pages) = (&sites.workload.rows, &sites.workload.pages);
        let before = (rows.done(), rows.take_longest(), pages.take_longest());
        self.cluster.kill_node(owner)?;
        std::thread::sleep(AFTER_KILL);
        let heir = self.cluster.owner_of(&sites.mysql.volume)?;
        self.access.api = self.cluster.any_api().context("no node runs")?.to_owned();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        println!(
            "    {} took over; {} rows before, {} more after, no error",
            self.cluster.nodes[heir].name,
            before.0,
            rows.done() - before.0
        );
        println!(
            "    longest commit {:.0} ms before, {:.0} ms over the kill; longest page {:.0} ms before, {:.0} ms over it",
            milliseconds(before.1),
            milliseconds(rows.take_longest()),
            milliseconds(before.2),
            milliseconds(pages.take_longest())
        );
        ensure!(
            rows.done() > before.0 + 10,
            "the database does not go on after the kill"
        );
        self.cluster.start_node(owner)?;
        self.cluster.wait_ready(owner)?;
        println!("    {name} is started again");
        Ok(())
    }

    /// Stops everything, attaches anew, and compares: nothing is in a cache then.
    fn restart_sites(&mut self, sites: Sites) -> Result<QuietSites> {
        println!("==> both pods move, and mysql-pv-claim grows from 20 to 25 GiB on the way");
        let Sites {
            database,
            workload,
            mysql,
            web,
            ..
        } = sites;
        let (rows, pages) = workload.stop()?;
        database.stop()?;
        // An attached device does not learn that its volume grew, so the volume grows on the way.
        let before = mysql.file_system_bytes()?;
        mysql.release(&self.access, &mut self.tasks)?;
        mysql.expand_volume(&self.access, 25 * GIB, &mut self.tasks)?;
        let device = mysql.attach(&self.access, &mut self.tasks)?;
        mysql.grow_file_system(&device, &mut self.tasks)?;
        mysql.mount(&device, &mut self.tasks)?;
        let after = mysql.file_system_bytes()?;
        ensure!(
            after > before + 4 * GIB,
            "the file system of mysql-pv-claim has not grown by 5 GiB"
        );
        web.release(&self.access, &mut self.tasks)?;
        let device = web.attach(&self.access, &mut self.tasks)?;
        web.mount(&device, &mut self.tasks)?;
        let folder = self.cluster.folder.clone();
        let database = Database::start(&mysql.mount.join("data"), "mysql", &folder)?;
        let found = database.session()?.verify()?;
        ensure!(
            found == rows,
            "{rows} rows were committed and {found} are there"
        );
        verify_pages(&web.mount, pages)?;
        println!("    all {rows} committed rows and all {pages} pages are there, each right");
        Ok(QuietSites {
            database,
            mysql,
            web,
        })
    }

    fn delete(&mut self, sites: QuietSites) -> Result<()> {
        println!("==> everything is deleted");
        sites.database.stop()?;
        for claim in [&sites.mysql, &sites.web] {
            let started = Instant::now();
            claim.release(&self.access, &mut self.tasks)?;
            claim.delete(&self.access, &mut self.tasks)?;
            self.teardown = started.elapsed();
        }
        self.expect_volumes(2)?;
        self.tasks.print(&["delete volume", "delete snapshot"]);
        Ok(())
    }

    /// Says what runs, how to look at it and how to end it.
    fn leave_running(&mut self, sites: QuietSites) {
        println!("==> it keeps running");
        let (database, api) = (sites.database.leave_running(), &self.access.api);
        let pids = self.cluster.pids().into_iter();
        let pids = pids.chain(self.cluster.etcd.as_ref().map(std::process::Child::id));
        let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
        let mounts = [&sites.mysql, &sites.web].map(|claim| claim.mount.display().to_string());
        println!("    mounted: {}", mounts.join(", "));
        println!("    try: mariadb --socket={RUN_FOLDER}/mysql.sock shop");
        println!("    try: target/release/azekura --api http://{api} status");
        println!(
            "    to end it: kill {database}; sleep 3; umount {}",
            mounts.join(" ")
        );
        for claim in [&sites.mysql, &sites.web] {
            println!("        {}", claim.detach_words(&self.access));
        }
        println!(
            "        kill {}; rm -r {}",
            pids.join(" "),
            self.cluster.folder.display()
        );
    }

    fn finish(self) -> Result<()> {
        println!("==> what it took");
        let seconds = |what: &str, time: Duration| {
            println!("    {what:<40} {:>8.2} s", time.as_secs_f64());
        };
        seconds("claim to mounted file system", self.setup);
        seconds("unmount to deleted", self.teardown);
        seconds("the whole demo, without building", self.tasks.elapsed());
        let folder = self.cluster.folder.clone();
        self.cluster.remove()?;
        println!("    all processes ended, {} deleted", folder.display());
        Ok(())
    }
}
