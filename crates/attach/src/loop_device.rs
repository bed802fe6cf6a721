//! Loop devices: the block device that the kernel makes of the file system's one file.
//!
//! A device is ours only while its backing file is the one we gave it: every function that changes one
//! checks that first, so that a number that was freed and given to somebody else is left alone. The
//! kernel tells the file's device and inode number only while the file's server lives; of a dead one it
//! still tells the path.
//!
//! Source: `loop(4)` and `include/uapi/linux/loop.h`.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use std::ffi::c_void;
use std::path::{Path, PathBuf};

const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_GET_STATUS64: Opcode = 0x4C05;
const LOOP_SET_CAPACITY: Opcode = 0x4C07;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// Others may take the free device between being told of it and configuring it; 64 of them in a row
/// mean that something else is wrong.
const RACES_MAX: u32 = 64;

/// `struct loop_info64`.
#[derive(Clone, Copy)]
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const _: () = assert!(size_of::<LoopInfo>() == 232);

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    descriptor: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

const EMPTY: LoopInfo = LoopInfo {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// A request without an argument; its answer is a small number.
struct Plain(Opcode);

// SAFETY: the three opcodes used with it (GET_FREE, CLR_FD, SET_CAPACITY) take no argument and touch no
// memory of this process.
unsafe impl Ioctl for Plain {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        self.0
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    // SAFETY: the pointer is not used.
    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

/// A request whose argument is a structure that the kernel reads or fills.
struct With<'a, T> {
    opcode: Opcode,
    argument: &'a mut T,
}

// SAFETY: it is used with CONFIGURE and a `LoopConfig`, which the kernel reads, and with GET_STATUS64 and
// a `LoopInfo`, which it fills. Both are exclusively borrowed for the call, have the kernel's size (asserted
// above), and any bytes are a valid value of them.
unsafe impl<T> Ioctl for With<'_, T> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.argument).cast()
    }

    // SAFETY: the pointer is not used; the caller reads its own `argument`.
    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

fn plain(device: &OwnedFd, opcode: Opcode) -> rustix::io::Result<i32> {
    // SAFETY: see the implementation of `Ioctl` for `Plain`; on other files the kernel answers ENOTTY.
    unsafe { ioctl(device, Plain(opcode)) }
}

fn with<T>(device: &OwnedFd, opcode: Opcode, argument: &mut T) -> rustix::io::Result<()> {
    // SAFETY: see the implementation of `Ioctl` for `With`; on other files the kernel answers ENOTTY.
    unsafe { ioctl(device, With { opcode, argument }) }
}

/// Why a loop device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The kernel's loop driver.
    #[error(
        "cannot use /dev/loop-control: {0}. Is the kernel module `loop` loaded, and in a container, \
             is the device allowed?"
    )]
    NoDriver(#[source] std::io::Error),
    /// The device node.
    #[error("cannot open {device}: {source}. Does the node exist (in a container: mount /dev of the host)?", device = device.display())]
    NoNode {
        /// The device.
        device: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("cannot {action} {device}: {source}", device = device.display())]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The device.
        device: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// Somebody else is always faster.
    #[error("{RACES_MAX} free loop devices were taken by others before they could be configured")]
    Raced,
}

/// What a loop device is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BackingFile {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// How a loop device is made.
#[derive(Clone, Copy, Debug)]
pub struct LoopOptions {
    /// Logical block size: 512 or 4096.
    pub block_bytes: u32,
    /// Whether writes are refused.
    pub read_only: bool,
}

