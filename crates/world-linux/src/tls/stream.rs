//! One encrypted connection after its handshake.
//!
//! Copies: rustls encrypts each record of 16 KiB from the caller's parts into memory of its own, and this file gathers
//! records into one buffer per piece; on the way in, one copy into rustls and one out of it.

use super::shake::explain;
use bytes::{Buf, Bytes, BytesMut};
use identity::Shown;
use identity::rustls::Connection;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{BufRead, IoSlice, Write};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use world::sync::Notify;
use world::{Caller, LocalBoxFuture, NetError, Stream, World};

/// Encrypted at a time: 16 records, 0.1 ms of a core.
const PIECE_BYTES: usize = 256 << 10;
/// Header, type and tag of a record (RFC 8446, 5.2).
const RECORD_OVERHEAD: usize = 22;
const RECORD_BYTES: usize = 16 << 10;
/// Parts given to rustls at a time.
const PARTS_MAX: usize = 64;

struct State {
    world: World,
    inner: Rc<dyn Stream>,
    caller: Caller,
    /// What the caller has shown; nothing on the calling side.
    shown: Option<Shown>,
    tls: RefCell<Connection>,
    /// Decrypted bytes that nobody has read yet: what came with the end of the handshake.
    early: RefCell<Option<Bytes>>,
    /// To be encrypted and sent, in order.
    queue: RefCell<VecDeque<Bytes>>,
    sending: RefCell<Option<LocalBoxFuture<'static, Result<(), NetError>>>>,
    /// Whether a task sends what a dropped write has left.
    driven: Cell<bool>,
    /// That task has ended.
    idle: Notify,
    closed: Cell<bool>,
    /// What has ended the connection.
    failure: RefCell<Option<NetError>>,
}

pub(super) struct TlsStream(Rc<State>);

impl TlsStream {
    pub(super) fn start(
        world: World,
        inner: Rc<dyn Stream>,
        mut tls: Connection,
        caller: Caller,
        shown: Option<Shown>,
    ) -> Rc<dyn Stream> {
        // Bounded by `PIECE_BYTES` here.
        tls.set_buffer_limit(None);
        let mut early = BytesMut::new();
        drain(&mut tls, &mut early);
        Rc::new(Self(Rc::new(State {
            world,
            inner,
            caller,
            shown,
            tls: RefCell::new(tls),
            early: RefCell::new((!early.is_empty()).then(|| early.freeze())),
            queue: RefCell::default(),
            sending: RefCell::default(),
            driven: Cell::new(false),
            idle: Notify::default(),
            closed: Cell::new(false),
            failure: RefCell::default(),
        })))
    }
}

/// Moves decrypted bytes to `plain`.
fn drain(tls: &mut Connection, plain: &mut BytesMut) {
    let mut reader = tls.reader();
    // An error says that there is nothing more, or that the other side has closed: the bytes below end then, too.
    while let Ok(chunk) = reader.fill_buf() {
        if chunk.is_empty() {
            return;
        }
        plain.extend_from_slice(chunk);
        let taken = chunk.len();
        reader.consume(taken);
    }
}

/// Gathers records.
struct Gather(BytesMut);

impl Write for Gather {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> std::io::Result<usize> {
        for part in parts {
            self.0.extend_from_slice(part);
        }
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn closed_here() -> NetError {
    NetError::Lost("closed on this side".to_owned())
}

impl State {
    fn check(&self) -> Result<(), NetError> {
        match (self.closed.get(), &*self.failure.borrow()) {
            (true, _) => Err(closed_here()),
            (false, Some(failure)) => Err(failure.clone()),
            (false, None) => Ok(()),
        }
    }

    async fn read(self: Rc<Self>) -> Result<Bytes, NetError> {
        if let Some(early) = self.early.borrow_mut().take() {
            return Ok(early);
        }
        loop {
            self.check()?;
            let received = self.inner.read().await?;
            if received.is_empty() {
                return Ok(received);
            }
            // No await from here on: bytes that were received are never lost.
            let plain = self.decrypt(&received)?;
            if !plain.is_empty() {
                return Ok(plain);
            }
        }
    }

