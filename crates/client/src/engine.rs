//! Requests and sessions: what is issued where, what is sent again, what fails.
//!
//! A request is an [`Op`] in `pending` from its admission until its caller has the answer or drops it. With a
//! session it is handed to the session's peer at once; without, it waits. One driver task makes sessions; when it
//! has one, it hands over everything pending in the order of issue.
//!
//! Invariants
//! - `pending` is ordered by issue; ids are never used twice.
//! - Once a request was sent again, its answer on the older session is never looked at.
//! - `gone` is final.

use crate::ClientOptions;
use crate::find::{Finder, Setback};
use crate::ranges::Ranges;
use blockdev::BlockError;
use bytes::Bytes;
use futures_util::future::{Either, select};
use rpc::{Call, Peer, Reply, Request, RpcError};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use vocab::Lba;
use wire::{NodeError, NodeReply, NodeRequest, SessionNumber, VolumeInfo};
use world::sync::Notify;
use world::{Duration, Time, World};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The owner is told about the end of a session, but not waited for longer than this.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A request without its session.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Read { lba: Lba, blocks: u32 },
    Write { lba: Lba, fua: bool },
    Flush,
    Unmap { lba: Lba, blocks: u64 },
    Allocation { lba: Lba, blocks: u64 },
    Refresh,
}

impl Command {
    fn request(&self, handle: u64) -> Request {
        Request::Node(match *self {
            Self::Read { lba, blocks } => NodeRequest::Read {
                handle,
                lba,
                blocks,
            },
            Self::Write { lba, fua } => NodeRequest::Write { handle, lba, fua },
            Self::Flush => NodeRequest::Flush { handle },
            Self::Unmap { lba, blocks } => NodeRequest::Unmap {
                handle,
                lba,
                blocks,
            },
            Self::Allocation { lba, blocks } => NodeRequest::Allocation {
                handle,
                lba,
                blocks,
            },
            Self::Refresh => NodeRequest::Refresh { handle },
        })
    }
}

/// A session on the owner. It lives and dies with its connection.
pub(crate) struct Session {
    pub(crate) number: SessionNumber,
    pub(crate) peer: Peer,
    pub(crate) handle: u64,
}

struct Op {
    command: Command,
    body: Vec<Bytes>,
    admitted_at: Time,
    slot: RefCell<Slot>,
}

#[derive(Default)]
struct Slot {
    /// The call under way and the number of its session.
    call: Option<(SessionNumber, Call)>,
    verdict: Option<BlockError>,
    waker: Option<Waker>,
}

impl Op {
    fn issue(&self, session: &Session) {
        let request = self.command.request(session.handle);
        let call = session.peer.call(request, self.body.clone());
        self.slot.borrow_mut().call = Some((session.number, call));
        self.wake();
    }

