//! The volume's replicated write-ahead log, seen from its owner.
//!
//! Records get positions in the order of [`Log::append`], go to every replica of the open segment, and
//! are committed, in order, when all replicas have written them. Each committed record is handed to the
//! [`Sink`] before its writer hears of it.
//!
//! Invariants
//! - Nothing is sent to a segment's replicas before they promised the epoch, and nothing is committed in
//!   it before the catalog knows it.
//! - `flushed <= committed < next`; none of them goes back.
//! - A closed segment ends at the committed position of the moment it was closed; what was sent and not
//!   committed is sent again to the next segment under the same positions.
//! - Once a store answers with a newer epoch the log is lost for good and nothing more is acknowledged.
//!
//! Read next: `append.rs`, `flush.rs`, `rotate.rs`, `trouble.rs`, `describe.rs`.

mod append;
mod describe;
mod flush;
mod rotate;
mod trouble;

use crate::change::Change;
use crate::options::Options;
use catalog::{Catalog, LogNote, SegmentReplica, SegmentRow};
use describe::Described;
pub(crate) use describe::put_note;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use trouble::Trouble;
use vocab::{Epoch, IdMap, Position, SegmentId, StoreId, VolumeId};
use wire::Stores;
use world::sync::{Lock, Notify, Outcome, Promise, promise};
use world::{LocalBoxFuture, Time, World};

/// Why the log takes no more records. Final for this owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A newer owner exists.
    #[error("this owner of {epoch} was fenced by a newer one")]
    Fenced {
        /// This owner's term.
        epoch: Epoch,
    },
    /// The owner let go of the volume.
    #[error("the volume was closed")]
    Closed,
}

/// Takes committed records, in order.
pub trait Sink {
    /// The record at `position` is committed.
    fn committed(&self, position: Position, change: Change);

    /// Makes durable what committed references up to `through` point to.
    fn flush_references(&self, through: Position) -> LocalBoxFuture<'static, Result<(), String>>;

    /// A replica's journal is full: draining what is in it makes room.
    fn on_full_journal(&self);

    /// The log is lost: nothing of the volume will be drained here any more.
    fn on_lost(&self);
}

/// Where log replicas may lie.
pub trait Placement {
    /// Stores for a segment, best first, healthy ones only, each in a failure domain of its own.
    fn log_stores(&self, volume: VolumeId, segment: SegmentId) -> Vec<StoreId>;

    /// Whether another node runs this store and holds its lease: what the store holds is then not gone, whether or not
    /// it can be reached from here.
    fn lives_elsewhere(&self, store: StoreId) -> bool;
}

/// Copies a container asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Wanted.
    pub wanted: u8,
    /// Below this writes stop.
    pub least: u8,
}

/// A replica of the open segment.
struct Replica {
    store: StoreId,
    incarnation: vocab::Incarnation,
    written: Position,
    flushed: Position,
    /// When the last call was sent that this replica answered without a newer promise.
    confirmed_at: Time,
    /// Why it should be replaced.
    trouble: Option<Trouble>,
    /// Its journal is full: late, but not lost.
    stalled: bool,
}

impl Replica {
    fn report(&self) -> (StoreId, Position, Position, Option<String>) {
        let stalled = || self.stalled.then(|| "its journal is full".to_owned());
        let trouble = self.trouble.as_ref().map(ToString::to_string);
        let trouble = trouble.or_else(stalled);
        (self.store, self.written, self.flushed, trouble)
    }
}

/// The segment that takes records.
struct OpenSegment {
    id: SegmentId,
    start: Position,
    wanted: u8,
    replicas: Vec<Replica>,
    /// Checksum of the last record sent: the chain.
    last_crc: u32,
}

/// A closed segment whose records are not all in the map yet.
struct ClosedSegment {
    id: SegmentId,
    start: Position,
    end: Position,
    wanted: u8,
    replicas: Vec<(SegmentReplica, bool)>,
}

/// A record that is not committed yet.
struct Pending {
    position: Position,
    change: Change,
    durable: bool,
    promise: Promise<Result<(), LogError>>,
}

/// A batch on its way.
struct Flight {
    last: Position,
    sent_at: Time,
    bytes: usize,
}

struct State {
    open: OpenSegment,
    closed: Vec<ClosedSegment>,
    next: Position,
    sent: Position,
    committed: Position,
    flushed: Position,
    pending: VecDeque<Pending>,
    flights: VecDeque<Flight>,
    inflight_bytes: usize,
    /// No record may be sent or committed: the segment is being closed.
    closing: bool,
    /// Fewer replicas than wanted, since.
    narrow_since: Option<Time>,
    lost: Option<LogError>,
    /// Stores that failed us, and until when they are passed over.
    shunned: IdMap<StoreId, Time>,
    want_flush: Position,
    /// Up to where replicas were asked to call what they have flushed.
    flush_asked: Position,
    /// Durable writes that are committed and wait for a flush.
    late: VecDeque<(Position, Promise<Result<(), LogError>>)>,
    /// Highest committed record that refers to extents, which a flush of the log alone does not cover.
    last_reference: Position,
    /// Highest one that was sent.
    sent_reference: Position,
    last_append: Time,
    /// Longest time writes waited for a segment change, for status and benchmarks.
    stall: world::Duration,
}

