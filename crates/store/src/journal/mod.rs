//! The journal: a ring of pages, written in batches by group commit.
//!
//! In memory: entries that wait for a batch, batches in flight, waiters. On disk: the ring.
//!
//! Invariants
//! - Tickets are handed out in order; a ticket is written only when it and all before it are on the device.
//! - A flush covers what was written before the device flush was issued; concurrent ones share it.
//! - After a failed write or flush nothing is acknowledged any more, ever.
//! - The ring is never overwritten at or after `tail`.
//!
//! It does not know what entries mean; `state.rs` does. Read next: `batch.rs`, `replay.rs`.

pub mod batch;
pub mod replay;

use crate::header::Area;
use crate::options::{Faults, bug};
use batch::{DATA_PAGES_MAX, Entry, HEADER_PAGES_MAX, header_pages};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use vocab::Incarnation;
use world::blame::on_behalf;
use world::sync::{Promise, promise};
use world::{Disk, PAGE, World};

/// Device writes in flight at a time: hides the latency of one behind the next.
const WRITES_MAX: usize = 4;

/// Where the data of an entry lies now; told in ticket order when its batch is formed.
pub trait Placed {
    /// The entry's data lies at this absolute page and byte; `None` when it has no data.
    fn on_placed(&self, entry: &Entry, place: Option<(u64, u32)>);
}

struct Pending {
    ticket: u64,
    entry: Entry,
}

/// A batch on its way to the device.
struct Flight {
    batch: u64,
    last_ticket: u64,
    done: bool,
}

type Waiter = (u64, Promise<()>);

struct Inner {
    world: World,
    disk: Rc<dyn Disk>,
    area: Area,
    session: u64,
    incarnation: Cell<Incarnation>,
    faults: Faults,
    placed: RefCell<Option<std::rc::Weak<dyn Placed>>>,
    pending: RefCell<VecDeque<Pending>>,
    /// Ring pages that pending entries will take at most.
    pending_pages: Cell<u64>,
    flights: RefCell<VecDeque<Flight>>,
    next_ticket: Cell<u64>,
    formed_ticket: Cell<u64>,
    next_batch: Cell<u64>,
    head: Cell<u64>,
    tail: Cell<u64>,
    written: Cell<u64>,
    written_batch: Cell<u64>,
    flushed: Cell<u64>,
    flushed_batch: Cell<u64>,
    flushing: Cell<bool>,
    write_waiters: RefCell<VecDeque<Waiter>>,
    flush_waiters: RefCell<Vec<Waiter>>,
    failed: RefCell<Option<String>>,
    bytes_written: Cell<u64>,
    flushes: Cell<u64>,
    /// Number and page of the first batch of this run, for checks.
    #[cfg(feature = "bugs")]
    began: (u64, u64),
}

/// The journal of one store. Cheap to clone.
#[derive(Clone)]
pub struct Journal(Rc<Inner>);

/// Where a journal goes on.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Run of the store.
    pub session: u64,
    /// The store's life.
    pub incarnation: Incarnation,
    /// Sequence number of the next batch.
    pub next_batch: u64,
    /// Its page.
    pub head: u64,
    /// Oldest page still needed.
    pub tail: u64,
}

impl Journal {
    /// A journal on `area` of `disk` that goes on at `start`.
    pub fn new(world: World, disk: Rc<dyn Disk>, area: Area, start: Start, faults: Faults) -> Self {
        assert!(start.tail <= start.head && start.next_batch > 0);
        let flushed_batch = Cell::new(start.next_batch - 1);
        Self(Rc::new(Inner {
            world,
            disk,
            area,
            session: start.session,
            incarnation: Cell::new(start.incarnation),
            faults,
            placed: RefCell::default(),
            pending: RefCell::default(),
            pending_pages: Cell::new(0),
            flights: RefCell::default(),
            next_ticket: Cell::new(1),
            formed_ticket: Cell::new(0),
            next_batch: Cell::new(start.next_batch),
            head: Cell::new(start.head),
            tail: Cell::new(start.tail),
            written: Cell::new(0),
            written_batch: Cell::new(start.next_batch - 1),
            flushed: Cell::new(0),
            flushed_batch,
            flushing: Cell::new(false),
            write_waiters: RefCell::default(),
            flush_waiters: RefCell::default(),
            failed: RefCell::default(),
            bytes_written: Cell::new(0),
            flushes: Cell::new(0),
            #[cfg(feature = "bugs")]
            began: (start.next_batch, start.head),
        }))
    }

