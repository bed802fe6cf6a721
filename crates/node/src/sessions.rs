//! Sessions of clients with volumes served here, named by connection and handle.
//!
//! Invariants
//! - Of one client and volume at most one session serves. An older one is ended first, and the newer one
//!   starts only when the older one's last request is done, so a request that a client repeats cannot
//!   land after what the client did next.
//! - A session older than seen is refused, and so is one whose attachment generation is not that of a client that is
//!   attached: readers of one volume are let in and sent away one by one.
//! - Of a client that is attached and writes, no process older than the newest that was ever let in comes in again, whoever owns the
//!   volume by then: the row names it before it is let in.
//! - A request of a remote client that has begun is finished, also when its connection ends. One of a local
//!   gateway may be dropped: what it has put into the log keeps its place, what it has not is never done.
//!
//! Read next: `sessions/doors.rs`.

mod doors;
pub(crate) mod slow;

use crate::host::Host;
use crate::meter::{Asked, Meter};
use crate::options::bug;
use blockdev::{BlockDevice, BlockError, WriteMode};
use bytes::Bytes;
use catalog::{Attachment, AttachmentMode};
use doors::{Admitted, Known};
use slow::Clocks;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use vocab::{AttachmentGeneration, BLOCK_SIZE, Epoch, Lba, VolumeId};
use volume::{Device, Volume};
use wire::{NodeError, NodeReply, NodeRequest, SessionNumber, VolumeInfo};
use world::blame::blamed;
use world::sync::Notify;
use world::{Caller, Duration, Limits, Time};

/// How long the requests of an older session are waited for.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// Clients whose newest session is remembered; far more than can be attached to one node.
const COUNTERS_MAX: usize = 65_536;
/// Largest read or write of one request, in blocks: 16 MiB.
const BLOCKS_MAX: u32 = 4096;

/// What a request is answered with.
pub(crate) type Reply = Result<(NodeReply, Vec<Bytes>), NodeError>;

/// Names a session: connection and handle.
pub(crate) type Key = (u64, u64);

/// When a client was heard last.
type Heard = Rc<Cell<Time>>;

struct Session {
    key: Key,
    wanted: Wanted,
    volume: Rc<Volume>,
    device: Device,
    read_only: bool,
    /// Why it serves no more.
    ended: RefCell<Option<NodeError>>,
    clocks: Clocks,
    idle: Notify,
    /// When its client asked for something last; shared with the other sessions of the same attachment.
    heard: Heard,
    /// Counts its requests; the volume's.
    meter: Rc<Meter>,
}

/// The newest session asked for by a client of a volume.
struct Newest {
    /// Orders the sessions of one generation.
    order: (AttachmentGeneration, SessionNumber),
    ticket: u64,
    /// Those of the certificate that it was let in with.
    limits: Option<Arc<Limits>>,
}

/// All sessions of the node.
#[derive(Default)]
pub(crate) struct Sessions {
    sessions: RefCell<BTreeMap<Key, Rc<Session>>>,
    newest: RefCell<BTreeMap<(VolumeId, u64), Newest>>,
    /// Attachment generations that have been enforced here: a row read before is out of date.
    floors: RefCell<BTreeMap<VolumeId, AttachmentGeneration>>,
    /// Attachments of volumes served here, for when the catalog is away.
    known: RefCell<BTreeMap<VolumeId, Known>>,
    /// When the client of each attachment was heard last; outlives its sessions, so that one that reconnects is told from
    /// one that is silent.
    heard: RefCell<BTreeMap<(VolumeId, AttachmentGeneration), Heard>>,
    /// Volumes that let no session in for now.
    closed: Rc<RefCell<BTreeSet<VolumeId>>>,
    tickets: Cell<u64>,
    /// Connections that open a session now, how many of them, and whether the connection has ended meanwhile.
    opening: Rc<RefCell<BTreeMap<u64, (u32, bool)>>>,
}

/// A session that is being opened: its connection may end before it is.
struct Opening {
    opening: Rc<RefCell<BTreeMap<u64, (u32, bool)>>>,
    connection: u64,
}

impl Opening {
    fn is_over(&self) -> bool {
        let opening = self.opening.borrow();
        opening.get(&self.connection).is_none_or(|(_, over)| *over)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = self.opening.borrow_mut();
        if let Some((count, _)) = opening.get_mut(&self.connection) {
            *count -= 1;
            if *count == 0 {
                opening.remove(&self.connection);
            }
        }
    }
}

