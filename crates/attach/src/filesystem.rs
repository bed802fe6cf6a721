//! The file system with one file, `volume`, which is the device.
//!
//! Requests are handed to the backend and answered from its thread, so one thread reads the kernel's queue
//! however many requests are under way. The file is opened for direct I/O: the loop device above it is the
//! only cache. Attributes are never cached: a volume may grow.

use crate::backend::{Answer, Backend, Command, Request};
use blockdev::BlockError;
use bytes::Bytes;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use vocab::{BLOCK_BYTES, ByteCount};
use world::Buf;

/// The file's name.
pub(crate) const FILE_NAME: &str = "volume";
const FILE: INodeNo = INodeNo(2);
/// The kernel's largest request with its default of 256 pages.
const REQUEST_BYTES: u32 = 1 << 20;
/// Requests under way at most; a loop device has 128.
const MAX_BACKGROUND: u16 = 128;
const NOT_CACHED: Duration = Duration::ZERO;
/// For the root directory, which never changes.
const CACHED: Duration = Duration::from_secs(3600);

const FALLOC_FL_KEEP_SIZE: i32 = 1;
const FALLOC_FL_PUNCH_HOLE: i32 = 2;
const FALLOC_FL_ZERO_RANGE: i32 = 16;

/// Serves a backend as a file.
pub(crate) struct VolumeFile {
    pub(crate) backend: Arc<dyn Backend>,
}

fn attributes(ino: INodeNo, kind: FileType, perm: u16, size: u64) -> FileAttr {
    FileAttr {
        ino,
        size,
        blocks: size / 512,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn directory() -> FileAttr {
    attributes(INodeNo::ROOT, FileType::Directory, 0o500, 0)
}

fn file(size: ByteCount, read_only: bool) -> FileAttr {
    let perm = if read_only { 0o400 } else { 0o600 };
    attributes(FILE, FileType::RegularFile, perm, size.0)
}

/// The closest error number of a block device; the words are lost on the way through the kernel.
fn errno(error: &BlockError) -> Errno {
    match error {
        BlockError::OutOfRange { .. } => Errno::EINVAL,
        BlockError::ReadOnly => Errno::EROFS,
        BlockError::NoSpace(_) => Errno::ENOSPC,
        BlockError::Gone(_) | BlockError::Failed(_) => Errno::EIO,
    }
}

impl VolumeFile {
    fn submit(&self, command: Command, reply: impl FnOnce(Result<Answer, Errno>) + Send + 'static) {
        let reply = move |answer: Result<Answer, BlockError>| {
            reply(answer.map_err(|error| errno(&error)));
        };
        self.backend.submit(Request::new(command, Box::new(reply)));
    }

    fn describe(&self, reply: impl FnOnce(Result<FileAttr, Errno>) + Send + 'static) {
        self.submit(Command::Describe, |answer| {
            reply(match answer {
                Ok(Answer::Description { size, read_only }) => Ok(file(size, read_only)),
                Ok(_) => Err(Errno::EIO),
                Err(errno) => Err(errno),
            });
        });
    }

    fn change(&self, command: Command, reply: ReplyEmpty) {
        self.submit(command, |answer| match answer {
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(errno),
        });
    }
}

impl Filesystem for VolumeFile {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        // Each is a matter of speed: what an old kernel lacks is left out.
        for wanted in [InitFlags::FUSE_ASYNC_DIO, InitFlags::FUSE_MAX_PAGES] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_write(REQUEST_BYTES);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent != INodeNo::ROOT || name != FILE_NAME {
            return reply.error(Errno::ENOENT);
        }
        self.describe(|attr| match attr {
            Ok(attr) => reply.entry(&NOT_CACHED, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        });
    }

    fn getattr(&self, _: &fuser::Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if ino == INodeNo::ROOT {
            return reply.attr(&CACHED, &directory());
        }
        self.describe(|attr| match attr {
            Ok(attr) => reply.attr(&NOT_CACHED, &attr),
            Err(errno) => reply.error(errno),
        });
    }

    fn open(&self, _: &fuser::Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = u64::from(size);
        self.submit(Command::Read { offset, len }, |answer| match answer {
            Ok(Answer::Data(pieces)) => match pieces.as_slice() {
                [one] => reply.data(one),
                many => reply.data(&many.concat()),
            },
            Ok(_) => reply.error(Errno::EIO),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Ok(written) = u32::try_from(data.len()) else {
            return reply.error(Errno::EINVAL);
        };
        // The only copy: into memory that a disk or socket can take as it is.
        let data: Bytes = Buf::copy_of(data).freeze().slice(..data.len());
        self.submit(
            Command::Write { offset, data },
            move |answer| match answer {
                Ok(_) => reply.written(written),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn flush(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Called when a descriptor is closed, which promises nothing; fsync does.
        reply.ok();
    }

    fn fsync(&self, _: &fuser::Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.change(Command::Flush, reply);
    }

    fn fallocate(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match mode & !FALLOC_FL_KEEP_SIZE {
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE => {
                let len = length;
                self.change(Command::Zero { offset, len }, reply);
            }
            _ => reply.error(Errno::EOPNOTSUPP),
        }
    }

    fn readdir(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let entries = [
            (INodeNo::ROOT, FileType::Directory, "."),
            (INodeNo::ROOT, FileType::Directory, ".."),
            (FILE, FileType::RegularFile, FILE_NAME),
        ];
        for (next, (ino, kind, name)) in (1u64..).zip(entries) {
            if next > offset && reply.add(ino, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &fuser::Request, _: INodeNo, reply: ReplyStatfs) {
        // The loop driver takes the granularity of discards from the block size.
        let block = u32::try_from(BLOCK_BYTES).expect("a small constant");
        reply.statfs(0, 0, 0, 0, 0, block, 255, block);
    }
}
