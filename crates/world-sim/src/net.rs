//! The network: links between hosts, listeners, and how a connection comes to be.
//!
//! Invariants
//! - A blocked link swallows bytes silently; their sender retransmits until the link heals or its
//!   retransmission timeout ends the connection. Nothing is ever delivered through a blocked link.
//! - A host without power answers nothing; one whose process died refuses connections.

pub(crate) mod connection;

use crate::completion::completion;
use crate::engine::{Core, Mark};
use crate::host::{HostState, Life, LifeWorld};
use crate::options::Latency;
use crate::rng::nanos;
use connection::{Connection, Endpoint};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Poll, Waker};
use world::{Address, Listener, LocalBoxFuture, Net, NetError, Stream};

/// What a scenario may set for one direction between two hosts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Instead of the network's latency.
    pub latency: Option<Latency>,
    /// Instead of the network's rate.
    pub bytes_per_second: Option<u64>,
}

#[derive(Default)]
struct LinkState {
    settings: Link,
    blocked: bool,
    /// When the last byte handed to a link of limited rate is through.
    free_at: u64,
}

/// All links and connections.
#[derive(Default)]
pub(crate) struct Fabric {
    links: RefCell<BTreeMap<(u32, u32), LinkState>>,
    pub(crate) connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    next_connection: Cell<u64>,
}

impl Fabric {
    pub(crate) fn clear(&self) {
        let connections = std::mem::take(&mut *self.connections.borrow_mut());
        for connection in connections.values() {
            connection.forget();
        }
    }

    fn all_connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().values().cloned().collect()
    }

    pub(crate) fn is_blocked(&self, from: &HostState, to: &HostState) -> bool {
        if !to.powered.get() {
            return true;
        }
        let links = self.links.borrow();
        let link = links.get(&(from.index, to.index));
        link.is_some_and(|link| link.blocked)
    }

    /// Blocks or opens one direction; whether that changed anything.
    pub(crate) fn set_blocked(&self, from: u32, to: u32, blocked: bool) -> bool {
        let mut links = self.links.borrow_mut();
        let link = links.entry((from, to)).or_default();
        std::mem::replace(&mut link.blocked, blocked) != blocked
    }

    pub(crate) fn unblock_all(&self) {
        for link in self.links.borrow_mut().values_mut() {
            link.blocked = false;
        }
    }

    pub(crate) fn set_link(&self, from: u32, to: u32, settings: Link) {
        let mut links = self.links.borrow_mut();
        links.entry((from, to)).or_default().settings = settings;
    }

    /// Nanoseconds until `bytes` sent now arrive.
    pub(crate) fn transit(&self, core: &Core, from: u32, to: u32, bytes: usize) -> u64 {
        let options = &core.options.net;
        if from == to {
            return options.loopback.draw(&core.rng);
        }
        let mut links = self.links.borrow_mut();
        if options.bytes_per_second == 0 && !links.contains_key(&(from, to)) {
            return options.latency.draw(&core.rng);
        }
        let link = links.entry((from, to)).or_default();
        let latency = link.settings.latency.unwrap_or(options.latency);
        let rate = link.settings.bytes_per_second;
        let rate = rate.unwrap_or(options.bytes_per_second);
        let mut queueing = 0;
        if rate > 0 {
            let transfer = bytes as u128 * 1_000_000_000 / u128::from(rate);
            link.free_at = link.free_at.max(core.now()) + transfer as u64;
            queueing = link.free_at - core.now();
        }
        queueing + latency.draw(&core.rng)
    }
}

/// Tells every connection that links may have healed.
pub(crate) fn on_links_changed(core: &Rc<Core>) {
    for connection in core.fabric.all_connections() {
        connection.on_links_changed();
    }
}

/// The process of `host` died, with the power or without.
pub(crate) fn crash(core: &Rc<Core>, host: &HostState, power: bool) {
    for connection in core.fabric.all_connections() {
        for side in 0..2 {
            if connection.hosts[side].index == host.index {
                connection.crash(side, power);
            }
        }
    }
}

/// Connections that wait to be accepted.
#[derive(Default)]
pub(crate) struct Backlog {
    waiting: RefCell<VecDeque<Rc<Endpoint>>>,
    acceptor: RefCell<Option<Waker>>,
}

/// Where on a host: a port or the path of a local socket.
fn split_address(address: &Address) -> Option<(&str, String)> {
    if let Some(path) = address.0.strip_prefix("unix:") {
        return Some(("localhost", format!("unix:{path}")));
    }
    let (host, port) = address.0.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    Some((host, port.to_string()))
}

fn is_local(host: &str) -> bool {
    matches!(
        host,
        "" | "localhost" | "0.0.0.0" | "127.0.0.1" | "[::]" | "[::1]"
    )
}

fn find_host(life: &Life, name: &str) -> Option<Rc<HostState>> {
    if is_local(name) {
        return Some(life.host.clone());
    }
    let hosts = life.core.hosts.borrow();
    hosts.iter().find(|host| host.name == name).cloned()
}

/// The least free port of those that kernels hand out.
fn free_port(listeners: &BTreeMap<String, Rc<Backlog>>) -> Option<u16> {
    (49_152..=u16::MAX).find(|port| !listeners.contains_key(&port.to_string()))
}

struct Listening {
    life: Rc<Life>,
    key: String,
    address: Address,
    backlog: Rc<Backlog>,
}

