//! The io_uring of a shard.
//!
//! Submissions of one executor turn go to the kernel in one `io_uring_enter`, which also waits. Neither
//! memory nor descriptors are registered with it, so it pins nothing and needs no privileges.
//!
//! It needs kernel 5.11 (timeouts of waits, no lost completions); newer kernels get cheaper completion
//! delivery (`DEFER_TASKRUN`, 6.1). It fails, and threads take over, where seccomp forbids it.
#![allow(unsafe_code)]

use crate::reactor::{Key, Table};
use crate::request::{
    CALL_BYTES_MAX, DiskAction, DiskRequest, Outgoing, PARTS_MAX, Request, SocketAction,
};
use crate::socket::Socket;
use crate::wake::Wake;
use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use rustix::io::Errno;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use world::Duration;

/// Submissions that fit between two system calls; more are handed over early.
const SUBMISSIONS: u32 = 512;

/// Completions that fit before the kernel has to keep them in a list: 16 B each.
const COMPLETIONS: u32 = 4096;

/// Marks completions nobody waits for. No operation's key: generations have 31 bits.
const NOBODY: u64 = u64::MAX;

/// Memory of one `sendmsg`, which the kernel reads until it is done.
pub(crate) struct Message {
    header: libc::msghdr,
    parts: Vec<libc::iovec>,
}

pub(crate) struct Ring {
    ring: IoUring,
    wake: Arc<Wake>,
    /// Whether the event counter is being read.
    listens: bool,
    /// Completions of this turn.
    reaped: Vec<(u64, i32)>,
}

/// The best ring this kernel gives.
fn build() -> std::io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(COMPLETIONS).setup_clamp();
    let mut modern = builder.clone();
    modern
        .setup_submit_all()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_single_issuer();
    let mut newest = modern.clone();
    newest.setup_defer_taskrun();
    for candidate in [newest, modern] {
        match candidate.build(SUBMISSIONS) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => return result,
        }
    }
    builder.build(SUBMISSIONS)
}

impl Ring {
    pub(crate) fn new(wake: Arc<Wake>) -> std::io::Result<Self> {
        let ring = build()?;
        let params = ring.params();
        if !params.is_feature_ext_arg() || !params.is_feature_nodrop() {
            let reason = "this kernel's io_uring is older than 5.11";
            return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, reason));
        }
        Ok(Self {
            ring,
            wake,
            listens: false,
            reaped: Vec::with_capacity(256),
        })
    }

    /// Queues a pending operation's next system call.
    pub(crate) fn start(&mut self, table: &mut Table, key: Key) {
        let request = table.pending(key).expect("it was just inserted");
        let entry = prepare(request).user_data(key.0);
        // SAFETY: `prepare` points the entry at heap memory and descriptors owned by `request`, which
        // the table keeps, without touching that memory, until the completion of `key` is taken.
        unsafe { self.push(&entry) };
    }

    /// # Safety
    /// What `entry` points at must live unmoved until its completion is reaped.
    unsafe fn push(&mut self, entry: &Entry) {
        // 1000 tries: the kernel takes at least one entry per call unless it has no memory left.
        for _ in 0..1000 {
            // SAFETY: as promised by the caller.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            self.enter(Some(Duration::ZERO));
            // Makes room for completions, which the kernel may insist on.
            self.reap();
        }
        panic!("io_uring takes no more submissions: the machine is out of memory");
    }

    /// Asks for the end of an operation; it completes in its own time.
    pub(crate) fn cancel(&mut self, _table: &mut Table, key: Key) {
        let entry = opcode::AsyncCancel::new(key.0).build().user_data(NOBODY);
        // SAFETY: the entry points at nothing.
        unsafe { self.push(&entry) };
    }

    /// See `Reactor::turn`.
    pub(crate) fn turn(&mut self, table: &mut Table, timeout: Option<Duration>) {
        if !self.listens && !table.closing {
            self.listens = true;
            let request = Request::Wake(self.wake.clone(), Box::default());
            let key = table.insert(request);
            self.start(table, key);
        }
        self.reap();
        let timeout = match self.reaped.is_empty() {
            true => timeout,
            false => Some(Duration::ZERO),
        };
        self.enter(timeout);
        self.reap();
        let mut reaped = std::mem::take(&mut self.reaped);
        for (user_data, result) in reaped.drain(..) {
            if user_data == NOBODY {
                continue;
            }
            let key = Key(user_data);
            if table.advance(key, as_result(result)) {
                self.start(table, key);
            }
        }
        // Starting operations may have reaped more.
        reaped.append(&mut self.reaped);
        self.reaped = reaped;
    }

    fn enter(&mut self, timeout: Option<Duration>) {
        let result = match timeout {
            Some(Duration::ZERO) => {
                let idle = {
                    let submission = self.ring.submission();
                    submission.is_empty() && !submission.taskrun() && !submission.cq_overflow()
                };
                if idle {
                    return;
                }
                self.ring.submit()
            }
            Some(timeout) => {
                let timespec = Timespec::new()
                    .sec(timeout.as_secs())
                    .nsec(timeout.subsec_nanos());
                let arguments = SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &arguments)
            }
            None => self.ring.submit_and_wait(1),
        };
        let Err(error) = result else {
            return;
        };
        match error.raw_os_error() {
            // Interrupted, timed out, or completions must be reaped first: the next turn goes on.
            Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY) => {}
            _ => panic!("io_uring_enter failed: {error}"),
        }
    }

    fn reap(&mut self) {
        let completions = self.ring.completion();
        self.reaped
            .extend(completions.map(|entry| (entry.user_data(), entry.result())));
    }
}

