//! The store as others see it: requests in, replies out.
//!
//! Requests that change something take effect, in memory, in the order [`Store::handle`]'s futures are first
//! polled; their answers wait for the journal.

use crate::counted::{DiskFigures, DiskLatencies, Figures};
use crate::extents::{HeaderCache, Put};
use crate::format::Identity;
use crate::gather::Gathering;
use crate::header::Header;
use crate::journal::batch::Entry;
use crate::journal::{Journal, Placed};
use crate::logs::Target;
use crate::options::Options;
use crate::space::Space;
use crate::state::{Place, Run, State};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use vocab::{ByteCount, ExtentId, GroupId, Incarnation, StoreId};
use wire::{StoreError, StoreReply, StoreRequest, StoreStatus, Trust};
use world::sync::{Lock, Notify};
use world::{Disk, LocalBoxFuture, World};

/// Result of a request: the reply and its body.
pub type Answer = Result<(StoreReply, Vec<Bytes>), StoreError>;

/// Writes done and flushed on one disk.
#[derive(Default)]
pub(crate) struct DiskProgress {
    pub written: Cell<u64>,
    pub flushed: Cell<u64>,
}

pub(crate) struct Inner {
    pub world: World,
    pub disks: Vec<Rc<dyn Disk>>,
    /// What was asked of each of them.
    pub figures: Vec<Figures>,
    pub headers: Vec<Header>,
    pub options: Options,
    /// Run of the store; answers to puts carry it.
    pub session: u64,
    pub sessions: RefCell<Vec<u64>>,
    /// Journal batch at which the newest session was drawn.
    pub session_batch: Cell<u64>,
    pub mark_counter: Cell<u64>,
    pub state: RefCell<State>,
    pub journal: Journal,
    pub space: RefCell<Space>,
    /// Space that may be reused once the ticket is flushed, in ticket order.
    pub freed: RefCell<VecDeque<(u64, Run)>>,
    /// Extents whose copy here failed its checksum or could not be read: the next put of any form replaces it.
    pub bad: RefCell<BTreeSet<ExtentId>>,
    /// Bad ones of which the disk did not give a part.
    pub unreadable: RefCell<BTreeSet<ExtentId>>,
    /// Reads that failed one after the other.
    pub unread: Cell<u32>,
    pub progress: Vec<DiskProgress>,
    pub cache: RefCell<HeaderCache>,
    pub checkpoint: Cell<u64>,
    /// The one this run began with; older ones are not to be believed.
    pub first_checkpoint: Cell<u64>,
    pub checkpoint_lock: Lock,
    /// Page of the journal at the last checkpoint.
    pub checkpoint_page: Cell<u64>,
    /// Bytes of the last encoded state, and by how much it may have grown since.
    pub state_bytes: Cell<u64>,
    pub state_growth: Cell<u64>,
    pub keeps: Cell<u64>,
    pub upkeep: Notify,
    /// Whether the last notes were refused for want of room.
    pub notes_refused: Cell<bool>,
    /// Notified when notes were taken.
    pub noted: Notify,
    /// The ring's tail moved on.
    pub room: Notify,
    pub gathering: Gathering,
    pub checkpoint_forced: Cell<bool>,
    pub closed: Cell<bool>,
    pub extent_bytes_written: Cell<u64>,
    pub data_flushes: Cell<u64>,
}

/// A store, open. Cheap to clone.
#[derive(Clone)]
pub struct Store(pub(crate) Rc<Inner>);

impl Placed for Inner {
    fn on_placed(&self, entry: &Entry, place: Option<(u64, u32)>) {
        let (Entry::Record(record) | Entry::Moved(record)) = entry else {
            return;
        };
        let Some((page, offset)) = place else { return };
        let mut state = self.state.borrow_mut();
        let log = state.logs.get_mut(&record.head.volume);
        let segment = log.and_then(|log| log.segments.get_mut(&record.head.segment));
        let slot = segment.and_then(|segment| segment.slot_mut(record.head.position));
        // A slot that is gone was trimmed meanwhile; one with another checksum belongs to a newer segment.
        if let Some(slot) = slot
            && slot.head.crc == record.head.crc
        {
            slot.place = Place::At { page, offset };
        }
    }
}

