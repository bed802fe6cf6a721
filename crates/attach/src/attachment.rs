//! Attaching, serving until told to stop, and detaching.

use crate::backend::{Answer, Backend, Command, ask};
use crate::filesystem::{FILE_NAME, VolumeFile};
use crate::guard::Guard;
use crate::loop_device::{self, BackingFile, LoopError, LoopOptions, Ours};
use crate::process::{Signals, Told};
use crate::state::{BadName, Owned, Place, State};
use blockdev::BlockError;
use fuser::{BackgroundSession, Config, Session, SessionACL};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vocab::ByteCount;

/// Where attachments are recorded unless told otherwise.
pub const RUN_DIR: &str = "/run/azekura/attach";
/// How long a volume may take to tell its size: a takeover and a half.
const DESCRIBE_MAX: Duration = Duration::from_secs(15);
/// How long the last flush may take: longer than any takeover.
const FLUSH_MAX: Duration = Duration::from_secs(60);
/// How long the kernel may take to let go of a device that nobody uses.
pub(crate) const RELEASE_MAX: Duration = Duration::from_secs(10);
/// How often a name that is taken is asked for: who looks takes a part in its lock for a moment.
const OWN_TRIES: u32 = 10;
/// How long [`detach`] waits for the process.
const DETACH_MAX: Duration = Duration::from_secs(90);
/// How often the size is looked at.
const SIZE_EVERY: Duration = Duration::from_secs(5);
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// How a volume is attached.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// Names the attachment in the run directory.
    pub name: String,
    /// Where attachments are recorded and mounted.
    pub run_dir: PathBuf,
    /// Whether the block device refuses writes; a read-only volume's always does.
    pub read_only: bool,
    /// Logical block size of the block device: 512 or 4096. With 512, smaller writes cost a read.
    pub block_bytes: u32,
    /// Generation of the attachment, for the record.
    pub generation: u64,
    /// What makes this program call [`crate::stand_guard`], before the run directory and the name: the verb of the process
    /// that cleans up when this one is killed. Nothing: the next attach or detach does.
    pub guard: Vec<OsString>,
}

impl AttachOptions {
    /// Writable, with blocks of 4 KiB, in `/run/azekura/attach`, without a guard.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            run_dir: PathBuf::from(RUN_DIR),
            read_only: false,
            block_bytes: 4096,
            generation: 0,
            guard: Vec::new(),
        }
    }
}

/// Why a volume could not be attached, served or detached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The block size.
    #[error("a block size of {0} is neither 512 nor 4096")]
    BlockBytes(u32),
    /// The user.
    #[error("attaching needs root: mounting and loop devices are reserved to it. Run it with sudo")]
    NotRoot,
    /// The kernel's FUSE driver.
    #[error(
        "cannot open /dev/fuse: {0}. Is the kernel module `fuse` loaded, and in a container, is the \
             device allowed?"
    )]
    NoFuse(#[source] io::Error),
    /// The name is taken.
    #[error("{name} is attached already by process {pid}{at}; detach it first", at = on(device.as_ref()))]
    AlreadyAttached {
        /// The attachment.
        name: String,
        /// Who serves it; 0 when it is only starting.
        pid: u32,
        /// Its device, if it has one yet.
        device: Option<PathBuf>,
    },
    /// There is nothing of that name.
    #[error("{0} is not attached here")]
    NotAttached(String),
    /// Somebody uses the block device.
    #[error("{device} is in use: unmount the file system on it, then detach again", device = device.display())]
    InUse {
        /// The device.
        device: PathBuf,
    },
    /// The process was told to stop and did not.
    #[error("process {pid} serves {name} and has not stopped within {} s. It may still be flushing: look \
             at its log. Killing it loses what was not flushed", DETACH_MAX.as_secs())]
    StillRunning {
        /// The attachment.
        name: String,
        /// Its process.
        pid: u32,
    },
    /// The run directory.
    #[error("cannot use {path}: {source}", path = path.display())]
    RunDir {
        /// What was used.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// Mounting the file system, or reaching the file on it.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Mount {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// The loop device.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// The volume does not answer, or the last flush failed.
    #[error("cannot {action} the volume: {source}")]
    Volume {
        /// What was tried.
        action: &'static str,
        /// The device's words.
        source: BlockError,
    },
    /// The file system was unmounted by somebody else.
    #[error(
        "the file system at {0} was unmounted by somebody else: {device} fails all requests",
        device = "its block device"
    )]
    Unmounted(PathBuf),
}

