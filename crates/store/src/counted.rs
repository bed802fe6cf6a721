//! A disk whose operations are counted as they begin, and timed until they end: two looks at the clock and a few additions each, and
//! nothing is kept of one. What nobody waited for to its end is not timed.

use bytes::Bytes;
use std::cell::Cell;
use std::rc::Rc;
use world::{Clock, Disk, DiskError, Duration, LocalBoxFuture};

/// Ends of the classes of latency in microseconds, inclusive, each four times the one before; the last class has none.
pub const DISK_LATENCY_US: [u64; 9] = [
    64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304,
];
/// Classes of latency.
const CLASSES: usize = DISK_LATENCY_US.len() + 1;

/// How long operations of one kind took, since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLatency {
    /// Operations by class: see [`DISK_LATENCY_US`].
    pub counts: [u64; CLASSES],
    /// Microseconds of all together.
    pub micros: u64,
}

/// The same of one disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLatencies {
    /// Of reads.
    pub reads: DiskLatency,
    /// Of writes.
    pub writes: DiskLatency,
    /// Of flushes.
    pub flushes: DiskLatency,
}

/// What was asked of a disk since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFigures {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// Operations of one kind by how long they took.
#[derive(Default)]
struct Timed {
    counts: [Cell<u64>; CLASSES],
    micros: Cell<u64>,
}

impl Timed {
    fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let count = &self.counts[DISK_LATENCY_US.partition_point(|&end| end < micros)];
        count.set(count.get() + 1);
        self.micros.set(self.micros.get().saturating_add(micros));
    }

    fn get(&self) -> DiskLatency {
        DiskLatency {
            counts: self.counts.each_ref().map(Cell::get),
            micros: self.micros.get(),
        }
    }
}

/// What is kept of a disk.
#[derive(Default)]
pub(crate) struct Kept {
    figures: Cell<DiskFigures>,
    reads: Timed,
    writes: Timed,
    flushes: Timed,
}

impl Kept {
    /// What was asked of it.
    pub(crate) fn get(&self) -> DiskFigures {
        self.figures.get()
    }

    /// How long that took.
    pub(crate) fn latencies(&self) -> DiskLatencies {
        DiskLatencies {
            reads: self.reads.get(),
            writes: self.writes.get(),
            flushes: self.flushes.get(),
        }
    }
}

/// Where a disk's figures are.
pub(crate) type Figures = Rc<Kept>;

/// See the head of this file.
pub(crate) struct Counted {
    disk: Rc<dyn Disk>,
    clock: Rc<dyn Clock>,
    figures: Figures,
}

/// `disks`, counted, and where their figures are.
pub(crate) fn counted(
    disks: Vec<Rc<dyn Disk>>,
    clock: &Rc<dyn Clock>,
) -> (Vec<Rc<dyn Disk>>, Vec<Figures>) {
    let one = |disk: Rc<dyn Disk>| {
        let figures = Figures::default();
        let disk: Rc<dyn Disk> = Rc::new(Counted {
            disk,
            clock: clock.clone(),
            figures: figures.clone(),
        });
        (disk, figures)
    };
    disks.into_iter().map(one).unzip()
}

impl Counted {
    fn count(&self, change: impl FnOnce(&mut DiskFigures)) {
        let mut figures = self.figures.get();
        change(&mut figures);
        self.figures.figures.set(figures);
    }

    /// `work`, which has begun, timed until it ends.
    fn timed<T: 'static>(
        &self,
        work: LocalBoxFuture<'static, T>,
        of: fn(&Kept) -> &Timed,
    ) -> LocalBoxFuture<'static, T> {
        let (clock, figures) = (self.clock.clone(), self.figures.clone());
        let began = clock.now();
        Box::pin(async move {
            let done = work.await;
            of(&figures).note(clock.now().since(began));
            done
        })
    }
}

impl Disk for Counted {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read(&self, offset: u64, len: usize) -> LocalBoxFuture<'static, Result<Bytes, DiskError>> {
        self.count(|figures| {
            figures.reads += 1;
            figures.read_bytes += len as u64;
        });
        self.timed(self.disk.read(offset, len), |kept| &kept.reads)
    }

    fn write(&self, offset: u64, data: Bytes) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        self.count(|figures| {
            figures.writes += 1;
            figures.written_bytes += data.len() as u64;
        });
        self.timed(self.disk.write(offset, data), |kept| &kept.writes)
    }

    fn flush(&self) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        self.count(|figures| figures.flushes += 1);
        self.timed(self.disk.flush(), |kept| &kept.flushes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_in_the_class_that_ends_at_or_above_it() {
        let timed = Timed::default();
        for micros in [
            0,
            64,
            65,
            256,
            257,
            4_194_304,
            4_194_305,
            u64::from(u32::MAX),
        ] {
            timed.note(Duration::from_micros(micros));
        }
        let latency = timed.get();
        assert_eq!(latency.counts, [2, 2, 1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(
            latency.micros,
            64 + 65 + 256 + 257 + 4_194_304 + 4_194_305 + u64::from(u32::MAX)
        );
    }
}
