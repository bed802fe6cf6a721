//! TCP and local sockets.
//!
//! Invariants
//! - One receive and one send of a connection are under way at a time. They belong to the connection,
//!   not to the future that waits, so a dropped `read` loses no bytes and a dropped `write` leaves no
//!   half message behind: the next call waits for the operation first. A write dropped while it
//!   waited for an earlier one does not happen.
//! - Every TCP socket has `TCP_NODELAY`: the protocols above batch by themselves.
//! - Name look-ups run on the offload pool.

mod connection;
mod listener;

use crate::clock::{MonotonicClock, Timers};
use crate::reactor::Reactor;
use crate::request::{Request, SocketAction};
use crate::shard::Tasks;
use crate::socket::Socket;
use connection::Connection;
use listener::Listening;
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketAddrUnix};
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};
use world::{Address, Clock, Duration, Listener, LocalBoxFuture, Net, NetError, Spawn, Stream};

/// Wait between tries to connect to a local socket whose queue is full, and how often to try: 10 s.
const RETRY_WAIT: Duration = Duration::from_millis(5);
const RETRIES_MAX: u32 = 2000;

/// What connections and listeners need of their shard. It does not keep the tasks alive.
pub(crate) struct Context {
    reactor: Rc<Reactor>,
    tasks: Weak<Tasks>,
    clock: MonotonicClock,
}

/// The network of one shard.
pub(crate) struct LinuxNet(Rc<Context>);

impl LinuxNet {
    pub(crate) fn new(reactor: Rc<Reactor>, tasks: &Rc<Tasks>, timers: Rc<Timers>) -> Self {
        Self(Rc::new(Context {
            reactor,
            tasks: Rc::downgrade(tasks),
            clock: MonotonicClock(timers),
        }))
    }
}

/// Where an address leads.
enum Place {
    Local(SocketAddrUnix),
    Hosts(Vec<SocketAddr>),
}

fn look_up(name: &str) -> Result<Vec<SocketAddr>, String> {
    let found = name.to_socket_addrs().map_err(|error| error.to_string())?;
    let found: Vec<_> = found.collect();
    match found.is_empty() {
        true => Err("the name has no address".to_owned()),
        false => Ok(found),
    }
}

impl Context {
    async fn locate(&self, address: &Address) -> Result<Place, String> {
        if let Some(path) = address.0.strip_prefix("unix:") {
            let place = SocketAddrUnix::new(path);
            return place
                .map(Place::Local)
                .map_err(|error| format!("not a path for a local socket: {error}"));
        }
        if let Ok(numeric) = address.0.parse() {
            return Ok(Place::Hosts(vec![numeric]));
        }
        let tasks = self.tasks.upgrade().ok_or("the shard has stopped")?;
        let answer = Arc::new(Mutex::new(None));
        let (sink, name) = (answer.clone(), address.0.clone());
        let looking = tasks.offload(Box::new(move || {
            let found = look_up(&name);
            *sink.lock().expect("no other holder can panic") = Some(found);
        }));
        drop(tasks);
        looking.await;
        let found = answer.lock().expect("no other holder can panic").take();
        Ok(Place::Hosts(found.ok_or("the shard has stopped")??))
    }

    async fn connect_one(&self, address: &SocketAddrAny) -> Result<Rc<Socket>, Errno> {
        for _ in 0..RETRIES_MAX {
            let flags = self.reactor.socket_flags();
            let socket = Rc::new(Socket::open(address.address_family(), flags)?);
            let action = SocketAction::Connect(Box::new(address.clone()));
            let connecting = self.reactor.submit(Request::Socket(socket.clone(), action));
            match connecting.await.1 {
                Ok(_) => return Ok(socket),
                Err(Errno::BUSY) => {
                    let again = self.clock.now() + RETRY_WAIT;
                    self.clock.sleep_until(again).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Errno::TIMEDOUT)
    }

    async fn connect(self: Rc<Self>, address: Address) -> Result<Rc<dyn Stream>, NetError> {
        let unreachable = |reason| NetError::Unreachable {
            address: address.0.clone(),
            reason,
        };
        let candidates: Vec<SocketAddrAny> =
            match self.locate(&address).await.map_err(unreachable)? {
                Place::Local(path) => vec![path.into()],
                Place::Hosts(hosts) => hosts.into_iter().map(SocketAddrAny::from).collect(),
            };
        let (mut reason, mut refused) = (String::new(), !candidates.is_empty());
        for candidate in candidates {
            match self.connect_one(&candidate).await {
                Ok(socket) => return Ok(Connection::stream(self.clone(), socket)),
                Err(error) => {
                    refused &= error == Errno::CONNREFUSED;
                    reason = error.to_string();
                }
            }
        }
        match refused {
            true => Err(NetError::Refused { address: address.0 }),
            false => Err(unreachable(reason)),
        }
    }

    async fn listen(self: Rc<Self>, address: Address) -> Result<Rc<dyn Listener>, NetError> {
        let cannot = |reason| NetError::CannotListen {
            address: address.0.clone(),
            reason,
        };
        let place = self.locate(&address).await.map_err(cannot)?;
        let listening = match place {
            Place::Local(path) => Listening::on_path(self.clone(), &address, &path),
            Place::Hosts(hosts) => Listening::on_host(self.clone(), hosts[0]),
        };
        match listening {
            Ok(listening) => Ok(Rc::new(listening)),
            Err(error) => Err(cannot(error.to_string())),
        }
    }
}

impl Net for LinuxNet {
    fn connect(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>> {
        Box::pin(self.0.clone().connect(address.clone()))
    }

    fn listen(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Listener>, NetError>> {
        Box::pin(self.0.clone().listen(address.clone()))
    }
}
