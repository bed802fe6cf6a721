//! One connection.

use super::Context as Shard;
use crate::reactor::Operation;
use crate::request::{Outgoing, Request, SocketAction};
use crate::socket::Socket;
use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use world::{LocalBoxFuture, NetError, Stream};

/// Bounds of the memory of one receive; it follows the traffic between them.
const RECEIVE_BYTES_MIN: usize = 16 << 10;
const RECEIVE_BYTES_MAX: usize = 256 << 10;

/// Incoming bytes.
struct Receiving {
    operation: Option<Operation>,
    /// Memory whose filled part belongs to readers already, while no operation has it.
    memory: BytesMut,
    /// How much to allocate next.
    size: usize,
    /// What the current operation may fill.
    offered: usize,
}

struct State {
    shard: Rc<Shard>,
    socket: Rc<Socket>,
    closed: Cell<bool>,
    receiving: RefCell<Receiving>,
    sending: RefCell<Option<Operation>>,
}

/// A connected socket. Ends when it and the futures of its calls are gone.
pub(super) struct Connection(Rc<State>);

impl Connection {
    pub(super) fn stream(shard: Rc<Shard>, socket: Rc<Socket>) -> Rc<dyn Stream> {
        Rc::new(Self(Rc::new(State {
            shard,
            socket,
            closed: Cell::new(false),
            receiving: RefCell::new(Receiving {
                operation: None,
                memory: BytesMut::new(),
                size: RECEIVE_BYTES_MIN,
                offered: 0,
            }),
            sending: RefCell::default(),
        })))
    }
}

fn closed_here() -> NetError {
    NetError::Lost("closed on this side".to_owned())
}

fn lost(error: Errno) -> NetError {
    NetError::Lost(error.to_string())
}

impl State {
    fn start_receiving(&self) -> Operation {
        let memory = {
            let mut receiving = self.receiving.borrow_mut();
            let mut memory = std::mem::take(&mut receiving.memory);
            if memory.capacity() < receiving.size / 2 {
                // Reuses the old memory when all readers are done with it.
                memory.reserve(receiving.size);
            }
            receiving.offered = memory.capacity();
            memory
        };
        let action = SocketAction::Receive(memory);
        let request = Request::Socket(self.socket.clone(), action);
        self.shard.reactor.submit(request)
    }

    fn poll_read(&self, context: &mut Context<'_>) -> Poll<Result<Bytes, NetError>> {
        if self.closed.get() {
            return Poll::Ready(Err(closed_here()));
        }
        let running = self.receiving.borrow_mut().operation.take();
        let mut operation = running.unwrap_or_else(|| self.start_receiving());
        let Poll::Ready((request, result)) = Pin::new(&mut operation).poll(context) else {
            self.receiving.borrow_mut().operation = Some(operation);
            return Poll::Pending;
        };
        let Request::Socket(_, SocketAction::Receive(mut memory)) = request else {
            unreachable!("a receive comes back as one");
        };
        if let Err(error) = result {
            return Poll::Ready(Err(lost(error)));
        }
        let received = memory.split().freeze();
        let mut receiving = self.receiving.borrow_mut();
        if received.len() == receiving.offered {
            receiving.size = (receiving.size * 2).min(RECEIVE_BYTES_MAX);
        } else if received.len() < receiving.size / 8 {
            receiving.size = (receiving.size / 2).max(RECEIVE_BYTES_MIN);
        }
        receiving.memory = memory;
        Poll::Ready(Ok(received))
    }

    /// Drives the send under way, if there is one.
    fn poll_send(&self, context: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        let Some(mut operation) = self.sending.borrow_mut().take() else {
            return Poll::Ready(Ok(()));
        };
        match Pin::new(&mut operation).poll(context) {
            Poll::Ready((_, result)) => Poll::Ready(result.map(drop)),
            Poll::Pending => {
                *self.sending.borrow_mut() = Some(operation);
                Poll::Pending
            }
        }
    }

    async fn write(self: Rc<Self>, parts: Vec<Bytes>) -> Result<(), NetError> {
        // A failure of an earlier, dropped write ends the connection, so this one fails as well.
        poll_fn(|context| self.poll_send(context))
            .await
            .map_err(lost)?;
        if self.closed.get() {
            return Err(closed_here());
        }
        let outgoing = Outgoing::new(parts);
        if outgoing.parts.is_empty() {
            return Ok(());
        }
        let request = Request::Socket(self.socket.clone(), SocketAction::Send(outgoing));
        let operation = self.shard.reactor.submit(request);
        *self.sending.borrow_mut() = Some(operation);
        let sent = poll_fn(|context| self.poll_send(context)).await;
        match (sent, self.closed.get()) {
            (Ok(()), _) => Ok(()),
            (Err(_), true) => Err(closed_here()),
            (Err(error), false) => Err(lost(error)),
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // Operations are cancelled by their own drop; the peer is told without waiting for that.
        self.socket.shutdown();
    }
}

impl Stream for Connection {
    fn read(&self) -> LocalBoxFuture<'static, Result<Bytes, NetError>> {
        let state = self.0.clone();
        Box::pin(poll_fn(move |context| state.poll_read(context)))
    }

    fn write(&self, parts: Vec<Bytes>) -> LocalBoxFuture<'static, Result<(), NetError>> {
        Box::pin(self.0.clone().write(parts))
    }

    fn close(&self) {
        if !self.0.closed.replace(true) {
            // The kernel ends what is under way, which wakes those who wait.
            self.0.socket.shutdown();
        }
    }
}
