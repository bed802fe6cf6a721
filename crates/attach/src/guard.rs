//! The guard: a process beside that of an attachment, which cleans up when that one is killed.
//!
//! It holds the reading end of a pipe whose other end only the attachment's process has. A byte means that nothing is
//! left; the end of the pipe without one means that the process is dead, however it died. Then the guard does what the
//! next attach or detach would: it frees the loop device, unmounts the FUSE file system and removes the record.
//!
//! Invariants
//! - It acts under a part in the name's lock only. A newer attachment owns that lock before it makes anything, and has
//!   cleaned up by then: what the guard finds under the lock is a dead process's.
//! - It unmounts nothing but the FUSE file system. A device that somebody uses stays until he lets go of it; so does
//!   the record, from which whoever looks learns that the device is dead.
//! - The number of a device whose node is mounted somewhere, as for the pod of a raw block volume, is not given free: the
//!   next volume could get it, and whoever opens the node again would be in that one.
//! - It keeps nothing of what its starter had: no open file, no working directory, no session.
//!
//! It does not give the right to the volume back, which is the cluster's. How it fails: killed itself, it leaves things as
//! they are without it. Read next: `state.rs`, `attachment.rs`.

use crate::AttachError;
use crate::attachment::{AttachOptions, RELEASE_MAX, clean, has_device, within};
use crate::process::waited_for;
use crate::state::{Owned, Place, State};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What the attachment's process says when nothing is left to clean up.
const FAREWELL: [u8; 1] = [1];
/// This program, also when its file has been replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";
/// How long a guard that was told to end may take; it does nothing then.
const DISMISS_MAX: Duration = Duration::from_secs(1);
/// How often it looks whether a dead device is still in use.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The guard of this process. Dropping it without a word lets it clean up.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts one, if `options` say how.
    pub(crate) fn start(options: &AttachOptions) -> io::Result<Option<Self>> {
        if options.guard.is_empty() {
            return Ok(None);
        }
        let mut command = Command::new(PROGRAM);
        if let Some(name) = std::env::args_os().next() {
            command.arg0(name);
        }
        command.args(&options.guard).arg("--");
        command.arg(std::path::absolute(&options.run_dir)?);
        command.arg(&options.name).current_dir("/");
        // Whoever waits for the end of a pipe that this process has inherited must not wait for the guard.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Some(Self(world_linux::spawn_alone(&mut command)?)))
    }

    /// Ends it: there is nothing to clean up.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // It may be gone already.
            let _ = pipe.write_all(&FAREWELL);
        }
        within(DISMISS_MAX, || !matches!(self.0.try_wait(), Ok(None)));
    }
}

/// Waits for the end of the process at the other end of standard input, and cleans up after it if it said nothing. Returns when
/// nothing is left, a newer attachment has the name, or everything was in order. SIGTERM, SIGINT and SIGHUP mean nothing to it
/// while the process lives: they are meant for that one.
///
/// # Errors
/// [`AttachError`]: the name is none, or the run directory cannot be used. The next attach or detach cleans up then.
pub fn stand_guard(run_dir: &Path, name: &str) -> Result<(), AttachError> {
    let place = Place::new(run_dir, name)?;
    let trouble = |source| AttachError::RunDir {
        path: run_dir.to_owned(),
        source,
    };
    let guarded = parent_id();
    // Fails for the leader of a group, which has left its starter's terminal by other means.
    let _ = rustix::process::setsid();
    let blocked = waited_for().thread_block();
    blocked.map_err(|errno| trouble(errno.into()))?;
    let mut said = [0];
    if io::stdin().lock().read_exact(&mut said).is_ok() {
        return Ok(());
    }
    let Some(rest) = release(&place, guarded).map_err(trouble)? else {
        return Ok(());
    };
    // A machine that shuts down does not wait for a guard.
    let unblocked = waited_for().thread_unblock();
    unblocked.map_err(|errno| trouble(errno.into()))?;
    outlast(&place, rest).map_err(trouble)
}

/// A device that cannot be taken away yet.
struct Rest {
    stale: State,
    /// Whether it goes by itself with its last user.
    freed: bool,
}

/// Cleans up. `None`: nothing is left, or what is left is somebody else's.
fn release(place: &Place, guarded: u32) -> io::Result<Option<Rest>> {
    let Some(part) = share(place, guarded)? else {
        return Ok(None);
    };
    let Some(stale) = place.load()? else {
        return Ok(None);
    };
    let freed = !is_mounted_node(&stale);
    if freed && clean(&stale).is_empty() {
        place.remove(&part)?;
        return Ok(None);
    }
    Ok(Some(Rest { stale, freed }))
}

/// Whether the node of the device is mounted somewhere, in the mounts that this process sees.
fn is_mounted_node(stale: &State) -> bool {
    let Some(device) = &stale.device else {
        return false;
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let number = fs::metadata(device).map(|node| node.rdev()).ok();
    // Of the root's name alone, so that no mount is looked into whose server may hang.
    let roots = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(3);
        Some((Path::new(words.next()?), Path::new(words.next()?)))
    });
    // In some containers the nodes below /dev are mounts themselves.
    let mut nodes = roots.filter(|(root, point)| {
        root.file_name() == device.file_name() && *point != device.as_path()
    });
    // What cannot be looked at may be it.
    nodes.any(|(_, point)| {
        let node = fs::metadata(point).ok();
        node.is_none_or(|node| Some(node.rdev()) == number)
    })
}

/// A part in the lock. The kernel closes what a dead process had open one by one, and the pipe may be before the lock. A
/// process that has the lock for longer than that is a newer one, and so is one that has put its own record there.
fn share(place: &Place, guarded: u32) -> io::Result<Option<Owned>> {
    let mut part = place.share()?;
    let is_newer = |known: Option<State>| known.is_some_and(|known| known.pid != guarded);
    within(RELEASE_MAX, || {
        if part.is_none() {
            part = place.share().ok().flatten();
        }
        part.is_some() || place.load().is_ok_and(is_newer)
    });
    Ok(part)
}

/// Frees the device once its node is mounted nowhere, and removes the record once nobody uses the device any more; leaves both
/// to whoever takes the name before.
fn outlast(place: &Place, rest: Rest) -> io::Result<()> {
    let Rest { stale, mut freed } = rest;
    loop {
        std::thread::sleep(LOOK_EVERY);
        let part = place.share()?;
        let known = place.load()?;
        let Some(part) = part.filter(|_| known.as_ref() == Some(&stale)) else {
            return Ok(());
        };
        if !freed && !is_mounted_node(&stale) {
            clean(&stale);
            freed = true;
        }
        if freed && !has_device(&stale) {
            return place.remove(&part);
        }
    }
}