/// Keeps sessions out of a volume until it is dropped.
pub(crate) struct Closed {
    closed: Rc<RefCell<BTreeSet<VolumeId>>>,
    volume: VolumeId,
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.closed.borrow_mut().remove(&self.volume);
    }
}

/// A request of a session while it runs.
struct Running(Rc<Session>, u64);

impl Running {
    fn begin(session: &Rc<Session>, now: Time, what: &'static str) -> Result<Self, NodeError> {
        if let Some(reason) = &*session.ended.borrow() {
            return Err(reason.clone());
        }
        let number = session.clocks.begin(now, what);
        Ok(Self(session.clone(), number))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.clocks.end(self.1);
        if self.0.clocks.is_empty() {
            self.0.idle.notify_all();
        }
    }
}

impl Session {
    fn end(&self, reason: &NodeError) {
        self.ended
            .borrow_mut()
            .get_or_insert_with(|| reason.clone());
    }

    fn is_over(&self) -> bool {
        self.ended.borrow().is_some() && self.clocks.is_empty()
    }

    async fn finished(&self) {
        loop {
            let idle = self.idle.notified();
            if self.clocks.is_empty() {
                return;
            }
            idle.await;
        }
    }

    fn info(&self) -> VolumeInfo {
        VolumeInfo {
            volume: self.volume.id(),
            size: self.device.size(),
            read_only: self.read_only,
            attachment: self.wanted.attachment,
        }
    }

    fn error(&self, error: BlockError) -> NodeError {
        if self.volume.lost().is_some() {
            return NodeError::NotOwner;
        }
        let reason = error.to_string();
        match error {
            BlockError::OutOfRange { .. } | BlockError::ReadOnly => {
                NodeError::BadRequest { reason }
            }
            BlockError::NoSpace(_) => NodeError::NoSpace { reason },
            BlockError::Gone(_) => NodeError::NotOwner,
            BlockError::Failed(_) => NodeError::Busy { reason },
        }
    }

    fn check_writable(&self) -> Result<(), NodeError> {
        if self.read_only {
            let reason = "the session is read-only".to_owned();
            return Err(NodeError::BadRequest { reason });
        }
        Ok(())
    }

    async fn serve(self: Rc<Self>, now: Time, request: NodeRequest, body: Bytes) -> Reply {
        let running = Running::begin(&self, now, request.name())?;
        let changes = matches!(
            request,
            NodeRequest::Write { .. } | NodeRequest::Unmap { .. }
        );
        if changes {
            self.check_writable()?;
        }
        let done = match request {
            NodeRequest::Read { lba, blocks, .. } if blocks <= BLOCKS_MAX => {
                let pieces = self.device.read(lba, blocks).await;
                pieces.map(|pieces| (NodeReply::Done, pieces))
            }
            NodeRequest::Write { lba, fua, .. } if is_whole(&body) => {
                let mode = if fua {
                    WriteMode::Fua
                } else {
                    WriteMode::Buffered
                };
                let written = self.device.write(lba, vec![body], mode).await;
                written.map(|()| (NodeReply::Done, Vec::new()))
            }
            NodeRequest::Flush { .. } => {
                let flushed = self.device.flush().await;
                flushed.map(|()| (NodeReply::Done, Vec::new()))
            }
            NodeRequest::Unmap { lba, blocks, .. } => {
                let unmapped = self.device.unmap(lba, blocks).await;
                unmapped.map(|()| (NodeReply::Done, Vec::new()))
            }
            NodeRequest::Allocation { lba, blocks, .. } => {
                let runs = self.device.allocation(lba, blocks).await;
                let plain = |runs: Vec<blockdev::Allocation>| {
                    let runs = runs.into_iter().map(|run| (run.blocks, run.mapped));
                    (
                        NodeReply::Allocation {
                            runs: runs.collect(),
                        },
                        Vec::new(),
                    )
                };
                runs.map(plain)
            }
            _ => {
                let reason = "a read or write is 1 to 4096 whole blocks of 4096 bytes".to_owned();
                return Err(NodeError::BadRequest { reason });
            }
        };
        let done = done.map_err(|error| self.error(error));
        drop(running);
        done
    }
}

fn is_whole(body: &Bytes) -> bool {
    let blocks = body.len() / BLOCK_SIZE;
    body.len().is_multiple_of(BLOCK_SIZE) && (1..=BLOCKS_MAX as usize).contains(&blocks)
}

