//! A disk of a stated rate for each node: cgroups bound what its process reads and writes on the one disk that all share.

use anyhow::{Context, Result};
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

const UNIFIED: &str = "/sys/fs/cgroup";
const CLASSIC: &str = "/sys/fs/cgroup/blkio";

/// One group of processes for each node; removed when dropped, if no process is in one any more.
pub struct Limits {
    groups: Vec<PathBuf>,
}

impl Limits {
    /// Groups for so many nodes with files in `folder`, each with `rate` bytes per second of reads and as many of writes.
    ///
    /// # Errors
    /// Where cgroups cannot bound disks, or may not be made.
    pub fn new(folder: &Path, nodes: usize, rate: u64) -> Result<Self> {
        let disk = disk_under(folder)?;
        let unified = is_unified();
        let root = Path::new(if unified { UNIFIED } else { CLASSIC });
        if unified {
            write(&root.join("cgroup.subtree_control"), "+io")?;
        }
        let mut limits = Self { groups: Vec::new() };
        for index in 0..nodes {
            let group = root.join(format!("azekura-bench-{}-{index}", std::process::id()));
            fs::create_dir(&group).with_context(|| {
                format!("cannot make {}: --disk-mibs needs root", group.display())
            })?;
            limits.groups.push(group.clone());
            if unified {
                let bound = format!("{disk} rbps={rate} wbps={rate}");
                write(&group.join("io.max"), &bound)?;
            } else {
                for file in ["read_bps_device", "write_bps_device"] {
                    let path = group.join(format!("blkio.throttle.{file}"));
                    write(&path, &format!("{disk} {rate}"))?;
                }
            }
        }
        Ok(limits)
    }

    /// Bounds a process as that of a node.
    pub fn put(&self, node: usize, pid: Option<u32>) -> Result<()> {
        let pid = pid.context("the node does not run")?;
        write(&self.groups[node].join("cgroup.procs"), &pid.to_string())
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        for group in &self.groups {
            let _ = fs::remove_dir(group);
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write `{text}` to {}", path.display()))
}

fn is_unified() -> bool {
    let controllers = fs::read_to_string(Path::new(UNIFIED).join("cgroup.controllers"));
    controllers.is_ok_and(|known| known.split_whitespace().any(|name| name == "io"))
}

/// Numbers of the whole disk that a folder is on.
fn disk_under(folder: &Path) -> Result<String> {
    let device = fs::metadata(folder)?.st_dev();
    let numbers = format!("{}:{}", major(device), minor(device));
    let known = PathBuf::from(format!("/sys/dev/block/{numbers}"));
    let known = fs::canonicalize(&known)
        .with_context(|| format!("{} is on no disk that can be bounded", folder.display()))?;
    if !known.join("partition").exists() {
        return Ok(numbers);
    }
    let whole = known.parent().context("a partition is on a disk")?;
    Ok(fs::read_to_string(whole.join("dev"))?.trim().to_owned())
}

/// As in makedev(3).
fn major(device: u64) -> u64 {
    (device >> 8 & 0xfff) | (device >> 32 & !0xfff)
}

fn minor(device: u64) -> u64 {
    (device & 0xff) | (device >> 12 & !0xff & 0xffff_ffff)
}
