//! `azekura attach` and `azekura detach`: a volume as a block device of this machine.
//!
//! An attachment is a process of its own that outlives nodes and owners. In the background form the command
//! starts itself again in the foreground form, waits for the block device and leaves.
//!
//! The order matters: the right to use the volume is taken (API) before the device is made, and given back
//! after the device has been flushed and is gone. A process that is killed keeps the right; its device and its mount are
//! taken away by a guard, `azekura attach-guard`, else by the next attach or detach on this machine.

use crate::cli::{AttachArgs, DetachArgs, Form};
use crate::output::{Done, Table, document, render};
use crate::remote::{Endpoint, Remote, secured};
use ::attach::{AttachError, AttachOptions, Detached, Listed, ShardBackend, Signals};
use anyhow::{Context, bail};
use api::http::{self, path};
use api::{AttachmentAnswer, NodeAnswer, StatusAnswer};
use blockdev::BlockDevice;
use client::{ClientOptions, RemoteDevice};
use identity::Credentials;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vocab::AttachmentGeneration;
use world::{Address, World};
use world_linux::ShardOptions;

/// How long the volume's owner may take to let the first session in: a takeover and a half.
const OPEN_SECONDS_MAX: u64 = 30;
/// The verb of the process that cleans up when this one is killed.
const GUARD_VERB: &str = "attach-guard";
/// How long a process may take to end after its device is gone: one call to the API.
const END_SECONDS_MAX: u64 = 10;

/// A block device that is there.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Name of the volume.
    pub volume: String,
    /// The block device.
    pub device: PathBuf,
    /// Name of the client that holds the attachment.
    pub client: String,
    /// Generation of the attachment.
    pub generation: u64,
    /// The process that serves the device.
    pub pid: u32,
}

impl Table for DeviceReport {
    fn table(&self) -> String {
        format!("{}\n", self.device.display())
    }
}

/// `attach`.
pub fn attach(api: Endpoint<'_>, arguments: &AttachArgs, form: Form) -> anyhow::Result<String> {
    let client = client_name(arguments.client.as_deref())?;
    match arguments.foreground {
        true => serve(api, arguments, &client, form).map(|()| String::new()),
        false => start(api, arguments, &client, form),
    }
}

fn client_name(given: Option<&str>) -> anyhow::Result<String> {
    if let Some(name) = given {
        return Ok(name.to_owned());
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.context("cannot tell this machine's name: say one with --client")?;
    Ok(name.trim().to_owned())
}

/// Starts a process that stays, and waits until its device is there.
fn start(
    api: Endpoint<'_>,
    arguments: &AttachArgs,
    client: &str,
    form: Form,
) -> anyhow::Result<String> {
    let run_dir = &arguments.run_dir;
    std::fs::create_dir_all(run_dir)
        .with_context(|| format!("cannot use {} (attaching needs root)", run_dir.display()))?;
    let log = run_dir.join(format!("{}.log", arguments.volume));
    let file = std::fs::File::create(&log)
        .with_context(|| format!("cannot write {} (attaching needs root)", log.display()))?;
    let program = std::env::current_exe().context("cannot find this program to start it again")?;
    let mut command = Command::new(program);
    command.args([
        "attach",
        "--foreground",
        "--output",
        "json",
        "--api",
        api.api,
    ]);
    if let Some(file) = api.token_file {
        command.arg("--token-file").arg(file);
    }
    if let Some(folder) = api.credentials {
        // The process may be in another working directory when it reads them again.
        let folder = std::path::absolute(folder).context("cannot tell the working directory")?;
        command.arg("--credentials").arg(folder);
    }
    command.args(["--client", client, "--run-dir"]).arg(run_dir);
    command.args(["--block-size", &arguments.block_size.to_string()]);
    if arguments.read_only {
        command.arg("--read-only");
    }
    if arguments.shared {
        command.arg("--shared");
    }
    if let Some(patience) = arguments.patience {
        command.args(["--patience", &format!("{}ms", patience.as_millis())]);
    }
    command.arg("--").arg(&arguments.volume);
    // A group of its own: a Ctrl-C in this terminal is not meant for it.
    command.process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file);
    let mut child = command
        .spawn()
        .context("cannot start the attachment's process")?;
    let out = child.stdout.take().expect("it was piped above");
    let mut line = String::new();
    let read = BufReader::new(out).read_line(&mut line);
    if let (Ok(_), Ok(report)) = (read, serde_json::from_str::<DeviceReport>(&line)) {
        return Ok(render(&report, form));
    }
    // Its output has ended, so it is ending too.
    let status = child
        .wait()
        .context("cannot wait for the attachment's process")?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    match last_message(&said) {
        Some(message) => bail!("{message}"),
        None => bail!(
            "the attachment's process ended ({status}); see {}",
            log.display()
        ),
    }
}

/// The error that ended a foreground process: the last line of its log that is one.
fn last_message(log: &str) -> Option<String> {
    let mut errors = log.lines().rev().filter_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(value.get("message")?.as_str()?.to_owned())
    });
    errors.next()
}

