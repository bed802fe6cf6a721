//! One live connection of a `Peer`: a writer, a reader and a keepalive task.
//!
//! Invariants
//! - Request ids start at 1 and are used once; 0 belongs to pings.
//! - A session ends once; whoever notices first takes its calls and answers them.

use crate::message::has_room;
use crate::peer::{Inner, SharedSlot, answer};
use crate::{
    DEAD_AFTER, FrameReader, Hello, Incoming, PING_AFTER, Reply, Request, WRITE_BYTES_MAX,
    WRITE_PARTS_MAX,
};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use wire::{Frame, FrameKind};
use world::sync::Notify;
use world::{Duration, Stream, Time, World};

/// A process that was stopped for long finds its timer due and the replies still unread: it reads first.
const GRACE: Duration = Duration::from_millis(100);

struct InFlight {
    slot: SharedSlot,
    body_bytes: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Ping {
    None,
    Due,
    Sent,
}

pub(crate) struct Session {
    stream: Rc<dyn Stream>,
    pub(crate) remote: Hello,
    in_flight: RefCell<BTreeMap<u64, InFlight>>,
    in_flight_bytes: Cell<usize>,
    last_id: Cell<u64>,
    /// Something to send, or the end.
    pub(crate) work: Notify,
    pub(crate) received_at: Cell<Time>,
    sent_at: Cell<Time>,
    ping: Cell<Ping>,
    over: Cell<bool>,
}

impl Session {
    pub(crate) fn new(world: &World, stream: Rc<dyn Stream>, remote: Hello) -> Rc<Self> {
        Rc::new(Self {
            stream,
            remote,
            in_flight: RefCell::default(),
            in_flight_bytes: Cell::new(0),
            last_id: Cell::new(0),
            work: Notify::default(),
            received_at: Cell::new(world.now()),
            sent_at: Cell::new(world.now()),
            ping: Cell::new(Ping::None),
            over: Cell::new(false),
        })
    }

    /// Ends it, unless it has ended: the calls to be answered, oldest first.
    pub(crate) fn end(&self) -> Option<Vec<SharedSlot>> {
        if self.over.replace(true) {
            return None;
        }
        self.stream.close();
        self.work.notify_all();
        let calls = std::mem::take(&mut *self.in_flight.borrow_mut());
        Some(calls.into_values().map(|call| call.slot).collect())
    }

    /// Takes from the peer's waiting calls what the window and one write allow.
    fn next_batch(&self, inner: &Inner) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let mut bytes = 0;
        if self.ping.get() == Ping::Due {
            self.ping.set(Ping::Sent);
            parts.extend(Frame::encode(FrameKind::Request, 0, &Request::Ping, Vec::new()).parts);
        }
        let mut waiting = inner.waiting.borrow_mut();
        let mut in_flight = self.in_flight.borrow_mut();
        while parts.len() < WRITE_PARTS_MAX && bytes < WRITE_BYTES_MAX {
            let used = self.in_flight_bytes.get();
            let fits = |body_bytes| has_room(in_flight.len(), used, body_bytes);
            if !waiting.front().is_some_and(|call| fits(call.body_bytes)) {
                break;
            }
            let call = waiting.pop_front().expect("just seen");
            if Rc::strong_count(&call.slot) == 1 {
                continue;
            }
            let id = self.last_id.get() + 1;
            self.last_id.set(id);
            let frame = Frame::encode(FrameKind::Request, id, &call.request, call.body);
            self.in_flight_bytes.set(used + call.body_bytes);
            bytes += call.body_bytes;
            let body_bytes = call.body_bytes;
            let slot = call.slot;
            in_flight.insert(id, InFlight { slot, body_bytes });
            parts.extend(frame.parts);
        }
        parts
    }

    fn on_frame(&self, inner: &Inner, frame: Incoming) -> Result<(), String> {
        if frame.header.kind != FrameKind::Reply {
            return Err("it sent something other than a reply".to_owned());
        }
        let reply = frame.header.decode_head::<Reply>(&frame.head);
        let reply = reply.map_err(|error| error.to_string())?;
        inner.failures.set(0);
        let id = frame.header.request_id;
        if id == 0 {
            return match reply {
                Reply::Refused(reason) => Err(reason),
                _ => {
                    self.ping.set(Ping::None);
                    Ok(())
                }
            };
        }
        let call = self.in_flight.borrow_mut().remove(&id);
        let Some(call) = call else {
            return Err(format!("it answered request {id}, which is not in flight"));
        };
        let bytes = self.in_flight_bytes.get() - call.body_bytes;
        self.in_flight_bytes.set(bytes);
        answer(&call.slot, Ok((reply, frame.body)));
        Ok(())
    }
}

/// Starts the tasks of a session. `reader` holds what arrived behind the hello.
pub(crate) fn start(inner: &Rc<Inner>, session: &Rc<Session>, reader: FrameReader) {
    let (peer, own) = (inner.clone(), session.clone());
    inner.world.spawn(async move { write(peer, own).await });
    let (peer, own) = (inner.clone(), session.clone());
    inner
        .world
        .spawn(async move { keep_alive(peer, own).await });
    let (peer, own) = (inner.clone(), session.clone());
    inner.world.spawn(async move {
        let reason = read(&peer, &own, reader).await;
        peer.lose(&own, &reason);
    });
}

async fn write(inner: Rc<Inner>, session: Rc<Session>) {
    while !session.over.get() {
        let work = session.work.notified();
        let parts = session.next_batch(&inner);
        if parts.is_empty() {
            work.await;
            continue;
        }
        if let Err(error) = session.stream.write(parts).await {
            inner.lose(&session, &error.to_string());
            return;
        }
        session.sent_at.set(inner.world.now());
    }
}

/// Reads until the end; why it ended.
async fn read(inner: &Rc<Inner>, session: &Session, mut reader: FrameReader) -> String {
    loop {
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    if let Err(reason) = session.on_frame(inner, frame) {
                        return reason;
                    }
                }
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
        if !inner.waiting.borrow().is_empty() {
            // Replies made room in the window.
            session.work.notify_all();
        }
        match session.stream.read().await {
            Ok(chunk) if chunk.is_empty() => return "the other side closed it".to_owned(),
            Ok(chunk) => {
                session.received_at.set(inner.world.now());
                reader.push(chunk);
            }
            Err(error) => return error.to_string(),
        }
    }
}

async fn keep_alive(inner: Rc<Inner>, session: Rc<Session>) {
    let world = &inner.world;
    loop {
        let quiet_since = session.received_at.get().min(session.sent_at.get());
        let next = match session.ping.get() {
            Ping::None => quiet_since + PING_AFTER,
            _ => session.received_at.get() + DEAD_AFTER,
        };
        world.clock.sleep_until(next.max(world.now() + GRACE)).await;
        if session.over.get() {
            return;
        }
        let silence = |now: Time| now.since(session.received_at.get());
        if silence(world.now()) >= DEAD_AFTER {
            world.sleep(GRACE).await;
            if silence(world.now()) >= DEAD_AFTER {
                inner.lose(&session, "it said nothing for 5 s");
                return;
            }
        }
        let quiet_since = session.received_at.get().min(session.sent_at.get());
        if session.ping.get() == Ping::None && world.now().since(quiet_since) >= PING_AFTER {
            session.ping.set(Ping::Due);
            session.work.notify_all();
        }
    }
}
