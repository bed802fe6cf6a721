//! `azekura csi launch`: leaves the container of the plugin, then becomes the process of an attachment.
//!
//! A container is ended by killing its control group; its network and mounts go with it. So, in this order, and
//! before there is a second thread: the namespaces are opened, the host's control group hierarchy and network and mounts
//! entered, a control group of its own taken, a session begun, and the program executed from the host's files.

use crate::cli::LaunchArgs;
use anyhow::{Context, bail};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Parent of the control groups.
const GROUP: &str = "azekura-attach";
/// How often, and in which distance, it is tried to remove the group of a process that has said its last word.
const ENDING_TRIES: u32 = 40;
const ENDING_PAUSE: Duration = Duration::from_millis(5);

/// Does not return but for an error.
pub fn launch(arguments: &LaunchArgs) -> anyhow::Result<()> {
    if arguments.host {
        enter_host()?;
    }
    if let Err(error) = leave_group(&arguments.name) {
        // On the host the promise is that the process outlives the container: without it nothing is served.
        if arguments.host {
            return Err(error);
        }
        eprintln!("azekura: the attachment stays in the control group of its starter: {error:#}");
    }
    rustix::process::setsid().context("cannot begin a session")?;
    std::env::set_current_dir("/").context("cannot enter /")?;
    let (program, words) = arguments
        .command
        .split_first()
        .context("no program is named")?;
    let error = Command::new(program).args(words).exec();
    Err(error).with_context(|| format!("cannot execute {}", program.display()))
}

fn open_namespace(kind: &str) -> anyhow::Result<OwnedFd> {
    let path = format!("/proc/1/ns/{kind}");
    open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).with_context(|| {
        format!("cannot open {path}: the container needs the host's process ids (hostPID) and privileges")
    })
}

/// Enters the namespaces of process 1. Its mounts last: after that the container's `/proc` is out of reach.
fn enter_host() -> anyhow::Result<()> {
    let kinds = [
        ("cgroup", LinkNameSpaceType::ControlGroup),
        ("net", LinkNameSpaceType::Network),
        ("mnt", LinkNameSpaceType::Mount),
    ];
    let opened = kinds.map(|(name, kind)| (name, kind, open_namespace(name)));
    for (name, kind, namespace) in opened {
        move_into_link_name_space(rustix::fd::AsFd::as_fd(&namespace?), Some(kind))
            .with_context(|| format!("cannot enter the host's {name} namespace"))?;
    }
    Ok(())
}

/// Moves this process to a control group of its own, in the unified hierarchy, and to the root of the others.
fn leave_group(name: &str) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let mut moved = false;
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        match kind {
            "cgroup2" => {
                let group = Path::new(point).join(GROUP).join(name);
                fs::create_dir_all(&group)
                    .with_context(|| format!("cannot make {}", group.display()))?;
                enter_group(&group)?;
                moved = true;
            }
            // The old hierarchies: their roots belong to nobody who is ended.
            "cgroup" => enter_group(&PathBuf::from(point))?,
            _ => {}
        }
    }
    if !moved {
        bail!("there is no control group hierarchy of version 2 here");
    }
    Ok(())
}

/// Removes the control group of a process that has ended, or is about to. It stays when that takes too long: an empty
/// group costs nothing, and the next process of that name takes it.
///
/// `table` is the table of mounts that says where the hierarchy is, seen through `root`.
pub fn forget_group(table: &Path, root: &Path, name: &str) {
    let mounts = fs::read_to_string(table).unwrap_or_default();
    let mut lines = mounts.lines().map(|line| line.split(' ').skip(1));
    let point = lines.find_map(|mut words| {
        let point = words.next()?;
        (words.next()? == "cgroup2").then_some(point)
    });
    let Some(point) = point.and_then(|point| Path::new(point).strip_prefix("/").ok()) else {
        return;
    };
    let group = root.join(point).join(GROUP).join(name);
    for _ in 0..ENDING_TRIES {
        match fs::remove_dir(&group) {
            Err(cause) if cause.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(ENDING_PAUSE);
            }
            _ => return,
        }
    }
}

fn enter_group(group: &Path) -> anyhow::Result<()> {
    let processes = group.join("cgroup.procs");
    fs::write(&processes, std::process::id().to_string())
        .with_context(|| format!("cannot write {}", processes.display()))
}