impl Listener for Listening {
    fn accept(&self) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>> {
        let (life, backlog) = (self.life.clone(), self.backlog.clone());
        Box::pin(std::future::poll_fn(move |context| {
            if !life.is_alive() {
                return Poll::Ready(Err(NetError::Lost("the host is down".to_owned())));
            }
            if let Some(endpoint) = backlog.waiting.borrow_mut().pop_front() {
                return Poll::Ready(Ok(endpoint as Rc<dyn Stream>));
            }
            *backlog.acceptor.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        }))
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listeners = self.life.host.listeners.borrow_mut();
        let mine = listeners.get(&self.key);
        if mine.is_some_and(|backlog| Rc::ptr_eq(backlog, &self.backlog)) {
            listeners.remove(&self.key);
        }
        drop(listeners);
        let waiting = std::mem::take(&mut *self.backlog.waiting.borrow_mut());
        drop(waiting);
    }
}

fn listen(life: &Rc<Life>, address: &Address) -> Result<Rc<dyn Listener>, NetError> {
    let refuse = |reason: &str| NetError::CannotListen {
        address: address.0.clone(),
        reason: reason.to_owned(),
    };
    let (host, mut key) = split_address(address).ok_or_else(|| refuse("no host:port"))?;
    if !is_local(host) && host != life.host.name {
        return Err(refuse("the address is not this host's"));
    }
    let mut bound = address.clone();
    let mut listeners = life.host.listeners.borrow_mut();
    if key == "0" {
        let port = free_port(&listeners).ok_or_else(|| refuse("no port is free"))?;
        key = port.to_string();
        bound = Address(format!("{}:{port}", life.host.name));
    }
    if listeners.contains_key(&key) {
        return Err(refuse("the address is in use"));
    }
    let backlog = Rc::new(Backlog::default());
    listeners.insert(key.clone(), backlog.clone());
    Ok(Rc::new(Listening {
        life: life.clone(),
        key,
        address: bound,
        backlog,
    }))
}

enum Attempt {
    Connected(Rc<Endpoint>),
    Refused,
    /// No answer: a full backlog or a blocked link.
    Dropped,
}

/// What the callee's kernel makes of a connection request that has arrived.
fn arrive(life: &Rc<Life>, callee: &Rc<HostState>, key: &str) -> Attempt {
    let core = &life.core;
    if core.fabric.is_blocked(&life.host, callee) {
        return Attempt::Dropped;
    }
    let backlog = callee.listeners.borrow().get(key).cloned();
    let Some(backlog) = backlog else {
        return Attempt::Refused;
    };
    if backlog.waiting.borrow().len() >= core.options.net.backlog {
        return Attempt::Dropped;
    }
    let id = core.fabric.next_connection.get();
    core.fabric.next_connection.set(id + 1);
    core.mark(Mark::Connect, id, u64::from(callee.index));
    core.count(|counters| counters.connections += 1);
    let connection = Connection::new(core, id, [life.host.clone(), callee.clone()]);
    let mut connections = core.fabric.connections.borrow_mut();
    connections.insert(id, connection.clone());
    drop(connections);
    let theirs = Rc::new(Endpoint::new(connection.clone(), 1));
    backlog.waiting.borrow_mut().push_back(theirs);
    let acceptor = backlog.acceptor.borrow_mut().take();
    if let Some(acceptor) = acceptor {
        acceptor.wake();
    }
    Attempt::Connected(Rc::new(Endpoint::new(connection, 0)))
}

async fn connect(life: Rc<Life>, address: Address) -> Result<Rc<dyn Stream>, NetError> {
    let core = life.core.clone();
    let refuse = |reason: &str| {
        core.count(|counters| counters.connects_failed += 1);
        NetError::Unreachable {
            address: address.0.clone(),
            reason: reason.to_owned(),
        }
    };
    let Some((name, key)) = split_address(&address) else {
        return Err(refuse("not of the form host:port"));
    };
    let Some(callee) = find_host(&life, name) else {
        life.pass(core.options.net.latency.draw(&core.rng)).await;
        return Err(refuse("unknown host"));
    };
    let (here, there) = (life.host.index, callee.index);
    let deadline = core.now() + nanos(core.options.net.connect_timeout);
    // The neighbours of a host without power may notice; otherwise the attempt hangs.
    let noticed = !callee.powered.get() && core.rng.chance(0.5);
    let mut answer = None;
    for attempt in 0_u32.. {
        life.pass(core.fabric.transit(&core, here, there, 0)).await;
        if answer.is_none() {
            match arrive(&life, &callee, &key) {
                Attempt::Connected(endpoint) => answer = Some(Ok(endpoint)),
                Attempt::Refused => answer = Some(Err(())),
                Attempt::Dropped => {}
            }
        }
        if answer.is_some() && !core.fabric.is_blocked(&callee, &life.host) {
            life.pass(core.fabric.transit(&core, there, here, 0)).await;
            break;
        }
        // Linux repeats a request after 1, 2, 4, ... seconds; so does the callee its answer.
        let pause = 1_000_000_000_u64 << attempt.min(4);
        life.pass(core.rng.range(pause / 2..pause)).await;
        if noticed && !callee.powered.get() {
            return Err(refuse("no route to host"));
        }
        if core.now() > deadline {
            return Err(refuse("timed out"));
        }
    }
    match answer.expect("the loop ends with an answer") {
        Ok(endpoint) => Ok(endpoint),
        Err(()) => {
            core.count(|counters| counters.connects_failed += 1);
            Err(NetError::Refused { address: address.0 })
        }
    }
}

impl Net for LifeWorld {
    fn connect(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>> {
        Box::pin(connect(self.0.clone(), address.clone()))
    }

    fn listen(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Listener>, NetError>> {
        let (life, address) = (self.0.clone(), address.clone());
        Box::pin(async move {
            // A moment, so that callers cannot rely on its being immediate.
            let (done, waiting) = completion();
            let delay = life.core.options.net.loopback.draw(&life.core.rng);
            let host = life.host.index;
            life.core.call(delay, host, move || done.complete(()));
            waiting.await;
            listen(&life, &address)
        })
    }
}
