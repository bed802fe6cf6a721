//! The attach `local`: each volume is served by a process of its own, `azekura attach --published`.
//!
//! The process must outlive the CSI plugin, its container and the storage node. It is started by `launch.rs` in a
//! session and a control group of its own and, when the plugin runs in a container, in the namespaces of the host, from a
//! copy of this program that lies on the host. What there is of it is told by the run directory of `attach`.

use crate::launch::forget_group;
use crate::tail::Tail;
use ::attach::{AttachError, Detached, Found};
use csi::{Attach, AttachRefusal, Device, Wanted};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// What the process of a volume keeps in memory: 17 MiB idle, 8 of them shared with the others, and what requests under way
/// hold; what it has used is locked. `cargo xtask bench --csi` measures it.
const VOLUME_BYTES: u64 = 24 << 20;
/// Longest line of a process that says what it made.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Attaches by processes.
#[derive(Clone)]
pub struct Local {
    /// Where attachments are recorded and mounted; the same folder inside and outside of a container.
    pub run_dir: PathBuf,
    /// Certificates, as this process sees them.
    pub credentials: Option<PathBuf>,
    /// Where the processes live; nothing: beside this one.
    pub host: Option<Host>,
    /// Who reads what the processes write.
    pub tail: Tail,
}

/// The host of the container that this process runs in.
#[derive(Clone)]
pub struct Host {
    /// Where its files are seen from here.
    pub root: PathBuf,
    /// Its folder for the program that attachments run.
    pub programs: PathBuf,
}

fn name_of(volume: u64) -> String {
    format!("volume-{volume}")
}

fn refusal(error: AttachError) -> AttachRefusal {
    let text = error.to_string();
    match error {
        AttachError::InUse { .. } => AttachRefusal::InUse(text),
        AttachError::NotRoot | AttachError::NoFuse(_) => AttachRefusal::Impossible(text),
        _ => AttachRefusal::Failed(text),
    }
}

fn failed(what: String) -> impl FnOnce(io::Error) -> AttachRefusal {
    move |cause| AttachRefusal::Failed(format!("{what}: {cause}"))
}

impl Attach for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn find(&self, volume: u64) -> Result<Option<Device>, AttachRefusal> {
        let found = ::attach::find(&self.run_dir, &name_of(volume));
        let found = found.map_err(failed(format!("cannot read {}", self.run_dir.display())))?;
        Ok(match found {
            Found::Nothing => None,
            Found::Begun => Some(Device {
                path: None,
                generation: 0,
                read_only: false,
                alive: true,
            }),
            Found::There(one) => Some(Device {
                path: one.state.device,
                generation: one.state.generation,
                read_only: one.state.read_only,
                alive: one.alive,
            }),
        })
    }

    fn attach(&self, wanted: &Wanted) -> Result<PathBuf, AttachRefusal> {
        fs::create_dir_all(&self.run_dir)
            .map_err(failed(format!("cannot make {}", self.run_dir.display())))?;
        let name = name_of(wanted.volume);
        let log = self.run_dir.join(format!("{name}.log"));
        self.tail.finish(&name);
        let file = fs::File::create(&log);
        let file = file.map_err(failed(format!("cannot write {}", log.display())))?;
        let mut command = self.command(wanted)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file);
        let child = command.spawn();
        let child = child.map_err(failed("cannot start the attachment's process".to_owned()))?;
        let device = wait_for_device(child, wanted.deadline)?;
        device.ok_or_else(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let last = said.lines().last().unwrap_or("it said nothing").to_owned();
            AttachRefusal::Failed(format!(
                "the attachment's process has not made a device: {last} (log: {})",
                log.display()
            ))
        })
    }

    fn refresh(&self, volume: u64) -> Result<(), AttachRefusal> {
        ::attach::refresh(&self.run_dir, &name_of(volume)).map_err(refusal)
    }

    fn detach(&self, volume: u64) -> Result<(), AttachRefusal> {
        let name = name_of(volume);
        let log = self.run_dir.join(format!("{name}.log"));
        match ::attach::detach(&self.run_dir, &name) {
            Ok(Detached::Cleaned { in_use }) if !in_use.is_empty() => {
                let devices: Vec<String> =
                    in_use.iter().map(|one| one.display().to_string()).collect();
                tracing::warn!(
                    volume = name,
                    "{} of a dead process is still open and goes when it is closed",
                    devices.join(", ")
                );
            }
            Ok(_) | Err(AttachError::NotAttached(_)) => {}
            Err(error) => return Err(refusal(error)),
        }
        // A log is kept for as long as there is something to say of it.
        self.tail.finish(&name);
        let _ = fs::remove_file(log);
        match &self.host {
            Some(host) => forget_group(Path::new("/proc/1/mounts"), &host.root, &name),
            None => forget_group(Path::new("/proc/self/mounts"), Path::new("/"), &name),
        }
        Ok(())
    }

    fn memory_bytes(&self) -> u64 {
        VOLUME_BYTES
    }
}

