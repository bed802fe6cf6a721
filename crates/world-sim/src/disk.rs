//! A simulated disk: operations in flight, what they do when they finish, and everything that goes wrong.
//!
//! Invariants
//! - An operation takes effect at one moment: when it finishes, or when a crash interrupts it.
//! - A finished write survives a process crash; it survives a power loss once a flush submitted after it
//!   finished has succeeded; before, each of its sectors may or may not.
//! - A flush that failed has given its data up: a later flush that succeeds does not save it.
//!
//! Read next: `image.rs` for what is stored, `disk/handle.rs` for the faults a scenario can order.

mod handle;
mod image;

pub use handle::{DiskCounters, DiskSnapshot, Rot, SimDisk};

use crate::completion::{Done, Waiting, completion};
use crate::engine::{Action, Core, Mark, fingerprint};
use crate::host::{HostState, Life};
use crate::options::DiskFaults;
use crate::rng::SimRng;
use bytes::Bytes;
use image::Image;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use world::{Buf, Disk, DiskError, LocalBoxFuture, PAGE};

enum Operation {
    Read(u64, usize, Done<Result<Bytes, DiskError>>),
    Write(u64, Bytes, Done<Result<(), DiskError>>),
    /// Holds the sequence of the last write that had finished when the flush was submitted.
    Flush(u64, Done<Result<(), DiskError>>),
}

/// Faults a scenario has ordered, as opposed to those the dice throw.
#[derive(Default)]
struct Orders {
    failed: Cell<bool>,
    hung: Cell<bool>,
    slow: Cell<u32>,
    lose_next_flush: Cell<bool>,
    ignore_flushes: Cell<bool>,
    /// Where the next write to the range lands.
    misdirect_next_write: RefCell<Option<(Range<u64>, u64)>>,
    lose_next_write: Cell<bool>,
    fail_next_write: Cell<bool>,
    /// Whether the next loss of power keeps all that no flush covers, or none of it; else the dice decide.
    keeps_at_power_loss: Cell<Option<bool>>,
    /// Pages that no read gets, until they are written.
    unreadable: RefCell<BTreeSet<u64>>,
}

pub(crate) struct DiskState {
    core: Rc<Core>,
    name: String,
    host_name: String,
    host: u32,
    bytes: u64,
    rng: SimRng,
    image: RefCell<Image>,
    flush_errors: Cell<u64>,
    in_flight: RefCell<BTreeMap<u64, Operation>>,
    /// Operations whose time came while the disk hung.
    held: RefCell<Vec<u64>>,
    next_operation: Cell<u64>,
    finished_writes: Cell<u64>,
    /// When each service slot is free again; empty when parallelism is unbounded.
    slots: RefCell<Vec<u64>>,
    faults: RefCell<DiskFaults>,
    orders: Orders,
    counters: RefCell<DiskCounters>,
}

impl DiskState {
    pub(crate) fn new(core: &Rc<Core>, host: &HostState, name: &str, bytes: u64) -> Rc<Self> {
        assert!(
            bytes > 0 && bytes.is_multiple_of(PAGE as u64),
            "disk {name}: {bytes} bytes is not a positive multiple of {PAGE}"
        );
        let full_name = format!("{}/{name}", host.name);
        let state = Self {
            core: core.clone(),
            rng: SimRng::named(core.seed, &full_name),
            name: name.to_owned(),
            host_name: host.name.clone(),
            host: host.index,
            bytes,
            image: RefCell::default(),
            flush_errors: Cell::default(),
            in_flight: RefCell::default(),
            held: RefCell::default(),
            next_operation: Cell::new(0),
            finished_writes: Cell::new(0),
            slots: RefCell::new(vec![0; core.options.disk.parallel]),
            faults: RefCell::new(core.options.disk_faults.clone()),
            orders: Orders::default(),
            counters: RefCell::default(),
        };
        state.orders.slow.set(1);
        Rc::new(state)
    }

    fn error(&self, operation: &'static str, offset: u64, reason: &str) -> DiskError {
        self.core.count(|counters| counters.disk_errors += 1);
        self.counters.borrow_mut().errors += 1;
        DiskError::Io {
            operation,
            offset,
            reason: format!("{reason} (disk {} of {})", self.name, self.host_name),
        }
    }

    /// Takes one of the disk's service slots; nanoseconds until it has served `bytes`.
    fn service_time(&self, operation: &Operation) -> u64 {
        let options = &self.core.options.disk;
        let (latency, bytes) = match operation {
            Operation::Read(_, len, _) => (&options.read, *len as u64),
            Operation::Write(_, data, _) => (&options.write, data.len() as u64),
            Operation::Flush(..) => (&options.flush, 0),
        };
        let transfer = u128::from(bytes) * 1_000_000_000 / u128::from(options.bytes_per_second);
        let service = latency.draw(&self.rng) + transfer as u64;
        let service = service.saturating_mul(u64::from(self.orders.slow.get()));
        let now = self.core.now();
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.iter_mut().min() else {
            return service;
        };
        *slot = (*slot).max(now).saturating_add(service);
        *slot - now
    }