/// Serves the device until told to stop.
fn serve(
    api: Endpoint<'_>,
    arguments: &AttachArgs,
    client: &str,
    form: Form,
) -> anyhow::Result<()> {
    // Before any other thread, see `Signals`.
    let signals = Signals::install().context("cannot start a thread")?;
    start_log(form);
    let volume = &arguments.volume;
    let about = tracing::info_span!("attachment", volume, client);
    let _about = about.enter();
    for missing in ::attach::protect() {
        tracing::warn!("{missing}");
    }
    let client_side = ClientSide {
        name: client,
        credentials: api.credentials()?,
    };
    refuse_second(&arguments.run_dir, volume)?;
    if let Some(generation) = arguments.published.published {
        let known = known_cluster(arguments);
        let granted = AttachmentAnswer {
            generation,
            ..AttachmentAnswer::default()
        };
        // Who made the attachment gives it back.
        return serve_granted(&known, &granted, arguments, &client_side, form, &signals);
    }
    let remote = Remote::new(api)?;
    let wanted = http::Attach {
        client: client.to_owned(),
        read_only: arguments.read_only,
        shared: arguments.shared,
    };
    let status: StatusAnswer = remote.get(&path(&["status"]))?;
    let granted: AttachmentAnswer = remote.post(&path(&["volumes", volume, "attach"]), &wanted)?;
    let served = serve_granted(&status, &granted, arguments, &client_side, form, &signals);
    let holds_on = matches!(
        served.as_ref().map_err(|error| error.downcast_ref()),
        Err(Some(
            AttachError::InUse { .. } | AttachError::AlreadyAttached { .. }
        ))
    );
    if !holds_on && let Err(error) = give_back(&remote, volume, Some(client)) {
        tracing::warn!(%error, "the volume stays attached to {client} in the cluster");
    }
    served
}

/// The cluster as `--published` was told of it.
fn known_cluster(arguments: &AttachArgs) -> StatusAnswer {
    let told = &arguments.published;
    let node = |address: &String| NodeAnswer {
        address: address.clone(),
        alive: true,
        ..NodeAnswer::default()
    };
    StatusAnswer {
        cluster: told.cluster.clone().unwrap_or_default(),
        nodes: told.nodes.iter().map(node).collect(),
        ..StatusAnswer::default()
    }
}

/// Refuses early what `attach` would refuse late, so that a living attachment is left alone.
fn refuse_second(run_dir: &Path, volume: &str) -> anyhow::Result<()> {
    match living(run_dir, volume)? {
        Some(one) => Err(AttachError::AlreadyAttached {
            name: one.name,
            pid: one.state.pid,
            device: one.state.device,
        }
        .into()),
        None => Ok(()),
    }
}

/// The attachment of `volume` whose process lives.
fn living(run_dir: &Path, volume: &str) -> anyhow::Result<Option<Listed>> {
    let listed = ::attach::list(run_dir)
        .with_context(|| format!("cannot use {} (attaching needs root)", run_dir.display()))?;
    let mut living = listed
        .into_iter()
        .filter(|one| one.alive && one.name == *volume);
    Ok(living.next())
}

/// Waits until the process has ended: after its device is gone it still gives its right back, which must
/// not hit an attachment that is made after `detach` has returned.
fn wait_for_end(pid: u32) {
    let stat = format!("/proc/{pid}/stat");
    let deadline = Instant::now() + Duration::from_secs(END_SECONDS_MAX);
    while Instant::now() < deadline {
        let text = std::fs::read_to_string(&stat).unwrap_or_default();
        // The state follows the name, which is in parentheses and may hold any character.
        let state = text.rsplit(')').next().map(str::trim_start);
        if state.is_none_or(|state| state.is_empty() || state.starts_with(['Z', 'X'])) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Who attaches.
struct ClientSide<'a> {
    name: &'a str,
    credentials: Option<Arc<Credentials>>,
}

fn serve_granted(
    status: &StatusAnswer,
    granted: &AttachmentAnswer,
    arguments: &AttachArgs,
    side: &ClientSide<'_>,
    form: Form,
    signals: &Signals,
) -> anyhow::Result<()> {
    // Before anything that takes time: whoever looks meanwhile begins nothing beside it.
    let reserved = ::attach::reserve(&arguments.run_dir, &arguments.volume)?;
    if arguments.published.published.is_some() && nobody_listens() {
        bail!("whoever has started this process has ended before it began: nothing is attached");
    }
    let client = side.name;
    let options = client_options(status, client, granted.generation_of(client), arguments);
    let credentials = side.credentials.clone();
    let backend = ShardBackend::start(ShardOptions::default(), move |world| {
        Box::pin(open(secured(world, credentials), options))
    })?;
    let mut attached = reserved.attach(
        AttachOptions {
            run_dir: arguments.run_dir.clone(),
            read_only: arguments.read_only,
            block_bytes: arguments.block_size,
            generation: granted.generation_of(client),
            guard: vec![GUARD_VERB.into()],
            ..AttachOptions::new(&arguments.volume)
        },
        backend,
    )?;
    for left in &attached.left_over {
        tracing::warn!(
            "{} of a killed process is still in use and fails all requests: unmount it",
            left.display()
        );
    }
    if let Some(reason) = &attached.unguarded {
        tracing::warn!("{reason}. If this process is killed, detach the volume by hand");
    }
    announce(
        &DeviceReport {
            volume: arguments.volume.clone(),
            device: attached.device.clone(),
            client: client.to_owned(),
            generation: granted.generation_of(client),
            pid: std::process::id(),
        },
        form,
    );
    tracing::info!(
        device = %attached.device.display(),
        generation = granted.generation_of(client),
        "the device is there"
    );
    attached.wait(signals, |text| tracing::warn!("{text}"))?;
    attached.close()?;
    tracing::info!("the device is gone");
    Ok(())
}

/// Logs to standard error: JSON, where a program started this one and its lines are read from a file, else text.
fn start_log(form: Form) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A line that cannot be written is lost: it must not end the process that serves a device, as telling of it on the same
    // standard error would.
    let log = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match form {
        Form::Json | Form::JsonLine => log.json().init(),
        Form::Table | Form::Yaml => log.with_ansi(false).init(),
    }
}

