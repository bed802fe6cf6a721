//! Transmission on one connection: one task that reads requests, runs them and writes replies, all at once.
//!
//! State: one read and one write of the stream at most, the requests that run, the replies that wait.
//!
//! Invariants
//! - A request starts only while fewer than `requests_max` run and `in_flight_bytes_max` has room for it; until
//!   then nothing but one chunk is read ahead, enough to notice that the client went away.
//! - Replies go out in the order of completion. While a write is under way further ones gather, so that
//!   a busy connection makes few large writes.
//! - Dropping it drops the requests that run; their locks go with them.

use super::Options;
use super::handshake::{Facts, Negotiated, Violation};
use super::input::Input;
use super::pdu::Request;
use super::request::{Export, Work, begin};
use super::session::{Event, Failure, Outcome, Replies, Session, cost};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, LocalBoxFuture, poll_fn, select};
use futures_util::stream::FuturesUnordered;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use world::{NetError, Stream, World};

/// Received bytes that are kept while the window is full.
const READ_AHEAD_BYTES: usize = 1 << 20;
/// Rounds of one poll, and requests of one round, before other tasks of the shard get their turn.
const ROUNDS_MAX: usize = 16;
const REQUESTS_PER_ROUND: usize = 256;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum End {
    #[error("the client said good-bye")]
    Disconnected,
    #[error("the client went away")]
    ClientGone,
    #[error("the server was shut down")]
    Shutdown,
    #[error("the handshake took too long")]
    HandshakeTimeout,
    #[error("requests were still running when the time to finish them was over")]
    DrainTimeout,
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Violation(#[from] Violation),
}

struct Running {
    request: Request,
    work: Work,
}

impl Future for Running {
    type Output = (Request, Result<Outcome, Failure>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.work).poll(context));
        Poll::Ready((self.request, result))
    }
}

struct Sending {
    future: LocalBoxFuture<'static, Result<(), NetError>>,
    bytes: u64,
}

/// See the module's description.
pub(crate) struct Connection {
    stream: Rc<dyn Stream>,
    export: Export,
    session: Session,
    requests_max: usize,
    bytes_max: u64,
    reading: Option<LocalBoxFuture<'static, Result<Bytes, NetError>>>,
    sending: Option<Sending>,
    running: FuturesUnordered<Running>,
    running_bytes: u64,
    replies: Replies,
}

impl Connection {
    pub(crate) fn new(
        stream: Rc<dyn Stream>,
        export: Export,
        (negotiated, input): (Negotiated, Input),
        options: &Options,
    ) -> Self {
        Self {
            stream,
            export,
            session: Session::new(negotiated, input),
            requests_max: options.requests_max,
            bytes_max: options.in_flight_bytes_max,
            reading: None,
            sending: None,
            running: FuturesUnordered::new(),
            running_bytes: 0,
            replies: Replies::default(),
        }
    }

    /// Serves until the connection is over.
    pub(crate) async fn run(mut self, world: &World, options: &Options) -> End {
        let end = {
            let transmit = poll_fn(|context| self.poll_transmit(context));
            let shutdown = pin!(options.shutdown.requested());
            match select(transmit, shutdown).await {
                Either::Left((end, _)) => end,
                Either::Right(((), _)) => End::Shutdown,
            }
        };
        if !matches!(end, End::Disconnected | End::Shutdown) {
            return end;
        }
        let drain = poll_fn(|context| self.poll_drain(context));
        match world.timeout(options.drain_timeout, drain).await {
            Ok(Ok(())) => end,
            Ok(Err(error)) => error,
            Err(_) => End::DrainTimeout,
        }
    }

    fn poll_transmit(&mut self, context: &mut Context<'_>) -> Poll<End> {
        for _ in 0..ROUNDS_MAX {
            let mut moved = self.poll_running(context);
            match self.poll_requests(context) {
                Ok(did) => moved |= did,
                Err(end) => return Poll::Ready(end),
            }
            match self.poll_sending(context) {
                Ok(did) => moved |= did,
                Err(end) => return Poll::Ready(end),
            }
            if !moved {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Finishes what runs and sends every reply.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        // Every round completes a request or a write, and no new ones start.
        loop {
            let mut moved = self.poll_running(context);
            match self.poll_sending(context) {
                Ok(did) => moved |= did,
                Err(end) => return Poll::Ready(Err(end)),
            }
            if self.running.is_empty() && self.sending.is_none() && self.replies.bytes() == 0 {
                return Poll::Ready(Ok(()));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    fn poll_running(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some((request, result))) = self.running.poll_next_unpin(context) {
            self.running_bytes -= cost(&request);
            self.reply(&request, result);
            moved = true;
        }
        moved
    }

    /// Starts the requests that are there, or reads.
    fn poll_requests(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        for started in 0..REQUESTS_PER_ROUND {
            let facts = facts(&self.export);
            let used = self.running_bytes
                + self.replies.bytes()
                + self.sending.as_ref().map_or(0, |sending| sending.bytes);
            let (full, max) = (self.running.len() >= self.requests_max, self.bytes_max);
            let admit = |cost: u64| !full && (used == 0 || used + cost <= max);
            match self.session.next(facts, admit)? {
                Event::Execute(request, payload) => self.start(request, payload),
                Event::Refuse(request, failure) => self.reply(&request, Err(failure)),
                Event::Disconnect => return Err(End::Disconnected),
                Event::Wait if self.session.buffered() >= READ_AHEAD_BYTES => {
                    return Ok(started > 0);
                }
                Event::Wait | Event::Read => {
                    return Ok(self.poll_reading(context)? || started > 0);
                }
            }
        }
        Ok(true)
    }

    fn poll_reading(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let stream = &self.stream;
        let reading = self.reading.get_or_insert_with(|| stream.read());
        match reading.as_mut().poll(context) {
            Poll::Pending => Ok(false),
            Poll::Ready(result) => {
                self.reading = None;
                let chunk = result?;
                if chunk.is_empty() {
                    return Err(End::ClientGone);
                }
                self.session.feed(chunk);
                Ok(true)
            }
        }
    }

    fn start(&mut self, request: Request, payload: Vec<Bytes>) {
        let mut work = begin(&self.export, &request, payload);
        // Most requests on memory are done at once and need no place among the running ones. The others are
        // polled again, with a waker of their own, when `running` is.
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut work).poll(&mut context) {
            Poll::Ready(result) => self.reply(&request, result),
            Poll::Pending => {
                self.running_bytes += cost(&request);
                self.running.push(Running { request, work });
            }
        }
    }

    fn reply(&mut self, request: &Request, result: Result<Outcome, Failure>) {
        let structured = self.session.structured();
        self.replies.push(request, structured, result);
    }

    fn poll_sending(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        if self.sending.is_none() && self.replies.bytes() > 0 {
            let (parts, bytes) = self.replies.take();
            let future = self.stream.write(parts);
            self.sending = Some(Sending { future, bytes });
            moved = true;
        }
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(result) = sending.future.as_mut().poll(context)
        {
            self.sending = None;
            result?;
            moved = true;
        }
        Ok(moved)
    }
}

pub(crate) fn facts(export: &Export) -> Facts {
    Facts {
        size: export.device.size().0,
        read_only: export.device.read_only(),
    }
}