    /// Who is told where entries went.
    pub fn on_placed(&self, placed: std::rc::Weak<dyn Placed>) {
        *self.0.placed.borrow_mut() = Some(placed);
    }

    /// Pages of the ring.
    pub fn pages(&self) -> u64 {
        self.0.area.bytes / PAGE as u64
    }

    /// Pages between the oldest needed one and the end, pending entries included.
    pub fn used_pages(&self) -> u64 {
        self.0.head.get() - self.0.tail.get() + self.0.pending_pages.get()
    }

    /// Pages between the oldest needed one and the end of what is in batches.
    pub fn held_pages(&self) -> u64 {
        self.0.head.get() - self.0.tail.get()
    }

    /// (sequence number, page) of the next batch.
    pub fn next_batch(&self) -> (u64, u64) {
        (self.0.next_batch.get(), self.0.head.get())
    }

    /// (sequence number, page) of the first batch of this run.
    #[cfg(feature = "bugs")]
    pub fn began(&self) -> (u64, u64) {
        self.0.began
    }

    /// Last batch that is written, with all before it.
    #[cfg(feature = "bugs")]
    pub fn written_batch(&self) -> u64 {
        self.0.written_batch.get()
    }

    /// Oldest page that must not be overwritten.
    pub fn tail(&self) -> u64 {
        self.0.tail.get()
    }

    /// Pages before `page` may be overwritten: a durable state does not need them.
    pub fn advance_tail(&self, page: u64) {
        assert!(page <= self.0.head.get(), "the tail stays behind the head");
        self.0.tail.set(self.0.tail.get().max(page));
        self.pump();
    }

    /// Why the journal failed.
    pub fn failed(&self) -> Option<String> {
        self.0.failed.borrow().clone()
    }

    /// Bytes written and device flushes so far.
    pub fn written_bytes(&self) -> (u64, u64) {
        (self.0.bytes_written.get(), self.0.flushes.get())
    }

    /// Adds entries in order; returns the last one's ticket. They are on their way when this returns. The
    /// caller has checked [`Journal::used_pages`].
    pub fn push(&self, entries: impl IntoIterator<Item = Entry>) -> u64 {
        let mut ticket = self.0.next_ticket.get() - 1;
        let mut pages = 0;
        for entry in entries {
            ticket += 1;
            pages += entry_pages(&entry);
            self.0
                .pending
                .borrow_mut()
                .push_back(Pending { ticket, entry });
        }
        self.0.next_ticket.set(ticket + 1);
        self.0.pending_pages.set(self.0.pending_pages.get() + pages);
        self.pump();
        ticket
    }

    /// Ticket of the last entry pushed.
    pub fn last_ticket(&self) -> u64 {
        self.0.next_ticket.get() - 1
    }

    /// Last ticket that is in a batch.
    pub fn formed_ticket(&self) -> u64 {
        self.0.formed_ticket.get()
    }

    /// The store has another life from now on.
    pub fn set_incarnation(&self, incarnation: Incarnation) {
        self.0.incarnation.set(incarnation);
    }

    /// Last ticket known flushed.
    pub fn flushed(&self) -> u64 {
        self.0.flushed.get()
    }