/// What a log reports of itself.
#[derive(Clone, Debug)]
pub struct LogStatus {
    /// Highest committed position.
    pub committed: Position,
    /// Highest flushed position.
    pub flushed: Position,
    /// Up to where replicas may call what they have flushed: they were asked to, and what is referred to is durable.
    pub flush_asked: Position,
    /// The open segment.
    pub segment: SegmentId,
    /// Stores of the open segment.
    pub replicas: Vec<StoreId>,
    /// Closed segments not yet drained.
    pub closed_segments: usize,
    /// Longest time that a segment change took.
    pub stall: world::Duration,
    /// Set while writes wait for stores: why.
    pub waiting: Option<String>,
    /// Records that are not committed yet.
    pub pending: usize,
    /// Bytes on their way to the replicas.
    pub inflight_bytes: usize,
    /// Last position sent to the replicas.
    pub sent: Position,
    /// Whether the segment is being closed.
    pub closing: bool,
    /// How far each replica is: store, written, flushed, and what is wrong with it.
    pub progress: Vec<(StoreId, Position, Position, Option<String>)>,
}

/// The log. Its tasks run until it is closed or lost.
pub struct Log {
    world: World,
    stores: Rc<dyn Stores>,
    catalog: Catalog,
    placement: Rc<dyn Placement>,
    volume: VolumeId,
    epoch: Epoch,
    copies: Cell<Copies>,
    options: Rc<Options>,
    sink: RefCell<Option<Rc<dyn Sink>>>,
    state: RefCell<State>,
    waiting: RefCell<Option<String>>,
    /// Something to send, flush or repair.
    work: Notify,
    /// Positions moved, or the log was lost.
    progress: Notify,
    /// A replica may be written to again, or never will be.
    pardon: Notify,
    confirming: Lock,
    /// What the stores are told of the log.
    described: RefCell<Described>,
}

/// What recovery hands to a new log: one registered segment that holds everything undrained, flushed.
pub struct Start {
    /// The segment.
    pub segment: SegmentRow,
    /// Highest position in it; committed and flushed.
    pub last: Position,
    /// Checksum of its last record, 0 when it is empty.
    pub last_crc: u32,
    /// When its replicas were last known to have promised nothing higher.
    pub confirmed_at: Time,
    /// What recovery has noted of it.
    pub note: LogNote,
}

/// What a log is made of.
pub struct Parts {
    /// The machine.
    pub world: World,
    /// The stores.
    pub stores: Rc<dyn Stores>,
    /// The catalog.
    pub catalog: Catalog,
    /// Where replicas may lie.
    pub placement: Rc<dyn Placement>,
    /// Tunables.
    pub options: Rc<Options>,
}

impl Log {
    /// A log that goes on after `start`. Call [`Log::run`] next.
    pub fn new(
        parts: Parts,
        volume: VolumeId,
        epoch: Epoch,
        copies: Copies,
        start: Start,
    ) -> Rc<Self> {
        let now = parts.world.now();
        let narrow = start.segment.replicas.len() < usize::from(copies.wanted);
        let replica = |replica: &SegmentReplica| Replica {
            store: replica.store,
            incarnation: replica.incarnation,
            written: start.last,
            flushed: start.last,
            confirmed_at: start.confirmed_at,
            trouble: None,
            stalled: false,
        };
        let open = OpenSegment {
            id: start.segment.id,
            start: start.segment.start,
            wanted: start.segment.wanted,
            replicas: start.segment.replicas.iter().map(replica).collect(),
            last_crc: start.last_crc,
        };
        let state = State {
            open,
            closed: Vec::new(),
            next: start.last.next(),
            sent: start.last,
            committed: start.last,
            flushed: start.last,
            pending: VecDeque::new(),
            flights: VecDeque::new(),
            inflight_bytes: 0,
            closing: false,
            narrow_since: narrow.then_some(now),
            lost: None,
            shunned: IdMap::default(),
            want_flush: Position::ZERO,
            flush_asked: start.last,
            late: VecDeque::new(),
            last_reference: Position::ZERO,
            sent_reference: Position::ZERO,
            last_append: now,
            stall: world::Duration::ZERO,
        };
        Rc::new(Self {
            world: parts.world,
            stores: parts.stores,
            catalog: parts.catalog,
            placement: parts.placement,
            volume,
            epoch,
            copies: Cell::new(copies),
            options: parts.options,
            sink: RefCell::new(None),
            state: RefCell::new(state),
            waiting: RefCell::new(None),
            work: Notify::default(),
            progress: Notify::default(),
            pardon: Notify::default(),
            confirming: Lock::default(),
            described: RefCell::new(Described::of(start.note)),
        })
    }

