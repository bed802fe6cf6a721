//! A three-OSD Ceph cluster on loopback from Debian's packages: one monitor, one manager, BlueStore on three files,
//! no authentication, pools with two and three copies.
//!
//! Everything is in one folder and ends with this value. Nothing of the machine's own `/etc/ceph` is read.

use super::fio::Device;
use super::target::{Driver, Target};
use crate::cluster;
use crate::packages::{self, Need, need};
use crate::process::find_program;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Programs and the packages that have them.
const NEEDS: &[Need] = &[
    need("fio", "fio"),
    need("ceph-mon", "ceph-mon"),
    need("ceph-mgr", "ceph-mgr"),
    need("ceph-osd", "ceph-osd"),
    need("ceph", "ceph-common"),
    need("rbd", "ceph-common"),
    need("monmaptool", "ceph-common"),
];
const OSDS: usize = 3;
/// Placement groups of each pool: with three copies on three OSDs about the 100 an OSD that Ceph advises.
const GROUPS: &str = "64";
/// Copies of a pool, and those below which it stops: what Azekura's containers are created with.
const POOLS: [(usize, usize); 2] = [(2, 1), (3, 2)];
/// The cluster's id: fixed, because the cluster lives as long as the benchmark.
const FSID: &str = "5a1e0c9c-54c6-4f0b-9d6a-0a2e6f1b7c11";
/// Longest wait for the cluster to be whole.
const READY_MAX: Duration = Duration::from_secs(120);
/// Longest single command.
const COMMAND_SECONDS: &str = "60";
/// Memory an OSD may use for its caches, its default being 4 GiB: less than the machine has, for all three.
const OSD_MEMORY_BYTES: u64 = 1 << 30;

/// The running cluster.
pub struct Ceph {
    folder: PathBuf,
    processes: Vec<Child>,
    osds: Vec<u32>,
}

/// Fails with the packages to install when something is missing.
pub fn ensure_installed() -> Result<()> {
    let missing = packages::ensure(NEEDS);
    ensure!(
        missing.is_empty(),
        "Ceph cannot be measured: install Debian packages {}",
        missing.join(" ")
    );
    let program = find_program("fio").context("fio is missing: install Debian package fio")?;
    let engines = Command::new(program).arg("--enghelp").output()?;
    let engines = String::from_utf8_lossy(&engines.stdout).into_owned();
    ensure!(
        engines.split_whitespace().any(|engine| engine == "rbd"),
        "this fio has no rbd engine: install Debian package fio, which has it"
    );
    Ok(())
}

