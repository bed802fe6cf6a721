//! The answering side: an accept loop and, per connection, a reader that starts requests in their order, a writer
//! that gathers replies, and a watchdog.
//!
//! Invariants
//! - `Handler::handle` is called in the order of arrival and polled once before the next request starts.
//! - A request that has started runs to its end, whatever becomes of its connection.
//! - A request counts against the bounds until its reply is written; above them nothing is read.

use crate::message::Greeting;
use crate::{
    FrameReader, Hello, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, Incoming, Reply, Request,
    WRITE_BYTES_MAX, WRITE_PARTS_MAX,
};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use wire::{Frame, FrameError, FrameKind, Lane, MESSAGE_BYTES_MAX};
use world::sync::Notify;
use world::{Caller, Duration, Listener, LocalBoxFuture, Stream, Time, World};

/// Connections of one listener. A thousand nodes with two lanes each, as much again for clients.
const CONNECTIONS_MAX: usize = 4096;
/// A connection that has not said hello by then is closed.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection's health is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// Callers ping every 2 s; one that is silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A caller that takes nothing for so long is gone or stuck.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// Carries requests out.
pub trait Handler {
    /// Starts a request. Called in the order of arrival; what happens before the first await of the future keeps
    /// that order. The future is run to its end. `Request::Ping` never gets here.
    fn handle(
        &self,
        connection: &Connection,
        request: Request,
        body: Bytes,
    ) -> LocalBoxFuture<'static, (Reply, Vec<Bytes>)>;

    /// The connection is over: nobody will see replies of requests still running. Called once for each
    /// connection whose hello was accepted.
    fn closed(&self, connection_id: u64);
}

/// Where a request comes from.
#[derive(Clone)]
pub struct Connection {
    /// Random; two connections never have the same.
    pub id: u64,
    /// Who called.
    pub hello: Hello,
    /// For what.
    pub lane: Lane,
    /// Who it is by its certificate; nothing where connections are not encrypted.
    pub caller: Option<Caller>,
    link: Rc<Link>,
}

impl Connection {
    /// Ends the connection; replies still queued are lost.
    pub fn close(&self) {
        self.link.end();
    }
}

struct Queued {
    parts: Vec<Bytes>,
    /// What is given back when it is written; pings take nothing.
    charge: Option<usize>,
}

struct Link {
    stream: Rc<dyn Stream>,
    replies: RefCell<VecDeque<Queued>>,
    /// Requests whose reply is not written.
    count: Cell<usize>,
    /// Bytes of their bodies and replies.
    bytes: Cell<usize>,
    /// A reply is queued, or the end.
    work: Notify,
    /// Replies were written, or the end.
    room: Notify,
    received_at: Cell<Time>,
    reading: Cell<bool>,
    writing_since: Cell<Option<Time>>,
    over: Cell<bool>,
}

struct Server {
    world: World,
    hello: Hello,
    handler: Rc<dyn Handler>,
    links: RefCell<BTreeMap<u64, Rc<Link>>>,
}

/// Closes every connection when [`serve`] ends or is dropped.
struct CloseAll(Rc<Server>);

impl Drop for CloseAll {
    fn drop(&mut self) {
        let links = std::mem::take(&mut *self.0.links.borrow_mut());
        for link in links.values() {
            link.end();
        }
    }
}

/// Answers connections of `listener` until it fails. When the future ends or is dropped, all connections
/// are closed; requests that have started run on.
pub async fn serve(
    world: World,
    listener: Rc<dyn Listener>,
    hello: Hello,
    handler: Rc<dyn Handler>,
) {
    let server = Rc::new(Server {
        world,
        hello,
        handler,
        links: RefCell::default(),
    });
    let _guard = CloseAll(server.clone());
    while let Ok(stream) = listener.accept().await {
        if server.links.borrow().len() >= CONNECTIONS_MAX {
            stream.close();
            continue;
        }
        let link = Rc::new(Link::new(stream, server.world.now()));
        let id = server.world.rng.next_u64();
        server.links.borrow_mut().insert(id, link.clone());
        let owner = server.clone();
        server.world.spawn(async move {
            owner.converse(id, &link).await;
            link.end();
            owner.links.borrow_mut().remove(&id);
        });
    }
}