/// What a client asks for with `Open`.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) volume: String,
    pub(crate) client: u64,
    pub(crate) session: SessionNumber,
    pub(crate) attachment: AttachmentGeneration,
    pub(crate) read_only: bool,
    /// Those of the certificate that it was asked with, if it was.
    pub(crate) limits: Option<Arc<Limits>>,
}

fn superseded() -> NodeError {
    let reason = "a newer session of the same client exists; if there is none, the client's clock went back: detach \
                  the volume and attach it again";
    NodeError::Detached {
        reason: reason.to_owned(),
    }
}

/// Whether the attachment lets a session in, and whether it may only read. Pure.
fn admit(name: &str, attachment: &Attachment, wanted: &Wanted) -> Result<bool, NodeError> {
    let refuse = |reason: String| Err(NodeError::Detached { reason });
    if wanted.attachment.0 == 0 {
        if attachment.clients.is_empty() {
            return Ok(wanted.read_only);
        }
        let clients = attachment.clients.join(", ");
        return refuse(format!(
            "volume {name} is attached to {clients}; detach it there first"
        ));
    }
    if attachment.newest_process(wanted.attachment) > Some(wanted.session.process()) {
        return Err(superseded());
    }
    if attachment.admits(wanted.attachment) {
        return Ok(wanted.read_only || attachment.mode != AttachmentMode::ReadWrite);
    }
    refuse(format!(
        "volume {name} was detached or given to another client ({} is no longer current, {} is)",
        wanted.attachment, attachment.generation
    ))
}

impl Sessions {
    /// Ends the sessions that `ends` picks; their running requests are finished.
    fn end_where(&self, reason: &NodeError, ends: impl Fn(&Session) -> bool) {
        let mut sessions = self.sessions.borrow_mut();
        sessions
            .values()
            .filter(|session| ends(session))
            .for_each(|session| session.end(reason));
        sessions.retain(|_, session| !session.is_over());
    }

    /// Ends all sessions of a volume.
    pub(crate) fn end_volume(&self, id: VolumeId, reason: &NodeError) {
        self.end_where(reason, |session| session.volume.id() == id);
        self.newest.borrow_mut().retain(|key, _| key.0 != id);
        self.heard.borrow_mut().retain(|key, _| key.0 != id);
        self.floors.borrow_mut().remove(&id);
        self.known.borrow_mut().remove(&id);
    }

    fn floor(&self, id: VolumeId) -> AttachmentGeneration {
        self.floors.borrow().get(&id).copied().unwrap_or_default()
    }

    /// Ends the sessions of a volume that the attachment no longer lets in, and waits for their requests.
    pub(crate) async fn enforce(
        &self,
        id: VolumeId,
        epoch: Epoch,
        name: &str,
        attachment: &Attachment,
    ) {
        self.floors.borrow_mut().insert(id, attachment.generation);
        self.remember(id, epoch, attachment);
        let stays =
            |key: &(VolumeId, AttachmentGeneration)| key.0 != id || attachment.admits(key.1);
        self.heard.borrow_mut().retain(|key, _| stays(key));
        let admitted = |session: &Session| {
            admit(name, attachment, &session.wanted).is_ok_and(|only| only == session.read_only)
        };
        let reason = NodeError::Detached {
            reason: format!("volume {name} was attached or detached"),
        };
        let ends = |session: &Session| session.volume.id() == id && !admitted(session);
        let ended: Vec<Rc<Session>> = {
            let sessions = self.sessions.borrow();
            sessions
                .values()
                .filter(|session| ends(session))
                .cloned()
                .collect()
        };
        self.end_where(&reason, ends);
        for session in ended {
            session.finished().await;
        }
    }

    /// Lets no new session of a volume in until the result is dropped.
    pub(crate) fn close_volume(&self, volume: VolumeId) -> Closed {
        self.closed.borrow_mut().insert(volume);
        let closed = self.closed.clone();
        Closed { closed, volume }
    }

    /// Ends the sessions of a connection.
    pub(crate) fn end_connection(&self, connection: u64) {
        if let Some((_, over)) = self.opening.borrow_mut().get_mut(&connection) {
            *over = true;
        }
        self.end_where(&NodeError::NotOwner, |session| session.key.0 == connection);
    }