fn on(device: Option<&PathBuf>) -> String {
    device.map_or(String::new(), |device| format!(" on {}", device.display()))
}

/// An attached volume. Dropping it detaches as far as possible; [`Attached::close`] says how far.
pub struct Attached {
    /// The block device.
    pub device: PathBuf,
    /// Devices of a killed predecessor that are still in use: they fail all requests.
    pub left_over: Vec<PathBuf>,
    /// Why nobody cleans up if this process is killed, when a guard was wanted and could not be started.
    pub unguarded: Option<String>,
    guard: Option<Guard>,
    place: Place,
    owned: Owned,
    state: State,
    backing: BackingFile,
    backend: Arc<dyn Backend>,
    size: ByteCount,
    session: Option<BackgroundSession>,
    released: bool,
}

/// A name of a run directory that this process alone may use, until it is dropped. Nothing has been made yet.
#[derive(Debug)]
pub struct Reserved {
    place: Place,
    owned: Owned,
}

/// Takes a name. Whoever looks for it meanwhile learns that something is being made (`Found::Begun`), so that nothing
/// else is begun under it.
///
/// # Errors
/// [`AttachError`]: another process has it, the run directory cannot be used, or this user may not attach.
pub fn reserve(run_dir: &Path, name: &str) -> Result<Reserved, AttachError> {
    // The record names the mount by it, also for processes in other directories.
    let run_dir = std::path::absolute(run_dir).map_err(|source| AttachError::RunDir {
        path: run_dir.to_owned(),
        source,
    })?;
    let place = Place::new(&run_dir, name)?;
    if !rustix::process::geteuid().is_root() {
        return Err(AttachError::NotRoot);
    }
    let owned = own(&place, &run_dir, name)?;
    Ok(Reserved { place, owned })
}

/// Attaches the volume behind `backend` and returns when its block device is ready. Cleans up first what a
/// killed process of the same name left behind.
///
/// Call [`Signals::install`] and [`crate::protect`] before any thread is started, the backend's too.
///
/// # Errors
/// [`AttachError`]; nothing is left behind then.
pub fn attach(options: AttachOptions, backend: impl Backend) -> Result<Attached, AttachError> {
    reserve(&options.run_dir, &options.name)?.attach(options, backend)
}

impl Reserved {
    /// As [`attach`], under the name that was taken; that of `options` is the same.
    ///
    /// # Errors
    /// As [`attach`].
    pub fn attach(
        self,
        options: AttachOptions,
        backend: impl Backend,
    ) -> Result<Attached, AttachError> {
        make(self, options, backend)
    }
}

fn make(
    reserved: Reserved,
    options: AttachOptions,
    backend: impl Backend,
) -> Result<Attached, AttachError> {
    let Reserved { place, owned } = reserved;
    if ![512, 4096].contains(&options.block_bytes) {
        return Err(AttachError::BlockBytes(options.block_bytes));
    }
    let run_dir = |source| AttachError::RunDir {
        path: options.run_dir.clone(),
        source,
    };
    let mut left_over = Vec::new();
    if let Some(stale) = place.load().map_err(run_dir)? {
        left_over = clean(&stale);
        place.remove(&owned).map_err(run_dir)?;
    }
    // Before anything is opened or mounted that it would inherit or miss.
    let (guard, unguarded) = match Guard::start(&options) {
        Ok(guard) => (guard, None),
        Err(error) => (None, Some(format!("no guard could be started: {error}"))),
    };
    let backend: Arc<dyn Backend> = Arc::new(backend);
    let (size, read_only) = describe(&*backend)?;
    let state = State {
        pid: std::process::id(),
        device: None,
        backing: None,
        mount: place.mount(),
        read_only: read_only || options.read_only,
        generation: options.generation,
    };
    place.store(&owned, &state).map_err(run_dir)?;
    // From here on dropping `attached` undoes what was done.
    let mut attached = Attached {
        device: PathBuf::new(),
        left_over,
        unguarded,
        guard,
        place,
        owned,
        state,
        backing: BackingFile {
            device: 0,
            inode: 0,
        },
        backend,
        size,
        session: None,
        released: false,
    };
    attached.mount_file(&options.name)?;
    attached.make_device(options.block_bytes)?;
    Ok(attached)
}