impl Server {
    async fn converse(self: &Rc<Self>, id: u64, link: &Rc<Link>) {
        let mut reader = FrameReader::default();
        let greeted = self
            .world
            .timeout(HELLO_TIMEOUT, self.greet(link, &mut reader));
        let Ok(Some((hello, lane))) = greeted.await else {
            return;
        };
        let connection = Connection {
            id,
            lane,
            caller: link.stream.caller(),
            hello,
            link: link.clone(),
        };
        let (world, own) = (self.world.clone(), link.clone());
        self.world.spawn(async move { own.write(&world).await });
        let (world, own) = (self.world.clone(), link.clone());
        self.world.spawn(async move { own.watch(&world).await });
        // The caller learns of a framing error by the end of the connection.
        let _: Result<(), FrameError> = self.read(&connection, reader).await;
        link.end();
        self.handler.closed(id);
    }

    /// Exchanges hellos; `None` when the caller was refused or lost.
    async fn greet(&self, link: &Link, reader: &mut FrameReader) -> Option<(Hello, Lane)> {
        let first = loop {
            match reader.next_frame() {
                Ok(Some(frame)) => break Ok(frame),
                Ok(None) => {}
                Err(error) => break Err(error.to_string()),
            }
            let chunk = link.stream.read().await.ok()?;
            if chunk.is_empty() {
                return None;
            }
            reader.push(chunk);
        };
        let frame = match first.and_then(|frame| self.judge(&frame)) {
            Ok((caller, lane)) => {
                let own = Greeting::new(self.hello.clone(), lane);
                let frame = Frame::encode(FrameKind::Hello, 0, &own, Vec::new());
                link.stream.write(frame.parts).await.ok()?;
                return Some((caller, lane));
            }
            Err(reason) => Frame::encode(FrameKind::Reply, 0, &Reply::Refused(reason), Vec::new()),
        };
        link.stream.write(frame.parts).await.ok()?;
        None
    }

    fn judge(&self, frame: &Incoming) -> Result<(Hello, Lane), String> {
        if frame.header.kind != FrameKind::Hello {
            return Err("the first frame must be a hello".to_owned());
        }
        let greeting = Greeting::decode(&frame.header, &frame.head);
        let greeting = greeting.map_err(|error| error.to_string())?;
        let (lane, caller) = (greeting.lane(), greeting.hello());
        let (theirs, ours) = (&caller.cluster, &self.hello.cluster);
        if theirs != ours {
            return Err(format!(
                "this node belongs to cluster {ours:?}, the caller to {theirs:?}: \
                 check the address and the cluster name in the configuration"
            ));
        }
        if !caller.levels.meet(self.hello.levels) {
            return Err(format!(
                "this node's release knows level {}, the caller's {}: upgrade the older one (docs/operating/upgrades.md)",
                self.hello.levels, caller.levels
            ));
        }
        Ok((caller, lane))
    }

    async fn read(
        &self,
        connection: &Connection,
        mut reader: FrameReader,
    ) -> Result<(), FrameError> {
        let link = &connection.link;
        loop {
            loop {
                link.wait_for_room().await;
                if link.over.get() {
                    return Ok(());
                }
                match reader.next_frame()? {
                    Some(frame) => self.on_frame(connection, frame)?,
                    None => break,
                }
            }
            link.reading.set(true);
            let chunk = link.stream.read().await;
            link.reading.set(false);
            link.received_at.set(self.world.now());
            match chunk {
                Ok(chunk) if !chunk.is_empty() => reader.push(chunk),
                _ => return Ok(()),
            }
        }
    }