impl Local {
    fn command(&self, wanted: &Wanted) -> Result<Command, AttachRefusal> {
        let here = std::env::current_exe();
        let here = here.map_err(failed("cannot find this program".to_owned()))?;
        let program = match &self.host {
            Some(host) => place_on_host(&here, host)?,
            None => here.clone(),
        };
        let name = name_of(wanted.volume);
        let mut command = Command::new(here);
        command.args(["csi", "launch", "--name", &name]);
        if self.host.is_some() {
            command.arg("--host");
        }
        command.arg("--").arg(program);
        command.args(["attach", "--foreground", "--output", "json"]);
        command.args(["--published", &wanted.generation.to_string()]);
        command.args([
            "--cluster",
            &wanted.cluster,
            "--nodes",
            &wanted.nodes.join(","),
        ]);
        command.arg("--volume-name").arg(&wanted.name);
        command
            .args(["--client", &wanted.client, "--run-dir"])
            .arg(&self.run_dir);
        if wanted.read_only {
            command.arg("--read-only");
        }
        if let Some(folder) = self.place_credentials()? {
            command.arg("--credentials").arg(folder);
        }
        command.arg("--").arg(&name);
        Ok(command)
    }

    /// Copies the credentials beside the records of attachments, where the processes find them also when this container is
    /// gone. `None` when connections are plain.
    pub fn place_credentials(&self) -> Result<Option<PathBuf>, AttachRefusal> {
        let Some(from) = &self.credentials else {
            return Ok(None);
        };
        let to = self.run_dir.join("credentials");
        if self.host.is_none() {
            return Ok(Some(from.clone()));
        }
        let copy = || {
            fs::create_dir_all(&to)?;
            // The authorities first: a process that reads in between believes more and shows the same.
            for name in [identity::AUTHORITIES_FILE, identity::IDENTITY_FILE] {
                let fresh = fs::read_to_string(from.join(name))?;
                if fs::read_to_string(to.join(name)).is_ok_and(|known| known == fresh) {
                    continue;
                }
                identity::write_private(&to.join(name), &fresh).map_err(io::Error::other)?;
            }
            Ok(())
        };
        copy().map_err(failed(format!(
            "cannot copy credentials to {}",
            to.display()
        )))?;
        Ok(Some(to))
    }
}

/// Waits for the line that names the device; `None` when the process ends without one. Then it is reaped; else it is
/// reaped when it ends, while this process lives.
fn wait_for_device(mut child: Child, deadline: Instant) -> Result<Option<PathBuf>, AttachRefusal> {
    let out = child.stdout.take().expect("it was piped");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(out.take(LINE_BYTES_MAX)).read_line(&mut line);
        let report = serde_json::from_str::<crate::attach::DeviceReport>(&line);
        // Nobody waits any more when the deadline is past: the device is found by the next request.
        let _ = sender.send(report.ok().map(|report| report.device));
        let _ = child.wait();
    });
    let patience = deadline.saturating_duration_since(Instant::now());
    receiver.recv_timeout(patience).map_err(|_| {
        AttachRefusal::Failed(
            "the attachment's process has not made a device in time and goes on; repeat the request".to_owned(),
        )
    })
}

/// Copies this program to the host, named by what it is, and returns its path there.
fn place_on_host(here: &Path, host: &Host) -> Result<PathBuf, AttachRefusal> {
    let about = fs::metadata(here).map_err(failed("cannot look at this program".to_owned()))?;
    let changed = std::os::unix::fs::MetadataExt::mtime(&about);
    let name = format!(
        "azekura-{}-{:x}-{changed:x}",
        env!("CARGO_PKG_VERSION"),
        about.len()
    );
    let folder = &host.programs;
    let inside = folder.join(&name);
    let outside = host.root.join(folder.strip_prefix("/").unwrap_or(folder));
    let target = outside.join(&name);
    if target.exists() {
        return Ok(inside);
    }
    let copying = || -> io::Result<()> {
        fs::create_dir_all(&outside)?;
        let half = outside.join(format!("{name}.{}", std::process::id()));
        fs::copy(here, &half)?;
        fs::set_permissions(&half, fs::Permissions::from_mode(0o755))?;
        fs::rename(&half, &target)
    };
    copying().map_err(failed(format!(
        "cannot copy this program to {} of the host (the container needs the host's process ids and privileges)",
        folder.display()
    )))?;
    Ok(inside)
}