/// The lock of the name. Who looks takes a part in it for a moment, so one refusal proves nothing; the guard of a killed
/// process takes a part until it has cleaned up, and is waited for.
fn own(place: &Place, run_dir: &Path, name: &str) -> Result<Owned, AttachError> {
    let trouble = |source| AttachError::RunDir {
        path: run_dir.to_owned(),
        source,
    };
    let deadline = Instant::now() + 2 * RELEASE_MAX;
    let mut refusals = 0;
    while refusals < OWN_TRIES && Instant::now() < deadline {
        if let Some(owned) = place.own().map_err(trouble)? {
            return Ok(owned);
        }
        refusals += u32::from(place.is_owned().map_err(trouble)?);
        std::thread::sleep(POLL);
    }
    let state = place.load().ok().flatten();
    Err(AttachError::AlreadyAttached {
        name: name.to_owned(),
        pid: state.as_ref().map_or(0, |state| state.pid),
        device: state.and_then(|state| state.device),
    })
}

fn describe(backend: &dyn Backend) -> Result<(ByteCount, bool), AttachError> {
    let reach = |source| AttachError::Volume {
        action: "reach",
        source,
    };
    match ask(backend, Command::Describe, DESCRIBE_MAX).map_err(reach)? {
        Answer::Description { size, read_only } => Ok((size, read_only)),
        _ => Err(reach(BlockError::Failed(
            "it answered another question".to_owned(),
        ))),
    }
}

impl Attached {
    fn failed(&self, action: &'static str, source: impl Into<io::Error>) -> AttachError {
        AttachError::Mount {
            action,
            path: self.state.mount.clone(),
            source: source.into(),
        }
    }

    fn file(&self) -> PathBuf {
        self.state.mount.join(FILE_NAME)
    }

    fn remember(&self) -> Result<(), AttachError> {
        self.place
            .store(&self.owned, &self.state)
            .map_err(|source| AttachError::RunDir {
                path: self.state.mount.clone(),
                source,
            })
    }

