//! Sockets as the reactors see them: a descriptor that closes with its last user.

use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown};
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// An open socket.
pub(crate) struct Socket {
    fd: OwnedFd,
    /// Whether the epoll reactor has been told of it.
    pub(crate) registered: Cell<bool>,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            registered: Cell::new(false),
        }
    }

    /// A stream socket; TCP sockets send at once.
    pub(crate) fn open(family: AddressFamily, flags: SocketFlags) -> rustix::io::Result<Self> {
        let flags = flags | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        if family != AddressFamily::UNIX {
            set_tcp_nodelay(&fd, true)?;
        }
        Ok(Self::new(fd))
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Ends both directions; system calls that wait on the socket return.
    pub(crate) fn shutdown(&self) {
        // It fails when the connection has ended already, which is what is wanted.
        let _ = shutdown(&self.fd, Shutdown::Both);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
