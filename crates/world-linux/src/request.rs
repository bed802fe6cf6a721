//! What a shard may ask of the kernel, with the memory and descriptors the kernel needs meanwhile.
//!
//! A request is one operation for its owner even when the kernel does it in parts: [`Request::advance`]
//! takes the result of one system call and says whether another one is needed.

use crate::socket::Socket;
use bytes::{Buf as _, Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::SocketAddrAny;
use std::collections::VecDeque;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use world::Buf;

/// The most parts given to one `sendmsg`: the kernel's UIO_MAXIOV.
pub(crate) const PARTS_MAX: usize = 1024;

/// The most bytes of one system call: the kernel stops at 2 GiB - 4 KiB.
pub(crate) const CALL_BYTES_MAX: usize = 1 << 30;

/// Part of a file. `Send`, for the thread pool.
pub(crate) struct DiskRequest {
    pub(crate) file: Arc<OwnedFd>,
    pub(crate) offset: u64,
    /// Bytes read or written so far.
    pub(crate) done: usize,
    pub(crate) action: DiskAction,
}

pub(crate) enum DiskAction {
    Read(Buf),
    Write(Bytes),
    Flush,
}

pub(crate) enum SocketAction {
    /// The accepted connection is kept here until its owner takes it.
    Accept(Option<OwnedFd>),
    Connect(Box<SocketAddrAny>),
    /// Appends to the spare capacity.
    Receive(BytesMut),
    Send(Outgoing),
}

/// What is left to send.
pub(crate) struct Outgoing {
    pub(crate) parts: VecDeque<Bytes>,
    /// Memory for the ring's `sendmsg`; it must not move while the kernel works.
    pub(crate) message: Option<Box<crate::ring::Message>>,
}

pub(crate) enum Request {
    Disk(DiskRequest),
    Socket(Rc<Socket>, SocketAction),
    /// Reads the event counter that other threads wake the shard with.
    Wake(Arc<crate::wake::Wake>, Box<[u8; 8]>),
}

/// What to do after a system call.
pub(crate) enum Next {
    /// The rest needs another system call.
    Again,
    /// The owner can be told.
    Done(Result<usize, Errno>),
}

impl Outgoing {
    pub(crate) fn new(mut parts: Vec<Bytes>) -> Self {
        parts.retain(|part| !part.is_empty());
        Self {
            parts: parts.into(),
            message: None,
        }
    }

    fn consume(&mut self, mut sent: usize) {
        while let Some(first) = self.parts.front_mut() {
            if sent < first.len() {
                first.advance(sent);
                return;
            }
            sent -= first.len();
            self.parts.pop_front();
        }
    }
}

impl DiskRequest {
    /// Bytes this request is for.
    pub(crate) fn len(&self) -> usize {
        match &self.action {
            DiskAction::Read(buf) => buf.len(),
            DiskAction::Write(data) => data.len(),
            DiskAction::Flush => 0,
        }
    }

    /// See [`Request::advance`].
    pub(crate) fn advance(&mut self, result: Result<usize, Errno>) -> Next {
        match result {
            Err(Errno::INTR | Errno::AGAIN) => Next::Again,
            Err(error) => Next::Done(Err(error)),
            Ok(_) if matches!(self.action, DiskAction::Flush) => Next::Done(Ok(0)),
            // The device is shorter than it was when it was opened.
            Ok(0) => Next::Done(Err(Errno::NXIO)),
            Ok(count) => {
                self.done += count;
                if self.done < self.len() {
                    return Next::Again;
                }
                Next::Done(Ok(self.done))
            }
        }
    }
}

impl SocketAction {
    /// See [`Request::advance`]. `AGAIN` is the caller's to handle.
    pub(crate) fn advance(&mut self, result: Result<usize, Errno>) -> Next {
        match (self, result) {
            (_, Err(Errno::INTR)) => Next::Again,
            (Self::Accept(_), Err(Errno::CONNABORTED)) => Next::Again,
            (Self::Connect(_), Err(Errno::ISCONN)) => Next::Done(Ok(0)),
            (Self::Send(outgoing), Ok(count)) => {
                outgoing.consume(count);
                if outgoing.parts.is_empty() {
                    return Next::Done(Ok(count));
                }
                Next::Again
            }
            (_, result) => Next::Done(result),
        }
    }
}

impl Request {
    /// Takes the result of one system call of the ring.
    pub(crate) fn advance(&mut self, result: Result<usize, Errno>) -> Next {
        match self {
            Self::Disk(disk) => disk.advance(result),
            // Wakes are counted all through the shard's life.
            Self::Wake(..) => match result {
                Ok(_) | Err(Errno::INTR | Errno::AGAIN) => Next::Again,
                Err(error) => Next::Done(Err(error)),
            },
            Self::Socket(_, action) => {
                if let Ok(count) = result {
                    action.take(count);
                }
                match result {
                    Err(Errno::AGAIN) => Next::Again,
                    result => action.advance(result),
                }
            }
        }
    }

    /// Whether it must be cancelled when nobody waits for it: it may otherwise never end.
    pub(crate) fn is_endless(&self) -> bool {
        !matches!(self, Self::Disk(_))
    }
}

impl SocketAction {
    /// Takes over what the ring's kernel side left for this action.
    #[allow(unsafe_code)]
    pub(crate) fn take(&mut self, count: usize) {
        match self {
            Self::Accept(accepted) => {
                let descriptor = i32::try_from(count).expect("descriptors are small");
                // SAFETY: a successful IORING_OP_ACCEPT returned this new descriptor, which nobody
                // else owns; `advance` is called once per completion.
                *accepted = Some(unsafe { OwnedFd::from_raw_fd(descriptor) });
            }
            Self::Receive(memory) => {
                let len = memory.len() + count;
                assert!(len <= memory.capacity(), "the kernel was given less memory");
                // SAFETY: the kernel has initialised `count` bytes behind the old length, which lie
                // within the capacity it was told (asserted above).
                unsafe { memory.set_len(len) };
            }
            Self::Connect(_) | Self::Send(_) => {}
        }
    }
}