    fn fail(&self, error: BlockError) {
        self.slot.borrow_mut().verdict = Some(error);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.slot.borrow_mut().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct State {
    session: Option<Session>,
    up_since: Time,
    info: VolumeInfo,
    pending: BTreeMap<u64, Rc<Op>>,
    last_id: u64,
    down_since: Time,
    /// Why requests cannot go on at the moment.
    trouble: String,
    /// Sessions and attempts in a row that answered no request.
    failures: u32,
    /// Whether the last session ended because its node is the owner no more, as it said itself.
    moved: bool,
    gone: Option<String>,
}

/// See the module's documentation.
pub(crate) struct Engine {
    pub(crate) world: World,
    pub(crate) options: ClientOptions,
    pub(crate) writes: Ranges,
    state: RefCell<State>,
    /// The session ended, something was admitted without one, or the device is gone.
    changed: Notify,
    /// Something is owed while `watched` says that nobody looks.
    pub(crate) owes: Notify,
    pub(crate) watched: Cell<bool>,
}

impl Engine {
    /// An engine with its first session; `finder` made it and makes the next ones.
    pub(crate) fn start(
        world: World,
        options: ClientOptions,
        mut finder: Finder,
        session: Session,
        info: VolumeInfo,
    ) -> Rc<Self> {
        let engine = Rc::new(Self {
            writes: Ranges::default(),
            state: RefCell::new(State {
                session: Some(session),
                up_since: world.now(),
                info,
                pending: BTreeMap::new(),
                last_id: 0,
                down_since: world.now(),
                trouble: String::new(),
                failures: 0,
                moved: false,
                gone: None,
            }),
            changed: Notify::default(),
            owes: Notify::default(),
            watched: Cell::new(false),
            world,
            options,
        });
        let driven = engine.clone();
        engine
            .world
            .spawn(async move { driven.drive(&mut finder).await });
        engine
    }

    pub(crate) fn info(&self) -> VolumeInfo {
        self.state.borrow().info.clone()
    }

    pub(crate) fn set_info(&self, info: VolumeInfo) {
        self.state.borrow_mut().info = info;
    }

    /// Takes a request in: its place in the order is now. It is withdrawn when the returned value is dropped.
    pub(crate) fn admit(
        self: &Rc<Self>,
        command: Command,
        body: Vec<Bytes>,
    ) -> Result<Running, BlockError> {
        let mut state = self.state.borrow_mut();
        if let Some(reason) = &state.gone {
            return Err(BlockError::Gone(reason.clone()));
        }
        let op = Rc::new(Op {
            command,
            body,
            admitted_at: self.world.now(),
            slot: RefCell::default(),
        });
        state.last_id += 1;
        let id = state.last_id;
        state.pending.insert(id, op.clone());
        match &state.session {
            Some(session) => op.issue(session),
            None => self.changed.notify_all(),
        }
        // Once for many requests: who looks goes on looking while anything is owed.
        if !self.watched.replace(true) {
            self.owes.notify_all();
        }
        Ok(Running {
            engine: self.clone(),
            id,
            op,
        })
    }

    /// The session, and since when the oldest request has waited on it; `None` when nothing is owed.
    pub(crate) fn oldest_owed(&self) -> Option<((SessionNumber, Peer), Time)> {
        let state = self.state.borrow();
        let (session, oldest) = (state.session.as_ref()?, state.pending.values().next()?);
        let since = oldest.admitted_at.max(state.up_since);
        Some(((session.number, session.peer.clone()), since))
    }

    /// Session `number` cannot be used any more.
    pub(crate) fn on_session_failed(&self, number: SessionNumber, reason: String) {
        let mut state = self.state.borrow_mut();
        if state
            .session
            .as_ref()
            .is_some_and(|one| one.number == number)
        {
            let session = state.session.take().expect("just seen");
            let owner = session.peer.address();
            tracing::info!(volume = %self.options.volume, %owner, reason, "the session with the owner is over; another one is made");
            state.down_since = self.world.now();
            state.trouble = reason;
            state.failures = state.failures.saturating_add(1);
            drop(state);
            // The next session must not start while this one still delivers.
            session.peer.close();
            self.changed.notify_all();
        }
    }

    /// The node of session `number` says that it is not the owner any more.
    fn on_moved(&self, number: SessionNumber, reason: String) {
        let mut state = self.state.borrow_mut();
        let session = state.session.as_ref();
        state.moved |= session.is_some_and(|one| one.number == number);
        drop(state);
        self.on_session_failed(number, reason);
    }

    /// Nothing works any more, for this reason: pending requests and all later ones fail.
    pub(crate) fn set_gone(&self, reason: &str) {
        let (session, pending) = {
            let mut state = self.state.borrow_mut();
            state.gone.get_or_insert_with(|| reason.to_owned());
            (state.session.take(), std::mem::take(&mut state.pending))
        };
        for op in pending.values() {
            op.fail(BlockError::Gone(reason.to_owned()));
        }
        if let Some(session) = session {
            session.peer.close();
        }
        self.changed.notify_all();
    }

    /// Tells the owner that the session is over, and ends everything.
    pub(crate) async fn close(&self) {
        let farewell = {
            let state = self.state.borrow();
            state.session.as_ref().map(|session| {
                let handle = session.handle;
                let request = Request::Node(NodeRequest::Close { handle });
                (session.peer.clone(), session.peer.call(request, Vec::new()))
            })
        };
        // From here on nothing is admitted; the clone of the peer is closed last.
        let (session, pending) = {
            let mut state = self.state.borrow_mut();
            state.gone.get_or_insert_with(|| "closed".to_owned());
            (state.session.take(), std::mem::take(&mut state.pending))
        };
        for op in pending.values() {
            op.fail(BlockError::Gone("closed".to_owned()));
        }
        self.changed.notify_all();
        drop(session);
        if let Some((peer, call)) = farewell {
            // Whether it arrived makes no difference: the connection's end ends the session too.
            let _: Result<_, world::TimedOut> = self.world.timeout(CLOSE_TIMEOUT, call).await;
            peer.close();
        }
    }

    async fn drive(self: Rc<Self>, finder: &mut Finder) {
        loop {
            let changed = self.changed.notified();
            let (gone, up) = {
                let state = self.state.borrow();
                (state.gone.is_some(), state.session.is_some())
            };
            if gone {
                return;
            }
            if up && self.options.doubt_after == Duration::MAX {
                changed.await;
                continue;
            }
            if up {
                select(changed, pin!(self.watch(finder))).await;
                continue;
            }
            let connected = {
                let connect = pin!(self.connect(finder));
                let expire = pin!(self.expire());
                match select(connect, expire).await {
                    Either::Left((connected, _)) => connected,
                    Either::Right(((), _)) => return,
                }
            };
            match connected {
                Ok((session, info)) => self.install(session, info),
                Err(reason) => self.set_gone(&reason),
            }
        }
    }

    /// Tries until there is a session, or a final refusal.
    async fn connect(&self, finder: &mut Finder) -> Result<(Session, VolumeInfo), String> {
        loop {
            // The loss of the session itself was counted; the first attempt is made at once.
            let failures = self.state.borrow().failures.saturating_sub(1);
            let moved = std::mem::take(&mut self.state.borrow_mut().moved);
            // Who never doubts an owner asks it last in any case: runs with a planted bug keep the histories that find it.
            if moved && self.options.doubt_after != Duration::MAX {
                finder.ask_last_owner_first();
            }
            if let Some(pause) = backoff(&self.world, failures) {
                self.world.sleep(pause).await;
            }
            match finder.attempt(failures).await {
                Ok(found) => return Ok(found),
                Err(Setback::NoVolume) => {
                    return Err(format!("volume {} was deleted", self.options.volume));
                }
                Err(Setback::Detached(reason)) => return Err(reason),
                Err(Setback::Refused(reason) | Setback::Later(reason)) => {
                    let mut state = self.state.borrow_mut();
                    state.trouble = reason;
                    state.failures = state.failures.saturating_add(1);
                }
            }
        }
    }

    fn install(&self, session: Session, info: VolumeInfo) {
        let mut state = self.state.borrow_mut();
        if state.gone.is_some() {
            drop(state);
            session.peer.close();
            return;
        }
        assert!(state.session.is_none(), "only the driver makes sessions");
        state.info = info;
        for op in state.pending.values() {
            op.issue(&session);
        }
        state.session = Some(session);
        state.up_since = self.world.now();
    }

    /// Fails requests whose patience is at an end; resolves when the device is gone.
    async fn expire(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state.borrow().gone.is_some() {
                return;
            }
            match self.fail_expired() {
                Some(next) => {
                    select(self.world.clock.sleep_until(next), changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Returns when the next one is due.
    fn fail_expired(&self) -> Option<Time> {
        let mut state = self.state.borrow_mut();
        let (now, down_since) = (self.world.now(), state.down_since);
        let due = |op: &Op| op.admitted_at.max(down_since) + self.options.patience;
        let expired: Vec<u64> = state
            .pending
            .iter()
            .filter_map(|(id, op)| (due(op) <= now).then_some(*id))
            .collect();
        for id in expired {
            let op = state.pending.remove(&id).expect("just seen");
            op.fail(BlockError::Failed(format!(
                "no owner of volume {} was reached within {:?}: {}",
                self.options.volume, self.options.patience, state.trouble
            )));
        }
        let next = state.pending.values().map(|op| due(op)).min();
        next.filter(|next| *next < Time(u64::MAX))
    }
}

/// Pause before the next attempt after so many failures in a row.
pub(crate) fn backoff(world: &World, failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(1)?;
    let pause = (BACKOFF_MIN * (1 << doublings.min(5))).min(BACKOFF_MAX);
    let jitter = u32::try_from(512 + world.rng.next_u64() % 512).expect("below 1024");
    Some(pause * jitter / 1024)
}

/// A request under way.
pub(crate) struct Running {
    engine: Rc<Engine>,
    id: u64,
    op: Rc<Op>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.state.borrow_mut().pending.remove(&self.id);
    }
}

enum Judgement {
    Final(Result<(NodeReply, Bytes), BlockError>),
    Gone(String),
    /// The session is of no use; the request is sent again on the next one.
    Again(String),
    /// As above, and the node knows that it is not the owner.
    Moved(String),
}

fn judge(answer: Result<(Reply, Bytes), RpcError>) -> Judgement {
    let reply = match answer {
        Ok((reply, body)) => match reply {
            Reply::Node(Ok(reply)) => return Judgement::Final(Ok((reply, body))),
            Reply::Node(Err(error)) => error,
            Reply::Refused(reason) => {
                return Judgement::Final(Err(BlockError::Failed(reason)));
            }
            Reply::Store(_) | Reply::Pong => {
                let reason = "the owner gave an answer of another kind".to_owned();
                return Judgement::Final(Err(BlockError::Failed(reason)));
            }
        },
        Err(error @ RpcError::TooLarge { .. }) => {
            return Judgement::Final(Err(BlockError::Failed(error.to_string())));
        }
        Err(error) => return Judgement::Again(error.to_string()),
    };
    match reply {
        NodeError::NotOwner => Judgement::Moved(reply.to_string()),
        NodeError::Busy { .. } => Judgement::Again(reply.to_string()),
        NodeError::Detached { .. } | NodeError::NoVolume { .. } => {
            Judgement::Gone(reply.to_string())
        }
        NodeError::BadRequest { .. } => {
            Judgement::Final(Err(BlockError::Failed(reply.to_string())))
        }
        NodeError::NoSpace { reason } => Judgement::Final(Err(BlockError::NoSpace(reason))),
        NodeError::Failed { reason } => Judgement::Final(Err(BlockError::Failed(reason))),
    }
}

impl Future for Running {
    type Output = Result<(NodeReply, Bytes), BlockError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.op.slot.borrow_mut();
        if let Some(error) = slot.verdict.take() {
            return Poll::Ready(Err(error));
        }
        let answer = slot.call.as_mut().map_or(Poll::Pending, |(number, call)| {
            let number = *number;
            Pin::new(call).poll(context).map(|answer| (number, answer))
        });
        let Poll::Ready((number, answer)) = answer else {
            // The driver may replace the call, or give a verdict.
            slot.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        slot.call = None;
        match judge(answer) {
            Judgement::Final(result) => {
                self.engine.state.borrow_mut().failures = 0;
                Poll::Ready(result)
            }
            Judgement::Gone(reason) => {
                drop(slot);
                self.engine.set_gone(&reason);
                Poll::Ready(Err(BlockError::Gone(reason)))
            }
            Judgement::Again(reason) => {
                slot.waker = Some(context.waker().clone());
                drop(slot);
                self.engine.on_session_failed(number, reason);
                Poll::Pending
            }
            Judgement::Moved(reason) => {
                slot.waker = Some(context.waker().clone());
                drop(slot);
                self.engine.on_moved(number, reason);
                Poll::Pending
            }
        }
    }
}
