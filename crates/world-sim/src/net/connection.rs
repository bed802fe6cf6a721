//! One connection: two byte streams, each a queue on the wire and a queue of received pieces.
//!
//! Invariants
//! - Bytes of one direction arrive in order, once, or not at all after a loss.
//! - At most `window_bytes` of one direction are written and not yet read.
//! - After a graceful close the peer reads everything sent before it, then the end.
//! - Bytes that arrive at a side that is closed or lost are answered by a reset.

use crate::engine::{Action, Core, Mark, fingerprint};
use crate::host::{HostState, flip_one_bit};
use crate::rng::nanos;
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use world::{LocalBoxFuture, NetError, Stream};

/// The longest piece one read returns.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Reads return several pieces as one up to this length.
const MERGED_BYTES_MAX: usize = 64 << 10;

enum Parcel {
    Data(Bytes),
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Health {
    Open,
    Closed,
    Lost(String),
}

/// One end of a connection and the stream that leaves from it.
struct Side {
    health: Health,
    /// Arrived here, not yet read.
    received: VecDeque<Bytes>,
    ended: bool,
    reader: Option<Waker>,
    /// Sent from here, with arrival times.
    wire: VecDeque<(u64, Parcel)>,
    /// Bytes written here that the peer has not read, as far as this side knows.
    occupied: usize,
    /// Bytes the peer has read while its acknowledgements could not come through.
    unacknowledged: usize,
    writer: Option<Waker>,
    last_arrival: u64,
    /// A delivery event for the head of the wire is in the heap.
    scheduled: bool,
    /// The head of the wire met a blocked link.
    stalled: bool,
    /// A middle box swallows everything sent from here.
    broken: bool,
    /// Since when bytes from here go unacknowledged.
    silent_since: Option<u64>,
}

impl Side {
    fn new() -> RefCell<Self> {
        RefCell::new(Self {
            health: Health::Open,
            received: VecDeque::new(),
            ended: false,
            reader: None,
            wire: VecDeque::new(),
            occupied: 0,
            unacknowledged: 0,
            writer: None,
            last_arrival: 0,
            scheduled: false,
            stalled: false,
            broken: false,
            silent_since: None,
        })
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

pub(crate) struct Connection {
    core: Rc<Core>,
    id: u64,
    pub(crate) hosts: [Rc<HostState>; 2],
    sides: [RefCell<Side>; 2],
}

impl Connection {
    pub(crate) fn new(core: &Rc<Core>, id: u64, hosts: [Rc<HostState>; 2]) -> Rc<Self> {
        Rc::new(Self {
            core: core.clone(),
            id,
            hosts,
            sides: [Side::new(), Side::new()],
        })
    }

    /// Drops what it holds; the simulation ends.
    pub(crate) fn forget(&self) {
        for side in &self.sides {
            let mut side = side.borrow_mut();
            side.health = Health::Closed;
            side.wire.clear();
            (side.reader, side.writer) = (None, None);
        }
    }

    fn blocked(&self, from: usize) -> bool {
        let fabric = &self.core.fabric;
        fabric.is_blocked(&self.hosts[from], &self.hosts[1 - from])
    }

    fn transit(&self, from: usize, bytes: usize) -> u64 {
        let (here, there) = (self.hosts[from].index, self.hosts[1 - from].index);
        self.core.fabric.transit(&self.core, here, there, bytes)
    }

    fn detail(&self, side: usize) -> u64 {
        self.id * 2 + side as u64
    }

    /// Puts `parcel` on the wire, to arrive `delay` from now or right after what is before it.
    fn send(self: &Rc<Self>, sender: usize, parcel: Parcel, delay: u64) {
        let mut side = self.sides[sender].borrow_mut();
        if side.broken {
            drop(side);
            return self.on_silence(sender);
        }
        let arrival = (self.core.now() + delay).max(side.last_arrival);
        side.last_arrival = arrival;
        side.wire.push_back((arrival, parcel));
        self.schedule(sender, &mut side);
    }

    fn schedule(self: &Rc<Self>, sender: usize, side: &mut Side) {
        let Some((arrival, _)) = side.wire.front() else {
            return;
        };
        if side.scheduled || side.stalled {
            return;
        }
        side.scheduled = true;
        let delay = arrival.saturating_sub(self.core.now());
        let action = Action::Deliver(self.clone(), sender);
        self.core.push(delay, self.hosts[1 - sender].index, action);
    }

    /// The head of the wire from `sender` has reached the other end.
    pub(crate) fn deliver(self: &Rc<Self>, sender: usize) {
        self.sides[sender].borrow_mut().scheduled = false;
        if self.blocked(sender) {
            self.core.count(|counters| counters.stalls += 1);
            self.sides[sender].borrow_mut().stalled = true;
            return self.on_silence(sender);
        }
        let mut refused = false;
        let mut bytes = 0;
        {
            let mut from = self.sides[sender].borrow_mut();
            let mut to = self.sides[1 - sender].borrow_mut();
            let now = self.core.now();
            while from.wire.front().is_some_and(|(at, _)| *at <= now) {
                let parcel = from.wire.pop_front().map(|(_, parcel)| parcel);
                match parcel {
                    Some(Parcel::Data(piece)) if to.health == Health::Open => {
                        bytes += piece.len() as u64;
                        to.received.push_back(piece);
                    }
                    Some(Parcel::Data(_)) => refused = true,
                    Some(Parcel::End) => to.ended = true,
                    None => {}
                }
            }
            self.schedule(sender, &mut from);
            if let Some(reader) = to.reader.take() {
                reader.wake();
            }
        }
        let detail = self.detail(sender);
        self.core.mark(Mark::Deliver, detail, bytes);
        self.core.count(|counters| counters.deliveries += 1);
        if refused {
            self.reset_later(sender, self.transit(1 - sender, 0), "reset by peer");
        }
        if self.blocked(1 - sender) {
            self.on_silence(sender);
        }
    }

    /// Bytes from `sender` go unacknowledged: its connection is lost if that lasts.
    fn on_silence(self: &Rc<Self>, sender: usize) {
        let mut side = self.sides[sender].borrow_mut();
        if side.silent_since.is_some() {
            return;
        }
        let since = self.core.now();
        side.silent_since = Some(since);
        let timeout = nanos(self.core.options.net.retransmit_timeout);
        let connection = self.clone();
        let host = self.hosts[sender].index;
        self.core.call(timeout, host, move || {
            let silent = connection.sides[sender].borrow().silent_since;
            if silent == Some(since) && connection.lose(sender, "timed out") {
                let core = &connection.core;
                core.count(|counters| counters.retransmit_timeouts += 1);
            }
        });
    }

    /// Links may have healed: acknowledgements come through, and what stalled is sent again.
    pub(crate) fn on_links_changed(self: &Rc<Self>) {
        for sender in 0..2 {
            let (forth, back) = (!self.blocked(sender), !self.blocked(1 - sender));
            let mut side = self.sides[sender].borrow_mut();
            if back && side.unacknowledged > 0 {
                side.occupied -= std::mem::take(&mut side.unacknowledged);
                if let Some(writer) = side.writer.take() {
                    writer.wake();
                }
            }
            if forth && side.stalled {
                side.stalled = false;
                let silent = side.silent_since.unwrap_or(0);
                // Retransmissions back off: the longer the silence, the later the next one.
                let pause = nanos(self.core.options.net.retransmit_pause);
                let pause = pause.min((self.core.now() - silent).max(1_000_000));
                let resume = self.core.now() + self.core.rng.below(pause);
                for (arrival, _) in &mut side.wire {
                    *arrival = (*arrival).max(resume);
                }
                side.last_arrival = side.last_arrival.max(resume);
                self.schedule(sender, &mut side);
            }
            if forth && back {
                side.silent_since = None;
            }
        }
    }

    /// A reset reaches `side` after `delay`, unless its link is blocked then.
    fn reset_later(self: &Rc<Self>, side: usize, delay: u64, reason: &'static str) {
        let connection = self.clone();
        self.core.call(delay, self.hosts[side].index, move || {
            if !connection.blocked(1 - side) && connection.lose(side, reason) {
                connection.core.count(|counters| counters.resets += 1);
            }
        });
    }

    /// The connection is over for `side`; whether it was open there.
    fn lose(&self, side: usize, reason: &str) -> bool {
        {
            let mut state = self.sides[side].borrow_mut();
            if state.health != Health::Open {
                return false;
            }
            state.health = Health::Lost(reason.to_owned());
            // Whether bytes received before a reset can still be read depends on the kernel.
            if self.core.rng.chance(0.5) {
                state.received.clear();
            }
            state.wire.clear();
            state.stalled = false;
            state.wake();
        }
        self.retire();
        true
    }

    /// Leaves the registry once both sides are done and nothing is left to deliver.
    fn retire(&self) {
        let done = |side: &RefCell<Side>| side.borrow().health != Health::Open;
        if self.sides.iter().all(done) {
            let removed = self.core.fabric.connections.borrow_mut().remove(&self.id);
            drop(removed);
        }
    }

    /// The process at `side` died.
    pub(crate) fn crash(self: &Rc<Self>, side: usize, power: bool) {
        let was_open = {
            let mut state = self.sides[side].borrow_mut();
            let was_open = state.health == Health::Open;
            if was_open {
                state.health = Health::Lost("this host crashed".to_owned());
            }
            state.received.clear();
            (state.reader, state.writer) = (None, None);
            if power {
                // What is on the wire arrives; the rest, including an end, is never sent again.
                let sent = self.core.rng.index(state.wire.len() + 1);
                let arriving = if state.stalled { 0 } else { sent };
                state.wire.truncate(arriving);
            }
            was_open
        };
        if was_open && !power {
            if self.core.rng.chance(0.5) {
                self.send(side, Parcel::End, self.transit(side, 0));
            } else {
                self.reset_later(1 - side, self.transit(side, 0), "reset by peer");
            }
        }
        self.retire();
    }

    /// Graceful: what was written still arrives, then the end.
    fn close(self: &Rc<Self>, side: usize) {
        {
            let mut state = self.sides[side].borrow_mut();
            if state.health != Health::Open {
                return;
            }
            state.health = Health::Closed;
            state.received.clear();
            state.wake();
        }
        self.send(side, Parcel::End, self.transit(side, 0));
        self.retire();
    }

    /// A middle box breaks the connection: each side notices in its own time.
    fn break_both(self: &Rc<Self>) {
        for side in 0..2 {
            let mut state = self.sides[side].borrow_mut();
            let arriving = self.core.rng.index(state.wire.len() + 1);
            state.wire.truncate(arriving);
            state.broken = true;
            drop(state);
            let delay = self.transit(1 - side, 0);
            self.reset_later(side, delay, "connection reset");
        }
    }

    fn error(&self, side: &Side) -> Option<NetError> {
        match &side.health {
            Health::Open => None,
            Health::Closed => Some(NetError::Lost("closed on this side".to_owned())),
            Health::Lost(reason) => Some(NetError::Lost(reason.clone())),
        }
    }

    fn poll_read(
        self: &Rc<Self>,
        reader: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Bytes, NetError>> {
        let mut side = self.sides[reader].borrow_mut();
        if let Some(piece) = side.received.pop_front() {
            let piece = self.merge(piece, &mut side.received);
            drop(side);
            self.acknowledge(1 - reader, piece.len());
            return Poll::Ready(Ok(piece));
        }
        if let Some(error) = self.error(&side) {
            return Poll::Ready(Err(error));
        }
        if side.ended {
            return Poll::Ready(Ok(Bytes::new()));
        }
        side.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn merge(&self, first: Bytes, rest: &mut VecDeque<Bytes>) -> Bytes {
        if rest.is_empty() || !self.core.rng.chance(self.core.options.net.merge) {
            return first;
        }
        let mut merged = BytesMut::from(&first[..]);
        while let Some(next) = rest.front()
            && merged.len() + next.len() <= MERGED_BYTES_MAX
        {
            merged.extend_from_slice(next);
            rest.pop_front();
        }
        merged.freeze()
    }

    /// The peer has read `bytes` of what `sender` wrote.
    fn acknowledge(self: &Rc<Self>, sender: usize, bytes: usize) {
        let blocked = self.blocked(1 - sender);
        let mut side = self.sides[sender].borrow_mut();
        if blocked {
            side.unacknowledged += bytes;
            return;
        }
        side.occupied -= bytes;
        if let Some(writer) = side.writer.take() {
            drop(side);
            let delay = self.transit(1 - sender, 0);
            self.core
                .call(delay, self.hosts[sender].index, move || writer.wake());
        }
    }

    fn poll_write(
        self: &Rc<Self>,
        writer: usize,
        parts: &mut VecDeque<Bytes>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), NetError>> {
        let mut room = {
            let mut side = self.sides[writer].borrow_mut();
            if let Some(error) = self.error(&side) {
                return Poll::Ready(Err(error));
            }
            let room = self.core.options.net.window_bytes - side.occupied;
            if room == 0 && !parts.is_empty() {
                side.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            room
        };
        let fits: usize = parts.iter().map(Bytes::len).sum::<usize>().min(room);
        let mut delay = self.transit(writer, fits);
        let cut = self.cut(fits);
        let mut sent = 0;
        while room > 0
            && let Some(part) = parts.front_mut()
        {
            let piece = part.split_to(part.len().min(room).min(PIECE_BYTES_MAX));
            if part.is_empty() {
                parts.pop_front();
            }
            room -= piece.len();
            let end = sent + piece.len();
            if sent < cut && cut < end {
                self.send_piece(writer, piece.slice(..cut - sent), delay);
                delay += self.transit(writer, 0);
                self.send_piece(writer, piece.slice(cut - sent..), delay);
            } else {
                self.send_piece(writer, piece, delay);
            }
            sent = end;
        }
        if self.core.rng.chance(self.core.options.net.reset) {
            self.break_both();
        }
        if parts.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.sides[writer].borrow_mut().writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Where a write of `bytes` is cut in two; 0 for nowhere.
    fn cut(&self, bytes: usize) -> usize {
        if bytes > 1 && self.core.rng.chance(self.core.options.net.split) {
            1 + self.core.rng.index(bytes - 1)
        } else {
            0
        }
    }

    fn send_piece(self: &Rc<Self>, writer: usize, mut piece: Bytes, delay: u64) {
        if piece.is_empty() {
            return;
        }
        if self.core.rng.chance(self.core.options.net.corrupt) {
            self.core.count(|counters| counters.corruptions += 1);
            piece = flip_one_bit(&self.core.rng, &piece);
        }
        self.core
            .mark(Mark::Send, self.detail(writer), fingerprint(&piece));
        self.sides[writer].borrow_mut().occupied += piece.len();
        self.send(writer, Parcel::Data(piece), delay);
    }
}

/// The `Stream` of one side. Dropping it closes the connection.
pub(crate) struct Endpoint {
    connection: Rc<Connection>,
    side: usize,
}

impl Endpoint {
    pub(crate) fn new(connection: Rc<Connection>, side: usize) -> Self {
        Self { connection, side }
    }
}

impl Stream for Endpoint {
    fn read(&self) -> LocalBoxFuture<'static, Result<Bytes, NetError>> {
        let (connection, side) = (self.connection.clone(), self.side);
        Box::pin(std::future::poll_fn(move |context| {
            connection.poll_read(side, context)
        }))
    }

    fn write(&self, parts: Vec<Bytes>) -> LocalBoxFuture<'static, Result<(), NetError>> {
        let (connection, side) = (self.connection.clone(), self.side);
        let mut parts: VecDeque<Bytes> = parts.into();
        parts.retain(|part| !part.is_empty());
        Box::pin(std::future::poll_fn(move |context| {
            connection.poll_write(side, &mut parts, context)
        }))
    }

    fn close(&self) {
        self.connection.close(self.side);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.connection.close(self.side);
    }
}
