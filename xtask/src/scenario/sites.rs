//! What happens to the two sites while they run: a snapshot, losses, growth, a move.

use super::database::Database;
use super::workload::{Workload, verify_pages};
use super::{GIB, Scenario};
use crate::driver::Claim;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// How long the workload runs before and after the kill.
const BEFORE_KILL: Duration = Duration::from_secs(3);
const AFTER_KILL: Duration = Duration::from_secs(8);
/// And after the volume has grown.
const AFTER_GROWTH: Duration = Duration::from_secs(1);

/// The two sites: their claims and what runs on them.
pub struct Sites {
    database: Database,
    workload: Workload,
    mysql: Claim,
    web: Claim,
}

/// The same after the workload has ended.
pub struct QuietSites {
    pub database: Database,
    pub mysql: Claim,
    pub web: Claim,
}

impl Sites {
    /// Starts the workload.
    pub fn start(database: Database, mysql: Claim, web: Claim) -> Result<Self> {
        let workload = Workload::start(&database, &web.target)?;
        std::thread::sleep(BEFORE_KILL);
        println!(
            "    {} rows committed, {} pages written, and it goes on",
            workload.rows.done(),
            workload.pages.done()
        );
        Ok(Self {
            database,
            workload,
            mysql,
            web,
        })
    }

    /// Rows so far, and the longest commit and the longest page since the last call.
    fn look(&self) -> (u64, f64, f64) {
        let (rows, pages) = (&self.workload.rows, &self.workload.pages);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        (
            rows.done(),
            milliseconds(rows.take_longest()),
            milliseconds(pages.take_longest()),
        )
    }
}