    fn mount_file(&mut self, name: &str) -> Result<(), AttachError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fuse = open("/dev/fuse", flags, Mode::empty());
        let fuse = fuse.map_err(|errno| AttachError::NoFuse(errno.into()))?;
        std::fs::create_dir_all(&self.state.mount)
            .map_err(|error| self.failed("make the directory", error))?;
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            fuse.as_raw_fd()
        );
        let data = CString::new(data).expect("a number has no zero byte");
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let source = format!("azekura-{name}");
        mount(
            source,
            &self.state.mount,
            "fuse.azekura",
            flags,
            data.as_c_str(),
        )
        .map_err(|errno| self.failed("mount a FUSE file system at", errno))?;
        self.serve(fuse)
            .map_err(|error| self.failed("serve the FUSE file system at", error))?;
        let file = std::fs::metadata(self.file());
        let file = file.map_err(|error| self.failed("look into", error))?;
        self.backing = BackingFile {
            device: file.dev(),
            inode: file.ino(),
        };
        self.state.backing = Some(self.backing);
        self.remember()
    }

    fn serve(&mut self, fuse: OwnedFd) -> io::Result<()> {
        let files = VolumeFile {
            backend: self.backend.clone(),
        };
        let session = Session::from_fd(files, fuse, SessionACL::Owner, Config::default())?;
        self.session = Some(session.spawn()?);
        Ok(())
    }

    fn make_device(&mut self, block_bytes: u32) -> Result<(), AttachError> {
        let read_only = self.state.read_only;
        let access = if read_only {
            OFlags::RDONLY
        } else {
            OFlags::RDWR
        };
        let file = open(
            self.file(),
            access | OFlags::DIRECT | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let file = file.map_err(|errno| self.failed("open the file in", errno))?;
        let options = LoopOptions {
            block_bytes,
            read_only,
        };
        self.device = loop_device::attach(&file, options)?;
        self.state.device = Some(self.device.clone());
        self.remember()
    }

    /// Serves until told to stop while nobody uses the device; reports, in words, requests that cannot be
    /// followed. The size of the volume is looked at each 5 s, and when told to.
    ///
    /// # Errors
    /// [`AttachError::Unmounted`]: there is nothing to serve any more.
    pub fn wait(
        &mut self,
        signals: &Signals,
        mut report: impl FnMut(&str),
    ) -> Result<(), AttachError> {
        loop {
            if signals.wait(SIZE_EVERY) == Some(Told::Stop) {
                if !loop_device::is_in_use(&self.device) {
                    return Ok(());
                }
                let device = self.device.clone();
                report(&AttachError::InUse { device }.to_string());
            }
            let session = self.session.as_ref();
            if session.is_none_or(|session| session.guard.is_finished()) {
                return Err(AttachError::Unmounted(self.state.mount.clone()));
            }
            match self.refresh_size() {
                Ok(None) => {}
                Ok(Some(size)) => report(&format!("{} is {size} now", self.device.display())),
                Err(error) => report(&format!("cannot look at the size: {error}")),
            }
        }
    }

    /// Lets the block device grow when the volume did; returns the new size then.
    ///
    /// # Errors
    /// [`AttachError`]; worth another try.
    pub fn refresh_size(&mut self) -> Result<Option<ByteCount>, AttachError> {
        let (size, _) = describe(&*self.backend)?;
        if size <= self.size {
            return Ok(None);
        }
        // The kernel learns the file's size when it is asked for, not when it changes.
        let seen = std::fs::metadata(self.file());
        seen.map_err(|error| self.failed("look into", error))?;
        loop_device::refresh_size(&self.device, self.backing)?;
        self.size = size;
        Ok(Some(size))
    }

    /// Makes everything durable, frees the block device, unmounts and forgets the attachment.
    ///
    /// # Errors
    /// [`AttachError::InUse`], [`AttachError::Volume`] when the last flush failed, or what the kernel
    /// refused. All that can be undone is undone even so.
    pub fn close(mut self) -> Result<(), AttachError> {
        self.release()
    }

    fn release(&mut self) -> Result<(), AttachError> {
        self.released = true;
        let mut outcome = Ok(());
        let had_device = self.state.device.take();
        if let Some(device) = &had_device {
            let file = self.file();
            let ours = Ours {
                backing: self.backing,
                file: &file,
                device: Some(device),
            };
            outcome = loop_device::detach(device, ours).map_err(AttachError::from);
            if !within(RELEASE_MAX, || !loop_device::is_ours(device, ours)) {
                outcome = outcome.and(Err(AttachError::InUse {
                    device: device.clone(),
                }));
            }
            let flushed = ask(&*self.backend, Command::Flush, FLUSH_MAX);
            outcome = outcome.and(flushed.map(drop).map_err(|source| AttachError::Volume {
                action: "flush",
                source,
            }));
        }
        let detached = unmount(&self.state.mount, UnmountFlags::DETACH);
        if let Some(session) = self.session.take() {
            outcome = outcome.and(detached.map_err(|errno| self.failed("unmount", errno)));
            // A device that is still in use keeps the file system, and its thread, alive.
            if within(RELEASE_MAX, || session.guard.is_finished()) {
                let served = session.join();
                outcome = outcome.and(served.map_err(|error| self.failed("serve", error)));
            }
        }
        let removed = self.place.remove(&self.owned);
        // What could not be removed now may go when this process is gone: then its guard looks once more.
        if removed.is_ok()
            && let Some(guard) = self.guard.take()
        {
            guard.dismiss();
        }
        outcome.and(removed.map_err(|source| AttachError::RunDir {
            path: self.state.mount.clone(),
            source,
        }))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if !self.released {
            // `close` reports errors; here nobody listens.
            let _ = self.release();
        }
    }
}

/// Polls `condition` for at most `patience`.
pub(crate) fn within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Removes what a dead process left behind; returns the devices that are in use and go when they are
/// not any more. Errors mean that there was nothing to remove.
pub(crate) fn clean(stale: &State) -> Vec<PathBuf> {
    let mut in_use = Vec::new();
    let file = stale.mount.join(FILE_NAME);
    if let Some(ours) = made_by(stale, &file) {
        for device in loop_devices_of(ours) {
            let _ = loop_device::detach(&device, ours);
            let gone = || loop_device::is_in_use(&device) || !loop_device::is_ours(&device, ours);
            if !within(RELEASE_MAX, gone) || loop_device::is_ours(&device, ours) {
                in_use.push(device);
            }
        }
    }
    // Several, if attaching was tried by hand on top of a dead mount.
    for _ in 0..8 {
        let flags = UnmountFlags::DETACH | UnmountFlags::FORCE;
        if unmount(&stale.mount, flags).is_err() {
            break;
        }
    }
    in_use
}

/// How the loop devices of an attachment are known; `None` when it had mounted nothing yet.
fn made_by<'a>(state: &'a State, file: &'a Path) -> Option<Ours<'a>> {
    state.backing.map(|backing| Ours {
        backing,
        file,
        device: state.device.as_deref(),
    })
}

fn loop_devices_of(ours: Ours<'_>) -> impl Iterator<Item = PathBuf> {
    let devices = loop_devices().into_iter();
    devices.filter(move |device| loop_device::is_ours(device, ours))
}

