//! A disk that fails when it is told to: a file that nbdkit serves with its error filter, and nbdfuse shows as a file again.
//!
//! Not everywhere this runs there is a device mapper; there is FUSE.

use crate::driver::output;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait until it is mounted.
const READY_MAX: Duration = Duration::from_secs(20);

/// The disk.
pub struct FallibleDisk {
    /// What a node uses as its disk.
    pub path: PathBuf,
    image: PathBuf,
    bytes: u64,
    /// Every request fails while it exists.
    trigger: PathBuf,
    mount: PathBuf,
    process: Child,
}

impl FallibleDisk {
    /// Makes a blank one: its contents beside `image`, its mount point at `mount`.
    pub fn make(image: &Path, bytes: u64, mount: &Path) -> Result<Self> {
        let trigger = beside(image, "fails");
        let _ = fs::remove_file(&trigger);
        File::create(image)?.set_len(bytes)?;
        fs::create_dir_all(mount)?;
        let path = mount.join("disk");
        let log = File::create(beside(image, "log"))?;
        let image = image.canonicalize()?;
        let process = Command::new("nbdfuse")
            .arg(&path)
            .args(["--command", "nbdkit", "-s", "--exit-with-parent"])
            .args(["--filter=error", "file"])
            .arg(&image)
            .arg("error-rate=100%")
            .arg(format!("error-file={}", absolute(&trigger)?.display()))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start nbdfuse")?;
        let disk = Self {
            path,
            image,
            bytes,
            trigger,
            mount: mount.to_owned(),
            process,
        };
        disk.wait()?;
        Ok(disk)
    }

    fn wait(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.path.exists() {
            ensure!(begun.elapsed() < READY_MAX, "nbdfuse does not mount");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// From now on every request fails, or none does.
    pub fn fail(&self, fails: bool) -> Result<()> {
        match fails {
            true => File::create(&self.trigger).map(drop),
            false => fs::remove_file(&self.trigger),
        }
        .with_context(|| format!("cannot change {}", self.trigger.display()))
    }

    /// Makes it blank. Nobody may use it meanwhile.
    pub fn blank(&self) -> Result<()> {
        let file = File::options().write(true).open(&self.image)?;
        file.set_len(0)?;
        file.set_len(self.bytes)?;
        // What the kernel remembers of the file that was shown is of before.
        File::open(&self.path)?;
        fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop caches")
    }
}

impl Drop for FallibleDisk {
    fn drop(&mut self) {
        // After a failed test its node may go on using it.
        let _ = output(Command::new("umount").arg("--lazy").arg(&self.mount));
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.image);
    }
}

/// A file whose name begins with that of another.
fn beside(image: &Path, what: &str) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(format!(".{what}"));
    PathBuf::from(name)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} has no place", path.display()))
}