    fn on_frame(&self, connection: &Connection, frame: Incoming) -> Result<(), FrameError> {
        if frame.header.kind != FrameKind::Request {
            return Err(FrameError::Malformed("not a request"));
        }
        let link = &connection.link;
        let id = frame.header.request_id;
        let request = match frame.header.decode_head::<Request>(&frame.head) {
            Ok(Request::Ping) => {
                link.queue(id, &Reply::Pong, Vec::new(), None);
                return Ok(());
            }
            Ok(request) => request,
            Err(FrameError::Head(reason)) => {
                // Framing is intact: a request of another release.
                link.queue(id, &Reply::Refused(reason), Vec::new(), None);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let body_bytes = frame.body.len();
        link.count.set(link.count.get() + 1);
        link.bytes.set(link.bytes.get() + body_bytes);
        let mut running = self.handler.handle(connection, request, frame.body);
        // Most requests that touch memory only are done at once: no task for them.
        let mut context = Context::from_waker(Waker::noop());
        match running.as_mut().poll(&mut context) {
            Poll::Ready((reply, body)) => link.answer(id, body_bytes, &reply, body),
            Poll::Pending => {
                let link = link.clone();
                self.world.spawn(async move {
                    let (reply, body) = running.await;
                    link.answer(id, body_bytes, &reply, body);
                });
            }
        }
        Ok(())
    }
}

impl Link {
    fn new(stream: Rc<dyn Stream>, now: Time) -> Self {
        Self {
            stream,
            replies: RefCell::default(),
            count: Cell::new(0),
            bytes: Cell::new(0),
            work: Notify::default(),
            room: Notify::default(),
            received_at: Cell::new(now),
            reading: Cell::new(false),
            writing_since: Cell::new(None),
            over: Cell::new(false),
        }
    }

    fn end(&self) {
        if !self.over.replace(true) {
            self.stream.close();
            self.replies.borrow_mut().clear();
            self.work.notify_all();
            self.room.notify_all();
        }
    }

    async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            // Not `<`: behind a full window of a caller that keeps the bounds pings must still be read.
            let has_room = self.count.get() <= IN_FLIGHT_MAX
                && self.bytes.get() <= IN_FLIGHT_BYTES_MAX
                // Pings and refusals are not counted, but must not pile up either.
                && self.replies.borrow().len() < 2 * IN_FLIGHT_MAX;
            if has_room || self.over.get() {
                return;
            }
            room.await;
        }
    }

    /// Queues the reply of a counted request.
    fn answer(&self, id: u64, body_bytes: usize, reply: &Reply, body: Vec<Bytes>) {
        let reply_bytes = body.iter().map(Bytes::len).sum::<usize>();
        let charge = body_bytes.max(reply_bytes);
        self.bytes.set(self.bytes.get() + (charge - body_bytes));
        self.queue(id, reply, body, Some(charge));
    }

    fn queue(&self, id: u64, reply: &Reply, body: Vec<Bytes>, charge: Option<usize>) {
        if self.over.get() {
            return;
        }
        let bytes = body.iter().map(Bytes::len).sum::<usize>();
        let frame = if bytes + crate::message::HEAD_BYTES_RESERVED > MESSAGE_BYTES_MAX {
            let reason = format!("the reply of {bytes} bytes is larger than any message");
            Frame::encode(FrameKind::Reply, id, &Reply::Refused(reason), Vec::new())
        } else {
            Frame::encode(FrameKind::Reply, id, reply, body)
        };
        let parts = frame.parts;
        self.replies
            .borrow_mut()
            .push_back(Queued { parts, charge });
        self.work.notify_all();
    }

    async fn write(&self, world: &World) {
        while !self.over.get() {
            let work = self.work.notified();
            let (parts, count, charge) = self.next_batch();
            if parts.is_empty() {
                work.await;
                continue;
            }
            self.writing_since.set(Some(world.now()));
            let written = self.stream.write(parts).await;
            self.writing_since.set(None);
            if written.is_err() {
                self.end();
                return;
            }
            self.count.set(self.count.get() - count);
            self.bytes.set(self.bytes.get() - charge);
            self.room.notify_all();
        }
    }

    fn next_batch(&self) -> (Vec<Bytes>, usize, usize) {
        let mut replies = self.replies.borrow_mut();
        let (mut parts, mut count, mut charge) = (Vec::new(), 0, 0);
        while parts.len() < WRITE_PARTS_MAX && charge < WRITE_BYTES_MAX {
            let Some(reply) = replies.pop_front() else {
                break;
            };
            parts.extend(reply.parts);
            count += usize::from(reply.charge.is_some());
            charge += reply.charge.unwrap_or(0);
        }
        (parts, count, charge)
    }

    async fn watch(&self, world: &World) {
        loop {
            world.sleep(WATCH_EVERY).await;
            if self.over.get() {
                return;
            }
            if !self.stream.is_believed() {
                let caller = self.stream.caller();
                tracing::warn!(
                    ?caller,
                    "a connection is closed: its certificate is no longer believed"
                );
                self.end();
                return;
            }
            // Silence counts only while we listen.
            let silent = world.now().since(self.received_at.get()) >= SILENCE_MAX;
            let stuck = |since: Time| world.now().since(since) >= WRITE_MAX;
            if self.reading.get() && silent || self.writing_since.get().is_some_and(stuck) {
                self.end();
                return;
            }
        }
    }
}
