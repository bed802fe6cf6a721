//! Disks: whole block devices, or preallocated files, opened for direct I/O by one process at a time.
//!
//! Invariants
//! - Reads and writes go to the device, not to the page cache, unless the caller allowed that.
//! - Nobody else who plays by the rules has the disk open: block devices are claimed with `O_EXCL`, as
//!   `mount` does, files with `flock`. Both end with the process or the last [`Disk`] clone.
//!
//! Cost: two small allocations per operation, and one of its size for reads and for writes of
//! unaligned memory.

use crate::holder;
use crate::reactor::Reactor;
use crate::request::{DiskAction, DiskRequest, Request};
use crate::shard::Machine;
use bytes::Bytes;
use rustix::fs::{FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use world::{Buf, Disk, DiskError, LocalBoxFuture, PAGE};

/// `f_type` of file systems that live in memory and take `O_DIRECT` without meaning it.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// How often a disk is tried that a dead process still holds, and the pause between: 2 s.
const RELEASE_ROUNDS_MAX: u32 = 100;
const RELEASE_PAUSE: Duration = Duration::from_millis(20);

/// How to open a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Accept a file system without direct I/O, e.g. tmpfs in tests. Finished writes are then in the
    /// page cache only, which [`Disk`] does not promise.
    pub allow_buffered: bool,
}

/// Why a disk cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nothing is there.
    #[error("disk {path} does not exist: create it, or correct the path")]
    NotFound {
        /// The disk.
        path: PathBuf,
    },
    /// Neither a block device nor a regular file.
    #[error("disk {path} is a {kind}: name a block device or a regular file")]
    WrongKind {
        /// The disk.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Somebody else uses it.
    #[error("disk {path} is in use by {holder}: stop that first")]
    InUse {
        /// The disk.
        path: PathBuf,
        /// Who, as far as this process can see.
        holder: String,
    },
    /// The file system has no direct I/O.
    #[error(
        "disk {path} lies on a file system without direct I/O, where a power loss takes acknowledged \
         writes: use ext4, xfs or a block device"
    )]
    Buffered {
        /// The disk.
        path: PathBuf,
    },
    /// Its sectors are larger than a page.
    #[error("disk {path} has sectors of {bytes} bytes: at most 4096 are supported")]
    SectorSize {
        /// The disk.
        path: PathBuf,
        /// Its logical sector size.
        bytes: u32,
    },
    /// Less than one page.
    #[error("disk {path} has {bytes} bytes, less than a page of 4096: extend it")]
    TooSmall {
        /// The disk.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The operating system refused.
    #[error("disk {path} cannot be opened: {reason}")]
    Io {
        /// The disk.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
}

/// Why a file for a disk cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// It is there already, and may hold data.
    #[error("{path} exists already: choose another path or delete it first")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Not enough space.
    #[error("{path} needs {bytes} bytes, which its file system does not have")]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        bytes: u64,
    },
    /// The operating system refused.
    #[error("{path} cannot be created with {bytes} bytes: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        bytes: u64,
        /// The operating system's words.
        reason: String,
    },
}

/// A disk that was opened on any thread and that no shard uses yet. It is given up when this is dropped.
#[derive(Debug)]
pub struct OpenFile {
    file: OwnedFd,
    size: u64,
}

impl OpenFile {
    /// Opens the block device or file at `path` for this process alone. Blocks for a few system calls, and up to 2 s while a process that
    /// has ended still holds the disk: where a shard serves others meanwhile, this is work for `World::offload`.
    ///
    /// # Errors
    /// [`OpenError`]; only [`OpenError::InUse`] may go away by itself.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Self, OpenError> {
        let (file, size) = open_file(path, options)?;
        Ok(Self { file, size })
    }

    /// Its size in bytes: whole pages.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The disk, used from now on by this shard.
    #[must_use]
    pub fn on(self, machine: &Machine) -> Rc<dyn Disk> {
        Rc::new(LinuxDisk {
            reactor: machine.reactor.clone(),
            file: Arc::new(self.file),
            size: self.size,
        })
    }
}