    /// Resolves when `ticket` is written.
    ///
    /// # Errors
    /// Why the journal failed.
    pub async fn written(&self, ticket: u64) -> Result<(), String> {
        if bug!(self.0.faults, AckBeforeWrite) {
            return Ok(());
        }
        if let Some(reason) = self.failed() {
            return Err(reason);
        }
        if self.0.written.get() >= ticket {
            return Ok(());
        }
        let (promise, outcome) = promise();
        {
            let mut waiters = self.0.write_waiters.borrow_mut();
            let at = waiters.partition_point(|(waiting, _)| *waiting <= ticket);
            waiters.insert(at, (ticket, promise));
        }
        match outcome.await {
            Some(()) => Ok(()),
            None => Err(self
                .failed()
                .unwrap_or_else(|| "the store stops".to_owned())),
        }
    }

    /// Resolves when `ticket` survives a power loss.
    ///
    /// # Errors
    /// Why the journal failed.
    pub async fn durable(&self, ticket: u64) -> Result<(), String> {
        self.written(ticket).await?;
        // Between its write and this, another flush may have failed: nobody flushes any more.
        if let Some(reason) = self.failed() {
            return Err(reason);
        }
        if bug!(self.0.faults, SkipFlush) || self.0.flushed.get() >= ticket {
            return self.failed().map_or(Ok(()), Err);
        }
        let (promise, outcome) = promise();
        self.0.flush_waiters.borrow_mut().push((ticket, promise));
        self.start_flush();
        match outcome.await {
            Some(()) => Ok(()),
            None => Err(self
                .failed()
                .unwrap_or_else(|| "the store stops".to_owned())),
        }
    }

    fn start_flush(&self) {
        if self.0.flushing.replace(true) {
            return;
        }
        let journal = self.clone();
        // Of all volumes, whichever asked.
        on_behalf(None, || {
            let world = &self.0.world;
            world.spawn(async move { journal.flush_while_wanted().await });
        });
    }

    async fn flush_while_wanted(&self) {
        let inner = &self.0;
        while !inner.flush_waiters.borrow().is_empty() && inner.failed.borrow().is_none() {
            let (ticket, batch) = (inner.written.get(), inner.written_batch.get());
            inner.flushes.set(inner.flushes.get() + 1);
            if let Err(error) = inner.disk.flush().await
                && !bug!(inner.faults, IgnoreFlushError)
            {
                self.fail(error.to_string());
                break;
            }
            inner.flushed.set(inner.flushed.get().max(ticket));
            inner
                .flushed_batch
                .set(inner.flushed_batch.get().max(batch));
            let waiters = std::mem::take(&mut *inner.flush_waiters.borrow_mut());
            for (wanted, promise) in waiters {
                if wanted <= ticket {
                    promise.fulfil(());
                } else {
                    inner.flush_waiters.borrow_mut().push((wanted, promise));
                }
            }
        }
        inner.flushing.set(false);
    }

    /// Nothing is acknowledged from now on.
    pub fn fail(&self, reason: String) {
        self.0.failed.borrow_mut().get_or_insert(reason);
        // Dropped promises tell the waiters.
        self.0.write_waiters.borrow_mut().clear();
        self.0.flush_waiters.borrow_mut().clear();
        self.0.pending.borrow_mut().clear();
    }

    /// Forms batches while there is something to write and a free slot.
    fn pump(&self) {
        let inner = &self.0;
        while inner.flights.borrow().len() < WRITES_MAX && inner.failed.borrow().is_none() {
            let Some((entries, last_ticket)) = self.take_batch() else {
                return;
            };
            self.launch(entries, last_ticket);
        }
    }

