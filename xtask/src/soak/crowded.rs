//! A file system in a full pool: what it could write and flush before it was refused stays, and it works again when
//! there is room.

use super::site::Site;
use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The volume, which is deleted afterwards.
const VOLUME: &str = "crowded";
/// Its size: more than a pool that calls itself full still takes.
const VOLUME_BYTES: u64 = 4 << 30;
/// Of each file.
const FILE_BYTES: usize = 1 << 20;

/// A mounted file system, with files that were flushed.
pub struct Crowded {
    site: Site,
    /// How many files were written and flushed.
    kept: usize,
}

impl Crowded {
    /// Makes it while there is room.
    pub fn make(cluster: &Cluster, mounts: &Path) -> Result<Self> {
        let api = cluster.any_api().context("no node runs")?;
        let body = json!({"name": VOLUME, "container": "soak", "size": VOLUME_BYTES});
        crate::rest::post(api, "/volumes", &body)?;
        let site = Site::make(cluster, VOLUME, "ext4", mounts)?;
        let mut made = Self { site, kept: 0 };
        made.write()?;
        Ok(made)
    }

    /// Writes and flushes one file more.
    fn write(&mut self) -> std::io::Result<()> {
        let mut file = File::create(self.path(self.kept))?;
        file.write_all(&content(self.kept))?;
        file.sync_all()?;
        self.kept += 1;
        Ok(())
    }

    fn path(&self, number: usize) -> PathBuf {
        self.site.mount.join(format!("file-{number}"))
    }

    /// Writes until it is refused; how many files were flushed, and what the refusal was.
    pub fn write_until_refused(&mut self) -> Result<(usize, String)> {
        while self.kept < VOLUME_BYTES as usize / FILE_BYTES {
            if let Err(error) = self.write() {
                return Ok((self.kept, error.to_string()));
            }
        }
        anyhow::bail!("a full pool took {} files of a file system", self.kept)
    }

    /// Once there is room: mounts it again, compares what was flushed, writes one file more, and removes everything.
    pub fn compare(mut self, cluster: &Cluster) -> Result<()> {
        self.site.mount_again()?;
        for number in 0..self.kept {
            let found = std::fs::read(self.path(number))
                .with_context(|| format!("file-{number} was flushed and cannot be read"))?;
            ensure!(
                found == content(number),
                "file-{number} was flushed before the pool was full, and is not what was written"
            );
        }
        self.write()
            .context("there is room, and the file system takes nothing")?;
        self.site.remove(cluster)?;
        let api = cluster.any_api().context("no node runs")?;
        crate::rest::call(api, "DELETE", &format!("/volumes/{VOLUME}"), None)?;
        Ok(())
    }
}

/// What a file holds.
fn content(number: usize) -> Vec<u8> {
    let mut dice = super::Dice::new(number as u64 + 1);
    let words = (0..FILE_BYTES / 4).map(|_| dice.below(1 << 31) as u32);
    words.flat_map(u32::to_le_bytes).collect()
}