/// [`OpenFile::open`] and [`OpenFile::on`] in one. Blocks the shard: for programs that serve nobody yet.
///
/// # Errors
/// As [`OpenFile::open`].
pub fn open(
    machine: &Machine,
    path: &Path,
    options: OpenOptions,
) -> Result<Rc<dyn Disk>, OpenError> {
    Ok(OpenFile::open(path, options)?.on(machine))
}

fn io_error(path: &Path, error: Errno) -> OpenError {
    let path = path.to_owned();
    match error {
        Errno::NOENT | Errno::NXIO => OpenError::NotFound { path },
        error => OpenError::Io {
            path,
            reason: error.to_string(),
        },
    }
}

/// The kernel lets go of a killed process's disks only when its operations on them have ended, which may be
/// after the process is gone: whoever restarts it at once must not be refused.
fn open_file(path: &Path, options: OpenOptions) -> Result<(OwnedFd, u64), OpenError> {
    for _ in 0..RELEASE_ROUNDS_MAX {
        match try_open_file(path, options) {
            Err(OpenError::InUse { holder, .. }) if holder::may_be_gone(&holder) => {
                std::thread::sleep(RELEASE_PAUSE);
            }
            outcome => return outcome,
        }
    }
    try_open_file(path, options)
}

fn try_open_file(path: &Path, options: OpenOptions) -> Result<(OwnedFd, u64), OpenError> {
    let failed = |error| io_error(path, error);
    let stat = rustix::fs::stat(path).map_err(failed)?;
    let is_device = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => true,
        FileType::RegularFile => false,
        kind => {
            return Err(OpenError::WrongKind {
                path: path.to_owned(),
                kind: name_of(kind),
            });
        }
    };
    let file = open_direct(path, &stat, is_device, options)?;
    let opened = rustix::fs::fstat(&file).map_err(failed)?;
    let same = (opened.st_dev, opened.st_ino) == (stat.st_dev, stat.st_ino);
    if !same {
        // Somebody replaced it meanwhile.
        return Err(failed(Errno::STALE));
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(OpenError::InUse {
                path: path.to_owned(),
                holder: holder::of_lock(&opened),
            });
        }
        Err(error) => return Err(failed(error)),
    }
    if is_device {
        let bytes = rustix::fs::ioctl_blksszget(&file).map_err(failed)?;
        if bytes as usize > PAGE {
            let path = path.to_owned();
            return Err(OpenError::SectorSize { path, bytes });
        }
    }
    // The end of a block device is its size too (BLKGETSIZE64).
    let bytes = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(failed)?;
    let size = bytes - bytes % PAGE as u64;
    if size == 0 {
        let path = path.to_owned();
        return Err(OpenError::TooSmall { path, bytes });
    }
    Ok((file, size))
}

fn open_direct(
    path: &Path,
    stat: &Stat,
    is_device: bool,
    options: OpenOptions,
) -> Result<OwnedFd, OpenError> {
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
    if is_device {
        flags |= OFlags::EXCL;
    }
    match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
        Ok(file) => {
            let system = rustix::fs::fstatfs(&file).map_err(|error| io_error(path, error))?;
            let kind = system.f_type as u64;
            let in_memory = !is_device && [TMPFS_MAGIC, RAMFS_MAGIC].contains(&kind);
            if in_memory && !options.allow_buffered {
                let path = path.to_owned();
                return Err(OpenError::Buffered { path });
            }
            Ok(file)
        }
        Err(Errno::INVAL) if options.allow_buffered => {
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| io_error(path, error))
        }
        Err(Errno::INVAL) => Err(OpenError::Buffered {
            path: path.to_owned(),
        }),
        Err(Errno::BUSY) => Err(OpenError::InUse {
            path: path.to_owned(),
            holder: holder::of_device(path, stat),
        }),
        Err(error) => Err(io_error(path, error)),
    }
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "directory",
        FileType::CharacterDevice => "character device",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        _ => "thing of an unknown kind",
    }
}