    /// Notes that a connection opens a session; before the first await, so that its end cannot be missed.
    fn begin_opening(&self, connection: u64) -> Opening {
        let opening = self.opening.clone();
        opening.borrow_mut().entry(connection).or_default().0 += 1;
        Opening {
            opening,
            connection,
        }
    }

    /// Ends everything: the node stops.
    pub(crate) fn end_all(&self) {
        self.end_where(&NodeError::NotOwner, |_| true);
    }

    /// Sessions of a volume.
    pub(crate) fn count(&self, id: VolumeId) -> u64 {
        let sessions = self.sessions.borrow();
        let live =
            |session: &&Rc<Session>| session.volume.id() == id && session.ended.borrow().is_none();
        sessions.values().filter(live).count() as u64
    }

    /// Live sessions that one attachment of a volume let in, and when its client asked this node for something last.
    pub(crate) fn heard(
        &self,
        id: VolumeId,
        attachment: AttachmentGeneration,
    ) -> (u64, Option<Time>) {
        let sessions = self.sessions.borrow();
        let live = |session: &&Rc<Session>| {
            let same = session.volume.id() == id && session.wanted.attachment == attachment;
            same && session.ended.borrow().is_none()
        };
        let live = sessions.values().filter(live).count() as u64;
        let heard = self.heard.borrow();
        (live, heard.get(&(id, attachment)).map(|heard| heard.get()))
    }

    /// What notes when the client of an attachment is heard.
    fn listen(&self, id: VolumeId, attachment: AttachmentGeneration, now: Time) -> Heard {
        let mut heard = self.heard.borrow_mut();
        let heard = heard
            .entry((id, attachment))
            .or_insert_with(|| Rc::new(Cell::new(now)));
        heard.set(now);
        heard.clone()
    }

    fn get(&self, key: Key) -> Result<Rc<Session>, NodeError> {
        // A handle this node does not know: the client finds the volume again.
        self.sessions
            .borrow()
            .get(&key)
            .cloned()
            .ok_or(NodeError::NotOwner)
    }

    fn next_ticket(&self) -> u64 {
        self.tickets.set(self.tickets.get() + 1);
        self.tickets.get()
    }

    /// Notes that a client wants a session; refuses one that is older than another it asked for.
    fn note_newest(&self, id: VolumeId, wanted: &Wanted) -> Result<u64, NodeError> {
        let mut newest = self.newest.borrow_mut();
        let key = (id, wanted.client);
        let order = (wanted.attachment, wanted.session);
        if newest.get(&key).is_some_and(|known| known.order > order) {
            return Err(superseded());
        }
        if newest.len() >= COUNTERS_MAX {
            newest.pop_first();
        }
        let ticket = self.next_ticket();
        let limits = wanted.limits.clone();
        newest.insert(
            key,
            Newest {
                order,
                ticket,
                limits,
            },
        );
        Ok(ticket)
    }

    /// Ends the client's older sessions and waits until none of their requests runs.
    async fn end_older(&self, host: &Host, id: VolumeId, client: u64) -> Result<(), NodeError> {
        let older =
            |session: &Session| session.volume.id() == id && session.wanted.client == client;
        let sessions: Vec<Rc<Session>> = {
            let sessions = self.sessions.borrow();
            sessions
                .values()
                .filter(|session| older(session))
                .cloned()
                .collect()
        };
        if bug!(host.options.faults, KeepOlder) {
            return Ok(());
        }
        let reason = NodeError::Detached {
            reason: "a newer session of the same client exists".to_owned(),
        };
        self.end_where(&reason, older);
        for session in sessions {
            if host
                .world
                .timeout(DRAIN_PATIENCE, session.finished())
                .await
                .is_err()
            {
                let reason = "requests of the client's older session are not finished".to_owned();
                return Err(NodeError::Busy { reason });
            }
        }
        self.sessions
            .borrow_mut()
            .retain(|_, session| !session.is_over());
        Ok(())
    }

    fn is_newest(&self, id: VolumeId, client: u64, ticket: u64) -> bool {
        let newest = self.newest.borrow();
        newest
            .get(&(id, client))
            .is_some_and(|newest| newest.ticket == ticket)
    }
}