impl Scenario {
    /// The clone's database starts as after a power cut, and holds what was committed when the snapshot was taken.
    pub fn snapshot_and_clone(&mut self, sites: &Sites) -> Result<()> {
        println!("==> snapshot and clone of the running database's volume");
        let committed = sites.workload.rows.done();
        let driver = &self.driver;
        let snapshot = self.tasks.run("CreateSnapshot", &sites.mysql.name, || {
            sites.mysql.snapshot(driver, "backup")
        })?;
        // One row may be on its way when the snapshot is taken.
        let committed_after = sites.workload.rows.done() + 1;
        let kind = sites.mysql.kind;
        let mut clone = Claim::new(&self.driver, "mysql-clone", kind, 20 * GIB)?;
        self.provision(&mut clone, Some(&snapshot))?;
        self.mount(&mut clone)?;
        let folder = self.cluster.folder.clone();
        let data = clone.target.join("data");
        let sockets = &self.run_folder;
        let database = self.tasks.run("start mariadbd, recover", &clone.name, || {
            Database::start(&data, "clone", &folder, sockets)
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
        self.release(&clone)?;
        self.delete_volume(&clone)?;
        let driver = &self.driver;
        self.tasks.run("DeleteSnapshot", &sites.mysql.name, || {
            snapshot.delete(driver)
        })
    }

    /// The owner of the database's volume and the driver's process on this machine.
    pub fn kill_processes(&mut self, sites: &Sites) -> Result<()> {
        let owner = self.cluster.owner_of(&sites.mysql.volume)?;
        let name = self.cluster.nodes[owner].name.clone();
        println!(
            "==> kill -9 of {name}, which owns the database's volume, and of azekura csi node"
        );
        let before = sites.look();
        self.cluster.kill_node(owner)?;
        let driver = &mut self.driver;
        self.tasks
            .run("start another csi node", "driver", || driver.restart_node())?;
        std::thread::sleep(AFTER_KILL);
        let heir = self.cluster.owner_of(&sites.mysql.volume)?;
        self.api = self.cluster.any_api().context("no node runs")?.to_owned();
        let after = sites.look();
        println!(
            "    {} took over; {} rows before, {} more after, no error",
            self.cluster.nodes[heir].name,
            before.0,
            after.0 - before.0
        );
        println!(
            "    longest commit {:.0} ms before, {:.0} ms over the kill; longest page {:.0} ms before, {:.0} ms over it",
            before.1, after.1, before.2, after.2
        );
        ensure!(
            after.0 > before.0 + 10,
            "the database does not go on after the kill"
        );
        self.cluster.start_node(owner)?;
        self.cluster.wait_ready(owner)?;
        println!("    {name} is started again");
        Ok(())
    }

    /// Volume, device and file system grow under the running database.
    pub fn expand(&mut self, sites: &mut Sites) -> Result<()> {
        println!("==> mysql-pv-claim grows from 20 to 25 GiB while the database commits rows");
        let small = sites.mysql.file_system_bytes()?;
        let before = sites.look();
        let (driver, tasks) = (&self.driver, &mut self.tasks);
        let (claim, name) = (&mut sites.mysql, "mysql-pv-claim");
        tasks.run("ControllerExpandVolume", name, || {
            claim.expand(driver, 25 * GIB)
        })?;
        let what = format!("NodeExpandVolume ({})", claim.kind.name());
        tasks.run(&what, name, || claim.follow(driver))?;
        let large = claim.file_system_bytes()?;
        ensure!(
            large > small + 4 * GIB,
            "the file system of mysql-pv-claim has not grown by 5 GiB"
        );
        std::thread::sleep(AFTER_GROWTH);
        let after = sites.look();
        println!(
            "    the file system has {:.2} GiB instead of {:.2}; {} rows committed meanwhile, the longest took {:.0} ms",
            large as f64 / GIB as f64,
            small as f64 / GIB as f64,
            after.0 - before.0,
            after.1
        );
        Ok(())
    }

    /// Stops everything, unstages, stages anew, and compares: nothing is in a cache then.
    pub fn move_sites(&mut self, sites: Sites) -> Result<QuietSites> {
        println!("==> both pods move: everything is unmounted, mounted anew and compared");
        let Sites {
            database,
            workload,
            mut mysql,
            mut web,
        } = sites;
        let (rows, pages) = workload.stop()?;
        database.stop()?;
        for claim in [&mut mysql, &mut web] {
            self.release(claim)?;
            self.mount(claim)?;
        }
        let folder = self.cluster.folder.clone();
        let database = Database::start(
            &mysql.target.join("data"),
            "mysql",
            &folder,
            &self.run_folder,
        )?;
        let found = database.session()?.verify()?;
        ensure!(
            found == rows,
            "{rows} rows were committed and {found} are there"
        );
        verify_pages(&web.target, pages)?;
        println!("    all {rows} committed rows and all {pages} pages are there, each right");
        Ok(QuietSites {
            database,
            mysql,
            web,
        })
    }

    /// Says what runs, how to look at it and how to end it.
    pub fn leave_running(&mut self, sites: QuietSites) -> Result<()> {
        println!("==> it keeps running");
        let database = sites.database.leave_running();
        let pids = self.cluster.pids().into_iter().chain(self.driver.pids());
        let pids = pids.chain(self.cluster.etcd.as_ref().map(std::process::Child::id));
        let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
        let claims = [&sites.mysql, &sites.web];
        let mounts = claims.map(|claim| claim.target.display().to_string());
        let folder = self.cluster.folder.display();
        println!("    mounted: {}", mounts.join(", "));
        let run_folder = self.run_folder.display();
        println!("    try: mariadb --socket={run_folder}/mysql.sock shop");
        println!(
            "    try: {} --api http://{} --token-file {folder}/admin-token status",
            self.binary.display(),
            self.api
        );
        println!("    to end it:");
        println!(
            "        kill {database}; sleep 3; umount {}",
            mounts.join(" ")
        );
        for claim in claims {
            println!("        umount {}", claim.staging.display());
            println!(
                "        {} --api http://{} --token-file {folder}/admin-token detach {} --client {} --run-dir {}",
                self.binary.display(),
                self.api,
                claim.attachment()?,
                self.driver.client(),
                self.driver.attachments().display()
            );
        }
        println!(
            "        kill {}; rm -r {folder} {run_folder}",
            pids.join(" ")
        );
        Ok(())
    }
}