    /// The entries of the next batch; `None` when there are none or the ring has no room.
    fn take_batch(&self) -> Option<(Vec<Entry>, u64)> {
        let inner = &self.0;
        let mut pending = inner.pending.borrow_mut();
        let (mut bytes, mut data_pages, mut count) = (0, 0, 0);
        for waiting in pending.iter() {
            let more_bytes = bytes + waiting.entry.entry_bytes();
            let more_pages = data_pages + waiting.entry.data_pages();
            if header_pages(more_bytes) > HEADER_PAGES_MAX || more_pages > DATA_PAGES_MAX {
                break;
            }
            // A smaller batch rather than none: behind the first entries may be those that make room.
            let pages = (header_pages(more_bytes) + more_pages) as u64;
            let end = place_batch(inner.head.get(), pages, self.pages()) + pages;
            if end > inner.tail.get() + self.pages() {
                break;
            }
            (bytes, data_pages, count) = (more_bytes, more_pages, count + 1);
        }
        if count == 0 {
            return None;
        }
        let pages = (header_pages(bytes) + data_pages) as u64;
        inner
            .head
            .set(place_batch(inner.head.get(), pages, self.pages()));
        let mut last_ticket = 0;
        let mut entries = Vec::with_capacity(count);
        for waiting in pending.drain(..count) {
            let pages = entry_pages(&waiting.entry);
            inner.pending_pages.set(inner.pending_pages.get() - pages);
            last_ticket = waiting.ticket;
            entries.push(waiting.entry);
        }
        Some((entries, last_ticket))
    }

    fn launch(&self, entries: Vec<Entry>, last_ticket: u64) {
        let inner = &self.0;
        let (at, batch) = (inner.head.get(), inner.next_batch.get());
        let flushed = inner.flushed_batch.get();
        let (bytes, places) = batch::encode(
            inner.session,
            inner.incarnation.get(),
            batch,
            at,
            flushed,
            &entries,
        );
        inner.head.set(at + (bytes.len() / PAGE) as u64);
        inner.next_batch.set(batch + 1);
        inner.formed_ticket.set(last_ticket);
        let placed = inner
            .placed
            .borrow()
            .as_ref()
            .and_then(std::rc::Weak::upgrade);
        if let Some(placed) = placed {
            for (entry, place) in entries.iter().zip(places) {
                placed.on_placed(entry, place.map(|(page, offset)| (at + page, offset)));
            }
        }
        inner
            .bytes_written
            .set(inner.bytes_written.get() + bytes.len() as u64);
        inner.flights.borrow_mut().push_back(Flight {
            batch,
            last_ticket,
            done: false,
        });
        let offset = inner.area.offset + at % self.pages() * PAGE as u64;
        let write = inner.disk.write(offset, bytes);
        let journal = self.clone();
        let written = async move {
            match write.await {
                Ok(()) => journal.on_written(batch),
                Err(error) => journal.fail(error.to_string()),
            }
        };
        on_behalf(None, || inner.world.spawn(written));
    }

    fn on_written(&self, batch: u64) {
        let inner = &self.0;
        {
            let mut flights = inner.flights.borrow_mut();
            flights
                .iter_mut()
                .filter(|flight| flight.batch == batch)
                .for_each(|flight| flight.done = true);
            while flights.front().is_some_and(|flight| flight.done) {
                let flight = flights.pop_front().expect("looked at");
                inner.written.set(flight.last_ticket);
                inner.written_batch.set(flight.batch);
            }
        }
        // The next batch starts before acknowledgements are sent: the device is the scarcer resource.
        self.pump();
        loop {
            let ready = {
                let mut waiters = inner.write_waiters.borrow_mut();
                let due = waiters
                    .front()
                    .is_some_and(|(ticket, _)| *ticket <= inner.written.get());
                if due { waiters.pop_front() } else { None }
            };
            match ready {
                Some((_, promise)) if inner.failed.borrow().is_none() => promise.fulfil(()),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Resolves when everything pushed so far is in batches that are written.
    ///
    /// # Errors
    /// Why the journal failed.
    pub async fn settle(&self) -> Result<(), String> {
        self.written(self.last_ticket()).await
    }
}

/// Bound of the ring pages one entry takes: its data, its share of a header, rounded up.
fn entry_pages(entry: &Entry) -> u64 {
    (entry.data_pages() + header_pages(entry.entry_bytes())) as u64
}

/// Page at which a batch of `pages` starts when the ring goes on at `head`: it must not cross the end.
pub fn place_batch(head: u64, pages: u64, ring: u64) -> u64 {
    let left = ring - head % ring;
    if pages > left { head + left } else { head }
}