impl Store {
    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let header = &self.0.headers[0];
        Identity {
            cluster: header.cluster.clone(),
            store: header.store,
            incarnation: self.incarnation(),
            disks: header.disks.clone(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.0.headers[0].store
    }

    /// Its life.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.0.state.borrow().incarnation
    }

    /// The runs of this store that its disks remember, newest (this one) first. If the catalog was told one
    /// that is not among them, the disks were rolled back: see [`Store::renew_incarnation`].
    #[must_use]
    pub fn sessions(&self) -> Vec<u64> {
        self.0.sessions.borrow().clone()
    }

    pub(crate) fn check_alive(&self) -> Result<(), StoreError> {
        let failed = |reason| Err(StoreError::Failed { reason });
        if let Some(reason) = self.0.journal.failed() {
            return failed(reason);
        }
        if self.0.closed.get() {
            failed("the store stops".to_owned())
        } else {
            Ok(())
        }
    }

    /// Marks the store as failed: nothing is answered any more.
    pub(crate) fn fail(&self, reason: &dyn std::fmt::Display) -> StoreError {
        self.0.journal.fail(reason.to_string());
        StoreError::Failed {
            reason: reason.to_string(),
        }
    }

    /// Figures.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        let inner = &self.0;
        let state = inner.state.borrow();
        let mut segments = state.logs.values().flat_map(|log| log.segments.values());
        let trust = if segments.any(|segment| segment.suspect) {
            Trust::Suspect
        } else {
            Trust::Trusted
        };
        let (journal_bytes, journal_flushes) = inner.journal.written_bytes();
        let page = world::PAGE as u64;
        StoreStatus {
            store: self.id(),
            incarnation: state.incarnation,
            trust,
            capacity: ByteCount(inner.space.borrow().granules() * crate::GRANULE_BYTES),
            used: ByteCount(self.used_bytes()),
            journal_capacity: ByteCount(inner.journal.pages() * page),
            journal_used: ByteCount(inner.journal.held_pages() * page),
            full: self.is_full(),
            extents: state.extents.len() as u64,
            written: ByteCount(journal_bytes + inner.extent_bytes_written.get()),
            flushes: journal_flushes + inner.data_flushes.get(),
            failed: inner.journal.failed(),
        }
    }

    /// Whether extents of a group are there, deleted ones that it remembers included.
    #[must_use]
    pub fn knows_of(&self, group: GroupId) -> bool {
        self.0.state.borrow().knows_of(group)
    }

    /// What was asked of each of its disks since it was opened.
    #[must_use]
    pub fn disk_figures(&self) -> Vec<DiskFigures> {
        self.0.figures.iter().map(|figures| figures.get()).collect()
    }

    /// How long that took, by disk.
    #[must_use]
    pub fn disk_latencies(&self) -> Vec<DiskLatencies> {
        let figures = self.0.figures.iter();
        figures.map(|figures| figures.latencies()).collect()
    }

    /// Carries out a request. Effects and their order are decided when the future is first polled.
    #[must_use]
    pub fn handle(
        &self,
        request: StoreRequest,
        body: Vec<Bytes>,
    ) -> LocalBoxFuture<'static, Answer> {
        let store = self.clone();
        let detached = matches!(
            request,
            StoreRequest::PutExtent { .. } | StoreRequest::CompactExtent { .. }
        );
        let work = async move {
            store.check_alive()?;
            store.dispatch(request, body).await
        };
        if !detached {
            return Box::pin(work);
        }
        // A caller that loses patience must not leave space that is neither used nor free.
        let (promise, outcome) = world::sync::promise();
        self.0
            .world
            .spawn(async move { promise.fulfil(work.await) });
        Box::pin(async move {
            let stopped = || StoreError::Failed {
                reason: "the store stops".to_owned(),
            };
            outcome.await.unwrap_or_else(|| Err(stopped()))
        })
    }

    async fn dispatch(&self, request: StoreRequest, body: Vec<Bytes>) -> Answer {
        use StoreRequest as R;
        match request {
            R::Status => Ok((StoreReply::Status(self.status()), Vec::new())),
            R::Fence { volume, epoch } => self.fence(volume, epoch).await,
            R::Append {
                volume,
                epoch,
                segment,
                incarnation,
                count,
                durable,
            } => {
                let target = Target {
                    volume,
                    epoch,
                    segment,
                    incarnation,
                };
                self.append(target, count, durable, body).await
            }
            R::FlushLog {
                volume,
                epoch,
                segment,
                incarnation,
                through,
            } => {
                let target = Target {
                    volume,
                    epoch,
                    segment,
                    incarnation,
                };
                self.flush_log(target, through).await
            }
            R::ReadLog {
                volume,
                epoch,
                segment,
                from,
                bytes_max,
            } => self.read_log(volume, epoch, segment, from, bytes_max).await,
            R::TrimLog {
                volume,
                epoch,
                through,
            } => done(self.trim_log(volume, epoch, through)),
            R::DropLog { volume, epoch } => done(self.drop_log(volume, epoch).await),
            R::Confirm { volumes } => Ok(self.confirm(&volumes)),
            R::ListLogs { after, limit } => Ok(self.list_logs(after, limit)),
            about_extents => self.dispatch_extents(about_extents, body).await,
        }
    }

    async fn dispatch_extents(&self, request: StoreRequest, body: Vec<Bytes>) -> Answer {
        use StoreRequest as R;
        match request {
            R::PromiseGroup { group, generation } => {
                done(self.promise_group(group, generation).await)
            }
            R::PutExtent {
                id,
                generation,
                form,
                durable,
                reserved,
                missing,
            } => {
                let put = Put {
                    id,
                    generation,
                    form,
                    durable,
                    reserved,
                    missing,
                };
                self.put_extent(put, body).await
            }
            R::FlushExtents => self.flush_extents().await,
            R::ReadFrames { reads } => self.read_frames(&reads).await,
            R::ReadExtent { id } | R::CopyExtent { id } => self.read_extent(id).await,
            R::DeleteExtents {
                group,
                generation,
                ids,
            } => done(self.delete_extents(group, generation, ids).await),
            R::CompactExtent {
                id,
                generation,
                form,
                live,
            } => done(self.compact_extent(id, generation, form, live).await),
            R::ListExtents {
                group,
                generation,
                after,
                limit,
                tombstones,
            } => self.list_extents(group, generation, after, limit, tombstones),
            R::GroupSizes { after } => Ok(self.group_sizes(after)),
            R::ClearMissing {
                group: _,
                store,
                ids,
            } => done(self.clear_missing(store, ids).await),
            R::ForgetTombstones { group: _, ids } => done(self.forget_tombstones(ids).await),
            R::LeaveGroup { group, generation } => done(self.leave_group(group, generation).await),
            R::PutNotes { notes } => done(self.put_notes(notes).await),
            R::ListNotes { after, limit } => Ok(self.list_notes(after, limit)),
            other => {
                let reason = format!("{other:?} is not about extents");
                Err(StoreError::BadRequest { reason })
            }
        }
    }

    /// Waits for the journal, with its failure as the store's.
    pub(crate) async fn written(&self, ticket: u64) -> Result<(), StoreError> {
        let written = self.0.journal.written(ticket).await;
        written.map_err(|reason| StoreError::Failed { reason })
    }

    /// As [`Store::written`], through a power loss.
    pub(crate) async fn durable(&self, ticket: u64) -> Result<(), StoreError> {
        let durable = self.0.journal.durable(ticket).await;
        durable.map_err(|reason| StoreError::Failed { reason })
    }
}

/// A reply without contents.
fn done(result: Result<(), StoreError>) -> Answer {
    result.map(|()| (StoreReply::Done, Vec::new()))
}