    fn submit(self: &Rc<Self>, operation: Operation) {
        let id = self.next_operation.get();
        self.next_operation.set(id + 1);
        let (position, content) = match &operation {
            Operation::Read(offset, len, _) => (*offset, *len as u64),
            Operation::Write(offset, data, _) => (*offset, fingerprint(data)),
            Operation::Flush(sequence, _) => (u64::MAX, *sequence),
        };
        self.core.mark(Mark::DiskSubmit, position, content);
        let delay = self.service_time(&operation);
        self.in_flight.borrow_mut().insert(id, operation);
        self.core
            .push(delay, self.host, Action::Disk(self.clone(), id));
    }

    /// The time of an operation has come. Unknown ids were interrupted by a crash.
    pub(crate) fn finish(&self, id: u64) {
        if self.orders.hung.get() {
            self.held.borrow_mut().push(id);
            return;
        }
        let operation = self.in_flight.borrow_mut().remove(&id);
        let Some(operation) = operation else { return };
        self.core.mark(Mark::DiskDone, id, u64::from(self.host));
        match operation {
            Operation::Read(offset, len, done) => done.complete(self.finish_read(offset, len)),
            Operation::Write(offset, data, done) => {
                let result = self.finish_write(offset, &data, done.is_abandoned());
                done.complete(result);
            }
            Operation::Flush(sequence, done) => done.complete(self.finish_flush(sequence)),
        }
    }

    fn finish_read(&self, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        self.core.count(|counters| counters.disk_reads += 1);
        let faults = self.faults.borrow();
        if self.orders.failed.get() || self.rng.chance(faults.read_error) {
            return Err(self.error("read", offset, "simulated fault"));
        }
        let mut source = offset;
        if self.rng.chance(faults.misdirected_read) {
            self.core.count(|counters| counters.reads_misdirected += 1);
            source = self.elsewhere(len);
        }
        let first = source / PAGE as u64;
        let unreadable = self.orders.unreadable.borrow();
        if unreadable
            .range(first..first + (len / PAGE) as u64)
            .next()
            .is_some()
        {
            return Err(self.error("read", offset, "an unreadable sector"));
        }
        let mut counters = self.counters.borrow_mut();
        counters.reads += 1;
        counters.bytes_read += len as u64;
        let mut buffer = Buf::zeroed(len);
        self.image
            .borrow()
            .read(source / PAGE as u64, &mut buffer[..len]);
        Ok(buffer.freeze())
    }

    /// A random place for `len` bytes.
    fn elsewhere(&self, len: usize) -> u64 {
        let pages = (self.bytes - len as u64) / PAGE as u64 + 1;
        self.rng.below(pages) * PAGE as u64
    }

    fn next_sequence(&self) -> u64 {
        let sequence = self.finished_writes.get() + 1;
        self.finished_writes.set(sequence);
        sequence
    }

    fn finish_write(&self, offset: u64, data: &Bytes, abandoned: bool) -> Result<(), DiskError> {
        self.core.count(|counters| counters.disk_writes += 1);
        let faults = self.faults.borrow().clone();
        let ordered = self.orders.fail_next_write.replace(false);
        if self.orders.failed.get() {
            return Err(self.error("write", offset, "simulated failure of the disk"));
        }
        if ordered || self.rng.chance(faults.write_error) {
            self.write_partly(offset, data);
            return Err(self.error("write", offset, "simulated fault"));
        }
        if abandoned && self.rng.chance(faults.cancelled_write) {
            self.core.count(|counters| counters.writes_cancelled += 1);
            self.write_partly(offset, data);
            return Ok(());
        }
        {
            let mut counters = self.counters.borrow_mut();
            counters.writes += 1;
            counters.bytes_written += data.len() as u64;
        }
        let lose = self.orders.lose_next_write.replace(false);
        if lose || self.rng.chance(faults.lost_write) {
            self.core.count(|counters| counters.writes_lost += 1);
            return Ok(());
        }
        let target = self.target_of(offset, data.len(), &faults);
        let sequence = self.next_sequence();
        let first = target / PAGE as u64;
        let mut image = self.image.borrow_mut();
        for (page, content) in (first..).zip(image::pages_of(data)) {
            image.write(page, content, sequence);
            self.orders.unreadable.borrow_mut().remove(&page);
            if self.rng.chance(faults.rot_on_write) && image.flip_bit(page, &self.rng) {
                self.core.count(|counters| counters.pages_rotten += 1);
            }
        }
        Ok(())
    }

    /// Where a write lands.
    fn target_of(&self, offset: u64, len: usize, faults: &DiskFaults) -> u64 {
        let ordered = self.ordered_elsewhere(offset);
        let thrown = || self.rng.chance(faults.misdirected_write);
        let target = ordered.or_else(|| thrown().then(|| self.elsewhere(len)));
        let Some(target) = target else { return offset };
        self.core.count(|counters| counters.writes_misdirected += 1);
        target.min(self.bytes - len as u64)
    }

    /// Where an order sends a write to `offset`; the order is done then.
    fn ordered_elsewhere(&self, offset: u64) -> Option<u64> {
        let mut order = self.orders.misdirect_next_write.borrow_mut();
        let (_, target) = order.take_if(|(range, _)| range.contains(&offset))?;
        Some(target)
    }