/// Whether standard output is a pipe that nobody reads any more. A driver that was killed has forgotten what it has
/// started: its successor may have begun anew, or may have no use for the device at all.
fn nobody_listens() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let out = std::io::stdout();
    let mut asked = [PollFd::new(&out, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().contains(PollFlags::ERR)
}

/// One line for whoever waits for the device. Nobody listening is no reason to end.
fn announce(report: &DeviceReport, form: Form) {
    let line = match form {
        Form::Table => report.table(),
        Form::Yaml => document(report),
        Form::Json | Form::JsonLine => serde_json::to_string(report).expect("plain data") + "\n",
    };
    let mut out = std::io::stdout();
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!("nobody reads standard output: {error}");
    }
}

fn client_options(
    status: &StatusAnswer,
    client: &str,
    generation: u64,
    arguments: &AttachArgs,
) -> ClientOptions {
    let mut nodes: Vec<_> = status.nodes.iter().collect();
    nodes.sort_by_key(|node| !node.alive);
    ClientOptions {
        cluster: status.cluster.clone(),
        nodes: nodes
            .iter()
            .map(|node| Address(node.address.clone()))
            .collect(),
        volume: match &arguments.published.volume_name {
            Some(name) => name.clone(),
            None => arguments.volume.clone(),
        },
        client: client::client_id(client),
        attachment: AttachmentGeneration(generation),
        read_only: arguments.read_only,
        // A file system must not see an error because the cluster was away for a while.
        levels: vocab::Levels::OWN,
        patience: arguments.patience.unwrap_or(Duration::MAX),
        doubt_after: client::DOUBT_AFTER,
    }
}

async fn open(world: World, options: ClientOptions) -> Result<Rc<dyn BlockDevice>, String> {
    let opening = RemoteDevice::open(world.clone(), options);
    let patience = Duration::from_secs(OPEN_SECONDS_MAX);
    match world.timeout(patience, opening).await {
        Ok(Ok(device)) => Ok(Rc::new(device)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "no node lets this client in within {OPEN_SECONDS_MAX} s: can it reach the addresses that \
             `azekura status` shows?"
        )),
    }
}

fn give_back(
    remote: &Remote,
    volume: &str,
    client: Option<&str>,
) -> Result<AttachmentAnswer, crate::remote::RemoteError> {
    let body = http::Detach {
        client: client.map(str::to_owned),
    };
    remote.post(&path(&["volumes", volume, "detach"]), &body)
}

/// `detach`.
pub fn detach(api: Endpoint<'_>, arguments: &DetachArgs, form: Form) -> anyhow::Result<String> {
    let volume = &arguments.volume;
    let living = living(&arguments.run_dir, volume).ok().flatten();
    let here = match ::attach::detach(&arguments.run_dir, volume) {
        Ok(Detached::Stopped) => "detached".to_owned(),
        Ok(Detached::Cleaned { in_use }) if in_use.is_empty() => {
            "removed what a killed process had left of".to_owned()
        }
        Ok(Detached::Cleaned { in_use }) => {
            let devices: Vec<String> = in_use
                .iter()
                .map(|device| device.display().to_string())
                .collect();
            format!(
                "{} still in use and failing: unmount it; detached",
                devices.join(", ")
            )
        }
        Err(AttachError::NotAttached(_)) => "detached, elsewhere than here,".to_owned(),
        // By force the rest of the cluster does not wait for this machine.
        Err(error) if arguments.all => format!("by force ({error}) detached"),
        Err(error) => return Err(error.into()),
    };
    if let Some(one) = living {
        wait_for_end(one.state.pid);
    }
    let client = match arguments.all {
        true => None,
        false => Some(client_name(arguments.client.as_deref())?),
    };
    let remote = Remote::new(api)?;
    give_back(&remote, volume, client.as_deref())?;
    let done = Done {
        done: format!("{here} volume {volume}"),
    };
    Ok(render(&done, form))
}