fn open_device(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn refused(action: &'static str, device: &Path, source: Errno) -> LoopError {
    LoopError::Refused {
        action,
        device: device.to_owned(),
        source: source.into(),
    }
}

/// Makes a loop device of `file` with direct I/O and returns its path.
///
/// # Errors
/// [`LoopError`]; no device was made then.
pub fn attach(file: impl AsFd, options: LoopOptions) -> Result<PathBuf, LoopError> {
    let no_driver = |errno: Errno| LoopError::NoDriver(errno.into());
    let control = open_device(Path::new("/dev/loop-control"), OFlags::RDWR).map_err(no_driver)?;
    let descriptor = file.as_fd().as_raw_fd();
    let descriptor = u32::try_from(descriptor).expect("an open descriptor is not negative");
    for _ in 0..RACES_MAX {
        let number = plain(&control, LOOP_CTL_GET_FREE).map_err(no_driver)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open_device(&path, OFlags::RDWR).map_err(|errno| LoopError::NoNode {
            device: path.clone(),
            source: errno.into(),
        })?;
        let read_only = if options.read_only {
            LO_FLAGS_READ_ONLY
        } else {
            0
        };
        let mut config = LoopConfig {
            descriptor,
            block_size: options.block_bytes,
            info: LoopInfo {
                flags: LO_FLAGS_DIRECT_IO | read_only,
                ..EMPTY
            },
            reserved: [0; 8],
        };
        match with(&device, LOOP_CONFIGURE, &mut config) {
            Ok(()) => return check_direct(&device, path),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(refused("configure", &path, errno)),
        }
    }
    Err(LoopError::Raced)
}

/// Without direct I/O each block would be cached twice and the loop's own cache could deadlock under memory
/// pressure: refused rather than degraded.
fn check_direct(device: &OwnedFd, path: PathBuf) -> Result<PathBuf, LoopError> {
    let mut info = EMPTY;
    let status = with(device, LOOP_GET_STATUS64, &mut info);
    if status.is_ok() && info.flags & LO_FLAGS_DIRECT_IO != 0 {
        return Ok(path);
    }
    // Not ours to keep; a failure to clear it is reported by the error that follows anyway.
    let _ = plain(device, LOOP_CLR_FD);
    Err(refused(
        "use direct I/O on",
        &path,
        status.err().unwrap_or(Errno::INVAL),
    ))
}

/// The file a loop device was made of, as far as it can be told apart from others.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// Its numbers.
    pub backing: BackingFile,
    /// Its path while it is mounted.
    pub file: &'a Path,
    /// The device that was recorded for it.
    pub device: Option<&'a Path>,
}

/// Whether `path` is a loop device of that file. It is until the last one who has it open closes it.
#[must_use]
pub fn is_ours(path: &Path, ours: Ours<'_>) -> bool {
    let Some(file) = backing_path(path) else {
        return false;
    };
    // A dead server's file that was unmounted has lost its directories.
    let named = file == ours.file || (ours.device == Some(path) && is_unmounted(&file, ours.file));
    if !named {
        // Asking the device asks the server of its file, and one that hangs must not stop us at ours.
        return false;
    }
    let device = open_device(path, OFlags::RDONLY).ok();
    let backing = device.and_then(|device| backing_of(&device));
    backing.is_none_or(|backing| backing == ours.backing)
}

fn is_unmounted(found: &Path, file: &Path) -> bool {
    file.file_name()
        .map(|name| Path::new("/").join(name))
        .as_deref()
        == Some(found)
}

/// The path of the backing file; `None` when there is none.
fn backing_path(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let attribute = Path::new("/sys/block").join(name).join("loop/backing_file");
    let text = std::fs::read_to_string(attribute).ok()?;
    Some(PathBuf::from(text.trim_end_matches('\n')))
}

fn backing_of(device: &OwnedFd) -> Option<BackingFile> {
    let mut info = EMPTY;
    with(device, LOOP_GET_STATUS64, &mut info).ok()?;
    Some(BackingFile {
        device: info.device,
        inode: info.inode,
    })
}

/// Whether somebody holds the device for himself: a mounted file system, swap, a device mapper.
#[must_use]
pub fn is_in_use(path: &Path) -> bool {
    matches!(
        open_device(path, OFlags::RDONLY | OFlags::EXCL),
        Err(Errno::BUSY)
    )
}

/// Writes back what the kernel caches of the device, then frees it: at once, or when the last one who has it
/// open closes it. Does nothing when it is not ours.
///
/// # Errors
/// [`LoopError::Refused`].
pub fn detach(path: &Path, ours: Ours<'_>) -> Result<(), LoopError> {
    if !is_ours(path, ours) {
        return Ok(());
    }
    let Ok(device) = open_device(path, OFlags::RDONLY) else {
        return Ok(());
    };
    // Fails when the server of the file is dead: there is nobody left to write to.
    let _ = rustix::fs::fsync(&device);
    match plain(&device, LOOP_CLR_FD) {
        Ok(_) | Err(Errno::NXIO) => Ok(()),
        Err(errno) => Err(refused("free", path, errno)),
    }
}

/// Tells the kernel that the file grew.
///
/// # Errors
/// [`LoopError::Refused`].
pub fn refresh_size(path: &Path, file: BackingFile) -> Result<(), LoopError> {
    let device = open_device(path, OFlags::RDONLY);
    let device = device.map_err(|errno| refused("open", path, errno))?;
    if backing_of(&device) != Some(file) {
        return Err(refused(
            "resize (it is backed by another file now)",
            path,
            Errno::STALE,
        ));
    }
    let outcome = plain(&device, LOOP_SET_CAPACITY);
    outcome.map_err(|errno| refused("resize", path, errno))?;
    Ok(())
}
