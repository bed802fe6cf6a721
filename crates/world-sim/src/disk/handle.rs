//! The scenario's hand on a disk: open it, damage it, exchange it, count what it did.

use super::image::{Image, SECTOR};
use super::{DiskState, OpenDisk};
use crate::engine::{Action, Mark};
use crate::host::Host;
use crate::options::DiskFaults;
use bytes::Bytes;
use std::ops::Range;
use std::rc::Rc;
use world::{Buf, Disk, PAGE};

/// How stored bytes rot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// So many random bits flip.
    Bits(u32),
    /// All bytes read as zeros.
    Zeros,
    /// All bytes read as noise.
    Noise,
}

/// What a disk did and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that were reported as done.
    pub writes: u64,
    /// Flushes, also failed ones.
    pub flushes: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Pages that hold something else than zeros.
    pub pages_stored: u64,
    /// Pages with writes that no flush covers.
    pub pages_unflushed: u64,
    /// Operations in flight.
    pub in_flight: u64,
}

/// The contents of a disk at one moment; shares its pages.
#[derive(Clone)]
pub struct DiskSnapshot(Image);

/// Handle of a simulated disk. Cheap to clone; survives the crashes of its host.
#[derive(Clone)]
pub struct SimDisk {
    pub(crate) state: Rc<DiskState>,
    pub(crate) host: Host,
}

impl SimDisk {
    fn fault(&self, code: u64) {
        let count = self.state.next_operation.get();
        self.state.core.mark(Mark::Fault, code, count);
    }

    fn exchanged(&self, code: u64) {
        self.fault(code);
        let core = &self.state.core;
        core.count(|counters| counters.disks_exchanged += 1);
    }

