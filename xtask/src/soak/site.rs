//! A volume that is attached and mounted.

use crate::cluster::Cluster;
use crate::driver::{self, output};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its client's name.
const CLIENT: &str = "soak";

/// An attached volume with a file system.
pub struct Site {
    volume: String,
    /// The file system.
    pub kind: &'static str,
    /// The block device.
    pub device: String,
    /// Where it is mounted.
    pub mount: PathBuf,
}

impl Site {
    /// Attaches, formats and mounts.
    pub fn make(
        cluster: &Cluster,
        volume: &str,
        kind: &'static str,
        mounts: &Path,
    ) -> Result<Self> {
        let mut attach = cluster.azekura()?;
        attach.args(["-o", "json", "attach", volume, "--client", CLIENT]);
        let text = output(attach.arg("--run-dir").arg(driver::attachments(mounts)))?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        let device = answer["device"]
            .as_str()
            .context("attach names no device")?;
        let mount = mounts.join(volume);
        std::fs::create_dir_all(&mount)?;
        output(Command::new(format!("mkfs.{kind}")).arg("-q").arg(device))?;
        output(Command::new("mount").arg(device).arg(&mount))?;
        Ok(Self {
            volume: volume.to_owned(),
            kind,
            device: device.to_owned(),
            mount,
        })
    }

    /// Mounts it anew, after a check that mends what an interrupted change left, as after a failure.
    pub fn mount_again(&self) -> Result<()> {
        output(Command::new("umount").arg(&self.mount))?;
        // 1 says that something was mended.
        let check = Command::new(format!("fsck.{}", self.kind))
            .args(["-f", "-y", &self.device])
            .output()
            .context("cannot start fsck")?;
        ensure!(
            matches!(check.status.code(), Some(0 | 1)),
            "the file system on {} cannot be mended: {}",
            self.device,
            String::from_utf8_lossy(&check.stdout)
        );
        output(Command::new("mount").arg(&self.device).arg(&self.mount)).map(drop)
    }

    /// Unmounts and detaches.
    pub fn remove(self, cluster: &Cluster) -> Result<()> {
        output(Command::new("umount").arg(&self.mount))?;
        let mut detach = cluster.azekura()?;
        detach.args(["detach", &self.volume, "--client", CLIENT]);
        let mounts = self.mount.parent().context("the mount has a folder")?;
        output(detach.arg("--run-dir").arg(driver::attachments(mounts))).map(drop)
    }
}