impl Host {
    /// Starts a session on a volume served here.
    async fn open_session(self: &Rc<Self>, connection: u64, wanted: Wanted) -> Reply {
        let opening = self.sessions.begin_opening(connection);
        let admitted = self.admitted(&wanted).await?;
        let Admitted {
            volume, read_only, ..
        } = admitted;
        let id = volume.id();
        let ticket = self.sessions.note_newest(id, &wanted)?;
        self.sessions.end_older(self, id, wanted.client).await?;
        if volume.lost().is_some() {
            return Err(NodeError::NotOwner);
        }
        if !self.sessions.is_newest(id, wanted.client, ticket) {
            let reason = "a newer session of the same client exists".to_owned();
            return Err(NodeError::Detached { reason });
        }
        let closed = self.sessions.closed.borrow().contains(&id);
        if closed || self.sessions.floor(id) > admitted.generation {
            let reason = "the volume is being attached, detached or restored".to_owned();
            return Err(NodeError::Busy { reason });
        }
        if opening.is_over() {
            // Nobody would ever end it.
            return Err(NodeError::NotOwner);
        }
        let key = (connection, self.sessions.next_ticket());
        let now = self.world.now();
        let heard = self.sessions.listen(id, wanted.attachment, now);
        let session = Rc::new(Session {
            key,
            device: volume.device(),
            meter: self.meter_of(id),
            volume,
            read_only,
            wanted,
            ended: RefCell::new(None),
            clocks: Clocks::default(),
            idle: Notify::default(),
            heard,
        });
        let info = session.info();
        self.sessions.sessions.borrow_mut().insert(key, session);
        Ok((
            NodeReply::Opened {
                handle: key.1,
                info,
            },
            Vec::new(),
        ))
    }

    /// Answers a request that concerns a session. `caller`: who asks, if that is somebody with a certificate.
    pub(crate) async fn session_request(
        self: &Rc<Self>,
        connection: u64,
        caller: Option<&Caller>,
        request: NodeRequest,
        body: Bytes,
    ) -> Reply {
        let handle = match request {
            NodeRequest::Open {
                volume,
                client,
                session,
                attachment,
                read_only,
            } => {
                let wanted = Wanted {
                    volume,
                    client,
                    session,
                    attachment,
                    read_only,
                    limits: caller.map(|caller| caller.limits.clone()),
                };
                return self.open_session(connection, wanted).await;
            }
            NodeRequest::Refresh { handle } => {
                let session = self.sessions.get((connection, handle))?;
                session.heard.set(self.world.now());
                drop(Running::begin(&session, self.world.now(), "refresh")?);
                let info = session.info();
                return Ok((NodeReply::Opened { handle, info }, Vec::new()));
            }
            NodeRequest::Close { handle } => {
                let key = (connection, handle);
                self.sessions
                    .end_where(&NodeError::NotOwner, |session| session.key == key);
                return Ok((NodeReply::Done, Vec::new()));
            }
            NodeRequest::Read { handle, .. }
            | NodeRequest::Write { handle, .. }
            | NodeRequest::Flush { handle }
            | NodeRequest::Unmap { handle, .. }
            | NodeRequest::Allocation { handle, .. } => handle,
            NodeRequest::Locate { .. } | NodeRequest::Operate { .. } => {
                let reason = "not a request of a session".to_owned();
                return Err(NodeError::BadRequest { reason });
            }
        };
        let session = self.sessions.get((connection, handle))?;
        let began = self.world.now();
        session.heard.set(began);
        let (asked, meter) = (Asked::of(&request, body.len()), session.meter.clone());
        let volume = session.volume.id().0;
        let reply = blamed(volume, session.serve(began, request, body)).await;
        let took = self.world.now().since(began);
        self.upkeep.latency.note(took);
        meter.note(asked, took, reply.as_ref().err());
        reply
    }

    /// A write of a local session, whose data may come in pieces.
    pub(crate) async fn session_write(
        &self,
        key: Key,
        lba: Lba,
        data: Vec<Bytes>,
        mode: WriteMode,
    ) -> Result<(), NodeError> {
        let session = self.sessions.get(key)?;
        let began = self.world.now();
        session.heard.set(began);
        let running = Running::begin(&session, began, "write")?;
        session.check_writable()?;
        let bytes = data.iter().map(Bytes::len).sum::<usize>() as u64;
        let writing = session.device.write(lba, data, mode);
        let written = blamed(session.volume.id().0, writing).await;
        let written = written.map_err(|error| session.error(error));
        let took = self.world.now().since(began);
        self.upkeep.latency.note(took);
        let error = written.as_ref().err();
        session.meter.note(Asked::Write(bytes), took, error);
        drop(running);
        written
    }
}