    fn decrypt(&self, mut received: &[u8]) -> Result<Bytes, NetError> {
        let mut tls = self.tls.borrow_mut();
        let mut plain = BytesMut::with_capacity(received.len());
        while !received.is_empty() {
            let lost = |error: std::io::Error| NetError::Lost(error.to_string());
            if tls.read_tls(&mut received).map_err(lost)? == 0 {
                // The other side has said that nothing follows.
                break;
            }
            if let Err(error) = tls.process_new_packets() {
                let failure = NetError::Lost(explain(&error));
                *self.failure.borrow_mut() = Some(failure.clone());
                drop(tls);
                self.inner.close();
                return Err(failure);
            }
            drain(&mut tls, &mut plain);
        }
        Ok(plain.freeze())
    }

    /// The next piece of the queue, encrypted; empty when there is none.
    fn encrypt(&self) -> Result<Bytes, NetError> {
        let mut queue = self.queue.borrow_mut();
        let mut tls = self.tls.borrow_mut();
        let lost = |error: std::io::Error| NetError::Lost(error.to_string());
        let mut left = PIECE_BYTES;
        while left > 0 && !queue.is_empty() {
            let mut slices = Vec::with_capacity(queue.len().min(PARTS_MAX));
            let mut bytes = 0;
            for part in queue.iter().take(PARTS_MAX) {
                let taken = part.len().min(left - bytes);
                slices.push(IoSlice::new(&part[..taken]));
                bytes += taken;
                if bytes == left {
                    break;
                }
            }
            let mut written = tls.writer().write_vectored(&slices).map_err(lost)?;
            assert!(written <= bytes, "no more is encrypted than was given");
            left -= written;
            while let Some(part) = queue.front_mut() {
                if part.len() > written {
                    part.advance(written);
                    break;
                }
                written -= part.len();
                queue.pop_front();
            }
        }
        let plain = PIECE_BYTES - left;
        let records = plain / RECORD_BYTES + PARTS_MAX;
        let mut gathered = Gather(BytesMut::with_capacity(plain + records * RECORD_OVERHEAD));
        while tls.wants_write() {
            tls.write_tls(&mut gathered).map_err(lost)?;
        }
        Ok(gathered.0.freeze())
    }

    fn poll_send(&self, context: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        loop {
            let mut sending = self.sending.borrow_mut();
            if let Some(running) = &mut *sending {
                let sent = ready!(running.as_mut().poll(context));
                *sending = None;
                sent?;
            }
            let piece = self.encrypt()?;
            if piece.is_empty() {
                return Poll::Ready(Ok(()));
            }
            *sending = Some(self.inner.write(vec![piece]));
        }
    }

    /// Sends what is queued. A failure ends the connection.
    async fn send(&self) -> Result<(), NetError> {
        let sent = poll_fn(|context| self.poll_send(context)).await;
        if let Err(error) = &sent {
            self.queue.borrow_mut().clear();
            self.failure.borrow_mut().get_or_insert(error.clone());
        }
        sent
    }

    async fn write(self: Rc<Self>, parts: Vec<Bytes>) -> Result<(), NetError> {
        loop {
            let idle = self.idle.notified();
            if !self.driven.get() {
                break;
            }
            idle.await;
        }
        // The last piece of an earlier, dropped write may still be under way.
        self.send().await?;
        self.check()?;
        let full = parts.into_iter().filter(|part| !part.is_empty());
        self.queue.borrow_mut().extend(full);
        let rest = Rest(&self);
        let sent = self.send().await;
        std::mem::forget(rest);
        match sent {
            Err(_) if self.closed.get() => Err(closed_here()),
            sent => sent,
        }
    }
}

/// Sends the rest of a write that is dropped: half a record stream would end the connection.
struct Rest<'a>(&'a Rc<State>);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        if self.0.queue.borrow().is_empty() {
            // The network below has taken the last piece.
            return;
        }
        let state = self.0.clone();
        state.driven.set(true);
        self.0.world.spawn(async move {
            // Its failure is what the next call finds.
            let _ = state.send().await;
            state.driven.set(false);
            state.idle.notify_all();
        });
    }
}

impl Stream for TlsStream {
    fn read(&self) -> LocalBoxFuture<'static, Result<Bytes, NetError>> {
        Box::pin(self.0.clone().read())
    }

    fn write(&self, parts: Vec<Bytes>) -> LocalBoxFuture<'static, Result<(), NetError>> {
        Box::pin(self.0.clone().write(parts))
    }

    fn close(&self) {
        if !self.0.closed.replace(true) {
            self.0.inner.close();
        }
    }

    fn is_believed(&self) -> bool {
        self.0.shown.as_ref().is_none_or(Shown::is_believed)
    }

    fn caller(&self) -> Option<Caller> {
        Some(self.0.caller.clone())
    }
}