/// Whether a device of a dead attachment is still there, for somebody who has it open.
pub(crate) fn has_device(stale: &State) -> bool {
    let file = stale.mount.join(FILE_NAME);
    made_by(stale, &file).is_some_and(|ours| loop_devices_of(ours).next().is_some())
}

/// Whether the device that a record names is that attachment's still.
pub(crate) fn is_recorded_device(state: &State) -> bool {
    let file = state.mount.join(FILE_NAME);
    let (Some(device), Some(ours)) = (&state.device, made_by(state, &file)) else {
        return false;
    };
    loop_device::is_ours(device, ours)
}

/// All loop devices of this machine.
fn loop_devices() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/sys/block");
    let names = entries.into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut devices: Vec<PathBuf> = names
        .filter(|name| name.starts_with("loop"))
        .map(|name| Path::new("/dev").join(name))
        .collect();
    devices.sort();
    devices
}

/// Tells the process that serves `name` to look at once whether the volume grew.
///
/// # Errors
/// [`AttachError::NotAttached`] when none lives.
pub fn refresh(run_dir: &Path, name: &str) -> Result<(), AttachError> {
    let place = Place::new(run_dir, name)?;
    let trouble = |source| AttachError::RunDir {
        path: run_dir.to_owned(),
        source,
    };
    let not_attached = || AttachError::NotAttached(name.to_owned());
    let state = place.load().map_err(trouble)?.ok_or_else(not_attached)?;
    if !place.is_owned().map_err(trouble)? {
        return Err(not_attached());
    }
    let pid = i32::try_from(state.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(not_attached)?;
    // The lock says that it lives, so the id is its own.
    let told = rustix::process::kill_process(pid, rustix::process::Signal::HUP);
    told.map_err(|errno| trouble(errno.into()))
}

/// How an attachment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detached {
    /// Its process made everything durable and ended.
    Stopped,
    /// Its process was dead already; what it had left behind is removed, but for these devices, which are
    /// in use.
    Cleaned {
        /// Devices that fail all requests until they are let go.
        in_use: Vec<PathBuf>,
    },
}

/// Detaches a volume: tells its process to stop and waits for that, or cleans up after a dead one.
///
/// # Errors
/// [`AttachError::NotAttached`], [`AttachError::InUse`] and [`AttachError::StillRunning`]: nothing was
/// changed, or the process is still at it.
pub fn detach(run_dir: &Path, name: &str) -> Result<Detached, AttachError> {
    let place = Place::new(run_dir, name)?;
    let trouble = |source| AttachError::RunDir {
        path: run_dir.to_owned(),
        source,
    };
    let not_attached = || AttachError::NotAttached(name.to_owned());
    let Some(state) = place.load().map_err(trouble)? else {
        return Err(not_attached());
    };
    if !place.is_owned().map_err(trouble)? {
        let owned = own(&place, run_dir, name)?;
        // Its guard may have been faster.
        let left = place.load().map_err(trouble)?;
        let in_use = left.as_ref().map_or_else(Vec::new, clean);
        place.remove(&owned).map_err(trouble)?;
        return Ok(Detached::Cleaned { in_use });
    }
    if let Some(device) = state.device.filter(|device| loop_device::is_in_use(device)) {
        return Err(AttachError::InUse { device });
    }
    let pid = i32::try_from(state.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(not_attached)?;
    // The lock says that it lives, so the id is its own.
    let told = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    told.map_err(|errno| trouble(errno.into()))?;
    let stopped = || matches!(place.own(), Ok(Some(_)));
    if !within(DETACH_MAX, stopped) {
        let (name, pid) = (name.to_owned(), state.pid);
        return Err(AttachError::StillRunning { name, pid });
    }
    match (
        place.load().map_err(trouble)?,
        own(&place, run_dir, name).ok(),
    ) {
        // It died on the way.
        (Some(state), Some(owned)) => {
            let in_use = clean(&state);
            place.remove(&owned).map_err(trouble)?;
            Ok(Detached::Cleaned { in_use })
        }
        _ => Ok(Detached::Stopped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_attached_cannot_be_detached() {
        let outcome = detach(Path::new("/nowhere/at/all"), "volume");
        assert!(matches!(outcome, Err(AttachError::NotAttached(_))));
        let outcome = detach(Path::new("/nowhere"), "../volume");
        assert!(matches!(outcome, Err(AttachError::Name(_))));
    }
}