/// Creates a file of at least `bytes` (rounded up to pages), all of them allocated, and makes its
/// existence durable. Blocks meanwhile.
///
/// # Errors
/// [`CreateError`]; nothing is left behind then.
pub fn create_file(path: &Path, bytes: u64) -> Result<(), CreateError> {
    let bytes = bytes.max(1).next_multiple_of(PAGE as u64);
    let failed = |error: Errno| match error {
        Errno::EXIST => CreateError::Exists {
            path: path.to_owned(),
        },
        Errno::NOSPC | Errno::DQUOT => CreateError::NoSpace {
            path: path.to_owned(),
            bytes,
        },
        error => CreateError::Io {
            path: path.to_owned(),
            bytes,
            reason: error.to_string(),
        },
    };
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let allocate = || {
        // Trying it would take all space from everybody else until it fails.
        let system = rustix::fs::fstatvfs(&file)?;
        if bytes > system.f_bavail.saturating_mul(system.f_frsize) {
            return Err(Errno::NOSPC);
        }
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        rustix::fs::fsync(&file)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::fsync(rustix::fs::open(directory, flags, Mode::empty())?)
    };
    allocate().map_err(|error| {
        // The error to report is the first one.
        let _ = rustix::fs::unlink(path);
        failed(error)
    })
}

struct LinuxDisk {
    reactor: Rc<Reactor>,
    file: Arc<OwnedFd>,
    size: u64,
}

impl LinuxDisk {
    fn check(&self, offset: u64, len: usize) -> Result<(), DiskError> {
        let end = offset.checked_add(len as u64);
        let inside = end.is_some_and(|end| end <= self.size);
        let aligned = offset.is_multiple_of(PAGE as u64) && len.is_multiple_of(PAGE);
        if inside && aligned && len > 0 {
            return Ok(());
        }
        Err(DiskError::OutOfBounds { offset, len })
    }

    /// Runs one operation to its end.
    fn perform(
        &self,
        operation: &'static str,
        offset: u64,
        action: DiskAction,
    ) -> impl Future<Output = Result<DiskAction, DiskError>> + 'static + use<> {
        let request = Request::Disk(DiskRequest {
            file: self.file.clone(),
            offset,
            done: 0,
            action,
        });
        let reactor = self.reactor.clone();
        async move {
            let (request, result) = reactor.submit(request).await;
            match (request, result) {
                (Request::Disk(disk), Ok(_)) => Ok(disk.action),
                (_, Err(Errno::CANCELED | Errno::NODEV)) => Err(DiskError::Gone),
                (_, Err(error)) => Err(DiskError::Io {
                    operation,
                    offset,
                    reason: error.to_string(),
                }),
                (_, Ok(_)) => unreachable!("a disk's request comes back as one"),
            }
        }
    }
}

impl Disk for LinuxDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> LocalBoxFuture<'static, Result<Bytes, DiskError>> {
        if let Err(error) = self.check(offset, len) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let reading = self.perform("read", offset, DiskAction::Read(Buf::zeroed(len)));
        Box::pin(async move {
            match reading.await? {
                DiskAction::Read(buf) => Ok(buf.freeze()),
                DiskAction::Write(_) | DiskAction::Flush => unreachable!("a read stays one"),
            }
        })
    }

    fn write(&self, offset: u64, data: Bytes) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        if let Err(error) = self.check(offset, data.len()) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let data = match Buf::is_aligned(&data) {
            true => data,
            false => Buf::copy_of(&data).freeze(),
        };
        let writing = self.perform("write", offset, DiskAction::Write(data));
        Box::pin(async move { writing.await.map(drop) })
    }

    fn flush(&self) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        let flushing = self.perform("flush", 0, DiskAction::Flush);
        Box::pin(async move { flushing.await.map(drop) })
    }
}