/// The version that is measured.
pub fn version() -> String {
    let output = Command::new("ceph-osd").arg("--version").output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

impl Ceph {
    /// Starts everything and waits until all placement groups serve.
    pub fn start(folder: &Path, disk_bytes: u64, image_bytes: u64) -> Result<Self> {
        cluster::prepare(folder)?;
        let folder = folder.canonicalize()?;
        let monitor = cluster::free_address()?;
        fs::write(
            folder.join("ceph.conf"),
            configuration(&folder, &monitor, disk_bytes),
        )?;
        fs::write(folder.join("keyring"), "")?;
        let mut ceph = Self {
            folder,
            processes: Vec::new(),
            osds: Vec::new(),
        };
        ceph.start_monitor(&monitor)?;
        ceph.daemon("ceph-mgr", "x", "mgr")?;
        for index in 0..OSDS {
            ceph.start_osd(index, disk_bytes)?;
        }
        for (copies, least) in POOLS {
            ceph.make_pool(copies, least, image_bytes)?;
        }
        ceph.wait_whole()?;
        Ok(ceph)
    }

    /// One device for each pool.
    pub fn targets(&self) -> Vec<Target> {
        let target = |(copies, _): &(usize, usize)| Target {
            name: format!("ceph{copies}"),
            driver: Driver::Fio(Device::Rbd {
                configuration: self.folder.join("ceph.conf"),
                pool: format!("copies{copies}"),
                image: "bench".into(),
            }),
            pids: self.osds.clone(),
            drains: None,
            jobs: Vec::new(),
        };
        POOLS.iter().map(target).collect()
    }

    fn start_monitor(&mut self, address: &str) -> Result<()> {
        let map = self.folder.join("monmap");
        let mut command = tool("monmaptool")?;
        command.args(["--create", "--fsid", FSID, "--addv", "a"]);
        command.arg(format!("[v2:{address}]")).arg(&map);
        output(&mut command)?;
        let mut command = self.tool("ceph-mon")?;
        command.args(["--mkfs", "-i", "a", "--monmap"]).arg(&map);
        fs::create_dir(self.folder.join("mon"))?;
        output(&mut command)?;
        self.daemon("ceph-mon", "a", "mon")?;
        self.ceph(&["status"]).map(|_| ())
    }

    fn start_osd(&mut self, index: usize, disk_bytes: u64) -> Result<()> {
        let id = index.to_string();
        let folder = self.folder.join(format!("osd-{index}"));
        fs::create_dir(&folder)?;
        // Written in full, as the disks of Azekura are: BlueStore uses a file of any size that it finds.
        let disk = File::create(folder.join("block"))?;
        cluster::write_zeros(&disk, disk_bytes)?;
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        self.ceph(&["osd", "new", uuid.trim(), &id])?;
        let mut command = self.tool("ceph-osd")?;
        command.args(["-i", &id, "--mkfs", "--osd-uuid", uuid.trim()]);
        output(&mut command)?;
        let pid = self.daemon("ceph-osd", &id, &format!("osd-{id}"))?;
        self.osds.push(pid);
        Ok(())
    }

    fn make_pool(&self, copies: usize, least: usize, bytes: u64) -> Result<()> {
        let name = format!("copies{copies}");
        self.ceph(&["osd", "pool", "create", &name, GROUPS, GROUPS])?;
        self.ceph(&["osd", "pool", "set", &name, "size", &copies.to_string()])?;
        self.ceph(&["osd", "pool", "set", &name, "min_size", &least.to_string()])?;
        self.ceph(&["osd", "pool", "application", "enable", &name, "rbd"])?;
        let mut command = self.tool("rbd")?;
        // Without exclusive lock and object map: sixteen jobs of fio each open the image.
        command.args(["create", "--image-feature", "layering", "--size"]);
        command.arg(format!("{}M", bytes >> 20));
        command.arg(format!("{name}/bench"));
        output(&mut command).map(|_| ())
    }

    fn wait_whole(&self) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            let text = self.ceph(&["--format", "json", "status"])?;
            let status: serde_json::Value = serde_json::from_str(&text)?;
            let groups = &status["pgmap"];
            let all = groups["num_pgs"].as_u64();
            let states = groups["pgs_by_state"].as_array().into_iter().flatten();
            let clean = states
                .filter(|state| state["state_name"] == "active+clean")
                .filter_map(|state| state["count"].as_u64())
                .sum::<u64>();
            if status["osdmap"]["num_up_osds"] == OSDS && all == Some(clean) && clean > 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "Ceph is not whole after 120 s: {groups}; its logs are in {}",
                self.folder.display()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// A program of Ceph's with this cluster's configuration.
    fn tool(&self, name: &str) -> Result<Command> {
        let mut command = tool(name)?;
        command.arg("-c").arg(self.folder.join("ceph.conf"));
        Ok(command)
    }

    /// Runs `ceph` with a bound on its time.
    fn ceph(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.tool("ceph")?;
        command
            .args(["--connect-timeout", COMMAND_SECONDS])
            .args(arguments);
        output(&mut command)
    }

    /// Starts a daemon in the foreground and notes it for a later run to end.
    fn daemon(&mut self, name: &str, id: &str, log: &str) -> Result<u32> {
        let mut command = self.tool(name)?;
        command.args(["-f", "-i", id]);
        if name == "ceph-mgr" {
            fs::create_dir(self.folder.join("mgr"))?;
        }
        let log = self.folder.join(format!("{log}.out"));
        let child = cluster::spawn(&mut command, &log)?;
        let pid = child.id();
        self.processes.push(child);
        cluster::note(&self.folder, pid)?;
        Ok(pid)
    }

    /// Ends all processes and deletes the folder.
    pub fn remove(mut self) -> Result<()> {
        self.end_processes();
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    /// The other way round, so that nobody waits for one that is gone.
    fn end_processes(&mut self) {
        while let Some(mut child) = self.processes.pop() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Ceph {
    fn drop(&mut self) {
        if !self.processes.is_empty() {
            self.end_processes();
            let folder = self.folder.display();
            eprintln!("    Ceph's processes ended; their logs stay in {folder}");
        }
    }
}

fn tool(name: &str) -> Result<Command> {
    let Some(program) = find_program(name) else {
        bail!("{name} is missing: see the packages above");
    };
    Ok(Command::new(program))
}

fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Defaults but for where things are, no authentication, OSDs on one host, and the memory of caches.
fn configuration(folder: &Path, monitor: &str, disk_bytes: u64) -> String {
    let folder = folder.display();
    format!(
        "[global]\n\
         fsid = {FSID}\n\
         mon_host = v2:{monitor}\n\
         public_addr = 127.0.0.1\n\
         cluster_addr = 127.0.0.1\n\
         ms_bind_msgr1 = false\n\
         auth_cluster_required = none\n\
         auth_service_required = none\n\
         auth_client_required = none\n\
         keyring = {folder}/keyring\n\
         run_dir = {folder}\n\
         admin_socket = {folder}/$name.$pid.asok\n\
         pid_file = {folder}/$name.pid\n\
         log_file = {folder}/$name.log\n\
         crash_dir = {folder}\n\
         mon_data = {folder}/mon\n\
         mgr_data = {folder}/mgr\n\
         osd_data = {folder}/osd-$id\n\
         osd_crush_chooseleaf_type = 0\n\
         osd_pool_default_pg_autoscale_mode = off\n\
         osd_objectstore = bluestore\n\
         osd_memory_target = {OSD_MEMORY_BYTES}\n\
         bluestore_block_size = {disk_bytes}\n\
         bluestore_block_create = true\n\
         mon_data_avail_warn = 1\n\
         mon_data_avail_crit = 0\n\
         mgr_initial_modules =\n\
         rbd_cache = false\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        let error = tool("ceph-of-the-future").expect_err("there is none");
        assert!(error.to_string().contains("ceph-of-the-future is missing"));
    }

    #[test]
    fn configuration_keeps_everything_in_the_folder() {
        let text = configuration(Path::new("/tmp/x"), "127.0.0.1:1", 1 << 30);
        let outside = ["/var", "/etc", "/run/"];
        assert!(outside.iter().all(|path| !text.contains(path)), "{text}");
        assert!(text.contains("rbd_cache = false"));
    }
}