fn as_result(result: i32) -> Result<usize, Errno> {
    match usize::try_from(result) {
        Ok(count) => Ok(count),
        Err(_) => Err(Errno::from_raw_os_error(-result)),
    }
}

/// The submission for the next part of a request.
fn prepare(request: &mut Request) -> Entry {
    match request {
        Request::Disk(disk) => prepare_disk(disk),
        Request::Socket(socket, action) => prepare_socket(socket, action),
        Request::Wake(wake, count) => {
            let fd = Fd(wake.event.as_raw_fd());
            opcode::Read::new(fd, count.as_mut_ptr(), count.len() as u32).build()
        }
    }
}

fn prepare_disk(disk: &mut DiskRequest) -> Entry {
    let fd = Fd(disk.file.as_raw_fd());
    let done = disk.done;
    let offset = disk.offset + done as u64;
    match &mut disk.action {
        DiskAction::Read(buf) => {
            let rest = &mut buf[done..];
            let len = rest.len().min(CALL_BYTES_MAX) as u32;
            let read = opcode::Read::new(fd, rest.as_mut_ptr(), len);
            read.offset(offset).build()
        }
        DiskAction::Write(data) => {
            let rest = &data[done..];
            let len = rest.len().min(CALL_BYTES_MAX) as u32;
            let write = opcode::Write::new(fd, rest.as_ptr(), len);
            write.offset(offset).build()
        }
        DiskAction::Flush => {
            let flush = opcode::Fsync::new(fd);
            flush.flags(FsyncFlags::DATASYNC).build()
        }
    }
}

fn prepare_socket(socket: &Socket, action: &mut SocketAction) -> Entry {
    let fd = Fd(socket.raw());
    match action {
        SocketAction::Accept(_) => {
            let nowhere = (std::ptr::null_mut(), std::ptr::null_mut());
            let accept = opcode::Accept::new(fd, nowhere.0, nowhere.1);
            accept.flags(libc::SOCK_CLOEXEC).build()
        }
        SocketAction::Connect(address) => {
            let pointer = address.as_ptr().cast();
            opcode::Connect::new(fd, pointer, address.addr_len()).build()
        }
        SocketAction::Receive(memory) => {
            let spare = memory.spare_capacity_mut();
            let len = spare.len().min(CALL_BYTES_MAX) as u32;
            opcode::Recv::new(fd, spare.as_mut_ptr().cast(), len).build()
        }
        SocketAction::Send(outgoing) => prepare_send(fd, outgoing),
    }
}

fn prepare_send(fd: Fd, outgoing: &mut Outgoing) -> Entry {
    // With WAITALL the kernel sends the rest itself when the socket's buffer was too small for it.
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    if let [part] = outgoing.parts.make_contiguous() {
        let len = part.len().min(CALL_BYTES_MAX) as u32;
        return opcode::Send::new(fd, part.as_ptr(), len)
            .flags(flags)
            .build();
    }
    // SAFETY: `msghdr` is a C structure of integers and pointers: all zeros are a valid empty message.
    let empty = || unsafe { std::mem::zeroed::<libc::msghdr>() };
    let message = outgoing.message.get_or_insert_with(|| {
        Box::new(Message {
            header: empty(),
            parts: Vec::new(),
        })
    });
    message.parts.clear();
    let mut room = CALL_BYTES_MAX;
    for part in outgoing.parts.iter().take(PARTS_MAX) {
        let len = part.len().min(room);
        if len == 0 {
            break;
        }
        room -= len;
        message.parts.push(libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: len,
        });
    }
    message.header.msg_iov = message.parts.as_mut_ptr();
    message.header.msg_iovlen = message.parts.len() as _;
    let header: *const libc::msghdr = &raw const message.header;
    opcode::SendMsg::new(fd, header).flags(flags as u32).build()
}
