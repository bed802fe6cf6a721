//! `Peer`: the calling side of one connection, made on demand and made again after a loss.
//!
//! A call is put into `waiting` at once, which fixes its place in the order. The writer of the session takes
//! from there as far as the window allows. Without a session one task connects; calls wait for it.
//!
//! Invariants
//! - At most one session and at most one attempt to connect at a time.
//! - A call that was never handed to a session fails only as `Unreachable`, `Refused`, `TooLarge` or
//!   `Closed`, never as `Lost`.

use crate::message::{Greeting, HEAD_BYTES_RESERVED};
use crate::session::{self, Session};
use crate::{FrameReader, Hello, Reply, Request, RpcError};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use wire::{Frame, FrameKind, Lane, MESSAGE_BYTES_MAX};
use world::blame::on_behalf;
use world::{Address, Duration, Stream, Time, World};

/// Connection and hellos.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What a call resolves to.
pub(crate) type Answer = Result<(Reply, Bytes), RpcError>;

#[derive(Default)]
pub(crate) struct Slot {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

/// The place where an answer is put. When nobody else holds the slot, nobody waits for the answer.
pub(crate) type SharedSlot = Rc<RefCell<Slot>>;

pub(crate) fn answer(slot: &SharedSlot, answer: Answer) {
    let waker = {
        let mut slot = slot.borrow_mut();
        slot.answer = Some(answer);
        slot.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A call under way. Dropping it withdraws a request that was not sent; one that was sent may be carried out.
pub struct Call(SharedSlot);

impl Future for Call {
    type Output = Result<(Reply, Bytes), RpcError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.borrow_mut();
        match slot.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A request that no session has sent yet.
pub(crate) struct Waiting {
    pub(crate) request: Request,
    pub(crate) body: Vec<Bytes>,
    pub(crate) body_bytes: usize,
    pub(crate) slot: SharedSlot,
}

pub(crate) struct Inner {
    pub(crate) world: World,
    address: Address,
    hello: Hello,
    lane: Lane,
    /// Whether a lost connection is made again.
    reconnects: bool,
    pub(crate) waiting: RefCell<VecDeque<Waiting>>,
    session: RefCell<Option<Rc<Session>>>,
    connecting: Cell<bool>,
    /// Attempts in a row that brought no reply.
    pub(crate) failures: Cell<u32>,
    /// Set when no session will ever be made again.
    ended: Cell<bool>,
}

/// The calling side of one connection to a node. Cheap to clone; when the last handle is dropped, the connection
/// is closed and calls in flight fail.
#[derive(Clone)]
pub struct Peer(Rc<Guard>);

struct Guard(Rc<Inner>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Peer {
    /// A peer on the log lane that connects with the first call and again after a loss. No I/O.
    #[must_use]
    pub fn new(world: World, address: Address, hello: Hello) -> Self {
        Self::with_lane(world, address, hello, Lane::Log)
    }

    /// [`Peer::new`] on a lane.
    #[must_use]
    pub fn with_lane(world: World, address: Address, hello: Hello, lane: Lane) -> Self {
        Self::build(world, address, hello, lane, true)
    }

    /// A peer that connects with the first call and never again: once its connection is lost or could not be
    /// made, every call fails. For sessions that live and die with their connection.
    #[must_use]
    pub fn single_use(world: World, address: Address, hello: Hello) -> Self {
        Self::build(world, address, hello, Lane::Log, false)
    }

    fn build(world: World, address: Address, hello: Hello, lane: Lane, reconnects: bool) -> Self {
        let inner = Inner {
            world,
            address,
            hello,
            lane,
            reconnects,
            waiting: RefCell::default(),
            session: RefCell::default(),
            connecting: Cell::new(false),
            failures: Cell::new(0),
            ended: Cell::new(false),
        };
        Self(Rc::new(Guard(Rc::new(inner))))
    }

    /// Whom it calls.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0.0.address
    }

    /// What the other side said of itself; `None` while there is no connection.
    #[must_use]
    pub fn remote(&self) -> Option<Hello> {
        let session = self.0.0.session.borrow();
        session.as_ref().map(|session| session.remote.clone())
    }

    /// When bytes last arrived over the present connection, its hello included; `None` while there is none.
    #[must_use]
    pub fn heard_at(&self) -> Option<Time> {
        let session = self.0.0.session.borrow();
        session.as_ref().map(|session| session.received_at.get())
    }

    /// Calls. The place in the order is taken now, not when the future is polled. Waits as long as the connection
    /// lives: bound it with `World::timeout`. The body is not copied.
    ///
    /// # Errors
    /// Any [`RpcError`]; only `Lost` and `Closed` leave open whether the request was carried out.
    pub fn call(&self, request: Request, body: Vec<Bytes>) -> Call {
        let slot = SharedSlot::default();
        let inner = &self.0.0;
        let body_bytes = body.iter().map(Bytes::len).sum::<usize>();
        if inner.ended.get() {
            answer(&slot, Err(inner.closed()));
        } else if body_bytes + HEAD_BYTES_RESERVED > MESSAGE_BYTES_MAX {
            answer(&slot, Err(RpcError::TooLarge { bytes: body_bytes }));
        } else {
            inner.waiting.borrow_mut().push_back(Waiting {
                request,
                body,
                body_bytes,
                slot: slot.clone(),
            });
            inner.wake();
        }
        Call(slot)
    }

    /// Ends the connection for good. Calls in flight and later ones fail with [`RpcError::Closed`].
    pub fn close(&self) {
        self.0.0.end();
    }
}

impl Inner {
    fn closed(&self) -> RpcError {
        RpcError::Closed {
            address: self.address.0.clone(),
        }
    }

    fn unreachable(&self, reason: &str) -> RpcError {
        RpcError::Unreachable {
            address: self.address.0.clone(),
            reason: reason.to_owned(),
        }
    }

    fn refused(&self, reason: String) -> RpcError {
        RpcError::Refused {
            address: self.address.0.clone(),
            reason,
        }
    }

    /// Something waits: lets the writer know, or makes a connection.
    fn wake(self: &Rc<Self>) {
        if let Some(session) = &*self.session.borrow() {
            session.work.notify_all();
        } else if !self.connecting.replace(true) {
            let inner = self.clone();
            // The connection is everybody's, whoever asks first.
            on_behalf(None, || {
                self.world.spawn(async move { inner.connect().await });
            });
        }
    }

    async fn connect(self: Rc<Self>) {
        let pause = self.backoff();
        if !pause.is_zero() {
            self.world.sleep(pause).await;
        }
        let outcome = if self.ended.get() {
            Err(self.closed())
        } else {
            let attempt = self.world.timeout(CONNECT_TIMEOUT, self.establish());
            let late = || self.unreachable("no connection within 2 s");
            attempt.await.unwrap_or_else(|_| Err(late()))
        };
        self.connecting.set(false);
        // Grows until a reply arrives: a server that accepts and drops is not called in a tight loop.
        self.failures.set(self.failures.get().saturating_add(1));
        match outcome {
            Ok((stream, _, _)) if self.ended.get() => stream.close(),
            Ok((stream, reader, remote)) => {
                let session = Session::new(&self.world, stream, remote);
                *self.session.borrow_mut() = Some(session.clone());
                session::start(&self, &session, reader);
            }
            Err(error) => {
                self.ended.set(self.ended.get() || !self.reconnects);
                self.fail_waiting(&error);
            }
        }
    }

    fn backoff(&self) -> Duration {
        let Some(doublings) = self.failures.get().checked_sub(1) else {
            return Duration::ZERO;
        };
        let pause = BACKOFF_MIN * (1 << doublings.min(5));
        let jitter = 512 + self.world.rng.next_u64() % 512;
        pause.min(BACKOFF_MAX) * u32::try_from(jitter).expect("below 1024") / 1024
    }

    /// Connects and exchanges hellos.
    async fn establish(&self) -> Result<(Rc<dyn Stream>, FrameReader, Hello), RpcError> {
        let connected = self.world.net.connect(&self.address).await;
        let stream = connected.map_err(|error| self.unreachable(&error.to_string()))?;
        let outcome = self.greet(&*stream).await;
        if outcome.is_err() {
            stream.close();
        }
        let (reader, remote) = outcome?;
        Ok((stream, reader, remote))
    }

    async fn greet(&self, stream: &dyn Stream) -> Result<(FrameReader, Hello), RpcError> {
        let greeting = Greeting::new(self.hello.clone(), self.lane);
        let frame = Frame::encode(FrameKind::Hello, 0, &greeting, Vec::new());
        let written = stream.write(frame.parts).await;
        written.map_err(|error| self.unreachable(&error.to_string()))?;
        let mut reader = FrameReader::default();
        let frame = loop {
            let next = reader.next_frame();
            match next.map_err(|error| self.refused(error.to_string()))? {
                Some(frame) => break frame,
                None => {
                    let read = stream.read().await;
                    let chunk = read.map_err(|error| self.unreachable(&error.to_string()))?;
                    if chunk.is_empty() {
                        return Err(self.unreachable("it closed the connection before its hello"));
                    }
                    reader.push(chunk);
                }
            }
        };
        let undecodable = |error: wire::FrameError| self.refused(error.to_string());
        if frame.header.kind == FrameKind::Hello {
            let greeting = Greeting::decode(&frame.header, &frame.head);
            let remote = greeting.map_err(undecodable)?.hello();
            let (theirs, ours) = (&remote.cluster, &self.hello.cluster);
            if theirs != ours {
                let reason = format!("it belongs to cluster {theirs:?}, we to {ours:?}");
                return Err(self.refused(reason));
            }
            if !remote.levels.meet(self.hello.levels) {
                let (theirs, ours) = (remote.levels, self.hello.levels);
                let reason =
                    format!("its release knows level {theirs}, ours {ours}: upgrade the older one");
                return Err(self.refused(reason));
            }
            return Ok((reader, remote));
        }
        match frame.header.decode_head(&frame.head).map_err(undecodable)? {
            Reply::Refused(reason) => Err(self.refused(reason)),
            _ => Err(self.refused("it did not start with a hello".to_owned())),
        }
    }

    /// The session is over: its calls are lost, waiting ones go to the next session.
    pub(crate) fn lose(self: &Rc<Self>, session: &Session, reason: &str) {
        let Some(calls) = session.end() else {
            return;
        };
        *self.session.borrow_mut() = None;
        for slot in calls {
            let address = self.address.0.clone();
            let reason = reason.to_owned();
            answer(&slot, Err(RpcError::Lost { address, reason }));
        }
        if !self.reconnects {
            self.ended.set(true);
            self.fail_waiting(&self.unreachable(reason));
        } else if !self.waiting.borrow().is_empty() {
            self.wake();
        }
    }

    fn end(&self) {
        self.ended.set(true);
        let session = self.session.borrow_mut().take();
        for slot in session
            .and_then(|session| session.end())
            .into_iter()
            .flatten()
        {
            answer(&slot, Err(self.closed()));
        }
        self.fail_waiting(&self.closed());
    }

    fn fail_waiting(&self, error: &RpcError) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for call in waiting {
            answer(&call.slot, Err(error.clone()));
        }
    }
}
