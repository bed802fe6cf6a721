//! A claim's way from nothing to a mounted file system, and back.

use super::tasks::Tasks;
use crate::rest;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where mounts, sockets and attachments of the demonstration are: short, as sockets ask for, and open to the database's user.
pub const RUN_FOLDER: &str = "/run/azekura-demo";
/// Name of this machine in the cluster.
const CLIENT: &str = "demo";

/// The node whose API is asked, and the binary that attaches.
#[derive(Clone)]
pub struct Access {
    pub binary: PathBuf,
    pub api: String,
}

/// A claim and its volume.
pub struct Claim {
    /// Name of the claim.
    pub name: String,
    /// Name of the volume: `pvc-<uid>`.
    pub volume: String,
    /// Where the file system is mounted, if it is.
    pub mount: PathBuf,
}

impl Claim {
    /// A claim nothing has been made for yet.
    pub fn new(name: &str) -> Result<Self> {
        let uid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        Ok(Self {
            name: name.to_owned(),
            volume: format!("pvc-{}", uid.trim()),
            mount: Path::new(RUN_FOLDER).join(name),
        })
    }

    /// Creates an empty volume, or one that starts from a snapshot.
    pub fn provision(
        &self,
        access: &Access,
        tasks: &mut Tasks,
        what: &serde_json::Value,
    ) -> Result<()> {
        let mut body = what.clone();
        body["name"] = json!(self.volume);
        body["labels"] = json!({
            "csi.storage.k8s.io/pvc/name": self.name,
            "csi.storage.k8s.io/pvc/namespace": "default",
        });
        tasks.run("create volume", &self.name, || {
            rest::post(&access.api, "/volumes", &body).map(drop)
        })
    }

    /// Makes the volume a block device of this machine.
    pub fn attach(&self, access: &Access, tasks: &mut Tasks) -> Result<PathBuf> {
        tasks.run("attach", &self.name, || {
            let output = output(&mut access.command(&["attach", &self.volume]))?;
            Ok(PathBuf::from(output.trim()))
        })
    }

    /// Makes a file system on a device whose first and last blocks are zeros.
    pub fn format(&self, device: &Path, tasks: &mut Tasks) -> Result<()> {
        ensure!(
            is_blank(device)?,
            "{} is not blank: it is not formatted",
            device.display()
        );
        tasks.run("mkfs.ext4", &self.name, || {
            output(Command::new("mkfs.ext4").arg("-q").arg(device)).map(drop)
        })
    }

    /// Mounts what is on the device.
    pub fn mount(&self, device: &Path, tasks: &mut Tasks) -> Result<()> {
        fs::create_dir_all(&self.mount)?;
        tasks.run("mount", &self.name, || {
            let mut mount = Command::new("mount");
            mount.args(["-t", "ext4"]).arg(device).arg(&self.mount);
            output(&mut mount).map(drop)
        })
    }

    /// Unmounts and gives the device back.
    pub fn release(&self, access: &Access, tasks: &mut Tasks) -> Result<()> {
        tasks.run("unmount", &self.name, || {
            output(Command::new("umount").arg(&self.mount)).map(drop)
        })?;
        tasks.run("detach", &self.name, || {
            output(&mut access.command(&["detach", &self.volume])).map(drop)
        })
    }

    /// The command that detaches it, for a person.
    pub fn detach_words(&self, access: &Access) -> String {
        let words = access.command(&["detach", &self.volume]);
        let arguments = words
            .get_args()
            .map(|word| word.to_string_lossy().into_owned());
        let arguments: Vec<String> = arguments.collect();
        format!("{} {}", access.binary.display(), arguments.join(" "))
    }

    /// Grows the volume.
    pub fn expand_volume(&self, access: &Access, bytes: u64, tasks: &mut Tasks) -> Result<()> {
        tasks.run("expand volume", &self.name, || {
            let path = format!("/volumes/{}/resize", self.volume);
            rest::post(&access.api, &path, &json!({"size": bytes})).map(drop)
        })
    }

    /// Grows the file system to its device. Not while it is mounted: that takes CAP_SYS_RESOURCE, which root in a
    /// container often lacks.
    pub fn grow_file_system(&self, device: &Path, tasks: &mut Tasks) -> Result<()> {
        tasks.run("e2fsck, resize2fs", &self.name, || {
            output(Command::new("e2fsck").args(["-f", "-p"]).arg(device))?;
            output(Command::new("resize2fs").arg(device)).map(drop)
        })
    }

    /// Deletes the volume.
    pub fn delete(&self, access: &Access, tasks: &mut Tasks) -> Result<()> {
        tasks.run("delete volume", &self.name, || {
            let path = format!("/volumes/{}", self.volume);
            rest::call(&access.api, "DELETE", &path, None).map(drop)
        })
    }

    /// Bytes of the mounted file system.
    pub fn file_system_bytes(&self) -> Result<u64> {
        let mut df = Command::new("df");
        let text = output(
            df.args(["--block-size=1", "--output=size"])
                .arg(&self.mount),
        )?;
        let size = text
            .lines()
            .nth(1)
            .and_then(|line| line.trim().parse().ok());
        size.context("df names no size")
    }
}

impl Access {
    /// A verb of the command line on attachments of the demonstration.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--api", &format!("http://{}", self.api)]);
        command
            .args(words)
            .args(["--client", CLIENT, "--run-dir", RUN_FOLDER]);
        command
    }
}

/// Whether both ends of a device read as zeros.
fn is_blank(device: &Path) -> Result<bool> {
    use std::os::unix::fs::FileExt;
    let file = fs::File::open(device)?;
    let size = device_bytes(device)?;
    let mut block = vec![0; 1 << 20];
    for offset in [0, size - block.len() as u64] {
        file.read_exact_at(&mut block, offset)?;
        if block.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn device_bytes(device: &Path) -> Result<u64> {
    use std::io::{Seek, SeekFrom};
    Ok(fs::File::open(device)?.seek(SeekFrom::End(0))?)
}

/// Runs a command that must succeed and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start `{name}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Takes away the mounts and devices that a run which was killed has left behind.
pub fn clean(binary: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let ours = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| path.starts_with(RUN_FOLDER) && !path.ends_with(".mount"));
    for path in ours {
        println!("    unmounting {path}, left by an earlier run");
        output(Command::new("umount").arg("-l").arg(path))?;
    }
    let Ok(entries) = fs::read_dir(RUN_FOLDER) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            remove_attachment(binary, &path)?;
        }
    }
    fs::remove_dir_all(RUN_FOLDER).with_context(|| format!("cannot delete {RUN_FOLDER}"))
}

/// Ends an attachment whose cluster may be gone: its process is killed, then what that left is taken away.
fn remove_attachment(binary: &Path, record: &Path) -> Result<()> {
    let name = record.file_stem().unwrap_or_default().to_string_lossy();
    println!("    ending the attachment of {name}, left by a run that did not end well");
    let text = fs::read_to_string(record)?;
    let state: serde_json::Value = serde_json::from_str(&text)?;
    let pid = state["pid"].as_u64().unwrap_or(0);
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&line).contains(RUN_FOLDER) {
        output(Command::new("kill").args(["-KILL", &pid.to_string()]))?;
    }
    let mut detach = Command::new(binary);
    detach.args(["detach", &name, "--client", CLIENT, "--run-dir", RUN_FOLDER]);
    // Says that no node answers, after the device and the mount are gone.
    let _ = output(&mut detach);
    Ok(())
}
