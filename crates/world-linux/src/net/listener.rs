//! Listening sockets.

use super::Context as Shard;
use super::connection::Connection;
use crate::reactor::Operation;
use crate::request::{Request, SocketAction};
use crate::socket::Socket;
use rustix::fs::{Stat, lstat, unlink};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_reuseaddr, set_tcp_nodelay};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use world::{Address, Clock, Duration, Listener, LocalBoxFuture, NetError, Stream};

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Wait before "no descriptors left" is reported, so that a loop of accepts does not spin on it.
const SHORTAGE_WAIT: Duration = Duration::from_millis(50);

struct State {
    shard: Rc<Shard>,
    socket: Rc<Socket>,
    accepting: RefCell<Option<Operation>>,
    /// The local socket's file, to be removed at the end.
    path: Option<(PathBuf, Stat)>,
}

pub(super) struct Listening {
    state: Rc<State>,
    address: Address,
}

/// Whether nobody listens on the local socket any more.
fn is_stale(path: &SocketAddrUnix) -> bool {
    let Ok(probe) = Socket::open(AddressFamily::UNIX, SocketFlags::NONBLOCK) else {
        return false;
    };
    rustix::net::connect(&probe, path) == Err(Errno::CONNREFUSED)
}

impl Listening {
    pub(super) fn on_host(shard: Rc<Shard>, host: SocketAddr) -> Result<Self, Errno> {
        let family = match host {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = Socket::open(family, shard.reactor.socket_flags())?;
        set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &host)?;
        rustix::net::listen(&socket, BACKLOG)?;
        let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
        Ok(Self::new(shard, socket, None, Address(bound.to_string())))
    }

    pub(super) fn on_path(
        shard: Rc<Shard>,
        address: &Address,
        path: &SocketAddrUnix,
    ) -> Result<Self, Errno> {
        let socket = Socket::open(AddressFamily::UNIX, shard.reactor.socket_flags())?;
        let file = address.0.strip_prefix("unix:").unwrap_or(&address.0);
        match rustix::net::bind(&socket, path) {
            Err(Errno::ADDRINUSE) if is_stale(path) => {
                // Left behind by a process that was killed.
                unlink(file)?;
                rustix::net::bind(&socket, path)?;
            }
            result => result?,
        }
        let stat = lstat(file)?;
        rustix::net::listen(&socket, BACKLOG)?;
        let path = Some((Path::new(file).to_owned(), stat));
        Ok(Self::new(shard, socket, path, address.clone()))
    }

    fn new(
        shard: Rc<Shard>,
        socket: Socket,
        path: Option<(PathBuf, Stat)>,
        address: Address,
    ) -> Self {
        let state = State {
            shard,
            socket: Rc::new(socket),
            accepting: RefCell::default(),
            path,
        };
        Self {
            state: Rc::new(state),
            address,
        }
    }
}

impl State {
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<Result<Socket, Errno>> {
        let running = self.accepting.borrow_mut().take();
        let mut operation = running.unwrap_or_else(|| {
            let action = SocketAction::Accept(None);
            let request = Request::Socket(self.socket.clone(), action);
            self.shard.reactor.submit(request)
        });
        match Pin::new(&mut operation).poll(context) {
            Poll::Pending => {
                *self.accepting.borrow_mut() = Some(operation);
                Poll::Pending
            }
            Poll::Ready((request, result)) => {
                result?;
                let Request::Socket(_, SocketAction::Accept(Some(accepted))) = request else {
                    unreachable!("a successful accept holds its connection");
                };
                Poll::Ready(Ok(Socket::new(accepted)))
            }
        }
    }

    async fn accept(self: Rc<Self>) -> Result<Rc<dyn Stream>, NetError> {
        let accepted = poll_fn(|context| self.poll_accept(context)).await;
        if let Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) = accepted {
            let clock = &self.shard.clock;
            clock.sleep_until(clock.now() + SHORTAGE_WAIT).await;
        }
        let lost = |error: Errno| NetError::Lost(error.to_string());
        let socket = accepted.map_err(lost)?;
        if self.path.is_none() {
            // It fails when the peer has gone again, which the first read will report.
            let _ = set_tcp_nodelay(&socket, true);
        }
        Ok(Connection::stream(self.shard.clone(), Rc::new(socket)))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // Frees the port at once; the descriptor closes when the kernel has cancelled the accept.
        self.socket.shutdown();
        let Some((path, mine)) = &self.path else {
            return;
        };
        let same = |now: Stat| (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino);
        if lstat(path).is_ok_and(same) {
            // Whoever listens there next removes it otherwise.
            let _ = unlink(path);
        }
    }
}

impl Listener for Listening {
    fn accept(&self) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>> {
        Box::pin(self.state.clone().accept())
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}