    /// Its name within its host.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The host it is in.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.state.bytes
    }

    /// Opens it for the current life of its host.
    ///
    /// # Panics
    /// When the host is down.
    #[must_use]
    pub fn open(&self) -> Rc<dyn Disk> {
        Rc::new(OpenDisk {
            state: self.state.clone(),
            life: self.host.life(),
        })
    }

    /// Replaces the probabilities of its faults.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.fault(20);
        *self.state.faults.borrow_mut() = faults;
    }

    /// Damages the stored bytes in `range`, durable and cached alike.
    ///
    /// # Panics
    /// When `range` reaches beyond the disk.
    pub fn rot(&self, range: Range<u64>, how: Rot) {
        assert!(range.end <= self.state.bytes, "rot beyond the disk's end");
        self.fault(21);
        if range.is_empty() {
            return;
        }
        let page_bytes = PAGE as u64;
        if let Rot::Bits(bits) = how {
            for _ in 0..bits {
                let at = self.state.rng.range(range.clone());
                let within = (at % page_bytes) as usize;
                self.damage(at / page_bytes, within..within + 1, |rng, bytes| {
                    bytes[0] ^= 1 << rng.below(8);
                });
            }
            return;
        }
        for page in range.start / page_bytes..range.end.div_ceil(page_bytes) {
            let first = range.start.saturating_sub(page * page_bytes) as usize;
            let end = (range.end - page * page_bytes).min(page_bytes) as usize;
            self.damage(page, first..end, |rng, bytes| match how {
                Rot::Noise => rng.fill(bytes),
                _ => bytes.fill(0),
            });
        }
    }

    fn damage(
        &self,
        page: u64,
        within: Range<usize>,
        damage: impl FnMut(&crate::SimRng, &mut [u8]),
    ) {
        let mut image = self.state.image.borrow_mut();
        image.damage(page, within, &self.state.rng, damage);
        let core = &self.state.core;
        core.count(|counters| counters.pages_rotten += 1);
    }

    /// Rots one random sector among the stored pages in `range`; its offset, or `None` when all is zero.
    #[must_use = "a scenario must know whether anything rotted"]
    pub fn rot_somewhere(&self, range: Range<u64>, how: Rot) -> Option<u64> {
        let pages = range.start / PAGE as u64..range.end.div_ceil(PAGE as u64);
        let stored = self.state.image.borrow().stored(pages);
        if stored.is_empty() {
            return None;
        }
        let rng = &self.state.rng;
        let sector = rng.below((PAGE / SECTOR) as u64) * SECTOR as u64;
        let offset = rng.pick(&stored) * PAGE as u64 + sector;
        self.rot(offset..offset + SECTOR as u64, how);
        Some(offset)
    }

    /// Makes one random page among the stored ones in `range` unreadable until it is written again; its offset, or `None` when
    /// all is zero.
    #[must_use = "a scenario must know whether anything was struck"]
    pub fn fail_reads_somewhere(&self, range: Range<u64>) -> Option<u64> {
        let pages = range.start / PAGE as u64..range.end.div_ceil(PAGE as u64);
        let stored = self.state.image.borrow().stored(pages);
        if stored.is_empty() {
            return None;
        }
        self.fault(32);
        let page = *self.state.rng.pick(&stored);
        self.state.orders.unreadable.borrow_mut().insert(page);
        Some(page * PAGE as u64)
    }

    /// The next write that starts in `range` succeeds but lands at `offset` (rounded down to a page).
    pub fn misdirect_next_write(&self, range: Range<u64>, offset: u64) {
        self.fault(22);
        let offset = offset - offset % PAGE as u64;
        *self.state.orders.misdirect_next_write.borrow_mut() = Some((range, offset));
    }

    /// The next write succeeds and changes nothing.
    pub fn lose_next_write(&self) {
        self.fault(23);
        self.state.orders.lose_next_write.set(true);
    }

    /// The next write fails, having happened in part or not at all.
    pub fn fail_next_write(&self) {
        self.fault(24);
        self.state.orders.fail_next_write.set(true);
    }

    /// The next flush fails and drops what was not durable; later flushes succeed without bringing it back
    /// (what Linux did to databases in 2018: "fsyncgate").
    pub fn lose_next_flush(&self) {
        self.fault(25);
        self.state.orders.lose_next_flush.set(true);
    }

    /// The next loss of power keeps all that no flush covers, or none of it.
    pub fn order_power_loss(&self, keeps: bool) {
        self.fault(if keeps { 33 } else { 34 });
        self.state.orders.keeps_at_power_loss.set(Some(keeps));
    }

    /// Flushes that have failed so far.
    #[must_use]
    pub fn flush_errors(&self) -> u64 {
        self.state.flush_errors.get()
    }

    /// Whether flushes succeed without effect: a lying disk, against which no software is safe. For
    /// proving that a checker notices.
    pub fn ignore_flushes(&self, ignore: bool) {
        self.fault(26);
        self.state.orders.ignore_flushes.set(ignore);
    }

    /// Whether every operation fails.
    pub fn set_failed(&self, failed: bool) {
        self.fault(27);
        self.state.orders.failed.set(failed);
    }

    /// Whether operations hang. Those that hung finish when it ends, unless the host crashes before.
    pub fn set_hung(&self, hung: bool) {
        self.fault(28);
        self.state.orders.hung.set(hung);
        if !hung {
            let held = std::mem::take(&mut *self.state.held.borrow_mut());
            for id in held {
                let action = Action::Disk(self.state.clone(), id);
                self.state.core.push(0, self.state.host, action);
            }
        }
    }

    /// Makes operations take `factor` times as long; 1 is normal.
    pub fn set_slow(&self, factor: u32) {
        self.fault(29);
        self.state.orders.slow.set(factor.max(1));
    }

    /// Remembers its contents, without copying them.
    #[must_use]
    pub fn snapshot(&self) -> DiskSnapshot {
        DiskSnapshot(self.state.image.borrow().clone())
    }

    /// Gives it older (or another disk's) contents: a rollback, or a disk in the wrong bay.
    pub fn roll_back(&self, snapshot: &DiskSnapshot) {
        self.exchanged(30);
        self.state.orders.unreadable.borrow_mut().clear();
        *self.state.image.borrow_mut() = snapshot.0.clone();
    }

    /// Puts a new, blank disk in its place; it has no failures of the old one.
    pub fn replace_blank(&self) {
        self.exchanged(31);
        self.state.orders.unreadable.borrow_mut().clear();
        self.state.orders.failed.set(false);
        self.state.orders.slow.set(1);
        self.set_hung(false);
        *self.state.image.borrow_mut() = Image::default();
    }

    /// Exchanges the contents of two disks.
    pub fn swap(&self, other: &SimDisk) {
        let (mine, others) = (self.snapshot(), other.snapshot());
        self.roll_back(&others);
        other.roll_back(&mine);
    }

    /// What a read would return now, for checkers. Takes no time and meets no faults.
    ///
    /// # Panics
    /// When the range is misaligned or reaches beyond the disk.
    #[must_use]
    pub fn peek(&self, offset: u64, len: usize) -> Bytes {
        let checked = self.state.check(offset, len);
        assert!(checked.is_ok(), "peek at byte {offset}, {len} bytes");
        let mut buffer = Buf::zeroed(len);
        let image = self.state.image.borrow();
        image.read(offset / PAGE as u64, &mut buffer[..len]);
        buffer.freeze()
    }

    /// As [`SimDisk::peek`], if its cache was lost now: what no power loss takes. Of a page with writes that no flush covers the
    /// contents before them.
    ///
    /// # Panics
    /// When the range is misaligned or reaches beyond the disk.
    #[must_use]
    pub fn peek_durable(&self, offset: u64, len: usize) -> Bytes {
        let checked = self.state.check(offset, len);
        assert!(checked.is_ok(), "peek at byte {offset}, {len} bytes");
        let mut buffer = Buf::zeroed(len);
        let image = self.state.image.borrow();
        image.read_durable(offset / PAGE as u64, &mut buffer[..len]);
        buffer.freeze()
    }

    /// Whether no page of the range has writes that no flush covers, for checkers.
    #[must_use]
    pub fn is_durable(&self, offset: u64, len: usize) -> bool {
        let first = offset / PAGE as u64;
        let image = self.state.image.borrow();
        image.is_durable(first..first + len.div_ceil(PAGE) as u64)
    }

    /// What it did and holds.
    #[must_use]
    pub fn counters(&self) -> DiskCounters {
        let image = self.state.image.borrow();
        DiskCounters {
            pages_stored: image.pages(),
            pages_unflushed: image.unflushed_pages(),
            in_flight: self.state.in_flight.borrow().len() as u64,
            ..*self.state.counters.borrow()
        }
    }
}