    /// Nothing, everything or any part of a write happens.
    fn write_partly(&self, offset: u64, data: &Bytes) {
        let sequence = self.next_sequence();
        let fate = self.rng.below(3);
        let torn_page = self.faults.borrow().torn_page;
        let first = offset / PAGE as u64;
        let mut image = self.image.borrow_mut();
        for (page, content) in (first..).zip(image::pages_of(data)) {
            let torn = fate == 2 && self.rng.chance(torn_page);
            if torn {
                let mixed = image.write_torn(page, &content, sequence, &self.rng);
                self.core
                    .count(|counters| counters.pages_torn += u64::from(mixed));
            } else if fate == 1 || (fate == 2 && self.rng.chance(0.5)) {
                image.write(page, content, sequence);
            }
        }
    }

    fn finish_flush(&self, sequence: u64) -> Result<(), DiskError> {
        self.core.count(|counters| counters.disk_flushes += 1);
        self.counters.borrow_mut().flushes += 1;
        let chance = self.faults.borrow().flush_error;
        let lost = self.orders.lose_next_flush.replace(false) || self.rng.chance(chance);
        if lost || self.orders.failed.get() {
            self.core.count(|counters| counters.flushes_lost += 1);
            self.flush_errors.set(self.flush_errors.get() + 1);
            self.image.borrow_mut().doom(self.finished_writes.get());
            return Err(self.error("flush", 0, "simulated fault"));
        }
        if self.orders.ignore_flushes.get() {
            self.core.count(|counters| counters.flushes_ignored += 1);
            return Ok(());
        }
        self.image.borrow_mut().flush(sequence);
        Ok(())
    }

    /// The process died: each write in flight happens, happens in part or does not happen.
    pub(crate) fn interrupt(&self) {
        let operations = std::mem::take(&mut *self.in_flight.borrow_mut());
        self.held.borrow_mut().clear();
        for operation in operations.into_values() {
            if let Operation::Write(offset, data, _) = operation {
                self.core.count(|counters| counters.writes_interrupted += 1);
                if !self.orders.failed.get() {
                    self.write_partly(offset, &data);
                }
            }
        }
    }

    /// The power failed: sectors that no flush covers survive or not.
    pub(crate) fn lose_power(&self) {
        let torn_page = self.faults.borrow().torn_page;
        let ordered = self.orders.keeps_at_power_loss.take();
        let mut image = self.image.borrow_mut();
        let loss = image.lose_power(&self.rng, torn_page, ordered);
        self.core.count(|counters| {
            counters.pages_lost += loss.lost;
            counters.pages_torn += loss.torn;
        });
    }

    fn check(&self, offset: u64, len: usize) -> Result<(), DiskError> {
        let end = offset.checked_add(len as u64);
        let fits = end.is_some_and(|end| end <= self.bytes);
        let aligned = offset.is_multiple_of(PAGE as u64) && len.is_multiple_of(PAGE);
        if fits && aligned && len > 0 {
            Ok(())
        } else {
            Err(DiskError::OutOfBounds { offset, len })
        }
    }
}

/// A disk opened by one life of its host.
struct OpenDisk {
    state: Rc<DiskState>,
    life: Rc<Life>,
}

impl OpenDisk {
    /// Submits now or when first polled, as the seed has it: the contract allows both.
    fn begin<T: 'static>(
        &self,
        operation: impl FnOnce(&DiskState, Done<Result<T, DiskError>>) -> Operation + 'static,
    ) -> LocalBoxFuture<'static, Result<T, DiskError>> {
        let (state, life) = (self.state.clone(), self.life.clone());
        let submit = move || -> Option<Waiting<Result<T, DiskError>>> {
            if !life.is_alive() {
                return None;
            }
            let (done, waiting) = completion();
            state.submit(operation(&state, done));
            Some(waiting)
        };
        let options = &self.state.core.options;
        if options.shuffle && self.state.rng.below(2) == 0 {
            return match submit() {
                Some(waiting) => Box::pin(waiting),
                None => Box::pin(std::future::ready(Err(DiskError::Gone))),
            };
        }
        Box::pin(async move {
            match submit() {
                Some(waiting) => waiting.await,
                None => Err(DiskError::Gone),
            }
        })
    }
}

impl Disk for OpenDisk {
    fn size(&self) -> u64 {
        self.state.bytes
    }

    fn read(&self, offset: u64, len: usize) -> LocalBoxFuture<'static, Result<Bytes, DiskError>> {
        if let Err(error) = self.state.check(offset, len) {
            return Box::pin(std::future::ready(Err(error)));
        }
        self.begin(move |_, done| Operation::Read(offset, len, done))
    }

    fn write(&self, offset: u64, data: Bytes) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        if let Err(error) = self.state.check(offset, data.len()) {
            return Box::pin(std::future::ready(Err(error)));
        }
        self.begin(move |_, done| Operation::Write(offset, data, done))
    }

    fn flush(&self) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        self.begin(move |state, done| Operation::Flush(state.finished_writes.get(), done))
    }
}