    /// Starts the tasks that send, flush and repair; committed records go to `sink`.
    pub fn run(self: &Rc<Self>, sink: Rc<dyn Sink>) {
        *self.sink.borrow_mut() = Some(sink);
        self.world.spawn(self.clone().send_forever());
        self.world.spawn(self.clone().flush_forever());
        self.world.spawn(self.clone().repair_forever());
    }

    /// Gives `change` the next position and sends it. The outcome is `Ok` once it is committed (and, with
    /// `durable`, flushed); `None` when the node stops.
    ///
    /// # Errors
    /// In the outcome: [`LogError`]; the record may or may not survive.
    pub fn append(
        &self,
        change: Change,
        durable: bool,
    ) -> (Position, Outcome<Result<(), LogError>>) {
        let (promise, outcome) = promise();
        let mut state = self.state.borrow_mut();
        let position = state.next;
        if let Some(lost) = state.lost.clone() {
            promise.fulfil(Err(lost));
            return (position, outcome);
        }
        state.next = position.next();
        state.last_append = self.world.now();
        state.pending.push_back(Pending {
            position,
            change,
            durable,
            promise,
        });
        drop(state);
        self.work.notify_all();
        (position, outcome)
    }

    /// Highest committed position.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.state.borrow().committed
    }

    /// Highest flushed position.
    #[must_use]
    pub fn flushed(&self) -> Position {
        self.state.borrow().flushed
    }

    /// When the last record was appended.
    #[must_use]
    pub fn last_append(&self) -> Time {
        self.state.borrow().last_append
    }

    /// Why the log is lost, if it is.
    #[must_use]
    pub fn lost(&self) -> Option<LogError> {
        self.state.borrow().lost.clone()
    }

    /// Whether closed segments wait for the drain.
    #[must_use]
    pub fn has_closed_segments(&self) -> bool {
        !self.state.borrow().closed.is_empty() || self.described.borrow().left_empty
    }

    /// Whether a replica's journal is full. What is appended now makes it harder to empty: the checkpoint that lets go of
    /// records comes behind it.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let state = self.state.borrow();
        state.open.replicas.iter().any(|replica| replica.stalled)
    }

    /// Resolves when positions move after this call, or the log is lost.
    pub(crate) fn moved(&self) -> world::sync::Notified {
        self.progress.notified()
    }

    /// New policy from the container.
    pub fn set_copies(&self, copies: Copies) {
        self.copies.set(copies);
    }

    /// A report for status pages.
    #[must_use]
    pub fn status(&self) -> LogStatus {
        let state = self.state.borrow();
        LogStatus {
            committed: state.committed,
            flushed: state.flushed,
            flush_asked: state.flush_asked.max(state.flushed),
            segment: state.open.id,
            replicas: state
                .open
                .replicas
                .iter()
                .map(|replica| replica.store)
                .collect(),
            closed_segments: state.closed.len() + usize::from(self.described.borrow().left_empty),
            stall: state.stall,
            waiting: self.waiting.borrow().clone(),
            pending: state.pending.len(),
            inflight_bytes: state.inflight_bytes,
            sent: state.sent,
            closing: state.closing,
            progress: state.open.replicas.iter().map(Replica::report).collect(),
        }
    }

    /// Ends the log: waiting writers get [`LogError::Closed`], tasks stop. What they wrote may survive.
    pub fn close(&self) {
        self.lose(LogError::Closed);
    }

    /// Ends the log for good; the first reason stays.
    fn lose(&self, error: LogError) {
        let (pending, late) = {
            let mut state = self.state.borrow_mut();
            if state.lost.is_some() {
                return;
            }
            state.lost = Some(error.clone());
            (
                std::mem::take(&mut state.pending),
                std::mem::take(&mut state.late),
            )
        };
        for record in pending {
            record.promise.fulfil(Err(error.clone()));
        }
        for (_, promise) in late {
            promise.fulfil(Err(error.clone()));
        }
        self.work.notify_all();
        self.progress.notify_all();
        self.pardon.notify_all();
        let sink = self.sink.borrow().clone();
        if let Some(sink) = sink {
            sink.on_lost();
        }
    }

    pub(crate) fn fenced(&self) {
        self.lose(LogError::Fenced { epoch: self.epoch });
    }

    fn is_lost(&self) -> bool {
        self.state.borrow().lost.is_some()
    }
}
